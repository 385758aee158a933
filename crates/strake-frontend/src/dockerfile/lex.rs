//! Bytes to logical lines: parser directives, comments, continuations and heredocs.
//!
//! The rules are those of BuildKit's line parser. A logical line is one instruction: its physical lines joined
//! without the escape characters at their ends, comment lines inside dropped. Every byte of it remembers where it
//! came from, so that a diagnostic about `--chwon` on the third of five joined lines points there.

use std::ops::Range;

use strake_graph::Span;

use crate::Diagnostic;
use crate::dockerfile::heredoc::{self, Heredoc};

/// A text, cut into logical lines.
#[derive(Debug)]
pub(super) struct Lexed {
    /// `\` or `` ` ``.
    pub(super) escape: char,
    pub(super) syntax: Option<(String, Span)>,
    pub(super) check: Option<(String, Span)>,
    pub(super) lines: Vec<Line>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// One instruction as text.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) text: Joined,
    pub(super) heredocs: Vec<Heredoc>,
    /// All of it, heredocs included, without the last line end.
    pub(super) span: Span,
}

/// Joined text that knows where each byte came from.
#[derive(Debug, Clone, Default)]
pub(super) struct Joined {
    text: String,
    /// Pairs of offsets, in the joined text and in the source; each holds up to the next.
    segments: Vec<(usize, usize)>,
    /// The one answer for text that stands in no file (a trigger of a base image).
    fixed: Option<Span>,
}

impl Joined {
    fn push(&mut self, text: &str, source: usize) {
        if !text.is_empty() {
            self.segments.push((self.text.len(), source));
            self.text.push_str(text);
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Where the bytes `range` of the joined text came from.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        if let Some(span) = self.fixed {
            return span;
        }
        let start = self.source(range.start);
        // The end is looked up through the byte before it, which may be in an earlier segment.
        let end = if range.end > range.start { self.source(range.end - 1) + 1 } else { start };
        Span::new(start, end.max(start))
    }

    fn source(&self, offset: usize) -> usize {
        let segment = self.segments.partition_point(|(joined, _)| *joined <= offset);
        match segment.checked_sub(1).and_then(|index| self.segments.get(index)) {
            Some((joined, source)) => source + (offset - joined),
            None => self.segments.first().map_or(0, |(_, source)| *source),
        }
    }
}

/// Cuts a text into logical lines. `fixed` is the span of everything, for text that stands in no file.
pub(super) fn lex(text: &str, fixed: Option<Span>) -> Lexed {
    Lexer {
        text,
        fixed,
        at: 0,
        directives_done: false,
        escape_directive: None,
        lexed: Lexed { escape: '\\', syntax: None, check: None, lines: Vec::new(), diagnostics: Vec::new() },
    }
    .run()
}

struct Lexer<'a> {
    text: &'a str,
    fixed: Option<Span>,
    at: usize,
    directives_done: bool,
    escape_directive: Option<Span>,
    lexed: Lexed,
}

impl<'a> Lexer<'a> {
    fn run(mut self) -> Lexed {
        if self.text.starts_with('\u{feff}') {
            self.at = '\u{feff}'.len_utf8();
        }
        while let Some((start, line)) = self.next_line() {
            self.logical_line(start, line);
        }
        self.lexed
    }

    /// The next physical line with its offset, its line end included.
    fn next_line(&mut self) -> Option<(usize, &'a str)> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').map_or(rest.len(), |end| end + 1);
        let start = self.at;
        self.at += length;
        Some((start, &rest[..length]))
    }

    fn place(&self, start: usize, end: usize) -> Span {
        self.fixed.unwrap_or_else(|| Span::new(start, end))
    }

    fn logical_line(&mut self, start: usize, line: &str) {
        let content = trim_line_end(line);
        let indent = content.len() - content.trim_start().len();
        let (mut start, mut content) = (start + indent, &content[indent..]);
        self.directive(start, content);
        if content.is_empty() || content.starts_with('#') {
            return;
        }
        let mut text = Joined { fixed: self.fixed, ..Joined::default() };
        let first = start;
        let mut end = start + content.len();
        let mut empty_line = None;
        loop {
            let (kept, continues) = strip_continuation(content, self.lexed.escape);
            text.push(kept, start);
            if !continues {
                break;
            }
            let Some((next_start, next)) = self.next_content_line(&mut empty_line) else { break };
            (start, content) = (next_start, next);
            end = start + content.len();
        }
        if text.text.trim().is_empty() {
            return;
        }
        if let Some(span) = empty_line {
            let message = "empty line inside an instruction that is continued";
            self.lexed.diagnostics.push(
                Diagnostic::warning("no-empty-continuation", span, message)
                    .hint("remove the line, or end the instruction above it"),
            );
        }
        let mut heredocs = heredoc::declared(&text, &mut self.lexed.diagnostics);
        for heredoc in &mut heredocs {
            end = self.heredoc_body(heredoc);
        }
        let span = self.place(first, end);
        self.lexed.lines.push(Line { text, heredocs, span });
    }

    /// The next line of a continued instruction that is neither a comment nor empty.
    fn next_content_line(&mut self, empty_line: &mut Option<Span>) -> Option<(usize, &'a str)> {
        loop {
            let (start, line) = self.next_line()?;
            let content = trim_line_end(line);
            let trimmed = content.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                let place = self.place(start, start + content.len());
                empty_line.get_or_insert(place);
                continue;
            }
            return Some((start, content));
        }
    }

    /// Reads the body of a heredoc; answers with the end of its last line.
    fn heredoc_body(&mut self, heredoc: &mut Heredoc) -> usize {
        let body = self.at;
        let mut near_miss = None;
        while let Some((start, line)) = self.next_line() {
            let content = trim_line_end(line);
            let candidate = if heredoc.strip_tabs { content.trim_start_matches('\t') } else { content };
            let end = start + content.len();
            if candidate == heredoc.name {
                return end;
            }
            if near_miss.is_none() && content.trim() == heredoc.name {
                near_miss = Some(self.place(start, end));
            }
            heredoc.content.push_str(line);
        }
        let end = self.text.len();
        let name = &heredoc.name;
        let message = format!("heredoc `{name}` is never ended");
        let mut diagnostic = Diagnostic::error("unterminated-heredoc", heredoc.span, message)
            .note(self.place(end, end), format!("the text ends here, without a line that is only `{name}`"))
            .hint(format!("end it with a line that holds nothing but `{name}`"));
        if let Some(span) = near_miss {
            diagnostic =
                diagnostic.note(span, "this line has white space around the delimiter (`<<-` allows tabs)");
        }
        self.lexed.diagnostics.push(diagnostic);
        end.max(body)
    }

    /// Reads a parser directive. They stand at the very top; the first line that is none ends them.
    fn directive(&mut self, start: usize, content: &str) {
        if self.directives_done {
            return;
        }
        let Some((name, value)) = directive_parts(content) else {
            self.directives_done = true;
            return;
        };
        let span = self.place(start, start + content.len());
        let name = name.to_ascii_lowercase();
        let known = match name.as_str() {
            "escape" => None,
            "syntax" => Some(&mut self.lexed.syntax),
            "check" => Some(&mut self.lexed.check),
            _ => {
                self.directives_done = true;
                return;
            }
        };
        match known {
            Some(slot @ None) => *slot = Some((value.to_owned(), span)),
            Some(Some((_, first))) => {
                let first = *first;
                self.duplicate_directive(&name, span, first);
            }
            None => self.set_escape(value, span),
        }
    }

    fn set_escape(&mut self, value: &str, span: Span) {
        if let Some(first) = self.escape_directive {
            self.duplicate_directive("escape", span, first);
            return;
        }
        self.escape_directive = Some(span);
        match value {
            "\\" => {}
            "`" => self.lexed.escape = '`',
            other => self.lexed.diagnostics.push(
                Diagnostic::error(
                    "invalid-escape",
                    span,
                    format!("`{other}` cannot be the escape character"),
                )
                .hint("use `\\` or the backtick"),
            ),
        }
    }

    fn duplicate_directive(&mut self, name: &str, span: Span, first: Span) {
        let message = format!("parser directive `{name}` is given twice");
        self.lexed.diagnostics.push(
            Diagnostic::error("duplicate-directive", span, message).note(first, "it is given here already"),
        );
    }
}

/// `# name = value`, as name and value.
fn directive_parts(content: &str) -> Option<(&str, &str)> {
    let (name, value) = content.strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let named = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (named && !value.is_empty()).then_some((name, value))
}

fn trim_line_end(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

/// Takes off an escape character at the end of a line, which continues it. Blanks behind it are tolerated; two
/// escape characters do not continue.
fn strip_continuation(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(kept) if !kept.ends_with(escape) => (kept, true),
        _ => (line, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        lex(text, None).lines.into_iter().map(|line| line.text.text).collect()
    }

    fn codes(text: &str) -> Vec<&'static str> {
        lex(text, None).diagnostics.into_iter().map(|diagnostic| diagnostic.code).collect()
    }

    #[test]
    fn lines_are_joined() {
        assert_eq!(lines("RUN a \\\n  b\nRUN c"), ["RUN a   b", "RUN c"]);
        assert_eq!(lines("RUN a \\  \n# no\n\n  # no\n  b\n"), ["RUN a   b"]);
        assert_eq!(lines("\u{feff}RUN a\\\r\nb\r\n"), ["RUN ab"]);
        assert_eq!(lines("RUN a \\\\\nRUN b"), ["RUN a \\\\", "RUN b"]);
        assert_eq!(lines("# escape=`\nRUN a `\n b\\\n"), ["RUN a  b\\"]);
        assert_eq!(lines("\\\nRUN a\n\\\n"), ["RUN a"]);
        assert_eq!(lines(""), Vec::<String>::new());
    }

    #[test]
    fn joined_text_knows_its_source() {
        let text = "RUN a \\\n# no\n  bcd\n";
        let lexed = lex(text, None);
        let joined = &lexed.lines[0].text;
        let at = joined.text.find("bcd").unwrap();
        let span = joined.span(at..at + 3);
        assert_eq!(&text[span.start..span.end], "bcd");
        let span = joined.span(4..at + 1);
        assert_eq!(&text[span.start..span.end], "a \\\n# no\n  b");
        assert_eq!(lexed.lines[0].span, Span::new(0, text.len() - 1));
    }

    #[test]
    fn directives_stand_at_the_top_once() {
        assert_eq!(lex("# Escape = `\n", None).escape, '`');
        assert_eq!(lex("# a comment\n# escape=`\n", None).escape, '\\');
        assert_eq!(lex("\n# escape=`\n", None).escape, '\\');
        assert_eq!(lex("#syntax=a\n#check=skip=all\n#escape=`", None).escape, '`');
        assert_eq!(codes("# escape=`\n# ESCAPE=`\n"), ["duplicate-directive"]);
        assert_eq!(codes("# syntax=a\n# syntax=b\n"), ["duplicate-directive"]);
        assert_eq!(codes("# escape=x\n"), ["invalid-escape"]);
        assert_eq!(codes("RUN a \\\n\n b"), ["no-empty-continuation"]);
    }

    #[test]
    fn heredocs_end_or_are_errors() {
        let lexed = lex("RUN <<A 3<<-B\nx\nA\n\ty\n\tB\nRUN z", None);
        let contents: Vec<_> =
            lexed.lines[0].heredocs.iter().map(|heredoc| heredoc.content.as_str()).collect();
        assert_eq!(contents, ["x\n", "\ty\n"]);
        assert_eq!(lexed.lines.len(), 2);
        let lexed = lex("RUN <<A\nx\n A\n", None);
        assert_eq!(lexed.diagnostics[0].code, "unterminated-heredoc");
        assert_eq!(lexed.diagnostics[0].notes.len(), 2);
        assert_eq!(lexed.diagnostics[0].span, Span::new(4, 7));
    }
}
