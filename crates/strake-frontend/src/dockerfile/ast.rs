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
}

#[derive(Debug, Clone)]
pub(super) struct StageAst {
    pub(super) base: Word,
    pub(super) platform: Option<Word>,
    /// In lower case.
    pub(super) name: Option<Word>,
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
    /// `--unpack` of `ADD`.
    pub(super) unpack: Option<bool>,
}

#[derive(Debug, Clone)]
pub(super) enum CopySourceAst {
    Path(Word),
    Heredoc(Heredoc),
}

/// What `ONBUILD` keeps for later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trigger {
    /// The instruction as text, heredoc bodies included.
    pub(super) text: String,
}
