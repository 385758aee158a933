use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use strake_oci::{Descriptor, Digest, Hasher, Reference};
use tokio::sync::mpsc;

use crate::blob::{Givers, PIECES_AHEAD, Pump};
use crate::transport::{Core, Endpoint};
use crate::{ErrorKind, RegistryError};

/// A blob while it arrives.
///
/// The last piece is given only after size and digest of the whole were found right, so whoever gets all the bytes
/// that the descriptor promises has the true content. Whoever may stop before the end (a tar reader does) must call
/// [`BlobReader::finish`] before trusting anything. Errors hold a [`RegistryError`]
/// ([`RegistryError::from_io`]).
///
/// A reader that is neither read nor dropped holds one of the downloads that may run at once per host; readers are
/// served in the order in which they were opened.
#[derive(Debug)]
pub struct BlobReader {
    receiver: mpsc::Receiver<Bytes>,
    failed: tokio::sync::oneshot::Receiver<RegistryError>,
    operation: String,
    descriptor: Descriptor,
    givers: Givers,
    hasher: Option<Hasher>,
    received: u64,
    piece: Bytes,
    /// How it ended, told again to whoever asks again.
    ended: Option<RegistryError>,
}

impl BlobReader {
    /// The reader, the pump that feeds it, and where the pump's failure is to be told.
    pub(crate) fn new(
        core: &Arc<Core>,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> (Self, Pump, tokio::sync::oneshot::Sender<RegistryError>) {
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let (failure, failed) = tokio::sync::oneshot::channel();
        let name = format!("{}/{}", reference.registry(), reference.repository());
        let operation = format!("pull blob {name}@{}", descriptor.digest);
        let givers = Givers::default();
        let pump = Pump {
            core: Arc::clone(core),
            operation: operation.clone(),
            sources: core.sources(reference),
            digest: descriptor.digest,
            size: descriptor.size,
            sender,
            givers: Arc::clone(&givers),
            offset: 0,
        };
        let reader = Self {
            receiver,
            failed,
            operation,
            descriptor: descriptor.clone(),
            givers,
            hasher: Some(Hasher::new()),
            received: 0,
            piece: Bytes::new(),
            ended: None,
        };
        (reader, pump, failure)
    }

    /// Reads what is left and makes sure that the whole was right.
    ///
    /// # Errors
    /// As reading to the end.
    pub fn finish(mut self) -> Result<(), RegistryError> {
        while self.next_piece()?.is_some() {}
        Ok(())
    }

    /// The next piece, verified if it is the last one.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Bytes>, RegistryError> {
        if !self.piece.is_empty() {
            return Ok(Some(std::mem::take(&mut self.piece)));
        }
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        let piece = self.receive();
        piece.inspect_err(|error| self.ended = Some(error.clone()))
    }

    fn receive(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let Some(hasher) = &mut self.hasher else {
            return Ok(None);
        };
        let piece = self.receiver.blocking_recv();
        if let Some(piece) = &piece {
            hasher.update(piece);
            self.received += piece.len() as u64;
        } else if let Ok(error) = self.failed.try_recv() {
            return Err(error);
        }
        if self.received < self.descriptor.size {
            let interrupted =
                || RegistryError::new(ErrorKind::Cancelled, self.operation.as_str(), "interrupted");
            return piece.map(Some).ok_or_else(interrupted);
        }
        match self.hasher.take().map(Hasher::finish) {
            Some(digest) if digest == self.descriptor.digest => Ok(piece),
            digest => Err(self.wrong_digest(digest)),
        }
    }

    fn wrong_digest(&self, digest: Option<Digest>) -> RegistryError {
        let givers = std::mem::take(&mut *self.givers.lock().unwrap_or_else(PoisonError::into_inner));
        let mut names: Vec<&str> = givers.iter().map(|giver| giver.host.authority.as_str()).collect();
        names.dedup();
        let digest = digest.map_or_else(String::new, |digest| digest.to_string());
        let detail = format!("{} gave content with digest {digest}", names.join(" and "));
        let error = RegistryError::new(ErrorKind::Corrupt, self.operation.as_str(), detail);
        let mirrors: Vec<&Endpoint> = givers.iter().filter(|giver| giver.is_mirror).collect();
        if mirrors.is_empty() {
            return error.hint("its copy is damaged: push it again");
        }
        mirrors.iter().for_each(|mirror| mirror.host.distrusted.store(true, Ordering::Relaxed));
        error.hint("this mirror is not asked again; try again")
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            match self.next_piece()? {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
