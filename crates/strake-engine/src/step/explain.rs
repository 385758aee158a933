//! Why a step was not cached, in the words of the file it came from.

use strake_graph::StepId;

use super::{Build, Miss};
use crate::cache::CacheRecord;
use crate::event::Explanation;
use crate::signature::Part;

/// How many differences are told; the first ones are the telling ones.
const MOST: usize = 12;

impl Build<'_> {
    /// Compares a step that missed with what was built at its place last.
    pub(crate) fn explain(&self, id: StepId, miss: &Miss) -> Explanation {
        if self.request.graph.step(id).no_cache {
            return Explanation::NoCache;
        }
        // A store that cannot be read fails the build elsewhere; here it only means that there is less to tell.
        let Ok(Some((signature, record))) = self.cache.latest(self.place(id)) else {
            return Explanation::NeverBuilt;
        };
        let Some(record) = record else { return Explanation::Gone };
        if signature == miss.signature {
            return Explanation::Gone;
        }
        Explanation::Changed(self.differences(&record, miss))
    }

    fn differences(&self, old: &CacheRecord, miss: &Miss) -> Vec<String> {
        let mut lines = Vec::new();
        for part in &miss.parts {
            match old.parts.iter().find(|old| old.name == part.name && old.value == part.value) {
                Some(_) => {}
                None => self.difference(old, part, miss, &mut lines),
            }
        }
        for part in &old.parts {
            if !miss.parts.iter().any(|new| new.name == part.name) {
                lines.push(format!("{}: {} is gone", part.name, shown(&part.value)));
            }
        }
        // What changed in the step itself says more than that something below changed.
        lines.sort_by_key(|line| line.starts_with("what is below"));
        lines.truncate(MOST);
        lines
    }

    fn difference(&self, old: &CacheRecord, part: &Part, miss: &Miss, lines: &mut Vec<String>) {
        let before = old.parts.iter().find(|old| old.name == part.name).map(|part| part.value.as_str());
        match (part.name.as_str(), before) {
            ("what is below", _) => {
                lines.push("what is below: an earlier step of this stage changed".to_owned())
            }
            ("files", Some(before)) => lines.extend(self.changed_files(before, miss)),
            (name, None) => lines.push(format!("{name}: {} is new", shown(&part.value))),
            (name, Some(before)) => lines.push(format!("{name}: {} → {}", shown(before), shown(&part.value))),
        }
    }
}

/// A value short enough for one line, without control characters.
fn shown(value: &str) -> String {
    const MOST_CHARACTERS: usize = 120;
    let clean: String =
        value.chars().map(|c| if c.is_control() { '⏎' } else { c }).take(MOST_CHARACTERS).collect();
    let more = if value.chars().nth(MOST_CHARACTERS).is_some() { "…" } else { "" };
    format!("{clean:?}{more}").replace("\"", "`")
}
