//! Documents, and what is known of layers and blobs: one SQLite database in WAL mode, shared by all processes.
//!
//! Rules that everything here keeps: the busy timeout is set before anything else; every write is a
//! `BEGIN IMMEDIATE`, since a read transaction upgraded late fails at once; a row is written after the file it
//! names is in place and deleted before the file goes. Whoever puts a file in place or takes it away does so
//! while holding the write lock, so the two can never pass each other.
//!
//! *Order instead of time*: each writing transaction takes the next number of a counter, and rows carry the
//! number of their last use. A collection compares these numbers with the one a lease was given, so a clock that
//! jumps cannot make it remove what is in use.

mod documents;
mod layers;
mod recover;
mod stat_cache;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

pub use documents::{Document, DocumentEntry, Link, NewDocument};
pub(crate) use layers::LayerRow;
pub(crate) use recover::Recovery;
pub(crate) use stat_cache::directory_of_stat_cache;
pub use stat_cache::{FileStat, StatCache};

use crate::StoreError;

/// How long a writer waits for another one. Transactions last milliseconds; a minute means something hangs.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);

/// The schema that this program writes, in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES('seq', 0);
CREATE TABLE document(
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL,
    created_ns INTEGER NOT NULL, used_ns INTEGER NOT NULL, used_seq INTEGER NOT NULL, UNIQUE(kind, key));
CREATE TABLE link(
    document INTEGER NOT NULL, type INTEGER NOT NULL, target TEXT NOT NULL,
    PRIMARY KEY(document, type, target)) WITHOUT ROWID;
CREATE TABLE layer(
    id TEXT PRIMARY KEY, diff_id BLOB, tar_size INTEGER, content BLOB, size_on_disk INTEGER, boot_id TEXT,
    created_ns INTEGER NOT NULL, used_ns INTEGER NOT NULL, used_seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX layer_diff_id ON layer(diff_id) WHERE diff_id IS NOT NULL;
CREATE TABLE blob(
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, boot_id TEXT,
    created_ns INTEGER NOT NULL, used_ns INTEGER NOT NULL, used_seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE layer_blob(
    position INTEGER PRIMARY KEY, diff_id BLOB NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL,
    compression INTEGER NOT NULL, UNIQUE(diff_id, digest));
PRAGMA user_version = 1;
";

/// The index of a store. May be used from several threads; they take turns.
#[derive(Debug)]
pub struct Index {
    connection: Mutex<Connection>,
    database: PathBuf,
    stat_dir: PathBuf,
    boot_id: String,
}

impl Index {
    /// Opens the database, which need not exist yet. Answers `true` when it was made just now.
    ///
    /// # Errors
    /// [`StoreError::IndexDamaged`] when it is no database or one that cannot be read.
    pub(crate) fn open(
        database: &Path,
        stat_dir: &Path,
        boot_id: String,
    ) -> Result<(Self, bool), StoreError> {
        let failed = |source| index_error(database, "open", source);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let mut connection = Connection::open_with_flags(database, flags).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        // A checkpoint at the end of every short-lived process would cost it an fsync; the sweep does it instead.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(64);
        let created = Self::ensure_schema(&mut connection).map_err(failed)?;
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
        let index = Self {
            connection: Mutex::new(connection),
            database: database.to_owned(),
            stat_dir: stat_dir.to_owned(),
            boot_id,
        };
        Ok((index, created))
    }

    fn ensure_schema(connection: &mut Connection) -> rusqlite::Result<bool> {
        let version = |connection: &Connection| {
            connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
        };
        if version(connection)? == SCHEMA_VERSION {
            return Ok(false);
        }
        // A new database holds nothing yet that a power loss could take: seven times waiting for the disk is most of
        // what making a store costs. One that is torn is found damaged, and made anew.
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let created = version(&transaction)? != SCHEMA_VERSION;
        if created {
            transaction.execute_batch(SCHEMA)?;
        }
        transaction.commit()?;
        Ok(created)
    }

    /// The number of the last writing transaction.
    pub(crate) fn sequence(&self) -> Result<i64, StoreError> {
        self.read("read the sequence", sequence)
    }

    /// Runs `body` on the connection; nothing may be written.
    fn read<T>(
        &self,
        action: &'static str,
        body: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        body(&self.lock()).map_err(|source| index_error(&self.database, action, source))
    }

    /// Runs `body` in a transaction that holds the write lock from the start. It gets the transaction's number.
    pub(crate) fn write<T>(
        &self,
        action: &'static str,
        body: impl FnOnce(&Transaction<'_>, i64) -> Result<T, WriteError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let run = |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.prepare_cached("UPDATE meta SET value = value + 1 WHERE key = 'seq'")?.execute([])?;
            let sequence = sequence(&transaction)?;
            let result = body(&transaction, sequence)?;
            transaction.commit()?;
            Ok(result)
        };
        run(&mut connection).map_err(|error| match error {
            WriteError::Sqlite(source) => index_error(&self.database, action, source),
            WriteError::Store(error) => error,
        })
    }

    /// Moves what the log holds into the database file, with all its syncing.
    pub(crate) fn checkpoint(&self) -> Result<(), StoreError> {
        self.read("checkpoint", |connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while the lock was held rolled its transaction back; the connection itself is sound.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sequence(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT value FROM meta WHERE key = 'seq'")?.query_row([], |row| row.get(0))
}

/// Why the body of a transaction gave up.
#[derive(Debug)]
pub(crate) enum WriteError {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for WriteError {
    fn from(source: rusqlite::Error) -> Self {
        Self::Sqlite(source)
    }
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Tells damage from everything else, and leaves a mark so that the next opening rebuilds the index.
fn index_error(database: &Path, action: &'static str, source: rusqlite::Error) -> StoreError {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            // Without the mark the error merely shows up again, so a failure to leave it changes nothing.
            let _ = std::fs::write(damage_mark(database), b"");
            StoreError::IndexDamaged { path: database.to_owned(), reason: source.to_string() }
        }
        _ => StoreError::Index { action, source },
    }
}

/// The file that says that the database was found damaged.
pub(crate) fn damage_mark(database: &Path) -> PathBuf {
    database.with_extension("damaged")
}

/// Digests are kept as 32 bytes.
fn digest_of(bytes: &[u8]) -> rusqlite::Result<strake_oci::Digest> {
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| {
        let kind = rusqlite::types::Type::Blob;
        rusqlite::Error::FromSqlConversionFailure(bytes.len(), kind, "a digest has 32 bytes".into())
    })?;
    Ok(strake_oci::Digest::from_bytes(bytes))
}

/// SQLite has signed numbers only; no size here comes near the limit.
fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn unsigned(size: i64) -> u64 {
    u64::try_from(size).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_database_is_written_without_the_disk_and_used_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            Index::open(&directory.path().join("index.db"), &directory.path().join("stat"), "boot".to_owned())
        };
        for expect_created in [true, false] {
            let (index, created) = open().unwrap();
            assert_eq!(created, expect_created);
            let ask = |pragma: &str| {
                let connection = index.lock();
                connection
                    .query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, rusqlite::types::Value>(0))
            };
            // NORMAL: the log is synced before the database takes over what it holds.
            assert_eq!(ask("synchronous").unwrap(), rusqlite::types::Value::Integer(1));
            assert_eq!(ask("journal_mode").unwrap(), rusqlite::types::Value::Text("wal".to_owned()));
        }
    }
}
