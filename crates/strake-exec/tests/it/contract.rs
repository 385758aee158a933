//! What every executor promises, tried on each of them.

use strake_exec::{Cancel, ExecError, ExitStatus, HostEntry, MountKind, Rootfs};

use crate::Case;
use crate::sandbox::{self, Sandbox};

pub(crate) const CASES: &[Case] =
    &[("contract::own", own), ("contract::runc", runc), ("contract::own_in_a_directory", own_in_a_directory)];

fn own() {
    suite(&Sandbox::new);
}

fn runc() {
    if !std::path::Path::new(sandbox::RUNC).exists() {
        return sandbox::missing("runc");
    }
    if sandbox::is_rootless() {
        // runc 1.1 makes cgroups of the first version, which a user may not: a limit of the referee.
        return;
    }
    suite(&Sandbox::with_runc);
}

fn own_in_a_directory() {
    suite(&|| {
        let mut sandbox = Sandbox::new();
        sandbox.container.rootfs = Rootfs::Directory(sandbox.base());
        sandbox
    });
}

fn suite(new: &dyn Fn() -> Sandbox) {
    exit_codes(new);
    output_is_complete_and_apart(new);
    environment_is_exactly_what_was_given(new);
    user_and_groups(new);
    working_directory(new);
    mounts(new);
    etc_files(new);
    read_only_root(new);
    everything_ends_with_the_process(new);
    cancelling(new);
}

fn exit_codes(new: &dyn Fn() -> Sandbox) {
    let mut sandbox = new();
    for code in [0, 1, 7, 127, 255] {
        assert_eq!(sandbox.sh(&format!("exit {code}")).status, Ok(ExitStatus::Exited(code)));
    }
}

fn output_is_complete_and_apart(new: &dyn Fn() -> Sandbox) {
    let mut sandbox = new();
    let outcome = sandbox.sh("seq 1 50000; echo problem >&2; printf end");
    assert_eq!(outcome.status, Ok(ExitStatus::Exited(0)));
    let expected: String = (1..=50_000).map(|n| format!("{n}\n")).collect();
    assert!(outcome.stdout == expected + "end", "{} bytes", outcome.stdout.len());
    assert_eq!(outcome.stderr, "problem\n");
}

fn environment_is_exactly_what_was_given(new: &dyn Fn() -> Sandbox) {
    let mut sandbox = new();
    sandbox.container.process.env = vec![("A".into(), "1 =2".into()), ("B".into(), "".into())];
    let outcome = sandbox.args(&["/bin/env"]);
    // runc always adds a HOME; that ours adds nothing is a case of its own.
    let mut lines: Vec<&str> = outcome.stdout.lines().filter(|line| !line.starts_with("HOME=")).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=1 =2", "B="], "{outcome:?}");
    sandbox.container.process.set_home = true;
    sandbox.container.process.user = "app".into();
    assert!(sandbox.args(&["/bin/env"]).stdout.contains("HOME=/home/app\n"));
}

fn user_and_groups(new: &dyn Fn() -> Sandbox) {
    let mut sandbox = new();
    let mut check = |user: &str, expected: &str| {
        sandbox.container.process.user = user.into();
        assert_eq!(sandbox.output("echo $(id -u) $(id -g) $(id -G)"), expected, "{user:?}");
    };
    check("", "0 0 0");
    check("app", "1000 1000 1000 29 44");
    check("1000", "1000 1000 1000 29 44");
    check("app:audio", "1000 29 29");
    check("12:34", "12 34 34");
    sandbox.container.process.user = "nobody".into();
    assert!(matches!(sandbox.sh("true").status, Err(ExecError::User(_))));
}

fn working_directory(new: &dyn Fn() -> Sandbox) {
    let mut sandbox = new();
    sandbox.container.process.cwd = "/home/app".into();
    assert_eq!(sandbox.output("pwd"), "/home/app");
}

fn mounts(new: &dyn Fn() -> Sandbox) {
    let mut sandbox = new();
    let shared = sandbox.directory("shared");
    let hidden = sandbox.directory("hidden");
    std::fs::write(shared.join("file"), "from the host").unwrap();
    std::fs::write(hidden.join("file"), "also").unwrap();
    sandbox
        .mount("/mnt/rw", MountKind::Bind { source: shared.clone() }, false)
        .mount("/mnt/ro", MountKind::Bind { source: hidden.join("file") }, true)
        .mount("/scratch", MountKind::Tmpfs { size: Some(1 << 20), mode: 0o1777 }, false)
        .mount(
            "/run/secrets/token",
            MountKind::File { content: b"s3cret\xff".to_vec(), mode: 0o400, uid: 1000, gid: 1000 },
            true,
        );
    let script = "cat /mnt/rw/file /mnt/ro; echo new >/mnt/rw/new; echo x 2>/dev/null >/mnt/ro && exit 3; \
        touch /scratch/a; stat -c ' %a' /scratch; stat -c '%a %u %g %s' /run/secrets/token; \
        echo x 2>/dev/null >/run/secrets/token && exit 4; dd if=/dev/zero of=/scratch/b bs=1M count=2 2>/dev/null && exit 5; true";
    assert_eq!(sandbox.output(script), "from the hostalso 1777\n400 1000 1000 7");
    assert_eq!(std::fs::read_to_string(shared.join("new")).unwrap(), "new\n");
}

fn etc_files(new: &dyn Fn() -> Sandbox) {
    let mut sandbox = new();
    sandbox.container.hosts.push(HostEntry { name: "db".into(), address: "10.1.2.3".into() });
    let text = sandbox.output("hostname; cat /etc/hostname; cat /etc/hosts; echo 10.9.9.9 me >>/etc/hosts");
    assert!(text.starts_with("sandbox\nsandbox\n127.0.0.1\tlocalhost sandbox\n"), "{text}");
    assert!(text.ends_with("10.1.2.3\tdb"), "{text}");
    assert!(!sandbox.base().join("etc/hosts").exists());
}

fn read_only_root(new: &dyn Fn() -> Sandbox) {
    let mut sandbox = new();
    sandbox.container.read_only = true;
    sandbox.mount("/scratch", MountKind::Tmpfs { size: None, mode: 0o755 }, false);
    sandbox.output("touch /file 2>/dev/null && exit 3; touch /scratch/file /dev/shm/file");
}

fn everything_ends_with_the_process(new: &dyn Fn() -> Sandbox) {
    let mut sandbox = new();
    let mark = sandbox.directory("mark");
    sandbox.mount("/mark", MountKind::Bind { source: mark.clone() }, false);
    let sleep = sandbox::sleep(0);
    sandbox.output(&format!(
        "(trap '' TERM HUP INT; echo >/mark/started; while :; do sleep 1; done) & setsid {sleep} & \
         while ! [ -e /mark/started ]; do :; done"
    ));
    assert_eq!(sandbox::processes_named(&sleep), 0);
}

fn cancelling(new: &dyn Fn() -> Sandbox) {
    let mut sandbox = new();
    let sleep = sandbox::sleep(1);
    let script = format!("trap '' TERM INT; echo ready; {sleep} & while :; do sleep 1; done");
    sandbox.container.process.args = vec!["/bin/sh".to_owned(), "-c".to_owned(), script];
    let cancel = Cancel::new();
    let mut output = |_, bytes: &[u8]| {
        if bytes.starts_with(b"ready") {
            let cancel = cancel.clone();
            std::thread::spawn(move || cancel.cancel());
        }
    };
    let io = strake_exec::Io { output: &mut output, stdin: strake_exec::Stdin::Null };
    assert_eq!(sandbox.executor.run(&sandbox.container, io, &cancel), Err(ExecError::Cancelled));
    assert_eq!(sandbox::processes_named(&sleep), 0);
    // A thrown switch stays thrown.
    assert_eq!(
        sandbox::run(&*sandbox.executor, &sandbox.container, &cancel).status,
        Err(ExecError::Cancelled)
    );
}
