use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;

use strake_graph::pattern::IgnoreRules;
use strake_graph::{CopySource, Graph, ModeChange, Op, Span, Step, StepId};
use strake_oci::{DiffId, Digest, Platform};
use strake_store::Flavour;

use super::*;
use crate::build_context::SourceTree;
use crate::request::Cancellation;

/// A context, an image and a new layer, all removed at the end of the test.
struct World {
    dir: tempfile::TempDir,
    ids: [StepId; 3],
    cancellation: Cancellation,
}

/// A layer that was written, and what the copy said of it.
struct Layer {
    path: PathBuf,
    copied: Copied,
}

impl World {
    fn new() -> Self {
        // Modes of files are what is copied; whoever runs the tests may have another umask.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let mut graph = Graph::new();
        let step = || Step {
            op: Op::Scratch,
            platform: Platform::linux("amd64"),
            span: Span::default(),
            label: String::new(),
            stage: String::new(),
            position: None,
            no_cache: false,
            named: None,
        };
        let ids = [graph.push_step(step()), graph.push_step(step()), graph.push_step(step())];
        let world = Self { dir: tempfile::tempdir().unwrap(), ids, cancellation: Cancellation::new() };
        for folder in ["context", "image", "stage"] {
            fs::create_dir(world.dir.path().join(folder)).unwrap();
            fs::set_permissions(world.dir.path().join(folder), fs::Permissions::from_mode(0o755)).unwrap();
        }
        world
    }

    /// A world whose context and image have these files; what ends with a `/` is a directory.
    fn with(context: &[&str], image: &[&str]) -> Self {
        let world = Self::new();
        for (folder, files) in [("context", context), ("image", image)] {
            for file in files {
                world.write(&format!("{folder}/{file}"), file);
            }
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        if name.ends_with('/') {
            return fs::create_dir_all(path).unwrap();
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn link(&self, name: &str, target: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        symlink(target, self.path(name)).unwrap();
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn op(&self, sources: &[&str], destination: &str) -> CopyOp {
        let source = |pattern: &&str| match pattern.strip_prefix("stage:") {
            Some(pattern) => CopySource::Path { from: self.ids[2], pattern: pattern.to_owned() },
            None => CopySource::Path { from: self.ids[1], pattern: (*pattern).to_owned() },
        };
        CopyOp {
            base: self.ids[0],
            sources: sources.iter().map(source).collect(),
            destination: destination.to_owned(),
            chown: None,
            chmod: None,
            unpack: false,
        }
    }

    fn plan(&self, op: &CopyOp, ignore: &str) -> Result<CopyPlan, CopyError> {
        let globs = |id: StepId| -> Vec<_> {
            let pattern = |source: &CopySource| match source {
                CopySource::Path { from, pattern } if *from == id => Some(CopyPlan::glob(pattern).unwrap()),
                _ => None,
            };
            op.sources.iter().filter_map(pattern).collect()
        };
        let ignore = IgnoreRules::parse(ignore.as_bytes()).unwrap();
        let context =
            SourceTree::of_context(&self.path("context"), &ignore, &globs(self.ids[1]), &self.cancellation)?;
        let stage = RootDir::open(&self.path("stage")).unwrap();
        let stage = SourceTree::of_stage_root(stage, &globs(self.ids[2]), &self.cancellation)?;
        let trees = BTreeMap::from([(self.ids[1], Arc::new(context)), (self.ids[2], Arc::new(stage))]);
        let plan = CopyPlan::resolve(&op.sources, &trees)?;
        plan.digest_files(&mut BTreeMap::new(), 0)?;
        Ok(plan)
    }

    fn run(&self, op: &CopyOp, previous: Option<&Layer>) -> Result<Layer, CopyError> {
        let plan = self.plan(op, "")?;
        let number = fs::read_dir(self.dir.path()).unwrap().count();
        let path = self.path(&format!("layer{number}"));
        let scratch = self.path(&format!("scratch{number}"));
        fs::create_dir(&path).unwrap();
        fs::create_dir(&scratch).unwrap();
        let below = RootDir::open(&self.path("image")).unwrap();
        let previous = previous.map(|layer| Previous { dir: &layer.path, files: &layer.copied.files });
        let target = CopyTarget {
            upper: &path,
            below: Some(&below),
            scratch: &scratch,
            previous,
            flavour: Flavour::Trusted,
        };
        let copied = copy(op, &plan, &target)?;
        if let Some(tar) = copied.tar {
            assert_eq!(tar, tar_of(&path), "the tar that was made on the way is that of the directory");
        }
        Ok(Layer { path, copied })
    }

    fn copy(&self, sources: &[&str], destination: &str) -> Layer {
        self.run(&self.op(sources, destination), None).unwrap()
    }

    fn refusal(&self, sources: &[&str], destination: &str) -> String {
        self.run(&self.op(sources, destination), None).err().expect("the copy is refused").to_string()
    }
}

impl Layer {
    /// Every path below the layer with its type, mode and content, sorted.
    fn tree(&self) -> Vec<String> {
        let mut lines = Vec::new();
        describe(&self.path, "", &mut lines);
        lines
    }

    fn stat(&self, name: &str) -> fs::Metadata {
        fs::symlink_metadata(self.path.join(name)).unwrap()
    }
}

/// The tar of a finished layer directory.
fn tar_of(layer: &Path) -> LayerTar {
    let mut bytes = Vec::new();
    strake_store::tar::diff(layer, &mut bytes, &strake_store::tar::DiffOptions::default()).unwrap();
    LayerTar { diff_id: DiffId(Digest::of(&bytes)), size: bytes.len() as u64 }
}

fn describe(folder: &Path, prefix: &str, lines: &mut Vec<String>) {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = folder.join(&name);
        let shown = format!("{prefix}{}", name.to_string_lossy());
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mode = metadata.mode() & 0o7777;
        if metadata.is_dir() {
            lines.push(format!("{shown}/ {mode:o}"));
            describe(&path, &format!("{shown}/"), lines);
        } else if metadata.is_symlink() {
            lines.push(format!("{shown} -> {}", fs::read_link(&path).unwrap().display()));
        } else {
            lines.push(format!("{shown} {mode:o} {}", String::from_utf8_lossy(&fs::read(&path).unwrap())));
        }
    }
}

#[test]
fn destinations_are_what_docker_makes_of_them() {
    let world = World::with(&["dir/a", "dir/sub/b", "f"], &["exist/x", "file"]);
    world.mode("context/dir", 0o700);
    world.mode("context/dir/sub", 0o750);
    world.mode("image/exist", 0o711);
    let tree = |sources: &[&str], destination: &str| world.copy(sources, destination).tree();
    assert_eq!(tree(&["f"], "/new"), ["new 644 f"]);
    assert_eq!(tree(&["f"], "/new/"), ["new/ 755", "new/f 644 f"]);
    assert_eq!(tree(&["f"], "/a/b/c"), ["a/ 755", "a/b/ 755", "a/b/c 644 f"]);
    assert_eq!(tree(&["f"], "/exist"), ["exist/ 711", "exist/f 644 f"]);
    assert_eq!(tree(&["f"], "/file"), ["file 644 f"]);
    assert_eq!(
        tree(&["dir"], "/new"),
        ["new/ 755", "new/a 644 dir/a", "new/sub/ 750", "new/sub/b 644 dir/sub/b"]
    );
    assert_eq!(
        tree(&["dir/"], "/exist"),
        ["exist/ 711", "exist/a 644 dir/a", "exist/sub/ 750", "exist/sub/b 644 dir/sub/b"]
    );
    assert_eq!(
        tree(&["di*", "f"], "/exist")[1..],
        ["exist/a 644 dir/a", "exist/f 644 f", "exist/sub/ 750", "exist/sub/b 644 dir/sub/b"]
    );
    assert_eq!(tree(&["dir/**/b"], "/n/"), ["n/ 755", "n/b 644 dir/sub/b"]);
    assert_eq!(
        tree(&["."], "/"),
        ["dir/ 700", "dir/a 644 dir/a", "dir/sub/ 750", "dir/sub/b 644 dir/sub/b", "f 644 f"]
    );
}

#[test]
fn what_does_not_fit_is_refused_with_the_path() {
    let world = World::with(&["dir/file/x", "f", "g", "lib/x", "name"], &["file", "name/inside"]);
    world.link("image/lib", "usr/lib");
    world.write("context/.wh.gone", "");
    for (sources, destination, expected) in [
        (&["dir"][..], "/", "copy to file: a directory cannot replace the file or link that is there"),
        (&["dir"], "/file", "copy to file: a file or link stands where a directory is needed"),
        (&["f"], "/file/", "copy to file: a file or link stands where a directory is needed"),
        (&["f"], "/file/z", "copy to /file/z: a file stands where a directory is needed"),
        (&["."], "/", "lib: a directory cannot replace the file or link that is there"),
        (&["f", "g"], "/new", "several sources need a directory there"),
        (&["name"], "/", "copy to name: a file cannot replace the directory that is there"),
        (&[".wh.gone"], "/", "cannot be stored"),
        (&["missing"], "/", "`missing` not found in the build context"),
        (&["stage:missing"], "/", "`missing` not found in the stage"),
    ] {
        if sources == ["."] {
            fs::remove_file(world.path("context/.wh.gone")).unwrap();
            fs::remove_dir_all(world.path("context/dir")).unwrap();
            let error = world.refusal(sources, destination);
            assert!(error.contains(expected), "{error}");
            world.write("context/.wh.gone", "");
            world.write("context/dir/file/x", "");
            continue;
        }
        let error = world.refusal(sources, destination);
        assert!(error.contains(expected), "{sources:?} {destination}: {error}");
    }
    assert_eq!(world.copy(&["x*", "f"], "/new/").tree(), ["new/ 755", "new/f 644 f"]);
    // Wildcards that select nothing at all are as good as an empty directory, but somebody should know.
    let plan = world.plan(&world.op(&["x*"], "/new/"), "").unwrap();
    assert_eq!(plan.notes, ["`x*` not found in the build context"]);
}

#[test]
fn the_ignore_file_is_named_when_it_hides_a_source() {
    let world = World::with(&["a", "b"], &[]);
    let error = world.plan(&world.op(&["a"], "/"), "# x\na\n").unwrap_err().to_string();
    assert_eq!(error, "`a` not found in the build context; line 2 of the ignore file excludes it");
}

#[test]
fn destinations_go_through_the_links_of_the_image_and_never_out_of_it() {
    let world = World::with(&["f"], &["run/x", "etc/target"]);
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    world.link("image/var/run", "/run");
    world.link("image/filelink", "/etc/target");
    world.link("image/dangling", "/nowhere/deep");
    world.link("image/escape", "../../../../../../outside");
    world.link("image/host", outside.to_str().unwrap());
    world.link("image/loop", "loop");
    assert_eq!(world.copy(&["f"], "/var/run/y").tree(), ["run/ 755", "run/y 644 f"]);
    assert_eq!(world.copy(&["f"], "/filelink").tree(), ["etc/ 755", "etc/target 644 f"]);
    assert_eq!(
        world.copy(&["f"], "/dangling/").tree(),
        ["nowhere/ 755", "nowhere/deep/ 755", "nowhere/deep/f 644 f"]
    );
    assert_eq!(world.copy(&["f"], "/escape/z").tree(), ["outside/ 755", "outside/z 644 f"]);
    assert_eq!(world.copy(&["f"], "/../../up").tree(), ["up 644 f"]);
    world.copy(&["f"], "/host/");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing leaves the layer");
    assert!(world.refusal(&["f"], "/loop/x").contains("resolve /loop/x"));
}

#[test]
fn metadata_is_kept_where_docker_keeps_it() {
    let world = World::with(&["d/a", "d/set"], &[]);
    world.link("context/d/l", "a");
    fs::hard_link(world.path("context/d/a"), world.path("context/d/z")).unwrap();
    world.mode("context/d/set", 0o4755);
    std::os::unix::fs::chown(world.path("context/d/a"), Some(55), Some(66)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    fs::File::open(world.path("context/d/a")).unwrap().set_modified(time).unwrap();
    let layer = world.copy(&["d"], "/n");
    assert_eq!(layer.tree(), ["n/ 755", "n/a 644 d/a", "n/l -> a", "n/set 4755 d/set", "n/z 644 d/a"]);
    let a = layer.stat("n/a");
    assert_eq!((a.uid(), a.gid(), a.mtime(), a.mtime_nsec()), (0, 0, 1_000_000_000, 123_456_789));
    assert_eq!(a.ino(), layer.stat("n/z").ino(), "hard links within a source stay");
    let link = fs::symlink_metadata(world.path("context/d/l")).unwrap();
    assert_eq!(layer.stat("n/l").mtime_nsec(), link.mtime_nsec());
}

#[test]
fn stages_keep_owners_and_attributes_contexts_do_not() {
    let world = World::with(&["f"], &[]);
    for name in ["stage/d/f", "context/f"] {
        world.write(name, "x");
        let file = fs::File::open(world.path(name)).unwrap();
        rustix::fs::fsetxattr(&file, "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
        std::os::unix::fs::chown(world.path(name), Some(7), Some(8)).unwrap();
        fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o6711)).unwrap();
    }
    let attribute = |layer: &Layer, name: &str| {
        let mut value = [0; 16];
        rustix::fs::lgetxattr(layer.path.join(name), "user.note", &mut value[..]).ok()
    };
    let layer = world.copy(&["stage:d", "f"], "/n/");
    let file = layer.stat("n/f");
    assert_eq!((file.uid(), file.gid(), attribute(&layer, "n/f")), (0, 0, None), "the later source wins");
    let layer = world.copy(&["stage:d"], "/n");
    let file = layer.stat("n/f");
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (7, 8, 0o6711));
    assert_eq!(attribute(&layer, "n/f"), Some(4));
}

#[test]
fn owners_come_from_the_image_and_modes_from_the_instruction() {
    let world = World::with(&["d/a", "d/s/b"], &[]);
    world.write("image/etc/passwd", "root:x:0:0::/:/x\nbob:x:1234:1235::/:/x\n");
    world.write("image/etc/group", "staff:x:50:\n");
    let owned = |spec: &str| {
        let op = CopyOp { chown: Some(spec.into()), ..world.op(&["d"], "/p/q") };
        let layer = world.run(&op, None)?;
        let owner = |name| (layer.stat(name).uid(), layer.stat(name).gid());
        assert_eq!(owner("p"), owner("p/q/a"), "new parents belong to the same owner");
        Ok::<_, CopyError>(owner("p/q/s"))
    };
    assert_eq!(owned("bob").unwrap(), (1234, 1235));
    assert_eq!(owned("bob:staff").unwrap(), (1234, 50));
    assert_eq!(owned("77").unwrap(), (77, 77));
    assert_eq!(owned("5:6").unwrap(), (5, 6));
    assert!(owned("nobody").unwrap_err().to_string().starts_with("owner `nobody`"));
    let op = CopyOp { chmod: Some(ModeChange::Octal(0o4710)), ..world.op(&["d"], "/m") };
    assert_eq!(
        world.run(&op, None).unwrap().tree(),
        ["m/ 755", "m/a 4710 d/a", "m/s/ 4710", "m/s/b 4710 d/s/b"]
    );
}

#[test]
fn a_heredoc_is_a_file() {
    let world = World::with(&[], &["d/x"]);
    let mut op = world.op(&[], "/d");
    op.sources = vec![CopySource::Inline { name: "note".into(), content: b"hello".to_vec() }];
    assert_eq!(world.run(&op, None).unwrap().tree(), ["d/ 755", "d/note 644 hello"]);
    op.destination = "/other".into();
    assert_eq!(world.run(&op, None).unwrap().tree(), ["other 644 hello"]);
}

#[test]
fn unchanged_files_are_linked_from_the_earlier_layer() {
    let world = World::with(&["a", "b", "c", "d/e"], &[]);
    let op = world.op(&["."], "/n");
    let first = world.run(&op, None).unwrap();
    world.write("context/b", "B");
    world.mode("context/c", 0o600);
    let second = world.run(&op, Some(&first)).unwrap();
    assert_eq!(second.copied.linked, 2);
    assert_eq!(second.tree(), ["n/ 755", "n/a 644 a", "n/b 644 B", "n/c 600 c", "n/d/ 755", "n/d/e 644 d/e"]);
    assert_eq!(first.tree(), ["n/ 755", "n/a 644 a", "n/b 644 b", "n/c 644 c", "n/d/ 755", "n/d/e 644 d/e"]);
    assert_eq!(first.stat("n/a").ino(), second.stat("n/a").ino());
    let restored = LayerFiles::from_bytes(&first.copied.files.to_bytes()).unwrap();
    assert_eq!(restored, first.copied.files);
    // Content decides, whatever the times say.
    let time = fs::metadata(world.path("context/a")).unwrap().modified().unwrap();
    world.write("context/a", "A");
    fs::File::options().write(true).open(world.path("context/a")).unwrap().set_modified(time).unwrap();
    assert!(world.run(&op, Some(&second)).unwrap().tree().contains(&"n/a 644 A".to_owned()));
}

#[test]
fn a_file_that_lost_its_attributes_is_not_linked_from_a_layer_where_it_had_them() {
    let world = World::with(&[], &[]);
    world.write("stage/d/tool", "x");
    let path = world.path("stage/d/tool");
    let file = fs::File::open(&path).unwrap();
    rustix::fs::fsetxattr(&file, "user.note", b"once", rustix::fs::XattrFlags::empty()).unwrap();
    let op = world.op(&["stage:d"], "/n");
    let first = world.run(&op, None).unwrap();
    // Its times stay what they are: it may be the file of a layer further down, which another step had changed.
    rustix::fs::fremovexattr(&file, "user.note").unwrap();
    let second = world.run(&op, Some(&first)).unwrap();
    let mut value = [0; 16];
    assert!(rustix::fs::lgetxattr(second.path.join("n/tool"), "user.note", &mut value[..]).is_err());
}

#[test]
fn listings_name_what_differs_and_ignore_times() {
    let world = World::with(&["d/a", "d/b", "d/c", "d/t", "other"], &[]);
    let op = world.op(&["d"], "/n");
    let listing = || world.plan(&op, "").unwrap().listing();
    let first = listing();
    world.write("context/other", "changed");
    fs::File::open(world.path("context/d/a")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(listing().digest(), first.digest(), "neither times nor what was not selected count");
    world.write("context/d/a", "new");
    world.mode("context/d/b", 0o600);
    fs::remove_file(world.path("context/d/c")).unwrap();
    fs::remove_file(world.path("context/d/t")).unwrap();
    world.link("context/d/t", "a");
    world.write("context/d/z", "");
    let second = listing();
    assert_ne!(second.digest(), first.digest());
    let changes: Vec<_> =
        second.difference(&first).into_iter().map(|change| (change.kind, shown(&change.path))).collect();
    let expected = [
        (ChangeKind::Content, "d/a"),
        (ChangeKind::Mode, "d/b"),
        (ChangeKind::Removed, "d/c"),
        (ChangeKind::Type, "d/t"),
        (ChangeKind::Added, "d/z"),
    ];
    assert_eq!(changes, expected.map(|(kind, path)| (kind, path.to_owned())));
    assert_eq!(Listing::from_bytes(&second.to_bytes()), Ok(second.clone()));
    assert_eq!(Listing::from_bytes(&second.to_bytes()[1..]), Err(ListingError));
    assert_eq!(Listing::from_bytes(&second.to_bytes()[..90]), Err(ListingError));
}

#[test]
fn a_file_and_a_directory_with_it_are_not_the_same_selection() {
    let file = World::with(&["x"], &[]);
    file.write("context/x", "same");
    let folder = World::with(&[], &[]);
    folder.write("context/x/x", "same");
    let digest = |world: &World| world.plan(&world.op(&["x"], "/n"), "").unwrap().listing().digest();
    assert_ne!(digest(&file), digest(&folder));
    // The name of a selected folder is not copied.
    folder.write("context/y/x", "same");
    let digest = |pattern: &str| folder.plan(&folder.op(&[pattern], "/n"), "").unwrap().listing().digest();
    assert_eq!(digest("x"), digest("y"));
}

#[test]
fn a_file_that_changes_between_signature_and_copy_is_refused() {
    let world = World::with(&["a"], &[]);
    let op = world.op(&["a"], "/n");
    let plan = world.plan(&op, "").unwrap();
    world.write("context/a", "b");
    let upper = world.path("upper");
    fs::create_dir(&upper).unwrap();
    let target =
        CopyTarget { upper: &upper, below: None, scratch: &upper, previous: None, flavour: Flavour::Trusted };
    let error = copy(&op, &plan, &target).unwrap_err().to_string();
    assert!(error.contains("read a: the file changed"), "{error}");
}

#[test]
fn an_archive_that_changes_between_signature_and_unpacking_is_refused() {
    let world = World::new();
    let write = |content: &[u8]| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, "x", content).unwrap();
        fs::write(world.path("context/archive.tar"), builder.into_inner().unwrap()).unwrap();
    };
    write(b"old");
    let op = CopyOp { unpack: true, ..world.op(&["archive.tar"], "/") };
    let plan = world.plan(&op, "").unwrap();
    // Beyond the grain of the file system's clock.
    std::thread::sleep(std::time::Duration::from_millis(20));
    write(b"new");
    let (upper, scratch) = (world.path("upper"), world.path("scratch"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&scratch).unwrap();
    let target = CopyTarget {
        upper: &upper,
        below: None,
        scratch: &scratch,
        previous: None,
        flavour: Flavour::Trusted,
    };
    let error = copy(&op, &plan, &target).unwrap_err().to_string();
    assert!(error.contains("read archive.tar: the file changed"), "{error}");
}

#[test]
fn archives_are_recognised_by_content_and_unpacked() {
    let world = World::with(&["plain.tar"], &["usr/lib/x"]);
    world.link("image/lib", "usr/lib");
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o711 } else { 0o640 });
        header.set_uid(9);
        header.set_gid(10);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content).unwrap();
    };
    add("pack/", tar::EntryType::Directory, b"");
    add("pack/x", tar::EntryType::Regular, b"content");
    add("lib/y", tar::EntryType::Regular, b"through the link");
    let bytes = builder.into_inner().unwrap();
    fs::write(world.path("context/archive.txt"), bytes).unwrap();
    let op = CopyOp { unpack: true, ..world.op(&["archive.txt"], "/") };
    let layer = world.run(&op, None).unwrap();
    assert_eq!(
        layer.tree(),
        ["pack/ 711", "pack/x 640 content", "usr/ 755", "usr/lib/ 755", "usr/lib/y 640 through the link"]
    );
    assert_eq!((layer.stat("pack/x").uid(), layer.stat("pack/x").mtime()), (9, 1_000_000_000));
    let op = CopyOp { chown: Some("5".into()), ..op };
    assert_eq!(world.run(&op, None).unwrap().stat("pack/x").gid(), 5);
    let op = CopyOp { unpack: true, ..world.op(&["plain.tar"], "/new") };
    assert_eq!(
        world.run(&op, None).unwrap().tree(),
        ["new 644 plain.tar"],
        "a name does not make an archive"
    );
    assert_eq!(world.copy(&["archive.txt"], "/new").tree().len(), 1, "COPY never unpacks");
}

#[test]
fn a_working_directory_is_made_once() {
    let world = World::with(&[], &["srv/app/x"]);
    world.link("image/alias", "/srv");
    world.write("image/etc/passwd", "bob:x:12:13::/:/x\n");
    let below = RootDir::open(&world.path("image")).unwrap();
    let mut number = 0;
    let mut make = |path: &str, user: &str| {
        number += 1;
        let upper = world.path(&format!("work{number}"));
        fs::create_dir(&upper).unwrap();
        let op = strake_graph::MakeDirOp { base: world.ids[0], path: path.into(), user: user.into() };
        let made = crate::step::make_dir::make_dir(&op, &upper, Some(&below)).unwrap();
        let mut tree = Vec::new();
        describe(&upper, "", &mut tree);
        (made, tree, upper)
    };
    assert_eq!((make("/srv/app", "").0, make("/alias/app/", "").0, make("/", "").0), (false, false, false));
    let (made, tree, upper) = make("/alias/app/new/deep", "bob");
    assert!(made);
    assert_eq!(tree, ["srv/ 755", "srv/app/ 755", "srv/app/new/ 755", "srv/app/new/deep/ 755"]);
    let owner = |name: &str| fs::metadata(upper.join(name)).unwrap().uid();
    assert_eq!((owner("srv/app"), owner("srv/app/new"), owner("srv/app/new/deep")), (0, 12, 12));
}

/// A tree with what makes a tar difficult: names around the separator's place in the order, long paths, large files,
/// more files than a batch has.
fn difficult(world: &World, folder: &str) {
    for name in ["a/x", "a.b", "a-b/y", "a b/z", "ab", "\u{e4}/\u{f6}", "a/\u{1}/q", "empty"] {
        world.write(&format!("{folder}/{name}"), name);
    }
    world.write(&format!("{folder}/{}/{}", "d".repeat(120), "f".repeat(200)), "long");
    world.write(&format!("{folder}/nothing"), "");
    world.write(&format!("{folder}/block"), &"b".repeat(512));
    world.write(&format!("{folder}/m/at the limit"), &"l".repeat(256 << 10));
    world.write(&format!("{folder}/m/large"), &"large".repeat(300_001));
    for number in 0..700 {
        world.write(&format!("{folder}/many/{}/{number}", number % 7), &"n".repeat(number * 7));
    }
    world.link(&format!("{folder}/link"), &"t".repeat(150));
    world.mode(&format!("{folder}/ab"), 0o4755);
    world.mode(&format!("{folder}/a"), 0o1777);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.path(&format!("{folder}/pipe")),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
}

#[test]
fn the_tar_is_known_when_the_layer_is_written() {
    let world = World::with(&[], &["there/old"]);
    difficult(&world, "context/from");
    difficult(&world, "stage/other");
    fs::File::open(world.path("context/from/a/x")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let before = std::time::UNIX_EPOCH - std::time::Duration::from_millis(1500);
    fs::File::open(world.path("context/from/ab")).unwrap().set_modified(before).unwrap();
    world.write("context/from/only here", "before");
    let mut op = world.op(&["from", "stage:other"], "/there/new/");
    op.sources.push(CopySource::Inline { name: "heredoc".to_owned(), content: b"inline".to_vec() });
    let first = world.run(&op, None).unwrap();
    assert!(first.copied.tar.is_some(), "the tar was made on the way");
    assert!(fs::read_dir(first.path.join("there/new/many")).unwrap().count() == 7);

    world.write("context/from/only here", "after");
    let second = world.run(&op, Some(&first)).unwrap();
    assert!(second.copied.linked > 500, "unchanged files are linked");
    assert!(second.copied.tar.is_some(), "linked files are in the tar too");
    assert_ne!(second.copied.tar, first.copied.tar);

    op.chown = Some("70000:3000000".to_owned());
    op.chmod = Some(ModeChange::Octal(0o640));
    if rustix::process::geteuid().is_root() {
        assert!(world.run(&op, None).unwrap().copied.tar.is_some());
    }
}

#[test]
fn a_tar_with_hard_links_is_left_to_whoever_reads_the_layer() {
    let world = World::with(&["d/one"], &[]);
    fs::hard_link(world.path("context/d/one"), world.path("context/d/a second name")).unwrap();
    let layer = world.copy(&["d"], "/d");
    assert_eq!(layer.copied.tar, None);
    assert_eq!(layer.stat("d/one").nlink(), 2);
}

#[test]
fn a_stopped_build_copies_nothing_more() {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    archive.append_data(&mut header, "x", &b"x"[..]).unwrap();
    let archive = archive.into_inner().unwrap();
    for (unpack, source) in [(false, "f"), (false, "stage:f"), (true, "f")] {
        let world = World::with(&[], &[]);
        fs::write(world.path("context/f"), &archive).unwrap();
        fs::write(world.path("stage/f"), &archive).unwrap();
        let op = CopyOp { unpack, ..world.op(&[source], "/") };
        let plan = world.plan(&op, "").unwrap();
        world.cancellation.cancel();
        let (upper, scratch) = (world.path("upper"), world.path("scratch"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&scratch).unwrap();
        let target = CopyTarget {
            upper: &upper,
            below: None,
            scratch: &scratch,
            previous: None,
            flavour: Flavour::Trusted,
        };
        let stopped = copy(&op, &plan, &target);
        assert!(matches!(stopped, Err(CopyError::Source(SourceError::Stopped))), "{stopped:?}");
        assert_eq!(fs::read_dir(&upper).unwrap().count(), 0);
    }
}
