//! Files that appear complete or not at all.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Written;
use crate::image::{Dest, ImageError};
use crate::request::Environment;

/// A file beside its final place; removed again unless it is put there.
pub(super) struct Aside {
    path: PathBuf,
    is_placed: bool,
}

impl Aside {
    /// Creates a file beside `dest`, whose folder must exist.
    pub(super) fn create(dest: &Path) -> Result<(Self, File), ImageError> {
        let name = dest
            .file_name()
            .ok_or_else(|| ImageError::Usage(format!("{}: not a file name", dest.display())))?;
        let mut suffix = [0; 8];
        getrandom::fill(&mut suffix)
            .map_err(|error| ImageError::io("find a name beside", dest)(io::Error::other(error)))?;
        let mut aside = std::ffi::OsString::from(".");
        aside.push(name);
        aside.push(format!(".strake-{:016x}", u64::from_le_bytes(suffix)));
        let path = dest.with_file_name(aside);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o666)
            .open(&path)
            .map_err(ImageError::io("create", &path))?;
        Ok((Self { path, is_placed: false }, file))
    }

    /// Puts the file in its place.
    pub(super) fn place(mut self, file: &File, dest: &Path) -> Result<(), ImageError> {
        file.sync_all().map_err(ImageError::io("write", dest))?;
        std::fs::rename(&self.path, dest).map_err(ImageError::io("create", dest))?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.is_placed {
            // Nothing more can be done about a file that cannot be removed.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// Calls `write` with a file, and makes that file `dest` when it succeeds.
pub(super) fn write_file(
    env: &Environment<'_>,
    dest: &Dest,
    write: impl FnOnce(&File) -> Result<Written, ImageError>,
) -> Result<Written, ImageError> {
    match dest {
        Dest::File(path) if !is_special(path) => {
            let (aside, file) = Aside::create(path)?;
            let written = write(&file)?;
            aside.place(&file, path)?;
            Ok(written)
        }
        Dest::File(path) => {
            let open = || File::options().write(true).open(path).map_err(ImageError::io("open", path));
            spool(env, write, open, path)
        }
        Dest::Stdout => {
            let stdout =
                || io::stdout().lock().try_clone_file().map_err(ImageError::io("open", "standard output"));
            spool(env, write, stdout, Path::new("standard output"))
        }
    }
}

/// Whether the place is a pipe or a device, which can be written but not replaced.
fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// Archives are finished by going back in them, which a pipe does not allow.
fn spool(
    env: &Environment<'_>,
    write: impl FnOnce(&File) -> Result<Written, ImageError>,
    open: impl FnOnce() -> Result<File, ImageError>,
    name: &Path,
) -> Result<Written, ImageError> {
    let directory = env.store.temp_dir()?;
    let path = directory.path().join("output");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(ImageError::io("create", &path))?;
    let written = write(&file)?;
    file.seek(SeekFrom::Start(0)).map_err(ImageError::io("read", &path))?;
    io::copy(&mut file, &mut open()?).map_err(ImageError::io("write to", name))?;
    Ok(written)
}

/// The open file behind a standard stream.
trait TryCloneFile {
    fn try_clone_file(&self) -> io::Result<File>;
}

impl<T: std::os::fd::AsFd> TryCloneFile for T {
    fn try_clone_file(&self) -> io::Result<File> {
        Ok(self.as_fd().try_clone_to_owned()?.into())
    }
}
