//! Which of its commands a stage carries out, told by the stage itself.

use std::io::Read;
use std::path::PathBuf;

use strake_frontend::stagefile::Command;
use strake_store::{Store, TempDir};

use crate::failure::Failure;

/// As many digits as any place has, and a little more.
const LONGEST: u64 = 32;

/// The file that a stage writes the place of its command into.
#[derive(Debug)]
pub(super) struct At(TempDir);

impl At {
    /// An empty one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn new(store: &Store) -> Result<Self, Failure> {
        let at = Self(store.temp_dir()?);
        let path = at.path();
        std::fs::write(&path, "").map_err(|error| Failure::file("create", &path, &error))?;
        Ok(at)
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        self.0.path().join("at")
    }

    /// The command that was begun last. The commands themselves can write here whatever they like; what is no place
    /// says nothing.
    pub(super) fn command<'a>(&self, commands: &'a [Command]) -> Option<&'a Command> {
        let mut text = String::new();
        std::fs::File::open(self.path()).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
        commands.get(text.trim_end().parse::<usize>().ok()?)
    }
}

impl Drop for At {
    fn drop(&mut self) {
        // An empty folder is removed on the spot; if this fails, it is discarded with what is in it.
        drop(std::fs::remove_file(self.path()));
    }
}
