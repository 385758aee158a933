//! How a directory of another stage looks that a mount shows.
//!
//! A copy takes what is in a directory, whoever owns that. A mount shows the directory itself as well: its mode may keep a step
//! of another user out. So owner and mode belong to the signature of the step, beside the digest of the files, and are
//! remembered and shared like that.

use std::path::Path;

use strake_graph::{Encoder, Mount, MountKind, Op, StepId};
use strake_oci::Digest;

use super::copy::Listing;
use super::selected::{SelectionKey, whole};
use super::{Build, Inputs};
use crate::cache::Selected;
use crate::error::StepError;

impl Build<'_> {
    /// The digest of what a mount shows or begins with, if that is anything.
    pub(super) fn shown_files(&self, mount: &Mount, inputs: &Inputs) -> Result<Option<Digest>, StepError> {
        let Some(files) = mount.files() else { return Ok(None) };
        let (content, _) = self.selected_files(&[whole(files)], inputs)?;
        if self.looked_at(mount).is_none() {
            return Ok(Some(content));
        }
        let key = self.look_key(files, inputs);
        let look = match self.known_selection(&key)? {
            Some(known) => known,
            None => self.look_and_remember(files, &key)?,
        };
        Ok(Some(Listing::combine(&[content, look])))
    }

    /// The directories of other stages that a step sees, or files, of which there is nothing more to know.
    pub(super) fn looks(&self, id: StepId) -> Vec<(StepId, &str)> {
        match &self.request.graph.step(id).op {
            Op::Run(op) => op.mounts.iter().filter_map(|mount| self.looked_at(mount)).collect(),
            _ => Vec::new(),
        }
    }

    /// Of a build context a step gets a copy, in a directory that always looks the same, and so it begins with a cache.
    fn looked_at<'m>(&self, mount: &'m Mount) -> Option<(StepId, &'m str)> {
        let is_bind = matches!(mount.kind, MountKind::Bind { .. });
        mount.files().filter(|(from, _)| is_bind && !self.is_context(*from))
    }

    pub(super) fn look_key(&self, (from, path): (StepId, &str), inputs: &Inputs) -> SelectionKey {
        let mut encoder = Encoder::new("strake look 1");
        encoder.text(path);
        SelectionKey::new(inputs.get(from).layers.clone(), encoder.finish())
    }

    pub(super) fn look_and_remember(
        &self,
        (_, path): (StepId, &str),
        key: &SelectionKey,
    ) -> Result<Digest, StepError> {
        self.ensure_layers(&key.layers)?;
        let view = self.environment.store.open_view(&key.layers)?;
        let mut encoder = Encoder::new("strake directory 1");
        // What is not there was told when its files were looked for.
        if let Ok(found) = view.root().stat_following(Path::new(path))
            && found.is_dir()
        {
            for number in [found.mode, found.uid, found.gid] {
                encoder.number(number.into());
            }
        }
        let digest = encoder.finish();
        self.cache.put_selection(&key.key, &Selected::seen(digest), &key.layers)?;
        Ok(digest)
    }
}
