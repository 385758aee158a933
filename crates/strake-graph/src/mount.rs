use crate::StepId;

/// Something mounted into the container of one step (`RUN --mount`). Its mount point leaves no trace in the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where: absolute. For a secret that is only an environment variable, empty.
    pub target: String,
    /// What.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// Files of another step.
    Bind {
        /// A context, an image, or the result of another stage.
        from: StepId,
        /// The path inside, absolute or relative to the root.
        source: String,
        /// Whether the step may write; what it writes is dropped.
        writable: bool,
    },
    /// A directory that outlives the build.
    Cache {
        /// What the directory is known by.
        id: String,
        /// What happens when two steps want it at once.
        sharing: Sharing,
        /// What a new directory starts with: a step and a path inside.
        from: Option<(StepId, String)>,
        /// Mode of a new directory.
        mode: u32,
        /// Owner of a new directory.
        uid: u32,
        /// Group of a new directory.
        gid: u32,
        /// Whether the step may not write.
        read_only: bool,
    },
    /// A file system in memory.
    Tmpfs {
        /// Bytes at most.
        size: Option<u64>,
    },
    /// A secret of the caller. Only its presence is part of the signature.
    Secret {
        /// What the caller knows it by.
        id: String,
        /// The environment variable that holds it; the file is mounted only if a target was named, or no variable.
        env: Option<String>,
        /// Whether the step fails without it.
        required: bool,
        /// Mode of the file.
        mode: u32,
        /// Owner of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
    },
    /// A file whose content the frontend knows (a heredoc with an interpreter line).
    File {
        /// What is in it.
        content: Vec<u8>,
        /// Its mode.
        mode: u32,
    },
    /// A file or directory of the machine. It is no part of a signature: whoever mounts it promises that what is in
    /// it does not matter, or wants it so.
    Host {
        /// Its absolute path.
        source: std::path::PathBuf,
        /// Whether the step may not write.
        read_only: bool,
    },
}

/// What happens when two steps want one cache mount at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sharing {
    /// Both use it.
    #[default]
    Shared,
    /// The second gets another directory.
    Private,
    /// The second waits.
    Locked,
}
