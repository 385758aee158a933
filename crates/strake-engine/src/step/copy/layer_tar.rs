//! The tar of a layer, made while the layer is written.
//!
//! The digest of a layer's tar is part of every image, and making it afterwards means opening and reading every file
//! once more. Whoever writes the files has their bytes in hand. Several threads write files, a tar has an order: each
//! thread takes the next batch in the order of the tar and hands in what the tar says of it; a batch that is ready
//! too early waits its turn here, and one thread hashes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use strake_oci::{DiffId, Hasher};
use strake_store::tar::{END, EntryHead, padding};

/// A piece grows to this many bytes before it is handed in.
const PIECE: usize = 512 << 10;
/// Finished batches that wait for an earlier one, at most.
const EARLY: usize = 6;
/// Pieces that wait to be hashed, at most.
const QUEUE: usize = 4;

/// The tar that a layer directory would be written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerTar {
    /// The digest of all its bytes.
    pub diff_id: DiffId,
    /// How many they are.
    pub size: u64,
}

/// Takes the pieces of all batches and passes them on in order.
#[derive(Debug)]
pub(super) struct TarOrder {
    state: Mutex<State>,
    changed: Condvar,
    free: Mutex<Vec<Vec<u8>>>,
}

#[derive(Debug)]
struct State {
    /// The batch whose pieces are passed on now.
    turn: usize,
    /// Complete batches with a later turn.
    early: BTreeMap<usize, Vec<u8>>,
    /// Whether a batch will never come.
    failed: bool,
    sender: Option<SyncSender<Vec<u8>>>,
}

/// The tar will not be complete, since another batch failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abandoned;

impl TarOrder {
    /// The order, and what is to be hashed by [`TarOrder::hash`] on a thread of its own.
    pub(super) fn new() -> (Self, Receiver<Vec<u8>>) {
        let (sender, pieces) = sync_channel(QUEUE);
        let state = State { turn: 0, early: BTreeMap::new(), failed: false, sender: Some(sender) };
        (Self { state: Mutex::new(state), changed: Condvar::new(), free: Mutex::default() }, pieces)
    }

    /// An empty piece.
    pub(super) fn piece(&self) -> Vec<u8> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Hands in a part of a batch that is not its last one; waits until it is the batch's turn. `piece` is empty
    /// afterwards.
    pub(super) fn part(&self, batch: usize, piece: &mut Vec<u8>) -> Result<(), Abandoned> {
        let full = std::mem::replace(piece, self.piece());
        let state = self.wait(|state| state.turn == batch)?;
        Self::send(&state, full)
    }

    /// Hands in the rest of a batch; waits only when too many others are early as well.
    pub(super) fn complete(&self, batch: usize, piece: Vec<u8>) -> Result<(), Abandoned> {
        let mut state = self.wait(|state| state.turn == batch || state.early.len() < EARLY)?;
        if state.turn != batch {
            state.early.insert(batch, piece);
            return Ok(());
        }
        Self::send(&state, piece)?;
        state.turn += 1;
        loop {
            let turn = state.turn;
            let Some(piece) = state.early.remove(&turn) else { break };
            Self::send(&state, piece)?;
            state.turn += 1;
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Wakes everybody: a batch will never come.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.failed = true;
        state.sender = None;
        self.changed.notify_all();
    }

    /// Says that nothing more comes; answers whether all batches were handed in.
    pub(super) fn finish(&self) -> bool {
        let mut state = self.lock();
        state.sender = None;
        !state.failed
    }

    /// Hashes until [`TarOrder::finish`] or [`TarOrder::abandon`].
    pub(super) fn hash(&self, pieces: Receiver<Vec<u8>>) -> LayerTar {
        let mut hasher = Hasher::new();
        let mut size = 0;
        for mut piece in pieces {
            hasher.update(&piece);
            size += piece.len() as u64;
            piece.clear();
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(piece);
        }
        hasher.update(&END);
        LayerTar { diff_id: DiffId(hasher.finish()), size: size + END.len() as u64 }
    }

    fn send(state: &State, piece: Vec<u8>) -> Result<(), Abandoned> {
        let sender = state.sender.as_ref().ok_or(Abandoned)?;
        sender.send(piece).map_err(|_| Abandoned)
    }

    fn wait(&self, until: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>, Abandoned> {
        let waiting = |state: &mut State| !state.failed && !until(state);
        let state = self.changed.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner);
        if state.failed { Err(Abandoned) } else { Ok(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the tar says of one batch.
#[derive(Debug)]
pub(super) struct TarPart<'t> {
    order: Option<&'t TarOrder>,
    batch: usize,
    piece: Vec<u8>,
}

impl<'t> TarPart<'t> {
    /// The part of a batch, or of no tar at all. `piece` is empty and saves an allocation.
    pub(super) fn new(order: Option<&'t TarOrder>, batch: usize, piece: Vec<u8>) -> Self {
        Self { order, batch, piece }
    }

    /// Whether anybody wants to know of the tar.
    pub(super) fn is_wanted(&self) -> bool {
        self.order.is_some()
    }

    /// The tar cannot be made here: something is not as it was said to be.
    pub(super) fn spoil(&mut self) {
        self.order.iter().for_each(|order| order.abandon());
        self.order = None;
        self.piece.clear();
    }

    /// What stands before the content of a file.
    pub(super) fn head(&mut self, head: &EntryHead<'_>, xattrs: &[(OsString, Vec<u8>)]) {
        if self.is_wanted() && head.encode(xattrs, &mut self.piece).is_err() {
            self.spoil();
        }
    }

    /// Reads `size` bytes into memory, until [`TarPart::keep_small`] takes them or [`TarPart::spoil`] drops them;
    /// answers nothing when the file has fewer.
    pub(super) fn read_small(&mut self, file: &mut File, size: u64) -> io::Result<Option<&[u8]>> {
        let start = self.piece.len();
        let size = usize::try_from(size).map_err(io::Error::other)?;
        // Some file systems say of every file that it is empty.
        self.piece.resize(start + size.max(1), 0);
        let mut length = 0;
        while length < size.max(1) {
            match file.read(&mut self.piece[start + length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.piece.truncate(start + length);
        Ok((length == size).then_some(&self.piece[start..]))
    }

    /// Takes the last `size` bytes that were read as the content of the file.
    pub(super) fn keep_small(&mut self, size: u64) {
        if self.is_wanted() {
            self.pad(size);
        } else {
            self.piece.clear();
        }
    }

    /// Bytes of the content of a file.
    pub(super) fn content(&mut self, bytes: &[u8]) {
        if self.is_wanted() {
            self.piece.extend_from_slice(bytes);
            self.pass_on();
        }
    }

    /// All the content of a file, which has `size` bytes; `go_on` is asked before each piece.
    pub(super) fn content_of(
        &mut self,
        mut file: File,
        size: u64,
        go_on: impl Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            go_on()?;
            let start = self.piece.len();
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
            self.piece.resize(start + wanted, 0);
            file.read_exact(&mut self.piece[start..])?;
            left -= wanted as u64;
            self.pass_on();
        }
        self.pad(size);
        Ok(())
    }

    /// Fills the last block of a file that has `size` bytes.
    pub(super) fn pad(&mut self, size: u64) {
        if self.is_wanted() {
            self.piece.extend_from_slice(padding(size));
            self.pass_on();
        }
    }

    /// As [`TarPart::pad`], for a file that was to have `size` bytes and had `length`.
    pub(super) fn pad_if(&mut self, size: u64, length: u64) {
        if size == length { self.pad(size) } else { self.spoil() }
    }

    /// Hands in what is left; answers an empty piece for the next batch.
    pub(super) fn complete(mut self) -> Vec<u8> {
        let Some(order) = self.order else {
            self.piece.clear();
            return self.piece;
        };
        // Whoever abandoned the tar knows why; the files are written all the same.
        let _ = order.complete(self.batch, self.piece);
        order.piece()
    }

    fn pass_on(&mut self) {
        if let Some(order) = self.order
            && self.piece.len() >= PIECE
            && order.part(self.batch, &mut self.piece).is_err()
        {
            self.order = None;
            self.piece.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use strake_oci::Digest;

    use super::*;

    fn expected(text: &[u8]) -> LayerTar {
        let bytes = [text, &END].concat();
        LayerTar { diff_id: DiffId(Digest::of(&bytes)), size: bytes.len() as u64 }
    }

    #[test]
    fn batches_are_hashed_in_their_order_whatever_the_order_they_come_in() {
        let (order, pieces) = TarOrder::new();
        let tar = std::thread::scope(|scope| {
            let hashing = scope.spawn(|| order.hash(pieces));
            order.complete(2, b"c".to_vec()).unwrap();
            order.complete(1, b"b".to_vec()).unwrap();
            order.part(0, &mut b"a".to_vec()).unwrap();
            order.complete(0, b"a".to_vec()).unwrap();
            order.finish();
            hashing.join().unwrap()
        });
        assert_eq!(tar, expected(b"aabc"));
    }

    #[test]
    fn who_waits_for_a_batch_that_failed_is_told() {
        let (order, _pieces) = TarOrder::new();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| order.part(1, &mut b"b".to_vec()));
            order.abandon();
            assert_eq!(waiting.join().unwrap(), Err(Abandoned));
        });
        assert_eq!(order.complete(0, Vec::new()), Err(Abandoned));
    }
}
