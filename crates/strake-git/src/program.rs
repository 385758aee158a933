//! Starting the git program: what it may see, what it may do, and how it is stopped.
//!
//! The child's environment is built from nothing: what the caller passes, without `GIT_*`, and switches that forbid
//! questions, unusual transports, replaced objects and fetching behind our back. Its output is never held in memory; of
//! its error output only the end is kept. It runs in a process group of its own, which is killed as a whole.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::error::{GitError, quoted};

/// How often a running program is checked for cancellation.
const CANCELLATION_PAUSE: Duration = Duration::from_millis(20);
/// How much of the end of the error output is kept: enough for the last screen.
const KEPT_MESSAGE: usize = 4096;
/// The transports that may be used, also after a redirection or a rewriting of the URL by configuration.
const PROTOCOLS: &str = "file:git:http:https:ssh";

/// The git program and all it may know: settings that are resolved once and passed down.
#[derive(Clone)]
pub struct GitProgram {
    program: OsString,
    environment: Vec<(OsString, OsString)>,
    scratch: PathBuf,
    cancelled: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl GitProgram {
    /// `program` is a path or a name to be found on `PATH`. `environment` is what the program inherits, of which
    /// `GIT_*` is left out: usually that of the process, for `PATH`, `HOME` and proxies. Private directories are made,
    /// and removed, in `scratch`, which must exist.
    #[must_use]
    pub fn new(
        program: impl Into<OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        scratch: impl Into<PathBuf>,
    ) -> Self {
        let environment = environment.into_iter().filter(|(name, _)| !name.as_bytes().starts_with(b"GIT_"));
        Self {
            program: program.into(),
            environment: environment.collect(),
            scratch: scratch.into(),
            cancelled: Arc::new(|| false),
        }
    }

    /// Asks this function, often, whether to stop: programs are killed, walks end with [`GitError::Canceled`].
    #[must_use]
    pub fn cancelled_by(mut self, cancelled: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.cancelled = Arc::new(cancelled);
        self
    }

    pub(crate) fn check_cancelled(&self) -> Result<(), GitError> {
        if (self.cancelled)() { Err(GitError::Canceled) } else { Ok(()) }
    }

    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// A command with the environment and the switches every use of git needs.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.envs([
            ("LC_ALL", "C"),
            ("GIT_ALLOW_PROTOCOL", PROTOCOLS),
            ("GIT_ASKPASS", ""),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("SSH_ASKPASS_REQUIRE", "never"),
        ]);
        command.args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.auto=0"]);
        command.args(["-c", "maintenance.auto=false", "-c", "submodule.recurse=false"]);
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A command that looks at nothing but the repository in `git_dir`: no configuration of the user or the system
    /// changes what it prints.
    pub(crate) fn isolated_command(&self, git_dir: &Path) -> Command {
        let mut command = self.command();
        command.env("GIT_DIR", git_dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("GIT_ATTR_NOSYSTEM", "1").current_dir(git_dir);
        command
    }

    /// Runs to the end and passes all output on. `doing` is for the error message.
    pub(crate) fn run(
        &self,
        command: &mut Command,
        doing: &str,
        output: &mut dyn Write,
    ) -> Result<(), GitError> {
        self.check_cancelled()?;
        let child = command.spawn().map_err(GitError::io(format!(
            "{doing}: start the program {}",
            self.program.to_string_lossy()
        )))?;
        let finished = self.supervise(child, output).map_err(GitError::io(doing))?;
        self.check_cancelled()?;
        match finished.output_error {
            Some(error) => Err(GitError::io(format!("{doing}: take the output of git"))(error)),
            None if finished.status.success() => Ok(()),
            None => Err(GitError::Program { doing: doing.to_owned(), message: finished.message() }),
        }
    }

    /// Runs to the end and answers what was printed, of which there must be little.
    pub(crate) fn answer(&self, command: &mut Command, doing: &str) -> Result<Vec<u8>, GitError> {
        let mut output = Bounded { bytes: Vec::new(), limit: 64 << 20 };
        self.run(command, doing, &mut output)?;
        Ok(output.bytes)
    }

    fn supervise(&self, mut child: Child, output: &mut dyn Write) -> io::Result<Finished> {
        let group = rustix::process::Pid::from_child(&child);
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        std::thread::scope(|scope| {
            let (done, ended) = channel();
            scope.spawn(move || self.kill_when_cancelled(group, &ended));
            let message = scope.spawn(move || stderr.as_mut().map(read_end).unwrap_or_default());
            let output_error = stdout.as_mut().and_then(|stdout| io::copy(stdout, output).err());
            if output_error.is_some() {
                kill(group);
            }
            let status = child.wait();
            // A grandchild may still hold the pipe, so this too must end when the caller gives up.
            let message = message.join().unwrap_or_default();
            drop(done);
            Ok(Finished { status: status?, message, output_error })
        })
    }

    fn kill_when_cancelled(&self, group: rustix::process::Pid, ended: &Receiver<()>) {
        while ended.recv_timeout(CANCELLATION_PAUSE) == Err(RecvTimeoutError::Timeout) {
            if (self.cancelled)() {
                kill(group);
                return;
            }
        }
    }
}

impl fmt::Debug for GitProgram {
    /// Without the environment, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitProgram").field("program", &self.program).field("scratch", &self.scratch).finish()
    }
}

/// How repositories behind ssh are reached.
#[derive(Debug, Clone)]
pub struct SshAccess {
    command: OsString,
    agent_socket: Option<PathBuf>,
}

impl SshAccess {
    /// The `ssh` of the path, never asking anything, and leaving no connection open behind itself. Keys are only those of the agent that listens on `agent_socket`;
    /// without one, those ssh finds itself.
    #[must_use]
    pub fn with_agent(agent_socket: Option<PathBuf>) -> Self {
        Self { command: OsString::from("ssh -o BatchMode=yes -o ControlMaster=no"), agent_socket }
    }

    /// Another command line in place of `ssh`, as `GIT_SSH_COMMAND` has it: for a shell.
    #[must_use]
    pub fn with_command(mut self, command: impl AsRef<OsStr>) -> Self {
        command.as_ref().clone_into(&mut self.command);
        self
    }

    /// Further options as in `ssh -o`, which win over the user's settings.
    #[must_use]
    pub fn with_options(mut self, options: impl IntoIterator<Item = String>) -> Self {
        for option in options {
            self.command.push(format!(" -o '{}'", option.replace('\'', r"'\''")));
        }
        self
    }

    pub(crate) fn apply(&self, command: &mut Command) {
        command.env("GIT_SSH_COMMAND", &self.command).env("GIT_SSH_VARIANT", "ssh");
        match &self.agent_socket {
            Some(socket) => command.env("SSH_AUTH_SOCK", socket),
            None => command.env_remove("SSH_AUTH_SOCK"),
        };
    }
}

struct Finished {
    status: ExitStatus,
    message: Vec<u8>,
    output_error: Option<io::Error>,
}

impl Finished {
    fn message(&self) -> String {
        let text = self.message.trim_ascii();
        if text.is_empty() {
            return format!("nothing ({})", self.status);
        }
        let lines = text.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
        let lines: Vec<String> = lines.filter(|line| !line.is_empty()).map(quoted).collect();
        lines.join("; ")
    }
}

/// The whole group may be gone already, which is as good.
fn kill(group: rustix::process::Pid) {
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
}

/// Reads everything, so that the writer never waits, and keeps the end.
fn read_end(stream: &mut impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        let surplus = kept.len().saturating_sub(KEPT_MESSAGE);
        kept.drain(..surplus);
    }
    kept
}

struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(io::Error::other(format!("more than {} bytes", self.limit)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
