//! What `CONTEXT` means.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// What `CONTEXT` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Spec {
    /// `-`: a Dockerfile or a tar.
    Stdin,
    /// A directory.
    Directory(PathBuf),
    /// A git repository on this machine.
    Git(Repository),
}

/// `PATH#REF:SUBDIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    /// The repository's directory.
    pub(super) path: PathBuf,
    /// A branch, tag or commit; `HEAD` if none is named. Never begins with `-`.
    pub(super) reference: String,
    /// A directory in the tree; empty for its root.
    pub(super) subdirectory: String,
}

/// What begins an address that is not on this machine.
const REMOTE: [&str; 6] = ["http://", "https://", "git://", "ssh://", "git@", "github.com/"];

impl Spec {
    /// Decides by the text, and by whether a directory of that very name exists.
    ///
    /// # Errors
    /// When it names something that is not on this machine, or a reference that no repository can have.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        if text.is_empty() {
            return Err(Failure::input("the context is empty").hint("`.` is the directory here"));
        }
        if REMOTE.iter().any(|start| text.starts_with(start)) {
            return Err(Failure::input(format!(
                "context {text}: contexts on other machines are not supported"
            ))
            .hint("clone or download it first, then name the directory"));
        }
        if let Some(rest) = text.strip_prefix("file://") {
            let (path, fragment) = rest.split_once('#').unwrap_or((rest, ""));
            if !path.starts_with('/') {
                return Err(Failure::input(format!("context {text}: want file:///PATH, without a host")));
            }
            return repository(Path::new(path), fragment);
        }
        match text.split_once('#') {
            Some((path, fragment)) if !Path::new(text).is_dir() => repository(Path::new(path), fragment),
            _ => Ok(Self::Directory(text.into())),
        }
    }
}

fn repository(path: &Path, fragment: &str) -> Result<Spec, Failure> {
    let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
    let reference = if reference.is_empty() { "HEAD" } else { reference };
    // git-check-ref-format(1); the point is that nothing is taken as an option, a range or a reflog expression.
    let forbidden = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    if reference.starts_with('-')
        || reference.contains("..")
        || reference.contains("@{")
        || reference.contains(forbidden)
    {
        return Err(Failure::input(format!("git reference {reference:?}: not a branch, tag or commit")));
    }
    let subdirectory = subdirectory.trim_matches('/');
    if subdirectory.split('/').any(|part| part == ".." || part == ".git") {
        return Err(Failure::input(format!("git subdirectory {subdirectory:?}: must stay inside the tree")));
    }
    let path = std::path::absolute(path).map_err(|error| Failure::file("open repository", path, &error))?;
    Ok(Spec::Git(Repository { path, reference: reference.to_owned(), subdirectory: subdirectory.to_owned() }))
}
