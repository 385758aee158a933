//! Maps. `set`, `unset`, `merge` and `mergeOverwrite` change the map that they are given; the others make a new one.

use crate::error::Fault;
use crate::function::{Answer, Call, Function};
use crate::limits::{MAP, Meter, NODE, check_value_depth};
use crate::value::{Map, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::from("dict", 0, dict),
    Function::of("get", 2, |call| Ok(call.map(0)?.get(call.text(1)?).unwrap_or_else(|| "".into()))),
    Function::of("set", 3, set),
    Function::of("unset", 2, |call| {
        call.map(0)?.remove(call.text(1)?);
        Ok(call.any(0).clone())
    }),
    Function::of("hasKey", 2, |call| Ok(Value::Bool(call.map(0)?.contains(call.text(1)?)))),
    Function::from("pluck", 1, pluck),
    Function::from("keys", 0, keys),
    Function::of("values", 1, |call| {
        let map = call.map(0)?;
        call.meter.charge(map.len() * NODE)?;
        Ok(Value::list(map.entries().values().cloned()))
    }),
    Function::from("pick", 1, |call| filtered(call, |is_named| is_named)),
    Function::from("omit", 1, |call| filtered(call, |is_named| !is_named)),
    Function::from("merge", 1, |call| merge_all(call, Winner::Target)),
    Function::from("mustMerge", 1, |call| merge_all(call, Winner::Target)),
    Function::from("mergeOverwrite", 1, |call| merge_all(call, Winner::Source)),
    Function::from("mustMergeOverwrite", 1, |call| merge_all(call, Winner::Source)),
    Function::from("dig", 3, dig),
    Function::of("deepCopy", 1, |call| deep_copy(call.any(0), call.meter, 0)),
    Function::of("mustDeepCopy", 1, |call| deep_copy(call.any(0), call.meter, 0)),
];

fn dict(call: &Call<'_>) -> Answer {
    call.meter.charge(MAP)?;
    let map = Map::new();
    for pair in call.arguments.chunks(2) {
        let key = call.printed(&pair[0])?;
        map.insert(key, pair.get(1).cloned().unwrap_or_else(|| "".into()));
    }
    Ok(map.into())
}

fn set(call: &Call<'_>) -> Answer {
    call.real_map(0)?.insert(call.text(1)?.clone(), call.any(2).clone());
    Ok(call.any(0).clone())
}

fn pluck(call: &Call<'_>) -> Answer {
    let key = call.text(0)?;
    let mut found = Vec::new();
    for index in 1..call.count() {
        found.extend(call.map(index)?.get(key));
    }
    Ok(found.into())
}

fn keys(call: &Call<'_>) -> Answer {
    let mut found = Vec::new();
    for index in 0..call.count() {
        let map = call.map(index)?;
        call.meter.charge(map.len() * NODE)?;
        found.extend(map.entries().keys().cloned().map(Value::String));
    }
    Ok(found.into())
}

/// The entries that are wanted, by whether their keys are among the arguments.
fn filtered(call: &Call<'_>, wanted: fn(bool) -> bool) -> Answer {
    let names: Vec<_> = (1..call.count()).map(|index| call.text(index)).collect::<Result<_, _>>()?;
    let names: std::collections::BTreeSet<_> = names.into_iter().collect();
    let map = call.map(0)?;
    call.meter.charge(MAP + map.len() * 2 * NODE)?;
    let entries = map.snapshot();
    Ok(Map::from_iter(entries.into_iter().filter(|(key, _)| wanted(names.contains(key)))).into())
}

/// Whose value stays where two maps have a key in common.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Winner {
    Target,
    Source,
}

fn merge_all(call: &Call<'_>, winner: Winner) -> Answer {
    let target = call.real_map(0)?;
    for index in 1..call.count() {
        merge(target, &call.map(index)?, winner, call.meter, 0)?;
    }
    Ok(target.clone().into())
}

/// Puts what the source has into the target. Maps under the same key are merged in turn; a map never takes the place of
/// something else that is not empty.
fn merge(target: &Map, source: &Map, winner: Winner, meter: &Meter, depth: usize) -> Result<(), Fault> {
    check_value_depth(depth)?;
    let entries = source.snapshot();
    meter.charge((entries.len() + 1) * NODE)?;
    for (key, value) in entries {
        match (target.get(&key), value) {
            (Some(Value::Map(inner)), Value::Map(value)) => {
                if !inner.is(&value) {
                    merge(&inner, &value, winner, meter, depth + 1)?;
                }
            }
            (Some(known), Value::Map(_)) if known.is_true() => {}
            (Some(known), _) if known.is_true() && winner == Winner::Target => {}
            (_, value) => target.insert(key, value),
        }
    }
    Ok(())
}

/// Follows keys into maps within maps; the argument before the map is the answer where a key is missing.
fn dig(call: &Call<'_>) -> Answer {
    let count = call.count();
    let mut map = call.real_map(count - 1)?.clone();
    for index in 0..count - 2 {
        let key = call.text(index)?;
        let Some(value) = map.get(key) else { return Ok(call.any(count - 2).clone()) };
        match value {
            value if index + 3 == count => return Ok(value),
            Value::Map(inner) => map = inner,
            other => {
                return Err(Fault::new(format!("{key} is of type {}, not a map", other.type_name())));
            }
        }
    }
    Ok(Value::Null)
}

/// The same value, sharing nothing with it that could change.
fn deep_copy(value: &Value, meter: &Meter, depth: usize) -> Answer {
    check_value_depth(depth)?;
    meter.charge(NODE)?;
    match value {
        Value::List(list) => {
            let copies: Vec<Value> =
                list.iter().map(|value| deep_copy(value, meter, depth + 1)).collect::<Result<_, _>>()?;
            Ok(copies.into())
        }
        Value::Map(map) => {
            meter.charge(MAP)?;
            let copy = Map::new();
            for (key, value) in map.snapshot() {
                copy.insert(key, deep_copy(&value, meter, depth + 1)?);
            }
            Ok(copy.into())
        }
        other => Ok(other.clone()),
    }
}
