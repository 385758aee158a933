//! The same cases once more, as an ordinary user.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Tells the copy of the program that it is the user's.
pub(crate) const ARGUMENT: &str = "--rootless";
const USER: &str = "strake-test";

/// In the copy: becomes root in a user namespace, the way the program does.
pub(crate) fn enter() {
    let missing = strake_exec::userns::check(Some(std::path::Path::new(crate::sandbox::PASTA)));
    assert!(!missing.iter().any(|missing| missing.fatal), "{missing:?}");
    strake_exec::userns::enter().unwrap();
}

/// Runs a copy of this program as the user; whether all went well.
pub(crate) fn repeat(args: &[String]) -> bool {
    let Some((uid, gid)) = user() else {
        return crate::skip("the user strake-test (useradd) and the package uidmap")
            == std::process::ExitCode::SUCCESS;
    };
    let dir = tempfile::Builder::new().prefix("strake-exec-").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // The build directory need not be open to the user.
    let program: PathBuf = dir.path().join("it");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    // The mode that udev gives it; a machine without udev keeps the kernel's, which shuts users out.
    if let Ok(tun) = std::fs::metadata("/dev/net/tun")
        && tun.permissions().mode() & 0o006 != 0o006
    {
        let _ = std::fs::set_permissions("/dev/net/tun", std::fs::Permissions::from_mode(0o666));
    }
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(uid), Some(gid)).unwrap();
    let status = Command::new(&program)
        .arg(ARGUMENT)
        .args(args)
        .env("TMPDIR", &home)
        .current_dir("/")
        .uid(uid)
        .gid(gid)
        .status()
        .unwrap();
    status.success()
}

/// The ids of the test user, who is made if need be. Another test may be making it at the same time.
fn user() -> Option<(u32, u32)> {
    let find = || {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let line = passwd.lines().find(|line| line.starts_with(&format!("{USER}:")))?.to_owned();
        let mut ids = line.split(':').skip(2);
        Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
    };
    for _ in 0..3 {
        if let Some(ids) = find() {
            return std::path::Path::new("/usr/bin/newuidmap").exists().then_some(ids);
        }
        let _ = Command::new("useradd").args(["-m", USER]).status();
    }
    None
}
