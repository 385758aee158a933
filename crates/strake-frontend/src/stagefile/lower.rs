//! One stage of a plan as a graph: what it stands on, one step, the configuration of its image.
//!
//! Pure, as everything here: the caller says what the stage below is, which files changed, and where things of the
//! machine are that are mounted; it gets a graph with one target. The image of every stage is an ordinary image, so a
//! stage stands on the image below it as any build stands on its base.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use strake_graph::{
    Graph, History, ImageOp, Mount, MountKind, Network, Op, PlaceOp, PlaceSource, Placement, RunOp, Span,
    Stage, Step, StepId,
};
use strake_oci::{ContainerConfig, Digest, Platform, Reference};

use super::config::{Command, DockerOptions, Image, ImageId, Instructions, MountSource, Rules, StageFile};
use super::plan::{self, Action, Conveyor, Start};
use super::shell::script;
use crate::dockerfile::{ImageFact, paths, port};

/// Where the program's own files are in an assembly container; nothing of it is ever in an image.
pub const OWN: &str = "/.strake";

/// Where the socket of the ssh agent is in an assembly container.
pub const AGENT: &str = "/tmp/strake-ssh-agent";

/// Where programs are looked for when the image does not say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image that a stage stands on or takes files from.
#[derive(Debug, Clone)]
pub struct Below {
    /// What it is called.
    pub reference: Reference,
    /// Which one it is.
    pub fact: ImageFact,
}

/// What of the machine is mounted into assembly containers.
#[derive(Debug, Clone, Default)]
pub struct AssemblyMounts {
    /// A folder with a static `bash`, and programs for images that have none.
    pub tools: PathBuf,
    /// For every mount of the rules or of the image below: what is mounted there.
    pub sources: BTreeMap<(MountSource, String), PathBuf>,
    /// The socket of an ssh agent.
    pub ssh_agent: Option<PathBuf>,
}

/// What lowering a stage depends on.
#[derive(Debug)]
pub struct StageInput<'a> {
    /// The file.
    pub file: &'a StageFile,
    /// The image that the stage is of.
    pub image: ImageId,
    /// Its plan.
    pub conveyor: &'a Conveyor,
    /// The place of the stage in the plan.
    pub stage: usize,
    /// The image of the stage below; for the first stage the base.
    pub below: &'a Below,
    /// The images of the last stages of artifacts, by signature.
    pub artifacts: &'a BTreeMap<String, Below>,
    /// The file sets of [`wanted_files`] that change anything, by name.
    pub changed: &'a BTreeSet<String>,
    /// What is mounted.
    pub mounts: &'a AssemblyMounts,
    /// A file of the machine, where the stage tells which of its [`commands`] it carries out: its place among them.
    pub at: &'a Path,
    /// Labels that every stage has.
    pub labels: &'a BTreeMap<String, String>,
    /// What to build for.
    pub platform: &'a Platform,
    /// The name that the stage's image is looked up by.
    pub name: &'a str,
}

/// Files that a stage places: those of a mapping at a commit, or what changed since another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFiles {
    /// The name that the graph calls them by.
    pub name: String,
    /// The mapping, by its place in [`Conveyor::mappings`].
    pub mapping: usize,
    /// The commit that the files have below; none if there are no files yet.
    pub from: Option<String>,
    /// The commit that they have afterwards.
    pub to: String,
}

/// Why a stage cannot be lowered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// It has tasks for ansible.
    #[error("running ansible tasks is not built yet; use `shell:` instructions")]
    Ansible {
        /// The first task.
        span: Span,
    },
    /// A label of the image below names mounts in a way that nobody writes.
    #[error("the label {0} of the image below is not what it should be")]
    MountLabel(String),
}

/// The files that a stage places.
pub fn wanted_files(conveyor: &Conveyor, stage: usize) -> Vec<WantedFiles> {
    let name = |mapping: usize| format!("mapping-{mapping}");
    match &conveyor.stages[stage].action {
        Action::Archive(mappings) => mappings
            .iter()
            .map(|mapping| WantedFiles {
                name: name(*mapping),
                mapping: *mapping,
                from: None,
                to: conveyor.mappings[*mapping].commit.clone(),
            })
            .collect(),
        Action::Patch(steps) => steps
            .iter()
            .filter(|step| step.from != step.to)
            .map(|step| WantedFiles {
                name: name(step.mapping),
                mapping: step.mapping,
                from: Some(step.from.clone()),
                to: step.to.clone(),
            })
            .collect(),
        Action::From(_) | Action::Instruct(..) | Action::Import(_) | Action::Configure => Vec::new(),
    }
}

/// The shell commands that a stage carries out.
pub fn commands<'a>(rules: &'a Rules, stage: &plan::Stage) -> &'a [Command] {
    let Action::Instruct(user_stage, range) = &stage.action else { return &[] };
    match rules.assembly.instructions.get(user_stage) {
        Some(Instructions::Shell(commands)) => &commands[range.clone()],
        Some(Instructions::Ansible(_)) | None => &[],
    }
}

/// The mounts that hold for the stages of an image: its own, and those of the image it stands on.
///
/// # Errors
/// When a label of the image below that tells of mounts cannot be read.
pub fn mounts_of(image: &Image, below: &ContainerConfig) -> Result<Vec<(MountSource, String)>, LowerError> {
    let mut mounts: BTreeMap<String, MountSource> = BTreeMap::new();
    for prefix in ["dapp", "strake"] {
        for (kind, source) in [("tmp-dir", MountSource::TmpDir), ("build-dir", MountSource::BuildDir)] {
            let targets = below.labels.get(&format!("{prefix}-mount-{kind}"));
            let targets = targets.iter().flat_map(|targets| targets.split(';'));
            mounts.extend(targets.filter(|to| to.starts_with('/')).map(|to| (to.to_owned(), source.clone())));
        }
    }
    if let Some(text) = below.labels.get("strake-mount-host") {
        let unreadable = || LowerError::MountLabel("strake-mount-host".to_owned());
        let host: BTreeMap<String, Vec<String>> = serde_json::from_str(text).map_err(|_| unreadable())?;
        for (path, targets) in host {
            mounts.extend(targets.into_iter().map(|to| (to, MountSource::HostPath(path.clone()))));
        }
    }
    mounts.extend(image.rules.mounts.iter().map(|mount| (mount.to.clone(), mount.source.clone())));
    Ok(mounts.into_iter().map(|(to, source)| (source, to)).collect())
}

/// The graph of one stage. Its target is the image of the stage.
///
/// # Errors
/// When the stage has to do what is not built yet.
pub fn lower(input: &StageInput<'_>) -> Result<Graph, LowerError> {
    let stage = &input.conveyor.stages[input.stage];
    let mut graph = Graph::new();
    let mut lowering = Lowering { input, graph: &mut graph };
    let base = lowering.image(input.below);
    let op = lowering.op(base)?;
    let step = op.map(|op| lowering.step(op));
    let config = lowering.config();
    let inherited = input.below.fact.config.history.iter().cloned().map(History::Inherited);
    let made = History::Instruction { created_by: format!("strake {}", stage.kind.id()), step };
    let history = inherited.chain([made]).collect();
    let target = graph.push_stage(Stage {
        name: input.name.to_owned(),
        result: step.unwrap_or(base),
        platform: input.platform.clone(),
        config,
        author: input.below.fact.config.author.clone(),
        history,
    });
    graph.push_target(target);
    Ok(graph)
}

struct Lowering<'a, 'g> {
    input: &'a StageInput<'a>,
    graph: &'g mut Graph,
}

impl Lowering<'_, '_> {
    fn image(&mut self, below: &Below) -> StepId {
        let op = ImageOp {
            reference: below.reference.clone(),
            id: below.fact.id,
            diff_ids: below.fact.config.rootfs.diff_ids.clone(),
        };
        let label = below.reference.familiar();
        self.push(Op::Image(op), label, None)
    }

    fn step(&mut self, op: Op) -> StepId {
        let label = self.input.conveyor.stages[self.input.stage].kind.title().to_owned();
        self.push(op, label, Some(self.input.name.to_owned()))
    }

    fn push(&mut self, op: Op, label: String, named: Option<String>) -> StepId {
        self.graph.push_step(Step {
            op,
            platform: self.input.platform.clone(),
            span: self.span(),
            label,
            stage: self.input.name.to_owned(),
            position: named.as_ref().map(|_| (1, 1)),
            // What is there already is known as an image; a step is only asked for when it is to be carried out.
            no_cache: named.is_some(),
            named,
        })
    }

    /// What of the file tells of the stage.
    fn span(&self) -> Span {
        let rules = &self.input.file.image(self.input.image).rules;
        let stage = &self.input.conveyor.stages[self.input.stage];
        let spans: Vec<Span> = match &stage.action {
            Action::Instruct(user_stage, range) => match rules.assembly.instructions.get(user_stage) {
                Some(Instructions::Shell(commands)) => {
                    commands[range.clone()].iter().map(|command| command.span).collect()
                }
                Some(Instructions::Ansible(tasks)) => {
                    tasks[range.clone()].iter().map(|task| task.span).collect()
                }
                None => Vec::new(),
            },
            Action::Import(steps) => steps.iter().map(|step| rules.imports[step.import].span).collect(),
            Action::Archive(_) | Action::Patch(_) => {
                let mapping = |mapping: &plan::Mapping| rules.git[mapping.index].span;
                self.input.conveyor.mappings.iter().map(mapping).collect()
            }
            Action::From(_) | Action::Configure => Vec::new(),
        };
        spans.into_iter().reduce(Span::to).unwrap_or(Span::new(rules.span.start, rules.span.start))
    }

    /// What is done, unless nothing has to be done but to write the configuration.
    fn op(&mut self, base: StepId) -> Result<Option<Op>, LowerError> {
        let stage = &self.input.conveyor.stages[self.input.stage];
        let rules = &self.input.file.image(self.input.image).rules;
        let (mut emptied, mut vacated) = (Vec::new(), Vec::new());
        let placements = match &stage.action {
            Action::From(_) => {
                // What lies below another target goes with what that one holds.
                let targets: BTreeSet<&str> = rules.mounts.iter().map(|mount| mount.to.as_str()).collect();
                let is_nested = |to: &str| {
                    let ends = to.match_indices('/').skip(1);
                    ends.map(|(end, _)| &to[..end]).any(|outer| targets.contains(outer))
                };
                for mount in rules.mounts.iter().filter(|mount| !is_nested(&mount.to)) {
                    // Only the machine knows whether its own path is a directory.
                    let is_directory = !matches!(mount.source, MountSource::HostPath(_));
                    if is_directory { &mut emptied } else { &mut vacated }.push(mount.to.clone());
                }
                Vec::new()
            }
            Action::Instruct(user_stage, range) => {
                if let Some(Instructions::Ansible(tasks)) = rules.assembly.instructions.get(user_stage)
                    && let Some(task) = tasks.get(range.start)
                {
                    return Err(LowerError::Ansible { span: task.span });
                }
                let commands = commands(rules, stage);
                return if commands.is_empty() { Ok(None) } else { self.run(base, commands).map(Some) };
            }
            Action::Import(steps) => {
                let mut placements = Vec::new();
                for step in steps {
                    let import = &rules.imports[step.import];
                    let from = self.image(&self.input.artifacts[&step.signature]);
                    let filter = import.filter();
                    let path = import.add.clone();
                    placements.push(Placement {
                        from: PlaceSource::Step { from, path, filter },
                        to: import.to.clone(),
                        owner: import.owner.clone(),
                        group: import.group.clone(),
                    });
                }
                placements
            }
            Action::Archive(_) | Action::Patch(_) => {
                let wanted = wanted_files(self.input.conveyor, self.input.stage);
                let changed = wanted.iter().filter(|files| self.input.changed.contains(&files.name));
                changed.map(|files| self.placement(files)).collect()
            }
            Action::Configure => Vec::new(),
        };
        let does_nothing = emptied.is_empty() && vacated.is_empty() && placements.is_empty();
        Ok((!does_nothing).then(|| Op::Place(Box::new(PlaceOp { base, emptied, vacated, placements }))))
    }

    fn placement(&self, files: &WantedFiles) -> Placement {
        let mapping = &self.input.conveyor.mappings[files.mapping];
        let git = &self.input.file.image(self.input.image).rules.git[mapping.index];
        let from = files.from.as_deref().unwrap_or_default();
        let text = format!("strake files 1\n{}\n{from}\n{}\n", mapping.params_hash, files.to);
        Placement {
            from: PlaceSource::Files { name: files.name.clone(), digest: Digest::of(text.as_bytes()) },
            to: git.to.clone(),
            owner: git.owner.clone(),
            group: git.group.clone(),
        }
    }

    fn run(&self, base: StepId, commands: &[Command]) -> Result<Op, LowerError> {
        let below = &self.input.below.fact.config.config;
        let mut env: Vec<(String, String)> = below
            .env
            .iter()
            .filter_map(|entry| entry.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        if !env.iter().any(|(name, _)| name == "PATH") {
            env.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
        }
        let mounts = self.input.mounts;
        let host = |target: &str, source: &Path, read_only: bool| Mount {
            target: target.to_owned(),
            kind: MountKind::Host { source: source.to_owned(), read_only },
        };
        let tools = format!("{OWN}/tools");
        let program = format!("{OWN}/stage.sh");
        let at = format!("{OWN}/at");
        let content = script(commands, &tools, &at).into_bytes();
        let mut all = vec![
            host(&tools, &mounts.tools, true),
            host(&at, self.input.at, false),
            Mount { target: program.clone(), kind: MountKind::File { content, mode: 0o555 } },
        ];
        for (source, to) in mounts_of(self.input.file.image(self.input.image), below)? {
            let path = mounts.sources.get(&(source, to.clone()));
            all.extend(path.map(|path| host(&to, path, false)));
        }
        let mut transient_env = Vec::new();
        if let Some(socket) = &mounts.ssh_agent {
            all.push(host(AGENT, socket, false));
            transient_env.push(("SSH_AUTH_SOCK".to_owned(), AGENT.to_owned()));
        }
        Ok(Op::Run(Box::new(RunOp {
            base,
            args: [&format!("{tools}/bash"), "--noprofile", "--norc", "-e", &program]
                .map(str::to_owned)
                .to_vec(),
            env,
            transient_env,
            cwd: "/".to_owned(),
            user: "0:0".to_owned(),
            mounts: all,
            network: None::<Network>,
        })))
    }

    /// The configuration of the stage's image: that of the image below, with the labels of the stage.
    fn config(&self) -> ContainerConfig {
        let stage = &self.input.conveyor.stages[self.input.stage];
        let mut config = self.input.below.fact.config.config.clone();
        config.labels.extend(self.input.labels.clone());
        config.labels.extend(stage.labels.clone());
        let below = match (&stage.action, self.input.stage.checked_sub(1)) {
            (Action::From(Start::Image { signature, .. }), _) => Some(signature.clone()),
            (_, Some(below)) => Some(self.input.conveyor.stages[below].signature.clone()),
            (_, None) => None,
        };
        config.labels.insert("strake-stage".to_owned(), stage.kind.id().to_owned());
        config.labels.insert("strake-signature".to_owned(), stage.signature.clone());
        match below {
            Some(signature) => config.labels.insert("strake-parent-signature".to_owned(), signature),
            None => config.labels.remove("strake-parent-signature"),
        };
        if matches!(stage.action, Action::Configure) {
            configure(&mut config, &self.input.file.image(self.input.image).rules.docker);
        }
        config
    }
}

/// Applies the `docker` directive. As with a Dockerfile, a new ENTRYPOINT drops the CMD that was meant for the old one.
fn configure(config: &mut ContainerConfig, options: &DockerOptions) {
    config.volumes.extend(options.volume.iter().map(|path| (path.clone(), strake_oci::EmptyObject {})));
    let exposed = options.expose.iter().filter_map(|port| port::parse(port).ok());
    let ports = exposed.flat_map(|exposed| exposed.ports);
    config.exposed_ports.extend(ports.map(|port| (port, strake_oci::EmptyObject {})));
    for (name, value) in &options.env {
        let prefix = format!("{name}=");
        let entry = format!("{prefix}{value}");
        match config.env.iter_mut().find(|entry| entry.starts_with(&prefix)) {
            Some(old) => *old = entry,
            None => config.env.push(entry),
        }
    }
    config.labels.extend(options.label.clone());
    if !options.entrypoint.is_empty() {
        config.entrypoint = Some(options.entrypoint.clone());
        config.cmd = None;
    }
    if !options.cmd.is_empty() {
        config.cmd = Some(options.cmd.clone());
    }
    config.on_build.extend(options.on_build.iter().cloned());
    if let Some(path) = options.workdir.as_deref().filter(|path| !path.is_empty()) {
        // Relative to that of the image below, as in a Dockerfile: no runtime takes it otherwise.
        config.working_dir =
            if path.starts_with('/') { path.to_owned() } else { paths::join(&config.working_dir, path) };
    }
    config.user = options.user.clone().unwrap_or_else(|| config.user.clone());
    config.stop_signal = options.stop_signal.clone().unwrap_or_else(|| config.stop_signal.clone());
    let test = match &options.healthcheck[..] {
        [] => return,
        [none] if none.eq_ignore_ascii_case("none") => vec!["NONE".to_owned()],
        [command] => vec!["CMD-SHELL".to_owned(), command.clone()],
        words => std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect(),
    };
    config.healthcheck = Some(strake_oci::HealthConfig { test, ..Default::default() });
}

/// What the first stage starts from, if that is an image from elsewhere.
pub fn base_reference(conveyor: &Conveyor) -> Option<&str> {
    match &conveyor.stages[0].action {
        Action::From(Start::Reference(reference)) => Some(reference),
        _ => None,
    }
}
