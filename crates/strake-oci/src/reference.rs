use std::fmt;
use std::str::FromStr;

use crate::{Digest, DigestError};

/// The name of an image: registry, repository, and a tag or a digest or both.
///
/// Follows the grammar of the distribution project (`reference` package) with docker's short forms: `debian` means
/// `docker.io/library/debian:latest`. Parsed once; never passed on as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// There is nothing.
    #[error("image reference is empty")]
    Empty,
    /// A repository must be lower case.
    #[error("repository name `{0}` must be lower case")]
    UpperCase(String),
    /// Not a repository name.
    #[error("`{0}` is not a repository name (lower-case letters, digits and single separators . _ - /)")]
    Repository(String),
    /// Not a registry host.
    #[error("`{0}` is not a registry host")]
    Registry(String),
    /// Not a tag.
    #[error("`{0}` is not a tag (at most 128 of letters, digits, _ . -, starting with neither . nor -)")]
    Tag(String),
    /// Not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// Longer than 255 characters.
    #[error("repository name of {0} characters is longer than 255")]
    Long(usize),
}

impl Reference {
    /// The registry that is meant when none is named.
    pub const DEFAULT_REGISTRY: &str = "docker.io";

    /// The registry's host, with its port if one was named.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry, `library/` included.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one is given. A reference without tag and digest has the tag `latest`.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one is given.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What a registry is asked for: the digest if there is one, otherwise the tag.
    pub fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The same repository with this tag and no digest.
    ///
    /// # Errors
    /// When `tag` is no tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        check_tag(tag)?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with this digest and no tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The short form people type: without `docker.io/library/`, with the tag.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        short.strip_prefix("library/").unwrap_or(short).to_owned()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let (registry, repository) = match name.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path.to_owned()),
            _ => (Self::DEFAULT_REGISTRY, name.to_owned()),
        };
        let registry = match registry {
            "index.docker.io" => Self::DEFAULT_REGISTRY,
            other => other,
        };
        check_registry(registry)?;
        let repository = if registry == Self::DEFAULT_REGISTRY && !repository.contains('/') {
            check_repository(&repository)?;
            format!("library/{repository}")
        } else {
            repository
        };
        check_repository(&repository)?;
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

/// The first component is a host when it could not be part of a repository name, or is `localhost`.
fn is_host(component: &str) -> bool {
    component.contains(['.', ':'])
        || component == "localhost"
        || component.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_registry(host: &str) -> Result<(), ReferenceError> {
    let malformed = || ReferenceError::Registry(host.to_owned());
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or_else(malformed)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| malformed())?;
            ("ipv6", (!rest.is_empty()).then_some(rest.strip_prefix(':').ok_or_else(malformed)?))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let label_is_fine = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !name.split('.').all(label_is_fine) || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(malformed());
    }
    Ok(())
}

fn check_repository(repository: &str) -> Result<(), ReferenceError> {
    if repository.len() > 255 {
        return Err(ReferenceError::Long(repository.len()));
    }
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase(repository.to_owned()));
    }
    if repository.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err(ReferenceError::Repository(repository.to_owned()))
    }
}

/// Runs of `[a-z0-9]` joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !bytes.first().is_some_and(is_word) || !bytes.last().is_some_and(is_word) {
        return false;
    }
    bytes.split(is_word).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

fn check_tag(tag: &str) -> Result<(), ReferenceError> {
    let fine = (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if fine { Ok(()) } else { Err(ReferenceError::Tag(tag.to_owned())) }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(
            text.parse::<Reference>().map(|reference| reference.to_string()),
            Ok(expect.to_owned()),
            "{text}"
        );
    }

    #[test]
    fn short_forms_are_completed() {
        check("debian", "docker.io/library/debian:latest");
        check("debian:12", "docker.io/library/debian:12");
        check("user/app", "docker.io/user/app:latest");
        check("localhost/app", "localhost/app:latest");
        check("localhost:5000/a/b:c", "localhost:5000/a/b:c");
        check("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest");
        check("[::1]:5000/app", "[::1]:5000/app:latest");
        check("index.docker.io/debian", "docker.io/library/debian:latest");
        let digest = Digest::of(b"");
        check(&format!("a.b/c@{digest}"), &format!("a.b/c@{digest}"));
        check(&format!("a.b/c:t@{digest}"), &format!("a.b/c:t@{digest}"));
    }

    #[test]
    fn familiar_names_are_what_people_type() {
        for text in ["debian:12", "user/app:1", "localhost:5000/app:x"] {
            assert_eq!(text.parse::<Reference>().map(|reference| reference.familiar()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        for text in [
            "",
            ":",
            "a:",
            "UPPER",
            "a/../b",
            "a//b",
            "-a",
            "a-",
            "a...b",
            "a:b:c/d",
            "a b",
            "a@sha256:1",
            "[::g]/a",
            "host.:80/a",
            "h.x:99999/a",
            "a\n",
            "a:\u{e9}",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
        assert!(format!("a.b/{}", "x".repeat(256)).parse::<Reference>().is_err());
        assert!(format!("a:{}", "x".repeat(129)).parse::<Reference>().is_err());
    }
}
