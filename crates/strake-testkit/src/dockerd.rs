//! The referee: one dockerd 20.10 of Debian, with its own directories, socket and no network.
//!
//! All processes of a test run share it. Each holds a shared lock on a file; a small script starts the
//! daemon and stops it when it gets that lock exclusively, that is, when nobody uses the daemon any more.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::requirement::{is_root, program_on_path};
use crate::{Builder, Failure, Finished, ImageArchive, Outcome, Run};

/// A running dockerd; it is stopped when the last guard on the machine is dropped.
#[derive(Debug)]
pub struct Dockerd {
    directory: PathBuf,
    client: PathBuf,
    _user: File,
}

impl Dockerd {
    /// Joins the daemon of this test run, or starts it.
    ///
    /// # Errors
    /// When this process is not root, docker is not installed, or the daemon does not answer in 60 seconds;
    /// the text has the end of its log.
    pub fn shared() -> Outcome<Self> {
        if !is_root() {
            return Err(Failure::new("root, to start dockerd"));
        }
        let daemon = program_on_path("dockerd").ok_or_else(|| Failure::new("dockerd (package docker.io)"))?;
        // Debian's own client by its full path: it has the classic builder, newer clients have lost it.
        let client = PathBuf::from("/usr/bin/docker");
        if !client.exists() {
            return Err(Failure::new("/usr/bin/docker (package docker.io)"));
        }
        // Not below the target directory: a socket's path is limited to 108 bytes.
        let directory = PathBuf::from("/var/tmp/strake-test-dockerd");
        std::fs::create_dir_all(&directory).map_err(Failure::at("create the directory of dockerd"))?;
        let user = open(&directory.join("users"))?;
        user.lock_shared().map_err(Failure::at("wait for dockerd of an earlier run to stop"))?;
        let dockerd = Self { directory, client, _user: user };
        let start = open(&dockerd.directory.join("start"))?;
        start.lock().map_err(Failure::at("wait for another process to start dockerd"))?;
        if !dockerd.answers() {
            dockerd.start(&daemon)?;
        }
        Ok(dockerd)
    }

    /// The client with `args`; `BuildKit` or the classic builder as `builder` says.
    pub fn client(&self, builder: Builder) -> Run {
        let build_kit = if builder == Builder::BuildKit { "1" } else { "0" };
        Run::new(&self.client)
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_BUILDKIT", build_kit)
            .env("HOME", &self.directory)
            .env("DOCKER_CONFIG", self.directory.join("config"))
    }

    /// Builds `directory` without network and without cache, and names the result `tag`. Does not judge the outcome.
    ///
    /// # Errors
    /// When the client could not be started.
    pub fn build(&self, builder: Builder, tag: &str, args: &[String], directory: &Path) -> Outcome<Finished> {
        let mut run = self.client(builder).args(["build", "--network=none", "--no-cache", "--tag", tag]);
        run = match builder {
            Builder::BuildKit => run.arg("--progress=plain"),
            // Intermediate containers stay behind otherwise when a step fails.
            Builder::Classic => run.arg("--force-rm"),
        };
        run.args(args).arg(directory).finish()
    }

    /// Loads a docker archive.
    ///
    /// # Errors
    /// When docker refuses it.
    pub fn load(&self, archive: &Path) -> Outcome<Finished> {
        self.client(Builder::Classic).args(["load", "--input"]).arg(archive).succeed()
    }

    /// Reads the image `tag` back, all its layers and its config, and removes the tag.
    ///
    /// # Errors
    /// When there is no such image or its archive cannot be read.
    pub fn take(&self, tag: &str) -> Outcome<ImageArchive> {
        let file = tempfile::Builder::new().prefix("strake-save-").tempfile_in("/var/tmp");
        let file = file.map_err(Failure::at("create a file for docker save"))?;
        self.client(Builder::Classic).args(["save", "--output"]).arg(file.path()).arg(tag).succeed()?;
        let archive = ImageArchive::read(file.path())?;
        self.client(Builder::Classic).args(["rmi", "--no-prune", tag]).succeed()?;
        Ok(archive)
    }

    /// What `DOCKER_HOST` has to be.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Process id of the daemon, to read its memory.
    pub fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.directory.join("dockerd.pid")).ok()?.trim().parse().ok()
    }

    fn start(&self, daemon: &Path) -> Outcome<()> {
        let run = Run::new("setsid").args(["sh", "-c", include_str!("keeper.sh"), "keeper"]);
        let mut keeper = run.arg(&self.directory).arg(daemon).watched();
        keeper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut keeper = keeper.spawn().map_err(Failure::at("start the keeper of dockerd"))?;
        let begun = Instant::now();
        while !self.answers() {
            let gone = keeper.try_wait().is_ok_and(|status| status.is_some());
            if gone || begun.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(15).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                return Err(Failure::new(format!(
                    "dockerd does not answer; its log ends with:\n{}",
                    tail.join("\n")
                )));
            }
            // Another program's readiness has no event to wait for; asking ten times a second costs nothing.
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn answers(&self) -> bool {
        self.socket().exists()
            && self
                .client(Builder::Classic)
                .args(["version", "--format", "x"])
                .finish()
                .is_ok_and(|out| out.success())
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("sock")
    }
}

fn open(path: &Path) -> Outcome<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Failure::at(format!("open {}", path.display())))
}
