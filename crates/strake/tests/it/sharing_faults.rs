//! What must not come of sharing steps: images that a clean build would not give, and builds that end for no reason.

use strake_testkit::Registry;

use crate::scene::Scene;

const CHAIN: &str = "FROM busybox
RUN echo one > /one
COPY in.txt /in.txt
RUN cat /in.txt /one > /two
";

fn scene(dockerfile: &str) -> Scene {
    let scene = Scene::new(dockerfile);
    scene.file("in.txt", "first\n");
    scene
}

fn repo(registry: &Registry) -> String {
    format!("{}/cache", registry.address())
}

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

