//! Submodules, at the commits the trees bind them to (stage-file.md §7.1).
//!
//! The objects of a submodule are looked for in the directory where git keeps them for the work tree, then in a private
//! clone, which is fetched when the commit is not there either. The repository's own clones and work tree stay as
//! they are.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use gix_hash::ObjectId;
use sha2::{Digest, Sha256};

use crate::error::{GitError, quoted};
use crate::id::CommitId;
use crate::objects::Objects;
use crate::path::{RepositoryPath, wrong_name};
use crate::program::SshAccess;
use crate::remote::{RemoteClone, RemoteSource, without_network};
use crate::repository::{Repository, parse_config};
use crate::revision::Revision;
use crate::tree::{Directory, NodeKind};
use crate::url::RemoteUrl;

/// Submodules of submodules are followed this far; a repository can name itself as one.
const DEEPEST: usize = 16;
/// What a `.gitmodules` may hold, in bytes.
const LARGEST_FILE: u64 = 4 << 20;

/// Where submodules are cloned to when the work tree does not have them, and how.
#[derive(Debug, Clone)]
pub struct SubmoduleClones {
    directory: PathBuf,
    /// None: nothing is fetched.
    ssh: Option<SshAccess>,
}

impl SubmoduleClones {
    /// Clones are made in `directory`, one for each URL.
    #[must_use]
    pub fn fetched(directory: impl Into<PathBuf>, ssh: SshAccess) -> Self {
        Self { directory: directory.into(), ssh: Some(ssh) }
    }

    /// Only what earlier calls fetched to `directory` is read: nothing is asked of the network, and nothing is written.
    #[must_use]
    pub fn already_fetched(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), ssh: None }
    }
}

/// A repository whose tree is being read: the outermost one, or a submodule at a path of another.
#[derive(Debug)]
pub(crate) struct Module {
    root: ObjectId,
    /// The module it is part of, and its path from the outermost root.
    parent: Option<(Rc<Self>, Vec<u8>)>,
}

/// What a `.gitmodules` says of one submodule.
struct Declaration {
    name: String,
    url: String,
}

impl Module {
    pub(crate) fn outermost(root: ObjectId) -> Self {
        Self { root, parent: None }
    }

    fn depth(&self) -> usize {
        self.parent.as_ref().map_or(0, |(parent, _)| 1 + parent.depth())
    }

    /// A path from the outermost root as the module itself sees it.
    fn own_path<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        match &self.parent {
            Some((_, prefix)) => path.get(prefix.len() + 1..).unwrap_or_default(),
            None => path,
        }
    }
}

impl Repository {
    /// The directory a gitlink at `path` stands for. Afterwards the objects of the submodule are found like all others.
    pub(crate) fn enter_submodule(
        &self,
        module: &Rc<Module>,
        path: &[u8],
        commit: ObjectId,
    ) -> Result<Directory, GitError> {
        let failed = |reason: String| GitError::Submodule { path: quoted(path), reason };
        let Some(clones) = &self.submodules else {
            return Err(failed("submodules are not read here; exclude its path".to_owned()));
        };
        if module.depth() >= DEEPEST {
            return Err(failed(format!("more than {DEEPEST} submodules inside one another")));
        }
        if !self.objects.exists(&commit) {
            self.find_submodule(module, path, CommitId(commit), clones).map_err(|error| match error {
                GitError::Submodule { .. } | GitError::Canceled => error,
                other => failed(other.to_string()),
            })?;
        }
        let root = self.commit(&commit)?.tree;
        let module = Rc::new(Module { root, parent: Some((Rc::clone(module), path.to_vec())) });
        Ok(Directory { tree: root, module })
    }

    fn find_submodule(
        &self,
        module: &Rc<Module>,
        path: &[u8],
        commit: CommitId,
        clones: &SubmoduleClones,
    ) -> Result<(), GitError> {
        let declaration = self.declaration(module, path)?;
        let kept = self.kept_objects(module, &declaration.name)?;
        let hash = self.objects.hash();
        if kept.is_dir() && Objects::open(&kept, hash).is_ok_and(|objects| objects.exists(&commit.0)) {
            return self.objects.add(&kept);
        }
        let url = self.url_of(module)?.join(&declaration.url)?;
        let directory = clones.directory.join(directory_name(&url));
        let revision = Revision::Commit(commit);
        let clone = match &clones.ssh {
            Some(ssh) => {
                let source = RemoteSource { url: url.as_str().to_owned(), revision };
                RemoteClone::update(&source, &directory, ssh, &self.git)?
            }
            None => without_network(&url, &directory, &revision, &self.git).ok_or_else(|| {
                let (path, url) = (quoted(path), url.redacted());
                GitError::Submodule { path, reason: format!("{commit} of {url} was never fetched") }
            })?,
        };
        clone.repository.objects.directories().iter().try_for_each(|objects| self.objects.add(objects))
    }

    /// Where git keeps the objects of a submodule for the work tree, if it was ever checked out.
    fn kept_objects(&self, module: &Rc<Module>, name: &str) -> Result<PathBuf, GitError> {
        Ok(self.kept_dir(module)?.join("modules").join(name).join("objects"))
    }

    fn kept_dir(&self, module: &Rc<Module>) -> Result<PathBuf, GitError> {
        match &module.parent {
            None => Ok(self.common_dir.clone()),
            Some((parent, path)) => {
                let name = self.declaration(parent, path)?.name;
                Ok(self.kept_dir(parent)?.join("modules").join(name))
            }
        }
    }

    /// The URL that relative ones in a module's `.gitmodules` start from.
    fn url_of(&self, module: &Rc<Module>) -> Result<RemoteUrl, GitError> {
        match &module.parent {
            Some((parent, path)) => self.url_of(parent)?.join(&self.declaration(parent, path)?.url),
            None => match self.origin_url() {
                Some(url) => RemoteUrl::parse(&url),
                // Without an origin git takes the repository itself.
                None => RemoteUrl::parse(&self.worktree().unwrap_or(&self.git_dir).to_string_lossy()),
            },
        }
    }

    fn declaration(&self, module: &Rc<Module>, path: &[u8]) -> Result<Declaration, GitError> {
        let failed = |reason: String| GitError::Submodule { path: quoted(path), reason };
        let text = self.gitmodules(module)?.ok_or_else(|| {
            failed(
                "there is no file .gitmodules; was it added with git add instead of git submodule add?"
                    .to_owned(),
            )
        })?;
        let config = parse_config(&text).map_err(|reason| failed(format!("read .gitmodules: {reason}")))?;
        let own_path = module.own_path(path);
        let mut sections = config.sections_by_name("submodule").into_iter().flatten();
        let section = sections.find(|section| {
            let declared =
                section.value("path").and_then(|declared| RepositoryPath::parse(declared.as_slice()).ok());
            declared.is_some_and(|declared| declared.as_bytes() == own_path)
        });
        let section = section.ok_or_else(|| failed("it is not in .gitmodules".to_owned()))?;
        let name = section.header().subsection_name().map(ToString::to_string).unwrap_or_default();
        if name.is_empty() || name.split('/').any(|part| wrong_name(part.as_bytes()).is_some()) {
            return Err(failed(format!(
                "its name {} in .gitmodules is not allowed",
                quoted(name.as_bytes())
            )));
        }
        let url = section.value("url").map(|url| url.to_string());
        let url = url.ok_or_else(|| failed("it has no url in .gitmodules".to_owned()))?;
        Ok(Declaration { name, url })
    }

    fn gitmodules(&self, module: &Rc<Module>) -> Result<Option<Vec<u8>>, GitError> {
        let root = Directory { tree: module.root, module: Rc::clone(module) };
        let entries = self.entries(&root)?;
        let found = entries.iter().find(|(name, _)| name == b".gitmodules");
        match found.filter(|(_, node)| matches!(node.kind, NodeKind::File(_))) {
            Some((_, node)) => Ok(Some(self.objects.read(&node.id, LARGEST_FILE, "blob")?.1)),
            None => Ok(None),
        }
    }
}

/// One clone for each URL, whoever asks for it.
fn directory_name(url: &RemoteUrl) -> impl AsRef<Path> {
    let digest = Sha256::digest(url.as_str().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
}
