//! What to run: plain values, complete, checked by nobody before they reach [`crate::Executor::run`].

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ExecError;

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
    /// The whole environment: nothing is inherited. A value may be any bytes but NUL.
    pub env: Vec<(String, OsString)>,
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

impl Container {
    /// Checks what can be checked without touching the machine.
    pub(crate) fn validate(&self) -> Result<(), ExecError> {
        let invalid = |what: &str, why: &str| Err(ExecError::invalid(what, why));
        let process = &self.process;
        if process.args.first().is_none_or(String::is_empty) {
            return invalid("command", "is empty");
        }
        let mut texts = process.args.iter().chain([&process.cwd, &process.user, &self.hostname]);
        if texts.any(|text| text.contains('\0')) {
            return invalid("command, directory, user or host name", "contains a NUL byte");
        }
        if process.env.iter().any(|(name, _)| name.is_empty() || name.contains(['=', '\0'])) {
            return invalid("environment", "has a variable whose name is empty or contains = or a NUL byte");
        }
        if let Some((name, _)) = process.env.iter().find(|(_, value)| value.as_bytes().contains(&0)) {
            return invalid(&format!("environment variable {name}"), "its value contains a NUL byte");
        }
        if !process.cwd.starts_with('/') {
            return invalid(&format!("working directory {}", process.cwd), "is not absolute");
        }
        if self.hostname.len() > 64 || self.hostname.contains(char::is_whitespace) {
            return invalid("host name", "is longer than 64 bytes or contains white space");
        }
        for entry in &self.hosts {
            let words = [&entry.name, &entry.address];
            if words
                .iter()
                .any(|word| word.is_empty() || word.contains(|c: char| c.is_whitespace() || c == '\0'))
            {
                return invalid(&format!("host entry {:?}", entry.name), "has an empty part or white space");
            }
        }
        self.validate_paths()
    }

    fn validate_paths(&self) -> Result<(), ExecError> {
        let mut paths: Vec<&PathBuf> = match &self.rootfs {
            Rootfs::Overlay { lowers, upper, work, .. } => lowers.iter().chain([upper, work]).collect(),
            Rootfs::Directory(directory) => vec![directory],
        };
        for mount in &self.mounts {
            let what = format!("mount point {}", mount.target);
            if !mount.target.starts_with('/') || mount.target.contains('\0') {
                return Err(ExecError::invalid(what, "is not an absolute path"));
            }
            if mount.target.split('/').all(|name| matches!(name, "" | "." | "..")) {
                return Err(ExecError::invalid(what, "is the root itself"));
            }
            match &mount.kind {
                MountKind::Bind { source } => paths.push(source),
                MountKind::Layers { lowers, scratch, .. } => {
                    paths.extend(lowers);
                    paths.extend(scratch.iter().flat_map(|(upper, work)| [upper, work]));
                }
                MountKind::Tmpfs { .. } | MountKind::File { .. } => {}
            }
        }
        match paths.iter().find(|path| !path.is_absolute()) {
            Some(path) => Err(ExecError::invalid(format!("path {}", path.display()), "is not absolute")),
            None => Ok(()),
        }
    }
}
