//! The commands that delete: `flush`, `cleanup`, `stages flush`, `stages cleanup`, `mrproper`.
//!
//! Which images go is decided by pure functions (`policy`) from what is known of all of them. Deleting a manifest in a
//! registry deletes every tag of it, so one that a kept tag shares stays. What a running build may be about to use is
//! younger than two hours, and stays as well. Layers in the store go with `strake prune`, which leaves what is in use.

mod by_history;
mod deletion;
mod history;
mod local;
mod policy;
mod remote;

use std::collections::BTreeMap;

use strake_engine::lock::Hold;
use strake_frontend::stagefile::ImageId;
use strake_oci::Reference;

use super::locks::Resources;
use super::push::{in_exchange, repository, split};
use crate::args::{
    CleanupArgs, CleanupPlace, CleanupRepoArgs, DeletionArgs, FlushLocalArgs, FlushPlace, FlushRepoArgs,
    Format, MrproperArgs, StagesCleanupPlace, StagesCleanupPlaceArgs,
};
use crate::commands::output;
use crate::failure::Failure;
use crate::project::{Project, Reach, STAGE_PREFIX, select};
use crate::session::Session;
use crate::settings::Settings;
use deletion::Deletion;
use policy::{StageRules, Stages};

/// The variable that also lets go what a running build may be about to use.
const NO_AGE: &str = "STRAKE_DISABLE_STAGES_CLEANUP_DATE_PERIOD_POLICY";

/// What a deletion works with.
struct Scene<'a> {
    session: &'a Session,
    project: Project,
    resources: Resources<'a>,
}

fn in_scene(
    told: &DeletionArgs,
    settings: Settings,
    repository: Option<&String>,
    work: impl FnOnce(&Scene<'_>, &mut Deletion<'_>) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    deleting(told, settings, repository, |session, resources, deletion| {
        let project =
            Project::open(&told.exchange.project, &session.settings, &session.cancellation, Reach::Local)?;
        work(&Scene { session, project, resources }, deletion)
    })
}

/// The same without a project.
fn deleting(
    told: &DeletionArgs,
    settings: Settings,
    repository: Option<&String>,
    work: impl FnOnce(&Session, Resources<'_>, &mut Deletion<'_>) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let mut exchange = told.exchange.clone();
    super::exchange_presets(&mut exchange, &settings)?;
    exchange.rows.quiet |= told.format == Format::Json;
    in_exchange(&exchange, "Deleting", settings, repository, |session, printer| {
        let mut deletion = Deletion::new(session, printer, exchange.dry_run);
        let result = work(session, Resources::new(session, exchange.lock_timeout), &mut deletion);
        // What was deleted before a failure is told as well.
        if told.format == Format::Json {
            output::json(&deletion.told())?;
        }
        deletion.report(told.report.as_deref())?;
        result
    })
}

/// `strake dimg flush`.
pub(super) fn flush(place: &FlushPlace, settings: Settings) -> Result<u8, Failure> {
    match place {
        FlushPlace::Local(args) => flush_local(args, settings),
        FlushPlace::Repo(args) => flush_repo(args, settings),
    }
}

fn flush_local(args: &FlushLocalArgs, settings: Settings) -> Result<u8, Failure> {
    in_scene(&args.told, settings, None, |scene, deletion| {
        let images = select(&scene.project.file, &args.dimgs)?;
        let _images = scene.resources.images(&scene.project, Hold::Alone)?;
        let names = dimg_names(&scene.project, &images);
        for image in local::images(scene.session)? {
            let is_stage = image.project_of_stage() == Some(&scene.project.name);
            if is_stage && args.with_stages {
                deletion.local(&image.name, "a stage of the project")?;
            } else if image.is_finished_of(&scene.project.name, &names) {
                deletion.local(&image.name, "a finished image of the project")?;
            }
        }
        local::dangling(scene.session, deletion)
    })
}

fn flush_repo(args: &FlushRepoArgs, settings: Settings) -> Result<u8, Failure> {
    in_scene(&args.told, settings, args.words.last(), |scene, deletion| {
        let (name, dimgs) = split(&args.words)?;
        let images = select(&scene.project.file, dimgs)?;
        let repository = repository(name, scene.session, &scene.project)?;
        let _repository = scene.resources.repository(&repository, Hold::Alone)?;
        let names = dimg_names(&scene.project, &images);
        for place in remote::places(&repository, &scene.project, &images)? {
            let tags = remote::tags(scene.session, &place)?;
            let doomed = tags.iter().filter_map(|tag| {
                let is_stage = tag.reference.selector().starts_with(STAGE_PREFIX);
                if is_stage && args.with_stages && place == repository {
                    return Some((tag.reference.selector(), "a stage of the project".to_owned()));
                }
                let is_meant = tag.image.is_finished_of(&scene.project.name, &names);
                is_meant.then(|| (tag.reference.selector(), "a finished image of the project".to_owned()))
            });
            let doomed = doomed.collect();
            deletion.remote(&tags, &doomed)?;
        }
        if args.with_stages {
            flush_notes(scene, &repository, deletion)?;
        }
        Ok(())
    })
}

/// Deletes what was noted of which commit used which stage.
fn flush_notes(
    scene: &Scene<'_>,
    repository: &Reference,
    deletion: &mut Deletion<'_>,
) -> Result<(), Failure> {
    for used in remote::uses(scene.session, repository)? {
        deletion.note_of_use(repository, &used, "the stages of the project go")?;
    }
    Ok(())
}

/// `strake dimg stages flush`.
pub(super) fn flush_stages(place: &FlushPlace, settings: Settings) -> Result<u8, Failure> {
    let only_stages = |dimgs: &[String]| match dimgs {
        [] => Ok(()),
        [name, ..] => Err(Failure::input(format!("stages are not deleted by dimg ({name})"))
            .hint("leave the names out: all stages of the project go")),
    };
    match place {
        FlushPlace::Local(args) => {
            only_stages(&args.dimgs)?;
            in_scene(&args.told, settings, None, |scene, deletion| {
                let _images = scene.resources.images(&scene.project, Hold::Alone)?;
                for image in local::images(scene.session)? {
                    if image.project_of_stage() == Some(&scene.project.name) {
                        deletion.local(&image.name, "a stage of the project")?;
                    }
                }
                local::dangling(scene.session, deletion)
            })
        }
        FlushPlace::Repo(args) => in_scene(&args.told, settings, args.words.last(), |scene, deletion| {
            let (name, dimgs) = split(&args.words)?;
            only_stages(dimgs)?;
            let repository = repository(name, scene.session, &scene.project)?;
            let _repository = scene.resources.repository(&repository, Hold::Alone)?;
            let tags = remote::tags(scene.session, &repository)?;
            let stages =
                tags.iter().map(|tag| tag.reference.selector()).filter(|tag| tag.starts_with(STAGE_PREFIX));
            let doomed = stages.map(|tag| (tag, "a stage of the project".to_owned())).collect();
            deletion.remote(&tags, &doomed)?;
            flush_notes(scene, &repository, deletion)
        }),
    }
}

/// `strake dimg stages cleanup`.
pub(super) fn cleanup_stages(place: &StagesCleanupPlace, settings: Settings) -> Result<u8, Failure> {
    let (StagesCleanupPlace::Local(args) | StagesCleanupPlace::Repo(args)) = place;
    if !(args.improper_cache_version || args.improper_repo_cache || args.improper_git_commit) {
        return Err(Failure::input("which stages? no option says it")
            .hint("--improper-cache-version, --improper-repo-cache REPO or --improper-git-commit"));
    }
    in_scene(&args.told, settings, args.repo.as_ref(), |scene, deletion| {
        let repository = args.repo.as_deref().map(|name| repository(name, scene.session, &scene.project));
        let repository = repository.transpose()?;
        match (place, &repository) {
            (StagesCleanupPlace::Local(_), _) => {
                cleanup_stages_here(args, scene, repository.as_ref(), deletion)
            }
            (StagesCleanupPlace::Repo(_), Some(repository)) => {
                let _repository = scene.resources.repository(repository, Hold::Alone)?;
                let rules = stage_rules(args, scene);
                cleanup_stages_there(&rules, scene, repository, &BTreeMap::new(), deletion)
            }
            (StagesCleanupPlace::Repo(_), None) => Err(Failure::input("no repository is named")),
        }
    })
}

fn stage_rules(args: &StagesCleanupPlaceArgs, scene: &Scene<'_>) -> StageRules {
    StageRules {
        cache_version: args.improper_cache_version,
        descent: args.improper_repo_cache,
        git_commit: args.improper_git_commit,
        young: young(scene.session, policy::YOUNG_SECONDS),
    }
}

/// What is younger than this stays, in seconds.
fn young(session: &Session, seconds: i64) -> i64 {
    let is_any_age = session.settings.variable(NO_AGE).is_some_and(|value| !value.is_empty());
    if is_any_age { 0 } else { seconds }
}

fn cleanup_stages_here(
    args: &StagesCleanupPlaceArgs,
    scene: &Scene<'_>,
    repository: Option<&Reference>,
    deletion: &mut Deletion<'_>,
) -> Result<(), Failure> {
    let _images = scene.resources.images(&scene.project, Hold::Alone)?;
    let own = local::images(scene.session)?;
    let own: Vec<_> =
        own.into_iter().filter(|image| image.project_of_stage() == Some(&scene.project.name)).collect();
    let (mut finished, mut others) = (Vec::new(), Vec::new());
    if args.improper_repo_cache {
        let repository = repository.ok_or_else(|| {
            Failure::input("--improper-repo-cache: no repository is named").hint("name it as the last word")
        })?;
        let _repository = scene.resources.repository(repository, Hold::Shared)?;
        finished = remote::finished(scene.session, repository, &scene.project)?;
        others = remote::tags(scene.session, repository)?.into_iter().map(|tag| tag.image).collect();
    }
    let commits = policy::Commits::of(&scene.project);
    let roots = BTreeMap::new();
    let stages =
        Stages { stages: &own, others: &others, finished: &finished, roots: &roots, commits: &commits };
    let verdict = stages.judge(&stage_rules(args, scene));
    for image in &own {
        match &verdict[&image.name] {
            policy::Verdict::Keep(why) => deletion.keep(&image.name, why),
            policy::Verdict::Delete(why) => deletion.local(&image.name, why)?,
        }
    }
    local::dangling(scene.session, deletion)
}

/// Deletes stages of a repository. `roots` are signatures of stages that stay for reasons of their own.
fn cleanup_stages_there(
    rules: &StageRules,
    scene: &Scene<'_>,
    repository: &Reference,
    roots: &BTreeMap<String, String>,
    deletion: &mut Deletion<'_>,
) -> Result<(), Failure> {
    let tags = remote::tags(scene.session, repository)?;
    let is_stage = |tag: &&remote::Tag| tag.reference.selector().starts_with(STAGE_PREFIX);
    let own: Vec<_> = tags.iter().filter(is_stage).map(|tag| tag.image.clone()).collect();
    let finished = match rules.descent {
        true => remote::finished(scene.session, repository, &scene.project)?,
        false => Vec::new(),
    };
    // What is to be deleted itself is no reason to keep anything.
    let finished: Vec<_> = finished.into_iter().filter(|image| !deletion.is_deleted(&image.name)).collect();
    let commits = policy::Commits::of(&scene.project);
    let stages = Stages { stages: &own, others: &[], finished: &finished, roots, commits: &commits };
    deletion.carry_out(&tags, &stages.judge(rules))
}

/// `strake dimg cleanup`.
pub(super) fn cleanup(args: &CleanupArgs, settings: Settings) -> Result<u8, Failure> {
    match &args.place {
        Some(CleanupPlace::Repo(args)) => cleanup_repo(args, settings),
        None => {
            deleting(&args.told, settings, None, |session, _, deletion| local::dangling(session, deletion))
        }
    }
}

fn cleanup_repo(args: &CleanupRepoArgs, settings: Settings) -> Result<u8, Failure> {
    if !args.without_kube && args.keep_list.is_none() {
        return Err(Failure::input("strake does not ask Kubernetes which images its clusters use")
            .hint("name the images that are used in a file: --keep-list FILE")
            .hint("with --without-kube old images are deleted although a cluster may run them")
            .hint("images with tags by --tag or --tag-plain are never deleted here"));
    }
    let policy = by_history::policies(args)?;
    in_scene(&args.told, settings, args.words.last(), |scene, deletion| {
        let (name, dimgs) = split(&args.words)?;
        let images = select(&scene.project.file, dimgs)?;
        let repository = repository(name, scene.session, &scene.project)?;
        let _repository = scene.resources.repository(&repository, Hold::Alone)?;
        deletion.keep_listed(&policy.names);
        if args.by_history || args.policy.is_some() {
            by_history::cleanup(&policy, scene, &repository, &images, deletion)?;
            return deletion.show_kept();
        }
        cleanup_finished(scene, &repository, &images, deletion)?;
        if args.with_stages {
            let young = young(scene.session, policy::YOUNG_SECONDS);
            let rules = StageRules { descent: true, young, ..StageRules::default() };
            cleanup_stages_there(&rules, scene, &repository, &BTreeMap::new(), deletion)?;
        }
        Ok(())
    })
}

/// Deletes finished images whose tag, branch or commit is gone, and old ones.
fn cleanup_finished(
    scene: &Scene<'_>,
    repository: &Reference,
    images: &[ImageId],
    deletion: &mut Deletion<'_>,
) -> Result<(), Failure> {
    let limits = policy::Limits::read(&scene.session.settings)?;
    let names = dimg_names(&scene.project, images);
    let Some(git) = policy::GitNames::of(&scene.project)? else {
        deletion.note("the project is in no git repository: finished images stay");
        return Ok(());
    };
    for place in remote::places(repository, &scene.project, images)? {
        let tags = remote::tags(scene.session, &place)?;
        let own = tags.iter().filter(|tag| tag.image.is_finished_of(&scene.project.name, &names));
        let own: Vec<_> = own.map(|tag| tag.image.clone()).collect();
        deletion.carry_out(&tags, &policy::finished(&own, &git, &limits))?;
    }
    Ok(())
}

/// `strake dimg mrproper`. Needs no project.
pub(super) fn mrproper(args: &MrproperArgs, settings: Settings) -> Result<u8, Failure> {
    deleting(&args.told, settings, None, |session, resources, deletion| {
        let images = local::images(session)?;
        let projects: std::collections::BTreeSet<&str> =
            images.iter().filter_map(|image| image.project_of_stage()).collect();
        for project in projects {
            let _images = resources.take(&format!("{project}.images"), Hold::Alone)?;
            for image in images.iter().filter(|image| image.project_of_stage() == Some(project)) {
                let why = if args.all {
                    "a stage"
                } else if args.improper_cache_version_stages && image.is_of_other_version() {
                    policy::OTHER_VERSION
                } else if args.improper_dev_mode_cache && image.label("-dev-mode") == Some("true") {
                    "a stage of developer mode"
                } else {
                    continue;
                };
                deletion.local(&image.name, why)?;
            }
        }
        if args.all {
            for image in images.iter().filter(|image| image.label("-dimg") == Some("true")) {
                deletion.local(&image.name, "a finished image")?;
            }
            deletion.directory(&session.settings.root.join("builds"))?;
        }
        Ok(())
    })
}

fn dimg_names(project: &Project, images: &[ImageId]) -> Vec<String> {
    images.iter().map(|image| project.file.image(*image).name.to_string()).collect()
}
