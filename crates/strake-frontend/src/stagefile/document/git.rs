use std::collections::BTreeMap;

use super::super::UserStage;
use super::super::config::{GitMapping, GitSource, RemoteReference, Selection};
use super::super::decode::{Decoder, Fields};
use super::super::yaml::Node;
use super::DocumentKind;
use crate::Diagnostic;

const KEYS: [&str; 12] = [
    "add",
    "to",
    "owner",
    "group",
    "includePaths",
    "excludePaths",
    "stageDependencies",
    "url",
    "branch",
    "tag",
    "commit",
    "as",
];

/// `git`: the project's own mappings first.
pub(super) fn decode(decoder: &mut Decoder<'_>, fields: &Fields<'_>, kind: DocumentKind) -> Vec<GitMapping> {
    let nodes = fields.get("git").map_or(&[][..], |node| decoder.items(node, "`git`"));
    let mut mappings: Vec<_> = nodes.iter().filter_map(|node| mapping(decoder, node, kind)).collect();
    mappings.sort_by_key(|mapping| mapping.selection.source != GitSource::Local);
    mappings
}

fn mapping(decoder: &mut Decoder<'_>, node: &Node, kind: DocumentKind) -> Option<GitMapping> {
    let fields = decoder.fields(node, "a `git` mapping", &KEYS)?;
    let source = source(decoder, &fields);
    let add = match fields.get("add") {
        Some(_) => decoder.absolute_of(&fields, "add").map(|path| path.value),
        None => Some("/".into()),
    };
    if fields.get("to").is_none() {
        let diagnostic = Diagnostic::error("git-target", fields.span, "the mapping does not say where `to`");
        decoder.push(diagnostic.hint("give an absolute path in the image"));
    }
    let to = decoder.absolute_of(&fields, "to");
    let include = decoder.patterns_of(&fields, "includePaths");
    let exclude = decoder.patterns_of(&fields, "excludePaths");
    let owner = decoder.text_of(&fields, "owner").map(|text| text.value);
    let group = decoder.text_of(&fields, "group").map(|text| text.value);
    let alias = decoder.text_of(&fields, "as").map(|text| text.value);
    let watched = watched(decoder, &fields, kind);
    let selection = Selection { source: source?, add: add?, include, exclude, yields: Vec::new() };
    Some(GitMapping { selection, to: to?.value, owner, group, watched, alias, span: fields.span })
}

fn source(decoder: &mut Decoder<'_>, fields: &Fields<'_>) -> Option<GitSource> {
    let given: Vec<_> = ["branch", "tag", "commit"]
        .into_iter()
        .filter_map(|key| Some((key, fields.key_span(key)?)))
        .collect();
    if let [(first, place), rest @ ..] = given.as_slice() {
        for (key, span) in rest {
            let message =
                format!("a mapping has one of `branch`, `tag` and `commit`, not `{first}` and `{key}`");
            let diagnostic = Diagnostic::error("git-reference", *span, message);
            decoder.push(diagnostic.note(*place, "the first is here"));
        }
    }
    let reference = match given.first() {
        None => RemoteReference::Head,
        Some((key, _)) => {
            let name = decoder.text_of(fields, key)?.value;
            match *key {
                "branch" => RemoteReference::Branch(name),
                "tag" => RemoteReference::Tag(name),
                _ => RemoteReference::Commit(name),
            }
        }
    };
    if fields.get("url").is_none() {
        if let Some((key, span)) = given.first() {
            let diagnostic = Diagnostic::error("git-reference", *span, format!("`{key}` needs a `url`"));
            decoder.push(
                diagnostic.hint("without `url` it is the project's own repository, at its current commit"),
            );
            return None;
        }
        return Some(GitSource::Local);
    }
    let url = decoder.text_of(fields, "url")?;
    let source = GitSource::Remote { url: url.value, reference };
    if source.name().is_none() {
        let message = "the `url` has no path that a name could be taken from";
        decoder.push(Diagnostic::error("git-url", url.span, message).hint("it ends in `owner/name.git`"));
        return None;
    }
    Some(source)
}

fn watched(
    decoder: &mut Decoder<'_>,
    fields: &Fields<'_>,
    kind: DocumentKind,
) -> BTreeMap<UserStage, Vec<String>> {
    const STAGES: [UserStage; 4] =
        [UserStage::Install, UserStage::BeforeSetup, UserStage::Setup, UserStage::BuildArtifact];
    let keys = STAGES.map(UserStage::key);
    let mut watched = BTreeMap::new();
    let Some(node) = fields.get("stageDependencies") else { return watched };
    let Some(fields) = decoder.fields(node, "`stageDependencies`", &keys) else { return watched };
    for stage in STAGES {
        let patterns = decoder.patterns_of(&fields, stage.key());
        if let Some(span) = fields.key_span(stage.key()) {
            super::assembly::check_artifact_only(decoder, kind, stage, span);
        }
        if !patterns.is_empty() {
            watched.insert(stage, patterns);
        }
    }
    watched
}
