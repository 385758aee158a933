//! The Dockerfile and the ignore file.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use strake_graph::pattern::IgnoreRules;
use strake_store::RootDir;

use super::TEXT_MAX;
use crate::failure::{Failure, reason};

/// The names that are looked for, in this order: docker's two, then podman's.
pub(super) const NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// A Dockerfile that was found.
#[derive(Debug)]
pub(super) struct Found {
    /// What is in it.
    pub(super) bytes: Vec<u8>,
    /// What people call it.
    pub(super) name: String,
    /// Where it lies, absolute, if it lies somewhere.
    pub(super) path: Option<PathBuf>,
    /// Its own ignore file, if it has one: name and content.
    ignore: Option<(String, Vec<u8>)>,
}

/// Finds the Dockerfile of a directory of the user's own. `--file` counts from the working directory, and may lead
/// anywhere.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(super) fn find(root: &Path, display: &str, file: Option<&str>) -> Result<Found, Failure> {
    match file {
        Some("-") => from_stdin(),
        Some(file) => named(root, file),
        None => find_inside(root, display, None),
    }
}

/// The Dockerfile on standard input. It has no ignore file of its own.
///
/// # Errors
/// When it cannot be read or is too large.
pub(super) fn from_stdin() -> Result<Found, Failure> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(TEXT_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| {
        Failure::environment(format!("read Dockerfile from standard input: {}", reason(&error)))
    })?;
    if bytes.len() as u64 > TEXT_MAX {
        return Err(Failure::input(format!(
            "the Dockerfile on standard input is larger than {TEXT_MAX} bytes"
        )));
    }
    Ok(Found { bytes, name: "-".to_owned(), path: None, ignore: None })
}

fn named(root: &Path, file: &str) -> Result<Found, Failure> {
    if file.contains("://") {
        return Err(Failure::input(format!("Dockerfile {file}: only files of this machine can be used")));
    }
    let path = Path::new(file);
    let path = std::path::absolute(path).map_err(|error| Failure::file("read Dockerfile", path, &error))?;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Failure::input(format!("read Dockerfile {file}: not a file")));
    };
    let missing = |error: io::Error| {
        let failure = Failure::file("read Dockerfile", Path::new(file), &error);
        if root.join(file).is_file() {
            let path = root.join(file);
            failure
                .hint(format!("--file counts from the working directory; did you mean {}?", path.display()))
        } else {
            failure
        }
    };
    // The file may be a link that leads anywhere: the user named it.
    let real = path.canonicalize().map_err(missing)?;
    let bytes =
        read_file(&real).map_err(|error| Failure::file("read Dockerfile", Path::new(file), &error))?;
    let own = format!("{}.dockerignore", name.to_string_lossy());
    let ignore = optional(read_file(&directory.join(&own)), &own)?.map(|bytes| (own, bytes));
    Ok(Found { bytes, name: file.to_owned(), path: Some(path), ignore })
}

/// A regular file of the user's own, wherever links lead. Never blocks on a pipe.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let real = path.canonicalize()?;
    let (Some(directory), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(io::ErrorKind::IsADirectory.into());
    };
    RootDir::open(directory)?.read_bounded(Path::new(name), TEXT_MAX)
}

/// Finds the Dockerfile of a directory whose content is not trusted. Links are followed inside of it only.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(super) fn find_inside(root: &Path, display: &str, file: Option<&str>) -> Result<Found, Failure> {
    let tree = RootDir::open(root).map_err(|error| Failure::file("open context", root, &error))?;
    let names: &[&str] = match &file {
        Some(file) => std::slice::from_ref(file),
        None => &NAMES,
    };
    for name in names {
        let bytes = match tree.read_bounded(Path::new(name), TEXT_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::file("read Dockerfile", &root.join(name), &error)),
        };
        let own = format!("{name}.dockerignore");
        let ignore = optional(tree.read_bounded(Path::new(&own), TEXT_MAX), &own)?.map(|bytes| (own, bytes));
        return Ok(Found { bytes, name: (*name).to_owned(), path: Some(root.join(name)), ignore });
    }
    let wanted = names[0];
    let failure = Failure::input(format!("context {display}: there is no {wanted}"));
    if tree.stat(Path::new(wanted)).is_ok() {
        return Err(
            failure.hint(format!("{wanted} is a link out of the context; name its target with --file"))
        );
    }
    Err(failure.hint("name the file with --file, or another directory"))
}

/// The rules that decide what of the context takes part: the Dockerfile's own, otherwise the context's.
///
/// # Errors
/// When a line makes no sense, with its number.
pub(super) fn ignore_for(found: &Found, root: &Path) -> Result<IgnoreRules, Failure> {
    match &found.ignore {
        Some((name, bytes)) => parse(name, bytes),
        None => ignore_of(root),
    }
}

/// The rules of the context's own ignore file.
///
/// # Errors
/// As [`ignore_for`].
pub(super) fn ignore_of(root: &Path) -> Result<IgnoreRules, Failure> {
    let tree = RootDir::open(root).map_err(|error| Failure::file("open context", root, &error))?;
    for name in [".dockerignore", ".containerignore"] {
        if let Some(bytes) = optional(tree.read_bounded(Path::new(name), TEXT_MAX), name)? {
            return parse(name, &bytes);
        }
    }
    Ok(IgnoreRules::default())
}

fn parse(name: &str, bytes: &[u8]) -> Result<IgnoreRules, Failure> {
    IgnoreRules::parse(bytes)
        .map_err(|error| Failure::input(format!("{name}:{}: {}", error.line, error.reason)))
}

fn optional(read: io::Result<Vec<u8>>, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::file("read ignore file", Path::new(name), &error)),
    }
}
