//! Builds as people meet them: caching, parallel stages, several processes, failures.

use strake_testkit::{ImageArchive, Registry, Sandbox, TestUser, is_root, lacking};

use crate::{for_both_users, of_ordinary_user};

/// Arguments of a build whose steps need no network.
const BUILD: [&str; 3] = ["build", "--progress=plain", "--network=none"];

#[test]
fn a_second_build_runs_nothing() {
    for_both_users(|sandbox| {
        sandbox
            .write(
                "c/Dockerfile",
                "FROM busybox\nRUN --mount=type=cache,target=/n echo x >> /n/f; wc -l < /n/f > /n.txt\n",
            )
            .unwrap();
        let first = sandbox.strake(BUILD).args(["--iidfile", "one", "c"]).succeed().unwrap();
        assert!(!first.stderr.contains("CACHED"), "{first}");
        let second = sandbox.strake(BUILD).args(["--iidfile", "two", "c"]).succeed().unwrap();
        assert!(second.stderr.contains("CACHED"), "{second}");
        assert_eq!(sandbox.read("one").unwrap(), sandbox.read("two").unwrap());
        assert_eq!(runs_of_the_step(sandbox, "c"), "1\n");
    });
}

/// What the step of `a_second_build_runs_nothing` counted.
fn runs_of_the_step(sandbox: &Sandbox, context: &str) -> String {
    sandbox.strake(BUILD).args(["-o", "out", context]).succeed().unwrap();
    sandbox.read("out/n.txt").unwrap()
}

/// Each branch waits for the other: only both at the same time can finish.
#[test]
fn independent_stages_run_at_the_same_time() {
    for_both_users(|sandbox| {
        let branch = |mine: &str, other: &str| {
            format!(
                "FROM busybox AS {mine}\nRUN --mount=type=cache,id=meet,target=/m touch /m/{mine}; \
                 for i in $(seq 300); do [ -e /m/{other} ] && touch /{mine} && exit 0; usleep 100000; done; exit 1\n"
            )
        };
        let merge = "FROM busybox\nCOPY --from=left /left /\nCOPY --from=right /right /\n";
        let dockerfile = [branch("left", "right"), branch("right", "left"), merge.to_owned()].concat();
        sandbox.write("c/Dockerfile", dockerfile).unwrap();
        sandbox.strake(BUILD).args(["--jobs=2", "c"]).succeed().unwrap();
    });
}

#[test]
fn a_change_in_one_branch_rebuilds_only_it_and_the_merge() {
    for_both_users(|sandbox| {
        let dockerfile = "FROM busybox AS left\nCOPY l /l\nRUN cat /l > /left && echo did-left\n\
                          FROM busybox AS right\nCOPY r /r\nRUN cat /r > /right && echo did-right\n\
                          FROM busybox\nCOPY --from=left /left /\nCOPY --from=right /right /\nRUN echo did-merge\n";
        sandbox.write("c/Dockerfile", dockerfile).unwrap();
        sandbox.write("c/l", "1").unwrap();
        sandbox.write("c/r", "1").unwrap();
        sandbox.strake(BUILD).arg("c").succeed().unwrap();
        sandbox.write("c/l", "2").unwrap();
        let second = sandbox.strake(BUILD).arg("c").succeed().unwrap();
        let ran = |line: &str| {
            second
                .stderr
                .lines()
                .any(|printed| printed.trim_end().ends_with(line) && !printed.contains("RUN"))
        };
        assert!(ran("did-left") && ran("did-merge") && !ran("did-right"), "{second}");
    });
}

/// A step that ran again and gave the same content: what copies from it stays cached.
#[test]
fn the_same_content_stops_a_rebuild() {
    for_both_users(|sandbox| {
        let dockerfile = |comment: &str| {
            format!(
                "FROM busybox AS made\nRUN : {comment}; echo same > /made\n\
                 FROM busybox\nCOPY --from=made /made /\nRUN echo did-last\n"
            )
        };
        sandbox.write("c/Dockerfile", dockerfile("one")).unwrap();
        sandbox.strake(BUILD).arg("c").succeed().unwrap();
        sandbox.write("c/Dockerfile", dockerfile("two")).unwrap();
        let second = sandbox.strake(BUILD).arg("c").succeed().unwrap();
        let ran =
            second.stderr.lines().any(|line| line.trim_end().ends_with("did-last") && !line.contains("RUN"));
        assert!(!ran, "{second}");
    });
}

#[test]
fn steps_before_a_failure_are_kept() {
    for_both_users(|sandbox| {
        sandbox
            .write("c/Dockerfile", "FROM busybox\nRUN echo did-first > /f\nRUN echo about-to-fail; exit 9\n")
            .unwrap();
        let failed = sandbox.strake(BUILD).arg("c").finish().unwrap();
        assert_eq!(failed.code, 1, "{failed}");
        for said in ["about-to-fail", "Dockerfile:3", "exit 9", "9"] {
            assert!(failed.stderr.contains(said), "no {said:?} in {failed}");
        }
        sandbox.write("c/Dockerfile", "FROM busybox\nRUN echo did-first > /f\nRUN cat /f\n").unwrap();
        let second = sandbox.strake(BUILD).arg("c").succeed().unwrap();
        assert!(second.stderr.contains("CACHED"), "{second}");
    });
}

#[test]
fn a_miss_names_the_file_that_changed() {
    for_both_users(|sandbox| {
        sandbox.write("c/Dockerfile", "FROM busybox\nARG v=1\nCOPY src /src\nRUN echo $v > /v\n").unwrap();
        sandbox.write("c/src/kept", "1").unwrap();
        sandbox.write("c/src/changed", "1").unwrap();
        sandbox.strake(BUILD).arg("c").succeed().unwrap();
        sandbox.write("c/src/changed", "2").unwrap();
        let explained = sandbox.strake(BUILD).args(["--explain", "c"]).succeed().unwrap();
        let said = [explained.stdout.as_str(), explained.stderr.as_str()].concat();
        assert!(said.contains("changed") && !said.contains("src/kept"), "{explained}");
        let explained =
            sandbox.strake(BUILD).args(["--explain", "--build-arg", "v=2", "c"]).succeed().unwrap();
        let said = [explained.stdout.as_str(), explained.stderr.as_str()].concat();
        assert!(said.contains('v') && said.contains('2'), "{explained}");
    });
}

/// The step counts its runs in a cache mount; a second process waits for the first instead of running it again.
#[test]
fn two_processes_build_a_common_step_once() {
    for_both_users(|sandbox| {
        let step = "RUN --mount=type=cache,target=/n echo x >> /n/f; usleep 500000; wc -l < /n/f > /count\n";
        sandbox.write("a/Dockerfile", format!("FROM busybox\n{step}RUN echo a\n")).unwrap();
        sandbox.write("b/Dockerfile", format!("FROM busybox\n{step}RUN echo b\n")).unwrap();
        std::thread::scope(|scope| {
            let build = |context: &'static str| {
                move || {
                    sandbox.strake(BUILD).args(["-o", &format!("out-{context}"), context]).succeed().unwrap()
                }
            };
            let (first, second) = (scope.spawn(build("a")), scope.spawn(build("b")));
            first.join().unwrap();
            second.join().unwrap();
        });
        assert_eq!(sandbox.read("out-a/count").unwrap(), "1\n");
        assert_eq!(sandbox.read("out-b/count").unwrap(), "1\n");
    });
}

/// A build that is killed leaves garbage at most: the next one succeeds and is right.
#[test]
fn a_killed_build_leaves_no_wrong_answer() {
    for_both_users(|sandbox| {
        sandbox
            .write(
                "c/Dockerfile",
                "FROM busybox\nCOPY f /f\nRUN echo 1 > /g; usleep 200000; echo 2 >> /g\nRUN cat /f /g > /h\n",
            )
            .unwrap();
        sandbox.write("c/f", "content\n").unwrap();
        for milliseconds in ["20", "60", "120", "200", "300"] {
            let script = format!("\"$@\" & p=$!; sleep 0.{milliseconds:0>3}; kill -9 $p; wait $p");
            let killed = sandbox.strake(BUILD).arg("c");
            killed.through(["sh", "-c", script.as_str(), "sh"]).finish().unwrap();
        }
        sandbox.strake(BUILD).args(["-o", "out", "c"]).succeed().unwrap();
        assert_eq!(sandbox.read("out/h").unwrap(), "content\n1\n2\n");
    });
}

/// The cache-stage article's three commands, with a compiler that is a shell script: `examples/rust-cache` in small.
#[test]
fn a_pushed_cache_stage_replaces_its_own_stage() {
    for_both_users(|sandbox| {
        let registry = Registry::start().unwrap();
        let dockerfile = "ARG BUILDER_IMAGE=builder_cache\n\
            FROM busybox AS builder_cache\nWORKDIR /build\nCOPY . .\nRUN mkdir -p target && echo compiled-all > target/deps\n\
            RUN find . -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +\n\
            FROM ${BUILDER_IMAGE} AS builder\nWORKDIR /build\nCOPY . .\nRUN cat target/deps main > target/app\n\
            FROM busybox AS final\nCOPY --from=builder /build/target/app /app\n";
        sandbox.write("c/Dockerfile", dockerfile).unwrap();
        sandbox.write("c/main", "program\n").unwrap();
        let cache = format!("{}/app:cache", registry.address());
        sandbox
            .strake(BUILD)
            .args(["--target=builder_cache", "-t", &cache, "--push", "c"])
            .succeed()
            .unwrap();
        sandbox.write("c/main", "changed program\n").unwrap();
        let argument = format!("BUILDER_IMAGE={cache}");
        // A store that has never seen the cache stage, as in a CI job.
        let fresh = sandbox.path("fresh-store");
        let run = sandbox
            .strake(BUILD)
            .args(["--build-arg", &argument, "-o", "out", "c"])
            .env("STRAKE_ROOT", &fresh);
        sandbox
            .strake(["load", "--input"])
            .arg(sandbox.base_archive(strake_testkit::Base::Busybox, "busybox").unwrap())
            .env("STRAKE_ROOT", &fresh)
            .succeed()
            .unwrap();
        let second = run.succeed().unwrap();
        assert!(!second.stderr.contains("compiled-all"), "the cache stage was built: {second}");
        assert_eq!(sandbox.read("out/app").unwrap(), "compiled-all\nchanged program\n");
        sandbox.strake(BUILD).args(["-o", "scratch", "c"]).succeed().unwrap();
        assert_eq!(sandbox.read("scratch/app").unwrap(), "compiled-all\nchanged program\n");
    });
}

#[test]
fn two_users_build_side_by_side() {
    if !is_root() {
        return lacking("root, to become two users");
    }
    let users = [TestUser::first().unwrap(), TestUser::second().unwrap()];
    let sandboxes = users.map(of_ordinary_user);
    std::thread::scope(|scope| {
        for (number, sandbox) in sandboxes.iter().enumerate() {
            scope.spawn(move || {
                sandbox
                    .write(
                        "c/Dockerfile",
                        format!("FROM busybox\nRUN echo user {number} > /who && chown app /who\n"),
                    )
                    .unwrap();
                sandbox.strake(BUILD).args(["-t", &format!("of-user-{number}"), "c"]).succeed().unwrap();
                let printed = sandbox
                    .strake(["run", "--network=none", &format!("of-user-{number}"), "cat", "/who"])
                    .succeed()
                    .unwrap();
                assert_eq!(printed.stdout, format!("user {number}\n"));
            });
        }
    });
    for (number, sandbox) in sandboxes.iter().enumerate() {
        let images = sandbox.strake(["images"]).succeed().unwrap().stdout;
        assert!(images.contains(&format!("of-user-{number}")), "{images}");
        assert!(!images.contains(&format!("of-user-{}", 1 - number)), "{images}");
    }
}

/// The same Dockerfile gives the same bytes, whoever builds it and in whichever store.
#[test]
fn root_and_an_ordinary_user_make_the_same_layers() {
    let layers = std::sync::Mutex::new(Vec::new());
    for_both_users(|sandbox| {
        sandbox
            .write(
                "c/Dockerfile",
                "FROM busybox\nCOPY f /f\nRUN mkdir /d && chown app:staff /d && chmod 2750 /d\n",
            )
            .unwrap();
        sandbox.write("c/f", "x").unwrap();
        sandbox
            .strake(BUILD)
            .args(["--source-date-epoch=1700000000", "-o", "type=oci,dest=i.tar", "c"])
            .succeed()
            .unwrap();
        let image = ImageArchive::read(&sandbox.path("i.tar")).unwrap().only().unwrap();
        layers.lock().unwrap().push(image.config["rootfs"].clone());
    });
    let layers = layers.into_inner().unwrap();
    assert!(layers.windows(2).all(|pair| pair[0] == pair[1]), "{layers:?}");
}
