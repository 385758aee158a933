use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use strake_exec::{Container, ExitStatus, Io, Process, Rootfs, Stdin};
use strake_graph::{Mount, MountKind, Network, Op, RunOp, Sharing, StepId};
use strake_oci::Digest;
use strake_store::{ActiveSnapshot, Flavour, LayerId, SnapshotMount, TempDir};

use super::log::Log;
use super::{Build, Inputs, file_error};
use crate::error::{ProcessFailure, StepError};
use crate::event::{Event, Stream};
use crate::lock::{Attempt, Hold, Lease};
use crate::remote::UsedMount;
use crate::signature::Signature;
use crate::step::trust;

/// How much of a step's output is kept for the error message, in bytes. The log has more of it.
const TAIL: usize = 16 << 10;

/// The host name inside a step. Some programs write it into what they make, so it is always the same.
const HOST_NAME: &str = "strake";

/// Mounts as the executor wants them, with what must live as long as the step runs.
#[derive(Default)]
struct Mounts {
    mounts: Vec<strake_exec::Mount>,
    env: Vec<(String, OsString)>,
    leases: Vec<Lease>,
    scratch: Vec<TempDir>,
}

impl Build<'_> {
    /// Runs the process of a `RUN` on top of `base`; what it changed is in the snapshot. `caches` are the leases of
    /// [`Build::cache_locks`]; they end with the process.
    pub(super) fn run(
        &self,
        id: StepId,
        op: &RunOp,
        base: &[LayerId],
        inputs: &Inputs,
        signature: Signature,
        caches: Vec<Lease>,
    ) -> Result<ActiveSnapshot, StepError> {
        let store = self.environment.store;
        let mut mounts = Mounts { leases: caches, ..Mounts::default() };
        for mount in &op.mounts {
            self.add_mount((id, op, signature), mount, inputs, &mut mounts)?;
        }
        let active = store.snapshots().prepare(base)?;
        let trust = match &self.request.ca_certificates {
            Some(pem) => trust::prepare(&store.open_view(base)?, pem),
            None => trust::Trust::default(),
        };
        mounts.mounts.extend(trust.mount);
        // A secret that was asked for by name hides a variable of that name; the rest gives way to what is there.
        let texts = op.env.iter().chain(&op.transient_env).chain(&trust.env);
        let given = texts.map(|(name, value)| (name, OsStr::new(value)));
        let secrets = mounts.env.iter().map(|(name, value)| (name, value.as_os_str()));
        let mut env: Vec<(String, OsString)> = Vec::new();
        for (name, value) in secrets.chain(given) {
            if !env.iter().any(|(known, _)| known == name) {
                env.push((name.clone(), value.to_owned()));
            }
        }
        let container = Container {
            rootfs: rootfs(active.mount()),
            process: Process {
                args: op.args.clone(),
                env,
                cwd: op.cwd.clone(),
                user: op.user.clone(),
                set_home: true,
                terminal: false,
            },
            mounts: mounts.mounts,
            network: self.network(op.network.unwrap_or(self.request.network)),
            hostname: HOST_NAME.to_owned(),
            hosts: self
                .request
                .hosts
                .iter()
                .map(|host| strake_exec::HostEntry { name: host.name.clone(), address: host.address.clone() })
                .collect(),
            read_only: false,
        };
        let log = store.log_dir().join(format!("{signature}.log"));
        self.run_logged(id, op, &container, &log, active)
    }

    /// Runs a container on `active`, and answers that, or hands it over with the failure of the process.
    fn run_logged(
        &self,
        id: StepId,
        op: &RunOp,
        container: &Container,
        log: &Path,
        active: ActiveSnapshot,
    ) -> Result<ActiveSnapshot, StepError> {
        let on_log = |source| StepError::File { what: "write log", path: log.to_owned(), source };
        let mut file = Log::create(log).map_err(on_log)?;
        let mut tail = Vec::new();
        let mut output = |stream: strake_exec::Stream, bytes: &[u8]| {
            file.write(bytes);
            keep_tail(&mut tail, bytes);
            let stream = match stream {
                strake_exec::Stream::Stdout => Stream::Stdout,
                strake_exec::Stream::Stderr => Stream::Stderr,
            };
            self.event(Event::StepOutput(id, stream, bytes.to_owned()));
        };
        let io = Io { output: &mut output, stdin: Stdin::Null };
        let cancel = self.environment.cancellation.containers();
        let exit = match self.environment.executor.run(container, io, cancel) {
            Ok(exit) => exit,
            Err(strake_exec::ExecError::Cancelled) => return Err(StepError::Cancelled),
            // As with a shell, that there is no such command is the end of the step, and said in its output.
            Err(error) => match error.command_status() {
                Some(status) => {
                    output(strake_exec::Stream::Stderr, format!("{error}\n").as_bytes());
                    ExitStatus::Exited(status.into())
                }
                None => return Err(error.into()),
            },
        };
        file.finish().map_err(on_log)?;
        if exit.success() {
            return Ok(active);
        }
        if self.environment.cancellation.is_requested() {
            return Err(StepError::Cancelled);
        }
        let command = op.args.join(" ");
        let log = log.to_owned();
        Err(StepError::Process(Box::new(ProcessFailure { command, exit, log, tail, left: active })))
    }

    fn network(&self, wanted: Network) -> strake_exec::Network {
        match wanted {
            Network::None => strake_exec::Network::None,
            Network::Host => strake_exec::Network::Host,
            Network::Default => match self.environment.private_network {
                Ok(()) => strake_exec::Network::Private,
                Err(reason) => {
                    self.warned_network.get_or_init(|| {
                        self.event(Event::Warning(format!(
                            "steps use the host's network: no network of their own ({reason})"
                        )));
                    });
                    strake_exec::Network::Host
                }
            },
        }
    }

    fn add_mount(
        &self,
        (id, op, signature): (StepId, &RunOp, Signature),
        mount: &Mount,
        inputs: &Inputs,
        mounts: &mut Mounts,
    ) -> Result<(), StepError> {
        let mut read_only = false;
        let kind = match &mount.kind {
            MountKind::Bind { from, source, writable } => {
                read_only = !writable;
                self.bind(*from, source, *writable, inputs, mounts)?
            }
            MountKind::Cache { id: cache, sharing, from, mode, uid, gid, read_only: ro } => {
                read_only = *ro;
                let owner = (*mode, *uid, *gid);
                let seed = from.as_ref().map(|(from, source)| (*from, source.as_str()));
                let cache = self.cache_id(cache, seed, inputs)?;
                let name = self.cache_mount(id, &cache, *sharing, mounts)?;
                let source = self.environment.store.cache_mount_dir(&name);
                let used = UsedMount::new(&cache, &self.request.graph.step(id).platform, signature, op);
                self.make_cache_directory(&name, &used, owner, seed, inputs)?;
                self.remote.use_mount(name, used);
                strake_exec::MountKind::Bind { source }
            }
            MountKind::Tmpfs { size } => strake_exec::MountKind::Tmpfs { size: *size, mode: 0o1777 },
            MountKind::Secret { id, env, required, mode, uid, gid } => {
                let Some(secret) = self.request.secrets.get(id) else {
                    return if *required { Err(StepError::Secret(id.clone())) } else { Ok(()) };
                };
                if let Some(name) = env {
                    let value = OsStr::from_bytes(secret.reveal());
                    mounts.env.push((name.clone(), value.to_owned()));
                }
                if mount.target.is_empty() {
                    return Ok(());
                }
                let content = secret.reveal().to_owned();
                strake_exec::MountKind::File { content, mode: *mode, uid: *uid, gid: *gid }
            }
            MountKind::Host { source, read_only: ro } => {
                read_only = *ro;
                strake_exec::MountKind::Bind { source: source.clone() }
            }
            MountKind::File { content, mode } => {
                strake_exec::MountKind::File { content: content.clone(), mode: *mode, uid: 0, gid: 0 }
            }
        };
        mounts.mounts.push(strake_exec::Mount { target: mount.target.clone(), kind, read_only });
        Ok(())
    }

    fn bind(
        &self,
        from: StepId,
        source: &str,
        writable: bool,
        inputs: &Inputs,
        mounts: &mut Mounts,
    ) -> Result<strake_exec::MountKind, StepError> {
        let store = self.environment.store;
        let mut make = |name: &str| {
            let directory = store.temp_dir()?;
            let path = directory.path().join(name);
            std::fs::create_dir(&path).map_err(file_error("create", &path))?;
            mounts.scratch.push(directory);
            Ok::<_, StepError>(path)
        };
        let (lowers, source) = if self.is_context(from) {
            let files = make("files")?;
            let source = self.copy_bound(from, source, inputs, &files)?;
            (vec![files], source)
        } else {
            let layers = &inputs.get(from).layers;
            self.ensure_layers(layers)?;
            // Of a stage without layers an empty directory is seen.
            let lowers = match layers.as_slice() {
                [] => vec![make("files")?],
                layers => layers.iter().map(|layer| store.layer_dir(layer)).collect(),
            };
            (lowers, source.to_owned())
        };
        let scratch = if writable {
            let upper = make("upper")?;
            let work = upper.with_file_name("work");
            std::fs::create_dir(&work).map_err(file_error("create", &work))?;
            // It is seen in place of the directory below it, so it looks like that, whoever may write here.
            if let Some(top) = lowers.last() {
                copy_attributes(top, &upper).map_err(file_error("set the attributes of", &upper))?;
            }
            Some((upper, work))
        } else {
            None
        };
        let user_xattr = store.flavour() == Flavour::User;
        Ok(strake_exec::MountKind::Layers { lowers, user_xattr, source, scratch })
    }

    /// The locks of all caches that a step wants for itself or shares with others, in the order in which they are to
    /// be taken: so two steps that want the same two never wait for each other, and a step that mounts one of them
    /// twice does not wait for itself. A collection takes away no cache that a step has, shared or not.
    ///
    /// # Errors
    /// When the files that a cache begins with cannot be read.
    pub(crate) fn cache_locks(
        &self,
        id: StepId,
        inputs: &Inputs,
    ) -> Result<BTreeMap<String, Hold>, StepError> {
        let mut holds = BTreeMap::new();
        let Op::Run(op) = &self.request.graph.step(id).op else { return Ok(holds) };
        for mount in &op.mounts {
            if let MountKind::Cache { id, sharing: sharing @ (Sharing::Shared | Sharing::Locked), .. } =
                &mount.kind
            {
                let id = self.cache_id(id, mount.files(), inputs)?;
                let hold = holds.entry(cache_lock(&cache_name(&id, 0))).or_insert(Hold::Shared);
                if *sharing == Sharing::Locked {
                    *hold = Hold::Alone;
                }
            }
        }
        Ok(holds)
    }

    /// Finds the directory of a cache mount by the name it has in the store; a private one is locked here, the others
    /// are already.
    fn cache_mount(
        &self,
        step: StepId,
        id: &str,
        sharing: Sharing,
        mounts: &mut Mounts,
    ) -> Result<Digest, StepError> {
        // A private cache that is in use has siblings: the first free one is taken.
        for number in 0.. {
            let name = cache_name(id, number);
            match sharing {
                Sharing::Shared | Sharing::Locked => {}
                Sharing::Private => {
                    match self.locks.try_acquire(&cache_lock(&name), Hold::Alone, &self.holder(step))? {
                        Attempt::Held(lease) => mounts.leases.push(lease),
                        Attempt::Busy(_) => continue,
                    }
                }
            }
            return Ok(name);
        }
        unreachable!("the siblings do not end")
    }
}

/// Gives a directory the owner and the mode of another.
fn copy_attributes(from: &Path, to: &Path) -> std::io::Result<()> {
    let metadata = from.symlink_metadata()?;
    std::os::unix::fs::chown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    std::fs::set_permissions(to, metadata.permissions())
}

/// What the `number`th directory of a cache is called in the store.
fn cache_name(id: &str, number: u32) -> Digest {
    Digest::of(format!("{id}\n{number}").as_bytes())
}

/// The lock that guards a cache directory; [`strake_store::Store::cache_mount_dir`] says so too.
pub(crate) fn cache_lock(name: &Digest) -> String {
    format!("cache-{}", name.hex())
}

fn rootfs(mount: SnapshotMount) -> Rootfs {
    match mount {
        SnapshotMount::Overlay { lowers, upper, work, user_xattr } => {
            // Nothing of a step that did not finish is ever used, so the kernel need not sync for it.
            Rootfs::Overlay { lowers, upper, work, user_xattr, volatile: true }
        }
        SnapshotMount::Directory(path) => Rootfs::Directory(path),
    }
}

/// Keeps the end of the output. It never begins within a character.
fn keep_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    let kept = &bytes[bytes.len().saturating_sub(TAIL)..];
    tail.extend_from_slice(kept);
    let excess = tail.len().saturating_sub(TAIL);
    if excess > 0 || kept.len() < bytes.len() {
        let is_within = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
        let within = tail[excess..].iter().take(3).take_while(is_within).count();
        tail.drain(..excess + within);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_of_the_output() {
        let mut tail = Vec::new();
        for number in 0..5000 {
            keep_tail(&mut tail, format!("{number:05}\n").as_bytes());
        }
        assert_eq!(tail.len(), TAIL);
        assert!(tail.ends_with(b"04999\n"));
        keep_tail(&mut tail, &vec![b'x'; 3 * TAIL]);
        assert_eq!(tail, vec![b'x'; TAIL]);
    }

    #[test]
    fn the_tail_begins_with_a_whole_character() {
        for shift in 0..4 {
            let text = "x".repeat(shift) + &"🦀".repeat(TAIL);
            for size in [7, 1_000, text.len()] {
                let mut tail = Vec::new();
                for piece in text.as_bytes().chunks(size) {
                    keep_tail(&mut tail, piece);
                }
                assert!(std::str::from_utf8(&tail).is_ok(), "shifted by {shift}, pieces of {size}");
                assert!(tail.len() > TAIL - 4 && tail.len() <= TAIL);
            }
        }
    }
}
