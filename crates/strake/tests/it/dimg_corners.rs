//! Corners of stage files: where mappings meet, what strake itself leaves beside the project, mounts that are files.

use crate::dimg_git::built;
use crate::dimg_scene::Project;

/// The rules of an image with these mappings.
fn maps(mappings: &str) -> String {
    format!("dimg: ~\nfrom: busybox\ngit:\n{mappings}")
}

/// What a shell prints in the built image.
#[track_caller]
fn printed(project: &Project, words: &[&str], commands: &str) -> String {
    let image = project.prints(&[&["stage", "image"], words].concat());
    project.prints(&["run", "--network", "none", image.trim(), "sh", "-c", commands])
}

#[test]
fn the_rendered_file_is_no_file_of_the_project() {
    let project = Project::on_busybox(&maps("- to: /app\n"));
    project.file("committed", "1\n");
    project.commit("first");
    project.file("new", "2\n");
    project.build(&["--dev"]);
    assert!(project.sandbox.path("p/.strake.render.yaml").exists());
    assert_eq!(
        printed(&project, &["--dev"], "cd /app && find . -type f | sort"),
        "./.keep\n./committed\n./new\n./strake.yaml\n"
    );
}
