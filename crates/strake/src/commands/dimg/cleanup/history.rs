//! Which images the history of git still speaks for (reference stage-cache §15.6).
//!
//! Policies choose branches and tags, and for each how many images of the newest commits of its history stay. Which
//! commit used which image was noted when it was published. Nothing is guessed: a clone that is cut off, or was never
//! told of a branch, cannot answer, and nothing is deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use strake_frontend::stagefile::{CleanupPolicy, Limit, ReferenceKind};
use strake_git::{CommitId, GitError, References, Repository};

use crate::failure::Failure;
use crate::project::{Project, Use, Version};

/// A branch or a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    kind: ReferenceKind,
    name: String,
    commit: CommitId,
    /// When its commit was made, in seconds since 1970.
    time: i64,
}

impl Head {
    fn describe(&self) -> String {
        match self.kind {
            ReferenceKind::Tag => format!("tag {}", self.name),
            ReferenceKind::Branch => format!("branch {}", self.name),
        }
    }
}

/// What the policies keep.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Why, by version.
    pub(super) reasons: BTreeMap<Version, String>,
    /// Uses by commits that are not here: branches that were not fetched, or that are gone.
    pub(super) unknown: BTreeSet<Use>,
}

/// Finds out what the policies keep.
///
/// # Errors
/// When the project is in no git repository, that has not all of the history, or cannot be read.
pub(super) fn kept(
    project: &Project,
    policy: &CleanupPolicy,
    uses: &BTreeSet<Use>,
    now: i64,
) -> Result<Kept, Failure> {
    let repository = project.repository.as_deref().ok_or_else(|| {
        Failure::input("the project is in no git repository: there is no history to go by")
            .hint("leave out --by-history and --policy")
    })?;
    let heads = heads(repository)?;
    let mut history = History::new(repository, uses, now).map_err(failed)?;
    for (head, limit) in chosen(&heads, policy, now) {
        history.keep(head, &limit).map_err(failed)?;
    }
    Ok(history.kept)
}

fn failed(error: GitError) -> Failure {
    Failure::environment(error.to_string())
}

fn heads(repository: &Repository) -> Result<Vec<Head>, Failure> {
    if repository.is_shallow().map_err(failed)? {
        return Err(Failure::input("the clone is shallow: which images its history used cannot be told")
            .hint("get all of it: git fetch --unshallow --tags origin"));
    }
    let mut heads = Vec::new();
    let kinds = [(References::Tags, ReferenceKind::Tag), (References::RemoteBranches, ReferenceKind::Branch)];
    for (references, kind) in kinds {
        for (name, commit) in repository.heads(references).map_err(failed)? {
            let time = repository.commit_time(commit).map_err(failed)?;
            heads.push(Head { kind, name, commit, time });
        }
    }
    if !heads.iter().any(|head| head.kind == ReferenceKind::Branch) {
        return Err(Failure::input("this clone knows no branch of origin")
            .hint("fetch them first: git fetch --prune --tags origin"));
    }
    Ok(heads)
}

/// The references that policies choose, with how many images of each stay. The last policy for a reference counts.
fn chosen<'h>(heads: &'h [Head], policy: &CleanupPolicy, now: i64) -> Vec<(&'h Head, Limit)> {
    let mut newest: Vec<(usize, &Head)> = heads.iter().enumerate().collect();
    newest.sort_by(|(_, a), (_, b)| b.time.cmp(&a.time).then_with(|| a.name.cmp(&b.name)));
    let mut limits: BTreeMap<usize, Limit> = BTreeMap::new();
    for keep in &policy.keep {
        let meant =
            newest.iter().filter(|(_, head)| head.kind == keep.kind && keep.pattern.matches(&head.name));
        for (place, (index, head)) in meant.enumerate() {
            if keep.references.allows(place, now.saturating_sub(head.time)) {
                limits.insert(*index, keep.images);
            }
        }
    }
    limits.into_iter().map(|(index, limit)| (&heads[index], limit)).collect()
}

/// Walks back from references to the commits that used images.
struct History<'a> {
    repository: &'a Repository,
    by_commit: BTreeMap<CommitId, BTreeSet<&'a Version>>,
    dimgs: BTreeSet<&'a str>,
    /// When the first of the commits was made.
    since: i64,
    now: i64,
    kept: Kept,
}

impl<'a> History<'a> {
    fn new(repository: &'a Repository, uses: &'a BTreeSet<Use>, now: i64) -> Result<Self, GitError> {
        let mut history = Self {
            repository,
            by_commit: BTreeMap::new(),
            dimgs: uses.iter().map(|used| used.version.dimg.as_str()).collect(),
            since: i64::MAX,
            now,
            kept: Kept::default(),
        };
        for used in uses {
            match CommitId::from_hex(&used.commit) {
                Ok(commit) if repository.exists(commit) => {
                    history.since = history.since.min(repository.commit_time(commit)?);
                    history.by_commit.entry(commit).or_default().insert(&used.version);
                }
                _ => drop(history.kept.unknown.insert(used.clone())),
            }
        }
        Ok(history)
    }

    /// Keeps what the history of a reference used last.
    fn keep(&mut self, head: &Head, limit: &Limit) -> Result<(), GitError> {
        let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut ahead = self.by_commit.len();
        let (by_commit, reasons, now) = (&self.by_commit, &mut self.kept.reasons, self.now);
        let enough = limit.last.filter(|_| limit.within.is_none());
        let dimgs = self.dimgs.len();
        self.repository.walk_back(head.commit, self.since, &mut |commit, time| {
            for version in by_commit.get(&commit).into_iter().flatten() {
                let images = found.entry(&version.dimg).or_default();
                if images.contains(version.image.as_str()) {
                    continue;
                }
                if limit.allows(images.len(), now.saturating_sub(time)) {
                    let place = match images.len() {
                        0 => "its newest image".to_owned(),
                        place => format!("number {} of its newest images", place + 1),
                    };
                    let why = || format!("{}: {place}, of commit {}", head.describe(), abbreviated(commit));
                    reasons.entry((*version).clone()).or_insert_with(why);
                }
                images.insert(&version.image);
            }
            ahead -= usize::from(by_commit.contains_key(&commit));
            let has_enough = enough.is_some_and(|enough| {
                found.len() == dimgs && found.values().all(|images| images.len() >= enough)
            });
            if ahead == 0 || has_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    }
}

fn abbreviated(commit: CommitId) -> String {
    commit.to_string()[..10].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_policy_for_a_reference_counts() {
        let commit = CommitId::from_hex(&"1".repeat(40)).unwrap();
        let day = 86_400;
        let head = |kind, name: &str, days: i64| Head { kind, name: name.into(), commit, time: -days * day };
        let mut heads: Vec<Head> =
            (0..12).map(|age| head(ReferenceKind::Tag, &format!("v{age}"), age * 100)).collect();
        heads.extend((1..12).map(|age| head(ReferenceKind::Branch, &format!("b{age}"), age)));
        heads.push(head(ReferenceKind::Branch, "main", 400));
        let told = |policy: &CleanupPolicy| {
            let chosen = chosen(&heads, policy, 0);
            chosen
                .iter()
                .map(|(head, limit)| format!("{} {:?} {:?}", head.name, limit.last, limit.within.is_some()))
                .collect::<Vec<_>>()
        };
        let mut expected: Vec<String> = (0..10).map(|age| format!("v{age} Some(1) false")).collect();
        expected.extend((1..8).map(|age| format!("b{age} Some(2) true")));
        expected.push("main Some(2) false".into());
        assert_eq!(told(&CleanupPolicy::default()), expected);
        let text = "keepPolicies:\n- references: {branch: /./}\n- references: {branch: /^b1/, limit: {last: 1}}\n  \
                    imagesPerReference: {last: 7}\n";
        let told = told(&CleanupPolicy::parse(text).unwrap());
        assert_eq!(told.len(), 12);
        assert_eq!((told[0].as_str(), told[9].as_str()), ("b1 Some(7) false", "b10 Some(1) false"));
    }
}
