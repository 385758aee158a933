//! A place of its own for one test: directories, a store, a home, and the real program.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use serde_json::json;

use crate::{Base, Failure, Finished, Outcome, Run, TestUser, base_tar, write_docker_archive};

/// A store, a home and a work directory of one user, removed when this is dropped.
#[derive(Debug)]
pub struct Sandbox {
    directory: tempfile::TempDir,
    program: PathBuf,
    user: Option<TestUser>,
}

impl Sandbox {
    /// A sandbox that runs `program` (`env!("CARGO_BIN_EXE_strake")`) as the user of the test run.
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn new(program: &str) -> Outcome<Self> {
        Self::create(program, None, Path::new("/var/tmp"))
    }

    /// A sandbox of an ordinary user; the program is copied to where that user can reach it.
    ///
    /// # Errors
    /// When its directories cannot be made, or the test run is not root's.
    pub fn of_user(program: &str, user: TestUser) -> Outcome<Self> {
        Self::create(program, Some(user), Path::new("/var/tmp"))
    }

    /// A sandbox in `parent`, which somebody else removes should this process be killed.
    pub(crate) fn within(program: &Path, parent: &Path) -> Outcome<Self> {
        Self::create(program, None, parent)
    }

    fn create(program: impl Into<PathBuf>, user: Option<TestUser>, parent: &Path) -> Outcome<Self> {
        // Modes of files are part of what is built and compared; whoever runs the tests may have another umask.
        rustix::process::umask(Mode::from_raw_mode(0o022));
        // /var/tmp is on a disk; overlayfs in a user namespace does not work on every tmpfs.
        let directory = tempfile::Builder::new().prefix("strake-it-").tempdir_in(parent);
        let directory =
            directory.map_err(Failure::at(format!("create a sandbox in {}", parent.display())))?;
        let mut sandbox = Self { directory, program: program.into(), user };
        if sandbox.user.is_some() {
            sandbox.open_to_everybody(sandbox.directory.path())?;
            let copy = sandbox.directory.path().join("strake");
            std::fs::copy(&sandbox.program, &copy)
                .map_err(Failure::at("copy the program into the sandbox"))?;
            sandbox.open_to_everybody(&copy)?;
            sandbox.program = copy;
        }
        for name in ["store", "home", "work", "run", "home/.docker"] {
            let path = sandbox.directory.path().join(name);
            std::fs::create_dir(&path).map_err(Failure::at(format!("create {}", path.display())))?;
            sandbox.give(&path)?;
        }
        Ok(sandbox)
    }

    /// The work directory: where commands start and what relative paths of this type mean.
    pub fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// `STRAKE_ROOT` of this sandbox.
    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// `HOME` of this sandbox.
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// `DOCKER_CONFIG` of this sandbox, an empty directory at first.
    pub fn docker_config(&self) -> PathBuf {
        self.directory.path().join("home/.docker")
    }

    /// A path below the work directory.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.work().join(relative)
    }

    /// Writes a file below the work directory, with the folders on its way, owned by the sandbox's user.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> Outcome<PathBuf> {
        let path = self.path(relative);
        let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|parent| !parent.exists()).collect();
        for parent in missing.into_iter().rev() {
            std::fs::create_dir(parent).map_err(Failure::at(format!("create {}", parent.display())))?;
            self.give(parent)?;
        }
        std::fs::write(&path, content).map_err(Failure::at(format!("write {}", path.display())))?;
        self.give(&path)?;
        Ok(path)
    }

    /// Copies a directory of another sandbox into the work directory under the same name, owned by this sandbox's
    /// user; modes (setuid too), hard links, named pipes and times stay.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn receive(&self, directory: &Path) -> Outcome<PathBuf> {
        let name = directory.file_name().ok_or_else(|| Failure::new("a directory without a name"))?;
        let to = self.work().join(name);
        std::fs::create_dir(&to).map_err(Failure::at(format!("create {}", to.display())))?;
        self.give(&to)?;
        let packed = tempfile::NamedTempFile::new_in("/var/tmp").map_err(Failure::at("create a file"))?;
        Run::new("tar").arg("-C").arg(directory).arg("-cf").arg(packed.path()).arg(".").succeed()?;
        self.open_to_everybody(packed.path())?;
        self.run("tar")
            .arg("-C")
            .arg(&to)
            .args(["--preserve-permissions", "-xf"])
            .arg(packed.path())
            .succeed()?;
        Ok(to)
    }

    /// Reads a text file below the work directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, relative: &str) -> Outcome<String> {
        let path = self.path(relative);
        std::fs::read_to_string(&path).map_err(Failure::at(format!("read {}", path.display())))
    }

    /// The program with `args`, in the work directory, seeing nothing of the test run's own environment.
    pub fn strake<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        self.run(&self.program).args(args)
    }

    /// Any other program in the same place and as the same user: umoci, skopeo, a shell. However full the disk of the
    /// test machine is, nothing is removed from the store by itself.
    pub fn run(&self, program: impl AsRef<std::ffi::OsStr>) -> Run {
        let directory = self.directory.path();
        let run = Run::new(program)
            .directory(&self.work())
            .env("HOME", self.home())
            .env("XDG_RUNTIME_DIR", directory.join("run"))
            .env("STRAKE_ROOT", self.store())
            .env("STRAKE_AUTO_PRUNE", "off")
            .env("DOCKER_CONFIG", self.docker_config());
        match &self.user {
            Some(user) => run.env("USER", &user.name).user(user),
            None => run,
        }
    }

    /// Puts a base image into the store under the name `name:latest`, with the search path as its environment.
    ///
    /// # Errors
    /// When the base cannot be made or strake refuses it.
    pub fn load_base(&self, base: Base, name: &str) -> Outcome<Finished> {
        let archive = self.base_archive(base, name)?;
        self.strake(["load", "--input"]).arg(archive).succeed()
    }

    /// The docker archive of a base image, for strake and for the referees alike.
    ///
    /// # Errors
    /// When the base cannot be made or the archive not be written.
    pub fn base_archive(&self, base: Base, name: &str) -> Outcome<PathBuf> {
        let path = self.directory.path().join(format!("{}.tar", base.name()));
        let tar = base_tar(base)?;
        let layer = std::fs::read(&tar).map_err(Failure::at(format!("read {}", tar.display())))?;
        let config = json!({"Env": [SEARCH_PATH], "Cmd": ["/bin/sh"]});
        write_docker_archive(&path, &format!("{name}:latest"), &[&layer], &config)?;
        self.give(&path)?;
        Ok(path)
    }

    fn give(&self, path: &Path) -> Outcome<()> {
        match &self.user {
            Some(user) => chown(path, Some(user.uid), Some(user.gid))
                .map_err(Failure::at(format!("chown {}", path.display()))),
            None => Ok(()),
        }
    }

    fn open_to_everybody(&self, path: &Path) -> Outcome<()> {
        std::fs::set_permissions(path, Permissions::from_mode(0o755))
            .map_err(Failure::at(format!("chmod {}", path.display())))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Files of a rootless store belong to subordinate ids: root may remove them, their own user only from
        // inside a user namespace. What is left over lies in /var/tmp under a telling name.
        if std::fs::remove_dir_all(self.directory.path()).is_err() {
            let remove = Run::new("unshare")
                .args(["--map-root-user", "--map-auto", "rm", "-rf"])
                .arg(self.directory.path());
            drop(remove.finish());
        }
    }
}

/// What Docker's own base images have.
const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
