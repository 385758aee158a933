//! `strake dimg tag`: names for finished images.
//!
//! What is named is not the last stage but an image of its own on top of it, which adds nothing but labels: so an image
//! of a name is never taken for a stage, and it is known why it has the name.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::{Instant, SystemTime};

use strake_engine::image::{self, CommitOptions, ImageError};
use strake_engine::{BuildRequest, Environment, Sharing};
use strake_frontend::stagefile::ImageId;
use strake_frontend::stagefile::plan::Mode;
use strake_git::Repository;
use strake_graph::{Graph, History, ImageOp, Op, Span, Stage, Step};
use strake_oci::{ContainerConfig, ImageConfig, Platform, Reference};

use super::printer::Printer;
use super::tags::{Scheme, Surroundings, tags};
use crate::args::{DimgTagArgs, TagNames};
use crate::commands::{in_session, ui};
use crate::failure::{Failure, chain};
use crate::project::{PlanRequest, Planner, Project, Reach, image_config, select};
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::conveyor::State;

/// `strake dimg tag`.
pub(super) fn tag(args: &DimgTagArgs, settings: Settings) -> Result<u8, Failure> {
    let started = Instant::now();
    let printer = Printer::new(&args.rows, &settings);
    let options = ui(&settings, "Tagging", None, args.rows.quiet);
    in_session(settings, options, |session| {
        let result = tag_in(args, session, &printer);
        session.ui.finish();
        printer.running_time(started.elapsed())?;
        result
    })
}

fn tag_in(args: &DimgTagArgs, session: &Session, printer: &Printer) -> Result<u8, Failure> {
    let Some((repository, dimgs)) = args.words.split_last() else {
        return Err(Failure::input("no repository is named").hint("strake dimg tag [DIMG ...] REPO"));
    };
    let project = Project::open(&args.project, &session.settings, &session.cancellation, Reach::Local)?;
    let images = select(&project.file, dimgs)?;
    let tags = asked(&args.tags, &project, session)?;
    let platform = session.settings.platform.clone();
    let mode = if args.project.dev { Mode::Developer } else { Mode::Committed };
    let request =
        PlanRequest { session: Some(session), platform: platform.clone(), mode, reach: Reach::Local };
    let mut planner = Planner::new(&project, request);
    // Nothing is named unless everything can be.
    let last = images.iter().map(|image| last_stage(&project, &mut planner, *image));
    let last: Vec<Reference> = last.collect::<Result<_, _>>()?;
    for (image, stage) in images.iter().zip(&last) {
        let name = project.file.image(*image).name.as_str();
        let dimg = project.file.image(*image).name.to_string();
        let target = name.map_or_else(|| repository.clone(), |name| format!("{repository}/{name}"));
        let level = usize::from(name.is_some());
        printer.print(&name.map(|name| printer.layout.heading(0, name)).unwrap_or_default())?;
        let mut heading = None;
        for (scheme, tag) in &tags {
            if heading != Some(scheme) {
                printer.print(&printer.layout.heading(level, scheme.name()))?;
                heading = Some(scheme);
            }
            let target = format!("{target}:{tag}");
            let name: Reference =
                target.parse().map_err(|error| Failure::input(format!("{target}: {error}")))?;
            let started = Instant::now();
            let tagging =
                Tagging { session, stage, name: &name, dimg: &dimg, scheme: *scheme, platform: &platform };
            let state = match tagging.exists()? {
                true => State::Exists,
                false if args.dry_run => State::Tag,
                false => {
                    tagging.make()?;
                    State::Done(started.elapsed())
                }
            };
            printer.print(&printer.layout.row(level + 1, &name.familiar(), state))?;
        }
    }
    Ok(0)
}

/// The tags that are asked for.
///
/// # Errors
/// When one is asked for that there is nothing to make of, or the repository cannot be read.
pub(super) fn asked(
    args: &TagNames,
    project: &Project,
    session: &Session,
) -> Result<BTreeSet<(Scheme, String)>, Failure> {
    let variable = |name: &str| {
        let value = session.settings.variable(name)?.to_str()?;
        (!value.is_empty()).then(|| value.to_owned())
    };
    let failed = |error: strake_git::GitError| Failure::environment(error.to_string());
    let repository = project.repository.as_deref();
    let branch = || repository.map_or(Ok(None), Repository::branch).map_err(failed);
    let commit = || {
        let head = repository.map_or(Ok(None), Repository::head).map_err(failed)?;
        Ok(head.map(|commit| commit.to_string()))
    };
    tags(args, &Surroundings { variable: &variable, branch: &branch, commit: &commit })
}

/// The name of the image of the last stage, which must be there.
///
/// # Errors
/// When it is not, or the plan cannot be made.
pub(super) fn last_stage(
    project: &Project,
    planner: &mut Planner<'_>,
    image: ImageId,
) -> Result<Reference, Failure> {
    let plan = planner.plan(image)?;
    let dimg = &project.file.image(image).name;
    if !plan.conveyor().to_assemble().is_empty() {
        let name = dimg.as_str().map(|name| format!(" {name}")).unwrap_or_default();
        let failure = Failure::input(format!("dimg {dimg} is not built"));
        return Err(failure.hint(format!("build it: strake dimg build{name}")));
    }
    let name = project.stage_name(plan.conveyor().signature());
    name.parse().map_err(|error| Failure::input(format!("{name} is no name for an image: {error}")))
}

/// One name for one image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tagging<'a> {
    pub(super) session: &'a Session,
    pub(super) stage: &'a Reference,
    pub(super) name: &'a Reference,
    /// What the stage file calls the image.
    pub(super) dimg: &'a str,
    pub(super) scheme: Scheme,
    pub(super) platform: &'a Platform,
}

impl Tagging<'_> {
    /// The labels of the image that the name is to stand for. One tells which image it stands on.
    fn labels(&self, id: strake_oci::ImageId, below: &ImageConfig) -> BTreeMap<String, String> {
        let own = [
            ("strake-dimg", "true".to_owned()),
            ("strake-tag-scheme", self.scheme.name().to_owned()),
            ("strake-dimg-name", self.dimg.to_owned()),
            ("strake-parent-image", id.to_string()),
            // So every tag has an image of its own, and in a registry one can go without the others.
            ("strake-tag", self.name.selector()),
        ];
        let mut labels = below.config.labels.clone();
        labels.extend(own.map(|(name, value)| (name.to_owned(), value)));
        labels
    }

    /// Whether the name stands for what it would stand for.
    pub(super) fn exists(&self) -> Result<bool, Failure> {
        let known = match self.session.with(|env| image::find(env, &self.name.familiar())) {
            Ok(found) => image_config(&self.session.store, found.id)?,
            Err(ImageError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.is_as_meant(&known)
    }

    /// Whether the image of this configuration is the one that the name is to stand for: its labels say so, but anybody can
    /// write labels, so it has to be the same image in all else too.
    pub(super) fn is_as_meant(&self, known: &ImageConfig) -> Result<bool, Failure> {
        let (id, stage) = self.stage()?;
        let labels = self.labels(id, &stage);
        let config = ContainerConfig { labels, ..stage.config };
        let epoch = self.session.settings.source_date_epoch;
        let meant = self.session.with(|env| image::diff_ids_with(env, id, epoch))?;
        Ok(known.config == config && meant.is_some_and(|meant| known.rootfs.diff_ids == meant))
    }

    fn stage(&self) -> Result<(strake_oci::ImageId, ImageConfig), Failure> {
        let found = self.session.with(|env| image::find(env, &self.stage.familiar()))?;
        Ok((found.id, image_config(&self.session.store, found.id)?))
    }

    /// Makes the image and gives it the name.
    pub(super) fn make(&self) -> Result<(), Failure> {
        let (id, mut config) = self.stage()?;
        config.config.labels = self.labels(id, &config);
        let label = self.name.familiar();
        let mut graph = Graph::new();
        let op = ImageOp { reference: self.stage.clone(), id, diff_ids: config.rootfs.diff_ids };
        let result = graph.push_step(Step {
            op: Op::Image(op),
            platform: self.platform.clone(),
            span: Span::default(),
            label: label.clone(),
            stage: label.clone(),
            position: None,
            no_cache: false,
            named: None,
        });
        let inherited = config.history.into_iter().map(History::Inherited);
        let made = History::Instruction { created_by: "strake dimg tag".to_owned(), step: None };
        let stage = graph.push_stage(Stage {
            name: label.clone(),
            result,
            platform: self.platform.clone(),
            config: config.config,
            author: config.author,
            history: inherited.chain([made]).collect(),
        });
        graph.push_target(stage);
        let request = BuildRequest {
            graph,
            contexts: BTreeMap::new(),
            files: BTreeMap::new(),
            secrets: BTreeMap::new(),
            network: self.session.settings.network,
            hosts: Vec::new(),
            ca_certificates: None,
            jobs: NonZeroUsize::MIN,
            explain: false,
            place: label,
            epoch: None,
            sharing: Sharing::default(),
            wants_layers: false,
        };
        self.session.with(|env: &Environment<'_>| {
            let built =
                strake_engine::build(&request, env).map_err(|error| Failure::environment(chain(&error)))?;
            let stage = built.stages.first().expect("the graph has one target");
            let epoch = self.session.settings.source_date_epoch;
            let options = CommitOptions { created: SystemTime::now(), source_date_epoch: epoch };
            image::commit_stage(env, stage, std::slice::from_ref(self.name), &options)?;
            Ok(())
        })
    }
}
