//! Nodes that build together: with a registry and an etcd on machines of their own, each of which can be lost.

use std::collections::BTreeMap;

use strake_testkit::{Base, Cut, Machine, Node, Run, Running, lacking, program_on_path};

use crate::nodes::Place;
use crate::scene::{Built, Scene};

/// The latest time in every layer, so that equal content means equal images.
const TIMES: [&str; 2] = ["--timestamp", "1700000000"];

/// Where etcd listens.
const PORT: u16 = 2379;

/// Nodes with a registry and an etcd between them.
pub(crate) struct Team {
    // In this order: what runs on machines ends before the network.
    pub(crate) nodes: Vec<Node>,
    pub(crate) etcd: EtcdMachine,
    pub(crate) place: Place,
    /// How long a lock outlives its holder.
    pub(crate) lease: &'static str,
}

impl Team {
    /// Nodes `n0`, `n1` … whose stores have `busybox`; nothing where clusters cannot be made.
    pub(crate) fn new(nodes: usize) -> Option<Self> {
        if program_on_path("etcd").is_none() {
            lacking("etcd (package etcd-server)");
            return None;
        }
        let place = Place::new()?;
        let etcd = EtcdMachine::new(place.machine("etcd"));
        let mut team = Self { nodes: Vec::new(), etcd, place, lease: "3s" };
        for _ in 0..nodes {
            team.add_node();
        }
        Some(team)
    }

    /// One more node.
    pub(crate) fn add_node(&mut self) {
        let node = self.place.node(&format!("n{}", self.nodes.len()));
        node.load_base(Base::Busybox, "busybox").unwrap();
        self.nodes.push(node);
    }

    /// Gives every node the same build context, and `no` as the secret `hold`.
    pub(crate) fn context(&self, name: &str, dockerfile: &str) {
        for node in &self.nodes {
            node.sandbox().write(&format!("{name}/Dockerfile"), dockerfile).unwrap();
            node.sandbox().write(&format!("{name}/in.txt"), "in\n").unwrap();
            node.sandbox().write("hold", "no").unwrap();
        }
    }

    /// A build of a context that shares its steps, and tells its events.
    pub(crate) fn build(&self, node: usize, context: &str) -> Run {
        self.coordinated(self.uncoordinated(node, context))
    }

    /// The same build with the team's etcd.
    pub(crate) fn coordinated(&self, build: Run) -> Run {
        build.args(["--coordinate", &format!("etcd://{}:{PORT}?ttl={}", self.etcd.at.address(), self.lease)])
    }

    /// The same without etcd.
    pub(crate) fn uncoordinated(&self, node: usize, context: &str) -> Run {
        self.shown(node, context, "rawjson")
    }

    /// The same, shown in this way.
    pub(crate) fn shown(&self, node: usize, context: &str, progress: &str) -> Run {
        let build = self.nodes[node].strake(["build", "--progress", progress, "--network=none", context]);
        let build = build.args(["--secret", "id=hold,src=hold"]);
        build.args(TIMES).args(["--repo", &self.place.name("steps")]).seconds(120)
    }

    /// Builds on every node at once, and expects success.
    pub(crate) fn all(&self, context: &str) -> Vec<Built> {
        let started: Vec<Running> =
            (0..self.nodes.len()).map(|node| self.build(node, context).start().unwrap()).collect();
        started.into_iter().map(succeeded).collect()
    }

    pub(crate) fn cut(&self, node: usize, from: Service, cut: Cut) {
        for machine in self.machines(from) {
            self.nodes[node].cut_from(machine, cut).unwrap();
        }
    }

    pub(crate) fn heal(&self, node: usize) {
        for machine in self.machines(Service::Both) {
            self.nodes[node].heal(machine).unwrap();
        }
    }

    fn machines(&self, service: Service) -> Vec<&Machine> {
        match service {
            Service::Etcd => vec![&self.etcd.at],
            Service::Registry => vec![&self.place.at],
            Service::Both => vec![&self.etcd.at, &self.place.at],
        }
    }
}

/// What nodes meet in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Etcd,
    Registry,
    Both,
}

/// An etcd that anybody may use, on a machine of its own.
pub(crate) struct EtcdMachine {
    running: Option<Running>,
    pub(crate) at: Machine,
}

impl EtcdMachine {
    fn new(at: Machine) -> Self {
        let mut etcd = Self { running: None, at };
        etcd.start();
        etcd
    }

    /// Starts it, with what it had acknowledged before.
    pub(crate) fn start(&mut self) {
        let (clients, peers) =
            (format!("http://{}:{PORT}", self.at.address()), format!("http://{}:2380", self.at.address()));
        let run = self.at.run("etcd").args(["--name=e", "--data-dir=content"]).args([
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=e={peers}"),
        ]);
        let mut running = run.seconds(3600).start().unwrap();
        running.wait_for("ready to serve").unwrap();
        self.running = Some(running);
    }

    /// Kills it, as a power failure would.
    pub(crate) fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill().unwrap();
        }
    }
}

/// What a build gives that shares with nobody: the image ID, and the steps.
pub(crate) fn alone(dockerfile: &str) -> Built {
    let scene = Scene::new(dockerfile);
    scene.file("in.txt", "in\n");
    scene.build(&TIMES)
}

/// Waits for a build, and expects success.
#[track_caller]
pub(crate) fn succeeded(running: Running) -> Built {
    let finished = running.finish().unwrap();
    assert_eq!(finished.code, 0, "{finished}");
    Built::of(finished)
}

/// How often each step was carried out in all of these builds.
pub(crate) fn executions<'a>(built: impl IntoIterator<Item = &'a Built>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for label in built.into_iter().flat_map(Built::ran) {
        *counts.entry(label.to_owned()).or_default() += 1;
    }
    counts
}

/// Expects that all builds gave the image that one alone gives.
#[track_caller]
pub(crate) fn expect_equal<'a>(alone: &Built, built: impl IntoIterator<Item = &'a Built>) {
    for built in built {
        assert_eq!(built.id(), alone.id(), "{}", built.finished);
    }
}
