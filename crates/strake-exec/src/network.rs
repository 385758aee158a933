//! A network of the container's own, with access outwards through `pasta`.
//!
//! `pasta` copies the addresses of the host's default interface into the container's network namespace and carries
//! its connections with ordinary sockets, so no privilege over the host's network is needed, and none is changed.

use std::fs::File;
use std::io::{PipeReader, Read, Seek};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::MemfdFlags;

use crate::sys;
use crate::wire;

/// Inside the container, DNS queries to this address are answered by the host's resolver. Link-local, so that it
/// cannot be an address that anybody else uses.
const FORWARDED_RESOLVER: &str = "169.254.1.1";

/// How long `pasta` may take to set up the namespace; it needs about 10 ms.
const START_SECONDS: i64 = 10;

/// A running `pasta`, ended when dropped.
#[derive(Debug)]
pub(crate) struct Pasta(Child);

impl Pasta {
    /// Waits for the network namespace that the first process sends through `first`, connects it, and tells the
    /// first process when it is ready.
    pub(crate) fn attach(program: &Path, first: BorrowedFd<'_>) -> Result<Self, String> {
        let message = wire::receive(first).map_err(|errno| errno.to_string())?;
        let (_, mut descriptors) = message.ok_or("the container ended before it had a network namespace")?;
        let namespace = descriptors.pop().ok_or("no network namespace was sent")?;
        let (ready, report) = std::io::pipe().map_err(|error| error.to_string())?;
        let mut complaints = File::from(
            rustix::fs::memfd_create("strake-pasta", MemfdFlags::CLOEXEC)
                .map_err(|errno| errno.to_string())?,
        );
        let mut command = Command::new(program);
        // pasta gives up the right to look into other processes, so the namespace is its standard input; it writes
        // its pid to standard output when everything is set up, which is how we know.
        command
            .args(["--config-net", "--foreground", "--quiet", "--no-map-gw", "--runas", "0:0"])
            .args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"])
            .args(["--dns-forward", FORWARDED_RESOLVER])
            .args(["--pid", "/dev/stdout", "--netns-only", "--netns", "/proc/self/fd/0"])
            .env_clear()
            .stdin(Stdio::from(namespace))
            .stdout(Stdio::from(report))
            .stderr(Stdio::from(complaints.try_clone().map_err(|error| error.to_string())?));
        let child = sys::die_with_parent(&mut command).spawn();
        // The command holds our copy of the pipe's writing end, without whose closing there is no end of file.
        drop(command);
        let pasta = Self(child.map_err(|error| format!("start {}: {error}", program.display()))?);
        if !is_ready(ready) {
            let mut text = String::new();
            let _ = complaints.rewind().and_then(|()| complaints.read_to_string(&mut text));
            return Err(format!("{}: {}", program.display(), last_complaint(&text)));
        }
        wire::send(first, b"ready", &[]).map_err(|errno| errno.to_string())?;
        Ok(pasta)
    }
}

impl Drop for Pasta {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
    let is_nameserver = |line: &str| line.split_whitespace().next() == Some("nameserver");
    let is_loopback = |line: &str| {
        let address = line.split_whitespace().nth(1).unwrap_or_default();
        let address = address.split('%').next().unwrap_or_default();
        address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let mut kept = String::new();
    let mut nameservers = 0;
    for line in text.lines().filter(|line| !(is_nameserver(line) && is_loopback(line))) {
        nameservers += usize::from(is_nameserver(line));
        kept.push_str(line);
        kept.push('\n');
    }
    if nameservers == 0 {
        kept.push_str(&format!("nameserver {FORWARDED_RESOLVER}\n"));
    }
    kept.into_bytes()
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
