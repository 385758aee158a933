//! Sending content while it is made.

use std::collections::VecDeque;
use std::io::{self, Read};

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderMap;
use strake_oci::{Descriptor, Digest};

use crate::client::{BlobSource, Pushed, PushedBlob};
use crate::error::Failure;
use crate::failure::place;
use crate::push::Push;
use crate::upload::{Known, Reached, Session, Setback, read_piece};
use crate::{ErrorKind, RegistryError};

/// Bytes of a stream that are kept to send again: what may be on the way between us, the kernels and the registry's
/// disk when a connection breaks.
const REPLAY: usize = 16 << 20;

/// A stream that has no more bytes is sent when it is complete.
const SHORT: u64 = 1 << 20;

/// Says what the bytes of a stream were.
type Finish<'a> = Box<dyn FnOnce() -> io::Result<Descriptor> + Send + 'a>;

/// A stream of which the last part can be played again.
struct Tape<'a> {
    reader: Box<dyn Read + Send + 'a>,
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    /// Bytes read so far.
    end: u64,
    is_complete: bool,
}

impl Tape<'_> {
    /// The first byte that is still there.
    fn start(&self) -> u64 {
        self.end - self.kept_bytes as u64
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.is_complete {
            return Ok(None);
        }
        let piece = read_piece(&mut self.reader, u64::MAX)?;
        if piece.is_empty() {
            self.is_complete = true;
            return Ok(None);
        }
        self.end += piece.len() as u64;
        self.kept_bytes += piece.len();
        self.kept.push_back(piece.clone());
        while self.kept_bytes > REPLAY {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.kept_bytes -= oldest.len();
        }
        Ok(Some(piece))
    }

    /// What was read from `offset` on.
    fn replay(&self, offset: u64) -> Vec<Bytes> {
        let mut skip = usize::try_from(offset.saturating_sub(self.start())).unwrap_or(usize::MAX);
        let mut pieces = Vec::new();
        for piece in &self.kept {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            if skipped < piece.len() {
                pieces.push(piece.slice(skipped..));
            }
        }
        pieces
    }
}

impl Push<'_> {
    /// Sends content while it is made: one `PATCH` without a length, closed by a `PUT` with the digest. Where the
    /// content ends soon, it is sent as any of known digest.
    pub(crate) fn stream(&self, source: BlobSource<'_>) -> Result<PushedBlob, RegistryError> {
        let BlobSource::Stream { reader, finish } = source else {
            unreachable!("only called for a stream");
        };
        let mut tape = Tape { reader, kept: VecDeque::new(), kept_bytes: 0, end: 0, is_complete: false };
        if self.is_short(&mut tape)? {
            return self.short_stream(&tape, finish);
        }
        let mut session = Session { url: self.open()?, offset: 0 };
        let mut attempt = 0;
        let mut reached = Reached::default();
        while let Err(setback) = self.send_stream(&mut tape, &mut session) {
            let failure = match setback {
                Setback::Final(error) | Setback::TooLarge(error) => return Err(error),
                Setback::Broken(failure) | Setback::Lost(failure) => failure,
            };
            if reached.is_further(session.offset) {
                attempt = 0;
            }
            let error = failure.error.clone();
            self.pause(&mut attempt, failure)?;
            session = self.resume(&session, tape.end)?;
            if session.offset < tape.start() {
                return Err(
                    error.hint("too much of the content is lost to send it again; start the push anew")
                );
            }
        }
        let descriptor = self.finished(&tape, finish)?;
        self.close_stream(&session, descriptor.digest)?;
        Ok(PushedBlob { descriptor, how: Pushed::Uploaded })
    }

    /// Reads the beginning, and says whether that is all.
    fn is_short(&self, tape: &mut Tape<'_>) -> Result<bool, RegistryError> {
        while tape.end <= SHORT {
            if tape.next().map_err(|error| self.local("make the content", &error))?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends content that was made before its upload begins: its digest is known, which saves a request or two.
    fn short_stream(&self, tape: &Tape<'_>, finish: Finish<'_>) -> Result<PushedBlob, RegistryError> {
        let descriptor = self.finished(tape, finish)?;
        let bytes = tape.replay(0).concat();
        self.upload(&Known::Bytes(&bytes), &descriptor, None)?;
        Ok(PushedBlob { descriptor, how: Pushed::Uploaded })
    }

    /// What the content was, once all of it was read.
    fn finished(&self, tape: &Tape<'_>, finish: Finish<'_>) -> Result<Descriptor, RegistryError> {
        let descriptor = finish().map_err(|error| self.local("finish the content", &error))?;
        if descriptor.size != tape.end {
            let error =
                io::Error::other(format!("{} bytes came, {} were announced", tape.end, descriptor.size));
            return Err(self.local("finish the content", &error));
        }
        Ok(descriptor)
    }

    fn send_stream(&self, tape: &mut Tape<'_>, session: &mut Session) -> Result<(), Setback> {
        let url = session.url.clone();
        let from = session.offset;
        let document = self.feed(Method::PATCH, url, HeaderMap::new(), None, |feeder| {
            for piece in tape.replay(from) {
                if !feeder.give(Ok(piece)) {
                    return Ok(());
                }
            }
            while let Some(piece) = tape.next().map_err(|error| self.local("make the content", &error))? {
                let count = piece.len() as u64;
                if !feeder.give(Ok(piece)) {
                    return Ok(());
                }
                self.progress.advance(count);
            }
            Ok(())
        })?;
        self.patched(&document, session, tape.end)?;
        if tape.is_complete {
            return Ok(());
        }
        // Whatever it says, what was on its way may be lost: the session knows better.
        let detail = format!("{} answered before all was sent", place(&document.url));
        let error = RegistryError::new(ErrorKind::Unavailable, self.operation.as_str(), detail);
        Err(Setback::Broken(Failure::transient(error)))
    }

    fn close_stream(&self, session: &Session, digest: Digest) -> Result<(), RegistryError> {
        let error = match self.close(session, digest) {
            Ok(()) => return Ok(()),
            Err(Setback::Final(error) | Setback::TooLarge(error)) => error,
            Err(Setback::Broken(failure) | Setback::Lost(failure)) => failure.error,
        };
        // The first of several tries may have succeeded with its answer lost.
        if self.exists(digest)? { Ok(()) } else { Err(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upload::PIECE;

    #[test]
    fn a_tape_plays_its_last_part_again() {
        let content: Vec<u8> =
            (0..REPLAY + 3 * PIECE).map(|i| u8::try_from(i / 1000 % 251).unwrap()).collect();
        let reader = Box::new(content.as_slice());
        let mut tape = Tape { reader, kept: VecDeque::new(), kept_bytes: 0, end: 0, is_complete: false };
        while tape.next().unwrap().is_some() {}
        assert_eq!(tape.end, content.len() as u64);
        assert_eq!(tape.start(), 3 * PIECE as u64);
        for offset in [tape.start(), tape.start() + 1, tape.end - 1, tape.end] {
            let again = tape.replay(offset).concat();
            assert!(again == content[usize::try_from(offset).unwrap()..], "{offset}");
        }
    }
}
