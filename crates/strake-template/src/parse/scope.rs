//! The variables known at a place of a template.

use std::collections::BTreeMap;
use std::rc::Rc;

/// The variables of one template, and the loops around the place.
#[derive(Default)]
pub(super) struct Scope {
    stack: Vec<Rc<str>>,
    /// How often each name is on the stack.
    counts: BTreeMap<Rc<str>, usize>,
    pub(super) loops: usize,
}

impl Scope {
    pub(super) fn push(&mut self, name: Rc<str>) {
        *self.counts.entry(name.clone()).or_default() += 1;
        self.stack.push(name);
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        name == "$" || self.counts.contains_key(name)
    }

    pub(super) fn mark(&self) -> usize {
        self.stack.len()
    }

    /// Forgets what was pushed since the mark.
    pub(super) fn back_to(&mut self, mark: usize) {
        for name in self.stack.drain(mark..) {
            if let Some(count) = self.counts.get_mut(&name) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&name);
                }
            }
        }
    }
}
