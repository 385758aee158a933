//! Documents and their links.

use std::collections::BTreeSet;

use rusqlite::{CachedStatement, OptionalExtension, Row, Transaction, params};
use strake_oci::Digest;

use super::{Index, WriteError};
use crate::clock::now_ns;
use crate::{LayerId, StoreError};

/// What a document stands on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// A layer directory of this store.
    Layer(LayerId),
    /// A blob; it need not be in this store.
    Blob(Digest),
    /// Another document; it need not exist.
    Document {
        /// Its kind.
        kind: String,
        /// Its key.
        key: String,
    },
}

/// A small document whose meaning only the caller knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The bytes that were put.
    pub body: Vec<u8>,
    /// When it was put, in nanoseconds since 1970.
    pub created_ns: i64,
    /// When it was last used, in nanoseconds since 1970.
    pub used_ns: i64,
}

/// A document with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentEntry {
    /// The key.
    pub key: String,
    /// The document.
    pub document: Document,
}

/// A document to put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDocument {
    /// What kind of document; each kind has its own keys.
    pub kind: String,
    /// Its name within the kind.
    pub key: String,
    /// Its content.
    pub body: Vec<u8>,
    /// What it stands on: kept as long as the document is.
    pub links: Vec<Link>,
}

impl Index {
    /// The document, if there is one.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn get(&self, kind: &str, key: &str) -> Result<Option<Document>, StoreError> {
        self.read("read a document", |connection| {
            connection
                .prepare_cached(
                    "SELECT body, created_ns, used_ns FROM document WHERE kind = ?1 AND key = ?2",
                )?
                .query_row([kind, key], |row| document(row, 0))
                .optional()
        })
    }

    /// What the document stands on, sorted; empty when there is no such document.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn links(&self, kind: &str, key: &str) -> Result<Vec<Link>, StoreError> {
        let rows: Vec<(i64, String)> = self.read("read the links of a document", |connection| {
            let query = "SELECT type, target FROM link WHERE document =
                         (SELECT id FROM document WHERE kind = ?1 AND key = ?2) ORDER BY type, target";
            connection.prepare_cached(query)?.query_map([kind, key], |row| row.try_into())?.collect()
        })?;
        Ok(rows.iter().filter_map(|(code, target)| Link::decode(*code, target)).collect())
    }

    /// Puts a document, replacing one of the same key.
    ///
    /// # Errors
    /// [`StoreError::NoLayer`] when it links a layer that is not there; otherwise when the index cannot be
    /// written.
    pub fn put(&self, kind: &str, key: &str, body: &[u8], links: &[Link]) -> Result<(), StoreError> {
        self.write("write a document", |transaction, sequence| {
            put(transaction, sequence, (kind, key), body, links)
        })
    }

    /// Puts several documents in one transaction: all or none.
    ///
    /// # Errors
    /// As [`Index::put`].
    pub fn put_many(&self, documents: &[NewDocument]) -> Result<(), StoreError> {
        self.write("write documents", |transaction, sequence| {
            documents
                .iter()
                .try_for_each(|new| put(transaction, sequence, (&new.kind, &new.key), &new.body, &new.links))
        })
    }

    /// Marks documents, and with them all that they stand on, as used now, so that a collection running beside
    /// keeps them. Answers for each whether it is (still) there: one that is not must be treated as never found.
    ///
    /// What was only [read](Index::get) may be collected at any time; what was touched stays as long as this
    /// process has the store open. That holds for the layers, blobs and documents it links even when another process
    /// replaces or deletes the document meanwhile.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn touch_many(&self, documents: &[(&str, &str)]) -> Result<Vec<bool>, StoreError> {
        let now = now_ns();
        self.write("mark documents as used", |transaction, sequence| {
            let mut marker = Marker::new(transaction, now, sequence)?;
            documents.iter().map(|(kind, key)| marker.mark(kind, key)).collect()
        })
    }

    /// Removes a document; answers whether there was one.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn delete(&self, kind: &str, key: &str) -> Result<bool, StoreError> {
        self.write("delete a document", |transaction, _| {
            let query = "DELETE FROM document WHERE kind = ?1 AND key = ?2 RETURNING id";
            let id: Option<i64> =
                transaction.prepare_cached(query)?.query_row([kind, key], |row| row.get(0)).optional()?;
            if let Some(id) = id {
                transaction.prepare_cached("DELETE FROM link WHERE document = ?1")?.execute([id])?;
            }
            Ok(id.is_some())
        })
    }

    /// All documents of a kind, sorted by key.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn list(&self, kind: &str) -> Result<Vec<DocumentEntry>, StoreError> {
        self.list_prefix(kind, "")
    }

    /// The documents of a kind whose key begins with `prefix`, sorted by key.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn list_prefix(&self, kind: &str, prefix: &str) -> Result<Vec<DocumentEntry>, StoreError> {
        self.read("list documents", |connection| {
            let query = "SELECT key, body, created_ns, used_ns FROM document
                         WHERE kind = ?1 AND key >= ?2 ORDER BY key";
            let mut statement = connection.prepare_cached(query)?;
            let mut rows = statement.query([kind, prefix])?;
            let mut entries = Vec::new();
            while let Some(row) = rows.next()? {
                let key: String = row.get(0)?;
                if !key.starts_with(prefix) {
                    break;
                }
                entries.push(DocumentEntry { key, document: document(row, 1)? });
            }
            Ok(entries)
        })
    }
}

/// Marks documents and what they stand on. Each thing is marked by itself: a document may be replaced or deleted by
/// another process a moment later, and what it linked must stay all the same.
struct Marker<'a> {
    document: CachedStatement<'a>,
    links: CachedStatement<'a>,
    layer: CachedStatement<'a>,
    blob: CachedStatement<'a>,
    now: i64,
    sequence: i64,
    /// Documents already marked: links may form circles.
    seen: BTreeSet<i64>,
}

impl<'a> Marker<'a> {
    fn new(transaction: &'a Transaction<'_>, now: i64, sequence: i64) -> rusqlite::Result<Self> {
        Ok(Self {
            document: transaction.prepare_cached(
                "UPDATE document SET used_ns = max(used_ns, ?3), used_seq = ?4
                 WHERE kind = ?1 AND key = ?2 RETURNING id",
            )?,
            links: transaction.prepare_cached("SELECT type, target FROM link WHERE document = ?1")?,
            layer: transaction
                .prepare_cached("UPDATE layer SET used_ns = max(used_ns, ?2), used_seq = ?3 WHERE id = ?1")?,
            blob: transaction.prepare_cached(
                "UPDATE blob SET used_ns = max(used_ns, ?2), used_seq = ?3 WHERE digest = ?1",
            )?,
            now,
            sequence,
            seen: BTreeSet::new(),
        })
    }

    /// Marks a document with all below it; answers whether it is there.
    fn mark(&mut self, kind: &str, key: &str) -> Result<bool, WriteError> {
        let Some(id) = self.mark_document(kind, key)? else { return Ok(false) };
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            if !self.seen.insert(id) {
                continue;
            }
            let rows = self.links.query_map([id], |row| row.try_into())?;
            let rows: Vec<(i64, String)> = rows.collect::<Result<_, _>>()?;
            for link in rows.iter().filter_map(|(code, target)| Link::decode(*code, target)) {
                match link {
                    Link::Layer(layer) => {
                        self.layer.execute(params![layer.as_str(), self.now, self.sequence])?;
                    }
                    Link::Blob(digest) => {
                        self.blob.execute(params![digest.as_bytes(), self.now, self.sequence])?;
                    }
                    Link::Document { kind, key } => pending.extend(self.mark_document(&kind, &key)?),
                }
            }
        }
        Ok(true)
    }

    fn mark_document(&mut self, kind: &str, key: &str) -> rusqlite::Result<Option<i64>> {
        let parameters = params![kind, key, self.now, self.sequence];
        self.document.query_row(parameters, |row| row.get(0)).optional()
    }
}

fn document(row: &Row<'_>, first: usize) -> rusqlite::Result<Document> {
    Ok(Document { body: row.get(first)?, created_ns: row.get(first + 1)?, used_ns: row.get(first + 2)? })
}

fn put(
    transaction: &Transaction<'_>,
    sequence: i64,
    (kind, key): (&str, &str),
    body: &[u8],
    links: &[Link],
) -> Result<(), WriteError> {
    let query = "INSERT INTO document(kind, key, body, created_ns, used_ns, used_seq)
                 VALUES(?1, ?2, ?3, ?4, ?4, ?5) ON CONFLICT(kind, key) DO UPDATE SET body = excluded.body,
                 created_ns = excluded.created_ns, used_ns = excluded.used_ns, used_seq = excluded.used_seq
                 RETURNING id";
    let id: i64 = transaction
        .prepare_cached(query)?
        .query_row(params![kind, key, body, now_ns(), sequence], |row| row.get(0))?;
    transaction.prepare_cached("DELETE FROM link WHERE document = ?1")?.execute([id])?;
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO link VALUES(?1, ?2, ?3)")?;
    let mut layer_exists = transaction.prepare_cached("SELECT 1 FROM layer WHERE id = ?1")?;
    for link in links {
        if let Link::Layer(layer) = link
            && !layer_exists.exists([layer.as_str()])?
        {
            return Err(StoreError::NoLayer(layer.clone()).into());
        }
        let (code, target) = link.encode();
        insert.execute(params![id, code, target])?;
    }
    Ok(())
}

impl Link {
    /// How the link is written in its row.
    fn encode(&self) -> (i64, String) {
        match self {
            Self::Layer(layer) => (0, layer.to_string()),
            Self::Blob(digest) => (1, digest.to_string()),
            Self::Document { kind, key } => (2, format!("{kind}\0{key}")),
        }
    }

    /// The link in a row; nothing when the row makes no sense, which protects nothing and does no harm.
    pub(crate) fn decode(code: i64, target: &str) -> Option<Self> {
        match code {
            0 => target.parse().ok().map(Self::Layer),
            1 => target.parse().ok().map(Self::Blob),
            2 => {
                let (kind, key) = target.split_once('\0')?;
                Some(Self::Document { kind: kind.to_owned(), key: key.to_owned() })
            }
            _ => None,
        }
    }
}
