//! After a run the upper directory holds what the process changed, and nothing of our mounts.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use strake_exec::{MountKind, Rootfs};

use crate::Case;
use crate::sandbox::Sandbox;

pub(crate) const CASES: &[Case] = &[
    ("traces::none_by_default", none_by_default),
    ("traces::own_changes_stay", own_changes_stay),
    ("traces::of_mounts_behind_links", of_mounts_behind_links),
    ("traces::beside_own_changes", beside_own_changes),
    ("traces::removing_around_mounts", removing_around_mounts),
    ("traces::changing_owners_of_everything", changing_owners_of_everything),
    ("traces::after_a_failure", after_a_failure),
    ("traces::times_of_a_directory", times_of_a_directory),
];

fn secret() -> MountKind {
    MountKind::File { content: b"s".to_vec(), mode: 0o400, uid: 0, gid: 0 }
}

fn tmpfs() -> MountKind {
    MountKind::Tmpfs { size: None, mode: 0o755 }
}

#[track_caller]
fn check(sandbox: &mut Sandbox, script: &str, expected: &[&str]) {
    sandbox.sh(script);
    assert_eq!(sandbox.changes(), expected, "{script}");
}

fn none_by_default() {
    check(&mut Sandbox::new(), "cat /etc/hosts; ls -R /dev", &[]);
    let mut sandbox = Sandbox::new();
    sandbox.mount("/run/secrets/token", secret(), true).mount("/new/place", tmpfs(), false);
    check(&mut sandbox, "cat /run/secrets/token; touch /new/place/x", &[]);
}

fn own_changes_stay() {
    let mut sandbox = Sandbox::new();
    check(
        &mut sandbox,
        "echo x >/file; echo x >>/etc/hosts; rm /etc/group; mkdir -p /run/lock; mknod /tmp/p p",
        &["etc/", "etc/group x", "file", "run/", "run/lock/", "tmp/", "tmp/p"],
    );
}

/// An image as Debian makes it: `/var/run` leads to `/run`, the resolver's file to a place that does not exist.
fn with_links() -> Sandbox {
    let mut sandbox = Sandbox::new();
    fs::create_dir(sandbox.image("run")).unwrap();
    symlink("/run", sandbox.image("var/run")).unwrap();
    symlink("../run/systemd/resolve/stub-resolv.conf", sandbox.image("etc/resolv.conf")).unwrap();
    sandbox.mount("/var/run/secrets/a/token", secret(), true).mount("/var/run/cache", tmpfs(), false);
    sandbox
}

fn of_mounts_behind_links() {
    let mut sandbox = with_links();
    assert_eq!(sandbox.output("cat /run/secrets/a/token /etc/resolv.conf; touch /run/cache/x"), "s");
    assert!(sandbox.changes().is_empty(), "{:?}", sandbox.changes());
}

fn beside_own_changes() {
    check(&mut with_links(), "touch /run/own", &["run/", "run/own"]);
    check(&mut with_links(), "touch /run/secrets/own", &["run/", "run/secrets/", "run/secrets/own"]);
    check(&mut with_links(), "chmod 700 /run", &["run/"]);
    check(&mut with_links(), "touch -d 2001-01-01 /run", &["run/"]);
    check(&mut with_links(), "touch /run/x; rm /run/x", &["run/"]);
    let mut sandbox = with_links();
    let before = fs::metadata(sandbox.base().join("run")).unwrap();
    check(&mut sandbox, "chmod 700 /run", &["run/"]);
    let after = fs::metadata(sandbox.upper().join("run")).unwrap();
    assert_eq!((after.mtime(), after.mtime_nsec()), (before.mtime(), before.mtime_nsec()));
}

fn removing_around_mounts() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.image("data/old/file"), "").unwrap();
    sandbox.mount("/data/cache", tmpfs(), false).mount("/gone/a/b", tmpfs(), false);
    check(
        &mut sandbox,
        "rm -rf /data /gone; rm -f /etc/hosts; rmdir /gone/a; rmdir /gone",
        &["data/", "data/old x"],
    );
}

fn changing_owners_of_everything() {
    let mut sandbox = Sandbox::new();
    fs::remove_dir_all(sandbox.base().join("etc")).unwrap();
    fs::create_dir_all(sandbox.base().join("real/empty")).unwrap();
    sandbox.mount("/run/secrets/token", secret(), true).mount("/real/empty/mnt", tmpfs(), false);
    sandbox.container.process.user = "0:0".into();
    // What the image has is changed and stays, even if it is empty; what only we have does not.
    check(&mut sandbox, "chown 7:7 /etc /run /run/secrets /real /real/empty", &["real/", "real/empty/"]);
}

fn after_a_failure() {
    let mut sandbox = with_links();
    sandbox.container.process.cwd = "/none".into();
    assert!(sandbox.sh("true").status.is_err());
    assert!(sandbox.changes().is_empty(), "{:?}", sandbox.changes());
    let mut sandbox = with_links();
    sandbox.mount("/var/run/x", MountKind::Bind { source: "/none".into() }, true);
    assert!(sandbox.sh("true").status.is_err());
    assert!(sandbox.changes().is_empty(), "{:?}", sandbox.changes());
}

fn times_of_a_directory() {
    let mut sandbox = with_links();
    sandbox.container.rootfs = Rootfs::Directory(sandbox.base());
    fs::set_permissions(sandbox.base().join("var"), fs::Permissions::from_mode(0o711)).unwrap();
    let state = |sandbox: &Sandbox| {
        ["", "etc", "run", "var"].map(|name| {
            let meta = fs::metadata(sandbox.base().join(name)).unwrap();
            (meta.mode(), meta.mtime(), meta.mtime_nsec())
        })
    };
    let before = state(&sandbox);
    sandbox.output("cat /run/secrets/a/token");
    assert_eq!(state(&sandbox), before);
    for gone in ["proc", "dev", "sys", "run/secrets", "run/systemd", "etc/hosts"] {
        assert!(!sandbox.base().join(gone).exists(), "{gone}");
    }
}
