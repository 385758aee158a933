//! The log of a step: what it said, up to a limit, so that a step that never stops talking does not fill the store.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// How much of a step's output is kept on disk, in bytes. Whoever watches sees all of it.
const MOST: u64 = 64 << 20;

/// What a log gives back when it cannot grow, in bytes: without it there would be no room to record anything, and so
/// none to prune.
const ROOM: u64 = 1 << 20;

/// A log being written.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    length: u64,
    most: u64,
    /// Whether no more is kept, and why if that is an error.
    end: Option<io::Result<()>>,
}

impl Log {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, length: 0, most: MOST, end: None })
    }

    /// Keeps a piece of output; of one that goes beyond the limit, what is below it and a line that says so.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.end.is_some() {
            return;
        }
        let left = usize::try_from(self.most - self.length).unwrap_or(usize::MAX);
        let kept = &bytes[..bytes.len().min(left)];
        let written = self.file.write_all(kept);
        self.length += kept.len() as u64;
        if written.is_err() {
            self.give_back();
            self.end = Some(written);
        } else if kept.len() < bytes.len() {
            let line = format!("\n[the rest is not kept: the log has its {} MiB]\n", self.most >> 20);
            self.end = Some(self.file.write_all(line.as_bytes()));
        }
    }

    /// Ends the log.
    ///
    /// # Errors
    /// When some of the output could not be written, although the limit was not reached.
    pub(super) fn finish(self) -> io::Result<()> {
        self.end.unwrap_or(Ok(()))
    }

    fn give_back(&self) {
        let length = self.file.metadata().map_or(0, |metadata| metadata.len());
        // Fails only where nothing can be changed any more, and then nothing can be given back.
        let _ = self.file.set_len(length.saturating_sub(ROOM));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(most: u64, pieces: &[&str]) -> (String, io::Result<()>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = Log { most, ..Log::create(&path).unwrap() };
        pieces.iter().for_each(|piece| log.write(piece.as_bytes()));
        let end = log.finish();
        (std::fs::read_to_string(path).unwrap(), end)
    }

    #[test]
    fn what_goes_beyond_the_limit_is_not_kept_and_that_is_said() {
        assert_eq!(log(8, &["one\n", "two\n"]).0, "one\ntwo\n");
        let (text, end) = log(6, &["one\n", "two\n", "three\n"]);
        assert_eq!(text, "one\ntw\n[the rest is not kept: the log has its 0 MiB]\n");
        assert!(end.is_ok());
        assert!(log(4, &["one\n", "", "two\n"]).0.starts_with("one\n\n[the rest"));
    }

    #[test]
    fn a_log_that_cannot_be_written_says_so_once() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut log = Log { file: full, length: 0, most: MOST, end: None };
        log.write(b"one");
        log.write(b"two");
        assert_eq!(log.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
