//! What a step sees of the machine: nothing that it was not given, as root and as an ordinary user.

use std::os::unix::ffi::OsStrExt;

use strake_testkit::{Sandbox, Tree};

use crate::for_both_users;

/// What Docker gives a container by default: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
/// net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
const DOCKER_CAPABILITIES: &str = "00000000a80425fb";

/// The output of a step's shell script, through the file system of the image.
fn said(sandbox: &Sandbox, args: &[&str], script: &str) -> String {
    let dockerfile = format!("FROM busybox\nRUN <<'END'\n{{\n{script}\n}} > /said 2>&1\nEND\n");
    sandbox.write("c/Dockerfile", dockerfile).unwrap();
    let run = sandbox.strake(["build", "--progress=plain", "-o", "out"]).args(args).arg("c");
    run.env("HOST_SECRET", "leaked").succeed().unwrap();
    sandbox.read("out/said").unwrap()
}

const NO_NETWORK: [&str; 1] = ["--network=none"];

#[test]
fn nothing_of_the_hosts_environment_and_files() {
    for_both_users(|sandbox| {
        let found = said(sandbox, &NO_NETWORK, "env\necho fds: $(ls /proc/self/fd)\nls -l /proc/self/fd");
        let mut names: Vec<_> =
            found.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        names.sort_unstable();
        assert_eq!(names, ["HOME", "PATH", "PWD", "SHLVL"], "{found}");
        // The fourth is the directory that `ls` itself reads.
        assert!(found.contains("fds: 0 1 2 3\n"), "{found}");
        assert!(!found.contains("/var/tmp") && !found.contains("strake-it"), "{found}");
    });
}

#[test]
fn its_own_processes_and_names_only() {
    for_both_users(|sandbox| {
        let found = said(
            sandbox,
            &NO_NETWORK,
            "echo pid $$; ls -d /proc/[0-9]* | wc -l; hostname; cat /etc/hosts; id -u; tr '\\0' ' ' < /proc/1/cmdline",
        );
        let lines: Vec<_> = found.lines().collect();
        assert_eq!(lines[0], "pid 1", "{found}");
        // The shell, `ls`, and `wc`.
        assert!(lines[1].parse::<u32>().unwrap() <= 4, "{found}");
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_ne!(lines[2], host.trim(), "{found}");
        assert!(found.contains("127.0.0.1\tlocalhost") || found.contains("127.0.0.1 localhost"), "{found}");
    });
}

#[test]
fn rights_are_dockers() {
    for_both_users(|sandbox| {
        let found = said(sandbox, &NO_NETWORK, "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status");
        let value = |name: &str| {
            let line = found.lines().find(|line| line.starts_with(name));
            line.unwrap_or_else(|| panic!("no {name}: {found}")).split_whitespace().nth(1).unwrap().to_owned()
        };
        assert_eq!(value("CapEff"), DOCKER_CAPABILITIES);
        assert_eq!(value("CapPrm"), DOCKER_CAPABILITIES);
        assert_eq!(value("CapBnd"), DOCKER_CAPABILITIES);
        assert_eq!(value("CapInh"), "0000000000000000");
        assert_eq!(value("CapAmb"), "0000000000000000");
        assert_eq!(value("Seccomp"), "2");
    });
}

#[test]
fn a_user_has_no_rights() {
    for_both_users(|sandbox| {
        sandbox
            .write("c/Dockerfile", "FROM busybox\nUSER app\nRUN grep CapEff /proc/self/status > /tmp/said; id >> /tmp/said; echo $HOME >> /tmp/said\n")
            .unwrap();
        sandbox.strake(["build", "--network=none", "-o", "out", "c"]).succeed().unwrap();
        let found = sandbox.read("out/tmp/said").unwrap();
        assert!(found.contains("0000000000000000"), "{found}");
        assert!(
            found.contains("uid=1000(app) gid=1000(app) groups=50(staff),1000(app)")
                || found.contains("groups=1000(app),50(staff)"),
            "{found}"
        );
        assert!(found.contains("/home/app"), "{found}");
    });
}

#[test]
fn the_kernel_is_out_of_reach() {
    for_both_users(|sandbox| {
        let script = "for f in mount umount unshare; do echo \"$f:\"; done\n\
            mount -t tmpfs x /mnt && echo MOUNTED\nmount -o remount,rw /proc/sys && echo REMOUNTED\numount /proc && echo UNMOUNTED\n\
            unshare -U true && echo UNSHARED\necho 1 > /proc/sys/kernel/panic && echo WROTE-SYS\necho b > /proc/sysrq-trigger && echo SYSRQ\n\
            head -c1 /proc/kcore && echo KCORE\nwc -c < /proc/keys\nmknod /tmp/disk b 8 0 && head -c1 /tmp/disk && echo DISK\n\
            echo x > /sys/kernel/x && echo SYS\ndmesg -n 1 && echo DMESG\nswapoff -a && echo SWAP\nhostname other && echo HOSTNAME\nrm -f /tmp/disk";
        let found = said(sandbox, &NO_NETWORK, script);
        for word in [
            "MOUNTED",
            "REMOUNTED",
            "UNMOUNTED",
            "UNSHARED",
            "WROTE-SYS",
            "SYSRQ",
            "KCORE",
            "DISK",
            "SYS\n",
            "HOSTNAME",
        ] {
            assert!(!found.contains(word), "{word}: {found}");
        }
    });
}

#[test]
fn devices_are_the_usual_ones() {
    for_both_users(|sandbox| {
        let found = said(
            sandbox,
            &NO_NETWORK,
            "ls /dev | tr '\\n' ' '; echo; head -c4 /dev/zero | wc -c; echo x > /dev/null && echo null; head -c8 /dev/urandom | wc -c; stat -c %F /dev/shm; touch /dev/shm/f && echo shm",
        );
        let names: Vec<_> = found.lines().next().unwrap().split_whitespace().collect();
        let usual = [
            "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
            "stdout", "tty", "urandom", "zero",
        ];
        assert_eq!(names, usual);
        for said in ["4\n", "null\n", "8\n", "directory\n", "shm\n"] {
            assert!(found.contains(said), "{found}");
        }
    });
}

#[test]
fn networks() {
    for_both_users(|sandbox| {
        let links = "ls /sys/class/net | tr '\\n' ' '; cat /proc/net/dev | wc -l";
        let none = said(sandbox, &["--network=none"], links);
        assert!(none.starts_with("lo "), "{none}");
        assert_eq!(none.split_whitespace().count(), 2, "{none}");
        let names = |text: &str| {
            text.split(':')
                .filter_map(|line| line.split_whitespace().last().map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let host = said(sandbox, &["--network=host"], "cat /proc/net/dev | grep : | sed 's/:.*/:/'");
        let ours = std::fs::read_to_string("/proc/net/dev").unwrap();
        let ours: Vec<_> = ours
            .lines()
            .skip(2)
            .filter_map(|line| line.split(':').next())
            .map(|name| name.trim().to_owned())
            .collect();
        for name in names(&host) {
            assert!(ours.contains(&name), "{host}: {ours:?}");
        }
        // A loopback of its own, whichever way outwards there is: nobody on the host listens on it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Whoever comes is sent away at once; the thread ends with the test run.
        std::thread::spawn(move || listener.incoming().for_each(drop));
        let reach = format!("nc -w 2 127.0.0.1 {port} < /dev/null && echo REACHED; true");
        let found = said(sandbox, &["--network=none"], &reach);
        assert!(!found.contains("REACHED"), "{found}");
        let found = said(sandbox, &["--network=host"], &reach);
        assert!(found.contains("REACHED"), "{found}");
    });
}

#[test]
fn names_are_resolved_as_on_the_host_and_hosts_can_be_added() {
    for_both_users(|sandbox| {
        let found = said(
            sandbox,
            &["--network=host", "--add-host", "db.test:10.1.2.3"],
            "cat /etc/resolv.conf; echo --; cat /etc/hosts",
        );
        let (resolv, hosts) = found.split_once("--").unwrap();
        let ours = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        for server in ours.lines().filter(|line| line.starts_with("nameserver")) {
            assert!(resolv.contains(server), "{found}");
        }
        let line = hosts.lines().find(|line| line.contains("db.test")).unwrap();
        assert!(line.starts_with("10.1.2.3"), "{found}");
    });
}

/// A secret is bytes: as a variable it may be anything that a variable can be, and what it cannot be is said.
#[test]
fn a_secret_that_is_no_text_is_given_as_it_is() {
    for_both_users(|sandbox| {
        let token = b"caf\xe9 \xff\xfe=\n";
        sandbox.write("token", token).unwrap();
        let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=token,env=TOKEN,target=/token \
            printf %s \"$TOKEN\" > /by-env; cp /token /by-file\n";
        sandbox.write("c/Dockerfile", dockerfile).unwrap();
        let build = |secret: &str| {
            sandbox.strake(["build", "--network=none", "--no-cache", "-o", "out", "--secret", secret, "c"])
        };
        build("id=token,src=token").succeed().unwrap();
        assert_eq!(std::fs::read(sandbox.path("out/by-file")).unwrap(), token);
        assert_eq!(std::fs::read(sandbox.path("out/by-env")).unwrap(), token);
        let of_environment = std::ffi::OsStr::from_bytes(&token[..7]);
        build("id=token,env=GIVEN").env("GIVEN", of_environment).succeed().unwrap();
        assert_eq!(std::fs::read(sandbox.path("out/by-env")).unwrap(), &token[..7]);
        let run = sandbox.strake(["run", "--network=none", "-e", "GIVEN", "busybox", "sh", "-c"]);
        let run =
            run.arg("printf %s \"$GIVEN\" | od -An -tx1").env("GIVEN", of_environment).succeed().unwrap();
        assert_eq!(run.stdout.trim(), "63 61 66 e9 20 ff fe");
        sandbox.write("token", "s3cret\0more").unwrap();
        let failed = build("id=token,src=token").finish().unwrap();
        assert!(failed.code == 2 && failed.stderr.contains("variable TOKEN"), "{failed}");
        assert!(failed.stderr.contains("NUL") && !failed.stderr.contains("s3cret"), "{failed}");
    });
}

/// Everything that is mounted into a step leaves nothing behind, not even the place it was mounted at.
#[test]
fn mounts_leave_no_trace() {
    for_both_users(|sandbox| {
        sandbox.write("token", "t0ken-7f3a").unwrap();
        sandbox.write("c/f", "x").unwrap();
        let dockerfile = "FROM scratch AS base\nCOPY --from=busybox /bin /bin\nFROM base\n\
            RUN --mount=type=cache,target=/a/cache --mount=type=tmpfs,target=/b/tmp --mount=type=bind,source=f,target=/c/f \
            --mount=type=secret,id=token,target=/d/token --mount=type=secret,id=token,env=TOKEN \
            touch /a/cache/x /b/tmp/x && cat /c/f /d/token > /dev/null && [ ${#TOKEN} = 10 ] && mkdir /made\n";
        sandbox.write("c/Dockerfile", dockerfile).unwrap();
        let built = sandbox
            .strake(["build", "--network=none", "--progress=rawjson", "--secret", "id=token,src=token"])
            .args(["-o", "type=tar,dest=out.tar", "-t", "traces", "c"])
            .succeed()
            .unwrap();
        let tree = Tree::of_tar(&std::fs::read(sandbox.path("out.tar")).unwrap()).unwrap();
        let strange: Vec<_> =
            tree.nodes.keys().filter(|path| !path.is_empty() && !path.starts_with("bin")).cloned().collect();
        assert_eq!(strange, ["made"]);
        assert!(!built.stderr.contains("t0ken"), "{built}");
        let shown =
            [sandbox.strake(["history", "--no-trunc", "traces"]), sandbox.strake(["inspect", "traces"])];
        for run in shown {
            let finished = run.succeed().unwrap();
            assert!(!finished.stdout.contains("t0ken"), "{finished}");
        }
    });
}

/// What the caller would let others do with new files says nothing of what a step sees.
#[test]
fn a_mount_looks_the_same_whatever_the_mask_of_the_caller_is() {
    for_both_users(|sandbox| {
        sandbox.write("c/d/f", "x").unwrap();
        let dockerfile = "FROM busybox AS below\nRUN mkdir -m 750 /d && chown app /d\nFROM busybox\n\
            RUN mkdir -m 777 /seen\nUSER app\n\
            RUN --mount=type=bind,target=/ro --mount=type=bind,target=/rw,rw --mount=type=bind,source=d,target=/sub,rw \
            --mount=type=bind,from=below,target=/stage,rw --mount=type=bind,from=below,source=/d,target=/own,rw \
            stat -c '%n %a %U' /ro /rw /sub /stage /own > /seen/modes; cat /rw/d/f /sub/f > /seen/files\n";
        sandbox.write("c/Dockerfile", dockerfile).unwrap();
        let expected = "/ro 755 root\n/rw 755 root\n/sub 755 root\n/stage 755 root\n/own 750 app\n";
        for mask in ["022", "077", "000"] {
            let build = ["build", "--network=none", "--no-cache", "-o", "out", "c"];
            let shell = sandbox.run("sh").args(["-c", &format!("umask {mask}; exec \"$@\""), "sh"]);
            shell.arg(crate::STRAKE).args(build).succeed().unwrap();
            assert_eq!(sandbox.read("out/seen/modes").unwrap(), expected, "umask {mask}");
            assert_eq!(sandbox.read("out/seen/files").unwrap(), "xx");
        }
    });
}

/// A step cannot reach past its root through what the image holds.
#[test]
fn links_of_an_image_lead_nowhere_else() {
    for_both_users(|sandbox| {
        let outside = sandbox.write("outside/file", "untouched").unwrap();
        let deep = "../".repeat(20);
        let target = outside.parent().unwrap().display().to_string();
        let dockerfile = format!(
            "FROM busybox\nRUN rm -rf /dev /etc/hosts && ln -s {deep}{target} /up && ln -s {target} /abs && ln -s /proc/self/fd /dev2 && ln -s {target}/file /etc/hosts\n\
             WORKDIR /abs/made\nCOPY f /up/copied\nCOPY f /abs/file\nRUN echo changed > /abs/file; echo changed > /up/file\n"
        );
        sandbox.write("c/Dockerfile", dockerfile).unwrap();
        sandbox.write("c/f", "from the context").unwrap();
        // Whether it succeeds is of no interest here.
        sandbox.strake(["build", "--network=none", "-o", "out", "c"]).finish().unwrap();
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "untouched");
        let names: Vec<_> = std::fs::read_dir(outside.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["file"]);
    });
}
