//! `index`, `slice` and `len`.

use crate::error::Fault;
use crate::function::{Answer, Call, Function};
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::from("index", 1, index),
    Function::from("slice", 1, slice),
    Function::from("mustSlice", 1, slice),
    Function::of("len", 1, len),
];

fn index(call: &Call<'_>) -> Answer {
    let mut item = call.any(0).clone();
    if matches!(item, Value::Null) {
        return Err(Fault::new("index of untyped nil"));
    }
    for index in call.from(1) {
        item = match &item {
            Value::List(list) => list[position(index, list.len())?].clone(),
            Value::String(text) => Value::Int(text.as_bytes()[position(index, text.len())?].into()),
            Value::Map(map) => match index {
                Value::String(key) => map.get(key).unwrap_or_default(),
                Value::Null => return Err(Fault::new("value is nil; should be of type string")),
                other => {
                    return Err(Fault::new(format!(
                        "value has type {}; should be string",
                        other.type_name()
                    )));
                }
            },
            Value::Null => return Err(Fault::new("index of nil pointer")),
            other => return Err(Fault::new(format!("can't index item of type {}", other.type_name()))),
        };
    }
    Ok(item)
}

/// An index below `count`.
fn position(index: &Value, count: usize) -> Result<usize, Fault> {
    let at = bound(index, count)?;
    if at == count { Err(out_of_range(index)) } else { Ok(at) }
}

/// An index up to `count`.
fn bound(index: &Value, count: usize) -> Result<usize, Fault> {
    match index {
        Value::Int(at) => {
            usize::try_from(*at).ok().filter(|at| *at <= count).ok_or_else(|| out_of_range(index))
        }
        Value::Null => Err(Fault::new("cannot index slice/array with nil")),
        other => Err(Fault::new(format!("cannot index slice/array with type {}", other.type_name()))),
    }
}

fn out_of_range(index: &Value) -> Fault {
    match index {
        Value::Int(at) => Fault::new(format!("index out of range: {at}")),
        _ => Fault::new("index out of range"),
    }
}

/// Go's `slice`, which takes text too, and Sprig's, which is the same for lists.
fn slice(call: &Call<'_>) -> Answer {
    let length = match call.any(0) {
        Value::List(list) => list.len(),
        Value::String(text) => text.len(),
        other => return Err(Fault::new(format!("can't slice item of type {}", other.type_name()))),
    };
    if call.count() > 3 {
        return Err(Fault::new(format!("too many slice indexes: {}", call.count() - 1)));
    }
    let mut bounds = [0, length];
    for (place, index) in bounds.iter_mut().zip(call.from(1)) {
        *place = bound(index, length)?;
    }
    let [start, end] = bounds;
    if start > end {
        return Err(Fault::new(format!("invalid slice index: {start} > {end}")));
    }
    match call.any(0) {
        Value::String(text) => {
            call.make(&text[text.floor_char_boundary(start)..text.floor_char_boundary(end)])
        }
        Value::List(list) => {
            call.meter.charge((end - start) * size_of::<Value>())?;
            Ok(Value::list(list[start..end].iter().cloned()))
        }
        _ => Ok(Value::Null),
    }
}

fn len(call: &Call<'_>) -> Answer {
    let length = match call.any(0) {
        Value::String(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        Value::Null => return Err(Fault::new("len of nil pointer")),
        other => return Err(Fault::new(format!("len of type {}", other.type_name()))),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}
