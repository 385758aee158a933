//! How few requests sharing takes, and what is published when.

use strake_testkit::{Registry, RegistryOptions};

use crate::scene::Scene;

/// Three steps, a file from the context between them.
const CHAIN: &str = "FROM busybox
RUN echo one > /one
COPY in.txt /in.txt
RUN cat /in.txt /one > /two
";

/// Two stages; the second takes a file from the first.
const STAGES: &str = "FROM busybox AS made
RUN echo made > /made
FROM busybox
RUN echo final > /final
COPY --from=made /made /made
";

fn scene(dockerfile: &str) -> Scene {
    let scene = Scene::new(dockerfile);
    scene.file("in.txt", "first\n");
    scene
}

fn repo(registry: &Registry) -> String {
    format!("{}/cache", registry.address())
}

/// The requests that the registry has logged, as `METHOD path status`.
fn requests(registry: &Registry) -> Vec<String> {
    let log = registry.log();
    let lines = log.lines().filter(|line| line.contains("HTTP/1.1\""));
    lines.map(|line| line.split('"').nth(1).unwrap_or(line).to_owned()).collect()
}

/// How many of some requests have this method and this part of their path.
fn count(requests: &[String], method: &str, part: &str) -> usize {
    let fits = |line: &&String| line.split(' ').next() == Some(method) && line.contains(part);
    requests.iter().filter(fits).count()
}

/// The tags in a repository, sorted.
fn tags(scene: &Scene, repo: &str) -> Vec<String> {
    let name = format!("docker://{repo}");
    let run = scene.sandbox.run("skopeo").args(["list-tags", "--tls-verify=false", &name]);
    let tags: serde_json::Value = serde_json::from_str(&run.succeed().unwrap().stdout).unwrap();
    let text = |tag: &serde_json::Value| tag.as_str().unwrap().to_owned();
    let mut tags: Vec<String> = tags["Tags"].as_array().unwrap().iter().map(text).collect();
    tags.sort();
    tags
}

#[test]
fn what_was_found_here_is_published_although_the_build_fails() {
    let registry = Registry::start().unwrap();
    let fails = STAGES.to_owned() + "RUN exit 7\n";
    let (repo, first, second) = (repo(&registry), scene(STAGES), scene(STAGES));
    first.build(&[]);
    first.file("Dockerfile", &fails);
    let args = ["--repo", repo.as_str()];
    first.fails(1, &args);
    second.build(&args).expect_ran(&[]);
}

#[test]
fn what_a_found_step_stands_on_is_published_before_it() {
    let registry =
        Registry::start_with(RegistryOptions { delete: true, ..RegistryOptions::default() }).unwrap();
    let (repo, first) = (repo(&registry), scene(CHAIN));
    let args = ["--repo", repo.as_str()];
    first.build(&args);
    let all = tags(&first, &repo);
    assert_eq!(all.len(), 3, "{all:?}");
    // The registry loses what this store has seen there.
    for tag in &all {
        let name = format!("docker://{repo}:{tag}");
        first.sandbox.run("skopeo").args(["delete", "--tls-verify=false", &name]).succeed().unwrap();
    }
    first.file("Dockerfile", &(CHAIN.to_owned() + "RUN echo more > /more\n"));
    first.build(&[]).expect_ran(&["RUN echo more"]);
    first.file("Dockerfile", &(CHAIN.to_owned() + "RUN echo more > /more\nRUN exit 7\n"));
    let before = requests(&registry).len();
    first.fails(1, &args);
    let now = tags(&first, &repo);
    assert!(now.len() == 4 && all.iter().all(|tag| now.contains(tag)), "{all:?} {now:?}");
    let asked = requests(&registry).split_off(before);
    let is_put = |line: &&String| line.starts_with("PUT ") && line.contains("/manifests/");
    let put: Vec<_> = asked.iter().filter(is_put).collect();
    assert!(put.len() == 4 && all.iter().all(|tag| !put[3].contains(tag)), "from the bottom up: {put:#?}");
}

#[test]
fn a_step_is_published_with_few_requests() {
    let registry = Registry::start().unwrap();
    let mut chain = CHAIN.to_owned();
    (0..5).for_each(|step| chain += &format!("RUN echo {step} > /step{step}\n"));
    let (repo, first) = (repo(&registry), scene(&chain));
    first.build(&["--repo", &repo]);
    let all = requests(&registry);
    // Layers and configurations of eight steps are new, so that nobody asks for them, and small, so that they are sent
    // when they are complete; the layer of the base image is sent along, and is the only one that may be there.
    assert!(count(&all, "HEAD", "") <= 1, "{all:#?}");
    assert!(count(&all, "PATCH", "") <= 1, "{all:#?}");
    assert_eq!(count(&all, "PUT", "/blobs/"), 17, "{all:#?}");
    assert_eq!(count(&all, "POST", "/blobs/"), 17, "{all:#?}");
    assert_eq!(count(&all, "PUT", "/manifests/"), 8, "{all:#?}");
    // The end of the stage is looked for by halves, and each step once more at most.
    assert!(count(&all, "GET", "/manifests/step-") <= 12, "{all:#?}");
}

#[test]
fn an_image_that_is_there_takes_two_requests() {
    let registry = Registry::start().unwrap();
    let (repo, app) = (repo(&registry), format!("{}/app", registry.address()));
    let (first, second, third) = (scene(CHAIN), scene(CHAIN), scene(CHAIN));
    let args = ["--repo", repo.as_str(), "--push", "-t", &app];
    first.build(&args);
    // The requests about the image that this takes, and their methods.
    let asked = |node: &Scene, args: &[&str]| {
        let before = requests(&registry).len();
        node.build(args);
        let mut asked = requests(&registry).split_off(before);
        asked.retain(|line| line.contains("/v2/app/"));
        let methods: Vec<String> =
            asked.iter().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
        (asked, methods)
    };
    // For a machine that has it, and for one that knows it from its steps: what the tag stands for, and the manifest
    // once more, which is how the registry finds out whether it still has what that names.
    for node in [&first, &second] {
        let (asked, methods) = asked(node, &args);
        assert_eq!(methods, ["GET", "PUT"], "{asked:#?}");
    }
    // What a changed image has in common with the one before it is not asked for.
    third.file("in.txt", "second\n");
    let (asked, _) = asked(&third, &args);
    assert_eq!(count(&asked, "HEAD", ""), 0, "{asked:#?}");
    assert_eq!(count(&asked, "POST", "?mount="), 2, "{asked:#?}");
}

#[test]
fn a_new_tag_of_an_image_that_is_there_takes_no_layer() {
    let registry = Registry::start().unwrap();
    let app = format!("{}/app", registry.address());
    let first = scene(CHAIN);
    first.build(&["--push", "-t", &app]);
    let before = requests(&registry).len();
    first.strake(&["tag", &app, &format!("{app}:other")]);
    first.strake(&["push", &format!("{app}:other")]);
    let asked = requests(&registry).split_off(before);
    let methods: Vec<_> = asked.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(methods, ["GET", "HEAD", "PUT"], "{asked:#?}");
}
