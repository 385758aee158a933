use super::{Glob, GlobError, clean};

/// The rules of an ignore file (`.dockerignore`): which paths of a build context do not take part.
///
/// Patterns are anchored at the root of the context; what matches a folder matches all below it; the last rule that
/// matches decides; a rule with `!` brings paths back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IgnoreRules {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    glob: Glob,
    exception: bool,
    line: u32,
}

/// A line of an ignore file makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct IgnoreError {
    /// Which line, from 1.
    pub line: u32,
    /// What is wrong with it.
    pub reason: IgnoreErrorReason,
}

/// What is wrong with a line of an ignore file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreErrorReason {
    /// A `!` with nothing behind it.
    #[error("`!` needs a pattern that says what to bring back")]
    LoneException,
    /// Not a pattern.
    #[error(transparent)]
    Pattern(GlobError),
}

impl IgnoreRules {
    /// Reads the bytes of an ignore file.
    ///
    /// Lines that begin with `#` and empty ones are skipped, white space around a pattern and a byte order mark in
    /// front of the file are dropped, patterns are made plain (`./a//b/` is `a/b`) and a leading `/` means nothing.
    ///
    /// # Errors
    /// At the first line that is a lone `!` or a malformed pattern.
    pub fn parse(bytes: &[u8]) -> Result<Self, IgnoreError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut rules = Vec::new();
        for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let rule = Rule::parse(line, text).map_err(|reason| IgnoreError { line, reason })?;
            rules.extend(rule);
        }
        Ok(Self { rules })
    }

    /// Whether nothing is ignored.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a path does not take part. Paths are relative to the root of the context and plain.
    pub fn ignores(&self, path: &[u8]) -> bool {
        self.last_match(path).is_some_and(|rule| !self.rules[rule].exception)
    }

    /// The line of the rule that keeps a path out, to tell people.
    pub fn ignored_by_line(&self, path: &[u8]) -> Option<u32> {
        let rule = &self.rules[self.last_match(path)?];
        (!rule.exception).then_some(rule.line)
    }

    /// Whether something below the folder may take part: it is not ignored itself, or a later exception reaches in.
    pub fn may_descend(&self, folder: &[u8]) -> bool {
        let Some(last) = self.last_match(folder) else { return true };
        self.rules[last].exception
            || self.rules[last + 1..].iter().any(|rule| rule.exception && rule.glob.may_match_below(folder))
    }

    fn last_match(&self, path: &[u8]) -> Option<usize> {
        self.rules.iter().rposition(|rule| rule.glob.matches_or_parent(path))
    }
}

impl Rule {
    fn parse(line: u32, text: &[u8]) -> Result<Option<Self>, IgnoreErrorReason> {
        if text.starts_with(b"#") {
            return Ok(None);
        }
        let text = text.trim_ascii();
        let (exception, pattern) = match text.strip_prefix(b"!") {
            Some(pattern) => (true, pattern.trim_ascii()),
            None => (false, text),
        };
        if pattern.is_empty() {
            return if exception { Err(IgnoreErrorReason::LoneException) } else { Ok(None) };
        }
        let pattern = plain(pattern);
        // For historical reasons a pattern that names the root itself says nothing.
        if pattern.is_empty() {
            return Ok(None);
        }
        let glob = Glob::new(pattern).map_err(IgnoreErrorReason::Pattern)?;
        Ok(Some(Self { glob, exception, line }))
    }
}

/// As [`clean`], but a relative pattern that leads out of the context keeps its `..`, and so matches nothing.
fn plain(pattern: &[u8]) -> Vec<u8> {
    if pattern.starts_with(b"/") {
        return clean(pattern);
    }
    let mut depth = 0_i64;
    let mut lowest = 0;
    for component in pattern.split(|byte| *byte == b'/') {
        depth += match component {
            b"" | b"." => 0,
            b".." => -1,
            _ => 1,
        };
        lowest = lowest.min(depth);
    }
    if lowest < 0 { b"..".to_vec() } else { clean(pattern) }
}
