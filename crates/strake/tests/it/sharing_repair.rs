//! Steps in a registry whose layers are lost, and what makes them good again.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::Value;
use strake_testkit::{Etcd, Registry, RegistryOptions};

use crate::scene::{Built, Scene, eventually};

/// Four steps, of which the last takes a file of the context. What any of them makes is the same each time.
const CHAIN: &str = "FROM busybox
RUN printf 'beg%s\\n' un; echo one > /one
RUN echo two > /two
RUN cat /one /two > /three
COPY in.txt /in.txt
";

fn scene(dockerfile: &str, content: &str) -> Scene {
    let scene = Scene::new(dockerfile);
    scene.file("in.txt", content);
    scene
}

fn registry() -> (Registry, String) {
    let registry =
        Registry::start_with(RegistryOptions { delete: true, ..RegistryOptions::default() }).unwrap();
    let repo = format!("{}/cache", registry.address());
    (registry, repo)
}

/// Where the registry keeps a blob.
fn blob(content: &Path, digest: &str) -> PathBuf {
    let hex = digest.trim().trim_start_matches("sha256:");
    content.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
}

/// The blob that the registry has of the own layer of a step, by a part of its instruction.
fn layer_of(registry: &Registry, instruction: &str) -> PathBuf {
    let content = registry.content();
    let read = |digest: &str| -> Value {
        serde_json::from_slice(&std::fs::read(blob(&content, digest)).unwrap()).unwrap()
    };
    let tags = content.join("docker/registry/v2/repositories/cache/_manifests/tags");
    for tag in std::fs::read_dir(tags).unwrap() {
        let manifest = read(&std::fs::read_to_string(tag.unwrap().path().join("current/link")).unwrap());
        let config = read(manifest["config"]["digest"].as_str().unwrap());
        let label = &config["config"]["Labels"]["strake-instruction"];
        if label.as_str().is_some_and(|label| label.contains(instruction)) {
            let layer = manifest["layers"].as_array().unwrap().last().unwrap();
            return blob(&content, layer["digest"].as_str().unwrap());
        }
    }
    panic!("no step has {instruction}");
}

fn warnings(built: &Built) -> Vec<String> {
    let warnings = built.events.iter().filter(|event| event["event"] == "warning");
    warnings.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn one_lost_layer_costs_one_step() {
    let (registry, repo) = registry();
    let args = ["--repo", repo.as_str()];
    scene(CHAIN, "first\n").build(&args);
    std::fs::remove_file(layer_of(&registry, "echo one")).unwrap();
    let second = scene(CHAIN, "second\n");
    let built = second.build(&args);
    built.expect_ran(&["echo one", "COPY in.txt"]);
    assert_eq!(warnings(&built).len(), 1, "{}", built.finished);
    for (path, content) in [("three", "one\ntwo\n"), ("in.txt", "second\n")] {
        assert_eq!(second.content(path, &args), content);
    }
    // The image is whole: it can be saved, loaded elsewhere, and pushed.
    let image = format!("{}/app:1", registry.address());
    second.build(&["--repo", &repo, "-t", &image]).expect_ran(&[]);
    second.strake(&["push", &image]);
    let other = scene(CHAIN, "");
    other.strake(&["pull", &image]);
    assert_eq!(other.strake(&["run", "--network=none", &image, "cat", "/three"]).stdout, "one\ntwo\n");
    // What stood on the lost layer is written anew: nobody else meets it.
    let third = scene(CHAIN, "third\n");
    let built = third.build(&args);
    built.expect_ran(&["COPY in.txt"]);
    assert_eq!(warnings(&built), Vec::<String>::new());
    assert_eq!(third.content("three", &args), "one\ntwo\n");
}

#[test]
fn layers_are_lost_one_by_one() {
    let (registry, repo) = registry();
    let args = ["--repo", repo.as_str(), "--timestamp", "1700000000"];
    let first = scene(CHAIN, "first\n");
    first.build(&args);
    std::fs::remove_file(layer_of(&registry, "echo one")).unwrap();
    // A layer that is damaged is no better than one that is gone.
    std::fs::write(layer_of(&registry, "cat /one"), "damaged").unwrap();
    let second = scene(CHAIN, "second\n");
    second.build(&args).expect_ran(&["echo one", "cat /one", "COPY in.txt"]);
    // Equal content with equal times is the same image as if nothing had been lost.
    first.file("in.txt", "second\n");
    assert_eq!(second.build(&args).id(), first.build(&args[2..]).id());
}

#[test]
fn what_comes_out_different_is_not_stood_on() {
    let dockerfile = CHAIN.replace("echo one > /one", "echo one > /one; head -c 8 /dev/urandom > /random");
    let (registry, repo) = registry();
    let args = ["--repo", repo.as_str()];
    scene(&dockerfile, "first\n").build(&args);
    std::fs::remove_file(layer_of(&registry, "echo one")).unwrap();
    let built = scene(&dockerfile, "second\n").build(&args);
    built.expect_ran(&["echo one", "echo two", "cat /one", "COPY in.txt"]);
}

/// One machine repairs a step while another one, which has found that its layer is lost, waits.
fn repaired_meanwhile(times: &[&str]) {
    let (registry, repo) = registry();
    let etcd = Etcd::start().unwrap();
    // Longer than the first one is stopped for.
    let coordinate = format!("etcd://{}?ttl=60s", etcd.address());
    let args = [&["--repo", repo.as_str(), "--coordinate", &coordinate], times].concat();
    let lost = |registry: &Registry| layer_of(registry, "echo one");
    scene(CHAIN, "first\n").build(&args);
    let before = lost(&registry);
    std::fs::remove_file(&before).unwrap();
    // Files have seconds: made in the same one, the layer would be the same without being told to.
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let made = second();
    eventually("the next second", || (second() != made).then_some(()));
    let (second, third) = (scene(CHAIN, "second\n"), scene(CHAIN, "third\n"));
    let mut repairing = second.start_build(&args);
    repairing.wait_for("begun");
    repairing.send(Signal::STOP);
    let mut waiting = third.start_build(&args);
    waiting.wait_for("cannot be used");
    waiting.wait_for("\"waiting\"");
    repairing.send(Signal::CONT);
    for (started, own) in [(repairing, true), (waiting, false)] {
        let (code, _, said) = started.end();
        assert_eq!(code, 0, "{said}");
        assert_eq!(said.contains("begun"), own, "{said}");
    }
    assert_eq!(lost(&registry) == before, !times.is_empty());
    assert_eq!(third.content("three", &args), "one\ntwo\n");
}

#[test]
fn what_another_machine_repaired_meanwhile_is_taken() {
    repaired_meanwhile(&[]);
}

#[test]
fn a_lost_layer_that_another_machine_brought_back_is_taken() {
    // With the same times it is the same blob.
    repaired_meanwhile(&["--timestamp", "1700000000"]);
}
