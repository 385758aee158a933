//! `RUN`.

use strake_graph::{Mount, MountKind, Op, RunOp, Span, StepId};

use crate::Diagnostic;
use crate::dockerfile::ast::{CommandLine, RunAst};
use crate::dockerfile::expand::Style;
use crate::dockerfile::heredoc;
use crate::dockerfile::lower::stage::{Place, StageState};
use crate::dockerfile::lower::{Lowerer, args, paths};
use crate::dockerfile::parse::mount::{Kind, MountSpec, Settings};

/// Where a heredoc with an interpreter line is put for the time of its step.
const SCRIPTS: &str = "/dev/pipes";

impl Lowerer<'_> {
    pub(super) fn run_step(&mut self, state: &mut StageState, place: &Place<'_>, run: &RunAst) -> Option<()> {
        let span = place.instruction.span;
        let mut mounts = Vec::new();
        let mut is_fine = true;
        for spec in &run.mounts {
            match self.mount(state, place, spec) {
                Some(mount) => mounts.push(mount),
                None => is_fine = false,
            }
        }
        if !is_fine {
            return None;
        }
        let arguments = arguments(state, run, &mut mounts);
        let transient = args::proxy_environment(&self.options.build_args);
        let transient_env = transient.into_iter().filter(|(name, _)| state.env.get(name).is_none()).collect();
        let created_by = format!("RUN {}{}", declared_arguments(state), arguments.join(" "));
        // Each RUN carries the whole environment, so that is what a file can grow by.
        if !self.charge(state.env.bytes() + created_by.len(), span) {
            return None;
        }
        let style = Style { raw_quotes: true, keep_unset: true, ..Style::new(self.escape) };
        let mut label = self.display(state, place.instruction, style)?;
        label.push_str(&summary(run));
        let op = RunOp {
            base: state.step,
            args: arguments,
            env: state.env.entries().to_vec(),
            transient_env,
            cwd: paths::clean(state.directory()),
            user: state.config.user.clone(),
            mounts,
            network: run.network,
        };
        let step = self.push_step(state, Op::Run(Box::new(op)), place.instruction, label);
        self.remember_layer(state, &created_by, step, span)
    }

    fn mount(&mut self, state: &StageState, place: &Place<'_>, spec: &MountSpec) -> Option<Mount> {
        let style = Style::new(self.escape);
        let mut expand =
            |text: &str| self.expand_text(text, spec.span, style, state).map(|result| result.text);
        let settings = match spec.resolve(&mut expand) {
            Ok(settings) => settings?,
            Err(diagnostic) => {
                self.diagnostics.push(diagnostic);
                return None;
            }
        };
        let from = match &spec.from {
            Some(from) => match place.plan.source(self, place.index, from) {
                Ok(source) => Some(self.source_step(&source, place.states, from.span)?),
                Err(diagnostic) => {
                    self.diagnostics.push(diagnostic);
                    return None;
                }
            },
            None => None,
        };
        self.mount_of(state, settings, from, spec.span)
    }

    fn mount_of(
        &mut self,
        state: &StageState,
        settings: Settings,
        from: Option<StepId>,
        span: Span,
    ) -> Option<Mount> {
        let Settings { kind, target, source, writable, id, sharing, required, env, mode, uid, gid, size } =
            settings;
        let absolute = target.as_deref().map(|target| paths::join(state.directory(), target));
        let is_known = state.directory_is_known || target.as_ref().is_some_and(|path| path.starts_with('/'));
        if is_known && absolute.as_deref() == Some("/") {
            let message = "a mount cannot cover the root directory";
            self.diagnostics.push(Diagnostic::error("invalid-mount", span, message));
            return None;
        }
        let source_path = |source: Option<String>| paths::clean(source.as_deref().unwrap_or("/"));
        let kind = match kind {
            Kind::Bind => MountKind::Bind {
                from: from.unwrap_or_else(|| self.context_step("")),
                source: source_path(source),
                writable: writable.unwrap_or(false),
            },
            Kind::Cache => MountKind::Cache {
                // Without an id the directory is known by where it is mounted, as BuildKit does.
                id: id.unwrap_or_else(|| absolute.clone().unwrap_or_default()),
                sharing,
                from: from.map(|from| (from, source_path(source))),
                mode: mode.unwrap_or(0o755),
                uid,
                gid,
                read_only: writable == Some(false),
            },
            Kind::Tmpfs => MountKind::Tmpfs { size },
            Kind::Secret => {
                let id =
                    id.or(source).or_else(|| target.as_deref().map(|path| paths::base_name(path).to_owned()));
                let id = id.unwrap_or_default();
                let default = || format!("/run/secrets/{}", paths::base_name(&id));
                let mounted = match (absolute, &env) {
                    (Some(target), _) => target,
                    (None, Some(_)) => String::new(),
                    (None, None) => default(),
                };
                let kind = MountKind::Secret { id, env, required, mode: mode.unwrap_or(0o400), uid, gid };
                return Some(Mount { target: mounted, kind });
            }
        };
        Some(Mount { target: absolute?, kind })
    }
}

/// The program and its arguments. Heredocs are either the whole script, which then needs no shell that knows them, or
/// a part of what the shell is given.
fn arguments(state: &StageState, run: &RunAst, mounts: &mut Vec<Mount>) -> Vec<String> {
    let text = match &run.command {
        CommandLine::Exec(arguments) => return arguments.clone(),
        CommandLine::Shell(text) => text,
    };
    let Some(only) = only_heredoc(run) else {
        let mut text = text.clone();
        for heredoc in &run.heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        return Lowerer::with_shell(state, text);
    };
    let body = only.body();
    if !body.starts_with("#!") {
        return Lowerer::with_shell(state, body);
    }
    let target = format!("{SCRIPTS}/{}", only.name);
    let kind = MountKind::File { content: body.into_bytes(), mode: 0o755 };
    mounts.push(Mount { target: target.clone(), kind });
    Lowerer::with_shell(state, target)
}

/// The heredoc that is all of a `RUN`.
fn only_heredoc(run: &RunAst) -> Option<&heredoc::Heredoc> {
    let CommandLine::Shell(text) = &run.command else { return None };
    let first = run.heredocs.first()?;
    heredoc::parse(text).ok().flatten().map(|_| first)
}

/// The first line of a script, for people.
fn summary(run: &RunAst) -> String {
    let Some(heredoc) = only_heredoc(run) else { return String::new() };
    let mut lines = heredoc.content.trim().lines();
    let first = lines.next().unwrap_or_default();
    let dots = if lines.next().is_some() { "..." } else { "" };
    format!(" ({first}{dots})")
}

/// `|2 A=1 B=2 `: the arguments in force, as the history shows them.
fn declared_arguments(state: &StageState) -> String {
    if state.args.is_empty() {
        return String::new();
    }
    let mut declared: Vec<_> = state.args.iter().collect();
    declared.sort_by_key(|(_, (order, _))| *order);
    let mut text = format!("|{} ", declared.len());
    for (name, (_, value)) in declared {
        let value = state.env.get(name).or(value.as_deref()).unwrap_or_default();
        text.push_str(&format!("{name}={value} "));
    }
    text
}
