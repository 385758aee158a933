//! Whole numbers and fractions.

use crate::error::Fault;
use crate::function::{Answer, Call, Function};
use crate::limits::NODE;
use crate::sprig::cast::{to_float, to_int};
use crate::sprig::decimal;
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::of("int", 1, |call| Ok(Value::Int(to_int(call.any(0))))),
    Function::of("int64", 1, |call| Ok(Value::Int(to_int(call.any(0))))),
    Function::of("float64", 1, |call| Ok(Value::Float(to_float(call.any(0))))),
    Function::of("atoi", 1, |call| Ok(Value::Int(decimal_integer(call.text(0)?)))),
    Function::of("toDecimal", 1, from_octal),
    Function::of("add1", 1, |call| Ok(Value::Int(to_int(call.any(0)).wrapping_add(1)))),
    Function::from("add", 0, |call| fold(call, 0, i64::wrapping_add)),
    Function::of("sub", 2, |call| fold(call, 1, i64::wrapping_sub)),
    Function::from("mul", 1, |call| fold(call, 1, i64::wrapping_mul)),
    Function::of("div", 2, |call| divide(call, i64::wrapping_div)),
    Function::of("mod", 2, |call| divide(call, i64::wrapping_rem)),
    Function::from("max", 1, |call| fold(call, 1, i64::max)),
    Function::from("biggest", 1, |call| fold(call, 1, i64::max)),
    Function::from("min", 1, |call| fold(call, 1, i64::min)),
    Function::from("maxf", 1, |call| fold_floats(call, f64::max)),
    Function::from("minf", 1, |call| fold_floats(call, f64::min)),
    Function::of("ceil", 1, |call| Ok(Value::Float(to_float(call.any(0)).ceil()))),
    Function::of("floor", 1, |call| Ok(Value::Float(to_float(call.any(0)).floor()))),
    Function::between("round", 2, 3, round),
    Function::of("add1f", 1, |call| Ok(Value::Float(decimal::add(to_float(call.any(0)), 1.0)))),
    Function::from("addf", 0, |call| fold_decimals(call, decimal::add)),
    Function::from("subf", 1, |call| fold_decimals(call, decimal::sub)),
    Function::from("mulf", 1, |call| fold_decimals(call, decimal::mul)),
    Function::from("divf", 1, |call| {
        if call.from(1).iter().any(|value| to_float(value) == 0.0) {
            return Err(Fault::new("division by 0"));
        }
        fold_decimals(call, decimal::div)
    }),
    Function::of("until", 1, until),
    Function::of("untilStep", 3, |call| numbers(call, call.int(0)?, call.int(1)?, call.int(2)?)),
    Function::from("seq", 0, seq),
];

/// Goes over the arguments from the left, the first being the start unless there is none.
fn fold(call: &Call<'_>, taken: usize, step: fn(i64, i64) -> i64) -> Answer {
    let start = if taken == 0 { 0 } else { to_int(call.any(0)) };
    Ok(Value::Int(call.from(taken).iter().map(to_int).fold(start, step)))
}

fn fold_floats(call: &Call<'_>, step: fn(f64, f64) -> f64) -> Answer {
    Ok(Value::Float(call.from(1).iter().map(to_float).fold(to_float(call.any(0)), step)))
}

fn fold_decimals(call: &Call<'_>, step: fn(f64, f64) -> f64) -> Answer {
    let mut values = call.arguments.iter().map(to_float);
    let first = values.next().unwrap_or(0.0);
    Ok(Value::Float(values.fold(first, step)))
}

fn divide(call: &Call<'_>, step: fn(i64, i64) -> i64) -> Answer {
    match to_int(call.any(1)) {
        0 => Err(Fault::new("integer divide by zero")),
        divisor => Ok(Value::Int(step(to_int(call.any(0)), divisor))),
    }
}

/// Decimal digits with a sign; zero if the text is anything else.
fn decimal_integer(text: &str) -> i64 {
    text.parse().unwrap_or(0)
}

/// Reads octal digits.
fn from_octal(call: &Call<'_>) -> Answer {
    let text = call.printed(call.any(0))?;
    Ok(Value::Int(i64::from_str_radix(&text, 8).unwrap_or(0)))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a number of decimal places is small, and larger ones all mean the same"
)]
fn round(call: &Call<'_>) -> Answer {
    let value = to_float(call.any(0));
    let places = call.int(1)?.clamp(-400, 400) as i32;
    let round_on = if call.count() > 2 { call.float(2)? } else { 0.5 };
    let power = 10f64.powi(places);
    let digits = power * value;
    let rounded = if digits.fract() >= round_on { digits.ceil() } else { digits.floor() };
    Ok(Value::Float(rounded / power))
}

fn until(call: &Call<'_>) -> Answer {
    let count = call.int(0)?;
    numbers(call, 0, count, if count < 0 { -1 } else { 1 })
}

fn numbers(call: &Call<'_>, start: i64, stop: i64, step: i64) -> Answer {
    Ok(Value::list(walk(call, start, stop, step)?.into_iter().map(Value::Int)))
}

/// The numbers from `start` to before `stop`; none if the step leads away from it.
fn walk(call: &Call<'_>, start: i64, stop: i64, step: i64) -> Result<Vec<i64>, Fault> {
    let up = stop >= start;
    if step == 0 || up != (step > 0) {
        return Ok(Vec::new());
    }
    let distance = start.abs_diff(stop);
    let count = distance.div_ceil(step.unsigned_abs());
    call.meter.charge(usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(NODE))?;
    let mut next = Some(start);
    let mut found = Vec::new();
    while let Some(number) = next.filter(|number| if up { *number < stop } else { *number > stop }) {
        found.push(number);
        next = number.checked_add(step);
    }
    Ok(found)
}

/// Like the program of this name: the numbers as text, both ends included.
fn seq(call: &Call<'_>) -> Answer {
    let numbers: Vec<i64> = (0..call.count()).map(|index| call.int(index)).collect::<Result<_, _>>()?;
    let (start, step, end) = match numbers[..] {
        [end] => (1, if end < 1 { -1 } else { 1 }, end),
        [start, end] => (start, if end < start { -1 } else { 1 }, end),
        [start, step, end] => (start, step, end),
        _ => return call.make(""),
    };
    let stop = if end < start { end.saturating_sub(1) } else { end.saturating_add(1) };
    if numbers.len() == 3 && end < start && step > 0 {
        return call.make("");
    }
    let texts: Vec<String> = walk(call, start, stop, step)?.iter().map(i64::to_string).collect();
    call.make(texts.join(" "))
}
