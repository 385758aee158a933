//! One stage: its base, then its instructions in order.

use std::collections::BTreeMap;

use strake_graph::{History, Op, Span, Stage, Step, StepId};
use strake_oci::{ContainerConfig, Platform};

use crate::Diagnostic;
use crate::dockerfile::ast::{Instruction, Kind};
use crate::dockerfile::expand::{Env, Style, expand};
use crate::dockerfile::lower::plan::PlannedStage;
use crate::dockerfile::lower::{Base, Lowerer, Plan};

/// What images without a `PATH` get, in their configuration as well as for `RUN`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage while its instructions are read.
#[derive(Debug, Clone)]
pub(super) struct StageState {
    pub(super) name: String,
    pub(super) step: StepId,
    pub(super) platform: Platform,
    pub(super) config: ContainerConfig,
    pub(super) author: Option<String>,
    pub(super) history: Vec<History>,
    /// `ENV` and `ARG` together, in the order they were set: what expansion sees and `RUN` gets.
    pub(super) env: Env,
    /// Where each variable is among those of the configuration, so that setting many takes linear time.
    env_places: BTreeMap<String, usize>,
    /// Declared arguments: where each stands in the order of declaration, and its value if it has one.
    pub(super) args: BTreeMap<String, (usize, Option<String>)>,
    /// Whether there may be no files yet: `scratch` so far, or a base that nobody knows.
    pub(super) may_be_empty: bool,
    /// Whether the working directory is known.
    pub(super) directory_is_known: bool,
    /// Whether the shell is known.
    pub(super) shell_is_known: bool,
    /// Whether all triggers for those who build on this are known.
    triggers_are_known: bool,
    /// Whether a `WORKDIR` of this file was met.
    pub(super) workdir_is_set: bool,
    /// Where this stage's own `CMD`, `ENTRYPOINT` and `HEALTHCHECK` stand.
    pub(super) own: BTreeMap<&'static str, Span>,
    position: u32,
    total: u32,
    /// Whether the instruction at hand is a trigger of the base.
    pub(super) is_trigger: bool,
}

/// What a `RUN`, `COPY` or `WORKDIR` is read with.
pub(super) struct Place<'a> {
    pub(super) plan: &'a Plan<'a>,
    /// The stage it stands in.
    pub(super) index: usize,
    pub(super) states: &'a [Option<StageState>],
    pub(super) instruction: &'a Instruction,
}

impl StageState {
    pub(super) fn into_stage(self) -> Stage {
        Stage {
            name: self.name,
            result: self.step,
            platform: self.platform,
            config: self.config,
            author: self.author,
            history: self.history,
        }
    }

    pub(super) fn directory(&self) -> &str {
        if self.config.working_dir.is_empty() { "/" } else { &self.config.working_dir }
    }

    /// From here on nobody knows what an instruction or a base has set.
    fn forget_all(&mut self) {
        self.env.forget_all();
        self.directory_is_known = false;
        self.shell_is_known = false;
        self.triggers_are_known = false;
        // Whether this file's directories stand on one of its own is not known either.
        self.workdir_is_set = true;
    }

    /// From here on nobody knows what a broken instruction would have set.
    fn forget(&mut self, name: Option<&str>) {
        match name {
            None => self.forget_all(),
            Some("ARG" | "ENV") => self.env.forget_all(),
            Some("ONBUILD") => self.triggers_are_known = false,
            Some("SHELL") => self.shell_is_known = false,
            Some("WORKDIR") => {
                self.directory_is_known = false;
                self.workdir_is_set = true;
            }
            // The others set nothing that anything said hangs on.
            Some(_) => {}
        }
    }

    /// Takes over the variables of the configuration.
    fn adopt_environment(&mut self) {
        if !self.config.env.iter().any(|entry| entry.split('=').next() == Some("PATH")) {
            self.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        self.env_places.clear();
        for (place, entry) in self.config.env.iter().enumerate() {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.env.set(name, value);
            self.env_places.entry(name.to_owned()).or_insert(place);
        }
    }

    /// Sets a variable of the configuration; one that is there keeps its place.
    pub(super) fn set_config_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        match self.env_places.get(name).and_then(|place| self.config.env.get_mut(*place)) {
            Some(old) => *old = entry,
            None => {
                self.env_places.insert(name.to_owned(), self.config.env.len());
                self.config.env.push(entry);
            }
        }
    }

    /// About how many bytes a copy of this takes.
    fn bytes(&self) -> usize {
        let history = self.history.iter().map(|entry| match entry {
            History::Inherited(entry) => entry.created_by.as_ref().map_or(0, String::len),
            History::Instruction { created_by, .. } => created_by.len(),
        });
        let labels = self.config.labels.iter().map(|(name, value)| name.len() + value.len());
        let ports = self.config.exposed_ports.len() * 16;
        2 * self.env.bytes()
            + history.sum::<usize>()
            + labels.sum::<usize>()
            + ports
            + 64 * self.history.len()
    }
}

impl Lowerer<'_> {
    /// Reads a whole stage; `states` holds those above it. `None` if something is wrong, which has been said.
    pub(super) fn stage(
        &mut self,
        plan: &Plan<'_>,
        index: usize,
        states: &[Option<StageState>],
    ) -> Option<StageState> {
        let planned = plan.stages.get(index)?;
        let mut state = self.base_state(plan, index, states)?;
        let instructions = planned.triggers.iter().chain(&planned.ast.instructions);
        let makes_step = |instruction: &&Instruction| {
            matches!(instruction.kind, Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::Workdir(_))
        };
        let steps = u32::try_from(instructions.clone().filter(makes_step).count()).unwrap_or(u32::MAX);
        let has_image = matches!(planned.base, Base::Image(_));
        state.position = u32::from(has_image);
        state.total = steps.saturating_add(u32::from(has_image));
        if has_image {
            self.claim_image(&state, planned.ast.span);
        }
        for (number, instruction) in instructions.enumerate() {
            state.is_trigger = number < planned.triggers.len();
            let place = Place { plan, index, states, instruction };
            // What is wrong has been said; going on finds what else is wrong.
            let said = self.diagnostics.len();
            let done = self.instruction(&mut state, &place);
            one_open_quote(&mut self.diagnostics, said);
            if done.is_none() {
                match &instruction.kind {
                    // These know themselves which of their variables are in doubt.
                    Kind::Arg(_) | Kind::Env(_) => {}
                    Kind::Broken(broken) => state.forget(broken.name),
                    Kind::Workdir(_) => state.forget(Some("WORKDIR")),
                    _ => {}
                }
            }
        }
        Some(state)
    }

    fn base_state(
        &mut self,
        plan: &Plan<'_>,
        index: usize,
        states: &[Option<StageState>],
    ) -> Option<StageState> {
        let planned = plan.stages.get(index)?;
        let span = planned.ast.span;
        let mut state = match &planned.base {
            Base::Stage(below) => {
                let below = states.get(*below)?.as_ref()?;
                if !self.charge(below.bytes(), span) {
                    return None;
                }
                let mut state = below.clone();
                state.own.clear();
                state.config.on_build.clear();
                state.name.clone_from(&planned.name);
                if !state.triggers_are_known {
                    state.forget_all();
                }
                state.triggers_are_known = true;
                state
            }
            Base::Scratch => {
                let step = self.scratch_step();
                let mut state = StageState::new(planned.name.clone(), step, planned.platform.clone());
                state.config.working_dir = "/".into();
                state
            }
            Base::Image(reference) => {
                let step = self.image_step(reference, &planned.platform, span);
                let Some(fact) = self.fact(reference, &planned.platform) else {
                    let mut state = self.unknown_base(planned);
                    state.may_be_empty = false;
                    return Some(state);
                };
                let mut state = StageState::new(planned.name.clone(), step, planned.platform.clone());
                state.may_be_empty = false;
                state.config = fact.config.config.clone();
                state.config.on_build.clear();
                state.author.clone_from(&fact.config.author);
                state.history = fact.config.history.iter().cloned().map(History::Inherited).collect();
                state
            }
            Base::Unknown => return Some(self.unknown_base(planned)),
        };
        if !state.env.is_certain() {
            return Some(state);
        }
        state.adopt_environment();
        if !state.config.working_dir.is_empty() {
            state.config.working_dir = super::paths::join_keeping_slash("/", &state.config.working_dir);
        }
        Some(state)
    }

    /// What stands on something of which only errors can tell.
    fn unknown_base(&mut self, planned: &PlannedStage<'_>) -> StageState {
        let step = self.scratch_step();
        let mut state = StageState::new(planned.name.clone(), step, planned.platform.clone());
        let was_set = state.workdir_is_set;
        state.forget_all();
        state.workdir_is_set = was_set;
        state.triggers_are_known = true;
        state
    }

    /// Shows an image as the first step of the first stage that stands on it.
    fn claim_image(&mut self, state: &StageState, span: Span) {
        let (name, total) = (state.name.clone(), state.total);
        let step = self.graph.step_mut(state.step);
        if step.position.is_none() && step.stage == "internal" {
            step.stage = name;
            step.position = Some((1, total));
            step.span = span;
        }
    }

    fn instruction(&mut self, state: &mut StageState, place: &Place<'_>) -> Option<()> {
        let span = place.instruction.span;
        if self.bytes_left == 0 {
            return None;
        }
        match &place.instruction.kind {
            Kind::Run(run) => self.run_step(state, place, run),
            Kind::Copy(copy) => self.copy_step(state, place, copy, false),
            Kind::Add(copy) => self.copy_step(state, place, copy, true),
            Kind::Workdir(path) => self.workdir(state, place, path),
            Kind::Broken(_) => None,
            Kind::Arg(items) => self.arg(state, items, span),
            Kind::Env(pairs) => self.env(state, pairs, span),
            Kind::Label(pairs) => self.label(state, pairs, span),
            Kind::Cmd(command) => self.cmd(state, command, span),
            Kind::Entrypoint(command) => self.entrypoint(state, command, span),
            Kind::Expose(ports) => self.expose(state, ports, span),
            Kind::Volume(paths) => self.volume(state, paths, span),
            Kind::User(user) => self.user(state, user, span),
            Kind::Shell(shell) => self.shell(state, shell, span),
            Kind::StopSignal(signal) => self.stop_signal(state, signal, span),
            Kind::Healthcheck(health) => self.healthcheck(state, health, span),
            Kind::Maintainer(name) => self.maintainer(state, name, span),
            Kind::Onbuild(trigger) => {
                state.config.on_build.push(trigger.text.clone());
                Some(())
            }
        }
    }

    /// Adds the step of an instruction on top of the stage.
    pub(super) fn push_step(
        &mut self,
        state: &mut StageState,
        op: Op,
        instruction: &Instruction,
        label: String,
    ) -> StepId {
        state.position = state.position.saturating_add(1);
        let label = if state.is_trigger { format!("ONBUILD {label}") } else { label };
        let step = self.graph.push_step(Step {
            op,
            platform: state.platform.clone(),
            span: instruction.span,
            label,
            stage: state.name.clone(),
            position: Some((state.position, state.total)),
            no_cache: self.options.no_cache,
            named: None,
        });
        state.step = step;
        state.may_be_empty = false;
        step
    }

    /// What people see of an instruction: its text with variables replaced, the keyword in capitals.
    pub(super) fn display(
        &mut self,
        state: &StageState,
        instruction: &Instruction,
        style: Style,
    ) -> Option<String> {
        let text = expand(&instruction.source, style, &state.env)
            .map_or_else(|_| instruction.source.clone(), |expansion| expansion.text);
        if !self.charge(text.len(), instruction.span) {
            return None;
        }
        Some(match text.split_once(char::is_whitespace) {
            Some((keyword, rest)) => format!("{} {}", keyword.to_uppercase(), rest.trim_start()),
            None => text.to_uppercase(),
        })
    }
}

/// Keeps the first of the open quotes and braces in one instruction (said from `start` on): `"a b"` where blanks
/// separate opens two, but is one mistake.
fn one_open_quote(diagnostics: &mut Vec<Diagnostic>, start: usize) {
    let is_open_quote =
        |said: &Diagnostic| said.code == "invalid-expansion" && said.message.contains(" is never closed");
    let new = diagnostics.split_off(start.min(diagnostics.len()));
    let first = new.iter().filter(|said| is_open_quote(said)).map(|said| said.span).min();
    diagnostics.extend(new.into_iter().filter(|said| !is_open_quote(said) || Some(said.span) == first));
}

impl StageState {
    fn new(name: String, step: StepId, platform: Platform) -> Self {
        Self {
            name,
            step,
            platform,
            config: ContainerConfig::default(),
            author: None,
            history: Vec::new(),
            env: Env::default(),
            env_places: BTreeMap::new(),
            args: BTreeMap::new(),
            may_be_empty: true,
            directory_is_known: true,
            shell_is_known: true,
            triggers_are_known: true,
            workdir_is_set: false,
            own: BTreeMap::new(),
            position: 0,
            total: 0,
            is_trigger: false,
        }
    }
}
