//! Giving space back: in a repository that builds share, and in the store when it takes too much.

use std::collections::BTreeSet;

use serde_json::Value;
use strake_testkit::{Registry, RegistryOptions, Run};

use crate::dimg_nodes::all_tags;
use crate::scene::{Scene, eventually};
use crate::sharing::{CHAIN, repo, scene};

/// Two stages; the second takes a file from the first.
const STAGES: &str = "FROM busybox AS made
RUN mkdir /out && echo made > /out/made
FROM busybox
RUN echo final > /final
COPY --from=made /out/made /made
";

fn registry() -> Registry {
    Registry::start_with(RegistryOptions { delete: true, ..RegistryOptions::default() }).unwrap()
}

/// Makes everything in a repository look as if it were of long ago.
fn age(registry: &Registry) {
    for tag in all_tags(registry, "cache") {
        let url = format!("http://{}/v2/cache/manifests/{tag}", registry.address());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let read = Run::new("curl").args(["-sSf", "-H", &format!("Accept: {kind}"), &url]).succeed().unwrap();
        let mut manifest: Value = serde_json::from_str(&read.stdout).unwrap();
        let annotations = manifest["annotations"].as_object_mut().unwrap();
        if let Some(text) = annotations.get_mut("dev.strake.cache") {
            let mut document: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
            for step in document["steps"].as_array_mut().unwrap() {
                step["built"] = 1_000_000_000.into();
            }
            *text = document.to_string().into();
        }
        for name in ["dev.strake.selection.made", "dev.strake.used.day"] {
            if let Some(text) = annotations.get_mut(name) {
                *text = "1000000000".into();
            }
        }
        let header = format!("Content-Type: {kind}");
        let write = Run::new("curl").args(["-sSf", "-X", "PUT", "-H", &header, "--data-binary", "@-", &url]);
        write.input(manifest.to_string()).succeed().unwrap();
    }
}

fn prune(scene: &Scene, options: &[&str], repo: &str) -> String {
    scene.strake(&[&["prune", "--repo", repo], options].concat()).stdout
}

/// The tags in a list that was printed as JSON. Each has a reason.
fn tags_in(list: &Value) -> Vec<&str> {
    let entries = list.as_array().unwrap().iter();
    let tag = |entry: &'_ Value| !entry["reason"].as_str().unwrap().is_empty();
    assert!(entries.clone().all(tag), "{list:#}");
    entries.map(|entry| entry["tag"].as_str().unwrap()).collect()
}

fn kinds(registry: &Registry) -> Vec<String> {
    let tags = all_tags(registry, "cache");
    tags.iter().map(|tag| tag.split('-').next().unwrap().to_owned()).collect()
}

#[test]
fn steps_that_nobody_used_lately_leave_the_repository() {
    let registry = registry();
    let repo = repo(&registry);
    let scene = scene(CHAIN);
    scene.build(&["--repo", &repo]);
    assert_eq!(kinds(&registry), ["step"; 3]);
    let old: BTreeSet<String> = all_tags(&registry, "cache").into_iter().collect();
    let kept = prune(&scene, &["--all"], &repo);
    assert_eq!(kept, "0 of 3 removed\n", "what is younger than two hours stays");

    age(&registry);
    scene.file("in.txt", "second\n");
    scene.build(&["--repo", &repo]);
    let planned = prune(&scene, &["--dry-run"], &repo);
    assert!(planned.ends_with("2 of 5 would be removed\n"), "{planned}");
    // The first step is of long ago as its own image says, and of today as the images above it say: whichever is read
    // first, that is a matter of their signatures, it stays.
    let stays = planned.lines().filter(|line| line.starts_with("keep ")).count();
    assert_eq!((stays, planned.matches("built lately").count() >= 2), (3, true), "{planned}");
    assert_eq!(kinds(&registry).len(), 5);
    let told: Value =
        serde_json::from_str(&prune(&scene, &["--dry-run", "--format", "json"], &repo)).unwrap();
    assert_eq!((&told["repository"], &told["dry_run"]), (&repo.as_str().into(), &true.into()));
    let doomed = tags_in(&told["removed"]);
    assert_eq!((doomed.len(), tags_in(&told["kept"]).len()), (2, 3), "{told:#}");
    let done: Value = serde_json::from_str(&prune(&scene, &["--format", "json"], &repo)).unwrap();
    assert_eq!((tags_in(&done["removed"]), &done["dry_run"]), (doomed, &false.into()), "{done:#}");
    let left: BTreeSet<String> = all_tags(&registry, "cache").into_iter().collect();
    assert_eq!((left.len(), left.intersection(&old).count()), (3, 1));
    // What is there is used, what is gone is built and published again.
    let other = crate::sharing::scene(CHAIN);
    other.build(&["--repo", &repo]).expect_ran(&["COPY in.txt", "RUN cat"]);
    assert_eq!(kinds(&registry).len(), 5);
    assert_eq!(other.content("two", &["--repo", &repo]), "first\none\n");
}

#[test]
fn what_a_build_uses_is_noted_and_stays() {
    let registry = registry();
    let repo = repo(&registry);
    scene(STAGES).build(&["--repo", &repo]);
    let selections = kinds(&registry).iter().filter(|kind| *kind == "files").count();
    assert_eq!((selections, kinds(&registry).len()), (1, 4));
    age(&registry);
    let user = scene(STAGES);
    user.build(&["--repo", &repo]).expect_ran(&[]);
    let notes = kinds(&registry).iter().filter(|kind| *kind == "used").count();
    assert!(notes > 0, "{:?}", kinds(&registry));
    user.build(&["--repo", &repo]);
    assert_eq!(kinds(&registry).len(), 4 + notes, "once a day");
    let told = prune(&user, &["--dry-run"], &repo);
    assert!(told.contains("used lately") && told.contains("was made by it"), "{told}");
    prune(&user, &[], &repo);
    scene(STAGES).build(&["--repo", &repo]).expect_ran(&[]);
    // Nobody comes any more.
    age(&registry);
    prune(&user, &[], &repo);
    assert_eq!(kinds(&registry), [""; 0]);
}

#[test]
fn a_tag_that_somebody_gave_keeps_its_step() {
    let registry = registry();
    let repo = repo(&registry);
    let scene = scene("FROM busybox\nRUN echo one > /one\n");
    scene.build(&["--repo", &repo]);
    age(&registry);
    let step = all_tags(&registry, "cache").pop().unwrap();
    let copy = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    let names = [format!("docker://{repo}:{step}"), format!("docker://{repo}:mine")];
    Run::new("skopeo").args(copy).args(names).succeed().unwrap();
    assert_eq!(prune(&scene, &[], &repo), "0 of 1 removed\n");
    assert_eq!(kinds(&registry), ["mine", "step"]);
}

fn stored(scene: &Scene) -> u64 {
    let usage: Value = serde_json::from_str(&scene.strake(&["du", "--format", "json"]).stdout).unwrap();
    usage["layers"].as_u64().unwrap() + usage["blobs"].as_u64().unwrap()
}

#[test]
fn what_was_used_least_goes_when_the_store_takes_too_much() {
    let scene = scene(CHAIN);
    let needed = stored(&scene);
    scene.build(&[]);
    let all = stored(&scene);
    assert!(all > needed);
    let prune = |limit: &str, words: &[&str]| {
        let command = scene.sandbox.strake(["prune", "--auto"]).args(words).env("STRAKE_AUTO_PRUNE", limit);
        command.succeed().unwrap().stdout
    };
    assert!(prune("off", &[]).contains("`off`"));
    let told = prune("100GB", &[]);
    assert!(told.starts_with("limit 107 GB; ") && told.ends_with("nothing has to go\n"), "{told}");
    let told = prune("1%", &["--dry-run"]);
    assert!(told.starts_with("limit 1 % of the volume; "), "others fill the volume: {told}");
    let told = prune("1", &["--dry-run"]);
    assert!(told.contains("least recently used") && told.contains("would be given back"), "{told}");
    // The same for programs.
    let read = |limit: &str, words: &[&str]| -> Value {
        serde_json::from_str(&prune(limit, &[words, &["--format", "json"]].concat())).unwrap()
    };
    let off = read("off", &[]);
    assert_eq!((&off["room"], &off["removed"]), (&Value::Null, &Value::Array(Vec::new())), "{off:#}");
    let enough = read("100GB", &[]);
    assert_eq!(enough["room"]["limit"]["bytes"], 107_374_182_400_u64, "{enough:#}");
    assert_eq!((&enough["room"]["keep"], &enough["freed"]), (&Value::Null, &0.into()), "{enough:#}");
    assert_eq!(enough["room"]["stored"], all, "{enough:#}");
    let planned = read("1", &["--dry-run"]);
    assert!(planned["freed"].as_u64().unwrap() > 0, "{planned:#}");
    let kept = planned["kept"].as_array().unwrap();
    assert!(
        kept.iter().any(|item| item["kind"] == "name" && item["id"].as_str().unwrap().contains("busybox"))
    );
    assert_eq!(stored(&scene), all);
    let done = read("1", &[]);
    assert_eq!((&done["freed"], done.get("kept")), (&planned["freed"], None), "{done:#}");
    assert!(!done["removed"].as_array().unwrap().is_empty());
    assert_eq!(stored(&scene), needed, "what has a name stays");

    // The same by itself, after a command, and at once when another limit was looked at just now.
    scene.build(&[]);
    assert!(stored(&scene) > needed);
    scene.sandbox.strake(["images"]).env("STRAKE_AUTO_PRUNE", "1000000000000").succeed().unwrap();
    let looked = || std::fs::read_to_string(scene.sandbox.store().join("locks/room")).ok();
    eventually("the store to be looked at", || (looked()? == "1000000000000").then_some(()));
    scene.sandbox.strake(["images"]).env("STRAKE_AUTO_PRUNE", "1").succeed().unwrap();
    eventually("the store to be tidied", || (stored(&scene) == needed).then_some(()));
    let wrong = scene.sandbox.strake(["images"]).env("STRAKE_AUTO_PRUNE", "much").finish().unwrap();
    assert!(wrong.code == 2 && wrong.stderr.contains("auto-prune"), "{wrong}");
}
