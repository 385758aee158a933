//! Several processes on one store: a common step is built once, whoever dies.

use std::time::SystemTime;

use rustix::process::Signal;
use strake_testkit::TestUser;

use crate::scene::{Built, Scene, eventually};

/// Each execution of a step leaves a line in a cache mount.
const COUNTED: &str = "FROM busybox\n\
    RUN --mount=type=cache,id=n,target=/n echo one >> /n/log; usleep 100000; echo 1 > /1\n\
    RUN --mount=type=cache,id=n,target=/n echo two >> /n/log; usleep 100000; echo 2 > /2\n";

/// What the steps of `COUNTED` have left.
fn executions(scene: &Scene) -> String {
    scene.file("read/Dockerfile", "FROM busybox\nRUN --mount=type=cache,id=n,target=/n sort /n/log > /log\n");
    let read = ["build", "--network=none", "-o", "read", "c/read"];
    scene.strake(&read);
    scene.sandbox.read("read/log").unwrap()
}

fn built_once_by(processes: usize) {
    let scene = Scene::new(COUNTED);
    let built: Vec<Built> = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..processes).map(|_| scope.spawn(|| scene.build(&[]))).collect();
        builds.into_iter().map(|build| build.join().unwrap()).collect()
    });
    assert_eq!(executions(&scene), "one\ntwo\n");
    for one in &built {
        assert_eq!(one.id(), built[0].id());
        assert_eq!(one.ran().len() + one.steps("cached").len(), 2, "{}", one.finished);
    }
    assert_eq!(built.iter().map(|one| one.ran().len()).sum::<usize>(), 2);
}

#[test]
fn two_processes() {
    built_once_by(2);
}

#[test]
fn five_processes() {
    built_once_by(5);
}

#[test]
fn twelve_processes() {
    built_once_by(12);
}

/// A step that waits until the test lets it go on.
const GATED: &str = "FROM busybox\n\
    RUN --mount=type=cache,id=n,target=/n echo run >> /n/log; echo began; for i in $(seq 1200); do [ -e /n/go ] && break; usleep 50000; done; echo 1 > /1\n";

#[test]
fn the_others_say_for_whom_they_wait() {
    let scene = Scene::new(GATED);
    let mut holder = scene.start_build(&[]);
    holder.wait_for("began\\n");
    let mut waiter = scene.start_build(&[]);
    let line = waiter.wait_for("\"waiting\"");
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["pid"], holder.pid(), "{line}");
    assert!(event["what"].as_str().unwrap().contains("RUN"), "{line}");
    let mut person = scene.start(&["build", "--progress=plain", "--network=none", "c"]);
    let line = person.wait_for("waiting for process");
    assert!(line.contains(&holder.pid().to_string()), "{line}");
    open_the_gate(&scene);
    let ids: Vec<String> = [holder, waiter, person]
        .into_iter()
        .map(|process| {
            let (code, stdout, stderr) = process.end();
            assert_eq!(code, 0, "{stderr}");
            stdout.trim().to_owned()
        })
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(executions(&scene), "run\n");
}

#[test]
fn a_waiter_takes_over_when_the_holder_is_killed() {
    let scene = Scene::new(GATED);
    let mut holder = scene.start_build(&[]);
    holder.wait_for("began\\n");
    let mut waiter = scene.start_build(&[]);
    waiter.wait_for("\"waiting\"");
    holder.send(Signal::KILL);
    assert_eq!(holder.end().0, 137);
    waiter.wait_for("\"started\"");
    open_the_gate(&scene);
    let (code, _, stderr) = waiter.end();
    assert_eq!(code, 0, "{stderr}");
    let log = executions(&scene);
    assert!(log == "run\nrun\n", "{log:?}");
}

/// What another process makes of a step while we wait for it is no result of ours.
#[test]
fn without_cache_a_waiter_carries_the_step_out_itself() {
    let seconds = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let scene = Scene::new(GATED);
    let mut holder = scene.start_build(&[]);
    holder.wait_for("began\\n");
    let mut waiter = scene.start_build(&["--no-cache"]);
    waiter.wait_for("\"waiting\"");
    // The holder's result is younger than the waiter's beginning by more than any clock's grain.
    let now = seconds();
    eventually("the second after the next", || (seconds() > now + 1).then_some(()));
    open_the_gate(&scene);
    for process in [holder, waiter] {
        let (code, _, stderr) = process.end();
        assert_eq!(code, 0, "{stderr}");
    }
    assert_eq!(executions(&scene), "run\nrun\n");
}

#[test]
fn a_failed_step_of_the_holder_is_tried_by_the_waiter_itself() {
    let scene = Scene::new(&GATED.replace("; echo 1 > /1", "; exit 7"));
    let mut holder = scene.start_build(&[]);
    holder.wait_for("began\\n");
    let mut waiter = scene.start_build(&[]);
    waiter.wait_for("\"waiting\"");
    open_the_gate(&scene);
    assert_eq!(holder.end().0, 1);
    assert_eq!(waiter.end().0, 1);
}

/// Opened by a build of its own: the cache mount is shared by all of them.
fn open_the_gate(scene: &Scene) {
    scene.file("gate/Dockerfile", "FROM busybox\nRUN --mount=type=cache,id=n,target=/n touch /n/go\n");
    scene.strake(&["build", "--no-cache", "--network=none", "c/gate"]);
}

/// Two users, two stores, the same Dockerfile at the same time.
#[test]
fn stores_of_two_users_do_not_know_each_other() {
    if !strake_testkit::is_root() {
        return strake_testkit::lacking("root, to become two users");
    }
    let sandboxes = [TestUser::first().unwrap(), TestUser::second().unwrap()].map(crate::of_ordinary_user);
    std::thread::scope(|scope| {
        for sandbox in &sandboxes {
            scope.spawn(move || {
                sandbox.write("c/Dockerfile", COUNTED).unwrap();
                let build = sandbox.strake(["build", "--progress=rawjson", "--network=none", "c"]);
                let built = Built::of(build.succeed().unwrap());
                assert_eq!(built.ran().len(), 2, "{}", built.finished);
                assert!(built.steps("waiting").is_empty());
            });
        }
    });
}
