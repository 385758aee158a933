//! The first process of a container: from a fork of the init process to the image's own program.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::mount::MountPropagationFlags;
use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::{files, identity, program};
use crate::error::ExecError;
use crate::mount::{self, HostPlaces, Root, Scratch, Source, Trace};
use crate::process::{Container, Network, Rootfs};
use crate::sys;
use crate::user::Ids;
use crate::wire::{self, Instructions, Message, Runner};
use crate::{runc, seccomp};

/// Exit code of a first process that failed; nobody looks at it, as the reason was reported before.
const FAILED: i32 = 125;

/// Runs the container in this process. Never returns to the init process's code.
pub(super) fn run(
    control: BorrowedFd<'_>,
    instructions: &Instructions,
    network: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
) -> ! {
    let error = match start(control, instructions, network, stdin) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    wire::report(control, &Message::Failed(error), None);
    sys::exit(FAILED)
}

enum Never {}

fn start(
    control: BorrowedFd<'_>,
    instructions: &Instructions,
    network: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
) -> Result<Never, ExecError> {
    let container = &instructions.container;
    die_with_monitor()?;
    let nameservers = files::Nameservers::read(container.network);
    enter_namespaces(container.network, network)?;
    if container.network == Network::None {
        sys::loopback_up().map_err(|errno| ExecError::setup("bring up the loopback interface", errno))?;
    }
    match &instructions.runner {
        Runner::Own { unfiltered } => {
            mount_and_enter(control, container, &nameservers)?;
            become_program(control, instructions, stdin, *unfiltered)
        }
        Runner::Runc { runc, id } => {
            let prepared = Prepared::make(control, container, &nameservers)?;
            prepared.root.make_mount_points(container, &prepared.places, &prepared.sources, &|trace| {
                wire::report(control, &Message::Trace(trace), None);
            })?;
            let ids = identity::resolve(&container.process.user, prepared.root.directory())?;
            let bundle =
                runc::Bundle { container, scratch: &prepared.scratch, sources: &prepared.sources, ids: &ids };
            connect_input(stdin)?;
            Err(bundle.run(runc, id))
        }
    }
}

fn die_with_monitor() -> Result<(), ExecError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| ExecError::setup("set the parent-death signal", errno))
}

fn enter_namespaces(network: Network, private: Option<OwnedFd>) -> Result<(), ExecError> {
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    match (network, private) {
        (Network::Host, _) => {}
        (Network::None, _) => flags |= UnshareFlags::NEWNET,
        (Network::Private, Some(namespace)) => {
            let kind = Some(LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)
                .map_err(|errno| ExecError::setup("enter the network namespace", errno))?;
        }
        (Network::Private, None) => {
            return Err(ExecError::internal("a private network was asked for and none was given"));
        }
    }
    // A kernel without cgroups has no such namespace, and then nothing of them to hide.
    sys::unshare(flags | UnshareFlags::NEWCGROUP)
        .or_else(|_| sys::unshare(flags))
        .map_err(|errno| ExecError::setup("make namespaces", errno))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(|errno| ExecError::setup("make mounts private", errno))
}

/// A mounted but not yet furnished root, and what belongs to it.
struct Prepared {
    places: HostPlaces,
    scratch: Scratch,
    sources: Vec<Source>,
    root: Root,
}

impl Prepared {
    fn make(
        control: BorrowedFd<'_>,
        container: &Container,
        nameservers: &files::Nameservers,
    ) -> Result<Self, ExecError> {
        let report = |trace: Trace| wire::report(control, &Message::Trace(trace), None);
        let places = HostPlaces::find(container)?;
        let (Rootfs::Overlay { work: place, .. } | Rootfs::Directory(place)) = &container.rootfs;
        let scratch = Scratch::over(place)?;
        drop(scratch.directory("empty")?);
        files::write(&scratch, container, nameservers)?;
        let sources = mount::prepare(&container.mounts, &places, &scratch)?;
        let root = mount::build(container, &places, &scratch, &sources, &report)?;
        Ok(Self { places, scratch, sources, root })
    }
}

fn mount_and_enter(
    control: BorrowedFd<'_>,
    container: &Container,
    nameservers: &files::Nameservers,
) -> Result<(), ExecError> {
    let report = |trace: Trace| wire::report(control, &Message::Trace(trace), None);
    let prepared = Prepared::make(control, container, nameservers)?;
    let Prepared { places, scratch, sources, root } = prepared;
    root.furnish(container, &places, &scratch, &sources, &report)?;
    sys::set_host_name(&container.hostname).map_err(|errno| ExecError::setup("set the host name", errno))?;
    mount::enter(root)
}

/// From a process that is root in the container to the program of the image.
fn become_program(
    control: BorrowedFd<'_>,
    instructions: &Instructions,
    stdin: Option<OwnedFd>,
    unfiltered: bool,
) -> Result<Never, ExecError> {
    let container = &instructions.container;
    let process = &container.process;
    let ids = identity::resolve_here(&process.user)?;
    let _ = rustix::process::setsid();
    if process.terminal {
        let terminal = crate::terminal::open_inside(ids.uid, instructions.terminal_size)?;
        wire::report(control, &Message::Terminal, Some(terminal.as_fd()));
    } else {
        connect_input(stdin)?;
    }
    // A working directory or program `/proc/self/fd/N` must not find a descriptor of the host.
    sys::keep_only(control);
    enter_directory(&process.cwd)?;
    set_limits();
    if !unfiltered {
        sys::install_filter(&seccomp::filter())
            .map_err(|errno| ExecError::setup("install the system call filter", errno))?;
    }
    identity::become_user(&ids)?;
    // A change of identity forgets it.
    die_with_monitor()?;
    rustix::process::umask(Mode::from_bits_truncate(0o022));
    sys::reset_signals();
    Err(program::execute(process, environment(container, &ids)))
}

fn connect_input(stdin: Option<OwnedFd>) -> Result<(), ExecError> {
    let Some(stdin) = stdin else { return Ok(()) };
    sys::set_standard_stream(&stdin, 0).map_err(|errno| ExecError::setup("connect standard input", errno))
}

fn enter_directory(cwd: &str) -> Result<(), ExecError> {
    use rustix::fs::{CWD, ResolveFlags, openat2};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(CWD, cwd, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
        .and_then(|directory| rustix::process::fchdir(&directory))
        .map_err(|errno| ExecError::WorkingDirectory { cwd: cwd.to_owned(), errno: errno.into() })
}

/// Limits that do not depend on the shell from which the build was started, as far as they may be raised.
fn set_limits() {
    let limit = |resource, soft: u64, hard: u64| {
        let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX).min(hard);
        let limit = Rlimit { current: Some(soft.min(most)), maximum: Some(most) };
        // Lowering is always allowed; `most` is never above what is there.
        let _ = rustix::process::setrlimit(resource, limit);
    };
    limit(Resource::Nofile, 1024, 524_288);
    // A core file would become part of the layer.
    limit(Resource::Core, 0, u64::MAX);
    limit(Resource::Stack, 8 << 20, u64::MAX);
}

fn environment(container: &Container, ids: &Ids) -> Vec<(String, OsString)> {
    let process = &container.process;
    let mut environment = process.env.clone();
    if process.set_home && !environment.iter().any(|(name, _)| name == "HOME") {
        environment.push(("HOME".to_owned(), ids.home.as_deref().unwrap_or("/").into()));
    }
    environment
}

/// Numbers as the system calls want them.
pub(super) fn raw(ids: &Ids) -> (Uid, Gid, Vec<Gid>) {
    let groups = std::iter::once(ids.gid).chain(ids.groups.iter().copied()).map(Gid::from_raw).collect();
    (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid), groups)
}
