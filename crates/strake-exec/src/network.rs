//! A network of the container's own, with access outwards through `pasta`.
//!
//! `pasta` copies the addresses of the host's default interface into the container's network namespace and carries
//! its connections with ordinary sockets, so no privilege over the host's network is needed, and none is changed.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::UnshareFlags;

use crate::INIT_ARG;
use crate::error::ExecError;
use crate::sys::{self, Fork};
use crate::wire;

/// After [`INIT_ARG`]: the process keeps a network instead of becoming a container.
pub(crate) const KEEPER_ARG: &str = "network";

/// Inside the container, DNS queries to this address are answered by the host's resolver. Link-local, so that it
/// cannot be an address that anybody else uses.
const FORWARDED_RESOLVER: &str = "169.254.1.1";

const RESOLV_CONF: &str = "/etc/resolv.conf";

const ARGUMENTS: [&str; 18] = [
    "--config-net",
    "--foreground",
    "--quiet",
    // The gateway's address would otherwise lead to the host's loopback.
    "--no-map-gw",
    "--runas",
    "0:0",
    "-t",
    "none",
    "-u",
    "none",
    "-T",
    "none",
    "-U",
    "none",
    "--pid",
    "/dev/stdout",
    "--netns-only",
    "--netns=/proc/self/fd/0",
];

/// How long `pasta` may take to set up the namespace; it needs about 10 ms.
const START_SECONDS: i64 = 10;

/// A network namespace that reaches outwards for as long as this value lives.
///
/// It belongs to one container at a time. What a container leaves in it when all its processes are gone is nothing
/// that the next one could notice: it has no right to change addresses, routes, filters or settings. Making one takes
/// several times as long as the rest of a container, which is why executors keep them.
#[derive(Debug)]
pub(crate) struct PrivateNetwork {
    namespace: OwnedFd,
    /// The keeper ends, and `pasta` with it, when this end is closed: also when this program is killed.
    _control: OwnedFd,
    keeper: Child,
}

impl PrivateNetwork {
    /// Starts a keeper, which is a copy of `program` in its init mode, and waits until the network is there.
    pub(crate) fn start(program: &Path, pasta: &Path) -> Result<Self, ExecError> {
        let failed = |error: &dyn std::fmt::Display| ExecError::PrivateNetwork { reason: error.to_string() };
        let (ours, theirs) = wire::control_sockets().map_err(|errno| failed(&errno))?;
        let keeper = Command::new(program)
            .arg0("strake-network")
            .args([INIT_ARG, KEEPER_ARG])
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(&error))?;
        wire::send(ours.as_fd(), pasta.as_os_str().as_bytes(), &[]).map_err(|errno| failed(&errno))?;
        let answer = wire::receive(ours.as_fd()).map_err(|errno| failed(&errno))?;
        match answer.map(|(word, mut descriptors)| (word, descriptors.pop())) {
            Some((_, Some(namespace))) => Ok(Self { namespace, _control: ours, keeper }),
            Some((reason, None)) => Err(failed(&String::from_utf8_lossy(&reason))),
            None => Err(failed(&"its keeper ended")),
        }
    }

    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

impl Drop for PrivateNetwork {
    fn drop(&mut self) {
        // Taking a network down takes the kernel a while, and nobody needs to wait for it.
        let _ = self.keeper.try_wait();
    }
}

/// The keeper of a network: never returns.
pub(crate) fn keeper_main(control: BorrowedFd<'_>) -> ! {
    match keep(control) {
        Ok(pasta) => {
            let mut watched = [PollFd::new(&control, PollFlags::empty())];
            let _ = rustix::io::retry_on_intr(|| poll(&mut watched, None));
            drop(pasta);
        }
        Err(reason) => drop(wire::send(control, reason.as_bytes(), &[])),
    }
    sys::exit(0)
}

/// Makes the network and hands its namespace over.
fn keep(control: BorrowedFd<'_>) -> Result<Pasta, String> {
    let (pasta, _) = wire::receive(control).map_err(|errno| errno.to_string())?.ok_or("no instructions")?;
    let pasta = PathBuf::from(OsString::from_vec(pasta));
    let (ours, theirs) = wire::control_sockets().map_err(|errno| errno.to_string())?;
    let mut network = Pasta::prepare(&pasta, theirs.as_fd())?;
    sys::unshare(UnshareFlags::NEWNET).map_err(doing("make a network namespace"))?;
    sys::loopback_up().map_err(doing("bring up the loopback interface"))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open("/proc/self/ns/net", flags, Mode::empty());
    let namespace = namespace.map_err(doing("open the network namespace"))?;
    wire::send(ours.as_fd(), b"namespace", &[namespace.as_fd()]).map_err(doing("hand over the namespace"))?;
    network.attach()?;
    wire::send(control, b"ready", &[namespace.as_fd()]).map_err(doing("hand over the namespace"))?;
    Ok(network)
}

fn doing<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

/// A `pasta`, waiting or at work, ended when dropped.
#[derive(Debug)]
struct Pasta {
    process: Pid,
    program: PathBuf,
    ready: Option<PipeReader>,
    complaints: File,
}

impl Pasta {
    /// Forks the process that becomes `pasta` as soon as a network namespace arrives at `socket`. It stays in the
    /// network that it is forked in.
    fn prepare(program: &Path, socket: BorrowedFd<'_>) -> Result<Self, String> {
        let (ready, report) = std::io::pipe().map_err(|error| error.to_string())?;
        let complaints = rustix::fs::memfd_create("strake-pasta", MemfdFlags::CLOEXEC)
            .map_err(|errno| errno.to_string())?;
        match sys::fork().map_err(|errno| errno.to_string())? {
            Fork::Child => {
                drop(ready);
                become_pasta(program, socket, &report, &complaints)
            }
            Fork::Parent(process) => {
                let complaints = File::from(complaints);
                Ok(Self { process, program: program.to_owned(), ready: Some(ready), complaints })
            }
        }
    }

    /// Waits until the network is there. An error is the reason in words.
    fn attach(&mut self) -> Result<(), String> {
        if self.ready.take().is_some_and(is_ready) {
            return Ok(());
        }
        let mut text = String::new();
        let _ = self.complaints.rewind().and_then(|()| self.complaints.read_to_string(&mut text));
        Err(format!("{}: {}", self.program.display(), last_complaint(&text)))
    }
}

impl Drop for Pasta {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        let _ = rustix::process::kill_process(self.process, Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.process), WaitOptions::empty());
    }
}

/// In the forked child.
fn become_pasta(program: &Path, socket: BorrowedFd<'_>, report: &PipeWriter, complaints: &OwnedFd) -> ! {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let namespace = wire::receive(socket).ok().flatten().and_then(|(_, mut descriptors)| descriptors.pop());
    // pasta gives up the right to look into other processes, so the namespace is its standard input; it writes its
    // pid to standard output when everything is set up, which is how we know.
    let connected = namespace.is_some_and(|namespace| {
        sys::set_standard_stream(namespace, 0).is_ok()
            && sys::set_standard_stream(report, 1).is_ok()
            && sys::set_standard_stream(complaints, 2).is_ok()
    });
    if connected {
        let name = program.to_string_lossy();
        // With this option the answers of the host's resolver always seem to come from the forwarded address, also
        // to whoever asked the resolver directly: it is given only where nothing is asked directly.
        let host = std::fs::read(RESOLV_CONF).unwrap_or_default();
        let forward =
            if nameservers(&host).is_empty() { &["--dns-forward", FORWARDED_RESOLVER][..] } else { &[] };
        let args = [&*name].into_iter().chain(ARGUMENTS).chain(forward.iter().copied());
        let args = args.map(CString::new).collect::<Result<Vec<_>, _>>();
        if let (Ok(path), Ok(args)) = (CString::new(&*name), args) {
            // It takes a signal that is ignored already for an error.
            sys::reset_signals();
            let errno = sys::execve(&path, &args, &[]);
            let _ = rustix::io::write(complaints, errno.to_string().as_bytes());
        }
    }
    sys::exit(1)
}

fn is_ready(mut pipe: PipeReader) -> bool {
    let timeout = rustix::event::Timespec { tv_sec: START_SECONDS, tv_nsec: 0 };
    let mut watched = [PollFd::new(&pipe, PollFlags::IN)];
    if !matches!(rustix::io::retry_on_intr(|| poll(&mut watched, Some(&timeout))), Ok(1..)) {
        return false;
    }
    let mut pid = [0; 16];
    matches!(pipe.read(&mut pid), Ok(1..))
}

/// The last line that is not about the missing system log.
fn last_complaint(text: &str) -> &str {
    let mut lines = text.lines().filter(|line| !line.contains("syslog") && !line.trim().is_empty());
    lines.next_back().unwrap_or("did not become ready")
}

/// The host's `/etc/resolv.conf`, without resolvers on its loopback, which the container does not share. If none
/// remains, queries go through `pasta` to the host's.
pub(crate) fn reachable_nameservers(host: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(host);
    let mut kept = String::new();
    for line in text.lines().filter(|line| nameserver(line).is_none_or(is_reachable)) {
        kept.push_str(line);
        kept.push('\n');
    }
    if nameservers(host).is_empty() {
        kept.push_str(&format!("nameserver {FORWARDED_RESOLVER}\n"));
    }
    kept.into_bytes()
}

/// The resolvers of a `resolv.conf` that a container reaches by itself.
fn nameservers(resolv_conf: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(resolv_conf);
    text.lines().filter_map(nameserver).filter(|address| is_reachable(address)).map(str::to_owned).collect()
}

/// The address of a `nameserver` line.
fn nameserver(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    (words.next() == Some("nameserver")).then(|| words.next().unwrap_or_default())
}

fn is_reachable(address: &str) -> bool {
    let address = address.split('%').next().unwrap_or_default();
    !address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Why a private network is out of the question here, as far as that shows without trying.
pub(crate) fn obstacle(pasta: Option<&Path>) -> Option<String> {
    let Some(pasta) = pasta else {
        return Some("no pasta program found (Debian package passt)".to_owned());
    };
    if rustix::fs::access(pasta, rustix::fs::Access::EXEC_OK).is_err() {
        return Some(format!("{} cannot be executed", pasta.display()));
    }
    if let Err(error) = File::options().read(true).write(true).open("/dev/net/tun") {
        return Some(format!("/dev/net/tun: {error}"));
    }
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let routes6 = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let outwards = routes.lines().skip(1).any(|line| line.split_whitespace().nth(1) == Some("00000000"))
        || routes6.lines().any(|line| line.starts_with(&"0".repeat(32)) && !line.ends_with(" lo"));
    if outwards { None } else { Some("the host has no default route".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_resolvers_are_replaced() {
        let check = |host: &str, expected: &str| {
            assert_eq!(
                String::from_utf8(reachable_nameservers(host.as_bytes())).unwrap(),
                expected,
                "{host:?}"
            );
        };
        check("nameserver 10.0.0.1\nsearch a b\n", "nameserver 10.0.0.1\nsearch a b\n");
        check("nameserver 127.0.0.53\noptions edns0\n", "options edns0\nnameserver 169.254.1.1\n");
        check("nameserver ::1\nnameserver fd00::1\n", "nameserver fd00::1\n");
        check("nameserver 127.0.0.1\nnameserver 9.9.9.9", "nameserver 9.9.9.9\n");
        check("", "nameserver 169.254.1.1\n");
    }

    #[test]
    fn the_reason_is_the_last_line_that_says_something() {
        assert_eq!(last_complaint("Failed to send 9 bytes to syslog\nno route\n\n"), "no route");
        assert_eq!(last_complaint(""), "did not become ready");
    }
}
