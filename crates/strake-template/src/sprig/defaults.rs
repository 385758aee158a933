//! What to take where something is missing.

use crate::error::{ErrorKind, Fault};
use crate::function::{Answer, Call, Function};
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::from("default", 1, default),
    Function::of("empty", 1, |call| Ok(Value::Bool(!call.any(0).is_true()))),
    Function::from("coalesce", 0, |call| {
        Ok(call.arguments.iter().find(|value| value.is_true()).cloned().unwrap_or_default())
    }),
    Function::from("all", 0, |call| Ok(Value::Bool(call.arguments.iter().all(Value::is_true)))),
    Function::from("any", 0, |call| Ok(Value::Bool(call.arguments.iter().any(Value::is_true)))),
    Function::of("ternary", 3, |call| Ok(call.any(usize::from(!call.bool(2)?)).clone())),
    Function::of("fail", 1, |call| Err(Fault::of_kind(ErrorKind::Failed, &**call.text(0)?))),
    Function::of("required", 2, required),
];

fn default(call: &Call<'_>) -> Answer {
    match call.arguments.get(1) {
        Some(given) if given.is_true() => Ok(given.clone()),
        _ => Ok(call.any(0).clone()),
    }
}

/// The second argument, or the first as the message of a failure. From Helm: only nil and an empty text are missing.
fn required(call: &Call<'_>) -> Answer {
    match call.any(1) {
        Value::Null => Err(Fault::of_kind(ErrorKind::Failed, &**call.text(0)?)),
        Value::String(text) if text.is_empty() => Err(Fault::of_kind(ErrorKind::Failed, &**call.text(0)?)),
        given => Ok(given.clone()),
    }
}
