//! What is known under the signatures of a row of stages, and what of it may be used.

use std::collections::BTreeSet;

use super::super::StageKind;
use super::super::config::Rules;
use super::chain::Link;
use super::{CommitQuestion, CommitState, Facts, Found, KnownStage, Mapping, Need, Presence, Refusal};

/// The place to ask, which notes what it cannot answer.
#[derive(Debug)]
pub(super) struct Lookup<'a> {
    pub(super) rules: &'a Rules,
    pub(super) facts: &'a Facts,
    pub(super) mappings: &'a [Mapping],
    pub(super) needs: &'a mut BTreeSet<Need>,
}

impl Lookup<'_> {
    /// What is known of each stage, sifted. `None` if something must be found out first.
    pub(super) fn find(&mut self, links: &[Link]) -> Option<Vec<Found>> {
        let mut found = Vec::with_capacity(links.len());
        for link in links {
            match self.facts.stages.get(&link.signature) {
                Some(known) => found.push(known.clone().map_or(Found::Absent, Found::Known)),
                None => {
                    self.needs.insert(Need::Stage(link.signature.clone()));
                }
            }
        }
        if found.len() < links.len() {
            return None;
        }
        // Stages below the archive have no git data.
        let archive = links.iter().position(|link| link.kind == StageKind::GitArchive);
        if let Some(archive) = archive {
            self.refuse_foreign(&mut found[archive..])?;
            refuse_other_bases(links, &mut found, archive, self.mappings);
        }
        Some(found)
    }

    /// Refuses what records commits that do not count, and what stands on that.
    fn refuse_foreign(&mut self, found: &mut [Found]) -> Option<()> {
        let mut complete = Some(());
        let mut below_is_refused = false;
        for found in found {
            let Found::Known(known) = found else { continue };
            let refusal = if below_is_refused {
                Some(Refusal::StandsOnRefused)
            } else {
                match self.refusal(known) {
                    Some(refusal) => refusal,
                    None => {
                        complete = None;
                        continue;
                    }
                }
            };
            if let Some(refusal) = refusal {
                // What is only known by name is another candidate, on which nothing here was made.
                below_is_refused |= known.presence == Presence::Usable;
                *found = Found::Refused(known.clone(), refusal);
            }
        }
        complete
    }

    /// Why a stage does not count, if so; the outer `None` if a commit must be looked at first.
    fn refusal(&mut self, known: &KnownStage) -> Option<Option<Refusal>> {
        let mut complete = true;
        for (index, mapping) in self.mappings.iter().enumerate() {
            let Some(commit) = known.commit(&mapping.params_hash) else {
                return Some(Some(Refusal::NoRecord(index)));
            };
            if known.kind(&mapping.params_hash).is_some_and(|kind| kind != mapping.kind.as_str()) {
                return Some(Some(Refusal::OtherKind(index)));
            }
            if commit == mapping.commit {
                continue;
            }
            let question = CommitQuestion {
                selection: self.rules.git[mapping.index].selection.clone(),
                commit: commit.to_owned(),
                current: mapping.commit.clone(),
            };
            match self.facts.commits.get(&question) {
                Some(CommitState::Ancestor) => {}
                Some(CommitState::Foreign) => {
                    return Some(Some(Refusal::ForeignCommit(index, commit.to_owned())));
                }
                Some(CommitState::Missing) => {
                    return Some(Some(Refusal::MissingCommit(index, commit.to_owned())));
                }
                None => {
                    self.needs.insert(Need::Commit(question));
                    complete = false;
                }
            }
        }
        complete.then_some(None)
    }
}

/// From one git stage to the next no stage changes a commit: those that record another one than the first that can
/// be used were made on something else.
fn refuse_other_bases(links: &[Link], found: &mut [Found], archive: usize, mappings: &[Mapping]) {
    let mut start = archive;
    while start < links.len() {
        let rest = links[start + 1..].iter().position(|link| link.kind.is_git());
        let end = rest.map_or(links.len(), |length| start + 1 + length);
        let segment = &mut found[start..end];
        let usable = segment.iter().find(|found| found.is_usable());
        let first = usable.or_else(|| segment.iter().find(|found| found.known().is_some()));
        if let Some(first) = first.and_then(Found::known).cloned() {
            for found in segment {
                let Found::Known(known) = found else { continue };
                let same = |mapping: &Mapping| {
                    known.commit(&mapping.params_hash) == first.commit(&mapping.params_hash)
                };
                if !mappings.iter().all(same) {
                    *found = Found::Refused(known.clone(), Refusal::OtherBase);
                }
            }
        }
        start = end;
    }
}
