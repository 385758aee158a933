//! The system calls that need `unsafe`: everything else in the crate goes through `rustix`.
#![expect(
    unsafe_code,
    reason = "the only module of the project in which it is allowed; each block says why it is sound"
)]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

use crate::error::Errno;

/// Attributes of a mount, as `mount_setattr(2)` counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MountAttributes(u64);

impl MountAttributes {
    pub(crate) const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    pub(crate) const NO_SUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    pub(crate) const NO_DEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    pub(crate) const NO_EXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Which side of a fork this is.
#[derive(Debug)]
pub(crate) enum Fork {
    Child,
    Parent(Pid),
}

fn errno() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Forks. Only for processes with a single thread: the init process, or the program before it starts any.
pub(crate) fn fork() -> Result<Fork, Errno> {
    // SAFETY: the caller has one thread, so no lock can be held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(errno()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid::from_raw(pid).expect("fork returns a positive pid"))),
    }
}

/// Ends the process at once, without running destructors or exit handlers of a forked copy.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// Replaces the program. Returns only on failure.
pub(crate) fn execve(path: &CString, args: &[CString], env: &[CString]) -> Errno {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: `path` and the elements are NUL-terminated strings that outlive the call, the arrays end in null.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    errno()
}

/// Leaves the named namespaces for new ones.
pub(crate) fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    debug_assert!(
        !flags.contains(UnshareFlags::FILES),
        "descriptor tables are never split under live owners"
    );
    // SAFETY: the hazard of this call is an unshared descriptor table (`FILES`), which is not asked for here.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Errno::from)
}

/// Sets attributes of the mount behind `mount`, and of all below it if `recursive`.
pub(crate) fn mount_setattr(
    mount: impl AsFd,
    set: MountAttributes,
    recursive: Recursive,
) -> Result<(), Errno> {
    let attributes = libc::mount_attr { attr_set: set.0, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive == Recursive::Yes { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the descriptor is open, the path is an empty C string, and the struct has the size that is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(errno()) }
}

/// Whether an operation on a mount includes the mounts below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recursive {
    Yes,
    No,
}

/// Closes all descriptors from `first` on. Only for a process that owns none of them through a value.
pub(crate) fn close_from(first: RawFd) {
    // SAFETY: by the caller's contract no descriptor from `first` on has an owner that still uses it.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
}

/// Closes all descriptors except the standard streams and `kept`. Owners of the others must not use or drop them
/// any more: the process ends by `execve` or [`exit`] soon.
pub(crate) fn keep_only(kept: impl AsFd) {
    let kept = kept.as_fd().as_raw_fd();
    if kept > 3 {
        // SAFETY: by the caller's contract nothing uses the descriptors that are closed.
        unsafe { libc::syscall(libc::SYS_close_range, 3, kept - 1, 0) };
    }
    close_from(kept + 1);
}

/// Takes over standard input of the init process, which is its control socket.
pub(crate) fn take_stdin() -> Result<OwnedFd, Errno> {
    // SAFETY: `fcntl` with `F_DUPFD_CLOEXEC` yields a new descriptor that nobody else owns.
    let copy = unsafe { libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(errno());
    }
    // SAFETY: `copy` was just made by the kernel and is owned here only.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Makes `fd` the process's standard stream `number` (0, 1 or 2).
pub(crate) fn set_standard_stream(fd: impl AsFd, number: RawFd) -> Result<(), Errno> {
    debug_assert!((0..=2).contains(&number));
    // SAFETY: both are open descriptors; the standard streams have no owning values in the init process.
    if unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) } < 0 { Err(errno()) } else { Ok(()) }
}

/// Installs a system call filter for this thread. Needs `CAP_SYS_ADMIN`, as `no_new_privs` is not set.
pub(crate) fn install_filter(filter: &[libc::sock_filter]) -> Result<(), Errno> {
    let len = libc::c_ushort::try_from(filter.len()).map_err(|_| Errno(libc::E2BIG))?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel copies `len` instructions from the slice, which lives until the call returns, and
    // writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        )
    };
    if result == 0 { Ok(()) } else { Err(errno()) }
}

/// Gives every signal its default meaning and blocks none, as a new program expects.
pub(crate) fn reset_signals() {
    // All zeros is the kernel's `struct sigaction` (at most 32 bytes) for the default meaning. The C library's
    // function refuses two signals that it uses itself, which may have come to us ignored.
    let default = [0_u64; 4];
    let set_size = 8;
    for signal in 1..=64 {
        // SAFETY: the kernel reads the struct, which is large enough, and writes nothing. For signals that cannot be
        // set the call fails and changes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<libc::c_void>(),
                set_size,
            )
        };
    }
    // SAFETY: the set is initialised by `sigemptyset` before it is read.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Names this machine, in the current UTS namespace.
pub(crate) fn set_host_name(name: &str) -> Result<(), Errno> {
    // SAFETY: the pointer and the length describe the bytes of `name`.
    let result = unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) };
    if result == 0 { Ok(()) } else { Err(errno()) }
}

/// Brings up the loopback interface of the current network namespace.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = i16::try_from(flags).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: the request is initialised, NUL-terminated in its name, and lives through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if result == 0 { Ok(()) } else { Err(errno()) }
}
