//! A repository: where its parts are, and what its configuration says about how to read them.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use gix_discover::upwards::Options;
use gix_hash::Kind;

use crate::error::{GitError, quoted};
use crate::id::BlobId;
use crate::objects::{HashedBlob, LARGEST_BLOB_IN_MEMORY, Objects, corrupt, missing};
use crate::program::GitProgram;
use crate::scratch::Scratch;
use crate::submodule::SubmoduleClones;

/// Configuration files are small; anything larger is not one.
const LARGEST_CONFIG: u64 = 4 << 20;

/// A git repository, open for reading, by any number of threads. Nothing here writes into it.
///
/// Queries take commits, not names: resolve once, and a branch that moves meanwhile changes nothing.
pub struct Repository {
    pub(crate) git: GitProgram,
    pub(crate) git_dir: PathBuf,
    pub(crate) common_dir: PathBuf,
    pub(crate) worktree: Option<PathBuf>,
    pub(crate) objects: Objects,
    pub(crate) submodules: Option<SubmoduleClones>,
    pub(crate) graph: OnceLock<Option<gix_commitgraph::Graph>>,
    origin_url: Option<String>,
}

impl Repository {
    /// Opens the repository that `dir` is in: of a directory of its work tree, a linked work tree, or bare.
    ///
    /// A repository that belongs to another user is opened when the git program opens it (`safe.directory`).
    ///
    /// # Errors
    ///
    /// [`GitError::NotARepository`], [`GitError::Untrusted`], [`GitError::Unsupported`], [`GitError::Io`].
    pub fn open(dir: &Path, git: &GitProgram) -> Result<Self, GitError> {
        let not_found = |reason: String| GitError::NotARepository {
            path: dir.to_owned(),
            reason: quoted(reason.as_bytes()),
        };
        let dir = dir.canonicalize().map_err(|error| not_found(error.to_string()))?;
        let (place, trust) = gix_discover::upwards_opts(&dir, Options::default())
            .map_err(|error| not_found(error.to_string()))?;
        if trust != gix_sec::Trust::Full {
            ask_git_for_trust(&dir, git)?;
        }
        let (git_dir, worktree) = place.into_repository_and_work_tree_directories();
        Self::at(&dir.join(git_dir), worktree.map(|worktree| dir.join(worktree)), git)
    }

    /// Opens the repository whose git directory this is.
    pub(crate) fn at(git_dir: &Path, worktree: Option<PathBuf>, git: &GitProgram) -> Result<Self, GitError> {
        let git_dir = git_dir
            .canonicalize()
            .map_err(GitError::io(format!("open the git directory {}", git_dir.display())))?;
        let common_dir = common_dir(&git_dir)?;
        let config = read_config(&common_dir.join("config"))?;
        let hash = object_hash(&config, &common_dir)?;
        let objects = Objects::open(&common_dir.join("objects"), hash)?;
        let origin_url = config.string("remote.origin.url").map(|url| url.to_string());
        let (git, submodules, graph) = (git.clone(), None, OnceLock::new());
        Ok(Self { git, git_dir, common_dir, worktree, objects, submodules, graph, origin_url })
    }

    /// Reads submodules too, at the commits that are bound in the trees. Without this, a submodule among the files that
    /// were asked for is an error.
    #[must_use]
    pub fn with_submodules(mut self, clones: SubmoduleClones) -> Self {
        self.submodules = Some(clones);
        self
    }

    /// The URL of the remote `origin`, if it has one, as it was written down.
    #[must_use]
    pub fn origin_url(&self) -> Option<String> {
        self.origin_url.clone()
    }

    /// The directory of the checked out files; none in a bare repository.
    #[must_use]
    pub fn worktree(&self) -> Option<&Path> {
        self.worktree.as_deref()
    }

    /// Size of a blob in bytes, without reading it.
    ///
    /// # Errors
    ///
    /// [`GitError::Missing`], [`GitError::Corrupt`].
    pub fn size(&self, blob: BlobId) -> Result<u64, GitError> {
        match self.objects.header(&blob.0)? {
            Some((gix_object::Kind::Blob, size)) => Ok(size),
            Some(_) => Err(corrupt("blob", &blob.0, &"it is not a blob")),
            None => Err(missing("blob", &blob.0)),
        }
    }

    /// Writes the content of a blob. Memory does not grow with its size; a blob of more than 8 MiB is read through the
    /// git program.
    ///
    /// # Errors
    ///
    /// [`GitError::Missing`], [`GitError::Corrupt`] (then `output` got bytes that must not be used), or [`GitError::Io`]
    /// when `output` fails.
    pub fn read(&self, blob: BlobId, output: &mut dyn Write) -> Result<(), GitError> {
        self.git.check_cancelled()?;
        let size = self.size(blob)?;
        if size > LARGEST_BLOB_IN_MEMORY {
            return self.stream(blob, size, output);
        }
        let (kind, bytes) = self.objects.read(&blob.0, LARGEST_BLOB_IN_MEMORY, "blob")?;
        if kind != gix_object::Kind::Blob {
            return Err(corrupt("blob", &blob.0, &"it is not a blob"));
        }
        output.write_all(&bytes).map_err(GitError::io(format!("write the content of blob {blob}")))
    }

    fn stream(&self, blob: BlobId, size: u64, output: &mut dyn Write) -> Result<(), GitError> {
        let scratch = Scratch::borrowing(&self.objects, &self.git)?;
        let mut command = scratch.command(&self.git);
        // From this size on git itself does not hold a blob in memory either.
        command.args(["-c", "core.bigFileThreshold=8m", "cat-file", "blob"]).arg(blob.to_string());
        let mut output = HashedBlob::new(self.objects.hash(), size, output);
        self.git.run(&mut command, &format!("read blob {blob}"), &mut output)?;
        output.finish(&blob.0)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository").field("git_dir", &self.git_dir).field("objects", &self.objects).finish()
    }
}

/// Ownership differs, so the user's and the system's configuration decide, and git knows how to read those.
fn ask_git_for_trust(dir: &Path, git: &GitProgram) -> Result<(), GitError> {
    let mut command = git.command();
    command.arg("-C").arg(dir).args(["rev-parse", "--git-dir"]);
    match git.answer(&mut command, "ask git whether it trusts the repository") {
        Ok(_) => Ok(()),
        Err(GitError::Program { message, .. }) => {
            Err(GitError::Untrusted { path: dir.to_owned(), reason: message })
        }
        Err(other) => Err(other),
    }
}

/// A linked work tree keeps all but its own state elsewhere.
fn common_dir(git_dir: &Path) -> Result<PathBuf, GitError> {
    let file = git_dir.join("commondir");
    match gix_discover::path::from_plain_file(&file) {
        None => Ok(git_dir.to_owned()),
        Some(named) => {
            let named = named.map_err(GitError::io(format!("read {}", file.display())))?;
            let directory = git_dir.join(named);
            directory.canonicalize().map_err(GitError::io(format!("open {}", directory.display())))
        }
    }
}

fn read_config(path: &Path) -> Result<gix_config::File, GitError> {
    let doing = || format!("read {}", path.display());
    let mut text = Vec::new();
    match std::fs::File::open(path) {
        Ok(file) => {
            std::io::Read::read_to_end(&mut std::io::Read::take(file, LARGEST_CONFIG + 1), &mut text)
                .map_err(GitError::io(doing()))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
        Err(error) => return Err(GitError::io(doing())(error)),
    }
    parse_config(&text).map_err(|reason| GitError::Unsupported { path: path.to_owned(), what: reason })
}

/// Reads the format of git's configuration, which `.gitmodules` has too. Includes are not followed.
pub(crate) fn parse_config(text: &[u8]) -> Result<gix_config::File, String> {
    if text.len() as u64 > LARGEST_CONFIG {
        return Err(format!("it is larger than {LARGEST_CONFIG} bytes"));
    }
    let origin = gix_config::file::Metadata {
        path: None,
        source: gix_config::Source::Local,
        level: 0,
        trust: gix_sec::Trust::Reduced,
    };
    gix_config::File::from_bytes_no_includes(text, origin, Default::default())
        .map_err(|error| quoted(error.to_string().as_bytes()))
}

fn object_hash(config: &gix_config::File, directory: &Path) -> Result<Kind, GitError> {
    let unsupported = |what: String| Err(GitError::Unsupported { path: directory.to_owned(), what });
    if let Some(storage) = config.string("extensions.refStorage").filter(|storage| storage != "files") {
        let storage = quoted(&storage);
        return unsupported(format!(
            "its references are stored as {storage}; convert them: git refs migrate --ref-format=files"
        ));
    }
    match config.string("extensions.objectFormat") {
        None => Ok(Kind::Sha1),
        Some(format) if format.eq_ignore_ascii_case(b"sha1") => Ok(Kind::Sha1),
        Some(format) if format.eq_ignore_ascii_case(b"sha256") => Ok(Kind::Sha256),
        Some(format) => unsupported(format!("its object format {} is not known", quoted(&format))),
    }
}
