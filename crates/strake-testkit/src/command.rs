//! Running one program to its end, with everything it said.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::running::code;
use crate::{Failure, Outcome, Running, TestUser};

/// A program about to be run. Its environment is empty except for `PATH` and what is set here.
#[derive(Clone, Debug)]
pub struct Run {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    user: Option<TestUser>,
    input: Vec<u8>,
    seconds: u64,
}

impl Run {
    /// The program `program` without arguments, as the user of the test run, for at most 300 seconds.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        Self {
            program: program.as_ref().into(),
            args: Vec::new(),
            env: vec![("PATH".into(), path.into())],
            directory: None,
            user: None,
            input: Vec::new(),
            seconds: 300,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().into());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().into()));
        self
    }

    /// Sets one variable of the environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().into()));
        self
    }

    /// Sets the working directory.
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Runs it as another user; the test run must be root's.
    pub fn user(mut self, user: &TestUser) -> Self {
        self.user = Some(user.clone());
        self
    }

    /// What the program reads from standard input.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// After how many seconds it is stopped; a hang is a failure, never a hanging test run.
    pub fn seconds(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }

    /// Runs the program by way of another one, which gets it and its arguments as its last arguments.
    pub fn through<A: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = A>) -> Self {
        let mut words = words.into_iter().map(|word| word.as_ref().to_owned());
        if let Some(program) = words.next() {
            let inner = std::mem::replace(&mut self.program, program);
            let inner_args = std::mem::take(&mut self.args);
            self.args = words.chain(std::iter::once(inner)).chain(inner_args).collect();
        }
        self
    }

    /// Runs it to its end, whatever that is.
    ///
    /// # Errors
    /// When it could not be started.
    pub fn finish(self) -> Outcome<Finished> {
        let shown = self.shown();
        let mut command = self.command();
        let mut child = command.spawn().map_err(Failure::at(format!("start {shown}")))?;
        let mut stdin = child.stdin.take();
        let input = self.input;
        // A program that writes much before it reads would wait for us while we wait for it.
        let writer = std::thread::spawn(move || {
            if let Some(stdin) = &mut stdin {
                // A program may end without reading everything; its own status says whether that was right.
                drop(stdin.write_all(&input));
            }
        });
        let output = child.wait_with_output().map_err(Failure::at(format!("wait for {shown}")))?;
        drop(writer.join());
        Ok(Finished {
            shown,
            code: code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Starts it and returns at once.
    ///
    /// # Errors
    /// When it could not be started.
    pub fn start(self) -> Outcome<Running> {
        let shown = self.shown();
        // Files instead of pipes: nobody has to read for the program to go on.
        let file = || tempfile::tempfile_in("/var/tmp").map_err(Failure::at("create a file for output"));
        let (stdin, stdout, stderr) = (file()?, file()?, file()?);
        stdin.write_all_at(&self.input, 0).map_err(Failure::at("write standard input"))?;
        let share = |file: &File| file.try_clone().map_err(Failure::at("share a file for output"));
        let mut command = self.command();
        command.stdin(stdin).stdout(share(&stdout)?).stderr(share(&stderr)?);
        let child = command.spawn().map_err(Failure::at(format!("start {shown}")))?;
        Ok(Running { shown, child, stdout, stderr })
    }

    /// Runs it and expects success.
    ///
    /// # Errors
    /// When it could not be started or did not end with 0; the text has everything it said.
    pub fn succeed(self) -> Outcome<Finished> {
        let finished = self.finish()?;
        if finished.code == 0 { Ok(finished) } else { Err(Failure::new(finished.to_string())) }
    }

    /// The same for a test that starts and watches the process itself; nothing stops it after a time.
    pub fn watched(&self) -> Command {
        let mut command = Command::new(&self.program);
        self.dress(command.args(&self.args));
        command
    }

    fn command(&self) -> Command {
        // coreutils' timeout stops the whole group and needs no thread of ours.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &self.seconds.to_string()]).arg(&self.program).args(&self.args);
        self.dress(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Gives the process its surroundings.
    fn dress(&self, command: &mut Command) {
        command.env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        if let Some(user) = &self.user {
            command.uid(user.uid).gid(user.gid);
        }
    }

    fn shown(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    pub(crate) shown: String,
    /// Exit code; 128 + signal when a signal ended it; 124 when its time was over.
    pub code: i32,
    /// Standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl Finished {
    /// Whether it ended with 0.
    pub fn success(&self) -> bool {
        self.code == 0
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "$ {}\nexit code {}", self.shown, self.code)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                writeln!(out, "{name}:")?;
                for line in text.lines() {
                    writeln!(out, "  {line}")?;
                }
            }
        }
        Ok(())
    }
}
