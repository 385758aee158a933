//! `--explain`: every miss names the very thing that is different.

use crate::scene::Scene;

const DOCKERFILE: &str = "ARG B=busybox\nFROM $B\nARG VERSION=1\nCOPY src /src\nRUN echo $VERSION > /v\n";

fn scene() -> Scene {
    let scene = Scene::new(DOCKERFILE);
    scene.file("src/same", "1");
    scene.file("src/deep/changed.rs", "1");
    scene
}

#[test]
fn a_first_build_and_a_repeated_one() {
    let scene = scene();
    let first = scene.build(&["--explain"]);
    assert_eq!(first.why("COPY").0, "never-built");
    assert_eq!(first.why("RUN").0, "never-built");
    let second = scene.build(&["--explain"]);
    assert_eq!(second.why("COPY").0, "hit");
    assert_eq!(second.why("RUN").0, "hit");
}

#[test]
fn the_file_that_changed_came_or_went() {
    let scene = scene();
    scene.build(&[]);
    scene.file("src/deep/changed.rs", "2");
    let differences = |label: &str| {
        let (reason, differences) = scene.build(&["--explain"]).why(label);
        assert_eq!(reason, "changed");
        differences.join("\n")
    };
    let said = differences("COPY");
    assert!(said.contains("src/deep/changed.rs") && !said.contains("same"), "{said}");
    scene.file("src/new", "1");
    let said = differences("COPY");
    assert!(said.contains("src/new") && !said.contains("same") && !said.contains("changed.rs"), "{said}");
    std::fs::remove_file(scene.sandbox.path("c/src/same")).unwrap();
    let said = differences("COPY");
    assert!(said.contains("src/same") && !said.contains("src/new"), "{said}");
}

#[test]
fn the_argument_and_its_values() {
    let scene = scene();
    scene.build(&[]);
    let second = scene.build(&["--explain", "--build-arg", "VERSION=2"]);
    let (reason, differences) = second.why("RUN");
    assert_eq!(reason, "changed");
    let said = differences.join("\n");
    assert!(said.contains("VERSION") && said.contains('1') && said.contains('2'), "{said}");
    assert_eq!(second.why("COPY").0, "hit");
}

#[test]
fn the_command() {
    let scene = scene();
    scene.build(&[]);
    scene.file("Dockerfile", &DOCKERFILE.replace("echo $VERSION", "echo new"));
    let (reason, differences) = scene.build(&["--explain"]).why("RUN");
    assert_eq!(reason, "changed");
    let said = differences.join("\n");
    assert!(said.contains("echo $VERSION") && said.contains("echo new"), "{said}");
}

#[test]
fn the_base_image() {
    let scene = scene();
    scene.build(&[]);
    scene.file("other/Dockerfile", "FROM busybox\nRUN touch /other\n");
    scene.sandbox.strake(["build", "--network=none", "-t", "other", "c/other"]).succeed().unwrap();
    let second = scene.build(&["--explain", "--build-arg", "B=other"]);
    let (reason, differences) = second.why("COPY src");
    assert_eq!(reason, "changed");
    let said = differences.join("\n");
    assert!(said.contains("base"), "{said}");
    // What stands on a step that changed says that, and nothing else.
    let (reason, differences) = second.why("RUN");
    assert_eq!(reason, "changed");
    assert!(differences.join("\n").contains("below"), "{differences:?}");
}

#[test]
fn no_cache_and_pruned() {
    let scene = scene();
    scene.build(&[]);
    assert_eq!(scene.build(&["--explain", "--no-cache"]).why("RUN").0, "no-cache");
    let id = scene.build(&[]).id().to_owned();
    scene.strake(&["rmi", "--force", &id]);
    scene.strake(&["prune", "--all"]);
    assert_eq!(scene.build(&["--explain"]).why("COPY").0, "gone");
}

#[test]
fn people_read_it_without_asking() {
    let scene = scene();
    let plain = ["build", "--progress=plain", "--network=none", "c"];
    scene.strake(&plain);
    scene.file("src/deep/changed.rs", "2");
    let second = scene.strake(&plain);
    assert!(
        second.stderr.contains("not cached:") && second.stderr.contains("src/deep/changed.rs"),
        "{second}"
    );
}
