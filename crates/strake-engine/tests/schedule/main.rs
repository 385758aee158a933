//! The scheduler on graphs made at random, with an executor that only notes what it was asked to do. The store is
//! real; the containers are not, because what is tested is who runs when, and how often.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on is a failed test")]

mod locks;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use strake_engine::{
    BuildError, BuildOutput, BuildRequest, Cancellation, Environment, Event, Secret, Sharing, build,
};
use strake_exec::{Cancel, Container, ExecError, Executor, ExitStatus, Io, Rootfs};
use strake_graph::{Graph, Mount, MountKind, Network, Op, RunOp, Span, Stage, Step, StepId};
use strake_oci::{ContainerConfig, Platform};
use strake_registry::{Client, RegistryConfig};
use strake_store::{SnapshotMount, SnapshotterChoice, Store, StoreOptions};

/// Writes `args[1]`, or what the variable `CONTENT` says, into the file `args[0]` of the layer, and gives the root
/// directory the mode that `ROOT_MODE` says. A step that is to fail fails after that.
#[derive(Debug, Default)]
struct Notes {
    failing: BTreeSet<String>,
    ran: Mutex<Vec<String>>,
    running: AtomicUsize,
    most: AtomicUsize,
    /// How many directories each mount of layers had.
    lowers: Mutex<Vec<usize>>,
}

impl Executor for Notes {
    fn run(&self, container: &Container, io: Io<'_>, _: &Cancel) -> Result<ExitStatus, ExecError> {
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let name = container.process.args[0].clone();
        (io.output)(strake_exec::Stream::Stdout, name.as_bytes());
        self.ran.lock().unwrap().push(name.clone());
        let lowers = container.mounts.iter().filter_map(|mount| match &mount.kind {
            strake_exec::MountKind::Layers { lowers, .. } => Some(lowers.len()),
            _ => None,
        });
        self.lowers.lock().unwrap().extend(lowers);
        let fails = self.failing.contains(&name);
        let (Rootfs::Overlay { upper, .. } | Rootfs::Directory(upper)) = &container.rootfs;
        let variable = |wanted: &str| {
            let found = container.process.env.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.to_str().unwrap())
        };
        let content = variable("CONTENT").unwrap_or(&container.process.args[1]);
        std::fs::write(upper.join(&name), content).unwrap();
        if let Some(mode) = variable("ROOT_MODE") {
            let mode = u32::from_str_radix(mode, 8).unwrap();
            std::fs::set_permissions(upper, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(ExitStatus::Exited(i32::from(fails)))
    }
}

/// For each step: its base (an earlier step, or nothing) and the steps it mounts.
type Plan = Vec<(Option<usize>, BTreeSet<usize>)>;

fn step(op: Op, stage: &str) -> Step {
    Step {
        op,
        platform: Platform::linux("amd64"),
        span: Span::default(),
        label: stage.to_owned(),
        stage: stage.to_owned(),
        position: None,
        no_cache: false,
        named: None,
    }
}

/// One step for each entry of the plan, writing a file of its own name; the last one is the target.
fn graph_of(plan: &Plan, content: &BTreeMap<usize, String>) -> Graph {
    let mut graph = Graph::new();
    let scratch = graph.push_step(step(Op::Scratch, "scratch"));
    let mut ids: Vec<StepId> = Vec::new();
    for (number, (base, mounted)) in plan.iter().enumerate() {
        let mounts = mounted.iter().map(|from| Mount {
            target: format!("/mnt/{from}"),
            kind: MountKind::Bind { from: ids[*from], source: "/".into(), writable: false },
        });
        let text = content.get(&number).cloned().unwrap_or_else(|| number.to_string());
        let op = RunOp {
            base: base.map_or(scratch, |base| ids[base]),
            args: vec![format!("s{number}"), text],
            env: vec![],
            transient_env: vec![],
            cwd: "/".into(),
            user: String::new(),
            mounts: mounts.collect(),
            network: None,
        };
        ids.push(graph.push_step(step(Op::Run(Box::new(op)), &format!("s{number}"))));
    }
    let stage = graph.push_stage(Stage {
        name: "target".into(),
        result: *ids.last().unwrap(),
        platform: Platform::linux("amd64"),
        config: ContainerConfig::default(),
        author: None,
        history: vec![],
    });
    graph.push_target(stage);
    graph
}

/// What the secret `secret` is in these builds.
const SECRET: &str = "hidden";

fn run(
    store: &Store,
    graph: Graph,
    jobs: usize,
    executor: &dyn Executor,
) -> (Result<BuildOutput, BuildError>, Vec<String>) {
    let request = BuildRequest {
        graph,
        contexts: BTreeMap::new(),
        files: BTreeMap::new(),
        secrets: BTreeMap::from([("secret".to_owned(), Secret::new(SECRET.as_bytes()))]),
        network: Network::Host,
        hosts: vec![],
        ca_certificates: None,
        jobs: NonZeroUsize::new(jobs).unwrap(),
        explain: true,
        place: "test".into(),
        epoch: None,
        sharing: Sharing::default(),
        wants_layers: false,
    };
    let events = Mutex::new(Vec::new());
    let environment = Environment {
        store,
        registry: &Client::new(RegistryConfig::default()),
        executor,
        events: &|event: Event| events.lock().unwrap().push(format!("{event:?}")),
        cancellation: &Cancellation::new(),
        private_network: &Err("not here".into()),
    };
    let result = build(&request, &environment);
    (result, events.into_inner().unwrap())
}

/// Which steps the last one needs, itself included.
fn needed(plan: &Plan) -> BTreeSet<usize> {
    let mut needed = BTreeSet::from([plan.len() - 1]);
    for number in (0..plan.len()).rev() {
        if needed.contains(&number) {
            let (base, mounted) = &plan[number];
            needed.extend(base.iter().chain(mounted));
        }
    }
    needed
}

fn plans() -> impl Strategy<Value = Plan> {
    prop::collection::vec(
        (any::<prop::sample::Index>(), prop::collection::vec(any::<prop::sample::Index>(), 0..3)),
        1..9,
    )
    .prop_map(|choices| {
        choices
            .iter()
            .enumerate()
            .map(|(number, (base, mounted))| {
                let base = base.index(number + 1).checked_sub(1);
                let mounted = if number == 0 {
                    BTreeSet::new()
                } else {
                    mounted.iter().map(|m| m.index(number)).collect()
                };
                (base, mounted)
            })
            .collect()
    })
}

#[expect(clippy::disallowed_methods, reason = "whether tests may be left out is said to the test run")]
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let required = std::env::var_os("STRAKE_TEST_REQUIRE_ALL").is_some();
    assert!(is_root || !required, "these tests need root: they mount overlays");
    is_root
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_step_runs_once_after_its_inputs_and_the_build_ends(
        plan in plans(),
        jobs in 1usize..5,
        failing in prop::collection::btree_set(0usize..9, 0..2),
    ) {
        if !is_root() {
            return Ok(());
        }
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store"), &StoreOptions::default()).unwrap();
        let wanted = needed(&plan);
        let notes = Notes {
            failing: failing.iter().map(|number| format!("s{number}")).collect(),
            ..Notes::default()
        };
        let (result, _) = run(&store, graph_of(&plan, &BTreeMap::new()), jobs, &notes);
        let ran = notes.ran.lock().unwrap().clone();
        let fails = failing.iter().any(|number| wanted.contains(number));
        prop_assert_eq!(result.is_err(), fails);
        prop_assert!(notes.most.load(Ordering::SeqCst) <= jobs);
        let distinct: BTreeSet<_> = ran.iter().collect();
        prop_assert_eq!(distinct.len(), ran.len(), "a step ran twice: {:?}", ran);
        for (place, name) in ran.iter().enumerate() {
            let number: usize = name[1..].parse().unwrap();
            prop_assert!(wanted.contains(&number), "{} was not needed", name);
            let (base, mounted) = &plan[number];
            for input in base.iter().chain(mounted) {
                let before = ran.iter().position(|name| *name == format!("s{input}"));
                prop_assert!(before.is_some_and(|before| before < place), "{} ran before its input", name);
            }
        }
        // What was finished is kept: the next build runs only the rest.
        let second = Notes::default();
        let (result, _) = run(&store, graph_of(&plan, &BTreeMap::new()), jobs, &second);
        prop_assert!(result.is_ok());
        let again = second.ran.lock().unwrap().clone();
        let kept: BTreeSet<_> = ran.iter().filter(|name| !notes.failing.contains(*name)).cloned().collect();
        prop_assert!(again.iter().all(|name| !kept.contains(name)), "ran again: {:?} of {:?}", again, kept);
        prop_assert_eq!(again.len() + kept.len(), wanted.len());
    }
}

#[test]
fn an_equal_result_stops_a_change() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store"), &StoreOptions::default()).unwrap();
    let plan: Plan = vec![(None, BTreeSet::new()), (Some(0), BTreeSet::new()), (Some(1), BTreeSet::new())];
    let build = |graph: Graph| {
        let notes = Notes::default();
        let (result, events) = run(&store, graph, 2, &notes);
        result.unwrap();
        (notes.ran.into_inner().unwrap(), events)
    };
    assert_eq!(build(graph_of(&plan, &BTreeMap::new())).0, ["s0", "s1", "s2"]);

    // The command of the middle step changes, but not what it writes: what stands on it stays.
    let mut graph = graph_of(&plan, &BTreeMap::new());
    let middle = graph.step_ids().nth(2).unwrap();
    let Op::Run(op) = &mut graph.step_mut(middle).op else { panic!("a run") };
    op.args.push("# only a remark".into());
    let (ran, events) = build(graph);
    assert_eq!(ran, ["s1"]);
    assert!(events.iter().any(|event| event.contains("only a remark")), "{events:?}");

    // What it writes changes: everything above runs again.
    let changed = BTreeMap::from([(1, "else".to_owned())]);
    assert_eq!(build(graph_of(&plan, &changed)).0, ["s1", "s2"]);
}

/// The graph of one step, changed.
fn one_step(change: impl FnOnce(&mut Step, &mut RunOp)) -> Graph {
    let mut graph = graph_of(&vec![(None, BTreeSet::new())], &BTreeMap::new());
    let id = graph.step_ids().nth(1).unwrap();
    let mut changed = graph.step(id).clone();
    let Op::Run(op) = &mut changed.op else { panic!("a run") };
    let mut op = op.clone();
    change(&mut changed, &mut op);
    changed.op = Op::Run(op);
    *graph.step_mut(id) = changed;
    graph
}

#[test]
fn a_result_that_was_replaced_is_not_taken_for_an_equal_one() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store"), &StoreOptions::default()).unwrap();
    // What a step writes depends on something outside its signature, and it is carried out twice.
    let from_outside = |content: &str, no_cache: bool| {
        one_step(|step, op| {
            step.no_cache = no_cache;
            op.transient_env.push(("CONTENT".into(), content.into()));
        })
    };
    run(&store, from_outside("old", false), 1, &Notes::default()).0.unwrap();
    run(&store, from_outside("new", true), 1, &Notes::default()).0.unwrap();
    // Another step comes to what the first one gave at first.
    let graph = one_step(|_, op| op.args[1] = "old".into());
    let output = run(&store, graph, 1, &Notes::default()).0.unwrap();
    let layer = output.stages[0].layers.last().unwrap();
    assert_eq!(std::fs::read_to_string(store.layer_dir(layer).join("s0")).unwrap(), "old");
}

#[test]
fn different_results_are_told_apart_whatever_makes_the_snapshots() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (name, snapshotter) in [("overlay", SnapshotterChoice::Overlay), ("copy", SnapshotterChoice::Copy)] {
        let store = Store::open(&directory.path().join(name), &StoreOptions { snapshotter }).unwrap();
        // The same file each time; then another content, then another mode of the root directory only.
        for (content, mode) in [("a", 0o755), ("b", 0o755), ("b", 0o711), ("b", 0o700)] {
            let graph = one_step(|_, op| {
                op.args[1] = content.into();
                op.env.push(("ROOT_MODE".into(), format!("{mode:o}")));
            });
            let output = run(&store, graph, 1, &Notes::default()).0.unwrap();
            let layer = store.layer_dir(output.stages[0].layers.last().unwrap());
            let found = std::fs::metadata(&layer).unwrap().permissions().mode() & 0o7777;
            assert_eq!((std::fs::read_to_string(layer.join("s0")).unwrap().as_str(), found), (content, mode));
        }
    }
}

#[test]
fn what_a_failed_process_left_is_handed_over_and_gone_with_the_error() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (name, snapshotter) in [("overlay", SnapshotterChoice::Overlay), ("copy", SnapshotterChoice::Copy)] {
        let store = Store::open(&directory.path().join(name), &StoreOptions { snapshotter }).unwrap();
        let entries = |folder: &str| std::fs::read_dir(store.root().join(folder)).unwrap().count();
        let plan: Plan = vec![(None, BTreeSet::new()), (Some(0), BTreeSet::new())];
        let failing = Notes { failing: BTreeSet::from(["s1".to_owned()]), ..Notes::default() };
        let error = run(&store, graph_of(&plan, &BTreeMap::new()), 1, &failing).0.unwrap_err();
        let BuildError::Failed(failure) = error else { panic!("{error}") };
        let (SnapshotMount::Overlay { upper, .. } | SnapshotMount::Directory(upper)) = failure.left.mount();
        assert_eq!(std::fs::read_to_string(upper.join("s1")).unwrap(), "1");
        assert_eq!((entries("active"), entries("layers")), (1, 1), "the layer is that of the step below");
        drop(failure);
        assert_eq!((entries("active"), entries("layers")), (0, 1));
    }
}

#[test]
fn a_secret_comes_before_a_variable_of_its_name() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store"), &StoreOptions::default()).unwrap();
    let graph = one_step(|_, op| {
        op.env.push(("CONTENT".into(), "declared".into()));
        let kind = MountKind::Secret {
            id: "secret".into(),
            env: Some("CONTENT".into()),
            required: true,
            mode: 0o400,
            uid: 0,
            gid: 0,
        };
        op.mounts.push(Mount { target: String::new(), kind });
    });
    let output = run(&store, graph, 1, &Notes::default()).0.unwrap();
    let layer = store.layer_dir(output.stages[0].layers.last().unwrap());
    assert_eq!(std::fs::read_to_string(layer.join("s0")).unwrap(), SECRET);
}

#[test]
fn a_stage_without_layers_is_mounted_as_an_empty_directory() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store"), &StoreOptions::default()).unwrap();
    let graph = one_step(|_, op| {
        let from = op.base;
        let kind = MountKind::Bind { from, source: "/".into(), writable: false };
        op.mounts.push(Mount { target: "/m".into(), kind });
    });
    let notes = Notes::default();
    run(&store, graph, 1, &notes).0.unwrap();
    assert_eq!(*notes.lowers.lock().unwrap(), [1], "an overlay needs a directory");
}

#[test]
fn a_step_that_moved_is_compared_with_itself() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store"), &StoreOptions::default()).unwrap();
    // One stage with these commands, one above the other.
    let stage = |commands: &[&str]| {
        let plan: Plan = (0..commands.len()).map(|n| (n.checked_sub(1), BTreeSet::new())).collect();
        let mut graph = graph_of(&plan, &BTreeMap::new());
        for (number, command) in commands.iter().enumerate() {
            let id = graph.step_ids().nth(number + 1).unwrap();
            graph.step_mut(id).stage = "stage".into();
            let Op::Run(op) = &mut graph.step_mut(id).op else { panic!("a run") };
            op.args = vec![(*command).into(), "content".into()];
        }
        graph
    };
    let explained = |commands: &[&str]| -> Vec<String> {
        let (result, events) = run(&store, stage(commands), 1, &Notes::default());
        result.unwrap();
        events.into_iter().filter(|event| event.starts_with("StepExplained")).collect()
    };
    explained(&["a", "b", "c"]);
    let lines = explained(&["new", "a", "b", "c"]);
    assert!(lines[0].contains("command: `a` → `new`"), "{lines:?}");
    assert!(lines[1..].iter().all(|line| line.contains("[\"what is below")), "{lines:?}");
    let lines = explained(&["new", "b", "c"]);
    assert!(lines[1..].iter().all(|line| line.contains("[\"what is below")), "{lines:?}");
}
