//! Builds that look for stages in a registry and publish what they assemble.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use strake_testkit::{Etcd, Registry, Run};

use crate::dimg_nodes::{NINE, NINE_TITLES, first_node, registry, requests, tags, with_state};
use crate::dimg_scene::{Project, signatures};
use crate::scene::Started;

/// Where a registry keeps a blob.
fn blob(registry: &Registry, digest: &str) -> PathBuf {
    let hex = digest.trim_start_matches("sha256:");
    registry.content().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
}

/// The layers of an image in a registry, bottom first.
fn layers(name: &str) -> Vec<String> {
    let run = Run::new("skopeo").args(["inspect", "--raw", "--tls-verify=false"]);
    let text = run.arg(format!("docker://{name}")).succeed().unwrap().stdout;
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

/// What a file of the built image holds.
fn cat(node: &Project, path: &str) -> String {
    node.prints(&["dimg", "run", "--network", "none", "--", "cat", path])
}

#[test]
fn what_is_in_the_repository_is_neither_built_nor_fetched() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let build = ["dimg", "build", "--repo", &repo];
    let node1 = first_node(NINE);
    let built = node1.prints(&build);
    assert_eq!(with_state(&built, "[OK]").len(), 18, "nine stages, each published: {built}");
    assert_eq!(tags(&registry, "app").len(), 9);

    // Nothing to do: one manifest, one configuration, no layer.
    let node2 = node1.another_node();
    let since = registry.log().len();
    let built = node2.prints(&build);
    assert_eq!(with_state(&built, "[NOT PRESENT]"), NINE_TITLES[..8], "{built}");
    assert_eq!(with_state(&built, "[USING CACHE]"), NINE_TITLES[8..]);
    assert_eq!(requests(&registry, since, "GET", "/manifests/"), 1);
    assert_eq!(requests(&registry, since, "GET", "/blobs/"), 1);
    assert_eq!(requests(&registry, since, "HEAD", ""), 1);
    assert_eq!(requests(&registry, since, "HEAD", "/meta-"), 1, "whether the commit's use is noted");
    let since = registry.log().len();
    node2.prints(&build);
    assert_eq!(requests(&registry, since, "", "/app/"), 0, "what is known here is not asked for");
    // Even pushing what was built elsewhere moves no layer.
    node2.prints(&["dimg", "push", &repo]);
    let log = registry.log();
    assert!(
        !log[since..].contains("\"PATCH /v2/app/blobs/uploads/")
            || layers(&format!("{repo}:latest")).len() > 1
    );
    for layer in layers(&format!("{repo}:latest")) {
        assert_eq!(requests(&registry, since, "GET", &layer), 0);
        assert!(requests(&registry, since, "HEAD", &layer) > 0);
    }
    // It is an image like any other: what is needed to run it comes then.
    assert_eq!(cat(&node2, "/app/version.txt"), "1\n");

    // A late change: what is below is fetched, what is above assembled and published.
    let node3 = node1.another_node();
    node3.file("strake.yaml", &NINE.replace("echo 1", "echo 2"));
    let built = node3.prints(&build);
    assert_eq!(with_state(&built, "[USING CACHE]"), ["Install"], "{built}");
    assert_eq!(with_state(&built, "[OK]").len(), 8, "{built}");
    assert_eq!(tags(&registry, "app").len(), 14);
    assert_eq!(cat(&node3, "/app/version.txt"), "2\n");
    let planned = node1.another_node().prints(&["dimg", "build", "--dry-run", "--repo", &repo]);
    assert_eq!(with_state(&planned, "[USING CACHE]"), NINE_TITLES[8..], "{planned}");
}

#[test]
fn a_failure_loses_nothing_that_was_finished() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node1 = first_node(&NINE.replace("echo 1 >", "false && echo 1 >"));
    let failed = node1.fails(1, &["dimg", "build", "--repo", &repo]);
    // The patch below the stage that failed is kept only together with it.
    assert_eq!(tags(&registry, "app").len(), 5, "{failed}");
    let node2 = node1.another_node();
    node2.file("strake.yaml", NINE);
    let built = node2.prints(&["dimg", "build", "--repo", &repo]);
    assert_eq!(with_state(&built, "[USING CACHE]"), ["Install"], "{built}");
    assert_eq!(tags(&registry, "app").len(), 9);
}

#[test]
fn a_registry_that_does_not_answer_is_done_without() {
    let node = first_node(NINE);
    let built = node.command(&["dimg", "build", "--repo", "127.0.0.1:9/app"]).succeed().unwrap();
    assert!(built.stderr.contains("127.0.0.1:9/app cannot be used"), "{built}");
    assert!(built.stderr.contains("going on without it"), "{built}");
    assert_eq!(built.stderr.matches("going on without it").count(), 1, "{built}");
    assert_eq!(with_state(&built.stdout, "[OK]"), NINE_TITLES, "{built}");
    assert_eq!(cat(&node, "/app/version.txt"), "1\n");
    node.fails(3, &["dimg", "push", "127.0.0.1:9/app"]);
}

#[test]
fn bad_entries_are_misses_that_the_next_build_repairs() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node1 = first_node(NINE);
    let built = node1.prints(&["dimg", "build", "--repo", &repo]);
    let signatures = signatures(&built);
    let install = format!("{repo}:dimgstage-{}", signatures[4]);
    // A layer is lost behind its manifest, and something must stand on it.
    let top = layers(&install).pop().unwrap();
    remove(&blob(&registry, &top));
    let changed = NINE.replace("echo 1", "echo 2");
    let node2 = node1.another_node();
    node2.file("strake.yaml", &changed);
    let built = node2.command(&["dimg", "build", "--repo", &repo]).succeed().unwrap();
    assert!(built.stderr.contains(signatures[4]) && built.stderr.contains("built anew"), "{built}");
    let done = with_state(&built.stdout, "[OK]");
    assert!(done.contains(&"Install".to_owned()), "{built}");
    assert_eq!(cat(&node2, "/app/version.txt"), "2\n");
    // It is whole again: another node can stand on it.
    let node3 = node1.another_node();
    node3.file("strake.yaml", &NINE.replace("echo 1", "echo 3"));
    let built = node3.command(&["dimg", "build", "--repo", &repo]).succeed().unwrap();
    assert!(!built.stderr.contains("built anew"), "{built}");
    assert_eq!(with_state(&built.stdout, "[USING CACHE]"), ["Install"], "{built}");
    assert_eq!(cat(&node3, "/app/version.txt"), "3\n");
}

#[test]
fn stages_above_a_lost_layer_are_good_again_when_it_is_back() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node1 = first_node(NINE);
    let built = node1.prints(&["dimg", "build", "--repo", &repo]);
    // The files of a commit make the same layer each time.
    let archive = layers(&format!("{repo}:dimgstage-{}", signatures(&built)[2])).pop().unwrap();
    remove(&blob(&registry, &archive));
    let node2 = node1.another_node();
    node2.file("strake.yaml", &NINE.replace("echo 1", "echo 2"));
    let built = node2.command(&["dimg", "build", "--repo", &repo]).succeed().unwrap();
    assert!(built.stderr.contains("built anew"), "{built}");
    let assembled: Vec<String> =
        with_state(&built.stdout, "[OK]").into_iter().filter(|title| is_stage(title)).collect();
    assert_eq!(assembled[0], NINE_TITLES[2], "{built}");
    assert!(!assembled.contains(&"Install".to_owned()), "{built}");
    assert_eq!(with_state(&built.stdout, "[USING CACHE]").last().unwrap(), "Install", "{built}");
    for (path, content) in [("/app/version.txt", "2\n"), ("/app/vendor/installed", "{}\n")] {
        assert_eq!(cat(&node2, path), content);
    }
}

#[test]
fn a_stage_that_another_machine_repaired_meanwhile_is_taken() {
    let Some(registry) = registry() else { return };
    let etcd = Etcd::start().unwrap();
    let (repo, coordinate) =
        (format!("{}/app", registry.address()), format!("etcd://{}?ttl=60s", etcd.address()));
    let stages = NINE.replace("echo packages >", "printf 'beg%s\\n' un; date +%s%N > /when; echo packages >");
    let node1 = first_node(&stages);
    let built = node1.prints(&["dimg", "build", "--repo", &repo]);
    let packages = layers(&format!("{repo}:dimgstage-{}", signatures(&built)[1])).pop().unwrap();
    remove(&blob(&registry, &packages));
    let start = |number: &str| {
        let node = node1.another_node();
        node.file("strake.yaml", &stages.replace("echo 1", number));
        let build = ["dimg", "build", "--repo", &repo, "--coordinate", &coordinate, "--progress", "rawjson"];
        let started = Started::new(node.command(&build).watched());
        (node, started)
    };
    // One repairs it, the other has found that it is lost and waits.
    let (_node2, mut repairing) = start("echo 2");
    repairing.wait_for("begun");
    repairing.send(Signal::STOP);
    let (node3, mut waiting) = start("echo 3");
    waiting.wait_for("waiting for locked resource");
    repairing.send(Signal::CONT);
    let (code, _, said) = repairing.end();
    assert_eq!(code, 0, "{said}");
    let (code, printed, said) = waiting.end();
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("begun"), "{said}\n{printed}");
    assert_eq!(cat(&node3, "/packages"), "packages\n");
}

#[test]
fn a_stage_that_failed_elsewhere_is_assembled_by_whoever_waited_for_it() {
    let Some(registry) = registry() else { return };
    let etcd = Etcd::start().unwrap();
    let (repo, coordinate) =
        (format!("{}/app", registry.address()), format!("etcd://{}?ttl=60s", etcd.address()));
    let node1 = first_node(
        &GATE.replace("cat /gate/gate > /opened;", "printf 'beg%s\\n' un; cat /gate/gate > /opened &&"),
    );
    let node2 = node1.another_node();
    let folder = format!("b/mount/{}", node1.prints(&["slug", "/gate"]).trim());
    // What the stage reads is there on one of them only.
    node2.sandbox.write(&format!("{folder}/gate"), "open\n").unwrap();
    let build = ["dimg", "build", "--build-dir", "../b", "--repo", &repo, "--coordinate", &coordinate];
    let start = |node: &Project| {
        Started::new(node.command(&[&build[..], &["--progress", "rawjson"]].concat()).watched())
    };
    let mut failing = start(&node1);
    failing.wait_for("begun");
    failing.send(Signal::STOP);
    let mut waiting = start(&node2);
    waiting.wait_for("waiting for locked resource");
    failing.send(Signal::CONT);
    assert_eq!(failing.end().0, 1);
    let (code, _, said) = waiting.end();
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("its result is not to be found; it is assembled here").count(), 1, "{said}");
    assert_eq!(cat(&node2, "/opened"), "open\n");
}

#[test]
fn what_is_not_the_stage_that_its_tag_says_is_a_miss() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let build = ["dimg", "build", "--repo", &repo];
    let node1 = first_node(NINE);
    let built = node1.prints(&build);
    let last = signatures(&built).pop().unwrap().to_owned();
    let assembled_and_sent = ["Docker instructions".to_owned(), format!("publishing to {repo}")];
    // Another project's image under the tag of a stage.
    let other = Project::new("other");
    other.sandbox.load_base(strake_testkit::Base::Busybox, "busybox").unwrap();
    other.file("strake.yaml", NINE);
    other.file("composer.json", "{}\n");
    other.commit("first");
    let tag = format!("{repo}:dimgstage-{last}");
    other.prints(&["dimg", "build"]);
    let built = other.prints(&["stage", "image"]);
    other.prints(&["tag", built.trim(), &tag]);
    other.prints(&["push", &tag]);
    let built = node1.another_node().command(&build).succeed().unwrap();
    assert!(built.stderr.contains("of another project, other"), "{built}");
    assert_eq!(with_state(&built.stdout, "[OK]"), assembled_and_sent, "{built}");
    let built = node1.another_node().command(&build).succeed().unwrap();
    assert!(built.stderr.is_empty(), "it was replaced: {built}");
    assert_eq!(with_state(&built.stdout, "[USING CACHE]"), ["Docker instructions"], "{built}");
    // An image whose configuration is lost.
    let text =
        Run::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{tag}")]);
    let manifest: serde_json::Value = serde_json::from_str(&text.succeed().unwrap().stdout).unwrap();
    remove(&blob(&registry, manifest["config"]["digest"].as_str().unwrap()));
    let built = node1.another_node().command(&build).succeed().unwrap();
    assert!(built.stderr.contains("counts as not there"), "{built}");
    assert_eq!(with_state(&built.stdout, "[OK]"), assembled_and_sent, "{built}");
}

#[test]
fn stages_of_another_history_stay_and_ours_are_put_beside_them() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let build = ["dimg", "build", "--repo", &repo];
    let node1 = first_node(NINE);
    node1.file("side", "of node 1\n");
    node1.commit("on one side");
    let built = node1.prints(&build);
    let own: Vec<String> = signatures(&built).into_iter().map(str::to_owned).collect();
    // The other side has never seen that commit; the signatures say nothing of it.
    let node2 = node1.another_node();
    node2.git(&["reset", "-q", "--hard", "HEAD~1"]);
    node2.file("side", "of node 2\n");
    node2.commit("on the other side");
    let built = node2.prints(&build);
    assert_eq!(signatures(&built), own);
    // Stages below the git files are shared.
    assert_eq!(with_state(&built, "[USING CACHE]"), ["Before install"], "{built}");
    assert_eq!(cat(&node2, "/app/side"), "of node 2\n");
    let found = tags(&registry, "app");
    let beside = |signature: &String| {
        let prefix = format!("dimgstage-{signature}-");
        found.iter().filter(|tag| tag.starts_with(&prefix) && tag.len() == prefix.len() + 13).count()
    };
    assert_eq!(own.iter().map(beside).collect::<Vec<_>>(), [0, 0, 1, 1, 1, 1, 1, 1, 1], "{found:?}");
    // Everybody finds the one of their own history.
    for (node, content) in [(&node1, "of node 1\n"), (&node2, "of node 2\n")] {
        let another = node.another_node();
        let built = another.prints(&build);
        assert_eq!(with_state(&built, "[USING CACHE]"), ["Docker instructions"], "{built}");
        assert_eq!(cat(&another, "/app/side"), content);
    }
    assert_eq!(tags(&registry, "app"), found);
}

#[test]
fn caches_are_filled_secondary_repositories_read_and_finished_images_sent() {
    let Some(registry) = registry() else { return };
    let name = |name: &str| format!("{}/{name}", registry.address());
    let (main, cache, second, last) = (name("main"), name("cache"), name("second"), name("final"));
    let node1 = first_node(NINE);
    node1.prints(&["dimg", "build", "--repo", &second]);
    let signature = node1.prints(&["stage", "image"]).trim().rsplit(':').next().unwrap().to_owned();
    // What is only in the secondary repository is copied to the main one, and nothing is built.
    let node2 = node1.another_node();
    let built =
        node2.prints(&["dimg", "build", "--repo", &main, "--secondary-repo", &second, "--final-repo", &last]);
    assert_eq!(with_state(&built, "[USING CACHE]"), ["Docker instructions"], "{built}");
    assert_eq!(tags(&registry, "main"), [format!("dimgstage-{signature}")]);
    assert_eq!(tags(&registry, "final"), [format!("dimgstage-{signature}")]);
    assert_eq!(tags(&registry, "second").len(), 9);
    // What is built goes to the cache as well; the cache is asked first and may be emptied.
    let node3 = node1.another_node();
    node3.file("strake.yaml", &NINE.replace("echo 1", "echo 2"));
    let build = ["dimg", "build", "--repo", &main, "--cache-repo", &cache, "--secondary-repo", &second];
    let built = node3.prints(&build);
    assert_eq!(with_state(&built, "[USING CACHE]"), ["Install"], "{built}");
    assert_eq!(tags(&registry, "cache").len(), 5, "what was stood on, and what was built");
    assert_eq!(tags(&registry, "main").len(), 6);
    assert_eq!(tags(&registry, "second").len(), 9, "it is only read");
    let node4 = node1.another_node();
    node4.file("strake.yaml", &NINE.replace("echo 1", "echo 2"));
    let since = registry.log().len();
    node4.prints(&build);
    assert!(requests(&registry, since, "GET", "/cache/manifests/") > 0);
    let refused = node4.fails(2, &["dimg", "build", "--cache-repo", &cache]);
    assert!(refused.stderr.contains("--repo"), "{refused}");
}

const GATE: &str = "dimg: ~
from: busybox
mount:
- from: build_dir
  to: /gate
shell:
  install: cat /gate/gate > /opened; head -c 8 /dev/urandom > /random
  setup: cat /random > /copy
";

#[test]
fn who_is_late_goes_on_with_what_others_have_published() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node1 = first_node(GATE);
    let node2 = node1.another_node();
    let folder = format!("b/mount/{}", node1.prints(&["slug", "/gate"]).trim());
    let build = ["dimg", "build", "--build-dir", "../b", "--repo", &repo];
    node1.sandbox.write(&format!("{folder}/gate"), "open\n").unwrap();
    let gate = node2.sandbox.write(&format!("{folder}/gate"), "").unwrap();
    remove(&gate);
    node2.sandbox.run("mkfifo").arg(&gate).succeed().unwrap();
    let late = std::thread::scope(|scope| {
        let late = scope.spawn(|| node2.command(&build).succeed().unwrap());
        // This waits until the command on node 2 is at the gate.
        let opened = std::fs::OpenOptions::new().write(true).open(&gate).unwrap();
        let built = node1.prints(&build);
        assert_eq!(with_state(&built, "[USING CACHE]"), ["From"], "{built}");
        std::io::Write::write_all(&mut &opened, b"open\n").unwrap();
        drop(opened);
        late.join().unwrap()
    });
    // Its own result is as good, and is dropped all the same: so both go on with the same bytes.
    assert!(with_state(&late.stdout, "[OK]").contains(&"Install".to_owned()), "{late}");
    assert_eq!(with_state(&late.stdout, "[EXIST]"), [format!("publishing to {repo}")], "{late}");
    assert_eq!(with_state(&late.stdout, "[USING CACHE]"), ["Setup"], "{late}");
    assert_eq!(tags(&registry, "app").len(), 3);
    let id = |node: &Project| node.prints(&["images", "--format", "json", "dimgstage-symfony-demo"]);
    let ids: Vec<serde_json::Value> =
        [&node1, &node2].iter().map(|node| serde_json::from_str(&id(node)).unwrap()).collect();
    let setup = node1.prints(&["stage", "image"]).trim().rsplit(':').next().unwrap().to_owned();
    let of = |images: &serde_json::Value| {
        let mut found = images.as_array().unwrap().iter().filter(|image| image["tag"] == setup.as_str());
        found.next().unwrap()["id"].clone()
    };
    assert_eq!(of(&ids[0]), of(&ids[1]));
}

#[test]
fn nodes_that_build_the_same_at_once_all_end_well() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node = first_node(NINE);
    let nodes: Vec<Project> = (0..3).map(|_| node.another_node()).collect();
    std::thread::scope(|scope| {
        for node in &nodes {
            scope.spawn(|| node.command(&["dimg", "build", "--repo", &repo]).succeed().unwrap());
        }
    });
    assert_eq!(tags(&registry, "app").len(), 9, "{:?}", tags(&registry, "app"));
    let built = node.prints(&["dimg", "build", "--repo", &repo]);
    assert_eq!(with_state(&built, "[USING CACHE]"), ["Docker instructions"], "{built}");
    for node in nodes.iter().chain([&node]) {
        assert_eq!(cat(node, "/app/version.txt"), "1\n");
    }
}

#[test]
fn machines_that_coordinate_assemble_each_stage_once() {
    let Some(registry) = registry() else { return };
    let etcd = Etcd::start().unwrap();
    let (repo, coordinate) = (format!("{}/app", registry.address()), format!("etcd://{}", etcd.address()));
    let slow = NINE.replace("echo packages >", "sleep 1; echo packages >");
    let first = first_node(&slow);
    let nodes = [first.another_node(), first.another_node(), first.another_node()];
    let build = ["dimg", "build", "--repo", &repo, "--coordinate", &coordinate];
    let printed: Vec<String> = std::thread::scope(|threads| {
        let started: Vec<_> = nodes.iter().map(|node| threads.spawn(|| node.prints(&build))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut assembled: Vec<String> = printed
        .iter()
        .flat_map(|printed| with_state(printed, "[OK]"))
        .filter(|title| is_stage(title))
        .collect();
    let all = assembled.len();
    assembled.sort();
    assembled.dedup();
    assert_eq!((assembled.len(), all), (9, 9), "{printed:#?}");
    for node in &nodes {
        assert_eq!(cat(node, "/app/version.txt"), "1\n");
    }
}

/// Whether a row is that of a stage.
fn is_stage(title: &str) -> bool {
    NINE_TITLES.iter().any(|stage| title.trim().starts_with(stage))
}

/// Makes two pairs of keys in a node's sandbox, and answers the first, its public half, and that of the other.
fn keys(node: &Project) -> [String; 3] {
    let openssl = |args: &[&str]| drop(node.sandbox.run("openssl").args(args).succeed().unwrap());
    for name in ["ci", "stranger"] {
        let (key, public) = (format!("{name}.key"), format!("{name}.pub"));
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", &key]);
        openssl(&["pkey", "-in", &key, "-pubout", "-out", &public]);
    }
    ["ci.key", "ci.pub", "stranger.pub"].map(|name| node.sandbox.path(name).to_str().unwrap().to_owned())
}

#[test]
fn only_stages_that_a_trusted_key_signed_are_used() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let first = first_node(NINE);
    let [key, trusted, stranger] = keys(&first);
    let assembled = |node: &Project, more: &[&str]| {
        let printed = node.prints(&[&["dimg", "build", "--repo", &repo], more].concat());
        with_state(&printed, "[OK]").into_iter().filter(|title| is_stage(title)).count()
    };
    // Not signed: assembled anew, and what is published then is signed.
    assert_eq!(assembled(&first, &[]), 9);
    let second = first.another_node();
    assert_eq!(assembled(&second, &["--trust", &trusted, "--sign-key", &key]), 9);
    assert_eq!(assembled(&first.another_node(), &["--trust", &trusted]), 0);
    assert_eq!(assembled(&first.another_node(), &["--trust", &stranger]), 9);
    // A finished image that nobody signed is no finished image either.
    first.prints(&["dimg", "push", &repo]);
    let push = ["dimg", "push", "--sign-key", &key, &repo];
    assert_eq!(with_state(&first.prints(&push), "[OK]"), [format!("{repo}:latest")]);
    assert!(with_state(&first.prints(&push), "[OK]").is_empty());
    // The same for the commands that only exchange.
    let pulling = first.another_node();
    pulling.prints(&["dimg", "stages", "pull", "--trust", &stranger, &repo]);
    assert!(pulling.local_stages().is_empty());
    pulling.prints(&["dimg", "stages", "pull", "--trust", &trusted, &repo]);
    assert_eq!(pulling.local_stages().len(), 1);
}

#[test]
fn stages_that_were_fetched_without_a_check_do_not_count_where_trust_matters() {
    let Some(registry) = registry() else { return };
    let name = |what: &str| format!("{}/{what}", registry.address());
    let (open, signed) = (name("open"), name("signed"));
    let first = first_node(NINE);
    let [key, trusted, stranger] = keys(&first);
    let build = |node: &Project, words: &[&str]| {
        let built = node.command(&[&["dimg", "build"], words].concat()).succeed().unwrap();
        let assembled = with_state(&built.stdout, "[OK]").into_iter().filter(|title| is_stage(title)).count();
        (assembled, built.stderr)
    };
    // What was made here is trusted, whoever else is.
    assert_eq!(build(&first, &["--repo", &open]).0, 9);
    assert_eq!(build(&first, &["--trust", &trusted]), (0, String::new()));
    // Some stages come from a stranger, and others are made here on top of them: none of them counts.
    let second = first.another_node();
    second.file("strake.yaml", &NINE.replace("echo 1", "echo 2"));
    let (assembled, _) = build(&second, &["--repo", &open]);
    assert!(0 < assembled && assembled < 9, "{assembled}");
    let (assembled, told) = build(&second, &["--trust", &trusted]);
    assert_eq!((assembled, told.matches("no trusted key vouches for").count()), (9, 1), "{told}");
    assert_eq!(build(&second, &["--trust", &trusted]), (0, String::new()));
    // Nothing of it is signed along.
    let third = first.another_node();
    build(&third, &["--repo", &open]);
    third.fails(2, &["dimg", "push", "--with-stages", "--sign-key", &key, &name("other")]);
    // What was signed is known by its seal, although nobody looked at it before; the registry is not asked.
    first.prints(&["dimg", "stages", "push", "--sign-key", &key, &signed]);
    let fourth = first.another_node();
    assert_eq!(build(&fourth, &["--repo", &signed]).0, 0);
    assert_eq!(build(&fourth, &["--trust", &trusted]), (0, String::new()));
    assert_eq!(build(&fourth, &["--trust", &stranger]).0, 9);
    // What stands on it is trusted as far as its key is.
    let fifth = first.another_node();
    fifth.file("strake.yaml", &NINE.replace("echo 1", "echo 3"));
    let (assembled, _) = build(&fifth, &["--repo", &signed, "--trust", &trusted]);
    assert!(0 < assembled && assembled < 9, "{assembled}");
    assert_eq!(build(&fifth, &["--trust", &trusted]), (0, String::new()));
    assert_eq!(build(&fifth, &["--trust", &stranger]).0, 9);
}

#[test]
fn the_repository_can_be_a_setting() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node = first_node(NINE);
    let build = |node: &Project| {
        let built = node.command(&["dimg", "build"]).env("STRAKE_REPO", &repo).succeed().unwrap().stdout;
        with_state(&built, "[OK]").into_iter().filter(|title| is_stage(title)).count()
    };
    assert_eq!(build(&node), 9);
    assert_eq!(build(&node.another_node()), 0);
}
