//! `strake dimg export`: files of images and artifacts in a directory of the caller.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use strake_testkit::{Base, Sandbox, TestUser, is_root, lacking};

use crate::STRAKE;
use crate::dimg_scene::{Project, rows};

const HOSTILE: &str = r#"artifact: assets
from: busybox
shell:
  install:
  - mkdir -p /out/js/deep /out/css /out/odd
  - echo 1 > /out/js/a.js; chown 5:6 /out/js/a.js; chmod 640 /out/js/a.js
  - cp /bin/busybox /out/js/suid; chmod 6755 /out/js/suid
  - ln -s ../a.js /out/js/deep/up
  - ln -s /etc/passwd /out/js/absolute
  - ln -s ../../../escape /out/js/climbs
  - ln -s .. /out/js/parent
  - ln -s parent/../../escape /out/js/chained
  - mkfifo /out/js/pipe
  - mknod /out/js/device c 1 3 || touch /no-device
  - echo body > /out/css/a.css
  - ln -s /out/css /out/styles
  - ln -s /etc/../../../../../../../../out/css/a.css /out/one
---
dimg: web
from: busybox
import:
- artifact: assets
  add: /out/css
  to: /srv/css
  after: install
"#;

fn project(sandbox: Sandbox) -> Project {
    let project = Project::in_sandbox(sandbox, "app");
    project.sandbox.load_base(Base::Busybox, "busybox").unwrap();
    project.file("strake.yaml", HOSTILE);
    project.commit("first");
    project
}

fn listed(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// A project of the user of the test run, and one of an ordinary user, with the ids that exported files must have.
fn for_both(test: impl Fn(&Project, (u32, u32))) {
    let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    test(&project(Sandbox::new(STRAKE).unwrap()), own);
    if !is_root() {
        return lacking("root, to run as a second, ordinary user");
    }
    let user = TestUser::first().unwrap();
    let ids = (user.uid, user.gid);
    test(&project(Sandbox::of_user(STRAKE, user).unwrap()), ids);
}

#[test]
fn files_of_an_artifact_arrive_with_the_callers_ownership_and_nothing_leads_out() {
    for_both(|project, ids| {
        let failed = project.fails(2, &["dimg", "export", "assets", "/out/js", "out"]);
        assert!(failed.stderr.contains("artifact assets is not built"), "{failed}");
        assert!(failed.stderr.contains("--build"), "{failed}");
        let (out, victim) = (project.sandbox.path("p/out"), project.sandbox.path("victim"));
        // What is in the way belongs to the caller, as the caller would have made it.
        let prepare = "mkdir -p out/mine ../victim; echo safe > ../victim/a.js; ln -s ../../victim out/js; echo old > out/one";
        let run = project.sandbox.run("sh").args(["-c", prepare]).directory(&project.sandbox.path("p"));
        run.succeed().unwrap();

        let words = ["dimg", "export", "--build", "assets", "/out/js", "/out/one", "out"];
        let done = project.command(&words).succeed().unwrap();
        assert!(
            rows(&done.stdout).iter().any(|(title, state)| title == "Install" && state.starts_with("[OK]"))
        );
        assert!(
            done.stdout.contains("copying files of assets to out ...")
                && done.stdout.contains("  /out/js -> out/js\n")
        );
        assert_eq!(listed(&out), ["js", "mine", "one"]);
        assert_eq!(listed(&out.join("js")), ["a.js", "deep", "parent", "pipe", "suid"], "{done}");
        assert_eq!(
            std::fs::read_to_string(out.join("one")).unwrap(),
            "body\n",
            "a link that is named is followed"
        );
        assert_eq!(listed(&victim), ["a.js"]);
        assert_eq!(std::fs::read_to_string(victim.join("a.js")).unwrap(), "safe\n");
        assert_eq!(std::fs::read_to_string(out.join("js/deep/up")).unwrap(), "1\n");
        for (path, mode) in [("js", 0o755), ("js/a.js", 0o640), ("js/suid", 0o755), ("one", 0o644)] {
            let found = std::fs::symlink_metadata(out.join(path)).unwrap();
            assert_eq!((found.uid(), found.gid()), ids, "{path}");
            assert_eq!(found.permissions().mode() & 0o7777, mode, "{path}");
        }
        for (path, why) in [
            ("absolute", "left out: the link to /etc/passwd leads out of the destination"),
            ("climbs", "leads out"),
            ("chained", "leads out"),
            ("suid", "without its set-user-ID"),
        ] {
            let told = done
                .stderr
                .lines()
                .any(|line| line.contains(&format!("/out/js/{path}: ")) && line.contains(why));
            assert!(told, "{path}: {done}");
        }
        if ids.0 == 0 {
            assert!(done.stderr.contains("/out/js/device: left out: devices"), "{done}");
        }
    });
}

#[test]
fn content_files_and_stages_of_images_are_copied() {
    let project = project(Sandbox::new(STRAKE).unwrap());
    project.prints(&["dimg", "build", "-q"]);
    let out = project.sandbox.path("p/out");
    // The only image of the file need not be named.
    let dry = project.prints(&["dimg", "export", "--dry-run", "/srv/css/.", "out"]);
    assert_eq!(rows(&dry)[0].1, "[COPY]");
    assert!(!out.exists());
    project.prints(&["dimg", "export", "/srv/css/.", "out"]);
    assert_eq!(listed(&out), ["a.css"]);
    project.prints(&["dimg", "export", "assets", "/out/styles/", "/out/css", "out"]);
    assert_eq!(listed(&out), ["a.css", "css", "styles"]);
    assert_eq!(listed(&out.join("styles")), ["a.css"]);
    // Nothing is written when one of the paths is wrong.
    for (path, why) in [
        ("/out/nothing", "/out/nothing: there is no such file"),
        ("/out/css/a.css/x", "there is no such file"),
        ("/out/css/a.css/.", "it is no directory"),
        ("/out/./js", "two of the paths would become js"),
    ] {
        let failed = project.fails(2, &["dimg", "export", "assets", "/out/js", path, "new"]);
        assert!(failed.stderr.contains(why), "{path}: {failed}");
        assert!(!project.sandbox.path("p/new").exists());
    }
    let failed = project.fails(2, &["dimg", "export", "--stage", "from", "assets", "/out", "new"]);
    assert!(failed.stderr.contains("/out: there is no such file"), "{failed}");
    let failed = project.fails(2, &["dimg", "export", "asets", "/out", "new"]);
    assert!(failed.stderr.contains("no dimg asets"), "{failed}");
    // A directory of the caller is not removed for a file, nor a file half written.
    std::fs::create_dir_all(out.join("one/kept")).unwrap();
    let failed = project.fails(3, &["dimg", "export", "assets", "/out/one", "out"]);
    assert!(failed.stderr.contains("directory of this name"), "{failed}");
    assert_eq!(listed(&out), ["a.css", "css", "one", "styles"]);
}

#[test]
fn a_file_is_replaced_at_once_or_not_at_all() {
    let project = Project::new("app");
    project.sandbox.load_base(Base::Busybox, "busybox").unwrap();
    // Larger than the file that the process may write.
    project.file("strake.yaml", "dimg: ~\nfrom: busybox\nshell:\n  install: dd if=/dev/zero of=/large bs=1M count=80; ln /large /other\n");
    project.commit("first");
    project.prints(&["dimg", "build", "-q"]);
    project.file("out/large", "old");
    let limited = "ulimit -f 40000; trap '' XFSZ; exec \"$0\" dimg export /large out";
    let run = project.sandbox.run("sh").args(["-c", limited, STRAKE]).directory(&project.sandbox.path("p"));
    let failed = run.env("STRAKE_ROOT", project.sandbox.store()).finish().unwrap();
    assert!(failed.code == 3 && failed.stderr.contains("/large"), "{failed}");
    assert_eq!(project.sandbox.read("p/out/large").unwrap(), "old");
    assert_eq!(listed(&project.sandbox.path("p/out")), ["large"]);
    project.prints(&["dimg", "export", "/large", "out"]);
    assert_eq!(std::fs::metadata(project.sandbox.path("p/out/large")).unwrap().len(), 80 << 20);
}
