//! `strake dimg export`: files of an image or an artifact, in a directory of the caller.

use std::path::{Path, PathBuf};
use std::time::Instant;

use strake_engine::Environment;
use strake_engine::export::{self, PathCopy, Wanted};
use strake_engine::image;
use strake_frontend::stagefile::{ImageId, StageFile};

use super::build::build_images;
use super::printer::Printer;
use super::select_one;
use super::stage::find_in;
use crate::args::{DimgBuildArgs, DimgExportArgs, IntrospectArgs, StageRepositories};
use crate::commands::{in_session, ui};
use crate::failure::Failure;
use crate::project::{Project, Reach};
use crate::report;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::conveyor::State;

/// `strake dimg export`.
pub(super) fn export(args: &DimgExportArgs, mut settings: Settings) -> Result<u8, Failure> {
    let started = Instant::now();
    let asked = Asked::of(&args.words)?;
    settings.log_in(&args.login, &[])?;
    let printer = Printer::new(&args.rows, &settings);
    let options = ui(&settings, "Exporting", None, args.rows.quiet);
    in_session(settings, options, |session| {
        let result = export_in(args, &asked, session, &printer);
        session.ui.finish();
        printer.running_time(started.elapsed())?;
        result
    })
}

fn export_in(
    args: &DimgExportArgs,
    asked: &Asked,
    session: &Session,
    printer: &Printer,
) -> Result<u8, Failure> {
    let reach = if args.build && !args.dry_run { Reach::Network } else { Reach::Local };
    let project = Project::open(&args.project, &session.settings, &session.cancellation, reach)?;
    let image = image_of(&project.file, asked.image.as_deref())?;
    if args.build && !args.dry_run {
        build_images(&build_args(args), session, printer, &project, &[image], None)?;
    }
    let found = find_in(session, &project, &args.project, image, args.stage)?;
    if !found.is_present && !args.dry_run {
        let what = if project.file.image(image).is_artifact() { "artifact" } else { "dimg" };
        let stage = args.stage.map_or_else(String::new, |stage| format!("stage {} of ", stage.id()));
        return Err(Failure::input(format!("{stage}{what} {} is not built", found.dimg))
            .hint("build it first: the same with --build"));
    }
    let begun = Instant::now();
    let state = match args.dry_run {
        true => State::Copy,
        false => {
            let written = session.with(|env: &Environment<'_>| {
                let id = image::find(env, &found.name)?.id;
                export::copy_paths(env, id, &asked.copies, &asked.dest)
            })?;
            session.ui.finish();
            written.notes.iter().for_each(|note| report::warn(note));
            State::Done(begun.elapsed())
        }
    };
    let layout = &printer.layout;
    let title = format!("copying files of {} to {}", found.dimg, asked.dest.display());
    printer.print(&layout.process(0, &title, state))?;
    for copy in &asked.copies {
        let place = match &copy.wanted {
            Wanted::Itself(name) => asked.dest.join(name),
            Wanted::Content => asked.dest.join(""),
        };
        printer.print(&layout.detail(1, &format!("{} -> {}", copy.path.display(), place.display())))?;
    }
    Ok(0)
}

/// What is built first, and how.
fn build_args(args: &DimgExportArgs) -> DimgBuildArgs {
    DimgBuildArgs {
        dimgs: Vec::new(),
        dry_run: false,
        lock_timeout: DimgBuildArgs::LOCK_TIMEOUT,
        jobs: None,
        repositories: StageRepositories::default(),
        introspect: IntrospectArgs::default(),
        project: args.project.clone(),
        rows: args.rows.clone(),
        progress: None,
        force_save_cache: false,
        login: args.login.clone(),
    }
}

/// An image or an artifact; the only image when none is named.
fn image_of(file: &StageFile, name: Option<&str>) -> Result<ImageId, Failure> {
    let is_it = |image: &&str| name == Some(*image);
    let artifact = file
        .images()
        .find(|(_, image)| image.is_artifact() && image.name.as_str().as_ref().is_some_and(is_it));
    match artifact {
        Some((id, _)) => Ok(id),
        None => select_one(file, name),
    }
}

/// What is copied from where to where.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    image: Option<String>,
    copies: Vec<PathCopy>,
    dest: PathBuf,
}

impl Asked {
    fn of(words: &[String]) -> Result<Self, Failure> {
        let usage = |what: String| {
            Failure::input(what).hint("strake dimg export [DIMG|ARTIFACT] PATH... DEST, each PATH absolute")
        };
        let (image, paths) = match words.split_first() {
            Some((name, rest)) if !name.starts_with('/') => (Some(name.clone()), rest),
            _ => (None, words),
        };
        let (dest, paths) = match paths.split_last() {
            Some((dest, paths)) if !paths.is_empty() => (dest, paths),
            _ => return Err(usage("export what to which directory?".to_owned())),
        };
        if matches!(dest.as_str(), "" | "-") {
            return Err(Failure::input(format!("{dest:?} is no directory to copy files to"))
                .hint("for one file on standard output: strake dimg run DIMG -- cat PATH"));
        }
        let copies = paths.iter().map(|path| match path_copy(path) {
            Some(copy) => Ok(copy),
            None => Err(usage(format!("{path}: not an absolute path with a name at its end"))),
        });
        Ok(Self { image, copies: copies.collect::<Result<_, _>>()?, dest: PathBuf::from(dest) })
    }
}

fn path_copy(text: &str) -> Option<PathCopy> {
    let path = Path::new(text);
    if !path.is_absolute() || text.contains('\0') {
        return None;
    }
    let is_content = text.ends_with("/.") || path == Path::new("/");
    let wanted = match is_content {
        true => Wanted::Content,
        // A path that ends in `..` says no name.
        false => Wanted::Itself(path.file_name()?.to_owned()),
    };
    Some(PathCopy { path: path.to_owned(), wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &str) -> Result<Asked, Failure> {
        Asked::of(&words.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_word_is_the_destination_and_names_have_no_slash_in_front() {
        let copy = |path: &str, name: &str| PathCopy {
            path: path.into(),
            wanted: if name.is_empty() { Wanted::Content } else { Wanted::Itself(name.into()) },
        };
        let found = asked("web /out/js/ /etc/. / out").unwrap();
        assert_eq!(found.image.as_deref(), Some("web"));
        assert_eq!(found.dest, Path::new("out"));
        assert_eq!(found.copies, [copy("/out/js/", "js"), copy("/etc/.", ""), copy("/", "")]);
        assert_eq!(asked("/a /tmp/b").unwrap().image, None);
    }

    #[test]
    fn mistakes_are_told() {
        for (words, expected) in [
            ("web", "export what"),
            ("/a", "export what"),
            ("web /a", "export what"),
            ("web a out", "a: not an absolute path"),
            ("web:/a out", "export what"),
            ("/a/.. out", "/a/..: not an absolute path"),
            ("/a -", "no directory"),
        ] {
            let failure = asked(words).unwrap_err();
            assert!(failure.message.contains(expected), "{words}: {failure:?}");
            assert!(!failure.hints.is_empty());
        }
    }
}
