use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and a processor (image-spec v1.1 `image-index.md` §platform), normalised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Processor, in Go's names: `amd64`, `arm64`, …
    pub architecture: String,
    /// Operating system, in Go's names: `linux`.
    pub os: String,
    /// `os.version`; Windows only.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Processor variant: `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform (os/architecture[/variant], for example linux/amd64)")]
pub struct PlatformError(pub String);

impl Platform {
    /// Linux on a processor named in Go's or the kernel's way.
    pub fn linux(architecture: &str) -> Self {
        let (architecture, variant) = normalise(architecture, None);
        Self { architecture, os: "linux".into(), os_version: None, variant }
    }

    /// The platform this program was compiled for.
    pub fn host() -> Self {
        Self::linux(std::env::consts::ARCH)
    }

    /// Whether an image of platform `image` satisfies a request for this one.
    ///
    /// A variant that either side leaves out is taken as the architecture's default.
    pub fn accepts(&self, image: &Self) -> bool {
        let (arch, variant) = normalise(&image.architecture, image.variant.as_deref());
        let (own_arch, own_variant) = normalise(&self.architecture, self.variant.as_deref());
        self.os == image.os && own_arch == arch && own_variant == variant
    }
}

/// Folds spelling variants together and drops variants that say nothing.
fn normalise(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let architecture = architecture.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant) {
        ("x86_64" | "x86-64" | "amd64", None | Some("v1" | "")) => ("amd64", None),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", None | Some("8" | "v8" | "")) => ("arm64", None),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", None) => ("arm", Some("v7")),
        ("armel", None) => ("arm", Some("v6")),
        ("arm", None | Some("7" | "")) => ("arm", Some("v7")),
        ("arm", Some("6")) => ("arm", Some("v6")),
        ("i386" | "i686" | "x86", None) => ("386", None),
        (architecture, variant) => (architecture, variant.filter(|variant| !variant.is_empty())),
    };
    (architecture.to_owned(), variant.map(str::to_owned))
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let malformed = || PlatformError(text.to_owned());
        let part_is_fine = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(part_is_fine) {
            return Err(malformed());
        }
        let (os, architecture, variant) = match parts[..] {
            ["linux"] => return Ok(Self::host()),
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(malformed()),
        };
        let (architecture, variant) = normalise(architecture, variant);
        Ok(Self { architecture, os: os.to_ascii_lowercase(), os_version: None, variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(text.parse::<Platform>().map(|platform| platform.to_string()), Ok(expect.to_owned()));
    }

    #[test]
    fn spellings_are_folded_together() {
        check("linux/amd64", "linux/amd64");
        check("linux/x86_64", "linux/amd64");
        check("aarch64", "linux/arm64");
        check("linux/arm64/v8", "linux/arm64");
        check("linux/arm/v6", "linux/arm/v6");
        check("linux/arm", "linux/arm/v7");
        for text in ["", "/", "linux/", "a/b/c/d", "linux/am d64"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn default_variants_are_accepted() {
        let image = Platform { variant: Some("v8".into()), ..Platform::linux("arm64") };
        assert!(Platform::linux("aarch64").accepts(&image));
        assert!(!Platform::linux("amd64").accepts(&image));
    }
}
