//! `doctor`: what this machine lacks, with the remedies.

use std::fmt::Write as _;

use strake_exec::{OLDEST_LINUX, userns};

use super::output;
use crate::failure::Failure;
use crate::settings::Settings;

/// Looks at everything at once; status 3 when something is missing that nothing works without.
pub(super) fn doctor(settings: &Settings) -> Result<u8, Failure> {
    let mut text = String::new();
    let root = rustix::process::geteuid().is_root();
    let kernel = rustix::system::uname();
    let release = kernel.release().to_string_lossy().into_owned();
    let user = if root { "root" } else { "an ordinary user, in a user namespace" };
    let _ = writeln!(text, "strake {} as {user}, Linux {release}", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "store: {}", settings.root.display());
    let mut missing = userns::check(settings.pasta.as_deref());
    if root {
        // Subordinate ids and the programs that map them are for ordinary users only.
        missing.retain(|missing| missing.what.contains("private networks"));
    }
    missing.extend(too_old(&release));
    for missing in &missing {
        let mark = if missing.fatal { "MISSING" } else { "limited" };
        let _ = writeln!(text, "{mark}: {}\n  remedy: {}", missing.what, missing.remedy);
    }
    if missing.is_empty() {
        text.push_str("nothing is missing\n");
    }
    output::write(&text)?;
    Ok(if missing.iter().any(|missing| missing.fatal) { 3 } else { 0 })
}

/// What is missing on a kernel that is older than the oldest.
fn too_old(release: &str) -> Option<userns::Missing> {
    let is_older = version(release)? < version(OLDEST_LINUX)?;
    is_older.then(|| userns::Missing {
        what: format!("a newer kernel: Linux {OLDEST_LINUX} or newer is needed, this is {release}"),
        remedy: "update the kernel".to_owned(),
        fatal: true,
    })
}

/// The first two numbers.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-']).map_while(|part| part.parse().ok());
    Some((parts.next()?, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_told_apart_by_number() {
        for old in ["5.11.22-7-generic", "5.9", "4.19.0-27-amd64"] {
            let missing = too_old(old).unwrap_or_else(|| panic!("{old}"));
            assert!(missing.fatal && missing.what.contains(old) && missing.what.contains(OLDEST_LINUX));
        }
        for good in [OLDEST_LINUX, "5.12.0", "5.100-x", "6.1.0-44-amd64", "10.0", "odd"] {
            assert_eq!(too_old(good), None, "{good}");
        }
    }

    #[test]
    fn the_documents_name_the_same_kernel() {
        let readme = include_str!("../../../../README.md");
        assert!(readme.contains(&format!("kernel {OLDEST_LINUX} or newer")));
        let decision = include_str!("../../../../docs/decisions/0004-own-executor.md");
        assert!(decision.contains(&format!("Linux {OLDEST_LINUX} or newer")));
    }
}
