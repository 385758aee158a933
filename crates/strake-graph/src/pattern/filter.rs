use super::{Glob, GlobError};

/// Which paths of a tree take part: those that an include matches, unless an exclude matches them too.
///
/// Paths and patterns are relative to the same root. A pattern matches a path in three ways: it is the path or a
/// folder above it letter for letter, or as a [`Glob`] it matches the path, or a folder above it. Slashes at the end
/// of a pattern mean nothing. With no include, everything takes part that no exclude matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathFilter {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    literal: Glob,
    glob: Glob,
}

impl PathFilter {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// At the first pattern that is not well formed.
    pub fn new(
        include: impl IntoIterator<Item = impl AsRef<[u8]>>,
        exclude: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Self, GlobError> {
        Ok(Self {
            include: include.into_iter().map(Pattern::new).collect::<Result<_, _>>()?,
            exclude: exclude.into_iter().map(Pattern::new).collect::<Result<_, _>>()?,
        })
    }

    /// Whether every path takes part.
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether a file or folder takes part.
    pub fn matches(&self, path: &[u8]) -> bool {
        let included = self.include.is_empty() || self.include.iter().any(|pattern| pattern.matches(path));
        included && !self.exclude.iter().any(|pattern| pattern.matches(path))
    }

    /// Whether anything below a folder can take part; the empty path is the root. A walk need not enter a folder
    /// for which this is false.
    pub fn may_match_below(&self, folder: &[u8]) -> bool {
        if !folder.is_empty() && self.exclude.iter().any(|pattern| pattern.matches(folder)) {
            return false;
        }
        self.include.is_empty() || self.include.iter().any(|pattern| pattern.may_match_below(folder))
    }
}

impl Pattern {
    fn new(text: impl AsRef<[u8]>) -> Result<Self, GlobError> {
        let mut text = text.as_ref();
        while let Some(shorter) = text.strip_suffix(b"/") {
            text = shorter;
        }
        Ok(Self { literal: Glob::literal(text), glob: Glob::new(text)? })
    }

    fn matches(&self, path: &[u8]) -> bool {
        self.literal.matches_or_parent(path) || self.glob.matches_or_parent(path)
    }

    fn may_match_below(&self, folder: &[u8]) -> bool {
        let reaches_in = self.literal.may_match_below(folder) || self.glob.may_match_below(folder);
        reaches_in || self.matches(folder)
    }
}
