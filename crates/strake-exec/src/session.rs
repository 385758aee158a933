//! The executor's half of a run: starts the init process, carries input and output, collects its reports.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno as Os;
use rustix::process::Signal;

use crate::error::ExecError;
use crate::mount::{self, Trace};
use crate::process::{Container, ExitStatus};
use crate::terminal::{self, RawMode};
use crate::wire::{self, Message, Runner};
use crate::{Cancel, INIT_ARG, Io, OutputSink, Stdin, Stream};

/// Largest piece of output handed to the sink, in bytes: what a pipe holds.
const PIECE: usize = 64 << 10;
/// How often the size of the program's terminal is looked at. A signal would need a handler in a library.
const SIZE_INTERVAL: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// Most input kept for a terminal that does not read, in bytes.
const INPUT_LIMIT: usize = 16 << 10;
/// End-of-transmission, what a terminal sends for the end of input.
const END_OF_INPUT: u8 = 4;

/// Runs `container` through a fresh copy of `program`.
pub(crate) fn run(
    program: &Path,
    container: &Container,
    runner: &Runner,
    network: Option<BorrowedFd<'_>>,
    io: Io<'_>,
    cancel: &Cancel,
) -> Result<ExitStatus, ExecError> {
    container.validate()?;
    if cancel.is_cancelled() {
        return Err(ExecError::Cancelled);
    }
    let mut session = Session::start(program, container, runner, network, &io)?;
    let result = session.carry(io, container.process.terminal, cancel);
    session.stop();
    mount::clean(&container.rootfs, &session.traces);
    result?;
    session.verdict()
}

/// A running init process and what it has reported.
struct Session {
    init: Child,
    control: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    master: Option<OwnedFd>,
    first: Option<OwnedFd>,
    traces: Vec<Trace>,
    failure: Option<ExecError>,
    status: Option<ExitStatus>,
    cancelled: bool,
}

impl Session {
    fn start(
        program: &Path,
        container: &Container,
        runner: &Runner,
        network: Option<BorrowedFd<'_>>,
        io: &Io<'_>,
    ) -> Result<Self, ExecError> {
        let (ours, theirs) =
            wire::control_sockets().map_err(|errno| ExecError::setup("make a socket", errno))?;
        let mut init = Command::new(program)
            .arg0("strake-init")
            .arg(INIT_ARG)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| ExecError::setup_io(format!("start {}", program.display()), &error))?;
        let sized = container.process.terminal && io.stdin == Stdin::Terminal;
        let size = sized.then(terminal::size).flatten();
        let inherited = !container.process.terminal && io.stdin != Stdin::Null;
        let stdin = inherited.then(rustix::stdio::stdin);
        let sent = wire::send_instructions(ours.as_fd(), container, runner, size, network, stdin);
        let mut session = Self {
            control: Some(ours),
            stdout: init.stdout.take().map(OwnedFd::from),
            stderr: init.stderr.take().map(OwnedFd::from),
            init,
            master: None,
            first: None,
            traces: Vec::new(),
            failure: None,
            status: None,
            cancelled: false,
        };
        if let Err(error) = sent {
            session.stop();
            return Err(ExecError::internal(format!("send instructions: {error}")));
        }
        Ok(session)
    }

    /// Carries everything until all ends are closed.
    fn carry(&mut self, io: Io<'_>, terminal: bool, cancel: &Cancel) -> Result<(), ExecError> {
        let raw = (terminal && io.stdin == Stdin::Terminal).then(RawMode::enter).flatten();
        let mut input = Input::new(terminal && io.stdin != Stdin::Null);
        let mut size = terminal::size();
        let output = io.output;
        let mut buffer = vec![0; PIECE];
        while self.control.is_some()
            || self.stdout.is_some()
            || self.stderr.is_some()
            || self.master.is_some()
        {
            if let (Some(master), Some(_)) = (&self.master, &raw) {
                terminal::forward_size(master.as_fd(), &mut size);
            }
            let ready = self.wait(&input, cancel, raw.is_some())?;
            if ready.cancel {
                self.cancelled = true;
                self.kill();
            }
            if ready.control {
                self.hear();
            }
            if ready.stdout {
                forward(&mut self.stdout, Stream::Stdout, &mut buffer, output);
            }
            if ready.stderr {
                forward(&mut self.stderr, Stream::Stderr, &mut buffer, output);
            }
            if ready.master_out {
                forward(&mut self.master, Stream::Stdout, &mut buffer, output);
            }
            if ready.stdin {
                input.read();
            }
            if let Some(master) = &self.master {
                input.write(master.as_fd());
            }
        }
        Ok(())
    }

    fn wait(&self, input: &Input, cancel: &Cancel, sized: bool) -> Result<Ready, ExecError> {
        let mut watched = Watched(Vec::with_capacity(6));
        let mut master_flags = PollFlags::IN;
        master_flags.set(PollFlags::OUT, !input.pending.is_empty());
        let control = watched.add(self.control.as_ref().map(AsFd::as_fd), PollFlags::IN);
        let stdout = watched.add(self.stdout.as_ref().map(AsFd::as_fd), PollFlags::IN);
        let stderr = watched.add(self.stderr.as_ref().map(AsFd::as_fd), PollFlags::IN);
        let master = watched.add(self.master.as_ref().map(AsFd::as_fd), master_flags);
        let stop = watched.add(cancel.event().filter(|_| !self.cancelled), PollFlags::IN);
        let wants_input = self.master.is_some() && input.wants_more();
        let stdin = watched.add(wants_input.then(rustix::stdio::stdin), PollFlags::IN);
        let timeout = (sized && self.master.is_some()).then_some(&SIZE_INTERVAL);
        match poll(&mut watched.0, timeout) {
            Ok(_) | Err(Os::INTR) => {}
            Err(errno) => return Err(ExecError::setup("wait for the container", errno)),
        }
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        let any =
            |index: Option<usize>| index.is_some_and(|index| watched.0[index].revents().intersects(readable));
        Ok(Ready {
            control: any(control),
            stdout: any(stdout),
            stderr: any(stderr),
            master_out: any(master),
            cancel: any(stop),
            stdin: any(stdin),
        })
    }

    /// Takes one message of the init process.
    fn hear(&mut self) {
        let Some(control) = &self.control else { return };
        match wire::next_message(control.as_fd()) {
            Ok(Some((message, descriptor))) => self.note(message, descriptor),
            Ok(None) => self.control = None,
            Err(error) => {
                self.failure.get_or_insert(ExecError::internal(format!("read its report: {error}")));
                self.control = None;
            }
        }
        if self.control.is_none() {
            // Nobody watches over the container any more.
            self.kill();
        }
    }

    fn note(&mut self, message: Message, descriptor: Option<OwnedFd>) {
        match message {
            Message::Process => {
                self.first = descriptor;
                if self.cancelled {
                    self.kill();
                }
            }
            Message::Terminal => {
                if let Some(master) = descriptor
                    && rustix::io::ioctl_fionbio(&master, true).is_ok()
                {
                    self.master = Some(master);
                }
            }
            Message::Trace(trace) => self.traces.push(trace),
            // The first failure is the cause of the others.
            Message::Failed(error) => drop(self.failure.get_or_insert(error)),
            Message::Ended(status) => self.status = Some(status),
        }
    }

    /// Kills the container: its first process takes all others with it. The init process then reports and ends.
    fn kill(&mut self) {
        match &self.first {
            Some(first) => {
                let _ = rustix::process::pidfd_send_signal(first, Signal::KILL);
            }
            None => {
                let _ = self.init.kill();
            }
        }
    }

    /// Sees to it that nothing is left running.
    fn stop(&mut self) {
        self.control = None;
        if let Some(first) = &self.first {
            let _ = rustix::process::pidfd_send_signal(first, Signal::KILL);
        }
        let _ = self.init.wait();
    }

    fn verdict(self) -> Result<ExitStatus, ExecError> {
        match (self.failure, self.status) {
            _ if self.cancelled => Err(ExecError::Cancelled),
            (Some(error), _) => Err(error),
            (None, Some(status)) => Ok(status),
            (None, None) => Err(ExecError::internal("ended without a report")),
        }
    }
}

/// Descriptors to wait for.
struct Watched<'a>(Vec<PollFd<'a>>);

impl<'a> Watched<'a> {
    /// Adds one, if there is one; returns its place in the list.
    fn add(&mut self, fd: Option<BorrowedFd<'a>>, flags: PollFlags) -> Option<usize> {
        self.0.push(PollFd::from_borrowed_fd(fd?, flags));
        Some(self.0.len() - 1)
    }
}

/// What has something to read.
struct Ready {
    control: bool,
    stdout: bool,
    stderr: bool,
    master_out: bool,
    cancel: bool,
    stdin: bool,
}

/// Hands over one piece; closes the end when there is no more.
fn forward(end: &mut Option<OwnedFd>, stream: Stream, buffer: &mut [u8], output: OutputSink<'_>) {
    let Some(fd) = end else { return };
    match rustix::io::read(&*fd, &mut *buffer) {
        Ok(0) => *end = None,
        Ok(length) => output(stream, &buffer[..length]),
        Err(Os::INTR | Os::AGAIN) => {}
        // EIO is how a terminal says that its other side is closed.
        Err(_) => *end = None,
    }
}

/// Input on its way to the container's terminal.
struct Input {
    open: bool,
    pending: VecDeque<u8>,
}

impl Input {
    fn new(open: bool) -> Self {
        Self { open, pending: VecDeque::new() }
    }

    fn wants_more(&self) -> bool {
        self.open && self.pending.len() < INPUT_LIMIT
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(0) => {
                self.open = false;
                self.pending.push_back(END_OF_INPUT);
            }
            Ok(length) => self.pending.extend(&buffer[..length]),
            Err(Os::INTR | Os::AGAIN) => {}
            Err(_) => self.open = false,
        }
    }

    fn write(&mut self, master: BorrowedFd<'_>) {
        let (piece, _) = self.pending.as_slices();
        if piece.is_empty() {
            return;
        }
        if let Ok(length) = rustix::io::write(master, piece) {
            self.pending.drain(..length);
        }
    }
}
