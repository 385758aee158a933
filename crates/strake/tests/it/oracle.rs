//! The oracle suite: the same Dockerfile built by docker's classic builder, by its BuildKit and by strake
//! must give the same file system and the same config.
//!
//! The cases are text, in `tests/oracle/*.cases` (format: `strake_testkit::Case`); one test per file. What
//! differs for good stands in `tests/oracle/known-differences` with its reason; an entry that is not needed
//! fails the suite just as a difference without an entry does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use strake_testkit::{
    ArchiveImage, Base, Builder, Case, Dockerd, Expectation, Failure, ImageArchive, KnownDifference, Outcome,
    Run, Sandbox, TestUser, config_differences, is_root, lacking, normalise, parse_cases,
    parse_known_differences,
};

use crate::STRAKE;

/// One test per file of cases, and a test that no file is left out.
macro_rules! suites {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run_suite(stringify!($name)); })*

        #[test]
        fn every_file_of_cases_is_run() {
            let mut listed = vec![$(stringify!($name)),*];
            listed.sort_unstable();
            assert_eq!(files_of_cases(), listed);
        }
    };
}

suites! { add arguments config copy errors files heredoc ignore mounts onbuild parsing stages }

#[test]
fn known_differences_name_existing_cases() {
    let names: Vec<String> =
        files_of_cases().iter().flat_map(|file| cases_of(file)).map(|case| case.name).collect();
    let mut sorted = names.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), names.len(), "two cases have the same name");
    for known in known_differences() {
        assert!(
            names.contains(&known.case),
            "known-differences names the case {}, which does not exist",
            known.case
        );
    }
}

/// A referee that never finds anything would be worthless: a deliberately different image must be told apart.
#[test]
fn the_comparison_detects_mutations() {
    let Some(docker) = referee() else { return };
    let sandbox = Sandbox::new(STRAKE).unwrap();
    load_bases(&docker, &sandbox);
    let build = |tag: &str, dockerfile: &str| {
        let directory = sandbox.path(tag);
        sandbox.write(&format!("{tag}/Dockerfile"), dockerfile).unwrap();
        sandbox.write(&format!("{tag}/f"), "same").unwrap();
        let tag = format!("mutation-{tag}");
        docker.build(Builder::BuildKit, &tag, &[], &directory).unwrap();
        docker.take(&tag).unwrap().only().unwrap()
    };
    let original = "FROM busybox\nCOPY f /d/f\nENV A=1\n";
    let reference = build("original", original);
    assert_eq!(differences(&reference, &build("again", original)), BTreeMap::new());
    let mutations = [
        ("mode", "FROM busybox\nCOPY f /d/f\nRUN chmod 600 /d/f\nENV A=1\n", "d/f"),
        ("owner", "FROM busybox\nCOPY --chown=5:6 f /d/f\nENV A=1\n", "d/f"),
        ("content", "FROM busybox\nCOPY f /d/f\nRUN echo other > /d/f\nENV A=1\n", "d/f"),
        ("extra", "FROM busybox\nCOPY f /d/f\nRUN touch /d/g\nENV A=1\n", "d/g"),
        ("missing", "FROM busybox\nENV A=1\n", "d/f"),
        ("removed", "FROM busybox\nCOPY f /d/f\nRUN rm /d/f\nENV A=1\n", "d/f"),
        ("kind", "FROM busybox\nCOPY f /d/f\nRUN cd /d && mv f g && ln -s g f\nENV A=1\n", "d/f"),
        ("link", "FROM busybox\nCOPY f /d/f\nRUN ln /d/f /d/h\nENV A=1\n", "d/h"),
        ("config", "FROM busybox\nCOPY f /d/f\nENV A=2\n", "Env"),
        ("directory", "FROM busybox\nCOPY f /d/f\nRUN chmod 700 /d\nENV A=1\n", "d"),
    ];
    for (name, dockerfile, place) in mutations {
        let found = differences(&reference, &build(name, dockerfile));
        assert!(found.contains_key(place), "mutation {name} was not found at {place}, only at {found:?}");
    }
}

/// Runs all cases of one file, two at a time, and reports every failure at once.
fn run_suite(file: &str) {
    let Some(docker) = referee() else { return };
    let sandbox = Sandbox::new(STRAKE).unwrap();
    load_bases(&docker, &sandbox);
    let ordinary = ordinary_sandbox();
    let cases = cases_of(file);
    let known = known_differences();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let runner = Runner {
                        docker: &docker,
                        sandbox: &sandbox,
                        ordinary: ordinary.as_ref(),
                        known: &known,
                    };
                    let report = runner.run(case).unwrap_or_else(|failure| failure.to_string());
                    if !report.is_empty() {
                        failures.lock().unwrap().insert(case.name.clone(), report);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let mut text = String::new();
    for (name, report) in &failures {
        let _ = writeln!(text, "\n--- {file}/{name}\n{}", report.trim_end());
    }
    assert!(failures.is_empty(), "{} of {} cases of {file} failed:\n{text}", failures.len(), cases.len());
}

struct Runner<'a> {
    docker: &'a Dockerd,
    sandbox: &'a Sandbox,
    ordinary: Option<&'a Sandbox>,
    known: &'a [KnownDifference],
}

impl Runner<'_> {
    /// Builds one case with everybody; the report is empty when all agree.
    fn run(&self, case: &Case) -> Outcome<String> {
        let directory = lay_out(self.sandbox, case)?;
        let args = resolved_args(case, &directory);
        let mut report = String::new();
        let mut theirs = Vec::new();
        for &builder in &case.builders {
            theirs.push((builder, self.build_with_docker(builder, case, &args, &directory)?));
        }
        let ours = build_with_strake(self.sandbox, case, &args, &directory)?;
        match &ours {
            Built::Image(image) if !case.refused => {
                report.push_str(&expectations(case, image));
                for (builder, built) in &theirs {
                    report.push_str(&match built {
                        Built::Image(theirs) => self.compare(case, builder.name(), theirs, image),
                        Built::Refused(text) => {
                            format!("{} refuses it, strake builds it:\n{text}\n", builder.name())
                        }
                    });
                }
            }
            Built::Image(_) => report.push_str("strake builds it, it should be refused\n"),
            Built::Refused(text) if !case.refused => {
                let _ = writeln!(report, "strake refuses it:\n{text}");
            }
            Built::Refused(text) => {
                for (builder, _) in theirs.iter().filter(|(_, built)| matches!(built, Built::Image(_))) {
                    let _ = writeln!(report, "{} builds it, the case says it is refused", builder.name());
                }
                for words in case.says.iter().filter(|words| !text.contains(words.as_str())) {
                    let _ = writeln!(report, "strake's message lacks {words:?}:\n{text}");
                }
            }
        }
        if let (Some(ordinary), Built::Image(as_root)) = (self.ordinary, &ours) {
            report.push_str(&self.rootless(ordinary, case, as_root)?);
        }
        Ok(report)
    }

    fn build_with_docker(
        &self,
        builder: Builder,
        case: &Case,
        args: &[String],
        directory: &Path,
    ) -> Outcome<Built> {
        for (name, dockerfile) in &case.before {
            let base = tempfile::tempdir().map_err(Failure::at("create a directory"))?;
            std::fs::write(base.path().join("Dockerfile"), dockerfile)
                .map_err(Failure::at("write a Dockerfile"))?;
            let finished = self.docker.build(builder, name, &[], base.path())?;
            if !finished.success() {
                return Err(Failure::new(format!("{name}: {finished}")));
            }
        }
        let tag = format!("case-{}-{}:{}", case.name, builder.name(), std::process::id()).to_lowercase();
        let finished = self.docker.build(builder, &tag, args, &directory.join(&case.context))?;
        if !finished.success() {
            return Ok(Built::Refused(finished.to_string()));
        }
        Ok(Built::Image(self.docker.take(&tag)?.only()?))
    }

    /// Differences from one builder that are not known, and known ones that are gone.
    fn compare(&self, case: &Case, builder: &str, theirs: &ArchiveImage, ours: &ArchiveImage) -> String {
        let mut found = differences(theirs, ours);
        let mut report = String::new();
        for known in self.known.iter().filter(|known| known.case == case.name && known.builder == builder) {
            if found.remove(&known.place).is_none() {
                let _ = writeln!(
                    report,
                    "known-differences: {builder} {} no longer differs, remove the entry",
                    known.place
                );
            }
        }
        for (place, (left, right)) in found {
            let _ = writeln!(report, "{place}\n    {builder:8} {left}\n    strake   {right}");
        }
        report
    }

    /// An ordinary user must get the same image as root. Known differences of it have the builder `rootless`, and the
    /// place `refused` when the ordinary user gets no image at all.
    fn rootless(&self, ordinary: &Sandbox, case: &Case, as_root: &ArchiveImage) -> Outcome<String> {
        let directory = ordinary.receive(&self.sandbox.path(&case.name))?;
        let args = resolved_args(case, &directory);
        let mut found = match build_with_strake(ordinary, case, &args, &directory)? {
            Built::Refused(text) => BTreeMap::from([("refused".to_owned(), ("builds it".to_owned(), text))]),
            Built::Image(image) => differences(as_root, &image),
        };
        let mut report = String::new();
        for known in self.known.iter().filter(|known| known.case == case.name && known.builder == "rootless")
        {
            if found.remove(&known.place).is_none() {
                let _ = writeln!(
                    report,
                    "known-differences: rootless {} no longer differs, remove the entry",
                    known.place
                );
            }
        }
        for (place, (left, right)) in found {
            let _ = writeln!(report, "{place}\n    root     {left}\n    rootless {right}");
        }
        Ok(report)
    }
}

/// What a builder made of a case.
enum Built {
    Image(ArchiveImage),
    Refused(String),
}

/// The running dockerd, or `None` after saying what is missing.
fn referee() -> Option<Dockerd> {
    Dockerd::shared().map_err(|failure| lacking(&failure.to_string())).ok()
}

/// A sandbox of an ordinary user with the same bases, when this run may become one.
fn ordinary_sandbox() -> Option<Sandbox> {
    if !is_root() {
        return None;
    }
    let sandbox = Sandbox::of_user(STRAKE, TestUser::first().unwrap()).unwrap();
    load_into_strake(&sandbox);
    Some(sandbox)
}

fn load_bases(docker: &Dockerd, sandbox: &Sandbox) {
    for base in [Base::Busybox, Base::Tools] {
        docker.load(&sandbox.base_archive(base, base.name()).unwrap()).unwrap();
    }
    load_into_strake(sandbox);
}

fn load_into_strake(sandbox: &Sandbox) {
    for base in [Base::Busybox, Base::Tools] {
        sandbox.load_base(base, base.name()).unwrap();
    }
}

/// Writes the files of a case into a fresh directory of the sandbox and runs its setup script.
fn lay_out(sandbox: &Sandbox, case: &Case) -> Outcome<PathBuf> {
    for (path, content) in &case.files {
        sandbox.write(&format!("{}/{path}", case.name), content)?;
    }
    let directory = sandbox.path(&case.name);
    std::fs::create_dir_all(&directory).map_err(Failure::at("create the directory of a case"))?;
    if !case.setup.is_empty() {
        sandbox.write(&format!("{}.setup", case.name), &case.setup)?;
        Run::new("sh")
            .args(["-eu"])
            .arg(sandbox.path(&format!("{}.setup", case.name)))
            .directory(&directory)
            .succeed()?;
    }
    Ok(directory)
}

/// The case's arguments; `DIR` in them is the case's directory.
fn resolved_args(case: &Case, directory: &Path) -> Vec<String> {
    case.args.iter().map(|arg| arg.replace("DIR", &directory.display().to_string())).collect()
}

fn build_with_strake(sandbox: &Sandbox, case: &Case, args: &[String], directory: &Path) -> Outcome<Built> {
    for (name, dockerfile) in &case.before {
        sandbox.write(&format!("{}.before/Dockerfile", case.name), dockerfile)?;
        let context = sandbox.path(&format!("{}.before", case.name));
        sandbox
            .strake(["build", "--progress=plain", "--network=none", "--tag", name])
            .arg(context)
            .succeed()?;
    }
    let archive = sandbox.path(&format!("{}.tar", case.name));
    let output = format!("type=docker,dest={}", archive.display());
    let run = sandbox.strake(["build", "--progress=plain", "--network=none", "--output", &output]);
    let finished = run.args(args).arg(directory.join(&case.context)).finish()?;
    match finished.code {
        0 => Ok(Built::Image(ImageArchive::read(&archive)?.only()?)),
        // "A step failed", "the input is wrong", "the registry is wrong"; everything else is a failure of the program.
        1..=3 => Ok(Built::Refused(finished.to_string())),
        _ => Err(Failure::new(finished.to_string())),
    }
}

/// Every path and config field in which two images differ, with both sides in words.
fn differences(left: &ArchiveImage, right: &ArchiveImage) -> BTreeMap<String, (String, String)> {
    let node =
        |node: Option<strake_testkit::Entry>| node.map_or("nothing".to_owned(), |node| node.to_string());
    let trees = left.tree.differences(&right.tree).into_iter();
    let trees = trees.map(|difference| (difference.path, (node(difference.left), node(difference.right))));
    let configs = config_differences(&normalise(&left.config), &normalise(&right.config)).into_iter();
    let configs = configs.map(|(field, left, right)| (field, (left.to_string(), right.to_string())));
    trees.chain(configs).collect()
}

fn expectations(case: &Case, image: &ArchiveImage) -> String {
    let config = normalise(&image.config);
    let mut report = String::new();
    for expectation in &case.expectations {
        let (place, expected, found) = match expectation {
            Expectation::Path(path, expected) => {
                let found = image.tree.nodes.get(path.trim_start_matches('/')).map(ToString::to_string);
                (path, expected.clone(), found)
            }
            Expectation::Config(field, expected) => {
                let found = config.get(field).cloned().unwrap_or(Value::Null);
                (field, Some(expected.to_string()), Some(found.to_string()))
            }
        };
        if expected != found {
            let shown = |side: Option<String>| side.unwrap_or("nothing".into());
            let _ =
                writeln!(report, "{place}\n    expected {}\n    strake   {}", shown(expected), shown(found));
        }
    }
    report
}

fn files_of_cases() -> Vec<String> {
    let entries = std::fs::read_dir(cases_directory()).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "cases"));
    let mut names: Vec<String> =
        files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn cases_of(file: &str) -> Vec<Case> {
    let path = cases_directory().join(format!("{file}.cases"));
    let text = std::fs::read_to_string(&path).unwrap();
    parse_cases(&text).unwrap_or_else(|failure| panic!("{}: {failure}", path.display()))
}

fn known_differences() -> Vec<KnownDifference> {
    let text = std::fs::read_to_string(cases_directory().join("known-differences")).unwrap();
    parse_known_differences(&text).unwrap()
}

fn cases_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle")
}
