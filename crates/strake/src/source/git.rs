//! A git repository of this machine as a context.
//!
//! The repository may be hostile: its hooks, settings and attributes must not run anything here. So nothing is done
//! in it but reading by `git upload-pack`; its objects are fetched into a repository of our own, without settings of
//! anybody, and checked out from there. No protocol but `file` is allowed, submodules are left out, and the tree is
//! used without `.git`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use strake_store::{RootDir, Store, TempDir};

use super::spec::Repository;
use crate::failure::{Failure, reason};
use crate::ui;

/// Checks the tree out. Answers the directory that holds it, the context's root in it, and warnings.
///
/// # Errors
/// When there is no such repository, reference or directory, or git is not installed.
pub(super) fn checkout(
    repository: &Repository,
    store: &Store,
) -> Result<(TempDir, PathBuf, Vec<String>), Failure> {
    if !repository.path.is_dir() {
        return Err(Failure::input(format!(
            "open repository {}: no such directory",
            repository.path.display()
        )));
    }
    let home = store.temp_dir()?;
    let (objects, tree) = (home.path().join("git"), home.path().join("tree"));
    std::fs::create_dir(&tree).map_err(|error| Failure::file("make", &tree, &error))?;
    let git = Git { objects: &objects, tree: &tree };
    git.run(&["init", "--quiet", "--bare", "--template=", "--", text(&objects)?])?;
    let commit = git.fetch(repository)?;
    git.run(&["read-tree", "--end-of-options", &commit])?;
    git.run(&["checkout-index", "--all", "--force", "--quiet"])?;
    let root = inside(&tree, &repository.subdirectory)?;
    let mut warnings = Vec::new();
    if tree.join(".gitmodules").exists() {
        warnings.push("the repository has submodules, which are left out".to_owned());
    }
    Ok((home, root, warnings))
}

/// A directory below `tree`, reached without any link.
fn inside(tree: &Path, subdirectory: &str) -> Result<PathBuf, Failure> {
    let wrong = |why: String| Failure::input(format!("git subdirectory {subdirectory:?}: {why}"));
    let root = RootDir::open(tree).map_err(|error| Failure::file("open", tree, &error))?;
    let resolved = root.resolve(Path::new(subdirectory)).map_err(|error| wrong(reason(&error)))?;
    let plain: PathBuf =
        Path::new(subdirectory).components().filter(|part| part.as_os_str() != ".").collect();
    if resolved != plain {
        return Err(wrong("is, or leads through, a symbolic link".to_owned()));
    }
    let metadata = root.stat(&resolved).map_err(|error| wrong(reason(&error)))?;
    if !metadata.is_dir() {
        return Err(wrong("not a directory".to_owned()));
    }
    Ok(tree.join(resolved))
}

struct Git<'a> {
    objects: &'a Path,
    tree: &'a Path,
}

impl Git<'_> {
    /// Gets the commit that the reference names, and answers its full name.
    fn fetch(&self, repository: &Repository) -> Result<String, Failure> {
        let source = text(&repository.path)?;
        let reference = repository.reference.as_str();
        let direct = [
            "fetch",
            "--quiet",
            "--depth=1",
            "--no-tags",
            "--no-recurse-submodules",
            "--",
            source,
            reference,
        ];
        let found = match self.run(&direct) {
            Ok(_) => "FETCH_HEAD".to_owned(),
            // A short commit, or an object that the repository does not offer by name: look among all of them.
            Err(first) => {
                let all = "+refs/*:refs/remote/*";
                self.run(&["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--", source, all])
                    .map_err(|_| first.clone())?;
                if !reference.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(unknown(repository, &first));
                }
                reference.to_owned()
            }
        };
        let commit = format!("{found}^{{commit}}");
        let name = self
            .run(&["rev-parse", "--verify", "--quiet", "--end-of-options", &commit])
            .map_err(|failure| unknown(repository, &failure))?;
        Ok(name.trim().to_owned())
    }

    fn run(&self, arguments: &[&str]) -> Result<String, Failure> {
        // The modes of files are part of a context; they must not depend on who builds.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "umask 022 && exec git \"$@\"", "git"]);
        for setting in [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.autocrlf=false",
            "core.symlinks=true",
            "core.fileMode=true",
            "core.protectNTFS=false",
            "protocol.allow=never",
            "protocol.file.allow=always",
            "uploadpack.packObjectsHook=",
            "transfer.fsckObjects=false",
            "gc.auto=0",
            "advice.detachedHead=false",
        ] {
            command.args(["-c", setting]);
        }
        command.args(arguments).env_clear().current_dir("/").stdin(Stdio::null());
        #[expect(
            clippy::disallowed_methods,
            reason = "where git is; nothing else of the environment is handed over"
        )]
        let search = std::env::var_os("PATH");
        command
            .envs(search.map(|search| ("PATH", search)))
            .env("LC_ALL", "C")
            .env("HOME", "/nonexistent")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", "file")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_ATTR_NOSYSTEM", "1");
        if arguments.first() != Some(&"init") {
            command.env("GIT_DIR", self.objects).env("GIT_WORK_TREE", self.tree);
        }
        let output =
            command.output().map_err(|error| Failure::environment(format!("run git: {}", reason(&error))))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = ui::clean(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ").as_bytes());
        if output.status.code() == Some(127) {
            return Err(Failure::environment("git is not installed").hint("install the package git"));
        }
        let failure = Failure::input(format!("git {}: {said}", arguments[0]));
        Err(if said.contains("dubious ownership") {
            failure.hint("the repository belongs to somebody else; git refuses to read it")
        } else {
            failure
        })
    }
}

fn unknown(repository: &Repository, cause: &Failure) -> Failure {
    let path = repository.path.display();
    let mut failure =
        Failure::input(format!("git reference {:?} of {path}: {}", repository.reference, cause.message));
    failure.hints.extend(cause.hints.iter().cloned());
    failure
}

fn text(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| Failure::input(format!("path {}: not UTF-8", path.display())))
}
