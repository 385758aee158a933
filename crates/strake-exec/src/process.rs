//! What to run: plain values, complete, checked by nobody before they reach [`crate::Executor::run`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One process in one container: everything an executor needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The root file system.
    pub rootfs: Rootfs,
    /// The process that becomes pid 1 of the container.
    pub process: Process,
    /// Mounts in the order in which they are made, after the standard ones (`/proc`, `/dev`, `/sys`, …).
    pub mounts: Vec<Mount>,
    /// The network the process sees.
    pub network: Network,
    /// Host name inside the container, at most 64 bytes.
    pub hostname: String,
    /// Lines of `/etc/hosts` beyond those for the loopback and the container's own name.
    pub hosts: Vec<HostEntry>,
    /// Whether the root file system refuses writes. The mounts of [`Container::mounts`] decide for themselves.
    pub read_only: bool,
}

/// Where the root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// A stack of directories with a writable one on top.
    Overlay {
        /// Read-only directories, bottom first; at most 500. May be empty.
        lowers: Vec<PathBuf>,
        /// Receives every change; holds only what the process changed when `run` returns.
        upper: PathBuf,
        /// Scratch directory for the kernel: empty, on the file system of `upper`.
        work: PathBuf,
        /// Whether overlay attributes are kept in the `user.` name space (needed in a user namespace).
        user_xattr: bool,
        /// Whether the kernel may skip all syncing. `work` cannot be used a second time then.
        volatile: bool,
    },
    /// A directory, used in place: changes go straight into it.
    Directory(PathBuf),
}

/// The process of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments. A program without a slash is looked up in the `PATH` of [`Process::env`].
    pub args: Vec<String>,
    /// The whole environment: nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute; it must exist.
    pub cwd: String,
    /// Docker's `USER` text: empty (root), `name`, `uid`, `name:group`, `uid:gid`.
    /// Names are looked up in the `/etc/passwd` and `/etc/group` of the root file system.
    pub user: String,
    /// Whether `HOME` is added to the environment, from the user's `/etc/passwd` line, when `env` has none.
    pub set_home: bool,
    /// Whether standard input, output and error are one new terminal of the container.
    pub terminal: bool,
}

/// One mount on top of the standard ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the container; missing directories on the way are made and removed again.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A file or directory of the host; set-user-id programs and devices in it have no effect.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
    },
    /// A file or directory inside a stack of directories, as a private view.
    Layers {
        /// The directories, bottom first; at most 499.
        lowers: Vec<PathBuf>,
        /// Whether overlay attributes are kept in the `user.` name space.
        user_xattr: bool,
        /// Path inside the stack. Symbolic links in it cannot lead out of the stack.
        source: String,
        /// Upper and work directory that receive writes, when the mount is writable.
        scratch: Option<(PathBuf, PathBuf)>,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Limit in bytes; the kernel's default (half of the memory) without.
        size: Option<u64>,
        /// Permission bits of its root directory.
        mode: u32,
    },
    /// A file that exists in memory only: secrets, scripts.
    File {
        /// The bytes of the file; sent beside the description, never inside it.
        #[serde(skip)]
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner, as seen in the container.
        uid: u32,
        /// Group, as seen in the container.
        gid: u32,
    },
}

/// One extra line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The host name.
    pub name: String,
    /// The address, in text form.
    pub address: String,
}

/// The network of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The network of the host.
    Host,
    /// A network namespace with nothing but a loopback.
    None,
    /// A network namespace of its own with access outwards.
    Private,
}

/// How the process of a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited with this code, 0 to 255.
    Exited(i32),
    /// It was killed by this signal.
    Signaled(i32),
}

impl ExitStatus {
    /// Whether the process exited with 0.
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }

    /// The code a shell would report: the exit code, or 128 plus the signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}
