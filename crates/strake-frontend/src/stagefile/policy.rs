//! Which images a repository keeps, by the branches and tags whose history used them (reference stage-cache §15.6).

use std::fmt;

use super::decode::{Decoder, Fields, Spanned};
use super::yaml::{self, Kind, Node, Value};
use crate::Diagnostic;

/// What is kept when nobody says otherwise: an image for each of the ten newest tags; up to two of the last week for
/// the ten branches that were the most active in it; two for the branches that things are delivered from.
const DEFAULT: &str = "
keepBuiltWithin: 2h
keepPolicies:
- references:
    tag: /.*/
    limit: { last: 10 }
- references:
    branch: /.*/
    limit: { last: 10, in: 7d, operator: And }
  imagesPerReference: { last: 2, in: 7d, operator: And }
- references:
    branch: /^(main|master|staging|production)$/
  imagesPerReference: { last: 2 }
";

/// Which images are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Of several policies for a reference the last one counts.
    pub keep: Vec<KeepPolicy>,
    /// What was built within these seconds is kept.
    pub built_within: u64,
    /// Tags, names with a tag, and digests that are kept.
    pub names: Vec<String>,
}

/// What is kept for some references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepPolicy {
    /// Tags or branches.
    pub kind: ReferenceKind,
    /// Which of them.
    pub pattern: NamePattern,
    /// How many of them, the newest first.
    pub references: Limit,
    /// How many images of each, those of the newest commits first.
    pub images: Limit,
}

/// A kind of references.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferenceKind {
    /// Tags.
    Tag,
    /// Branches.
    Branch,
}

/// Names that are meant.
#[derive(Debug, Clone)]
pub enum NamePattern {
    /// This one.
    Name(String),
    /// Those that the expression finds something in.
    Expression(regex::Regex),
}

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for NamePattern {}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Expression(expression) => write!(f, "/{expression}/"),
        }
    }
}

impl NamePattern {
    /// Whether a name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Expression(expression) => expression.is_match(name),
        }
    }
}

/// How many of what is sorted, the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// This many.
    pub last: Option<usize>,
    /// Those of the last seconds.
    pub within: Option<u64>,
    /// Whether both have to be met.
    pub operator: Operator,
}

/// How two limits go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Operator {
    /// Both have to be met.
    #[default]
    And,
    /// One has to be met.
    Or,
}

impl Limit {
    /// Whether what is at this place, counted from 0, and this many seconds old is within the limit.
    #[must_use]
    pub fn allows(&self, place: usize, age: i64) -> bool {
        let last = self.last.map(|last| place < last);
        let within = self.within.map(|within| i64::try_from(within).is_ok_and(|within| age <= within));
        match (last, within, self.operator) {
            (Some(last), Some(within), Operator::And) => last && within,
            (Some(last), Some(within), Operator::Or) => last || within,
            (Some(met), None, _) | (None, Some(met), _) => met,
            (None, None, _) => true,
        }
    }
}

impl CleanupPolicy {
    /// Reads a file. What it does not say is as by default.
    ///
    /// # Errors
    /// With all that is wrong.
    pub fn parse(text: &str) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let mut written = Written::default();
        for document in yaml::documents(text) {
            let Some(node) = yaml::read(text, document, &mut diagnostics) else { continue };
            let mut decoder = Decoder::new(&mut diagnostics);
            written.read(&mut decoder, &node);
        }
        diagnostics.iter_mut().for_each(Diagnostic::make_printable);
        diagnostics.sort_by_key(|diagnostic| diagnostic.span);
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        Ok(Self {
            keep: written.keep.unwrap_or_else(|| Self::default().keep),
            built_within: written.built_within.unwrap_or(2 * 3_600),
            names: written.names,
        })
    }
}

/// What a file says.
#[derive(Default)]
struct Written {
    keep: Option<Vec<KeepPolicy>>,
    built_within: Option<u64>,
    names: Vec<String>,
}

impl Written {
    fn read(&mut self, decoder: &mut Decoder<'_>, node: &Node) {
        let keys = ["keepPolicies", "keepBuiltWithin", "keep"];
        let Some(fields) = decoder.fields(node, "a file of policies", &keys) else { return };
        self.built_within = span_of_time(decoder, &fields, "keepBuiltWithin").or(self.built_within);
        self.names.extend(decoder.texts_of(&fields, "keep").into_iter().map(|name| name.value));
        if let Some(list) = fields.get("keepPolicies") {
            let items = decoder.items(list, "`keepPolicies`");
            let keep = self.keep.get_or_insert_default();
            keep.extend(items.iter().filter_map(|item| keep_policy(decoder, item)));
        }
    }
}

impl Default for CleanupPolicy {
    fn default() -> Self {
        Self::parse(DEFAULT).expect("a test reads the text")
    }
}

fn keep_policy(decoder: &mut Decoder<'_>, node: &Node) -> Option<KeepPolicy> {
    let fields = decoder.fields(node, "a policy", &["references", "imagesPerReference"])?;
    let Some(references) = fields.get("references") else {
        decoder.error("missing-key", fields.span, "a policy has `references`: which branches or tags");
        return None;
    };
    let images = match fields.get("imagesPerReference") {
        Some(node) => limit(decoder, node, "`imagesPerReference`")?,
        None => Limit { last: Some(1), ..Limit::default() },
    };
    let fields = decoder.fields(references, "`references`", &["branch", "tag", "limit"])?;
    let (kind, text) = match (decoder.text_of(&fields, "branch"), decoder.text_of(&fields, "tag")) {
        (Some(branch), None) => (ReferenceKind::Branch, branch),
        (None, Some(tag)) => (ReferenceKind::Tag, tag),
        _ => {
            let message = "`references` has either `branch` or `tag`, with a name or a /regular expression/";
            decoder.error("wrong-references", fields.span, message);
            return None;
        }
    };
    let pattern = pattern(decoder, text)?;
    let references =
        fields.get("limit").map_or(Some(Limit::default()), |node| limit(decoder, node, "`limit`"))?;
    Some(KeepPolicy { kind, pattern, references, images })
}

fn pattern(decoder: &mut Decoder<'_>, text: Spanned<String>) -> Option<NamePattern> {
    let inner = text.value.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    let Some(inner) = inner else { return Some(NamePattern::Name(text.value)) };
    match regex::Regex::new(inner) {
        Ok(expression) => Some(NamePattern::Expression(expression)),
        Err(error) => {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            decoder.error("wrong-expression", text.span, format!("a regular expression is wrong: {why}"));
            None
        }
    }
}

fn limit(decoder: &mut Decoder<'_>, node: &Node, section: &str) -> Option<Limit> {
    let fields = decoder.fields(node, section, &["last", "in", "operator"])?;
    let last = fields.get("last").and_then(|node| number(decoder, node));
    let within = span_of_time(decoder, &fields, "in");
    let operator = decoder.text_of(&fields, "operator").map_or(Some(Operator::And), |text| {
        match text.value.to_ascii_lowercase().as_str() {
            "and" => Some(Operator::And),
            "or" => Some(Operator::Or),
            _ => {
                decoder.error("wrong-operator", text.span, "`operator` is `And` or `Or`");
                None
            }
        }
    })?;
    Some(Limit { last, within, operator })
}

fn number(decoder: &mut Decoder<'_>, node: &Node) -> Option<usize> {
    if let Kind::Scalar(scalar) = &node.kind
        && !matches!(scalar.value, Value::Null)
        && let Ok(number) = scalar.text.parse()
    {
        return Some(number);
    }
    decoder.error("wrong-type", node.span, format!("`last` is a number, not {}", node.describe()));
    None
}

fn span_of_time(decoder: &mut Decoder<'_>, fields: &Fields<'_>, key: &str) -> Option<u64> {
    let text = decoder.text_of(fields, key)?;
    let found = seconds(&text.value);
    if found.is_none() {
        let message = format!("`{key}` is a span of time such as 90s, 15m, 24h or 7d");
        decoder.error("wrong-time", text.span, message);
    }
    found
}

/// The seconds of a span of time, as Go writes it: `90s`, `15m`, `24h`, `1h30m`; also days, `7d`.
#[must_use]
pub fn seconds(text: &str) -> Option<u64> {
    let mut seconds = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0)?;
        let number: u64 = rest[..digits].parse().ok()?;
        let factor = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            _ => return None,
        };
        seconds = number.checked_mul(factor).and_then(|part| seconds.checked_add(part))?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_the_specification_says() {
        let policy = CleanupPolicy::default();
        assert_eq!((policy.keep.len(), policy.built_within), (3, 7_200));
        let [tags, branches, main] = policy.keep.as_slice() else { panic!() };
        assert_eq!(
            (tags.kind, tags.references.last, tags.images.last),
            (ReferenceKind::Tag, Some(10), Some(1))
        );
        let week = Some(7 * 86_400);
        assert_eq!((branches.references.within, branches.images.within), (week, week));
        assert_eq!((branches.references.last, branches.images.last), (Some(10), Some(2)));
        assert!(main.pattern.matches("staging") && !main.pattern.matches("mainly"));
        assert_eq!((main.references, main.images.last), (Limit::default(), Some(2)));
    }

    #[test]
    fn limits_go_together() {
        let limit = |operator| Limit { last: Some(2), within: Some(100), operator };
        let allowed = |limit: Limit| {
            [(0, 50), (0, 150), (2, 50), (2, 150)].map(|(place, age)| limit.allows(place, age))
        };
        assert_eq!(allowed(limit(Operator::And)), [true, false, false, false]);
        assert_eq!(allowed(limit(Operator::Or)), [true, true, true, false]);
        assert_eq!(allowed(Limit { within: None, ..limit(Operator::Or) }), [true, true, false, false]);
        assert_eq!(allowed(Limit { last: None, ..limit(Operator::And) }), [true, false, true, false]);
        assert_eq!(allowed(Limit::default()), [true; 4]);
    }

    #[test]
    fn all_mistakes_are_told() {
        let text = "keepBuiltWithin: soon\nkeepPolicys: []\nkeepPolicies:\n- references: {tag: a, branch: b}\n\
                    - references: {tag: /(/}\n- imagesPerReference: {last: x}\n\
                    - references: {branch: x, limit: {operator: Xor}}\n";
        let found = CleanupPolicy::parse(text).unwrap_err();
        let told: Vec<_> = found.iter().map(|diagnostic| diagnostic.code).collect();
        let expected = [
            "wrong-time",
            "unknown-key",
            "wrong-references",
            "wrong-expression",
            "missing-key",
            "wrong-operator",
        ];
        assert_eq!(told, expected, "{found:#?}");
        let policy = CleanupPolicy::parse("keep: [v1]\nkeepPolicies:\n- references: {branch: x}\n").unwrap();
        assert_eq!((policy.names, policy.built_within), (vec!["v1".to_owned()], 7_200));
        assert_eq!(policy.keep[0].pattern.to_string(), "x");
        assert_eq!(policy.keep[0].images.last, Some(1));
        assert_eq!(
            CleanupPolicy::parse("keepBuiltWithin: 0s\n").unwrap().keep,
            CleanupPolicy::default().keep
        );
        assert!(CleanupPolicy::parse("keepPolicies: []\n").unwrap().keep.is_empty());
    }

    #[test]
    fn spans_of_time() {
        assert_eq!(seconds("1h30m"), Some(5_400));
        for wrong in ["", "1", "h", "1x", "99999999999999999999d", "9999999999999999999d"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
