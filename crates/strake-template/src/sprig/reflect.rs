//! What a value is.

use crate::builtin::deep_equal;
use crate::function::{Call, Function};
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::of("kindOf", 1, |call| call.make(kind(call.any(0)))),
    Function::of("kindIs", 2, |call| Ok(Value::Bool(is(call, kind(call.any(1)))?))),
    Function::of("typeOf", 1, |call| call.make(call.any(0).type_name())),
    Function::of("typeIs", 2, |call| Ok(Value::Bool(is(call, call.any(1).type_name())?))),
    Function::of("typeIsLike", 2, |call| {
        Ok(Value::Bool(is(call, call.any(1).type_name().trim_start_matches('*'))?))
    }),
    Function::of("deepEqual", 2, |call| Ok(Value::Bool(deep_equal(call.any(0), call.any(1), call.meter)?))),
];

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "slice",
        Value::Map(_) => "map",
        Value::Object(_) => "ptr",
        Value::Time(_) => "struct",
    }
}

/// Whether the first argument is this name. Go has two integers where we have one, so an integer is both.
fn is(call: &Call<'_>, name: &str) -> Result<bool, crate::error::Fault> {
    let wanted = &**call.text(0)?;
    Ok(wanted == name || (wanted == "int64" && name == "int"))
}
