//! A project with a stage file: where it is, what it is called, what its stage file says, and the plans of its images.
//!
//! ```text
//!  directory ──find──▶ stage file ──render──▶ text ──frontend──▶ StageFile ──plan──▶ Plans
//!                          │                   │                    ▲
//!                 .dappfiles/**.tmpl      .….render.yaml          facts: git, stages in the store
//! ```
//!
//! What the frontend says of the rendered text is told in the words of what was written (`told`).

mod answers;
mod find;
mod forgive;
mod known;
mod memory;
mod plan;
mod publish;
mod render;
mod repositories;
mod select;
mod shelves;
mod told;
mod uses;
mod written;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use strake_engine::Cancellation;
use strake_frontend::Diagnostic;
use strake_frontend::stagefile::{self, StageFile, project_name};
use strake_git::{GitError, GitProgram, Repository, SubmoduleClones};
use strake_oci::Reference;
use strake_store::RootDir;

use crate::args::ProjectArgs;
use crate::failure::{Failure, Kind, reason};
use crate::report::{self, Source};
use crate::settings::Settings;
use crate::ssh::Ssh;
use told::Told;

pub(crate) use find::look;
pub(crate) use known::{StageImage, image_config};
pub(crate) use plan::{PlanRequest, Planner, needed};
pub(crate) use publish::Published;
pub(crate) use repositories::Reach;
pub(crate) use select::select;
pub(crate) use shelves::{
    Candidate, Role, STAGE_PREFIX, Shelf, Shelves, Unreachable, repository_name, stage_tag, wrong,
};
pub(crate) use uses::{Use, Version, dimg_key, note, noted_at};

/// The version of the signatures' scheme: part of every signature.
pub(crate) const SCHEME: &str = "31";

/// A project whose stage file was read and is right.
#[derive(Debug)]
pub(crate) struct Project {
    /// Its directory, absolute.
    pub(crate) dir: PathBuf,
    /// What it is called; part of the names of its images.
    pub(crate) name: String,
    /// What its stage file says.
    pub(crate) file: StageFile,
    /// The rendered stage file, as it was written beside it; spans of `file` count in it.
    pub(crate) text: Source,
    /// Where clones and `build_dir` mounts are kept.
    pub(crate) build_dir: PathBuf,
    /// The repository that it is in, if any.
    pub(crate) repository: Option<Arc<Repository>>,
    git: GitProgram,
    ssh: Ssh,
    submodules: SubmoduleClones,
    told: Told,
}

impl Project {
    /// Finds, renders and reads the stage file of a project. Warnings are printed.
    ///
    /// # Errors
    /// When there is none, it is wrong, or the repository cannot be read.
    pub(crate) fn open(
        args: &ProjectArgs,
        settings: &Settings,
        cancellation: &Cancellation,
        reach: Reach,
    ) -> Result<Self, Failure> {
        let named = args.dir.as_deref().unwrap_or(Path::new("."));
        let dir = named.canonicalize().map_err(|error| Failure::file("open the project", named, &error))?;
        let file_name = find::stage_file(&dir, named)?;
        let git = git_program(args, settings, cancellation);
        let ssh = match reach {
            Reach::Network => Ssh::open(&args.ssh_keys, settings)?,
            Reach::Local => Ssh::unused(&args.ssh_keys)?,
        };
        let repository = repository(&dir, &git)?;
        let origin = repository.as_ref().and_then(Repository::origin_url);
        let name = project_name(args.name.as_deref(), origin.as_deref(), &dir.to_string_lossy());
        let build_dir = match &args.build_dir {
            Some(named) => {
                std::path::absolute(named).map_err(|error| Failure::file("use build dir", named, &error))?
            }
            None => settings.root.join("builds").join(&name),
        };

        let submodules = match reach {
            Reach::Network => SubmoduleClones::fetched(build_dir.join("submodules"), ssh.access().clone()),
            Reach::Local => SubmoduleClones::already_fetched(build_dir.join("submodules")),
        };
        let repository =
            repository.map(|repository| Arc::new(repository.with_submodules(submodules.clone())));

        let root = RootDir::open(&dir).map_err(|error| Failure::file("open the project", &dir, &error))?;
        let variable = |name: &str| match settings.variable(name).map(|value| value.to_str()) {
            None => Ok(None),
            Some(Some(text)) => Ok(Some(text.to_owned())),
            Some(None) => Err(format!("the variable {name} is not UTF-8")),
        };
        let templates = render::Templates { root: Arc::new(root), file_name: &file_name };
        let (told, warnings) = templates.render(SystemTime::now(), &variable)?;
        warnings.iter().for_each(|warning| report::warn(warning));
        let render_name = written::name(&file_name);
        if let Err(error) = written::write(&dir, &render_name, told.text()) {
            let path = dir.join(&render_name);
            report::warn(&format!("write {}: {}", path.display(), reason(&error)));
        }

        let parsed = stagefile::parse(told.text());
        let Some(file) = parsed.file else { return Err(told.invalid(&file_name, &parsed.diagnostics)) };
        report::text(&told.tell(&parsed.diagnostics));
        let text = Source { name: render_name, text: told.text().to_owned() };
        Ok(Self { dir, name, file, text, build_dir, repository, git, ssh, submodules, told })
    }

    /// The socket of the ssh agent that commands of stages are given.
    pub(crate) fn ssh_agent(&self) -> Option<&Path> {
        self.ssh.socket()
    }

    /// The name that the image of a stage has in the local store.
    pub(crate) fn stage_name(&self, signature: &str) -> String {
        format!("dimgstage-{}:{signature}", self.name)
    }

    /// The same as a reference.
    ///
    /// # Errors
    /// When the project's name is too long for one.
    pub(crate) fn stage_reference(&self, signature: &str) -> Result<Reference, Failure> {
        let name = self.stage_name(signature);
        name.parse().map_err(|error| {
            Failure::input(format!("{name} is no name for an image: {error}"))
                .hint("choose another project name with --name")
        })
    }

    /// The failure for something that is wrong with the stage file, told in its words.
    pub(crate) fn invalid(&self, diagnostic: Diagnostic) -> Failure {
        self.told.invalid("the stage file", &[diagnostic])
    }
}

fn git_program(args: &ProjectArgs, settings: &Settings, cancellation: &Cancellation) -> GitProgram {
    let temp = match args.tmp_dir_prefix.as_deref().and_then(Path::parent) {
        Some(parent) if parent.is_dir() => parent.to_owned(),
        _ => settings.temp_dir(),
    };
    let cancellation = cancellation.clone();
    GitProgram::new("git", settings.environment(), temp).cancelled_by(move || cancellation.is_requested())
}

fn repository(dir: &Path, git: &GitProgram) -> Result<Option<Repository>, Failure> {
    match Repository::open(dir, git) {
        Ok(repository) => Ok(Some(repository)),
        Err(GitError::NotARepository { .. }) => Ok(None),
        Err(error) => Err(git_failure(error)),
    }
}

/// The failure for what git cannot answer.
fn git_failure(error: GitError) -> Failure {
    let kind = match &error {
        GitError::Canceled => Kind::Interrupted,
        GitError::UnknownRevision { .. } | GitError::Path { .. } | GitError::Url { .. } => Kind::Input,
        _ => Kind::Environment,
    };
    let failure = Failure::new(kind, error.to_string());
    match remedy(&failure.message) {
        Some(remedy) => failure.hint(remedy),
        None => failure,
    }
}

/// What to do about what git and ssh say.
fn remedy(message: &str) -> Option<&'static str> {
    const REMEDIES: [(&str, &str); 5] = [
        (
            "REMOTE HOST IDENTIFICATION HAS CHANGED",
            "the host shows another key than the one that is known: ask who runs it; if it is right, remove the old \
             one with ssh-keygen -R HOST and add the new one",
        ),
        (
            "Host key verification failed",
            "keys of hosts are never accepted unseen: ssh-keyscan -p PORT HOST prints them; compare, and add them to \
             ~/.ssh/known_hosts, or to a file that STRAKE_SSH_KNOWN_HOSTS names",
        ),
        (
            "Permission denied (",
            "name a key that the server accepts with --ssh-key, or add it to the agent of SSH_AUTH_SOCK with ssh-add",
        ),
        (
            "terminal prompts disabled",
            "the server asks who this is: let one of git's credential helpers know (git help gitcredentials)",
        ),
        ("was never fetched", "build once without --dry-run"),
    ];
    REMEDIES.iter().find(|(said, _)| message.contains(said)).map(|(_, remedy)| *remedy)
}
