//! The functions that Go's templates have by themselves.

mod compare;
mod escape;
mod index;

pub(crate) use compare::deep_equal;
pub(crate) use escape::{Escape, percent_encode};

use crate::error::Fault;
use crate::format;
use crate::function::{Answer, Call, Function, Run};
use crate::value::Value;

pub(crate) const TABLES: &[&[Function]] =
    &[LOGIC, PRINTING, compare::FUNCTIONS, index::FUNCTIONS, escape::FUNCTIONS];

const LOGIC: &[Function] = &[
    Function { name: "and", least: 1, most: usize::MAX, run: Run::And },
    Function { name: "or", least: 1, most: usize::MAX, run: Run::Or },
    Function { name: "include", least: 2, most: 2, run: Run::Include },
    Function { name: "tpl", least: 2, most: 2, run: Run::Tpl },
    Function::of("not", 1, |call| Ok(Value::Bool(!call.any(0).is_true()))),
    Function::from("call", 1, call_value),
];

const PRINTING: &[Function] = &[
    Function::from("print", 0, |call| Ok(format::print(&call.arguments, call.meter)?.into())),
    Function::from("println", 0, |call| Ok(format::println(&call.arguments, call.meter)?.into())),
    Function::from("printf", 1, |call| Ok(format::printf(call.text(0)?, call.from(1), call.meter)?.into())),
];

/// No value of a template is a function.
fn call_value(call: &Call<'_>) -> Answer {
    let fault = Fault::new(format!("a value of type {} is not a function", call.any(0).type_name()));
    Err(fault.hint("methods are called by their names: .Files.Get \"path\""))
}
