//! Which files of a mapping are meant.

use std::fmt;

/// Which files of a mapping are meant. The rules are the caller's (stage-file.md §7.2); paths are relative to `add`,
/// separated by `/`, without a leading one, and need not be UTF-8. For a mapping of one file the path is its base name.
#[derive(Clone, Copy)]
pub struct Selection<'a> {
    /// Whether the file or symbolic link at this path is meant.
    pub selects: &'a dyn Fn(&[u8]) -> bool,
    /// Whether anything below the directory at this path can be meant; `false` saves reading it.
    pub may_descend: &'a dyn Fn(&[u8]) -> bool,
}

impl Selection<'_> {
    /// Every file.
    #[must_use]
    pub fn everything() -> Self {
        Self { selects: &|_| true, may_descend: &|_| true }
    }
}

impl fmt::Debug for Selection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Selection")
    }
}
