//! How much a template may do.
//!
//! A template comes with the source it builds, so it may be hostile, and a template language with loops and recursion can
//! keep a machine busy for ever. Three things are counted: what comes out, how deep calls are nested, and *work*: every node
//! evaluated and every byte that a function reads or makes. Memory is a part of work, since what is made has been paid for.

use std::cell::Cell;

use crate::error::Fault;

/// Bounds of one rendering; going beyond one is an error of kind [`crate::ErrorKind::Limit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest text in bytes: of the whole rendering and of any single value. 16 MiB by default.
    pub output: usize,
    /// Units of work, about a byte touched each. 256 Mi by default, which is a few seconds at the most.
    pub work: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { output: 16 << 20, work: 256 << 20 }
    }
}

/// How deep `template`, `include` and `tpl` may call each other. Go's own limit is 100,000, on a stack that grows.
pub(crate) const MAX_CALLS: usize = 250;

/// How deep blocks and parentheses may be nested at the moment of evaluation, over all templates that call each other.
/// Each costs a few kilobytes of stack; the tests reach this bound on a thread of 2 MiB without optimisation.
pub(crate) const MAX_FRAMES: usize = 450;

/// How deep blocks and parentheses may be nested in the text of a template.
pub(crate) const MAX_NESTING: usize = 64;

/// How deep lists and maps may be nested where one is printed, compared, copied or merged.
pub(crate) const MAX_VALUE_DEPTH: usize = 100;

/// What evaluating one node costs, whatever it is.
pub(crate) const NODE: usize = 32;

/// What a new map costs: even a small one takes as many bytes.
pub(crate) const MAP: usize = 512;

/// The account of one rendering.
pub(crate) struct Meter {
    left: Cell<u64>,
    output: usize,
}

impl Meter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { left: Cell::new(limits.work), output: limits.output }
    }

    /// Pays for work about to be done.
    pub(crate) fn charge(&self, units: usize) -> Result<(), Fault> {
        let left = self.left.get().checked_sub(units as u64);
        self.left.set(left.unwrap_or(0));
        match left {
            Some(_) => Ok(()),
            None => Err(Fault::limit("the template does too much work")
                .hint("look for a loop or a recursion that does not end")),
        }
    }

    /// Says whether a text may become this long.
    pub(crate) fn fits(&self, length: usize) -> Result<(), Fault> {
        if length > self.output {
            return Err(Fault::limit(format!("the text gets longer than {} bytes", self.output)));
        }
        Ok(())
    }

    /// The same, and pays for it.
    pub(crate) fn text(&self, length: usize) -> Result<(), Fault> {
        self.fits(length)?;
        self.charge(length)
    }

    /// The same for a text of `count` pieces of `length` bytes.
    pub(crate) fn product(&self, count: usize, length: usize) -> Result<(), Fault> {
        self.text(count.saturating_mul(length))
    }
}

/// Refuses to go deeper into a value than can be meant.
pub(crate) fn check_value_depth(depth: usize) -> Result<(), Fault> {
    if depth > MAX_VALUE_DEPTH {
        return Err(Fault::limit(format!("a value is nested more than {MAX_VALUE_DEPTH} levels deep"))
            .hint("a map may have been put into itself"));
    }
    Ok(())
}
