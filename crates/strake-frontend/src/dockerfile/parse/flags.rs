//! Flags of instructions: `--name=value` in front of the arguments.

use strake_graph::Span;

use crate::Diagnostic;
use crate::diagnostic::nearest;
use crate::dockerfile::ast::Word;
use crate::dockerfile::lex::Joined;
use crate::dockerfile::words::FlagWord;

/// The flags of one instruction, to be taken one by one; what is left over is unknown.
pub(super) struct Flags<'a> {
    instruction: &'a str,
    flags: Vec<Flag>,
    known: Vec<&'static str>,
    /// The place of all that is said about flags as such.
    pub(super) diagnostics: Vec<Diagnostic>,
}

struct Flag {
    name: String,
    value: Option<String>,
    span: Span,
}

impl<'a> Flags<'a> {
    /// `offset` is where the text that the flags were cut from begins in the line.
    pub(super) fn new(instruction: &'a str, words: Vec<FlagWord>, line: &Joined, offset: usize) -> Self {
        let flags = words.into_iter().map(|word| {
            let span = line.span(offset + word.range.start..offset + word.range.end);
            let text = word.text.strip_prefix("--").unwrap_or(&word.text);
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text, None),
            };
            Flag { name: name.to_owned(), value, span }
        });
        Self { instruction, flags: flags.collect(), known: Vec::new(), diagnostics: Vec::new() }
    }

    /// All values of a flag that may be repeated.
    pub(super) fn many(&mut self, name: &'static str) -> Vec<Word> {
        let mut values = Vec::new();
        for flag in self.take(name) {
            match flag.value {
                Some(text) => values.push(Word { text, span: flag.span }),
                None => {
                    let message = format!("flag `--{name}` lacks a value");
                    self.diagnostics.push(
                        Diagnostic::error("missing-flag-value", flag.span, message)
                            .hint(format!("write `--{name}=VALUE`")),
                    );
                }
            }
        }
        values
    }

    /// All values of a flag, which stays to be taken.
    pub(super) fn peek(&self, name: &str) -> Vec<Word> {
        let flags = self.flags.iter().filter(|flag| flag.name == name);
        flags.filter_map(|flag| Some(Word { text: flag.value.clone()?, span: flag.span })).collect()
    }

    /// The value of a flag that may be given once.
    pub(super) fn one(&mut self, name: &'static str) -> Option<Word> {
        let mut values = self.many(name).into_iter();
        let first = values.next();
        if let (Some(first), Some(second)) = (&first, values.next()) {
            self.diagnostics.push(duplicate(name, second.span, first.span));
        }
        first
    }

    /// The value of a flag that is true or false, with its place.
    pub(super) fn boolean(&mut self, name: &'static str) -> Option<(bool, Span)> {
        let mut flags = self.take(name).into_iter();
        let first = flags.next()?;
        if let Some(second) = flags.next() {
            self.diagnostics.push(duplicate(name, second.span, first.span));
        }
        match first.value.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("true") => Some((true, first.span)),
            Some("false") => Some((false, first.span)),
            Some(other) => {
                let message = format!("flag `--{name}` is either true or false, not `{other}`");
                self.diagnostics.push(Diagnostic::error("invalid-flag-value", first.span, message));
                None
            }
        }
    }

    /// Refuses a flag that strake knows but cannot honour yet, unless it is switched off.
    pub(super) fn refuse(&mut self, name: &'static str, hint: &str) {
        for flag in self.take(name) {
            if flag.value.as_deref().is_some_and(|value| value.eq_ignore_ascii_case("false")) {
                continue;
            }
            let message = format!("not supported yet: `{} --{name}`", self.instruction);
            self.diagnostics.push(Diagnostic::error("unsupported-flag", flag.span, message).hint(hint));
        }
    }

    /// Says which flags nobody took.
    pub(super) fn finish(self) -> Vec<Diagnostic> {
        let Self { instruction, flags, known, mut diagnostics } = self;
        for flag in flags {
            let message = format!("{instruction} has no flag `--{}`", flag.name);
            let diagnostic = Diagnostic::error("unknown-flag", flag.span, message);
            diagnostics.push(match nearest(&flag.name, &known) {
                Some(name) => diagnostic.hint(format!("did you mean `--{name}`?")),
                None if known.is_empty() => diagnostic,
                None => diagnostic.hint(format!("it has --{}", known.join(", --"))),
            });
        }
        diagnostics
    }

    fn take(&mut self, name: &'static str) -> Vec<Flag> {
        self.known.push(name);
        let (taken, left) = std::mem::take(&mut self.flags).into_iter().partition(|flag| flag.name == name);
        self.flags = left;
        taken
    }
}

fn duplicate(name: &str, span: Span, first: Span) -> Diagnostic {
    Diagnostic::error("duplicate-flag", span, format!("flag `--{name}` is given twice"))
        .note(first, "it is given here already")
}
