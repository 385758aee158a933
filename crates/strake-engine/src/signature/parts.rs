use std::collections::BTreeMap;

use strake_graph::{HostEntry, ModeChange, Mount, MountKind, Network, Op, PlaceOp, PlaceSource, RunOp, Step};
use strake_oci::Digest;

use super::{Part, Signature};

/// What the inputs of one step contribute.
#[derive(Debug, Default)]
pub(crate) struct StepInputs {
    /// The canonical signature of the base.
    pub(crate) base: Option<Signature>,
    /// For a copy: the digest of the files it takes, with owners and modes as they will be.
    pub(crate) files: Option<Digest>,
    /// For mounts that show files, or begin with some: the digest of the files, by place in the list of mounts.
    pub(crate) mounted: BTreeMap<usize, Digest>,
    /// For placed files of other steps: their canonical signatures, by place in the list of placements.
    pub(crate) placed: BTreeMap<usize, Signature>,
    /// Which secrets are there, by id.
    pub(crate) secrets: BTreeMap<String, bool>,
    /// The build's own settings that every `RUN` sees.
    pub(crate) network: Option<Network>,
    /// Extra lines of `/etc/hosts`.
    pub(crate) hosts: Vec<HostEntry>,
}

/// Everything the result of `step` depends on, in a fixed order.
///
/// A context has no parts of its own: what is taken from it is a part of the step that takes.
pub(crate) fn parts_of(step: &Step, inputs: &StepInputs) -> Vec<Part> {
    let mut parts = Vec::with_capacity(16);
    if let Some(base) = inputs.base {
        parts.push(Part::new("what is below", base.to_string()));
    }
    parts.extend(step.named.iter().map(|name| Part::new("name", name.clone())));
    match &step.op {
        Op::Scratch => parts.push(Part::new("kind", "scratch")),
        Op::Image(op) => {
            parts.push(Part::new("kind", "image"));
            parts.push(Part::new("image", op.id.to_string()));
        }
        Op::Context(op) => {
            parts.push(Part::new("kind", "context"));
            parts.push(Part::new("context", op.name.clone()));
        }
        Op::MakeDir(op) => {
            parts.push(Part::new("kind", "directory"));
            parts.push(Part::new("path", op.path.clone()));
            parts.push(Part::new("user", op.user.clone()));
        }
        Op::Copy(op) => {
            parts.push(Part::new("kind", "copy"));
            parts.push(Part::new("destination", op.destination.clone()));
            // Owner and mode of each file are in the digest already where they are known without the image; a name
            // given to --chown is looked up in the image below, which is a part by itself.
            parts.push(Part::new("--chown", op.chown.clone().unwrap_or_default()));
            parts.push(Part::new("--chmod", op.chmod.as_ref().map(mode_text).unwrap_or_default()));
            parts.push(Part::new("unpack", op.unpack.to_string()));
            parts.push(Part::new("files", inputs.files.map(|digest| digest.to_string()).unwrap_or_default()));
        }
        Op::Run(op) => {
            parts.push(Part::new("kind", "run"));
            run_parts(op, inputs, &mut parts);
        }
        Op::Place(op) => {
            parts.push(Part::new("kind", "place"));
            place_parts(op, inputs, &mut parts);
        }
    }
    parts.push(Part::new("platform", step.platform.to_string()));
    parts
}

fn run_parts(op: &RunOp, inputs: &StepInputs, parts: &mut Vec<Part>) {
    parts.push(Part::new("arguments", op.args.len().to_string()));
    parts.extend(op.args.iter().map(|argument| Part::new("command", argument.clone())));
    parts.extend(op.env.iter().map(|(name, value)| Part::new(format!("environment {name}"), value.clone())));
    parts.push(Part::new("working directory", op.cwd.clone()));
    parts.push(Part::new("user", op.user.clone()));
    if let Some(network) = op.network.or(inputs.network) {
        parts.push(Part::new("network", network_name(network)));
    }
    parts.extend(
        inputs.hosts.iter().map(|host| Part::new(format!("host {}", host.name), host.address.clone())),
    );
    for (index, mount) in op.mounts.iter().enumerate() {
        parts.push(Part::new(format!("mount {}", mount.target), mount_value(mount, index, inputs)));
    }
}

fn place_parts(op: &PlaceOp, inputs: &StepInputs, parts: &mut Vec<Part>) {
    parts.extend(op.emptied.iter().map(|path| Part::new("emptied", path.clone())));
    parts.extend(op.vacated.iter().map(|path| Part::new("vacated", path.clone())));
    for (index, placement) in op.placements.iter().enumerate() {
        let files = match &placement.from {
            PlaceSource::Step { path, filter, .. } => {
                let of = inputs.placed.get(&index).map(Signature::to_string).unwrap_or_default();
                format!("{of} {path:?} {filter:?}")
            }
            PlaceSource::Files { digest, .. } => digest.to_string(),
        };
        parts.push(Part::new(format!("files of {}", placement.to), files));
        let [owner, group] =
            [&placement.owner, &placement.group].map(|name| name.clone().unwrap_or_default());
        parts.push(Part::new(format!("owner of {}", placement.to), format!("{owner:?}:{group:?}")));
    }
}

fn mode_text(change: &ModeChange) -> String {
    match change {
        ModeChange::Octal(mode) => format!("{mode:o}"),
        ModeChange::Symbolic(clauses) => clauses
            .iter()
            .map(|clause| {
                let flags = [clause.conditional_execute, clause.set_id, clause.sticky].map(u8::from);
                let from = clause.copy_from.unwrap_or('-');
                format!("{:o}{}{:o}{flags:?}{from}", clause.who, clause.operator, clause.permissions)
            })
            .collect::<Vec<_>>()
            .join(","),
    }
}

fn network_name(network: Network) -> &'static str {
    match network {
        // What is reachable is the same, whether through a network of its own or the host's.
        Network::Default | Network::Host => "outwards",
        Network::None => "none",
    }
}

fn mount_value(mount: &Mount, index: usize, inputs: &StepInputs) -> String {
    let files = || inputs.mounted.get(&index).map(Digest::to_string).unwrap_or_default();
    match &mount.kind {
        MountKind::Bind { writable, .. } => {
            format!("bind {} {}", if *writable { "rw" } else { "ro" }, files())
        }
        // What is in a cache must not matter to the result; which cache it is, does.
        MountKind::Cache { id, from: None, .. } => format!("cache {id:?}"),
        // A new directory begins with these files, and then the step may well take them from there.
        MountKind::Cache { id, from: Some(_), .. } => format!("cache {id:?} from {}", files()),
        MountKind::Tmpfs { size } => format!("tmpfs {}", size.unwrap_or(0)),
        MountKind::Secret { id, env, mode, uid, gid, .. } => {
            let there = inputs.secrets.get(id).copied().unwrap_or(false);
            let env = env.as_deref().unwrap_or("-");
            format!("secret {id:?} there={there} {env} {mode:o} {uid}:{gid}")
        }
        MountKind::File { content, mode } => format!("file {mode:o} {}", Digest::of(content)),
        MountKind::Host { read_only, .. } => format!("host {}", if *read_only { "ro" } else { "rw" }),
    }
}
