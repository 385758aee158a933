//! `import`, `load`, `save`.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use strake_engine::export::{self, Output};
use strake_engine::image::{self, Dest, ImportOptions};
use strake_frontend::dockerfile::{self, Facts, LowerOptions, Lowering};
use strake_oci::{ContainerConfig, Platform};

use super::{in_session, output, ui};
use crate::args::{ArchiveFormat, ImportArgs, LoadArgs, SaveArgs};
use crate::failure::Failure;
use crate::report::{self, Source};
use crate::settings::{Settings, compression};

/// `strake import`.
pub(super) fn import(args: &ImportArgs, settings: Settings) -> Result<u8, Failure> {
    let options = ui(&settings, "Importing", None, args.quiet);
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let config = changes(&args.changes, &platform)?;
    in_session(settings, options, |session| {
        let (reader, from): (Box<dyn Read + Send>, _) = match args.file.to_str() {
            Some("-") => (Box::new(stdin()?), "standard input".to_owned()),
            _ => (Box::new(open(&args.file)?), args.file.display().to_string()),
        };
        let options = ImportOptions {
            names: vec![args.name.clone()],
            platform,
            created: creation_time(session.settings.source_date_epoch),
            comment: format!("imported from {from}"),
            config,
        };
        let id = session.with(|env| image::import(env, reader, &options))?;
        session.ui.result(&id.to_string(), &[args.name.familiar()]);
        output::line(&id.to_string())?;
        Ok(0)
    })
}

/// The time that new images carry.
pub(super) fn creation_time(source_date_epoch: Option<i64>) -> SystemTime {
    match source_date_epoch.and_then(|seconds| u64::try_from(seconds).ok()) {
        Some(seconds) => UNIX_EPOCH + Duration::from_secs(seconds),
        None => SystemTime::now(),
    }
}

/// The configuration that Dockerfile instructions make of nothing. The frontend reads them, so that they mean here
/// what they mean there.
fn changes(instructions: &[String], platform: &Platform) -> Result<ContainerConfig, Failure> {
    const ALLOWED: [&str; 11] = [
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "ONBUILD",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "SHELL",
    ];
    if instructions.is_empty() {
        return Ok(ContainerConfig::default());
    }
    let mut text = String::from("FROM scratch\n");
    for instruction in instructions {
        let word = instruction.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        if !ALLOWED.contains(&word.as_str()) && word != "WORKDIR" {
            return Err(Failure::input(format!(
                "--change {instruction:?}: only instructions that change no file: {}",
                ALLOWED.join(", ")
            )));
        }
        if instruction.contains('\n') {
            return Err(Failure::input(format!("--change {instruction:?}: one instruction on one line")));
        }
        text.push_str(instruction);
        text.push('\n');
    }
    let source = Source { name: "--change".to_owned(), text: text.clone() };
    let parsed = dockerfile::parse(text.as_bytes());
    match dockerfile::lower(&parsed, &LowerOptions::new(platform.clone()), &Facts::default()) {
        Ok(Lowering::Done(lowered)) => {
            let mut config = match lowered.graph.targets() {
                [target] => lowered.graph.stage(*target).config.clone(),
                _ => ContainerConfig::default(),
            };
            // What a Dockerfile would add by itself is not what an import of a file system asks for.
            if !instructions.iter().any(|line| line.to_ascii_uppercase().trim_start().starts_with("ENV")) {
                config.env.clear();
            }
            Ok(config)
        }
        Ok(Lowering::Needs(_)) => {
            Err(Failure::input("--change: instructions that need an image cannot be used here"))
        }
        Err(found) => Err(report::invalid(&source, &found)),
    }
}

fn stdin() -> Result<io::Stdin, Failure> {
    let input = io::stdin();
    if input.is_terminal() {
        return Err(Failure::input(
            "standard input is a terminal; want an archive there, or the name of a file",
        ));
    }
    Ok(input)
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::file("open", path, &error))
}

/// `strake load`. The names go to standard output, an id where there is none.
pub(super) fn load(args: &LoadArgs, settings: Settings) -> Result<u8, Failure> {
    let options = ui(&settings, "Loading", None, args.quiet);
    in_session(settings, options, |session| {
        let loaded = match &args.input {
            Some(path) if path.to_str() != Some("-") => session.with(|env| image::load(env, path))?,
            _ => {
                let input = stdin()?;
                session.with(|env| image::load_stream(env, input))?
            }
        };
        for image in loaded {
            let names: Vec<_> = image.names.iter().map(strake_oci::Reference::familiar).collect();
            session.ui.result(&image.id.to_string(), &names);
            if args.quiet || names.is_empty() {
                output::line(&image.id.to_string())?;
            } else {
                names.iter().try_for_each(|name| output::line(name))?;
            }
        }
        Ok(0)
    })
}

/// `strake save`.
pub(super) fn save(args: &SaveArgs, settings: Settings) -> Result<u8, Failure> {
    let options = ui(&settings, "Saving", None, false);
    in_session(settings, options, |session| {
        let dest = match &args.output {
            Some(path) if path.to_str() != Some("-") => Dest::File(path.clone()),
            _ if io::stdout().is_terminal() => {
                return Err(Failure::input(
                    "standard output is a terminal; name a file with -o, or redirect",
                ));
            }
            _ => Dest::Stdout,
        };
        let mut images: Vec<(strake_oci::ImageId, Vec<strake_oci::Reference>)> = Vec::new();
        for name in &args.images {
            let found = session.with_image(name, None, |env| image::find(env, name))?;
            match images.iter_mut().find(|(id, _)| *id == found.id) {
                Some((_, names)) => names.extend(found.reference),
                None => images.push((found.id, found.reference.into_iter().collect())),
            }
        }
        let chosen = args.compression.map_or(session.settings.compression, compression);
        let output = match args.format {
            ArchiveFormat::Docker => Output::Docker { dest },
            ArchiveFormat::Oci => Output::Oci { dest, compression: chosen },
        };
        let written = session.with(|env| export::write(env, &images, &output))?;
        session.ui.finish();
        written.notes.iter().for_each(|note| report::warn(note));
        Ok(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_dockerfile_instructions() {
        let platform = Platform::linux("amd64");
        assert_eq!(changes(&[], &platform).unwrap(), ContainerConfig::default());
        let config = changes(&["CMD [\"/bin/sh\"]".to_owned(), "ENV A=1".to_owned()], &platform).unwrap();
        assert_eq!(config.cmd, Some(vec!["/bin/sh".to_owned()]));
        assert!(config.env.contains(&"A=1".to_owned()));
        for text in ["RUN x", "COPY a b", "FROM x", "", "CMD a\nRUN b"] {
            assert!(changes(&[text.to_owned()], &platform).is_err(), "{text}");
        }
    }
}
