//! A merged tree to read.
use crate::RootDir;

/// The merged tree of some layers, read-only. It is mounted nowhere and ends when dropped.
#[derive(Debug)]
pub struct View {
    root: RootDir,
}

impl View {
    /// The tree.
    pub fn root(&self) -> &RootDir {
        &self.root
    }
}
