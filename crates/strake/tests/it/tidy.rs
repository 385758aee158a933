//! The shape of the project, checked: what may use what, and what is deliberately absent.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Which of our crates each may use, tests aside.
const ARROWS: [(&str, &[&str]); 10] = [
    ("strake-oci", &[]),
    ("strake-graph", &["oci"]),
    ("strake-template", &[]),
    ("strake-frontend", &["graph", "oci", "template"]),
    ("strake-store", &["oci"]),
    ("strake-registry", &["oci"]),
    ("strake-exec", &[]),
    ("strake-engine", &["graph", "oci", "store", "registry", "exec"]),
    ("strake", &["oci", "graph", "frontend", "store", "registry", "exec", "engine"]),
    ("strake-testkit", &["oci", "exec"]),
];

/// Where values may become bytes that somebody else reads.
const SERIALISED: [&str; 6] = [
    "crates/strake-oci/",
    "crates/strake-store/",
    "crates/strake-exec/",
    "crates/strake-registry/",
    "crates/strake-engine/src/",
    "crates/strake/src/",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn files_below(directory: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
}

/// Every source file of the crates but their tests, as (path from the root, text without its test module).
fn sources() -> Vec<(String, String)> {
    let root = root();
    let mut paths = Vec::new();
    for (name, _) in ARROWS {
        files_below(&root.join("crates").join(name).join("src"), ".rs", &mut paths);
    }
    paths.sort();
    paths
        .into_iter()
        .filter(|path| !path.ends_with("tests.rs") && !path.components().any(|part| part.as_os_str() == "tests"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
            (path.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), text)
        })
        .collect()
}

/// Lines of code, comments aside, in which `is_wrong` holds.
fn offences(is_wrong: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if is_wrong(&path, code) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn crates_use_only_what_the_arrows_allow() {
    let manifests: Vec<_> = std::fs::read_dir(root().join("crates")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(manifests.len(), ARROWS.len(), "a new crate needs a decision record and a line here");
    for (name, allowed) in ARROWS {
        let manifest = std::fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        let used: BTreeSet<&str> = dependencies
            .lines()
            .filter_map(|line| line.strip_prefix("strake-"))
            .map(|line| line.split(['.', ' ', '=']).next().unwrap_or_default())
            .collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        assert!(used.is_subset(&allowed), "{name} uses {used:?}, allowed are {allowed:?}");
    }
}

#[test]
fn unsafe_code_stands_in_one_module() {
    let found = offences(|path, code| {
        !path.starts_with("crates/strake-exec/src/sys") && code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe")
    });
    assert_none("unsafe outside exec::sys", &found);
}

#[test]
fn no_library_reads_the_environment() {
    let words = ["env::var", "env::vars", "home_dir(", "is_terminal("];
    let found = offences(|path, code| {
        !path.starts_with("crates/strake/")
            && !path.starts_with("crates/strake-testkit/")
            && words.iter().any(|word| code.contains(word))
    });
    assert_none("only `settings` and `main` read the environment", &found);
}

#[test]
fn async_lives_inside_the_registry_crate_only() {
    let found = offences(|path, code| {
        !path.starts_with("crates/strake-registry/") && (code.contains(".await") || code.contains("async fn"))
    });
    assert_none("async outside strake-registry", &found);
}

#[test]
fn values_cross_to_disk_or_wire_only_where_formats_live() {
    let found = offences(|path, code| {
        code.contains("Serialize") && !SERIALISED.iter().any(|place| path.starts_with(place))
    });
    assert_none("Serialize outside the formats", &found);
}

#[test]
fn nothing_is_unfinished_or_silenced() {
    let words = ["todo!(", "unimplemented!(", "#[allow(", "#![allow("];
    assert_none("unfinished or silenced", &offences(|_, code| words.iter().any(|word| code.contains(word))));
    let mut tests = Vec::new();
    files_below(&root().join("crates"), ".rs", &mut tests);
    let word = concat!("#[ig", "nore");
    let ignored: Vec<_> =
        tests.iter().filter(|path| std::fs::read_to_string(path).unwrap().contains(word)).collect();
    assert!(ignored.is_empty(), "a test that does not run is no test: {ignored:?}");
}

#[test]
fn the_map_is_short_and_names_every_crate() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(map.lines().count() <= 200, "ARCHITECTURE.md has {} lines, at most 200", map.lines().count());
    for (name, _) in ARROWS {
        assert!(map.contains(name), "ARCHITECTURE.md does not name {name}");
    }
}

#[test]
fn decisions_are_numbered_once_and_have_the_three_parts() {
    let mut numbers = BTreeSet::new();
    let mut paths = Vec::new();
    files_below(&root().join("docs/decisions"), ".md", &mut paths);
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(numbers.insert(name[..4].to_owned()), "{name}: number used twice");
        let text = std::fs::read_to_string(&path).unwrap();
        for part in ["Context", "Decision", "Consequences"] {
            assert!(text.contains(part), "{name} has no {part}");
        }
    }
}
