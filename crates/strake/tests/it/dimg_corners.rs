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
fn of_two_mappings_the_one_that_names_less_has_the_place_whatever_was_built_before() {
    let mappings = "- add: /a\n  to: /app\n  includePaths: [x/y]\n- add: /b\n  to: /app/x\n";
    let project = Project::on_busybox(&maps(mappings));
    project.file("a/x/y", "of a\n");
    project.file("b/y", "of b\n");
    project.file("b/z", "of b\n");
    project.commit("first");
    project.build(&[]);
    assert_eq!(built(&project, "/app/x/y"), "of a\n");
    project.file("b/y", "of b again\n");
    project.commit("second");
    project.build(&[]);
    project.build(&["--name", "fresh"]);
    for words in [&[][..], &["--name", "fresh"]] {
        assert_eq!(printed(&project, words, "cat /app/x/y /app/x/z"), "of a\nof b\n", "{words:?}");
    }
}

#[test]
fn a_patch_puts_no_file_in_the_place_of_what_another_mapping_or_an_import_has() {
    let mappings = "- add: /conf\n  to: /app\n- add: /extra\n  to: /app/deep/er\n";
    let import = "import:\n- artifact: tools\n  add: /out\n  to: /app/tools/bin\n  after: install\n";
    let tools = "---\nartifact: tools\nfrom: busybox\nshell:\n  install: mkdir /out && touch /out/tool\n";
    let project = Project::on_busybox(&(maps(mappings) + import + tools));
    project.file("conf/one", "1\n");
    project.file("extra/two", "2\n");
    project.commit("first");
    project.build(&[]);
    for (name, target) in [("deep", "/app/deep/er"), ("tools", "/app/tools/bin")] {
        project.file(&format!("conf/{name}"), "no directory\n");
        project.commit("in the way");
        let failed = project.fails(2, &["dimg", "build"]);
        let told = format!("/app/{name} is no directory in the repository, but {target} needs one there");
        assert!(failed.stderr.contains(&told) && failed.stderr.contains("excludePaths"), "{failed}");
        project.git(&["rm", "-q", &format!("conf/{name}")]);
        project.commit("out of the way");
        assert_eq!(project.build(&[]), [""; 0], "nothing was kept of it");
    }
    assert_eq!(built(&project, "/app/deep/er/two"), "2\n");
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

#[test]
fn a_file_of_the_machine_is_mounted_and_leaves_nothing_behind() {
    let project = Project::on_busybox("");
    project.sandbox.write("token", "secret\n").unwrap();
    let token = project.sandbox.path("token");
    let mounts: String = ["/run/deep/token", "/etc/group"]
        .map(|to| format!("- fromPath: {}\n  to: {to}\n", token.display()))
        .concat();
    let shell = "shell:\n  install: cat /run/deep/token /etc/group > /seen\n";
    project.file("strake.yaml", &format!("dimg: ~\nfrom: busybox\nmount:\n{mounts}{shell}"));
    project.build(&[]);
    let seen = printed(&project, &[], "cat /seen; ls -d /run /etc/group /etc/passwd 2>/dev/null; true");
    assert_eq!(seen, "secret\nsecret\n/etc/passwd\n");
}

#[test]
fn a_mount_may_lie_within_another_one() {
    let mounts = "mount:\n- {from: tmp_dir, to: /var/tmp}\n- {from: build_dir, to: /var}\n";
    let shell = "shell:\n  install: touch /var/one /var/tmp/two && ls /var /var/tmp > /seen\n";
    let project = Project::on_busybox(&format!("dimg: ~\nfrom: busybox\n{mounts}{shell}"));
    project.build(&[]);
    let seen = printed(&project, &[], "cat /seen; ls /var");
    assert_eq!(seen, "/var:\none\ntmp\n\n/var/tmp:\ntwo\n");
}

#[test]
fn options_of_docker_become_what_docker_makes_of_them() {
    let options = "docker:\n  EXPOSE: [80, 8000-8002, 53/udp]\n  WORKDIR: sub/dir\n  CMD: cat it\n";
    let project = Project::on_busybox(&format!("dimg: ~\nfrom: busybox\n{options}"));
    let built = project.command(&["dimg", "build"]).succeed().unwrap();
    let warned =
        built.stderr.contains("`CMD` is one word here") && built.stderr.contains("[\"cat\", \"it\"]");
    assert!(warned, "{built}");
    let image = project.prints(&["stage", "image"]);
    let told: serde_json::Value = serde_json::from_str(&project.prints(&["inspect", image.trim()])).unwrap();
    let config = &told[0]["Config"];
    let ports: Vec<_> = config["ExposedPorts"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]);
    assert_eq!(config["WorkingDir"], "/sub/dir");
}

#[test]
fn who_stumbles_is_told_what_to_type() {
    let project = Project::on_busybox("dimg: web\nfrom: busybox\n");
    project.build(&[]);
    let check = |code: i32, words: &[&str], expected: &str| {
        let failed = project.fails(code, words);
        assert!(failed.stderr.contains(expected), "{words:?}: {failed}");
    };
    check(2, &["dimg", "tag"], "hint: strake dimg tag [DIMG ...] REPO");
    check(2, &["dimg", "push"], "[DIMG ...] REPO");
    check(2, &["bp", "localhost:5000/x"], "put `dimg` in front of it");
    check(2, &["build", "-t", "web", "."], "hint: strake dimg tag REPO");
    check(127, &["dimg", "run", "web"], "-- sh");
}

#[test]
fn a_pointer_of_git_lfs_is_warned_of() {
    let project = Project::on_busybox(&maps("- add: /src\n  to: /app\n"));
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12\n", "0".repeat(64));
    project.file("src/big.bin", &pointer);
    project.file("src/other.bin", &pointer);
    project.file("src/plain", "version https://git-lfs.github.com/\n");
    project.commit("first");
    let built = project.command(&["dimg", "build"]).succeed().unwrap();
    let told = "big.bin and 1 more: the repository has only a pointer of git-lfs";
    assert!(built.stderr.contains(told), "{built}");
    project.file("src/plain", "changed\n");
    project.commit("second");
    let built = project.command(&["dimg", "build"]).succeed().unwrap();
    assert!(!built.stderr.contains("git-lfs"), "nothing of it is placed again: {built}");
}
