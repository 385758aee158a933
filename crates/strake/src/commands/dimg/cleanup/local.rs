//! What is in the store.

use std::collections::BTreeMap;

use strake_engine::image;

use super::deletion::Deletion;
use super::policy::{Image, YOUNG};
use crate::failure::Failure;
use crate::project::image_config;
use crate::session::Session;

/// All images that have names, once for each name.
pub(super) fn images(session: &Session) -> Result<Vec<Image>, Failure> {
    let mut images = Vec::new();
    for summary in session.with(image::list)? {
        if summary.names.is_empty() {
            continue;
        }
        let labels = image_config(&session.store, summary.id)?.config.labels;
        images.extend(
            summary
                .names
                .into_iter()
                .map(|name| Image::new(name, labels.clone(), summary.created.as_deref())),
        );
    }
    Ok(images)
}

/// Deletes images without a name. A build beside this one may be about to name a young one.
pub(super) fn dangling(session: &Session, deletion: &mut Deletion<'_>) -> Result<(), Failure> {
    for summary in session.with(image::list)? {
        if !summary.names.is_empty() {
            continue;
        }
        let id = summary.id.to_string();
        if Image::new(id.clone(), BTreeMap::new(), summary.created.as_deref()).is_young() {
            deletion.keep(&id, YOUNG);
        } else {
            deletion.local(&id, "it has no name")?;
        }
    }
    Ok(())
}
