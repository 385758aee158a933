//! A build that is stopped: it ends soon, says so, and leaves nothing behind.

use rustix::process::Signal;

use crate::scene::{Scene, Started, eventually};

/// A `sleep` that is seen in the process table, and that no test has which runs at the same time or was killed before.
fn sleep(kind: u32) -> String {
    format!("sleep {}", 200_000_000 + std::process::id() * 10 + kind)
}

/// A step that says when it runs and never ends.
fn endless(sleep: &str, trap: &str) -> String {
    format!("FROM busybox\nRUN echo first > /first\nRUN {trap} echo began; while true; do {sleep}; done\n")
}

/// Processes of this machine whose command line has these words.
fn processes(words: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        // Those that end while we look are gone.
        let Ok(line) = std::fs::read(path.join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let is_us =
            path.file_name().is_some_and(|name| name.to_string_lossy() == std::process::id().to_string());
        if line.contains(words) && !is_us {
            found.push(line);
        }
    }
    found
}

/// Expects that nothing of the scene's store is mounted or running, and that the store is as good as before.
fn expect_clean(scene: &Scene, sleep: &str) {
    let store = scene.sandbox.store();
    let store = store.to_str().unwrap();
    eventually("all processes of the step to be gone", || processes(sleep).is_empty().then_some(()));
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(store), "{mounts}");
    let left =
        |directory: &str| std::fs::read_dir(scene.sandbox.store().join(directory)).map_or(0, Iterator::count);
    assert_eq!((left("active"), left("tmp")), (0, 0));
    scene.file("Dockerfile", "FROM busybox\nRUN echo first > /first\nRUN cat /first\n");
    scene.build(&[]).expect_ran(&["cat /first"]);
}

fn began(scene: &Scene) -> Started {
    let mut started = scene.start_build(&[]);
    started.wait_for("began\\n");
    started
}

#[test]
fn once_is_enough() {
    let sleep = sleep(1);
    let scene = Scene::new(&endless(&sleep, ""));
    let started = began(&scene);
    started.send(Signal::INT);
    let (code, stdout, stderr) = started.end();
    assert_eq!((code, stdout.as_str()), (130, ""), "{stderr}");
    assert!(stderr.contains("interrupted"), "{stderr}");
    expect_clean(&scene, &sleep);
}

#[test]
fn terminated() {
    let sleep = sleep(2);
    let scene = Scene::new(&endless(&sleep, ""));
    let started = began(&scene);
    started.send(Signal::TERM);
    let (code, _, stderr) = started.end();
    assert_eq!(code, 143, "{stderr}");
    expect_clean(&scene, &sleep);
}

#[test]
fn a_step_that_ignores_signals_dies_as_well() {
    let sleep = sleep(3);
    let scene = Scene::new(&endless(&sleep, "trap '' TERM INT HUP;"));
    let started = began(&scene);
    started.send(Signal::INT);
    let (code, _, stderr) = started.end();
    assert_eq!(code, 130, "{stderr}");
    expect_clean(&scene, &sleep);
}

/// Children that left their parent and their session are in the same pid namespace still.
#[test]
fn nothing_that_a_step_started_outlives_it() {
    let (first, second) = (sleep(4), sleep(5));
    let step =
        format!("(setsid sh -c 'while true; do {first}; done' &) ; echo began; while true; do {first}; done");
    let scene = Scene::new(&format!("FROM busybox\nRUN echo first > /first\nRUN {step}\n"));
    let started = began(&scene);
    started.send(Signal::KILL);
    assert_eq!(started.end().0, 137);
    eventually("the step to be gone", || processes(&first).is_empty().then_some(()));
    // What a killed program left is collected by those that come after it.
    scene.file(
        "Dockerfile",
        &format!("FROM busybox\nRUN echo first > /first\nRUN (setsid {second} &) ; echo done\n"),
    );
    scene.build(&[]).expect_ran(&["echo done"]);
    assert_eq!(processes(&second), [""; 0]);
}

/// All steps that run are stopped, not only the first.
#[test]
fn parallel_steps_are_all_stopped() {
    let sleep = sleep(6);
    let stage =
        |name: &str| format!("FROM busybox AS {name}\nRUN echo began-{name}; while true; do {sleep}; done\n");
    let scene = Scene::new(&format!(
        "{}{}FROM busybox\nCOPY --from=a /x /\nCOPY --from=b /x /\n",
        stage("a"),
        stage("b")
    ));
    let mut started = scene.start_build(&["--jobs=2"]);
    // In either order.
    started.wait_for("began-");
    started.wait_for("began-");
    started.send(Signal::INT);
    assert_eq!(started.end().0, 130);
    eventually("both steps to be gone", || processes(&sleep).is_empty().then_some(()));
}

#[test]
fn a_waiting_build_can_be_stopped() {
    let sleep = sleep(7);
    let scene = Scene::new(&endless(&sleep, ""));
    let holder = began(&scene);
    let mut waiter = scene.start_build(&[]);
    waiter.wait_for("\"waiting\"");
    waiter.send(Signal::INT);
    assert_eq!(waiter.end().0, 130);
    holder.send(Signal::INT);
    assert_eq!(holder.end().0, 130);
    expect_clean(&scene, &sleep);
}

#[test]
fn a_container_of_run_gets_the_signal() {
    let scene = Scene::new("FROM busybox\nRUN true\n");
    let script = "trap 'echo got-it; exit 7' TERM; echo began >&2; while true; do usleep 20000; done";
    let mut started = scene.start(&["run", "--network=none", "busybox", "sh", "-c", script]);
    started.wait_for("began");
    started.send(Signal::TERM);
    let (code, stdout, stderr) = started.end();
    assert!(code == 7 || code == 143, "{code} {stdout} {stderr}");
}

/// A file that takes hours to read is no reason to go on.
#[test]
fn reading_a_very_large_file_is_stopped() {
    let scene = Scene::new("FROM busybox\nCOPY big /big\n");
    let big = scene.sandbox.path("c/big");
    std::fs::File::create(&big).unwrap().set_len(8 << 40).unwrap();
    let started = scene.start_build(&[]);
    let files = std::path::PathBuf::from(format!("/proc/{}/fd", started.pid()));
    eventually("the file to be read", || {
        // What is closed while we look is gone.
        let files = std::fs::read_dir(&files).ok()?.flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).find(|path| *path == big)
    });
    started.send(Signal::INT);
    let (code, _, stderr) = started.end();
    assert_eq!(code, 130, "{stderr}");
}
