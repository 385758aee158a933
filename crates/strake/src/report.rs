//! Errors and diagnostics as people read them.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use strake_engine::{BuildError, StepFailure};
use strake_frontend::{Diagnostic, LineIndex, Severity};
use strake_graph::Span;

use crate::failure::{Failure, Kind, StepEnd, chain};
use crate::ui;

/// Whether reports are coloured; set once, by `main`.
static COLOUR: AtomicBool = AtomicBool::new(false);

/// The last lines of output that a failed step's report repeats.
const TAIL_LINES: usize = 20;

/// The lines around a failed instruction that are shown.
const CONTEXT_LINES: usize = 3;

/// The longest line of a Dockerfile that is shown, in characters.
const LINE_MAX: usize = 400;

/// A text that spans count in, with the name people know it by.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The file's name as typed or found.
    pub(crate) name: String,
    /// What is in it.
    pub(crate) text: String,
}

/// Decides once whether reports on standard error are coloured.
pub(crate) fn set_colour(wanted: bool) {
    COLOUR.store(wanted && std::io::stderr().is_terminal(), Ordering::Relaxed);
}

/// Prints why the program ends.
pub(crate) fn print(failure: &Failure) {
    if ui::fail_programs(failure) {
        return;
    }
    let _ = std::io::stderr().lock().write_all(render(failure, COLOUR.load(Ordering::Relaxed)).as_bytes());
}

/// Prints a warning outside of any build.
pub(crate) fn warn(text: &str) {
    if ui::warn_programs(text) {
        return;
    }
    let text = ui::clean(text.as_bytes());
    let warning = paint("warning", "33", COLOUR.load(Ordering::Relaxed));
    let _ = ui::aside(|| writeln!(std::io::stderr().lock(), "{warning}: {text}"));
}

/// Prints text that is laid out and clean.
pub(crate) fn text(text: &str) {
    if text.is_empty() || ui::warn_programs(text.trim_end()) {
        return;
    }
    let _ = ui::aside(|| std::io::stderr().lock().write_all(text.as_bytes()));
}

/// Prints something the user may want to know while a command goes on.
pub(crate) fn note(text: &str) {
    if ui::warn_programs(text) {
        return;
    }
    let _ = writeln!(std::io::stderr().lock(), "{}", ui::clean(text.as_bytes()));
}

fn paint(text: &str, code: &str, colour: bool) -> String {
    if colour { format!("\x1b[1;{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// The body, `error: what: why`, then `hint:` lines.
fn render(failure: &Failure, colour: bool) -> String {
    let mut out = failure.body.clone();
    if !failure.message.is_empty() {
        let message: Vec<_> = failure.message.lines().map(|line| ui::clean(line.as_bytes())).collect();
        let _ = writeln!(out, "{}: {}", paint("error", "31", colour), message.join("\n  "));
    }
    for hint in &failure.hints {
        let _ = writeln!(out, "{}: {}", paint("hint", "36", colour), ui::clean(hint.as_bytes()));
    }
    if failure.kind == Kind::Bug {
        let _ = writeln!(out, "this is a bug in strake {}; please report it", env!("CARGO_PKG_VERSION"));
    }
    out
}

/// All diagnostics of a text, in its order, each with the line it is about.
pub(crate) fn diagnostics(source: &Source, diagnostics: &[Diagnostic]) -> String {
    let index = LineIndex::new(&source.text);
    let colour = COLOUR.load(Ordering::Relaxed);
    diagnostics.iter().map(|diagnostic| diagnostic_text(source, &index, diagnostic, colour)).collect()
}

/// The failure for a text with errors.
pub(crate) fn invalid(source: &Source, found: &[Diagnostic]) -> Failure {
    let errors = found.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let count = if errors == 1 { "1 error".to_owned() } else { format!("{errors} errors") };
    let mut failure = Failure::input(format!("{} has {count}", source.name));
    failure.body = diagnostics(source, found);
    failure
}

fn diagnostic_text(source: &Source, index: &LineIndex, diagnostic: &Diagnostic, colour: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let name = ui::clean(source.name.as_bytes());
    let message = ui::clean(diagnostic.message.as_bytes());
    let place = Excerpt::new(source, index, diagnostic.span);
    let mut group = Group::with_title(level.primary_title(message).id(diagnostic.code)).element(
        Snippet::source(place.text.as_str())
            .path(name.as_str())
            .line_start(place.line)
            .annotation(AnnotationKind::Primary.span(place.mark.clone())),
    );
    let notes: Vec<_> =
        diagnostic.notes.iter().map(|note| (note, Excerpt::new(source, index, note.span))).collect();
    for (note, place) in &notes {
        let label = ui::clean(note.message.as_bytes());
        group = group.element(
            Snippet::source(place.text.as_str())
                .path(name.as_str())
                .line_start(place.line)
                .annotation(AnnotationKind::Context.span(place.mark.clone()).label(label)),
        );
    }
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.message(ui::clean(hint.as_bytes())));
    }
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    format!("{}\n\n", renderer.render(&[group]))
}

/// The first line of a span, cleaned and cut so that no text can break or flood a report.
struct Excerpt {
    text: String,
    line: usize,
    mark: std::ops::Range<usize>,
}

impl Excerpt {
    fn new(source: &Source, index: &LineIndex, span: Span) -> Self {
        let line = index.line(span.start.min(source.text.len()));
        let whole = index.span(line).unwrap_or_default();
        let raw = source.text.get(whole.start..whole.end).unwrap_or_default().trim_end_matches(['\n', '\r']);
        let start = boundary(raw, span.start.saturating_sub(whole.start));
        let end = boundary(raw, span.end.saturating_sub(whole.start)).max(start);
        let before = ui::clean(&raw.as_bytes()[..start]);
        let marked = ui::clean(&raw.as_bytes()[start..end]);
        let after = ui::clean(&raw.as_bytes()[end..]);
        // Of a very long line only the part around the mark is shown.
        let skip = before.chars().count().saturating_sub(LINE_MAX / 2);
        let before: String = match skip {
            0 => before,
            _ => format!("…{}", before.chars().skip(skip).collect::<String>()),
        };
        let marked: String = marked.chars().take(LINE_MAX).collect();
        let after: String = after.chars().take(LINE_MAX / 2).collect();
        let mark = before.len()..before.len() + marked.len();
        Self { text: format!("{before}{marked}{after}"), line, mark }
    }
}

/// The nearest place at or before `at` where a character begins.
fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The failure for a build that did not succeed. `source` is the Dockerfile.
pub(crate) fn build_failure(source: &Source, error: BuildError) -> Failure {
    match error {
        BuildError::Failed(failure) => step_failure(source, &failure),
        BuildError::Step { label, span, source: cause, .. } => {
            let mut failure = step_error(*cause);
            failure.body = excerpt(source, span);
            failure.about(ui::clean(label.as_bytes()))
        }
        BuildError::Cancelled => Failure::new(Kind::Interrupted, "the build was stopped"),
        BuildError::Share(cause) => step_error(*cause),
        BuildError::Store(error) => error.into(),
        other @ BuildError::Pruned => Failure::environment(chain(&other)).hint("run the build again"),
    }
}

fn step_error(error: strake_engine::StepError) -> Failure {
    use strake_engine::StepError as Step;
    match error {
        Step::Exec(error) => exec_failure(&error),
        Step::Image(error) => (*error).into(),
        Step::Store(error) => error.into(),
        Step::Cancelled => Failure::new(Kind::Interrupted, "stopped"),
        Step::Copy(strake_engine::copy::CopyError::Io { .. }) => {
            Failure::environment(chain(&error)).with_room_hint(&error)
        }
        Step::Copy(_) | Step::Secret(_) | Step::Context(_) | Step::Layer(_) => Failure::input(chain(&error)),
        other => Failure::environment(chain(&other)).with_room_hint(&other),
    }
}

/// The failure for a container that could not be run.
pub(crate) fn exec_failure(error: &strake_exec::ExecError) -> Failure {
    use strake_exec::ExecError as Exec;
    let kind = match error {
        Exec::Setup { .. } | Exec::PrivateNetwork { .. } => Kind::Environment,
        Exec::Cancelled => Kind::Interrupted,
        Exec::Internal { .. } => Kind::Bug,
        _ => Kind::Input,
    };
    match error {
        Exec::Setup { what, errno, remedy } => {
            let mut failure = Failure::new(kind, format!("{what}: {errno}"));
            failure.hints.extend(remedy.clone());
            failure
        }
        other => Failure::new(kind, chain(other)),
    }
}

/// The same for a process that failed.
pub(crate) fn step_failure(source: &Source, failed: &StepFailure) -> Failure {
    let label = ui::clean(failed.label.as_bytes());
    let stage = ui::clean(failed.stage.as_bytes());
    let mut body = String::from("------\n");
    let _ = writeln!(body, " > [{stage}] {label}:");
    let tail = tail(&failed.tail);
    for line in &tail {
        let _ = writeln!(body, "{line}");
    }
    body.push_str("------\n");
    body.push_str(&excerpt(source, failed.span));
    let mut failure = Failure::new(Kind::Step, chain(failed));
    failure.body = body;
    failure.step = Some(StepEnd { code: failed.exit.code(), log: failed.log.clone() });
    failure.hint(format!("its output is kept in {}", failed.log.display()))
}

fn tail(bytes: &[u8]) -> Vec<String> {
    let mut lines = ui::Lines::default();
    let mut all = Vec::new();
    lines.push(bytes, |line| all.push(line));
    all.extend(lines.rest());
    let skip = all.len().saturating_sub(TAIL_LINES);
    all.split_off(skip)
}

/// The lines around a span, with `>>>` in front of those it covers.
pub(crate) fn excerpt(source: &Source, span: Span) -> String {
    let index = LineIndex::new(&source.text);
    let first = index.line(span.start.min(source.text.len()));
    let last = index.line(span.end.saturating_sub(1).clamp(span.start, source.text.len().max(span.start)));
    let name = ui::clean(source.name.as_bytes());
    let mut out = format!("{name}:{first}\n--------------------\n");
    let from = first.saturating_sub(CONTEXT_LINES).max(1);
    let to = (last + CONTEXT_LINES).min(index.lines());
    // A heredoc may have thousands of lines; its beginning says which it is.
    let to = to.min(first + 4 * CONTEXT_LINES);
    for number in from..=to {
        let Some(span) = index.span(number) else { break };
        let line = ui::clean(source.text[span.start..span.end].trim_end().as_bytes());
        if number == to && number == index.lines() && line.is_empty() && number > last {
            break;
        }
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        let _ = writeln!(out, "{}", format!("{number:4} | {mark} {}", ui::cut(&line, LINE_MAX)).trim_end());
    }
    out.push_str("--------------------\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { name: "Dockerfile".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn excerpts_mark_the_instruction() {
        let source = source("FROM a\nRUN x \\\n  y\nCOPY . .\n");
        let expect = "Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> RUN x \\\n   3 | >>>   y\n   4 |     COPY . .\n--------------------\n";
        assert_eq!(excerpt(&source, Span::new(7, 18)), expect);
    }

    #[test]
    fn diagnostics_show_line_caret_and_hint() {
        let source = source("FROM a\nRUNN x\n");
        let found =
            [Diagnostic::error("unknown-instruction", Span::new(7, 11), "unknown instruction `RUNN`")
                .hint("did you mean `RUN`?")];
        let text = diagnostics(&source, &found);
        assert!(text.contains("Dockerfile:2:1"), "{text}");
        assert!(text.contains("2 | RUNN x"), "{text}");
        assert!(text.contains("^^^^"), "{text}");
        assert!(text.contains("help: did you mean `RUN`?"), "{text}");
    }

    #[test]
    fn hostile_texts_and_spans_do_not_break_a_report() {
        let texts = ["", "\n", "é", "\u{1b}[2J\tx\u{202e}", &"漢".repeat(100_000)];
        for text in texts {
            for (start, end) in
                [(0, 0), (0, text.len()), (1, 2), (text.len(), text.len()), (9, 3), (usize::MAX, usize::MAX)]
            {
                let source = source(text);
                let span = Span::new(start, end);
                let found = [Diagnostic::error("x", span, "wrong").note(span, "here")];
                let rendered = diagnostics(&source, &found);
                assert!(!rendered.contains('\u{1b}') && rendered.len() < 20_000, "{rendered}");
                assert!(excerpt(&source, span).len() < 20_000);
            }
        }
    }

    #[test]
    fn failures_read_as_what_why_hint() {
        let failure = Failure::input("no such file").about("read /x").hint("make it");
        assert_eq!(render(&failure, false), "error: read /x: no such file\nhint: make it\n");
    }
}
