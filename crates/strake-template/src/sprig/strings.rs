//! Text.

use std::rc::Rc;

use crate::error::Fault;
use crate::format;
use crate::function::{Answer, Call, Function};
use crate::limits::{MAP, NODE};
use crate::value::{Map, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::of("hello", 0, |call| call.make("Hello!")),
    Function::of("trim", 1, |call| call.make(call.text(0)?.trim())),
    Function::of("trimAll", 2, trim_all),
    Function::of("trimall", 2, trim_all),
    Function::of("trimSuffix", 2, |call| {
        let text = call.text(1)?;
        call.make(text.strip_suffix(&**call.text(0)?).unwrap_or(text))
    }),
    Function::of("trimPrefix", 2, |call| {
        let text = call.text(1)?;
        call.make(text.strip_prefix(&**call.text(0)?).unwrap_or(text))
    }),
    Function::of("upper", 1, |call| call.make(per_character(call.text(0)?, upper))),
    Function::of("lower", 1, |call| call.make(per_character(call.text(0)?, lower))),
    Function::of("repeat", 2, repeat),
    Function::of("substr", 3, substr),
    Function::of("trunc", 2, trunc),
    Function::of("abbrev", 2, |call| abbreviate(call, 0, call.int(0)?, call.text(1)?)),
    Function::of("abbrevboth", 3, |call| abbreviate(call, call.int(0)?, call.int(1)?, call.text(2)?)),
    Function::of("contains", 2, |call| Ok(Value::Bool(call.text(1)?.contains(&**call.text(0)?)))),
    Function::of("hasPrefix", 2, |call| Ok(Value::Bool(call.text(1)?.starts_with(&**call.text(0)?)))),
    Function::of("hasSuffix", 2, |call| Ok(Value::Bool(call.text(1)?.ends_with(&**call.text(0)?)))),
    Function::from("quote", 0, |call| quote(call, format::quote)),
    Function::from("squote", 0, |call| quote(call, |text| format!("'{text}'"))),
    Function::from("cat", 0, cat),
    Function::of("indent", 2, |call| indent(call, "")),
    Function::of("nindent", 2, |call| indent(call, "\n")),
    Function::of("replace", 3, replace),
    Function::of("plural", 3, |call| Ok(call.any(usize::from(call.int(2)? != 1)).clone())),
    Function::of("toString", 1, |call| Ok(Value::String(call.printed(call.any(0))?))),
    Function::of("toStrings", 1, |call| {
        Ok(Value::list(texts(call, call.any(0))?.into_iter().map(Value::String)))
    }),
    Function::of("join", 2, join),
    Function::of("sortAlpha", 1, sort_alpha),
    Function::of("split", 2, |call| Ok(numbered(pieces(call, call.text(0)?, -1, call.text(1)?)?))),
    Function::of("splitn", 3, |call| Ok(numbered(pieces(call, call.text(0)?, call.int(1)?, call.text(2)?)?))),
    Function::of("splitList", 2, |call| Ok(Value::list(pieces(call, call.text(0)?, -1, call.text(1)?)?))),
];

fn trim_all(call: &Call<'_>) -> Answer {
    let (set, text) = (call.text(0)?, call.text(1)?);
    call.meter.product(set.len(), text.len())?;
    call.make(text.trim_matches(|character| set.contains(character)))
}

/// Go maps characters one by one, so `ß` stays what it is.
fn per_character(text: &str, change: fn(char) -> char) -> String {
    text.chars().map(change).collect()
}

/// The capital letter, where that is one character.
pub(super) fn upper(character: char) -> char {
    let mut upper = character.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None) => upper,
        _ => character,
    }
}

/// The small letter, where that is one character.
pub(super) fn lower(character: char) -> char {
    let mut lower = character.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(lower), None) => lower,
        _ => character,
    }
}

fn repeat(call: &Call<'_>) -> Answer {
    let (count, text) = (call.int(0)?, call.text(1)?);
    let count = usize::try_from(count).map_err(|_| Fault::new(format!("negative count {count}")))?;
    call.meter.product(count, text.len())?;
    Ok(text.repeat(count).into())
}

/// A text from one byte to before another; both move down to where a character starts.
fn cut(text: &str, start: usize, end: usize) -> &str {
    &text[text.floor_char_boundary(start)..text.floor_char_boundary(end)]
}

fn substr(call: &Call<'_>) -> Answer {
    let (start, end, text) = (call.int(0)?, call.int(1)?, call.text(2)?);
    let length = text.len();
    let whole = |value: i64| usize::try_from(value).unwrap_or(0);
    let (start, end) = match (start, end) {
        (..0, end) => (0, usize::try_from(end).unwrap_or(usize::MAX)),
        (start, ..0) => (whole(start), length),
        (start, end) => (whole(start), whole(end).min(length)),
    };
    if start > end || end > length {
        return Err(Fault::new(format!(
            "positions {start} to {end} are not within a text of {length} bytes"
        )));
    }
    call.make(cut(text, start, end))
}

fn trunc(call: &Call<'_>) -> Answer {
    let (count, text) = (call.int(0)?, call.text(1)?);
    let length = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX).min(text.len());
    call.make(if count < 0 { cut(text, text.len() - length, text.len()) } else { cut(text, 0, length) })
}

/// At most `width` bytes of a text, with three dots in place of what is left out; from about `offset` on.
fn abbreviate(call: &Call<'_>, offset: i64, width: i64, text: &str) -> Answer {
    if width < 4 || (offset > 0 && width < 7) {
        return call.make(text);
    }
    let width = usize::try_from(width).unwrap_or(usize::MAX);
    let length = text.len();
    if length <= width {
        return call.make(text);
    }
    let kept = width - 3;
    let offset = usize::try_from(offset).unwrap_or(0).min(length).min(length - kept);
    if offset <= 4 {
        return call.make(format!("{}...", cut(text, 0, kept)));
    }
    if offset + kept < length {
        return call.make(format!("...{}...", cut(text, offset, offset + kept - 3)));
    }
    call.make(format!("...{}", cut(text, length - kept, length)))
}

fn present<'a>(call: &'a Call<'_>) -> impl Iterator<Item = &'a Value> {
    call.arguments.iter().filter(|value| !matches!(value, Value::Null))
}

fn quote(call: &Call<'_>, quote: fn(&str) -> String) -> Answer {
    let mut quoted = Vec::new();
    for value in present(call) {
        let text = call.printed(value)?;
        call.meter.product(text.len(), 4)?;
        quoted.push(quote(&text));
    }
    call.make(quoted.join(" "))
}

fn cat(call: &Call<'_>) -> Answer {
    let texts: Vec<Rc<str>> = present(call).map(|value| call.printed(value)).collect::<Result<_, _>>()?;
    call.make(texts.join(" "))
}

fn indent(call: &Call<'_>, before: &str) -> Answer {
    let (width, text) = (call.int(0)?, call.text(1)?);
    let width = usize::try_from(width).map_err(|_| Fault::new(format!("negative count {width}")))?;
    let breaks = text.bytes().filter(|byte| *byte == b'\n').count();
    call.meter.product(breaks + 1, width)?;
    let pad = " ".repeat(width);
    call.make(format!("{before}{pad}{}", text.replace('\n', &format!("\n{pad}"))))
}

fn replace(call: &Call<'_>) -> Answer {
    let (old, new, text) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let places = text.matches(&**old).count();
    call.meter.product(places, new.len())?;
    call.make(text.replace(&**old, new))
}

/// The elements of a list as text, without those that are nil; any other value as a list of one.
fn texts(call: &Call<'_>, value: &Value) -> Result<Vec<Rc<str>>, Fault> {
    if let Value::List(list) = value {
        call.meter.charge(list.len() * NODE)?;
    }
    match value {
        Value::List(list) => list
            .iter()
            .filter(|value| !matches!(value, Value::Null))
            .map(|value| call.printed(value))
            .collect(),
        Value::Null => Ok(Vec::new()),
        other => Ok(vec![call.printed(other)?]),
    }
}

fn join(call: &Call<'_>) -> Answer {
    let (separator, texts) = (call.text(0)?, texts(call, call.any(1))?);
    let length = texts.iter().map(|text| text.len()).fold(0usize, usize::saturating_add);
    call.meter.text(separator.len().saturating_mul(texts.len()).saturating_add(length))?;
    Ok(texts.join(&**separator).into())
}

fn sort_alpha(call: &Call<'_>) -> Answer {
    let mut texts = texts(call, call.any(0))?;
    if let Value::List(_) = call.any(0) {
        let length = texts.iter().map(|text| text.len()).sum::<usize>();
        // As many comparisons per text as its place in the sorted list has bits.
        call.meter.charge(length.saturating_mul(texts.len().max(1).ilog2() as usize + 1))?;
        texts.sort_unstable();
    }
    Ok(Value::list(texts.into_iter().map(Value::String)))
}

/// The pieces of a text between separators, at most `most` if that is not negative; characters if the separator is empty.
fn pieces(call: &Call<'_>, separator: &str, most: i64, text: &str) -> Result<Vec<Value>, Fault> {
    let most = match most {
        0 => return Ok(Vec::new()),
        ..0 => usize::MAX,
        most => usize::try_from(most).unwrap_or(usize::MAX),
    };
    let count = if separator.is_empty() { text.len() } else { text.matches(separator).count() + 1 };
    call.meter.charge(MAP)?; // the pieces may become a map
    call.meter.charge(count.min(most).saturating_mul(4 * size_of::<Value>()))?;
    if !separator.is_empty() {
        return Ok(text.splitn(most, separator).map(Value::from).collect());
    }
    let mut starts = text.char_indices().map(|(at, _)| at).skip(1);
    let mut found = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let next = if found.len() + 1 == most { None } else { starts.next() };
        let end = next.unwrap_or(text.len());
        found.push(Value::from(&text[start..end]));
        start = end;
    }
    Ok(found)
}

/// Pieces under the keys `_0`, `_1` and so on.
fn numbered(pieces: Vec<Value>) -> Value {
    Value::Map(Map::from_iter(
        pieces.into_iter().enumerate().map(|(index, piece)| (format!("_{index}"), piece)),
    ))
}
