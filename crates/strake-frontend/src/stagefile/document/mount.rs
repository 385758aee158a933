use std::collections::BTreeMap;

use strake_graph::Span;

use super::super::config::{Mount, MountSource};
use super::super::decode::{Decoder, Fields};
use super::super::lower::{AGENT, OWN};
use super::super::yaml::Node;
use crate::Diagnostic;

/// `mount`
pub(super) fn decode(decoder: &mut Decoder<'_>, fields: &Fields<'_>) -> Vec<Mount> {
    let nodes = fields.get("mount").map_or(&[][..], |node| decoder.items(node, "`mount`"));
    let mut mounts = Vec::new();
    let mut targets: BTreeMap<String, Span> = BTreeMap::new();
    for mount in nodes.iter().filter_map(|node| entry(decoder, node)).collect::<Vec<_>>() {
        if let Some(first) = targets.insert(mount.to.clone(), mount.span) {
            let message = format!("two mounts have the target `{}`", mount.to);
            decoder.push(
                Diagnostic::error("mount-target", mount.span, message).note(first, "the other is here"),
            );
            continue;
        }
        mounts.push(mount);
    }
    mounts
}

fn entry(decoder: &mut Decoder<'_>, node: &Node) -> Option<Mount> {
    let fields = decoder.fields(node, "a `mount`", &["from", "fromPath", "to"])?;
    if fields.get("to").is_none() {
        let diagnostic = Diagnostic::error("mount-target", fields.span, "the mount does not say where `to`");
        decoder.push(diagnostic.hint("give an absolute path in the image"));
    }
    let to = decoder.absolute_of(&fields, "to");
    if let Some(to) = to.as_ref().filter(|to| !may_be_target(&to.value)) {
        let message = format!("nothing can be mounted at `{}`", to.value);
        let diagnostic = Diagnostic::error("mount-target", to.span, message);
        decoder.push(diagnostic.hint("the root, `/proc`, `/sys`, `/dev` and `/.strake` are taken"));
    }
    let source = match (fields.key_span("from"), fields.key_span("fromPath")) {
        (Some(from), Some(path)) => {
            let diagnostic =
                Diagnostic::error("mount-source", path, "a mount has `from` or `fromPath`, not both");
            decoder.push(diagnostic.note(from, "the other is here"));
            None
        }
        (None, None) => {
            let diagnostic =
                Diagnostic::error("mount-source", fields.span, "the mount does not say what is mounted");
            decoder.push(diagnostic.hint("give `from: tmp_dir`, `from: build_dir` or `fromPath`"));
            None
        }
        (None, Some(_)) => {
            decoder.absolute_of(&fields, "fromPath").map(|path| MountSource::HostPath(path.value))
        }
        (Some(_), None) => {
            let from = decoder.text_of(&fields, "from")?;
            match from.value.as_str() {
                "tmp_dir" => Some(MountSource::TmpDir),
                "build_dir" => Some(MountSource::BuildDir),
                other => {
                    let message = format!("`from` of a mount is `tmp_dir` or `build_dir`, not `{other}`");
                    let diagnostic = Diagnostic::error("mount-source", from.span, message);
                    decoder.push(diagnostic.hint("a path of the host is `fromPath`"));
                    None
                }
            }
        }
    };
    Some(Mount { source: source?, to: to?.value, span: fields.span })
}

/// Whether an assembly container leaves the path free.
fn may_be_target(path: &str) -> bool {
    let first = path[1..].split('/').next().unwrap_or_default();
    !matches!(first, "" | "proc" | "sys" | "dev") && first != &OWN[1..] && path != AGENT
}
