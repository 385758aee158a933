//! From a directory to a deterministic tar.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use super::entry::EntryHead;
use super::tree::{io, join, split};
use super::walk::{Form, Found, FoundKind, metadata_of_open, walk};
use super::write::{Header, TarWriter};
use super::{DiffOptions, DiffStats, TarError, escape};
use crate::{Flavour, RootDir, View};

/// Writes a layer directory as a deterministic tar: the same directory gives the same bytes, in
/// whatever order it was written, by whomever.
///
/// Sorted bytewise, a directory before its content; ustar headers with PAX records where these do not suffice; no user
/// and group names; whole seconds; hard links within the layer, the first name carrying the data; whiteouts and opaque
/// directories as in image-spec v1.1 `layer.md` §Whiteouts; `user.*` attributes and file capabilities.
///
/// # Errors
/// When a file cannot be read or changes meanwhile, or `out` fails.
pub fn diff(layer_dir: &Path, out: impl Write, options: &DiffOptions) -> Result<DiffStats, TarError> {
    let flavour = Flavour::of_layer_dir(layer_dir);
    let root = RootDir::open(layer_dir).map_err(|error| io("open", b"/", error))?;
    write(root.as_fd(), Form::Layer(flavour), out, options)
}

/// Writes a merged tree as a deterministic tar, as [`diff`] does a layer.
///
/// # Errors
/// As [`diff`].
pub fn flatten(view: &View, out: impl Write, options: &DiffOptions) -> Result<DiffStats, TarError> {
    write(view.root().as_fd(), Form::Merged, out, options)
}

fn write(
    root: BorrowedFd<'_>,
    form: Form,
    out: impl Write,
    options: &DiffOptions,
) -> Result<DiffStats, TarError> {
    let mut differ = Differ {
        tar: TarWriter::new(out),
        clamp: options.clamp_mtime,
        links: HashMap::new(),
        stats: DiffStats::default(),
    };
    walk(root, form, &mut |found| differ.entry(found))?;
    let mut stats = differ.stats;
    stats.bytes = differ.tar.finish().map_err(|error| io("write", b"the tar", error))?;
    Ok(stats)
}

struct Differ<W> {
    tar: TarWriter<W>,
    clamp: Option<i64>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    stats: DiffStats,
}

impl<W: Write> Differ<W> {
    fn entry(&mut self, found: Found<'_>) -> Result<(), TarError> {
        let path = found.path.to_vec();
        self.write_entry(found).map_err(|error| io("archive", &path, error)).or_else(|error| match error {
            TarError::Io { source, .. } if source.kind() == std::io::ErrorKind::Unsupported => {
                self.stats.notes.push(format!("{}: {source}, left out", escape(&path)));
                Ok(())
            }
            error => Err(error),
        })
    }

    fn write_entry(&mut self, mut found: Found<'_>) -> std::io::Result<()> {
        if found.kind == FoundKind::Whiteout {
            let (parent, name) = split(found.path);
            return self.marker(parent, &[b".wh.", name].concat());
        }
        let metadata = found.metadata;
        let mut name = Vec::new();
        let head = EntryHead {
            path: found.path,
            entry_type: metadata.entry_type,
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            size: metadata.size,
            mtime_s: self.mtime(metadata.mtime_s),
            rdev: metadata.rdev,
            link: &found.link,
        };
        let mut header = head.header(&found.xattrs, &mut name)?;
        self.stats.entries += 1;
        let first = (!metadata.is_dir() && metadata.nlink > 1).then_some((metadata.dev, metadata.ino));
        if let Some(first) = first.and_then(|id| self.links.get(&id)) {
            header.flag = b'1';
            header.size = 0;
            header.link = first;
            header.xattrs = &[];
            header.device = (0, 0);
            return self.tar.header(&header);
        }
        if let Some(file) = found.file.take() {
            let now = metadata_of_open(file.as_fd())?;
            if (now.dev, now.ino, now.size) != (metadata.dev, metadata.ino, metadata.size) {
                return Err(std::io::Error::other("it changed while being read"));
            }
            self.tar.header(&header)?;
            self.tar.content(&mut File::from(file), metadata.size)?;
        } else {
            self.tar.header(&header)?;
        }
        if let Some(id) = first {
            self.links.insert(id, found.path.to_vec());
        }
        if found.kind == FoundKind::OpaqueDirectory {
            self.marker(found.path, b".wh..wh..opq")?;
        }
        Ok(())
    }

    /// An empty file whose name is its meaning.
    fn marker(&mut self, parent: &[u8], name: &[u8]) -> std::io::Result<()> {
        self.stats.entries += 1;
        self.tar.header(&Header {
            path: &join(parent, name),
            link: b"",
            flag: b'0',
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            device: (0, 0),
            xattrs: &[],
        })
    }

    /// Whole seconds, rounded down, not later than asked for.
    fn mtime(&self, seconds: i64) -> i64 {
        self.clamp.map_or(seconds, |clamp| seconds.min(clamp))
    }
}
