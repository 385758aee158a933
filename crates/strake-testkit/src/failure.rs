//! The one error of the test kit: a sentence for the person who reads the test's output.

use std::fmt;

/// Result of the test kit's functions.
pub type Outcome<T> = Result<T, Failure>;

/// Why a helper of the tests could not do its work. Tests only print it, so it is only text.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    /// A failure with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Wraps an error with what was being done: `… .map_err(Failure::at("read manifest"))`.
    pub fn at<E: fmt::Display>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |error| Self(format!("{doing}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

// `unwrap()` in a test prints the debug form; the text with its line breaks is what helps there.
impl fmt::Debug for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}
