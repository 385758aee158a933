//! Images that were made to break out.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use strake_exec::{Errno, ExecError, MountKind};

use crate::Case;
use crate::sandbox::Sandbox;

pub(crate) const CASES: &[Case] = &[
    ("hostile::system_directories", system_directories),
    ("hostile::etc_files", etc_files),
    ("hostile::etc_elsewhere", etc_elsewhere),
    ("hostile::mount_points_stay_inside", mount_points_stay_inside),
    ("hostile::mount_point_loops", mount_point_loops),
    ("hostile::mount_points_of_the_wrong_kind", mount_points_of_the_wrong_kind),
    ("hostile::user_databases", user_databases),
];

fn system_directories() {
    for name in ["dev", "proc", "sys"] {
        for link in ["/etc", "tmp", "/proc/self/cwd", "../../../../etc", "nowhere"] {
            let mut sandbox = Sandbox::new();
            symlink(link, sandbox.image(name)).unwrap();
            let status = sandbox.sh("true").status;
            let found = format!("a symbolic link to {link}");
            assert_eq!(status, Err(ExecError::HostileRoot { path: format!("/{name}"), found }));
            assert!(sandbox.changes().is_empty(), "{:?}", sandbox.changes());
        }
        let mut sandbox = Sandbox::new();
        fs::write(sandbox.image(name), "").unwrap();
        assert!(matches!(sandbox.sh("true").status, Err(ExecError::HostileRoot { .. })));
    }
    // What lies inside these directories is hidden, whatever it is.
    let mut sandbox = Sandbox::new();
    for name in ["null", "pts", "shm", "console", "ptmx"] {
        symlink("/etc/passwd", sandbox.image(&format!("dev/{name}"))).unwrap();
    }
    symlink("/etc/passwd", sandbox.image("proc/kcore")).unwrap();
    sandbox.output("[ -c /dev/null ] && [ -d /dev/pts ] && [ -d /dev/shm ] && [ ! -L /proc/kcore ]");
}

fn etc_files() {
    let outside = Sandbox::new();
    let target = outside.dir.path().join("precious");
    fs::write(&target, "precious").unwrap();
    for name in ["hosts", "hostname", "resolv.conf"] {
        let path = format!("etc/{name}");
        // To a path of the host: it is one of the image, which is made and removed again.
        let mut sandbox = Sandbox::new();
        symlink(&target, sandbox.image(&path)).unwrap();
        sandbox.output(&format!("echo overwritten >/{path}"));
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert!(sandbox.changes().is_empty(), "{:?}", sandbox.changes());
        // To a file of the kernel.
        let mut sandbox = Sandbox::new();
        symlink("/proc/sys/kernel/core_pattern", sandbox.image(&path)).unwrap();
        let status = sandbox.sh("true").status;
        assert!(matches!(status, Err(ExecError::Invalid { .. })), "{status:?}");
        // To what the kernel would follow by magic.
        let mut sandbox = Sandbox::new();
        symlink("/proc/self/fd/3", sandbox.image(&path)).unwrap();
        assert!(sandbox.sh("true").status.is_err());
        let mut sandbox = Sandbox::new();
        fs::create_dir(sandbox.image(&path)).unwrap();
        assert!(
            sandbox.sh("true").status.unwrap_err().to_string().contains(&format!("/{path}: Is a directory"))
        );
    }
}

fn etc_elsewhere() {
    let mut sandbox = Sandbox::new();
    fs::rename(sandbox.base().join("etc"), sandbox.base().join("usr-etc")).unwrap();
    symlink("usr-etc", sandbox.image("etc")).unwrap();
    assert!(sandbox.output("cat /usr-etc/hosts").contains("localhost"));
    assert!(sandbox.changes().is_empty(), "{:?}", sandbox.changes());
    let mut sandbox = Sandbox::new();
    fs::remove_dir_all(sandbox.base().join("etc")).unwrap();
    fs::write(sandbox.base().join("etc"), "").unwrap();
    assert!(sandbox.sh("true").status.is_err());
}

fn mount_points_stay_inside() {
    let outside = Sandbox::new();
    let mut sandbox = Sandbox::new();
    symlink(outside.dir.path(), sandbox.image("absolute")).unwrap();
    symlink("../../../../../../../tmp", sandbox.image("relative")).unwrap();
    let file = |content: &str| MountKind::File { content: content.into(), mode: 0o644, uid: 0, gid: 0 };
    sandbox
        .mount("/absolute/planted", file("1"), true)
        .mount("/relative/strake-planted", file("2"), true)
        .mount("/tmp/../../../strake-root", file("3"), true);
    assert_eq!(sandbox.output("cat /absolute/planted /tmp/strake-planted /strake-root"), "123");
    assert!(!outside.dir.path().join("planted").exists());
    assert!(!std::path::Path::new("/tmp/strake-planted").exists());
    assert!(sandbox.changes().is_empty(), "{:?}", sandbox.changes());
}

fn mount_point_loops() {
    let mut sandbox = Sandbox::new();
    symlink("b", sandbox.image("a")).unwrap();
    symlink("a", sandbox.image("b")).unwrap();
    sandbox.mount("/a/x", MountKind::Tmpfs { size: None, mode: 0o755 }, false);
    let status = sandbox.sh("true").status;
    assert!(matches!(status, Err(ExecError::Setup { errno: Errno(40), .. })), "{status:?}");
}

fn mount_points_of_the_wrong_kind() {
    let mut sandbox = Sandbox::new();
    sandbox.mount("/etc/passwd", MountKind::Tmpfs { size: None, mode: 0o755 }, false);
    assert!(sandbox.sh("true").status.unwrap_err().to_string().contains("/etc/passwd: Not a directory"));
    let mut sandbox = Sandbox::new();
    sandbox.mount("/etc", MountKind::File { content: Vec::new(), mode: 0o644, uid: 0, gid: 0 }, false);
    assert!(sandbox.sh("true").status.unwrap_err().to_string().contains("/etc: Is a directory"));
}

fn user_databases() {
    let with_passwd = |make: &dyn Fn(&std::path::Path)| {
        let mut sandbox = Sandbox::new();
        let path = sandbox.image("etc/passwd");
        fs::remove_file(&path).unwrap();
        make(&path);
        sandbox.container.process.user = "app".into();
        sandbox.sh("id -u")
    };
    let refused = |outcome: crate::sandbox::Outcome, text: &str| {
        let message = outcome.status.unwrap_err().to_string();
        assert!(message.contains(text), "{message}");
    };
    refused(with_passwd(&|path| fs::File::create(path).unwrap().set_len(4 << 30).unwrap()), "larger than");
    refused(with_passwd(&|path| fs::create_dir(path).unwrap()), "no regular file");
    refused(
        with_passwd(&|path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
        "no regular file",
    );
    refused(with_passwd(&|path| symlink("/dev/zero", path).unwrap()), "no regular file");
    refused(with_passwd(&|path| symlink("/proc/self/fd/0", path).unwrap()), "Too many levels");
    refused(with_passwd(&|path| symlink("../../../../../etc/passwd", path).unwrap()), "Too many levels");
    refused(with_passwd(&|path| symlink("/nowhere", path).unwrap()), "no such user");
    // A numeric name is a number, not a way to be root.
    let outcome =
        with_passwd(&|path| fs::write(path, "1000:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh").unwrap());
    assert_eq!(outcome.stdout, "1000\n");
}
