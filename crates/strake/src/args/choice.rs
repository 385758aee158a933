//! `strake build` without the word `dimg`: a Dockerfile or a stage file?
//!
//! Both builds have options of their own, so the words cannot be understood before it is known which of the two is
//! meant; and that depends on which files there are. What the caller sees of the disk is handed in.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser;

use super::{Cli, Command, DimgCommand, normalise};
use crate::failure::Failure;

/// The files of a directory that say how it is built, as far as there are any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct BuildFiles {
    /// The name of its Dockerfile.
    pub(crate) dockerfile: Option<String>,
    /// The name of its stage file.
    pub(crate) stage_file: Option<String>,
}

/// What the words mean.
#[derive(Debug)]
pub(crate) enum Chosen {
    /// This.
    Command(Box<Cli>),
    /// Nothing: the words are wrong, or ask for help.
    Usage(clap::Error),
}

/// Understands a command line. `look` tells of the files of a directory; `None` if there is no such directory.
///
/// # Errors
/// When the directory to build has both files and nothing says which one is meant.
pub(crate) fn choose(
    arguments: impl IntoIterator<Item = OsString>,
    look: &dyn Fn(&Path) -> Option<BuildFiles>,
) -> Result<Chosen, Failure> {
    let words = normalise(arguments);
    let parsed = Cli::try_parse_from(&words);
    let Some(position) = position_of_build(&words) else { return Ok(chosen(parsed)) };
    let asked = Asked { words: &words, position, look };
    match parsed {
        Ok(Cli { command: Command::Build(args), global }) => {
            let replacement = match args.file {
                Some(_) => None,
                None => asked.context(&args.context)?,
            };
            Ok(replacement
                .unwrap_or(Chosen::Command(Box::new(Cli { command: Command::Build(args), global }))))
        }
        Err(error) if error.use_stderr() => Ok(asked.here()?.unwrap_or(Chosen::Usage(error))),
        other => Ok(chosen(other)),
    }
}

fn chosen(parsed: Result<Cli, clap::Error>) -> Chosen {
    match parsed {
        Ok(cli) => Chosen::Command(Box::new(cli)),
        Err(error) => Chosen::Usage(error),
    }
}

/// Where the word `build` stands, if it is the command: only global options stand before it.
fn position_of_build(words: &[OsString]) -> Option<usize> {
    let mut index = 1;
    while let Some(word) = words.get(index) {
        match word.to_str()? {
            "build" => return Some(index),
            "--root" | "--config" => index += 2,
            word if word.starts_with("--root=") || word.starts_with("--config=") => index += 1,
            _ => return None,
        }
    }
    None
}

/// A build that may be of a stage file.
struct Asked<'a> {
    words: &'a [OsString],
    position: usize,
    look: &'a dyn Fn(&Path) -> Option<BuildFiles>,
}

impl Asked<'_> {
    /// The words are those of a build of a Dockerfile, with this context.
    fn context(&self, context: &str) -> Result<Option<Chosen>, Failure> {
        let dir = Path::new(context);
        match (self.look)(dir) {
            Some(files) => Ok(is_for_stage_file(dir, files)?.then(|| self.with_dir(context))),
            // No directory has this name, but an image of the stage file here may have it.
            None if context.starts_with(|first: char| first.is_ascii_alphanumeric())
                && !context.contains(['/', ':', '#']) =>
            {
                self.here()
            }
            None => Ok(None),
        }
    }

    /// The words are not those of a build of a Dockerfile.
    fn here(&self) -> Result<Option<Chosen>, Failure> {
        let parsed = self.parse_as_dimg();
        let dir = match &parsed {
            Ok(Cli { command: Command::Dimg(args), .. }) => match &args.command {
                DimgCommand::Build(args) => args.project.dir.clone(),
                _ => None,
            },
            _ => None,
        };
        let dir = dir.unwrap_or_else(|| PathBuf::from("."));
        let Some(files) = (self.look)(&dir) else { return Ok(None) };
        match files {
            BuildFiles { stage_file: None, .. } => Ok(None),
            // Wrong for both: the Dockerfile's commands are the better known ones.
            BuildFiles { dockerfile: Some(_), .. } if parsed.is_err() => Ok(None),
            files => Ok(is_for_stage_file(&dir, files)?.then(|| chosen(parsed))),
        }
    }

    fn parse_as_dimg(&self) -> Result<Cli, clap::Error> {
        let mut words = self.words.to_vec();
        words.insert(self.position, "dimg".into());
        Cli::try_parse_from(words)
    }

    /// The same words for a stage file; the context becomes its directory.
    fn with_dir(&self, context: &str) -> Chosen {
        let mut parsed = self.parse_as_dimg();
        if let Ok(Cli { command: Command::Dimg(args), .. }) = &mut parsed
            && let DimgCommand::Build(args) = &mut args.command
        {
            args.dimgs.retain(|name| name != context);
            args.project.dir.get_or_insert_with(|| PathBuf::from(context));
        }
        chosen(parsed)
    }
}

/// # Errors
/// When both files are there.
fn is_for_stage_file(dir: &Path, files: BuildFiles) -> Result<bool, Failure> {
    let (stage_file, dockerfile) = match (files.stage_file, files.dockerfile) {
        (None, _) => return Ok(false),
        (Some(_), None) => return Ok(true),
        (Some(stage_file), Some(dockerfile)) => (stage_file, dockerfile),
    };
    let (path, option) = match dir == Path::new(".") {
        true => (PathBuf::from(&dockerfile), String::new()),
        false => (dir.join(&dockerfile), format!(" --dir {}", dir.display())),
    };
    let (dir, path) = (dir.display(), path.display());
    Err(Failure::input(format!("build {dir}: there are both {dockerfile} and {stage_file}"))
        .hint(format!("for the Dockerfile: strake build -f {path} {dir}"))
        .hint(format!("for the stage file: strake dimg build{option}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::DimgArgs;

    /// `.` has what is said; `docker`, `stages` and `both` have what their names say; nothing else exists.
    fn look(here: &'static [&'static str]) -> impl Fn(&Path) -> Option<BuildFiles> {
        move |dir| {
            let has = |what: &str| match dir.to_str()? {
                "." => here.contains(&what).then_some(()),
                "both" => Some(()),
                dir => (dir == what).then_some(()),
            };
            ["docker", "stages", "both", "."].contains(&dir.to_str()?).then(|| BuildFiles {
                dockerfile: has("docker").map(|()| "Dockerfile".to_owned()),
                stage_file: has("stages").map(|()| "strake.yaml".to_owned()),
            })
        }
    }

    fn said(line: &str, here: &'static [&'static str]) -> String {
        let words = line.split_whitespace().map(OsString::from);
        let command = match choose(words, &look(here)) {
            Err(failure) => return failure.message,
            Ok(Chosen::Usage(error)) => return format!("usage {:?}", error.kind()),
            Ok(Chosen::Command(cli)) => cli.command,
        };
        match command {
            Command::Build(args) => format!("docker {}", args.context),
            Command::Dimg(DimgArgs { command: DimgCommand::Build(args) }) => {
                let dir = args.project.dir.map(|dir| dir.display().to_string()).unwrap_or_default();
                format!("dimg {} in {dir:?}", args.dimgs.join(" "))
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn files_decide_what_is_built() {
        for (line, here, expected) in [
            ("strake build .", &["docker"][..], "docker ."),
            ("strake build .", &["stages"], "dimg  in \".\""),
            ("strake build .", &[], "docker ."),
            ("strake build .", &["docker", "stages"], "build .: there are both Dockerfile and strake.yaml"),
            ("strake build -f Dockerfile .", &["docker", "stages"], "docker ."),
            ("strake dimg build", &["docker", "stages"], "dimg  in \"\""),
            ("strake build", &["stages"], "dimg  in \"\""),
            ("strake build", &["docker"], "usage MissingRequiredArgument"),
            ("strake build", &["docker", "stages"], "build .: there are both Dockerfile and strake.yaml"),
            ("strake --root x build --dry-run web", &["stages"], "dimg web in \"\""),
            ("strake build web", &["stages"], "dimg web in \"\""),
            ("strake build web api", &["stages"], "dimg web api in \"\""),
            ("strake build stages", &["docker"], "dimg  in \"stages\""),
            ("strake build docker", &["stages"], "docker docker"),
            ("strake build both", &[], "build both: there are both Dockerfile and strake.yaml"),
            ("strake build --dry-run --dir stages", &["docker"], "dimg  in \"stages\""),
            ("strake build --dry-run", &["docker"], "usage UnknownArgument"),
            ("strake build --nonsense", &["docker", "stages"], "usage UnknownArgument"),
            ("strake build -t x .", &["stages"], "usage UnknownArgument"),
            ("strake build --help", &["docker", "stages"], "usage DisplayHelp"),
            ("strake build https://x/y", &["docker"], "docker https://x/y"),
        ] {
            assert_eq!(said(line, here), expected, "{line} with {here:?}");
        }
    }
}
