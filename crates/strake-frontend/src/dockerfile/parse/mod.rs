//! Logical lines to instructions. Each instruction's own grammar is in the module of its family.

mod config;
mod files;
mod flags;
mod from;
mod health;
pub(super) mod mount;
mod run;

use std::collections::BTreeSet;

use strake_graph::Span;

use crate::Diagnostic;
use crate::diagnostic::nearest;
use crate::dockerfile::ast::{Ast, Broken, CommandLine, Instruction, Kind, StageAst, Trigger, Word};
use crate::dockerfile::heredoc::Heredoc;
use crate::dockerfile::lex::{Joined, Lexed, Line};
use crate::dockerfile::words;

use flags::Flags;

/// All instructions, as people spell them.
const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Makes instructions of lines. What cannot be understood is said, and stands in the tree as broken: what is wrong
/// elsewhere can then be told from what merely follows from it.
pub(super) fn parse(lexed: &Lexed, length: usize, diagnostics: &mut Vec<Diagnostic>) -> Ast {
    let mut ast = Ast {
        escape: lexed.escape,
        global_args: Vec::new(),
        stages: Vec::new(),
        lost_globals: false,
        is_cut: lexed.diagnostics.iter().any(|diagnostic| diagnostic.code == "unterminated-heredoc"),
    };
    let is_unreadable =
        diagnostics.iter().any(|diagnostic| matches!(diagnostic.code, "invalid-utf8" | "nul"));
    let lexed_wrong: BTreeSet<usize> =
        lexed.diagnostics.iter().filter(|said| said.is_error()).map(|said| said.span.start).collect();
    let mut orphaned = false;
    for line in &lexed.lines {
        let item = if is_unreadable && line.text.as_str().contains(['\u{fffd}', '\0']) {
            // What the letters were is not known, so nothing else is said of this line.
            parse_line(line, lexed.escape, &mut Vec::new()).broken()
        } else {
            let item = parse_line(line, lexed.escape, diagnostics);
            let is_wrong = lexed_wrong.range(line.span.start..=line.span.end).next().is_some();
            if is_wrong { item.broken() } else { item }
        };
        match (item, ast.stages.last_mut()) {
            (Item::Stage(stage), _) => ast.stages.push(stage),
            (Item::Instruction(instruction), Some(stage)) => stage.instructions.push(instruction),
            (Item::Instruction(Instruction { kind: Kind::Arg(items), .. }), None) => {
                ast.global_args.extend(items);
            }
            (Item::Instruction(Instruction { kind: Kind::Broken(broken), .. }), None) => {
                ast.lost_globals |= matches!(broken.name, None | Some("ARG"));
            }
            (Item::Instruction(instruction), None) if !orphaned => {
                // Once is enough: every line up to the first FROM has the same remedy.
                orphaned = true;
                let message = "no stage has begun here: only ARG may stand in front of the first FROM";
                diagnostics.push(
                    Diagnostic::error("instruction-before-from", instruction.span, message)
                        .hint("begin with FROM, for example `FROM debian:12` or `FROM scratch`"),
                );
            }
            (Item::Instruction(_), None) => {}
        }
    }
    if ast.stages.is_empty() && !diagnostics.iter().any(Diagnostic::is_error) {
        let place = Span::new(0, length);
        diagnostics.push(
            Diagnostic::error("no-stage", place, "there is no FROM, so there is nothing to build")
                .hint("begin with FROM, for example `FROM debian:12` or `FROM scratch`"),
        );
    }
    ast
}

/// A trigger of a base image as an instruction.
pub(super) fn parse_trigger(lexed: &Lexed, diagnostics: &mut Vec<Diagnostic>) -> Option<Instruction> {
    let [line] = lexed.lines.as_slice() else { return None };
    match parse_line(line, lexed.escape, diagnostics) {
        Item::Instruction(instruction) => Some(instruction),
        Item::Stage(_) => None,
    }
}

enum Item {
    Stage(StageAst),
    Instruction(Instruction),
}

impl Item {
    /// The same, not to be relied on.
    fn broken(self) -> Self {
        match self {
            Self::Stage(stage) => Self::Stage(StageAst { is_broken: true, ..stage }),
            Self::Instruction(instruction) => {
                let (name, sources) = match instruction.kind {
                    Kind::Broken(broken) => (broken.name, broken.sources),
                    kind => (INSTRUCTIONS.into_iter().find(|name| is_keyword(name, &instruction.source)), {
                        kind.sources().into_iter().cloned().collect()
                    }),
                };
                Self::Instruction(Instruction { kind: Kind::Broken(Broken { name, sources }), ..instruction })
            }
        }
    }
}

/// Whether an instruction begins with a keyword.
fn is_keyword(name: &str, source: &str) -> bool {
    words::split_keyword(source).0.eq_ignore_ascii_case(name)
}

/// One line, taken apart into what all instructions have.
struct Request<'a> {
    /// The instruction in capitals.
    name: &'static str,
    line: &'a Joined,
    span: Span,
    keyword: Span,
    heredocs: &'a [Heredoc],
    escape: char,
    /// What stands behind the flags.
    arguments: &'a str,
}

impl Request<'_> {
    /// The place of a part of the line's text.
    fn span_of(&self, part: &str) -> Span {
        self.line.span(words::range_of(self.line.as_str(), part))
    }

    fn word(&self, part: &str) -> Word {
        Word { text: part.to_owned(), span: self.span_of(part) }
    }

    /// The place to complain about missing arguments at.
    fn arguments_span(&self) -> Span {
        if self.arguments.is_empty() { self.keyword } else { self.span_of(self.arguments) }
    }

    /// The arguments as exec or shell form.
    fn command_line(&self, arguments: &str) -> Result<CommandLine, Diagnostic> {
        match words::json_array(arguments) {
            words::Json::Strings(strings) => Ok(CommandLine::Exec(strings)),
            words::Json::No => Ok(CommandLine::Shell(arguments.to_owned())),
            words::Json::OtherArray => Err(self.not_strings()),
        }
    }

    fn not_strings(&self) -> Diagnostic {
        let message = format!("the JSON array of {} holds something that is not a string", self.name);
        Diagnostic::error("json-not-strings", self.arguments_span(), message).hint("quote every element")
    }

    /// Words: the elements of a JSON array, or what blanks separate.
    fn word_list(&self) -> Result<Vec<Word>, Diagnostic> {
        match words::json_array(self.arguments) {
            words::Json::Strings(strings) => {
                let span = self.arguments_span();
                Ok(strings.into_iter().map(|text| Word { text, span }).collect())
            }
            words::Json::No => Ok(words::by_blanks(self.arguments).map(|word| self.word(word)).collect()),
            words::Json::OtherArray => Err(self.not_strings()),
        }
    }

    /// The arguments as one word that must be there.
    fn single(&self, what: &str) -> Result<Word, Diagnostic> {
        if self.arguments.is_empty() {
            return Err(self.missing(what));
        }
        Ok(self.word(self.arguments))
    }

    fn missing(&self, what: &str) -> Diagnostic {
        Diagnostic::error("missing-argument", self.keyword, format!("{} requires {what}", self.name))
    }
}

fn parse_line(line: &Line, escape: char, diagnostics: &mut Vec<Diagnostic>) -> Item {
    let text = line.text.as_str();
    let (written, rest) = words::split_keyword(text);
    let keyword = line.text.span(words::range_of(text, written));
    let known = INSTRUCTIONS.into_iter().find(|name| name.eq_ignore_ascii_case(written));
    if known.is_none() {
        diagnostics.push(unknown_instruction(written, keyword));
    }
    // A mistyped keyword is read as what it probably means, to know what hangs on it; nothing more is said of it.
    let name = known.or_else(|| nearest(written, &INSTRUCTIONS)).unwrap_or_default();
    if known.is_some()
        && written.bytes().any(|byte| byte.is_ascii_lowercase())
        && written.bytes().any(|byte| byte.is_ascii_uppercase())
    {
        let message = format!("instruction `{written}` mixes upper and lower case");
        diagnostics.push(
            Diagnostic::warning("consistent-instruction-casing", keyword, message)
                .hint(format!("write {name}")),
        );
    }
    let (flag_words, arguments) = words::split_flags(rest);
    let mut flags = Flags::new(name, flag_words, &line.text, words::range_of(text, rest).start);
    let request = Request {
        name,
        line: &line.text,
        span: line.span,
        keyword,
        heredocs: &line.heredocs,
        escape,
        arguments,
    };
    let sources = readable_sources(name, &flags);
    let item = if known.is_none() {
        Ok(None)
    } else if name == "FROM" {
        from::parse(&request, &mut flags, diagnostics).map(|stage| Some(Item::Stage(stage)))
    } else {
        let source = text.trim().to_owned();
        instruction(&request, &mut flags, diagnostics)
            .map(|kind| Some(Item::Instruction(Instruction { kind, span: line.span, source })))
    };
    if known.is_some() {
        diagnostics.extend(flags.finish());
    }
    let item = item.unwrap_or_else(|diagnostic| {
        diagnostics.push(diagnostic);
        None
    });
    item.unwrap_or_else(|| {
        if name == "FROM" {
            return Item::Stage(from::broken(&request));
        }
        let kind = Kind::Broken(Broken { name: known, sources });
        Item::Instruction(Instruction { kind, span: line.span, source: text.trim().to_owned() })
    })
}

/// What `--from` of an instruction names, as far as it can be told without reading the rest.
fn readable_sources(name: &str, flags: &Flags<'_>) -> Vec<Word> {
    let words = match name {
        "COPY" => flags.peek("from"),
        "RUN" => {
            let mounts = flags.peek("mount").into_iter();
            mounts.filter_map(|word| mount::MountSpec::parse(&word).ok()?.from).collect()
        }
        _ => Vec::new(),
    };
    words.into_iter().filter(|word| !word.text.is_empty() && !word.text.contains('$')).collect()
}

fn instruction(
    request: &Request<'_>,
    flags: &mut Flags<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Kind, Diagnostic> {
    Ok(match request.name {
        "ADD" => Kind::Add(Box::new(files::parse_add(request, flags)?)),
        "COPY" => Kind::Copy(Box::new(files::parse_copy(request, flags)?)),
        "RUN" => Kind::Run(Box::new(run::parse_run(request, flags, diagnostics)?)),
        "CMD" => Kind::Cmd(run::parse_command(request, diagnostics)?),
        "ENTRYPOINT" => Kind::Entrypoint(run::parse_command(request, diagnostics)?),
        "SHELL" => Kind::Shell(run::parse_shell(request)?),
        "ARG" => Kind::Arg(config::parse_arg(request)?),
        "ENV" => Kind::Env(config::parse_pairs(request, diagnostics)?),
        "LABEL" => Kind::Label(config::parse_pairs(request, diagnostics)?),
        "EXPOSE" => Kind::Expose(config::parse_expose(request)?),
        "VOLUME" => Kind::Volume(config::parse_volume(request)?),
        "MAINTAINER" => Kind::Maintainer(config::parse_maintainer(request, diagnostics)?),
        "STOPSIGNAL" => Kind::StopSignal(request.single("a signal")?),
        "USER" => Kind::User(request.single("a user")?),
        "WORKDIR" => Kind::Workdir(request.single("a directory")?),
        "HEALTHCHECK" => Kind::Healthcheck(health::parse(request, flags)?),
        _ => Kind::Onbuild(parse_onbuild(request)?),
    })
}

fn parse_onbuild(request: &Request<'_>) -> Result<Trigger, Diagnostic> {
    let (keyword, _) = words::split_keyword(request.arguments);
    if keyword.is_empty() {
        return Err(request.missing("an instruction"));
    }
    let span = request.span_of(keyword);
    let Some(name) = INSTRUCTIONS.into_iter().find(|name| name.eq_ignore_ascii_case(keyword)) else {
        return Err(unknown_instruction(keyword, span));
    };
    if matches!(name, "ONBUILD" | "FROM" | "MAINTAINER") {
        let message = format!("{name} cannot be an ONBUILD trigger");
        return Err(Diagnostic::error("invalid-trigger", span, message));
    }
    let mut text = request.arguments.to_owned();
    for heredoc in request.heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Ok(Trigger { text })
}

fn unknown_instruction(written: &str, span: Span) -> Diagnostic {
    // A line of a megabyte is not shown back whole.
    let shown: String = written.chars().take(40).collect();
    let diagnostic = Diagnostic::error("unknown-instruction", span, format!("unknown instruction `{shown}`"));
    match nearest(written, &INSTRUCTIONS) {
        Some(name) => diagnostic.hint(format!("did you mean {name}?")),
        None => diagnostic.hint("if this belongs to the line above, end that one with the escape character"),
    }
}
