//! Addresses and their parts.

use crate::builtin::{Escape, percent_encode};
use crate::error::Fault;
use crate::function::{Answer, Call, Function};
use crate::value::{Map, Value};

pub(super) const FUNCTIONS: &[Function] =
    &[Function::of("urlParse", 1, parse), Function::of("urlJoin", 1, join)];

fn parse(call: &Call<'_>) -> Answer {
    let text = call.text(0)?;
    call.meter.text(text.len())?;
    let bad = |why: &str| Fault::new(format!("{text:?} is not a URL: {why}"));
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err(bad("it has control characters"));
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (scheme, rest) = split_scheme(rest).ok_or_else(|| bad("the scheme is missing or wrong"))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut opaque = "";
    let mut path = rest;
    let mut authority = "";
    if !rest.starts_with('/') && !scheme.is_empty() {
        (opaque, path) = (rest, "");
    } else if let Some(rest) = rest.strip_prefix("//") {
        let end = rest.find('/').unwrap_or(rest.len());
        (authority, path) = rest.split_at(end);
    } else if rest.split('/').next().unwrap_or_default().contains(':') {
        return Err(bad("the first segment of the path has a colon"));
    }
    let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let decoded = |text| percent_decode(text).ok_or_else(|| bad("it has a wrong percent escape"));
    let entries = [
        ("scheme", scheme.to_lowercase()),
        ("userinfo", userinfo.to_owned()),
        ("host", host.to_owned()),
        ("hostname", hostname(host).to_owned()),
        ("path", decoded(path)?),
        ("query", query.to_owned()),
        ("opaque", opaque.to_owned()),
        ("fragment", decoded(fragment)?),
    ];
    Ok(Map::from_iter(entries).into())
}

/// The scheme, and what follows its colon; an empty one if there is none.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let length = text.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(text.len());
    if !text[length..].starts_with(':') {
        return Some(("", text));
    }
    let is_good = text.starts_with(|first: char| first.is_ascii_alphabetic());
    match (length, is_good) {
        (0, _) => None,
        (_, true) => Some((&text[..length], &text[length + 1..])),
        (_, false) => Some(("", text)),
    }
}

/// The host without its port and brackets.
fn hostname(host: &str) -> &str {
    if let Some((inner, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inner;
    }
    host.split(':').next().unwrap_or(host)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.as_bytes();
    while let Some((first, rest)) = left.split_first() {
        left = rest;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(left.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        left = &left[2..];
    }
    String::from_utf8(bytes).ok()
}

fn join(call: &Call<'_>) -> Answer {
    let map = call.map(0)?;
    let part = |key: &str| match map.get(key) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.to_string()),
        Some(other) => Err(Fault::new(format!("{key} must be of type string, but is {}", other.type_name()))),
    };
    let (scheme, host, path, opaque) = (part("scheme")?, part("host")?, part("path")?, part("opaque")?);
    let (query, fragment, userinfo) = (part("query")?, part("fragment")?, part("userinfo")?);
    call.meter.product(path.len() + fragment.len(), 3)?;
    let mut out = String::new();
    if !scheme.is_empty() {
        out.push_str(&format!("{scheme}:"));
    }
    if opaque.is_empty() {
        let local = host.is_empty() && userinfo.is_empty();
        if !(local && (scheme.is_empty() || path.is_empty())) {
            out.push_str("//");
            if !userinfo.is_empty() {
                out.push_str(&format!("{userinfo}@"));
            }
            out.push_str(&host);
            if !path.is_empty() && !path.starts_with('/') && !host.is_empty() {
                out.push('/');
            }
        }
        if out.is_empty() && path.split('/').next().is_some_and(|first| first.contains(':')) {
            out.push_str("./"); // otherwise it would be read as a scheme
        }
        out.push_str(&percent_encode(&path, path_byte));
    } else {
        out.push_str(&opaque);
    }
    if !query.is_empty() {
        out.push_str(&format!("?{query}"));
    }
    if !fragment.is_empty() {
        out.push_str(&format!("#{}", percent_encode(&fragment, fragment_byte)));
    }
    call.make(out)
}

fn path_byte(byte: u8) -> Escape {
    let keeps = byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte);
    if keeps { Escape::Keep } else { Escape::Percent }
}

fn fragment_byte(byte: u8) -> Escape {
    let keeps = byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=?@!()*".contains(&byte);
    if keeps { Escape::Keep } else { Escape::Percent }
}
