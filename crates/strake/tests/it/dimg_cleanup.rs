//! Deleting stages and finished images, here and in a registry.

use serde_json::Value;
use strake_testkit::Run;

use crate::dimg_nodes::{NINE, first_node, registry, tags, with_state};
use crate::dimg_scene::{Project, signatures};
use crate::scene::eventually;

/// Lets go what a running build may be about to use.
const ANY_AGE: (&str, &str) = ("STRAKE_DISABLE_STAGES_CLEANUP_DATE_PERIOD_POLICY", "1");

fn prints_with(node: &Project, variables: &[(&str, &str)], words: &[&str]) -> String {
    let command =
        variables.iter().fold(node.command(words), |command, (name, value)| command.env(name, value));
    command.succeed().unwrap().stdout
}

fn report(node: &Project) -> Value {
    serde_json::from_str(&node.sandbox.read("p/report.json").unwrap()).unwrap()
}

fn reason(report: &Value, list: &str, end: &str) -> String {
    let entries = report[list].as_array().unwrap().iter();
    let mut found = entries.filter(|entry| entry["name"].as_str().unwrap().ends_with(end));
    let reason = found.next().unwrap_or_else(|| panic!("{end} is not in {list} of {report:#}"));
    reason["reason"].as_str().unwrap().to_owned()
}

#[test]
fn flush_deletes_everything_of_the_project_and_nothing_else() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node = first_node(NINE);
    node.prints(&["dimg", "bp", "--with-stages", "--tag", "a", "--tag", "b", &repo]);
    node.prints(&["dimg", "tag", "mine"]);
    // Somebody else's image in the same repository.
    node.prints(&["tag", "busybox", &format!("{repo}:foreign")]);
    node.prints(&["push", &format!("{repo}:foreign")]);
    let all = tags(&registry, "app");
    assert_eq!(all.len(), 12);
    let planned = node.prints(&["dimg", "flush", "repo", "--dry-run", "--with-stages", &repo]);
    assert_eq!(with_state(&planned, "[DELETE]").len(), 11, "{planned}");
    assert_eq!(tags(&registry, "app"), all);
    node.prints(&["dimg", "flush", "repo", &repo]);
    assert_eq!(tags(&registry, "app").len(), 10, "stages and the foreign one");
    node.prints(&["dimg", "stages", "flush", "repo", &repo]);
    assert_eq!(tags(&registry, "app"), ["foreign"]);

    node.prints(&["dimg", "flush", "local"]);
    assert!(!node.prints(&["images"]).contains("mine"));
    assert_eq!(node.local_stages().len(), 9);
    node.prints(&["dimg", "stages", "flush", "local", "--name", "other"]);
    assert_eq!(node.local_stages().len(), 9);
    let flushed = node.prints(&["dimg", "stages", "flush", "local", "--report", "report.json"]);
    assert_eq!(with_state(&flushed, "[OK]").len(), 9, "{flushed}");
    assert_eq!(node.local_stages(), [""; 0]);
    assert_eq!(report(&node)["deleted"].as_array().unwrap().len(), 9);
    assert!(node.prints(&["images"]).contains("busybox"));
    let refused = node.fails(2, &["dimg", "stages", "flush", "local", "web"]);
    assert!(refused.stderr.contains("all stages of the project"), "{refused}");
}

#[test]
fn stages_that_no_image_descends_from_go() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node = first_node(NINE);
    let first = node.prints(&["dimg", "bp", "--with-stages", &repo]);
    let old = signatures(&first).pop().unwrap().to_owned();
    node.file("strake.yaml", &NINE.replace("echo 1", "echo 2"));
    // The same tag stands for the new image now.
    let second = node.prints(&["dimg", "bp", "--with-stages", &repo]);
    let new: Vec<String> = signatures(&second).into_iter().take(9).map(str::to_owned).collect();
    assert_eq!(tags(&registry, "app").len(), 14);
    let refused = node.fails(2, &["dimg", "stages", "cleanup", "repo", &repo]);
    assert!(refused.stderr.contains("--improper-repo-cache"), "{refused}");
    let clean =
        ["dimg", "stages", "cleanup", "repo", "--improper-repo-cache", "--report", "report.json", &repo];
    node.prints(&clean);
    assert_eq!(tags(&registry, "app").len(), 14, "they are young");
    assert!(reason(&report(&node), "kept", &old).contains("younger than two hours"));
    prints_with(&node, &[ANY_AGE], &clean);
    let mut expected: Vec<String> = new.iter().map(|signature| format!("dimgstage-{signature}")).collect();
    expected.push("latest".to_owned());
    expected.sort();
    assert_eq!(tags(&registry, "app"), expected);
    assert_eq!(reason(&report(&node), "deleted", &old), "no finished image descends from it");
    assert_eq!(reason(&report(&node), "kept", &new[0]), "a finished image descends from it");
    // The same here, compared with the repository.
    assert_eq!(node.local_stages().len(), 13);
    prints_with(&node, &[ANY_AGE], &["dimg", "stages", "cleanup", "local", "--improper-repo-cache", &repo]);
    assert_eq!(node.local_stages().len(), 9);
    // What is left is whole.
    let built = node.another_node();
    built.file("strake.yaml", &NINE.replace("echo 1", "echo 2"));
    let pulled = built.prints(&["dimg", "stages", "pull", "--all", &repo]);
    assert_eq!(with_state(&pulled, "[OK]").len(), 9, "{pulled}");
}

#[test]
fn stages_of_lost_commits_go_with_all_that_stand_on_them() {
    let node = first_node(NINE);
    node.file("more", "x");
    node.commit("lost");
    let built = node.prints(&["dimg", "build"]);
    let signatures: Vec<String> = signatures(&built).into_iter().map(str::to_owned).collect();
    let clean = ["dimg", "stages", "cleanup", "local", "--improper-git-commit"];
    prints_with(&node, &[ANY_AGE], &clean);
    assert_eq!(node.local_stages().len(), 9, "the commit exists");
    node.git(&["reset", "-q", "--hard", "HEAD~1"]);
    node.git(&["reflog", "expire", "--expire=now", "--all"]);
    node.git(&["gc", "-q", "--prune=now"]);
    prints_with(&node, &[ANY_AGE], &clean);
    let mut expected: Vec<_> =
        signatures[..2].iter().map(|signature| format!("dimgstage-symfony-demo:{signature}")).collect();
    expected.sort();
    assert_eq!(node.local_stages(), expected);
}

#[test]
fn finished_images_go_with_their_branch_or_tag_and_the_newest_stay() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node = first_node(NINE);
    let branch = |name: &str| node.git(&["update-ref", &format!("refs/remotes/origin/{name}"), "HEAD"]);
    branch("main");
    branch("feature/x");
    node.prints(&["dimg", "bp", "--with-stages", "--tag", "mine", "--tag-branch", &repo]);
    node.git(&["checkout", "-q", "-b", "feature/x"]);
    node.prints(&["dimg", "push", "--tag-branch", &repo]);
    for tag in ["v1", "v2", "v3"] {
        node.git(&["tag", tag]);
        prints_with(&node, &[("CI_COMMIT_TAG", tag)], &["dimg", "push", "--tag-ci", &repo]);
    }
    let refused = node.fails(2, &["dimg", "cleanup", "repo", &repo]);
    assert!(refused.stderr.contains("Kubernetes") && refused.stderr.contains("--without-kube"), "{refused}");
    let clean = ["dimg", "cleanup", "repo", "--without-kube", "--report", "report.json", &repo];
    let names = || {
        tags(&registry, "app").into_iter().filter(|tag| !tag.starts_with("dimgstage-")).collect::<Vec<_>>()
    };
    let before = names();
    assert_eq!(before.len(), 6, "{before:?}");
    node.prints(&clean);
    assert_eq!(names(), before);
    node.git(&["update-ref", "-d", "refs/remotes/origin/feature/x"]);
    node.git(&["tag", "-d", "v1"]);
    let planned = node.prints(&[&clean[..], &["--dry-run"]].concat());
    assert_eq!(with_state(&planned, "[DELETE]").len(), 2, "{planned}");
    assert_eq!(names(), before);
    node.prints(&clean);
    assert_eq!(names(), ["main", "mine", "v2", "v3"]);
    assert_eq!(reason(&report(&node), "deleted", ":v1"), "its git tag is gone");
    assert_eq!(reason(&report(&node), "kept", ":mine"), "it has a tag that somebody chose");
    // Deleting a manifest would delete all its tags.
    let copy = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    let copy = Run::new("skopeo")
        .args(copy)
        .args([format!("docker://{repo}:v2"), format!("docker://{repo}:pinned")]);
    copy.succeed().unwrap();
    prints_with(&node, &[("GIT_TAGS_LIMIT_POLICY", "0")], &clean);
    assert_eq!(names(), ["main", "mine", "pinned", "v2"]);
    assert_eq!(reason(&report(&node), "kept", ":v2"), "a tag that is kept stands for the same image");
    assert_eq!(tags(&registry, "app").len(), 13, "stages stay");
}

#[test]
fn mrproper_is_for_all_projects() {
    let node = first_node(NINE);
    node.prints(&["dimg", "build"]);
    node.prints(&["dimg", "build", "--name", "other"]);
    assert_eq!(node.local_stages().len(), 18);
    node.fails(2, &["dimg", "mrproper"]);
    node.prints(&["dimg", "mrproper", "--improper-cache-version-stages", "--improper-dev-mode-cache"]);
    assert_eq!(node.local_stages().len(), 18);
    let planned = node.sandbox.strake(["dimg", "mrproper", "--all", "--dry-run"]).succeed().unwrap();
    assert_eq!(with_state(&planned.stdout, "[DELETE]").len(), 18, "{planned}");
    node.sandbox.strake(["dimg", "mrproper", "--all"]).succeed().unwrap();
    assert_eq!(node.local_stages(), [""; 0]);
    assert!(node.prints(&["dimg", "cleanup"]).starts_with("Running time"));
}

#[test]
fn what_a_container_runs_is_not_deleted() {
    let node = first_node(NINE);
    node.prints(&["dimg", "build"]);
    node.prints(&["dimg", "tag", "mine"]);
    let gate = node.sandbox.path("gate");
    node.sandbox.write("gate/.keep", "").unwrap();
    node.sandbox.run("mkfifo").arg(gate.join("fifo")).succeed().unwrap();
    let volume = format!("{}:/gate", gate.display());
    let script = "touch /gate/at; read go < /gate/fifo";
    let running =
        node.command(&["run", "--user", "0", "-v", &volume, "mine", "sh", "-c", script]).start().unwrap();
    eventually("the container to run", || gate.join("at").exists().then_some(()));
    let flushed = node.prints(&["dimg", "flush", "local", "--with-stages", "--report", "report.json"]);
    assert_eq!(with_state(&flushed, "[KEEP]"), ["mine:latest"], "{flushed}");
    assert!(reason(&report(&node), "kept", "mine:latest").ends_with("runs a container of it"));
    assert_eq!(node.local_stages(), [""; 0]);
    std::fs::write(gate.join("fifo"), "go\n").unwrap();
    let ended = running.finish().unwrap();
    assert_eq!(ended.code, 0, "{ended}");
    node.prints(&["dimg", "flush", "local"]);
    assert!(!node.prints(&["images"]).contains("mine"));
}
