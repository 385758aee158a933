//! Who the process of a container is, and what it may do.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use rustix::fs::{CWD, FileType, OFlags, ResolveFlags};
use rustix::io::Errno as Os;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::first::raw;
use crate::error::ExecError;
use crate::mount::open_beneath;
use crate::user::{self, Ids, UserError};

/// Docker's default capabilities.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// The names of [`CAPABILITIES`], for a runtime that wants them.
pub(crate) const CAPABILITY_NAMES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Bound in bytes on a user database; the largest real ones have some hundred kilobytes.
const DATABASE_LIMIT: u64 = 8 << 20;

/// Resolves a `USER` text by the files of the current root.
pub(super) fn resolve_here(spec: &str) -> Result<Ids, ExecError> {
    resolve(spec, CWD)
}

/// Resolves a `USER` text by the files of `root`.
pub(super) fn resolve(spec: &str, root: BorrowedFd<'_>) -> Result<Ids, ExecError> {
    let passwd = read_database(root, "etc/passwd")?;
    let group = read_database(root, "etc/group")?;
    Ok(user::lookup(spec, &passwd, &group)?)
}

/// Reads a file of the image; a missing one is empty.
fn read_database(root: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>, ExecError> {
    let unreadable = |why: String| UserError::Unreadable { path: format!("/{path}"), why };
    // A pipe or device in its place must neither block nor be started by the opening.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match open_beneath(root, path, flags, resolve) {
        Ok(file) => file,
        Err(Os::NOENT | Os::NOTDIR) => return Ok(Vec::new()),
        Err(errno) => return Err(unreadable(errno.to_string()).into()),
    };
    let stat = rustix::fs::fstat(&file).map_err(|errno| unreadable(errno.to_string()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(unreadable("no regular file".to_owned()).into());
    }
    let mut bytes = Vec::new();
    let read = File::from(file).take(DATABASE_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(error.to_string()))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > DATABASE_LIMIT {
        return Err(unreadable(format!("larger than {DATABASE_LIMIT} bytes")).into());
    }
    Ok(bytes)
}

/// Gives up everything the user may not have. The process needs all capabilities of its user namespace for this.
pub(super) fn become_user(ids: &Ids) -> Result<(), ExecError> {
    let failed = |what: &'static str| move |errno: Os| ExecError::setup(what, errno);
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if CAPABILITIES.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Beyond the last one this kernel knows.
            Err(Os::INVAL) => break,
            Err(errno) => return Err(failed("drop a capability from the bounding set")(errno)),
        }
    }
    match rustix::thread::clear_ambient_capability_set() {
        Ok(()) | Err(Os::INVAL) => {}
        Err(errno) => return Err(failed("clear the ambient capabilities")(errno)),
    }
    let (uid, gid, groups) = raw(ids);
    let unmapped = |what: String| {
        move |errno: Os| match errno {
            Os::INVAL => ExecError::setup(what, errno)
                .remedy("the id is outside the range of /etc/subuid and /etc/subgid: extend it"),
            _ => ExecError::setup(what, errno),
        }
    };
    rustix::thread::set_thread_groups(&groups)
        .map_err(unmapped(format!("set the groups {:?}", ids.groups)))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .map_err(unmapped(format!("set group id {}", ids.gid)))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .map_err(unmapped(format!("set user id {}", ids.uid)))?;
    // Another user than root has none left by now, and may not get any.
    let kept = if ids.uid == 0 { CAPABILITIES } else { CapabilitySet::empty() };
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(failed("set the capabilities"))
}
