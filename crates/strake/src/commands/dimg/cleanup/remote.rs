//! What is in a repository.

use std::collections::BTreeSet;

use strake_engine::image::{self, ImageError};
use strake_frontend::stagefile::ImageId;
use strake_oci::{Digest, Reference};

use super::policy::Image;
use crate::failure::Failure;
use crate::project::{Project, Use};
use crate::session::Session;

/// A tag of a repository.
#[derive(Debug, Clone)]
pub(super) struct Tag {
    pub(super) reference: Reference,
    /// What the tag stands for. Unknown where the registry does not say.
    pub(super) digest: Option<Digest>,
    /// What is known of its image; no labels where it is none for this platform.
    pub(super) image: Image,
}

/// What was noted of which commit used which image.
pub(super) fn uses(session: &Session, repository: &Reference) -> Result<BTreeSet<Use>, Failure> {
    let tags = session.with(|env| env.registry.list_tags(repository))?;
    Ok(tags.unwrap_or_default().iter().filter_map(|tag| Use::of_tag(tag)).collect())
}

/// Whether a tag is of no image that anybody asks for by name: a note, or what builds of Dockerfiles share.
fn is_no_image(tag: &str) -> bool {
    let is_key = |rest: &str| {
        let key = rest.split('-').next().unwrap_or_default();
        key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let kinds = ["step-", "files-", "mount-", "used-"];
    Use::of_tag(tag).is_some() || kinds.iter().any(|kind| tag.strip_prefix(kind).is_some_and(is_key))
}

/// All tags of images of a repository.
pub(super) fn tags(session: &Session, repository: &Reference) -> Result<Vec<Tag>, Failure> {
    let platform = &session.settings.platform;
    session.with(|env| {
        let mut tags = Vec::new();
        for name in env.registry.list_tags(repository)?.unwrap_or_default() {
            if is_no_image(&name) {
                continue;
            }
            let Ok(reference) = repository.with_tag(&name) else { continue };
            let shown = reference.familiar();
            let (digest, image) = match image::peek(env, &reference, platform) {
                Ok(None) => continue,
                Ok(Some(found)) => {
                    let created = found.config.created.as_deref();
                    let labels = found.config.config.labels.clone();
                    (Some(found.answered()), Image::new(shown, labels, created))
                }
                Err(error @ ImageError::Store(_)) => return Err(error.into()),
                Err(error) if !error.is_about_content() => return Err(error.into()),
                Err(_) => {
                    let digest = env.registry.head(&reference)?.map(|found| found.digest);
                    (digest, Image::new(shown, std::collections::BTreeMap::new(), None))
                }
            };
            tags.push(Tag { reference, digest, image });
        }
        Ok(tags)
    })
}

/// The repositories of the finished images: that of the stages for the one without a name, and one below it for each
/// other.
pub(super) fn places(
    repository: &Reference,
    project: &Project,
    images: &[ImageId],
) -> Result<Vec<Reference>, Failure> {
    let mut places = vec![repository.clone()];
    for name in images.iter().filter_map(|image| project.file.image(*image).name.as_str()) {
        let place = format!("{}/{}/{name}", repository.registry(), repository.repository());
        places.push(place.parse().map_err(|error| Failure::input(format!("{place}: {error}")))?);
    }
    Ok(places)
}

/// All finished images of the project.
pub(super) fn finished(
    session: &Session,
    repository: &Reference,
    project: &Project,
) -> Result<Vec<Image>, Failure> {
    let images: Vec<_> = project.file.dimgs().map(|(image, _)| image).collect();
    let mut finished = Vec::new();
    for place in places(repository, project, &images)? {
        let found = tags(session, &place)?.into_iter().map(|tag| tag.image);
        finished.extend(found.filter(|image| image.label("-dimg") == Some("true")));
    }
    Ok(finished)
}
