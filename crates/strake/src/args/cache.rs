//! `--cache-from` and `--cache-to` in buildx's syntax.

use std::path::PathBuf;
use std::str::FromStr;

use strake_engine::{CacheContent, CachePlace, CacheTarget, OnError};

use super::csv;
use super::nearest::nearest;

/// One `--cache-from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheFromSpec(pub(crate) CachePlace);

/// One `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CacheToSpec {
    /// A cache of its own.
    Target(CacheTarget),
    /// Inside the image that is pushed.
    Inline,
}

impl CacheToSpec {
    /// The cache to write, unless it is part of the image.
    pub(crate) fn target(&self) -> Option<CacheTarget> {
        match self {
            Self::Target(target) => Some(target.clone()),
            Self::Inline => None,
        }
    }

    /// Where it is written to.
    pub(crate) fn place(&self) -> Option<&CachePlace> {
        match self {
            Self::Target(target) => Some(&target.place),
            Self::Inline => None,
        }
    }
}

/// Kinds of buildx's that need something strake does not have, with what to use instead.
const FOREIGN: [&str; 3] = ["gha", "s3", "azblob"];

/// What was written, by key.
#[derive(Debug, Default)]
struct Fields {
    kind: Option<String>,
    name: Option<String>,
    directory: Option<String>,
    mode: Option<String>,
    ignore_error: bool,
}

/// `directory` is the key of a local cache: `src` or `dest`.
fn fields(text: &str, directory: &str) -> Result<Fields, String> {
    let mut fields = Fields::default();
    // The name of an image alone, as in docker before BuildKit.
    if !text.contains('=') {
        (fields.kind, fields.name) = (Some("registry".to_owned()), Some(text.to_owned()));
        return Ok(fields);
    }
    for (key, value) in csv::pairs(text)? {
        let value = value.filter(|value| !value.is_empty());
        let given = || value.clone().ok_or_else(|| format!("`{key}` needs a value: `{key}=…`"));
        match key.as_str() {
            "type" => fields.kind = Some(given()?),
            "ref" => fields.name = Some(given()?),
            "mode" => fields.mode = Some(given()?),
            "ignore-error" => fields.ignore_error = truth(&given()?)?,
            // How the document is written does not matter to whoever reads it.
            "image-manifest" | "oci-mediatypes" => drop(truth(&given()?)?),
            "compression" | "compression-level" | "force-compression" => {
                return Err(format!("`{key}`: layers have one form; choose it with --compression"));
            }
            other if other == directory => fields.directory = Some(given()?),
            other => return Err(unknown_key(other, directory)),
        }
    }
    Ok(fields)
}

fn truth(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(format!("`{other}`: want true or false")),
    }
}

fn unknown_key(written: &str, directory: &str) -> String {
    let known = ["type", "ref", "mode", "ignore-error", directory];
    match nearest(written, known) {
        Some(key) => format!("unknown key `{written}`, did you mean `{key}`?"),
        None => format!("unknown key `{written}`, want {}", known.join(", ")),
    }
}

impl Fields {
    fn place(&self, directory: &str) -> Result<CachePlace, String> {
        match self.kind.as_deref() {
            Some("registry") => {
                let name = self.name.as_deref().ok_or("`type=registry` needs `ref=NAME`")?;
                let reference: strake_oci::Reference =
                    name.parse().map_err(|error| format!("`{name}`: {error}"))?;
                Ok(CachePlace::Registry(reference))
            }
            Some("local") => {
                let path = self.directory.as_deref();
                let path = path.ok_or_else(|| format!("`type=local` needs `{directory}=DIR`"))?;
                Ok(CachePlace::Directory(PathBuf::from(path)))
            }
            Some(kind) if FOREIGN.contains(&kind) => Err(format!(
                "`type={kind}` is not supported; use `type=registry,ref=NAME` or `type=local,{directory}=DIR`"
            )),
            Some(other) => Err(format!("`type={other}`: want registry or local")),
            None => Err("has no `type=`".to_owned()),
        }
    }
}

impl FromStr for CacheFromSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        fields(text, "src")?.place("src").map(Self)
    }
}

impl FromStr for CacheToSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields = fields(text, "dest")?;
        if fields.kind.as_deref() == Some("inline") {
            return Ok(Self::Inline);
        }
        let place = fields.place("dest")?;
        if matches!(&place, CachePlace::Registry(reference) if reference.digest().is_some()) {
            return Err("a cache cannot be written to a digest; name a tag".to_owned());
        }
        let content = match fields.mode.as_deref() {
            None | Some("min") => CacheContent::Result,
            Some("max") => CacheContent::All,
            Some(other) => return Err(format!("`mode={other}`: want min or max")),
        };
        let on_error = if fields.ignore_error { OnError::Warn } else { OnError::Fail };
        Ok(Self::Target(CacheTarget { place, content, on_error }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        let parse = |text: &str| text.parse::<CacheFromSpec>().map(|spec| spec.0.to_string());
        assert_eq!(parse("me/app:cache").unwrap(), "me/app:cache");
        assert_eq!(parse("type=registry,ref=localhost:5000/a:b").unwrap(), "localhost:5000/a:b");
        assert_eq!(parse("type=local,src=/tmp/c").unwrap(), "/tmp/c");
        for (text, told) in [
            ("type=registry", "needs `ref=NAME`"),
            ("type=local", "needs `src=DIR`"),
            ("type=local,dest=x", "unknown key `dest`"),
            ("type=gha", "not supported"),
            ("type=inline", "want registry or local"),
            ("ref=a", "no `type=`"),
            ("type=registry,ref=A", "`A`"),
            ("type=registry,reff=a", "did you mean `ref`"),
            ("type=registry,ref=", "needs a value"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn targets() {
        let parse = |text: &str| text.parse::<CacheToSpec>();
        assert_eq!(parse("type=inline"), Ok(CacheToSpec::Inline));
        let target = parse("type=registry,ref=a:b,mode=max,ignore-error=true,oci-mediatypes=true").unwrap();
        let target = target.target().unwrap();
        assert_eq!((target.content, target.on_error), (CacheContent::All, OnError::Warn));
        let target = parse("type=local,dest=d").unwrap().target().unwrap();
        assert_eq!((target.content, target.on_error), (CacheContent::Result, OnError::Fail));
        assert!(parse("type=local,dest=d,mode=some").unwrap_err().contains("min or max"));
        assert!(
            parse(&format!("type=registry,ref=a@sha256:{}", "0".repeat(64))).unwrap_err().contains("tag")
        );
    }
}
