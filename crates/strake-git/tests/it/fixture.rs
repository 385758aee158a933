//! Repositories made by the git program, with fixed dates and names, in a directory that goes away.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use strake_git::{CommitId, GitProgram, Repository, RepositoryPath, SshAccess};

/// A directory with repositories in it.
pub(crate) struct Fixture {
    directory: tempfile::TempDir,
    /// Seconds, one more with every commit.
    clock: Cell<u64>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for inner in ["home", "scratch"] {
            fs::create_dir(directory.path().join(inner)).unwrap();
        }
        let config = "[user]\nname = A\nemail = a@example.org\n[init]\ndefaultBranch = main\n\
            [protocol \"file\"]\nallow = always\n[advice]\ndetachedHead = false\n";
        fs::write(directory.path().join("home/.gitconfig"), config).unwrap();
        Self { directory, clock: Cell::new(1_500_000_000) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program as the code under test gets it.
    pub(crate) fn program(&self) -> GitProgram {
        let mut environment = environment();
        environment.push((OsString::from("HOME"), self.path("home").into_os_string()));
        // Must not reach the child.
        environment.push((OsString::from("GIT_DIR"), OsString::from("/nowhere")));
        environment.push((OsString::from("GIT_EXTERNAL_DIFF"), OsString::from("/bin/false")));
        GitProgram::new("git", environment, self.path("scratch"))
    }

    pub(crate) fn ssh() -> SshAccess {
        SshAccess::with_agent(None)
    }

    /// An empty repository of this name.
    pub(crate) fn init(&self, name: &str) -> Repo<'_> {
        self.init_with(name, &[])
    }

    pub(crate) fn init_with(&self, name: &str, options: &[&str]) -> Repo<'_> {
        let repo = self.repo(name);
        fs::create_dir_all(&repo.path).unwrap();
        repo.git(&[&["init", "-q"], options].concat());
        repo
    }

    pub(crate) fn repo(&self, name: &str) -> Repo<'_> {
        Repo { path: self.path(name), fixture: self }
    }

    pub(crate) fn open(&self, name: &str) -> Repository {
        Repository::open(&self.path(name), &self.program()).unwrap()
    }

    /// Nothing private may be left behind.
    pub(crate) fn assert_scratch_is_empty(&self) {
        assert_eq!(fs::read_dir(self.path("scratch")).unwrap().count(), 0);
    }
}

/// One repository, written through the git program.
pub(crate) struct Repo<'a> {
    pub(crate) path: PathBuf,
    fixture: &'a Fixture,
}

impl Repo<'_> {
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output = self.git_bytes(arguments);
        String::from_utf8(output).unwrap().trim_end().to_owned()
    }

    pub(crate) fn git_bytes(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.command(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "git {arguments:?}: {error}");
        output.stdout
    }

    pub(crate) fn git_with_input(&self, arguments: &[&str], input: &[u8]) -> String {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "git {arguments:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub(crate) fn git_succeeds(&self, arguments: &[&str]) -> bool {
        self.command(arguments).output().unwrap().status.success()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let date = format!("{} +0000", self.fixture.clock.get());
        let mut command = Command::new("git");
        command.env_clear().envs(environment()).env("HOME", self.fixture.path("home"));
        command.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
        command.current_dir(&self.path).args(arguments);
        command
    }

    pub(crate) fn write(&self, path: impl AsRef<OsStr>, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path.join(path.as_ref());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    pub(crate) fn write_bytes(&self, path: &[u8], content: &[u8]) -> &Self {
        self.write(OsStr::from_bytes(path), content)
    }

    pub(crate) fn executable(&self, path: &str) -> &Self {
        fs::set_permissions(self.path.join(path), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    pub(crate) fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.path.join(path);
        let _ = fs::remove_file(&path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
        self
    }

    pub(crate) fn remove(&self, path: &str) -> &Self {
        let path = self.path.join(path);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
        self
    }

    /// Commits everything there is, also nothing new.
    pub(crate) fn commit(&self, message: &str) -> CommitId {
        self.fixture.clock.set(self.fixture.clock.get() + 1);
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.head()
    }

    pub(crate) fn merge(&self, branch: &str) -> CommitId {
        self.fixture.clock.set(self.fixture.clock.get() + 1);
        self.git(&["merge", "-q", "--no-ff", "-m", "merge", branch]);
        self.head()
    }

    pub(crate) fn head(&self) -> CommitId {
        CommitId::from_hex(&self.git(&["rev-parse", "HEAD"])).unwrap()
    }

    pub(crate) fn set_clock(&self, seconds: u64) {
        self.fixture.clock.set(seconds);
    }

    /// Where git starts in a directory of the work tree.
    pub(crate) fn below(&self, directory: &str) -> Repo<'_> {
        Repo { path: self.path.join(directory), fixture: self.fixture }
    }

    pub(crate) fn open(&self) -> Repository {
        Repository::open(&self.path, &self.fixture.program()).unwrap()
    }
}

pub(crate) fn add(path: &str) -> RepositoryPath {
    RepositoryPath::parse(path).unwrap()
}

pub(crate) fn root() -> RepositoryPath {
    add("/")
}

pub(crate) fn url_of(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// Says what is missing; with `STRAKE_TEST_REQUIRE_ALL=1` that is a failure.
#[expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "the switch of the test run, not a setting of the program"
)]
pub(crate) fn missing(what: &str) {
    assert!(std::env::var_os("STRAKE_TEST_REQUIRE_ALL").is_none(), "missing: {what}");
    eprintln!("SKIPPED for want of {what}");
}

fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| name == "PATH").collect()
}
