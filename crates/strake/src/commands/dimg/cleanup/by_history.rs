//! `strake dimg cleanup repo --by-history`.
//!
//! An image of a dimg stays while a policy speaks for it, while it is young, or because somebody named it. What has a
//! finished image's name goes and stays with that; then stages go that nothing kept stands on, and the notes of the
//! uses of what is gone. What was noted while all this was decided is looked at once more before anything goes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use strake_frontend::stagefile::{CleanupPolicy, ImageId};
use strake_oci::Reference;

use super::deletion::Deletion;
use super::history::{self, Kept};
use super::policy::{self, GitNames, Image, Limits, StageRules, Verdict};
use super::remote::Tag;
use super::{Scene, cleanup_stages_there, dimg_names, remote, young};
use crate::args::CleanupRepoArgs;
use crate::failure::Failure;
use crate::project::{Use, Version, dimg_key, noted_at};
use crate::report::{self, Source};

/// The largest file of policies or names that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The policies of a command: those of the file, or the usual ones.
///
/// # Errors
/// When the file cannot be read or is wrong.
pub(super) fn policies(args: &CleanupRepoArgs) -> Result<CleanupPolicy, Failure> {
    let mut policy = match &args.policy {
        None => CleanupPolicy::default(),
        Some(path) => {
            let text = read(path)?;
            CleanupPolicy::parse(&text).map_err(|diagnostics| {
                report::invalid(&Source { name: path.display().to_string(), text }, &diagnostics)
            })?
        }
    };
    if let Some(within) = args.keep_built_within {
        policy.built_within = within.as_secs();
    }
    policy.names.extend(args.keep.iter().cloned());
    if let Some(path) = &args.keep_list {
        let text = read(path)?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        policy.names.extend(lines.flat_map(str::split_whitespace).map(str::to_owned));
    }
    Ok(policy)
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::file("read", path, &error);
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, FILE_MAX + 1), &mut text).map_err(failed)?;
    if text.len() as u64 > FILE_MAX {
        return Err(Failure::input(format!("{}: it is larger than {FILE_MAX} bytes", path.display())));
    }
    Ok(text)
}

/// Cleans a repository.
///
/// # Errors
/// When git or the registry do not answer.
pub(super) fn cleanup(
    policy: &CleanupPolicy,
    scene: &Scene<'_>,
    repository: &Reference,
    images: &[ImageId],
    deletion: &mut Deletion<'_>,
) -> Result<(), Failure> {
    let now = Timestamp::now().as_second();
    let uses = remote::uses(scene.session, repository)?;
    let kept = history::kept(&scene.project, policy, &uses, now)?;
    let young = young(scene.session, i64::try_from(policy.built_within).unwrap_or(i64::MAX));
    let names = dimg_names(&scene.project, images);
    let mut judge = Judge {
        scene,
        repository,
        uses: &uses,
        kept,
        young,
        now,
        stages: remote::tags(scene.session, repository)?,
        asked: (images.len() < scene.project.file.dimgs().count())
            .then(|| names.iter().map(|name| dimg_key(&scene.project.name, name)).collect()),
        verdicts: BTreeMap::new(),
    };
    judge.versions(deletion)?;
    finished(&judge, &names, images, deletion)?;
    let rules = StageRules { descent: true, young, ..StageRules::default() };
    cleanup_stages_there(&rules, scene, repository, &judge.roots(deletion), deletion)?;
    judge.notes(deletion)
}

/// What becomes of versions.
struct Judge<'a> {
    scene: &'a Scene<'a>,
    repository: &'a Reference,
    uses: &'a BTreeSet<Use>,
    kept: Kept,
    /// What is younger than this stays, in seconds.
    young: i64,
    now: i64,
    /// What the repository had.
    stages: Vec<Tag>,
    /// The dimgs that were asked for, unless all were.
    asked: Option<BTreeSet<String>>,
    verdicts: BTreeMap<Version, Verdict>,
}

impl Judge<'_> {
    fn versions(&mut self, deletion: &Deletion<'_>) -> Result<(), Failure> {
        for used in self.uses {
            if !self.verdicts.contains_key(&used.version) {
                let verdict = self.version(&used.version, deletion)?;
                self.verdicts.insert(used.version.clone(), verdict);
            }
        }
        // Somebody may have published meanwhile.
        for used in remote::uses(self.scene.session, self.repository)?.difference(self.uses) {
            let why = Verdict::Keep("a commit has used it just now".to_owned());
            self.verdicts.insert(used.version.clone(), why);
        }
        Ok(())
    }

    fn version(&self, version: &Version, deletion: &Deletion<'_>) -> Result<Verdict, Failure> {
        if self.asked.as_ref().is_some_and(|asked| !asked.contains(&version.dimg)) {
            return Ok(Verdict::Keep("it is of a dimg that was not asked for".to_owned()));
        }
        if let Some(why) = self.kept.reasons.get(version) {
            return Ok(Verdict::Keep(why.clone()));
        }
        let is_own = |tag: &&Tag| tag.image.signature().is_some_and(|signature| version.has(signature));
        for tag in self.stages.iter().filter(is_own) {
            if let Some(why) = deletion.is_listed(tag) {
                return Ok(Verdict::Keep(why.to_owned()));
            }
            if tag.image.is_younger_than(self.young) {
                return Ok(Verdict::Keep(policy::young_reason(self.young)));
            }
        }
        // A commit that is not here yet may be the newest of all.
        for used in self.kept.unknown.iter().filter(|used| used.version == *version) {
            let noted = noted_at(self.scene.session, self.repository, used)?;
            if noted.is_some_and(|noted| self.now.saturating_sub(noted) < self.young) {
                let commit = &used.commit[..10];
                return Ok(Verdict::Keep(format!("commit {commit}, which is not here, has used it lately")));
            }
        }
        Ok(Verdict::Delete("no branch or tag that is kept speaks for it".to_owned()))
    }

    /// What becomes of the version that an image is of, if it is known of any.
    fn verdict(&self, image: &Image) -> Option<&Verdict> {
        let dimg = image.label("-dimg-name")?;
        self.verdicts.get(&Version::new(&self.scene.project.name, dimg, image.signature()?))
    }

    /// The signatures of stages that stay by themselves, with why.
    fn roots(&self, deletion: &Deletion<'_>) -> BTreeMap<String, String> {
        let mut roots = BTreeMap::new();
        for tag in &self.stages {
            let Some(signature) = tag.image.signature().map(str::to_owned) else { continue };
            if let Some(why) = deletion.is_listed(tag) {
                roots.insert(signature, why.to_owned());
                continue;
            }
            let kept = self.verdicts.iter().find_map(|(version, verdict)| match verdict {
                Verdict::Keep(why) if version.has(&signature) => Some(why),
                _ => None,
            });
            if let Some(why) = kept {
                roots.entry(signature).or_insert_with(|| why.clone());
            }
        }
        roots
    }

    /// Deletes the notes of what is gone.
    fn notes(&self, deletion: &mut Deletion<'_>) -> Result<(), Failure> {
        let gone = |used: &&Use| matches!(self.verdicts.get(&used.version), Some(Verdict::Delete(_)));
        for used in self.uses.iter().filter(gone) {
            deletion.note_of_use(self.repository, used, "the image that it speaks for is not kept")?;
        }
        Ok(())
    }
}

/// Deletes names of finished images. Those without a note go by the rules for tags.
fn finished(
    judge: &Judge<'_>,
    names: &[String],
    images: &[ImageId],
    deletion: &mut Deletion<'_>,
) -> Result<(), Failure> {
    let Judge { scene, repository, young, .. } = judge;
    let limits = Limits::read(&scene.session.settings)?;
    let Some(git) = GitNames::of(&scene.project)? else { return Ok(()) };
    for place in remote::places(repository, &scene.project, images)? {
        let tags = remote::tags(scene.session, &place)?;
        let own = tags.iter().filter(|tag| tag.image.is_finished_of(&scene.project.name, names));
        let own: Vec<Image> = own.map(|tag| tag.image.clone()).collect();
        let mut verdicts = policy::finished(&own, &git, &limits);
        for image in &own {
            if image.is_younger_than(*young) {
                verdicts.insert(image.name.clone(), Verdict::Keep(policy::young_reason(*young)));
            } else if policy::is_named_by_git(image)
                && let Some(verdict) = judge.verdict(image)
            {
                verdicts.insert(image.name.clone(), verdict.clone());
            }
        }
        deletion.carry_out(&tags, &verdicts)?;
    }
    Ok(())
}
