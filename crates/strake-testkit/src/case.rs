//! The cases of the oracle suite as text.
//!
//! ```text
//! === name-of-the-case
//! # why it is there
//! with: buildkit              builders that must agree with strake; default: classic buildkit; or: none
//! args: --build-arg A=1       arguments of `build`, split at spaces; may be repeated
//! context: sub                the build context; default: .
//! refused: yes                every builder must refuse it
//! says: unknown instruction   strake's error output must contain this
//! expect: out/a file "x\n" 0644 0:0     what must be at a path; or: absent
//! expect-config: Env ["A=1"]  a field of the normalised config; null: not there
//! --- !before NAME            a Dockerfile; its image is there under NAME before the case is built
//! --- !setup                  a shell script, run in the case's directory after its files are written
//! --- Dockerfile              any other name: a file of the case with this content
//! ```
//!
//! The content of a file ends with one newline however many blank lines follow it; files of another shape
//! (no newline at the end, no text) are made by the setup script.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Failure, Outcome};

/// Which of docker's two builders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Builder {
    /// `DOCKER_BUILDKIT=0`.
    Classic,
    /// `DOCKER_BUILDKIT=1`.
    BuildKit,
}

impl Builder {
    /// Its name in case files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::BuildKit => "buildkit",
        }
    }
}

/// One Dockerfile with all that belongs to it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Name, unique in the suite.
    pub name: String,
    /// The builders that have the feature.
    pub builders: Vec<Builder>,
    /// Arguments of `build`.
    pub args: Vec<String>,
    /// The build context, relative to the case's directory.
    pub context: String,
    /// Whether it must be refused.
    pub refused: bool,
    /// What strake's error output must contain.
    pub says: Vec<String>,
    /// What must hold of strake's image, beside equality with the builders.
    pub expectations: Vec<Expectation>,
    /// Files by path.
    pub files: BTreeMap<String, String>,
    /// Dockerfiles of images that must be there before, in order, with their names.
    pub before: Vec<(String, String)>,
    /// Shell script that completes the case's directory.
    pub setup: String,
}

/// One thing written in a case about its image.
#[derive(Clone, Debug, PartialEq)]
pub enum Expectation {
    /// At the path stands this, in the form of [`crate::Node`]'s `Display`; `None`: nothing.
    Path(String, Option<String>),
    /// A field of the normalised config.
    Config(String, Value),
}

/// A difference that stays, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDifference {
    /// The case.
    pub case: String,
    /// The builder that differs.
    pub builder: String,
    /// The path or config field that differs.
    pub place: String,
    /// Why it is to stay.
    pub reason: String,
}

/// Parses a file of cases.
///
/// # Errors
/// Names the line that is not understood.
pub fn parse_cases(text: &str) -> Outcome<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    let mut section: Option<String> = None;
    let mut body = String::new();
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: &str| Failure::new(format!("line {}: {what}: {line}", number + 1));
        let header = line.strip_prefix("=== ");
        if (header.is_some() || line.starts_with("--- "))
            && let Some(section) = section.take()
        {
            let case = cases.last_mut().ok_or_else(|| wrong("a file before the first case"))?;
            case.add_section(&section, &std::mem::take(&mut body));
        }
        if let Some(name) = header {
            cases.push(Case::named(name.trim()));
        } else if let Some(name) = line.strip_prefix("--- ") {
            section = Some(name.trim().to_owned());
        } else if section.is_some() {
            body.push_str(line);
            body.push('\n');
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            let case = cases.last_mut().ok_or_else(|| wrong("a setting before the first case"))?;
            case.set(line).map_err(|what| wrong(&what))?;
        }
    }
    if let (Some(section), Some(case)) = (section, cases.last_mut()) {
        case.add_section(&section, &body);
    }
    Ok(cases)
}

/// Parses the list of known differences: `case builder place: reason` per line, `#` for comments.
///
/// # Errors
/// Names the line that is not understood.
pub fn parse_known_differences(text: &str) -> Outcome<Vec<KnownDifference>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let parsed = line.split_once(": ").and_then(|(head, reason)| {
                let mut words = head.splitn(3, ' ');
                let mut word = || words.next().map(str::to_owned);
                Some(KnownDifference {
                    case: word()?,
                    builder: word()?,
                    place: word()?,
                    reason: reason.trim().into(),
                })
            });
            parsed.ok_or_else(|| Failure::new(format!("not `case builder place: reason`: {line}")))
        })
        .collect()
}

impl Case {
    fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            builders: vec![Builder::Classic, Builder::BuildKit],
            args: Vec::new(),
            context: ".".into(),
            refused: false,
            says: Vec::new(),
            expectations: Vec::new(),
            files: BTreeMap::new(),
            before: Vec::new(),
            setup: String::new(),
        }
    }

    fn set(&mut self, line: &str) -> Result<(), String> {
        let (key, value) = line.split_once(':').ok_or("no setting")?;
        let value = value.trim();
        match key {
            "with" => {
                self.builders =
                    value.split_whitespace().map(builders).collect::<Result<Vec<_>, _>>()?.concat()
            }
            "args" => self.args.extend(value.split_whitespace().map(str::to_owned)),
            "context" => self.context = value.into(),
            "refused" => self.refused = value == "yes",
            "says" => self.says.push(value.into()),
            "expect" => {
                let (path, node) = value.split_once(' ').ok_or("a path and what is there")?;
                let node = Some(node.trim().to_owned()).filter(|node| node != "absent");
                self.expectations.push(Expectation::Path(path.into(), node));
            }
            "expect-config" => {
                let (field, value) = value.split_once(' ').ok_or("a field and its value")?;
                let value = serde_json::from_str(value).map_err(|error| error.to_string())?;
                self.expectations.push(Expectation::Config(field.into(), value));
            }
            _ => return Err("unknown setting".into()),
        }
        Ok(())
    }

    fn add_section(&mut self, name: &str, body: &str) {
        let body = format!("{}\n", body.trim_end_matches('\n'));
        if name == "!setup" {
            self.setup = body;
        } else if let Some(image) = name.strip_prefix("!before ") {
            self.before.push((image.trim().into(), body));
        } else {
            self.files.insert(name.into(), body);
        }
    }
}

fn builders(word: &str) -> Result<Vec<Builder>, String> {
    match word {
        "classic" => Ok(vec![Builder::Classic]),
        "buildkit" => Ok(vec![Builder::BuildKit]),
        "none" => Ok(Vec::new()),
        _ => Err("unknown builder".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_has_settings_files_and_expectations() {
        let text = "=== one\n# why\nwith: buildkit\nargs: --build-arg A=1\nexpect: a/b absent\n--- Dockerfile\nFROM x\n\n\
                    === two\nrefused: yes\n--- !setup\ntrue\n--- !before base\nFROM y\n";
        let cases = parse_cases(text).unwrap();
        assert_eq!(cases.len(), 2);
        assert_eq!(cases[0].builders, [Builder::BuildKit]);
        assert_eq!(cases[0].args, ["--build-arg", "A=1"]);
        assert_eq!(cases[0].files["Dockerfile"], "FROM x\n");
        assert_eq!(cases[0].expectations, [Expectation::Path("a/b".into(), None)]);
        assert!(cases[1].refused);
        assert_eq!(cases[1].before, [("base".to_owned(), "FROM y\n".to_owned())]);
        assert_eq!(cases[1].setup, "true\n");
    }

    #[test]
    fn a_setting_that_is_not_known_is_refused_with_its_line() {
        let failure = parse_cases("=== one\ncolour: red\n").unwrap_err();
        assert_eq!(failure.to_string(), "line 2: unknown setting: colour: red");
    }
}
