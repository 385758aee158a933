//! The Dockerfile frontend: what current BuildKit (`docker/dockerfile:1`) makes of a Dockerfile, as a graph.
//!
//! [`parse`] never fails and reports all errors of a text at once. [`lower`] is called with what is known so far and
//! answers with the images whose configuration it still needs, or with the finished graph.

mod ast;
mod check;
mod expand;
mod heredoc;
mod lex;
mod lower;
mod onbuild;
mod parse;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use strake_graph::{Graph, Span};
use strake_oci::{ImageConfig, ImageId, Platform, Reference};

use crate::Diagnostic;
pub(crate) use lower::{paths, port};

/// What was asked for on the command line, as far as it changes the graph.
#[derive(Debug, Clone)]
pub struct LowerOptions {
    /// `--build-arg NAME=VALUE`. A name without a value is resolved by the caller (or left out).
    pub build_args: BTreeMap<String, String>,
    /// `--target`: a stage's name or index; the last stage by default.
    pub target: Option<String>,
    /// `--label`, in order; added to the target's configuration only.
    pub labels: Vec<(String, String)>,
    /// What to build for.
    pub platform: Platform,
    /// What the build runs on.
    pub build_platform: Platform,
    /// Whether no result of an earlier build may be used.
    pub no_cache: bool,
    /// The names of further build contexts that are directories (`--build-context NAME=DIR`).
    pub contexts: BTreeSet<String>,
}

impl LowerOptions {
    /// No options, for one platform that is also the one the build runs on.
    pub fn new(platform: Platform) -> Self {
        Self {
            build_args: BTreeMap::new(),
            target: None,
            labels: Vec::new(),
            build_platform: platform.clone(),
            platform,
            no_cache: false,
            contexts: BTreeSet::new(),
        }
    }
}

/// What is known of the outside.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Images by what they were asked for: the reference and platform of the [`ImageRequest`], not what the registry
    /// made of them.
    pub images: BTreeMap<(Reference, Platform), ImageFact>,
}

/// What a name stood for when it was resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageFact {
    /// The digest of the configuration.
    pub id: ImageId,
    /// The configuration.
    pub config: ImageConfig,
}

/// An image whose configuration must be known before the graph can be finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRequest {
    /// Which.
    pub reference: Reference,
    /// For which platform.
    pub platform: Platform,
    /// Where it is named.
    pub span: Span,
}

/// What [`lower`] answers.
#[derive(Debug, Clone)]
pub enum Lowering {
    /// Call again when these are among the [`Facts`]. Each is named once.
    Needs(Vec<ImageRequest>),
    /// The graph is finished.
    Done(Box<Lowered>),
}

/// A finished graph.
#[derive(Debug, Clone)]
pub struct Lowered {
    /// The graph; its one target is the stage asked for.
    pub graph: Graph,
    /// All warnings, those of [`parse`] included, in the order of the text.
    pub warnings: Vec<Diagnostic>,
    /// Build arguments that were given but that no `ARG` of the needed stages declares. docker warns of these.
    pub unused_build_args: Vec<String>,
    /// `SOURCE_DATE_EPOCH`, from a build argument or an `ARG` in front of the first `FROM`: seconds since 1970.
    pub source_date_epoch: Option<i64>,
}

/// A text, taken apart.
#[derive(Debug, Clone)]
pub struct Parsed {
    text: String,
    ast: ast::Ast,
    checks: check::Checks,
    diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// The text that spans count in. Bytes that are not UTF-8 are replaced, which is an error already.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Errors and warnings, in the order of the text.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Whether there are errors, so that [`lower`] will refuse it.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Diagnostics that are said about one text. A file with more has one mistake at its root.
const MAX_DIAGNOSTICS: usize = 1000;

/// Takes a text apart. Never fails; what is wrong is among [`Parsed::diagnostics`].
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut diagnostics = Vec::new();
    let is_readable = check::encoding(bytes, &mut diagnostics);
    // In text of another encoding every line would be an error of its own, which tells nobody anything.
    let text = if is_readable { String::from_utf8_lossy(bytes).into_owned() } else { String::new() };
    let lexed = lex::lex(&text, None);
    diagnostics.extend(lexed.diagnostics.iter().cloned());
    check::syntax(lexed.syntax.as_ref(), &mut diagnostics);
    let checks = check::Checks::parse(lexed.check.as_ref(), &mut diagnostics);
    let ast = parse::parse(&lexed, text.len(), &mut diagnostics);
    checks.filter(&mut diagnostics);
    sort(&mut diagnostics);
    Parsed { text, ast, checks, diagnostics }
}

/// Makes a graph, or says what must be known first.
///
/// # Errors
/// All errors of the text, in its order, those of [`parse`] included, as far as they do not hang on images that are
/// not among `facts`. Nothing is said that merely follows from something else. Warnings are among them.
pub fn lower(parsed: &Parsed, options: &LowerOptions, facts: &Facts) -> Result<Lowering, Vec<Diagnostic>> {
    // In another language, or with another escape character, the text may mean anything.
    let is_foreign = |said: &Diagnostic| matches!(said.code, "foreign-frontend" | "invalid-escape");
    if parsed.diagnostics.iter().any(is_foreign) {
        return Err(parsed.diagnostics.clone());
    }
    let finish = |found: Vec<Diagnostic>| {
        let mut diagnostics = found;
        parsed.checks.filter(&mut diagnostics);
        diagnostics.extend(parsed.diagnostics.iter().cloned());
        sort(&mut diagnostics);
        diagnostics
    };
    let (lowering, found) = lower::lower(&parsed.ast, options, facts).map_err(finish)?;
    let warnings = finish(found);
    if warnings.iter().any(Diagnostic::is_error) {
        return Err(warnings);
    }
    match lowering {
        Lowering::Needs(requests) => Ok(Lowering::Needs(requests)),
        Lowering::Done(mut lowered) => {
            lowered.warnings = warnings;
            Ok(Lowering::Done(lowered))
        }
    }
}

/// Puts diagnostics into the order of the text, each once, and cuts off what nobody would read.
fn sort(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.iter_mut().for_each(Diagnostic::make_printable);
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end, diagnostic.severity));
    let mut seen = BTreeSet::new();
    diagnostics.retain(|said| seen.insert((said.span, said.severity, said.code, said.message.clone())));
    if diagnostics.len() > MAX_DIAGNOSTICS {
        // Errors decide, so no warning may push one out.
        diagnostics.sort_by_key(|diagnostic| diagnostic.severity);
        diagnostics.truncate(MAX_DIAGNOSTICS);
        diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
    }
}
