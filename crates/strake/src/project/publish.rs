//! Bringing a stage into the repositories.
//!
//! A tag is written after everything it names, so whoever reads it finds a whole image. Of two nodes that publish the
//! same stage at once the later one goes on with what the earlier one has published, if that fits: so both go on with
//! the same bytes. What was published on another history stays, and ours is put beside it.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use strake_engine::image::{self, ImageError, PushOptions, RemoteImage};
use strake_oci::Reference;

use super::shelves::{Looked, Role, Shelves, is_about_content, stage_tag};
use crate::failure::Failure;

/// What became of a stage that was to be published.
#[derive(Debug)]
pub(crate) enum Published {
    /// It was sent.
    Sent,
    /// It was there.
    Existed,
    /// Somebody else has published one that is as good.
    Theirs(Box<RemoteImage>),
    /// The repository does not answer, or there is none.
    Not,
}

impl Shelves<'_> {
    /// Publishes a stage of the store in the main repository, then in the caches.
    ///
    /// # Errors
    /// When the content of a layer is nowhere to be had, or the registry does not answer and that must not be.
    pub(crate) fn publish(&mut self, local: &Reference, signature: &str) -> Result<Published, Failure> {
        let mut result = Published::Not;
        if let Some(main) = self.of_role(Role::Main).first().copied() {
            result = self.publish_to(main, local, signature)?;
            if matches!(result, Published::Sent) {
                self.forgive()?;
            }
        }
        self.fill_caches(local, signature)?;
        Ok(result)
    }

    /// Brings a stage of the store into the caches that do not have it.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub(crate) fn fill_caches(&mut self, local: &Reference, signature: &str) -> Result<(), Failure> {
        for cache in self.of_role(Role::Cache) {
            self.publish_to(cache, local, signature)?;
        }
        Ok(())
    }

    fn of_role(&self, role: Role) -> Vec<usize> {
        let shelves = self.shelves.iter().enumerate();
        shelves.filter(|(_, shelf)| shelf.role == role).map(|(index, _)| index).collect()
    }

    fn publish_to(&mut self, shelf: usize, local: &Reference, signature: &str) -> Result<Published, Failure> {
        let session = self.session;
        let own = session.with(|env| {
            let found = image::resolve(env, local, &session.settings.platform, image::PullPolicy::Never)?;
            Ok::<_, ImageError>(found)
        })?;
        let first = stage_tag(&self.shelves[shelf].repository, signature)?;
        let looked = self.look(shelf, &first, signature)?;
        let is_tag_free = matches!(looked, Looked::Absent);
        let target = match looked {
            // Others may trust what we do not, and nobody would trust what we put in its place without a key.
            Looked::Distrusted if session.settings.signing_key.is_none() => return Ok(Published::Not),
            Looked::Absent | Looked::Bad | Looked::Distrusted => first,
            // What is damaged there may be whole here, so that it looks right now.
            Looked::Good(_) if self.bad_tags.contains(&first.to_string()) => first,
            Looked::Good(theirs)
                if own.manifest.as_ref().is_some_and(|own| own.digest == theirs.digest()) =>
            {
                return Ok(Published::Existed);
            }
            Looked::Good(theirs)
                if commits(&theirs.config.config.labels) == commits(&own.config.config.labels) =>
            {
                return Ok(Published::Theirs(theirs));
            }
            Looked::Good(_) => later_tag(&first)?,
        };
        if self.silent.contains(&shelf) {
            return Ok(Published::Not);
        }
        let options = PushOptions { is_tag_free, ..session.settings.push_options() };
        match self.with(|env| image::push_as(env, local, &target, &options)) {
            Ok(_) => {
                self.bad_tags.remove(&target.to_string());
                Ok(Published::Sent)
            }
            Err(ImageError::Registry(error)) if !is_about_content(error.kind) => {
                self.is_no_answer(shelf, error)?;
                Ok(Published::Not)
            }
            // What is built is built: somebody else will publish it, or the next build here.
            Err(error) if error.is_about_content() => {
                self.tell(format!("{} is not published: {error}", target.familiar()));
                Ok(Published::Not)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The commits that an image records.
fn commits(labels: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let is_commit = |name: &str| name.starts_with("strake-git-") && name.ends_with("-commit");
    labels
        .iter()
        .filter(|(name, _)| is_commit(name))
        .map(|(name, commit)| (name.as_str(), commit.as_str()))
        .collect()
}

/// The tag for an image beside the first.
fn later_tag(first: &Reference) -> Result<Reference, Failure> {
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let tag = format!("{}-{ms}", first.selector());
    first.with_tag(&tag).map_err(|error| Failure::input(error.to_string()))
}
