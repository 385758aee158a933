//! Archives that `ADD` unpacks: recognised by content, unpacked aside, then moved into place like copied files.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::Mode;
use strake_graph::pattern::Glob;
use strake_store::compress::{Codec, decoder, detect};
use strake_store::tar::{ApplyOptions, Whiteouts, apply};
use strake_store::{RootDir, TarError};

use super::plan::{CopyPlan, Source};
use super::{CopyError, CopyTarget};
use crate::build_context::{
    AtPath, Entry, EntryKind, SourceError, SourceTree, open_file_beneath, shown, sys_stat,
};

/// Limits of one archive: no image is near them, and a bomb is stopped.
const MAX_BYTES: u64 = 1 << 40;
const MAX_ENTRIES: u64 = 10_000_000;

const BLOCK: usize = 512;

/// An archive of the plan, unpacked.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// The source and the match that it is.
    pub(super) place: (usize, usize),
    pub(super) tree: SourceTree,
    /// Directories that the archive has files in but does not name.
    pub(super) implicit: HashSet<Vec<u8>>,
    /// What was left out of it, and why.
    pub(super) notes: Vec<String>,
}

/// Unpacks every archive among the files that the sources name themselves.
pub(super) fn unpack_all(plan: &CopyPlan, target: &CopyTarget<'_>) -> Result<Vec<Unpacked>, CopyError> {
    let mut archives = Vec::new();
    for (source_index, source) in plan.sources.iter().enumerate() {
        let Source::Files { tree, found, .. } = source else { continue };
        for (found_index, found) in found.iter().enumerate() {
            let Some(entry) = found.entry.map(|index| &tree.entries()[index]) else { continue };
            let place = (source_index, found_index);
            if entry.kind == EntryKind::File {
                archives.extend(unpack(tree, entry, place, target)?);
            }
        }
    }
    Ok(archives)
}

fn unpack(
    tree: &SourceTree,
    entry: &Entry,
    place: (usize, usize),
    target: &CopyTarget<'_>,
) -> Result<Option<Unpacked>, CopyError> {
    let failed = |source: TarError| CopyError::Archive { path: entry.path.clone(), source };
    let mut file = open_file_beneath(tree.root().as_fd(), &entry.path)
        .map(File::from)
        .map_err(SourceError::sys("open", &entry.path))?;
    let Some(codec) = archive_codec(&mut file).map_err(SourceError::io("read", &entry.path))? else {
        return Ok(None);
    };
    let name = format!("archive-{}-{}", place.0, place.1);
    let directory = target.scratch.join(name);
    rustix::fs::mkdir(&directory, Mode::RWXU)
        .map_err(CopyError::sys("make a place to unpack", &entry.path))?;
    let reader = file.try_clone().and_then(|file| decoder(file, codec));
    let reader = reader.map_err(SourceError::io("decompress", &entry.path))?;
    let options = ApplyOptions {
        flavour: target.flavour,
        max_bytes: MAX_BYTES,
        max_entries: MAX_ENTRIES,
        whiteouts: Whiteouts::Plain,
    };
    let applied = apply(Stoppable { reader, tree }, &directory, &options);
    tree.check()?;
    // Looked at when all was read, and before what is wrong with it is told: a change explains that too.
    check_unchanged(entry, &file)?;
    let applied = applied.map_err(failed)?;
    if let Some((link, target)) = applied.deferred_links.first() {
        let problem = format!(
            "it is a hard link to `{}`, which the archive does not hold",
            shown(&target.clone().into_os_string().into_vec())
        );
        return Err(failed(TarError::Entry {
            path: shown(&link.clone().into_os_string().into_vec()),
            problem,
        }));
    }
    let root =
        RootDir::open(&directory).map_err(CopyError::io("open what was unpacked from", &entry.path))?;
    let tree = SourceTree::of_stage_root(root, &[Glob::literal(b"")], tree.cancellation())?;
    let implicit = applied.implicit_dirs.into_iter().map(|path| path.into_os_string().into_vec()).collect();
    Ok(Some(Unpacked { place, tree, implicit, notes: applied.notes }))
}

/// Reads until the build is stopped.
struct Stoppable<'t, R> {
    reader: R,
    tree: &'t SourceTree,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tree.check().map_err(io::Error::other)?;
        self.reader.read(buffer)
    }
}

/// What is unpacked must be what the signature was made of. The file was hashed when its tree was scanned, and unlike a
/// file that is copied it is not hashed again: a decoder need not read it to its end.
fn check_unchanged(entry: &Entry, file: &File) -> Result<(), SourceError> {
    let now = sys_stat(file).map_err(SourceError::sys("stat", &entry.path))?;
    let is_same = (now.dev, now.ino, now.size) == (entry.dev, entry.ino, entry.size)
        && (now.mtime_ns, now.ctime_ns) == (entry.mtime_ns, entry.ctime_ns);
    if is_same { Ok(()) } else { Err(SourceError::Changed { path: entry.path.clone() }) }
}

/// How a file is compressed, if it is a tar; the file is then at its beginning again.
fn archive_codec(file: &mut File) -> io::Result<Option<Codec>> {
    let mut prefix = [0; BLOCK];
    let count = read_up_to(&mut *file, &mut prefix)?;
    let codec = detect(&prefix[..count]);
    file.rewind()?;
    let mut block = [0; BLOCK];
    // What cannot be decompressed is not an archive but a file, as docker sees it.
    let count =
        decoder(file.try_clone()?, codec).and_then(|reader| read_up_to(reader, &mut block)).unwrap_or(0);
    file.rewind()?;
    Ok((count == BLOCK && is_tar_header(&block)).then_some(codec))
}

fn read_up_to(reader: impl Read, buffer: &mut [u8; BLOCK]) -> io::Result<usize> {
    let mut bytes = Vec::with_capacity(BLOCK);
    reader.take(BLOCK as u64).read_to_end(&mut bytes)?;
    buffer[..bytes.len()].copy_from_slice(&bytes);
    Ok(bytes.len())
}

/// Whether the checksum of a tar header is right (POSIX.1 `pax`, ustar interchange format); signed sums of old
/// programs count too. A block of zeros has none.
fn is_tar_header(block: &[u8; BLOCK]) -> bool {
    let field = block[148..156].iter().copied().skip_while(|byte| *byte == b' ');
    let digits: Vec<u8> = field.take_while(|byte| (b'0'..=b'7').contains(byte)).collect();
    let Some(expected) = std::str::from_utf8(&digits).ok().and_then(|text| i64::from_str_radix(text, 8).ok())
    else {
        return false;
    };
    let counted = |index: usize| if (148..156).contains(&index) { b' ' } else { block[index] };
    let unsigned: i64 = (0..BLOCK).map(|index| i64::from(counted(index))).sum();
    let signed: i64 = (0..BLOCK).map(|index| i64::from(counted(index).cast_signed())).sum();
    block[0] != 0 && (expected == unsigned || expected == signed)
}
