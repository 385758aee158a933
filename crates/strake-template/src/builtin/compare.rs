//! `eq`, `lt` and the others: only what is of one basic kind can be compared.

use std::cmp::Ordering;

use crate::error::Fault;
use crate::function::{Answer, Call, Function};
use crate::limits::{Meter, NODE, check_value_depth};
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::from("eq", 1, equal_to_any),
    Function::of("ne", 2, |call| Ok(Value::Bool(!equal(call.any(0), call.any(1))?))),
    Function::of("lt", 2, |call| is(call, Ordering::is_lt)),
    Function::of("le", 2, |call| is(call, Ordering::is_le)),
    Function::of("gt", 2, |call| is(call, Ordering::is_gt)),
    Function::of("ge", 2, |call| is(call, Ordering::is_ge)),
];

fn equal_to_any(call: &Call<'_>) -> Answer {
    if call.count() == 1 {
        return Err(Fault::new("missing argument for comparison"));
    }
    for other in call.from(1) {
        if equal(call.any(0), other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

/// Whether two values are the same, as `==` of Go.
pub(crate) fn equal(a: &Value, b: &Value) -> Result<bool, Fault> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a), Value::Int(b)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::String(a), Value::String(b)) => Ok(a == b),
        (Value::Object(a), Value::Object(b)) => Ok(a.is(b)),
        (Value::Time(a), Value::Time(b)) => Ok(a.0 == b.0),
        (Value::Null, Value::Null) => Ok(true),
        (Value::Null, _) | (_, Value::Null) => Ok(false),
        (Value::List(_), Value::List(_)) | (Value::Map(_), Value::Map(_)) => {
            let message = format!("values of type {} cannot be compared", a.type_name());
            Err(Fault::new(message).hint("deepEqual compares lists and maps"))
        }
        _ => Err(incompatible(a, b)),
    }
}

fn incompatible(a: &Value, b: &Value) -> Fault {
    Fault::new(format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name()))
        .hint("convert one of them with int, float64 or toString")
}

fn is(call: &Call<'_>, wanted: fn(Ordering) -> bool) -> Answer {
    let (a, b) = (call.any(0), call.any(1));
    let order = match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (
            Value::Int(_) | Value::Float(_) | Value::String(_),
            Value::Int(_) | Value::Float(_) | Value::String(_),
        ) => {
            return Err(incompatible(a, b));
        }
        _ => {
            let odd = if matches!(a, Value::Int(_) | Value::Float(_) | Value::String(_)) { b } else { a };
            return Err(Fault::new(format!("invalid type for comparison: {}", odd.type_name())));
        }
    };
    Ok(Value::Bool(order.is_some_and(wanted)))
}

/// Whether two values are the same all the way down.
pub(crate) fn deep_equal(a: &Value, b: &Value, meter: &Meter) -> Result<bool, Fault> {
    deep_equal_at(a, b, meter, 0)
}

fn deep_equal_at(a: &Value, b: &Value, meter: &Meter, depth: usize) -> Result<bool, Fault> {
    check_value_depth(depth)?;
    meter.charge(NODE)?;
    match (a, b) {
        (Value::List(a), Value::List(b)) => {
            if a.is(b) || a.len() != b.len() {
                return Ok(a.is(b));
            }
            for (a, b) in a.iter().zip(b.iter()) {
                if !deep_equal_at(a, b, meter, depth + 1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::Map(a), Value::Map(b)) => {
            if a.is(b) || a.len() != b.len() {
                return Ok(a.is(b));
            }
            for ((a_key, a), (b_key, b)) in a.entries().iter().zip(b.entries().iter()) {
                meter.charge(a_key.len())?;
                if a_key != b_key || !deep_equal_at(a, b, meter, depth + 1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::String(a), Value::String(b)) => {
            meter.charge(a.len().min(b.len()))?;
            Ok(a == b)
        }
        _ => Ok(equal(a, b).unwrap_or(false)),
    }
}
