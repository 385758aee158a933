//! What `docs/stage-file.md` shows is what happens.

use std::path::Path;

use strake_testkit::Base;

use crate::dimg_scene::Project;

/// The stage files of the manual, in order.
fn examples() -> Vec<String> {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/stage-file.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let blocks = manual.split("\n```yaml\n").skip(1);
    blocks.map(|block| block.split_once("\n```\n").unwrap().0.to_owned() + "\n").collect()
}

/// A project that has the files of which the examples speak.
fn project(stage_file: &str) -> Project {
    let project = Project::new("app");
    let files = [
        ("strake.yaml", stage_file),
        ("src/main.txt", "hello\n"),
        ("src/requirements.txt", ""),
        ("web/package.json", "{}"),
        ("web/package-lock.json", "{}"),
        ("conf/a.conf", ""),
    ];
    for (path, content) in files {
        project.file(path, content);
    }
    project.commit("first");
    project
}

#[test]
fn every_example_of_the_manual_can_be_planned() {
    let examples = examples();
    assert_eq!(examples.len(), 3);
    for example in examples {
        let planned = project(&example).command(&["dimg", "build", "--dry-run"]).succeed().unwrap();
        assert_eq!(planned.stderr, "", "{planned}");
        assert!(planned.stdout.contains("[BUILD]"), "{planned}");
    }
}

#[test]
fn the_first_example_does_what_the_manual_says() {
    let project = project(&examples()[0]);
    project.sandbox.load_base(Base::Busybox, "busybox").unwrap();
    let says = |project: &Project| {
        let name = project.prints(&["dimg", "stage", "image"]);
        project.prints(&["run", name.trim()])
    };
    assert_eq!(project.build(&[]).len(), 9);
    assert_eq!(says(&project), "hello\n");
    project.file("src/main.txt", "again\n");
    project.commit("second");
    assert_eq!(project.build(&[]), ["Git artifacts: latest patch", "Docker instructions"]);
    assert_eq!(says(&project), "again\n");
}
