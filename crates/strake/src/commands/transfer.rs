//! `pull` and `push`.

use strake_engine::image::{self, PushOptions};

use super::suggest::untagged;
use super::{in_session, output, ui};
use crate::args::{PullArgs, PushArgs};
use crate::failure::Failure;
use crate::report;
use crate::settings::{Settings, compression};
use crate::ui as show;

/// `strake pull`. The names and ids of what was pulled go to standard output.
pub(super) fn pull(args: &PullArgs, mut settings: Settings) -> Result<u8, Failure> {
    settings.log_in(&args.login, &args.names.iter().collect::<Vec<_>>())?;
    let options = ui(&settings, "Pulling", args.progress, args.quiet);
    in_session(settings, options, |session| {
        let platform = args.platform.as_ref().unwrap_or(&session.settings.platform);
        for name in &args.names {
            session.permit(name)?;
            let pulled = session.with(|env| image::pull(env, name, platform))?;
            session.ui.result(&pulled.id.to_string(), &[name.familiar()]);
            if args.quiet {
                output::line(&pulled.id.to_string())?;
            } else {
                session.ui.finish();
                output::line(&name.familiar())?;
            }
        }
        Ok(0)
    })
}

/// `strake push`. The digests go to standard output.
pub(super) fn push(args: &PushArgs, mut settings: Settings) -> Result<u8, Failure> {
    settings.log_in(&args.login, &args.names.iter().collect::<Vec<_>>())?;
    let options = ui(&settings, "Pushing", args.progress, args.quiet);
    in_session(settings, options, |session| {
        let chosen = args.compression.map_or(session.settings.compression, compression);
        for name in &args.names {
            session.permit(name)?;
            let options = PushOptions { compression: chosen, ..PushOptions::default() };
            let pushed =
                session.with_image(&name.familiar(), None, |env| image::push(env, name, &options))?;
            session.ui.result(&pushed.descriptor.digest.to_string(), &[name.familiar()]);
            session.ui.finish();
            if !session.ui.is_machine_readable() {
                report::note(&push_summary(&name.familiar(), &pushed));
            }
            output::line(&format!("{}@{}", untagged(name), pushed.descriptor.digest))?;
        }
        Ok(0)
    })
}

/// What was sent and what was there already.
pub(super) fn push_summary(name: &str, pushed: &image::PushedImage) -> String {
    let counts = &pushed.statistics;
    format!(
        "pushed {name}: {} sent ({} blobs), {} there already, {} linked",
        show::size(counts.uploaded_bytes),
        counts.uploaded,
        counts.existed,
        counts.mounted
    )
}
