//! One machine of a [`Cluster`](crate::Cluster): a network, process, mount and host name namespace of its own.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Failure, Outcome, Run};

/// What the first process of a machine does. It ends, and with it everything on the machine, when its standard
/// input does: when the guard is dropped, and also when the test is killed. Orphans are reaped by the kernel.
const KEEPER: &str = "set -e
    trap '' CHLD
    hostname \"$1\"
    ip link set lo up
    echo ready
    exec cat";

/// Bytes over the network interface of a machine since it was started, with all headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that reached it.
    pub received: u64,
    /// Bytes that it sent.
    pub sent: u64,
}

/// A machine with an address on the cluster's network. Everything on it is killed when this is dropped.
///
/// Its file system is the host's: only what is mounted there is its own business.
#[derive(Debug)]
pub struct Machine {
    keeper: Child,
    address: Ipv4Addr,
    directory: PathBuf,
}

impl Machine {
    /// A machine named `name` without a connection; what it writes belongs below `directory`.
    pub(crate) fn start(name: &str, address: Ipv4Addr, directory: &Path) -> Outcome<Self> {
        let run = Run::new("unshare").args(["--net", "--mount", "--uts", "--pid", "--fork", "--kill-child"]);
        let mut command = run.args(["--mount-proc", "sh", "-c", KEEPER, "keeper", name]).watched();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let keeper = command.spawn().map_err(Failure::at(format!("start machine {name}")))?;
        let mut machine = Self { keeper, address, directory: directory.into() };
        let mut line = String::new();
        if let Some(stdout) = machine.keeper.stdout.take() {
            let read = BufReader::new(stdout).read_line(&mut line);
            read.map_err(Failure::at(format!("wait for machine {name}")))?;
        }
        if line != "ready\n" {
            return Err(Failure::new(format!("machine {name} did not start (needs root)")));
        }
        Ok(machine)
    }

    /// Plugs this machine into the bridge `br0` of `switch`: its interface is `eth0`.
    pub(crate) fn connect(&self, switch: &Self, port: &str) -> Outcome<()> {
        let here = self.keeper.id().to_string();
        // Both ends are born inside the namespaces; the host's own network never has them. Only the network
        // namespace of the switch is entered, because the process id is one of the host's.
        let add = Run::new("ip").args(["link", "add", port, "type", "veth", "peer", "name", "eth0", "netns"]);
        let net = format!("--net={}", switch.namespace("net"));
        add.arg(here).through(["nsenter", &net, "--"]).succeed()?;
        switch.ip(&["link", "set", port, "master", "br0", "up"])?;
        self.ip(&["addr", "add", &format!("{}/24", self.address), "dev", "eth0"])?;
        self.ip(&["link", "set", "eth0", "up"])?;
        // The kernel notices within a second that there is a link; until then packets vanish.
        switch.wait_for_link(port, "state forwarding")?;
        self.wait_for_link("eth0", "state UP")
    }

    fn wait_for_link(&self, interface: &str, state: &str) -> Outcome<()> {
        let begun = Instant::now();
        loop {
            let shown = self.run("ip").args(["-details", "link", "show", interface]).succeed()?;
            if shown.stdout.contains(state) {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(60) {
                return Err(Failure::new(format!("{interface} never gets {state}:\n{shown}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its address on the cluster's network.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A directory for what runs here, removed with the cluster.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A program on this machine, started in its [directory](Self::directory).
    pub fn run(&self, program: impl AsRef<std::ffi::OsStr>) -> Run {
        Run::new(program).through(self.words(&self.directory))
    }

    /// Waits until something on this machine accepts connections at `port`.
    ///
    /// # Errors
    /// When nothing does within 60 seconds, or `is_gone` says that nothing will.
    pub fn wait_until_listening(&self, port: u16, mut is_gone: impl FnMut() -> bool) -> Outcome<()> {
        let begun = Instant::now();
        let address = SocketAddr::from((self.address, port));
        while self.within(move || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err())? {
            if is_gone() || begun.elapsed() > Duration::from_secs(60) {
                return Err(Failure::new(format!("nothing listens at {address}")));
            }
            // Another program's readiness has no event to wait for.
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Does something of this process with the network of this machine.
    ///
    /// # Errors
    /// When the network cannot be entered, or what is done panics.
    pub fn within<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Outcome<T> {
        let path = self.namespace("net");
        let namespace = File::open(&path).map_err(Failure::at(format!("open {path}")))?;
        // A thread of its own: it never has to find its way back.
        let entered = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(Failure::at(format!("enter {path}")))?;
                Ok(action())
            });
            inside.join()
        });
        entered.map_err(|_| Failure::new("what was done on another machine panicked"))?
    }

    /// What has gone over its interface.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn traffic(&self) -> Outcome<Traffic> {
        let path = format!("/proc/{}/net/dev", self.keeper.id());
        let table = std::fs::read_to_string(&path).map_err(Failure::at(format!("read {path}")))?;
        parse_traffic(&table, "eth0").ok_or_else(|| Failure::new(format!("no eth0 in {path}:\n{table}")))
    }

    /// Configures its network.
    pub(crate) fn ip(&self, words: &[&str]) -> Outcome<()> {
        self.run("ip").args(words).succeed().map(drop)
    }

    /// The words that bring a program here, into `directory`.
    pub(crate) fn words(&self, directory: &Path) -> Vec<OsString> {
        let kinds = [("net", "net"), ("mount", "mnt"), ("uts", "uts"), ("pid", "pid_for_children")];
        let enter = kinds.map(|(option, file)| format!("--{option}={}", self.namespace(file)).into());
        let mut words: Vec<OsString> = vec!["nsenter".into()];
        words.extend(enter);
        words.extend(["--".into(), "env".into(), "-C".into(), directory.into()]);
        words
    }

    /// The process, as the host numbers it, whose namespaces for children are the machine's.
    #[cfg(test)]
    pub(crate) fn id(&self) -> u32 {
        self.keeper.id()
    }

    fn namespace(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.keeper.id())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The keeper reads the end of its input and exits; the kernel kills whatever else is on the machine before
        // that exit is complete. Waiting only fails when it is gone already.
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
    }
}

/// The counters of one interface in the text of `/proc/net/dev`.
fn parse_traffic(table: &str, interface: &str) -> Option<Traffic> {
    let rows = table.lines().filter_map(|line| line.split_once(':'));
    let (_, counters) = rows.into_iter().find(|(name, _)| name.trim() == interface)?;
    let mut counters = counters.split_whitespace().map(str::parse);
    // Eight columns of what was received, then those of what was sent; bytes come first.
    let received = counters.next()?.ok()?;
    let sent = counters.nth(7)?.ok()?;
    Some(Traffic { received, sent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_name() {
        let table = "Inter-|   Receive |  Transmit\n face |bytes packets\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  \
                     eth0:21 2 0 0 0 0 0 0 42 3 0 0 0 0 0 0\n";
        assert_eq!(parse_traffic(table, "eth0"), Some(Traffic { received: 21, sent: 42 }));
        assert_eq!(parse_traffic(table, "lo"), Some(Traffic { received: 1, sent: 9 }));
        assert_eq!(parse_traffic(table, "eth1"), None);
    }
}
