//! What becomes of a finished build: names, outputs, pushes, files that say what was made.

use std::path::Path;

use serde_json::{Map, Value, json};
use strake_engine::export::{self, Output, TreeOutput, Written};
use strake_engine::image::{self, CommitOptions, Dest, ImageError, PushOptions};
use strake_engine::{BuildOutput, Environment, StageOutput};
use strake_oci::{Compression, Descriptor, ImageId, Reference};

use crate::args::{BuildArgs, Destination, OutputKind, OutputSpec};
use crate::commands::archive::creation_time;
use crate::commands::{output, transfer};
use crate::failure::{Failure, Kind};
use crate::report;
use crate::session::Session;
use crate::settings::compression;

/// What can be refused before anything is done.
///
/// # Errors
/// When outputs contradict each other, or an image without a name is to be pushed.
pub(super) fn check(args: &BuildArgs) -> Result<(), Failure> {
    let to_stdout = args.outputs.iter().filter(|spec| spec.dest == Some(Destination::Stdout)).count();
    if to_stdout > 1 {
        return Err(Failure::input("only one output can go to standard output"));
    }
    let pushed = args.push || args.outputs.iter().any(|spec| spec.push);
    let named = !args.tags.is_empty() || args.outputs.iter().any(|spec| !spec.names.is_empty());
    if pushed && !named {
        return Err(Failure::input("an image needs a name to be pushed").hint("give it one with -t NAME"));
    }
    if let Some(name) = args.tags.iter().find(|name| name.digest().is_some()) {
        return Err(Failure::input(format!(
            "-t {name}: a name cannot have a digest; that follows from the image"
        )));
    }
    if args.timestamp.is_some_and(|seconds| i64::try_from(seconds).is_err()) {
        return Err(Failure::input("--timestamp: too far in the future"));
    }
    // A file of an earlier build must not be taken for this one's.
    for path in [&args.iidfile, &args.metadata_file].into_iter().flatten() {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::file("write", path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Why a finished build did not get where it was to go.
#[derive(Debug)]
pub(super) enum Undelivered {
    /// Layers that were known, but not here, may be gone.
    Lost(Failure),
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for Undelivered {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<ImageError> for Undelivered {
    fn from(error: ImageError) -> Self {
        match error.is_lost_content() {
            true => Self::Lost(error.into()),
            false => Self::Failed(error.into()),
        }
    }
}

impl From<Undelivered> for Failure {
    fn from(undelivered: Undelivered) -> Self {
        match undelivered {
            Undelivered::Lost(failure) | Undelivered::Failed(failure) => failure,
        }
    }
}

/// Names the image, writes the outputs, pushes, and says what was made.
///
/// # Errors
/// When one of these fails; what was done before it stays.
pub(super) fn deliver(
    session: &Session,
    env: &Environment<'_>,
    args: &BuildArgs,
    built: &BuildOutput,
    epoch: Option<i64>,
) -> Result<(), Undelivered> {
    let [stage] = built.stages.as_slice() else {
        let text = format!("{} stages were built, want one", built.stages.len());
        return Err(Failure::new(Kind::Bug, text).into());
    };
    let names = all_names(args);
    let image = match wants_image(args) {
        true => {
            let options = CommitOptions { created: creation_time(epoch), source_date_epoch: epoch };
            Some(image::commit_stage(env, stage, &names, &options)?)
        }
        false => None,
    };
    let mut manifest = None;
    for spec in &args.outputs {
        if let Some(written) = write(session, env, args, stage, image, spec, epoch)? {
            written.notes.iter().for_each(|note| env_warning(env, note));
            manifest = written.manifests.into_iter().next().or(manifest);
        }
    }
    let mut notes = Vec::new();
    for name in pushed_names(args) {
        session.permit(&name)?;
        let options = PushOptions {
            compression: chosen(session, args, None),
            annotations: stage.annotations.clone(),
            ..session.settings.push_options()
        };
        let pushed = image::push(env, &name, &options)?;
        notes.push(transfer::push_summary(&name.familiar(), &pushed));
        manifest = Some(pushed.descriptor);
    }
    if let Some(id) = image {
        say(session, args, id, &names, notes)?;
    }
    Ok(write_files(args, image, &names, manifest.as_ref())?)
}

fn env_warning(env: &Environment<'_>, text: &str) {
    (env.events)(strake_engine::Event::Warning(text.to_owned()));
}

/// `--tag` and the names of outputs, each once.
fn all_names(args: &BuildArgs) -> Vec<Reference> {
    let mut names = Vec::new();
    for name in args.tags.iter().chain(args.outputs.iter().flat_map(|spec| &spec.names)) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names.extend(final_names(args));
    names
}

/// The names in `--final-repo`: one for each tag that the image gets.
fn final_names(args: &BuildArgs) -> Vec<Reference> {
    let Some(repository) = &args.sharing.final_repo else { return Vec::new() };
    let given = args.tags.iter().chain(args.outputs.iter().flat_map(|spec| &spec.names));
    let mut tags: Vec<&str> = given.map(|name| name.tag().unwrap_or("latest")).collect();
    tags.sort_unstable();
    tags.dedup();
    if tags.is_empty() {
        tags.push("latest");
    }
    let named = |tag| repository.with_tag(tag).expect("it is the tag of a name");
    tags.into_iter().map(named).collect()
}

/// The names to push: all with `--push`, otherwise those that the outputs that push have.
pub(super) fn pushed_names(args: &BuildArgs) -> Vec<Reference> {
    let of_outputs = args.outputs.iter().filter(|spec| spec.push || args.push).flat_map(|spec| &spec.names);
    let by_output = args.outputs.iter().any(|spec| spec.push);
    let tags = args.tags.iter().filter(|_| args.push || by_output);
    let mut names = Vec::new();
    for name in tags.chain(of_outputs) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names.extend(final_names(args));
    names
}

/// Files alone need no image.
fn wants_image(args: &BuildArgs) -> bool {
    let is_tree = |spec: &OutputSpec| matches!(spec.kind, OutputKind::Local | OutputKind::Tar);
    args.outputs.is_empty()
        || args.outputs.iter().any(|spec| !is_tree(spec))
        || !args.tags.is_empty()
        || args.iidfile.is_some()
        || args.sharing.final_repo.is_some()
        || args.quiet
}

/// Whether something is written that holds the layers.
pub(super) fn wants_layers(args: &BuildArgs) -> bool {
    let is_written = |spec: &OutputSpec| {
        spec.dest.is_some() && !matches!(spec.kind, OutputKind::Image | OutputKind::Registry)
    };
    args.outputs.iter().any(is_written)
}

/// What was said of this output, of the build, of everything.
fn chosen(session: &Session, args: &BuildArgs, spec: Option<&OutputSpec>) -> Compression {
    let said = spec.and_then(|spec| spec.compression);
    let said = said.or_else(|| args.outputs.iter().find(|spec| spec.push).and_then(|spec| spec.compression));
    said.or(args.compression).map_or(session.settings.compression, compression)
}

fn write(
    session: &Session,
    env: &Environment<'_>,
    args: &BuildArgs,
    stage: &StageOutput,
    image: Option<ImageId>,
    spec: &OutputSpec,
    epoch: Option<i64>,
) -> Result<Option<Written>, Failure> {
    let dest = match &spec.dest {
        Some(Destination::Path(path)) => Dest::File(path.clone()),
        Some(Destination::Stdout) => Dest::Stdout,
        // An image in the store or a registry, or `type=docker` alone, which docker loads into its own store.
        None => return Ok(None),
    };
    let compression = chosen(session, args, Some(spec));
    let output = match (spec.kind, dest) {
        (OutputKind::Local, Dest::File(path)) => Output::Tree(TreeOutput::Local(path)),
        (OutputKind::Tar, dest) => Output::Tree(TreeOutput::Tar(dest)),
        (OutputKind::Docker, dest) => Output::Docker { dest },
        (OutputKind::Oci, Dest::File(dest)) if !spec.is_archive() => {
            Output::OciDirectory { dest, compression }
        }
        (OutputKind::Oci, dest) => Output::Oci { dest, compression },
        _ => return Ok(None),
    };
    let written = match (&output, image) {
        (Output::Tree(tree), _) => export::write_tree(env, &stage.layers, epoch, tree)?,
        (_, Some(id)) => export::write(env, &[(id, all_names(args))], &output)?,
        (_, None) => return Err(Failure::new(Kind::Bug, "an image was to be written that was not made")),
    };
    Ok(Some(written))
}

/// The id goes to standard output, unless an archive went there; everything else to standard error.
fn say(
    session: &Session,
    args: &BuildArgs,
    id: ImageId,
    names: &[Reference],
    notes: Vec<String>,
) -> Result<(), Failure> {
    let familiar: Vec<_> = names.iter().map(Reference::familiar).collect();
    session.ui.result(&id.to_string(), &familiar);
    session.ui.finish();
    if !session.ui.is_machine_readable() {
        if !familiar.is_empty() {
            report::note(&format!("named {}", familiar.join(", ")));
        }
        notes.iter().for_each(|note| report::note(note));
    }
    match args.outputs.iter().any(|spec| spec.dest == Some(Destination::Stdout)) {
        true => Ok(()),
        false => output::line(&id.to_string()),
    }
}

fn write_files(
    args: &BuildArgs,
    image: Option<ImageId>,
    names: &[Reference],
    manifest: Option<&Descriptor>,
) -> Result<(), Failure> {
    let put = |path: &Path, text: String| {
        std::fs::write(path, text).map_err(|error| Failure::file("write", path, &error))
    };
    if let (Some(path), Some(id)) = (&args.iidfile, image) {
        put(path, id.to_string())?;
    }
    if let Some(path) = &args.metadata_file {
        put(path, format!("{:#}\n", metadata(image, names, manifest)))?;
    }
    Ok(())
}

/// The members of buildx's metadata file that we know.
fn metadata(image: Option<ImageId>, names: &[Reference], manifest: Option<&Descriptor>) -> Value {
    let mut members = Map::new();
    if let Some(id) = image {
        members.insert("containerimage.config.digest".to_owned(), json!(id.to_string()));
        // Without a manifest the image's digest is its id, as with docker's own store.
        let digest = manifest.map_or_else(|| id.to_string(), |manifest| manifest.digest.to_string());
        members.insert("containerimage.digest".to_owned(), json!(digest));
    }
    if let Some(manifest) = manifest {
        members.insert("containerimage.descriptor".to_owned(), json!(manifest));
    }
    if !names.is_empty() {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        members.insert("image.name".to_owned(), json!(names.join(",")));
    }
    members.into()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn args(line: &str) -> BuildArgs {
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Build(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn contradictions_are_refused_at_once() {
        for line in [
            "strake build --push .",
            "strake build -o type=registry .",
            "strake build -o - -o type=oci,dest=- .",
            "strake build -t a@sha256:0000000000000000000000000000000000000000000000000000000000000000 .",
        ] {
            assert_eq!(check(&args(line)).unwrap_err().kind, Kind::Input, "{line}");
        }
        assert!(check(&args("strake build -t a --push .")).is_ok());
    }

    #[test]
    fn names_are_pushed_by_whom_they_were_given_to() {
        let names =
            |line: &str| -> Vec<_> { pushed_names(&args(line)).iter().map(Reference::familiar).collect() };
        assert_eq!(names("strake build -t a -t b -t a --push ."), ["a:latest", "b:latest"]);
        assert_eq!(names("strake build -t a -o type=image,name=c,push=true ."), ["a:latest", "c:latest"]);
        assert!(names("strake build -t a -o out .").is_empty());
        assert_eq!(names("strake build --final-repo r/f -t a:1 -t b:1 ."), ["r/f:1"]);
        assert_eq!(names("strake build --final-repo r/f ."), ["r/f:latest"]);
    }

    #[test]
    fn files_alone_make_no_image() {
        assert!(!wants_image(&args("strake build -o out .")));
        assert!(wants_image(&args("strake build .")));
        assert!(wants_image(&args("strake build -t a -o out .")));
        assert!(wants_image(&args("strake build -o out -o type=oci,dest=x .")));
    }

    #[test]
    fn metadata_has_the_names_of_buildx() {
        let id = ImageId(strake_oci::Digest::of(b"config"));
        let names = ["a:1".parse().unwrap()];
        let text = metadata(Some(id), &names, None).to_string();
        assert!(text.contains("\"containerimage.config.digest\":\"sha256:"), "{text}");
        assert!(text.contains("\"image.name\":\"docker.io/library/a:1\""), "{text}");
    }
}
