//! Ports of the loopback interface that nobody else takes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net;

use crate::{Failure, Outcome};

/// Where ports are looked for: above the well known ones, and below those that the kernel deals out to whoever asks for
/// any, servers and outgoing connections alike.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A TCP port of 127.0.0.1 that belongs to one test until this is dropped. As long as that test serves nothing there,
/// connections are refused; and a server that was stopped finds its port again.
#[derive(Debug)]
pub struct Port {
    number: u16,
    // The kernel drops the name of a killed test as well. Names belong to a network as ports do.
    _claim: net::UnixDatagram,
}

impl Port {
    /// A port that no other test has and nobody listens at.
    ///
    /// # Errors
    /// When all are taken.
    pub fn claim() -> Outcome<Self> {
        // Tests that start at the same time begin to look at different places.
        let start = std::process::id() * 61 % u32::from(RANGE.end - RANGE.start);
        let start = RANGE.start + u16::try_from(start).unwrap_or_default();
        let free = (start..RANGE.end).chain(RANGE.start..start).find_map(Self::try_claim);
        free.ok_or_else(|| Failure::new(format!("all ports of {RANGE:?} are taken")))
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }

    fn try_claim(number: u16) -> Option<Self> {
        let name = net::SocketAddr::from_abstract_name(format!("strake-test-port-{number}")).ok()?;
        let claim = net::UnixDatagram::bind_addr(&name).ok()?;
        // No test has it; a program that knows nothing of tests may.
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).ok()?;
        Some(Self { number, _claim: claim })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_port_is_claimed_once_and_free_again_afterwards() {
        let (one, two) = (Port::claim().unwrap(), Port::claim().unwrap());
        assert_ne!(one.number(), two.number());
        let refused = TcpStream::connect(one.address()).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let number = one.number();
        assert!(Port::try_claim(number).is_none(), "it has an owner");
        drop(one);
        let foreign = Port::try_claim(number).map(|port| TcpListener::bind(port.address()).unwrap());
        assert!(foreign.is_some() && Port::try_claim(number).is_none(), "somebody listens there");
    }
}
