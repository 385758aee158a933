//! The files mounted over `/etc`: private to the container, in memory, writable by it.

use std::io::Read;

use crate::error::ExecError;
use crate::mount::Scratch;
use crate::network;
use crate::process::{Container, Network};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Far more than any resolver reads.
const RESOLV_CONF_LIMIT: u64 = 64 << 10;

/// What the container's `/etc/resolv.conf` says.
pub(super) struct Nameservers(Vec<u8>);

impl Nameservers {
    /// Takes over the host's, as far as they can be reached from the container's network.
    pub(super) fn read(network: Network) -> Self {
        if network == Network::None {
            return Self(Vec::new());
        }
        let mut text = Vec::new();
        // A host without the file has no resolvers, and neither has the container.
        if let Ok(file) = std::fs::File::open(RESOLV_CONF) {
            let _ = file.take(RESOLV_CONF_LIMIT).read_to_end(&mut text);
        }
        match network {
            Network::Private => Self(network::reachable_nameservers(&text)),
            Network::Host | Network::None => Self(text),
        }
    }
}

/// Writes the three files to the scratch.
pub(super) fn write(
    scratch: &Scratch,
    container: &Container,
    nameservers: &Nameservers,
) -> Result<(), ExecError> {
    drop(scratch.file("hosts", hosts(container).as_bytes(), 0o644)?);
    drop(scratch.file("hostname", format!("{}\n", container.hostname).as_bytes(), 0o644)?);
    drop(scratch.file("resolv.conf", &nameservers.0, 0o644)?);
    Ok(())
}

fn hosts(container: &Container) -> String {
    let mut text = format!("127.0.0.1\tlocalhost {}\n", container.hostname);
    text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\n");
    for entry in &container.hosts {
        text.push_str(&format!("{}\t{}\n", entry.address, entry.name));
    }
    text
}
