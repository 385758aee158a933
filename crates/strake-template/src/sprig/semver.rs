//! Versions, and conditions on them.

use std::cmp::Ordering;

use crate::error::Fault;
use crate::function::{Answer, Call, Function};
use crate::object::Object;
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::of("semver", 1, |call| {
        let text = call.text(0)?;
        Ok(object(text.to_string(), parse(text)?).into())
    }),
    Function::of("semverCompare", 2, compare),
];

/// The longest version or condition, in bytes.
const MAX_LENGTH: usize = 1024;

#[derive(Debug, Clone, PartialEq)]
struct Version {
    /// Major, minor, patch.
    numbers: [u64; 3],
    pre: String,
    metadata: String,
}

impl std::fmt::Display for Version {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(formatter, "{major}.{minor}.{patch}")?;
        if !self.pre.is_empty() {
            write!(formatter, "-{}", self.pre)?;
        }
        if !self.metadata.is_empty() {
            write!(formatter, "+{}", self.metadata)?;
        }
        Ok(())
    }
}

impl Version {
    /// Semantic Versioning 2.0 §11.
    fn order(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| order_of_pre_releases(&self.pre, &other.pre))
    }
}

fn order_of_pre_releases(a: &str, b: &str) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut left, mut right) = (a.split('.'), b.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Reads a version; a leading `v` and missing parts are fine.
fn parse(text: &str) -> Result<Version, Fault> {
    let pattern = pattern(text)?;
    match pattern.wild {
        Some(first) if text.contains(['x', 'X', '*']) && first < 3 && pattern.has_sign => {
            Err(not_a_version(text))
        }
        _ => Ok(pattern.version),
    }
}

fn not_a_version(text: &str) -> Fault {
    Fault::new(format!("{text:?} is not a semantic version"))
}

/// A version of which parts may be missing, or be `x` or `*`.
struct Pattern {
    version: Version,
    /// The first part that is missing or any.
    wild: Option<usize>,
    /// Whether a part is written as `x` or `*`.
    has_sign: bool,
}

fn pattern(text: &str) -> Result<Pattern, Fault> {
    let bad = || not_a_version(text);
    if text.len() > MAX_LENGTH {
        return Err(Fault::new("a version is not that long"));
    }
    let body = text.strip_prefix('v').unwrap_or(text);
    let (body, metadata) =
        body.split_once('+').map_or((body, None), |(body, metadata)| (body, Some(metadata)));
    let (body, pre) = body.split_once('-').map_or((body, None), |(body, pre)| (body, Some(pre)));
    for suffix in [metadata, pre].into_iter().flatten() {
        let good =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !suffix.split('.').all(good) {
            return Err(bad());
        }
    }
    let parts: Vec<&str> = body.split('.').collect();
    if parts.len() > 3 {
        return Err(bad());
    }
    let mut numbers = [0; 3];
    let mut wild = None;
    for (index, number) in numbers.iter_mut().enumerate() {
        match parts.get(index) {
            None | Some(&("x" | "X" | "*")) => wild = wild.or(Some(index)),
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                *number = digits.parse().map_err(|_| bad())?;
            }
            Some(_) => return Err(bad()),
        }
    }
    for number in numbers.iter_mut().skip(wild.unwrap_or(3)) {
        *number = 0;
    }
    let has_sign = parts.iter().any(|part| matches!(*part, "x" | "X" | "*"));
    let version = Version {
        numbers,
        pre: pre.unwrap_or_default().into(),
        metadata: metadata.unwrap_or_default().into(),
    };
    Ok(Pattern { version, wild, has_sign })
}

fn object(original: String, version: Version) -> Object {
    let [major, minor, patch] = version.numbers;
    let number = |number: u64| move |_: &[Value]| Ok(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)));
    let (pre, metadata, text) = (version.pre.clone(), version.metadata.clone(), version.to_string());
    let printed = text.clone();
    Object::new("*semver.Version")
        .printed_as(printed)
        .method("Major", number(major))
        .method("Minor", number(minor))
        .method("Patch", number(patch))
        .method("Prerelease", move |_| Ok(pre.as_str().into()))
        .method("Metadata", move |_| Ok(metadata.as_str().into()))
        .method("Original", move |_| Ok(original.as_str().into()))
        .method("String", move |_| Ok(text.as_str().into()))
        .method("Compare", move |arguments| match arguments {
            [Value::Object(other)] => {
                let other = parse(other.text()).map_err(|_| "expected a version".to_owned())?;
                Ok(Value::Int(version.order(&other) as i64))
            }
            _ => Err("expected a version".into()),
        })
}

fn compare(call: &Call<'_>) -> Answer {
    let (condition, text) = (call.text(0)?, call.text(1)?);
    if condition.len() > MAX_LENGTH {
        return Err(Fault::new("a condition is not that long"));
    }
    let version = parse(text)?;
    let mut fits = false;
    for alternative in condition.split("||") {
        fits |= fits_all(alternative, &version)?;
    }
    Ok(Value::Bool(fits))
}

/// Whether the version fits all conditions between commas or blanks; `a - b` is a range.
fn fits_all(conditions: &str, version: &Version) -> Result<bool, Fault> {
    let mut words: Vec<String> = Vec::new();
    for word in conditions.replace(',', " ").split_whitespace() {
        match words.last_mut() {
            // An operator may stand apart from its version.
            Some(last) if last.ends_with(['=', '<', '>', '~', '^', '!']) => last.push_str(word),
            _ => words.push(word.to_owned()),
        }
    }
    if words.is_empty() {
        return Err(Fault::new("the condition on the version is empty"));
    }
    let mut fits = true;
    let mut index = 0;
    while index < words.len() {
        if words.get(index + 1).is_some_and(|word| word == "-") {
            let Some(end) = words.get(index + 2) else {
                return Err(Fault::new("a range of versions has no end"));
            };
            fits &= fits_one(">=", &words[index], version)? && fits_one("<=", end, version)?;
            index += 3;
            continue;
        }
        let word = &words[index];
        let length = word.find(|c: char| !"=<>~^!".contains(c)).unwrap_or(word.len());
        fits &= fits_one(&word[..length], &word[length..], version)?;
        index += 1;
    }
    Ok(fits)
}

fn fits_one(operator: &str, text: &str, version: &Version) -> Result<bool, Fault> {
    let Pattern { version: wanted, wild, .. } = pattern(text)?;
    // A pre-release fits only a condition that names one.
    if !version.pre.is_empty() && wanted.pre.is_empty() {
        return Ok(false);
    }
    let order = version.order(&wanted);
    let known = wild.unwrap_or(3);
    let same_known = version.numbers[..known] == wanted.numbers[..known];
    Ok(match operator {
        "" | "=" if wild.is_some() => order.is_ge() && same_known,
        "" | "=" => order.is_eq(),
        "!=" if wild.is_some() => !same_known,
        "!=" => order.is_ne(),
        ">" if wild.is_some() => order.is_gt() && !same_known,
        ">" => order.is_gt(),
        "<" => order.is_lt(),
        ">=" | "=>" => order.is_ge(),
        "<=" | "=<" if wild.is_some() => order.is_lt() || same_known,
        "<=" | "=<" => order.is_le(),
        "~" | "~>" => {
            let kept = known.min(2);
            order.is_ge() && version.numbers[..kept] == wanted.numbers[..kept]
        }
        "^" => {
            // The first number that is not zero may not change, nor what stands before it.
            let leading = wanted.numbers.iter().position(|number| *number != 0).unwrap_or(2);
            let kept = (leading + 1).min(known.max(1));
            order.is_ge() && (known == 0 || version.numbers[..kept] == wanted.numbers[..kept])
        }
        _ => return Err(Fault::new(format!("{operator:?} is not an operator of versions"))),
    })
}
