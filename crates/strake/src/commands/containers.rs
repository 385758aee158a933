//! Images that containers run, as other processes of this machine see it: a lock for each, which a container shares
//! with others while it lives, and which the kernel frees with the process.

use strake_engine::Holder;
use strake_engine::lock::{Attempt, FileLocks, Hold, Lease};
use strake_oci::ImageId;

use crate::failure::Failure;
use crate::session::Session;

/// Says that a container of an image runs for as long as what is answered lives. Nothing is answered while somebody is
/// about to delete the image: the container has its layers all the same.
///
/// # Errors
/// When the lock's file cannot be made or locked.
pub(super) fn announce(session: &Session, image: ImageId) -> Result<Option<Lease>, Failure> {
    Ok(match attempt(session, image, Hold::Shared)? {
        Attempt::Held(lease) => Some(lease),
        Attempt::Busy(_) => None,
    })
}

/// Why an image is not to be deleted: somebody runs a container of it.
///
/// # Errors
/// When the lock's file cannot be made or locked.
pub(super) fn runs(session: &Session, image: ImageId) -> Result<Option<String>, Failure> {
    Ok(match attempt(session, image, Hold::Alone)? {
        Attempt::Held(_) => None,
        Attempt::Busy(Some(holder)) => Some(format!("process {} runs a container of it", holder.pid)),
        Attempt::Busy(None) => Some("a process runs a container of it".to_owned()),
    })
}

fn attempt(session: &Session, image: ImageId, hold: Hold) -> Result<Attempt, Failure> {
    let locks = FileLocks::new(session.store.lock_dir());
    let me = Holder::of_this_process(&format!("run image {image}"));
    let name = format!("container-{}", image.0.hex());
    locks.try_acquire(&name, hold, &me).map_err(|error| Failure::environment(error.to_string()))
}
