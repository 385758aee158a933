//! JSON, as Go's `encoding/json` writes and reads it: keys in order, all numbers read as floats.

use std::fmt::Write;

use serde_json::Value as Json;

use crate::error::Fault;
use crate::format::shortest;
use crate::function::{Answer, Call, Function};
use crate::limits::{Meter, NODE, check_value_depth};
use crate::value::{Map, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::of("toJson", 1, |call| write(call, Style { html: true, indent: None })),
    Function::of("mustToJson", 1, |call| write(call, Style { html: true, indent: None })),
    Function::of("toPrettyJson", 1, |call| write(call, Style { html: true, indent: Some(0) })),
    Function::of("mustToPrettyJson", 1, |call| write(call, Style { html: true, indent: Some(0) })),
    Function::of("toRawJson", 1, |call| write(call, Style { html: false, indent: None })),
    Function::of("mustToRawJson", 1, |call| write(call, Style { html: false, indent: None })),
    Function::of("fromJson", 1, |call| Ok(read(call).unwrap_or_default())),
    Function::of("mustFromJson", 1, read),
];

#[derive(Debug, Clone, Copy)]
struct Style {
    /// Whether `<`, `>` and `&` are escaped.
    html: bool,
    /// The level of indentation, if lines are broken.
    indent: Option<usize>,
}

fn write(call: &Call<'_>, style: Style) -> Answer {
    let mut out = String::new();
    append(&mut out, call.any(0), style, call.meter, 0)?;
    call.make(out)
}

fn append(out: &mut String, value: &Value, style: Style, meter: &Meter, depth: usize) -> Result<(), Fault> {
    check_value_depth(depth)?;
    meter.charge(NODE)?;
    meter.fits(out.len())?;
    let inner = Style { indent: style.indent.map(|level| level + 1), ..style };
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => out.push_str(&value.to_string()),
        Value::Float(value) if value.is_finite() => out.push_str(&shortest(*value)),
        Value::Float(value) => return Err(Fault::new(format!("JSON has no number {value}"))),
        Value::String(text) => quote(out, text, style),
        Value::List(list) if list.is_empty() => out.push_str("[]"),
        Value::List(list) => {
            for (index, value) in list.iter().enumerate() {
                out.push(if index == 0 { '[' } else { ',' });
                break_line(out, inner);
                append(out, value, inner, meter, depth + 1)?;
            }
            break_line(out, style);
            out.push(']');
        }
        Value::Map(map) if map.is_empty() => out.push_str("{}"),
        Value::Map(map) => {
            for (index, (key, value)) in map.entries().iter().enumerate() {
                out.push(if index == 0 { '{' } else { ',' });
                break_line(out, inner);
                quote(out, key, style);
                out.push_str(if style.indent.is_some() { ": " } else { ":" });
                append(out, value, inner, meter, depth + 1)?;
            }
            break_line(out, style);
            out.push('}');
        }
        Value::Time(time) => {
            quote(out, &super::dates::layout::format("2006-01-02T15:04:05.999999999Z07:00", &time.0), style);
        }
        Value::Object(object) => quote(out, object.text(), style),
    }
    Ok(())
}

fn break_line(out: &mut String, style: Style) {
    if let Some(level) = style.indent {
        out.push('\n');
        out.push_str(&"  ".repeat(level));
    }
}

fn quote(out: &mut String, text: &str, style: Style) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' if !style.html => out.push(character),
            '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                write!(out, "\\u{:04x}", u32::from(character)).expect("writing to a string does not fail");
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

fn read(call: &Call<'_>) -> Answer {
    let text = call.text(0)?;
    // A value takes up to this much more memory than its text.
    call.meter.charge(text.len().saturating_mul(2 * NODE))?;
    let json: Json = serde_json::from_str(text).map_err(|error| Fault::new(format!("not JSON: {error}")))?;
    Ok(value(json))
}

/// The parser limits the depth to 128, so recursion is safe here.
fn value(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => text.into(),
        Json::Array(values) => Value::list(values.into_iter().map(value)),
        Json::Object(entries) => {
            Value::Map(Map::from_iter(entries.into_iter().map(|(key, json)| (key, value(json)))))
        }
    }
}
