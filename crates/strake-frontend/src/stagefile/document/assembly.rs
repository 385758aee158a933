use serde_json::Value as Json;
use strake_graph::Span;

use super::super::UserStage;
use super::super::config::{Assembly, Command, Instructions, Task};
use super::super::decode::{Decoder, Fields};
use super::super::yaml::{Kind, Node, Scalar, Value};
use super::DocumentKind;
use crate::Diagnostic;

/// The ansible modules that a task may use (reference §8.3).
const MODULES: &str = "command shell raw script \
assemble archive unarchive blockinfile lineinfile file stat find tempfile copy acl xattr ini_file iso_extract \
get_url slurp uri bower bundler composer cpanm easy_install gem maven_artifact npm pear pip \
apk apt apt_key apt_repository apt_rpm dnf dpkg_selections homebrew homebrew_cask homebrew_tap layman macports \
openbsd_pkg opkg package pacman pkg5 pkg5_publisher pkgin pkgng pkgutil portage portinstall pulp_repo \
redhat_subscription rhn_channel rhn_register rpm_key slackpkg sorcery svr4pkg swdepot swupd urpmi xbps yum \
yum_repository zypper zypper_repository user group getent locale_gen assert debug set_fact wait_for \
openssl_certificate openssl_csr openssl_privatekey openssl_publickey timezone cron";

/// `shell` or `ansible`
pub(super) fn decode(decoder: &mut Decoder<'_>, fields: &Fields<'_>, kind: DocumentKind) -> Assembly {
    if let (Some(shell), Some(ansible)) = (fields.key_span("shell"), fields.key_span("ansible")) {
        let diagnostic =
            Diagnostic::error("shell-and-ansible", ansible, "an image uses `shell` or `ansible`, not both");
        decoder.push(diagnostic.note(shell, "the other is here"));
    }
    let mut assembly = Assembly::default();
    for section in ["shell", "ansible"] {
        let Some(node) = fields.get(section) else { continue };
        let keys = UserStage::ALL.map(UserStage::key).into_iter();
        let keys = keys.chain(UserStage::ALL.map(UserStage::version_key)).chain(["cacheVersion"]);
        let keys: Vec<_> = keys.collect();
        let Some(fields) = decoder.fields(node, &format!("`{section}`"), &keys) else { continue };
        for stage in UserStage::ALL {
            stage_of(decoder, &fields, stage, section, &mut assembly);
            for key in [stage.key(), stage.version_key()] {
                if let Some(span) = fields.key_span(key) {
                    check_artifact_only(decoder, kind, stage, span);
                }
            }
        }
        assembly.version = decoder.text_of(&fields, "cacheVersion").map(|text| text.value);
    }
    assembly
}

/// Only artifacts have a stage `buildArtifact`.
pub(super) fn check_artifact_only(
    decoder: &mut Decoder<'_>,
    kind: DocumentKind,
    stage: UserStage,
    span: Span,
) {
    if kind == DocumentKind::Dimg && stage == UserStage::BuildArtifact {
        let diagnostic =
            Diagnostic::error("artifact-only", span, "only an artifact has a stage `buildArtifact`");
        decoder.push(diagnostic.hint("a dimg ends with `setup`"));
    }
}

fn stage_of(
    decoder: &mut Decoder<'_>,
    fields: &Fields<'_>,
    stage: UserStage,
    section: &str,
    assembly: &mut Assembly,
) {
    if let Some(version) = decoder.text_of(fields, stage.version_key()) {
        assembly.versions.insert(stage, version.value);
    }
    let Some(node) = fields.get(stage.key()) else { return };
    let (instructions, empty) = if section == "shell" {
        let texts = decoder.texts(node, stage.key());
        let commands: Vec<_> =
            texts.into_iter().map(|text| Command { text: text.value, span: text.span }).collect();
        let empty = commands.is_empty();
        (Instructions::Shell(commands), empty)
    } else {
        let nodes = decoder.items(node, &format!("`{}`", stage.key()));
        let tasks: Vec<_> = nodes.iter().filter_map(|node| task(decoder, node)).collect();
        let empty = tasks.is_empty();
        (Instructions::Ansible(tasks), empty)
    };
    if !empty {
        assembly.instructions.insert(stage, instructions);
    }
}

fn task(decoder: &mut Decoder<'_>, node: &Node) -> Option<Task> {
    check_task(decoder, node);
    json(decoder, node).map(|value| Task { value, span: node.span })
}

/// Each task uses exactly one module, or is a block of tasks. The depth of a tree is bounded as it is read.
fn check_task(decoder: &mut Decoder<'_>, node: &Node) {
    let Kind::Map(entries) = &node.kind else {
        let message = format!("a task is a map, not {}", node.describe());
        decoder.push(Diagnostic::error("wrong-type", node.span, message).hint("write `- module: arguments`"));
        return;
    };
    let mut used = Vec::new();
    let mut block = false;
    let mut handlers = Vec::new();
    for entry in entries {
        let key = entry.key.text.as_str();
        match key {
            "block" => {
                block = true;
                used.push((key, entry.key_span));
            }
            "rescue" | "always" => handlers.push((key, entry.key_span)),
            _ if MODULES.split(' ').any(|module| module == key) => used.push((key, entry.key_span)),
            _ => continue,
        }
        if matches!(key, "block" | "rescue" | "always") {
            for task in decoder.items(&entry.node, &format!("`{key}`")) {
                check_task(decoder, task);
            }
        }
    }
    if let Some((key, span)) = handlers.first().filter(|_| !block) {
        decoder.error("ansible-module", *span, format!("`{key}` belongs to a `block`"));
    }
    let modules = || format!("supported are block, {}", MODULES.replace(' ', ", "));
    match used.as_slice() {
        [_] => {}
        [] if !handlers.is_empty() => {}
        [] => {
            let diagnostic =
                Diagnostic::error("ansible-module", node.span, "the task uses no supported module");
            decoder.push(diagnostic.hint(modules()));
        }
        [(first, place), rest @ ..] => {
            for (key, span) in rest {
                let message = format!("a task uses one module, but this one uses `{first}` and `{key}`");
                let diagnostic = Diagnostic::error("ansible-module", *span, message);
                decoder.push(diagnostic.note(*place, "the first is here").hint(modules()));
            }
        }
    }
}

/// The tree as JSON.
fn json(decoder: &mut Decoder<'_>, node: &Node) -> Option<Json> {
    match &node.kind {
        Kind::Scalar(scalar) => scalar_json(decoder, scalar, node.span),
        Kind::List(nodes) => {
            nodes.iter().map(|node| json(decoder, node)).collect::<Option<_>>().map(Json::Array)
        }
        Kind::Map(entries) => {
            let entries =
                entries.iter().map(|entry| Some((key_text(&entry.key), json(decoder, &entry.node)?)));
            entries.collect::<Option<_>>().map(Json::Object)
        }
    }
}

fn scalar_json(decoder: &mut Decoder<'_>, scalar: &Scalar, span: Span) -> Option<Json> {
    Some(match scalar.value {
        Value::Null => Json::Null,
        Value::Bool(value) => value.into(),
        Value::Int(value) => value.into(),
        Value::Uint(value) => value.into(),
        Value::Text => scalar.text.clone().into(),
        Value::Float(value) => match serde_json::Number::from_f64(value) {
            Some(number) => number.into(),
            None => {
                let message = format!("`{}` is no number that a task can have", scalar.text);
                let diagnostic = Diagnostic::error("wrong-type", span, message);
                decoder.push(diagnostic.hint("write it in quotes if it is a text"));
                return None;
            }
        },
    })
}

/// Keys of JSON are texts; other keys become the text that they mean, so that `yes` and `true` stay one.
fn key_text(key: &Scalar) -> String {
    match key.value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Null | Value::Float(_) | Value::Text => key.text.clone(),
    }
}
