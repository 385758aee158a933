//! Which commit used which image: what cleaning by the history of git goes by.
//!
//! Whoever publishes an image notes beside it the commit that it was made for, as a tag
//! `meta-<dimg>-<image>-<commit>` of an artifact with the same said in words. All that cleaning needs is in the tag, so
//! one list of tags tells it everything. A use is noted once; to note it again changes nothing.
//!
//! The artifact has no `subject`: registries that do not list referrers would need an index of them beside each image,
//! and of two writers of one index one loses. A tag of its own for each use has no such readers and writers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use strake_engine::Environment;
use strake_oci::{Descriptor, Digest, ImageManifest, MediaType, Reference};
use strake_registry::{BlobSource, ErrorKind, RegistryError};

use crate::failure::Failure;
use crate::session::Session;

const PREFIX: &str = "meta-";
const ARTIFACT: &str = "application/vnd.strake.use.v1";
const CREATED: &str = "org.opencontainers.image.created";
const EMPTY: &[u8] = b"{}";

/// A use that this store has noted: `<repository>:<tag>`.
const NOTED: &str = "use";

/// For how long it is not looked whether a note is still there.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// Digits of the digest of a dimg's name: a handful of dimgs have to differ.
const DIMG_DIGITS: usize = 8;

/// Digits of a signature: with all of them a tag would be too long beside a commit of 64 digits.
const IMAGE_DIGITS: usize = 40;

/// A commit used an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Use {
    /// Which dimg of the project it is an image of.
    pub(crate) version: Version,
    /// In hexadecimal digits.
    pub(crate) commit: String,
}

/// An image of a dimg as it was once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    /// What stands for the project and the dimg.
    pub(crate) dimg: String,
    /// The beginning of the signature of the last stage.
    pub(crate) image: String,
}

impl Version {
    /// The version of a dimg whose last stage has this signature.
    pub(crate) fn new(project: &str, dimg: &str, signature: &str) -> Self {
        let image = signature.get(..IMAGE_DIGITS).unwrap_or(signature).to_owned();
        Self { dimg: dimg_key(project, dimg), image }
    }

    /// Whether the last stage is the one with this signature.
    pub(crate) fn has(&self, signature: &str) -> bool {
        signature.starts_with(&self.image)
    }
}

/// What stands for a dimg in tags.
pub(crate) fn dimg_key(project: &str, dimg: &str) -> String {
    Digest::of(format!("{project}\n{dimg}").as_bytes()).hex()[..DIMG_DIGITS].to_owned()
}

impl Use {
    /// Reads a tag; nothing if it is another one.
    pub(crate) fn of_tag(tag: &str) -> Option<Self> {
        let mut parts = tag.strip_prefix(PREFIX)?.split('-');
        let (dimg, image, commit) = (parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let fits = dimg.len() == DIMG_DIGITS
            && image.len() == IMAGE_DIGITS
            && matches!(commit.len(), 40 | 64)
            && parts.next().is_none()
            && [dimg, image, commit].into_iter().all(is_hex);
        let version = || Version { dimg: dimg.to_owned(), image: image.to_owned() };
        fits.then(|| Self { version: version(), commit: commit.to_owned() })
    }

    /// The tag that it is noted as.
    pub(crate) fn tag(&self) -> String {
        format!("{PREFIX}{}-{}-{}", self.version.dimg, self.version.image, self.commit)
    }
}

/// Notes in a repository that a commit used an image, unless it is noted there.
///
/// # Errors
/// When the registry does not take the note.
pub(crate) fn note(
    session: &Session,
    repository: &Reference,
    used: &Use,
    words: &str,
) -> Result<(), Failure> {
    let tag = used.tag();
    let reference = repository.with_tag(&tag).map_err(|error| Failure::input(error.to_string()))?;
    let index = session.store.index();
    let now = SystemTime::now();
    let now_ns = Timestamp::try_from(now).map_or(i128::MAX, Timestamp::as_nanosecond);
    let is_recent =
        |at_ns: i64| now_ns - i128::from(at_ns) < i128::try_from(REMEMBERED.as_nanos()).unwrap_or(0);
    if index.get(NOTED, &reference.to_string())?.is_some_and(|noted| is_recent(noted.created_ns)) {
        return Ok(());
    }
    let noted = session.with(|env| {
        if env.registry.head(&reference)?.is_none() {
            write(env, repository, &reference, used, words)?;
        }
        Ok::<_, RegistryError>(())
    });
    match noted {
        // Who may only read publishes nothing either, and has nothing to note.
        Err(error) if matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::Denied) => {
            tracing::debug!("cannot note a use: {error}");
            return Ok(());
        }
        noted => noted?,
    }
    index.put(NOTED, &reference.to_string(), b"", &[])?;
    Ok(())
}

fn write(
    env: &Environment<'_>,
    repository: &Reference,
    reference: &Reference,
    used: &Use,
    words: &str,
) -> Result<(), RegistryError> {
    let empty = Descriptor::of("application/vnd.oci.empty.v1+json", EMPTY);
    let source = BlobSource::Bytes { bytes: EMPTY.to_vec(), descriptor: empty.clone() };
    env.registry.push_blob(repository, source, &[], &())?;
    let annotations = [
        (CREATED, Timestamp::now().to_string()),
        ("dev.strake.dimg", words.to_owned()),
        ("dev.strake.image", used.version.image.clone()),
        ("dev.strake.commit", used.commit.clone()),
    ];
    let annotations: BTreeMap<_, _> =
        annotations.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let manifest = ImageManifest {
        artifact_type: Some(ARTIFACT.to_owned()),
        annotations,
        ..ImageManifest::oci(empty.clone(), vec![empty])
    };
    let media_type = MediaType::from(MediaType::OCI_MANIFEST);
    env.registry.push_manifest(reference, &media_type, &manifest.to_bytes())?;
    Ok(())
}

/// When a use was noted, in seconds since 1970, as the note says.
///
/// # Errors
/// When the registry does not answer.
pub(crate) fn noted_at(
    session: &Session,
    repository: &Reference,
    used: &Use,
) -> Result<Option<i64>, Failure> {
    let Ok(reference) = repository.with_tag(&used.tag()) else { return Ok(None) };
    let Some(raw) = session.with(|env| env.registry.resolve(&reference))? else { return Ok(None) };
    let parsed = strake_oci::ParsedManifest::parse(&raw.bytes, Some(raw.descriptor.media_type.as_str()));
    let Ok(strake_oci::ParsedManifest::Image(manifest)) = parsed else { return Ok(None) };
    let time = manifest.annotations.get(CREATED).and_then(|text| text.parse::<Timestamp>().ok());
    Ok(time.map(Timestamp::as_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_says_all() {
        let signature = "ab".repeat(32);
        for commit in ["1".repeat(40), "2".repeat(64)] {
            let used = Use { version: Version::new("p", "web", &signature), commit };
            assert_eq!(Use::of_tag(&used.tag()), Some(used.clone()));
            let reference: Reference = "localhost:5000/app".parse().unwrap();
            assert!(reference.with_tag(&used.tag()).is_ok(), "{}", used.tag());
            assert!(used.version.has(&signature));
        }
        assert_ne!(dimg_key("p", "web"), dimg_key("p", "api"));
        assert_ne!(dimg_key("p", "web"), dimg_key("q", "web"));
        let (dimg, image, commit) = ("1".repeat(8), "2".repeat(40), "3".repeat(40));
        assert!(Use::of_tag(&format!("meta-{dimg}-{image}-{commit}")).is_some());
        for other in [
            format!("meta-{dimg}-{image}-{commit}-x"),
            format!("meta-{dimg}-{image}"),
            format!("meta-{dimg}-{image}-{}", "3".repeat(41)),
            format!("meta-{dimg}-{image}-{}", "G".repeat(40)),
            "meta-data".to_owned(),
            "latest".to_owned(),
        ] {
            assert_eq!(Use::of_tag(&other), None, "{other}");
        }
    }
}
