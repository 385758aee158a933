//! `.dapp_config`: what holds for commands on stage files when nothing else is said.

use super::decode::{Decoder, Fields};
use super::yaml::{self, Kind, Node, Value};
use crate::Diagnostic;

const KEYS: [&str; 8] = ["verbose", "quiet", "dev", "time", "dry_run", "build_dir", "color", "ci"];

/// What a file of presets says. Later files are asked first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presets {
    /// Say more.
    pub verbose: Option<bool>,
    /// Say nothing but errors.
    pub quiet: Option<bool>,
    /// Take part of what is not committed.
    pub dev: Option<bool>,
    /// Put the time in front of each line.
    pub time: Option<bool>,
    /// Only show what would be done.
    pub dry_run: Option<bool>,
    /// Where clones and mounts are kept.
    pub build_dir: Option<String>,
    /// Whether to use colours.
    pub color: Option<bool>,
}

impl Presets {
    /// Reads a file. Its section `ci` counts in a CI system only, and there before the rest.
    ///
    /// # Errors
    /// With all that is wrong.
    pub fn parse(text: &str, is_ci: bool) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let mut presets = Self::default();
        for document in yaml::documents(text).into_iter().rev() {
            let Some(node) = yaml::read(text, document, &mut diagnostics) else { continue };
            let mut decoder = Decoder::new(&mut diagnostics);
            let Some(fields) = decoder.fields(&node, "a file of presets", &KEYS) else { continue };
            // It is checked even where it does not count.
            if let Some(ci) = fields.get("ci") {
                let ci = section(&mut decoder, ci);
                presets = if is_ci { presets.or(ci) } else { presets };
            }
            presets = presets.or(all(&mut decoder, &fields));
        }
        diagnostics.iter_mut().for_each(Diagnostic::make_printable);
        diagnostics.sort_by_key(|diagnostic| diagnostic.span);
        if diagnostics.is_empty() { Ok(presets) } else { Err(diagnostics) }
    }

    /// What this does not say, `other` does.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            verbose: self.verbose.or(other.verbose),
            quiet: self.quiet.or(other.quiet),
            dev: self.dev.or(other.dev),
            time: self.time.or(other.time),
            dry_run: self.dry_run.or(other.dry_run),
            build_dir: self.build_dir.or(other.build_dir),
            color: self.color.or(other.color),
        }
    }
}

fn section(decoder: &mut Decoder<'_>, node: &Node) -> Presets {
    let known = &KEYS[..KEYS.len() - 1];
    decoder.fields(node, "`ci`", known).map(|fields| all(decoder, &fields)).unwrap_or_default()
}

fn all(decoder: &mut Decoder<'_>, fields: &Fields<'_>) -> Presets {
    Presets {
        verbose: switch(decoder, fields, "verbose"),
        quiet: switch(decoder, fields, "quiet"),
        dev: switch(decoder, fields, "dev"),
        time: switch(decoder, fields, "time"),
        dry_run: switch(decoder, fields, "dry_run"),
        build_dir: decoder.text_of(fields, "build_dir").map(|path| path.value),
        color: colour(decoder, fields),
    }
}

fn switch(decoder: &mut Decoder<'_>, fields: &Fields<'_>, key: &str) -> Option<bool> {
    let node = fields.get(key)?;
    if let Kind::Scalar(scalar) = &node.kind
        && let Value::Bool(value) = scalar.value
    {
        return Some(value);
    }
    let message = format!("`{key}` is `true` or `false`, not {}", node.describe());
    decoder.error("wrong-type", node.span, message);
    None
}

/// `auto` is as good as nothing; `on` and `off` are truth values whether quoted or not.
fn colour(decoder: &mut Decoder<'_>, fields: &Fields<'_>) -> Option<bool> {
    let node = fields.get("color")?;
    match &node.kind {
        Kind::Scalar(scalar) => match (scalar.value, scalar.text.as_str()) {
            (Value::Bool(value), _) => Some(value),
            (_, "on") => Some(true),
            (_, "off") => Some(false),
            (_, "auto") => None,
            _ => wrong_colour(decoder, node),
        },
        _ => wrong_colour(decoder, node),
    }
}

fn wrong_colour(decoder: &mut Decoder<'_>, node: &Node) -> Option<bool> {
    decoder.error("wrong-type", node.span, format!("`color` is on, off or auto, not {}", node.describe()));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_for_ci_counts_there_only_and_first() {
        let text = "verbose: yes\ncolor: off\nbuild_dir: /b\nci:\n  color: 'on'\n  time: true\n";
        let plain = Presets {
            verbose: Some(true),
            color: Some(false),
            build_dir: Some("/b".into()),
            ..Presets::default()
        };
        assert_eq!(Presets::parse(text, false), Ok(plain.clone()));
        assert_eq!(Presets::parse(text, true), Ok(Presets { color: Some(true), time: Some(true), ..plain }));
        assert_eq!(Presets::parse("color: auto\n", true), Ok(Presets::default()));
        assert_eq!(Presets::parse("# nothing\n", true), Ok(Presets::default()));
    }

    #[test]
    fn all_mistakes_are_told() {
        let text = "verbos: yes\nquiet: 7\ncolor: red\nci:\n  ci: {}\n  dev: [1]\n";
        let found = Presets::parse(text, false).unwrap_err();
        let told: Vec<_> = found.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
        let expected = [
            "a file of presets has no key `verbos`",
            "`quiet` is `true` or `false`, not the number `7`",
            "`color` is on, off or auto, not a text",
            "`ci` has no key `ci`",
            "`dev` is `true` or `false`, not a list",
        ];
        assert_eq!(told, expected);
        assert!(Presets::parse("- a\n", false).is_err());
        assert!(Presets::parse("a: [", false).is_err());
    }
}
