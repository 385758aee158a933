//! Why git cannot answer.

use std::path::PathBuf;

/// Why git cannot answer. What came out of a repository or a program is quoted with its control characters escaped.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no repository where one was named.
    #[error("find a git repository in {path} or above: {reason}")]
    NotARepository {
        /// Where the search began.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// The repository belongs to somebody else, and git does not trust it.
    #[error(
        "open the git repository of {path}: {reason}; if it is to be trusted: git config --global --add safe.directory {path}"
    )]
    Untrusted {
        /// The directory asked for.
        path: PathBuf,
        /// git's own words.
        reason: String,
    },
    /// The repository is kept in a way that is not understood.
    #[error("open the git repository {path}: {what}")]
    Unsupported {
        /// The git directory.
        path: PathBuf,
        /// What is not understood, and what to do.
        what: String,
    },
    /// No commit has this name.
    #[error("find {name} in {place}: {reason}")]
    UnknownRevision {
        /// What was looked for, in words.
        name: String,
        /// The repository, a path or a URL.
        place: String,
        /// Why it is not there, or what to write instead.
        reason: String,
    },
    /// An object that must exist does not.
    #[error("read {kind} {id}: it is not in the repository; {remedy}")]
    Missing {
        /// `commit`, `tree`, `blob`, `tag` or `object`.
        kind: &'static str,
        /// Its id.
        id: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// An object is not what its id promises.
    #[error("read {kind} {id}: {reason}; check the repository with: git fsck")]
    Corrupt {
        /// `commit`, `tree`, `blob`, `tag` or `object`.
        kind: &'static str,
        /// Its id.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something is larger than anybody needs it to be.
    #[error("read {what}: larger than the limit of {limit}")]
    TooLarge {
        /// What it is.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// A path that must not be used.
    #[error("use the path {path} of a repository: {reason}")]
    Path {
        /// The path, escaped.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A URL that must not be used.
    #[error("use the repository URL {url}: {reason}")]
    Url {
        /// The URL without its password.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A submodule cannot be read.
    #[error("read the submodule {path}: {reason}")]
    Submodule {
        /// Its path in the repository, escaped.
        path: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The git program failed.
    #[error("{doing}: git says: {message}")]
    Program {
        /// What it was started for.
        doing: String,
        /// The end of its error output.
        message: String,
    },
    /// Somebody else holds the lock of a clone for too long.
    #[error("wait for the lock {path}: still held after {seconds} s")]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the path.
        doing: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The caller asked to stop.
    #[error("canceled")]
    Canceled,
}

impl GitError {
    /// For `map_err`: what was being done when the system refused.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// Bytes from outside as one line of text: what is not printable is escaped, what is long is cut.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    const LONGEST: usize = 500;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]);
    let mut quoted: String = text.chars().flat_map(escaped).collect();
    if bytes.len() > LONGEST {
        quoted.push('…');
    }
    quoted
}

fn escaped(character: char) -> Vec<char> {
    if character.is_control() { character.escape_default().collect() } else { vec![character] }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn names_are_quoted_on_one_line() {
        assert_eq!(quoted(b"a\nb\x1b[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(quoted("ü".as_bytes()), "ü");
        assert_eq!(quoted(&[b'x'; 600]).chars().count(), 501);
    }
}
