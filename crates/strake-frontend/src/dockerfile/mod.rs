//! The Dockerfile frontend: what current BuildKit (`docker/dockerfile:1`) makes of a Dockerfile, as a graph.
//!
//! [`parse`] never fails and reports all errors of a text at once. [`lower`] is called with what is known so far and
//! answers with the images whose configuration it still needs, or with the finished graph.

use std::collections::{BTreeMap, BTreeSet};

use strake_graph::{Graph, Span};
use strake_oci::{ImageConfig, ImageId, Platform, Reference};

use crate::Diagnostic;

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
    /// Images by what they were asked for.
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
}

/// A text, taken apart.
#[derive(Debug, Clone)]
pub struct Parsed {
    text: String,
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

/// Takes a text apart. Never fails; what is wrong is among [`Parsed::diagnostics`].
pub fn parse(text: &[u8]) -> Parsed {
    Parsed { text: String::from_utf8_lossy(text).into_owned(), diagnostics: Vec::new() }
}

/// Makes a graph, or says what must be known first.
///
/// # Errors
/// All errors of the text, in its order; those of [`parse`] alone if it has any.
pub fn lower(parsed: &Parsed, options: &LowerOptions, facts: &Facts) -> Result<Lowering, Vec<Diagnostic>> {
    let _ = (options, facts);
    Err(vec![Diagnostic::error("not-built", Span::new(0, parsed.text.len()), "lowering is not written yet")])
}
