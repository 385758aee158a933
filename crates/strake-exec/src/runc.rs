//! The referee: an installed runc behind the same seam.
//!
//! Our init mode prepares the root file system and the sources of all mounts in a mount namespace of its own, writes
//! a bundle into the scratch and becomes `runc run`, as pid 1 of a pid namespace: whatever happens to it, nothing
//! stays behind. Only the container's own set-up (namespaces, `/proc`, `/dev`, masks, filter, rights) is runc's.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::error::ExecError;
use crate::mount::{Scratch, Source};
use crate::process::{Container, Network};
use crate::user::Ids;
use crate::wire::Runner;
use crate::{Cancel, Executor, ExitStatus, Io, init, mount, session};

/// Runs containers with an installed runc. Private networks and terminals are not offered, and runc's own errors
/// about the program (not found, wrong format) appear as output and exit code 1, not as errors.
#[derive(Debug, Clone)]
pub struct RuncExecutor {
    program: PathBuf,
    runc: PathBuf,
}

impl RuncExecutor {
    /// An executor that starts `program` (normally `/proc/self/exe`) to prepare mounts for `runc`.
    pub fn new(program: PathBuf, runc: PathBuf) -> Self {
        Self { program, runc }
    }
}

impl Executor for RuncExecutor {
    fn run(&self, container: &Container, io: Io<'_>, cancel: &Cancel) -> Result<ExitStatus, ExecError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if container.process.terminal {
            return Err(ExecError::invalid("terminal", "is not offered with runc"));
        }
        if container.network == Network::Private {
            return Err(ExecError::PrivateNetwork { reason: "is not offered with runc".to_owned() });
        }
        let id = format!("strake-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let runner = Runner::Runc { runc: self.runc.clone(), id: id.clone() };
        let result = session::run(&self.program, container, &runner, None, io, cancel);
        remove_cgroups(&id);
        result
    }
}

/// Removes the groups that runc leaves when it is killed. Without any there is nothing to do.
fn remove_cgroups(id: &str) {
    let Ok(controllers) = std::fs::read_dir("/sys/fs/cgroup") else { return };
    for controller in controllers.flatten() {
        let _ = std::fs::remove_dir(controller.path().join(id));
    }
    let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(id));
}

/// What runc is told to run.
pub(crate) struct Bundle<'a> {
    pub(crate) container: &'a Container,
    pub(crate) scratch: &'a Scratch,
    pub(crate) sources: &'a [Source],
    pub(crate) ids: &'a Ids,
}

impl Bundle<'_> {
    /// Writes the bundle and becomes runc. Returns only the reason why that failed.
    pub(crate) fn run(&self, runc: &Path, id: &str) -> ExecError {
        match self.write(id) {
            Err(error) => error,
            Ok(()) => {
                let path = |name: &str| self.scratch.path(name).to_string_lossy().into_owned();
                let (state, bundle) = (path("state"), path("bundle"));
                init::replace(runc, &["--root", &state, "run", "--no-new-keyring", "--bundle", &bundle, id])
            }
        }
    }

    fn write(&self, id: &str) -> Result<(), ExecError> {
        // runc finds its own processes through /proc, so it needs the one of its pid namespace.
        mount::replace_proc()?;
        drop(self.scratch.directory("bundle")?);
        drop(self.scratch.directory("state")?);
        for (number, source) in self.sources.iter().enumerate() {
            let name = format!("source{number}");
            let place = if source.directory {
                self.scratch.directory(&name)?
            } else {
                drop(self.scratch.file(&name, b"", 0o600)?);
                self.scratch.open(&name)?
            };
            mount::attach(source.mount.as_fd(), place)
                .map_err(|errno| ExecError::setup(format!("attach {}", source.what), errno))?;
        }
        let config = serde_json::to_vec(&self.config(id)?).map_err(|e| ExecError::internal(e.to_string()))?;
        drop(self.scratch.file("bundle/config.json", &config, 0o600)?);
        Ok(())
    }

    fn config(&self, id: &str) -> Result<Value, ExecError> {
        let process = &self.container.process;
        let line = |(name, value): &(String, OsString)| match value.to_str() {
            Some(value) => Ok(format!("{name}={value}")),
            None => Err(ExecError::invalid(
                format!("environment variable {name}"),
                "runc takes no value that is not UTF-8",
            )),
        };
        let mut env: Vec<String> = process.env.iter().map(line).collect::<Result<_, _>>()?;
        if process.set_home && !process.env.iter().any(|(name, _)| name == "HOME") {
            env.push(format!("HOME={}", self.ids.home.as_deref().unwrap_or("/")));
        }
        let groups = [[self.ids.gid].as_slice(), &self.ids.groups].concat();
        let capabilities = init::CAPABILITY_NAMES;
        Ok(json!({
            "ociVersion": "1.0.2",
            "hostname": self.container.hostname,
            "root": {"path": self.scratch.path("root"), "readonly": self.container.read_only},
            "process": {
                "args": process.args,
                "env": env,
                "cwd": process.cwd,
                "user": {
                    "uid": self.ids.uid,
                    "gid": self.ids.gid,
                    "umask": 0o022,
                    "additionalGids": groups,
                },
                "capabilities": {
                    "bounding": capabilities,
                    "permitted": capabilities,
                    "effective": capabilities,
                },
                "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}],
                "noNewPrivileges": false,
            },
            "mounts": self.mounts(),
            "linux": {
                "cgroupsPath": format!("/{id}"),
                "namespaces": self.namespaces(),
                "maskedPaths": MASKED,
                "readonlyPaths": READ_ONLY,
            },
        }))
    }

    fn namespaces(&self) -> Vec<Value> {
        let mut kinds = vec!["pid", "ipc", "uts", "mount"];
        // The init process is in a network namespace already if there is to be one.
        if self.container.network == Network::None {
            kinds.push("network");
        }
        kinds.into_iter().map(|kind| json!({"type": kind})).collect()
    }

    fn mounts(&self) -> Vec<Value> {
        let standard = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
        let bind = |target: &str, name: &str, options: &[&str]| json!({"destination": target, "type": "bind", "source": self.scratch.path(name), "options": options});
        let mut mounts = vec![
            standard("/proc", "proc", &["nosuid", "nodev", "noexec"]),
            standard("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            standard(
                "/dev/pts",
                "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            standard("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            standard("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            standard("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ];
        for name in ["hosts", "hostname", "resolv.conf"] {
            mounts.push(bind(&format!("/etc/{name}"), name, &["rbind", "rprivate"]));
        }
        for (number, mount) in self.container.mounts.iter().enumerate() {
            let access = if mount.read_only { "ro" } else { "rw" };
            let options = ["rbind", "rprivate", "nosuid", "nodev", access];
            mounts.push(bind(&mount.target, &format!("source{number}"), &options));
        }
        mounts
    }
}

const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
