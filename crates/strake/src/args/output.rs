//! `--output`: where the result of a build goes, in buildx's syntax.

use std::path::PathBuf;
use std::str::FromStr;

use strake_oci::Reference;

use super::csv;
use super::nearest::nearest;

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputSpec {
    /// In what form.
    pub(crate) kind: OutputKind,
    /// Where to; [`Destination::Stdout`] is `-`.
    pub(crate) dest: Option<Destination>,
    /// Names to give the image on top of those of `--tag`.
    pub(crate) names: Vec<Reference>,
    /// Whether the image is pushed as well.
    pub(crate) push: bool,
    /// How layers are compressed, where the kind has layers and this is said.
    pub(crate) compression: Option<CompressionSpec>,
    /// Whether a `docker` or `oci` output is one archive (the default) or a directory.
    pub(crate) archive: bool,
}

/// The form of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputKind {
    /// The files, as a directory.
    Local,
    /// The files, as one tar.
    Tar,
    /// The image, as an OCI layout or an archive of one.
    Oci,
    /// The image, as `docker save` writes it.
    Docker,
    /// The image, in the local store.
    Image,
    /// The image, in its registry.
    Registry,
}

/// Where an output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A file or directory.
    Path(PathBuf),
    /// Standard output.
    Stdout,
}

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum CompressionSpec {
    /// gzip, which every registry and runtime reads.
    #[default]
    Gzip,
    /// Zstandard: faster and smaller; old runtimes cannot read it.
    Zstd,
    /// No compression.
    #[value(alias = "none")]
    Uncompressed,
}

const KINDS: [(&str, OutputKind); 6] = [
    ("local", OutputKind::Local),
    ("tar", OutputKind::Tar),
    ("oci", OutputKind::Oci),
    ("docker", OutputKind::Docker),
    ("image", OutputKind::Image),
    ("registry", OutputKind::Registry),
];

const KEYS: [&str; 7] = ["type", "dest", "name", "push", "compression", "compression-level", "tar"];

impl OutputSpec {
    fn new(kind: OutputKind) -> Self {
        Self {
            kind,
            dest: None,
            names: Vec::new(),
            push: kind == OutputKind::Registry,
            compression: None,
            archive: true,
        }
    }

    /// `-o DIR` and `-o -`.
    fn short(text: &str) -> Self {
        match text {
            "-" => Self { dest: Some(Destination::Stdout), ..Self::new(OutputKind::Tar) },
            path => Self { dest: Some(Destination::Path(path.into())), ..Self::new(OutputKind::Local) },
        }
    }

    /// Whether the output is a file on its own, so that `-` can mean standard output.
    pub(crate) fn is_archive(&self) -> bool {
        match self.kind {
            OutputKind::Tar => true,
            OutputKind::Oci | OutputKind::Docker => self.archive,
            OutputKind::Local | OutputKind::Image | OutputKind::Registry => false,
        }
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), String> {
        match key {
            "dest" if value.is_empty() => return Err("`dest` is empty".to_owned()),
            "dest" if value == "-" => self.dest = Some(Destination::Stdout),
            "dest" => self.dest = Some(Destination::Path(value.into())),
            "name" => {
                for name in value.split(',').filter(|name| !name.is_empty()) {
                    self.names.push(name.parse().map_err(|error| format!("name `{name}`: {error}"))?);
                }
            }
            "push" => self.push = truth(key, &value)?,
            "tar" => self.archive = truth(key, &value)?,
            "compression" => {
                self.compression = Some(
                    <CompressionSpec as clap::ValueEnum>::from_str(&value, false)
                        .map_err(|_| format!("compression `{value}`: want gzip, zstd or uncompressed"))?,
                );
            }
            "compression-level" => {
                return Err("`compression-level` cannot be chosen: layers have one level, so that they are the same everywhere".to_owned());
            }
            other => return Err(unknown_key(other)),
        }
        Ok(())
    }

    /// What must hold between the parts.
    fn checked(self) -> Result<Self, String> {
        match (self.kind, &self.dest) {
            (OutputKind::Local, None) => Err("`type=local` needs `dest=DIRECTORY`".to_owned()),
            (OutputKind::Local, Some(Destination::Stdout)) => {
                Err("`type=local` writes a directory, which cannot go to standard output; use `type=tar`"
                    .to_owned())
            }
            (OutputKind::Image | OutputKind::Registry, Some(_)) => {
                Err("`dest` has no meaning for an image in the store or in a registry".to_owned())
            }
            (OutputKind::Oci | OutputKind::Docker, Some(Destination::Stdout)) if !self.archive => {
                Err("`tar=false` writes a directory, which cannot go to standard output".to_owned())
            }
            (OutputKind::Oci, None) => Err("`type=oci` needs `dest=FILE` (or `dest=-`)".to_owned()),
            (OutputKind::Docker, _) if !self.archive => {
                Err("`type=docker` is always one archive; for a directory use `type=oci,tar=false`"
                    .to_owned())
            }
            // Buildx's default for `tar` is standard output.
            (OutputKind::Tar, None) => Ok(Self { dest: Some(Destination::Stdout), ..self }),
            _ => Ok(self),
        }
    }
}

impl FromStr for OutputSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("says neither a directory nor `type=…`".to_owned());
        }
        let fields = csv::pairs(text)?;
        if let [(_, None)] = fields.as_slice() {
            return Ok(Self::short(text));
        }
        let kind = fields.iter().find(|(key, _)| key == "type").and_then(|(_, value)| value.as_deref());
        let kind = kind.ok_or("has no `type=` (one of local, tar, oci, docker, image, registry)")?;
        let known = KINDS.iter().find(|(name, _)| *name == kind);
        let (_, kind) = known.ok_or_else(|| unknown_kind(kind))?;
        let mut spec = Self::new(*kind);
        for (key, value) in fields.into_iter().filter(|(key, _)| key != "type") {
            let value = match (value, key.as_str()) {
                (Some(value), _) => value,
                (None, "push" | "tar") => "true".to_owned(),
                (None, key) if KEYS.contains(&key) => {
                    return Err(format!("`{key}` needs a value: `{key}=…`"));
                }
                (None, key) => return Err(unknown_key(key)),
            };
            spec.set(&key, value)?;
        }
        spec.checked()
    }
}

/// Go's `strconv.ParseBool`.
fn truth(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("`{key}={other}`: want true or false")),
    }
}

fn unknown_kind(written: &str) -> String {
    let names: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
    match nearest(written, names.iter().copied()) {
        Some(name) => format!("unknown type `{written}`, did you mean `{name}`?"),
        None => format!("unknown type `{written}`, want one of {}", names.join(", ")),
    }
}

fn unknown_key(written: &str) -> String {
    match nearest(written, KEYS) {
        Some(key) => format!("unknown key `{written}`, did you mean `{key}`?"),
        None => format!("unknown key `{written}`, want one of {}", KEYS.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> OutputSpec {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn path(text: &str) -> Option<Destination> {
        Some(Destination::Path(text.into()))
    }

    #[test]
    fn short_forms() {
        assert_eq!(parse("out").kind, OutputKind::Local);
        assert_eq!(parse("out").dest, path("out"));
        assert_eq!(parse("Out/Dir").dest, path("Out/Dir"));
        assert_eq!(parse("-").kind, OutputKind::Tar);
        assert_eq!(parse("-").dest, Some(Destination::Stdout));
    }

    #[test]
    fn long_forms() {
        let spec = parse("type=oci,dest=image.tar,compression=zstd");
        assert_eq!((spec.kind, spec.dest.clone()), (OutputKind::Oci, path("image.tar")));
        assert_eq!(spec.compression, Some(CompressionSpec::Zstd));
        let spec = parse("type=image,\"name=a/b:1,c/d\",push");
        assert!(spec.push);
        assert_eq!(spec.names.len(), 2);
        assert_eq!(parse("type=local,\"dest=a,b\"").dest, path("a,b"));
        assert_eq!(parse("type=tar").dest, Some(Destination::Stdout));
        assert!(parse("type=registry").push);
        assert!(!parse("type=oci,dest=d,tar=false").is_archive());
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| text.parse::<OutputSpec>().unwrap_err();
        assert_eq!(error("type=locla,dest=x"), "unknown type `locla`, did you mean `local`?");
        assert_eq!(error("type=local,dst=x"), "unknown key `dst`, did you mean `dest`?");
        assert!(error("dest=x,foo=y").contains("has no `type=`"));
        assert!(error("type=local").contains("needs `dest=DIRECTORY`"));
        assert!(error("type=local,dest=-").contains("use `type=tar`"));
        assert!(error("type=oci").contains("needs `dest=FILE`"));
        assert!(error("type=oci,dest").contains("needs a value"));
        assert!(error("type=image,dest=x").contains("no meaning"));
        assert!(error("type=oci,dest=x,compression=lz4").contains("gzip, zstd or uncompressed"));
        assert!(error("type=oci,dest=x,compression-level=9").contains("cannot be chosen"));
        assert!(error("").contains("neither"));
    }
}
