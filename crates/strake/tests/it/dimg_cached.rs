//! Stages that are in the store: which are used, which must not be, and what is told of them.

use serde_json::Value;
use strake_testkit::Base;

use crate::dimg_scene::{Project, rows, signatures};

/// Noon and a half of a day in October 2018, three hours east.
const MADE: &str = "1540902741";
const ZONE: &str = "MSK-3";

const FILE: &str = "dimg: ~\nfrom: debian:12\ngit:\n- add: /\n  to: /app\n  owner: app\n  group: app\n\
                    shell:\n  install: make\ndocker:\n  EXPOSE: 80\n";

/// Names the labels of the mapping of [`FILE`]: SHA-256 of `own:::/app:::…:::app:::app:::…`.
const MAPPING: &str = "strake-git-763de52af2f1cdd7a5f55d71ec130dc5cda1be22f176812e240ccbc7c00fb6f1";

/// The project of [`FILE`], with a base image in its store.
fn project() -> Project {
    let project = Project::with(FILE);
    project.sandbox.load_base(Base::Busybox, "busybox").unwrap();
    project
}

/// Puts an image under the name of a stage: a base, a layer of 1,000,000 bytes, and labels on top.
fn put(project: &Project, signature: &str, commit: Option<&str>) {
    let labels = commit.map(|commit| format!("LABEL {MAPPING}-commit={commit} {MAPPING}-type=directory\n"));
    let dockerfile = format!("FROM busybox\nCOPY f /f\n{}", labels.unwrap_or_default());
    project.sandbox.write("image/Dockerfile", dockerfile).unwrap();
    project.sandbox.write("image/f", "x".repeat(1_000_000)).unwrap();
    let name = format!("dimgstage-app:{signature}");
    let words = ["build", "-q", "--network=none", "--timestamp", MADE, "-t", &name, "image"];
    project.sandbox.strake(words).succeed().unwrap();
}

fn plan(project: &Project) -> Vec<String> {
    let text = project.prints(&["dimg", "build", "--dry-run"]);
    signatures(&text).into_iter().map(str::to_owned).collect()
}

fn states(project: &Project) -> String {
    let text = project.prints(&["dimg", "build", "--dry-run"]);
    let short = |(title, state): &(String, String)| {
        let title = title.split(": ").last().unwrap_or_default();
        format!("{title} {}", state.trim_matches(['[', ']']))
    };
    rows(&text).iter().map(short).collect::<Vec<_>>().join("; ")
}

#[test]
fn one_cached_stage_at_the_end_makes_all_before_it_unnecessary() {
    let project = project();
    let head = project.git(&["rev-parse", "HEAD"]);
    let signatures = plan(&project);
    put(&project, signatures.last().unwrap(), Some(&head));
    let size = |name: &str| {
        let images: Value =
            serde_json::from_str(&project.prints(&["images", "--format=json", name])).unwrap();
        images[0]["size"].as_u64().unwrap()
    };
    let whole = size("dimgstage-app");
    assert!(whole > size("busybox") + 1_000_000);
    let text = project.command(&["dimg", "build"]).env("TZ", ZONE).succeed().unwrap().stdout;
    let [from, archive, before, install, setup, docker] = &signatures[..] else { panic!("{signatures:?}") };
    let megabytes = format!("{:.3}", f64::from(u32::try_from(whole).unwrap()) / 1e6);
    let megabytes = megabytes.trim_end_matches('0');
    let expected = format!(
        "\
From                                                                                        [NOT PRESENT]
  signature: dimgstage-app:{from}
Git artifacts: create archive                                                               [NOT PRESENT]
  signature: dimgstage-app:{archive}
Install group
  Git artifacts: apply patches (before install)                                             [NOT PRESENT]
    signature: dimgstage-app:{before}
  Install                                                                                   [NOT PRESENT]
    signature: dimgstage-app:{install}
Setup group
  Git artifacts: apply patches (after setup)                                                [NOT PRESENT]
    signature: dimgstage-app:{setup}
    date: 2018-10-30 15:32:21 +0300
    size: {megabytes} MB
Docker instructions                                                                         [USING CACHE]
  signature: dimgstage-app:{docker}
  date: 2018-10-30 15:32:21 +0300
  difference: 0.0 MB
Running time "
    );
    assert!(text.starts_with(&expected), "{text}\n{expected}");
}

#[test]
fn all_that_is_there_has_a_date_and_what_it_adds() {
    let project = project();
    let head = project.git(&["rev-parse", "HEAD"]);
    let signatures = plan(&project);
    put(&project, &signatures[0], None);
    for signature in &signatures[1..] {
        put(&project, signature, Some(&head));
    }
    let text = project.prints(&["build"]);
    assert_eq!(rows(&text).iter().filter(|(_, state)| state == "[USING CACHE]").count(), signatures.len());
    assert_eq!(text.matches("date: 2018-10-30 12:32:21 +0000").count(), signatures.len(), "{text}");
    assert_eq!(
        (text.matches(" size: ").count(), text.matches(" difference: 0.0 MB").count()),
        (1, 5),
        "{text}"
    );
}

#[test]
fn the_latest_patch_follows_the_recorded_commit() {
    let project = project();
    let head = project.git(&["rev-parse", "HEAD"]);
    put(&project, plan(&project).last().unwrap(), Some(&head));
    project.file("src/main.sh", "echo 2\n");
    project.commit("second");
    // The last stage has old files, and nothing below it is there to be patched.
    let planned = states(&project);
    assert!(planned.contains("latest patch BUILD; Docker instructions BUILD"), "{planned}");
    assert!(planned.starts_with("From BUILD"), "{planned}");
    let patched = plan(&project);
    put(&project, &patched[4], Some(&head));
    let planned = states(&project);
    let end = "apply patches (after setup) USING CACHE; latest patch BUILD; Docker instructions BUILD";
    assert!(planned.starts_with("From NOT PRESENT") && planned.ends_with(end), "{planned}");
}

#[test]
fn stages_of_lost_or_foreign_commits_are_made_again() {
    let project = project();
    let first = project.git(&["rev-parse", "HEAD"]);
    project.git(&["checkout", "-q", "-b", "other"]);
    project.file("src/other.sh", "echo other\n");
    let foreign = project.commit("foreign");
    project.git(&["checkout", "-q", "main"]);
    let signatures = plan(&project);
    for commit in [&foreign, &"0".repeat(40), "nonsense"] {
        put(&project, &signatures[0], None);
        put(&project, &signatures[3], Some(commit));
        let planned = states(&project);
        assert!(planned.starts_with("From USING CACHE; create archive BUILD"), "{planned}");
        assert!(planned.contains("Install REBUILD"), "{planned}");
    }
    put(&project, &signatures[3], Some(&first));
    assert!(states(&project).contains("Install USING CACHE"), "{}", states(&project));
}

#[test]
fn an_image_of_another_signature_is_not_the_stage() {
    let project = project();
    let signatures = plan(&project);
    put(&project, &signatures[0], None);
    assert!(states(&project).starts_with("From USING CACHE"));
    let name = format!("dimgstage-app:{}", signatures[0]);
    let dockerfile = format!("FROM busybox\nLABEL strake-signature={}\n", signatures[1]);
    project.sandbox.write("image/Dockerfile", dockerfile).unwrap();
    project.sandbox.strake(["build", "-q", "--network=none", "-t", &name, "image"]).succeed().unwrap();
    assert!(states(&project).starts_with("From BUILD"), "{}", states(&project));
}

#[test]
fn what_git_said_is_remembered_and_may_be_forgotten() {
    let project = project();
    // Nobody listens there, so the build ends when it has planned.
    project.file("strake.yaml", &FILE.replace("debian:12", "127.0.0.1:1/debian:12"));
    let head = project.commit("another base");
    put(&project, plan(&project).last().unwrap(), Some(&head));
    project.file("src/main.sh", &"echo 2\n".repeat(200_000));
    project.commit("second");
    // More than a MiB since the archive: the patch after setup is renewed.
    let before = plan(&project);
    let failed = project.fails(3, &["build"]);
    assert!(failed.stderr.contains("cannot connect"), "{failed}");
    assert_eq!(plan(&project), before, "with what was remembered");
    let facts = project.prints(&["dimg", "build", "--dry-run", "--root", "other"]);
    assert!(signatures(&facts).len() >= 5, "{facts}");
}

#[test]
fn finished_images_get_names() {
    let project = project();
    let head = project.git(&["rev-parse", "HEAD"]);
    let words = ["dimg", "tag", "--tag-branch", "--tag", "v2.3.1", "localhost:5000/app"];
    let failed = project.fails(2, &words);
    assert!(failed.stderr.contains("dimg ~ is not built"), "{failed}");
    put(&project, plan(&project).last().unwrap(), Some(&head));
    let named = |state: &str| {
        let name = "localhost:5000/app";
        let row = |tag: &str| (format!("{name}:{tag}"), state.to_owned());
        vec![row("v2-3-1-5cb8b0a4"), row("main")]
    };
    assert_eq!(rows(&project.prints(&[&words[..], &["--dry-run"]].concat())), named("[TAG]"));
    assert!(!project.prints(&["images"]).contains("localhost"));
    let text = project.prints(&words);
    let done: Vec<_> = rows(&text).into_iter().map(|(name, state)| (name, state[..4].to_owned())).collect();
    assert_eq!(done, named("[OK]"));
    assert!(text.starts_with("custom\n  localhost:5000/app:v2-3-1"), "{text}");
    assert!(text.contains("\ngit_branch\n  localhost:5000/app:main"), "{text}");
    assert_eq!(rows(&project.prints(&words)), named("[EXIST]"));
    // With times that are cut off they are other images, each once.
    let cut_off = || project.command(&words).env("SOURCE_DATE_EPOCH", "1600000000").succeed().unwrap().stdout;
    assert!(cut_off().contains("[OK]"));
    assert_eq!(rows(&cut_off()), named("[EXIST]"));
    let inspected: Value =
        serde_json::from_str(&project.prints(&["inspect", "localhost:5000/app:main"])).unwrap();
    let labels = &inspected[0]["Config"]["Labels"];
    assert_eq!(
        (&labels["strake-dimg"], &labels["strake-tag-scheme"]),
        (&"true".into(), &"git_branch".into())
    );
    assert_eq!(labels[format!("{MAPPING}-commit")], Value::from(head));
    project.git(&["checkout", "-q", "--detach"]);
    assert!(project.fails(2, &words).stderr.contains("--tag-branch: no branch is checked out"));
}
