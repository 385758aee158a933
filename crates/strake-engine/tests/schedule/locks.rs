//! Who waits for whom, and what goes on meanwhile.

use std::fs::File;
use std::sync::mpsc::channel;
use std::time::Duration;

use strake_graph::Sharing;
use strake_oci::Digest;

use super::*;

/// Longer than any of these builds takes, however busy the machine is: who waits so long waits for good.
const FOR_GOOD: Duration = Duration::from_secs(60);

/// Tells what is about to run, and then does as [`Notes`] do.
struct Watched<F> {
    notes: Notes,
    began: F,
}

impl<F> std::fmt::Debug for Watched<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("notes", &self.notes).finish_non_exhaustive()
    }
}

impl<F: Fn(&str) + Send + Sync> Executor for Watched<F> {
    fn run(&self, container: &Container, io: Io<'_>, cancel: &Cancel) -> Result<ExitStatus, ExecError> {
        (self.began)(&container.process.args[0]);
        self.notes.run(container, io, cancel)
    }
}

fn cache(id: &str, target: &str, sharing: Sharing) -> Mount {
    let kind = MountKind::Cache {
        id: id.into(),
        sharing,
        from: None,
        mode: 0o755,
        uid: 0,
        gid: 0,
        read_only: false,
    };
    Mount { target: target.into(), kind }
}

/// Steps that stand on nothing and have these mounts, and one more, the target, that needs all of them.
fn side_by_side(mounts: &[Vec<Mount>]) -> Graph {
    let mut plan: Plan = mounts.iter().map(|_| (None, BTreeSet::new())).collect();
    plan.push((None, (0..mounts.len()).collect()));
    let mut graph = graph_of(&plan, &BTreeMap::new());
    for (number, mounts) in mounts.iter().enumerate() {
        let id = graph.step_ids().nth(number + 1).unwrap();
        let Op::Run(op) = &mut graph.step_mut(id).op else { panic!("a run") };
        op.mounts.clone_from(mounts);
    }
    graph
}

/// Runs what may not end on a thread of its own, and expects that it ends.
fn expect_end<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = channel();
    std::thread::spawn(move || done.send(what()));
    ended.recv_timeout(FOR_GOOD).expect("it ends")
}

#[test]
fn a_step_does_not_wait_for_a_cache_that_it_holds_itself() {
    if !is_root() {
        return;
    }
    let mounts = vec![
        cache("cache", "/private", Sharing::Private),
        cache("cache", "/one", Sharing::Locked),
        cache("cache", "/two", Sharing::Shared),
    ];
    expect_end(move || {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store"), &StoreOptions::default()).unwrap();
        run(&store, side_by_side(&[mounts]), 1, &Notes::default()).0.unwrap();
    });
}

/// Somebody else has the cache until another step of the same build runs, for which there is only one slot.
#[test]
fn a_step_that_waits_for_a_cache_leaves_its_slot_to_others() {
    if !is_root() {
        return;
    }
    let ran = expect_end(|| {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store"), &StoreOptions::default()).unwrap();
        let lock = store.lock_dir().join(format!("cache-{}", Digest::of(b"busy\n0").hex()));
        let lock = File::create(lock).unwrap();
        lock.lock().unwrap();
        let held = Mutex::new(Some(lock));
        let began = |name: &str| {
            if name == "s1" {
                *held.lock().unwrap() = None;
            }
        };
        let executor = Watched { notes: Notes::default(), began };
        let graph = side_by_side(&[vec![cache("busy", "/c", Sharing::Locked)], vec![]]);
        run(&store, graph, 1, &executor).0.unwrap();
        executor.notes.ran.into_inner().unwrap()
    });
    assert_eq!(ran, ["s1", "s0", "s2"]);
}

#[test]
fn steps_that_want_the_same_caches_run_one_after_the_other_and_the_build_ends() {
    if !is_root() {
        return;
    }
    for jobs in 1..4 {
        expect_end(move || {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::open(&directory.path().join("store"), &StoreOptions::default()).unwrap();
            let (one, two) = (cache("a", "/a", Sharing::Locked), cache("b", "/b", Sharing::Locked));
            let shared = cache("a", "/a", Sharing::Shared);
            let mounts = [
                vec![one.clone(), two.clone()],
                vec![two.clone(), one],
                vec![two.clone(), shared],
                vec![two],
            ];
            let notes = Notes::default();
            run(&store, side_by_side(&mounts), jobs, &notes).0.unwrap();
            assert_eq!(notes.most.into_inner(), 1, "every one of them wants `b` for itself");
            assert_eq!(notes.ran.into_inner().unwrap().len(), 5);
        });
    }
}

#[test]
fn equal_steps_that_must_not_come_from_the_cache_run_once_in_each_build() {
    if !is_root() {
        return;
    }
    for jobs in 1..3 {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store"), &StoreOptions::default()).unwrap();
        for _ in 0..2 {
            let mut graph = side_by_side(&[vec![], vec![], vec![]]);
            for id in graph.step_ids().skip(1).take(3).collect::<Vec<_>>() {
                let step = graph.step_mut(id);
                step.no_cache = true;
                let Op::Run(op) = &mut step.op else { panic!("a run") };
                op.args = vec!["same".into(), "content".into()];
            }
            let notes = Notes::default();
            run(&store, graph, jobs, &notes).0.unwrap();
            let ran = notes.ran.into_inner().unwrap();
            assert_eq!(ran.iter().filter(|name| *name == "same").count(), 1, "{ran:?}");
        }
    }
}
