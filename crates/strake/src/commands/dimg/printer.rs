//! Rows, on standard output.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use strake_frontend::stagefile::ImageId;

use super::crew::Crew;
use crate::args::{ColorMode, RowArgs};
use crate::commands::output;
use crate::failure::Failure;
use crate::report;
use crate::settings::Settings;
use crate::ui::conveyor::{self, Layout, State, WIDTH};

/// Prints rows as the options say.
#[derive(Debug, Clone)]
pub(super) struct Printer {
    /// How lines are laid out.
    pub(super) layout: Layout,
    /// The zone that dates are shown in.
    pub(super) zone: TimeZone,
    /// Whether more is said.
    pub(super) verbose: bool,
    quiet: bool,
    stamps: bool,
    /// The sheet that rows wait on for their turn, if it is not theirs yet.
    sheet: Option<(Arc<Crew>, ImageId)>,
}

impl Printer {
    /// Looks at the terminal once.
    pub(super) fn new(args: &RowArgs, settings: &Settings) -> Self {
        let stdout = std::io::stdout();
        let colour = match args.color {
            ColorMode::On => true,
            ColorMode::Off => false,
            ColorMode::Auto => settings.colour && (stdout.is_terminal() || settings.is_ci()),
        };
        if args.color == ColorMode::Off {
            report::set_colour(false);
        }
        let width = match rustix::termios::tcgetwinsize(&stdout) {
            Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
            _ => WIDTH,
        };
        let RowArgs { quiet, verbose, time, .. } = *args;
        Self {
            layout: Layout { width, colour },
            zone: settings.time_zone(),
            verbose,
            quiet,
            stamps: time,
            sheet: None,
        }
    }

    /// The same, for rows that are shown when it is the turn of an image.
    pub(super) fn on_sheet(&self, crew: &Arc<Crew>, image: ImageId) -> Self {
        Self { sheet: Some((crew.clone(), image)), ..self.clone() }
    }

    /// Prints whole lines.
    ///
    /// # Errors
    /// When standard output cannot be written, except that nobody reads it.
    pub(super) fn print(&self, text: &str) -> Result<(), Failure> {
        if self.quiet || text.is_empty() {
            return Ok(());
        }
        if !self.stamps {
            return self.write(text);
        }
        let now = Timestamp::now().to_zoned(self.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        self.write(&text.lines().map(|line| format!("{now} {line}\n")).collect::<String>())
    }

    fn write(&self, text: &str) -> Result<(), Failure> {
        match &self.sheet {
            None => output::write(text),
            Some((crew, image)) => {
                crew.rows(*image, text);
                Ok(())
            }
        }
    }

    /// Shows what a command printed, as it is.
    pub(super) fn output(&self, text: &str) {
        match &self.sheet {
            // What nobody reads is no reason to end the build.
            None => drop(output::write(text)),
            Some((crew, image)) => crew.output(*image, text),
        }
    }

    /// Does something that takes its time, between a row that says so and one that says how it ended.
    ///
    /// # Errors
    /// As the work, and as [`Self::print`].
    pub(super) fn during<T, E: From<Failure>>(
        &self,
        level: usize,
        title: &str,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.print(&self.layout.row(level, title, State::Running))?;
        let begun = Instant::now();
        let result = work();
        let state = match &result {
            Ok(_) => State::Done(begun.elapsed()),
            Err(_) => State::Failed(begun.elapsed()),
        };
        self.print(&self.layout.row(level, title, state))?;
        result
    }

    /// Whether what commands print is shown.
    pub(super) fn shows_output(&self) -> bool {
        !self.quiet
    }

    /// Says how long the command took.
    ///
    /// # Errors
    /// As [`Self::print`].
    pub(super) fn running_time(&self, span: Duration) -> Result<(), Failure> {
        self.print(&conveyor::running_time(span))
    }

    /// A moment, in seconds since 1970, as rows show it.
    pub(super) fn date(&self, seconds: i64) -> Option<String> {
        let moment = Timestamp::from_second(seconds).ok()?.to_zoned(self.zone.clone());
        Some(moment.strftime("%Y-%m-%d %H:%M:%S %z").to_string())
    }
}
