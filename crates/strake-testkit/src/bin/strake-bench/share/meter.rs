//! A registry behind a wire of which every byte is counted, and that can be made long.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use strake_testkit::{Failure, Outcome, Registry};

/// How many pieces of 64 KiB may be on the wire in one direction of one connection: 64 MiB, more than any window.
const ON_THE_WIRE: usize = 1024;

/// What has gone over the wire.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    /// Bytes in both directions, with the heads of HTTP and without those of TCP.
    pub(crate) bytes: usize,
    /// Requests of HTTP that the registry answered.
    pub(crate) requests: usize,
}

/// A registry that is spoken to over the wire only.
#[derive(Debug)]
pub(crate) struct Meter {
    address: SocketAddr,
    registry: Registry,
    wire: Arc<Wire>,
}

#[derive(Debug)]
struct Wire {
    registry: String,
    bytes: AtomicUsize,
    round_trip_micros: AtomicU64,
    is_closed: AtomicBool,
}

impl Meter {
    /// An empty registry at the end of a short wire.
    pub(crate) fn start() -> Outcome<Self> {
        let registry = Registry::start()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Failure::at("listen"))?;
        let address = listener.local_addr().map_err(Failure::at("ask for the port"))?;
        let wire = Arc::new(Wire {
            registry: registry.address(),
            bytes: AtomicUsize::new(0),
            round_trip_micros: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
        });
        let served = Arc::clone(&wire);
        std::thread::spawn(move || served.serve(&listener));
        Ok(Self { address, registry, wire })
    }

    /// `ADDRESS:PORT/rest`.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// From now on an answer takes this much longer, and a connection as long to be made.
    pub(crate) fn set_round_trip(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.wire.round_trip_micros.store(micros, Ordering::Relaxed);
    }

    /// What was moved since the start.
    pub(crate) fn moved(&self) -> Moved {
        // The registry writes the line of a request after its answer.
        std::thread::sleep(Duration::from_millis(30));
        let requests = self.registry.requests_from(Ipv4Addr::LOCALHOST.into()).len();
        Moved { bytes: self.wire.bytes.load(Ordering::Relaxed), requests }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.wire.is_closed.store(true, Ordering::Relaxed);
        // Wakes the listener, which then ends.
        drop(TcpStream::connect(self.address));
    }
}

impl Wire {
    fn serve(self: Arc<Self>, listener: &TcpListener) {
        while let Ok((client, _)) = listener.accept() {
            if self.is_closed.load(Ordering::Relaxed) {
                return;
            }
            let wire = Arc::clone(&self);
            // A connection that breaks is its client's business, which says so.
            std::thread::spawn(move || drop(wire.connect(&client)));
        }
    }

    fn connect(self: Arc<Self>, client: &TcpStream) -> std::io::Result<()> {
        let registry = TcpStream::connect(&self.registry)?;
        for stream in [client, &registry] {
            stream.set_nodelay(true)?;
        }
        // What the handshake of a long wire would have taken before the first byte could be sent.
        let handshake = self.round_trip();
        self.carry(client.try_clone()?, registry.try_clone()?, handshake);
        self.carry(registry, client.try_clone()?, Duration::ZERO);
        Ok(())
    }

    fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip_micros.load(Ordering::Relaxed))
    }

    /// Carries what one end says to the other, later by half a round trip.
    fn carry(self: &Arc<Self>, mut from: TcpStream, to: TcpStream, handshake: Duration) {
        let (sender, receiver) = sync_channel(ON_THE_WIRE);
        let wire = Arc::clone(self);
        std::thread::spawn(move || wire.take(&mut from, handshake, &sender));
        std::thread::spawn(move || deliver(to, &receiver));
    }

    fn take(&self, from: &mut TcpStream, handshake: Duration, sender: &SyncSender<(Instant, Vec<u8>)>) {
        let connected = Instant::now() + handshake;
        let mut piece = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            self.bytes.fetch_add(length, Ordering::Relaxed);
            let arrives = Instant::now().max(connected) + self.round_trip() / 2;
            if sender.send((arrives, piece[..length].to_vec())).is_err() {
                return;
            }
        }
    }
}

fn deliver(mut to: TcpStream, pieces: &Receiver<(Instant, Vec<u8>)>) {
    for (arrives, piece) in pieces {
        std::thread::sleep(arrives.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            return;
        }
    }
    // The other end may be gone already.
    drop(to.shutdown(Shutdown::Write));
}
