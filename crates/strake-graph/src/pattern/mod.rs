//! Path patterns: the wildcards of `COPY`, the rules of an ignore file, the filters of a git mapping.
//!
//! All use the wildcards of Go's `filepath.Match` plus `**`, anchored at the root, on byte strings: names need
//! not be UTF-8. A [`Glob`] is compiled to a list of tokens and matched by following all possible states at once, so the time
//! is bounded by the product of the lengths of pattern and path, whatever the pattern. Nothing here reads a disk.

mod filter;
#[cfg(test)]
mod filter_tests;
mod glob;
mod ignore;
#[cfg(test)]
mod tests;

pub use filter::PathFilter;
pub use glob::{Glob, GlobError};
pub use ignore::{IgnoreError, IgnoreErrorReason, IgnoreRules};

/// Makes a path relative and plain: separators once, no `.` components, `..` resolved as text and never above the
/// root. The root itself is the empty string.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            name => kept.push(name),
        }
    }
    kept.join(&b'/')
}
