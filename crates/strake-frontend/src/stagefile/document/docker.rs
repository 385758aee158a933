use std::collections::BTreeMap;

use super::super::config::DockerOptions;
use super::super::decode::{Decoder, Fields, Spanned};
use super::super::yaml::{Kind, Node, Value};
use super::DocumentKind;
use crate::Diagnostic;

const KEYS: [&str; 11] = [
    "WORKDIR",
    "USER",
    "EXPOSE",
    "ENV",
    "LABEL",
    "VOLUME",
    "CMD",
    "ENTRYPOINT",
    "ONBUILD",
    "STOPSIGNAL",
    "HEALTHCHECK",
];

/// `docker`
pub(super) fn decode(decoder: &mut Decoder<'_>, fields: &Fields<'_>, kind: DocumentKind) -> DockerOptions {
    let Some(node) = fields.get("docker") else { return DockerOptions::default() };
    if kind == DocumentKind::Artifact {
        let span = fields.key_span("docker").unwrap_or(node.span);
        let diagnostic = Diagnostic::error("docker-in-artifact", span, "an artifact has no `docker` options");
        decoder.push(
            diagnostic.hint("its configuration is never used; put them into the dimg that imports from it"),
        );
    }
    let Some(fields) = decoder.fields(node, "`docker`", &KEYS) else { return DockerOptions::default() };
    let mut texts = |key| values(decoder.texts_of(&fields, key));
    let volume = texts("VOLUME");
    let cmd = texts("CMD");
    let on_build = texts("ONBUILD");
    let entrypoint = texts("ENTRYPOINT");
    let healthcheck = texts("HEALTHCHECK");
    DockerOptions {
        volume,
        expose: fields.get("EXPOSE").map_or_else(Vec::new, |node| expose(decoder, node)),
        env: map(decoder, &fields, "ENV"),
        label: map(decoder, &fields, "LABEL"),
        cmd,
        on_build,
        workdir: decoder.text_of(&fields, "WORKDIR").map(|text| text.value),
        user: decoder.text_of(&fields, "USER").map(|text| text.value),
        entrypoint,
        stop_signal: decoder.text_of(&fields, "STOPSIGNAL").map(|text| text.value),
        healthcheck,
    }
}

fn values(texts: Vec<Spanned<String>>) -> Vec<String> {
    texts.into_iter().map(|text| text.value).collect()
}

/// Ports need no quotes.
fn expose(decoder: &mut Decoder<'_>, node: &Node) -> Vec<String> {
    let nodes = match &node.kind {
        Kind::List(nodes) => nodes.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut ports = Vec::new();
    for node in nodes {
        match &node.kind {
            Kind::Scalar(scalar) if matches!(scalar.value, Value::Int(_)) => ports.push(scalar.text.clone()),
            _ => ports.extend(values(decoder.texts(node, "EXPOSE"))),
        }
    }
    ports
}

fn map(decoder: &mut Decoder<'_>, fields: &Fields<'_>, key: &str) -> BTreeMap<String, String> {
    let Some(node) = fields.get(key) else { return BTreeMap::new() };
    let Kind::Map(entries) = &node.kind else {
        let message = format!("`{key}` is a map, not {}", node.describe());
        let diagnostic = Diagnostic::error("wrong-type", node.span, message);
        decoder.push(diagnostic.hint("write `NAME: value` on a line each"));
        return BTreeMap::new();
    };
    let mut map = BTreeMap::new();
    for entry in entries {
        let value = match entry.node.is_null() {
            true => Some(String::new()),
            false => decoder.text(&entry.node, &entry.key.text).map(|text| text.value),
        };
        if let Some(value) = value {
            map.insert(entry.key.text.clone(), value);
        }
    }
    map
}
