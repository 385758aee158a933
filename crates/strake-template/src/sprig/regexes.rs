//! Regular expressions with the syntax of Go.
//!
//! Both Go and the crate used here descend from RE2 and match in linear time. What differs is rewritten: `\d`, `\w`, `\s` and
//! `\b` mean ASCII in Go, `\Q…\E` quotes, and `[` in a class is an ordinary character.

use regex::{Regex, RegexBuilder};

use crate::error::Fault;
use crate::function::{Answer, Call, Function};
use crate::limits::NODE;
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::of("regexMatch", 2, is_match),
    Function::of("mustRegexMatch", 2, is_match),
    Function::of("regexFind", 2, find),
    Function::of("mustRegexFind", 2, find),
    Function::of("regexFindAll", 3, find_all),
    Function::of("mustRegexFindAll", 3, find_all),
    Function::of("regexReplaceAll", 3, replace),
    Function::of("mustRegexReplaceAll", 3, replace),
    Function::of("regexReplaceAllLiteral", 3, replace_literally),
    Function::of("mustRegexReplaceAllLiteral", 3, replace_literally),
    Function::of("regexSplit", 3, split),
    Function::of("mustRegexSplit", 3, split),
    Function::of("regexQuoteMeta", 1, |call| call.make(quote_meta(call.text(0)?))),
];

/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 4096;

/// Sizes of compiled programs in bytes, and what each byte searched costs with one that is not larger: in the worst case the
/// time is the product of both. Compiling costs as much as a search of 32,000 bytes.
const SIZES: [(usize, usize); 2] = [(32 << 10, 4), (512 << 10, 64)];

/// A compiled expression.
struct Expression {
    regex: Regex,
    /// The longest text it can match, if there is a longest.
    reach: usize,
}

impl Expression {
    /// Pays for searching on after a match. Each search is linear, but one that may look ahead to the end of the text, as
    /// `.*b|a` does, makes all of them together quadratic.
    fn charge(&self, call: &Call<'_>, left: usize) -> Result<(), Fault> {
        call.meter.charge(NODE + self.reach.min(left) / 2)
    }

    /// Where it matches. Unlike the crate, Go takes no empty match right behind another match.
    fn matches<'t>(&self, text: &'t str) -> impl Iterator<Item = std::ops::Range<usize>> + use<'_, 't> {
        let mut last_end = None;
        self.regex.find_iter(text).map(|found| found.range()).filter(move |found| {
            let is_fresh = !(found.is_empty() && last_end == Some(found.start));
            last_end = Some(found.end);
            is_fresh
        })
    }
}

/// The expression in the first argument, paid for searching the second once.
fn expression(call: &Call<'_>) -> Result<Expression, Fault> {
    let (pattern, text) = (call.text(0)?, call.text(1)?);
    if pattern.len() > MAX_PATTERN {
        return Err(Fault::limit(format!("a regular expression longer than {MAX_PATTERN} bytes")));
    }
    call.meter.charge(pattern.len() * 1_000)?;
    let translated = translate(pattern).map_err(Fault::new)?;
    for (size, cost) in SIZES {
        call.meter.charge(cost * 32_000)?;
        match RegexBuilder::new(&translated).size_limit(size).dfa_size_limit(1 << 20).nest_limit(100).build()
        {
            Ok(regex) => {
                call.meter.charge(text.len().saturating_mul(cost))?;
                // What has just been compiled can be parsed; if not, it may look as far as it likes.
                let reach =
                    regex_syntax::parse(&translated).ok().and_then(|hir| hir.properties().maximum_len());
                return Ok(Expression { regex, reach: reach.unwrap_or(usize::MAX) });
            }
            Err(regex::Error::CompiledTooBig(_)) => {}
            Err(error) => {
                return Err(Fault::new(format!(
                    "{pattern:?} is not a regular expression: {}",
                    last_line(&error)
                )));
            }
        }
    }
    Err(Fault::limit("the regular expression is too large").hint("use smaller counts in {}"))
}

/// What is wrong, without the drawing of the pattern before it.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// Rewrites what means something else in Go.
fn translate(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len());
    let mut class = None;
    let mut left = pattern;
    while let Some(character) = left.chars().next() {
        let rest = &left[character.len_utf8()..];
        left = rest;
        match (character, &mut class) {
            ('\\', _) => left = escape(&mut out, rest, class.is_some())?,
            ('[', None) => {
                out.push('[');
                if let Some(rest) = left.strip_prefix('^') {
                    out.push('^');
                    left = rest;
                }
                class = Some(0);
            }
            ('[', Some(members)) => {
                *members += 1;
                match rest.strip_prefix(':').and_then(|name| name.find(":]")) {
                    Some(length) => {
                        out.push_str(&pattern[pattern.len() - rest.len() - 1..][..length + 4]);
                        left = &rest[length + 3..];
                    }
                    None => out.push_str("\\["),
                }
            }
            (']', Some(0)) => {
                class = Some(1);
                out.push_str("\\]"); // the first in a class is one of its members
            }
            (']', Some(_)) => {
                class = None;
                out.push(']');
            }
            ('&' | '~', Some(members)) => {
                *members += 1;
                out.extend(['\\', character]);
            }
            (_, Some(members)) => {
                *members += 1;
                out.push(character);
            }
            (_, None) => out.push(character),
        }
        if character == '\\' {
            class = class.map(|members| members + 1);
        }
    }
    Ok(out)
}

/// What follows a backslash; answers what is left behind it.
fn escape<'a>(out: &mut String, rest: &'a str, in_class: bool) -> Result<&'a str, String> {
    let mut characters = rest.chars();
    let set = match characters.next() {
        Some('d') => "[0-9]",
        Some('D') => "[^0-9]",
        Some('w') => "[0-9A-Za-z_]",
        Some('W') => "[^0-9A-Za-z_]",
        Some('s') => "[\\t\\n\\f\\r ]",
        Some('S') => "[^\\t\\n\\f\\r ]",
        Some('b') if !in_class => "(?-u:\\b)",
        Some('C') => return Err("\\C is not supported: text is not cut within characters".into()),
        Some('Q') => {
            let quoted = characters.as_str();
            let length = quoted.find("\\E").unwrap_or(quoted.len());
            out.push_str(&regex::escape(&quoted[..length]));
            return Ok(quoted[length..].strip_prefix("\\E").unwrap_or_default());
        }
        Some(other) => {
            out.extend(['\\', other]);
            ""
        }
        None => {
            out.push('\\');
            ""
        }
    };
    out.push_str(set);
    Ok(characters.as_str())
}

fn is_match(call: &Call<'_>) -> Answer {
    Ok(Value::Bool(expression(call)?.regex.is_match(call.text(1)?)))
}

fn find(call: &Call<'_>) -> Answer {
    let expression = expression(call)?;
    call.make(expression.regex.find(call.text(1)?).map_or("", |found| found.as_str()))
}

/// A limit of matches; a negative one is none.
fn most(limit: i64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn find_all(call: &Call<'_>) -> Answer {
    let expression = expression(call)?;
    let text = call.text(1)?;
    let mut found = Vec::new();
    for part in expression.matches(text).take(most(call.int(2)?)) {
        expression.charge(call, text.len() - part.end)?;
        call.meter.charge(part.len() + 2 * size_of::<Value>())?;
        found.push(Value::from(&text[part]));
    }
    Ok(found.into())
}

fn replace(call: &Call<'_>) -> Answer {
    let expression = expression(call)?;
    let template = call.text(2)?;
    replaced(call, &expression, |captures, out| expand(template, captures, out))
}

fn replace_literally(call: &Call<'_>) -> Answer {
    let expression = expression(call)?;
    let template = call.text(2)?;
    replaced(call, &expression, |_, out| out.push_str(template))
}

fn replaced(
    call: &Call<'_>,
    expression: &Expression,
    with: impl Fn(&regex::Captures<'_>, &mut String),
) -> Answer {
    let text = call.text(1)?;
    let mut out = String::new();
    let mut end = 0;
    let mut last_end = None;
    for captures in expression.regex.captures_iter(text) {
        let Some(found) = captures.get(0) else { continue };
        expression.charge(call, text.len() - found.end())?;
        if found.is_empty() && last_end == Some(found.start()) {
            continue;
        }
        last_end = Some(found.end());
        out.push_str(&text[end..found.start()]);
        with(&captures, &mut out);
        end = found.end();
        call.meter.charge(call.text(2)?.len())?;
        call.meter.fits(out.len())?;
    }
    out.push_str(&text[end..]);
    call.make(out)
}

/// `$1`, `${1}` and `${name}` of a replacement; a name is as long as it can be, and unknown ones are empty.
fn expand(template: &str, captures: &regex::Captures<'_>, out: &mut String) {
    let mut left = template;
    while let Some(at) = left.find('$') {
        out.push_str(&left[..at]);
        left = &left[at + 1..];
        if let Some(rest) = left.strip_prefix('$') {
            out.push('$');
            left = rest;
            continue;
        }
        let Some((name, rest)) = group_name(left) else {
            out.push('$');
            continue;
        };
        let group = match name.parse::<usize>() {
            Ok(number) => captures.get(number),
            Err(_) => captures.name(name),
        };
        out.push_str(group.map_or("", |group| group.as_str()));
        left = rest;
    }
    out.push_str(left);
}

fn group_name(text: &str) -> Option<(&str, &str)> {
    let (inner, braced) = match text.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let length = inner.find(|c: char| !(c == '_' || c.is_alphanumeric())).unwrap_or(inner.len());
    if length == 0 {
        return None;
    }
    let rest = &inner[length..];
    let rest = if braced { rest.strip_prefix('}')? } else { rest };
    Some((&inner[..length], rest))
}

fn split(call: &Call<'_>) -> Answer {
    let expression = expression(call)?;
    let text = call.text(1)?;
    let most = match call.int(2)? {
        0 => return Ok(Value::list([])),
        limit => most(limit),
    };
    if !call.text(0)?.is_empty() && text.is_empty() {
        return Ok(Value::list([Value::from("")]));
    }
    let mut pieces = Vec::new();
    let (mut start, mut end) = (0, 0);
    for found in expression.matches(text) {
        if pieces.len() + 1 >= most {
            break;
        }
        expression.charge(call, text.len() - found.end)?;
        end = found.start;
        if found.end != 0 {
            call.meter.charge(end - start + 2 * size_of::<Value>())?;
            pieces.push(Value::from(&text[start..end]));
        }
        start = found.end;
    }
    if end != text.len() {
        call.meter.text(text.len() - start)?;
        pieces.push(Value::from(&text[start..]));
    }
    Ok(pieces.into())
}

fn quote_meta(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if "\\.+*?()|[]{}^$".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, expect: &str) {
        assert_eq!(translate(pattern).unwrap(), expect);
    }

    #[test]
    fn what_means_something_else_in_go_is_rewritten() {
        check(r"\d+\.", r"[0-9]+\.");
        check(r"[^\w-]", r"[^[0-9A-Za-z_]-]");
        check(r"[[a]", r"[\[a]");
        check(r"[[:alpha:]&&]", r"[[:alpha:]\&\&]");
        check(r"[]a]", r"[\]a]");
        check(r"\Qa.b\Ec", r"a\.bc");
        check(r"\bx\\d", r"(?-u:\b)x\\d");
    }
}
