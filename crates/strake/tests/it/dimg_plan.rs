//! Plans of stage files: signatures, what would be assembled, and that a dry run leaves everything alone.

use std::path::Path;

use strake_testkit::{Base, Sandbox, TestUser, is_root, lacking};

use crate::STRAKE;
use crate::dimg_scene::{Project, rows, signatures};

/// The stage file of the documents.
fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/symfony-demo/dappfile.yaml");
    std::fs::read_to_string(path).unwrap()
}

fn demo(stage_file: &str) -> Project {
    let project = Project::new("symfony-demo");
    project.file("dappfile.yaml", stage_file);
    project.commit("first");
    project
}

const DRY_RUN: &str = "\
From                                                                                              [BUILD]
  signature: dimgstage-symfony-demo:41772c141b158349804ad27b354247df8984ead077a5dd601f3940536ebe9a11
Before install                                                                                    [BUILD]
  signature: dimgstage-symfony-demo:959613a71298e283ed72bb7cddb5ed6edf73738db5af5cf1f2cae441a570cbde
Git artifacts: create archive                                                                     [BUILD]
  signature: dimgstage-symfony-demo:49b8b3452794072ffd7d0bee0a7fca462d7e52c8617fe9d616471d9e088985c4
Install group
  Git artifacts: apply patches (before install)                                                   [BUILD]
    signature: dimgstage-symfony-demo:52c4136e84f019e4f66e568a030319dd997bc47793f679e6feb3bb5efb633add
  Install                                                                                         [BUILD]
    signature: dimgstage-symfony-demo:39db371edb409cdd295dc2dea2dab71bd9fb542274c4ee603db6f9341a8d24fb
Setup group
  Git artifacts: apply patches (before setup)                                                     [BUILD]
    signature: dimgstage-symfony-demo:c1220652b4d1aa684e7ac2f1858af14c97c31758812f95c4fb15f577be47ed2b
  Setup                                                                                           [BUILD]
    signature: dimgstage-symfony-demo:d3d219122901d4ff5d92977aee1f47e691f6799a9e2511d6bc9853e191100e70
  Git artifacts: apply patches (after setup)                                                      [BUILD]
    signature: dimgstage-symfony-demo:18144cd51f8a4dbee9d3513c8d3a858c9792da7f22912b3c0f593729d968e548
Docker instructions                                                                               [BUILD]
  signature: dimgstage-symfony-demo:bda2d7aef23fafa50e29e2a00812dad14f2249e5b123598f8911555717a9160e
";

/// The signatures from the one that the document's edit changes first.
const AFTER_EDIT: [&str; 4] = [
    "61b955e81eec1c644be1a87a0a5df4143643f1bcf6020a7d68b14efe9db2c107",
    "fade684bc8e7a98d76c1266a705b3b791bd5740b651277dee201d446b90c1c6a",
    "588c2f45f2382431c1d79bb3c869a968fa37eb07ffff55d692c4c9c3e03d93e6",
    "c1814e7488c8c81e9fd7f7046a4a44522f99062952ef79e9997823069372b572",
];

#[test]
fn the_documents_example_is_planned_byte_for_byte_and_nothing_else_happens() {
    let project = demo(&example());
    let before = project.git(&["status", "--porcelain", "--ignored"]);
    let printed = project.command(&["dimg", "build", "--dry-run"]).succeed().unwrap();
    let (rows, time) = printed.stdout.split_at(DRY_RUN.len().min(printed.stdout.len()));
    assert_eq!(rows, DRY_RUN);
    let seconds = time.strip_prefix("Running time ").and_then(|rest| rest.strip_suffix(" seconds\n"));
    assert!(seconds.is_some_and(|seconds| seconds.parse::<f64>().is_ok()), "{time:?}");
    assert_eq!(printed.stderr, "");
    assert!(project.has_no_store(), "a dry run makes no store");
    let after = project.git(&["status", "--porcelain", "--ignored"]);
    assert_eq!((before.as_str(), after.as_str()), ("", "?? .dappfile.render.yaml"));
    assert!(project.sandbox.read("p/.dappfile.render.yaml").unwrap().contains("name: \"{{ item }}\""));
}

#[test]
fn the_documents_edit_changes_what_it_says() {
    let project = demo(&example());
    let edited = example().replace(
        "  - raw: chown app:app /app/version.txt\n",
        "  - raw: chown app:app /app/version.txt\n  - raw: echo \"Some changes\"\n",
    );
    project.file("dappfile.yaml", &edited);
    let text = project.prints(&["build", "--dry-run"]);
    let found = signatures(&text);
    assert_eq!(found[..5], signatures(DRY_RUN)[..5]);
    assert_eq!(found[5..], AFTER_EDIT);
}

#[test]
fn a_dry_run_on_a_store_leaves_it_as_it_is() {
    let project = demo(&example());
    project.prints(&["images"]);
    let listing = || {
        let dir = project.sandbox.store();
        project.sandbox.run("find").arg(dir).args(["-type", "f", "-size", "+0"]).succeed().unwrap().stdout
    };
    let before = listing();
    let text = project.prints(&["dimg", "build", "--dry-run"]);
    assert!(text.starts_with(DRY_RUN), "{text}");
    let facts = project.prints(&["du", "--format=json"]);
    assert!(!facts.contains("git-fact"), "{facts}");
    // The index keeps a log beside itself while it is open.
    let files = |text: &str| {
        text.lines().filter(|line| !line.contains("index")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(files(&listing()), files(&before));
}

#[test]
fn names_of_images_are_those_of_the_project_and_signatures_are_not() {
    let project = demo(&example());
    let other = project.prints(&["dimg", "build", "--dry-run", "--name", "Other Project"]);
    assert_eq!(signatures(&other), signatures(DRY_RUN));
    assert!(other.contains("dimgstage-other-project-"), "{other}");
    project.git(&["remote", "remove", "origin"]);
    assert!(project.prints(&["dimg", "build", "--dry-run"]).contains("signature: dimgstage-p:41772"));
}

#[test]
fn commits_change_nothing_but_watched_files_do() {
    let file = "dimg: ~\nfrom: debian:12\ngit:\n- add: /src\n  to: /app\n  stageDependencies:\n    install: lock\n\
                shell:\n  install: make\n  setup: run\n";
    let project = Project::with(file);
    project.file("src/lock", "1");
    project.commit("locked");
    let text = project.prints(&["dimg", "build", "--dry-run"]);
    let first: Vec<_> = signatures(&text).into_iter().map(str::to_owned).collect();
    project.file("src/main.sh", "echo 2\n");
    project.commit("more");
    assert_eq!(signatures(&project.prints(&["dimg", "build", "--dry-run"])), first);
    project.file("src/lock", "2");
    assert_eq!(signatures(&project.prints(&["dimg", "build", "--dry-run"])), first, "it is not committed");
    project.commit("locked again");
    let text = project.prints(&["dimg", "build", "--dry-run"]);
    let changed = signatures(&text);
    assert_eq!(changed[..2], first[..2], "from and archive");
    assert!(changed[2..].iter().zip(&first[2..]).all(|(new, old)| new != old), "{text}");
    project.commit("[strake reset]");
    let text = project.prints(&["dimg", "build", "--dry-run"]);
    assert_ne!(signatures(&text)[1], first[1], "the archive is made anew");
}

#[test]
fn what_is_not_committed_counts_for_developers_and_leaves_nothing_behind() {
    let file = "dimg: ~\nfrom: debian:12\ngit:\n- add: /src\n  to: /app\n";
    let project = Project::with(file);
    let status = || project.git(&["status", "--porcelain"]) + &project.git(&["count-objects"]);
    project.prints(&["dimg", "build", "--dry-run"]);
    project.file("src/main.sh", "echo 2\n");
    let before = status();
    let dry_run = || project.prints(&["dimg", "build", "--dry-run", "--dev"]);
    let text = dry_run();
    let second: Vec<_> = signatures(&text).into_iter().map(str::to_owned).collect();
    assert_eq!(signatures(&dry_run()), second);
    project.file("src/main.sh", "echo 3\n");
    assert_ne!(signatures(&dry_run()), second);
    project.file("src/main.sh", "echo 2\n");
    assert_eq!(status(), before);
    assert!(!project.sandbox.store().join("builds").exists());
}

#[test]
fn what_an_image_needs_is_told_where_it_is_needed_and_once() {
    let file = "artifact: tools\nfrom: a\nshell:\n  install: make\n---\ndimg: one\nfrom: b\nimport:\n\
                - artifact: tools\n  add: /t\n  to: /t\n  after: setup\n---\ndimg: two\nfromDimg: one\nshell:\n  setup: x\n";
    let project = Project::with(file);
    let text = project.prints(&["dimg", "build", "--dry-run"]);
    let told: Vec<_> =
        text.lines().filter(|line| !line.contains("signature") && !line.contains("Running")).collect();
    let titles: Vec<_> = told.iter().map(|line| line.split("  [").next().unwrap().trim_end()).collect();
    let expected = [
        "one",
        "  From",
        "  building artifact tools",
        "    From",
        "    Install group",
        "      Install",
        "  After setup artifact",
        "two",
        "  From",
        "  Setup group",
        "    Setup",
    ];
    assert_eq!(titles, expected);
    assert!(
        project
            .prints(&["dimg", "build", "--dry-run", "two"])
            .contains("  building from dimg one\n    From ")
    );
}

#[test]
fn repositories_elsewhere_are_not_fetched_by_a_dry_run() {
    let project = Project::with("");
    let url = format!("file://{}", project.sandbox.path("p").display());
    project.sandbox.load_base(strake_testkit::Base::Busybox, "busybox").unwrap();
    project.file("strake.yaml", &format!("dimg: ~\nfrom: busybox\ngit:\n- url: {url}\n  to: /x\n"));
    let failed = project.fails(2, &["dimg", "build", "--dry-run"]);
    assert!(
        failed.stderr.contains("was never fetched") && failed.stderr.contains("hint: build once"),
        "{failed}"
    );
    // A build asks, and remembers.
    project.prints(&["dimg", "build"]);
    let name = project.prints(&["stage", "image"]);
    let files = project.prints(&["run", "--network", "none", name.trim(), "cat", "/x/src/main.sh"]);
    assert_eq!(files, "echo 1\n");
    assert_eq!(project.dry_run(&[]).len(), 3);
}

#[test]
fn an_ordinary_user_gets_the_same_plan() {
    if !is_root() {
        lacking("root, to run as a second, ordinary user");
        return;
    }
    let sandbox = Sandbox::of_user(STRAKE, TestUser::first().unwrap()).unwrap();
    let project = Project::in_sandbox(sandbox, "symfony-demo");
    project.file("dappfile.yaml", &example());
    project.commit("first");
    assert!(project.prints(&["dimg", "build", "--dry-run"]).starts_with(DRY_RUN));
    let last = project.prints(&["stage", "image"]);
    assert_eq!(last.trim().rsplit(':').next(), signatures(DRY_RUN).last().copied());
    // Now there is a store.
    assert!(project.prints(&["dimg", "build", "--dry-run"]).starts_with(DRY_RUN));
}

#[test]
fn branches_tags_and_commits_of_other_repositories_are_followed() {
    let project = Project::with("");
    project.sandbox.load_base(Base::Busybox, "busybox").unwrap();
    let git = |words: &[&str]| {
        let who = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
        let run = project.sandbox.run("git").args(who).args(words).directory(&project.sandbox.path("other"));
        run.succeed().unwrap().stdout.trim().to_owned()
    };
    project.sandbox.write("other/lib/a", "1\n").unwrap();
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "--all"]);
    git(&["commit", "-q", "-m", "first"]);
    git(&["tag", "v1"]);
    let first = git(&["rev-parse", "HEAD"]);
    let url = format!("file://{}", project.sandbox.path("other").display());
    let file = |what: &str| {
        let mapping = format!("- url: {url}\n  {what}\n  add: /lib\n  to: /x\n");
        project.file("strake.yaml", &format!("dimg: ~\nfrom: busybox\ngit:\n{mapping}"));
    };
    let last = || project.prints(&["stage", "image"]);
    let content = || project.prints(&["dimg", "run", "--network", "none", "--", "cat", "/x/a"]);
    let commit = format!("commit: {first}");
    let kinds = ["branch: main", "tag: v1", &commit, "as: nothing"];
    let mut seen = Vec::new();
    for what in kinds {
        file(what);
        project.prints(&["build"]);
        assert_eq!(content(), "1\n", "{what}");
        seen.push(last());
    }
    project.sandbox.write("other/lib/a", "2\n").unwrap();
    git(&["commit", "-q", "-a", "-m", "second"]);
    for (what, before) in kinds.iter().zip(&seen) {
        file(what);
        assert_eq!(last(), *before, "nothing is fetched to tell a name");
        project.prints(&["build"]);
        let moves = what.starts_with("branch") || what.starts_with("as");
        assert_eq!(content(), if moves { "2\n" } else { "1\n" }, "{what}");
        assert_eq!(last() != *before, moves, "{what}");
    }
    file("branch: nope");
    let failed = project.fails(2, &["build"]);
    assert!(failed.stderr.contains("nope"), "{failed}");
    assert_eq!(rows(&failed.stdout), []);
}
