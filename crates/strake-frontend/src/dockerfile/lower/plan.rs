//! Which stages are needed, what they stand on, and which images must be known for that.

use std::collections::BTreeMap;

use strake_graph::Span;
use strake_oci::{Platform, Reference};

use crate::Diagnostic;
use crate::diagnostic::nearest;
use crate::dockerfile::ast::{Ast, Instruction, Kind, StageAst, Word};
use crate::dockerfile::expand::Style;
use crate::dockerfile::lower::Lowerer;
use crate::dockerfile::{ImageRequest, onbuild};

/// The stages of a file, resolved.
pub(super) struct Plan<'a> {
    pub(super) stages: Vec<PlannedStage<'a>>,
    /// `None` if there is no such stage, which has been said.
    pub(super) target: Option<usize>,
    names: Names,
}

/// The stages of each name (in lower case), in the order of the file.
#[derive(Default)]
struct Names(BTreeMap<String, Vec<usize>>);

impl Names {
    /// The last stage in front of `current` that has the name.
    fn before(&self, name: &str, current: usize) -> Option<usize> {
        let places = self.0.get(&name.to_lowercase())?;
        places.get(places.partition_point(|index| *index < current).checked_sub(1)?).copied()
    }

    /// The first stage from `current` on that has the name.
    fn from(&self, name: &str, current: usize) -> Option<usize> {
        let places = self.0.get(&name.to_lowercase())?;
        places.get(places.partition_point(|index| *index < current)).copied()
    }

    /// The name that is probably meant. A file has a few stages; looking at more helps nobody.
    fn nearest(&self, written: &str) -> Option<&str> {
        let names: Vec<&str> = self.0.keys().take(100).map(String::as_str).collect();
        nearest(written, &names)
    }
}

pub(super) struct PlannedStage<'a> {
    pub(super) ast: &'a StageAst,
    /// The name, or `stage-N`.
    pub(super) name: String,
    pub(super) base: Base,
    pub(super) platform: Platform,
    pub(super) needed: bool,
    /// Triggers of the base, to be run first.
    pub(super) triggers: Vec<Instruction>,
}

/// What a stage stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Base {
    Scratch,
    Stage(usize),
    Image(Reference),
    /// Nobody knows; that something is wrong has been said.
    Unknown,
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Scratch,
    Stage(usize),
    Context(String),
    Image(Reference),
}

impl<'a> Plan<'a> {
    /// Resolves all stages; says what is wrong with them.
    pub(super) fn new(lowerer: &mut Lowerer<'_>, ast: &'a Ast) -> Self {
        let mut stages: Vec<PlannedStage<'a>> = Vec::new();
        let mut names = Names::default();
        for (index, stage) in ast.stages.iter().enumerate() {
            // A stage whose base is wrong stays in the list, so that the numbers of the others are right.
            let found = if stage.is_broken { None } else { lowerer.base(stage, &stages, &names) };
            let (base, platform) = found.unwrap_or_else(|| (Base::Unknown, lowerer.options.platform.clone()));
            if let Some(name) = &stage.name {
                names.0.entry(name.text.clone()).or_default().push(index);
            }
            let name = stage.name.as_ref().map_or_else(|| format!("stage-{index}"), |name| name.text.clone());
            stages.push(PlannedStage {
                ast: stage,
                name,
                base,
                platform,
                needed: false,
                triggers: Vec::new(),
            });
        }
        warn_of_names(lowerer, &stages);
        let target = lowerer.target(&stages, &names, ast.is_cut);
        Self { stages, target, names }
    }

    /// Marks what the target needs and reads the triggers of its bases. Answers with the images to be looked up.
    pub(super) fn mark_needed(&mut self, lowerer: &mut Lowerer<'_>) -> Vec<ImageRequest> {
        let mut requests = Requests::default();
        let mut open: Vec<usize> = self.target.into_iter().collect();
        while let Some(index) = open.pop() {
            let Some(stage) = self.stages.get_mut(index).filter(|stage| !stage.needed) else { continue };
            stage.needed = true;
            let span = stage.ast.base.span;
            let base = stage.base.clone();
            let platform = stage.platform.clone();
            let triggers = match &base {
                Base::Scratch => Vec::new(),
                Base::Unknown => {
                    // A broken FROM probably stands on the stage that it names.
                    let words = stage.ast.base.text.split_whitespace();
                    open.extend(words.filter_map(|word| self.names.before(word, index)));
                    Vec::new()
                }
                Base::Stage(below) => {
                    open.push(*below);
                    self.stage_triggers(*below)
                }
                Base::Image(reference) => match lowerer.fact(reference, &platform) {
                    Some(fact) => fact.config.config.on_build.clone(),
                    None => {
                        requests.add(reference, &platform, span);
                        Vec::new()
                    }
                },
            };
            let shown = match &base {
                Base::Image(reference) => reference.familiar(),
                _ => self.stages.get(index).map_or_else(String::new, |stage| stage.ast.base.text.clone()),
            };
            let triggers = onbuild::parse_triggers(&triggers, &shown, span, &mut lowerer.diagnostics);
            if matches!(base, Base::Image(_)) {
                warn_of_triggers(lowerer, &triggers, &shown, span);
            }
            if let Some(stage) = self.stages.get_mut(index) {
                stage.triggers = triggers;
            }
            for source in self.sources(lowerer, index) {
                match source {
                    (Source::Stage(stage), _) => open.push(stage),
                    (Source::Image(reference), span) => {
                        let platform = lowerer.options.platform.clone();
                        if lowerer.fact(&reference, &platform).is_none() {
                            requests.add(&reference, &platform, span);
                        }
                    }
                    (Source::Scratch | Source::Context(_), _) => {}
                }
            }
        }
        let mut requests: Vec<_> = requests.0.into_values().collect();
        requests.sort_by_key(|request| request.span);
        requests
    }

    /// Says what is wrong with the sources of stages that nobody needs: the mistake is there all the same.
    pub(super) fn check_unneeded(&self, lowerer: &mut Lowerer<'_>) {
        for index in 0..self.stages.len() {
            if self.stages.get(index).is_some_and(|stage| !stage.needed) {
                self.sources(lowerer, index);
            }
        }
    }

    fn stage_triggers(&self, index: usize) -> Vec<String> {
        let instructions = self.stages.get(index).map_or(&[][..], |stage| &stage.ast.instructions);
        let texts = instructions.iter().filter_map(|instruction| match &instruction.kind {
            Kind::Onbuild(trigger) => Some(trigger.text.clone()),
            _ => None,
        });
        texts.collect()
    }

    /// Everything a stage takes files from, besides its base and the main context.
    fn sources(&self, lowerer: &mut Lowerer<'_>, index: usize) -> Vec<(Source, Span)> {
        let Some(stage) = self.stages.get(index) else { return Vec::new() };
        let mut found = Vec::new();
        for instruction in stage.triggers.iter().chain(&stage.ast.instructions) {
            for from in instruction.kind.sources() {
                match self.source(lowerer, index, from) {
                    Ok(source) => found.push((source, from.span)),
                    Err(diagnostic) => lowerer.diagnostics.push(diagnostic),
                }
            }
        }
        found
    }

    /// What a `--from` in stage `current` means: an earlier stage by name or index, a context, or an image.
    pub(super) fn source(
        &self,
        lowerer: &Lowerer<'_>,
        current: usize,
        from: &Word,
    ) -> Result<Source, Diagnostic> {
        let text = from.text.as_str();
        if let Ok(index) = text.parse::<i64>() {
            return self.source_by_index(current, index, from.span);
        }
        if let Some(index) = self.names.before(text, current) {
            return Ok(Source::Stage(index));
        }
        if let Some(index) = self.names.from(text, current) {
            return Err(self.too_late(current, index, from.span));
        }
        if text.eq_ignore_ascii_case("scratch") {
            return Ok(Source::Scratch);
        }
        if lowerer.options.contexts.contains(text) {
            return Ok(Source::Context(text.to_owned()));
        }
        text.parse().map(Source::Image).map_err(|error| {
            let message = format!("`{text}` is neither a stage above nor an image: {error}");
            let diagnostic = Diagnostic::error("unknown-source", from.span, message);
            match self.names.nearest(text) {
                Some(name) => diagnostic.hint(format!("did you mean `{name}`?")),
                None => diagnostic,
            }
        })
    }

    fn source_by_index(&self, current: usize, index: i64, span: Span) -> Result<Source, Diagnostic> {
        match usize::try_from(index) {
            Ok(index) if index < current => Ok(Source::Stage(index)),
            Ok(index) if index < self.stages.len() => Err(self.too_late(current, index, span)),
            _ => {
                let message = format!("there is no stage {index}");
                let last = self.stages.len().saturating_sub(1);
                Err(Diagnostic::error("unknown-source", span, message)
                    .hint(format!("the stages of this file are numbered 0 to {last}")))
            }
        }
    }

    fn too_late(&self, current: usize, index: usize, span: Span) -> Diagnostic {
        let (name, place) = match self.stages.get(index) {
            Some(stage) => (stage.name.as_str(), stage.ast.span),
            None => ("", span),
        };
        if index == current {
            Diagnostic::error("self-reference", span, format!("stage `{name}` cannot take files from itself"))
                .note(place, "the stage begins here")
        } else {
            Diagnostic::error(
                "forward-reference",
                span,
                format!("stage `{name}` comes only later in the file"),
            )
            .note(place, "it begins here")
            .hint("move that stage above this one")
        }
    }
}

/// Images to be looked up, each once.
#[derive(Default)]
struct Requests(BTreeMap<(Reference, Platform), ImageRequest>);

impl Requests {
    fn add(&mut self, reference: &Reference, platform: &Platform, span: Span) {
        let (reference, platform) = (reference.clone(), platform.clone());
        let key = (reference.clone(), platform.clone());
        self.0.entry(key).or_insert(ImageRequest { reference, platform, span });
    }
}

/// A base image from elsewhere may ask for the caller's secrets or bring in other images without the Dockerfile
/// showing it, so it is said.
fn warn_of_triggers(lowerer: &mut Lowerer<'_>, triggers: &[Instruction], base: &str, span: Span) {
    for trigger in triggers {
        let what = match &trigger.kind {
            Kind::Copy(copy) => copy.from.as_ref().map(|from| format!("copies files from `{}`", from.text)),
            Kind::Run(run) if !run.mounts.is_empty() => Some("runs a command with mounts".to_owned()),
            _ => None,
        };
        if let Some(what) = what {
            let message = format!("ONBUILD trigger of {base} {what}: {}", trigger.source);
            lowerer.diagnostics.push(Diagnostic::warning("onbuild-reaches-out", span, message));
        }
    }
}

fn warn_of_names(lowerer: &mut Lowerer<'_>, stages: &[PlannedStage<'_>]) {
    let mut seen = BTreeMap::new();
    for (index, stage) in stages.iter().enumerate() {
        let Some(name) = stage.ast.name.as_ref().filter(|_| !stage.ast.is_broken) else { continue };
        if let Some((_, first)) = seen.insert(name.text.as_str(), (index, name.span)) {
            let message = format!("stage name `{}` is used twice", name.text);
            lowerer.diagnostics.push(
                Diagnostic::warning("duplicate-stage-name", name.span, message)
                    .note(first, "it is used here already")
                    .hint("what follows can only name the last one"),
            );
        }
    }
    for (index, stage) in stages.iter().enumerate() {
        let base = &stage.ast.base;
        let later = seen.get(base.text.to_ascii_lowercase().as_str()).filter(|(last, _)| *last > index);
        if let (Base::Image(_), Some((_, place))) = (&stage.base, later) {
            let message = format!("`{}` is taken as an image: the stage of that name comes later", base.text);
            lowerer.diagnostics.push(
                Diagnostic::warning("stage-comes-later", base.span, message).note(*place, "it is named here"),
            );
        }
    }
}

impl Lowerer<'_> {
    /// The base of a stage and the platform it is for.
    fn base(
        &mut self,
        stage: &StageAst,
        earlier: &[PlannedStage<'_>],
        names: &Names,
    ) -> Option<(Base, Platform)> {
        let style = Style::new(self.escape);
        let global = self.global.clone();
        let text = self.expand_quietly(&stage.base, style, &global)?;
        if text.is_empty() {
            let message = format!("the base `{}` is empty after its variables are replaced", stage.base.text);
            self.diagnostics.push(
                Diagnostic::error("empty-base", stage.base.span, message)
                    .hint("give the ARG in front of FROM a default, or pass --build-arg"),
            );
            return None;
        }
        let platform = match &stage.platform {
            Some(word) => self.platform(word)?,
            None => self.options.platform.clone(),
        };
        if let Some(index) = names.before(&text, usize::MAX) {
            let platform = earlier.get(index).map_or(platform, |stage| stage.platform.clone());
            return Some((Base::Stage(index), platform));
        }
        if text == "scratch" {
            return Some((Base::Scratch, self.options.platform.clone()));
        }
        if self.options.contexts.contains(&text) {
            let message = format!("not supported yet: `FROM {text}` where `{text}` is a build context");
            self.diagnostics.push(
                Diagnostic::error("unsupported-base", stage.base.span, message)
                    .hint("begin with scratch and COPY --from the context"),
            );
            return None;
        }
        match text.parse() {
            Ok(reference) => Some((Base::Image(reference), platform)),
            Err(error) => {
                let message = format!("`{text}` is neither a stage above nor an image: {error}");
                let diagnostic = Diagnostic::error("invalid-reference", stage.base.span, message);
                self.diagnostics.push(match names.nearest(&text) {
                    Some(name) => diagnostic.hint(format!("did you mean the stage `{name}`?")),
                    None => diagnostic,
                });
                None
            }
        }
    }

    fn platform(&mut self, word: &Word) -> Option<Platform> {
        let global = self.global.clone();
        let text = self.expand_quietly(word, Style::new(self.escape), &global)?;
        match text.parse() {
            Ok(platform) => Some(platform),
            Err(error) => {
                let diagnostic = Diagnostic::error("invalid-platform", word.span, error.to_string());
                self.diagnostics.push(if word.text.contains('$') {
                    diagnostic.hint(format!("`{}` gives `{text}`", word.text))
                } else {
                    diagnostic
                });
                None
            }
        }
    }

    /// The stage that is wanted. `is_cut` if there may have been more stages.
    fn target(&mut self, stages: &[PlannedStage<'_>], names: &Names, is_cut: bool) -> Option<usize> {
        let Some(wanted) = &self.options.target else { return stages.len().checked_sub(1) };
        let by_name = names.before(wanted, usize::MAX);
        let by_index = || wanted.parse::<usize>().ok().filter(|index| *index < stages.len());
        let found = by_name.or_else(by_index);
        if found.is_none() && !is_cut && !stages.is_empty() {
            let span = stages.first().map_or(Span::default(), |stage| stage.ast.span);
            let diagnostic =
                Diagnostic::error("unknown-target", span, format!("there is no stage `{wanted}` to build"));
            let known: Vec<&str> = names.0.keys().take(20).map(String::as_str).collect();
            self.diagnostics.push(match names.nearest(wanted) {
                Some(name) => diagnostic.hint(format!("did you mean `{name}`?")),
                None if known.is_empty() => diagnostic.hint("no stage of this file has a name"),
                None => diagnostic.hint(format!("stages: {}", known.join(", "))),
            });
        }
        found
    }
}
