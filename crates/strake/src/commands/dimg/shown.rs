//! What rows tell of the stages of a plan.

use std::collections::BTreeMap;
use std::ops::Range;

use strake_frontend::stagefile::lower::{WantedFiles, wanted_files};
use strake_frontend::stagefile::plan::{Action, Conveyor, Found, Stage};
use strake_frontend::stagefile::{DockerOptions, Instructions, Rules, StageKind, UserStage};

use super::printer::Printer;
use crate::project::{Project, StageImage};
use crate::ui::conveyor::{Size, StageRow, State};

/// What rows are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) project: &'a Project,
    pub(super) images: &'a BTreeMap<String, StageImage>,
    pub(super) printer: &'a Printer,
}

impl Shown<'_> {
    /// The rows of a conveyor that was planned and not carried out.
    pub(super) fn rows(&self, rules: &Rules, conveyor: &Conveyor) -> Vec<StageRow> {
        (0..conveyor.stages.len()).map(|index| self.row(rules, conveyor, index)).collect()
    }

    /// The row of a stage that was assembled, or failed: then there is no image.
    pub(super) fn assembled(
        &self,
        rules: &Rules,
        conveyor: &Conveyor,
        index: usize,
        state: State,
        image: Option<&StageImage>,
    ) -> StageRow {
        let stage = &conveyor.stages[index];
        let size = image.and_then(|image| {
            let below = image.below.and_then(|below| below.size);
            match (stage.kind, image.made.size?, below) {
                (StageKind::From, size, _) | (_, size, None) => Some(Size::Whole(size)),
                (_, size, Some(below)) => Some(Size::Difference(size.saturating_sub(below))),
            }
        });
        StageRow {
            title: title(stage),
            group: stage.kind.group(),
            state,
            signature: self.project.stage_name(&stage.signature),
            date: image.and_then(|image| image.made.created).and_then(|seconds| self.printer.date(seconds)),
            size,
            git: git(rules, conveyor, index),
            commands: commands(rules, stage),
            instructions: instructions(rules, stage),
        }
    }

    /// The row of a stage that nothing is done for.
    pub(super) fn row(&self, rules: &Rules, conveyor: &Conveyor, index: usize) -> StageRow {
        let stage = &conveyor.stages[index];
        let state = state(conveyor, index);
        let (created, size) = match state {
            State::UsingCache => self.cached(conveyor, index),
            State::NotPresent => self.below_cached(conveyor, index),
            _ => (None, None),
        };
        let is_told = self.printer.verbose && matches!(state, State::Build | State::Rebuild);
        StageRow {
            title: title(stage),
            group: stage.kind.group(),
            state,
            signature: self.project.stage_name(&stage.signature),
            date: created.and_then(|seconds| self.printer.date(seconds)),
            size,
            git: if is_told { git(rules, conveyor, index) } else { Vec::new() },
            commands: if is_told { commands(rules, stage) } else { Vec::new() },
            instructions: if is_told { instructions(rules, stage) } else { Vec::new() },
        }
    }

    fn cached(&self, conveyor: &Conveyor, index: usize) -> (Option<i64>, Option<Size>) {
        let Some(image) = self.images.get(&conveyor.stages[index].signature) else { return (None, None) };
        let own_below = image.below.and_then(|below| below.size);
        let below = index.checked_sub(1).and_then(|below| {
            let known = self.images.get(&conveyor.stages[below].signature);
            known.and_then(|image| image.made.size).or(own_below)
        });
        let size = image.made.size.map(|size| match below {
            Some(below) => Size::Difference(size.saturating_sub(below)),
            None => Size::Whole(size),
        });
        (image.made.created, size)
    }

    /// Of a stage that is not here something is known when the one above is: it is part of that one.
    fn below_cached(&self, conveyor: &Conveyor, index: usize) -> (Option<i64>, Option<Size>) {
        let above = conveyor.stages.get(index + 1).filter(|above| above.found.is_usable());
        let below = above.and_then(|above| self.images.get(&above.signature)?.below);
        below.map_or((None, None), |made| (made.created, made.size.map(Size::Whole)))
    }
}

/// What a plan makes of a stage (reference stage-cache §3.3).
fn state(conveyor: &Conveyor, index: usize) -> State {
    let stage = &conveyor.stages[index];
    match &stage.found {
        found if found.is_usable() => State::UsingCache,
        _ if index < conveyor.to_assemble().start => State::NotPresent,
        Found::Refused(..) => State::Rebuild,
        Found::Absent | Found::Known(_) => State::Build,
    }
}

/// The title of a stage, with its number where each instruction is a stage.
pub(super) fn title(stage: &Stage) -> std::borrow::Cow<'static, str> {
    match stage.layer {
        None => stage.kind.title().into(),
        Some(layer) => format!("{} {layer}", stage.kind.title()).into(),
    }
}

/// The files that a stage places, one line for each mapping. A patch tells both commits.
fn git(rules: &Rules, conveyor: &Conveyor, index: usize) -> Vec<String> {
    let line = |wanted: &WantedFiles| {
        let mapping = &conveyor.mappings[wanted.mapping];
        let source = &rules.git[mapping.index].selection.source;
        let repository = source.name().expect("a source without a name is refused where it is read");
        let from = wanted.from.as_ref().map(|from| format!("{from}..")).unwrap_or_default();
        format!("{repository} {from}{} to {}", wanted.to, mapping.to)
    };
    wanted_files(conveyor, index).iter().map(line).collect()
}

/// What a user stage carries out.
pub(super) fn commands(rules: &Rules, stage: &Stage) -> Vec<String> {
    match &stage.action {
        Action::Instruct(user_stage, range) => told(rules, *user_stage, range.clone()),
        _ => Vec::new(),
    }
}

fn told(rules: &Rules, stage: UserStage, range: Range<usize>) -> Vec<String> {
    match rules.assembly.instructions.get(&stage) {
        Some(Instructions::Shell(commands)) => {
            commands[range].iter().map(|command| command.text.trim_end().to_owned()).collect()
        }
        Some(Instructions::Ansible(tasks)) => {
            let name = |value: &serde_json::Value| value.get("name")?.as_str().map(str::to_owned);
            tasks[range]
                .iter()
                .map(|task| name(&task.value).unwrap_or_else(|| task.value.to_string()))
                .collect()
        }
        None => Vec::new(),
    }
}

/// What a stage changes of the image's configuration.
pub(super) fn instructions(rules: &Rules, stage: &Stage) -> Vec<String> {
    match stage.action {
        Action::Configure => docker(&rules.docker),
        _ => Vec::new(),
    }
}

/// In the words of a Dockerfile.
fn docker(options: &DockerOptions) -> Vec<String> {
    let json = |words: &[String]| serde_json::Value::from(words.to_vec()).to_string();
    let each =
        |name: &str, list: &[String]| list.iter().map(|value| format!("{name} {value}")).collect::<Vec<_>>();
    let pairs = |name: &str, map: &BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{name} {key}={value}")).collect::<Vec<_>>()
    };
    let one =
        |name: &str, value: &Option<String>| value.iter().map(|value| format!("{name} {value}")).collect();
    let argv = |name: &str, words: &[String]| match words.is_empty() {
        true => Vec::new(),
        false => vec![format!("{name} {}", json(words))],
    };
    [
        each("VOLUME", &options.volume),
        each("EXPOSE", &options.expose),
        pairs("ENV", &options.env),
        pairs("LABEL", &options.label),
        argv("CMD", &options.cmd),
        each("ONBUILD", &options.on_build),
        one("WORKDIR", &options.workdir),
        one("USER", &options.user),
        argv("ENTRYPOINT", &options.entrypoint),
        one("STOPSIGNAL", &options.stop_signal),
        argv("HEALTHCHECK", &options.healthcheck),
    ]
    .concat()
}
