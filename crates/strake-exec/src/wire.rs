//! What the executor and its init process tell each other.
//!
//! They share one socket that keeps message boundaries; it is the init process's standard input, so no other
//! descriptor needs to be inherited and none can leak into a child that another thread starts at that moment.
//! Instructions may be large and hold secrets, so they travel as a file in memory, sent as a descriptor.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::MemfdFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::error::ExecError;
use crate::mount::Trace;
use crate::process::{Container, ExitStatus, MountKind};

/// Everything the init process needs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Instructions {
    pub(crate) container: Container,
    pub(crate) runner: Runner,
    /// Rows and columns of the container's terminal from the start, where they are known.
    pub(crate) terminal_size: Option<(u16, u16)>,
    /// Whether the namespace of a private network comes along.
    has_network: bool,
    /// Lengths of the contents of the `File` mounts, in order; the bytes follow the description.
    file_lengths: Vec<usize>,
}

/// Who makes the process once the mounts are prepared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Runner {
    Own { unfiltered: bool },
    Runc { runc: PathBuf, id: String },
}

/// What the init process reports.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// The first process exists; its pidfd comes along.
    Process,
    /// The master side of the container's terminal comes along.
    Terminal,
    /// Something is being made in the root file system that must be removed after the run.
    Trace(Trace),
    /// The container could not be started.
    Failed(ExecError),
    /// The process ended, and everything it left behind is gone.
    Ended(ExitStatus),
}

/// Longest message in bytes; a trace with many attributes is the largest.
const MESSAGE_LIMIT: usize = 128 << 10;

/// The two ends of the control socket.
pub(crate) fn control_sockets() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends the instructions, with the namespace of the container's network and the descriptor that becomes the
/// process's standard input, if there are any.
pub(crate) fn send_instructions(
    socket: BorrowedFd<'_>,
    container: &Container,
    runner: &Runner,
    terminal_size: Option<(u16, u16)>,
    network: Option<BorrowedFd<'_>>,
    stdin: Option<BorrowedFd<'_>>,
) -> std::io::Result<()> {
    let files: Vec<&[u8]> = contents(container).collect();
    let description = Instructions {
        container: container.clone_without_contents(),
        runner: runner.clone(),
        terminal_size,
        has_network: network.is_some(),
        file_lengths: files.iter().map(|content| content.len()).collect(),
    };
    let description = serde_json::to_vec(&description)?;
    let mut file = File::from(rustix::fs::memfd_create("strake-instructions", MemfdFlags::CLOEXEC)?);
    file.write_all(&u64::try_from(description.len()).unwrap_or(u64::MAX).to_le_bytes())?;
    file.write_all(&description)?;
    for content in files {
        file.write_all(content)?;
    }
    let mut descriptors = vec![file.as_fd()];
    descriptors.extend(network);
    descriptors.extend(stdin);
    send(socket, b"1", &descriptors)?;
    Ok(())
}

fn contents(container: &Container) -> impl Iterator<Item = &[u8]> {
    container.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::File { content, .. } => Some(content.as_slice()),
        _ => None,
    })
}

impl Container {
    /// A copy whose `File` mounts are empty: their bytes are sent separately and not copied twice.
    fn clone_without_contents(&self) -> Self {
        let mounts = self.mounts.iter().map(|mount| crate::Mount {
            target: mount.target.clone(),
            read_only: mount.read_only,
            kind: match &mount.kind {
                MountKind::File { mode, uid, gid, .. } => {
                    MountKind::File { content: Vec::new(), mode: *mode, uid: *uid, gid: *gid }
                }
                other => other.clone(),
            },
        });
        Self {
            rootfs: self.rootfs.clone(),
            process: self.process.clone(),
            mounts: mounts.collect(),
            network: self.network,
            hostname: self.hostname.clone(),
            hosts: self.hosts.clone(),
            read_only: self.read_only,
        }
    }
}

/// Receives the instructions, and the descriptors for network and standard input, where they were sent.
pub(crate) fn receive_instructions(
    socket: BorrowedFd<'_>,
) -> std::io::Result<(Instructions, Option<OwnedFd>, Option<OwnedFd>)> {
    let broken = |what| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    let (_, mut descriptors) = receive(socket)?.ok_or_else(|| broken("no instructions"))?;
    if descriptors.is_empty() {
        return Err(broken("instructions without a file"));
    }
    let mut file = File::from(descriptors.remove(0));
    file.rewind()?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| broken("too long"))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let description = bytes.get(..length).ok_or_else(|| broken("cut off"))?;
    let mut instructions: Instructions = serde_json::from_slice(description)?;
    let mut rest = &bytes[length..];
    let mut lengths = instructions.file_lengths.iter();
    for mount in &mut instructions.container.mounts {
        if let MountKind::File { content, .. } = &mut mount.kind {
            let length = *lengths.next().ok_or_else(|| broken("file without a length"))?;
            let (own, others) = rest.split_at_checked(length).ok_or_else(|| broken("file cut off"))?;
            content.extend_from_slice(own);
            rest = others;
        }
    }
    if instructions.has_network && descriptors.is_empty() {
        return Err(broken("no network came along"));
    }
    let network = instructions.has_network.then(|| descriptors.remove(0));
    Ok((instructions, network, descriptors.pop()))
}

/// Sends one message, with one descriptor if the message says so. A caller that is gone is no error: its end of
/// the socket is watched elsewhere.
pub(crate) fn report(socket: BorrowedFd<'_>, message: &Message, descriptor: Option<BorrowedFd<'_>>) {
    if let Ok(text) = serde_json::to_vec(message) {
        let _ = send(socket, &text, descriptor.as_slice());
    }
}

/// Receives one message; `None` when the other side has closed the socket.
pub(crate) fn next_message(socket: BorrowedFd<'_>) -> std::io::Result<Option<(Message, Option<OwnedFd>)>> {
    let Some((bytes, mut descriptors)) = receive(socket)? else { return Ok(None) };
    Ok(Some((serde_json::from_slice(&bytes)?, descriptors.pop())))
}

/// Sends bytes and descriptors as one packet.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        let pushed = ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(pushed, "at most three descriptors are sent");
    }
    rustix::io::retry_on_intr(|| {
        sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
    })
}

/// Receives one packet; `None` at the end.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> rustix::io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; MESSAGE_LIMIT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    if received.bytes == 0 {
        return Ok(None);
    }
    buffer.truncate(received.bytes);
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(Some((buffer, descriptors)))
}
