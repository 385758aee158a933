//! Images of a stage file that are assembled at the same time, and rows that do not show it.

use std::collections::BTreeMap;

use strake_testkit::{Base, Run};

use crate::dimg_scene::{Project, rows};

/// A project on busybox, whose stages have a folder in common that is none of their images'.
fn project(stage_file: impl FnOnce(&str) -> String) -> Project {
    let project = Project::on_busybox("");
    let common = project.sandbox.path("common");
    std::fs::create_dir(&common).unwrap();
    project.file(
        "strake.yaml",
        &stage_file(&format!("mount:\n- fromPath: {}\n  to: /common\n", common.display())),
    );
    project.commit("first");
    project
}

/// A command that leaves a mark in the common folder and waits for that of somebody else.
fn meet(own: &str, other: &str) -> String {
    format!(
        "echo {own} comes; touch /common/{own}; i=0; until [ -e /common/{other} ]; do i=$((i+1)); [ $i -lt 3000 ]; \
         sleep 0.01; done"
    )
}

/// strake with a store of its own, which has the base and nothing else.
fn afresh(project: &Project, store: &str, words: &[&str]) -> Run {
    let store = project.sandbox.path(store);
    if !store.exists() {
        let base = project.sandbox.base_archive(Base::Busybox, "busybox").unwrap();
        let load = project.sandbox.strake(["load", "--input"]).arg(base);
        load.env("STRAKE_ROOT", &store).succeed().unwrap();
    }
    project.command(words).env("STRAKE_ROOT", &store)
}

/// The lines without dates, times and states: which of several images makes what they have in common is left open.
fn outline(printed: &str) -> Vec<&str> {
    let lines =
        printed.lines().filter(|line| !line.trim().starts_with("date: ") && !line.starts_with("Running"));
    let title = |line| str::split_once(line, "  [").map_or(line, |(title, _)| title.trim_end());
    lines.map(|line| title(line).trim_end_matches(" ...")).collect()
}

/// An artifact, an image that needs it at its end, and one that stands for itself: the commands of all three.
fn three(mount: &str, commands: [&str; 3]) -> String {
    let [artifact, web, api] = commands;
    format!(
        "artifact: assets\nfrom: busybox\n{mount}shell:\n  buildArtifact:\n  - {artifact}\n  - echo a > /a\n---\n\
         dimg: web\nfrom: busybox\n{mount}import:\n- artifact: assets\n  add: /a\n  after: setup\n\
         shell:\n  install: {web}\n---\n\
         dimg: api\nfrom: busybox\n{mount}shell:\n  install: {api}\n"
    )
}

#[test]
fn what_needs_nothing_of_each_other_is_assembled_at_once_and_shown_in_order() {
    let project = project(|mount| three(mount, [&meet("assets", "web"), &meet("web", "assets"), "echo api"]));
    let build = |jobs| {
        let build = afresh(&project, jobs, &["dimg", "build", "--jobs", jobs]);
        build.succeed().unwrap().stdout
    };
    let at_once = build("2");
    // They have met, so one after the other is as good now.
    assert_eq!(outline(&at_once), outline(&build("1")));
    let titles: Vec<_> = rows(&at_once).into_iter().map(|(title, _)| title).collect();
    let place = |wanted: &str| titles.iter().position(|title| title == wanted).unwrap();
    assert!(place("Install") < place("building artifact assets"), "{at_once}");
    let at = |text: &str| at_once.find(text).unwrap_or_else(|| panic!("{text} is not in {at_once}"));
    assert!(at("web comes") < at("assets comes") && at("After setup artifact") < at("\napi\n"), "{at_once}");
}

#[test]
fn a_failure_beside_ends_the_command_and_keeps_what_is_finished() {
    let fails = format!("{}; exit 7", meet("assets", "web"));
    let project = project(|mount| three(mount, [&fails, &meet("web", "assets"), "echo api"]));
    let failed = project.command(&["dimg", "build"]).env("STRAKE_JOBS", "2").finish().unwrap();
    assert_eq!(failed.code, 1, "{failed}");
    assert!(failed.stderr.contains("exit code 7"), "{failed}");
    let rows_of = rows(&failed.stdout);
    let failures: Vec<_> = rows_of.iter().filter(|(_, state)| state.starts_with("[FAILED]")).collect();
    assert_eq!(failures.iter().filter(|(title, _)| title == "Build artifact").count(), 1, "{failed}");
    let is_named = failed.stdout.lines().any(|line| line.trim() == "assets")
        || failures.iter().any(|(title, _)| title == "building artifact assets");
    assert!(is_named, "whose rows they are: {failed}");
    assert!(failed.stdout.lines().last().unwrap().starts_with("Running time"), "{failed}");
    // The stage beside it was finished and stays.
    let kept = rows(&project.prints(&["dimg", "build", "--dry-run", "web"]));
    assert_eq!(kept[1], ("Install".to_owned(), "[USING CACHE]".to_owned()), "{kept:?}");
}

#[test]
fn temporary_folders_are_of_one_image_and_kept_ones_of_one_stage_at_a_time() {
    let image = |mount: &str, name: &str| {
        format!(
            "dimg: {name}\nfrom: busybox\n{mount}- from: tmp_dir\n  to: /tmp/own\n- from: build_dir\n  to: /kept\n\
             shell:\n  install:\n  - '[ -z \"$(ls /tmp/own)\" ]'\n  - echo {name} > /tmp/own/name\n  \
             - mkdir /kept/lock\n  - touch /common/{name}\n  - cat /tmp/own/name > /who\n  - rmdir /kept/lock\n"
        )
    };
    let names = ["a", "b", "c", "d"];
    let project = project(|mount| names.map(|name| image(mount, name)).join("---\n"));
    project.prints(&["dimg", "build", "--jobs", "4"]);
    for name in names {
        let built = project.prints(&["stage", "image", name]);
        assert_eq!(project.prints(&["run", built.trim(), "cat", "/who"]), format!("{name}\n"));
    }
}

#[test]
fn what_fails_beside_the_images_is_what_is_told() {
    let project = project(|mount| three(mount, ["echo assets", "echo web", "echo api"]));
    let final_repo = ["dimg", "build", "--jobs", "2", "--final-repo", "127.0.0.1:9/finished"];
    let failed = project.fails(3, &final_repo);
    assert!(failed.stderr.contains("127.0.0.1:9") && !failed.stderr.contains("another image"), "{failed}");
}

#[test]
fn a_beginning_in_common_is_made_once_and_in_silence() {
    let image = |mount: &str, name: &str| {
        format!(
            "dimg: {name}\nfrom: busybox\n{mount}shell:\n  beforeInstall: echo x >> /common/begun\n  \
             install: echo {name}\n"
        )
    };
    let names = ["a", "b", "c", "d"];
    let project = project(|mount| names.map(|name| image(mount, name)).join("---\n"));
    let built = project.command(&["dimg", "build"]).env("STRAKE_JOBS", "4").succeed().unwrap();
    assert_eq!(built.stderr, "");
    assert_eq!(project.sandbox.read("common/begun").unwrap(), "x\n");
    let cached = rows(&built.stdout).into_iter().filter(|(_, state)| state == "[USING CACHE]").count();
    assert!(cached <= 6, "each stage is shown as made once: {}", built.stdout);
}

/// Images that stand on others and import from others, so that many wait for many.
#[test]
fn a_web_of_images_comes_out_the_same_with_any_number_of_jobs() {
    let mut file = String::new();
    let mut seed = 7_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    for number in 0..12 {
        let base = match number {
            0..3 => "from: busybox".to_owned(),
            _ if random(3) == 0 => "from: busybox".to_owned(),
            _ => format!("fromDimgArtifact: i{}", random(number)),
        };
        let kind = if number == 11 { "dimg" } else { "artifact" };
        file += &format!("{kind}: i{number}\n{base}\nshell:\n  install: echo {number} >> /made\n");
        let imports: BTreeMap<usize, &str> =
            (0..number.min(3)).map(|_| (random(number), ["install", "setup"][random(2)])).collect();
        if !imports.is_empty() {
            file += "import:\n";
        }
        for (from, after) in imports {
            file += &format!("- artifact: i{from}\n  add: /made\n  to: /of/{from}\n  after: {after}\n");
        }
        file += "---\n";
    }
    let project = project(|_| file);
    let contents = |jobs: &str| {
        let prints =
            |words: &[&str]| afresh(&project, jobs, words).env("STRAKE_JOBS", jobs).succeed().unwrap().stdout;
        let built = prints(&["dimg", "build"]);
        let name = prints(&["dimg", "stage", "image"]);
        let list = "find /of /made -type f | sort | xargs tail -n +1";
        let content = prints(&["run", name.trim(), "sh", "-c", list]);
        (content, built)
    };
    let alone = contents("1");
    for jobs in ["2", "8"] {
        let together = contents(jobs);
        assert_eq!(together.0, alone.0, "{jobs} jobs");
        assert_eq!(outline(&together.1), outline(&alone.1), "{jobs} jobs");
    }
}
