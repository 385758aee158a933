//! Progress of transfers as events, and stopping them.

use std::io::{self, Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strake_registry::Progress;

use crate::event::{Event, TransferId, TransferKind};
use crate::request::Environment;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// How often a transfer tells how far it is: as often as a terminal is worth redrawing.
const INTERVAL: Duration = Duration::from_millis(100);

/// A transfer that is being shown; over when dropped.
pub(crate) struct Transfer<'a> {
    env: &'a Environment<'a>,
    id: TransferId,
    moved: AtomicU64,
    told: Mutex<Instant>,
    failed: AtomicBool,
}

impl<'a> Transfer<'a> {
    pub(crate) fn start(
        env: &'a Environment<'a>,
        kind: TransferKind,
        what: String,
        total: Option<u64>,
    ) -> Self {
        let id = TransferId(NEXT.fetch_add(1, Ordering::Relaxed));
        (env.events)(Event::TransferStarted { id, what, kind, total });
        Self {
            env,
            id,
            moved: AtomicU64::new(0),
            told: Mutex::new(Instant::now()),
            failed: AtomicBool::new(false),
        }
    }

    /// Notes whether it failed: nothing was moved, or not all.
    pub(crate) fn ended<T, E>(&self, result: Result<T, E>) -> Result<T, E> {
        self.failed.store(result.is_err(), Ordering::Relaxed);
        result
    }

    /// Counts what is written through it and stops when the build is.
    pub(crate) fn writer<'r, W: Write>(&'r self, writer: W) -> CountingWriter<'r, 'a, W> {
        CountingWriter { writer, transfer: self }
    }

    /// Counts what is read through it and stops when the build is, or when `stop` says so.
    pub(crate) fn reader<'r, R: Read>(
        &'r self,
        reader: R,
        stop: &'r AtomicBool,
    ) -> CountingReader<'r, 'a, R> {
        CountingReader { reader, transfer: self, stop }
    }
}

/// See [`Transfer::writer`].
pub(crate) struct CountingWriter<'r, 'a, W> {
    writer: W,
    transfer: &'r Transfer<'a>,
}

impl<W: Write> Write for CountingWriter<'_, '_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.transfer.env.cancellation.is_requested() {
            return Err(io::Error::other("stopped"));
        }
        let count = self.writer.write(bytes)?;
        self.transfer.advance(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// See [`Transfer::reader`].
pub(crate) struct CountingReader<'r, 'a, R> {
    reader: R,
    transfer: &'r Transfer<'a>,
    stop: &'r AtomicBool,
}

impl<R: Read> Read for CountingReader<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) || self.transfer.env.cancellation.is_requested() {
            return Err(io::Error::other("stopped"));
        }
        let count = self.reader.read(buffer)?;
        self.transfer.advance(count as u64);
        Ok(count)
    }
}

impl Progress for Transfer<'_> {
    fn advance(&self, bytes: u64) {
        let moved = self.moved.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Whoever does not get the lock has nothing new to tell.
        let Ok(mut told) = self.told.try_lock() else { return };
        if told.elapsed() >= INTERVAL {
            *told = Instant::now();
            (self.env.events)(Event::TransferProgress(self.id, moved));
        }
    }

    fn restart(&self) {
        self.moved.store(0, Ordering::Relaxed);
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        let moved = self.moved.load(Ordering::Relaxed);
        if moved > 0 {
            (self.env.events)(Event::TransferProgress(self.id, moved));
        }
        (self.env.events)(match self.failed.load(Ordering::Relaxed) {
            true => Event::TransferFailed(self.id),
            false => Event::TransferFinished(self.id, moved > 0),
        });
    }
}
