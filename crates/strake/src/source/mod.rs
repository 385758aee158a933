//! Where a build comes from: the context, the Dockerfile and the ignore file.

mod dockerfile;
mod git;
mod spec;
mod stdin;

use std::path::{Path, PathBuf};

use strake_engine::ContextSource;
use strake_graph::pattern::IgnoreRules;
use strake_store::{Store, TempDir};

use crate::failure::Failure;
use crate::report::Source;
use spec::Spec;

/// The largest Dockerfile or ignore file that is read, in bytes: what BuildKit can transfer in one message.
const TEXT_MAX: u64 = 16 << 20;

/// Everything a build reads from the user.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// The main build context.
    pub(crate) context: ContextSource,
    /// The Dockerfile's bytes.
    pub(crate) dockerfile: Vec<u8>,
    /// The Dockerfile as people call it.
    pub(crate) name: String,
    /// What tells this build from those of other projects.
    pub(crate) place: String,
    /// Things to say that do not stop the build.
    pub(crate) warnings: Vec<String>,
    /// The context, when it was unpacked or checked out.
    _unpacked: Option<TempDir>,
}

impl Inputs {
    /// The Dockerfile for reports.
    pub(crate) fn source(&self, text: &str) -> Source {
        Source { name: self.name.clone(), text: text.to_owned() }
    }
}

/// Opens context, Dockerfile and ignore file as `CONTEXT` and `--file` name them.
///
/// # Errors
/// When one of them is not there, not readable, or not what it should be.
pub(crate) fn open(context: &str, file: Option<&str>, store: &Store) -> Result<Inputs, Failure> {
    match Spec::parse(context)? {
        Spec::Directory(path) => directory(&path, context, file),
        Spec::Stdin if file == Some("-") => {
            Err(Failure::input("context and Dockerfile cannot both come from standard input"))
        }
        Spec::Stdin => stdin::open(file, store),
        Spec::Git(repository) => {
            let (unpacked, root, warnings) = git::checkout(&repository, store)?;
            let mut inputs = inside(root, context, file, unpacked)?;
            inputs.place = format!("{context}#{}", inputs.name);
            inputs.warnings.extend(warnings);
            Ok(inputs)
        }
    }
}

/// Opens a directory as a further build context (`--build-context`). Its own ignore file applies.
///
/// # Errors
/// When it is no directory, or its ignore file cannot be used.
pub(crate) fn further(name: &str, value: &str) -> Result<ContextSource, Failure> {
    let scheme = value.split_once("://").map(|(scheme, _)| scheme);
    if let Some(scheme) = scheme {
        return Err(Failure::input(format!("build context {name}={value}: `{scheme}://` is not supported"))
            .hint("further build contexts are directories"));
    }
    let root = existing_directory(Path::new(value))
        .map_err(|failure| failure.about(format!("build context {name}")))?;
    let ignore = dockerfile::ignore_of(&root)?;
    Ok(ContextSource { root, ignore, display: name.to_owned() })
}

/// A directory of the user's own.
fn directory(path: &Path, display: &str, file: Option<&str>) -> Result<Inputs, Failure> {
    let root = existing_directory(path)?;
    let found = dockerfile::find(&root, display, file)?;
    let ignore = dockerfile::ignore_for(&found, &root)?;
    let place = found
        .path
        .as_ref()
        .map_or_else(|| format!("{}#-", root.display()), |path| path.display().to_string());
    let context = ContextSource { root, ignore, display: display.to_owned() };
    let dockerfile::Found { bytes, name, .. } = found;
    Ok(Inputs { context, dockerfile: bytes, name, place, warnings: Vec::new(), _unpacked: None })
}

/// A directory whose content is somebody else's: nothing outside of it is read, whatever its links say.
fn inside(root: PathBuf, display: &str, file: Option<&str>, unpacked: TempDir) -> Result<Inputs, Failure> {
    let found = match file {
        Some("-") => dockerfile::from_stdin()?,
        named => dockerfile::find_inside(&root, display, named)?,
    };
    let ignore = dockerfile::ignore_for(&found, &root)?;
    let place = format!("{display}#{}", found.name);
    let context = ContextSource { root, ignore, display: display.to_owned() };
    let dockerfile::Found { bytes, name, .. } = found;
    Ok(Inputs { context, dockerfile: bytes, name, place, warnings: Vec::new(), _unpacked: Some(unpacked) })
}

/// A context without files, for a Dockerfile on its own.
fn empty(dockerfile: Vec<u8>, unpacked: TempDir) -> Inputs {
    Inputs {
        context: ContextSource {
            root: unpacked.path().to_owned(),
            ignore: IgnoreRules::default(),
            display: "-".to_owned(),
        },
        dockerfile,
        name: "Dockerfile".to_owned(),
        place: "-".to_owned(),
        warnings: Vec::new(),
        _unpacked: Some(unpacked),
    }
}

/// The name of the Dockerfile in a directory, if there is one.
pub(crate) fn dockerfile_name(dir: &Path) -> Option<&'static str> {
    dockerfile::NAMES.into_iter().find(|name| dir.join(name).is_file())
}

fn existing_directory(path: &Path) -> Result<PathBuf, Failure> {
    let root = path.canonicalize().map_err(|error| {
        let failure = Failure::file("open context", path, &error);
        let text = path.to_string_lossy();
        if text.ends_with("Dockerfile") {
            failure.hint("name the directory; the file goes to --file")
        } else {
            failure
        }
    })?;
    if root.is_dir() {
        return Ok(root);
    }
    let failure = Failure::input(format!("open context {}: not a directory", path.display()));
    Err(failure.hint(
        "for a tar write `strake build - < FILE`; for a Dockerfile elsewhere `strake build -f FILE DIR`",
    ))
}

#[cfg(test)]
mod tests;
