//! What is said of the rendered text, told in the words of what was written.

use std::collections::BTreeMap;

use strake_frontend::{Diagnostic, LineIndex};
use strake_graph::Span;
use strake_template::{Place, Rendered, TemplateError};

use crate::failure::Failure;
use crate::report::{self, Source};

/// More errors at once help nobody.
const SHOWN: usize = 50;

/// A rendered text, and the templates that it came from.
#[derive(Debug)]
pub(super) struct Told {
    rendered: Rendered,
    index: LineIndex,
    templates: BTreeMap<String, Template>,
}

#[derive(Debug)]
struct Template {
    text: String,
    index: LineIndex,
}

impl Told {
    pub(super) fn new(rendered: Rendered, texts: BTreeMap<String, String>) -> Self {
        let template = |(name, text): (String, String)| {
            let index = LineIndex::new(&text);
            (name, Template { text, index })
        };
        let index = LineIndex::new(&rendered.text);
        Self { rendered, index, templates: texts.into_iter().map(template).collect() }
    }

    /// The rendered text.
    pub(super) fn text(&self) -> &str {
        &self.rendered.text
    }

    /// The failure for a stage file with errors.
    pub(super) fn invalid(&self, name: &str, found: &[Diagnostic]) -> Failure {
        let errors = found.iter().filter(|diagnostic| diagnostic.is_error()).count();
        let count = if errors == 1 { "1 error".to_owned() } else { format!("{errors} errors") };
        let mut failure = Failure::input(format!("{name} has {count}"));
        failure.body = self.tell(found);
        failure
    }

    /// All diagnostics, each with the line that it is about.
    pub(super) fn tell(&self, found: &[Diagnostic]) -> String {
        let mut text = String::new();
        let mut group: Option<(String, Vec<Diagnostic>)> = None;
        for diagnostic in found.iter().take(SHOWN) {
            let (name, told) = self.translate(diagnostic);
            match &mut group {
                Some((known, list)) if *known == name => list.push(told),
                _ => text += &self.render(group.replace((name, vec![told]))),
            }
        }
        text += &self.render(group);
        match found.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            Some(more) => text + &format!("… and {more} more\n\n"),
            None => text,
        }
    }

    fn render(&self, group: Option<(String, Vec<Diagnostic>)>) -> String {
        let Some((name, list)) = group else { return String::new() };
        let text = self.templates.get(&name).map_or(self.text(), |template| &template.text).to_owned();
        report::diagnostics(&Source { name, text }, &list)
    }

    /// The template that a diagnostic is about, and the diagnostic with spans in it.
    fn translate(&self, diagnostic: &Diagnostic) -> (String, Diagnostic) {
        let Some((name, span, is_literal)) = self.find(diagnostic.span) else {
            return ("the rendered stage file".to_owned(), diagnostic.clone());
        };
        let mut told = Diagnostic { span, notes: Vec::new(), ..diagnostic.clone() };
        let mut hints: Vec<String> = told.hint.take().into_iter().collect();
        if !is_literal {
            let line = self.index.line(diagnostic.span.start.min(self.text().len()));
            let whole = self.index.span(line).unwrap_or_default();
            let text = self.text()[whole.start..whole.end].trim();
            hints.push(format!("rendered, line {line} is: {}", crate::ui::cut(text, 100)));
        }
        for note in &diagnostic.notes {
            match self.find(note.span) {
                Some((place, span, _)) if place == name => told = told.note(span, &note.message),
                Some((place, span, _)) => {
                    let template = &self.templates[&place];
                    hints.push(format!("{} ({place}:{})", note.message, template.index.line(span.start)));
                }
                None => {}
            }
        }
        told.hint = (!hints.is_empty()).then(|| hints.join("; "));
        (name, told)
    }

    /// Where a place of the rendered text was written: the template, the span in it, and whether the text stands there
    /// as it was rendered.
    fn find(&self, span: Span) -> Option<(String, Span, bool)> {
        let text = self.text();
        let start = span.start.min(text.len());
        let span = Span::new(start, span.end.clamp(start, text.len()));
        let line = self.index.line(span.start);
        let origin = self.rendered.origin(line)?;
        let template = self.templates.get(&origin.template)?;
        let rendered = self.index.span(line)?;
        let written = template.index.span(origin.line)?;
        let (rendered_line, written_line) =
            (text.get(rendered.start..rendered.end)?, template.text.get(written.start..written.end)?);
        let (from, to) = (span.start - rendered.start, span.end.min(rendered.end) - rendered.start);
        if rendered_line.trim_end() == written_line.trim_end() {
            let end = (written.start + to).min(written.end);
            return Some((origin.template, Span::new(written.start + from, end), true));
        }
        let marked = rendered_line.get(from..to).unwrap_or_default().trim_end();
        let mut places = written_line.match_indices(marked);
        let span = match (places.next(), places.next()) {
            (Some((at, _)), None) if !marked.is_empty() => {
                Span::new(written.start + at, written.start + at + marked.len())
            }
            _ => content(written, written_line, &origin),
        };
        Some((origin.template, span, false))
    }
}

/// What a line says from a place on.
fn content(line: Span, text: &str, place: &Place) -> Span {
    let at = text.char_indices().nth(place.column.saturating_sub(1)).map_or(0, |(at, _)| at);
    let end = text.trim_end().len();
    Span::new(line.start + at.min(end), line.start + end)
}

/// The failure for a template that is wrong or failed.
pub(super) fn template_failure(error: &TemplateError, texts: &BTreeMap<String, String>) -> Failure {
    let mut hints: Vec<String> = error.hint.iter().cloned().collect();
    hints.extend(error.called_from.iter().take(5).map(|place| format!("called from {place}")));
    let text = texts.get(&error.place.template).cloned();
    let Some(text) = text else {
        let failure = Failure::input(error.to_string());
        return hints.into_iter().fold(failure, Failure::hint);
    };
    let index = LineIndex::new(&text);
    let line = index.span(error.place.line).unwrap_or_default();
    let span = content(line, text.get(line.start..line.end).unwrap_or_default(), &error.place);
    let mut diagnostic = Diagnostic::error("template", span, error.message.clone());
    diagnostic.hint = (!hints.is_empty()).then(|| hints.join("; "));
    report::invalid(&Source { name: error.place.template.clone(), text }, &[diagnostic])
}

#[cfg(test)]
mod tests {
    use strake_frontend::stagefile;
    use strake_template::{Host, Templates, Value};

    use super::*;

    fn told(texts: &[(&str, &str)]) -> String {
        let mut templates = Templates::new();
        for (name, text) in texts {
            templates.add(name, text).unwrap();
        }
        let rendered = templates.render("strake.yaml", &Value::Null, &Host::default()).unwrap();
        let texts = texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let told = Told::new(rendered, texts.collect());
        let found = stagefile::parse(told.text()).diagnostics;
        assert!(!found.is_empty());
        told.tell(&found)
    }

    #[test]
    fn a_place_is_told_where_it_was_written() {
        let file =
            "{{ $base := \"a:1\" -}}\n{{ if true -}}\ndimg: web\n{{- end }}\nfrom: {{ $base }}\nform: x\n";
        let text = told(&[("strake.yaml", file)]);
        assert!(text.contains("strake.yaml:6:1") && text.contains("6 | form: x"), "{text}");
        assert!(!text.contains("rendered, line"), "{text}");
    }

    #[test]
    fn what_an_action_printed_is_told_where_the_action_is() {
        let file = "dimg: web\nfrom: a\n{{ include \"rest\" . }}\n";
        let rest = "{{ define \"rest\" }}shel: x\n{{ end }}";
        let text = told(&[("x.tmpl", rest), ("strake.yaml", file)]);
        assert!(text.contains("strake.yaml:3:") && text.contains("{{ include \"rest\" . }}"), "{text}");
        assert!(text.contains("rendered, line 3 is: shel: x"), "{text}");
    }

    #[test]
    fn a_template_that_was_called_is_named() {
        let file = "dimg: web\nfrom: a\n{{ template \"rest\" }}\n";
        let rest = "{{ define \"rest\" }}\n  {{- printf \"sh\" }}el: x{{ end }}";
        let text = told(&[("x.tmpl", rest), ("strake.yaml", file)]);
        assert!(text.contains("-->") && text.contains(':'), "{text}");
    }

    #[test]
    fn whatever_is_said_can_be_told() {
        let text = "{{ $x := 1 }}é\n\n漢{{ $x }}\n";
        let mut templates = Templates::new();
        templates.add("strake.yaml", text).unwrap();
        let rendered = templates.render("strake.yaml", &Value::Null, &Host::default()).unwrap();
        let told = Told::new(rendered, BTreeMap::from([("strake.yaml".to_owned(), text.to_owned())]));
        for start in (0..20).chain([usize::MAX]) {
            for end in [0, start, 3, 20, usize::MAX] {
                let span = Span::new(start, end);
                let found = told.tell(&[Diagnostic::error("x", span, "wrong").note(span, "here")]);
                assert!(found.contains("error[x]: wrong"), "{found}");
            }
        }
    }

    #[test]
    fn thousands_of_errors_are_not_all_shown() {
        let file =
            format!("dimg: web\nfrom: a\n{}", (0..2_000).map(|n| format!("x{n}: 1\n")).collect::<String>());
        let text = told(&[("strake.yaml", &file)]);
        assert!(text.contains("… and 1950 more"), "{}", &text[text.len() - 200..]);
    }
}
