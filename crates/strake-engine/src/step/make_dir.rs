//! `WORKDIR`: a directory with its parents, where they are missing.

use std::path::Path;

use strake_graph::MakeDirOp;
use strake_store::RootDir;

use super::copy::{CopyError, Layout, user_owner, write_layer};
use crate::clock::now_ns;

/// Writes the directory into the empty layer directory `upper`. Answers whether anything was written: nothing is
/// when the directory exists, also through links. What is made belongs to the user that the instruction runs as.
///
/// # Errors
/// When something that is no directory is in the way, the user is unknown, or the layer cannot be written.
pub(crate) fn make_dir(op: &MakeDirOp, upper: &Path, below: Option<&RootDir>) -> Result<bool, CopyError> {
    let mut layout = Layout::new(below, None, None);
    let path = layout.resolve(op.path.as_bytes())?;
    if path.is_empty() || is_there(&path, below)? {
        return Ok(false);
    }
    let owner = user_owner(&op.user, below)?;
    layout = Layout::new(below, Some(owner), None);
    layout.make_dirs(&path)?;
    write_layer(&layout, upper, below, None, now_ns())?;
    Ok(true)
}

fn is_there(path: &[u8], below: Option<&RootDir>) -> Result<bool, CopyError> {
    let mut layout = Layout::new(below, None, None);
    layout.make_dirs(path)?;
    Ok(below.is_some() && layout.changes_nothing())
}
