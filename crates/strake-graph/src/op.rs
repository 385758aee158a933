use strake_oci::{DiffId, Digest, ImageId, Reference};

use crate::pattern::PathFilter;
use crate::{Mount, MountKind, StepId};

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// The empty file system.
    Scratch,
    /// The file system of an image.
    Image(ImageOp),
    /// The files of a build context.
    Context(ContextOp),
    /// A process in a container; what it changes is the layer.
    Run(Box<RunOp>),
    /// Files from elsewhere.
    Copy(Box<CopyOp>),
    /// A directory (`WORKDIR`).
    MakeDir(MakeDirOp),
    /// Files that are put into a tree, and out of it, by description.
    Place(Box<PlaceOp>),
}

impl Op {
    /// The steps this one needs, base first, each once.
    pub fn inputs(&self) -> Vec<StepId> {
        let mut inputs = Vec::new();
        let mut add = |id: StepId| {
            if !inputs.contains(&id) {
                inputs.push(id);
            }
        };
        match self {
            Self::Scratch | Self::Image(_) | Self::Context(_) => {}
            Self::MakeDir(op) => add(op.base),
            Self::Run(op) => {
                add(op.base);
                op.mounts.iter().filter_map(Mount::from).for_each(add);
            }
            Self::Copy(op) => {
                add(op.base);
                for source in &op.sources {
                    if let CopySource::Path { from, .. } = source {
                        add(*from);
                    }
                }
            }
            Self::Place(op) => {
                add(op.base);
                for placement in &op.placements {
                    if let PlaceSource::Step { from, .. } = &placement.from {
                        add(*from);
                    }
                }
            }
        }
        inputs
    }

    /// The step this one stands on, if it makes a layer on top of another.
    pub fn base(&self) -> Option<StepId> {
        match self {
            Self::Scratch | Self::Image(_) | Self::Context(_) => None,
            Self::Run(op) => Some(op.base),
            Self::Copy(op) => Some(op.base),
            Self::MakeDir(op) => Some(op.base),
            Self::Place(op) => Some(op.base),
        }
    }
}

impl Mount {
    /// The step the mount takes files from.
    pub fn from(&self) -> Option<StepId> {
        self.files().map(|(from, _)| from)
    }

    /// The files that the mount shows, or begins with: a step and a path inside.
    pub fn files(&self) -> Option<(StepId, &str)> {
        match &self.kind {
            MountKind::Bind { from, source, .. } => Some((*from, source)),
            MountKind::Cache { from, .. } => from.as_ref().map(|(from, source)| (*from, source.as_str())),
            MountKind::Tmpfs { .. }
            | MountKind::Secret { .. }
            | MountKind::File { .. }
            | MountKind::Host { .. } => None,
        }
    }
}

/// An image as a base or as a source of files. It contributes its configuration digest to a signature, so that
/// recompressing or retagging changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageOp {
    /// The name it was asked for by.
    pub reference: Reference,
    /// What the name stood for when it was resolved.
    pub id: ImageId,
    /// The image's layers, bottom first.
    pub diff_ids: Vec<DiffId>,
}

/// A build context, by name; the main one has the empty name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextOp {
    /// The name.
    pub name: String,
}

/// A process in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOp {
    /// The file system it runs in.
    pub base: StepId,
    /// The program and its arguments, the shell included.
    pub args: Vec<String>,
    /// The environment, complete, in order.
    pub env: Vec<(String, String)>,
    /// More environment that must not change the signature (proxy settings).
    pub transient_env: Vec<(String, String)>,
    /// The working directory, absolute.
    pub cwd: String,
    /// `USER` as written; empty for root.
    pub user: String,
    /// Mounts in order.
    pub mounts: Vec<Mount>,
    /// The network it sees; `None` when the instruction says nothing, so that the build's setting decides.
    pub network: Option<Network>,
}

/// What network a step sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// A network of its own with access outwards.
    Default,
    /// Only a loopback interface.
    None,
    /// The host's.
    Host,
}

/// An extra line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// The host name.
    pub name: String,
    /// The address as text.
    pub address: String,
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOp {
    /// The file system files are put into.
    pub base: StepId,
    /// What to copy, in order.
    pub sources: Vec<CopySource>,
    /// Where to: absolute, `WORKDIR` already joined; a trailing `/` means a directory and is kept.
    pub destination: String,
    /// `--chown` as written; `None` keeps root for contexts and the source's own for stages.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<ModeChange>,
    /// Whether local archives are unpacked (`ADD`).
    pub unpack: bool,
}

/// One source of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// Files of another step.
    Path {
        /// A context, an image, or the result of another stage.
        from: StepId,
        /// Relative to the root of `from`; may hold wildcards of Go's `filepath.Match` and `**`.
        pattern: String,
    },
    /// A heredoc.
    Inline {
        /// The file's name, used when the destination is a directory.
        name: String,
        /// What is in it.
        content: Vec<u8>,
    },
}

/// A change of file modes (`--chmod`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// An octal mode, at most `0o7777`, for files and directories alike.
    Octal(u32),
    /// Symbolic clauses in order, as in `chmod(1)`: `u=rwX,go=rX`.
    Symbolic(Vec<ModeClause>),
}

/// One clause of a symbolic mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModeClause {
    /// Whose bits: any of `0o4700` (user), `0o2070` (group), `0o1007` (others), or'ed.
    pub who: u32,
    /// `+`, `-` or `=`.
    pub operator: char,
    /// Which of `rwx` as `0o4`, `0o2`, `0o1`.
    pub permissions: u32,
    /// `X`: execute for directories and for what is executable for anybody already.
    pub conditional_execute: bool,
    /// `s`: set user and group id for whom named.
    pub set_id: bool,
    /// `t`: the sticky bit.
    pub sticky: bool,
    /// Permissions copied from `u`, `g` or `o` instead.
    pub copy_from: Option<char>,
}

/// A directory, with its parents where they are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MakeDirOp {
    /// The file system it is made in.
    pub base: StepId,
    /// The directory, absolute.
    pub path: String,
    /// Who owns it: `USER` as written; empty for root.
    pub user: String,
}

/// Files that are put into a tree, and out of it: how the stages of a stage file bring sources and artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceOp {
    /// The file system it is done in.
    pub base: StepId,
    /// Directories whose content is dropped, absolute; made when they are not there.
    pub emptied: Vec<String>,
    /// Paths where nothing of the tree is to be left, absolute: of a directory the content goes, of anything else it
    /// itself; nothing is made.
    pub vacated: Vec<String>,
    /// What is placed, in order.
    pub placements: Vec<Placement>,
}

/// Files with the place they are put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Which files.
    pub from: PlaceSource,
    /// Where the source itself goes, absolute: the content of a directory into this directory, a file to this path.
    pub to: String,
    /// A user by name or number; `None` keeps the files' own.
    pub owner: Option<String>,
    /// A group by name or number. `None` is the user's first group for [`PlaceSource::Files`] with an owner, and
    /// keeps the files' own otherwise.
    pub group: Option<String>,
}

/// Where placed files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceSource {
    /// Files of another step.
    Step {
        /// An image or the result of another stage.
        from: StepId,
        /// A file or directory in it, absolute.
        path: String,
        /// Which files below it.
        filter: PathFilter,
    },
    /// Files, and names to be removed, that the caller hands to the engine under a name.
    Files {
        /// What the caller calls them.
        name: String,
        /// Says exactly what they are.
        digest: Digest,
    },
}
