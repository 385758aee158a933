//! Every `testdata/dockerfile/*.dockerfile` is lowered with the images below and the options beside it; what is said
//! and the whole graph are compared with the `.snap` file beside it (`INSTA_UPDATE=always` writes them).
//!
//! Options, one per line of `<case>.options`: `build-arg N=V`, `target NAME`, `label N=V`, `platform P`, `no-cache`,
//! `context NAME`.

#![expect(clippy::unwrap_used, reason = "a test stops where its world is not as it should be")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use strake_frontend::dockerfile::{
    Facts, ImageFact, ImageRequest, LowerOptions, Lowering, Parsed, lower, parse,
};
use strake_frontend::{Diagnostic, LineIndex};
use strake_graph::{Span, dump};
use strake_oci::{DiffId, Digest, HistoryEntry, ImageConfig, ImageId, Platform, Reference};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dockerfile")
}

fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(testdata()).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "dockerfile")).collect();
    cases.sort();
    cases
}

/// Images of the `real_` cases; nothing hangs on what is in them.
const OFFICIAL: [&str; 10] = [
    "composer:2",
    "eclipse-temurin:21-jre",
    "golang:1.22-alpine",
    "maven:3-eclipse-temurin-21",
    "nginx:1.27",
    "node:20-bookworm-slim",
    "php:8-apache",
    "python:3.12-slim",
    "ruby:3.3",
    "rust:1.79",
];

/// The images that exist in the world of the tests.
fn image(request: &ImageRequest) -> Option<ImageFact> {
    let name = request.reference.familiar();
    let mut config = ImageConfig::empty(&request.platform);
    config.config.env = vec!["PATH=/usr/bin:/bin".into()];
    let triggers: &[&str] = match name.as_str() {
        "debian:12" | "alpine:latest" | "tools:1" | "localhost:5000/team/app:v1" => &[],
        "nopath:1" => {
            config.config.env = vec!["LANG=C".into()];
            config.config.working_dir = "/srv/".into();
            config.config.user = "app".into();
            &[]
        }
        "service:1" => {
            config.author = Some("somebody".into());
            config.config.entrypoint = Some(vec!["/serve".into()]);
            config.config.cmd = Some(vec!["--now".into()]);
            config.config.shell = Some(vec!["/bin/bash".into(), "-c".into()]);
            config.config.labels.insert("from".into(), "base".into());
            &[]
        }
        "onbuild:1" => &["COPY . /app", "RUN <<EOF\nmake\nEOF", "ENV BUILT=$BUILT_BY"],
        "onbuild:stage" => &["COPY --from=builder /x /y"],
        "onbuild:image" => &["COPY --from=tools:1 /t /t", "RUN --mount=type=secret,id=token true"],
        "onbuild:broken" => &["FROM x", "NOPE", "ONBUILD RUN x", "RUN a\nRUN b", "COPY x"],
        name if OFFICIAL.contains(&name) => &[],
        _ => return None,
    };
    config.config.on_build = triggers.iter().map(|text| (*text).to_owned()).collect();
    config.rootfs.diff_ids = vec![DiffId(Digest::of(name.as_bytes()))];
    config.history =
        vec![HistoryEntry { created_by: Some(format!("made {name}")), ..HistoryEntry::default() }];
    Some(ImageFact { id: ImageId(Digest::of(name.as_bytes())), config })
}

fn options(case: &Path) -> LowerOptions {
    let mut options = LowerOptions::new(Platform::linux("amd64"));
    let text = std::fs::read_to_string(case.with_extension("options")).unwrap_or_default();
    for line in text.lines() {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        let pair = || value.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
        match name {
            "build-arg" => options.build_args.extend([pair()]),
            "label" => options.labels.push(pair()),
            "target" => options.target = Some(value.to_owned()),
            "platform" => options.platform = value.parse().unwrap(),
            "no-cache" => options.no_cache = true,
            "context" => options.contexts.extend([value.to_owned()]),
            other => panic!("{}: unknown option {other}", case.display()),
        }
    }
    options
}

fn show(out: &mut String, parsed: &Parsed, diagnostics: &[Diagnostic]) {
    let index = LineIndex::new(parsed.text());
    let at = |offset| {
        let position = index.position(parsed.text(), offset);
        format!("{}:{}", position.line, position.column)
    };
    for diagnostic in diagnostics {
        let Diagnostic { severity, code, message, span, hint, notes } = diagnostic;
        writeln!(out, "{severity:?} {code} {}-{}: {message}", at(span.start), at(span.end)).unwrap();
        for note in notes {
            writeln!(out, "    note {}-{}: {}", at(note.span.start), at(note.span.end), note.message)
                .unwrap();
        }
        hint.iter().for_each(|hint| writeln!(out, "    hint: {hint}").unwrap());
    }
}

fn render(bytes: &[u8], options: &LowerOptions) -> String {
    let parsed = parse(bytes);
    let mut facts = Facts::default();
    let mut out = String::new();
    loop {
        match lower(&parsed, options, &facts) {
            Err(diagnostics) => {
                show(&mut out, &parsed, &diagnostics);
                return out;
            }
            Ok(Lowering::Needs(requests)) => {
                for request in requests {
                    let ImageRequest { reference, platform, span } = &request;
                    writeln!(out, "Needs {reference} {platform} {}..{}", span.start, span.end).unwrap();
                    let Some(fact) = image(&request) else {
                        out.push_str("There is no such image.\n");
                        return out;
                    };
                    facts.images.insert((reference.clone(), platform.clone()), fact);
                }
            }
            Ok(Lowering::Done(lowered)) => {
                show(&mut out, &parsed, &lowered.warnings);
                out.push_str(&dump(&lowered.graph));
                if !lowered.unused_build_args.is_empty() {
                    writeln!(out, "Unused {}", lowered.unused_build_args.join(" ")).unwrap();
                }
                if let Some(seconds) = lowered.source_date_epoch {
                    writeln!(out, "Epoch {seconds}").unwrap();
                }
                return out;
            }
        }
    }
}

#[test]
fn every_case_gives_what_it_gave() {
    let cases = cases();
    assert!(cases.len() >= 210, "only {} cases", cases.len());
    let mut failed = Vec::new();
    for case in cases {
        let name = case.file_stem().unwrap().to_string_lossy().into_owned();
        let output = render(&std::fs::read(&case).unwrap(), &options(&case));
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(testdata());
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        // One differing case must not hide the others.
        let compare = || settings.bind(|| insta::assert_snapshot!(name.clone(), output));
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(compare)).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "these differ: {failed:?}");
}

/// What must hold for any bytes: no panic, and every span within the text, on its character boundaries' lines.
fn check_any(bytes: &[u8]) {
    let parsed = parse(bytes);
    let index = LineIndex::new(parsed.text());
    let check = |diagnostics: &[Diagnostic]| {
        for diagnostic in diagnostics {
            let spans = std::iter::once(diagnostic.span).chain(diagnostic.notes.iter().map(|note| note.span));
            for span in spans {
                assert!(span.start <= span.end && span.end <= parsed.text().len(), "{diagnostic:?}");
                let position = index.position(parsed.text(), span.start);
                assert!(position.line >= 1 && position.line <= index.lines(), "{diagnostic:?}");
                let line = index.span(position.line).unwrap();
                assert!(line.start <= span.start && span.start <= line.end, "{diagnostic:?}");
            }
        }
    };
    check(parsed.diagnostics());
    let mut options = LowerOptions::new(Platform::linux("amd64"));
    options.build_args.insert("A".into(), "value of a".into());
    check_nothing_is_invented(&parsed, &options);
    let mut facts = Facts::default();
    // Two rounds of images suffice: bases, then what their triggers name.
    for _ in 0..4 {
        match lower(&parsed, &options, &facts) {
            Err(diagnostics) => {
                assert!(diagnostics.iter().any(Diagnostic::is_error));
                return check(&diagnostics);
            }
            Ok(Lowering::Needs(requests)) => {
                assert!(!requests.is_empty());
                for request in requests {
                    assert!(request.span.end <= parsed.text().len());
                    let known = image(&request);
                    let fact = known.unwrap_or_else(|| ImageFact {
                        id: ImageId(Digest::of(b"any")),
                        config: ImageConfig::empty(&request.platform),
                    });
                    facts.images.insert((request.reference, request.platform), fact);
                }
            }
            Ok(Lowering::Done(lowered)) => {
                assert_eq!(lowered.graph.targets().len(), 1);
                return check(&lowered.warnings);
            }
        }
    }
    panic!("images are asked for again and again");
}

/// What is said before any image is known must still hold when they are.
fn check_nothing_is_invented(parsed: &Parsed, options: &LowerOptions) {
    const NAMES: [&str; 7] =
        ["debian:12", "alpine:latest", "tools:1", "nopath:1", "service:1", "onbuild:1", "onbuild:stage"];
    let Err(early) = lower(parsed, options, &Facts::default()) else { return };
    let mut facts = Facts::default();
    for name in NAMES {
        let reference: Reference = name.parse().unwrap();
        let platform = options.platform.clone();
        let request =
            ImageRequest { reference: reference.clone(), platform: platform.clone(), span: Span::default() };
        facts.images.insert((reference, platform), image(&request).unwrap());
    }
    let late = lower(parsed, options, &facts).expect_err("errors do not vanish");
    for diagnostic in early.iter().filter(|diagnostic| diagnostic.is_error()) {
        assert!(late.contains(diagnostic), "invented: {diagnostic:?}\n{}", parsed.text());
    }
}

#[test]
fn all_prefixes_of_all_cases_are_survived() {
    for case in cases() {
        let bytes = std::fs::read(&case).unwrap();
        let step = (bytes.len() / 60).max(1);
        (0..=bytes.len()).step_by(step).for_each(|end| check_any(&bytes[..end]));
    }
}

/// Pieces that mean something, so that random texts get past the first line.
const PIECES: [&str; 58] = [
    "FROM",
    "debian:12",
    "AS",
    "a",
    "\n",
    "\n",
    "\n",
    " ",
    " ",
    "RUN",
    "COPY",
    "ADD",
    "ENV",
    "ARG",
    "LABEL",
    "<<EOF",
    "<<-'EOF'",
    "EOF",
    "\nEOF\n",
    "\\\n",
    "`",
    "\"",
    "'",
    "$",
    "${A",
    "}",
    ":-",
    "%%",
    "##",
    "//",
    "/",
    "[",
    "]",
    ",",
    "--from=",
    "--mount=type=cache,target=/x",
    "--chmod=",
    "0",
    "\u{e9}",
    "\u{1f600}",
    "\0",
    "\r\n",
    "\t",
    "#",
    "# escape=`\n",
    "ONBUILD",
    "HEALTHCHECK",
    "--interval=1s",
    "CMD",
    "EXPOSE",
    "80-90/tcp",
    "WORKDIR",
    "=",
    "A",
    "scratch",
    "SHELL [\"a\"]",
    "FROM scratch\n",
    "\u{feff}",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_any(&bytes);
    }

    #[test]
    fn random_pieces_are_survived(picks in proptest::collection::vec(0..PIECES.len(), 0..60)) {
        let text: String = picks.into_iter().map(|pick| PIECES[pick]).collect();
        check_any(text.as_bytes());
        check_any(format!("FROM scratch\n{text}").as_bytes());
    }

    #[test]
    fn mutated_cases_are_survived(case in any::<usize>(), edits in proptest::collection::vec((any::<usize>(), 0..PIECES.len(), 0..6_usize), 1..8)) {
        let cases = cases();
        let mut bytes = std::fs::read(&cases[case % cases.len()]).unwrap();
        for (at, piece, removed) in edits {
            let at = at % (bytes.len() + 1);
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, PIECES[piece].bytes());
        }
        check_any(&bytes);
    }
}

/// Hostile sizes finish quickly; a debug build has ten times the time of what a user would notice.
#[test]
fn hostile_sizes_are_bounded() {
    let mut doubling = "FROM scratch\nARG A0=0123456789\n".to_owned();
    (1..200).for_each(|step| {
        writeln!(doubling, "ARG A{step}=$A{0}$A{0}", step - 1).unwrap();
    });
    let texts = [
        doubling,
        format!("FROM scratch\nRUN {}\n", "x".repeat(1 << 20)),
        "x y\n".repeat(50_000),
        format!(
            "FROM scratch\n{}",
            (0..20_000).map(|step| format!("ENV V{step}=1\nRUN true\n")).collect::<String>()
        ),
        (0..20_000).map(|step| format!("FROM scratch AS s{step}\n")).collect(),
        format!(
            "FROM scratch AS s0\n{}",
            (1..10_000)
                .map(|step| format!("FROM s{} AS s{step}\nENV A{step}=1\n", step - 1))
                .collect::<String>()
        ),
        format!("FROM scratch\nCOPY {} /x/\n", "<<A ".repeat(1000)),
        format!("FROM scratch\nENV A=${{{}", "A:-${".repeat(100_000)),
        format!("FROM scratch\n{}", "EXPOSE 0-65535\n".repeat(2000)),
        format!("FROM scratch\nENV A={}\nENV B=${{A//*a*b*c*d*e/x}}\n", "ab".repeat(200_000)),
        "#escape=`\n".repeat(50_000),
        "FROM scratch\nRUN \\\n".to_owned() + &"\n# c\n".repeat(100_000),
        format!("FROM scratch\nRUN --mount={}type=cache true\n", "a=b,".repeat(100_000)),
        format!("FROM scratch\nRUN {}\n", "--network=none ".repeat(50_000)),
    ];
    // Without a bound one of these would not come to an end before the patience of whoever runs the tests does.
    texts.iter().for_each(|text| check_any(text.as_bytes()));
}
