//! `strake dimg stage image`.

use strake_frontend::stagefile::plan::{Conveyor, Mode, Stage};
use strake_frontend::stagefile::{ImageId, StageKind};

use super::select_one;
use crate::args::{ProjectArgs, StageImageArgs};
use crate::commands::{in_session, output, ui};
use crate::failure::Failure;
use crate::project::{PlanRequest, Planner, Project, Reach};
use crate::session::Session;
use crate::settings::Settings;

/// Prints the name of the image of a stage, whether it is there or not.
pub(super) fn image(args: &StageImageArgs, settings: Settings) -> Result<u8, Failure> {
    let options = ui(&settings, "Reading", None, false);
    in_session(settings, options, |session| {
        let found = find(session, &args.project, args.dimg.as_deref(), args.stage)?;
        output::line(&found.name)?;
        Ok(0)
    })
}

/// A stage of an image.
#[derive(Debug)]
pub(super) struct FoundStage {
    /// The name of its image.
    pub(super) name: String,
    /// The name of the image that it is a stage of.
    pub(super) dimg: String,
    /// Whether its image is in the store.
    pub(super) is_present: bool,
}

/// Finds a stage of an image; the last one if none is named. Nothing is fetched.
///
/// # Errors
/// When there is no such image or stage.
pub(super) fn find(
    session: &Session,
    args: &ProjectArgs,
    dimg: Option<&str>,
    stage: Option<StageKind>,
) -> Result<FoundStage, Failure> {
    let project = Project::open(args, &session.settings, &session.cancellation, Reach::Local)?;
    let image = select_one(&project.file, dimg)?;
    find_in(session, &project, args, image, stage)
}

/// The same in a project that was read already.
///
/// # Errors
/// When there is no such stage.
pub(super) fn find_in(
    session: &Session,
    project: &Project,
    args: &ProjectArgs,
    image: ImageId,
    stage: Option<StageKind>,
) -> Result<FoundStage, Failure> {
    let mode = if args.dev { Mode::Developer } else { Mode::Committed };
    let platform = session.settings.platform.clone();
    let request = PlanRequest { session: Some(session), platform, mode, reach: Reach::Local };
    let mut planner = Planner::new(project, request);
    let plan = planner.plan(image)?;
    let found = stage_of(plan.conveyor(), stage)?;
    Ok(FoundStage {
        name: project.stage_name(&found.signature),
        dimg: project.file.image(image).name.to_string(),
        is_present: found.found.is_usable(),
    })
}

fn stage_of(conveyor: &Conveyor, wanted: Option<StageKind>) -> Result<&Stage, Failure> {
    let mut stages = conveyor.stages.iter().rev();
    let found = stages.find(|stage| wanted.is_none_or(|kind| stage.kind == kind));
    found.ok_or_else(|| {
        let mut ids: Vec<_> = conveyor.stages.iter().map(|stage| stage.kind.id()).collect();
        ids.dedup();
        let id = wanted.map_or("", StageKind::id);
        Failure::input(format!("the image has no stage {id}: there is nothing for it to do"))
            .hint(format!("it has {}", ids.join(", ")))
    })
}
