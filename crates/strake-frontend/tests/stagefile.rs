//! Every `testdata/stagefile/*.yaml` is read as a rendered stage file; what is said, and every image with the plan of
//! a first build, are compared with the `.snap` file beside it (`INSTA_UPDATE=always` writes them).

#![expect(clippy::unwrap_used, reason = "a test stops where its world is not as it should be")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use strake_frontend::stagefile::plan::{
    Facts, MappingKind, MappingState, Need, Plan, PlanOptions, Planning, plan,
};
use strake_frontend::stagefile::{GitSource, Image, ImageId, Instructions, StageFile, parse};
use strake_frontend::{Diagnostic, LineIndex};
use strake_oci::Platform;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/stagefile")
}

fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(testdata()).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    cases.sort();
    cases
}

fn show(text: &str, diagnostics: &[Diagnostic]) -> String {
    let index = LineIndex::new(text);
    let at = |offset| {
        let position = index.position(text, offset);
        format!("{}:{}", position.line, position.column)
    };
    let mut out = String::new();
    for diagnostic in diagnostics {
        let Diagnostic { severity, code, message, span, hint, notes } = diagnostic;
        writeln!(out, "{severity:?} {code} {}-{}: {message}", at(span.start), at(span.end)).unwrap();
        for note in notes {
            writeln!(out, "    note {}-{}: {}", at(note.span.start), at(note.span.end), note.message)
                .unwrap();
        }
        hint.iter().for_each(|hint| writeln!(out, "    hint: {hint}").unwrap());
    }
    out
}

/// A first build: every mapping has files, everything is watched, nothing is known.
fn first_plan(file: &StageFile, image: ImageId) -> Plan {
    let options = PlanOptions::new(Platform::linux("amd64"));
    let mut facts = Facts::default();
    for _ in 0..200 {
        let needs = match plan(file, image, &options, &facts).unwrap() {
            Planning::Done(plan) => return plan,
            Planning::Needs(needs) => needs,
        };
        for need in needs {
            match need {
                Need::Mapping(selection) => {
                    let state =
                        MappingState::Present { commit: "c0ffee".into(), kind: MappingKind::Directory };
                    facts.mappings.insert(selection, state);
                }
                Need::Watched(watched) => {
                    let checksum = format!("watched {}", watched.patterns.join(" "));
                    facts.watched.insert(watched, Some(checksum));
                }
                Need::Reset(source) => {
                    // Not in the order of the mappings, so that sorting is seen.
                    let reset = match &source {
                        GitSource::Local => None,
                        GitSource::Remote { url, .. } => Some(format!("reset {}", 100 - url.len().min(99))),
                    };
                    facts.resets.insert(source, reset);
                }
                Need::Stage(signature) => drop(facts.stages.insert(signature, None)),
                other => panic!("nothing is known, and it asks for {other:?}"),
            }
        }
    }
    panic!("it asks without end");
}

fn dump_image(out: &mut String, file: &StageFile, id: ImageId, image: &Image) {
    let rules = &image.rules;
    writeln!(out, "{} {:?}", id.index(), image.name).unwrap();
    writeln!(out, "  base {:?}", rules.base).unwrap();
    for mount in &rules.mounts {
        writeln!(out, "  mount {:?} to {}", mount.source, mount.to).unwrap();
    }
    for git in &rules.git {
        writeln!(out, "  git {:?}", git.selection).unwrap();
        let alias = &git.alias;
        writeln!(out, "    to {} {:?}:{:?} as {alias:?}", git.to, git.owner, git.group).unwrap();
    }
    for import in &rules.imports {
        let filter = format!("{:?} without {:?}", import.include, import.exclude);
        writeln!(out, "  import {} {:?} {}", import.artifact.index(), import.position, import.add).unwrap();
        writeln!(out, "    to {} {:?}:{:?} {filter}", import.to, import.owner, import.group).unwrap();
    }
    for (stage, instructions) in &rules.assembly.instructions {
        let texts: Vec<_> = match instructions {
            Instructions::Shell(commands) => commands.iter().map(|command| command.text.clone()).collect(),
            Instructions::Ansible(tasks) => tasks.iter().map(|task| task.value.to_string()).collect(),
        };
        texts.iter().for_each(|text| writeln!(out, "  {stage:?} {text:?}").unwrap());
    }
    let plan = first_plan(file, id);
    for stage in &plan.conveyor().stages {
        let layer = stage.layer.map(|layer| format!(" {layer}")).unwrap_or_default();
        writeln!(out, "  {}{layer} {}", stage.kind.id(), stage.signature).unwrap();
        for part in stage.parts.iter().filter(|part| part.name != "stage below") {
            writeln!(out, "    {}: {}", part.name, part.value).unwrap();
        }
        writeln!(out, "    {:?}", stage.action).unwrap();
        stage.labels.iter().for_each(|(name, value)| writeln!(out, "    label {name}={value}").unwrap());
    }
}

fn render(text: &str) -> String {
    let parsed = parse(text);
    let mut out = show(text, &parsed.diagnostics);
    if let Some(file) = &parsed.file {
        file.images().for_each(|(id, image)| dump_image(&mut out, file, id, image));
    }
    out
}

#[test]
fn every_case_gives_what_it_gave() {
    let cases = cases();
    assert!(cases.len() >= 20, "only {} cases", cases.len());
    let mut failed = Vec::new();
    for case in cases {
        let name = case.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&case).unwrap();
        let parsed = parse(&text);
        assert_eq!(parsed.file.is_some(), name.starts_with("ok_"), "{name}: {:?}", parsed.diagnostics);
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(testdata());
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        // One differing case must not hide the others.
        let compare = || settings.bind(|| insta::assert_snapshot!(name.clone(), render(&text)));
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(compare)).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "these differ: {failed:?}");
}

/// What must hold for any text: no panic, every place within it, and a file exactly if there is no error.
fn check_any(text: &str) {
    let parsed = parse(text);
    let errors = parsed.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    assert_eq!(parsed.file.is_none(), errors > 0, "{text:?}");
    for diagnostic in &parsed.diagnostics {
        let notes = diagnostic.notes.iter().map(|note| note.span);
        for span in notes.chain([diagnostic.span]) {
            assert!(text.get(span.start..span.end).is_some(), "{diagnostic:?} in {text:?}");
        }
        assert!(!diagnostic.message.chars().any(char::is_control), "{diagnostic:?}");
    }
    if let Some(file) = &parsed.file {
        let ids: Vec<_> = file.images().map(|(id, _)| id).collect();
        let mut order = file.order().to_vec();
        order.sort_unstable();
        assert_eq!(order, ids);
        // Cheap and expensive images alike, but not thousands of them.
        ids.into_iter().take(20).for_each(|id| drop(first_plan(file, id)));
    }
}

#[test]
fn all_prefixes_of_all_cases_are_survived() {
    for case in cases() {
        let text = std::fs::read_to_string(&case).unwrap();
        let step = (text.len() / 100).max(1);
        (0..=text.len()).step_by(step).filter_map(|end| text.get(..end)).for_each(check_any);
    }
}

/// Pieces that mean something, so that random texts get past the first line.
const PIECES: [&str; 41] = [
    "\n...\n",
    "dimg: a\nfrom: b:1\n",
    "dimg: ~\n",
    "artifact: t\nfrom: b:1\n",
    "from: b:1\n",
    "fromDimg: a\n",
    "\n---\n",
    "git:\n",
    "- add: /x\n  to: /y\n",
    "- to: /y/z\n",
    "  includePaths: '*'\n",
    "  stageDependencies:\n",
    "    install: a\n",
    "import:\n- artifact: t\n  add: /a\n  before: install\n",
    "shell:\n",
    "ansible:\n",
    "  install:\n",
    "  - raw: x\n",
    "  - block:\n    - raw: y\n",
    "  setup: z\n",
    "docker:\n",
    "  ENV: {A: 1}\n",
    "  CMD: x\n",
    "asLayers: yes\n",
    "mount:\n",
    "- from: tmp_dir\n  to: /m\n",
    "&x ",
    "*x",
    "<<: ",
    "!!str ",
    "[",
    "]",
    "{",
    "}",
    "|\n",
    "\"",
    "\t",
    "#",
    "\u{feff}",
    "\r\n",
    "\u{1f600}",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_pieces_are_survived(picks in proptest::collection::vec(0..PIECES.len(), 0..40)) {
        check_any(&picks.into_iter().map(|pick| PIECES[pick]).collect::<String>());
    }

    #[test]
    fn mutated_cases_are_survived(
        case in any::<usize>(),
        edits in proptest::collection::vec((any::<usize>(), 0..PIECES.len(), 0..6_usize), 1..6),
    ) {
        let cases = cases();
        let mut text = std::fs::read_to_string(&cases[case % cases.len()]).unwrap();
        for (at, piece, removed) in edits {
            let from = text.floor_char_boundary(at % (text.len() + 1));
            let to = text.floor_char_boundary((from + removed).min(text.len()));
            text.replace_range(from..to, PIECES[piece]);
        }
        check_any(&text);
    }
}

#[test]
fn a_hundred_images_may_stand_on_each_other() {
    let chain = |length: usize| {
        let image = |n| format!("dimg: a{n}\nfromDimg: a{}\n---\n", n + 1);
        (1..length).map(image).collect::<String>() + &format!("dimg: a{length}\nfrom: b:1\n")
    };
    assert!(parse(&chain(100)).file.is_some());
    let codes: Vec<_> = parse(&chain(101)).diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
    assert_eq!(codes, ["image-depth"]);
}

/// Each of these would take minutes, or all memory, if its cost grew with the square of its size or faster.
#[test]
fn hostile_sizes_are_survived() {
    let many = |count: usize, piece: &dyn Fn(usize) -> String| (0..count).map(piece).collect::<String>();
    let texts = [
        format!("dimg: ~\nfrom: a:1\ngit:\n{}", many(50_000, &|n| format!("- to: /x{n}\n"))),
        format!("dimg: ~\nfrom: a:1\ngit:\n{}", many(500, &|n| format!("- to: /x{n}\n"))),
        format!("dimg: ~\nfrom: a:1\ngit:\n{}", many(499, &|n| format!("- to: {}\n", "/x".repeat(n + 1)))),
        many(20_000, &|n| format!("dimg: a{n}\nfrom: b:1\n---\n")),
        many(20_000, &|n| format!("dimg: a{n}\nfromDimg: a{}\n---\n", n + 1)) + "dimg: a20000\nfrom: b:1\n",
        many(20_000, &|n| format!("dimg: a{n}\nfromDimg: a{}\n---\n", (n + 1) % 20_000)),
        many(2000, &|n| format!("dimg: a{n}\nfromDimg: b{n}\n---\n")),
        format!("dimg: [{}]\nfrom: b:1\n", many(20_000, &|n| format!("a{n}, "))),
        format!("dimg: ~\nfrom: b:1\nasLayers: yes\nshell:\n  setup: [{}]\n", "x, ".repeat(20_000)),
        format!("dimg: ~\nfrom: b:1\nshell: {{{}}}\n", many(50_000, &|n| format!("k{n}: 1, "))),
        format!("dimg: {}\nfrom: b:1\n", "a".repeat(1 << 20)),
        "---\n".repeat(500_000),
        "- ".repeat(500_000),
        "? ".repeat(500_000),
        "{a: ".repeat(200_000),
        "&a ".repeat(200_000),
        "\"".to_owned() + &"\\\n".repeat(500_000),
        "x".repeat(5 << 20),
    ];
    texts.iter().for_each(|text| check_any(text));
}
