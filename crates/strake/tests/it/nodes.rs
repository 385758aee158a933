//! Several nodes with stores of their own and a real registry between them: each a machine of its own as far as
//! network and processes go.

use strake_testkit::{Base, Cluster, Cut, Machine, Node, Registry, RegistryOptions, lacking};

use crate::STRAKE;
use crate::scene::eventually;

/// A registry that allows deletion, on a machine of a cluster.
pub(crate) struct Place {
    // In this order: the registry's process ends before its machine, and that before the network.
    pub(crate) registry: Registry,
    pub(crate) at: Machine,
    cluster: Cluster,
}

impl Place {
    /// Nothing where clusters cannot be made.
    pub(crate) fn new() -> Option<Self> {
        if let Some(what) = Cluster::missing() {
            lacking(what);
            return None;
        }
        let cluster = Cluster::new(STRAKE).unwrap();
        let at = cluster.machine("registry").unwrap();
        let options = RegistryOptions { delete: true, ..RegistryOptions::default() };
        Some(Self { registry: Registry::on(&at, options).unwrap(), at, cluster })
    }

    pub(crate) fn node(&self, name: &str) -> Node {
        self.cluster.node(name, &[self.registry.address()]).unwrap()
    }

    /// A machine for another service.
    pub(crate) fn machine(&self, name: &str) -> Machine {
        self.cluster.machine(name).unwrap()
    }

    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.address())
    }

    pub(crate) fn requests_of(&self, node: &Node) -> Vec<String> {
        self.registry.requests_from(node.machine().address().into())
    }
}

/// Builds an image on `node` whose one step writes `content`, under the name `name`.
pub(crate) fn build(node: &Node, name: &str, content: &str) {
    node.load_base(Base::Busybox, "busybox").unwrap();
    let dockerfile = format!("FROM busybox\nRUN echo {content} > /said\nCMD [\"cat\", \"/said\"]\n");
    node.sandbox().write("c/Dockerfile", dockerfile).unwrap();
    node.strake(["build", "--network=none", "-t", name, "c"]).succeed().unwrap();
}

/// What the image says when it is run on `node`.
pub(crate) fn said(node: &Node, name: &str) -> String {
    node.strake(["run", "--network=none", name]).succeed().unwrap().stdout
}

#[test]
fn an_image_goes_from_node_to_node() {
    let Some(place) = Place::new() else { return };
    let (one, two) = (place.node("one"), place.node("two"));
    let name = place.name("app:1");
    build(&one, &name, "hello");
    one.strake(["push", &name]).succeed().unwrap();
    let before = two.machine().traffic().unwrap();
    two.strake(["pull", &name]).succeed().unwrap();
    assert_eq!(said(&two, &name), "hello\n");
    let id = |node: &Node| node.strake(["images", "--quiet", "--no-trunc", &name]).succeed().unwrap().stdout;
    assert_eq!(id(&one), id(&two));

    // Who did what is told apart, in requests and in bytes.
    let is_upload = |line: &String| line.starts_with("PUT ") || line.starts_with("PATCH ");
    assert!(place.requests_of(&one).iter().any(is_upload), "{}", place.registry.log());
    let requests = place.requests_of(&two);
    assert!(!requests.iter().any(is_upload), "{requests:?}");
    assert!(requests.contains(&"GET /v2/app/manifests/1".to_owned()), "{requests:?}");
    let after = two.machine().traffic().unwrap();
    let received = after.received - before.received;
    // A compressed busybox is about 1 MB.
    assert!((500_000..5_000_000).contains(&received), "{received}");
    assert!(after.sent - before.sent < received / 2);
}

#[test]
fn a_node_without_a_way_to_the_registry_says_so_and_goes_on_when_there_is_one() {
    let Some(place) = Place::new() else { return };
    let (one, two) = (place.node("one"), place.node("two"));
    let name = place.name("app:1");
    build(&one, &name, "hello");
    one.cut_from(&place.at, Cut::Unreachable).unwrap();
    let failed = one.strake(["push", &name]).finish().unwrap();
    assert_eq!(failed.code, 3, "{failed}");
    let expected = format!("cannot connect to {}: No route to host", place.registry.address());
    assert!(failed.stderr.contains(&expected), "{failed}");
    assert_eq!(place.requests_of(&one), [""; 0]);

    // Another node is not concerned, and a cut that nobody is told of is merely waited through.
    two.strake(["pull", &name]).finish().unwrap();
    assert!(!place.requests_of(&two).is_empty());
    one.cut_from(&place.at, Cut::Silent).unwrap();
    let before = one.machine().traffic().unwrap().sent;
    let pushing = one.strake(["push", &name]).start().unwrap();
    eventually("an attempt to connect", || (one.machine().traffic().unwrap().sent > before).then_some(()));
    assert_eq!(place.requests_of(&one), [""; 0]);
    one.heal(&place.at).unwrap();
    let pushed = pushing.finish().unwrap();
    assert_eq!(pushed.code, 0, "{pushed}");
    two.strake(["pull", &name]).succeed().unwrap();
    assert_eq!(said(&two, &name), "hello\n");
}
