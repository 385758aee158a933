use std::collections::BTreeMap;

use super::super::config::DockerOptions;
use super::super::decode::{Decoder, Fields, Spanned};
use super::super::yaml::{Kind, Node, Value};
use super::DocumentKind;
use crate::Diagnostic;
use crate::dockerfile::port;

/// All there are, of the three protocols.
const MOST_PORTS: usize = 3 << 16;

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
    let volume = volumes(decoder, &fields);
    let cmd = words(decoder, &fields, "CMD");
    let on_build = values(decoder.texts_of(&fields, "ONBUILD"));
    let entrypoint = words(decoder, &fields, "ENTRYPOINT");
    let healthcheck = values(decoder.texts_of(&fields, "HEALTHCHECK"));
    DockerOptions {
        volume,
        expose: fields.get("EXPOSE").map_or_else(Vec::new, |node| expose(decoder, node)),
        env: map(decoder, &fields, "ENV", wrong_variable),
        label: map(decoder, &fields, "LABEL", wrong_label),
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

/// Where data is kept: docker starts no container of an image in which these are relative.
fn volumes(decoder: &mut Decoder<'_>, fields: &Fields<'_>) -> Vec<String> {
    let texts = decoder.texts_of(fields, "VOLUME");
    for text in texts.iter().filter(|text| !text.value.starts_with('/')) {
        let message = format!("a `VOLUME` is an absolute path, not `{}`", text.value);
        decoder.error("path-not-absolute", text.span, message);
    }
    values(texts)
}

/// A command word by word. One text is one word, which is seldom meant when there are blanks in it.
fn words(decoder: &mut Decoder<'_>, fields: &Fields<'_>, key: &str) -> Vec<String> {
    let texts = decoder.texts_of(fields, key);
    if let ([only], Some(node)) = (&texts[..], fields.get(key))
        && !matches!(node.kind, Kind::List(_))
        && only.value.contains(char::is_whitespace)
    {
        let message = format!("`{key}` is one word here, the name of a program with blanks in it");
        let list: Vec<_> = only.value.split_whitespace().map(|word| format!("{word:?}")).collect();
        let hint = format!("write a list: [{}]; for a shell: [\"/bin/sh\", \"-c\", …]", list.join(", "));
        decoder.push(Diagnostic::warning("command-of-one-word", only.span, message).hint(hint));
    }
    values(texts)
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
            Kind::Scalar(scalar) if matches!(scalar.value, Value::Int(_)) => {
                ports.push(Spanned { value: scalar.text.clone(), span: node.span });
            }
            _ => ports.extend(decoder.texts(node, "EXPOSE")),
        }
    }
    let mut count = 0;
    for port in &ports {
        match port::parse(&port.value) {
            Ok(exposed) => count += exposed.ports.len(),
            Err(reason) => {
                let message = format!("`{}` is not a port: {reason}", port.value);
                let diagnostic = Diagnostic::error("invalid-port", port.span, message);
                decoder.push(diagnostic.hint("for example 8080, \"53/udp\" or \"8000-8010\""));
            }
        }
        if count > MOST_PORTS {
            decoder.error("too-many-ports", port.span, format!("these are more than {MOST_PORTS} ports"));
            return Vec::new();
        }
    }
    values(ports)
}

/// Why something is no name of a variable.
fn wrong_variable(name: &str) -> Option<String> {
    let is_name = !name.is_empty() && !name.contains(['=', '\0']);
    (!is_name).then(|| format!("`{name}` is no name for a variable"))
}

/// Labels that stages and finished images are recognized by, less `strake`.
const OWN_LABELS: [&str; 14] = [
    "",
    "-version",
    "-cache-version",
    "-commit",
    "-dev-mode",
    "-dimg",
    "-dimg-name",
    "-parent-image",
    "-parent-signature",
    "-platform",
    "-signature",
    "-stage",
    "-tag",
    "-tag-scheme",
];

/// What other such labels begin with.
const OWN_FAMILIES: [&str; 3] = ["-artifact-", "-git-", "-mount-"];

/// Why a label cannot be given. What a stage is, and which commits its files have, is in labels of these names.
fn wrong_label(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a label needs a name".to_owned());
    }
    let is_ours =
        |rest: &str| OWN_LABELS.contains(&rest) || OWN_FAMILIES.iter().any(|own| rest.starts_with(own));
    let is_ours = ["strake", "dapp"].iter().any(|own| name.strip_prefix(own).is_some_and(is_ours));
    is_ours.then(|| format!("the label `{name}` is one that stages are recognized by"))
}

fn map(
    decoder: &mut Decoder<'_>,
    fields: &Fields<'_>,
    key: &str,
    wrong: fn(&str) -> Option<String>,
) -> BTreeMap<String, String> {
    let Some(node) = fields.get(key) else { return BTreeMap::new() };
    let Kind::Map(entries) = &node.kind else {
        let message = format!("`{key}` is a map, not {}", node.describe());
        let diagnostic = Diagnostic::error("wrong-type", node.span, message);
        decoder.push(diagnostic.hint("write `NAME: value` on a line each"));
        return BTreeMap::new();
    };
    let mut map = BTreeMap::new();
    for entry in entries {
        if let Some(reason) = wrong(&entry.key.text) {
            decoder
                .push(Diagnostic::error("invalid-name", entry.key_span, reason).hint("choose another name"));
        }
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
