//! Instructions to steps.
//!
//! First the plan: what every stage stands on, which stages the target needs, which images must be known for that
//! ([`plan`]). Then each needed stage in the order of the file ([`stage`]), instruction by instruction: those that
//! change files become steps ([`run`], [`copy`]), all of them change the configuration or its history ([`config`]).
//! A stage can only name stages above it, so one pass is enough and the graph cannot have cycles.
//!
//! Where docker's documents and BuildKit differ, BuildKit is followed: `ARG` behind an `ENV` of the same name wins.

mod args;
mod config;
mod copy;
mod history;
mod mode;
pub(crate) mod paths;
mod plan;
pub(crate) mod port;
mod run;
mod signal;
mod stage;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use strake_graph::{ContextOp, Graph, ImageOp, Op, Span, Step, StepId};
use strake_oci::{Platform, Reference};

use crate::Diagnostic;
use crate::diagnostic::nearest;
use crate::dockerfile::ast::{Ast, Word};
use crate::dockerfile::expand::{Env, Expansion, Style, expand};
use crate::dockerfile::{Facts, ImageFact, LowerOptions, Lowered, Lowering};

use plan::{Base, Plan, Source};
use stage::StageState;

/// Bytes that one file may become in all, over environments, histories and expanded words. A large real file becomes
/// one or two mebibytes; a hostile one could become any amount, because each `RUN` carries the whole environment.
const MAX_BYTES: usize = 64 << 20;

/// Warnings about unset variables that are said before the rest is left out.
const MAX_UNSET_WARNINGS: usize = 100;

/// Makes a graph of a file, or says all that is wrong with it.
///
/// What cannot be known (an image not looked up yet, an instruction with an error) is carried along as unknown: what
/// hangs on it is neither said nor built on, so that nothing said merely follows from something else.
pub(super) fn lower(
    ast: &Ast,
    options: &LowerOptions,
    facts: &Facts,
) -> Result<(Lowering, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut lowerer = Lowerer {
        options,
        facts,
        escape: ast.escape,
        platform_args: Env::default(),
        global: Rc::default(),
        declared: BTreeSet::new(),
        diagnostics: Vec::new(),
        bytes_left: MAX_BYTES,
        unset_warnings: 0,
        graph: Graph::new(),
        scratch: None,
        contexts: BTreeMap::new(),
        images: BTreeMap::new(),
    };
    let lowering = lowerer.run(ast);
    let diagnostics = std::mem::take(&mut lowerer.diagnostics);
    match lowering {
        Some(lowering) if !diagnostics.iter().any(Diagnostic::is_error) => Ok((lowering, diagnostics)),
        _ => Err(diagnostics),
    }
}

/// What is known while a file is lowered.
struct Lowerer<'a> {
    options: &'a LowerOptions,
    facts: &'a Facts,
    escape: char,
    platform_args: Env,
    /// What `FROM` may use.
    global: Rc<Env>,
    /// Every `ARG` that was met.
    declared: BTreeSet<String>,
    diagnostics: Vec<Diagnostic>,
    bytes_left: usize,
    unset_warnings: usize,
    graph: Graph,
    scratch: Option<StepId>,
    contexts: BTreeMap<String, StepId>,
    images: BTreeMap<(Reference, Platform), StepId>,
}

impl Lowerer<'_> {
    fn run(&mut self, ast: &Ast) -> Option<Lowering> {
        let last_name =
            ast.stages.last().and_then(|stage| stage.name.as_ref()).map(|name| name.text.as_str());
        let target = self.options.target.as_deref().or(last_name).filter(|name| !name.is_empty());
        self.platform_args = args::platform_args(self.options, target.unwrap_or("default"));
        self.global_args(ast);
        let source_date_epoch = self.source_date_epoch();
        let mut plan = Plan::new(self, ast);
        let needs = plan.mark_needed(self);
        plan.check_unneeded(self);
        let states = self.stages(&plan);
        if self.diagnostics.iter().any(Diagnostic::is_error) {
            return None;
        }
        if !needs.is_empty() {
            return Some(Lowering::Needs(needs));
        }
        self.finish(plan.target?, states);
        let unused_build_args = self.unused_build_args();
        let graph = std::mem::take(&mut self.graph);
        Some(Lowering::Done(Box::new(Lowered {
            graph,
            warnings: Vec::new(),
            unused_build_args,
            source_date_epoch,
        })))
    }

    /// `ARG` in front of the first `FROM`: each sees those above it, and the platform arguments.
    fn global_args(&mut self, ast: &Ast) {
        let mut env = self.platform_args.clone();
        if ast.lost_globals {
            env.forget_all();
        }
        for item in &ast.global_args {
            self.declared.insert(item.name.text.clone());
            let given = self.options.build_args.get(&item.name.text).cloned();
            let value = match (given, &item.default) {
                (Some(given), _) => given,
                (None, Some(default)) => {
                    let Some(value) = self.expand_quietly(default, Style::new(self.escape), &env) else {
                        env.forget(&item.name.text);
                        continue;
                    };
                    value
                }
                (None, None) => continue,
            };
            env.set(&item.name.text, &value);
        }
        self.global = Rc::new(env);
    }

    /// `SOURCE_DATE_EPOCH` as a build argument or as `ARG` in front of the first `FROM`, in seconds.
    fn source_date_epoch(&mut self) -> Option<i64> {
        const NAME: &str = "SOURCE_DATE_EPOCH";
        let value = self.options.build_args.get(NAME).map(String::as_str).or_else(|| self.global.get(NAME));
        let value = value.filter(|value| !value.is_empty())?;
        match value.parse::<i64>() {
            Ok(seconds) if seconds >= 0 => Some(seconds),
            _ => {
                let message = format!("{NAME} is `{value}`, which is not a number of seconds since 1970");
                self.diagnostics.push(
                    Diagnostic::error("invalid-source-date-epoch", Span::default(), message)
                        .hint("for example --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)"),
                );
                None
            }
        }
    }

    /// Reads the needed stages. One that cannot be read leaves a gap, and has been said.
    fn stages(&mut self, plan: &Plan<'_>) -> Vec<Option<StageState>> {
        let mut states: Vec<Option<StageState>> = Vec::new();
        for (index, planned) in plan.stages.iter().enumerate() {
            if !planned.needed {
                states.push(None);
                continue;
            }
            let state = self.stage(plan, index, &states);
            states.push(state);
        }
        states
    }

    /// Puts the stages into the graph.
    fn finish(&mut self, target: usize, states: Vec<Option<StageState>>) {
        for (index, state) in states.into_iter().enumerate() {
            let Some(mut state) = state else { continue };
            if index == target {
                state.config.labels.extend(self.options.labels.iter().cloned());
            }
            let id = self.graph.push_stage(state.into_stage());
            if index == target {
                self.graph.push_target(id);
            }
        }
    }

    fn fact(&self, reference: &Reference, platform: &Platform) -> Option<&ImageFact> {
        self.facts.images.get(&(reference.clone(), platform.clone()))
    }

    fn unused_build_args(&self) -> Vec<String> {
        let unused =
            self.options.build_args.keys().filter(|name| {
                !self.declared.contains(*name) && !args::is_predefined(name, &self.platform_args)
            });
        unused.cloned().collect()
    }

    /// Takes bytes from what the file may become; says so once when nothing is left.
    fn charge(&mut self, bytes: usize, span: Span) -> bool {
        if self.bytes_left == 0 {
            return false;
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        if self.bytes_left == 0 {
            let message =
                format!("the file becomes more than {} MiB with its variables replaced", MAX_BYTES >> 20);
            self.diagnostics.push(
                Diagnostic::error("too-large", span, message)
                    .hint("look for ARG or ENV that repeat each other, or ENV in front of very many RUN"),
            );
            return false;
        }
        true
    }

    /// Expands a word; says what is wrong with it. `None` also if the result is not known.
    fn expand_quietly(&mut self, word: &Word, style: Style, env: &Env) -> Option<String> {
        self.expansion(&word.text, word.span, style, env).map(|expansion| expansion.text)
    }

    /// Expands a word of a stage; also says which variables are unset.
    fn expand_word(&mut self, word: &Word, state: &StageState) -> Option<String> {
        self.expand_text(&word.text, word.span, Style::new(self.escape), state)
            .map(|expansion| expansion.text)
    }

    fn expand_text(&mut self, text: &str, span: Span, style: Style, state: &StageState) -> Option<Expansion> {
        let expansion = self.expansion(text, span, style, &state.env)?;
        for name in &expansion.unset {
            // Who builds on an image cannot change what its triggers name.
            if !state.is_trigger && !state.args.contains_key(name) {
                self.warn_of_unset(name, span, &state.env);
            }
        }
        Some(expansion)
    }

    fn expansion(&mut self, text: &str, span: Span, style: Style, env: &Env) -> Option<Expansion> {
        match expand(text, style, env) {
            Ok(expansion) => {
                let is_paid = self.charge(expansion.text.len() + expansion.work / 8, span);
                (is_paid && !expansion.is_unknown).then_some(expansion)
            }
            Err(error) => {
                // A word may be a whole heredoc; its beginning tells enough.
                let shown: String = text.chars().take(60).collect();
                let message = format!("cannot expand `{shown}`: {error}");
                self.diagnostics.push(Diagnostic::error("invalid-expansion", span, message));
                None
            }
        }
    }

    fn warn_of_unset(&mut self, name: &str, span: Span, env: &Env) {
        self.unset_warnings += 1;
        if self.unset_warnings > MAX_UNSET_WARNINGS {
            return;
        }
        let diagnostic =
            Diagnostic::warning("undefined-var", span, format!("variable `${name}` is not set here"));
        let names: Vec<&str> = env.names().take(200).collect();
        self.diagnostics.push(match nearest(name, &names) {
            Some(nearest) => diagnostic.hint(format!("did you mean `${nearest}`?")),
            None if self.global.get(name).is_some() => {
                diagnostic.hint(format!("declare it in this stage: ARG {name}"))
            }
            None => diagnostic,
        });
    }

    fn scratch_step(&mut self) -> StepId {
        if let Some(step) = self.scratch {
            return step;
        }
        let step = self.push_source(Op::Scratch, "scratch".into(), Span::default());
        self.scratch = Some(step);
        step
    }

    fn context_step(&mut self, name: &str) -> StepId {
        if let Some(step) = self.contexts.get(name) {
            return *step;
        }
        let label = if name.is_empty() {
            "load build context".to_owned()
        } else {
            format!("load build context {name}")
        };
        let step = self.push_source(Op::Context(ContextOp { name: name.to_owned() }), label, Span::default());
        self.contexts.insert(name.to_owned(), step);
        step
    }

    /// The step of an image. While its facts are not known any step will do: the graph is not used then.
    fn image_step(&mut self, reference: &Reference, platform: &Platform, span: Span) -> StepId {
        let key = (reference.clone(), platform.clone());
        if let Some(step) = self.images.get(&key) {
            return *step;
        }
        let Some(fact) = self.fact(reference, platform) else { return self.scratch_step() };
        let op = ImageOp {
            reference: reference.clone(),
            id: fact.id,
            diff_ids: fact.config.rootfs.diff_ids.clone(),
        };
        let step = self.push_source(Op::Image(op), format!("FROM {reference}"), span);
        self.graph.step_mut(step).platform = platform.clone();
        self.images.insert(key, step);
        step
    }

    /// A step that stands on nothing. It belongs to no stage, because several may use it.
    fn push_source(&mut self, op: Op, label: String, span: Span) -> StepId {
        self.graph.push_step(Step {
            op,
            platform: self.options.platform.clone(),
            span,
            label,
            stage: "internal".into(),
            position: None,
            no_cache: false,
            named: None,
        })
    }

    /// The step whose files a source means.
    fn source_step(&mut self, source: &Source, states: &[Option<StageState>], span: Span) -> Option<StepId> {
        match source {
            Source::Scratch => Some(self.scratch_step()),
            Source::Context(name) => Some(self.context_step(name)),
            Source::Image(reference) => {
                let platform = self.options.platform.clone();
                Some(self.image_step(reference, &platform, span))
            }
            Source::Stage(index) => states.get(*index)?.as_ref().map(|state| state.step),
        }
    }
}
