use std::collections::BTreeMap;

/// Variables in the order they were first set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::dockerfile) struct Env {
    entries: Vec<(String, String)>,
    /// Where each name is among the entries, so that setting many variables takes linear time.
    places: BTreeMap<String, usize>,
    bytes: usize,
}

impl Env {
    pub(in crate::dockerfile) fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).and_then(|place| self.entries.get(*place)).map(|(_, value)| value.as_str())
    }

    /// Sets a variable; one that is there keeps its place.
    pub(in crate::dockerfile) fn set(&mut self, name: &str, value: &str) {
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
