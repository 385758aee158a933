//! Templates from the outside.

#![expect(clippy::unwrap_used, reason = "what the helpers of tests cannot do is a failed test")]

mod cases;
mod hostile;
mod places;
mod sets;
mod stage_file;

use std::time::{Duration, UNIX_EPOCH};

use strake_template::{Host, Map, Object, TemplateError, Templates, Value};

/// The value that the templates of the tests work on.
fn sample() -> Value {
    let files = Object::new("Files")
        .method("Get", |arguments| match arguments {
            [Value::String(path)] => Ok(format!("content of {path}").into()),
            _ => Err("path?".into()),
        })
        .method("Exists", |arguments| match arguments {
            [Value::String(path)] => Ok((&**path == "here").into()),
            _ => Err("path?".into()),
        })
        .method("Glob", |_| Ok(Map::from_iter([("a.txt", "A"), ("b.txt", "B")]).into()));
    let map = Map::from_iter([
        ("a", Value::from(1)),
        ("b", 2.into()),
        ("c", Map::from_iter([("d", "deep")]).into()),
    ]);
    let mixed = [1.into(), "two".into(), 3.5.into(), true.into(), Value::Null, Value::list([4.into()])];
    let entries: [(&str, Value); 15] = [
        ("str", "hello".into()),
        ("empty", "".into()),
        ("num", 7.into()),
        ("zero", 0.into()),
        ("neg", (-3).into()),
        ("float", 2.5.into()),
        ("yes", true.into()),
        ("no", false.into()),
        ("null", Value::Null),
        ("list", Value::list(["a", "b", "c"].map(Value::from))),
        ("nums", Value::list([3, 1, 2].map(Value::from))),
        ("none", Value::list([])),
        ("map", map.into()),
        ("nomap", Map::new().into()),
        ("mixed", Value::list(mixed)),
    ];
    let sample = Map::from_iter(entries);
    sample.insert("Files", files);
    sample.into()
}

/// A host whose clock stands at 2023-11-14 22:13:20 UTC and that knows one variable.
fn host() -> Host<'static> {
    Host {
        now: Some(UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
        env: Some(&|name| match name {
            "SECRET" => Err("it may not be read".into()),
            "HOME" => Ok(Some("/root".into())),
            _ => Ok(None),
        }),
        ..Host::default()
    }
}

/// Renders a text by itself.
fn render(text: &str) -> Result<String, Box<TemplateError>> {
    let mut templates = Templates::new();
    templates.add("main", text)?;
    Ok(templates.render("main", &sample(), &host())?.text)
}

#[track_caller]
fn check(text: &str, expect: &str) {
    match render(text) {
        Ok(rendered) => assert_eq!(rendered, expect, "{}", shown(text)),
        Err(error) => panic!("{}\n{error}", shown(text)),
    }
}

/// Checks that rendering fails with a message that has this in it.
#[track_caller]
fn check_error(text: &str, expect: &str) -> Box<TemplateError> {
    match render(text) {
        Ok(rendered) => panic!("{}\nrendered to {}", shown(text), shown(&rendered)),
        Err(error) => {
            assert!(error.to_string().contains(expect), "{}\n{error}", shown(text));
            error
        }
    }
}

/// As much of a text as one wants to read.
fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(500)]
}
