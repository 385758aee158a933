//! Steps shared between machines through a real registry. Two stores are two machines.

use strake_testkit::{Base, Etcd, Registry, RegistryOptions, base_tar};

use crate::scene::{Built, Scene};

/// Three steps, a file from the context between them.
pub(crate) const CHAIN: &str = "FROM busybox
RUN echo one > /one
COPY in.txt /in.txt
RUN cat /in.txt /one > /two
";

/// Two stages; the second takes a file from the first.
const STAGES: &str = "FROM busybox AS made
RUN mkdir /out && echo made > /out/made && echo other > /other
FROM busybox
RUN echo final > /final
COPY --from=made /out/made /made
RUN cat /made /final > /both
";

/// A scene whose context has the file `in.txt`.
pub(crate) fn scene(dockerfile: &str) -> Scene {
    let scene = Scene::new(dockerfile);
    scene.file("in.txt", "first\n");
    scene
}

pub(crate) fn repo(registry: &Registry) -> String {
    format!("{}/cache", registry.address())
}

/// The requests that the registry has logged, as `METHOD path status`.
fn requests(registry: &Registry) -> Vec<String> {
    let log = registry.log();
    let lines = log.lines().filter(|line| line.contains("HTTP/1.1\""));
    lines.map(|line| line.split('"').nth(1).unwrap_or(line).to_owned()).collect()
}

fn since(registry: &Registry, before: usize) -> Vec<String> {
    requests(registry).split_off(before)
}

fn blob_reads(requests: &[String]) -> Vec<&String> {
    requests.iter().filter(|request| request.starts_with("GET ") && request.contains("/blobs/")).collect()
}

/// The image as an archive of its files, read from a fresh pull of everything.
fn digest(built: &Built) -> String {
    built.id().to_owned()
}

#[test]
fn a_base_that_both_machines_imported_is_one() {
    let registry = Registry::start().unwrap();
    let repo = repo(&registry);
    let tar = base_tar(Base::Busybox).unwrap();
    let node = || {
        let scene = scene(&CHAIN.replace("busybox", "imported"));
        let import = scene.sandbox.strake(["import", tar.to_str().unwrap(), "imported"]);
        import.env("SOURCE_DATE_EPOCH", "1700000000").succeed().unwrap();
        scene
    };
    let args = ["--repo", repo.as_str()];
    let (first, second) = (node(), node());
    let built = first.build(&args);
    built.expect_ran(&["RUN echo one", "COPY in.txt", "RUN cat"]);
    let reused = second.build(&args);
    reused.expect_ran(&[]);
    assert_eq!(digest(&reused), digest(&built));
    assert_eq!(second.content("two", &args), "first\none\n");
    // The other way round as well.
    second.file("in.txt", "second\n");
    first.file("in.txt", "second\n");
    second.build(&args).expect_ran(&["COPY in.txt", "RUN cat"]);
    first.build(&args).expect_ran(&[]);
    assert_eq!(first.content("two", &args), "second\none\n");
}

#[test]
fn what_one_machine_built_another_does_not_build() {
    let registry = Registry::start().unwrap();
    let (repo, first, second) = (repo(&registry), scene(CHAIN), scene(CHAIN));
    let args = ["--repo", repo.as_str()];
    let built = first.build(&args);
    built.expect_ran(&["RUN echo one", "COPY in.txt", "RUN cat"]);

    let before = requests(&registry).len();
    let reused = second.build(&args);
    reused.expect_ran(&[]);
    assert_eq!(digest(&reused), digest(&built));
    let asked = since(&registry, before);
    assert!(blob_reads(&asked).is_empty(), "{asked:#?}");
    assert!(asked.len() <= 3, "{asked:#?}");

    // And the layers come when they are needed.
    assert_eq!(second.content("two", &args), "first\none\n");

    let before = requests(&registry).len();
    first.build(&args).expect_ran(&[]);
    let asked = since(&registry, before);
    assert!(asked.len() <= 2, "{asked:#?}");
}

#[test]
fn a_late_change_runs_only_what_it_touches() {
    let registry = Registry::start().unwrap();
    let (repo, first, second) = (repo(&registry), scene(CHAIN), scene(CHAIN));
    let args = ["--repo", repo.as_str()];
    first.build(&args);
    second.file("in.txt", "second\n");
    second.build(&args).expect_ran(&["COPY in.txt", "RUN cat"]);
    assert_eq!(second.content("two", &args), "second\none\n");
    // What the second machine built, the first one takes.
    first.file("in.txt", "second\n");
    first.build(&args).expect_ran(&[]);
    assert_eq!(first.content("two", &args), "second\none\n");
}

#[test]
fn what_one_manifest_told_is_not_asked_for_step_by_step() {
    let registry = Registry::start().unwrap();
    let mut chain = CHAIN.to_owned();
    (0..8).for_each(|step| chain += &format!("RUN echo {step} > /step{step}\n"));
    let changed = chain.clone() + "RUN echo more > /more\n";
    let (repo, first, second, third) = (repo(&registry), scene(&chain), scene(&chain), scene(&changed));
    let args = ["--repo", repo.as_str()];
    first.build(&args);

    let before = requests(&registry).len();
    second.build(&args).expect_ran(&[]);
    let asked = since(&registry, before);
    assert!(asked.len() <= 3, "{asked:#?}");
    // Nor by the next build of that machine.
    let before = requests(&registry).len();
    second.build(&args).expect_ran(&[]);
    let asked = since(&registry, before);
    assert!(asked.len() <= 2, "{asked:#?}");

    let before = requests(&registry).len();
    third.build(&args).expect_ran(&["RUN echo more"]);
    let asked = since(&registry, before);
    let heads: Vec<_> = asked.iter().filter(|request| request.starts_with("HEAD ")).collect();
    // A layer that is being made has no name to ask by, and its configuration was never there before.
    assert!(heads.is_empty(), "{heads:#?}");
    let fourth = scene(&changed);
    fourth.build(&args).expect_ran(&[]);
    assert_eq!(fourth.content("more", &args), "more\n");
}

#[test]
fn a_layer_that_a_manifest_names_in_vain_is_sent_again() {
    let registry = Registry::start().unwrap();
    // The same bytes whoever makes them: what is published again is the very blob that is missing.
    let args_of = |repo: &str| ["--timestamp=1000000000".to_owned(), "--repo".to_owned(), repo.to_owned()];
    let args = args_of(&repo(&registry));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (first, second, third) = (scene(CHAIN), scene(CHAIN), scene(CHAIN));
    first.build(&args);
    assert!(remove_large_blobs(&registry) > 0);
    second.file("in.txt", "second\n");
    second.build(&args);
    third.file("in.txt", "second\n");
    third.build(&args).expect_ran(&[]);
    assert_eq!(third.content("two", &args), "second\none\n");
}

#[test]
fn copies_from_other_stages_are_known_without_their_files() {
    let registry = Registry::start().unwrap();
    let (repo, first, second) = (repo(&registry), scene(STAGES), scene(STAGES));
    let args = ["--repo", repo.as_str()];
    let built = first.build(&args);
    let before = requests(&registry).len();
    let reused = second.build(&args);
    reused.expect_ran(&[]);
    assert_eq!(digest(&reused), digest(&built));
    let asked = since(&registry, before);
    assert!(blob_reads(&asked).is_empty(), "{asked:#?}");
    assert!(asked.len() <= 8, "{asked:#?}");
    assert_eq!(second.content("both", &args), "made\nfinal\n");
}

#[test]
fn what_copies_select_is_published_with_one_request_each() {
    let registry = Registry::start().unwrap();
    let copies = STAGES.to_owned() + "COPY --from=made /other /other\nCOPY --from=made /out /out\n";
    let (repo, first, second) = (repo(&registry), scene(&copies), scene(&copies));
    let args = ["--repo", repo.as_str()];
    first.build(&args);
    let empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let all = requests(&registry);
    let asked = all.iter().filter(|request| request.starts_with("HEAD ") && request.contains(empty)).count();
    let told =
        all.iter().filter(|request| request.starts_with("PUT ") && request.contains("/files-")).count();
    assert_eq!((asked, told), (1, 3), "{all:#?}");
    second.build(&args).expect_ran(&[]);
}

#[test]
fn a_failure_loses_nothing_that_was_finished() {
    let registry = Registry::start().unwrap();
    let fails = CHAIN.to_owned() + "RUN exit 7\n";
    let (repo, first, second) = (repo(&registry), scene(&fails), scene(CHAIN));
    let args = ["--repo", repo.as_str()];
    first.fails(1, &args);
    second.build(&args).expect_ran(&[]);
}

#[test]
fn what_was_built_before_is_published_with_the_next_build() {
    let registry = Registry::start().unwrap();
    let (repo, first, second) = (repo(&registry), scene(STAGES), scene(STAGES));
    first.build(&[]);
    let args = ["--repo", repo.as_str()];
    first.build(&args).expect_ran(&[]);
    second.build(&args).expect_ran(&[]);
}

#[test]
fn each_step_is_an_ordinary_image() {
    let registry = Registry::start().unwrap();
    let (repo, first) = (repo(&registry), scene(CHAIN));
    first.build(&["--repo", repo.as_str()]);
    let tags =
        first.sandbox.run("skopeo").args(["list-tags", "--tls-verify=false", &format!("docker://{repo}")]);
    let tags: serde_json::Value = serde_json::from_str(&tags.succeed().unwrap().stdout).unwrap();
    let tags = tags["Tags"].as_array().unwrap();
    assert_eq!(tags.len(), 3, "{tags:?}");
    for tag in tags {
        let name = format!("docker://{repo}:{}", tag.as_str().unwrap());
        let shown = first.sandbox.run("skopeo").args(["inspect", "--config", "--tls-verify=false", &name]);
        let config: serde_json::Value = serde_json::from_str(&shown.succeed().unwrap().stdout).unwrap();
        let labels = &config["config"]["Labels"];
        assert_eq!(labels["strake-kind"], "step");
        assert_eq!(format!("step-{}", labels["strake-signature"].as_str().unwrap()), tag.as_str().unwrap());
    }
}

#[test]
fn an_entry_without_its_layers_is_built_and_repaired() {
    let registry =
        Registry::start_with(RegistryOptions { delete: true, ..RegistryOptions::default() }).unwrap();
    let (repo, first, second, third) = (repo(&registry), scene(CHAIN), scene(CHAIN), scene(CHAIN));
    let args = ["--repo", repo.as_str()];
    first.build(&args);
    // All blobs of layers go; manifests and configurations stay.
    let removed = remove_large_blobs(&registry);
    assert!(removed > 0);
    second.file("in.txt", "second\n");
    let built = second.build(&args);
    assert!(built.ran().iter().any(|label| label.contains("RUN echo one")), "{:?}", built.ran());
    assert!(built.events.iter().any(|event| event["event"] == "warning"), "{}", built.finished);
    assert_eq!(second.content("two", &args), "second\none\n");
    // The third finds what the second repaired.
    third.file("in.txt", "second\n");
    assert_eq!(third.content("two", &args), "second\none\n");
}

/// Removes what is compressed from the registry's disk: layers, not documents.
fn remove_large_blobs(registry: &Registry) -> usize {
    let blobs = registry.content().join("docker/registry/v2/blobs/sha256");
    let mut removed = 0;
    for two in std::fs::read_dir(blobs).unwrap() {
        for blob in std::fs::read_dir(two.unwrap().path()).unwrap() {
            let path = blob.unwrap().path().join("data");
            if std::fs::read(&path).unwrap().starts_with(&[0x1f, 0x8b]) {
                std::fs::remove_file(path).unwrap();
                removed += 1;
            }
        }
    }
    removed
}

#[test]
fn an_entry_that_speaks_of_another_step_is_a_miss() {
    let registry = Registry::start().unwrap();
    let (repo, first, second) = (repo(&registry), scene(CHAIN), scene(CHAIN));
    let args = ["--repo", repo.as_str()];
    first.build(&args);
    let tags =
        first.sandbox.run("skopeo").args(["list-tags", "--tls-verify=false", &format!("docker://{repo}")]);
    let tags: serde_json::Value = serde_json::from_str(&tags.succeed().unwrap().stdout).unwrap();
    let tags: Vec<String> =
        tags["Tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect();
    // Every name stands for the image of the next one.
    let from = |tag: &str| format!("docker://{repo}:{tag}");
    let copy = |from: &str, to: &str| {
        let words = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false", from, to];
        first.sandbox.run("skopeo").args(words).succeed().unwrap();
    };
    copy(&from(&tags[0]), &from("kept"));
    for pair in tags.windows(2) {
        copy(&from(&pair[1]), &from(&pair[0]));
    }
    copy(&from("kept"), &from(&tags[tags.len() - 1]));
    let built = second.build(&args);
    built.expect_ran(&["RUN echo one", "COPY in.txt", "RUN cat"]);
    assert!(built.events.iter().any(|event| event["event"] == "warning"), "{}", built.finished);
    // Repaired by what was built.
    let third = scene(CHAIN);
    third.build(&args).expect_ran(&[]);
}

#[test]
fn a_registry_that_is_not_there_does_not_stop_a_build() {
    let first = scene(CHAIN);
    let built = first.build(&["--repo", "127.0.0.1:1/cache"]);
    built.expect_ran(&["RUN echo one", "COPY in.txt", "RUN cat"]);
    let warnings = built.events.iter().filter(|event| event["event"] == "warning").count();
    assert!((1..=2).contains(&warnings), "{}", built.finished);
}

#[test]
fn caches_come_first_and_secondary_repositories_are_copied_from() {
    let registry = Registry::start().unwrap();
    let name = |what: &str| format!("{}/{what}", registry.address());
    let (old, main, cache) = (name("old"), name("main"), name("cache"));
    let first = scene(CHAIN);
    first.build(&["--repo", &old]);
    let second = scene(CHAIN);
    second.build(&["--repo", &main, "--secondary-repo", &old]).expect_ran(&[]);
    // What was used was copied.
    let third = scene(CHAIN);
    third.build(&["--repo", &main]).expect_ran(&[]);
    let fourth = scene(CHAIN);
    fourth.file("in.txt", "second\n");
    fourth.build(&["--repo", &main, "--cache-repo", &cache]).expect_ran(&["COPY in.txt", "RUN cat"]);
    let fifth = scene(CHAIN);
    fifth.file("in.txt", "second\n");
    fifth.build(&["--cache-repo", &cache]).expect_ran(&[]);
}

#[test]
fn times_that_are_limited_are_shared_with_those_who_limit_them_alike() {
    let registry = Registry::start().unwrap();
    let (repo, first, second, alone) = (repo(&registry), scene(CHAIN), scene(CHAIN), scene(CHAIN));
    let limited = ["--repo", repo.as_str(), "--timestamp", "1700000000"];
    let built = first.build(&limited);
    let reused = second.build(&limited);
    reused.expect_ran(&[]);
    assert_eq!(digest(&built), digest(&reused));
    // The same as on a machine that shares with nobody.
    assert_eq!(digest(&alone.build(&["--timestamp", "1700000000"])), digest(&built));
    // Another limit is another entry.
    let third = scene(CHAIN);
    third.build(&["--repo", &repo, "--timestamp", "1800000000"]).expect_ran(&[
        "RUN echo one",
        "COPY",
        "RUN cat",
    ]);
    // What came with limited times does not pass for a build without limit.
    let unlimited = second.build(&["--repo", &repo]);
    unlimited.expect_ran(&["RUN echo one", "COPY in.txt", "RUN cat"]);
}

#[test]
fn the_finished_image_goes_to_the_final_repository() {
    let registry = Registry::start().unwrap();
    let first = scene(CHAIN);
    let out = format!("{}/final", registry.address());
    first.build(&["--final-repo", &out, "-t", "app:7"]);
    let second = scene(CHAIN);
    second.strake(&["pull", &format!("{out}:7")]);
}

/// Three spellings of a cache as a whole.
fn caches(registry: &Registry) -> [(String, String); 2] {
    let name = format!("{}/app:cache", registry.address());
    [
        (format!("type=registry,ref={name},mode=max"), format!("type=registry,ref={name}")),
        ("type=local,dest=cache,mode=max".to_owned(), "type=local,src=cache".to_owned()),
    ]
}

#[test]
fn a_cache_in_one_place_holds_all_stages() {
    let registry = Registry::start().unwrap();
    for (to, from) in caches(&registry) {
        let (first, second) = (scene(STAGES), scene(STAGES));
        first.build(&["--cache-to", &to]);
        if from.contains("src=") {
            // What is between the machines is a directory.
            let copied = second.sandbox.run("cp").args(["-a"]).arg(first.sandbox.path("cache")).arg(".");
            copied.succeed().unwrap();
        }
        let built = second.build(&["--cache-from", &from]);
        built.expect_ran(&[]);
        assert_eq!(second.content("both", &["--cache-from", &from]), "made\nfinal\n");
        // Only what is not in the cache runs.
        second.file("Dockerfile", &STAGES.replace("cat /made", "cat /made /made"));
        second.build(&["--cache-from", &from]).expect_ran(&["RUN cat"]);
    }
}

#[test]
fn the_least_cache_has_the_steps_of_the_result() {
    let registry = Registry::start().unwrap();
    let name = format!("{}/app:cache", registry.address());
    let (first, second) = (scene(STAGES), scene(STAGES));
    first.build(&["--cache-to", &format!("type=registry,ref={name}")]);
    second.build(&["--cache-from", &name]).expect_ran(&["RUN mkdir /out"]);
}

#[test]
fn an_image_carries_its_own_cache() {
    let registry = Registry::start().unwrap();
    let name = format!("{}/app:1", registry.address());
    let (first, second) = (scene(CHAIN), scene(CHAIN));
    // Pushed without the cache before.
    first.build(&["-t", &name, "--push"]);
    first.build(&["-t", &name, "--push", "--cache-to", "type=inline"]).expect_ran(&[]);
    let built = second.build(&["--cache-from", &name]);
    built.expect_ran(&[]);
    assert_eq!(second.content("two", &["--cache-from", &name]), "first\none\n");
}

#[test]
fn a_cache_that_is_not_there_or_damaged_is_passed_over() {
    let registry = Registry::start().unwrap();
    let name = format!("{}/app:cache", registry.address());
    let first = scene(CHAIN);
    first.file("../cache/index.json", "{ not json");
    let built = first.build(&["--cache-from", &name, "--cache-from", "type=local,src=cache"]);
    built.expect_ran(&["RUN echo one", "COPY in.txt", "RUN cat"]);
    assert!(built.finished.stderr.contains("there is no cache in"), "{}", built.finished);
    assert!(built.events.iter().any(|event| event["event"] == "warning"), "{}", built.finished);
    // A cache that cannot be written fails the build, unless that does not matter.
    let to = "type=registry,ref=127.0.0.1:1/app:cache";
    first.fails(3, &["--cache-to", to]);
    first.build(&["--cache-to", &format!("{to},ignore-error=true")]);
}

#[test]
fn a_damaged_blob_in_a_directory_is_not_taken() {
    let (first, second) = (scene(CHAIN), scene(CHAIN));
    first.build(&["--cache-to", "type=local,dest=cache,mode=max"]);
    let source = first.sandbox.path("cache");
    for blob in std::fs::read_dir(source.join("blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }
    }
    let from = format!("type=local,src={}", source.display());
    let built = second.build(&["--cache-from", &from]);
    built.expect_ran(&["RUN echo one", "COPY in.txt", "RUN cat"]);
    assert!(built.events.iter().any(|event| event["event"] == "warning"), "{}", built.finished);
}

/// A step that fills a cache and says whether it was empty.
const CACHED: &str = "FROM busybox
COPY in.txt /in.txt
RUN --mount=type=cache,id=pkgs,target=/pkgs (cat /pkgs/list || echo empty) > /before; \\
    cat /in.txt >> /pkgs/list && ln -sf list /pkgs/link && mkdir -p /pkgs/deep/er
";

#[test]
fn cache_mounts_travel() {
    let registry = Registry::start().unwrap();
    let (repo, first, second) = (repo(&registry), scene(CACHED), scene(CACHED));
    let args = ["--repo", repo.as_str(), "--cache-mounts", "repo"];
    assert_eq!(first.content("before", &args), "empty\n");
    second.file("in.txt", "second\n");
    assert_eq!(second.content("before", &args), "first\n");
    // The second left both behind; whoever builds the very first step again gets what that left.
    let third = scene(CACHED);
    assert_eq!(third.content("before", &[&args[..], &["--no-cache"]].concat()), "first\n");
    // Nothing of a cache is in an image.
    let tree = std::fs::read_dir(third.sandbox.path("out/pkgs")).map(Iterator::count);
    assert!(!tree.is_ok_and(|files| files > 0));
    // A step that is like none of them gets the newest.
    let fourth = scene(&CACHED.replace("mkdir -p", "mkdir -m 700 -p"));
    fourth.file("in.txt", "fourth\n");
    let before = fourth.content("before", &args);
    assert!(before.contains("first\n"), "{before}");
}

#[test]
fn cache_mounts_stay_where_they_are_unless_they_are_to_travel() {
    let registry = Registry::start().unwrap();
    let (repo, first, second) = (repo(&registry), scene(CACHED), scene(CACHED));
    first.build(&["--repo", &repo]);
    second.file("in.txt", "second\n");
    let args = ["--repo", repo.as_str(), "--cache-mounts", "repo,max=4"];
    assert_eq!(second.content("before", &args), "empty\n");
    // Too large to be kept.
    let third = scene(CACHED);
    third.file("in.txt", "third\n");
    let built = third.build(&["--repo", &repo, "--cache-mounts", "repo,max=2"]);
    assert!(built.events.iter().any(|event| event["event"] == "warning"), "{}", built.finished);
    first.fails(2, &["--cache-mounts", "repo"]);
}

#[test]
fn an_unchanged_cache_mount_is_not_sent_again() {
    let registry = Registry::start().unwrap();
    let dockerfile = "FROM busybox
COPY in.txt /in.txt
RUN --mount=type=cache,target=/pkgs test -e /pkgs/a || echo a > /pkgs/a
";
    let (repo, first) = (repo(&registry), scene(dockerfile));
    let args = ["--repo", repo.as_str(), "--cache-mounts", "repo"];
    first.build(&args);
    let sent = |requests: &[String]| {
        requests.iter().filter(|line| line.contains("manifests/mount-") && line.starts_with("PUT")).count()
    };
    assert_eq!(sent(&requests(&registry)), 1);
    first.file("in.txt", "other\n");
    first.build(&args).expect_ran(&["COPY in.txt", "RUN --mount"]);
    assert_eq!(sent(&requests(&registry)), 1);
    // Restored and left as it was.
    let second = scene(dockerfile);
    second.file("in.txt", "third\n");
    second.build(&args).expect_ran(&["COPY in.txt", "RUN --mount"]);
    assert_eq!(sent(&requests(&registry)), 1);
}

/// A wide graph: four stages that take their time, and one that takes from all.
fn wide() -> String {
    let mut text = String::new();
    for name in ["a", "b", "c", "d"] {
        text += &format!("FROM busybox AS {name}\nRUN sleep 1; echo {name} > /{name}\n");
    }
    text += "FROM busybox\n";
    for name in ["a", "b", "c", "d"] {
        text += &format!("COPY --from={name} /{name} /{name}\n");
    }
    text + "RUN cat /a /b /c /d > /all\n"
}

#[test]
fn machines_that_coordinate_build_each_step_once() {
    let (registry, etcd) = (Registry::start().unwrap(), Etcd::start().unwrap());
    let (repo, coordinate) = (repo(&registry), format!("etcd://{}", etcd.address()));
    let scenes: Vec<Scene> = (0..3).map(|_| scene(&wide())).collect();
    let args = ["--repo", repo.as_str(), "--coordinate", &coordinate, "--jobs", "2"];
    let built: Vec<Built> = std::thread::scope(|threads| {
        let started: Vec<_> = scenes.iter().map(|scene| threads.spawn(|| scene.build(&args))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut ran: Vec<&str> = built.iter().flat_map(Built::ran).collect();
    ran.sort_unstable();
    let all = ran.clone();
    ran.dedup();
    let told: Vec<_> =
        built.iter().flat_map(|built| &built.events).filter(|event| event["event"] == "warning").collect();
    assert_eq!(ran, all, "a step was carried out twice: {told:?}");
    assert_eq!(ran.len(), 9, "{ran:?}");
    for pair in built.windows(2) {
        assert_eq!(digest(&pair[0]), digest(&pair[1]));
    }
    // More than one machine had something to do, and those who waited were told for whom.
    assert!(built.iter().filter(|built| !built.ran().is_empty()).count() > 1);
    assert!(built.iter().any(|built| !built.steps("waiting").is_empty()));
    assert_eq!(scenes[0].content("all", &args), "a\nb\nc\nd\n");
}

#[test]
fn without_etcd_the_build_goes_on() {
    let registry = Registry::start().unwrap();
    let (repo, first) = (repo(&registry), scene(CHAIN));
    let built = first.build(&["--repo", &repo, "--coordinate", "etcd://127.0.0.1:1"]);
    built.expect_ran(&["RUN echo one", "COPY in.txt", "RUN cat"]);
    let told = |event: &&serde_json::Value| {
        event["event"] == "warning" && event.to_string().contains("other machines")
    };
    assert_eq!(built.events.iter().filter(told).count(), 1, "{}", built.finished);
    first.fails(2, &["--coordinate", "etcd://127.0.0.1:1"]);
    let refused = first.command(&["--repo", &repo, "--coordinate", "http://u:secret@127.0.0.1:1"]);
    let refused = refused.finish().unwrap();
    assert_eq!(refused.code, 2, "{refused}");
}

/// Makes `<name>.key` and `<name>.pub` in the scene's directory.
fn make_key(scene: &Scene, name: &str) {
    let (key, public) = (format!("{name}.key"), format!("{name}.pub"));
    let openssl = |args: &[&str]| scene.sandbox.run("openssl").args(args).succeed().unwrap();
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", &key]);
    openssl(&["pkey", "-in", &key, "-pubout", "-out", &public]);
}

#[test]
fn only_what_a_trusted_key_signed_is_used() {
    let registry = Registry::start().unwrap();
    let (repo, first, second) = (repo(&registry), scene(STAGES), scene(STAGES));
    let args = ["--repo", repo.as_str()];
    make_key(&first, "ci");
    make_key(&first, "stranger");
    for name in ["ci.pub", "ci.key", "stranger.pub"] {
        second.sandbox.write(name, first.sandbox.read(name).unwrap()).unwrap();
    }
    let with = |more: &[&'static str]| [&args[..], more].concat();
    let all = ["RUN mkdir /out", "RUN echo final", "COPY --from=made", "RUN cat"];
    // Not signed: a miss, and told. What is built is published in its place, signed.
    first.build(&args);
    let built = second.build(&with(&["--trust", "ci.pub", "--sign-key", "ci.key"]));
    built.expect_ran(&all);
    let told =
        |built: &Built| built.events.iter().any(|event| event.to_string().contains("it is not signed"));
    assert!(told(&built), "{}", built.finished);
    // Signed by a key that is trusted.
    let third = scene(STAGES);
    third.sandbox.write("ci.pub", first.sandbox.read("ci.pub").unwrap()).unwrap();
    third.build(&with(&["--trust", "ci.pub"])).expect_ran(&[]);
    assert_eq!(third.content("both", &with(&["--trust", "ci.pub"])), "made\nfinal\n");
    // Signed by a stranger, as far as this one knows.
    let fourth = scene(STAGES);
    fourth.sandbox.write("stranger.pub", first.sandbox.read("stranger.pub").unwrap()).unwrap();
    let built = fourth.build(&with(&["--trust", "stranger.pub"]));
    built.expect_ran(&all);
    assert!(built.finished.stderr.contains("a key that is not trusted"), "{}", built.finished);
    // And it leaves what others trust as it is.
    let once_more = scene(STAGES);
    once_more.sandbox.write("ci.pub", first.sandbox.read("ci.pub").unwrap()).unwrap();
    once_more.build(&with(&["--trust", "ci.pub"])).expect_ran(&[]);
    // Whoever took something unsigned before does not trust it any more than what is in the registry.
    let fifth = scene(STAGES);
    fifth.sandbox.write("stranger.pub", first.sandbox.read("stranger.pub").unwrap()).unwrap();
    fifth.build(&args).expect_ran(&[]);
    let built = fifth.build(&["--trust", "stranger.pub"]);
    built.expect_ran(&all);
    assert_eq!(built.finished.stderr.matches("no trusted key is known to have signed it").count(), 1);
    // A key that is none.
    fifth.sandbox.write("none.pub", "hello").unwrap();
    assert_eq!(fifth.command(&["--trust", "none.pub"]).finish().unwrap().code, 2);
}

#[test]
fn what_a_stranger_wrote_is_not_signed_along() {
    let registry = Registry::start().unwrap();
    let name = |what: &str| format!("{}/{what}", registry.address());
    let (old, main) = (name("old"), name("main"));
    let (first, second, third) = (scene(CHAIN), scene(CHAIN), scene(CHAIN));
    first.build(&["--repo", &old]);
    make_key(&second, "ci");
    third.sandbox.write("ci.pub", second.sandbox.read("ci.pub").unwrap()).unwrap();
    let all = ["RUN echo one", "COPY in.txt", "RUN cat"];
    second.build(&["--repo", &main, "--secondary-repo", &old, "--sign-key", "ci.key"]).expect_ran(&all);
    third.build(&["--repo", &main, "--trust", "ci.pub"]).expect_ran(&[]);
}

#[test]
fn what_nobody_trusts_is_replaced_by_whoever_has_it_and_a_key() {
    let registry = Registry::start().unwrap();
    let (repo, first, stranger, third) = (repo(&registry), scene(CHAIN), scene(CHAIN), scene(CHAIN));
    first.build(&[]);
    stranger.build(&["--repo", &repo]);
    make_key(&first, "ci");
    first.build(&["--repo", &repo, "--sign-key", "ci.key"]).expect_ran(&[]);
    third.sandbox.write("ci.pub", first.sandbox.read("ci.pub").unwrap()).unwrap();
    third.build(&["--repo", &repo, "--trust", "ci.pub"]).expect_ran(&[]);
}

#[test]
fn a_cache_of_lost_layers_is_written_after_they_are_built() {
    let registry =
        Registry::start_with(RegistryOptions { delete: true, ..RegistryOptions::default() }).unwrap();
    let (repo, first, second, third) = (repo(&registry), scene(CHAIN), scene(CHAIN), scene(CHAIN));
    first.build(&["--repo", &repo]);
    assert!(remove_large_blobs(&registry) > 0);
    let to = format!("type=registry,ref={}/other:cache,mode=max", registry.address());
    let built = second.build(&["--repo", &repo, "--cache-to", &to]);
    assert!(built.ran().iter().any(|label| label.contains("RUN echo one")), "{:?}", built.ran());
    let from = format!("{}/other:cache", registry.address());
    third.build(&["--cache-from", &from]).expect_ran(&[]);
    assert_eq!(third.content("two", &["--cache-from", &from]), "first\none\n");
}

#[test]
fn what_stages_have_in_common_is_sent_once() {
    let registry = Registry::start().unwrap();
    let (repo, first) = (repo(&registry), scene(&wide().replace("sleep 1; ", "")));
    first.build(&["--repo", &repo, "--jobs", "4"]).ran();
    // An upload ends with the digest of its blob.
    let digest = |request: &String| {
        let (_, rest) = request.split_once("digest=")?;
        rest.split(['&', ' ']).next().map(str::to_owned)
    };
    let all = requests(&registry);
    let mut sent: Vec<String> =
        all.iter().filter(|line| line.starts_with("PUT ")).filter_map(digest).collect();
    let all = sent.len();
    sent.sort();
    sent.dedup();
    assert!(all > 0 && sent.len() == all, "{all} uploads of {} blobs", sent.len());
}
