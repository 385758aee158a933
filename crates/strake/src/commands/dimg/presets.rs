//! What holds for commands on stage files when nothing else is said: `.dapp_config` of the project, then of the home
//! directory. `.strake_config` of the same place comes first.

use std::path::{Path, PathBuf};

use strake_frontend::stagefile::Presets;
use strake_store::RootDir;

use crate::args::{ColorMode, ProjectArgs, RowArgs};
use crate::failure::Failure;
use crate::report::{self, Source};
use crate::settings::Settings;

const NAMES: [&str; 2] = [".strake_config", ".dapp_config"];

/// No file of presets is larger, in bytes.
const SIZE_MAX: u64 = 64 << 10;

/// Reads the files.
///
/// # Errors
/// When one of them cannot be read or is wrong.
pub(super) fn load(args: &ProjectArgs, settings: &Settings) -> Result<Presets, Failure> {
    let dir = args.dir.as_deref().unwrap_or(Path::new("."));
    // A project comes from anywhere: it must not choose where on this machine something is written.
    let of_project = files(dir, settings)?;
    if of_project.iter().any(|found| found.build_dir.is_some()) {
        report::warn("presets of the project: `build_dir` is taken from the file in the home directory only");
    }
    let of_project = of_project.into_iter().map(|found| Presets { build_dir: None, ..found });
    let of_home = settings.home().map(|home| files(&home, settings)).transpose()?.unwrap_or_default();
    let presets = of_project.chain(of_home).fold(Presets::default(), Presets::or);
    Ok(presets)
}

fn files(dir: &Path, settings: &Settings) -> Result<Vec<Presets>, Failure> {
    let Ok(root) = RootDir::open(dir) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for name in NAMES {
        let path = dir.join(name);
        let bytes = match root.read_bounded(Path::new(name), SIZE_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::file("read", &path, &error)),
        };
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::input(format!("read {}: it is not UTF-8", path.display())))?;
        let presets = Presets::parse(&text, settings.is_ci());
        found.push(presets.map_err(|diagnostics| {
            report::invalid(&Source { name: path.display().to_string(), text }, &diagnostics)
        })?);
    }
    Ok(found)
}

/// What was typed wins.
pub(super) fn apply_to_project(presets: &Presets, args: &mut ProjectArgs) {
    args.dev |= presets.dev == Some(true);
    if args.build_dir.is_none() {
        args.build_dir = presets.build_dir.as_ref().map(PathBuf::from);
    }
}

/// What was typed wins.
pub(super) fn apply_to_rows(presets: &Presets, args: &mut RowArgs) {
    let (quiet, verbose) = (args.quiet, args.verbose);
    args.quiet |= presets.quiet == Some(true) && !verbose;
    args.verbose |= presets.verbose == Some(true) && !quiet;
    args.time |= presets.time == Some(true);
    if args.color == ColorMode::Auto {
        args.color = match presets.color {
            Some(true) => ColorMode::On,
            Some(false) => ColorMode::Off,
            None => ColorMode::Auto,
        };
    }
}
