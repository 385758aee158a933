//! The rules of the house that a machine can check: the arrows between crates, and what is deliberately absent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which of our crates each crate may use. Nothing else: a new arrow is a decision, see `docs/decisions/0001`.
const ARROWS: [(&str, &[&str]); 12] = [
    ("strake-oci", &[]),
    ("strake-template", &[]),
    ("strake-exec", &[]),
    ("strake-git", &[]),
    ("strake-etcd", &["strake-oci"]),
    ("strake-graph", &["strake-oci"]),
    ("strake-store", &["strake-oci"]),
    ("strake-registry", &["strake-oci"]),
    ("strake-testkit", &["strake-oci", "strake-exec"]),
    ("strake-frontend", &["strake-graph", "strake-oci", "strake-template"]),
    (
        "strake-engine",
        &[
            "strake-graph",
            "strake-oci",
            "strake-store",
            "strake-registry",
            "strake-exec",
            "strake-git",
            "strake-etcd",
        ],
    ),
    (
        "strake",
        &[
            "strake-oci",
            "strake-graph",
            "strake-frontend",
            "strake-store",
            "strake-registry",
            "strake-template",
            "strake-exec",
            "strake-git",
            "strake-etcd",
            "strake-engine",
        ],
    ),
];

#[test]
fn crates_use_each_other_only_along_the_arrows() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let crates = std::fs::read_dir(workspace().join("crates")).unwrap().map(|entry| entry.unwrap().path());
    for path in crates {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let allowed = allowed.get(name.as_str()).unwrap_or_else(|| panic!("a crate without arrows: {name}"));
        let manifest = std::fs::read_to_string(path.join("Cargo.toml")).unwrap();
        for used in dependencies(&manifest) {
            assert!(allowed.contains(&used.as_str()), "{name} may not use {used}");
        }
    }
}

/// Names of our crates in `[dependencies]`; what only tests use does not count.
fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.split("\n[").find(|section| section.starts_with("dependencies]")).unwrap_or("");
    let names = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| name.starts_with("strake-")).map(str::to_owned).collect()
}

#[test]
fn unsafe_code_stays_in_one_module() {
    no_line_of(&["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "(unsafe_code"], |path| {
        path.starts_with("crates/strake-exec/src/sys")
    });
}

#[test]
fn async_code_stays_in_the_crates_that_speak_http() {
    no_line_of(&["async fn", ".await", "async move"], |path| {
        path.starts_with("crates/strake-registry/") || path.starts_with("crates/strake-etcd/")
    });
}

#[test]
fn no_test_is_ignored() {
    no_line_of(&["#[ignore"], |_| false);
}

#[test]
fn nothing_is_left_to_do_in_the_code() {
    no_line_of(&["todo!(", "unimplemented!(", "dbg!("], |_| false);
}

/// Frontends make the graph and the engine consumes it: neither may know the other, not even in words of a path.
#[test]
fn frontend_and_engine_meet_only_in_the_graph() {
    no_line_of(&["strake_frontend::"], |path| {
        path.starts_with("crates/strake/") || path.starts_with("crates/strake-frontend/")
    });
    no_line_of(&["strake_engine::"], |path| {
        path.starts_with("crates/strake/") || path.starts_with("crates/strake-engine/")
    });
}

/// What crosses to disk or wire is decided in few places.
#[test]
fn only_formats_are_serialised() {
    no_line_of(&["derive(Serialize", ", Serialize"], |path| {
        let formats = [
            "crates/strake-oci/",
            "crates/strake-store/src/",
            "crates/strake-registry/src/",
            "crates/strake-exec/src/",
            "crates/strake-engine/src/cache/",
            "crates/strake-engine/src/image/",
            "crates/strake-engine/src/remote/",
            "crates/strake-engine/src/signature/",
            "crates/strake/src/",
        ];
        formats.iter().any(|format| path.starts_with(format))
    });
}

#[test]
fn the_map_is_short_and_names_what_exists() {
    let text = std::fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    assert!(text.lines().count() <= 200, "ARCHITECTURE.md has more than 200 lines");
    let crates: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    for name in &crates {
        assert!(text.contains(&format!("`{name}`")), "ARCHITECTURE.md does not mention {name}");
    }
    // Rows of the table of crates: | `crate` | what | `file`, `file` |
    for row in text.lines().filter(|line| line.starts_with("| `strake")) {
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        let source = workspace().join("crates").join(columns[1].trim_matches('`')).join("src");
        for file in columns[3].split(", ").map(|file| file.trim_matches('`')) {
            assert!(
                source.join(file).exists(),
                "ARCHITECTURE.md names {file} of {}, which does not exist",
                columns[1]
            );
        }
    }
}

#[test]
fn documents_link_to_what_exists() {
    for document in ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "ARCHITECTURE.md"] {
        let text = std::fs::read_to_string(workspace().join(document)).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or("");
            let is_local = !path.contains("://") && !path.is_empty();
            assert!(
                !is_local || workspace().join(path).exists(),
                "{document} links to {link}, which does not exist"
            );
        }
    }
}

/// No line of our sources contains one of `words`, except in files that `allowed` names and in this one.
fn no_line_of(words: &[&str], allowed: impl Fn(&str) -> bool) {
    let mut found = Vec::new();
    for file in sources() {
        let path = file.strip_prefix(workspace()).unwrap().to_str().unwrap().to_owned();
        if allowed(&path) || path.ends_with("it/tidy.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.trim_start();
            if !code.starts_with("//") && words.iter().any(|word| code.contains(word)) {
                found.push(format!("{path}:{}: {code}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{words:?} does not belong here:\n{}", found.join("\n"));
}

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut waiting = vec![workspace().join("crates")];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                waiting.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                files.push(entry);
            }
        }
    }
    files
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}
