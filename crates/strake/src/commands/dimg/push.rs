//! `strake dimg push`, `spush`, `stages push`: sending stages and finished images to a registry.

use std::collections::BTreeSet;
use std::time::Instant;

use strake_engine::Environment;
use strake_engine::image::{self, Force, ImageError};
use strake_engine::lock::Hold;
use strake_frontend::stagefile::ImageId;
use strake_frontend::stagefile::plan::{Mode, Plan};
use strake_oci::{Platform, Reference};

use super::locks::Resources;
use super::printer::Printer;
use super::select_one;
use super::tag::{self, Tagging};
use super::tags::Scheme;
use crate::args::{DimgPushArgs, DimgSpushArgs, ExchangeArgs, LoginArgs, StagesPushArgs, TagNames};
use crate::commands::{in_session, ui};
use crate::failure::Failure;
use crate::project::{
    PlanRequest, Planner, Project, Reach, Use, Version, needed, note, select, stage_tag, wrong,
};
use crate::report;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::conveyor::State;

/// Whether the stages are sent with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stages {
    Too,
    Not,
}

/// What is to be sent where.
#[derive(Debug, Clone, Copy)]
pub(super) struct PushWhat<'a> {
    pub(super) repository: &'a str,
    pub(super) stages: Stages,
    pub(super) tags: &'a TagNames,
}

/// Where the names of finished images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// The repository, and the name of the image below it.
    WithImage,
    /// The repository as it is.
    Literal,
}

/// `strake dimg push`.
pub(super) fn push(args: &DimgPushArgs, settings: Settings) -> Result<u8, Failure> {
    let stages = if args.with_stages { Stages::Too } else { Stages::Not };
    in_exchange(&args.exchange, "Pushing", settings, args.words.last(), |session, printer| {
        let (repository, dimgs) = split(&args.words)?;
        let project =
            Project::open(&args.exchange.project, &session.settings, &session.cancellation, Reach::Local)?;
        let images = select(&project.file, dimgs)?;
        let what = PushWhat { repository, stages, tags: &args.tags };
        let push = Push::new(session, &project, printer, &what)?.of(&args.exchange);
        let _images = push.resources.images(&project, Hold::Shared)?;
        push.all(&mut planner(session, &project, &args.exchange), &images)
    })
}

/// `strake dimg spush`.
pub(super) fn spush(args: &DimgSpushArgs, settings: Settings) -> Result<u8, Failure> {
    in_exchange(&args.exchange, "Pushing", settings, args.words.last(), |session, printer| {
        let (repository, dimgs) = split(&args.words)?;
        let project =
            Project::open(&args.exchange.project, &session.settings, &session.cancellation, Reach::Local)?;
        let [dimg] = dimgs else {
            let none = dimgs.is_empty();
            let image = none.then(|| select_one(&project.file, None)).transpose()?;
            let image = image
                .ok_or_else(|| Failure::input("spush sends one dimg").hint("dimg push sends several"))?;
            return single(args, session, printer, &project, repository, image);
        };
        let image = select_one(&project.file, Some(dimg))?;
        single(args, session, printer, &project, repository, image)
    })
}

fn single(
    args: &DimgSpushArgs,
    session: &Session,
    printer: &Printer,
    project: &Project,
    repository: &str,
    image: ImageId,
) -> Result<(), Failure> {
    let what = PushWhat { repository, stages: Stages::Not, tags: &args.tags };
    let mut push = Push::new(session, project, printer, &what)?.of(&args.exchange);
    push.naming = Naming::Literal;
    let _images = push.resources.images(project, Hold::Shared)?;
    push.all(&mut planner(session, project, &args.exchange), &[image])
}

/// `strake dimg stages push`.
pub(super) fn stages(args: &StagesPushArgs, settings: Settings) -> Result<u8, Failure> {
    in_exchange(&args.exchange, "Pushing", settings, args.words.last(), |session, printer| {
        let (repository, dimgs) = split(&args.words)?;
        let project =
            Project::open(&args.exchange.project, &session.settings, &session.cancellation, Reach::Local)?;
        let images = select(&project.file, dimgs)?;
        let what = PushWhat { repository, stages: Stages::Too, tags: &TagNames::default() };
        let push = Push::new(session, &project, printer, &what)?.of(&args.exchange);
        let _images = push.resources.images(&project, Hold::Shared)?;
        let mut planner = planner(session, &project, &args.exchange);
        for image in images {
            let level = push.heading(image)?;
            push.stages_of(&mut planner, image, level)?;
        }
        Ok(())
    })
}

/// Opens a session for a command that shows rows, and tells how long it took.
///
/// # Errors
/// Whatever `work` answers.
pub(super) fn in_exchange(
    args: &ExchangeArgs,
    title: &'static str,
    mut settings: Settings,
    repository: Option<&String>,
    work: impl FnOnce(&Session, &Printer) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let started = Instant::now();
    log_in(&mut settings, &args.login, repository.map(String::as_str))?;
    settings.read_keys(&args.keys)?;
    let printer = Printer::new(&args.rows, &settings);
    let options = ui(&settings, title, None, args.rows.quiet);
    in_session(settings, options, |session| {
        let result = work(session, &printer);
        session.ui.finish();
        printer.running_time(started.elapsed())?;
        result.map(|()| 0)
    })
}

/// Takes the login of a command for the registry of the repository that it names.
///
/// # Errors
/// When user, password or registry are not given with each other.
pub(super) fn log_in(
    settings: &mut Settings,
    login: &LoginArgs,
    repository: Option<&str>,
) -> Result<(), Failure> {
    let repository: Option<Reference> = repository.and_then(|name| name.parse().ok());
    settings.log_in(login, &repository.iter().collect::<Vec<_>>())
}

/// The repository, which is the last word, and the others.
///
/// # Errors
/// When there is no word.
pub(super) fn split(words: &[String]) -> Result<(&str, &[String]), Failure> {
    let (repository, dimgs) = words.split_last().ok_or_else(|| {
        Failure::input("no repository is named").hint("it is the last word: [DIMG ...] REPO")
    })?;
    Ok((repository, dimgs))
}

/// Plans with what is here.
pub(super) fn planner<'p>(session: &'p Session, project: &'p Project, args: &ExchangeArgs) -> Planner<'p> {
    let platform = session.settings.platform.clone();
    let (mode, reach) = (mode(args), Reach::Local);
    Planner::new(project, PlanRequest { session: Some(session), platform, mode, reach })
}

fn mode(args: &ExchangeArgs) -> Mode {
    if args.project.dev { Mode::Developer } else { Mode::Committed }
}

/// A repository as it was typed. `:minikube` is the registry that a local cluster has.
///
/// # Errors
/// When it is no name of a repository, or its registry is blocked.
pub(super) fn repository(text: &str, session: &Session, project: &Project) -> Result<Reference, Failure> {
    let text = match text {
        ":minikube" => format!("localhost:5000/{}", project.name),
        text => text.to_owned(),
    };
    let wrong = |why: String| {
        Failure::input(format!("REPO {text}: {why}"))
            .hint("write it as [HOST[:PORT]/]NAME, in lower case and without a tag")
    };
    let reference: Reference = text.parse().map_err(|error| wrong(format!("{error}")))?;
    if text.contains('@') || text.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        return Err(wrong("a repository has no tag and no digest".to_owned()));
    }
    session.permit(&reference)?;
    Ok(reference)
}

/// Notes that the current commit uses an image, which cleaning by history goes by. A registry that does not take the note
/// has the image all the same, so this is only warned of.
pub(super) fn note_use(
    session: &Session,
    project: &Project,
    repository: &Reference,
    image: ImageId,
    stage: &Reference,
) {
    let Some(Ok(Some(commit))) = project.repository.as_ref().map(|repository| repository.head()) else {
        return;
    };
    let dimg = project.file.image(image).name.to_string();
    let version = Version::new(&project.name, &dimg, &stage.selector());
    let used = Use { version, commit: commit.to_string() };
    if let Err(failure) = note(session, repository, &used, &format!("{} {dimg}", project.name)) {
        report::warn(&format!("note that commit {commit} uses {dimg}: {}", failure.message));
    }
}

/// Sends what was asked for.
#[derive(Debug)]
pub(super) struct Push<'a> {
    session: &'a Session,
    project: &'a Project,
    printer: &'a Printer,
    resources: Resources<'a>,
    repository: Reference,
    stages: Stages,
    tags: BTreeSet<(Scheme, String)>,
    naming: Naming,
    platform: Platform,
    dry_run: bool,
    /// Whether the images are those of commits.
    mode: Mode,
}

impl<'a> Push<'a> {
    /// Finds out what is meant; nothing is sent yet.
    ///
    /// # Errors
    /// When the repository or a tag makes no sense.
    pub(super) fn new(
        session: &'a Session,
        project: &'a Project,
        printer: &'a Printer,
        what: &PushWhat<'_>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            session,
            project,
            printer,
            resources: Resources::new(session, 86_400),
            repository: repository(what.repository, session, project)?,
            stages: what.stages,
            tags: tag::asked(what.tags, project, session)?,
            naming: Naming::WithImage,
            platform: session.settings.platform.clone(),
            dry_run: false,
            mode: Mode::Committed,
        })
    }

    /// The same for images that were planned like this.
    pub(super) fn planned(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    fn of(mut self, args: &ExchangeArgs) -> Self {
        self.mode = mode(args);
        self.resources = Resources::new(self.session, args.lock_timeout);
        self.dry_run = args.dry_run;
        self
    }

    /// Sends all images. None is sent unless all are built.
    ///
    /// # Errors
    /// When one is not built, or the registry does not take it.
    pub(super) fn all(&self, planner: &mut Planner<'_>, images: &[ImageId]) -> Result<(), Failure> {
        let last = images.iter().map(|image| tag::last_stage(self.project, planner, *image));
        let last: Vec<Reference> = last.collect::<Result<_, _>>()?;
        for (image, stage) in images.iter().zip(&last) {
            let level = self.heading(*image)?;
            if self.stages == Stages::Too {
                self.stages_of(planner, *image, level)?;
            }
            self.finished(*image, stage, level)?;
            let is_of_commit = self.naming == Naming::WithImage && self.mode == Mode::Committed;
            if is_of_commit && !self.dry_run {
                note_use(self.session, self.project, &self.repository, *image, stage);
            }
        }
        Ok(())
    }

    fn heading(&self, image: ImageId) -> Result<usize, Failure> {
        let Some(name) = self.project.file.image(image).name.as_str() else { return Ok(0) };
        self.printer.print(&self.printer.layout.heading(0, name))?;
        Ok(1)
    }

    /// The stages of an image that are here, first to last so that nobody finds a stage without the ones below; then
    /// those of its artifacts.
    fn stages_of(&self, planner: &mut Planner<'_>, image: ImageId, level: usize) -> Result<(), Failure> {
        let layout = self.printer.layout;
        self.printer.print(&layout.heading(level, "stages"))?;
        let plan = planner.plan(image)?;
        self.stages_in(planner, &plan, image, level + 1)?;
        let mut sent = BTreeSet::from([image]);
        let mut waiting = self.artifacts(&plan, image);
        while let Some(artifact) = waiting.pop() {
            if !sent.insert(artifact) {
                continue;
            }
            let title = format!("artifact {}", self.project.file.image(artifact).name);
            self.printer.print(&layout.heading(level + 1, &title))?;
            self.stages_in(planner, &plan, artifact, level + 2)?;
            waiting.extend(self.artifacts(&plan, artifact));
        }
        Ok(())
    }

    fn artifacts(&self, plan: &Plan, image: ImageId) -> Vec<ImageId> {
        let rules = &self.project.file.image(image).rules;
        let stages = plan.conveyors[&image].stages.iter();
        let needed = stages.flat_map(|stage| needed(rules, &stage.action)).map(|(_, needed)| needed);
        needed.filter(|image| self.project.file.image(*image).is_artifact()).collect()
    }

    fn stages_in(
        &self,
        planner: &mut Planner<'_>,
        plan: &Plan,
        image: ImageId,
        level: usize,
    ) -> Result<(), Failure> {
        for stage in &plan.conveyors[&image].stages {
            if stage.found.is_usable() && planner.is_there(&stage.signature)? {
                self.stage(&stage.signature, level)?;
            }
        }
        Ok(())
    }

    fn stage(&self, signature: &str, level: usize) -> Result<(), Failure> {
        let local = self.project.stage_reference(signature)?;
        let target = stage_tag(&self.repository, signature)?;
        let _transfer = self.lock(&target)?;
        let title = target.selector();
        if self.has_stage(&local, &target, signature)? {
            return self.row(level, &title, State::Exists);
        }
        self.send(&local, &target, level, &title)
    }

    /// Whether the registry has a stage. One that is not what its tag says is replaced.
    fn has_stage(&self, local: &Reference, target: &Reference, signature: &str) -> Result<bool, Failure> {
        let Some(there) = self.session.with(|env| env.registry.head(target))? else { return Ok(false) };
        let own =
            self.session.with(|env| image::resolve(env, local, &self.platform, image::PullPolicy::Never))?;
        if own.manifest.is_some_and(|own| own.digest == there.digest) {
            return Ok(true);
        }
        let problem = match self.session.with(|env| image::peek(env, target, &self.platform)) {
            Ok(None) => return Ok(false),
            Ok(Some(image)) => match image
                .distrust(&self.session.settings.trusted_keys)
                .or_else(|| wrong(&self.project.name, &image, signature))
            {
                None => return Ok(true),
                Some(why) => why,
            },
            Err(error @ (ImageError::Malformed { .. } | ImageError::Platform { .. })) => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        report::warn(&format!("{}: {problem}; it is replaced", target.familiar()));
        Ok(false)
    }

    fn send(&self, local: &Reference, target: &Reference, level: usize, title: &str) -> Result<(), Failure> {
        if self.dry_run {
            return self.row(level, title, State::Push);
        }
        self.row(level, title, State::Pushing)?;
        let started = Instant::now();
        let options = self.session.settings.push_options();
        let pushed = self.session.with(|env| image::push_as(env, local, target, &options));
        let state = match &pushed {
            Ok(_) => State::Done(started.elapsed()),
            Err(_) => State::Failed(started.elapsed()),
        };
        self.row(level, title, state)?;
        pushed.map(drop).map_err(Failure::from)
    }

    /// The images that the tags are to stand for, each on top of the last stage.
    fn finished(&self, image: ImageId, stage: &Reference, level: usize) -> Result<(), Failure> {
        let mut heading = None;
        for (scheme, tag) in &self.tags {
            if heading != Some(scheme) {
                self.printer.print(&self.printer.layout.heading(level, scheme.name()))?;
                heading = Some(scheme);
            }
            let target = self.target(image, tag)?;
            let _transfer = self.lock(&target)?;
            let dimg = self.project.file.image(image).name.to_string();
            let tagging = Tagging {
                session: self.session,
                stage,
                name: &target,
                dimg: &dimg,
                scheme: *scheme,
                platform: &self.platform,
            };
            let title = target.familiar();
            if self.has_finished(&tagging)? {
                self.row(level + 1, &title, State::Exists)?;
            } else {
                self.send_finished(&tagging, level + 1, &title)?;
            }
        }
        Ok(())
    }

    fn target(&self, image: ImageId, tag: &str) -> Result<Reference, Failure> {
        let name = self.project.file.image(image).name.as_str().filter(|_| self.naming == Naming::WithImage);
        let repository = format!("{}/{}", self.repository.registry(), self.repository.repository());
        let repository = name.map_or_else(|| repository.clone(), |name| format!("{repository}/{name}"));
        let target = format!("{repository}:{tag}");
        target.parse().map_err(|error| Failure::input(format!("{target}: {error}")))
    }

    /// Whether the tag stands for an image on top of our last stage.
    fn has_finished(&self, tagging: &Tagging<'_>) -> Result<bool, Failure> {
        match self.session.with(|env| image::peek(env, tagging.name, &self.platform)) {
            Ok(Some(image)) => {
                let is_trusted = image.distrust(&self.session.settings.trusted_keys).is_none();
                Ok(is_trusted && tagging.is_as_meant(&image.config)?)
            }
            // Whatever it is that has the tag: it is not ours.
            Ok(None) | Err(ImageError::Malformed { .. } | ImageError::Platform { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The image has its name here only while it is sent, unless the user gave it that name before.
    fn send_finished(&self, tagging: &Tagging<'_>, level: usize, title: &str) -> Result<(), Failure> {
        if self.dry_run {
            return self.row(level, title, State::Push);
        }
        let find = |env: &Environment<'_>| match image::find(env, &tagging.name.familiar()) {
            Ok(found) => Ok(Some(found.id)),
            Err(ImageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        };
        let before = self.session.with(find)?;
        if !tagging.exists()? {
            tagging.make()?;
        }
        let sent = self.send(tagging.name, tagging.name, level, title);
        self.session.with(|env| match before {
            Some(before) => image::tag(env, &before.to_string(), tagging.name),
            None => image::remove(env, &tagging.name.familiar(), Force::Yes).map(drop),
        })?;
        sent
    }

    fn lock(&self, target: &Reference) -> Result<Option<strake_engine::lock::Lease>, Failure> {
        if self.dry_run {
            return Ok(None);
        }
        self.resources.transfer(target).map(Some)
    }

    fn row(&self, level: usize, title: &str, state: State) -> Result<(), Failure> {
        self.printer.print(&self.printer.layout.row(level, title, state))
    }
}
