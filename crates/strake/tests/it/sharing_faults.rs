//! What must not come of sharing steps: images that a clean build would not give, and builds that end for no reason.

use strake_testkit::{Registry, RegistryOptions};

use crate::scene::Scene;
use crate::sharing::{CHAIN, repo, scene};

/// Removes what is compressed from the registry's disk: layers, not documents.
fn remove_layers(registry: &Registry) {
    let blobs = registry.content().join("docker/registry/v2/blobs/sha256");
    for two in std::fs::read_dir(blobs).unwrap() {
        for blob in std::fs::read_dir(two.unwrap().path()).unwrap() {
            let path = blob.unwrap().path().join("data");
            if std::fs::read(&path).unwrap().starts_with(&[0x1f, 0x8b]) {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
}

#[test]
fn a_limit_of_times_holds_for_what_lies_below_a_step_of_this_machine() {
    let registry = Registry::start().unwrap();
    let (repo, first, second, alone) = (repo(&registry), scene(CHAIN), scene(CHAIN), scene(CHAIN));
    first.build(&["--repo", &repo]);
    for scene in [&second, &alone] {
        scene.file("in.txt", "second\n");
    }
    second.build(&["--repo", &repo]).expect_ran(&["COPY in.txt", "RUN cat"]);
    let limited = ["--timestamp", "1700000000"];
    assert_eq!(second.build(&limited).id(), alone.build(&limited).id());
}

#[test]
fn a_limit_of_times_holds_for_an_equal_result_of_another_machine() {
    let registry = Registry::start().unwrap();
    let (repo, first, second, alone) = (repo(&registry), scene(CHAIN), scene(CHAIN), scene(CHAIN));
    first.build(&["--repo", &repo]);
    second.content("two", &["--repo", &repo]);
    let limited = ["--timestamp", "1700000000"];
    for scene in [&second, &alone] {
        scene.file("Dockerfile", &CHAIN.replace("echo one", "echo  one"));
    }
    assert_eq!(second.build(&limited).id(), alone.build(&limited).id());
    second.build(&limited).expect_ran(&[]);
}

#[test]
fn a_mistake_further_up_is_told_where_it_is() {
    let registry = Registry::start().unwrap();
    let first = scene("FROM busybox\nRUN echo one > /one\nCOPY nowhere /\n");
    let args = ["--repo", &repo(&registry)];
    let (shared, alone) = (first.fails(2, &args), first.fails(2, &[]));
    let told = |built: &crate::scene::Built| built.steps("failed").concat();
    assert_eq!(told(&shared), told(&alone), "{}", shared.finished);
    assert!(told(&shared).contains("COPY nowhere"));
}

#[test]
fn many_stages_without_their_layers_are_built() {
    let stages = |last: &str| {
        let mut text = "FROM busybox AS s0\nRUN echo 0 > /f\n".to_owned();
        for number in 1..8 {
            let below = number - 1;
            text +=
                &format!("FROM busybox AS s{number}\nCOPY --from=s{below} /f /f\nRUN echo {number} >> /f\n");
        }
        text + "RUN echo " + last + " >> /f\n"
    };
    let registry = Registry::start().unwrap();
    let (repo, first, second) = (repo(&registry), scene(&stages("a")), scene(&stages("b")));
    let args = ["--repo", repo.as_str()];
    first.build(&args);
    remove_layers(&registry);
    assert_eq!(second.content("f", &args), "0\n1\n2\n3\n4\n5\n6\n7\nb\n");
}

/// Two stages; the second takes a file from the first.
fn stages(last: &str) -> String {
    format!(
        "FROM busybox AS made\nRUN echo made > /made\nFROM busybox\nRUN echo {last} > /final\nCOPY --from=made /made /copy\n"
    )
}

fn tags(scene: &Scene, repo: &str) -> Vec<String> {
    let words = ["list-tags", "--tls-verify=false", &format!("docker://{repo}")];
    let tags = scene.sandbox.run("skopeo").args(words).succeed().unwrap().stdout;
    let tags: serde_json::Value = serde_json::from_str(&tags).unwrap();
    tags["Tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

/// Says of everything that copies selected that it was something else.
fn falsify_selections(scene: &Scene, registry: &Registry) {
    for tag in tags(scene, &repo(registry)).iter().filter(|tag| tag.starts_with("files-")) {
        let address = format!("http://{}/v2/cache/manifests/{tag}", registry.address());
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let curl = |words: &[&str]| scene.sandbox.run("curl").args(["-sf"]).args(words).succeed().unwrap();
        let manifest = curl(&["-H", &format!("Accept: {media_type}"), &address]).stdout;
        let mut manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        manifest["annotations"]["dev.strake.selection"] = format!("sha256:{}", "0".repeat(64)).into();
        scene.sandbox.write("manifest", manifest.to_string()).unwrap();
        let kind = format!("Content-Type: {media_type}");
        curl(&["-X", "PUT", "-H", &kind, "--data-binary", "@manifest", &address]);
    }
}

#[test]
fn what_a_copy_took_is_not_published_as_what_was_said_of_it() {
    let registry = Registry::start().unwrap();
    let (first, second) = (scene(&stages("one")), scene(&stages("two")));
    first.build(&["--repo", &repo(&registry)]);
    falsify_selections(&first, &registry);
    second.build(&["--repo", &repo(&registry)]);
    let honest = format!("{}/honest", registry.address());
    scene(&stages("two")).build(&["--repo", &honest]);
    let steps = |repo: &str| tags(&first, repo).into_iter().filter(|tag| tag.starts_with("step-"));
    let published: Vec<String> = steps(&repo(&registry)).collect();
    for step in steps(&honest) {
        assert!(published.contains(&step), "{step} is not among {published:#?}");
    }
}

#[test]
fn a_repository_that_takes_nothing_is_read_all_the_same() {
    let dockerfile = |what: &str| {
        format!(
            "FROM busybox AS made\nRUN echo fixed > /fixed; echo {what} > /one\nRUN sleep 1; echo {what} > /two\n\
             FROM busybox\nCOPY --from=made /fixed /fixed\nRUN cat /fixed > /copy\n"
        )
    };
    let registry = Registry::start().unwrap();
    let (first, second) = (scene(&dockerfile("a")), scene(&dockerfile("b")));
    first.build(&["--repo", &repo(&registry)]);
    let options = RegistryOptions { read_only: true, ..RegistryOptions::default() };
    let read_only = Registry::start_with(options).unwrap();
    std::os::unix::fs::symlink(registry.content(), read_only.content()).unwrap();
    let built = second.build(&["--repo", &repo(&read_only)]);
    built.expect_ran(&["RUN echo fixed", "RUN sleep 1"]);
    assert!(built.events.iter().any(|event| event["event"] == "warning"), "{}", built.finished);
}

#[test]
fn an_image_whose_layers_are_lost_is_built_before_it_is_pushed() {
    let registry = Registry::start().unwrap();
    let (repo, first, second) = (repo(&registry), scene(CHAIN), scene(CHAIN));
    first.build(&["--repo", &repo]);
    remove_layers(&registry);
    let name = format!("{}/app:1", registry.address());
    second.build(&["--repo", &repo, "--push", "-t", &name]);
}

#[test]
fn a_cache_does_not_replace_what_was_built_here() {
    let registry = Registry::start().unwrap();
    let name = format!("{}/steps:1", registry.address());
    let (first, second) = (scene(&stages("one")), scene(&stages("one")));
    first.build(&["--cache-to", &format!("type=registry,ref={name},mode=max")]);
    let before = second.build(&[]).id().to_owned();
    second.file("Dockerfile", &(stages("one") + "RUN true\n"));
    second.build(&["--cache-from", &name]).expect_ran(&["RUN true"]);
    second.file("Dockerfile", &stages("one"));
    assert_eq!(second.build(&[]).id(), before);
}
