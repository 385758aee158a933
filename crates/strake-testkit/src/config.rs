//! An image's config as far as builders have to agree on it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The parts of a config document that mean something to whoever runs the image, by field name.
///
/// Absent, `null`, empty text and empty list are the same to every runtime, so they are left out. Lists that
/// are sets (`Volumes`, `ExposedPorts`) are already objects. Of the history only what other programs rely on
/// is kept: how many entries made a layer, which must be the number of layers.
pub fn normalise(document: &Value) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    let config = &document["config"];
    let names = [
        "Env",
        "Cmd",
        "Entrypoint",
        "User",
        "WorkingDir",
        "Labels",
        "Volumes",
        "ExposedPorts",
        "OnBuild",
        "StopSignal",
        "Shell",
        "Healthcheck",
    ];
    for name in names {
        if !is_empty(&config[name]) {
            fields.insert(name.to_owned(), config[name].clone());
        }
    }
    for name in ["architecture", "os", "variant", "author"] {
        if !is_empty(&document[name]) {
            fields.insert(name.to_owned(), document[name].clone());
        }
    }
    let history = document["history"].as_array().map_or(&[][..], Vec::as_slice);
    let with_layer = history.iter().filter(|entry| entry["empty_layer"] != json!(true)).count();
    let layers = document["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len);
    fields.insert("history entries match layers".to_owned(), json!(with_layer == layers));
    fields
}

/// Every field in which two normalised configs differ, with both values.
pub fn config_differences(
    left: &BTreeMap<String, Value>,
    right: &BTreeMap<String, Value>,
) -> Vec<(String, Value, Value)> {
    let mut names: Vec<&String> = left.keys().chain(right.keys()).collect();
    names.sort();
    names.dedup();
    let value =
        |fields: &BTreeMap<String, Value>, name: &String| fields.get(name).cloned().unwrap_or(Value::Null);
    let pairs = names.into_iter().map(|name| (name.clone(), value(left, name), value(right, name)));
    pairs.filter(|(_, left, right)| left != right).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
