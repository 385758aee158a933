//! Reading the files of an archive by name: a directory, or a tar that is indexed once and then read in place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strake_store::compress::{Codec, detect};
use strake_store::{RootDir, TempDir};

use super::error::ImageError;
use super::import::open_compressed;
use crate::request::Environment;

/// More files than any archive of images has.
const MAX_ENTRIES: usize = 1_000_000;
/// The longest name, or PAX record set, that is read, in bytes.
const MAX_NAME: u64 = 1 << 20;
/// How many links are followed: old archives link a layer that several images share.
const MAX_LINKS: usize = 8;
const BLOCK: u64 = 512;

/// An archive of images.
pub(crate) struct Archive {
    what: String,
    kind: Kind,
    /// Holds the unpacked form of a compressed or streamed archive.
    _spool: Option<TempDir>,
}

enum Kind {
    Directory(RootDir),
    Tar { file: Arc<File>, entries: BTreeMap<String, Entry> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    File { offset: u64, size: u64 },
    Link(String),
}

impl Archive {
    pub(crate) fn open(env: &Environment<'_>, path: &Path) -> Result<Self, ImageError> {
        let what = path.display().to_string();
        let metadata = std::fs::metadata(path).map_err(ImageError::io("read archive", path))?;
        if metadata.is_dir() {
            let root = RootDir::open(path).map_err(ImageError::io("open directory", path))?;
            return Ok(Self { what, kind: Kind::Directory(root), _spool: None });
        }
        let file = File::open(path).map_err(ImageError::io("open archive", path))?;
        let mut prefix = [0; 8];
        let is_plain = metadata.is_file()
            && file.read_at(&mut prefix, 0).map_err(ImageError::io("read archive", path))? == prefix.len()
            && detect(&prefix) == Codec::None;
        if is_plain { Self::of_tar(what, file, None) } else { Self::spool(env, what, file) }
    }

    /// Reads a stream to its end into a file of the store.
    pub(crate) fn spool(
        env: &Environment<'_>,
        what: String,
        stream: impl Read + Send,
    ) -> Result<Self, ImageError> {
        let directory = env.store.temp_dir()?;
        let path = directory.path().join("archive");
        let mut tar = open_compressed(stream, &what)?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(ImageError::io("create", &path))?;
        io::copy(&mut tar, &mut file).map_err(ImageError::io("unpack archive to", &path))?;
        Self::of_tar(what, file, Some(directory))
    }

    fn of_tar(what: String, file: File, spool: Option<TempDir>) -> Result<Self, ImageError> {
        let size = file.metadata().map_err(ImageError::io("read archive", &what))?.len();
        let file = Arc::new(file);
        let entries = index(&file, size).map_err(|problem| ImageError::malformed(&what, problem))?;
        Ok(Self { what, kind: Kind::Tar { file, entries }, _spool: spool })
    }

    /// What people call the archive.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Whether there is a file of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        match &self.kind {
            Kind::Directory(root) => root.open_file(Path::new(name)).is_ok(),
            Kind::Tar { entries, .. } => entries.contains_key(name),
        }
    }

    /// Opens a file.
    pub(crate) fn file(&self, name: &str) -> Result<Box<dyn Read + Send>, ImageError> {
        let missing = |problem: String| ImageError::malformed(&self.what, problem);
        match &self.kind {
            Kind::Directory(root) => {
                let file = root
                    .open_file(Path::new(name))
                    .map_err(|error| missing(format!("file {name}: {error}")))?;
                Ok(Box::new(file))
            }
            Kind::Tar { file, entries } => {
                let (offset, size) = find(entries, name).map_err(missing)?;
                Ok(Box::new(Slice { file: Arc::clone(file), position: offset, end: offset + size }))
            }
        }
    }

    /// The whole content of a small file.
    pub(crate) fn read(&self, name: &str, max: u64) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let result = self.file(name)?.take(max + 1).read_to_end(&mut bytes);
        result.map_err(|error| ImageError::malformed(&self.what, format!("file {name}: {error}")))?;
        if bytes.len() as u64 > max {
            return Err(ImageError::malformed(&self.what, format!("file {name} is larger than {max} bytes")));
        }
        Ok(bytes)
    }
}

/// Follows links to a file.
fn find(entries: &BTreeMap<String, Entry>, name: &str) -> Result<(u64, u64), String> {
    let mut name = normalise(name)?;
    for _ in 0..=MAX_LINKS {
        match entries.get(&name) {
            Some(Entry::File { offset, size }) => return Ok((*offset, *size)),
            Some(Entry::Link(target)) => name.clone_from(target),
            None => return Err(format!("there is no file {name} in it")),
        }
    }
    Err(format!("file {name}: too many links"))
}

/// A part of a file.
struct Slice {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..wanted], self.position)?;
        if count == 0 && wanted > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends early"));
        }
        self.position += count as u64;
        Ok(count)
    }
}

/// What an extension header says of the entry that follows.
#[derive(Default)]
struct Extension {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

fn index(file: &File, end: u64) -> Result<BTreeMap<String, Entry>, String> {
    let mut entries = BTreeMap::new();
    let mut extension = Extension::default();
    let mut offset = 0;
    while offset + BLOCK <= end {
        let mut block = [0; 512];
        file.read_exact_at(&mut block, offset).map_err(|error| error.to_string())?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(entries);
        }
        let header = tar::Header::from_byte_slice(&block);
        let malformed = |problem: &str| format!("not a tar, or damaged: {problem} at byte {offset}");
        check_sum(&block).then_some(()).ok_or_else(|| malformed("wrong header checksum"))?;
        let size = match extension.size.take() {
            Some(size) => size,
            None => header.entry_size().map_err(|_| malformed("unreadable size"))?,
        };
        let data = offset + BLOCK;
        let after = data
            .checked_add(size)
            .filter(|after| *after <= end)
            .ok_or_else(|| malformed("an entry runs past the end"))?;
        match header.entry_type() {
            tar::EntryType::XHeader => read_pax(&read_text(file, data, size)?, &mut extension)?,
            tar::EntryType::GNULongName => extension.path = Some(text(&read_text(file, data, size)?)),
            tar::EntryType::GNULongLink => extension.link = Some(text(&read_text(file, data, size)?)),
            tar::EntryType::XGlobalHeader => {}
            kind => {
                let names = std::mem::take(&mut extension);
                let name =
                    names.path.unwrap_or_else(|| String::from_utf8_lossy(&header.path_bytes()).into_owned());
                let name = normalise(&name)?;
                let link = names.link.or_else(|| {
                    header.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned())
                });
                if let Some(entry) = entry(kind, &name, link, data, size)? {
                    entries.insert(name, entry);
                }
                if entries.len() > MAX_ENTRIES {
                    return Err(format!("it has more than {MAX_ENTRIES} entries"));
                }
            }
        }
        offset = after.next_multiple_of(BLOCK);
    }
    if entries.is_empty() { Err("it is neither a tar nor a directory".to_owned()) } else { Ok(entries) }
}

fn entry(
    kind: tar::EntryType,
    name: &str,
    link: Option<String>,
    offset: u64,
    size: u64,
) -> Result<Option<Entry>, String> {
    Ok(match kind {
        tar::EntryType::Regular | tar::EntryType::Continuous => Some(Entry::File { offset, size }),
        tar::EntryType::Link => Some(Entry::Link(normalise(&link.unwrap_or_default())?)),
        tar::EntryType::Symlink => {
            let parent = Path::new(name).parent().unwrap_or(Path::new(""));
            let target: PathBuf = parent.join(link.unwrap_or_default());
            // A link that leads out is no file of the archive; it is an error only for who asks for it.
            join_up(&target).map(Entry::Link)
        }
        _ => None,
    })
}

/// Takes `..` back textually; nothing when it leads out.
fn join_up(path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.to_str()?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn normalise(name: &str) -> Result<String, String> {
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") || name.contains('\0') {
        return Err(format!("the name `{}` leads out of it", name.escape_debug()));
    }
    Ok(parts.join("/"))
}

fn check_sum(block: &[u8; 512]) -> bool {
    let said = tar::Header::from_byte_slice(block).cksum();
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    said.is_ok_and(|said| said == sum)
}

fn read_text(file: &File, offset: u64, size: u64) -> Result<Vec<u8>, String> {
    if size > MAX_NAME {
        return Err(format!("a name of {size} bytes at byte {offset} is longer than {MAX_NAME}"));
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(|error| error.to_string())?];
    file.read_exact_at(&mut bytes, offset).map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn read_pax(bytes: &[u8], extension: &mut Extension) -> Result<(), String> {
    for record in tar::PaxExtensions::new(bytes) {
        let record = record.map_err(|error| format!("malformed PAX record: {error}"))?;
        let value = || String::from_utf8_lossy(record.value_bytes()).into_owned();
        match record.key_bytes() {
            b"path" => extension.path = Some(value()),
            b"linkpath" => extension.link = Some(value()),
            b"size" => extension.size = Some(value().parse().map_err(|_| "malformed PAX size".to_owned())?),
            key if key.starts_with(b"GNU.sparse") => {
                return Err("sparse files are not allowed in it".to_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexed(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Result<BTreeMap<String, Entry>, String> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        let bytes = builder.into_inner().unwrap();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        index(&file, bytes.len() as u64)
    }

    fn add(builder: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).unwrap();
    }

    #[test]
    fn files_are_found_by_name() {
        let long = "d/".repeat(80) + "file";
        let entries = indexed(|builder| {
            add(builder, "./a", b"one");
            add(builder, &long, b"four");
        })
        .unwrap();
        assert_eq!(find(&entries, "a"), Ok((512, 3)));
        assert_eq!(find(&entries, &long).map(|(_, size)| size), Ok(4));
        assert!(find(&entries, "b").is_err());
        assert!(find(&entries, "../a").is_err());
    }

    #[test]
    fn links_stay_inside() {
        let link = |name: &str, target: &str| entry(tar::EntryType::Symlink, name, Some(target.into()), 0, 0);
        assert_eq!(link("x/layer.tar", "../y/layer.tar"), Ok(Some(Entry::Link("y/layer.tar".into()))));
        assert_eq!(link("x", "../../etc/passwd"), Ok(None));
        assert_eq!(link("x", "/etc/passwd").unwrap(), Some(Entry::Link("etc/passwd".into())));
        let mut circle = BTreeMap::new();
        circle.insert("a".to_owned(), Entry::Link("b".into()));
        circle.insert("b".to_owned(), Entry::Link("a".into()));
        assert!(find(&circle, "a").unwrap_err().contains("too many links"));
    }

    #[test]
    fn what_is_no_tar_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 2048], 0).unwrap();
        assert!(index(&file, 2048).unwrap_err().contains("checksum"));
        assert!(index(&file, 0).is_err());
    }
}
