//! Instructions that change the configuration: everything but `RUN`, `COPY` and `ADD`.

use strake_graph::{MakeDirOp, Op, Span};
use strake_oci::{EmptyObject, HealthConfig};

use crate::Diagnostic;
use crate::dockerfile::ast::{ArgItem, CommandLine, Pair, Word};
use crate::dockerfile::expand::Style;
use crate::dockerfile::lower::stage::{Place, StageState};
use crate::dockerfile::lower::{Lowerer, args, paths, port, signal, text};

impl Lowerer<'_> {
    pub(super) fn arg(&mut self, state: &mut StageState, items: &[ArgItem], span: Span) -> Option<()> {
        let mut created_by = "ARG".to_owned();
        let mut is_fine = true;
        for item in items {
            let name = &item.name.text;
            self.declared.insert(name.clone());
            let value = match (self.options.build_args.get(name).cloned(), &item.default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => {
                    let Some(value) = self.expand_word(default, state) else {
                        state.env.forget(name);
                        is_fine = false;
                        continue;
                    };
                    Some(value)
                }
                (None, None) if self.global.is_unknown(name) => {
                    state.env.forget(name);
                    is_fine = false;
                    continue;
                }
                (None, None) => self.global.get(name).map(str::to_owned),
            };
            if let Some(value) = value.as_deref().filter(|_| args::is_environment(name)) {
                state.env.set(name, value);
            }
            created_by.push(' ');
            created_by.push_str(name);
            if let Some(value) = &value {
                created_by.push('=');
                created_by.push_str(value);
            }
            let order = state.args.get(name).map_or(state.args.len(), |(order, _)| *order);
            state.args.insert(name.clone(), (order, value));
        }
        if !is_fine {
            return None;
        }
        self.remember(state, created_by, span)
    }

    pub(super) fn env(&mut self, state: &mut StageState, pairs: &[Pair], span: Span) -> Option<()> {
        // All values are expanded before any is set: the variables of one line do not see each other.
        let Some(pairs) = self.pairs(state, pairs, "ENV") else {
            for pair in pairs {
                let name = &pair.key.text;
                if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                    state.env.forget(name);
                } else {
                    state.env.forget_all();
                }
            }
            return None;
        };
        let mut created_by = "ENV".to_owned();
        for (name, value) in pairs {
            created_by.push_str(&format!(" {name}={value}"));
            state.env.set(&name, &value);
            state.set_config_env(&name, &value);
        }
        self.remember(state, created_by, span)
    }

    pub(super) fn label(&mut self, state: &mut StageState, pairs: &[Pair], span: Span) -> Option<()> {
        let mut created_by = "LABEL".to_owned();
        for (name, value) in self.pairs(state, pairs, "LABEL")? {
            created_by.push_str(&format!(" {name}={value}"));
            state.config.labels.insert(name, value);
        }
        self.remember(state, created_by, span)
    }

    fn pairs(&mut self, state: &StageState, pairs: &[Pair], what: &str) -> Option<Vec<(String, String)>> {
        let mut expanded = Vec::new();
        for pair in pairs {
            let name = self.expand_word(&pair.key, state);
            let value = self.expand_word(&pair.value, state);
            let (Some(name), Some(value)) = (name, value) else { continue };
            if name.is_empty() {
                let message = format!("the name `{}` of {what} is empty", pair.key.text);
                self.diagnostics.push(Diagnostic::error("missing-name", pair.key.span, message));
                continue;
            }
            expanded.push((name, value));
        }
        (expanded.len() == pairs.len()).then_some(expanded)
    }

    pub(super) fn workdir(&mut self, state: &mut StageState, place: &Place<'_>, path: &Word) -> Option<()> {
        let span = place.instruction.span;
        let written = self.expand_word(path, state)?;
        if !state.workdir_is_set && !written.starts_with('/') {
            let message = format!("relative working directory `{written}` depends on the base image");
            self.diagnostics.push(
                Diagnostic::warning("workdir-relative-path", path.span, message)
                    .hint("begin with an absolute WORKDIR"),
            );
        }
        state.workdir_is_set = true;
        state.directory_is_known |= written.starts_with('/');
        // An empty path (an unset variable) leaves the directory as it is.
        let directory = if written.is_empty() {
            state.directory().to_owned()
        } else {
            let joined = paths::join(state.directory(), &written);
            if written.ends_with('/') && joined != "/" { joined + "/" } else { joined }
        };
        state.config.working_dir.clone_from(&directory);
        let created_by = format!("WORKDIR {directory}");
        if directory == "/" {
            return self.remember(state, created_by, span);
        }
        let label = self.display(state, place.instruction, Style::new(self.escape))?;
        let op =
            MakeDirOp { base: state.step, path: paths::clean(&directory), user: state.config.user.clone() };
        let step = self.push_step(state, Op::MakeDir(op), place.instruction, label);
        self.push_history(state, created_by, Some(step), span)
    }

    /// The arguments as the container gets them: the shell form behind the shell.
    pub(super) fn with_shell(state: &StageState, text: String) -> Vec<String> {
        let shell = state.config.shell.clone().filter(|shell| !shell.is_empty());
        let mut arguments = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
        arguments.push(text);
        arguments
    }

    fn command(&mut self, state: &StageState, command: &CommandLine, what: &str, span: Span) -> Vec<String> {
        match command {
            CommandLine::Exec(arguments) => arguments.clone(),
            CommandLine::Shell(text) => {
                let has_own_shell = state.config.shell.as_ref().is_some_and(|shell| !shell.is_empty());
                if state.shell_is_known && !has_own_shell && !state.is_trigger {
                    let message = format!("{what} in shell form hides signals from the program");
                    self.diagnostics.push(
                        Diagnostic::warning("json-args-recommended", span, message)
                            .hint(format!("write {what} [\"program\", \"argument\"]")),
                    );
                }
                Self::with_shell(state, text.clone())
            }
        }
    }

    pub(super) fn cmd(&mut self, state: &mut StageState, command: &CommandLine, span: Span) -> Option<()> {
        self.only_once(state, "CMD", span);
        let arguments = self.command(state, command, "CMD", span);
        let created_by = format!("CMD {}", text::quoted_list(&arguments));
        state.config.cmd = Some(arguments).filter(|arguments| !arguments.is_empty());
        state.config.args_escaped = true;
        self.remember(state, created_by, span)
    }

    pub(super) fn entrypoint(
        &mut self,
        state: &mut StageState,
        command: &CommandLine,
        span: Span,
    ) -> Option<()> {
        self.only_once(state, "ENTRYPOINT", span);
        let arguments = self.command(state, command, "ENTRYPOINT", span);
        let created_by = format!("ENTRYPOINT {}", text::quoted_list(&arguments));
        state.config.entrypoint = Some(arguments).filter(|arguments| !arguments.is_empty());
        if !state.own.contains_key("CMD") {
            // A CMD that the base image made for its own entry point means nothing to another one.
            state.config.cmd = None;
        }
        self.remember(state, created_by, span)
    }

    pub(super) fn healthcheck(
        &mut self,
        state: &mut StageState,
        health: &HealthConfig,
        span: Span,
    ) -> Option<()> {
        self.only_once(state, "HEALTHCHECK", span);
        state.config.healthcheck = Some(health.clone());
        self.remember(state, format!("HEALTHCHECK {}", text::health(health)), span)
    }

    fn only_once(&mut self, state: &mut StageState, what: &'static str, span: Span) {
        if let Some(first) = state.own.insert(what, span).filter(|_| !state.is_trigger) {
            let message = format!("{what} is given twice in one stage, and only the last one counts");
            self.diagnostics.push(
                Diagnostic::warning("multiple-instructions-disallowed", first, message)
                    .note(span, "it is replaced here"),
            );
        }
    }

    pub(super) fn expose(&mut self, state: &mut StageState, words: &[Word], span: Span) -> Option<()> {
        let mut ports = Vec::new();
        for word in words {
            let style = Style::new(self.escape);
            let said = self.diagnostics.len();
            let Some(expansion) = self.expand_text(&word.text, word.span, style, state) else {
                if self.diagnostics.len() == said {
                    continue;
                }
                // The words behind an open quote or brace are probably meant to be inside of it.
                return None;
            };
            for written in expansion.words {
                match port::parse(&written) {
                    Ok(exposed) => {
                        if !self.charge(exposed.ports.len() * 16, word.span) {
                            return None;
                        }
                        self.warn_of_port(&exposed, &written, word.span);
                        ports.extend(exposed.ports);
                    }
                    Err(reason) => {
                        let message = format!("`{written}` is not a port: {reason}");
                        self.diagnostics.push(
                            Diagnostic::error("invalid-port", word.span, message)
                                .hint("for example 8080, 53/udp or 8000-8010"),
                        );
                    }
                }
            }
        }
        let created_by = format!("EXPOSE {}", text::plain_list(&ports));
        state.config.exposed_ports.extend(ports.into_iter().map(|port| (port, EmptyObject {})));
        self.remember(state, created_by, span)
    }

    fn warn_of_port(&mut self, exposed: &port::Exposed, written: &str, span: Span) {
        if exposed.is_mapping {
            let message = format!("`{written}` maps a port, but EXPOSE only names those of the container");
            self.diagnostics.push(Diagnostic::warning("expose-invalid-format", span, message));
        }
        if exposed.is_upper_case {
            let message = format!("the protocol of `{written}` should be in lower case");
            self.diagnostics.push(Diagnostic::warning("expose-proto-casing", span, message));
        }
    }

    pub(super) fn volume(&mut self, state: &mut StageState, words: &[Word], span: Span) -> Option<()> {
        let mut volumes = Vec::new();
        for word in words {
            let Some(volume) = self.expand_word(word, state) else { continue };
            if volume.is_empty() {
                let message = format!("`{}` names an empty directory", word.text);
                self.diagnostics.push(Diagnostic::error("empty-volume", word.span, message));
                continue;
            }
            state.config.volumes.insert(volume.clone(), EmptyObject {});
            volumes.push(volume);
        }
        self.remember(state, format!("VOLUME {}", text::plain_list(&volumes)), span)
    }

    pub(super) fn user(&mut self, state: &mut StageState, word: &Word, span: Span) -> Option<()> {
        let user = self.expand_word(word, state)?;
        state.config.user.clone_from(&user);
        self.remember(state, format!("USER {user}"), span)
    }

    pub(super) fn shell(&mut self, state: &mut StageState, shell: &[String], span: Span) -> Option<()> {
        state.config.shell = Some(shell.to_vec());
        self.remember(state, format!("SHELL {}", text::plain_list(shell)), span)
    }

    pub(super) fn stop_signal(&mut self, state: &mut StageState, word: &Word, span: Span) -> Option<()> {
        let name = self.expand_word(word, state)?;
        if !signal::is_signal(&name) {
            let diagnostic =
                Diagnostic::error("invalid-signal", word.span, format!("`{name}` is not a signal"));
            self.diagnostics.push(match signal::nearest(&name) {
                Some(nearest) => diagnostic.hint(format!("did you mean `{nearest}`?")),
                None => diagnostic.hint("for example SIGTERM or 15"),
            });
            return None;
        }
        state.config.stop_signal.clone_from(&name);
        self.remember(state, format!("STOPSIGNAL {name}"), span)
    }

    pub(super) fn maintainer(&mut self, state: &mut StageState, name: &Word, span: Span) -> Option<()> {
        state.author = Some(name.text.clone());
        self.remember(state, format!("MAINTAINER {}", name.text), span)
    }
}
