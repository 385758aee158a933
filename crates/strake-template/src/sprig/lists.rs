//! Lists. None of these changes a list; each makes a new one.

use crate::builtin::deep_equal;
use crate::error::Fault;
use crate::function::{Answer, Call, Function};
use crate::value::{List, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::from("list", 0, |call| Ok(Value::list(call.arguments.iter().cloned()))),
    Function::from("tuple", 0, |call| Ok(Value::list(call.arguments.iter().cloned()))),
    Function::of("first", 1, |call| Ok(call.list(0)?.first().cloned().unwrap_or_default())),
    Function::of("mustFirst", 1, |call| Ok(call.list(0)?.first().cloned().unwrap_or_default())),
    Function::of("last", 1, |call| Ok(call.list(0)?.last().cloned().unwrap_or_default())),
    Function::of("mustLast", 1, |call| Ok(call.list(0)?.last().cloned().unwrap_or_default())),
    Function::of("rest", 1, |call| new(call, call.list(0)?.iter().skip(1))),
    Function::of("mustRest", 1, |call| new(call, call.list(0)?.iter().skip(1))),
    Function::of("initial", 1, initial),
    Function::of("mustInitial", 1, initial),
    Function::of("append", 2, append),
    Function::of("mustAppend", 2, append),
    Function::of("push", 2, append),
    Function::of("mustPush", 2, append),
    Function::of("prepend", 2, prepend),
    Function::of("mustPrepend", 2, prepend),
    Function::from("concat", 0, concat),
    Function::of("reverse", 1, |call| new(call, call.list(0)?.iter().rev())),
    Function::of("mustReverse", 1, |call| new(call, call.list(0)?.iter().rev())),
    Function::of("compact", 1, |call| new(call, call.list(0)?.iter().filter(|value| value.is_true()))),
    Function::of("mustCompact", 1, |call| new(call, call.list(0)?.iter().filter(|value| value.is_true()))),
    Function::of("uniq", 1, uniq),
    Function::of("mustUniq", 1, uniq),
    Function::from("without", 1, without),
    Function::from("mustWithout", 1, without),
    Function::of("has", 2, has),
    Function::of("mustHas", 2, has),
    Function::of("chunk", 2, chunk),
    Function::of("mustChunk", 2, chunk),
];

fn new<'a>(call: &Call<'_>, values: impl Iterator<Item = &'a Value>) -> Answer {
    let values: Vec<Value> = values.cloned().collect();
    call.meter.charge(values.len() * size_of::<Value>())?;
    Ok(values.into())
}

fn initial(call: &Call<'_>) -> Answer {
    let list = call.list(0)?;
    new(call, list[..list.len().saturating_sub(1)].iter())
}

fn append(call: &Call<'_>) -> Answer {
    new(call, call.list(0)?.iter().chain([call.any(1)]))
}

fn prepend(call: &Call<'_>) -> Answer {
    new(call, [call.any(1)].into_iter().chain(call.list(0)?.iter()))
}

fn concat(call: &Call<'_>) -> Answer {
    let lists: Vec<&List> = (0..call.count()).map(|index| call.list(index)).collect::<Result<_, _>>()?;
    new(call, lists.into_iter().flat_map(|list| list.iter()))
}

/// Whether one of the values is the same as this one, all the way down.
fn contains(call: &Call<'_>, values: &[Value], wanted: &Value) -> Result<bool, Fault> {
    for value in values {
        if deep_equal(value, wanted, call.meter)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn uniq(call: &Call<'_>) -> Answer {
    let mut found: Vec<Value> = Vec::new();
    for value in call.list(0)?.iter() {
        if !contains(call, &found, value)? {
            found.push(value.clone());
        }
    }
    Ok(found.into())
}

fn without(call: &Call<'_>) -> Answer {
    let mut found = Vec::new();
    for value in call.list(0)?.iter() {
        if !contains(call, call.from(1), value)? {
            found.push(value.clone());
        }
    }
    Ok(found.into())
}

fn has(call: &Call<'_>) -> Answer {
    if let Value::Null = call.any(1) {
        return Ok(Value::Bool(false));
    }
    Ok(Value::Bool(contains(call, call.list(1)?, call.any(0))?))
}

fn chunk(call: &Call<'_>) -> Answer {
    let size = usize::try_from(call.int(0)?).unwrap_or(0);
    if size == 0 {
        return Err(Fault::new("a chunk has at least one element"));
    }
    let list = call.list(1)?;
    call.meter.charge(list.len() * 2 * size_of::<Value>())?;
    Ok(Value::list(list.chunks(size).map(|chunk| Value::list(chunk.iter().cloned()))))
}
