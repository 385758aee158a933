//! One document → what it says, with names that are not resolved yet.

mod assembly;
mod docker;
mod git;
mod import;
mod mount;

use strake_graph::Span;

use super::ImportPosition;
use super::config::{Assembly, DockerOptions, GitMapping, Layers, Mount};
use super::decode::{Decoder, Fields, Spanned, list};
use super::yaml::{Entry, Kind, Node, Value};
use crate::{Diagnostic, Note};

/// What one document says.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) span: Span,
    pub(super) kind: DocumentKind,
    /// One image each; `None` is the nameless one.
    pub(super) names: Vec<Spanned<Option<String>>>,
    pub(super) base: Option<BaseName>,
    pub(super) from_cache_version: Option<String>,
    pub(super) mounts: Vec<Mount>,
    pub(super) git: Vec<GitMapping>,
    pub(super) imports: Vec<ImportDraft>,
    pub(super) assembly: Assembly,
    pub(super) docker: DockerOptions,
    pub(super) layers: Layers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DocumentKind {
    Dimg,
    Artifact,
}

#[derive(Debug)]
pub(super) enum BaseName {
    Reference(Spanned<String>),
    Dimg(Spanned<String>),
    Artifact(Spanned<String>),
}

/// An import whose artifact is only a name.
#[derive(Debug)]
pub(super) struct ImportDraft {
    pub(super) artifact: Spanned<String>,
    pub(super) position: ImportPosition,
    pub(super) add: String,
    pub(super) to: String,
    pub(super) owner: Option<String>,
    pub(super) group: Option<String>,
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    pub(super) yields: Vec<String>,
    pub(super) span: Span,
}

const KEYS: [&str; 13] = [
    "dimg",
    "artifact",
    "from",
    "fromCacheVersion",
    "fromDimg",
    "fromDimgArtifact",
    "git",
    "shell",
    "ansible",
    "mount",
    "import",
    "docker",
    "asLayers",
];

/// Decodes a document. `None` if it is not even clear what it is about.
pub(super) fn decode(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Document> {
    let before = diagnostics.len();
    let document = fields_of(node, diagnostics);
    if let Some(name) = document.as_ref().and_then(|document| document.names.first()) {
        let text = name.value.as_deref().unwrap_or("~");
        for diagnostic in
            diagnostics[before..].iter_mut().filter(|diagnostic| diagnostic.code == "unknown-key")
        {
            diagnostic.notes.push(Note { message: format!("in the document of `{text}`"), span: name.span });
        }
    }
    document
}

fn fields_of(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Document> {
    let decoder = &mut Decoder::new(diagnostics);
    let fields = decoder.fields(node, "a document", &KEYS)?;
    let (kind, names) = names(decoder, &fields)?;
    let base = base(decoder, &fields);
    let git = git::decode(decoder, &fields, kind);
    Some(Document {
        span: node.span,
        kind,
        names,
        base,
        from_cache_version: decoder.text_of(&fields, "fromCacheVersion").map(|text| text.value),
        mounts: mount::decode(decoder, &fields),
        git,
        imports: import::decode(decoder, &fields),
        assembly: assembly::decode(decoder, &fields, kind),
        docker: docker::decode(decoder, &fields, kind),
        layers: layers(decoder, &fields),
    })
}

fn names(
    decoder: &mut Decoder<'_>,
    fields: &Fields<'_>,
) -> Option<(DocumentKind, Vec<Spanned<Option<String>>>)> {
    match (fields.written("dimg"), fields.written("artifact")) {
        (Some(dimg), Some(artifact)) => {
            let message = "a document is about a `dimg` or about an `artifact`, not both";
            let diagnostic = Diagnostic::error("image-kind", artifact.key_span, message);
            decoder.push(
                diagnostic.note(dimg.key_span, "the other one is here").hint("separate them with `---`"),
            );
            None
        }
        (None, None) => {
            let diagnostic = Diagnostic::error(
                "image-kind",
                fields.span,
                "the document has neither `dimg` nor `artifact`",
            );
            decoder.push(diagnostic.hint("`dimg: ~` makes an image without a name"));
            None
        }
        (Some(entry), None) => Some((DocumentKind::Dimg, dimg_names(decoder, entry))),
        (None, Some(entry)) => {
            let name = decoder.text(&entry.node, "artifact")?;
            if name.value.is_empty() {
                decoder.error("image-name", name.span, "the name of an artifact is not empty");
            }
            Some((DocumentKind::Artifact, vec![Spanned { value: Some(name.value), span: name.span }]))
        }
    }
}

fn dimg_names(decoder: &mut Decoder<'_>, entry: &Entry) -> Vec<Spanned<Option<String>>> {
    let node = &entry.node;
    if node.is_null() {
        // Nothing at all has no place of its own.
        return vec![Spanned { value: None, span: entry.key_span.to(node.span) }];
    }
    let texts = match &node.kind {
        Kind::List(nodes) if nodes.is_empty() => {
            decoder.error("image-name", node.span, "the list of names is empty");
            Vec::new()
        }
        Kind::Scalar(_) => decoder.text(node, "dimg").into_iter().collect(),
        _ => decoder.texts(node, "dimg"),
    };
    for name in texts.iter().filter(|name| !is_dimg_name(&name.value)) {
        let message = format!("`{}` is no name for a dimg", name.value);
        let hint = "use lower-case letters and digits, with `.`, `_`, `__` or dashes between them";
        decoder.push(Diagnostic::error("image-name", name.span, message).hint(hint));
    }
    texts.into_iter().map(|name| Spanned { value: Some(name.value), span: name.span }).collect()
}

/// Groups of lower-case letters and digits, separated by `.`, `_`, `__` or any number of dashes.
fn is_dimg_name(name: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let ends = bytes.first().is_some_and(is_word) && bytes.last().is_some_and(is_word);
    let between =
        |run: &[u8]| matches!(run, b"" | b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-');
    ends && bytes.split(is_word).all(between)
}

fn base(decoder: &mut Decoder<'_>, fields: &Fields<'_>) -> Option<BaseName> {
    const BASES: [&str; 3] = ["from", "fromDimg", "fromDimgArtifact"];
    let given: Vec<_> = BASES.into_iter().filter_map(|key| Some((key, fields.key_span(key)?))).collect();
    match given.as_slice() {
        [] => {
            let diagnostic =
                Diagnostic::error("missing-base", fields.span, "it is not said what the image stands on");
            decoder.push(diagnostic.hint(format!("give one of {}", list(&BASES))));
            None
        }
        [("from", _)] => {
            let text = decoder.text_of(fields, "from")?;
            if let Err(error) = text.value.parse::<strake_oci::Reference>() {
                let message = format!("`{}` names no image: {error}", text.value);
                decoder.error("invalid-reference", text.span, message);
            }
            Some(BaseName::Reference(text))
        }
        [("fromDimg", _)] => decoder.text_of(fields, "fromDimg").map(BaseName::Dimg),
        [_] => decoder.text_of(fields, "fromDimgArtifact").map(BaseName::Artifact),
        [(first, place), rest @ ..] => {
            for (key, span) in rest {
                let message = format!("an image stands on one thing, but `{first}` and `{key}` are given");
                let diagnostic = Diagnostic::error("several-bases", *span, message);
                decoder.push(diagnostic.note(*place, "the first is here"));
            }
            None
        }
    }
}

fn layers(decoder: &mut Decoder<'_>, fields: &Fields<'_>) -> Layers {
    let Some(node) = fields.get("asLayers") else { return Layers::PerStage };
    match &node.kind {
        Kind::Scalar(scalar) if scalar.value == Value::Bool(true) => Layers::PerInstruction,
        Kind::Scalar(scalar) if scalar.value == Value::Bool(false) => Layers::PerStage,
        _ => {
            let message = format!("`asLayers` is `true` or `false`, not {}", node.describe());
            decoder.error("wrong-type", node.span, message);
            Layers::PerStage
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_dimg_name;

    #[test]
    fn names_of_dimgs_are_groups_of_letters() {
        for name in ["a", "a1", "web-app", "a--b", "a.b", "a_b", "a__b", "1", "a-b.c"] {
            assert!(is_dimg_name(name), "{name}");
        }
        for name in ["", "A", "-a", "a-", "a..b", "a___b", "a-.b", "a b", "ä", "a/b"] {
            assert!(!is_dimg_name(name), "{name}");
        }
    }
}
