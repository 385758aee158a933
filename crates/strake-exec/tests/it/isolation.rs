//! What a process sees of the host, and what it may do to it: nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;

use strake_exec::{ExecError, ExitStatus, Network};

use crate::Case;
use crate::sandbox::{self, Sandbox};

pub(crate) const CASES: &[Case] = &[
    ("isolation::rights", rights),
    ("isolation::first_process", first_process),
    ("isolation::no_environment_of_the_host", no_environment_of_the_host),
    ("isolation::no_descriptors_of_the_host", no_descriptors_of_the_host),
    ("isolation::kernel_files", kernel_files),
    ("isolation::devices", devices),
    ("isolation::forbidden_calls", forbidden_calls),
    ("isolation::setuid_programs_work", setuid_programs_work),
    ("isolation::programs_of_32_bits", programs_of_32_bits),
    ("isolation::network", network),
    ("isolation::our_own_program_is_out_of_reach", our_own_program_is_out_of_reach),
    ("isolation::many_at_once", many_at_once),
    ("isolation::nothing_outlives_a_killed_executor", nothing_outlives_a_killed_executor),
];

fn status(sandbox: &mut Sandbox) -> BTreeMap<String, String> {
    let text = sandbox.args(&["/bin/cat", "/proc/self/status"]).stdout;
    let lines = text.lines().filter_map(|line| line.split_once(":\t"));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn rights() {
    // Docker's fourteen.
    const DEFAULT: &str = "00000000a80425fb";
    const NONE: &str = "0000000000000000";
    for (user, own) in [("", DEFAULT), ("app", NONE), ("0:1000", DEFAULT), ("1000:0", NONE)] {
        let mut sandbox = Sandbox::new();
        sandbox.container.process.user = user.into();
        let status = status(&mut sandbox);
        let expected = [
            ("CapInh", NONE),
            ("CapPrm", own),
            ("CapEff", own),
            ("CapBnd", DEFAULT),
            ("CapAmb", NONE),
            ("NoNewPrivs", "0"),
            ("Seccomp", "2"),
            ("Seccomp_filters", "1"),
            ("Umask", "0022"),
            ("SigBlk", NONE),
            ("SigIgn", NONE),
        ];
        for (name, value) in expected {
            assert_eq!(status[name], value, "{name} of user {user:?}");
        }
    }
}

fn first_process() {
    let mut sandbox = Sandbox::new();
    assert_eq!(sandbox.output("echo $$"), "1");
    assert_eq!(sandbox.output("echo /proc/[0-9]*"), "/proc/1", "nobody but the shell is there");
    // Session and process group are its own; there is no terminal.
    assert_eq!(sandbox.output("cut -d' ' -f1,4-8 /proc/1/stat"), "1 0 1 1 0 -1");
    assert_eq!(sandbox.output("ulimit -n; ulimit -Hc; ulimit -c").lines().next(), Some("1024"));
}

fn no_environment_of_the_host() {
    let mut sandbox = Sandbox::new();
    sandbox.container.process.env.clear();
    assert_eq!(sandbox.args(&["/bin/env"]).stdout, "");
    assert_eq!(sandbox.args(&["/bin/cat", "/proc/1/environ"]).stdout, "");
    // Nor in the processes of ours that live as long as the container does.
    let text = sandbox.output("sleep 0.2; echo x");
    assert_eq!(text, "x");
}

fn no_descriptors_of_the_host() {
    let leaked = fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let mut sandbox = Sandbox::new();
    assert_eq!(
        sandbox.args(&["/bin/ls", "/proc/self/fd"]).stdout,
        "0\n1\n2\n3\n",
        "3 is the directory itself"
    );
    assert_eq!(sandbox.output("readlink /proc/self/fd/0"), "/dev/null");
    for number in 3..40 {
        for path in [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/..")] {
            sandbox.container.process.cwd = path.clone();
            let status = sandbox.sh("true").status;
            assert!(matches!(status, Err(ExecError::WorkingDirectory { .. })), "{path}: {status:?}");
        }
    }
    sandbox.container.process.cwd = "/".into();
    for number in 3..40 {
        let status = sandbox.args(&[&format!("/proc/self/fd/{number}")]).status;
        assert!(
            matches!(status, Err(ExecError::NotFound { .. } | ExecError::NotExecutable { .. })),
            "{status:?}"
        );
    }
    sandbox.container.process.cwd = "/proc/self/root".into();
    assert!(matches!(sandbox.sh("true").status, Err(ExecError::WorkingDirectory { .. })));
}

fn kernel_files() {
    let mut sandbox = Sandbox::new();
    for name in ["kcore", "keys", "timer_list", "interrupts"] {
        let script =
            format!("[ ! -e /proc/{name} ] || [ -c /proc/{name} ] && [ -z \"$(head -c 1 /proc/{name})\" ]");
        sandbox.output(&script);
    }
    for name in ["/proc/acpi", "/proc/scsi", "/sys/firmware"] {
        sandbox.output(&format!("[ -z \"$(ls {name} 2>/dev/null)\" ]"));
    }
    for path in ["/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"] {
        sandbox.output(&format!("[ ! -e {path} ] || ! (echo x >{path}) 2>/dev/null"));
    }
    assert!(sandbox.sh("touch /sys/x").stderr.contains("Read-only"));
    let mounts = sandbox.output("cat /proc/self/mountinfo");
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        assert!(line.contains(" - "), "{line}");
        // Nothing of the host's tree is mounted, and nothing propagates.
        assert!(!line.contains("shared:") && !line.contains("master:"), "{line}");
        let known = ["/", "/dev", "/proc", "/sys", "/etc"];
        assert!(known.iter().any(|k| fields[4] == *k || fields[4].starts_with(&format!("{k}/"))), "{line}");
    }
}

fn devices() {
    let mut sandbox = Sandbox::new();
    let list = sandbox.output("ls /dev | tr '\\n' ' '");
    let expected = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert_eq!(list, expected);
    sandbox.output("echo x >/dev/null; head -c 4 /dev/urandom | wc -c; head -c 2 /dev/zero >/dev/null");
    sandbox.output("echo x >/dev/shm/file; ! (echo x >/dev/full) 2>/dev/null");
    assert_eq!(sandbox.output("df -k /dev/shm | tail -1 | awk '{print $2}'"), "65536");
    sandbox.container.process.user = "app".into();
    sandbox
        .output("echo x >/dev/null; echo x >/dev/stdout; cat /dev/stdin; head -c 4 /dev/random >/dev/null");
}

fn forbidden_calls() {
    let mut sandbox = Sandbox::new();
    let mut refused = |script: &str| {
        let outcome = sandbox.sh(script);
        assert_ne!(outcome.status, Ok(ExitStatus::Exited(0)), "{script}");
        let denied = ["not permitted", "ermission denied", "are you root", "Read-only"];
        assert!(denied.iter().any(|text| outcome.stderr.contains(text)), "{script}: {outcome:?}");
    };
    refused("mount -t tmpfs none /tmp");
    refused("mount -o remount,rw,bind /sys");
    refused("umount /proc/sys");
    refused("unshare -m true");
    refused("unshare -U true");
    refused("hostname other");
    refused("swapon /etc/passwd");
    refused("nsenter -t 1 -m true");
    // Changing the root is among Docker's rights.
    assert_eq!(sandbox.output("chroot / /bin/echo inside"), "inside");
}

/// A program of the host with its libraries.
fn install(sandbox: &Sandbox, program: &str) {
    let listed = std::process::Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let files = listed.split_whitespace().filter(|word| word.starts_with('/')).chain([program]);
    for file in files {
        fs::copy(file, sandbox.image(file.trim_start_matches('/'))).unwrap();
    }
}

fn setuid_programs_work() {
    let mut sandbox = Sandbox::new();
    install(&sandbox, "/usr/bin/head");
    fs::set_permissions(sandbox.base().join("usr/bin/head"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::write(sandbox.base().join("root/secret"), "seen").unwrap();
    fs::set_permissions(sandbox.base().join("root/secret"), fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.container.process.user = "app".into();
    assert_eq!(sandbox.output("/usr/bin/head -n 1 /root/secret"), "seen");
    assert_ne!(sandbox.sh("cat /root/secret").status, Ok(ExitStatus::Exited(0)));
}

/// A program of the 32-bit system call interface that prints `ok` and tries `unshare`.
fn programs_of_32_bits() {
    if !cfg!(target_arch = "x86_64") {
        return sandbox::missing("a 32-bit program for this architecture");
    }
    #[rustfmt::skip]
    let code: &[u8] = &[
        0xB8, 4, 0, 0, 0,                  // mov eax, 4 (write)
        0xBB, 1, 0, 0, 0,                  // mov ebx, 1
        0xB9, 0x90, 0x80, 0x04, 0x08,      // mov ecx, text
        0xBA, 3, 0, 0, 0,                  // mov edx, 3
        0xCD, 0x80,                        // int 0x80
        0xB8, 0x36, 1, 0, 0,               // mov eax, 310 (unshare)
        0xBB, 0, 0, 2, 0,                  // mov ebx, CLONE_NEWNS
        0xCD, 0x80,                        // int 0x80
        0xF7, 0xD8,                        // neg eax: the error number
        0x89, 0xC3,                        // mov ebx, eax
        0xB8, 1, 0, 0, 0,                  // mov eax, 1 (exit)
        0xCD, 0x80,                        // int 0x80
    ];
    let mut elf = Vec::from(*b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend([2, 0, 3, 0, 1, 0, 0, 0, 0x54, 0x80, 0x04, 0x08, 0x34, 0, 0, 0]);
    elf.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x34, 0, 0x20, 0, 1, 0, 0x28, 0, 0, 0, 0, 0]);
    for word in [1u32, 0, 0x0804_8000, 0x0804_8000, 0x93, 0x93, 5, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf.resize(0x90, 0);
    elf.extend(b"ok\n");
    let mut sandbox = Sandbox::new();
    let program = sandbox.image("bin/small");
    fs::write(&program, elf).unwrap();
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = sandbox.args(&["/bin/small"]);
    if matches!(outcome.status, Err(ExecError::Format { .. })) {
        return sandbox::missing("a kernel that runs 32-bit programs");
    }
    assert_eq!((outcome.stdout.as_str(), outcome.status), ("ok\n", Ok(ExitStatus::Exited(1))), "EPERM is 1");
}

fn network() {
    let mut sandbox = Sandbox::new();
    let interfaces = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '";
    assert_eq!(sandbox.output(interfaces), "lo");
    assert_eq!(sandbox.output("cat /etc/resolv.conf"), "");
    sandbox.output("ping -c 1 -w 5 127.0.0.1");
    sandbox.container.network = Network::Host;
    let host = fs::read_to_string("/proc/net/dev").unwrap().lines().count() - 2;
    assert_eq!(sandbox.output(interfaces).lines().count(), host);
    let expected = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(sandbox.output("cat /etc/resolv.conf"), expected.trim());
}

/// A script may name our own program as its interpreter, which the container must not be able to overwrite.
fn our_own_program_is_out_of_reach() {
    let mut sandbox = Sandbox::new();
    let script = sandbox.image("bin/evil");
    fs::write(&script, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = sandbox.args(&["/bin/evil"]);
    // The test program is linked dynamically, so here it does not even start; a static one would know no such
    // argument. What matters is that the file of the running program cannot be opened for writing.
    assert_ne!(outcome.status, Ok(ExitStatus::Exited(0)));
    let view = strake_exec::OwnExecutor::new("/proc/self/exe".into(), Default::default());
    let outcome = sandbox::run(&view, &sandbox.container, &Default::default());
    assert_ne!(outcome.status, Ok(ExitStatus::Exited(0)));
}

fn many_at_once() {
    let talkers: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..20_000 {
                    std::hint::black_box(vec![0u8; 4096].len());
                    std::thread::yield_now();
                }
            })
        })
        .collect();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                let mut sandbox = Sandbox::new();
                for round in 0..10 {
                    assert_eq!(
                        sandbox.output(&format!("echo {thread} {round}")),
                        format!("{thread} {round}")
                    );
                }
            });
        }
    });
    for talker in talkers {
        talker.join().unwrap();
    }
}

/// The copy of this program that is killed while its container runs.
pub(crate) const VICTIM: &str = "--victim";

pub(crate) fn victim() {
    let mut sandbox = Sandbox::new();
    // With a set-user-id program the kernel forgets the parent-death signal; the monitor does not forget.
    let sleep = sandbox::sleep(2);
    let script = format!("trap '' TERM HUP; echo up >&2; {sleep}; {sleep}");
    sandbox.container.process.args = vec!["/bin/sh".to_owned(), "-c".to_owned(), script];
    let mut output = |_, _: &[u8]| crate::say(&sleep);
    let io = strake_exec::Io { output: &mut output, stdin: strake_exec::Stdin::Null };
    let _ = sandbox.executor.run(&sandbox.container, io, &Default::default());
}

fn nothing_outlives_a_killed_executor() {
    let dir = tempfile::tempdir().unwrap();
    let mut victim = std::process::Command::new("/proc/self/exe")
        .arg(VICTIM)
        .args(sandbox::is_rootless().then_some(crate::rootless::ARGUMENT))
        .env("TMPDIR", dir.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut sleep = String::new();
    BufReader::new(victim.stdout.as_mut().unwrap()).read_line(&mut sleep).unwrap();
    victim.kill().unwrap();
    victim.wait().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while sandbox::processes_named(sleep.trim()) > 0 {
        assert!(std::time::Instant::now() < deadline, "still there");
        std::thread::yield_now();
    }
}
