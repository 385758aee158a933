//! What a stage file says, checked and with every name resolved.

use std::collections::BTreeMap;
use std::sync::Arc;

use strake_graph::Span;
use strake_graph::pattern::PathFilter;

use super::{ImportPosition, UserStage};

/// A whole stage file.
#[derive(Debug, Clone, PartialEq)]
pub struct StageFile {
    images: Vec<Image>,
    order: Vec<ImageId>,
}

/// Names an image of a [`StageFile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(usize);

/// A dimg or an artifact. A document with several names gives as many images.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// What it is called.
    pub name: ImageName,
    /// What its document says. All images of a document share it.
    pub rules: Arc<Rules>,
}

/// What a document says about its images.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// The document in the rendered text.
    pub span: Span,
    /// What it stands on.
    pub base: Base,
    /// `fromCacheVersion`
    pub from_cache_version: Option<String>,
    /// What is mounted into every assembly container.
    pub mounts: Vec<Mount>,
    /// The project's own mappings in the order of the file, then the remote ones.
    pub git: Vec<GitMapping>,
    /// What is copied out of artifacts, in the order of the file.
    pub imports: Vec<Import>,
    /// The instructions of the user stages.
    pub assembly: Assembly,
    /// The image's configuration. Always empty for artifacts.
    pub docker: DockerOptions,
    /// Whether every instruction becomes a stage of its own.
    pub layers: Layers,
}

/// What an image is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImageName {
    /// The only dimg of a file may do without a name.
    Nameless,
    /// An image that is tagged and pushed.
    Dimg(String),
    /// An image that files are taken from.
    Artifact(String),
}

/// What an image stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// An image from elsewhere, as it was written.
    Reference(String),
    /// Another image of the file.
    Image(ImageId),
}

/// How many stages the instructions of a user stage make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    /// One, as usual.
    PerStage,
    /// One for each instruction (`asLayers`).
    PerInstruction,
}

/// Something that is mounted while an image is assembled, and never part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Where; absolute, without a slash at the end.
    pub to: String,
    /// The entry in the rendered text.
    pub span: Span,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountSource {
    /// A folder that lives as long as the build.
    TmpDir,
    /// A folder that all images of the project share, kept between builds.
    BuildDir,
    /// An absolute path of the host.
    HostPath(String),
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GitSource {
    /// The project's own repository, at its current commit.
    Local,
    /// Another repository.
    Remote {
        /// As written.
        url: String,
        /// Which commit of it.
        reference: RemoteReference,
    },
}

/// Which commit of a remote repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemoteReference {
    /// What its HEAD names.
    Head,
    /// The tip of a branch.
    Branch(String),
    /// A tag.
    Tag(String),
    /// A commit.
    Commit(String),
}

/// A part of a repository: everything that decides which files of a commit a mapping takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selection {
    /// The repository.
    pub source: GitSource,
    /// A file or folder within it: absolute, without a slash at the end; `/` is everything.
    pub add: String,
    /// Patterns below `add`.
    pub include: Vec<String>,
    /// Patterns below `add`, with those that keep it out of what another mapping or import brings.
    pub exclude: Vec<String>,
    /// What others name within it, which has its place there. No part of signatures.
    pub yields: Vec<String>,
}

impl Selection {
    /// The filter for paths below `add`; if that is a file, for its name.
    pub fn filter(&self) -> PathFilter {
        let exclude: Vec<&String> = self.exclude.iter().chain(&self.yields).collect();
        PathFilter::new(&self.include, &exclude).expect("the patterns were checked as they were read")
    }
}

/// A part of a repository put somewhere in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitMapping {
    /// What is taken.
    pub selection: Selection,
    /// Where it is put: absolute, without a slash at the end.
    pub to: String,
    /// Name or number.
    pub owner: Option<String>,
    /// Name or number.
    pub group: Option<String>,
    /// By user stage: patterns below `add` of the files that make it be assembled anew.
    pub watched: BTreeMap<UserStage, Vec<String>>,
    /// A name for templates of deployments; means nothing here.
    pub alias: Option<String>,
    /// The entry in the rendered text.
    pub span: Span,
}

/// Files of an artifact put somewhere in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Whose files.
    pub artifact: ImageId,
    /// In which stage.
    pub position: ImportPosition,
    /// A file or folder of the artifact: absolute, without a slash at the end.
    pub add: String,
    /// Where it is put.
    pub to: String,
    /// Name or number; as in the artifact if absent.
    pub owner: Option<String>,
    /// Name or number; as in the artifact if absent.
    pub group: Option<String>,
    /// Patterns below `add`.
    pub include: Vec<String>,
    /// Patterns below `add`, with those that keep it out of what another mapping or import brings.
    pub exclude: Vec<String>,
    /// What others name within it, which has its place there. No part of signatures.
    pub yields: Vec<String>,
    /// The entry in the rendered text.
    pub span: Span,
}

impl Import {
    /// The filter for paths below `add`.
    pub fn filter(&self) -> PathFilter {
        let exclude: Vec<&String> = self.exclude.iter().chain(&self.yields).collect();
        PathFilter::new(&self.include, &exclude).expect("the patterns were checked as they were read")
    }
}

/// The instructions of an image.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assembly {
    /// By user stage. No list is empty.
    pub instructions: BTreeMap<UserStage, Instructions>,
    /// `<stage>CacheVersion`
    pub versions: BTreeMap<UserStage, String>,
    /// `cacheVersion`
    pub version: Option<String>,
}

/// What a user stage does.
#[derive(Debug, Clone, PartialEq)]
pub enum Instructions {
    /// Commands for a shell.
    Shell(Vec<Command>),
    /// Tasks for ansible.
    Ansible(Vec<Task>),
}

impl Instructions {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Shell(commands) => commands.len(),
            Self::Ansible(tasks) => tasks.len(),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A command for a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// As written; may have several lines.
    pub text: String,
    /// Where it is in the rendered text.
    pub span: Span,
}

/// A task for ansible.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The task, a map; keys are in the order of the file.
    pub value: serde_json::Value,
    /// Where it is in the rendered text.
    pub span: Span,
}

/// The `docker` directive. What is absent or empty leaves the configuration of the base as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerOptions {
    /// Added.
    pub volume: Vec<String>,
    /// Added.
    pub expose: Vec<String>,
    /// Merged over what is inherited.
    pub env: BTreeMap<String, String>,
    /// Merged over what is inherited.
    pub label: BTreeMap<String, String>,
    /// The arguments.
    pub cmd: Vec<String>,
    /// Instructions for images that stand on this one.
    pub on_build: Vec<String>,
    /// The working directory.
    pub workdir: Option<String>,
    /// `user[:group]`
    pub user: Option<String>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// A signal, by name or number.
    pub stop_signal: Option<String>,
    /// `NONE`, a command for a shell, or a program with its arguments.
    pub healthcheck: Vec<String>,
}

impl DockerOptions {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl StageFile {
    /// `order` has every image behind those it needs.
    pub(super) fn new(images: Vec<Image>, order: Vec<ImageId>) -> Self {
        Self { images, order }
    }

    /// The images in the order of the file.
    pub fn images(&self) -> impl Iterator<Item = (ImageId, &Image)> {
        self.images.iter().enumerate().map(|(index, image)| (ImageId(index), image))
    }

    /// The images that are tagged and pushed, in the order of the file.
    pub fn dimgs(&self) -> impl Iterator<Item = (ImageId, &Image)> {
        self.images().filter(|(_, image)| !image.is_artifact())
    }

    /// Every image behind those that it stands on or imports from.
    pub fn order(&self) -> &[ImageId] {
        &self.order
    }

    /// The image of this id.
    ///
    /// # Panics
    /// If the id is of another file.
    pub fn image(&self, id: ImageId) -> &Image {
        &self.images[id.0]
    }
}

impl ImageId {
    pub(super) fn new(index: usize) -> Self {
        Self(index)
    }

    /// Its place in the order of the file, from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

impl Image {
    /// Whether it only exists for others to take files from.
    pub fn is_artifact(&self) -> bool {
        matches!(self.name, ImageName::Artifact(_))
    }
}

impl Rules {
    /// The images that it stands on or imports from, each once, in ascending order.
    pub fn needs(&self) -> Vec<ImageId> {
        let base = match &self.base {
            Base::Image(image) => Some(*image),
            Base::Reference(_) => None,
        };
        let mut needs: Vec<_> =
            base.into_iter().chain(self.imports.iter().map(|import| import.artifact)).collect();
        needs.sort_unstable();
        needs.dedup();
        needs
    }
}

impl ImageName {
    /// The name, if it has one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Nameless => None,
            Self::Dimg(name) | Self::Artifact(name) => Some(name),
        }
    }
}

impl std::fmt::Display for ImageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str().unwrap_or("~"))
    }
}

impl GitSource {
    /// What the repository is called in checksums and places: the last two parts of the URL, `own` for the
    /// project's own. `None` if the URL has no such parts.
    pub fn name(&self) -> Option<String> {
        let Self::Remote { url, .. } = self else { return Some("own".into()) };
        let path = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        // The host is not part of the name; `host:path` is how ssh writes it.
        let path = match (url.contains("://"), path.split_once(':'), path.split_once('/')) {
            (true, _, Some((_, path))) | (false, Some((_, path)), _) => path,
            (true, _, None) => "",
            (false, None, _) => path,
        };
        let mut parts: Vec<_> = path.rsplit('/').filter(|part| !part.is_empty()).take(2).collect();
        parts.reverse();
        let name = parts.join("/");
        let fine = !name.is_empty() && !name.contains([' ', '\n', '\t']);
        fine.then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_named_by_the_end_of_their_url() {
        let name = |url: &str| GitSource::Remote { url: url.into(), reference: RemoteReference::Head }.name();
        assert_eq!(name("https://git.example.org/tools/schema.git").as_deref(), Some("tools/schema"));
        assert_eq!(name("https://git.example.org/a/b/c").as_deref(), Some("b/c"));
        assert_eq!(name("git@git.example.org:tools/schema.git").as_deref(), Some("tools/schema"));
        assert_eq!(name("ssh://git@host:22/tools/schema.git/").as_deref(), Some("tools/schema"));
        assert_eq!(name("file:///srv/schema.git").as_deref(), Some("srv/schema"));
        assert_eq!(name("/srv/git/schema").as_deref(), Some("git/schema"));
        assert_eq!(name("https://git.example.org"), None);
        assert_eq!(name("https://git.example.org/a b"), None);
        assert_eq!(GitSource::Local.name().as_deref(), Some("own"));
    }
}
