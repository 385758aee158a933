//! Signatures, scheme 31: bit for bit those of the tool whose files these are (reference §6).
//!
//! A signature is a checksum of texts. What is not a text is printed first: maps as Ruby's `inspect` printed them,
//! tasks as Go's `encoding/json` did.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::config::{
    Assembly, DockerOptions, GitMapping, Import, Instructions, Mount, MountSource, RemoteReference,
};
use super::{GitSource, UserStage};

/// The `H` of the reference: the checksum of texts with `:::` between them, 64 hexadecimal digits.
pub fn checksum(parts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut hash = Sha256::new();
    for (index, part) in parts.into_iter().enumerate() {
        if index > 0 {
            hash.update(b":::");
        }
        hash.update(part.as_ref());
    }
    hex(hash)
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The builder checksum of a user stage (§6.3); empty if it has neither instructions nor a version.
pub fn builder_checksum(assembly: &Assembly, stage: UserStage) -> String {
    let count = assembly.instructions.get(&stage).map_or(0, Instructions::len);
    builder_checksum_of(assembly, stage, 0..count)
}

/// The builder checksum as if some of the instructions, counted from 0, were the only ones.
pub(super) fn builder_checksum_of(assembly: &Assembly, stage: UserStage, range: Range<usize>) -> String {
    let mut parts = match assembly.instructions.get(&stage) {
        None => Vec::new(),
        Some(Instructions::Shell(commands)) => {
            commands[range].iter().map(|command| command.text.clone()).collect()
        }
        Some(Instructions::Ansible(tasks)) => tasks[range].iter().map(|task| json(&task.value)).collect(),
    };
    let versions: Vec<_> = assembly.versions.get(&stage).into_iter().chain(&assembly.version).collect();
    if !versions.is_empty() {
        parts.push(checksum(versions));
    }
    if parts.is_empty() { String::new() } else { checksum(parts) }
}

/// The params hash of a mapping (§6.5); it also names labels.
pub fn params_hash(mapping: &GitMapping) -> String {
    let selection = &mapping.selection;
    let name = match &selection.source {
        GitSource::Local => "own".to_owned(),
        remote @ GitSource::Remote { .. } => {
            let name = remote.name().unwrap_or_default();
            format!("{name}_{name}")
        }
    };
    let (branch, tag, commit) = match &selection.source {
        GitSource::Remote { reference: RemoteReference::Branch(name), .. } => (name.as_str(), "", ""),
        GitSource::Remote { reference: RemoteReference::Tag(name), .. } => ("", name.as_str(), ""),
        GitSource::Remote { reference: RemoteReference::Commit(name), .. } => ("", "", name.as_str()),
        GitSource::Remote { reference: RemoteReference::Head, .. } | GitSource::Local => ("", "", ""),
    };
    checksum([
        name.as_str(),
        &mapping.to,
        &selection.add[1..],
        &selection.include.concat(),
        &selection.exclude.concat(),
        mapping.owner.as_deref().unwrap_or(""),
        mapping.group.as_deref().unwrap_or(""),
        branch,
        tag,
        commit,
    ])
}

/// The targets of mounts (§6.4).
pub(super) fn print_mounts(mounts: &[Mount]) -> String {
    let of = |source: &MountSource| -> Vec<String> {
        mounts.iter().filter(|mount| mount.source == *source).map(|mount| mount.to.clone()).collect()
    };
    let mut entries = vec![
        format!(":tmp_dir=>{}", list(&of(&MountSource::TmpDir))),
        format!(":build_dir=>{}", list(&of(&MountSource::BuildDir))),
    ];
    let mut paths: Vec<&MountSource> = Vec::new();
    for mount in mounts.iter().filter(|mount| matches!(mount.source, MountSource::HostPath(_))) {
        if !paths.contains(&&mount.source) {
            paths.push(&mount.source);
        }
    }
    for source in paths {
        if let MountSource::HostPath(path) = source {
            entries.push(format!("{}=>{}", text(path), list(&of(source))));
        }
    }
    format!("{{{}}}", entries.join(", "))
}

/// The options that are not empty (§6.4).
pub(super) fn print_docker(options: &DockerOptions) -> String {
    let mut entries = Vec::new();
    let mut add = |key: &str, value: Option<String>| {
        entries.extend(value.map(|value| format!(":{key}=>{value}")));
    };
    let texts = |texts: &[String]| (!texts.is_empty()).then(|| list(texts));
    let map = |entries: &BTreeMap<String, String>| (!entries.is_empty()).then(|| map(entries));
    let one = |value: &Option<String>| value.as_deref().filter(|value| !value.is_empty()).map(text);
    add("volume", texts(&options.volume));
    add("expose", texts(&options.expose));
    add("env", map(&options.env));
    add("label", map(&options.label));
    add("cmd", texts(&options.cmd));
    add("onbuild", texts(&options.on_build));
    add("workdir", one(&options.workdir));
    add("user", one(&options.user));
    add("entrypoint", texts(&options.entrypoint));
    // The scheme knows nothing of these two: they are behind what it knows.
    add("stopsignal", one(&options.stop_signal));
    add("healthcheck", texts(&options.healthcheck));
    format!("{{{}}}", entries.join(", "))
}

/// The options of an import (§6.4).
pub(super) fn print_import(import: &Import) -> String {
    let one = |value: &Option<String>| value.as_deref().map_or_else(|| "nil".to_owned(), text);
    format!(
        "{{:to=>{}, :cwd=>{}, :include_paths=>{}, :exclude_paths=>{}, :owner=>{}, :group=>{}}}",
        text(&import.to),
        text(&import.add),
        list(&import.include),
        list(&import.exclude),
        one(&import.owner),
        one(&import.group),
    )
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|value| text(value)).collect::<Vec<_>>().join(", "))
}

fn map(entries: &BTreeMap<String, String>) -> String {
    let entries: Vec<_> =
        entries.iter().map(|(key, value)| format!(":{}=>{}", symbol(key), text(value))).collect();
    format!("{{{}}}", entries.join(", "))
}

/// A symbol without its colon: quoted unless it could be the name of something in Ruby.
fn symbol(name: &str) -> String {
    let base = name.strip_suffix(['?', '!', '=']).unwrap_or(name);
    let starts =
        base.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_' || !letter.is_ascii());
    let letters =
        base.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || !letter.is_ascii());
    if starts && letters { name.to_owned() } else { text(name) }
}

/// A text in double quotes, as Ruby's `String#inspect` writes it.
fn text(value: &str) -> String {
    let mut quoted = String::from('"');
    let mut letters = value.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{c}' => quoted.push_str("\\f"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{1b}' => quoted.push_str("\\e"),
            '\u{7f}' => quoted.push_str("\\x7F"),
            '#' if matches!(letters.peek(), Some('{' | '$' | '@')) => quoted.push_str("\\#"),
            letter if letter.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Compact JSON as Go's `encoding/json` writes it: keys in the order of their bytes, and `<`, `>`, `&` and two line
/// separators escaped. The depth of a value is bounded as it is read.
pub(super) fn json(value: &Json) -> String {
    let mut out = String::new();
    write_json(&mut out, value);
    out
}

fn write_json(out: &mut String, value: &Json) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Json::Number(number) => match (number.is_f64(), number.as_f64()) {
            (true, Some(value)) => out.push_str(&float(value)),
            _ => out.push_str(&number.to_string()),
        },
        Json::String(value) => write_text(out, value),
        Json::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_json(out, value);
            }
            out.push(']');
        }
        Json::Object(entries) => {
            let sorted: BTreeMap<_, _> = entries.iter().collect();
            out.push('{');
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_text(out, key);
                out.push(':');
                write_json(out, value);
            }
            out.push('}');
        }
    }
}

fn write_text(out: &mut String, value: &str) {
    out.push('"');
    for letter in value.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
}

/// The shortest digits that mean this number; with an exponent only for very large and very small ones.
fn float(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return format!("{value}");
    }
    let text = format!("{value:e}");
    if size >= 1e21 { text.replace('e', "e+") } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json as value;

    use super::*;

    #[test]
    fn json_is_as_go_writes_it() {
        let tree = value!({"b": [1, -2, 1.5, null, true], "a": "<a href=\"x\">&\u{2028}\u{e9}\u{7f}\u{1}\n", "B": {}});
        let expected = "{\"B\":{},\"a\":\"\\u003ca href=\\\"x\\\"\\u003e\\u0026\\u2028\u{e9}\u{7f}\\u0001\\n\",\
                        \"b\":[1,-2,1.5,null,true]}";
        assert_eq!(json(&tree), expected);
        for (number, expected) in [
            (8.0, "8"),
            (0.0, "0"),
            (-0.25, "-0.25"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.25e-9, "1.25e-9"),
        ] {
            assert_eq!(json(&value!(number)), expected);
        }
        assert_eq!(json(&value!(u64::MAX)), "18446744073709551615");
    }

    #[test]
    fn texts_and_symbols_are_as_ruby_writes_them() {
        assert_eq!(
            text("a\"b\\c\n\t\u{1b}\u{0}#x#{y}#$z#@w é"),
            r##""a\"b\\c\n\t\e\u0000#x\#{y}\#$z\#@w é""##
        );
        for (name, expected) in
            [("LC_ALL", "LC_ALL"), ("a1?", "a1?"), ("1a", "\"1a\""), ("a.b", "\"a.b\""), ("", "\"\"")]
        {
            assert_eq!(symbol(name), expected);
        }
    }

    #[test]
    fn mounts_are_grouped_by_what_is_mounted() {
        let mount = |source, to: &str| Mount { source, to: to.into(), span: strake_graph::Span::default() };
        let host = |path: &str| MountSource::HostPath(path.into());
        assert_eq!(print_mounts(&[]), "{:tmp_dir=>[], :build_dir=>[]}");
        let mounts = [
            mount(host("/b"), "/1"),
            mount(MountSource::TmpDir, "/2"),
            mount(host("/a"), "/3"),
            mount(host("/b"), "/4"),
        ];
        let expected = r#"{:tmp_dir=>["/2"], :build_dir=>[], "/b"=>["/1", "/4"], "/a"=>["/3"]}"#;
        assert_eq!(print_mounts(&mounts), expected);
    }
}
