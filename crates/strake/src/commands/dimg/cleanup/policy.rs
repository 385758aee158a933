//! Which images go. Pure, but for reading what git has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use strake_frontend::stagefile::{GitSource, scheme31, slug};
use strake_git::{CommitId, References, Repository};

use crate::failure::Failure;
use crate::project::{Project, SCHEME, STAGE_PREFIX};
use crate::settings::Settings;

/// What a running build may be about to use is younger than this, in seconds.
pub(super) const YOUNG_SECONDS: i64 = 2 * 3_600;

/// Why a young image stays.
pub(super) const YOUNG: &str = "it is younger than two hours: a build may be about to use it";

/// Why a stage of another scheme goes.
pub(super) const OTHER_VERSION: &str = "its signature is of another version of the scheme";

/// An image, by one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// The name, as people type it.
    pub(super) name: String,
    labels: BTreeMap<String, String>,
    /// In seconds since 1970.
    created: Option<i64>,
    now: i64,
}

impl Image {
    pub(super) fn new(name: String, labels: BTreeMap<String, String>, created: Option<&str>) -> Self {
        let created = created.and_then(|text| Some(text.parse::<Timestamp>().ok()?.as_second()));
        Self { name, labels, created, now: Timestamp::now().as_second() }
    }

    /// A label by its name without `strake`; those of the tool of 2018 count too.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        let label = |prefix| self.labels.get(&format!("{prefix}{name}"));
        label("strake").or_else(|| label("dapp")).map(String::as_str)
    }

    /// The project that this is a stage of, by its name in the store.
    pub(super) fn project_of_stage(&self) -> Option<&str> {
        let (project, signature) = self.name.strip_prefix(STAGE_PREFIX)?.split_once(':')?;
        (signature.len() == 64).then_some(project)
    }

    /// Whether it is a finished image of one of these dimgs.
    pub(super) fn is_finished_of(&self, project: &str, dimgs: &[String]) -> bool {
        let of_dimg = self.label("-dimg-name").is_none_or(|name| dimgs.iter().any(|dimg| dimg == name));
        self.label("-dimg") == Some("true") && self.label("") == Some(project) && of_dimg
    }

    pub(super) fn is_of_other_version(&self) -> bool {
        self.label("-cache-version").is_some_and(|version| version != SCHEME)
    }

    /// One that does not say its age is not young: nothing would ever delete it.
    pub(super) fn is_young(&self) -> bool {
        self.is_younger_than(YOUNG_SECONDS)
    }

    pub(super) fn is_younger_than(&self, seconds: i64) -> bool {
        self.age().is_some_and(|age| age < seconds)
    }

    fn age(&self) -> Option<i64> {
        self.created.map(|created| self.now.saturating_sub(created))
    }

    pub(super) fn signature(&self) -> Option<&str> {
        self.label("-signature")
    }

    /// The signatures of what it stands on or took files from.
    fn stands_on(&self) -> impl Iterator<Item = &str> {
        let artifacts = self
            .labels
            .iter()
            .filter(|(name, _)| name.starts_with("strake-artifact-") || name.starts_with("dapp-artifact-"));
        self.label("-parent-signature").into_iter().chain(artifacts.map(|(_, signature)| signature.as_str()))
    }
}

/// What becomes of an image, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep(String),
    Delete(String),
}

/// Which stages go.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StageRules {
    /// Those of another version of the scheme.
    pub(super) cache_version: bool,
    /// Those that no finished image descends from.
    pub(super) descent: bool,
    /// Those with files of a commit that is gone, and what stands on them.
    pub(super) git_commit: bool,
    /// But none that is younger than this, in seconds.
    pub(super) young: i64,
}

/// The commits that stages may record.
pub(super) struct Commits {
    /// Of each mapping that comes from the project's own repository, by the hash in the labels.
    mappings: BTreeSet<String>,
    repository: Option<Arc<Repository>>,
}

impl Commits {
    /// Of the mappings of a project. Of mappings from elsewhere nothing is said: their clones may be old.
    pub(super) fn of(project: &Project) -> Self {
        let git = project.file.images().flat_map(|(_, image)| &image.rules.git);
        let own = git.filter(|git| git.selection.source == GitSource::Local);
        Self { mappings: own.map(scheme31::params_hash).collect(), repository: project.repository.clone() }
    }

    /// A commit that an image records and that is gone.
    fn lost<'i>(&self, image: &'i Image) -> Option<&'i str> {
        let repository = self.repository.as_ref()?;
        self.mappings.iter().find_map(|hash| {
            let commit = image.label(&format!("-git-{hash}-commit"))?;
            let exists = CommitId::from_hex(commit).is_ok_and(|commit| repository.exists(commit));
            (!exists).then_some(commit)
        })
    }
}

/// The stages to be judged, and what there is besides.
pub(super) struct Stages<'a> {
    pub(super) stages: &'a [Image],
    /// Stages elsewhere: they tell what stands on what.
    pub(super) others: &'a [Image],
    pub(super) finished: &'a [Image],
    /// Signatures of stages that are kept for reasons of their own.
    pub(super) roots: &'a BTreeMap<String, String>,
    pub(super) commits: &'a Commits,
}

/// Why a stage below a finished image stays.
const FINISHED: &str = "a finished image descends from it";

/// What the reason of a stage begins with that stays for one that stands on it.
const BELOW: &str = "a stage that is kept stands on it: ";

/// Why an image stays that was built within so many seconds.
pub(super) fn young_reason(seconds: i64) -> String {
    if seconds == YOUNG_SECONDS {
        YOUNG.to_owned()
    } else {
        format!("it was built within the last {seconds} s")
    }
}

impl Stages<'_> {
    /// What becomes of each stage, by name.
    pub(super) fn judge(&self, rules: &StageRules) -> BTreeMap<String, Verdict> {
        let needed = self.needed(rules);
        let lost = self.standing_on_lost();
        let judge = |stage: &Image| {
            let signature = stage.signature().unwrap_or_default();
            let why = if rules.cache_version && stage.is_of_other_version() {
                OTHER_VERSION.to_owned()
            } else if let Some(commit) = lost.get(signature).filter(|_| rules.git_commit) {
                format!("it has, or stands on, files of commit {commit}, which is gone")
            } else if !rules.descent {
                return Verdict::Keep("nothing is wrong with it".to_owned());
            } else if let Some(why) = needed.get(signature) {
                return Verdict::Keep(why.clone());
            } else if self.roots.is_empty() {
                "no finished image descends from it".to_owned()
            } else {
                "no image that is kept descends from it".to_owned()
            };
            match stage.is_younger_than(rules.young) {
                true => Verdict::Keep(young_reason(rules.young)),
                false => Verdict::Delete(why),
            }
        };
        self.stages.iter().map(|stage| (stage.name.clone(), judge(stage))).collect()
    }

    /// What each signature stands on.
    fn edges(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for image in self.stages.iter().chain(self.others) {
            if let Some(signature) = image.signature() {
                edges.entry(signature).or_default().extend(image.stands_on());
            }
        }
        edges
    }

    /// The signatures of all stages that something kept descends from, each with a reason.
    fn needed(&self, rules: &StageRules) -> BTreeMap<&str, String> {
        let own = self.roots.iter().map(|(signature, why)| (signature.as_str(), why.clone()));
        let mut needed: BTreeMap<&str, String> = own.collect();
        for image in self.finished {
            for signature in image.signature().into_iter().chain(image.stands_on()) {
                needed.entry(signature).or_insert_with(|| FINISHED.to_owned());
            }
        }
        for stage in self.stages.iter().filter(|stage| stage.is_younger_than(rules.young)) {
            if let Some(signature) = stage.signature() {
                needed.entry(signature).or_insert_with(|| young_reason(rules.young));
            }
        }
        let edges = self.edges();
        let mut waiting: Vec<&str> = needed.keys().copied().collect();
        while let Some(signature) = waiting.pop() {
            let Some(why) = needed.get(signature) else { continue };
            let why = match why.as_str() {
                why if why == FINISHED || why.starts_with(BELOW) => why.to_owned(),
                why => format!("{BELOW}{why}"),
            };
            for below in edges.get(signature).into_iter().flatten() {
                if !needed.contains_key(below) {
                    needed.insert(below, why.clone());
                    waiting.push(below);
                }
            }
        }
        needed
    }

    /// The signatures of stages with files of a commit that is gone, and of all that stand on them.
    fn standing_on_lost(&self) -> BTreeMap<&str, &str> {
        let mut above: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (signature, below) in self.edges() {
            for below in below {
                above.entry(below).or_default().push(signature);
            }
        }
        let own = |stage| Some((Image::signature(stage)?, self.commits.lost(stage)?));
        let mut waiting: Vec<(&str, &str)> = self.stages.iter().filter_map(own).collect();
        let mut lost = BTreeMap::new();
        while let Some((signature, commit)) = waiting.pop() {
            if lost.insert(signature, commit).is_none() {
                waiting.extend(above.get(signature).into_iter().flatten().map(|above| (*above, commit)));
            }
        }
        lost
    }
}

/// Names that git has.
pub(super) struct GitNames {
    tags: BTreeSet<String>,
    branches: BTreeSet<String>,
    repository: Arc<Repository>,
}

impl GitNames {
    /// Of the project's repository; nothing without one.
    pub(super) fn of(project: &Project) -> Result<Option<Self>, Failure> {
        let Some(repository) = project.repository.clone() else { return Ok(None) };
        let names = |references| -> Result<BTreeSet<String>, Failure> {
            let names =
                repository.names(references).map_err(|error| Failure::environment(error.to_string()))?;
            Ok(names.iter().map(|name| slug(name)).collect())
        };
        let (tags, branches) = (names(References::Tags)?, names(References::RemoteBranches)?);
        Ok(Some(Self { tags, branches, repository }))
    }

    /// Why an image of a scheme is of no use any more, if git says so.
    fn gone(&self, scheme: &str, tag: &str) -> Option<&'static str> {
        match scheme {
            "git_tag" => (!self.tags.contains(tag)).then_some("its git tag is gone"),
            // Without any branch of origin the clone was never told of them.
            "git_branch" if !self.branches.is_empty() => {
                (!self.branches.contains(tag)).then_some("its branch is gone")
            }
            "git_commit" => {
                let exists = CommitId::from_hex(tag).is_ok_and(|commit| self.repository.exists(commit));
                (!exists).then_some("its commit is gone")
            }
            _ => None,
        }
    }
}

/// How old, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// In seconds.
    tags_age: i64,
    tags: usize,
    /// In seconds.
    commits_age: i64,
    commits: usize,
}

impl Limits {
    /// From the environment, or 30 days, 10 tags and 50 commits.
    pub(super) fn read(settings: &Settings) -> Result<Self, Failure> {
        const MONTH: i64 = 30 * 86_400;
        let number =
            |name: &str, default: i64| match settings.variable(name).map(|value| value.to_string_lossy()) {
                None => Ok(default),
                Some(text) if text.is_empty() => Ok(default),
                Some(text) => text
                    .parse::<u32>()
                    .map(i64::from)
                    .map_err(|_| Failure::input(format!("{name}={text:?}: want a number"))),
            };
        let count = |name: &str, default| {
            Ok::<_, Failure>(usize::try_from(number(name, default)?).unwrap_or(usize::MAX))
        };
        Ok(Self {
            tags_age: number("EXPIRY_DATE_PERIOD_POLICY", MONTH)?,
            tags: count("GIT_TAGS_LIMIT_POLICY", 10)?,
            commits_age: number("GIT_COMMITS_EXPIRY_DATE_PERIOD_POLICY", MONTH)?,
            commits: count("GIT_COMMITS_LIMIT_POLICY", 50)?,
        })
    }
}

/// Whether an image has a tag that a branch, a tag or a commit gave it, and no other.
pub(super) fn is_named_by_git(image: &Image) -> bool {
    let tag = image.name.rsplit(':').next().unwrap_or_default();
    matches!(image.label("-tag-scheme"), Some("git_tag" | "git_branch" | "git_commit"))
        && image.label("-tag").is_none_or(|own| own == tag)
}

/// What becomes of the finished images of one repository, by name.
pub(super) fn finished(images: &[Image], git: &GitNames, limits: &Limits) -> BTreeMap<String, Verdict> {
    let mut verdicts = BTreeMap::new();
    let mut counted: BTreeMap<&str, Vec<&Image>> = BTreeMap::new();
    for image in images {
        let scheme = image.label("-tag-scheme").unwrap_or("custom");
        let tag = image.name.rsplit(':').next().unwrap_or_default();
        if image.label("-tag").is_some_and(|own| own != tag) {
            let why = "somebody has given it this tag besides its own";
            verdicts.insert(image.name.clone(), Verdict::Keep(why.to_owned()));
            continue;
        }
        let verdict = match (scheme, git.gone(scheme, tag)) {
            (_, Some(why)) => Verdict::Delete(why.to_owned()),
            ("git_tag" | "git_commit", None) => {
                counted.entry(scheme).or_default().push(image);
                continue;
            }
            ("git_branch", None) => Verdict::Keep("its branch exists".to_owned()),
            _ => Verdict::Keep("it has a tag that somebody chose".to_owned()),
        };
        verdicts.insert(image.name.clone(), verdict);
    }
    for (scheme, images) in counted {
        let (age, count) = match scheme {
            "git_tag" => (limits.tags_age, limits.tags),
            _ => (limits.commits_age, limits.commits),
        };
        verdicts.extend(by_age_and_number(images, age, count));
    }
    verdicts
}

/// The newest stay.
fn by_age_and_number(mut images: Vec<&Image>, age: i64, count: usize) -> Vec<(String, Verdict)> {
    images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.name.cmp(&b.name)));
    let judge = |(position, image): (usize, &&Image)| {
        let verdict = if image.age().is_some_and(|own| own > age) {
            Verdict::Delete(format!("it is older than {} days", age / 86_400))
        } else if position >= count {
            Verdict::Delete(format!("there are {count} newer ones"))
        } else {
            Verdict::Keep("it is one of the newest".to_owned())
        };
        (image.name.clone(), verdict)
    };
    images.iter().enumerate().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, labels: &[(&str, &str)], age: i64) -> Image {
        let labels =
            labels.iter().map(|(name, value)| (format!("strake{name}"), (*value).to_owned())).collect();
        Image { name: name.to_owned(), labels, created: Some(1_000_000 - age), now: 1_000_000 }
    }

    const OLD: i64 = 3 * 3_600;

    fn deleted(verdicts: &BTreeMap<String, Verdict>) -> Vec<&str> {
        let gone = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Delete(_)));
        gone.map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn what_finished_images_descend_from_stays() {
        let stages = [
            image("a", &[("-signature", "A")], OLD),
            image("b", &[("-signature", "B"), ("-parent-signature", "A"), ("-artifact-x", "X")], OLD),
            image("b2", &[("-signature", "B")], OLD),
            image("x", &[("-signature", "X"), ("-parent-signature", "W")], OLD),
            image("w", &[("-signature", "W")], OLD),
            image("old", &[("-signature", "O"), ("-parent-signature", "A")], OLD),
            image("young", &[("-signature", "Y"), ("-parent-signature", "A")], 60),
            image("30", &[("-signature", "A"), ("-cache-version", "30")], OLD),
        ];
        let finished = [image("f", &[("-dimg", "true"), ("-signature", "B")], OLD)];
        let commits = Commits { mappings: BTreeSet::new(), repository: None };
        let roots = BTreeMap::new();
        let all =
            Stages { stages: &stages, others: &[], finished: &finished, roots: &roots, commits: &commits };
        let descent = StageRules { descent: true, young: YOUNG_SECONDS, ..StageRules::default() };
        assert_eq!(deleted(&all.judge(&descent)), ["old"]);
        assert_eq!(deleted(&all.judge(&StageRules { young: 0, ..descent })), ["old", "young"]);
        // What a young one or one that is kept for itself stands on stays with it.
        let none = Stages { finished: &[], ..all };
        assert_eq!(deleted(&none.judge(&descent)), ["b", "b2", "old", "w", "x"]);
        let roots = BTreeMap::from([("X".to_owned(), "branch main".to_owned())]);
        let verdicts = Stages { roots: &roots, ..none }.judge(&StageRules { young: 0, ..descent });
        assert_eq!(deleted(&verdicts), ["30", "a", "b", "b2", "old", "young"]);
        assert_eq!(verdicts["x"], Verdict::Keep("branch main".to_owned()));
        let below = Verdict::Keep("a stage that is kept stands on it: branch main".to_owned());
        assert_eq!(verdicts["w"], below);
        let all = Stages { finished: &finished, ..none };
        let version = StageRules { cache_version: true, ..StageRules::default() };
        assert_eq!(deleted(&all.judge(&version)), ["30"]);
        // A stage that is not here is bridged by one elsewhere.
        let here = [stages[0].clone(), stages[5].clone()];
        let all = Stages { stages: &here, others: &stages[1..2], ..all };
        assert_eq!(deleted(&all.judge(&descent)), ["old"]);
        let all = Stages { others: &[], ..all };
        assert_eq!(deleted(&all.judge(&descent)), ["a", "old"]);
    }

    #[test]
    fn the_newest_stay() {
        let images: Vec<_> = (0..5).map(|age| image(&format!("i{age}"), &[], age * 100)).collect();
        let gone = |age, count| {
            let verdicts = by_age_and_number(images.iter().rev().collect(), age, count);
            deleted(&verdicts.into_iter().collect()).join(" ")
        };
        assert_eq!(gone(1_000, 3), "i3 i4");
        assert_eq!(gone(150, 10), "i2 i3 i4");
        assert_eq!(gone(1_000, 10), "");
    }
}
