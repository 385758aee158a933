//! Programs that cannot be started, each told apart from a program that fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use strake_exec::{ExecError, ExitStatus, MountKind};

use crate::Case;
use crate::sandbox::Sandbox;

pub(crate) const CASES: &[Case] = &[
    ("programs::not_found", not_found),
    ("programs::without_interpreter", without_interpreter),
    ("programs::wrong_format", wrong_format),
    ("programs::not_executable", not_executable),
    ("programs::search_path", search_path),
    ("programs::working_directory", working_directory),
    ("programs::killed_by_a_signal", killed_by_a_signal),
    ("programs::missing_sources_are_named", missing_sources_are_named),
    ("programs::nonsense_is_refused", nonsense_is_refused),
];

fn executable(sandbox: &Sandbox, path: &str, content: &[u8]) {
    let path = sandbox.image(path);
    fs::write(&path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn not_found() {
    let mut sandbox = Sandbox::new();
    for program in ["none", "/none", "./none", "/etc/passwd/none"] {
        let status = sandbox.args(&[program]).status;
        assert!(matches!(&status, Err(ExecError::NotFound { program: p, .. }) if p == program), "{status:?}");
    }
    let message = sandbox.args(&["none"]).status.unwrap_err().to_string();
    assert_eq!(message, "executable \"none\" not found in PATH=/usr/bin:/bin");
    assert_eq!(sandbox.sh("none 2>/dev/null").status, Ok(ExitStatus::Exited(127)));
}

fn without_interpreter() {
    let mut sandbox = Sandbox::new();
    executable(&sandbox, "bin/script", b"#!/usr/bin/perl -w\n");
    let status = sandbox.args(&["script"]).status;
    let expected =
        ExecError::NoInterpreter { program: "/bin/script".into(), interpreter: "/usr/bin/perl".into() };
    assert_eq!(status, Err(expected));
    // A program of the host, without the host's libraries.
    executable(&sandbox, "bin/host", &fs::read("/usr/bin/env").unwrap());
    let status = sandbox.args(&["/bin/host"]).status;
    assert!(
        matches!(&status, Err(ExecError::NoInterpreter { interpreter, .. }) if interpreter.contains("/ld-linux")),
        "{status:?}"
    );
}

fn wrong_format() {
    let mut sandbox = Sandbox::new();
    let mut foreign = fs::read(crate::sandbox::BUSYBOX).unwrap();
    foreign[18..20].copy_from_slice(&22u16.to_le_bytes());
    executable(&sandbox, "bin/foreign", &foreign);
    executable(&sandbox, "bin/text", b"echo no line of its own\n");
    executable(&sandbox, "bin/empty", b"");
    let mut message = |program: &str| match sandbox.args(&[program]).status {
        Err(error @ ExecError::Format { .. }) => error.to_string(),
        other => panic!("{program}: {other:?}"),
    };
    assert!(message("foreign").contains("built for s390x"));
    assert!(message("text").contains("#! line"));
    assert!(message("empty").contains("empty"));
}

fn not_executable() {
    let mut sandbox = Sandbox::new();
    for program in ["/etc/passwd", "/etc"] {
        let status = sandbox.args(&[program]).status;
        assert!(matches!(status, Err(ExecError::NotExecutable { .. })), "{status:?}");
    }
}

fn search_path() {
    let mut sandbox = Sandbox::new();
    executable(&sandbox, "first/tool", b"#!/bin/sh\necho first\n");
    executable(&sandbox, "second/tool", b"#!/bin/sh\necho second\n");
    let mut check = |path: &str, expected: &str| {
        sandbox.container.process.env = vec![("PATH".into(), path.into())];
        let outcome = sandbox.args(&["tool"]);
        assert_eq!(outcome.stdout, expected, "{path}: {outcome:?}");
    };
    check("/none:/first:/second", "first\n");
    check("/etc/passwd:/second:/first", "second\n");
    // Without a search path, Docker's default.
    sandbox.container.process.env.clear();
    assert_eq!(sandbox.args(&["true"]).status, Ok(ExitStatus::Exited(0)));
}

fn working_directory() {
    let mut sandbox = Sandbox::new();
    for cwd in ["/none", "/etc/passwd"] {
        sandbox.container.process.cwd = cwd.into();
        let status = sandbox.sh("true").status;
        assert!(matches!(&status, Err(ExecError::WorkingDirectory { cwd: c, .. }) if c == cwd), "{status:?}");
    }
    // A directory that only root may enter serves another user, as with Docker.
    fs::set_permissions(sandbox.base().join("root"), fs::Permissions::from_mode(0o700)).unwrap();
    sandbox.container.process.cwd = "/root".into();
    sandbox.container.process.user = "app".into();
    assert_eq!(sandbox.sh("true").status, Ok(ExitStatus::Exited(0)));
}

fn killed_by_a_signal() {
    let mut sandbox = Sandbox::new();
    assert_eq!(sandbox.sh("sh -c 'kill -9 $$'; exit $?").status, Ok(ExitStatus::Exited(137)));
    // As in Docker the program is pid 1, which the kernel shields from its own signals.
    assert_eq!(sandbox.sh("kill -9 $$; exit 3").status, Ok(ExitStatus::Exited(3)));
}

fn missing_sources_are_named() {
    let mut sandbox = Sandbox::new();
    sandbox.mount("/mnt", MountKind::Bind { source: "/none/at/all".into() }, true);
    let message = sandbox.sh("true").status.unwrap_err().to_string();
    assert_eq!(message, "mount /none/at/all on /mnt: No such file or directory (os error 2)");
}

fn nonsense_is_refused() {
    let invalid = |change: &dyn Fn(&mut Sandbox)| {
        let mut sandbox = Sandbox::new();
        sandbox.container.process.args = vec!["true".into()];
        change(&mut sandbox);
        let outcome = crate::sandbox::run(&*sandbox.executor, &sandbox.container, &Default::default());
        assert!(matches!(outcome.status, Err(ExecError::Invalid { .. })), "{outcome:?}");
    };
    let tmpfs = || MountKind::Tmpfs { size: None, mode: 0o755 };
    invalid(&|s| s.container.process.args.clear());
    invalid(&|s| s.container.process.args = vec!["a\0b".into()]);
    invalid(&|s| s.container.process.env = vec![("A=B".into(), "".into())]);
    invalid(&|s| s.container.process.env = vec![("A".into(), "a\0b".into())]);
    invalid(&|s| s.container.process.cwd = "relative".into());
    invalid(&|s| s.container.hostname = "x".repeat(65));
    invalid(&|s| _ = s.mount("relative", tmpfs(), false));
    invalid(&|s| _ = s.mount("/./..//", tmpfs(), false));
    invalid(&|s| _ = s.mount("/mnt", MountKind::Bind { source: "relative".into() }, false));
    invalid(&|s| _ = s.mount("/proc/sys", tmpfs(), false));
}
