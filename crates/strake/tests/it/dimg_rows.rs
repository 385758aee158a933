//! What is shown while stages are assembled: nested work, files of git, and progress for people and programs.

use serde_json::Value;
use strake_testkit::{Base, Registry, Sandbox, lacking, program_on_path};

use crate::STRAKE;
use crate::dimg_scene::{Project, rows};

const FILE: &str = "artifact: assets
from: busybox
shell:
  install: mkdir /out && echo 1 > /out/a
---
dimg: web
from: busybox
git:
- add: /src
  to: /srv/src
  stageDependencies: {install: watched}
- add: /conf
  to: /srv/conf
import:
- artifact: assets
  add: /out
  to: /srv/out
  before: setup
shell:
  install: echo said by a command; echo also >&2
";

fn project(stage_file: &str) -> Project {
    let project = Project::new("app");
    project.sandbox.load_base(Base::Busybox, "busybox").unwrap();
    project.file("strake.yaml", stage_file);
    for path in ["src/main", "src/watched", "conf/a"] {
        project.file(path, "1\n");
    }
    project.commit("first");
    project
}

/// The lines with a state, without seconds.
fn states(text: &str) -> Vec<String> {
    let state = |(title, state): (String, String)| {
        let state = state.split_inclusive(']').next().unwrap_or_default().to_owned();
        format!("{} {state}", title.trim_end_matches(" ..."))
    };
    rows(text).into_iter().map(state).collect()
}

#[test]
fn nested_work_has_rows_and_mappings_have_lines() {
    let project = project(FILE);
    let first = project.git(&["rev-parse", "HEAD"]);
    // With more jobs any of the images may make the stage that they begin with.
    let text = project.prints(&["dimg", "build", "--verbose", "--jobs", "1"]);
    let expected = [
        "calculating stages signatures [RUNNING]",
        "calculating stages signatures [OK]",
        "From [OK]",
        "Git artifacts: create archive [OK]",
        "Git artifacts: apply patches (before install) [OK]",
        "Install [BUILDING]",
        "Install [OK]",
        "building artifact assets [RUNNING]",
        "From [USING CACHE]",
        "Install [BUILDING]",
        "Install [OK]",
        "building artifact assets [OK]",
        "copying artifact assets [RUNNING]",
        "copying artifact assets [OK]",
        "Before setup artifact [OK]",
        "Git artifacts: apply patches (after setup) [OK]",
    ];
    assert_eq!(states(&text), expected, "{text}");
    let git = format!("    git:\n      own {first} to /srv/src\n      own {first} to /srv/conf\n");
    assert_eq!(text.matches(&git).count(), 1, "{text}");

    project.file("src/watched", "2\n");
    let second = project.commit("second");
    let planned = project.prints(&["dimg", "build", "--dry-run", "--verbose"]);
    let text = project.prints(&["dimg", "build"]);
    assert!(!text.contains("calculating"), "{text}");
    let git = |to: &str| format!("        own {first}..{second} to {to}\n");
    let git = format!("      git:\n{}{}", git("/srv/src"), git("/srv/conf"));
    assert_eq!((planned.matches(&git).count(), text.matches(&git).count()), (1, 1), "{planned}{text}");
}

#[test]
fn a_base_that_is_not_here_is_pulled_with_a_row() {
    if program_on_path("docker-registry").is_none() {
        return lacking("docker-registry");
    }
    let registry = Registry::start().unwrap();
    let name = format!("{}/base:1", registry.address());
    let publisher = Sandbox::new(STRAKE).unwrap();
    publisher.load_base(Base::Busybox, "busybox").unwrap();
    publisher.strake(["tag", "busybox", &name]).succeed().unwrap();
    publisher.strake(["push", &name]).succeed().unwrap();

    let project = project(&format!("dimg: web\nfrom: {name}\nshell:\n  install: 'true'\n"));
    let text = project.prints(&["dimg", "build"]);
    let pulling = [format!("pulling image {name} [RUNNING]"), format!("pulling image {name} [OK]")];
    assert_eq!(states(&text)[..2], pulling, "{text}");
    assert_eq!(states(&text)[2..], ["From [OK]", "Install [BUILDING]", "Install [OK]"], "{text}");
    project.file("strake.yaml", &format!("dimg: web\nfrom: {name}\nfromCacheVersion: '2'\n"));
    assert_eq!(states(&project.prints(&["dimg", "build"])), ["From [OK]"], "it is here now");
    project.file("strake.yaml", &format!("dimg: web\nfrom: {name}0\n"));
    let failed = project.fails(2, &["dimg", "build"]);
    assert_eq!(states(&failed.stdout)[1], format!("pulling image {name}0 [FAILED]"), "{failed}");
}

#[test]
fn rows_stay_on_standard_output_whatever_progress_is_asked_for() {
    let expected = |text: &str| states(text).iter().filter(|row| row.ends_with("[OK]")).count() == 9;
    for mode in ["plain", "rawjson", "quiet", "tty", "auto"] {
        let project = project(FILE);
        let done = project.command(&["dimg", "build", "--progress", mode]).succeed().unwrap();
        assert!(expected(&done.stdout) && done.stdout.contains("Running time "), "{mode}: {done}");
        assert!(!done.stdout.contains("said by a command\n"), "{mode}: {done}");
        match mode {
            "quiet" => assert_eq!(done.stderr, "", "{mode}"),
            "rawjson" => {
                let events: Vec<Value> =
                    done.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                let said: String = events.iter().filter_map(|event| event["text"].as_str()).collect();
                assert!(said.contains("said by a command\n") && said.contains("also\n"), "{done}");
            }
            "tty" => assert!(done.stderr.contains("\u{1b}["), "{done}"),
            _ => assert!(done.stderr.contains(" said by a command"), "{mode}: {done}"),
        }
    }
    let project = project(FILE);
    let done = project.command(&["dimg", "build"]).succeed().unwrap();
    assert!(expected(&done.stdout) && done.stdout.contains("\nsaid by a command\n"), "{done}");
    assert_eq!(done.stderr, "");
}

#[test]
fn programs_read_warnings_and_mistakes_as_events_too() {
    let events = |text: &str| -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).map_err(|error| format!("{error}: {line}"));
        text.lines().map(|line| parse(line).unwrap()).collect()
    };
    let project = project("dimg: a\nfrom: busybox{{ .Files.Get \"nothing\" }}\n");
    project.file(".dapp_config", "build_dir: /nowhere\n");
    project.file(
        "strake.yaml",
        "dimg: a\nfrom: busybox{{ .Files.Get \"nothing\" }}\nshell:\n  install: exit 3\n",
    );
    for words in [&["--progress", "rawjson", "--dry-run"][..], &["--progress", "rawjson"]] {
        let done = project.command(&[&["dimg", "build"], words].concat()).finish().unwrap();
        let events = events(&done.stderr);
        for what in ["`build_dir`", ".Files.Get"] {
            let is_it = |event: &&Value| {
                event["event"] == "warning" && event["message"].as_str().unwrap().contains(what)
            };
            assert_eq!(events.iter().filter(is_it).count(), 1, "{what}: {done}");
        }
        let mut times = events.iter().map(|event| event["t"].as_f64().unwrap());
        let mut last = 0.0;
        assert!(times.all(|time| time >= std::mem::replace(&mut last, time)), "{done}");
        if words.len() == 2 {
            let error = events.last().unwrap();
            assert_eq!((&error["event"], &error["exit_code"]), (&"error".into(), &3.into()), "{done}");
            assert!(done.stdout.contains("[FAILED]"), "{done}");
        }
    }
    project.file("strake.yaml", "dimg: a\nform: x\n");
    let failed = project.fails(2, &["dimg", "build", "--progress", "rawjson"]);
    let error = events(&failed.stderr).pop().unwrap();
    assert!(error["details"].as_str().unwrap().contains("did you mean `from`?"), "{failed}");
    // The setting asks as the option does.
    let failed = project.command(&["dimg", "build"]).env("STRAKE_PROGRESS", "rawjson").finish().unwrap();
    assert_eq!(events(&failed.stderr).pop().unwrap()["event"], "error", "{failed}");
}

#[test]
fn each_instruction_is_a_layer_where_that_is_asked_for() {
    let file = "dimg: ~
from: busybox
asLayers: true
shell:
  beforeInstall: mkdir /a && cd /a
  install:
  - touch one; pwd > /where
  - echo 2 > /two
  setup:
  - date +%s%N > /first
  - echo one > /second
  - echo last > /third
docker:
  ENV: {A: b}
";
    let project = project(file);
    let built = |project: &Project| -> Vec<String> {
        let text = project.prints(&["dimg", "build"]);
        let done = states(&text).into_iter().filter_map(|row| row.strip_suffix(" [OK]").map(str::to_owned));
        done.collect()
    };
    let all = [
        "From",
        "Before install 1",
        "Install 1",
        "Install 2",
        "Setup 1",
        "Setup 2",
        "Setup 3",
        "Docker instructions",
    ];
    assert_eq!(built(&project), all);
    let name = |project: &Project| project.prints(&["stage", "image"]).trim().to_owned();
    let layers = |project: &Project| {
        let inspected: Value = serde_json::from_str(&project.prints(&["inspect", &name(project)])).unwrap();
        inspected[0]["RootFS"]["Layers"].as_array().unwrap().clone()
    };
    let before = layers(&project);
    assert_eq!(before.len(), 1 + 6, "the base, and one for each instruction");
    let seen = |project: &Project, path: &str| {
        project.prints(&["run", "--network", "none", &name(project), "cat", path])
    };
    assert_eq!(seen(&project, "/where"), "/\n", "each begins in the root, for itself");
    let first = seen(&project, "/first");

    project.file("strake.yaml", &file.replace("echo last", "echo changed"));
    assert_eq!(built(&project), ["Setup 3", "Docker instructions"]);
    assert_eq!((seen(&project, "/third"), seen(&project, "/first")), ("changed\n".to_owned(), first.clone()));
    assert_eq!(layers(&project)[..6], before[..6]);
    // One more is one more; one that fails leaves those in front of it.
    project.file("strake.yaml", &file.replace("docker:", "  - echo 4 > /fourth\n  - exit 9\ndocker:"));
    let failed = project.fails(1, &["dimg", "build"]);
    assert!(
        states(&failed.stdout).ends_with(&[
            "Setup 4 [OK]".into(),
            "Setup 5 [BUILDING]".into(),
            "Setup 5 [FAILED]".into()
        ]),
        "{failed}"
    );
    project.file("strake.yaml", &file.replace("docker:", "  - echo 4 > /fourth\n  - exit 0\ndocker:"));
    assert_eq!(built(&project), ["Setup 5", "Docker instructions"]);
    assert_eq!(seen(&project, "/first"), first);
}
