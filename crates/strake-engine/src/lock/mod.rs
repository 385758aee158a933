//! Locks that see to it that two processes never build the same step at once.
//!
//! Locks only save work: records are content-addressed and written whole, so a lock that is lost or a file system
//! without locks costs a step built twice, never a wrong result.
//!
//! One lock is one file, `locks/<signature>`, held by `flock(2)` and saying inside who holds it. The kernel lets go
//! when the holder dies, however it dies. A lock file is never removed while anybody holds it: collection
//! (`strake_store::gc`) removes it only while holding it alone, and whoever acquires looks whether the file it locked
//! is still the one the name stands for.
//!
//! A cache mount is guarded by `locks/cache-<hex>`, which steps that share the mount hold together. Everybody who
//! takes a lock writes into it, so the time of that file says when the mount was last used.

mod shared;

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::event::Holder;

/// Why a lock cannot be taken.
#[derive(Debug, thiserror::Error)]
#[error("lock {path}: {source}")]
pub struct LockError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

pub use shared::{SharedLease, SharedLocks};

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub struct Lease {
    _file: File,
}

/// The lock files of one store.
#[derive(Debug, Clone)]
pub struct FileLocks {
    directory: PathBuf,
}

/// How a lock is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Nobody else has it meanwhile.
    Alone,
    /// Together with others who share it. Who waits to have it alone reads of the last who came.
    Shared,
}

/// What one attempt gave.
#[derive(Debug)]
pub enum Attempt {
    /// The lock, until the lease is dropped.
    Held(Lease),
    /// Somebody has it; who, unless he has only just taken it.
    Busy(Option<Holder>),
}

/// Somebody who waits until a lock is free.
pub struct Waiter<'a> {
    /// What others will read while they wait.
    pub me: &'a Holder,
    /// Hears that there is a wait, and for whom.
    pub hears: &'a mut dyn FnMut(Waiting),
    /// Whether there is no point in waiting any more.
    pub gives_up: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Waiter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiter").field("me", self.me).finish_non_exhaustive()
    }
}

/// What a waiter hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// The lock is not free. Comes first, and once.
    Begun,
    /// Another process has it; comes again when that changes. Of this process nothing is said: what it does is seen
    /// already.
    For(Holder),
}

impl FileLocks {
    /// How long a waiter sleeps between two attempts: at first as long as a short step takes, later long enough not
    /// to be noticed among a hundred waiters.
    const PAUSES: [Duration; 4] = [
        Duration::from_millis(2),
        Duration::from_millis(5),
        Duration::from_millis(20),
        Duration::from_millis(50),
    ];

    /// The locks in a directory.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Takes the lock, however long that takes; nothing when the waiter gave up.
    ///
    /// # Errors
    /// When the lock's file cannot be made or locked.
    pub fn acquire(&self, name: &str, hold: Hold, waiter: Waiter<'_>) -> Result<Option<Lease>, LockError> {
        let mut told = None;
        for attempt in 0.. {
            let holder = match self.try_acquire(name, hold, waiter.me)? {
                Attempt::Held(lease) => return Ok(Some(lease)),
                Attempt::Busy(holder) => holder,
            };
            if attempt == 0 {
                (waiter.hears)(Waiting::Begun);
            }
            let is_us = |holder: &Holder| (holder.pid, &holder.host) == (waiter.me.pid, &waiter.me.host);
            if let Some(holder) = holder.filter(|holder| !is_us(holder))
                && told.as_ref() != Some(&holder)
            {
                (waiter.hears)(Waiting::For(holder.clone()));
                told = Some(holder);
            }
            if (waiter.gives_up)() {
                return Ok(None);
            }
            std::thread::sleep(Self::PAUSES[attempt.min(Self::PAUSES.len() - 1)]);
        }
        unreachable!("the attempts do not end by themselves")
    }

    /// Takes the lock if it is free. `me` is what others will read while they wait.
    ///
    /// # Errors
    /// When the lock's file cannot be made or locked.
    pub fn try_acquire(&self, name: &str, hold: Hold, me: &Holder) -> Result<Attempt, LockError> {
        match hold {
            Hold::Alone => self.attempt(name, me, File::try_lock),
            Hold::Shared => self.attempt(name, me, File::try_lock_shared),
        }
    }

    fn attempt(
        &self,
        name: &str,
        me: &Holder,
        try_lock: impl Fn(&File) -> Result<(), TryLockError>,
    ) -> Result<Attempt, LockError> {
        let path = self.directory.join(name);
        let failed = |source| LockError { path: path.clone(), source };
        loop {
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed)?;
            match try_lock(&file) {
                Ok(()) if is_current(&file, &path) => {
                    write_holder(&mut file, me).map_err(failed)?;
                    return Ok(Attempt::Held(Lease { _file: file }));
                }
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => return Ok(Attempt::Busy(read_holder(&mut file))),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }
}

/// Whether the locked file is still the one the name stands for.
fn is_current(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn write_holder(file: &mut File, me: &Holder) -> std::io::Result<()> {
    let text = format!("{}\n{}\n{}\n{}\n", me.pid, me.since, me.host, me.what.replace('\n', " "));
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())
}

/// Who holds the lock; `None` in the instant between locking and writing.
fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    let pid = lines.next()?.parse().ok()?;
    let since = lines.next()?.parse().ok()?;
    let host = lines.next()?.to_owned();
    let what = lines.next()?.to_owned();
    Some(Holder { pid, host, since, what })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn me(pid: u32) -> Holder {
        Holder { pid, host: "here".into(), since: 7, what: "RUN true".into() }
    }

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let directory = tempfile::tempdir().unwrap();
        let locks = FileLocks::new(directory.path().to_owned());
        let held = locks.try_acquire("a", Hold::Alone, &me(1)).unwrap();
        assert!(matches!(held, Attempt::Held(_)));
        match locks.try_acquire("a", Hold::Alone, &me(2)).unwrap() {
            Attempt::Busy(holder) => assert_eq!(holder, Some(me(1))),
            Attempt::Held(_) => panic!("held twice"),
        }
        assert!(matches!(locks.try_acquire("b", Hold::Alone, &me(2)).unwrap(), Attempt::Held(_)));
        drop(held);
        assert!(matches!(locks.try_acquire("a", Hold::Alone, &me(2)).unwrap(), Attempt::Held(_)));
    }

    #[test]
    fn those_who_share_keep_out_who_wants_it_alone() {
        let directory = tempfile::tempdir().unwrap();
        let locks = FileLocks::new(directory.path().to_owned());
        let first = locks.try_acquire("a", Hold::Shared, &me(1)).unwrap();
        let second = locks.try_acquire("a", Hold::Shared, &me(2)).unwrap();
        assert!(matches!((&first, &second), (Attempt::Held(_), Attempt::Held(_))));
        drop(first);
        match locks.try_acquire("a", Hold::Alone, &me(3)).unwrap() {
            Attempt::Busy(holder) => assert_eq!(holder, Some(me(2))),
            Attempt::Held(_) => panic!("held alone while it is shared"),
        }
        drop(second);
        let alone = locks.try_acquire("a", Hold::Alone, &me(3)).unwrap();
        assert!(matches!(alone, Attempt::Held(_)));
        assert!(matches!(locks.try_acquire("a", Hold::Shared, &me(4)).unwrap(), Attempt::Busy(_)));
    }

    #[test]
    fn a_removed_file_is_not_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let locks = FileLocks::new(directory.path().to_owned());
        let _old = locks.try_acquire("a", Hold::Alone, &me(1)).unwrap();
        std::fs::remove_file(directory.path().join("a")).unwrap();
        let new = locks.try_acquire("a", Hold::Alone, &me(2)).unwrap();
        assert!(matches!(new, Attempt::Held(_)));
        assert!(matches!(locks.try_acquire("a", Hold::Alone, &me(3)).unwrap(), Attempt::Busy(_)));
    }

    #[test]
    fn a_waiter_hears_of_each_holder_once_and_has_the_lock_when_it_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let locks = FileLocks::new(directory.path().to_owned());
        let hold = |pid| locks.try_acquire("a", Hold::Alone, &me(pid)).unwrap();
        let mut held = Some(hold(1));
        let (mut heard, attempts) = (Vec::new(), Cell::new(0));
        let gives_up = || {
            attempts.set(attempts.get() + 1);
            false
        };
        // Who has it lets go as soon as somebody waits for it; then another has it, and lets go as well.
        let mut hears = |waiting: Waiting| {
            match &waiting {
                Waiting::Begun => assert!(heard.is_empty()),
                Waiting::For(holder) if holder.pid == 1 => {
                    held = None;
                    held = Some(hold(2));
                }
                Waiting::For(_) => held = None,
            }
            heard.push(waiting);
        };
        let waiter = Waiter { me: &me(3), hears: &mut hears, gives_up: &gives_up };
        assert!(locks.acquire("a", Hold::Alone, waiter).unwrap().is_some());
        assert_eq!(heard, [Waiting::Begun, Waiting::For(me(1)), Waiting::For(me(2))]);
        assert_eq!(attempts.get(), 2);
    }

    #[test]
    fn a_waiter_gives_up_and_hears_nothing_of_its_own_process() {
        let directory = tempfile::tempdir().unwrap();
        let locks = FileLocks::new(directory.path().to_owned());
        let _held = locks.try_acquire("a", Hold::Shared, &me(1)).unwrap();
        let mut heard = Vec::new();
        let left = Cell::new(3);
        let gives_up = || {
            left.set(left.get() - 1);
            left.get() == 0
        };
        let waiter = Waiter { me: &me(1), hears: &mut |waiting| heard.push(waiting), gives_up: &gives_up };
        assert!(locks.acquire("a", Hold::Alone, waiter).unwrap().is_none());
        assert_eq!(heard, [Waiting::Begun]);
        let waiter = Waiter { me: &me(1), hears: &mut |_| panic!("nobody waits"), gives_up: &|| true };
        assert!(locks.acquire("a", Hold::Shared, waiter).unwrap().is_some());
    }
}
