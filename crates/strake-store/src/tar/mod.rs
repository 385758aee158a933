//! Layers as tar streams and as directories in overlay form.
//!
//! A layer is a changeset (image-spec v1.1 `layer.md`): files to add or replace, and marks for what is deleted. On disk
//! it has the form that overlayfs mounts without further ado; on the wire it is a tar. Both say the same:
//!
//! | | tar | directory |
//! |---|---|---|
//! | `x` is deleted | empty file `.wh.x` | character device 0:0 named `x` |
//! | the directory starts empty | empty file `.wh..wh..opq` in it | attribute `overlay.opaque` = `y` |
//! | a file with several names | the first carries the data, the others are hard links | hard links |
//! | the root directory's own mode and owner | an entry `./` | attribute `overlay.strake-root` = `y` |
//!
//! (The attributes begin with `trusted.` or `user.`, see [`Flavour`](crate::Flavour). Overlayfs hides them from
//! whoever looks at the merged tree, and none of them ever enters a tar or comes out of one.)
//!
//! **Directory to tar** ([`diff`]) is a function of the directory: sorted, whole seconds, one dialect. The same layer
//! gives the same bytes on every machine and for every user; file capabilities lose the id of their user namespace.
//!
//! **Tar to directory** ([`apply`]) reads what others wrote, among them people who mean harm. Nothing is looked up by
//! path: `tree` goes down one component at a time, on open directories, and follows links itself, within the new
//! directory. Nothing is allocated by a length that the stream claims. The order is: write, owner (which clears setuid
//! bits and capabilities), mode, attributes, times; directories last and deepest first, since writing into one changes
//! its time, and until then nobody else may enter it. What an earlier entry put in place is replaced by a later one.
//!
//! **What a tar leaves to the layers below** cannot be known while it is applied, since the layers of an image are
//! unpacked at the same time. [`settle`] does it afterwards:
//! - a tar with `a/b/file` need not have `a/b/`. In the merged tree the uppermost directory decides, so the one that
//!   had to be made takes mode, owner, attributes and time from below (or `/tmp` would lose its 1777);
//! - where the layers below have a *link* `lib -> usr/lib`, a file `lib/x` belongs to `usr/lib/x`; a directory `lib`
//!   left in the layer would hide all that the link led to;
//! - a hard link to a file of a layer below becomes a copy of it, as overlayfs itself would make it.

mod apply;
mod attributes;
mod content;
mod diff;
mod entry;
mod read;
mod settle;
mod tree;
mod walk;
mod write;

use std::path::PathBuf;

pub use apply::apply;
pub use content::{Times, content_digest};
pub use diff::{diff, flatten};
pub use entry::EntryHead;
pub use settle::settle;
pub use write::{END, padding};

use crate::Flavour;

/// What is wrong with a tar, or with writing or reading its files.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// A file operation failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The path inside the layer.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The stream is not a proper tar, or asks for something that is refused.
    #[error("tar entry `{path}`: {problem}")]
    Entry {
        /// The path as the tar gives it, with odd bytes escaped.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The stream cannot be read as tar at all.
    #[error("tar at byte {offset}: {problem}")]
    Malformed {
        /// Where in the uncompressed stream.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// A limit was reached.
    #[error("the tar has more than {limit} {what}, the limit set for one layer")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

/// How to apply a tar.
#[derive(Debug, Clone, Copy)]
pub struct ApplyOptions {
    /// Which attributes mark opaque directories.
    pub flavour: Flavour,
    /// The most bytes that all files may have together, holes counted.
    pub max_bytes: u64,
    /// The most entries.
    pub max_entries: u64,
    /// What names with `.wh.` mean: whiteouts in a layer, plain names in an archive added by ADD.
    pub whiteouts: Whiteouts,
}

/// What a name that begins with `.wh.` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// Deletes what is below, as in a layer.
    Layer,
    /// Is a file like any other, as in an archive that is added.
    Plain,
}

/// What applying a tar did.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// How many entries it had.
    pub entries: u64,
    /// The bytes of its files, holes counted.
    pub bytes: u64,
    /// Directories that entries needed and the tar did not have; the empty path is the root.
    pub implicit_dirs: Vec<PathBuf>,
    /// Hard links to files that the tar does not have: (new name, target).
    pub deferred_links: Vec<(PathBuf, PathBuf)>,
    /// What was left out, for people to read; at most one hundred.
    pub notes: Vec<String>,
}

/// How to write a tar.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiffOptions {
    /// Times later than this, in seconds since 1970, are written as this (`SOURCE_DATE_EPOCH`).
    pub clamp_mtime: Option<i64>,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffStats {
    /// Entries, whiteouts included.
    pub entries: u64,
    /// Bytes of the tar.
    pub bytes: u64,
    /// What could not be expressed, for people to read.
    pub notes: Vec<String>,
}

/// A path for people to read: bytes that are not printable text are escaped, and an endless one is cut.
fn escape(path: &[u8]) -> String {
    let cut = &path[..path.len().min(256)];
    let mut text: String = cut
        .utf8_chunks()
        .flat_map(|chunk| {
            let valid = chunk.valid().chars().flat_map(|char| {
                let plain = (!char.is_control()).then_some(char);
                let escaped = char.is_control().then(|| char.escape_default()).into_iter().flatten();
                plain.into_iter().chain(escaped)
            });
            let invalid =
                chunk.invalid().iter().flat_map(|byte| format!("\\x{byte:02x}").chars().collect::<Vec<_>>());
            valid.chain(invalid).collect::<Vec<_>>()
        })
        .collect();
    if cut.len() < path.len() {
        text.push('\u{2026}');
    }
    text
}
