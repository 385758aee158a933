//! The directory of a store, and why it survives crashes.
//!
//! ```text
//! ROOT/                    mode 0700
//!   strake-store           layout version and flavour; a directory without it is no store
//!   index.db -wal -shm     documents, links, what is known of layers and blobs       (module `index`)
//!   blobs/sha256/<hex>     bytes by digest
//!   layers/<id>/fs         a layer in overlay form: whiteouts are 0:0 devices, opaque directories an attribute
//!   layers/<id>/layer.json what the index knows of it, should the index be lost
//!   active/<lease>-<n>/    snapshots being written: fs, work, or merged
//!   tmp/<lease>-<n>        blobs being written, temporary directories
//!   trash/<n>              renamed out of the way; removed by a sweep
//!   leases/<lease>         one file per process that has the store open, locked while it lives
//!   caches/<hex>           cache mounts            stat/<hex>  remembered file digests (module `index`)
//!   locks/                 one file per lock        logs/       output of steps       (module `expire`)
//!   empty/                 an empty directory, lower layer of mounts that need one
//! ```
//!
//! **Everything goes the same way**: written aside under a name that carries the writer's lease, completed,
//! renamed into place, recorded. Rename and record happen while the index's write lock is held, and so does taking
//! away, so for every file in place one of two things is true: it is recorded and complete, or nobody has recorded
//! it and it is garbage. A record never names what is not there. Deleting is the same in reverse: forgotten in one
//! transaction, and in a second one, if still forgotten, renamed into the trash.
//!
//! **Killed processes** leave files in `active` and `tmp` whose lease is no longer locked, and perhaps files in
//! place that are not recorded. A sweep removes both; until then they only take space.
//!
//! **Power loss** is another matter, since nothing here is synced on the way of a step. What a boot wrote carries
//! that boot's id in the index until a sweep has synced the file system (`syncfs`, one call, off the critical path)
//! and taken the id away. The first opening after a reboot drops layers that still carry an id, and with them the
//! documents that stand on them; it hashes blobs that still carry one and keeps those that are intact. SQLite
//! itself loses at most its last transactions (`synchronous=NORMAL` in WAL mode) and is never torn, but for a new
//! database, which is made without waiting for the disk. A torn one is set aside, and layers and blobs are recorded
//! again from what lies on the disk.
//!
//! **Two flavours.** Overlayfs keeps its marks in `trusted.*` attributes, or in `user.*` ones inside a user
//! namespace, where `trusted.*` cannot be set. Owners differ as well. A store therefore belongs to one of the two.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use strake_oci::Digest;

use crate::lease::Lease;
use crate::snapshot::{self, Prepared};
use crate::{ActiveSnapshot, Blobs, Index, LayerId, Snapshotter, SnapshotterChoice, StoreError, View};

/// The layout that this program writes.
const VERSION: u32 = 1;

/// The file that makes a directory a store.
const VERSION_FILE: &str = "strake-store";

const DIRECTORIES: [&str; 11] = [
    "blobs/sha256",
    "layers",
    "active",
    "tmp",
    "trash",
    "leases",
    "caches",
    "stat",
    "locks",
    "logs",
    "empty",
];

/// Set on the root of a store to find out whether `trusted.*` attributes are ours to use.
const TRUSTED_PROBE: &str = "trusted.strake-store";

/// Who can read the attributes that make a directory a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Written by root of the machine: `trusted.overlay.*`.
    Trusted,
    /// Written inside a user namespace: `user.overlay.*`.
    User,
}

impl Flavour {
    const fn word(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::User => "user",
        }
    }

    /// The flavour of a layer directory: what the version file of its store says. Of a directory elsewhere, what this
    /// process would write.
    pub(crate) fn of_layer_dir(layer_dir: &Path) -> Self {
        // ROOT/layers/<id>/fs, or ROOT/active/<name>/fs
        let version_file = layer_dir.ancestors().nth(3).map(|root| root.join(VERSION_FILE));
        let text = version_file.and_then(|path| std::fs::read_to_string(path).ok());
        let recorded = text.and_then(|text| parse_version(&text).ok());
        recorded.unwrap_or_else(|| possible_flavour(layer_dir))
    }

    /// The prefix of overlayfs's own attributes.
    pub(crate) const fn overlay_prefix(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.",
            Self::User => "user.overlay.",
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trusted => "as root of the machine",
            Self::User => "by an ordinary user",
        })
    }
}

/// How to open a store.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreOptions {
    /// Which snapshotter to use.
    pub snapshotter: SnapshotterChoice,
}

/// A store on local disk, shared by any number of processes. Cloning gives another handle to the same store.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    blobs: Blobs,
    choice: SnapshotterChoice,
    snapshotter: OnceLock<Box<dyn Snapshotter>>,
}

/// What every part of an open store needs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: PathBuf,
    pub(crate) flavour: Flavour,
    pub(crate) index: Index,
    pub(crate) lease: Lease,
    pub(crate) boot_id: String,
}

impl Store {
    /// Opens the store at `root`, creating it when there is none.
    ///
    /// As long as the store is open, nothing that was put or touched since can be collected.
    ///
    /// # Errors
    /// When the directory cannot be made or used, belongs to another layout version or to the other flavour.
    pub fn open(root: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let flavour = open_directory(root)?;
        let boot_id = boot_id()?;
        let index = crate::recover::open_index(root, &boot_id)?;
        let lease = Lease::acquire(root, index.sequence()?)?;
        let shared = Arc::new(Shared { root: root.to_owned(), flavour, index, lease, boot_id });
        crate::recover::after_reboot(&shared)?;
        Ok(Self(Arc::new(Inner {
            blobs: Blobs::new(shared.clone()),
            shared,
            choice: options.snapshotter,
            snapshotter: OnceLock::new(),
        })))
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.0.shared.root
    }

    /// Whose attributes the layers carry.
    pub fn flavour(&self) -> Flavour {
        self.0.shared.flavour
    }

    /// Bytes by digest.
    pub fn blobs(&self) -> &Blobs {
        &self.0.blobs
    }

    /// Directories that steps run on. The first call finds out, by mounting, whether overlayfs is possible here.
    pub fn snapshots(&self) -> &dyn Snapshotter {
        let snapshotter = &self.0.snapshotter;
        snapshotter.get_or_init(|| snapshot::choose(&self.0.shared, self.0.choice)).as_ref()
    }

    /// Documents and what is known of layers and blobs.
    pub fn index(&self) -> &Index {
        &self.0.shared.index
    }

    /// The directory of a committed layer, in overlay form.
    pub fn layer_dir(&self, layer: &LayerId) -> PathBuf {
        self.0.shared.layer_dir(layer)
    }

    /// The merged tree of `layers`, bottom first, to read. It is mounted nowhere and ends when dropped.
    ///
    /// # Errors
    /// When a layer is missing or the mount fails.
    pub fn open_view(&self, layers: &[LayerId]) -> Result<View, StoreError> {
        self.snapshots().view(layers)
    }

    /// A new layer to be written directly, in overlay form, into [`ActiveSnapshot::upper`]; nothing is mounted.
    /// It is committed with [`Snapshotter::commit`]. For a layer that stands on others see
    /// [`Store::prepare_layer_on`].
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn prepare_layer(&self) -> Result<ActiveSnapshot, StoreError> {
        self.prepare_layer_on(&[])
    }

    /// As [`Store::prepare_layer`], for a layer that will stand on `below` (bottom first): its root directory gets
    /// the attributes of theirs, as every layer's must, since in the merged tree the uppermost directory of a name
    /// decides. For other directories that the new layer shares with those below, that is the writer's duty (see
    /// [`crate::tar::settle`]).
    ///
    /// # Errors
    /// When its directory cannot be made, or a layer is missing.
    pub fn prepare_layer_on(&self, below: &[LayerId]) -> Result<ActiveSnapshot, StoreError> {
        Prepared::directory(&self.0.shared, below)
    }

    /// Where lock files are kept. One is deleted only by who holds it alone, so whoever locks one must look whether it
    /// is still the file that its name stands for.
    pub fn lock_dir(&self) -> PathBuf {
        self.root().join("locks")
    }

    /// Where the output of steps is kept.
    pub fn log_dir(&self) -> PathBuf {
        self.root().join("logs")
    }

    /// The directory of a cache mount; the caller creates it. While it is used, the lock file `cache-<hex>` in
    /// [`Store::lock_dir`] must be held, shared or alone, and written or touched at the beginning: its time says when
    /// the mount was last used.
    pub fn cache_mount_dir(&self, id: &Digest) -> PathBuf {
        self.root().join("caches").join(id.hex())
    }

    /// A new directory inside the store, on the same file system, that goes to the trash when dropped.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn temp_dir(&self) -> Result<TempDir, StoreError> {
        TempDir::new(&self.0.shared)
    }

    /// Moves `path`, which lies inside the store, out of the way at once; [`Store::sweep`] deletes it later.
    pub fn discard(&self, path: &Path) {
        self.0.shared.discard(path);
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }
}

impl Shared {
    pub(crate) fn layer_home(&self, layer: &LayerId) -> PathBuf {
        self.root.join("layers").join(layer.as_str())
    }

    pub(crate) fn layer_dir(&self, layer: &LayerId) -> PathBuf {
        self.layer_home(layer).join("fs")
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn empty_dir(&self) -> PathBuf {
        self.root.join("empty")
    }

    /// A new path below `folder` that a sweep leaves alone while this process lives.
    pub(crate) fn leased_path(&self, folder: &str) -> Result<PathBuf, StoreError> {
        let folder = self.root.join(folder);
        let name = random_name().map_err(StoreError::io("find a name in", &folder))?;
        Ok(folder.join(format!("{}-{name}", self.lease.name())))
    }

    pub(crate) fn discard(&self, path: &Path) {
        let Ok(name) = random_name() else { return };
        match std::fs::rename(path, self.root.join("trash").join(name)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "cannot discard"),
        }
    }
}

/// A directory inside the store that goes to the trash when dropped.
#[derive(Debug)]
pub struct TempDir {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl TempDir {
    pub(crate) fn new(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        let path = shared.leased_path("tmp")?;
        make_private_dir(&path)?;
        Ok(Self { shared: shared.clone(), path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // An empty directory is quicker removed than moved.
        if std::fs::remove_dir(&self.path).is_err() {
            self.shared.discard(&self.path);
        }
    }
}

/// A new name of 128 random bits in hex.
pub(crate) fn random_name() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Makes a directory that only its owner may enter.
pub(crate) fn make_private_dir(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().mode(0o700).create(path).map_err(StoreError::io("create", path))
}

/// Changes with every start of the machine.
fn boot_id() -> Result<String, StoreError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(path).map_err(StoreError::io("read", path))?;
    Ok(text.trim().to_owned())
}

/// Checks the directory, or makes it a store; answers its flavour.
fn open_directory(root: &Path) -> Result<Flavour, StoreError> {
    let version_file = root.join(VERSION_FILE);
    let text = match std::fs::read_to_string(&version_file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            create_directory(root)?;
            std::fs::read_to_string(&version_file).map_err(StoreError::io("read", &version_file))?
        }
        Err(error) => return Err(StoreError::io("read", &version_file)(error)),
    };
    let found = parse_version(&text).map_err(|found| StoreError::Version {
        root: root.to_owned(),
        found,
        known: VERSION,
    })?;
    let wanted = possible_flavour(root);
    if found != wanted {
        return Err(StoreError::Flavour { root: root.to_owned(), found, wanted });
    }
    Ok(found)
}

/// The flavour in a version file, or the version that is not ours.
fn parse_version(text: &str) -> Result<Flavour, String> {
    let mut lines = text.lines();
    match (lines.next().and_then(|line| line.strip_prefix("layout ")), lines.next()) {
        (Some("1"), Some("flavour trusted")) => Ok(Flavour::Trusted),
        (Some("1"), Some("flavour user")) => Ok(Flavour::User),
        (Some(version), _) => Err(version.to_owned()),
        (None, _) => Err("of an unknown kind".to_owned()),
    }
}

/// What this process can use here. Asking for the attribute works only for those who could set it.
fn possible_flavour(root: &Path) -> Flavour {
    let mut value = [0_u8; 8];
    if rustix::fs::getxattr(root, TRUSTED_PROBE, &mut value[..]).is_ok() {
        return Flavour::Trusted;
    }
    match rustix::fs::setxattr(root, TRUSTED_PROBE, b"1", rustix::fs::XattrFlags::empty()) {
        Ok(()) => Flavour::Trusted,
        Err(_) => Flavour::User,
    }
}

/// Makes `root` a store. Several processes may do so at once; the version file comes last.
fn create_directory(root: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(root).map_err(StoreError::io("create the store", root))?;
    refuse_foreign_directory(root)?;
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(root, private).map_err(StoreError::io("make private", root))?;
    for directory in DIRECTORIES {
        let path = root.join(directory);
        builder.create(&path).map_err(StoreError::io("create", &path))?;
    }
    spread(&root.join("active"));
    let text = format!("layout {VERSION}\nflavour {}\n", possible_flavour(root).word());
    let name = random_name().map_err(StoreError::io("name", root))?;
    let aside = root.join("tmp").join(name);
    let place = root.join(VERSION_FILE);
    std::fs::write(&aside, text).map_err(StoreError::io("write", &aside))?;
    std::fs::rename(&aside, &place).map_err(StoreError::io("write", &place))
}

/// Asks the file system not to keep what is made in this directory together. Each snapshot is a tree of its own, and
/// ext4 looks for room where the directory above lies: where a build has just removed thousands of files it examines
/// and skips every one of them for each file made (it does not reuse an inode for minutes), which makes a large copy
/// three times as slow. The flag makes it choose another place for each snapshot. Other file systems refuse it and
/// lose nothing.
fn spread(directory: &Path) {
    let set = || -> Result<(), rustix::io::Errno> {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, rustix::fs::Mode::empty())?;
        let flags = rustix::fs::ioctl_getflags(&directory)?;
        rustix::fs::ioctl_setflags(&directory, flags | rustix::fs::IFlags::TOPDIR)
    };
    if let Err(error) = set() {
        tracing::debug!(%error, "the file system takes no hint where to put snapshots");
    }
}

/// A directory full of other things was named by mistake; making it private and filling it would do harm.
fn refuse_foreign_directory(root: &Path) -> Result<(), StoreError> {
    let entries = std::fs::read_dir(root).map_err(StoreError::io("read", root))?;
    for entry in entries {
        let name = entry.map_err(StoreError::io("read", root))?.file_name();
        let ours = |directory: &str| directory.split('/').next() == name.to_str();
        if name != VERSION_FILE && name != "lost+found" && !DIRECTORIES.iter().any(|name| ours(name)) {
            let message = format!("it holds `{}` and is not a store of strake", name.display());
            let error = std::io::Error::new(std::io::ErrorKind::AlreadyExists, message);
            return Err(StoreError::io("use as a store the directory", root)(error));
        }
    }
    Ok(())
}
