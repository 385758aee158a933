//! Owners by name, from the image's own files.

use std::io;
use std::path::Path;

use strake_exec::user;
use strake_store::RootDir;

use super::CopyError;

/// More than any real user database, and little enough to hold in memory.
const MAX_DATABASE: u64 = 4 * 1024 * 1024;

/// Who owns what is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// `--chown`: a lone number stands for the user and the group of that number.
pub(super) fn copy_owner(spec: &str, below: Option<&RootDir>) -> Result<Owner, CopyError> {
    let is_number = !spec.is_empty() && spec.bytes().all(|byte| byte.is_ascii_digit());
    let both = if is_number { format!("{spec}:{spec}") } else { spec.to_owned() };
    user_owner(&both, below)
}

/// `USER`.
pub(crate) fn user_owner(spec: &str, below: Option<&RootDir>) -> Result<Owner, CopyError> {
    let failed = |problem: String| CopyError::Owner { spec: spec.to_owned(), problem };
    let passwd = database(below, "etc/passwd").map_err(failed)?;
    let group = database(below, "etc/group").map_err(failed)?;
    let ids = user::lookup(spec, &passwd, &group).map_err(|error| failed(error.to_string()))?;
    Ok(Owner { uid: ids.uid, gid: ids.gid })
}

fn database(below: Option<&RootDir>, path: &str) -> Result<Vec<u8>, String> {
    let Some(below) = below else { return Ok(Vec::new()) };
    match below.read_bounded(Path::new(path), MAX_DATABASE) {
        Ok(bytes) => Ok(bytes),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(format!("read /{path} of the image: {error}")),
    }
}
