use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::PathBuf;

use super::*;
use crate::files::FileChange;

/// The image below, and the directory that becomes the layer.
struct World {
    dir: tempfile::TempDir,
}

/// What is seen at each path: content, `-> target`, or nothing for a directory.
type Tree = BTreeMap<String, String>;

impl World {
    fn new(image: &[(&str, &str)]) -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        for name in ["image", "layer", "aside"] {
            fs::create_dir(world.path(name)).unwrap();
        }
        for (path, content) in image {
            let path = world.path("image").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content.strip_prefix("-> ") {
                Some(target) => symlink(target, path).unwrap(),
                None => fs::write(path, content).unwrap(),
            }
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Places a set and answers the merged tree.
    fn place(&self, set: &FileSet, to: &str) -> Result<Tree, CopyError> {
        let tree = Arc::new(write_aside(set, &self.path("aside"), &Cancellation::new())?);
        let placed = [Placed { files: PlacedFiles::Set { set, tree }, to, owner: None, group: None }];
        self.write((&[], &[]), &placed)
    }

    fn write(&self, cleared: (&[String], &[String]), placed: &[Placed<'_>]) -> Result<Tree, CopyError> {
        let below = RootDir::open(&self.path("image")).unwrap();
        place(cleared, placed, &self.path("layer"), Some(&below))?;
        Ok(self.merged())
    }

    /// What overlayfs shows.
    fn merged(&self) -> Tree {
        let mut tree = Tree::new();
        read(&self.path("image"), "", &mut tree);
        apply(&self.path("layer"), "", &mut tree);
        tree
    }
}

fn read(directory: &Path, prefix: &str, tree: &mut Tree) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read(&entry.path(), &format!("{path}/"), tree);
            tree.insert(path, String::new());
        } else {
            tree.insert(path, shown_content(&entry.path()));
        }
    }
}

fn shown_content(path: &Path) -> String {
    match fs::read_link(path) {
        Ok(target) => format!("-> {}", target.display()),
        Err(_) => fs::read_to_string(path).unwrap(),
    }
}

fn apply(directory: &Path, prefix: &str, tree: &mut Tree) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let file_type = entry.file_type().unwrap();
        let is_directory_below = tree.get(&path).is_some_and(String::is_empty);
        if !(file_type.is_dir() && is_directory_below) {
            tree.retain(|other, _| *other != path && !other.starts_with(&format!("{path}/")));
        }
        if file_type.is_dir() {
            apply(&entry.path(), &format!("{path}/"), tree);
            tree.insert(path, String::new());
        } else if !file_type.is_char_device() {
            tree.insert(path, shown_content(&entry.path()));
        }
    }
}

/// A set from pairs of path and content; `-> x` is a link, `!` nothing. Contents are their own names.
fn set(changes: &[(&str, &str)]) -> FileSet {
    let mut changes: Vec<FileChange> = changes
        .iter()
        .map(|(path, content)| FileChange {
            path: path.as_bytes().to_vec(),
            becomes: match (content.strip_prefix("-> "), *content) {
                (Some(target), _) => Becomes::Link { target: target.as_bytes().to_vec() },
                (None, "!") => Becomes::Nothing,
                (None, content) => Becomes::File { mode: 0o644, content: content.to_owned() },
            },
        })
        .collect();
    changes.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    FileSet { changes, mtime: 1_700_000_000, content: Box::new(|name, out| out.write_all(name.as_bytes())) }
}

fn tree(entries: &[(&str, &str)]) -> Tree {
    entries.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
}

#[test]
fn an_archive_is_put_into_a_directory_that_is_made() {
    let world = World::new(&[("etc/passwd", "app:x:12:13::/:/bin/sh\n"), ("etc/group", "staff:x:50:\n")]);
    let set = set(&[("a/b", "1"), ("a/c", "2"), ("d", "-> a/b")]);
    let tree = Arc::new(write_aside(&set, &world.path("aside"), &Cancellation::new()).unwrap());
    let files = PlacedFiles::Set { set: &set, tree };
    let is_root = rustix::process::geteuid().is_root();
    let owner = is_root.then_some("app");
    let placed = [Placed { files, to: "/srv/app", owner, group: None }];
    let merged = world.write((&[], &[]), &placed).unwrap();
    assert_eq!(merged["srv/app/a/b"], "1");
    assert_eq!(merged["srv/app/d"], "-> a/b");
    let stat = |path: &str| fs::symlink_metadata(world.path("layer").join(path)).unwrap();
    assert_eq!(stat("srv/app/a/b").mtime(), 1_700_000_000);
    for path in ["srv", "srv/app", "srv/app/a"] {
        assert_eq!(stat(path).mtime(), 1_700_000_000, "{path}");
    }
    assert_eq!(stat("srv/app/a").mode() & 0o7777, 0o755);
    if is_root {
        for path in ["srv/app", "srv/app/a", "srv/app/a/b", "srv/app/d"] {
            assert_eq!((stat(path).uid(), stat(path).gid()), (12, 13), "{path}");
        }
        assert_eq!(stat("srv").uid(), 0);
    }
}

#[test]
fn what_is_gone_is_removed_and_so_are_directories_that_have_nothing_left() {
    let world = World::new(&[
        ("app/a/b/c", "1"),
        ("app/a/b/d", "2"),
        ("app/e/f", "3"),
        ("app/e/mine", "kept"),
        ("app/g", "4"),
    ]);
    let set = set(&[("a/b/c", "!"), ("a/b/d", "!"), ("e/f", "!"), ("never/there", "!")]);
    let merged = world.place(&set, "/app").unwrap();
    let left = [("app", ""), ("app/e", ""), ("app/e/mine", "kept"), ("app/g", "4")];
    assert_eq!(merged, tree(&left));
}

#[test]
fn types_change_both_ways() {
    let world = World::new(&[
        ("app/file", "1"),
        ("app/folder/x", "2"),
        ("app/folder/mine", "3"),
        ("app/l", "-> file"),
    ]);
    let set = set(&[
        ("file", "!"),
        ("file/now/deep", "4"),
        ("folder", "5"),
        ("folder/x", "!"),
        ("l", "!"),
        ("l/x", "6"),
    ]);
    let merged = world.place(&set, "/app").unwrap();
    let expect = [
        ("app", ""),
        ("app/file", ""),
        ("app/file/now", ""),
        ("app/file/now/deep", "4"),
        ("app/folder", "5"),
        ("app/l", ""),
        ("app/l/x", "6"),
    ];
    assert_eq!(merged, tree(&expect));
}

#[test]
fn nothing_is_written_or_removed_through_a_link_that_an_earlier_step_made() {
    let world = World::new(&[("app/cache", "-> ../var"), ("var/x", "kept")]);
    let merged = world.place(&set(&[("cache/x", "!"), ("cache/y", "new")]), "/app").unwrap();
    assert_eq!(merged["var/x"], "kept");
    assert_eq!(merged["app/cache/y"], "new");
    assert!(!merged.contains_key("var/y"));
}

#[test]
fn a_target_that_is_a_link_is_followed_within_the_image() {
    let world = World::new(&[("app", "-> /srv/real"), ("srv/real/old", "1")]);
    let merged = world.place(&set(&[("new", "2"), ("old", "!")]), "/app").unwrap();
    assert_eq!(merged["app"], "-> /srv/real");
    assert_eq!(merged["srv/real/new"], "2");
    assert!(!merged.contains_key("srv/real/old"));
}

#[test]
fn a_single_file_goes_by_the_name_it_is_given() {
    let world = World::new(&[("etc/app.conf", "old")]);
    assert_eq!(world.place(&set(&[("", "new")]), "/etc/app.conf").unwrap()["etc/app.conf"], "new");
    let world = World::new(&[("etc/app.conf", "old")]);
    assert!(!world.place(&set(&[("", "!")]), "/etc/app.conf").unwrap().contains_key("etc/app.conf"));
}

#[test]
fn hostile_names_are_refused() {
    for paths in [
        &[("../x", "1")][..],
        &[("a/../../x", "1")],
        &[("/etc/x", "1")],
        &[("a", "-> /tmp"), ("a/b", "1")],
        &[("a//b", "1")],
    ] {
        let world = World::new(&[]);
        world.place(&set(paths), "/app").unwrap_err();
        assert_eq!(fs::read_dir(world.path("layer")).unwrap().count(), 0);
    }
}

#[test]
fn emptied_directories_are_there_and_empty() {
    let world = World::new(&[("cache/a/b", "1"), ("cache/c", "2"), ("other", "3")]);
    let paths = ["/cache".to_owned(), "/new/one".to_owned()];
    let merged = world.write((&paths, &[]), &[]).unwrap();
    assert_eq!(merged, tree(&[("cache", ""), ("new", ""), ("new/one", ""), ("other", "3")]));
}

#[test]
fn of_vacated_paths_nothing_is_left_and_nothing_is_made() {
    let world = World::new(&[("cache/a/b", "1"), ("file", "2"), ("other", "3")]);
    let paths = ["/cache", "/file", "/new/one"].map(str::to_owned);
    let merged = world.write((&[], &paths), &[]).unwrap();
    assert_eq!(merged, tree(&[("cache", ""), ("other", "3")]));
    let error = world.write((&[], &["/other/below".to_owned()]), &[]).unwrap_err();
    assert!(error.to_string().contains("a file stands where a directory is needed"), "{error}");
}

#[test]
fn an_import_takes_what_the_filter_says_and_what_leads_there() {
    let world = World::new(&[("out/old", "kept")]);
    let source = World::new(&[
        ("dist/js/app.js", "1"),
        ("dist/js/app.map", "2"),
        ("dist/css/app.css", "3"),
        ("dist/js/deep/x.js", "4"),
        ("elsewhere", "5"),
    ]);
    let root = RootDir::open(&source.path("image")).unwrap();
    let tree_of = SourceTree::of_stage_root(root, &[literal("/dist")], &Cancellation::new()).unwrap();
    let filter = PathFilter::new(["**/*.js"], ["js/deep"]).unwrap();
    let files = PlacedFiles::Tree { tree: Arc::new(tree_of), path: "/dist", filter: &filter };
    let merged = world.write((&[], &[]), &[Placed { files, to: "/out", owner: None, group: None }]).unwrap();
    let expect = [("out", ""), ("out/js", ""), ("out/js/app.js", "1"), ("out/old", "kept")];
    assert_eq!(merged, tree(&expect));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 64, ..Default::default() })]

    /// Whatever a commit was and whatever the next one is: after the difference the files are those of the next one.
    #[test]
    fn a_difference_leads_from_one_tree_to_the_other(before in trees(), after in trees()) {
        let image: Vec<(String, String)> =
            before.iter().map(|(path, content)| (format!("app/{path}"), content.clone())).collect();
        let image: Vec<(&str, &str)> = image.iter().map(|(path, content)| (&path[..], &content[..])).collect();
        let world = World::new(&image);
        let mut changes: Vec<(&str, &str)> =
            after.iter().filter(|(path, content)| before.get(*path) != Some(content)).map(|(path, content)| (&path[..], &content[..])).collect();
        changes.extend(before.keys().filter(|path| !after.contains_key(*path)).map(|path| (&path[..], "!")));
        let mut merged = world.place(&set(&changes), "/app").unwrap();
        merged.retain(|path, content| path.starts_with("app/") && !content.is_empty());
        let expect: Tree = after.iter().map(|(path, content)| (format!("app/{path}"), content.clone())).collect();
        proptest::prop_assert_eq!(&merged, &expect);
        // No directory is left that has no file.
        let mut directories = Tree::new();
        read_directories(&world.merged(), &mut directories);
        for directory in directories.keys().filter(|path| path.starts_with("app/")) {
            proptest::prop_assert!(expect.keys().any(|path| path.starts_with(&format!("{directory}/"))), "{} is empty", directory);
        }
    }
}

fn read_directories(merged: &Tree, directories: &mut Tree) {
    directories.extend(
        merged
            .iter()
            .filter(|(_, content)| content.is_empty())
            .map(|(path, _)| (path.clone(), String::new())),
    );
}

/// Trees as git has them: a path is a file or a folder, never both.
fn trees() -> impl proptest::strategy::Strategy<Value = Tree> {
    use proptest::prelude::*;
    let path = proptest::collection::vec(proptest::sample::select(vec!["a", "b", "c"]), 1..4);
    let content = proptest::sample::select(vec!["1", "2", "-> b", "-> a/b"]);
    proptest::collection::btree_map(path.prop_map(|names| names.join("/")), content, 0..10).prop_map(
        |files| {
            let mut tree = Tree::new();
            for (path, content) in files {
                let is_free = |other: &String| {
                    !other.starts_with(&format!("{path}/")) && !path.starts_with(&format!("{other}/"))
                };
                if tree.keys().all(is_free) {
                    tree.insert(path, content.to_owned());
                }
            }
            tree
        },
    )
}
