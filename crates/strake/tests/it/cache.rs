//! The local cache: what is used again, what is not, and what never becomes part of an answer.

use std::fs::{File, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use strake_store::{FileStat, StatCache, Store, StoreOptions};
use strake_testkit::ImageArchive;

use crate::scene::{Built, Scene};

/// A time in the past, in whole seconds, as a checkout or an unpacked archive leaves it.
fn set_time(path: &std::path::Path) {
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    let times = FileTimes::new().set_modified(past).set_accessed(past);
    File::options().write(true).open(path).unwrap().set_times(times).unwrap();
}

#[test]
fn nothing_changed_nothing_runs_same_image() {
    let scene = Scene::new("FROM busybox\nCOPY f /f\nRUN date +%s%N > /when\nWORKDIR /w\nENV A=1\n");
    scene.file("f", "x");
    let first = scene.build(&[]);
    first.expect_ran(&["COPY", "RUN", "WORKDIR"]);
    let second = scene.build(&[]);
    second.expect_ran(&[]);
    assert_eq!(second.steps("cached").len(), 3, "{}", second.finished);
    assert_eq!(first.id(), second.id());
}

#[test]
fn other_branches_of_a_failed_build_are_kept() {
    let fails = "FROM busybox AS bad\nRUN --mount=type=cache,id=m,target=/m \
        for i in $(seq 600); do [ -e /m/go ] && exit 3; usleep 50000; done\n";
    let good = "FROM busybox AS good\nRUN echo first > /first\n\
        RUN --mount=type=cache,id=m,target=/m touch /m/go && echo second > /second\n";
    let merge = "FROM good\nCOPY --from=bad /etc/passwd /p\n";
    let scene = Scene::new(&[fails, good, merge].concat());
    scene.fails(1, &["--jobs=2"]);
    scene.file("Dockerfile", &["FROM busybox AS bad\n", good, merge].concat());
    scene.build(&[]).expect_ran(&["COPY --from=bad"]);
}

#[test]
fn times_of_files_are_no_reason_content_is() {
    let scene = Scene::new("FROM busybox\nCOPY f /f\nRUN cat /f > /g\n");
    let path = scene.sandbox.write("c/f", "one").unwrap();
    scene.build(&[]).expect_ran(&["COPY", "RUN"]);

    set_time(&path);
    scene.build(&[]).expect_ran(&[]);

    // Same size, same time to the nanosecond; only the content differs.
    scene.file("f", "two");
    set_time(&path);
    scene.build(&[]).expect_ran(&["COPY", "RUN"]);
    assert_eq!(scene.content("g", &[]), "two");
}

/// What is remembered of files does not outlive them. Files that this build has no use for stay remembered.
#[test]
fn digests_of_files_that_are_gone_are_forgotten() {
    let scene = Scene::new("FROM busybox\nCOPY d /d\n");
    scene.file("d/f", "x");
    scene.file("outside", "1");
    let store = Store::open(&scene.sandbox.store(), &StoreOptions::default()).unwrap();
    let key = scene.sandbox.path("c");
    let key = key.to_str().unwrap();
    let (paths, stat) = (
        ["d/gone", "outside", "gone/as/well", "outside/no-folder"],
        FileStat { dev: 1, ino: 1, size: 1, mtime_ns: 1, ctime_ns: 1 },
    );
    let mut cache = StatCache::default();
    paths.iter().for_each(|path| cache.put(path.as_bytes(), &stat, [1; 32], i64::MAX));
    store.index().save_stat_cache(key, &cache).unwrap();
    let known = || paths.map(|path| store.index().stat_cache(key).get(path.as_bytes(), &stat).is_some());
    assert_eq!(known(), [true; 4]);
    scene.build(&[]).expect_ran(&["COPY"]);
    assert_eq!(known(), [false, true, false, false]);
}

#[test]
fn modes_and_names_are_content_ignored_files_are_not() {
    let scene = Scene::new("FROM busybox\nCOPY d /d\n");
    scene.file(".dockerignore", "*\n!d\nd/ignored\n");
    let path = scene.sandbox.write("c/d/f", "x").unwrap();
    scene.file("d/ignored", "1");
    scene.file("outside", "1");
    scene.build(&[]);
    scene.file("d/ignored", "2");
    scene.file("outside", "2");
    scene.build(&[]).expect_ran(&[]);
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    scene.build(&[]).expect_ran(&["COPY"]);
    std::fs::rename(&path, scene.sandbox.path("c/d/g")).unwrap();
    scene.build(&[]).expect_ran(&["COPY"]);
    std::os::unix::fs::symlink("g", scene.sandbox.path("c/d/link")).unwrap();
    scene.build(&[]).expect_ran(&["COPY"]);
}

#[test]
fn a_changed_command_with_the_same_result_stops_the_rebuild() {
    let dockerfile = |word: &str| {
        format!("FROM busybox\nRUN : {word}; echo same > /f\nRUN cat /f > /g\nRUN echo last > /l\n")
    };
    let scene = Scene::new(&dockerfile("one"));
    let first = scene.build(&[]);
    scene.file("Dockerfile", &dockerfile("two"));
    let second = scene.build(&[]);
    second.expect_ran(&["RUN : two"]);
    // What was cut off stays cut off.
    scene.build(&[]).expect_ran(&[]);
    scene.file("Dockerfile", &dockerfile("one"));
    assert_eq!(scene.build(&[]).id(), first.id());
    scene.file("Dockerfile", &dockerfile("three").replace("same", "other"));
    scene.build(&[]).expect_ran(&["RUN : three", "RUN cat", "RUN echo last"]);
}

#[test]
fn arguments_count_where_they_are_used() {
    let check = |dockerfile: &str, expected: &[&str]| {
        let scene = Scene::new(dockerfile);
        scene.file("one", "1");
        scene.file("two", "2");
        scene.build(&["--build-arg", "V=one"]);
        let second = scene.build(&["--build-arg", "V=two"]);
        let ran = second.ran();
        let all = expected.iter().all(|text| ran.iter().any(|label| label.contains(text)));
        assert!(all && ran.len() == expected.len(), "{dockerfile}\nran {ran:?}, expected {expected:?}");
    };
    check("FROM busybox\nARG V\nRUN echo $V > /v\n", &["RUN"]);
    check("FROM busybox\nARG V\nENV A=$V\nRUN echo $A > /v\n", &["RUN"]);
    check("FROM busybox\nARG V\nCOPY $V /f\n", &["COPY"]);
    check("FROM busybox\nARG V\nWORKDIR /w/$V\n", &["WORKDIR"]);
    check("FROM busybox\nARG V\nCOPY <<E /f\nhere is $V\nE\n", &["COPY"]);
    check(
        "FROM busybox AS one\nRUN echo 1 > /x\nFROM busybox AS two\nRUN echo 2 > /x\nFROM busybox\nARG V\nARG S=${V}\nCOPY --chown=${V:+1} one /y\nRUN true\n",
        &["RUN true"],
    );
    // Declared too late, in another stage, or only in front of the first FROM: no step sees it.
    check("FROM busybox\nRUN echo a > /a\nARG V\n", &[]);
    check("ARG V\nFROM busybox\nRUN echo a > /a\n", &[]);
    check("FROM busybox AS other\nARG V\nRUN echo $V > /v\nFROM busybox\nRUN echo a > /a\n", &[]);
    check("FROM busybox\nARG V\nCOPY one /one\n", &[]);
}

#[test]
fn no_cache_runs_every_step_and_the_next_build_none() {
    let scene = Scene::new("FROM busybox\nRUN echo 1 > /a\nRUN echo 2 > /b\n");
    scene.build(&[]);
    scene.build(&["--no-cache"]).expect_ran(&["echo 1", "echo 2"]);
    scene.build(&[]).expect_ran(&[]);
}

#[test]
fn a_secret_counts_by_its_presence_only_and_is_kept_nowhere() {
    let scene = Scene::new(
        "FROM busybox\nRUN --mount=type=secret,id=token wc -c < /run/secrets/token > /size 2>/dev/null || echo none > /size\n",
    );
    let first = "first-secret-5a1f";
    let second = "other-secret-77c2";
    scene.sandbox.write("one", first).unwrap();
    scene.sandbox.write("two", second).unwrap();
    scene.build(&["--secret", "id=token,src=one", "-t", "s"]).expect_ran(&["RUN"]);
    scene.build(&["--secret", "id=token,src=two"]).expect_ran(&[]);
    scene.build(&[]).expect_ran(&["RUN"]);
    assert_eq!(scene.content("size", &[]), "none\n");

    let with = scene.build(&["--no-cache", "--secret", "id=token,src=one", "-t", "s"]);
    scene.strake(&["save", "--format=oci", "--compression=uncompressed", "-o", "s.tar", "s"]);
    let seen = [
        with.finished.stderr.into_bytes(),
        std::fs::read(scene.sandbox.path("s.tar")).unwrap(),
        scene.strake(&["history", "--no-trunc", "s"]).stdout.into_bytes(),
        scene
            .sandbox
            .run("grep")
            .args(["-r", first])
            .arg(scene.sandbox.store())
            .finish()
            .unwrap()
            .stdout
            .into_bytes(),
    ];
    for bytes in seen {
        assert!(!bytes.windows(first.len()).any(|window| window == first.as_bytes()));
    }
    let tree = ImageArchive::read(&scene.sandbox.path("s.tar")).unwrap().only().unwrap().tree;
    assert!(tree.nodes.keys().all(|path| !path.starts_with("run")), "{:?}", tree.nodes.keys());
}

#[test]
fn a_step_that_chose_another_time_is_another_result() {
    let file = |year: u32| {
        format!("FROM busybox\nRUN echo 1 > /f; touch -d {year}-01-01 /f\nRUN stat -c %y /f > /seen\n")
    };
    let scene = Scene::new(&file(2001));
    assert!(scene.content("seen", &[]).starts_with("2001-01-01"));
    scene.file("Dockerfile", &file(2002));
    assert!(scene.content("seen", &[]).starts_with("2002-01-01"));
    // What is kept from below, with its time, is no choice: what stands on an equal result stays.
    let kept = |word: &str| format!("{}RUN chmod 600 /f; : {word}\nRUN ls -l / > /list\n", file(2002));
    scene.file("Dockerfile", &kept("one"));
    scene.build(&[]);
    scene.file("Dockerfile", &kept("two"));
    scene.build(&[]).expect_ran(&["RUN chmod 600 /f; : two"]);
}

#[test]
fn a_cache_mount_lives_on_outside_of_all_layers() {
    let step = |word: &str| {
        format!(
            "FROM busybox\nRUN --mount=type=cache,target=/cache/deep echo {word} >> /cache/deep/log; cat /cache/deep/log > /seen\n"
        )
    };
    let scene = Scene::new(&step("one"));
    scene.build(&[]);
    scene.file("Dockerfile", &step("two"));
    assert_eq!(scene.content("seen", &[]), "one\ntwo\n");
    assert!(!scene.sandbox.path("out/cache").exists(), "a mount point is left in the layer");
}

#[test]
fn a_mount_shows_the_directory_itself_as_well() {
    let file = |mode: &str| {
        format!(
            "FROM busybox AS below\nRUN mkdir -m {mode} /d && echo x > /d/f\nFROM busybox\n\
            RUN --mount=type=bind,from=below,source=/d,target=/d stat -c %a /d > /seen\n\
            RUN --mount=type=bind,from=below,source=/d/f,target=/f cat /f > /file\nCOPY --from=below /d /copied\n"
        )
    };
    let scene = Scene::new(&file("700"));
    assert_eq!(scene.content("seen", &[]), "700\n");
    scene.file("Dockerfile", &file("755"));
    assert_eq!(scene.content("seen", &[]), "755\n");
    scene.file("Dockerfile", &file("755").replace("echo x", "echo  x"));
    scene.build(&[]).expect_ran(&["echo  x"]);
}

#[test]
fn a_cache_that_begins_with_other_files_is_another_one() {
    let file = |word: &str| {
        format!(
            "FROM busybox AS begin\nRUN mkdir /d && echo {word} > /d/log\nFROM busybox\n\
            RUN --mount=type=cache,id=seeded,from=begin,source=/d,target=/c cat /c/log > /seen; echo more >> /c/log\n"
        )
    };
    let scene = Scene::new(&file("one"));
    assert_eq!(scene.content("seen", &[]), "one\n");
    scene.file("Dockerfile", &file("two"));
    assert_eq!(scene.content("seen", &[]), "two\n");
    // The first one is still there, with what was left in it.
    scene.file("Dockerfile", &file("one").replace("cat /c/log", "cat  /c/log"));
    assert_eq!(scene.content("seen", &[]), "one\nmore\n");
}

#[test]
fn proxies_and_certificates_are_no_part_of_signature_or_layer() {
    let scene = Scene::new("FROM busybox\nRUN env > /env; echo \"proxy is $HTTP_PROXY\"\n");
    let pem = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUFAKEFAKE\n-----END CERTIFICATE-----\n";
    scene.sandbox.write("ca.pem", pem).unwrap();
    scene.file("Dockerfile", "FROM busybox\nRUN echo \"proxy is $HTTP_PROXY\"; ls -R /etc > /etc-list\n");
    let first = scene.build(&["--build-arg", "HTTP_PROXY=http://one.invalid:1", "-t", "p"]);
    assert!(first.finished.stderr.contains("proxy is http://one.invalid:1"), "{}", first.finished);
    scene.build(&["--build-arg", "HTTP_PROXY=http://two.invalid:2"]).expect_ran(&[]);
    scene.build(&[]).expect_ran(&[]);
    scene.build(&["--ca-certs", "ca.pem"]).expect_ran(&[]);
    let with = scene.build(&[
        "--no-cache",
        "--ca-certs",
        "ca.pem",
        "--build-arg",
        "HTTP_PROXY=http://one.invalid:1",
        "-t",
        "p",
    ]);
    with.expect_ran(&["RUN"]);
    scene.strake(&["save", "--format=oci", "--compression=uncompressed", "-o", "p.tar", "p"]);
    let bytes = std::fs::read(scene.sandbox.path("p.tar")).unwrap();
    for unwanted in ["one.invalid", "FAKEFAKE"] {
        assert!(!bytes.windows(unwanted.len()).any(|window| window == unwanted.as_bytes()), "{unwanted}");
    }
    let found = ImageArchive::read(&scene.sandbox.path("p.tar")).unwrap().only().unwrap();
    let before = scene.sandbox.base_archive(strake_testkit::Base::Busybox, "busybox").unwrap();
    let before = ImageArchive::read(&before).unwrap().only().unwrap();
    let changed: Vec<_> = found.tree.differences(&before.tree).into_iter().map(|found| found.path).collect();
    assert_eq!(changed, ["etc-list"]);
}

#[test]
fn a_base_is_its_content_whatever_its_name_and_compression() {
    let scene = Scene::new("ARG B=busybox\nFROM $B\nRUN echo 1 > /a\n");
    let first = scene.build(&[]);
    scene.strake(&["tag", "busybox", "other.invalid/name:tag"]);
    let second = scene.build(&["--build-arg", "B=other.invalid/name:tag"]);
    second.expect_ran(&[]);
    assert_eq!(first.id(), second.id());

    scene.strake(&["save", "--format=oci", "--compression=zstd", "-o", "z.tar", "busybox"]);
    scene.strake(&["rmi", "busybox", "other.invalid/name:tag"]);
    scene.strake(&["load", "-i", "z.tar"]);
    let third = scene.build(&[]);
    third.expect_ran(&[]);
    assert_eq!(first.id(), third.id());
}

#[test]
fn stages_that_the_target_does_not_need_are_not_built() {
    let scene = Scene::new(
        "FROM busybox AS wanted\nRUN echo wanted > /w\nFROM no.such.host.invalid/never AS never\nRUN exit 1\nFROM busybox AS last\nRUN exit 2\n",
    );
    scene.build(&["--target=wanted"]).expect_ran(&["wanted"]);
    scene.build(&["--target=0"]).expect_ran(&[]);
}

/// Whatever the moment at which a build is killed: the next one gives what a build in an empty store gives.
#[test]
fn killed_anywhere_the_next_build_gives_the_same_image() {
    let dockerfile = "FROM busybox AS one\nCOPY f /f\nRUN cat /f /f > /g\nFROM busybox\nCOPY --from=one /g /g\n\
        RUN mkdir /d && echo x > /d/x && ln /d/x /d/y && chown -R app /d\nWORKDIR /d\nRUN rm /g && ls > list\n";
    let epoch = ["--timestamp=1700000000"];
    let cold = Scene::new(dockerfile);
    cold.file("f", "content\n");
    let expected = cold.build(&epoch).id().to_owned();
    let mut lines = 1;
    loop {
        let scene = Scene::new(dockerfile);
        scene.file("f", "content\n");
        let mut killed = scene.start_build(&epoch);
        let was_running = killed.lines(lines) == lines;
        killed.send(Signal::KILL);
        drop(killed.end());
        assert_eq!(scene.build(&epoch).id(), expected, "killed after {lines} lines");
        scene.build(&epoch).expect_ran(&[]);
        if !was_running {
            break;
        }
        lines += 2;
    }
    assert!(lines > 8, "the builds ended after {lines} lines");
}

/// A collection takes nothing that a running build stands on.
#[test]
fn everything_may_be_pruned_while_building() {
    let mut dockerfile = "FROM busybox\n".to_owned();
    for number in 0..12 {
        dockerfile.push_str(&format!("RUN echo {number} >> /all && cat /all > /copy\n"));
    }
    let scene = Scene::new(&dockerfile);
    let (done, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let built: Vec<Built> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                scene.strake(&["prune", "--all"]);
                rounds.fetch_add(1, Ordering::SeqCst);
            }
        });
        // Goes on until the two have met often enough, however fast either is.
        let mut built = Vec::new();
        while built.len() < 3 || (rounds.load(Ordering::SeqCst) < 3 && built.len() < 100) {
            built.push(Built::of(scene.command(&["--timestamp=1700000000"]).finish().unwrap()));
        }
        done.store(true, Ordering::SeqCst);
        built
    });
    assert!(rounds.into_inner() > 2);
    for one in &built {
        assert_eq!(one.finished.code, 0, "{}", one.finished);
        assert_eq!(one.id(), built[0].id());
    }
}
