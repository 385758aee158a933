//! An ssh agent inside this process (draft-miller-ssh-agent): it lists its keys and signs with them, nothing else.
//!
//! It is a thread, not the program `ssh-agent`: whatever ends this process, SIGKILL too, ends the agent. A child could
//! not promise that: the kernel drops the wish to be killed with one's parent when a program with a group of its own
//! starts, which `ssh-agent` is. Nor does it ask who calls. Its folder is this user's alone, and in a container every
//! user may ask, which `ssh-agent` refuses to all but root.

use std::fs::Permissions;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use tempfile::TempDir;

use super::key::PrivateKey;
use super::wire::{Reader, put_string};

/// The same limit as `ssh-agent` has, in bytes.
const LARGEST_MESSAGE: usize = 256 << 10;
/// More than a build has at once; the oldest goes when it is more, so that nobody is locked out by forgotten ones.
const CONNECTIONS_MAX: usize = 64;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// The agent, until this is dropped.
#[derive(Debug)]
pub(super) struct PrivateAgent {
    directory: TempDir,
    /// Its end tells the thread to end.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl PrivateAgent {
    /// Starts an agent whose socket lies in a folder of its own below `temp`.
    pub(super) fn start(keys: Vec<PrivateKey>, temp: &Path) -> io::Result<Self> {
        // Nobody else may enter it.
        let mode = Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().prefix("strake-ssh-").permissions(mode).tempdir_in(temp)?;
        let path = socket(&directory);
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = UnixStream::pair()?;
        let service = Service { keys, listener, stopped, connections: Vec::new() };
        let thread = std::thread::Builder::new().name("ssh-agent".to_owned()).spawn(|| service.run())?;
        Ok(Self { directory, stop: Some(stop), thread: Some(thread) })
    }

    /// The socket.
    pub(super) fn socket(&self) -> PathBuf {
        socket(&self.directory)
    }
}

impl Drop for PrivateAgent {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has ended too.
            let _ = thread.join();
        }
    }
}

fn socket(directory: &TempDir) -> PathBuf {
    directory.path().join("agent")
}

struct Service {
    keys: Vec<PrivateKey>,
    listener: UnixListener,
    stopped: UnixStream,
    connections: Vec<Connection>,
}

impl Service {
    fn run(mut self) {
        while let Some((is_new, is_called)) = self.wait() {
            let mut called = is_called.into_iter();
            let keys = &self.keys;
            self.connections
                .retain_mut(|connection| !called.next().unwrap_or(false) || connection.serve(keys));
            if !is_new {
                continue;
            }
            if let Err(error) = self.accept() {
                tracing::debug!("the ssh agent ends: {error}");
                return;
            }
        }
    }

    /// Whether somebody new calls, and which connections have something to say. None: it is over.
    fn wait(&self) -> Option<(bool, Vec<bool>)> {
        let mut fds =
            vec![PollFd::new(&self.stopped, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        fds.extend(self.connections.iter().map(|connection| PollFd::new(&connection.stream, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) => (),
            Err(rustix::io::Errno::INTR) => return Some((false, vec![false; self.connections.len()])),
            Err(_) => return None,
        }
        let mut is_called = fds.iter().map(|fd| !fd.revents().is_empty());
        if is_called.next()? {
            return None;
        }
        Some((is_called.next()?, is_called.collect()))
    }

    fn accept(&mut self) -> io::Result<()> {
        use ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
        let accepted = self.listener.accept().and_then(|(stream, _)| {
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        match accepted {
            Ok(stream) => {
                if self.connections.len() == CONNECTIONS_MAX {
                    self.connections.remove(0);
                }
                self.connections.push(Connection { stream, received: Vec::new() });
                Ok(())
            }
            Err(error) if matches!(error.kind(), WouldBlock | ConnectionAborted | Interrupted) => Ok(()),
            Err(error) if self.connections.is_empty() => Err(error),
            Err(_) => {
                // Out of descriptors: whoever came first makes room.
                self.connections.remove(0);
                Ok(())
            }
        }
    }
}

struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Connection {
    /// Answers what has arrived. False: the connection is over, or not worth keeping.
    fn serve(&mut self, keys: &[PrivateKey]) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
        let mut taken = 0;
        while let Some((length, rest)) = self.received[taken..].split_first_chunk() {
            let Ok(length @ 1..=LARGEST_MESSAGE) = usize::try_from(u32::from_be_bytes(*length)) else {
                return false;
            };
            let Some(request) = rest.get(..length) else { break };
            let mut message = Vec::new();
            put_string(&mut message, &answer(request, keys));
            // Who asks reads the answers; who lets them pile up is not waited for.
            if self.stream.write_all(&message).is_err() {
                return false;
            }
            taken += size_of::<u32>() + length;
        }
        self.received.drain(..taken);
        true
    }
}

fn answer(request: &[u8], keys: &[PrivateKey]) -> Vec<u8> {
    match request.split_first() {
        Some((&REQUEST_IDENTITIES, _)) => {
            let mut answer = vec![IDENTITIES_ANSWER];
            let count = u32::try_from(keys.len()).expect("there are few keys");
            answer.extend_from_slice(&count.to_be_bytes());
            for key in keys {
                put_string(&mut answer, &key.public);
                put_string(&mut answer, key.comment.as_bytes());
            }
            answer
        }
        Some((&SIGN_REQUEST, rest)) => signed(rest, keys).unwrap_or_else(|| vec![FAILURE]),
        _ => vec![FAILURE],
    }
}

fn signed(request: &[u8], keys: &[PrivateKey]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(request);
    let (public, data, flags) = (reader.string()?, reader.string()?, reader.u32()?);
    let key = keys.iter().find(|key| key.public == public)?;
    let mut answer = vec![SIGN_RESPONSE];
    put_string(&mut answer, &key.sign(data, flags)?);
    Some(answer)
}

#[cfg(test)]
mod tests;
