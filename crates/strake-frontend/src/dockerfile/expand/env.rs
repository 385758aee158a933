use std::collections::{BTreeMap, BTreeSet};

/// Variables in the order they were first set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::dockerfile) struct Env {
    entries: Vec<(String, String)>,
    /// Where each name is among the entries, so that setting many variables takes linear time.
    places: BTreeMap<String, usize>,
    bytes: usize,
    /// Variables that are or may be set, but nobody knows to what.
    unknown: BTreeSet<String>,
    /// Whether any variable that is not here may be set.
    is_open: bool,
}

impl Env {
    pub(in crate::dockerfile) fn get(&self, name: &str) -> Option<&str> {
        if self.unknown.contains(name) {
            return None;
        }
        self.places.get(name).and_then(|place| self.entries.get(*place)).map(|(_, value)| value.as_str())
    }

    /// Sets a variable; one that is there keeps its place.
    pub(in crate::dockerfile) fn set(&mut self, name: &str, value: &str) {
        self.unknown.remove(name);
        self.bytes += name.len() + value.len();
        let place = self.places.get(name).and_then(|place| self.entries.get_mut(*place));
        match place {
            Some((_, old)) => {
                self.bytes -= (name.len() + old.len()).min(self.bytes);
                value.clone_into(old);
            }
            None => {
                self.places.insert(name.to_owned(), self.entries.len());
                self.entries.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    /// Whether nobody knows what a variable is, or whether it is set at all.
    pub(in crate::dockerfile) fn is_unknown(&self, name: &str) -> bool {
        self.unknown.contains(name) || self.is_open && !self.places.contains_key(name)
    }

    /// Whether everything is known.
    pub(in crate::dockerfile) fn is_certain(&self) -> bool {
        !self.is_open && self.unknown.is_empty()
    }

    /// From here on nobody knows what a variable is.
    pub(in crate::dockerfile) fn forget(&mut self, name: &str) {
        self.unknown.insert(name.to_owned());
    }

    /// From here on nobody knows what any variable is.
    pub(in crate::dockerfile) fn forget_all(&mut self) {
        *self = Self { is_open: true, ..Self::default() };
    }

    pub(in crate::dockerfile) fn entries(&self) -> &[(String, String)] {
        &self.entries
    }

    pub(in crate::dockerfile) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// About how many bytes a copy of the entries takes: names, values, and two small objects each.
    pub(in crate::dockerfile) fn bytes(&self) -> usize {
        self.bytes + 64 * self.entries.len()
    }
}
