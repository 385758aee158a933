//! Mappings of repositories that have submodules.

use crate::dimg_git::{Origin, built, maps};
use crate::dimg_scene::Project;

const LATEST: &str = "Git artifacts: latest patch";

fn url(origin: &Origin<'_>) -> String {
    format!("file://{}", origin.path().display())
}

/// `outer` with `lib`, which is `inner`, at its first commit.
fn with_submodule(project: &Project) -> (Origin<'_>, Origin<'_>) {
    let inner = Origin::new(project, "inner");
    inner.commit("i", "1\n");
    let outer = Origin::new(project, "outer");
    outer.git(&["submodule", "--quiet", "add", &url(&inner), "lib"]);
    outer.commit("o", "1\n");
    (outer, inner)
}

fn bind(outer: &Origin<'_>, commit: &str) {
    outer.git(&["-C", "lib", "fetch", "-q", "origin"]);
    outer.git(&["-C", "lib", "checkout", "-q", commit]);
    outer.git(&["commit", "-q", "-a", "-m", "another commit of lib"]);
}

#[test]
fn a_repository_elsewhere_brings_its_submodules() {
    let project = Project::on_busybox("");
    let (outer, inner) = with_submodule(&project);
    project.file("strake.yaml", &maps(&url(&outer)));
    project.build(&[]);
    assert_eq!(built(&project, "/srv/app/lib/i") + &built(&project, "/srv/app/o"), "1\n1\n");
    let two = inner.commit("i", "2\n");
    inner.commit("i", "3\n");
    assert_eq!(project.build(&[]), [""; 0], "the pointer has not changed");
    bind(&outer, &two);
    assert_eq!(project.build(&[]), [LATEST]);
    assert_eq!(built(&project, "/srv/app/lib/i"), "2\n", "the commit that is bound, not the newest");
    outer.git(&["rm", "-q", "lib"]);
    outer.git(&["commit", "-q", "-m", "without lib"]);
    assert_eq!(project.build(&[]), [LATEST]);
    let name = project.prints(&["stage", "image"]);
    let listed = project.prints(&["run", "--network", "none", name.trim(), "ls", "/srv/app"]);
    assert_eq!(listed, "o\n");
}

#[test]
fn submodules_of_the_project_come_from_its_clones_or_are_fetched() {
    let project = Project::on_busybox("dimg: ~\nfrom: busybox\ngit:\n- add: /lib\n  to: /srv/lib\n");
    let inner = Origin::new(&project, "inner");
    let one = inner.commit("i", "1\n");
    let above = format!("file://{}/x/y", project.sandbox.work().display());
    project.git(&["remote", "set-url", "origin", &above]);
    project.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../../inner", "lib"]);
    project.commit("first");
    assert_eq!(project.dry_run(&[]).len(), 3, "the work tree's clone has it");
    project.build(&[]);
    assert_eq!(built(&project, "/srv/lib/i"), "1\n");
    assert!(!project.sandbox.store().join("builds/y/submodules").exists(), "nothing had to be fetched");
    // Somebody who never checked the submodule out.
    std::fs::remove_dir_all(project.sandbox.path("p/.git/modules")).unwrap();
    let failed = project.fails(3, &["dimg", "build", "--dry-run"]);
    for text in ["read the submodule lib", &one, "was never fetched", "hint: build once without --dry-run"] {
        assert!(failed.stderr.contains(text), "{text}: {failed}");
    }
    assert!(!project.sandbox.store().join("builds/y/submodules").exists(), "a dry run fetches nothing");
    project.build(&[]);
    assert!(project.sandbox.store().join("builds/y/submodules").exists());
    std::fs::rename(inner.path(), project.sandbox.path("moved")).unwrap();
    assert_eq!(project.dry_run(&[]).len(), 3, "what a build has fetched is there");
}

#[test]
fn a_submodule_that_cannot_be_fetched_is_told() {
    let project = Project::on_busybox("");
    let (outer, inner) = with_submodule(&project);
    project.file("strake.yaml", &maps(&url(&outer)));
    std::fs::rename(inner.path(), project.sandbox.path("moved")).unwrap();
    let failed = project.fails(3, &["dimg", "build"]);
    for text in ["read the submodule lib", &url(&inner), "does not appear to be a git repository"] {
        assert!(failed.stderr.contains(text), "{text}: {failed}");
    }
    std::fs::rename(project.sandbox.path("moved"), inner.path()).unwrap();
    // A commit that nobody pushed.
    let gone = "12".repeat(20);
    outer.git(&["update-index", "--cacheinfo", &format!("160000,{gone},lib")]);
    outer.git(&["commit", "-q", "-m", "a commit that is not there"]);
    let failed = project.fails(3, &["dimg", "build"]);
    for text in ["read the submodule lib", &gone] {
        assert!(failed.stderr.contains(text), "{text}: {failed}");
    }
}

#[test]
fn a_commit_whose_submodule_is_gone_is_not_built_upon() {
    let project = Project::on_busybox("dimg: ~\nfrom: busybox\ngit:\n- add: /\n  to: /srv\n");
    let inner = Origin::new(&project, "inner");
    inner.commit("i", "1\n");
    project.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &url(&inner), "lib"]);
    project.commit("first");
    project.build(&[]);
    project.git(&["rm", "-q", "lib"]);
    project.file("lib/own", "2\n");
    project.commit("the project has it itself");
    std::fs::remove_dir_all(project.sandbox.path("p/.git/modules")).unwrap();
    std::fs::rename(inner.path(), project.sandbox.path("moved")).unwrap();
    let finished = project.command(&["dimg", "build"]).succeed().unwrap();
    assert!(finished.stderr.contains("are not used: read the submodule lib"), "{finished}");
    assert_eq!(built(&project, "/srv/lib/own"), "2\n");
    let name = project.prints(&["stage", "image"]);
    assert_eq!(project.prints(&["run", "--network", "none", name.trim(), "ls", "/srv/lib"]), "own\n");
    assert_eq!(project.build(&[]), [""; 0]);
}
