//! What the caller remembers for us between runs.

use std::fmt;

/// What the caller remembers between runs: two functions over keys and small documents, for example rows of an index.
///
/// Everything put here can be computed again, so it may be forgotten at any time, and nothing has to be written at once.
/// A document that is damaged is computed again. One memo belongs to one repository.
#[derive(Clone, Copy)]
pub struct Memo<'a> {
    /// What was last put under a key.
    pub get: &'a dyn Fn(&str) -> Option<Vec<u8>>,
    /// Remembers a document under a key, in place of an earlier one.
    pub put: &'a dyn Fn(&str, &[u8]),
}

impl Memo<'_> {
    /// Remembers nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { get: &|_| None, put: &|_, _| () }
    }
}

impl fmt::Debug for Memo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}
