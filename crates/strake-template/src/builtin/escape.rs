//! `html`, `js` and `urlquery`: text made safe for another language.

use std::fmt::Write;

use crate::format;
use crate::function::{Answer, Call, Function};
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::from("html", 0, |call| escaped(call, html)),
    Function::from("js", 0, |call| escaped(call, js)),
    Function::from("urlquery", 0, |call| {
        escaped(call, |out, text| out.push_str(&percent_encode(text, query_byte)))
    }),
];

fn escaped(call: &Call<'_>, escape: fn(&mut String, &str)) -> Answer {
    let text = match call.arguments.as_slice() {
        [Value::String(text)] => text.to_string(),
        values => format::print(values, call.meter)?,
    };
    call.meter.product(text.len(), 6)?; // what one byte can become at most
    let mut out = String::with_capacity(text.len());
    escape(&mut out, &text);
    call.make(out)
}

fn html(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            _ => out.push(character),
        }
    }
}

fn js(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' | '\0'..' ' => unit(out, character),
            _ if character.is_ascii() || format::is_printable(character) => out.push(character),
            _ => unit(out, character),
        }
    }
}

fn unit(out: &mut String, character: char) {
    write!(out, "\\u{:04X}", u32::from(character)).expect("writing to a string does not fail");
}

/// Bytes that `keep` does not want become `%XX`, a blank that it does not want `+` if it says so.
pub(crate) fn percent_encode(text: &str, keep: fn(u8) -> Escape) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match keep(byte) {
            Escape::Keep => out.push(char::from(byte)),
            Escape::Plus => out.push('+'),
            Escape::Percent => write!(out, "%{byte:02X}").expect("writing to a string does not fail"),
        }
    }
    out
}

/// What becomes of a byte.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Escape {
    Keep,
    Plus,
    Percent,
}

fn query_byte(byte: u8) -> Escape {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => Escape::Keep,
        b' ' => Escape::Plus,
        _ => Escape::Percent,
    }
}
