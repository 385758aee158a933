//! Random copies, written into layers of a real store and seen through real overlay mounts, against a model of what
//! a copy means that knows nothing of layers.

#![expect(clippy::unwrap_used, reason = "a test says enough by failing")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use strake_engine::Cancellation;
use strake_engine::build_context::SourceTree;
use strake_engine::copy::{CopyError, CopyPlan, CopyTarget, copy};
use strake_graph::pattern::IgnoreRules;
use strake_graph::{CopyOp, CopySource, Graph, Op, Span, Step, StepId};
use strake_oci::Platform;
use strake_store::root_dir::EntryType;
use strake_store::{RootDir, Store, StoreOptions};

/// A tree by path.
type Tree = BTreeMap<String, Node>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory(u32),
    File(u32, String),
    Link(String),
}

fn step_ids() -> (StepId, StepId) {
    let mut graph = Graph::new();
    let mut step = || {
        graph.push_step(Step {
            op: Op::Scratch,
            platform: Platform::linux("amd64"),
            span: Span::default(),
            label: String::new(),
            stage: String::new(),
            position: None,
            no_cache: false,
            named: None,
        })
    };
    (step(), step())
}

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

/// The model: what the instruction means for a tree, or that it is refused.
fn model(context: &Tree, image: &Tree, pattern: &str, destination: &str) -> Option<Tree> {
    let mut tree = image.clone();
    let to = destination.trim_matches('/');
    let is_folder = pattern == "." || matches!(context.get(pattern)?, Node::Directory(_));
    if is_folder {
        make_dirs(&mut tree, to)?;
        let prefix = if pattern == "." { String::new() } else { format!("{pattern}/") };
        for (path, node) in context.iter().filter(|(path, _)| path.starts_with(&prefix)) {
            let target = format!("{to}/{}", &path[prefix.len()..]);
            put(&mut tree, target.trim_start_matches('/'), node)?;
        }
        return Some(tree);
    }
    let into = destination.ends_with('/') || matches!(tree.get(to), Some(Node::Directory(_)));
    let target = if into { format!("{to}/{pattern}") } else { to.to_owned() };
    let target = target.trim_start_matches('/');
    make_dirs(&mut tree, parent(target).unwrap_or_default())?;
    put(&mut tree, target, context.get(pattern)?)?;
    Some(tree)
}

fn make_dirs(tree: &mut Tree, path: &str) -> Option<()> {
    if path.is_empty() {
        return Some(());
    }
    make_dirs(tree, parent(path).unwrap_or_default())?;
    let node = tree.entry(path.to_owned()).or_insert(Node::Directory(0o755));
    matches!(node, Node::Directory(_)).then_some(())
}

fn put(tree: &mut Tree, path: &str, node: &Node) -> Option<()> {
    let is_folder = |node: &Node| matches!(node, Node::Directory(_));
    if tree.get(path).is_some_and(|old| is_folder(old) != is_folder(node)) {
        return None;
    }
    tree.insert(path.to_owned(), node.clone());
    Some(())
}

fn write(root: &Path, tree: &Tree) {
    for (path, node) in tree {
        let path = root.join(path);
        match node {
            Node::Directory(_) => fs::create_dir(&path).unwrap(),
            Node::File(_, content) => fs::write(&path, content).unwrap(),
            Node::Link(target) => symlink(target, &path).unwrap(),
        }
        if let Node::Directory(mode) | Node::File(mode, _) = node {
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
    }
}

fn read(root: &RootDir, folder: &Path, tree: &mut Tree) {
    for entry in root.read_dir(folder).unwrap() {
        let path = folder.join(entry.name);
        let metadata = root.stat(&path).unwrap();
        let node = match metadata.entry_type {
            EntryType::Directory => Node::Directory(metadata.mode),
            EntryType::Symlink => Node::Link(root.read_link(&path).unwrap().display().to_string()),
            _ => {
                let content = root.read_bounded(&path, 1 << 20).unwrap();
                Node::File(metadata.mode, String::from_utf8(content).unwrap())
            }
        };
        tree.insert(path.display().to_string(), node);
        if metadata.is_dir() {
            read(root, &path, tree);
        }
    }
}

/// Trees of few names, so that they meet.
fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        3 => ("[xyz]{0,3}", prop::sample::select(vec![0o644, 0o4755, 0o600]))
            .prop_map(|(content, mode)| Node::File(mode, content)),
        2 => prop::sample::select(vec![0o755, 0o700, 0o1777]).prop_map(Node::Directory),
    ];
    let path = prop::collection::vec("[abc]", 1..4).prop_map(|names| names.join("/"));
    prop::collection::vec((path, leaf), 0..8).prop_map(|wanted| {
        let mut tree = Tree::new();
        for (path, node) in wanted {
            if make_dirs(&mut tree, parent(&path).unwrap_or_default()).is_some() {
                tree.entry(path).or_insert(node);
            }
        }
        tree
    })
}

fn with_links(mut tree: Tree) -> Tree {
    let folders: Vec<_> = tree.iter().filter(|(_, node)| matches!(node, Node::Directory(_))).collect();
    let links: Vec<_> = folders.iter().map(|(path, _)| format!("{path}/l")).collect();
    tree.extend(links.into_iter().map(|path| (path, Node::Link("/etc/passwd".into()))));
    tree
}

fn built(store: &Store, root: &Path, case: &Case) -> Result<Tree, CopyError> {
    let snapshots = store.snapshots();
    let base = store.prepare_layer().unwrap();
    write(base.upper(), &case.image);
    let base = snapshots.commit(base).unwrap();
    let below = store.open_view(std::slice::from_ref(&base)).unwrap();
    let context = root.join("context");
    fs::create_dir(&context).unwrap();
    write(&context, &case.context);

    let (from_base, from) = step_ids();
    let op = CopyOp {
        base: from_base,
        sources: vec![CopySource::Path { from, pattern: case.pattern.clone() }],
        destination: case.destination.clone(),
        chown: None,
        chmod: None,
        unpack: false,
    };
    let globs = [CopyPlan::glob(&case.pattern)?];
    let source = SourceTree::of_context(&context, &IgnoreRules::default(), &globs, &Cancellation::new())?;
    let plan = CopyPlan::resolve(&op.sources, &BTreeMap::from([(from, Arc::new(source))]))?;
    plan.digest_files(&mut BTreeMap::new(), 0)?;
    let layer = store.prepare_layer().unwrap();
    let target = CopyTarget {
        upper: layer.upper(),
        below: Some(below.root()),
        scratch: root,
        previous: None,
        flavour: store.flavour(),
    };
    copy(&op, &plan, &target)?;
    drop(below);
    let layer = snapshots.commit(layer).unwrap();
    let view = store.open_view(&[base, layer]).unwrap();
    let mut seen = Tree::new();
    read(view.root(), Path::new(""), &mut seen);
    Ok(seen)
}

#[derive(Debug)]
struct Case {
    context: Tree,
    image: Tree,
    pattern: String,
    destination: String,
}

#[test]
fn a_copy_means_what_the_model_says() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: overlay mounts of a store need root; run this test as root");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(&root.path().join("store"), &StoreOptions::default()).unwrap();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let cases = (
        tree().prop_map(with_links),
        tree(),
        prop::sample::select(vec![".", "a", "b"]),
        prop::sample::select(vec!["/", "/a", "/a/", "/new/x/", "/b/c", "/c/new"]),
    );
    runner
        .run(&cases, |(context, image, pattern, destination)| {
            let scratch = tempfile::tempdir().unwrap();
            let case = Case { context, image, pattern: pattern.into(), destination: destination.into() };
            let expected = model(&case.context, &case.image, pattern, destination);
            let seen = built(&store, scratch.path(), &case);
            match (expected, seen) {
                (Some(expected), Ok(seen)) => prop_assert_eq!(expected, seen),
                (None, Err(_)) => {}
                (expected, seen) => prop_assert!(false, "the model says {:?}, the copy {:?}", expected, seen),
            }
            Ok(())
        })
        .unwrap();
}
