//! Tidying the store behind the user's back: emptying its trash, making durable what was written, and giving space
//! back when its volume is too full.
//!
//! Removing a large tree and syncing a file system take longer than many a build, and nobody should wait for them. So
//! a command leaves them to a short-lived process of its own, at the lowest priority, when it has ended. Killing that
//! process at any time does no harm: the next one goes on where it stopped. What a running build uses stays.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use strake_store::gc;
use strake_store::room::{Room, RoomLimit};
use strake_store::{Store, StoreError, StoreOptions};

use crate::commands::room;

/// The hidden first argument that makes this program tidy the store named by the second. The third is how much the store
/// may take, if it is to be looked at.
pub(crate) const TIDY_ARG: &str = "__strake-tidy";

/// How long nobody looks whether the store takes too much after somebody did with the same limit: what others fill the
/// volume with does not go by looking again.
const PAUSE: Duration = Duration::from_secs(600);

/// Tidies a store when a command has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tidying<'a> {
    /// The store.
    pub(crate) store: &'a Store,
    /// How much it may take, if that is limited.
    pub(crate) limit: Option<RoomLimit>,
}

impl Tidying<'_> {
    /// Whether the store may take too much. Costs a look at the file system, no more.
    pub(crate) fn is_due(&self) -> bool {
        let Some(limit) = self.limit else { return false };
        let is_full = match limit {
            RoomLimit::Bytes(_) => true,
            RoomLimit::Volume(percent) => {
                Room::of(self.store).is_ok_and(|room| room.percent() > u64::from(percent))
            }
        };
        is_full && !was_looked_at(&mark(self.store), limit)
    }

    /// Starts the process that tidies, and does not wait for it.
    pub(crate) fn later(&self) {
        let mut command = Command::new("/proc/self/exe");
        command.arg(TIDY_ARG).arg(self.store.root());
        command.args(self.limit.map(|limit| limit.to_string()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        if let Err(error) = command.spawn() {
            tracing::debug!("cannot tidy the store: {error}");
        }
    }
}

/// The file that has the limit that somebody looked with last, and whose time says when.
fn mark(store: &Store) -> PathBuf {
    store.lock_dir().join("room")
}

fn was_looked_at(mark: &Path, limit: RoomLimit) -> bool {
    let looked = std::fs::metadata(mark).and_then(|metadata| metadata.modified());
    looked.is_ok_and(|looked| SystemTime::now().duration_since(looked).unwrap_or_default() < PAUSE)
        && std::fs::read(mark).is_ok_and(|found| found == limit.to_string().as_bytes())
}

/// Tidies a store. Nobody listens, so a failure is only for whoever traces; the next command tries again.
pub(crate) fn tidy_main(store: Option<OsString>, limit: Option<OsString>) {
    // Not being a child of a terminal's session any more, it survives the end of that.
    let _ = rustix::process::setsid();
    let _ = rustix::process::nice(19);
    let Some(store) = store else { return };
    let limit = limit.and_then(|limit| limit.to_str()?.parse().ok());
    let tidied = Store::open(Path::new(&store), &StoreOptions::default()).and_then(|store| {
        store.sweep()?;
        limit.map_or(Ok(()), |limit| make_room(&store, limit))
    });
    if let Err(error) = tidied {
        tracing::debug!("cannot tidy the store: {error}");
    }
}

/// Removes what was used least, unless another process does.
fn make_room(store: &Store, limit: RoomLimit) -> Result<(), StoreError> {
    let mark = mark(store);
    let Ok(mut file) = File::options().create(true).append(true).open(&mark) else { return Ok(()) };
    if file.try_lock().is_err() || was_looked_at(&mark, limit) {
        return Ok(());
    }
    // Writing moves the time of the file, too.
    if file.set_len(0).and_then(|()| file.write_all(limit.to_string().as_bytes())).is_err() {
        tracing::debug!("cannot note that the store was looked at");
    }
    if let Some(policy) = room::judge(store, limit)?.policy {
        gc::prune(store, &policy)?;
        store.sweep()?;
    }
    Ok(())
}
