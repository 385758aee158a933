//! A network of the container's own.

use std::net::{TcpListener, UdpSocket};

use strake_exec::{ExecError, ExitStatus, MountKind, Network, Options, OwnExecutor};

use crate::Case;
use crate::sandbox::{self, Sandbox};

pub(crate) const CASES: &[Case] = &[
    ("network::private", private),
    ("network::private_without_pasta", private_without_pasta),
    (
        "network::private_is_kept_for_the_next_and_ends_with_the_executor",
        private_is_kept_for_the_next_and_ends_with_the_executor,
    ),
    ("network::private_with_a_broken_program", private_with_a_broken_program),
];

/// A sandbox with a private network, if this machine can have one.
fn available() -> Option<Sandbox> {
    if let Err(reason) = sandbox::own().private_network_available() {
        sandbox::missing(&reason);
        return None;
    }
    let mut sandbox = Sandbox::new();
    sandbox.container.network = Network::Private;
    Some(sandbox)
}

/// The address of the host on its outer interface, if it has one. Connecting a datagram socket sends nothing.
fn outer_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("198.51.100.1:9").ok()?;
    Some(socket.local_addr().unwrap().ip().to_string())
}

fn private() {
    let Some(mut sandbox) = available() else { return };
    let script = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | grep -vc '^lo$'; \
        awk '$2 == \"00000000\" { print \"route\" }' /proc/net/route; grep -c nameserver /etc/resolv.conf";
    let text = sandbox.output(script);
    assert!(text.starts_with("1\nroute\n") && !text.ends_with("\n0"), "{text}");
    // What listens on the loopback of the host is not there, whatever way it is asked for.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let gateway = "$(awk '$2 == \"00000000\" { print $3 }' /proc/net/route | head -n 1)";
    let dotted =
        format!("g={gateway}; g=$(printf '%d.%d.%d.%d' 0x${{g:6:2}} 0x${{g:4:2}} 0x${{g:2:2}} 0x${{g:0:2}})");
    let outer = outer_address();
    for address in ["127.0.0.1", "$g"].into_iter().chain(outer.as_deref()) {
        let outcome = sandbox.sh(&format!("{dotted}; nc -w 2 {address} {port} </dev/null"));
        assert_ne!(outcome.status, Ok(ExitStatus::Exited(0)), "{address}: {outcome:?}");
    }
}

fn private_without_pasta() {
    let mut sandbox = Sandbox::new();
    sandbox.container.network = Network::Private;
    let executor = OwnExecutor::new("/proc/self/exe".into(), Options::default());
    assert!(executor.private_network_available().unwrap_err().contains("passt"));
    sandbox.executor = Box::new(executor);
    let status = sandbox.sh("true").status;
    assert!(matches!(status, Err(ExecError::PrivateNetwork { .. })), "{status:?}");
}

/// Keepers of networks that are children of this process.
fn keepers() -> usize {
    let own = format!("PPid:\t{}", std::process::id());
    let is_keeper = |directory: &std::path::Path| {
        let line = std::fs::read(directory.join("cmdline")).unwrap_or_default();
        let status = std::fs::read_to_string(directory.join("status")).unwrap_or_default();
        line.starts_with(b"strake-network") && status.lines().any(|line| line == own)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| is_keeper(&entry.path())).count()
}

fn private_is_kept_for_the_next_and_ends_with_the_executor() {
    let Some(mut sandbox) = available() else { return };
    // Those of earlier executors may still be on their way out.
    wait_until_no_keepers();
    // The first leaves a listener behind in the background; the next one has the same network, and finds it gone.
    let first = sandbox.sh("nc -l -p 4711 & until grep -qs :1267 /proc/net/tcp /proc/net/tcp6; do :; done; \
         nc -w 9 127.0.0.1 4711 </dev/null && echo there");
    assert_eq!((first.status, first.stdout.as_str()), (Ok(ExitStatus::Exited(0)), "there\n"));
    assert_eq!(keepers(), 1);
    let next = sandbox.sh("nc -w 1 127.0.0.1 4711 </dev/null || echo gone");
    assert_eq!((next.status, next.stdout.as_str()), (Ok(ExitStatus::Exited(0)), "gone\n"));
    assert_eq!(keepers(), 1);
    // Two at once never share. Both wait until the other one listens as well.
    let mut other = Sandbox::new();
    let place = sandbox.directory("place");
    for sandbox in [&mut sandbox, &mut other] {
        sandbox.mount("/place", MountKind::Bind { source: place.clone() }, false);
    }
    std::thread::scope(|scope| {
        for (name, mut container) in [("a", sandbox.container.clone()), ("b", other.container.clone())] {
            let executor = &sandbox.executor;
            scope.spawn(move || {
                let mut output = |_, _: &[u8]| {};
                let io = strake_exec::Io { output: &mut output, stdin: strake_exec::Stdin::Null };
                container.network = Network::Private;
                let script = format!(
                    "nc -l -p 4712 & until grep -qs :1268 /proc/net/tcp /proc/net/tcp6; do :; done; touch /place/{name}; \
                     until [ -e /place/a ] && [ -e /place/b ]; do :; done; kill %1"
                );
                container.process.args = vec!["/bin/sh".to_owned(), "-c".to_owned(), script];
                let status = executor.run(&container, io, &Default::default());
                assert_eq!(status, Ok(ExitStatus::Exited(0)));
            });
        }
    });
    assert_eq!(keepers(), 2);
    sandbox.executor = Box::new(OwnExecutor::new("/proc/self/exe".into(), Options::default()));
    wait_until_no_keepers();
}

fn wait_until_no_keepers() {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while keepers() > 0 {
        assert!(std::time::Instant::now() < deadline, "a network outlives its executor");
        std::thread::yield_now();
    }
}

fn private_with_a_broken_program() {
    let mut sandbox = Sandbox::new();
    sandbox.container.network = Network::Private;
    for program in ["/bin/false", "/none"] {
        let options = Options { pasta: Some(program.into()), unfiltered: false };
        sandbox.executor = Box::new(OwnExecutor::new("/proc/self/exe".into(), options));
        let message = sandbox.sh("true").status.unwrap_err().to_string();
        assert!(message.contains(program), "{message}");
    }
}
