//! What a test needs of the machine, and how it says that it is missing.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Whether this process may do what only root may.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Says that a test cannot run here. The caller returns afterwards.
///
/// # Panics
/// When `STRAKE_TEST_REQUIRE_ALL=1` (as `make test` sets it): a complete run has no skipped test.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen in the test's output")]
pub fn lacking(what: &str) {
    assert!(
        setting("STRAKE_TEST_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "STRAKE_TEST_REQUIRE_ALL=1, but this test needs {what}"
    );
    eprintln!("skipped: needs {what}");
}

/// The first program of this name in the search path of the test run.
pub fn program_on_path(name: &str) -> Option<PathBuf> {
    let path = setting("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    std::fs::metadata(file)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// One variable of the test run's environment. Read here and nowhere else in the test kit.
#[expect(clippy::disallowed_methods, reason = "a test has no settings but its environment")]
pub(crate) fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
