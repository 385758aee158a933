//! Running without privilege: the program moves into a user namespace, once, at its start.
//!
//! The process stays the same one: it makes the namespace for itself while it has a single thread, and a forked
//! child that has stayed outside asks `newuidmap` and `newgidmap` to fill in the maps: own id to 0, then the
//! subordinate ranges. So there is no second copy of the program to forward signals and exit codes to, and nothing
//! is executed twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::{Pid, WaitOptions};
use rustix::thread::UnshareFlags;

use crate::OLDEST_LINUX;
use crate::network;
use crate::sys::{self, Fork};

/// Where the helper programs are looked for: libraries do not read the search path.
const PROGRAM_DIRECTORIES: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin"];

/// Fewest subordinate ids with which Debian's packages can be installed (`nogroup` is 65534).
const ENOUGH_IDS: u32 = 65_535;

/// Something this machine lacks for running without privilege.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What is missing.
    pub what: String,
    /// What an administrator does about it.
    pub remedy: String,
    /// Whether nothing works without it. A missing network program only costs the private network.
    pub fatal: bool,
}

impl Missing {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), fatal: true }
    }
}

/// Why the user namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum UsernsError {
    /// The machine lacks something; all that is missing is listed.
    #[error("cannot run without root: {}", list(.0))]
    Missing(Vec<Missing>),
    /// A system call or helper program failed.
    #[error("{what}: {reason}")]
    Failed {
        /// What was being done.
        what: String,
        /// Why it failed.
        reason: String,
    },
}

fn list(missing: &[Missing]) -> String {
    missing
        .iter()
        .map(|missing| format!("{} ({})", missing.what, missing.remedy))
        .collect::<Vec<_>>()
        .join("; ")
}

fn failed(what: impl Into<String>, reason: impl ToString) -> UsernsError {
    UsernsError::Failed { what: what.into(), reason: reason.to_string() }
}

/// Moves this process into a user namespace in which it is root, and into a mount namespace of its own.
/// Does nothing for root.
///
/// Must be called while the process has a single thread; the kernel refuses it otherwise.
///
/// # Errors
/// [`UsernsError::Missing`] names all that the machine lacks, and nothing has changed. After
/// [`UsernsError::Failed`] the process may be half-way in and should end.
pub fn enter() -> Result<(), UsernsError> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if uid == 0 {
        return Ok(());
    }
    let Some(maps) = Maps::find(uid, gid) else {
        let missing = check(None).into_iter().filter(|missing| missing.fatal).collect();
        return Err(UsernsError::Missing(missing));
    };
    let (go, wait) =
        std::io::pipe().map(|(reader, writer)| (writer, reader)).map_err(|e| failed("pipe", e))?;
    let us = rustix::process::getpid();
    match sys::fork().map_err(|errno| failed("fork", errno))? {
        Fork::Child => {
            drop(go);
            sys::exit(maps.write(us, wait))
        }
        Fork::Parent(helper) => {
            drop(wait);
            let made = sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS);
            let told = made.is_ok().then(|| std::io::Write::write_all(&mut &go, b"1"));
            drop(go);
            let status =
                rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(helper), WaitOptions::empty()));
            if let Err(errno) = made {
                let fatal: Vec<Missing> = check(None).into_iter().filter(|missing| missing.fatal).collect();
                let failure = failed("make a user namespace", errno);
                return Err(if fatal.is_empty() { failure } else { UsernsError::Missing(fatal) });
            }
            told.transpose().map_err(|error| failed("speak to the helper", error))?;
            let status = status.map_err(|errno| failed("wait for newuidmap", errno))?;
            if status.and_then(|(_, status)| status.exit_status()) != Some(0) {
                return Err(failed("newuidmap or newgidmap", "see its message above"));
            }
        }
    }
    become_root()
}

/// The identity of the process is now whatever its ids are mapped to: root. Mounts made from here on stay here,
/// while those the host makes still arrive.
fn become_root() -> Result<(), UsernsError> {
    let (root, group) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    rustix::thread::set_thread_res_gid(group, group, group).map_err(|errno| failed("become root", errno))?;
    rustix::thread::set_thread_res_uid(root, root, root).map_err(|errno| failed("become root", errno))?;
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|errno| failed("keep mounts to ourselves", errno))
}

/// What the helper programs are told.
struct Maps {
    newuidmap: PathBuf,
    newgidmap: PathBuf,
    /// Own id, first subordinate id, count.
    users: (u32, u32, u32),
    groups: (u32, u32, u32),
}

impl Maps {
    fn find(uid: u32, gid: u32) -> Option<Self> {
        let user = user_name(uid);
        let (first_user, users) = subordinate("/etc/subuid", uid, user.as_deref())?;
        let (first_group, groups) = subordinate("/etc/subgid", uid, user.as_deref())?;
        Some(Self {
            newuidmap: find_program("newuidmap")?,
            newgidmap: find_program("newgidmap")?,
            users: (uid, first_user, users),
            groups: (gid, first_group, groups),
        })
    }

    /// In the child: waits until the parent has its namespace, then has the maps written. Returns an exit code.
    fn write(&self, process: Pid, mut wait: std::io::PipeReader) -> i32 {
        let mut byte = [0];
        if !matches!(std::io::Read::read(&mut wait, &mut byte), Ok(1)) {
            return 1;
        }
        let map = |program: &Path, (own, first, count): (u32, u32, u32)| {
            let numbers = [0, own, 1, 1, first, count].map(|number| number.to_string());
            let pid = process.as_raw_nonzero().to_string();
            Command::new(program)
                .arg(pid)
                .args(numbers)
                .env_clear()
                .status()
                .is_ok_and(|status| status.success())
        };
        i32::from(!(map(&self.newuidmap, self.users) && map(&self.newgidmap, self.groups)))
    }
}

fn find_program(name: &str) -> Option<PathBuf> {
    PROGRAM_DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.exists())
}

fn user_name(uid: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()))?;
    line.split(':').next().map(str::to_owned)
}

/// First id and count of the largest range that `file` gives to the user, by name or number.
fn subordinate(file: &str, uid: u32, user: Option<&str>) -> Option<(u32, u32)> {
    largest_range(&fs::read_to_string(file).ok()?, uid, user)
}

fn largest_range(text: &str, uid: u32, user: Option<&str>) -> Option<(u32, u32)> {
    let uid = uid.to_string();
    let ranges = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let mine = Some(owner) == user || owner == uid;
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (mine && range.1 > 0).then_some(range)
    });
    ranges.max_by_key(|(_, count)| *count)
}

/// Everything this machine lacks for running without privilege, at once. `pasta` is the network program, if one
/// was found. Must be called while the process has a single thread.
pub fn check(pasta: Option<&Path>) -> Vec<Missing> {
    let uid = rustix::process::geteuid().as_raw();
    let user = user_name(uid);
    let shown = user.clone().unwrap_or_else(|| uid.to_string());
    let mut missing = Vec::new();
    for program in ["newuidmap", "newgidmap"] {
        if find_program(program).is_none() {
            missing.push(Missing::new(format!("the program {program}"), "install the package uidmap"));
        }
    }
    for (file, option) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
        let remedy =
            format!("as root: usermod {option} 100000-165535 {shown}, with a range that is still free");
        match subordinate(file, uid, user.as_deref()) {
            None => missing.push(Missing::new(format!("subordinate ids for {shown} in {file}"), remedy)),
            Some((_, count)) if count < ENOUGH_IDS => {
                let what = format!("enough subordinate ids for {shown} in {file}: {count} of {ENOUGH_IDS}");
                missing.push(Missing { fatal: false, ..Missing::new(what, remedy) });
            }
            Some(_) => {}
        }
    }
    missing.extend(namespaces());
    if let Some(reason) = network::obstacle(pasta) {
        let remedy = private_network_remedy(&reason);
        missing.push(Missing { fatal: false, ..Missing::new(format!("private networks: {reason}"), remedy) });
    }
    missing
}

/// What helps against a [`network::obstacle`].
fn private_network_remedy(reason: &str) -> &'static str {
    if reason.starts_with("/dev/net/tun") {
        "as root: modprobe tun; chmod 666 /dev/net/tun; or build with --network=host"
    } else if reason.contains("route") {
        "connect the machine to a network, or build with --network=host"
    } else {
        "install the package passt, or build with --network=host"
    }
}

/// Tries what the kernel allows, in a child; if it fails, the settings that forbid it are named.
fn namespaces() -> Option<Missing> {
    let Ok(Fork::Parent(child)) = sys::fork().map(|side| match side {
        Fork::Child => sys::exit(probe()),
        parent => parent,
    }) else {
        return Some(Missing::new("a process for a trial", "raise the limit on processes (ulimit -u)"));
    };
    let status = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(child), WaitOptions::empty()));
    match status.ok().flatten().and_then(|(_, status)| status.exit_status()) {
        Some(PROBE_FINE) => None,
        Some(PROBE_NO_OVERLAY) => Some(Missing::new(
            "overlay file systems in user namespaces",
            format!("Linux {OLDEST_LINUX} or newer with overlayfs is needed; as root: modprobe overlay"),
        )),
        _ => Some(forbidden_by()),
    }
}

const PROBE_FINE: i32 = 0;
const PROBE_NO_NAMESPACE: i32 = 1;
const PROBE_NO_OVERLAY: i32 = 2;

/// In a child: a user namespace, and an overlay in it.
fn probe() -> i32 {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).is_err() {
        return PROBE_NO_NAMESPACE;
    }
    let mapped = uid == 0
        || (fs::write("/proc/self/setgroups", "deny").is_ok()
            && fs::write("/proc/self/uid_map", format!("0 {uid} 1")).is_ok()
            && fs::write("/proc/self/gid_map", format!("0 {gid} 1")).is_ok());
    if !mapped {
        return PROBE_NO_NAMESPACE;
    }
    match probe_overlay() {
        Ok(()) => PROBE_FINE,
        Err(_) => PROBE_NO_OVERLAY,
    }
}

fn probe_overlay() -> std::io::Result<()> {
    let place = Path::new("/proc");
    rustix::mount::mount("tmpfs", place, "tmpfs", MountFlags::empty(), None)?;
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(place.join(name))?;
    }
    let options = c"userxattr,lowerdir=/proc/lower,upperdir=/proc/upper,workdir=/proc/work";
    rustix::mount::mount("overlay", place.join("merged"), "overlay", MountFlags::empty(), Some(options))?;
    Ok(())
}

/// The setting that keeps this user from making user namespaces.
fn forbidden_by() -> Missing {
    let what = "user namespaces for ordinary users";
    let value = |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
    let settings = [
        ("user/max_user_namespaces", "0", "28633"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ];
    for (name, bad, good) in settings {
        if value(name).trim() == bad {
            return Missing::new(what, format!("as root: sysctl -w {}={good}", name.replace('/', ".")));
        }
    }
    Missing::new(
        what,
        "the kernel or a security module forbids them: inside a container, start it with more rights",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_fits_the_obstacle() {
        assert!(private_network_remedy("/dev/net/tun: Permission denied").contains("chmod 666 /dev/net/tun"));
        assert!(private_network_remedy("the host has no default route").contains("connect"));
        let reason = network::obstacle(None).unwrap();
        assert!(private_network_remedy(&reason).contains("passt"));
    }

    #[test]
    fn the_largest_own_range_counts() {
        let text = "other:100000:65536\nme:200000:100\n1000:300000:65536\nme:x:1\nme\nme:5:0\n";
        assert_eq!(largest_range(text, 1000, Some("me")), Some((300_000, 65_536)));
        assert_eq!(largest_range(text, 7, Some("me")), Some((200_000, 100)));
        assert_eq!(largest_range(text, 7, None), None);
    }
}
