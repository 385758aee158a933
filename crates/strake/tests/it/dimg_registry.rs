//! Stages and images that go to a registry and come from there: the commands of the distributed-build document.

use std::collections::BTreeMap;

use strake_testkit::{Registry, RegistryOptions, Run};

use crate::dimg_nodes::{NINE, NINE_TITLES, first_node, registry, requests, tags, with_state};
use crate::dimg_scene::signatures;

fn blanked(text: &str) -> String {
    let lines = text.lines().map(|line| match line.split_once("date: ") {
        Some((indent, _)) => format!("{indent}date"),
        None if line.starts_with("Running time ") => "Running time".to_owned(),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_flow_of_the_document() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/symfony-demo", registry.address());
    let repo = repo.as_str();
    let node1 = first_node(NINE);

    // 1. All stages are assembled.
    let built = node1.prints(&["dimg", "build"]);
    assert_eq!(with_state(&built, "[OK]"), NINE_TITLES, "{built}");
    let signatures: Vec<String> = signatures(&built).into_iter().map(str::to_owned).collect();
    assert_eq!(signatures.len(), 9);
    let stage_tags: Vec<String> =
        signatures.iter().map(|signature| format!("dimgstage-{signature}")).collect();

    // 2. They go to the registry, first to last, and the image after them.
    let planned = node1.prints(&["dimg", "push", "--with-stages", "--dry-run", repo]);
    assert_eq!(with_state(&planned, "[PUSH]"), [&stage_tags[..], &[format!("{repo}:latest")]].concat());
    assert!(tags(&registry, "symfony-demo").is_empty(), "a dry run sends nothing");
    let pushed = node1.prints(&["dimg", "push", "--with-stages", repo]);
    let expected = [&stage_tags[..], &[format!("{repo}:latest")]].concat();
    assert_eq!(with_state(&pushed, "[PUSHING]"), expected);
    assert_eq!(with_state(&pushed, "[OK]"), expected);
    assert!(pushed.starts_with("stages\n  dimgstage-") && pushed.contains("\ncustom\n  "), "{pushed}");
    let mut expected = [&stage_tags[..], &["latest".to_owned()]].concat();
    expected.sort();
    assert_eq!(tags(&registry, "symfony-demo"), expected);
    let again = node1.prints(&["dimg", "push", "--with-stages", repo]);
    assert_eq!(with_state(&again, "[EXIST]").len(), 10, "{again}");
    assert_eq!(node1.prints(&["images", "-q"]).lines().count(), 10, "no name of the registry stays behind");

    // 3. and 4. Another node has nothing, and a dry run changes nothing.
    let node2 = node1.another_node();
    let planned = node2.prints(&["dimg", "build", "--dry-run"]);
    assert_eq!(with_state(&planned, "[BUILD]"), NINE_TITLES);
    assert_eq!(crate::dimg_scene::signatures(&planned), signatures);
    assert_eq!(node2.local_stages(), [""; 0]);

    // 5. Exactly one image is fetched: the last stage.
    let planned = node2.prints(&["dimg", "stages", "pull", "--dry-run", repo]);
    assert_eq!(with_state(&planned, "[PULL]"), [stage_tags[8].clone()], "{planned}");
    assert_eq!(node2.local_stages(), [""; 0]);
    let pulled = node2.prints(&["dimg", "stages", "pull", repo]);
    assert_eq!(with_state(&pulled, "[OK]"), [stage_tags[8].clone()], "{pulled}");
    assert_eq!(node2.local_stages(), [format!("dimgstage-symfony-demo:{}", signatures[8])]);

    // 6. The sample.
    let built = node2.prints(&["dimg", "build"]);
    let size = {
        let text = node2.prints(&["images", "--format", "json", "dimgstage-symfony-demo"]);
        let images: serde_json::Value = serde_json::from_str(&text).unwrap();
        images[0]["size"].as_u64().unwrap()
    };
    let megabytes = format!("{:.3}", f64::from(u32::try_from(size).unwrap()) / 1e6);
    let megabytes = megabytes.trim_end_matches('0');
    let row = |level: usize, title: &str, state: &str| {
        let width = 105 - 2 * level - title.len();
        format!("{}{title}{state:>width$}\n", "  ".repeat(level))
    };
    let detail = |level: usize, stage: usize| {
        format!("{}signature: dimgstage-symfony-demo:{}\n", "  ".repeat(level), signatures[stage])
    };
    let absent = "[NOT PRESENT]";
    let mut sample = String::new();
    for (stage, title) in NINE_TITLES.iter().enumerate().take(3) {
        sample += &row(0, title, absent);
        sample += &detail(1, stage);
    }
    for (group, stages) in [("Install group", 3..5), ("Setup group", 5..8)] {
        sample += &format!("{group}\n");
        for stage in stages {
            sample += &row(1, NINE_TITLES[stage], absent);
            sample += &detail(2, stage);
        }
    }
    sample += &format!("    date\n    size: {megabytes} MB\n");
    sample += &row(0, NINE_TITLES[8], "[USING CACHE]");
    sample += &detail(1, 8);
    sample += "  date\n  difference: 0.0 MB\nRunning time";
    assert_eq!(blanked(&built), sample);

    // 6'. With all stages fetched, every row has a date; the first a size, the others a difference.
    let node3 = node1.another_node();
    let pulled = node3.prints(&["dimg", "stages", "pull", "--all", repo]);
    let mut backwards = stage_tags.clone();
    backwards.reverse();
    assert_eq!(with_state(&pulled, "[OK]"), backwards, "{pulled}");
    let built = node3.prints(&["dimg", "build"]);
    assert_eq!(with_state(&built, "[USING CACHE]"), NINE_TITLES);
    let count = |part: &str| built.lines().filter(|line| line.trim_start().starts_with(part)).count();
    assert_eq!((count("date: "), count("size: "), count("difference: ")), (9, 1, 8), "{built}");
    assert!(built.find("size: ").unwrap() < built.find("difference: ").unwrap());

    // 7. Changed without fetching: everything is assembled.
    let changed = NINE.replace("git:\n", "  - echo \"Some changes\"\ngit:\n");
    node2.file("strake.yaml", &changed);
    node2.git(&["commit", "-q", "-a", "-m", "changed"]);
    let planned = node2.prints(&["dimg", "build", "--dry-run"]);
    assert_eq!(with_state(&planned, "[BUILD]").len(), 9, "{planned}");

    // 8. Fetched before: exactly the last stage that the old and the new conveyor have in common.
    let pulled = node2.prints(&["dimg", "stages", "pull", repo]);
    assert_eq!(with_state(&pulled, "[OK]"), [stage_tags[4].clone()], "{pulled}");
    assert_eq!(with_state(&pulled, "[NOT EXIST]").len(), 4, "{pulled}");
    assert_eq!(node2.local_stages().len(), 2);

    // 9. Built on it, and published.
    let before = tags(&registry, "symfony-demo").len();
    let built = node2.prints(&["dimg", "bp", "--with-stages", repo]);
    assert_eq!(with_state(&built, "[NOT PRESENT]"), NINE_TITLES[..4], "{built}");
    assert_eq!(with_state(&built, "[USING CACHE]"), NINE_TITLES[4..5]);
    let done = with_state(&built, "[OK]");
    assert_eq!(done[..4], NINE_TITLES[5..]);
    assert_eq!(done[4..].len(), 5, "four stages and the image: {built}");
    assert_eq!(tags(&registry, "symfony-demo").len(), before + 4);

    // The image is what node 1 would have, and any tool can use it.
    let run = node1.command(&["run", "--network", "none", &format!("{repo}:latest"), "/app/start.sh"]);
    assert_eq!(run.succeed().unwrap().stdout, "1\n");
}

/// The labels of an image in a registry.
fn labels(name: &str) -> BTreeMap<String, String> {
    let run = Run::new("skopeo").args(["inspect", "--config", "--tls-verify=false"]);
    let text = run.arg(format!("docker://{name}")).succeed().unwrap().stdout;
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(config["config"]["Labels"].clone()).unwrap()
}

#[test]
fn images_say_what_they_are() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node = first_node(NINE);
    let head = node.git(&["rev-parse", "HEAD"]);
    let not_built = node.fails(2, &["dimg", "push", &repo]);
    assert!(not_built.stderr.contains("dimg ~ is not built"), "{not_built}");
    let built = node.prints(&["dimg", "bp", "--with-stages", "--tag-commit", "--tag", "v2.3.1", &repo]);
    let signatures = signatures(&built);
    let stage = labels(&format!("{repo}:dimgstage-{}", signatures[4]));
    for (name, value) in [
        ("strake", "symfony-demo"),
        ("strake-dimg", "false"),
        ("strake-cache-version", "31"),
        ("strake-stage", "install"),
        ("strake-signature", signatures[4]),
        ("strake-parent-signature", signatures[3]),
        ("strake-commit", &head),
        ("strake-platform", "linux/amd64"),
    ] {
        assert_eq!(stage.get(name).map(String::as_str), Some(value), "{name} of {stage:?}");
    }
    assert!(stage.iter().any(|(name, value)| name.ends_with("-commit") && *value == head));
    for (tag, scheme) in [("v2-3-1-5cb8b0a4", "custom"), (head.as_str(), "git_commit")] {
        let image = labels(&format!("{repo}:{tag}"));
        assert_eq!((image["strake-dimg"].as_str(), image["strake-tag-scheme"].as_str()), ("true", scheme));
    }
    assert!(!tags(&registry, "app").contains(&"latest".to_owned()), "only the tags that were asked for");
    // What was tagged is there; what stands on another last stage is sent again.
    let pushed = node.prints(&["dimg", "push", "--tag-commit", &repo]);
    assert_eq!(with_state(&pushed, "[EXIST]"), [format!("{repo}:{head}")]);
    node.file("strake.yaml", &NINE.replace("EXPOSE: \"80\"", "VOLUME: /data"));
    node.prints(&["dimg", "build"]);
    let pushed = node.prints(&["dimg", "push", "--tag-commit", &repo]);
    assert_eq!(with_state(&pushed, "[OK]"), [format!("{repo}:{head}")]);
    // A name that the user gave it stays.
    node.prints(&["dimg", "tag", "--tag", "mine", &repo]);
    node.prints(&["dimg", "push", "--tag", "mine", &repo]);
    assert!(node.prints(&["images"]).contains("mine"));
}

#[test]
fn named_images_and_literal_names() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/group/app", registry.address());
    let file = "artifact: tools\nfrom: busybox\nshell:\n  install: mkdir /t && echo t > /t/t\n---\n\
                dimg: web\nfrom: busybox\nimport:\n- artifact: tools\n  add: /t\n  to: /t\n  after: install\n---\n\
                dimg: api\nfrom: busybox\nshell:\n  install: 'true'\n";
    let node = first_node(file);
    node.prints(&["dimg", "build"]);
    let pushed = node.prints(&["dimg", "push", "--with-stages", &repo]);
    assert_eq!(tags(&registry, "group/app/web"), ["latest"], "{pushed}");
    assert_eq!(tags(&registry, "group/app/api"), ["latest"]);
    assert!(pushed.starts_with("web\n  stages\n    dimgstage-"), "{pushed}");
    assert!(pushed.contains("\n    artifact tools\n      dimgstage-"), "{pushed}");
    // From is the same for all three.
    assert_eq!(tags(&registry, "group/app").len(), 4, "{pushed}");
    let several = node.fails(2, &["dimg", "spush", &repo]);
    assert!(several.stderr.contains("several dimgs"), "{several}");
    node.prints(&["dimg", "spush", "web", &format!("{}/elsewhere", registry.address())]);
    assert_eq!(tags(&registry, "elsewhere"), ["latest"]);

    // Another node needs nothing of the artifact while the image that takes files from it is there.
    let node2 = node.another_node();
    let pulled = node2.prints(&["dimg", "stages", "pull", "web", &repo]);
    assert_eq!(with_state(&pulled, "[OK]").len(), 1, "{pulled}");
    assert!(!pulled.contains("artifact"), "{pulled}");
    let node3 = node.another_node();
    node3.file("strake.yaml", &file.replace("to: /t\n", "to: /other\n"));
    let pulled = node3.prints(&["dimg", "stages", "pull", "web", &repo]);
    assert!(pulled.contains("artifact tools"), "{pulled}");
    let built = node3.prints(&["dimg", "build", "web"]);
    assert!(!built.contains("building artifact"), "{built}");
    assert_eq!(node3.prints(&["dimg", "run", "web", "--network", "none", "--", "cat", "/other/t"]), "t\n");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let node = first_node(NINE);
    for repo in ["localhost:5000/app:tag", "localhost:5000/App", "localhost:5000/app@sha256:12"] {
        let failed = node.fails(2, &["dimg", "stages", "pull", repo]);
        assert!(failed.stderr.contains("REPO"), "{failed}");
    }
    // Nobody listens there.
    for words in [&["dimg", "stages", "pull"][..], &["dimg", "stages", "push"]] {
        node.prints(&["dimg", "build"]);
        node.file("strake.yaml", &NINE.replace("echo 1", &format!("echo {}", words.len() + words[2].len())));
        let failed = node.fails(3, &[words, &["127.0.0.1:9/app"]].concat());
        assert!(failed.stderr.contains("127.0.0.1:9"), "{failed}");
    }
}

#[test]
fn a_newer_commit_is_noticed_before_anything_is_fetched() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node1 = first_node(NINE);
    let built = node1.prints(&["dimg", "bp", "--with-stages", &repo]);
    let signatures = signatures(&built);
    let node2 = node1.another_node();
    node2.file("new", "of the newer commit\n");
    node2.commit("newer");
    let pulled = node2.prints(&["dimg", "stages", "pull", &repo]);
    // The last stage has old files: what is needed is the one that the patch is put on.
    assert_eq!(with_state(&pulled, "[OK]"), [format!("dimgstage-{}", signatures[7])], "{pulled}");
    let built = node2.prints(&["dimg", "build"]);
    assert_eq!(with_state(&built, "[OK]"), ["Git artifacts: latest patch", "Docker instructions"], "{built}");
    let run =
        node2.prints(&["dimg", "run", "--network", "none", "--", "cat", "/app/new", "/app/version.txt"]);
    assert_eq!(run, "of the newer commit\n1\n");
    // What is here is not asked for again.
    let since = registry.log().len();
    let pulled = node2.prints(&["dimg", "stages", "pull", &repo]);
    assert!(!pulled.contains('['), "{pulled}");
    assert_eq!(requests(&registry, since, "GET", "/manifests/"), 0);
    // Without any stage in the repository nothing is fetched, and that is no mistake.
    let node3 = node1.another_node();
    let pulled = node3.prints(&["dimg", "stages", "pull", &format!("{}/other", registry.address())]);
    assert_eq!(with_state(&pulled, "[NOT EXIST]").len(), 9, "{pulled}");
    assert_eq!(node3.local_stages(), [""; 0]);
}

#[test]
fn a_stage_that_says_it_is_another_one_is_refused() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node1 = first_node(NINE);
    let built = node1.prints(&["dimg", "bp", "--with-stages", &repo]);
    let signatures = signatures(&built);
    let at = |stage: usize| format!("docker://{repo}:dimgstage-{}", signatures[stage]);
    let copy = |from: &str, to: &str| {
        let run =
            Run::new("skopeo").args(["copy", "--src-tls-verify=false", "--dest-tls-verify=false", from, to]);
        run.succeed().unwrap();
    };
    copy(&at(4), &at(8));
    let node2 = node1.another_node();
    let pulled = node2.command(&["dimg", "stages", "pull", &repo]).succeed().unwrap();
    assert!(
        pulled.stderr.contains("its labels name another stage") && pulled.stderr.contains(signatures[4]),
        "{pulled}"
    );
    assert_eq!(with_state(&pulled.stdout, "[OK]"), [format!("dimgstage-{}", signatures[7])], "{pulled}");
    // Whoever has the right one repairs it.
    let pushed = node1.command(&["dimg", "stages", "push", &repo]).succeed().unwrap();
    assert!(pushed.stderr.contains("it is replaced"), "{pushed}");
    assert_eq!(with_state(&pushed.stdout, "[OK]"), [format!("dimgstage-{}", signatures[8])], "{pushed}");
    assert_eq!(labels(&format!("{repo}:dimgstage-{}", signatures[8]))["strake-signature"], signatures[8]);
    let pulled = node1.another_node().prints(&["dimg", "stages", "pull", &repo]);
    assert_eq!(with_state(&pulled, "[OK]"), [format!("dimgstage-{}", signatures[8])], "{pulled}");
}

#[test]
fn somebody_elses_image_with_the_right_labels_is_replaced() {
    let Some(registry) = registry() else { return };
    let repo = format!("{}/app", registry.address());
    let node = first_node(NINE);
    node.prints(&["dimg", "build"]);
    node.prints(&["dimg", "push", &repo]);
    let name = format!("{repo}:latest");
    assert!(with_state(&node.prints(&["dimg", "push", &repo]), "[OK]").is_empty(), "it is there");
    let image = |name: &str| {
        let run = Run::new("skopeo").args(["inspect", "--config", "--tls-verify=false"]);
        let text = run.arg(format!("docker://{name}")).succeed().unwrap().stdout;
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let ours = image(&name);

    // All that is to be read of ours, on other files.
    let quoted = |(label, text): (&String, &String)| format!("LABEL {label}={}\n", serde_json::json!(text));
    let text: String = labels(&name).iter().map(quoted).collect();
    node.file("theirs/Dockerfile", &format!("FROM busybox\nRUN echo theirs > /file\n{text}"));
    node.prints(&["build", "-q", "--network=none", "-t", &name, "--push", "theirs"]);
    node.prints(&["rmi", &name]);
    assert_ne!(image(&name)["rootfs"], ours["rootfs"]);

    let pushed = node.prints(&["dimg", "push", &repo]);
    assert_eq!(with_state(&pushed, "[OK]"), std::slice::from_ref(&name), "{pushed}");
    assert_eq!(image(&name)["rootfs"], ours["rootfs"]);
}

#[test]
fn a_login_for_one_command_is_enough() {
    if strake_testkit::program_on_path("docker-registry").is_none() {
        return strake_testkit::lacking("docker-registry");
    }
    let options = RegistryOptions { password: true, ..RegistryOptions::default() };
    let registry = Registry::start_with(options).unwrap();
    let repo = format!("{}/app", registry.address());
    let node = first_node(NINE);
    node.prints(&["dimg", "build"]);
    let refused = node.fails(3, &["dimg", "push", "--with-stages", &repo]);
    assert!(refused.stderr.contains(&registry.address()), "{refused}");
    let login = ["--registry-username", "strake", "--registry-password-stdin"];
    let push = [&["dimg", "push", "--with-stages"][..], &login, &[&repo]].concat();
    node.command(&push).input("secret\n").succeed().unwrap();
    let node2 = node.another_node();
    let pull = node2.command(&["dimg", "stages", "pull", &repo]).env("STRAKE_REGISTRY_USERNAME", "strake");
    pull.env("STRAKE_REGISTRY_PASSWORD", "secret").succeed().unwrap();
    assert_eq!(node2.local_stages().len(), 1);
    let build = [&["dimg", "build"][..], &login, &["--repo", &repo]].concat();
    let built = node.another_node().command(&build).input("secret\n").succeed().unwrap();
    assert_eq!(with_state(&built.stdout, "[USING CACHE]"), ["Docker instructions"], "{built}");
}
