//! Shells where stages are assembled: around stages that are named, and where one failed.

use std::collections::BTreeSet;

use strake_frontend::stagefile::lower::Below;
use strake_frontend::stagefile::plan::Conveyor;
use strake_frontend::stagefile::{ImageId, StageFile, StageKind};

use super::assemble::Assembly;
use crate::args::{IntrospectArgs, StagePoint, nearest};
use crate::assembly::{Ground, NotAssembled};
use crate::failure::{Failure, Kind};
use crate::report;

/// On which side of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// On the image below it.
    Before,
    /// On its own image.
    After,
}

/// Where shells are to be opened.
#[derive(Debug, Default)]
pub(super) struct Introspection {
    points: Vec<Point>,
    /// Where a stage failed, as it was before.
    before_error: bool,
    /// Where a stage failed, as it is now.
    error: bool,
}

/// One of the options that name a stage.
#[derive(Debug)]
struct Point {
    /// As typed.
    option: String,
    side: Side,
    stage: StageKind,
    images: BTreeSet<ImageId>,
    /// Whether a shell was opened for it.
    answered: bool,
}

impl Introspection {
    /// # Errors
    /// When an option names an image that the file does not have, or a stage that no such image has.
    pub(super) fn new(asked: &IntrospectArgs, file: &StageFile) -> Result<Self, Failure> {
        let options = [
            ("--introspect-before", Side::Before, false, &asked.introspect_before),
            ("--introspect-stage", Side::After, false, &asked.introspect_stage),
            ("--introspect-artifact-before", Side::Before, true, &asked.introspect_artifact_before),
            ("--introspect-artifact-stage", Side::After, true, &asked.introspect_artifact_stage),
        ];
        let mut points = Vec::new();
        for (name, side, of_artifacts, asked) in options {
            for point in asked {
                let option = format!("{name} {point}");
                let images = match &point.image {
                    Some(_) => BTreeSet::from([named(&option, point, file)?]),
                    None => {
                        let images = file.images().filter(|(_, image)| image.is_artifact() == of_artifacts);
                        images.map(|(id, _)| id).collect()
                    }
                };
                points.push(Point { option, side, stage: point.stage, images, answered: false });
            }
        }
        Ok(Self { points, before_error: asked.introspect_before_error, error: asked.introspect_error })
    }

    /// The option that asks for a shell beside a stage. Whoever asks opens one.
    fn asks(&mut self, image: ImageId, stage: StageKind, side: Side) -> Option<String> {
        let mut first = None;
        for point in &mut self.points {
            if point.side == side && point.stage == stage && point.images.contains(&image) {
                point.answered = true;
                first.get_or_insert_with(|| point.option.clone());
            }
        }
        first
    }
}

/// The image that an option names.
fn named(option: &str, point: &StagePoint, file: &StageFile) -> Result<ImageId, Failure> {
    let wanted = point.image.as_deref().unwrap_or_default();
    let names: Vec<String> = file.images().map(|(_, image)| image.name.to_string()).collect();
    let Some((id, image)) = file.images().find(|(_, image)| image.name.to_string() == wanted) else {
        let failure = Failure::input(format!("{option}: the stage file has no image {wanted}"));
        return Err(match nearest(wanted, names.iter().map(String::as_str)) {
            Some(near) => failure.hint(format!("did you mean {near}?")),
            None => failure.hint(format!("it has {}", names.join(", "))),
        });
    };
    let stages: &[StageKind] = if image.is_artifact() { &StageKind::ARTIFACT } else { &StageKind::DIMG };
    if stages.contains(&point.stage) {
        return Ok(id);
    }
    let ids: Vec<_> = stages.iter().map(|stage| stage.id()).collect();
    Err(Failure::input(format!("{option}: {wanted} has no such stage"))
        .hint(format!("want one of {}", ids.join(", "))))
}

impl Assembly<'_, '_> {
    /// Opens a shell beside a stage if that is asked for. `on` is the image on that side of it.
    ///
    /// # Errors
    /// When the container cannot be started.
    pub(super) fn look(
        &mut self,
        image: ImageId,
        stage: StageKind,
        side: Side,
        on: &Below,
    ) -> Result<(), Failure> {
        match self.introspection.asks(image, stage, side) {
            Some(option) => self.open_shell(image, on, Ground::Image, &option),
            None => Ok(()),
        }
    }

    /// The same around stages that nothing is done for, as far as their images are here.
    ///
    /// # Errors
    /// As [`Assembly::look`].
    pub(super) fn look_around(
        &mut self,
        image: ImageId,
        conveyor: &Conveyor,
        stages: std::ops::Range<usize>,
    ) -> Result<(), Failure> {
        let is_here = |stage: &usize| conveyor.stages[*stage].found.is_usable();
        for index in stages {
            let kind = conveyor.stages[index].kind;
            let sides = [(Side::Before, index.checked_sub(1)), (Side::After, Some(index))];
            for (side, on) in sides {
                if let Some(on) = on.filter(is_here)
                    && let Some(option) = self.introspection.asks(image, kind, side)
                {
                    let on = self.below(conveyor, on)?;
                    self.open_shell(image, &on, Ground::Image, &option)?;
                }
            }
        }
        Ok(())
    }

    /// The same around stages that were not met since nothing needed them (those of artifacts whose files are cached
    /// further on), and warns of the options that no shell was opened for.
    ///
    /// # Errors
    /// As [`Assembly::look`].
    pub(super) fn look_at_the_rest(&mut self, images: &[ImageId]) -> Result<(), Failure> {
        self.introspection.points.retain(|point| !point.answered);
        if self.introspection.points.is_empty() {
            return Ok(());
        }
        let mut looked_at = BTreeSet::new();
        for image in images {
            let plan = self.planner.plan(*image)?;
            for (image, conveyor) in &plan.conveyors {
                if looked_at.insert(*image) {
                    self.look_around(*image, conveyor, 0..conveyor.stages.len())?;
                }
            }
        }
        for point in self.introspection.points.iter().filter(|point| !point.answered) {
            report::warn(&format!("{}: the image of that stage is not here", point.option));
        }
        Ok(())
    }

    /// Opens the shells that are asked for where a command failed. That is the failure, whatever becomes of them.
    pub(super) fn look_at_failure(&self, image: ImageId, below: &Below, failed: &NotAssembled) {
        let asked = &self.introspection;
        if failed.failure.kind != Kind::Step || !(asked.before_error || asked.error) {
            return;
        }
        // What failed comes before the shell, and once more at the end.
        self.session.ui.failure(&failed.failure);
        let before = asked.before_error.then_some(("--introspect-before-error", Ground::Image));
        let left = failed.left.as_deref().filter(|_| asked.error);
        let after = left.map(|left| ("--introspect-error", Ground::Left(left)));
        for (option, ground) in before.into_iter().chain(after) {
            if let Err(failure) = self.open_shell(image, below, ground, option) {
                report::warn(&format!("{option}: {}", failure.message));
            }
        }
    }

    fn open_shell(
        &self,
        image: ImageId,
        on: &Below,
        ground: Ground<'_>,
        option: &str,
    ) -> Result<(), Failure> {
        let name = &self.project.file.image(image).name;
        report::text(&format!(
            "{option}: a shell of {name}; what is done in it is dropped, `exit` leaves it\n"
        ));
        self.session.ui.finish();
        self.assembler.shell(image, on, ground)
    }
}
