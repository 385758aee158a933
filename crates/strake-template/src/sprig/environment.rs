//! The environment, as far as the caller shows it.

use crate::error::Fault;
use crate::function::{Answer, Call, Function};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::of("env", 1, |call| call.make(variable(call, call.text(0)?)?)),
    Function::of("expandenv", 1, expand),
];

/// A variable's value; empty if it is not set.
fn variable(call: &Call<'_>, name: &str) -> Result<String, Fault> {
    let Some(lookup) = call.host.env else {
        return Err(Fault::new("the environment is not to be had here")
            .hint("what depends on the environment is not the same everywhere"));
    };
    match lookup(name) {
        Ok(value) => Ok(value.unwrap_or_default()),
        Err(message) => Err(Fault::new(format!("read variable {name:?}: {message}"))),
    }
}

/// Replaces `$name` and `${name}`.
fn expand(call: &Call<'_>) -> Answer {
    let mut out = String::new();
    let mut left: &str = call.text(0)?;
    while let Some(at) = left.find('$') {
        out.push_str(&left[..at]);
        left = &left[at + 1..];
        let (name, length) = variable_name(left);
        match name {
            Some(name) => {
                let value = variable(call, name)?;
                call.meter.charge(value.len())?;
                out.push_str(&value);
            }
            None if length == 0 => out.push('$'),
            None => {} // bad syntax is swallowed, as Go does
        }
        left = &left[length..];
        call.meter.fits(out.len())?;
    }
    out.push_str(left);
    call.make(out)
}

/// The name after a `$`, and how many bytes it takes.
fn variable_name(text: &str) -> (Option<&str>, usize) {
    if let Some(inner) = text.strip_prefix('{') {
        return match inner.find('}') {
            Some(0) => (None, 2),
            Some(length) => (Some(&inner[..length]), length + 2),
            None => (None, 1),
        };
    }
    match text.bytes().next() {
        Some(b'*' | b'#' | b'$' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9') => (Some(&text[..1]), 1),
        _ => {
            let length = text.find(|c: char| !(c == '_' || c.is_ascii_alphanumeric())).unwrap_or(text.len());
            if length == 0 { (None, 0) } else { (Some(&text[..length]), length) }
        }
    }
}
