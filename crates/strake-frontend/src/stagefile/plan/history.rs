//! Which commits the files of a stage have.

use std::collections::BTreeSet;

use super::super::config::Rules;
use super::chain::Link;
use super::{Difference, Facts, Found, Mapping, Need};

/// The commits of all mappings in one stage.
pub(super) type Commits = Vec<String>;

fn recorded(found: &Found, mappings: &[Mapping]) -> Option<Commits> {
    let known = found.known()?;
    mappings.iter().map(|mapping| known.commit(&mapping.params_hash).map(str::to_owned)).collect()
}

fn current(mappings: &[Mapping]) -> Commits {
    mappings.iter().map(|mapping| mapping.commit.clone()).collect()
}

/// The commits of the files in stage `stage`, for the signatures above it (reference §7.9). `found` may reach further
/// than that stage: to those known under the signatures computed so far.
pub(super) fn base_commits(links: &[Link], found: &[Found], stage: usize, mappings: &[Mapping]) -> Commits {
    if let Some(own) = recorded(&found[stage], mappings) {
        return own;
    }
    if let Some(later) = found[stage + 1..].iter().find_map(|found| recorded(found, mappings)) {
        return later;
    }
    let start = found[..=stage].iter().rposition(Found::is_usable);
    commits_on(links, found, start, stage, mappings).unwrap_or_else(|| current(mappings))
}

/// The commits of the files in stage `stage` when everything above `start` is assembled now. `None` if there are no
/// files in it.
pub(super) fn commits_on(
    links: &[Link],
    found: &[Found],
    start: Option<usize>,
    stage: usize,
    mappings: &[Mapping],
) -> Option<Commits> {
    let assembled = start.map_or(0, |start| start + 1)..=stage;
    if links[assembled].iter().any(|link| link.kind.is_git()) {
        return Some(current(mappings));
    }
    start.and_then(|start| recorded(&found[start], mappings))
}

/// Answers about differences, noting what is not known.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    pub(super) rules: &'a Rules,
    pub(super) facts: &'a Facts,
    pub(super) mappings: &'a [Mapping],
    pub(super) needs: &'a mut BTreeSet<Need>,
}

impl Changes<'_> {
    /// The size of all changes from these commits to the current ones in bytes.
    pub(super) fn size(&mut self, commits: &[String]) -> Option<u64> {
        let mut total = Some(0_u64);
        for difference in self.differences(commits).into_iter().map(|(_, difference)| difference) {
            match self.facts.patch_sizes.get(&difference) {
                Some(size) => total = total.map(|total| total.saturating_add(*size)),
                None => {
                    self.needs.insert(Need::PatchSize(difference));
                    total = None;
                }
            }
        }
        total
    }

    /// The mappings whose files differ between these commits and the current ones.
    pub(super) fn changed(&mut self, commits: &[String]) -> Option<Vec<usize>> {
        let mut changed = Some(Vec::new());
        for (index, difference) in self.differences(commits) {
            match self.facts.unchanged.get(&difference) {
                Some(true) => {}
                Some(false) => changed.iter_mut().for_each(|changed| changed.push(index)),
                None => {
                    self.needs.insert(Need::Unchanged(difference));
                    changed = None;
                }
            }
        }
        changed
    }

    fn differences(&self, commits: &[String]) -> Vec<(usize, Difference)> {
        let pairs = self.mappings.iter().zip(commits).enumerate();
        pairs
            .filter(|(_, (mapping, commit))| mapping.commit != **commit)
            .map(|(index, (mapping, commit))| {
                let selection = self.rules.git[mapping.index].selection.clone();
                (index, Difference { selection, from: commit.clone(), to: mapping.commit.clone() })
            })
            .collect()
    }
}
