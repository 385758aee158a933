//! A Dockerfile as its author wrote it: instructions with their words, nothing expanded, nothing resolved.

use strake_graph::{Network, Span};
use strake_oci::HealthConfig;

use crate::dockerfile::heredoc::Heredoc;
use crate::dockerfile::parse::mount::MountSpec;

/// A text with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) span: Span,
}

/// A whole file.
#[derive(Debug, Clone)]
pub(super) struct Ast {
    pub(super) escape: char,
    /// `ARG` in front of the first `FROM`.
    pub(super) global_args: Vec<ArgItem>,
    pub(super) stages: Vec<StageAst>,
    /// Something in front of the first `FROM` could not be read, so other arguments may be missing or different.
    pub(super) lost_globals: bool,
    /// The end of the file went into a heredoc that is never ended, and stages may have gone with it.
    pub(super) is_cut: bool,
}

#[derive(Debug, Clone)]
pub(super) struct StageAst {
    /// Of a broken `FROM` all of its arguments.
    pub(super) base: Word,
    pub(super) platform: Option<Word>,
    /// In lower case. Of a broken `FROM` what the name probably is, so that nobody is told that it is missing.
    pub(super) name: Option<Word>,
    /// The `FROM` could not be read, which has been said.
    pub(super) is_broken: bool,
    /// The `FROM` instruction.
    pub(super) span: Span,
    pub(super) instructions: Vec<Instruction>,
}

#[derive(Debug, Clone)]
pub(super) struct Instruction {
    pub(super) kind: Kind,
    pub(super) span: Span,
    /// The instruction on one line as written, heredoc bodies left out.
    pub(super) source: String,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Add(Box<CopyAst>),
    Arg(Vec<ArgItem>),
    Broken(Broken),
    Cmd(CommandLine),
    Copy(Box<CopyAst>),
    Entrypoint(CommandLine),
    Env(Vec<Pair>),
    Expose(Vec<Word>),
    Healthcheck(HealthConfig),
    Label(Vec<Pair>),
    Maintainer(Word),
    Onbuild(Trigger),
    Run(Box<RunAst>),
    Shell(Vec<String>),
    StopSignal(Word),
    User(Word),
    Volume(Vec<Word>),
    Workdir(Word),
}

impl Kind {
    /// What it takes files from by name.
    pub(super) fn sources(&self) -> Vec<&Word> {
        match self {
            Self::Copy(copy) => copy.from.iter().collect(),
            Self::Run(run) => run.mounts.iter().filter_map(|mount| mount.from.as_ref()).collect(),
            Self::Broken(broken) => broken.sources.iter().collect(),
            _ => Vec::new(),
        }
    }
}

/// `ENV` and `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) key: Word,
    pub(super) value: Word,
}

/// One variable of `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ArgItem {
    pub(super) name: Word,
    pub(super) default: Option<Word>,
}

/// The arguments of `RUN`, `CMD` and `ENTRYPOINT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CommandLine {
    /// Text for the shell.
    Shell(String),
    /// A JSON array.
    Exec(Vec<String>),
}

#[derive(Debug, Clone)]
pub(super) struct RunAst {
    pub(super) command: CommandLine,
    pub(super) heredocs: Vec<Heredoc>,
    pub(super) mounts: Vec<MountSpec>,
    pub(super) network: Option<Network>,
}

#[derive(Debug, Clone)]
pub(super) struct CopyAst {
    pub(super) sources: Vec<CopySourceAst>,
    pub(super) destination: Word,
    pub(super) from: Option<Word>,
    pub(super) chown: Option<Word>,
    pub(super) chmod: Option<Word>,
    pub(super) checksum: Option<Word>,
    /// Where `--link` stands, if it is on.
    pub(super) link: Option<Span>,
    /// `--unpack` of `ADD`.
    pub(super) unpack: Option<bool>,
}

#[derive(Debug, Clone)]
pub(super) enum CopySourceAst {
    Path(Word),
    Heredoc(Heredoc),
}

/// An instruction that could not be read, which has been said. It stands in the tree for what it may have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    /// The instruction in capitals, if it is one.
    pub(super) name: Option<&'static str>,
    /// Its `--from` values that can be read: they need their stages all the same.
    pub(super) sources: Vec<Word>,
}

/// What `ONBUILD` keeps for later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trigger {
    /// The instruction as text, heredoc bodies included.
    pub(super) text: String,
}
