//! Any value as a number: what is none is zero.

use crate::parse::literal;
use crate::value::Value;

/// A value as an integer; a fraction is cut off.
#[expect(clippy::cast_possible_truncation, reason = "a float out of range becomes the nearest integer")]
pub(crate) fn to_int(value: &Value) -> i64 {
    match value {
        Value::Int(value) => *value,
        Value::Float(value) => *value as i64,
        Value::Bool(value) => i64::from(*value),
        Value::String(text) => literal::integer(without_zero_fraction(text)).unwrap_or(0),
        _ => 0,
    }
}

/// A value as a float.
#[expect(clippy::cast_precision_loss, reason = "so does Go")]
pub(crate) fn to_float(value: &Value) -> f64 {
    match value {
        Value::Int(value) => *value as f64,
        Value::Float(value) => *value,
        Value::Bool(value) => f64::from(*value),
        Value::String(text) => literal::float(text).unwrap_or(0.0),
        _ => 0.0,
    }
}

/// `3.00` is an integer all the same.
fn without_zero_fraction(text: &str) -> &str {
    let cut = text.trim_end_matches('0');
    match cut.strip_suffix('.') {
        Some(whole) if cut.len() < text.len() => whole,
        _ => text,
    }
}
