//! The rows that tell of the stages of a stage file's images: title, state, details. Text only; who prints it and when is
//! decided elsewhere.
//!
//! ```text
//! Install group
//!   Install                                              [NOT PRESENT]
//!     signature: dimgstage-app:39db…
//! ```

use std::borrow::Cow;
use std::time::Duration;

use super::text::{clean, cut, width};

/// The columns right of the states: room for ` 12345.67 sec`.
const RIGHT: usize = 15;

/// The width where there is no terminal.
pub(crate) const WIDTH: usize = 120;

/// The narrowest terminal that rows are laid out for.
const NARROWEST: usize = 40;

/// How lines are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The columns of the terminal.
    pub(crate) width: usize,
    /// Whether to use colours.
    pub(crate) colour: bool,
}

/// What became of a stage, or of other work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is not here and nothing needs it.
    NotPresent,
    /// It is here.
    UsingCache,
    /// It would be assembled.
    Build,
    /// It is here, must not be used, and would be assembled again.
    Rebuild,
    /// What is to be made is there already.
    Exists,
    /// It would be named.
    Tag,
    /// It would be sent to a registry.
    Push,
    /// It is being sent.
    Pushing,
    /// It would be fetched from a registry.
    Pull,
    /// It is being fetched.
    Pulling,
    /// The registry has it not.
    NotExist,
    /// It could not be fetched.
    NotPulled,
    /// It would be deleted.
    Delete,
    /// It stays.
    Keep,
    /// It would be copied.
    Copy,
    /// Its output follows.
    Building,
    /// Other work goes on.
    Running,
    /// It was done in this time.
    Done(Duration),
    /// It failed after this time.
    Failed(Duration),
}

impl State {
    fn label(self) -> &'static str {
        match self {
            Self::NotPresent => "[NOT PRESENT]",
            Self::UsingCache => "[USING CACHE]",
            Self::Build => "[BUILD]",
            Self::Rebuild => "[REBUILD]",
            Self::Exists => "[EXIST]",
            Self::Tag => "[TAG]",
            Self::Push => "[PUSH]",
            Self::Pushing => "[PUSHING]",
            Self::Pull => "[PULL]",
            Self::Pulling => "[PULLING]",
            Self::NotExist => "[NOT EXIST]",
            Self::NotPulled => "[NOT PULLED]",
            Self::Delete => "[DELETE]",
            Self::Keep => "[KEEP]",
            Self::Copy => "[COPY]",
            Self::Building => "[BUILDING]",
            Self::Running => "[RUNNING]",
            Self::Done(_) => "[OK]",
            Self::Failed(_) => "[FAILED]",
        }
    }

    fn tone(self) -> &'static str {
        match self {
            Self::Build | Self::Tag | Self::Push | Self::Pull | Self::Copy | Self::Done(_) => GOOD,
            Self::Failed(_) | Self::NotPulled => BAD,
            _ => SECONDARY,
        }
    }

    fn seconds(self) -> Option<Duration> {
        match self {
            Self::Done(span) | Self::Failed(span) => Some(span),
            _ => None,
        }
    }
}

const TITLE: &str = "1;33";
const DETAIL: &str = "34";
const GOOD: &str = "1;32";
const BAD: &str = "1;31";
const SECONDARY: &str = "1;90";

impl Layout {
    /// A heading: the name of an image, or of a group of stages.
    pub(crate) fn heading(&self, level: usize, title: &str) -> String {
        let title = cut(&clean(title.as_bytes()), self.end().saturating_sub(2 * level));
        format!("{}{}\n", indent(level), self.paint(&title, TITLE))
    }

    /// A title with a state. States of all levels end in the same column.
    pub(crate) fn row(&self, level: usize, title: &str, state: State) -> String {
        self.line(level, title, "", state)
    }

    /// A title with a state, all in one line because nothing was printed in between.
    pub(crate) fn process(&self, level: usize, title: &str, state: State) -> String {
        self.line(level, title, " ...", state)
    }

    fn line(&self, level: usize, title: &str, suffix: &str, state: State) -> String {
        let label = state.label();
        // One blank at least stands between the two.
        let room = self.end().saturating_sub(2 * level + suffix.len() + label.len() + 1);
        let title = cut(&clean(title.as_bytes()), room.max(1));
        let used = 2 * level + width(&title) + suffix.len() + label.len();
        let blanks = " ".repeat(self.end().saturating_sub(used).max(1));
        let seconds = state.seconds().map(|span| format!(" {} sec", seconds(span))).unwrap_or_default();
        let (title, label) = (self.paint(&title, TITLE), self.paint(label, state.tone()));
        format!("{}{title}{suffix}{blanks}{label}{seconds}\n", indent(level))
    }

    /// A line that tells more. What has several lines is given several.
    pub(crate) fn detail(&self, level: usize, text: &str) -> String {
        let lines = text.lines().map(|line| clean(line.as_bytes()));
        lines.map(|line| format!("{}{}\n", indent(level), self.paint(&line, DETAIL))).collect()
    }

    /// The column that states end in.
    fn end(&self) -> usize {
        self.width.max(NARROWEST) - RIGHT
    }

    fn paint(&self, text: &str, tone: &str) -> String {
        if self.colour { format!("\x1b[{tone}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A stage to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StageRow {
    /// What it is called.
    pub(crate) title: Cow<'static, str>,
    /// The heading it stands under.
    pub(crate) group: Option<&'static str>,
    /// What became of it.
    pub(crate) state: State,
    /// The name of its image.
    pub(crate) signature: String,
    /// When its image was made, as it is shown.
    pub(crate) date: Option<String>,
    /// How large its image is.
    pub(crate) size: Option<Size>,
    /// The files that it places: repository, commit, target.
    pub(crate) git: Vec<String>,
    /// What it carries out.
    pub(crate) commands: Vec<String>,
    /// What it changes of the image's configuration.
    pub(crate) instructions: Vec<String>,
}

/// How large an image is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// All of it.
    Whole(u64),
    /// What it adds to the image below.
    Difference(u64),
}

/// The rows of the stages of one image, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct ConveyorRows {
    layout: Layout,
    level: usize,
    group: Option<&'static str>,
}

impl ConveyorRows {
    /// Rows at this level.
    pub(crate) fn new(layout: Layout, level: usize) -> Self {
        Self { layout, level, group: None }
    }

    /// The heading of the group of a stage, if it is the first of it; then the level of the stage.
    pub(crate) fn enter(&mut self, group: Option<&'static str>) -> (String, usize) {
        let heading = match group.filter(|_| self.group != group) {
            Some(title) => self.layout.heading(self.level, title),
            None => String::new(),
        };
        self.group = group;
        (heading, self.level + usize::from(group.is_some()))
    }

    /// All lines of a stage.
    pub(crate) fn stage(&mut self, row: &StageRow) -> String {
        let (mut text, level) = self.enter(row.group);
        text += &self.layout.row(level, &row.title, row.state);
        text += &details(&self.layout, level, row);
        text
    }
}

/// The lines below the row of a stage at this level.
pub(crate) fn details(layout: &Layout, level: usize, row: &StageRow) -> String {
    let mut lines = vec![(1, format!("signature: {}", row.signature))];
    lines.extend(row.date.as_ref().map(|date| (1, format!("date: {date}"))));
    lines.extend(row.size.map(|size| match size {
        Size::Whole(bytes) => (1, format!("size: {} MB", megabytes(bytes))),
        Size::Difference(bytes) => (1, format!("difference: {} MB", megabytes(bytes))),
    }));
    for (name, list) in
        [("git:", &row.git), ("commands:", &row.commands), ("instructions:", &row.instructions)]
    {
        if !list.is_empty() {
            lines.push((1, name.to_owned()));
            lines.extend(list.iter().map(|entry| (2, entry.clone())));
        }
    }
    lines.into_iter().map(|(deeper, text)| layout.detail(level + deeper, &text)).collect()
}

/// How long a command took.
pub(crate) fn running_time(span: Duration) -> String {
    format!("Running time {} seconds\n", seconds(span))
}

fn indent(level: usize) -> String {
    "  ".repeat(level)
}

/// Millions of bytes, rounded to three decimals, of which one is always shown.
fn megabytes(bytes: u64) -> String {
    let thousands = (bytes + 500) / 1_000;
    decimal(thousands, 3)
}

/// Seconds, rounded to two decimals, of which one is always shown.
fn seconds(span: Duration) -> String {
    let hundredths = (span.as_micros() + 5_000) / 10_000;
    decimal(u64::try_from(hundredths).unwrap_or(u64::MAX), 2)
}

/// A number with this many decimals, without zeros at the end, but for the first one.
fn decimal(value: u64, places: usize) -> String {
    let digits = format!("{value:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    let fraction = fraction.trim_end_matches('0');
    format!("{whole}.{}", if fraction.is_empty() { "0" } else { fraction })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
From                                                   [NOT PRESENT]
  signature: dimgstage-symfony-demo:41772...9a11
Before install                                         [NOT PRESENT]
  signature: dimgstage-symfony-demo:95961...cbde
Git artifacts: create archive                          [NOT PRESENT]
  signature: dimgstage-symfony-demo:49b8b...85c4
Install group
  Git artifacts: apply patches (before install)        [NOT PRESENT]
    signature: dimgstage-symfony-demo:52c41...3add
  Install                                              [NOT PRESENT]
    signature: dimgstage-symfony-demo:39db3...24fb
Setup group
  Git artifacts: apply patches (before setup)          [NOT PRESENT]
    signature: dimgstage-symfony-demo:c1220...ed2b
  Setup                                                [NOT PRESENT]
    signature: dimgstage-symfony-demo:d3d21...0e70
  Git artifacts: apply patches (after setup)           [NOT PRESENT]
    signature: dimgstage-symfony-demo:18144...e548
    date: 2018-10-30 15:32:18 +0300
    size: 457.613 MB
Docker instructions                                    [USING CACHE]
  signature: dimgstage-symfony-demo:bda2d7a...160e
  date: 2018-10-30 15:32:21 +0300
  difference: 0.0 MB
Running time 9.74 seconds
";

    const PLAIN: Layout = Layout { width: 83, colour: false };

    fn row(kind: strake_frontend::stagefile::StageKind, signature: &str, state: State) -> StageRow {
        StageRow {
            title: kind.title().into(),
            group: kind.group(),
            state,
            signature: format!("dimgstage-symfony-demo:{signature}"),
            date: None,
            size: None,
            git: Vec::new(),
            commands: Vec::new(),
            instructions: Vec::new(),
        }
    }

    #[test]
    fn the_sample_comes_out_byte_for_byte() {
        use strake_frontend::stagefile::StageKind as Kind;
        let mut rows: Vec<_> = [
            (Kind::From, "41772...9a11"),
            (Kind::BeforeInstall, "95961...cbde"),
            (Kind::GitArchive, "49b8b...85c4"),
            (Kind::GitPreInstallPatch, "52c41...3add"),
            (Kind::Install, "39db3...24fb"),
            (Kind::GitPreSetupPatch, "c1220...ed2b"),
            (Kind::Setup, "d3d21...0e70"),
            (Kind::GitPostSetupPatch, "18144...e548"),
        ]
        .into_iter()
        .map(|(kind, signature)| row(kind, signature, State::NotPresent))
        .collect();
        rows[7].date = Some("2018-10-30 15:32:18 +0300".to_owned());
        rows[7].size = Some(Size::Whole(457_613_000));
        rows.push(StageRow {
            date: Some("2018-10-30 15:32:21 +0300".to_owned()),
            size: Some(Size::Difference(0)),
            ..row(Kind::DockerInstructions, "bda2d7a...160e", State::UsingCache)
        });
        let mut conveyor = ConveyorRows::new(PLAIN, 0);
        let mut text: String = rows.iter().map(|row| conveyor.stage(row)).collect();
        text += &running_time(Duration::from_millis(9_740));
        assert_eq!(text, SAMPLE);
    }

    #[test]
    fn instructions_are_listed_and_levels_add_up() {
        let row = StageRow {
            git: vec!["own 1234 to /app".to_owned()],
            commands: vec!["apt-get update".to_owned(), "cat <<E\n  x\nE".to_owned()],
            instructions: vec!["EXPOSE 80".to_owned()],
            ..row(
                strake_frontend::stagefile::StageKind::Setup,
                "1",
                State::Done(Duration::from_millis(13_900)),
            )
        };
        let text = ConveyorRows::new(Layout { width: 60, colour: false }, 1).stage(&row);
        let expected = "  Setup group\n    Setup                                [OK] 13.9 sec\n      \
                        signature: dimgstage-symfony-demo:1\n      git:\n        own 1234 to /app\n      commands:\n        apt-get update\n        \
                        cat <<E\n          x\n        E\n      instructions:\n        EXPOSE 80\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn numbers_are_as_short_as_can_be() {
        for (bytes, expected) in
            [(0, "0.0"), (57_087_499, "57.087"), (499, "0.0"), (500, "0.001"), (1_200_000, "1.2")]
        {
            assert_eq!(megabytes(bytes), expected);
        }
        for (millis, expected) in [(0, "0.0"), (4, "0.0"), (5, "0.01"), (13_900, "13.9"), (60_000, "60.0")] {
            assert_eq!(seconds(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn long_titles_and_narrow_terminals_keep_the_column() {
        for width in [0, 1, 20, 40, 83, 120] {
            let layout = Layout { width, colour: false };
            let end = layout.row(0, "x", State::Build).trim_end().chars().count();
            for title in ["", "x", &"long ".repeat(50), "\u{1b}[2Jno\nsequences"] {
                for level in 0..4 {
                    let line = layout.process(level, title, State::Rebuild);
                    assert_eq!(line.matches('\n').count(), 1);
                    assert!(!line.contains('\u{1b}'));
                    assert_eq!(super::width(line.trim_end_matches('\n')), end, "{line:?}");
                }
            }
        }
    }

    #[test]
    fn colours_do_not_move_anything() {
        let colour = Layout { colour: true, ..PLAIN };
        let plain = |text: String| {
            text.split('\x1b')
                .enumerate()
                .map(|(at, part)| match at {
                    0 => part.to_owned(),
                    _ => part.split_once('m').unwrap().1.to_owned(),
                })
                .collect::<String>()
        };
        for state in [State::Building, State::Failed(Duration::from_secs(1)), State::Running] {
            let coloured = colour.row(1, "Install", state);
            assert!(coloured.contains("\x1b[1;33mInstall\x1b[0m"));
            assert_eq!(plain(coloured), PLAIN.row(1, "Install", state));
        }
        assert_eq!(colour.detail(0, "x"), "\x1b[34mx\x1b[0m\n");
    }
}
