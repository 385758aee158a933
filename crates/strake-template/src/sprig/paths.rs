//! Paths with slashes, by their text alone.

use crate::function::Function;
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::of("base", 1, |call| call.make(base(call.text(0)?))),
    Function::of("dir", 1, |call| call.make(dir(call.text(0)?))),
    Function::of("clean", 1, |call| call.make(clean(call.text(0)?))),
    Function::of("ext", 1, |call| call.make(ext(call.text(0)?))),
    Function::of("isAbs", 1, |call| Ok(Value::Bool(call.text(0)?.starts_with('/')))),
    Function::of("osBase", 1, |call| call.make(base(call.text(0)?))),
    Function::of("osDir", 1, |call| call.make(dir(call.text(0)?))),
    Function::of("osClean", 1, |call| call.make(clean(call.text(0)?))),
    Function::of("osExt", 1, |call| call.make(ext(call.text(0)?))),
    Function::of("osIsAbs", 1, |call| Ok(Value::Bool(call.text(0)?.starts_with('/')))),
];

/// The last element; `.` of nothing and `/` of slashes.
fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        trimmed => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

/// All but the last element.
fn dir(path: &str) -> String {
    clean(&path[..path.rfind('/').map_or(0, |at| at + 1)])
}

/// The shortest path that means the same.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for element in path.split('/') {
        match element {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => {
                kept.pop();
            }
            ".." if rooted => {}
            _ => kept.push(element),
        }
    }
    let joined = kept.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}

/// From the last dot of the last element on.
fn ext(path: &str) -> &str {
    let last = path.rsplit('/').next().unwrap_or(path);
    last.rfind('.').map_or("", |at| &last[at..])
}
