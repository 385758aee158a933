//! A network of the container's own.

use std::net::{TcpListener, UdpSocket};

use strake_exec::{ExecError, ExitStatus, Network, Options, OwnExecutor};

use crate::Case;
use crate::sandbox::{self, Sandbox};

pub(crate) const CASES: &[Case] = &[
    ("network::private", private),
    ("network::private_without_pasta", private_without_pasta),
    ("network::private_ends_with_the_container", private_ends_with_the_container),
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

/// The address of the host on its outer interface. Connecting a datagram socket sends nothing.
fn outer_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("198.51.100.1:9").unwrap();
    socket.local_addr().unwrap().ip().to_string()
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
    for address in ["127.0.0.1", "$g", &outer_address()] {
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

fn private_ends_with_the_container() {
    let Some(mut sandbox) = available() else { return };
    // The helper's command line is seen while it runs, and not after.
    let mark = || {
        let mut found = 0;
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found += usize::from(line.starts_with(b"/usr/bin/pasta") || line.starts_with(b"pasta"));
        }
        found
    };
    let before = mark();
    let mut during = 0;
    sandbox.container.process.args = ["/bin/sh", "-c", "echo up; sleep 0.3"].map(str::to_owned).into();
    let mut output = |_, _: &[u8]| during = mark();
    let io = strake_exec::Io { output: &mut output, stdin: strake_exec::Stdin::Null };
    let status = sandbox.executor.run(&sandbox.container, io, &Default::default());
    assert_eq!(status, Ok(ExitStatus::Exited(0)));
    assert!(during > before, "{during} {before}");
    assert!(mark() <= before);
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
