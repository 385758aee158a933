//! `ONBUILD` triggers: instructions that a base image or base stage leaves for those who build on it.
//!
//! They run directly behind the child's `FROM`, before its own instructions, and are read as text of their own: the
//! child's `escape` directive does not reach them. They may need stages and images that nothing else needs. All that
//! is said about them is said at the child's `FROM`, the only place its author can change.

use strake_graph::Span;

use crate::Diagnostic;
use crate::dockerfile::ast::{Broken, Instruction, Kind};
use crate::dockerfile::lex::lex;
use crate::dockerfile::parse;

/// Reads triggers, first to last; those with errors are broken instructions. `base` is what people call where they
/// come from.
pub(super) fn parse_triggers(
    triggers: &[String],
    base: &str,
    span: Span,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Instruction> {
    triggers.iter().map(|text| parse_trigger(text, base, span, diagnostics)).collect()
}

fn parse_trigger(text: &str, base: &str, span: Span, diagnostics: &mut Vec<Diagnostic>) -> Instruction {
    let lexed = lex(text, Some(span));
    let mut found = lexed.diagnostics.clone();
    let instruction = parse::parse_trigger(&lexed, &mut found);
    let is_allowed = instruction
        .as_ref()
        .is_some_and(|instruction| !matches!(instruction.kind, Kind::Onbuild(_) | Kind::Maintainer(_)));
    if !is_allowed && !found.iter().any(Diagnostic::is_error) {
        found.push(Diagnostic::error(
            "invalid-trigger",
            span,
            "it is not one instruction that may be a trigger",
        ));
    }
    let is_fine = !found.iter().any(Diagnostic::is_error);
    // Warnings about how a trigger is written are for the author of the base, not for this one.
    let errors = found.into_iter().filter(Diagnostic::is_error);
    diagnostics.extend(errors.map(|diagnostic| Diagnostic {
        message: format!("ONBUILD trigger of {base}: {}", diagnostic.message),
        notes: Vec::new(),
        ..diagnostic
    }));
    instruction.filter(|_| is_fine).unwrap_or_else(|| {
        let kind = Kind::Broken(Broken { name: None, sources: Vec::new() });
        Instruction { kind, span, source: text.to_owned() }
    })
}
