//! Removing from a repository what builds shared and nobody used lately.
//!
//! What a build may be about to use is younger than two hours and stays. Anything else that is removed is a miss for
//! whoever comes for it, and for a build that has seen it already: its layers cannot be had, the record is forgotten,
//! and the step is built. So nobody has to be kept from building meanwhile.
//!
//! A step stays while it, or a step that stands on it, was built or used lately. A selection stays with the step that
//! was made by it, a cache mount by the time that it was saved at. Manifests are deleted by digest, which takes all
//! their tags; so one that some other tag shares stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use strake_oci::{Digest, ImageManifest, ParsedManifest, Reference};
use strake_registry::RegistryError;

use super::document::{ANNOTATION, CacheDocument};
use super::{mounts, selection, used};
use crate::clock::now;
use crate::request::Environment;
use crate::signature::Signature;

/// What a running build may be about to use is younger than this, in seconds.
const YOUNG: u64 = 2 * 3_600;

/// What may be removed from a repository.
#[derive(Debug, Clone, Copy)]
pub struct RepositoryPolicy {
    /// What was used within this time stays, and in any case what is younger than two hours.
    pub unused_for: Duration,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// A tag that builds share something by, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The tag.
    pub tag: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a tag, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Kept(String),
    /// It is removed, or would be.
    Removed(String),
}

/// Removes what was not used lately. Answers what became of all that builds share, sorted by tag.
///
/// # Errors
/// When the registry does not answer, or does not allow deletion. What was removed is removed.
pub fn prune_repository(
    env: &Environment<'_>,
    repository: &Reference,
    policy: &RepositoryPolicy,
) -> Result<Vec<Judged>, RegistryError> {
    let all = env.registry.list_tags(repository)?.unwrap_or_default();
    let shelf = Shelf { env, repository };
    let limit = now().saturating_sub(policy.unused_for.as_secs().max(YOUNG));
    let found = shelf.read(&all)?;
    let mut judged = found.judge(limit);
    if policy.dry_run || !judged.iter().any(|judged| matches!(judged.fate, Fate::Removed(_))) {
        return Ok(judged);
    }
    let foreign = all.iter().filter(|tag| Kind::of(tag).is_none());
    let mut elsewhere = BTreeSet::new();
    for tag in foreign {
        let Ok(reference) = repository.with_tag(tag) else { continue };
        elsewhere.extend(env.registry.head(&reference)?.map(|found| found.digest));
    }
    for judged in &mut judged {
        if matches!(judged.fate, Fate::Removed(_))
            && let Some(why) = shelf.remove(&judged.tag, limit, &elsewhere)?
        {
            judged.fate = Fate::Kept(why.to_owned());
        }
    }
    Ok(judged)
}

/// What a tag is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The image of a step, with the limit of its times, if it has one.
    Step(Signature, Option<i64>),
    Selection,
    Mount,
    /// The note that a step was used.
    Used(Signature),
}

impl Kind {
    fn of(tag: &str) -> Option<Self> {
        let (kind, key) = tag.split_once('-')?;
        let is_key = |key: &str| key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
        match kind {
            "step" => {
                let (signature, epoch) = match key.split_once('-') {
                    Some((signature, epoch)) => (signature, Some(epoch.parse().ok()?)),
                    None => (key, None),
                };
                Some(Self::Step(signature.parse().ok()?, epoch))
            }
            "files" => is_key(key).then_some(Self::Selection),
            "mount" => is_key(key).then_some(Self::Mount),
            "used" => key.parse().ok().map(Self::Used),
            _ => None,
        }
    }
}

/// A step of a repository: its signature, and the limit of its times.
type Key = (Signature, Option<i64>);

/// What is known of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// Seconds since 1970.
    built: u64,
    /// The steps that it stands on, as far as they are said.
    below: Vec<Signature>,
}

/// What a repository has.
#[derive(Debug, Default)]
struct Found {
    tags: BTreeMap<String, Kind>,
    steps: BTreeMap<Key, Known>,
    used: BTreeMap<Signature, u64>,
    /// When selections were made, and for which step.
    selections: BTreeMap<String, (u64, Signature)>,
    /// When mounts were saved.
    mounts: BTreeMap<String, u64>,
}

impl Found {
    fn judge(&self, limit: u64) -> Vec<Judged> {
        let kept = self.kept(limit);
        let silent = || Fate::Kept("it does not say when it was made".to_owned());
        let old = || Fate::Removed("not used for long enough".to_owned());
        let has_step = |step: Signature| kept.keys().any(|(signature, _)| *signature == step);
        let judge = |(tag, kind): (&String, &Kind)| {
            let fate = match kind {
                Kind::Step(signature, epoch) => {
                    let key = (*signature, *epoch);
                    match (kept.get(&key), self.steps.contains_key(&key)) {
                        (Some(why), _) => Fate::Kept(why.clone()),
                        (None, true) => old(),
                        (None, false) => silent(),
                    }
                }
                Kind::Selection => match self.selections.get(tag) {
                    None => silent(),
                    Some((_, step)) if has_step(*step) => Fate::Kept(format!("step {step} was made by it")),
                    Some((made, _)) if *made >= limit => Fate::Kept("made lately".to_owned()),
                    Some(_) => old(),
                },
                Kind::Mount => match self.mounts.get(tag) {
                    None => silent(),
                    Some(saved) if *saved >= limit => Fate::Kept("saved lately".to_owned()),
                    Some(_) => old(),
                },
                Kind::Used(step) if has_step(*step) => Fate::Kept("its step is kept".to_owned()),
                Kind::Used(step)
                    if self.used.get(step).is_some_and(|day| day.saturating_add(DAY) > limit) =>
                {
                    Fate::Kept("noted lately".to_owned())
                }
                Kind::Used(_) => Fate::Removed("its step is not kept".to_owned()),
            };
            Judged { tag: tag.clone(), fate }
        };
        self.tags.iter().map(judge).collect()
    }

    /// The steps that stay, each with why.
    fn kept(&self, limit: u64) -> BTreeMap<Key, String> {
        let mut kept = BTreeMap::new();
        let mut waiting = Vec::new();
        for (key, known) in &self.steps {
            let why = if known.built >= limit {
                "built lately"
            } else if self.used.get(&key.0).is_some_and(|day| day.saturating_add(DAY) > limit) {
                "used lately"
            } else {
                continue;
            };
            kept.insert(*key, why.to_owned());
            waiting.push(*key);
        }
        while let Some(above) = waiting.pop() {
            let Some(known) = self.steps.get(&above) else { continue };
            for below in &known.below {
                let below = (*below, above.1);
                if let std::collections::btree_map::Entry::Vacant(entry) = kept.entry(below) {
                    entry.insert(format!("step {} stands on it", above.0));
                    waiting.push(below);
                }
            }
        }
        kept
    }

    /// Learns of a step and those below it from what its image says.
    fn learn(&mut self, document: &CacheDocument) {
        for (place, step) in document.steps.iter().enumerate() {
            let below = document.steps[place + 1..].iter().map(|step| step.signature);
            let known =
                Known { built: step.built, below: step.below.into_iter().chain(below.take(1)).collect() };
            let key = (step.signature, document.epoch);
            // What the image of the step itself says counts more than what those above say.
            if place == 0 {
                self.steps.insert(key, known);
            } else {
                self.steps.entry(key).or_insert(known);
            }
        }
    }
}

/// A note names the beginning of its day.
const DAY: u64 = 86_400;

/// A repository that is cleaned.
struct Shelf<'a> {
    env: &'a Environment<'a>,
    repository: &'a Reference,
}

impl Shelf<'_> {
    /// The documents of all that is shared. One that is gone by now, or cannot be read, says nothing.
    fn read(&self, all: &[String]) -> Result<Found, RegistryError> {
        let mut found = Found::default();
        found.tags.extend(all.iter().filter_map(|tag| Some((tag.clone(), Kind::of(tag)?))));
        for (tag, kind) in found.tags.clone() {
            // One image tells of all the steps below it.
            if let Kind::Step(signature, epoch) = kind
                && found.steps.contains_key(&(signature, epoch))
            {
                continue;
            }
            let Some((parsed, _)) = self.document(&tag)? else { continue };
            match (kind, parsed) {
                (Kind::Step(..), ParsedManifest::Image(manifest)) => {
                    if let Some(document) = cache_document(&manifest) {
                        found.learn(&document);
                    }
                }
                (Kind::Used(signature), ParsedManifest::Image(manifest)) => {
                    let day = number(manifest.annotations.get(used::DAY));
                    found.used.extend(day.map(|day| (signature, day)));
                }
                (Kind::Selection, ParsedManifest::Image(manifest)) => {
                    let made = number(manifest.annotations.get(selection::MADE));
                    let step = manifest.annotations.get(selection::STEP).and_then(|step| step.parse().ok());
                    found.selections.extend(made.zip(step).map(|said| (tag, said)));
                }
                (Kind::Mount, ParsedManifest::Index(index)) => {
                    let saved = index.manifests.iter();
                    let saved = saved.filter_map(|entry| number(entry.annotations.get(mounts::SAVED))).max();
                    found.mounts.extend(saved.map(|saved| (tag, saved)));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn document(&self, tag: &str) -> Result<Option<(ParsedManifest, Digest)>, RegistryError> {
        let Ok(reference) = self.repository.with_tag(tag) else { return Ok(None) };
        let Some(raw) = self.env.registry.resolve(&reference)? else { return Ok(None) };
        let parsed = ParsedManifest::parse(&raw.bytes, Some(raw.descriptor.media_type.as_str())).ok();
        Ok(parsed.map(|parsed| (parsed, raw.descriptor.digest)))
    }

    /// Removes a tag; answers why not, if not.
    fn remove(
        &self,
        tag: &str,
        limit: u64,
        elsewhere: &BTreeSet<Digest>,
    ) -> Result<Option<&'static str>, RegistryError> {
        let Some((parsed, digest)) = self.document(tag)? else { return Ok(None) };
        if elsewhere.contains(&digest) {
            return Ok(Some("another tag stands for the same"));
        }
        // Somebody may have published meanwhile.
        let made = match &parsed {
            ParsedManifest::Image(manifest) => {
                let step = cache_document(manifest).and_then(|document| Some(document.steps.first()?.built));
                step.or_else(|| number(manifest.annotations.get(selection::MADE)))
            }
            ParsedManifest::Index(index) => {
                index.manifests.iter().filter_map(|entry| number(entry.annotations.get(mounts::SAVED))).max()
            }
        };
        if made.is_some_and(|made| made >= limit) {
            return Ok(Some("it was made anew meanwhile"));
        }
        self.env.registry.delete_manifest(&self.repository.with_digest(digest))?;
        Ok(None)
    }
}

fn cache_document(manifest: &ImageManifest) -> Option<CacheDocument> {
    serde_json::from_str(manifest.annotations.get(ANNOTATION)?).ok()
}

fn number(text: Option<&String>) -> Option<u64> {
    text?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(name: &str) -> Signature {
        Digest::of(name.as_bytes()).hex().parse().unwrap()
    }

    fn found(steps: &[(&str, u64, &[&str])]) -> Found {
        let mut found = Found::default();
        for (name, built, below) in steps {
            let key = (signature(name), None);
            found.tags.insert(format!("step-{}", key.0), Kind::Step(key.0, None));
            let below = below.iter().map(|below| signature(below)).collect();
            found.steps.insert(key, Known { built: *built, below });
        }
        found
    }

    fn removed(found: &Found, limit: u64) -> BTreeSet<String> {
        let gone = found.judge(limit).into_iter().filter(|judged| matches!(judged.fate, Fate::Removed(_)));
        gone.map(|judged| judged.tag).collect()
    }

    fn tags(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| format!("step-{}", signature(name))).collect()
    }

    #[test]
    fn what_younger_or_used_steps_stand_on_stays() {
        let mut found = found(&[("a", 10, &[]), ("b", 20, &["a"]), ("c", 300, &["b"]), ("d", 30, &["a"])]);
        assert_eq!(removed(&found, 100), tags(&["d"]));
        assert_eq!(removed(&found, 301), tags(&["a", "b", "c", "d"]));
        found.used.insert(signature("d"), 250);
        assert_eq!(removed(&found, 301), tags(&["b", "c"]));
        assert_eq!(removed(&found, 301 + DAY), tags(&["a", "b", "c", "d"]));
        // Layers with another limit of times are others.
        found.steps.insert((signature("e"), Some(7)), Known { built: 900, below: vec![signature("a")] });
        assert_eq!(removed(&found, 500 + DAY), tags(&["a", "b", "c", "d"]));
    }

    #[test]
    fn selections_and_notes_go_with_their_steps() {
        let mut found = found(&[("a", 10, &[]), ("b", 200, &[])]);
        for (tag, made, step) in [("files-1", 5, "a"), ("files-2", 5, "b"), ("files-3", 150, "a")] {
            found.tags.insert(tag.into(), Kind::Selection);
            found.selections.insert(tag.into(), (made, signature(step)));
        }
        found.tags.insert("files-4".into(), Kind::Selection);
        for (tag, saved) in [("mount-1", 50), ("mount-2", 150)] {
            found.tags.insert(tag.into(), Kind::Mount);
            found.mounts.insert(tag.into(), saved);
        }
        found.tags.insert("used-c".into(), Kind::Used(signature("c")));
        let gone = removed(&found, 100);
        let others: Vec<_> =
            gone.iter().filter(|tag| !tag.starts_with("step-")).map(String::as_str).collect();
        assert_eq!(others, ["files-1", "mount-1", "used-c"]);
        assert_eq!(gone.len(), 4);
    }

    #[test]
    fn only_our_own_tags_are_looked_at() {
        let key = signature("a").to_string();
        assert_eq!(Kind::of(&format!("step-{key}")), Some(Kind::Step(signature("a"), None)));
        assert_eq!(Kind::of(&format!("step-{key}-12")), Some(Kind::Step(signature("a"), Some(12))));
        assert_eq!(Kind::of(&format!("used-{key}")), Some(Kind::Used(signature("a"))));
        for other in
            ["step-1", "latest", "files-x", "mount-", "step-", &format!("step-{key}-x"), &format!("x-{key}")]
        {
            assert_eq!(Kind::of(other), None, "{other}");
        }
    }
}
