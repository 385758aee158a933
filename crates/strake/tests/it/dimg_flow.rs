//! The flow of the distributed-build document between two machines: network namespaces with stores of their own, and a
//! registry on a third one.

use strake_testkit::{Base, Node};

use crate::dimg_nodes::{NINE, NINE_TITLES, with_state};
use crate::nodes::Place;

/// What a command prints, in the project on a node.
fn prints(node: &Node, words: &[&str]) -> String {
    node.strake(words.iter().chain(&["--dir", "p"])).succeed().unwrap().stdout
}

/// A clone of the project, with one commit on the first node.
fn project(node: &Node, from: Option<&Node>) {
    let sandbox = node.sandbox();
    let git = |words: &[&str]| drop(sandbox.run("git").args(words).succeed().unwrap());
    node.load_base(Base::Busybox, "busybox").unwrap();
    if let Some(from) = from {
        return git(&["clone", "-q", from.sandbox().path("p").to_str().unwrap(), "p"]);
    }
    sandbox.write("p/strake.yaml", NINE).unwrap();
    sandbox.write("p/composer.json", "{}\n").unwrap();
    git(&["init", "-q", "p"]);
    for (name, value) in [("user.name", "a"), ("user.email", "a@example.org")] {
        git(&["-C", "p", "config", name, value]);
    }
    git(&["-C", "p", "add", "composer.json", "strake.yaml"]);
    git(&["-C", "p", "commit", "-qm", "first"]);
}

#[test]
fn the_flow_of_the_document_between_machines() {
    let Some(place) = Place::new() else { return };
    let (one, two) = (place.node("one"), place.node("two"));
    let repo = place.name("registry/symfony-demo");
    let named = ["--name", "symfony-demo"];
    let dimg = |node: &Node, words: &[&str]| prints(node, &[&["dimg"], words, &named].concat());
    let stages_there = || {
        let words = ["list-tags", "--tls-verify=false", &format!("docker://{repo}")];
        let listed = place.at.run("skopeo").args(words).succeed().unwrap().stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let tags = listed["Tags"].as_array().unwrap();
        tags.iter().filter(|tag| tag.as_str().unwrap().starts_with("dimgstage-")).count()
    };
    // 1, 2: built and published on the first machine.
    project(&one, None);
    assert_eq!(with_state(&dimg(&one, &["build"]), "[OK]").len(), 9);
    dimg(&one, &["push", "--with-stages", &repo]);
    assert_eq!(stages_there(), 9);
    // 3, 4: the second machine has nothing, and a dry run changes nothing.
    project(&two, Some(&one));
    let before = two.machine().traffic().unwrap();
    assert_eq!(with_state(&dimg(&two, &["build", "--dry-run"]), "[BUILD]"), NINE_TITLES);
    let after = two.machine().traffic().unwrap();
    // Less than the head of one answer: neighbours may greet each other.
    assert!(after.received - before.received < 400, "a dry run asks nobody: {before:?} {after:?}");
    // 5, 6: exactly one image is fetched, and nothing is left to do.
    let pulled = dimg(&two, &["stages", "pull", &repo]);
    assert_eq!(with_state(&pulled, "[PULLING]").len(), 1, "{pulled}");
    let built = dimg(&two, &["build"]);
    assert_eq!(with_state(&built, "[NOT PRESENT]").len(), 8, "{built}");
    assert_eq!(with_state(&built, "[USING CACHE]"), ["Docker instructions"]);
    // 8, 9: after a change the last common stage is fetched, and the new ones are published.
    two.sandbox().write("p/strake.yaml", NINE.replace("echo 1 >", "echo Some changes; echo 2 >")).unwrap();
    let pulled = dimg(&two, &["stages", "pull", &repo]);
    assert_eq!(with_state(&pulled, "[PULLING]").len(), 1, "{pulled}");
    let built = dimg(&two, &["bp", "--with-stages", &repo]);
    assert_eq!(with_state(&built, "[USING CACHE]"), ["Install"], "{built}");
    assert_eq!(stages_there(), 13);
    // The first machine goes on where the second one ended, without any further command.
    one.sandbox().write("p/strake.yaml", NINE.replace("echo 1 >", "echo Some changes; echo 2 >")).unwrap();
    let built = dimg(&one, &["build", "--repo", &repo]);
    assert!(with_state(&built, "[OK]").is_empty(), "{built}");
    let own = ["dimg", "run", "--name", "symfony-demo", "--dir", "p"];
    let file = ["--network", "none", "--", "cat", "/app/version.txt"];
    let file = own.iter().chain(&file);
    assert_eq!(one.strake(file).succeed().unwrap().stdout, "2\n");
}
