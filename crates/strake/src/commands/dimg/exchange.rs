//! What assembling has to do with repositories: taking stages over, making them real, publishing new ones.

use std::time::Instant;

use strake_engine::Environment;
use strake_engine::image::{self, Force, PushOptions};
use strake_frontend::dockerfile::ImageFact;
use strake_frontend::stagefile::lower::Below;
use strake_oci::Reference;

use super::assemble::Assembly;
use crate::failure::Failure;
use crate::project::{Candidate, Published, Role, repository_name, stage_tag};
use crate::report;
use crate::ui::conveyor::State;

impl Assembly<'_, '_> {
    /// Gives a stage of a repository its name here. What was found elsewhere than in the main repository is copied
    /// there.
    pub(super) fn adopt(
        &mut self,
        candidate: &Candidate,
        signature: &str,
        reference: &Reference,
    ) -> Result<(), Failure> {
        let names = std::slice::from_ref(reference);
        self.session.with(|env| image::adopt(env, &candidate.image, names))?;
        if candidate.role != Role::Main
            && let Some(shelves) = self.planner.shelves()
        {
            shelves.publish(reference, signature)?;
        }
        Ok(())
    }

    /// The image of a stage with all its layers unpacked. Nothing when they cannot be had: then the stage counts as
    /// not there from now on, and that is said.
    pub(super) fn real(&mut self, signature: &str) -> Result<Option<Below>, Failure> {
        let found = self.stage_image(signature)?;
        let session = self.session;
        let id = found.fact.id;
        let Err(error) = session.with(|env| image::materialise(env, id)) else {
            if let Some(shelves) = self.planner.shelves() {
                shelves.fill_caches(&found.reference, signature)?;
            }
            return Ok(Some(found));
        };
        if !error.is_about_content() {
            return Err(error.into());
        }
        let _naming = self.member.naming();
        if self.known_here(&found.reference).ok().is_none_or(|now| now.fact.id != id) {
            // Somebody else here has found that out, and perhaps assembled it already.
            self.planner.look_anew();
            return Ok(None);
        }
        let name = self.project.stage_name(signature);
        report::warn(&format!("{name} cannot be used: {error}; it counts as not there and is built anew"));
        let resolved = session.with(|env| {
            image::resolve(env, &found.reference, &session.settings.platform, image::PullPolicy::Never)
        })?;
        let lost = session.with_hurry(|env| image::lost_blobs(env, id))?;
        session.with(|env| image::remove(env, &found.reference.familiar(), Force::Yes))?;
        if let (Some(shelves), Some(manifest)) = (self.planner.shelves(), resolved.manifest) {
            shelves.reject(signature, manifest.digest, lost);
        }
        Ok(None)
    }

    /// Publishes a stage that was assembled, at once: whatever becomes of the next one, nobody has to do it again.
    pub(super) fn publish(&mut self, stage: &Below) -> Result<(), Failure> {
        let signature = stage.reference.selector();
        let Some(shelves) = self.planner.shelves() else { return Ok(()) };
        let Some(main) = shelves.main() else { return Ok(()) };
        let begun = Instant::now();
        let state = match shelves.publish(&stage.reference, &signature)? {
            Published::Sent => State::Done(begun.elapsed()),
            Published::Existed => State::Exists,
            Published::Theirs(theirs) => {
                // Everybody goes on with the same bytes.
                let names = std::slice::from_ref(&stage.reference);
                self.session.with(|env| image::adopt(env, &theirs, names))?;
                State::Exists
            }
            Published::Not => return Ok(()),
        };
        let title = format!("publishing to {}", repository_name(&main));
        self.printer.print(&self.printer.layout.process(1, &title, state))
    }

    /// Sends the last stage of a finished image to the repository for those.
    pub(super) fn publish_final(&mut self, finished: &Below) -> Result<(), Failure> {
        let Some(repository) = self.final_repository.clone() else { return Ok(()) };
        let target = stage_tag(&repository, &finished.reference.selector())?;
        let options = PushOptions { is_tag_free: true, ..self.session.settings.push_options() };
        let begun = Instant::now();
        let exists = |env: &Environment<'_>| env.registry.head(&target);
        let state = match self.session.with(exists)? {
            Some(_) => State::Exists,
            None => {
                self.session.with(|env| image::push_as(env, &finished.reference, &target, &options))?;
                State::Done(begun.elapsed())
            }
        };
        let title = format!("publishing to {}", repository_name(&repository));
        self.printer.print(&self.printer.layout.process(1, &title, state))
    }

    /// A stage that was taken over, with its configuration.
    pub(super) fn known_here(&self, reference: &Reference) -> Result<Below, Failure> {
        self.session.with(|env: &Environment<'_>| {
            let id = image::find(env, &reference.familiar())?.id;
            let config = image::config(env, id)?;
            Ok(Below { reference: reference.clone(), fact: ImageFact { id, config } })
        })
    }
}
