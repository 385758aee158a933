//! A network of the container's own, with access outwards through `pasta`.
//!
//! `pasta` copies the addresses of the host's default interface into the container's network namespace and carries
//! its connections with ordinary sockets, so no privilege over the host's network is needed, and none is changed.

use std::ffi::CString;
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Seek};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::error::ExecError;
use crate::sys::{self, Fork};
use crate::wire;

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

/// A `pasta`, waiting or at work, ended when dropped.
#[derive(Debug)]
pub(crate) struct Pasta {
    process: Pid,
    program: PathBuf,
    ready: Option<PipeReader>,
    complaints: File,
}

impl Pasta {
    /// Forks the process that becomes `pasta` as soon as the first process sends its network namespace through its
    /// end of the socket pair, `first`.
    ///
    /// It must be called before the pid namespace is made: a child that is made later would be in it, where the
    /// container could get at it, and the container would wait for its end. Returns `first` for the first process.
    pub(crate) fn prepare(
        program: &Path,
        ours: BorrowedFd<'_>,
        first: OwnedFd,
    ) -> Result<(Self, OwnedFd), ExecError> {
        let failed = |error: &dyn std::fmt::Display| ExecError::PrivateNetwork { reason: error.to_string() };
        let (ready, report) = std::io::pipe().map_err(|error| failed(&error))?;
        let complaints =
            rustix::fs::memfd_create("strake-pasta", MemfdFlags::CLOEXEC).map_err(|errno| failed(&errno))?;
        match sys::fork().map_err(|errno| failed(&errno))? {
            Fork::Child => {
                drop((first, ready));
                become_pasta(program, ours, &report, &complaints)
            }
            Fork::Parent(process) => {
                let complaints = File::from(complaints);
                Ok((Self { process, program: program.to_owned(), ready: Some(ready), complaints }, first))
            }
        }
    }

    /// Waits until the network is there, and tells the first process. An error is the reason in words.
    pub(crate) fn attach(&mut self, ours: BorrowedFd<'_>) -> Result<(), String> {
        if !self.ready.take().is_some_and(is_ready) {
            let mut text = String::new();
            let _ = self.complaints.rewind().and_then(|()| self.complaints.read_to_string(&mut text));
            return Err(format!("{}: {}", self.program.display(), last_complaint(&text)));
        }
        wire::send(ours, b"ready", &[]).map_err(|errno| errno.to_string())
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
fn become_pasta(program: &Path, ours: BorrowedFd<'_>, report: &PipeWriter, complaints: &OwnedFd) -> ! {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let namespace = wire::receive(ours).ok().flatten().and_then(|(_, mut descriptors)| descriptors.pop());
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
