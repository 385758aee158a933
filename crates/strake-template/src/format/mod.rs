//! Values as text, as Go's `fmt` prints them.

mod printf;
mod verb;

mod float;
mod quote;

pub(crate) use float::{exponent_float, fixed_float, general_float, shortest};
pub(crate) use printf::printf;
pub(crate) use quote::{is_printable, quote, quote_ascii, quote_character};

use crate::error::Fault;
use crate::limits::{Meter, NODE, check_value_depth};
use crate::value::{Time, Value};

/// A value as `%v` prints it.
pub(crate) fn printed(value: &Value, meter: &Meter) -> Result<String, Fault> {
    let mut out = String::new();
    print_to(&mut out, value, meter)?;
    meter.text(out.len())?;
    Ok(out)
}

/// Appends a value as `%v` prints it.
pub(crate) fn print_to(out: &mut String, value: &Value, meter: &Meter) -> Result<(), Fault> {
    verb::print(out, value, meter)
}

/// Several values, with a blank between two of which none is text.
pub(crate) fn print(values: &[Value], meter: &Meter) -> Result<String, Fault> {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        let beside_text = |value: &Value| matches!(value, Value::String(_));
        if index > 0 && !beside_text(value) && !beside_text(&values[index - 1]) {
            out.push(' ');
        }
        print_to(&mut out, value, meter)?;
    }
    meter.text(out.len())?;
    Ok(out)
}

/// Several values with blanks between all of them, and a line break.
pub(crate) fn println(values: &[Value], meter: &Meter) -> Result<String, Fault> {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        print_to(&mut out, value, meter)?;
    }
    out.push('\n');
    meter.text(out.len())?;
    Ok(out)
}

/// Pays for a value about to be printed at this depth.
fn step(depth: usize, out: &str, meter: &Meter) -> Result<(), Fault> {
    check_value_depth(depth)?;
    meter.charge(NODE)?;
    meter.fits(out.len())
}

fn time_text(time: &Time) -> String {
    crate::sprig::dates::layout::format("2006-01-02 15:04:05.999999999 -0700 MST", &time.0)
}
