//! Why a step was not cached, in the words of the file it came from.

use std::collections::BTreeMap;

use strake_graph::{Op, StepId};

use super::{Build, Miss};
use crate::cache::{CacheRecord, Place};
use crate::event::Explanation;
use crate::signature::{Part, Signature};

/// How many differences are told; the first ones are the telling ones.
const MOST: usize = 12;

/// How far a step may have moved within its stage since the build that it is compared with.
const REACH: u32 = 8;

/// The part of a signature that says what a step stands on.
const BELOW: &str = "what is below";

impl Build<'_> {
    /// Compares a step that missed with what was built at its place last, or with the step that it was then.
    pub(crate) fn explain(&self, id: StepId, miss: &Miss) -> Explanation {
        if self.request.graph.step(id).no_cache {
            return Explanation::NoCache;
        }
        // A store that cannot be read fails the build elsewhere; here it only means that there is less to tell.
        let Some((signature, record)) = self.nearest(id, miss) else { return Explanation::NeverBuilt };
        let Some(record) = record else { return Explanation::Gone };
        if signature == miss.signature {
            return Explanation::Gone;
        }
        Explanation::Changed(self.differences(id, &record, miss))
    }

    /// What was built at the place of a step last, or near it what is more like it: an instruction put in or taken out
    /// moves all that follow. Where nothing was built at its place, only the very same step elsewhere counts.
    fn nearest(&self, id: StepId, miss: &Miss) -> Option<(Signature, Option<CacheRecord>)> {
        let (stage, own) = (&self.request.graph.step(id).stage, self.numbers[id.index()]);
        let at = |number| self.cache.latest(Place::new(&self.request.place, stage, number)).ok().flatten();
        let mut nearest = at(own);
        let mut least = match &nearest {
            Some((_, Some(record))) => unlike(record, miss),
            Some((_, None)) => return nearest,
            None => 1,
        };
        for distance in 1..=REACH {
            for number in [own.checked_sub(distance), own.checked_add(distance)].into_iter().flatten() {
                if let Some((signature, Some(record))) = at(number)
                    && unlike(&record, miss) < least
                {
                    least = unlike(&record, miss);
                    nearest = Some((signature, Some(record)));
                }
            }
        }
        nearest
    }

    fn differences(&self, id: StepId, old: &CacheRecord, miss: &Miss) -> Vec<String> {
        let (before, now) = (numbered(&old.parts), numbered(&miss.parts));
        let mut lines = Vec::new();
        for (key, part) in &now {
            match before.get(key) {
                Some(old) if old.value == part.value => {}
                old => self.difference(id, old.copied(), part, miss, &mut lines),
            }
        }
        for (key, part) in &before {
            if !now.contains_key(key) && !is_count(&part.name) {
                lines.push(format!("{}: {} is gone", part.name, shown(&part.value)));
            }
        }
        // What changed in the step itself says more than that something below changed.
        lines.sort_by_key(|line| line.starts_with(BELOW));
        lines.truncate(MOST);
        lines
    }

    fn difference(&self, id: StepId, old: Option<&Part>, part: &Part, miss: &Miss, lines: &mut Vec<String>) {
        let before = old.map(|part| part.value.as_str());
        match (part.name.as_str(), before) {
            (BELOW, _) => lines.push(self.below(id)),
            ("files", Some(before)) => lines.extend(self.changed_files(before, miss)),
            (name, _) if is_count(name) => {}
            (name, None) => lines.push(format!("{name}: {} is new", shown(&part.value))),
            (name, Some(before)) => lines.push(format!("{name}: {} → {}", shown(before), shown(&part.value))),
        }
    }

    /// What a step stands on is another than before: its base image, or a step above it in the file.
    fn below(&self, id: StepId) -> String {
        let base = self.request.graph.step(id).op.base().map(|base| &self.request.graph.step(base).op);
        match base {
            Some(Op::Image(op)) => {
                format!(
                    "base image: {} ({}) is not the one of before",
                    op.reference.familiar(),
                    op.id.0.short()
                )
            }
            _ => "what is below: an earlier step of this stage changed".to_owned(),
        }
    }
}

/// In how many parts of its own a step differs from an earlier one.
fn unlike(old: &CacheRecord, miss: &Miss) -> usize {
    let (before, now) = (numbered(&old.parts), numbered(&miss.parts));
    let own = |name: &str| name != BELOW && !is_count(name);
    let changed = now.iter().filter(|(key, part)| {
        own(&part.name) && before.get(*key).is_none_or(|before| before.value != part.value)
    });
    let gone = before.iter().filter(|(key, part)| own(&part.name) && !now.contains_key(*key));
    changed.count() + gone.count()
}

/// Parts by name; those of the same name, as the words of a command, by their place as well.
fn numbered(parts: &[Part]) -> BTreeMap<(&str, usize), &Part> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut numbered = BTreeMap::new();
    for part in parts {
        let place = places.entry(&part.name).or_default();
        numbered.insert((part.name.as_str(), *place), part);
        *place += 1;
    }
    numbered
}

/// How many words a command has is seen in the words themselves.
fn is_count(name: &str) -> bool {
    name == "arguments"
}

/// A value short enough for one line, without control characters.
fn shown(value: &str) -> String {
    const MOST_CHARACTERS: usize = 120;
    let clean: String =
        value.chars().map(|c| if c.is_control() { '⏎' } else { c }).take(MOST_CHARACTERS).collect();
    let more = if value.chars().nth(MOST_CHARACTERS).is_some() { "…" } else { "" };
    format!("{clean:?}{more}").replace("\"", "`")
}
