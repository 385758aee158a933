use strake_graph::Span;

use super::config::StageFile;
use super::{document, resolve, yaml};
use crate::Diagnostic;

/// No rendered stage file that people can read is larger; in bytes.
const MAX_LENGTH: usize = 4 << 20;

/// What was found in a rendered stage file.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The file, unless anything is wrong with it.
    pub file: Option<StageFile>,
    /// All errors and warnings, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads the text that the templates of a stage file gave. Never fails: what is wrong is in the diagnostics, all of it
/// at once.
pub fn parse(rendered: &str) -> Parsed {
    let mut diagnostics = Vec::new();
    let file = parse_into(rendered, &mut diagnostics);
    diagnostics.iter_mut().for_each(Diagnostic::make_printable);
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    Parsed { file, diagnostics }
}

fn parse_into(rendered: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<StageFile> {
    if rendered.len() > MAX_LENGTH {
        let message = format!(
            "the rendered stage file has {} bytes, and at most {MAX_LENGTH} are read",
            rendered.len()
        );
        diagnostics.push(Diagnostic::error("file-size", Span::new(0, 0), message));
        return None;
    }
    let spans = yaml::documents(rendered);
    let mut documents = Vec::new();
    let mut unknown = false;
    for span in spans {
        let document = yaml::read(rendered, span, diagnostics);
        let document = document.and_then(|node| document::decode(&node, diagnostics));
        unknown |= document.is_none();
        documents.extend(document);
    }
    let dimgs = documents.iter().any(|document| document.kind == document::DocumentKind::Dimg);
    if !dimgs && !unknown {
        let diagnostic = Diagnostic::error("no-dimg", Span::new(0, 0), "the stage file has no `dimg`");
        diagnostics.push(diagnostic.hint("`dimg: ~` makes an image without a name"));
    }
    if unknown {
        // What a broken document would have named must not be reported as missing.
        return None;
    }
    resolve::resolve(documents, diagnostics)
}
