//! Cleaning a registry by what the history of git used.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::dimg_nodes::{all_tags, first_node, registry, tags};
use crate::dimg_scene::{Project, assembled, signatures};
use crate::scene::eventually;

/// Lets go what a running build may be about to use.
const ANY_AGE: (&str, &str) = ("STRAKE_DISABLE_STAGES_CLEANUP_DATE_PERIOD_POLICY", "1");

/// A dimg with two stages, and an artifact with two that it takes a file from.
fn stage_file(number: usize) -> String {
    format!(
        "artifact: tool\nfrom: busybox\nshell:\n  install: [ echo {number} > /tool ]\n---\ndimg: app\nfrom: busybox\n\
         import:\n- artifact: tool\n  add: /tool\n  to: /opt/tool\n  after: install\n"
    )
}

/// Commits a version on the branch that is checked out, and tells origin.
fn commit(node: &Project, number: usize) -> String {
    node.file("strake.yaml", &stage_file(number));
    let commit = node.commit(&format!("version {number}"));
    let branch = node.git(&["rev-parse", "--abbrev-ref", "HEAD"]);
    node.git(&["update-ref", &format!("refs/remotes/origin/{branch}"), "HEAD"]);
    commit
}

/// Builds in a repository and answers the tags of the stages.
fn build(node: &Project, repo: &str) -> BTreeSet<String> {
    let built = node.prints(&["dimg", "build", "--repo", repo]);
    signatures(&built).into_iter().map(|signature| format!("dimgstage-{signature}")).collect()
}

fn clean(node: &Project, options: &[&str], repo: &str) -> Value {
    let words = ["dimg", "cleanup", "repo", "--without-kube", "--report", "report.json", "--format", "json"];
    let command = node.command(&[&words[..], options, &[repo]].concat()).env(ANY_AGE.0, ANY_AGE.1);
    let printed = command.succeed().unwrap().stdout;
    let written: Value = serde_json::from_str(&node.sandbox.read("p/report.json").unwrap()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), written, "{printed}");
    written
}

/// The reasons in a list of a report for what has one of these tags.
fn reasons(report: &Value, list: &str, of: &BTreeSet<String>) -> BTreeSet<String> {
    let tag = |entry: &Value| entry["name"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    let entries = report[list].as_array().unwrap().iter();
    let meant = entries.filter(|entry| of.contains(&tag(entry)));
    meant.map(|entry| entry["reason"].as_str().unwrap().to_owned()).collect()
}

fn all(versions: &[&BTreeSet<String>]) -> Vec<String> {
    versions.iter().copied().flatten().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn what_branches_and_tags_used_last_stays_with_all_below_it() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node = first_node(&stage_file(0));
    let mut versions = Vec::new();
    let mut commits = Vec::new();
    for number in 0..4 {
        commits.push(commit(&node, number));
        versions.push(build(&node, &repo));
    }
    // A commit that uses the same image again.
    node.file("README", "nothing of it is in the image");
    node.commit("docs");
    node.git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    assert!(build(&node, &repo).is_subset(&versions[3]));
    build(&node, &repo);
    node.git(&["tag", "v0", &commits[0]]);
    let notes = || all_tags(&registry, "app").into_iter().filter(|tag| tag.starts_with("meta-")).count();
    assert_eq!(notes(), 5, "one for each image and commit");

    let before = all_tags(&registry, "app");
    let words = ["dimg", "cleanup", "repo", "--without-kube", "--by-history", &repo];
    let shown = node.prints(&words);
    assert_eq!(all_tags(&registry, "app").len(), before.len(), "all are young: {shown}");
    let report = clean(&node, &["--by-history", "--dry-run"], &repo);
    assert_eq!(all_tags(&registry, "app"), before, "{report:#}");
    let unused: BTreeSet<String> = versions[1].difference(&versions[0]).cloned().collect();
    assert_eq!(unused.len(), 2, "{unused:?}");
    assert_eq!(
        reasons(&report, "deleted", &unused),
        BTreeSet::from(["no image that is kept descends from it".to_owned()])
    );
    let head = &node.git(&["rev-parse", "HEAD"])[..10];
    let newest = reasons(&report, "kept", &versions[3]);
    assert!(newest.contains(&format!("branch main: its newest image, of commit {head}")), "{newest:?}");
    assert!(newest.iter().any(|why| why.starts_with("a stage that is kept stands on it: ")), "{newest:?}");
    let tagged = format!("tag v0: its newest image, of commit {}", &commits[0][..10]);
    assert!(reasons(&report, "kept", &versions[0]).contains(&tagged), "{report:#}");

    let report = clean(&node, &["--by-history"], &repo);
    assert_eq!(tags(&registry, "app"), all(&[&versions[0], &versions[2], &versions[3]]), "{report:#}");
    assert_eq!(notes(), 4);
    let second = format!("branch main: number 2 of its newest images, of commit {}", &commits[2][..10]);
    assert!(reasons(&report, "kept", &versions[2]).contains(&second), "{report:#}");

    // Without its tag the oldest one stays for as long as somebody names it.
    node.git(&["tag", "-d", "v0"]);
    let last = all(&[&versions[0]]).into_iter().find(|tag| !versions[1].contains(tag)).unwrap();
    clean(&node, &["--by-history", "--keep", &last], &repo);
    assert!(tags(&registry, "app").contains(&last));
    node.file("policy.yaml", "keepPolicies:\n- references: { branch: main }\n");
    let report = clean(&node, &["--policy", "policy.yaml"], &repo);
    assert_eq!(tags(&registry, "app"), all(&[&versions[3]]), "{report:#}");
    assert_eq!(notes(), 2);
    // What is left is whole.
    let fresh = node.another_node();
    let built = fresh.prints(&["dimg", "build", "--repo", &repo]);
    assert_eq!(assembled(&built), [""; 0]);
}

#[test]
fn finished_images_go_with_the_version_that_they_are_of() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node = first_node(&stage_file(0));
    let mut commits = Vec::new();
    for number in 0..3 {
        commits.push(commit(&node, number));
        node.prints(&[
            "dimg",
            "bp",
            "--with-stages",
            "--tag-commit",
            "--tag",
            &format!("own-{number}"),
            &repo,
        ]);
    }
    let finished = || tags(&registry, "app/app");
    assert_eq!(finished().len(), 6);
    let report = clean(&node, &["--by-history", "--keep-built-within", "0s"], &repo);
    let mut expected = vec![commits[1].clone(), commits[2].clone()];
    expected.extend((0..3).map(|number| format!("own-{number}")));
    expected.sort();
    assert_eq!(finished(), expected, "{report:#}");
    let own = BTreeSet::from(["own-0".to_owned()]);
    assert_eq!(
        reasons(&report, "kept", &own),
        BTreeSet::from(["it has a tag that somebody chose".to_owned()])
    );
    let gone = BTreeSet::from([commits[0].clone()]);
    let why = "no branch or tag that is kept speaks for it".to_owned();
    assert_eq!(reasons(&report, "deleted", &gone), BTreeSet::from([why]));
}

#[test]
fn a_clone_that_cannot_know_deletes_nothing() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node = first_node(&stage_file(0));
    node.prints(&["dimg", "build", "--repo", &repo]);
    let words = ["dimg", "cleanup", "repo", "--without-kube", "--by-history", &repo];
    let refused = node.fails(2, &words);
    assert!(refused.stderr.contains("git fetch"), "{refused}");
    node.git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    let head = node.git(&["rev-parse", "HEAD"]);
    node.sandbox.write("p/.git/shallow", format!("{head}\n")).unwrap();
    let refused = node.fails(2, &words);
    assert!(refused.stderr.contains("git fetch --unshallow"), "{refused}");
    node.file("policy.yaml", "keepPolicies:\n- references: { brunch: x }\n");
    let refused =
        node.fails(2, &["dimg", "cleanup", "repo", "--without-kube", "--policy", "policy.yaml", &repo]);
    assert!(refused.stderr.contains("policy.yaml:2"), "{refused}");
}

#[test]
fn a_build_beside_a_cleanup_is_right() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node = first_node(&stage_file(0));
    commit(&node, 1);
    build(&node, &repo);
    // A step that waits until everything that it stands on was deleted.
    let builder = node.another_node();
    let gate = builder.sandbox.path("gate");
    builder.sandbox.write("gate/.keep", "").unwrap();
    builder.sandbox.run("mkfifo").arg(gate.join("fifo")).succeed().unwrap();
    let gated = format!(
        "mount:\n- fromPath: {}\n  to: /gate\nshell:\n  setup: [ touch /gate/at, read go < /gate/fifo, cp /opt/tool /copy ]\n",
        gate.display()
    );
    builder.file("strake.yaml", &(stage_file(1) + &gated));
    builder.commit("gated");
    let running = builder.command(&["dimg", "build", "--repo", &repo]).start().unwrap();
    eventually("the step to wait", || gate.join("at").exists().then_some(()));
    node.file("policy.yaml", "keepPolicies: []\n");
    clean(&node, &["--policy", "policy.yaml"], &repo);
    assert_eq!(tags(&registry, "app"), [""; 0]);
    std::fs::write(gate.join("fifo"), "go\n").unwrap();
    let finished = running.finish().unwrap();
    assert_eq!(finished.code, 0, "{finished}");
    // What it has published is whole.
    let reader = builder.another_node();
    let built = reader.prints(&["dimg", "build", "--repo", &repo]);
    assert_eq!(assembled(&built), [""; 0]);
    assert_eq!(reader.prints(&["dimg", "run", "app", "--rm", "--", "cat", "/copy"]), "1\n");
}
