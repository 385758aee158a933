//! Tidying the store behind the user's back: emptying its trash and making durable what was written.
//!
//! Removing a large tree and syncing a file system take longer than many a build, and nobody should wait for them. So
//! a command that wrote much leaves them to a short-lived process of its own, at the lowest priority. Killing that
//! process at any time does no harm: the next one goes on where it stopped.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use strake_store::{Store, StoreOptions};

/// The hidden first argument that makes this program tidy the store named by the second.
pub(crate) const TIDY_ARG: &str = "__strake-tidy";

/// Starts the process that tidies, and does not wait for it.
pub(crate) fn tidy_later(store: &Path) {
    let mut command = Command::new("/proc/self/exe");
    command.arg(TIDY_ARG).arg(store);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    if let Err(error) = command.spawn() {
        tracing::debug!("cannot tidy the store: {error}");
    }
}

/// Tidies a store. Nobody listens, so a failure is only for whoever traces; the next command tries again.
pub(crate) fn tidy_main(store: Option<OsString>) {
    // Not being a child of a terminal's session any more, it survives the end of that.
    let _ = rustix::process::setsid();
    let _ = rustix::process::nice(19);
    let Some(store) = store else { return };
    let swept = Store::open(Path::new(&store), &StoreOptions::default()).and_then(|store| store.sweep());
    if let Err(error) = swept {
        tracing::debug!("cannot tidy the store: {error}");
    }
}
