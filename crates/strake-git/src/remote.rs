//! A repository that lives elsewhere, kept as a bare clone.
//!
//! The clone is ours alone: its configuration is written by us and again before every use, and only one process works on
//! it at a time, under a lock beside it. git is given the lock as its standard input, so that the lock outlives us if
//! we are killed and git goes on. A fetch that was killed leaves unfinished files git does not look at, and lock files,
//! which are removed by the next one. Should a clone be damaged nevertheless, it is made anew.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use gix_hash::{Kind, ObjectId};

use crate::error::{GitError, quoted};
use crate::id::CommitId;
use crate::program::{GitProgram, SshAccess};
use crate::repository::Repository;
use crate::revision::Revision;
use crate::scratch::{bare_config, make_bare};
use crate::url::RemoteUrl;

/// How long to wait for another process (stage-file.md §7.1).
const LOCK_LIMIT: Duration = Duration::from_secs(600);
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// Branches and tags as they are there; what was removed there is removed here.
const REFSPECS: [&str; 2] = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];

/// Which commit of which repository is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteSource {
    /// `https`, `http`, `ssh`, `git` or `file` URL, `user@host:path`, or an absolute path.
    pub url: String,
    /// Which commit.
    pub revision: Revision,
}

/// A clone that has the commit that was asked for.
#[derive(Debug)]
pub struct RemoteClone {
    /// The clone, open for reading. Nobody else changes what it has, only adds to it.
    pub repository: Repository,
    /// The commit the source means now.
    pub commit: CommitId,
}

impl RemoteClone {
    /// Sees to it that the bare clone in `directory` has the commit, and says which it is.
    ///
    /// A commit, or a tag that is already known, needs no network; a branch is looked up each time, and everything is
    /// fetched if it moved. `directory` is made if need be; beside it lies its lock, `<directory>.lock`.
    ///
    /// # Errors
    ///
    /// [`GitError::Url`], [`GitError::Locked`] after 600 s, [`GitError::UnknownRevision`], [`GitError::Program`] when
    /// the repository cannot be reached, [`GitError::Canceled`], [`GitError::Io`].
    pub fn update(
        source: &RemoteSource,
        directory: &Path,
        ssh: &SshAccess,
        git: &GitProgram,
    ) -> Result<Self, GitError> {
        let url = RemoteUrl::parse(&source.url)?;
        let lock = lock(directory, git)?;
        let place = Place { url, directory, ssh, git, lock };
        if let Some(found) = without_network(&place.url, directory, &source.revision, git) {
            return Ok(found);
        }
        let advertised = place.advertised(&source.revision)?;
        match place.fetched(&source.revision, &advertised) {
            Err(error @ (GitError::Program { .. } | GitError::Corrupt { .. } | GitError::Missing { .. }))
                if directory.exists() =>
            {
                tracing::debug!("make the clone {} anew: {error}", directory.display());
                place.anew(&source.revision, &advertised).map_err(|_| error)
            }
            other => other,
        }
    }
}

/// What a clone has already, if that is all there is to know: a commit never changes, and a tag is taken for fixed.
pub(crate) fn without_network(
    url: &RemoteUrl,
    directory: &Path,
    revision: &Revision,
    git: &GitProgram,
) -> Option<RemoteClone> {
    let is_fixed = matches!(revision, Revision::Commit(_) | Revision::Tag(_));
    let repository = if is_fixed { Repository::at(directory, None, git).ok()? } else { return None };
    // A tag of another repository that was here before must not be taken for one of this.
    repository.origin_url().filter(|origin| origin == url.as_str())?;
    let commit = repository.resolve(revision).ok()?;
    repository.tree(commit).ok().filter(|tree| repository.objects.exists(&tree.0))?;
    Some(RemoteClone { repository, commit })
}

/// What the other side says a revision is.
struct Advertised {
    hash: Kind,
    commit: Option<ObjectId>,
}

/// A clone under our lock.
struct Place<'a> {
    url: RemoteUrl,
    directory: &'a Path,
    ssh: &'a SshAccess,
    git: &'a GitProgram,
    lock: File,
}

impl Place<'_> {
    /// Asks the other side, unless it is clear; the length of an id also tells the hash function.
    fn advertised(&self, revision: &Revision) -> Result<Advertised, GitError> {
        let wanted = match revision {
            Revision::Commit(id) => return Ok(Advertised { hash: id.0.kind(), commit: Some(id.0) }),
            Revision::RemoteHead => "HEAD".to_owned(),
            Revision::Tag(name) => format!("refs/tags/{name}"),
            Revision::Branch(name) => format!("refs/heads/{name}"),
        };
        if gix_ref::FullName::try_from(wanted.as_str()).is_err() {
            return Err(self.unknown(revision, "this is not a valid name"));
        }
        // A tag that is an object of its own is followed by the commit it stands for.
        let peeled = format!("{wanted}^{{}}");
        // Without a repository around it, so that no configuration but the user's counts.
        let mut command = self.command();
        command.env("GIT_DIR", "/dev/null").current_dir("/").args(["ls-remote", "--quiet", "--"]);
        command.args([self.url.as_str(), &wanted, &peeled]);
        let listing = self.answer(&mut command, &format!("ask {}", self.url.redacted()))?;
        let ids = ids_by_name(&listing);
        let find = |wanted: &str| ids.iter().find(|(_, name)| *name == wanted.as_bytes()).map(|(id, _)| *id);
        let commit = find(&peeled).or_else(|| find(&wanted));
        Ok(Advertised { hash: commit.map_or(Kind::Sha1, |id| id.kind()), commit })
    }

    fn fetched(&self, revision: &Revision, advertised: &Advertised) -> Result<RemoteClone, GitError> {
        let wanted = advertised.commit.ok_or_else(|| self.unknown(revision, "it is not there"))?;
        let is_new = !self.is_of_this_url();
        self.prepare(advertised.hash)?;
        let mut repository = self.open()?;
        if is_new || !repository.objects.exists(&wanted) || matches!(revision, Revision::Tag(_)) {
            self.fetch(&REFSPECS)?;
            repository = self.open()?;
        }
        if !repository.objects.exists(&wanted) {
            // Not part of any branch or tag; most servers give it away to who knows its name.
            self.fetch(&[&wanted.to_string()]).map_err(|error| match error {
                GitError::Program { message, .. } => self.unknown(revision, &message),
                other => other,
            })?;
            repository = self.open()?;
        }
        let commit = repository.peel(wanted)?;
        repository.tree(commit)?;
        self.write_config(advertised.hash, &self.remote_section())?;
        Ok(RemoteClone { repository: self.open()?, commit })
    }

    fn unknown(&self, revision: &Revision, reason: &str) -> GitError {
        let (name, place) = (revision.describe(), self.url.redacted());
        GitError::UnknownRevision { name, place, reason: reason.to_owned() }
    }

    /// What is here may be damaged, or the network may have failed: a new clone takes its place if one can be made.
    fn anew(&self, revision: &Revision, advertised: &Advertised) -> Result<RemoteClone, GitError> {
        let aside = with_suffix(self.directory, ".anew");
        remove_tree(&aside)?;
        let lock = self.lock.try_clone().map_err(GitError::io("keep the lock of a clone"))?;
        let place = Place { url: self.url.clone(), directory: &aside, lock, ..*self };
        let commit = place.fetched(revision, advertised)?.commit;
        self.remove()?;
        let doing = format!("make the clone {}", self.directory.display());
        fs::rename(&aside, self.directory).map_err(GitError::io(doing))?;
        Ok(RemoteClone { repository: self.open()?, commit })
    }

    /// Makes the clone if there is none of this kind, and puts its configuration right. Until what belongs to this URL is
    /// fetched it says that it belongs to none.
    fn prepare(&self, hash: Kind) -> Result<(), GitError> {
        match self.open() {
            Ok(repository) if repository.objects.hash() == hash => {
                self.remove_lock_files()?;
                let section = if self.is_of_this_url() { self.remote_section() } else { String::new() };
                self.write_config(hash, &section)
            }
            _ => {
                self.remove()?;
                self.make(hash)
            }
        }
    }

    /// Aside, then renamed: a clone that has its name is complete, if empty.
    fn make(&self, hash: Kind) -> Result<(), GitError> {
        let aside = with_suffix(self.directory, ".new");
        remove_tree(&aside)?;
        make_bare(&aside, hash, "")?;
        let doing = format!("make the clone {}", self.directory.display());
        fs::rename(&aside, self.directory).map_err(GitError::io(doing))
    }

    fn remove(&self) -> Result<(), GitError> {
        let aside = with_suffix(self.directory, ".old");
        remove_tree(&aside)?;
        match fs::rename(self.directory, &aside) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(GitError::io(format!("remove {}", self.directory.display()))(error)),
            Ok(()) => remove_tree(&aside),
        }
    }

    fn open(&self) -> Result<Repository, GitError> {
        Repository::at(self.directory, None, self.git)
    }

    fn fetch(&self, what: &[&str]) -> Result<(), GitError> {
        let mut command = self.command();
        command.env("GIT_DIR", self.directory).current_dir(self.directory);
        // Always a pack, which appears all at once: loose objects would appear one by one, commits before their trees.
        command.args(["-c", "fetch.unpackLimit=1", "fetch", "--quiet", "--force"]);
        command.args([
            "--no-tags",
            "--no-recurse-submodules",
            "--no-auto-maintenance",
            "--no-write-fetch-head",
        ]);
        if what == REFSPECS {
            command.arg("--prune");
        }
        // By URL, not by name: the user's configuration may have something else under `origin`.
        command.args(["--", self.url.as_str()]).args(what);
        self.answer(&mut command, &format!("fetch {}", self.url.redacted())).map(drop)
    }

    /// What git prints, and its complaints without a password.
    fn answer(&self, command: &mut Command, doing: &str) -> Result<Vec<u8>, GitError> {
        self.git.answer(command, doing).map_err(|error| match error {
            GitError::Program { doing, message } => {
                GitError::Program { doing, message: message.replace(self.url.as_str(), &self.url.redacted()) }
            }
            other => other,
        })
    }

    fn command(&self) -> Command {
        let mut command = self.git.command();
        self.ssh.apply(&mut command);
        if let Ok(lock) = self.lock.try_clone() {
            command.stdin(lock);
        }
        command
    }

    /// Nobody but us works here, so who made them is dead.
    fn remove_lock_files(&self) -> Result<(), GitError> {
        let mut waiting = vec![self.directory.join("refs")];
        let mut locks = vec![self.directory.join("packed-refs.lock"), self.directory.join("shallow.lock")];
        while let Some(directory) = waiting.pop() {
            let doing = || format!("read {}", directory.display());
            for entry in fs::read_dir(&directory).map_err(GitError::io(doing()))? {
                let entry = entry.map_err(GitError::io(doing()))?;
                let path = entry.path();
                if entry.file_type().map_err(GitError::io(doing()))?.is_dir() {
                    waiting.push(path);
                } else if path.extension().is_some_and(|extension| extension == "lock") {
                    locks.push(path);
                }
            }
        }
        for lock in locks {
            match fs::remove_file(&lock) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(GitError::io(format!("remove {}", lock.display()))(error));
                }
                _ => (),
            }
        }
        Ok(())
    }

    fn is_of_this_url(&self) -> bool {
        self.open()
            .is_ok_and(|repository| repository.origin_url().is_some_and(|url| url == self.url.as_str()))
    }

    fn write_config(&self, hash: Kind, remote: &str) -> Result<(), GitError> {
        let path = self.directory.join("config");
        let config = bare_config(hash, remote);
        if fs::read(&path).is_ok_and(|known| known == config.as_bytes()) {
            return Ok(());
        }
        let doing = || format!("write {}", path.display());
        let aside = with_suffix(&path, ".new");
        fs::write(&aside, config).map_err(GitError::io(doing()))?;
        fs::rename(&aside, &path).map_err(GitError::io(doing()))
    }

    fn remote_section(&self) -> String {
        let url = self.url.as_str().replace('\\', "\\\\").replace('"', "\\\"");
        format!("[remote \"origin\"]\n\turl = \"{url}\"\n")
    }
}

/// Takes the lock beside a clone, or waits for it.
fn lock(directory: &Path, git: &GitProgram) -> Result<File, GitError> {
    let path = with_suffix(directory, ".lock");
    let doing = || format!("lock {}", path.display());
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)
            .map_err(GitError::io(format!("make the directory {}", parent.display())))?;
    }
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.open(&path).map_err(GitError::io(doing()))?;
    let started = Instant::now();
    loop {
        git.check_cancelled()?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(GitError::io(doing())(error)),
            Err(TryLockError::WouldBlock) if started.elapsed() >= LOCK_LIMIT => {
                return Err(GitError::Locked { path, seconds: LOCK_LIMIT.as_secs() });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
        }
    }
}

/// Lines `<id> TAB <name>`. Names may be anything but a line end.
fn ids_by_name(listing: &[u8]) -> Vec<(ObjectId, &[u8])> {
    let lines = listing.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .filter_map(|line| {
            let tab = line.iter().position(|byte| *byte == b'\t')?;
            let id = ObjectId::from_hex(&line[..tab]).ok();
            if id.is_none() {
                tracing::debug!("ignore a line of ls-remote: {}", quoted(line));
            }
            Some((id?, &line[tab + 1..]))
        })
        .collect()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whatever is there, also a file.
fn remove_tree(path: &Path) -> Result<(), GitError> {
    let removed = match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotADirectory => fs::remove_file(path),
        other => other,
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(GitError::io(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}
