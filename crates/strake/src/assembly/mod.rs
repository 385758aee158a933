//! Carries out the stages of a stage file: one stage, one step, one image with the stage's name.
//!
//! What a stage is, `strake_frontend::stagefile` says; what a step does, the engine. Here both meet with what the
//! machine has: the repositories, the folders that are mounted, the names under which images of stages are kept.

mod at;
mod files;
mod shell;
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use strake_engine::files::FileSet;
use strake_engine::image::{self, CommitOptions, ImageError, Origin};
use strake_engine::{BuildError, BuildRequest, Environment, Event, Sharing};
use strake_frontend::dockerfile::ImageFact;
use strake_frontend::stagefile::lower::{
    AssemblyMounts, Below, LowerError, StageInput, commands, lower, mounts_of, wanted_files,
};
use strake_frontend::stagefile::plan::{Action, Conveyor, Start};
use strake_frontend::stagefile::{GitSource, ImageId, MountSource, slug};
use strake_git::Repository;
use strake_graph::Network;
use strake_oci::{ContainerConfig, Platform};
use strake_store::{ActiveSnapshot, TempDir};

use crate::failure::Failure;
use crate::project::Project;
use crate::report;
use crate::session::Session;
use at::At;
pub(crate) use shell::Ground;
use tools::Tools;

/// What all stages of one command share.
pub(crate) struct Assembler<'a> {
    /// Store, registries, executor.
    pub(crate) session: &'a Session,
    /// Its stage file, name and directories.
    pub(crate) project: &'a Project,
    /// The repositories of all mappings.
    pub(crate) repositories: BTreeMap<GitSource, Arc<Repository>>,
    /// What to build for.
    pub(crate) platform: Platform,
    /// Labels that every stage has.
    pub(crate) labels: BTreeMap<String, String>,
    /// The network of stages.
    pub(crate) network: Network,
    /// The folder with the static programs, if the user named one.
    pub(crate) tools_dir: Option<PathBuf>,
    /// The socket of the ssh agent.
    pub(crate) ssh_agent: Option<PathBuf>,
    /// Made when the first stage runs commands.
    pub(crate) shared: Shared,
    /// Whether the program's own progress is shown.
    pub(crate) shows: Shows,
}

/// What is shown while a stage is assembled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shows {
    /// Progress as of any build.
    Progress,
    /// What commands print, to whom it is handed.
    Output,
}

/// What is made once, when it is needed first, and goes with the command.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    tools: OnceLock<Tools>,
    tmp: OnceLock<TempDir>,
}

/// A stage to be assembled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    /// The image it is of.
    pub(crate) image: ImageId,
    /// The plan of that image.
    pub(crate) conveyor: &'a Conveyor,
    /// Its place in the plan.
    pub(crate) stage: usize,
    /// What it stands on: the image of the stage below, or the base.
    pub(crate) below: &'a Below,
    /// The images of the last stages of artifacts that it imports from, by signature.
    pub(crate) artifacts: &'a BTreeMap<String, Below>,
}

/// Why a stage was not assembled.
#[derive(Debug)]
pub(crate) struct NotAssembled {
    /// The reason.
    pub(crate) failure: Failure,
    /// What the command that failed left behind, if one did.
    pub(crate) left: Option<Box<ActiveSnapshot>>,
}

impl From<Failure> for NotAssembled {
    fn from(failure: Failure) -> Self {
        Self { failure, left: None }
    }
}

impl Assembler<'_> {
    /// Carries a stage out and makes its image, without giving it its name. `output` gets what commands print.
    ///
    /// # Errors
    /// When a command fails, a repository or the image below cannot be read, or the machine lacks something.
    pub(crate) fn assemble(
        &self,
        job: &Job<'_>,
        output: &(dyn Fn(&[u8]) + Sync),
    ) -> Result<Below, NotAssembled> {
        let signature = &job.conveyor.stages[job.stage].signature;
        let reference = self.project.stage_reference(signature)?;
        let name = reference.familiar();
        let pointers = files::Pointers::default();
        let files = self.files(job, &pointers)?;
        let changed: BTreeSet<String> = files.keys().cloned().collect();
        let at = At::new(&self.session.store)?;
        let mounts = self.mounts(job)?;
        let graph = lower(&StageInput {
            file: &self.project.file,
            image: job.image,
            conveyor: job.conveyor,
            stage: job.stage,
            below: job.below,
            artifacts: job.artifacts,
            changed: &changed,
            mounts: &mounts,
            at: &at.path(),
            labels: &self.labels,
            platform: &self.platform,
            name: &name,
        })
        .map_err(|error| self.cannot_lower(&error))?;
        let request = BuildRequest {
            graph,
            contexts: BTreeMap::new(),
            files,
            secrets: BTreeMap::new(),
            network: self.network,
            hosts: Vec::new(),
            ca_certificates: self.session.settings.ca_certificates(None)?,
            jobs: std::num::NonZeroUsize::MIN,
            explain: false,
            place: name,
            epoch: None,
            // What a stranger said of a step that is equal is no more to be used than the stages of one.
            sharing: Sharing {
                trusted_keys: self.session.settings.trusted_keys.clone(),
                ..Sharing::default()
            },
            wants_layers: false,
        };
        let events = |event: Event| match (self.shows, event) {
            (Shows::Output, Event::StepOutput(_, _, bytes)) => output(&bytes),
            (Shows::Progress, event) | (Shows::Output, event @ Event::Warning(_)) => {
                self.session.ui.event(&event)
            }
            (Shows::Output, _) => {}
        };
        self.session.with_events(&events, |env: &Environment<'_>| {
            let built =
                strake_engine::build(&request, env).map_err(|error| self.not_assembled(error, job, &at))?;
            if let Some(warning) = pointers.warning() {
                self.session.ui.event(&Event::Warning(warning));
            }
            let stage = built.stages.first().expect("the graph of a stage has one target");
            let options = CommitOptions { created: SystemTime::now(), source_date_epoch: None };
            let id = image::commit_stage(env, stage, &[], &options).map_err(Failure::from)?;
            let config = image::config(env, id).map_err(Failure::from)?;
            if let Some(origin) = self.origin(env, job).map_err(Failure::from)? {
                image::put_origin(env, id, &origin).map_err(Failure::from)?;
            }
            Ok(Below { reference: reference.clone(), fact: ImageFact { id, config } })
        })
    }

    /// What a stage rests on, as far as somebody vouches for all that it is made of. Base images that are no stages
    /// count as what the user named.
    fn origin(&self, env: &Environment<'_>, job: &Job<'_>) -> Result<Option<Origin>, ImageError> {
        let is_base = matches!(&job.conveyor.stages[job.stage].action, Action::From(Start::Reference(_)));
        let below = (!is_base).then_some(job.below);
        let mut origin = Origin::default();
        for Below { reference, fact } in below.into_iter().chain(job.artifacts.values()) {
            match image::origin(env, reference, fact.id, &self.session.settings.trusted_keys)? {
                Some(other) => origin.and(other),
                None => return Ok(None),
            }
        }
        Ok(Some(origin))
    }

    /// Of all commands of the stage, the one that failed is shown.
    fn not_assembled(&self, error: BuildError, job: &Job<'_>, at: &At) -> NotAssembled {
        match error {
            BuildError::Failed(mut failed) => {
                let rules = &self.project.file.image(job.image).rules;
                if let Some(command) = at.command(commands(rules, &job.conveyor.stages[job.stage])) {
                    command.text.trim_end().clone_into(&mut failed.command);
                    failed.span = command.span;
                }
                let failure = report::step_failure(&self.project.text, &failed);
                NotAssembled { failure, left: Some(Box::new(failed.left)) }
            }
            error => report::build_failure(&self.project.text, error).into(),
        }
    }

    /// The files that a stage places, without those of mappings that nothing changed in.
    fn files(&self, job: &Job<'_>, pointers: &files::Pointers) -> Result<BTreeMap<String, FileSet>, Failure> {
        let rules = &self.project.file.image(job.image).rules;
        let mut sets = BTreeMap::new();
        for wanted in wanted_files(job.conveyor, job.stage) {
            let mapping = &job.conveyor.mappings[wanted.mapping];
            let selection = &rules.git[mapping.index].selection;
            let repository = self.repositories.get(&selection.source);
            let repository = repository.expect("the repository of a mapping was opened to plan it");
            let set = files::file_set(repository, selection, &wanted, pointers.clone())
                .map_err(|error| Failure::environment(error.to_string()))?;
            let git = rules.git.iter().enumerate().filter(|(index, _)| *index != mapping.index);
            let others = git.map(|(_, git)| git.to.as_str());
            let others: Vec<&str> =
                others.chain(rules.imports.iter().map(|import| import.to.as_str())).collect();
            files::keep_ways_free(&set, &rules.git[mapping.index].to, &others)?;
            if !set.changes.is_empty() {
                sets.insert(wanted.name, set);
            }
        }
        Ok(sets)
    }

    /// What is mounted while commands run. Other stages need nothing of it.
    fn mounts(&self, job: &Job<'_>) -> Result<AssemblyMounts, Failure> {
        if job.conveyor.stages[job.stage].kind.user_stage().is_none() {
            return Ok(AssemblyMounts::default());
        }
        self.assembly_mounts(job.image, &job.below.fact.config.config)
    }

    fn assembly_mounts(&self, image: ImageId, below: &ContainerConfig) -> Result<AssemblyMounts, Failure> {
        let store = &self.session.store;
        let tools = match self.shared.tools.get() {
            Some(tools) => tools,
            None => {
                let tools = Tools::prepare(store, self.tools_dir.as_deref())?;
                self.shared.tools.get_or_init(|| tools)
            }
        };
        let rules = self.project.file.image(image);
        let mut sources = BTreeMap::new();
        for (source, to) in mounts_of(rules, below).map_err(|error| self.cannot_lower(&error))? {
            let path = self.mount_source(image, &source, &to)?;
            sources.insert((source, to), path);
        }
        Ok(AssemblyMounts { tools: tools.path(), sources, ssh_agent: self.ssh_agent.clone() })
    }

    /// What of the machine is mounted; a folder is made when it is not there.
    fn mount_source(&self, image: ImageId, source: &MountSource, to: &str) -> Result<PathBuf, Failure> {
        let path = match source {
            MountSource::HostPath(path) => PathBuf::from(path),
            MountSource::BuildDir => self.project.build_dir.join("mount").join(slug(to)),
            // Each image has its own: others are assembled beside it.
            MountSource::TmpDir => {
                let tmp = match self.shared.tmp.get() {
                    Some(tmp) => tmp,
                    None => {
                        let tmp = self.session.store.temp_dir()?;
                        self.shared.tmp.get_or_init(|| tmp)
                    }
                };
                tmp.path().join(image.index().to_string()).join(slug(to))
            }
        };
        if !path.exists() {
            std::fs::create_dir_all(&path).map_err(|error| Failure::file("create", &path, &error))?;
        }
        Ok(path)
    }

    /// The folders that all images of the project keep together and that a stage has mounted, by their targets.
    ///
    /// # Errors
    /// When the labels of the image below cannot be read.
    pub(crate) fn kept_together(&self, job: &Job<'_>) -> Result<BTreeSet<String>, Failure> {
        if job.conveyor.stages[job.stage].kind.user_stage().is_none() {
            return Ok(BTreeSet::new());
        }
        let image = self.project.file.image(job.image);
        let mounts = mounts_of(image, &job.below.fact.config.config);
        let mounts = mounts.map_err(|error| self.cannot_lower(&error))?.into_iter();
        Ok(mounts.filter(|(source, _)| *source == MountSource::BuildDir).map(|(_, to)| slug(&to)).collect())
    }

    fn cannot_lower(&self, error: &LowerError) -> Failure {
        let mut failure = Failure::input(error.to_string());
        if let LowerError::Ansible { span } = error {
            failure.body = report::excerpt(&self.project.text, *span);
        }
        failure
    }
}
