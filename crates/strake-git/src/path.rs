//! Paths inside a repository.

use crate::error::{GitError, quoted};

/// A path inside a repository, as `add` of a mapping names it: the root itself, a directory or a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepositoryPath(Vec<u8>);

impl RepositoryPath {
    /// Reads `/app/src`, `app/src/` or, for the root, `/`. Repeated and trailing slashes mean nothing.
    ///
    /// # Errors
    ///
    /// [`GitError::Path`] for components that no file in a repository can have: `.`, `..`, `.git`, NUL.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, GitError> {
        let text = text.as_ref();
        let mut path = Vec::with_capacity(text.len());
        for name in text.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            if let Some(reason) = wrong_name(name) {
                return Err(GitError::Path { path: quoted(text), reason });
            }
            push_name(&mut path, name);
        }
        Ok(Self(path))
    }

    /// The path without a leading slash; empty for the root.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its last component; empty for the root.
    #[must_use]
    pub fn base_name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or(&self.0)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }
}

/// Why a name must not occur in a tree, if so. A tree that has it was made to harm whoever checks it out.
pub(crate) fn wrong_name(name: &[u8]) -> Option<&'static str> {
    if name.is_empty() {
        Some("it has an empty component")
    } else if name == b"." || name == b".." {
        Some("it has a component . or ..")
    } else if name.eq_ignore_ascii_case(b".git") {
        Some("it has a component .git")
    } else if name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        Some("it has a component with a slash or NUL")
    } else {
        None
    }
}

/// Appends a component to a path.
pub(crate) fn push_name(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// A path and a component below it.
pub(crate) fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(path.len() + 1 + name.len());
    joined.extend_from_slice(path);
    push_name(&mut joined, name);
    joined
}

#[cfg(test)]
mod tests {
    use super::RepositoryPath;

    fn check(text: &str, expected: Option<&str>) {
        let path = RepositoryPath::parse(text).ok();
        assert_eq!(path.as_ref().map(RepositoryPath::as_bytes), expected.map(str::as_bytes), "{text}");
    }

    #[test]
    fn slashes_mean_nothing_and_traps_are_refused() {
        check("/", Some(""));
        check("/app//src/", Some("app/src"));
        check("a/.gitignore", Some("a/.gitignore"));
        for trap in ["/..", "a/../b", "./a", "/.git", "a/.GIT/config", "a\0b"] {
            check(trap, None);
        }
        assert_eq!(RepositoryPath::parse("/a/b.txt").unwrap().base_name(), b"b.txt");
        assert_eq!(RepositoryPath::parse("/").unwrap().base_name(), b"");
    }
}
