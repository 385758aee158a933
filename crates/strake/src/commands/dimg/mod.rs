//! The commands on stage files.

mod assemble;
mod build;
mod cleanup;
mod crew;
mod exchange;
mod export;
mod introspect;
mod locks;
mod presets;
mod printer;
mod pull;
mod push;
mod run;
mod shown;
mod stage;
mod tag;
mod tags;

use strake_engine::Cancellation;
use strake_frontend::stagefile::{ImageId, StageFile, slug};

use super::output;
use crate::args::{
    DimgArgs, DimgCommand, DimgListArgs, ExchangeArgs, SlugArgs, StageArgs, StageCommand, StagesArgs,
    StagesCommand,
};
use crate::failure::Failure;
use crate::project::{Project, Reach, select};
use crate::settings::Settings;

/// `strake dimg …`.
pub(super) fn dimg(args: DimgArgs, settings: Settings) -> Result<u8, Failure> {
    match args.command {
        DimgCommand::Build(mut args) => {
            // Presets may be warned of.
            crate::ui::announce(args.progress.unwrap_or(settings.progress));
            let presets = presets::load(&args.project, &settings)?;
            presets::apply_to_project(&presets, &mut args.project);
            presets::apply_to_rows(&presets, &mut args.rows);
            args.dry_run |= presets.dry_run == Some(true);
            build::build(&args, settings)
        }
        DimgCommand::List(args) => list(args, &settings),
        DimgCommand::Run(mut args) => {
            let presets = presets::load(&args.project, &settings)?;
            presets::apply_to_project(&presets, &mut args.project);
            args.dry_run |= presets.dry_run == Some(true);
            run::run(&args, settings)
        }
        DimgCommand::Tag(mut args) => {
            let presets = presets::load(&args.project, &settings)?;
            presets::apply_to_project(&presets, &mut args.project);
            presets::apply_to_rows(&presets, &mut args.rows);
            args.dry_run |= presets.dry_run == Some(true);
            tag::tag(&args, settings)
        }
        DimgCommand::Push(mut args) => {
            exchange_presets(&mut args.exchange, &settings)?;
            push::push(&args, settings)
        }
        DimgCommand::Spush(mut args) => {
            exchange_presets(&mut args.exchange, &settings)?;
            push::spush(&args, settings)
        }
        DimgCommand::Bp(mut args) => {
            let presets = presets::load(&args.build.project, &settings)?;
            presets::apply_to_project(&presets, &mut args.build.project);
            presets::apply_to_rows(&presets, &mut args.build.rows);
            args.build.dry_run |= presets.dry_run == Some(true);
            build::build_and_push(*args, settings)
        }
        DimgCommand::Stages(args) => stages(args, settings),
        DimgCommand::Flush(args) => cleanup::flush(&args.place, settings),
        DimgCommand::Cleanup(args) => cleanup::cleanup(&args, settings),
        DimgCommand::Mrproper(args) => cleanup::mrproper(&args, settings),
        DimgCommand::Export(mut args) => {
            let presets = presets::load(&args.project, &settings)?;
            presets::apply_to_project(&presets, &mut args.project);
            presets::apply_to_rows(&presets, &mut args.rows);
            args.dry_run |= presets.dry_run == Some(true);
            export::export(&args, settings)
        }
        DimgCommand::Stage(args) => stage(args, settings),
        DimgCommand::Slug(args) => slug_of(&args),
    }
}

/// `strake dimg stages …`.
fn stages(args: StagesArgs, settings: Settings) -> Result<u8, Failure> {
    match args.command {
        StagesCommand::Push(mut args) => {
            exchange_presets(&mut args.exchange, &settings)?;
            push::stages(&args, settings)
        }
        StagesCommand::Pull(mut args) => {
            exchange_presets(&mut args.exchange, &settings)?;
            pull::pull(&args, settings)
        }
        StagesCommand::Flush(args) => cleanup::flush_stages(&args.place, settings),
        StagesCommand::Cleanup(args) => cleanup::cleanup_stages(&args.place, settings),
    }
}

fn exchange_presets(args: &mut ExchangeArgs, settings: &Settings) -> Result<(), Failure> {
    let presets = presets::load(&args.project, settings)?;
    presets::apply_to_project(&presets, &mut args.project);
    presets::apply_to_rows(&presets, &mut args.rows);
    args.dry_run |= presets.dry_run == Some(true);
    Ok(())
}

/// `strake dimg list`. Needs no store.
pub(super) fn list(mut args: DimgListArgs, settings: &Settings) -> Result<u8, Failure> {
    let presets = presets::load(&args.project, settings)?;
    presets::apply_to_project(&presets, &mut args.project);
    let project = Project::open(&args.project, settings, &Cancellation::new(), Reach::Local)?;
    for id in select(&project.file, &args.dimgs)? {
        output::line(&project.file.image(id).name.to_string())?;
    }
    Ok(0)
}

/// `strake dimg stage …`.
pub(super) fn stage(args: StageArgs, settings: Settings) -> Result<u8, Failure> {
    match args.command {
        StageCommand::Image(mut args) => {
            let presets = presets::load(&args.project, &settings)?;
            presets::apply_to_project(&presets, &mut args.project);
            stage::image(&args, settings)
        }
    }
}

/// `strake slug`.
pub(super) fn slug_of(args: &SlugArgs) -> Result<u8, Failure> {
    output::line(&slug(&args.text))?;
    Ok(0)
}

/// The one image that is meant.
fn select_one(file: &StageFile, name: Option<&str>) -> Result<ImageId, Failure> {
    let patterns: Vec<String> = name.map(str::to_owned).into_iter().collect();
    match select(file, &patterns)?.as_slice() {
        [one] => Ok(*one),
        several => {
            let names: Vec<_> = several.iter().map(|id| file.image(*id).name.to_string()).collect();
            let which = name.map_or("the stage file has", |_| "the pattern means");
            Err(Failure::input(format!("{which} several dimgs"))
                .hint(format!("name one of {}", names.join(", "))))
        }
    }
}
