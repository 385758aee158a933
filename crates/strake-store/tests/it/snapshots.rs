//! The contract of snapshotters, run on both.

use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use strake_store::{ActiveSnapshot, LayerId, SnapshotMount, SnapshotterChoice, Store, StoreError};

use super::fixture::{dir, file, fixture_with, hard_link, symlink, tar, unpack_all};

/// A step: what it does to the root file system that it is given.
fn step(store: &Store, parents: &[LayerId], work: impl FnOnce(&Path)) -> LayerId {
    let active = store.snapshots().prepare(parents).unwrap();
    run(&active, work);
    store.snapshots().commit(active).unwrap()
}

/// Mounts as the executor would, but attached nowhere.
fn run(active: &ActiveSnapshot, work: impl FnOnce(&Path)) {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
        fsmount, fsopen,
    };
    match active.mount() {
        SnapshotMount::Directory(path) => work(&path),
        SnapshotMount::Overlay { lowers, upper, work: work_dir, user_xattr } => {
            let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
            for (key, value) in [
                ("index", "off"),
                ("redirect_dir", if user_xattr { "nofollow" } else { "off" }),
                ("metacopy", "off"),
                ("xino", "off"),
            ] {
                fsconfig_set_string(&context, key, value).unwrap();
            }
            if user_xattr {
                fsconfig_set_flag(&context, "userxattr").unwrap();
            }
            lowers.iter().rev().for_each(|lower| fsconfig_set_string(&context, "lowerdir+", lower).unwrap());
            fsconfig_set_string(&context, "upperdir", &upper).unwrap();
            fsconfig_set_string(&context, "workdir", &work_dir).unwrap();
            fsconfig_set_flag(&context, "volatile").unwrap();
            fsconfig_create(&context).unwrap();
            let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
            work(&PathBuf::from(format!("/proc/self/fd/{}/", mount.as_raw_fd())));
        }
    }
}

fn base(store: &Store) -> Vec<LayerId> {
    let base = tar(&[
        dir("./"),
        dir("d"),
        file("d/f", "old"),
        file("d/g", "old"),
        dir("d/sub"),
        file("d/sub/x", "x"),
        file("gone", ""),
        symlink("l", "d"),
        file("one", "1"),
        hard_link("two", "one"),
        dir("replaced"),
        file("replaced/below", ""),
    ]);
    unpack_all(store, &[base]).unwrap()
}

fn on_both(check: impl Fn(&Store)) {
    for choice in [SnapshotterChoice::Automatic, SnapshotterChoice::Copy] {
        let fixture = fixture_with(choice);
        eprintln!("with {:?}", fixture.store.snapshots().kind());
        check(&fixture.store);
        let left: Vec<_> = std::fs::read_dir(fixture.store.root().join("active")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn read(store: &Store, layers: &[LayerId], path: &str) -> Option<String> {
    let view = store.open_view(layers).unwrap();
    let content = view.root().read_bounded(Path::new(path), 1000).ok()?;
    Some(String::from_utf8(content).unwrap())
}

#[test]
fn a_step_sees_what_is_below_and_leaves_only_its_changes() {
    on_both(|store| {
        let mut layers = base(store);
        let layer = step(store, &layers, |root| {
            assert_eq!(std::fs::read_to_string(root.join("d/f")).unwrap(), "old");
            assert_eq!(std::fs::read_to_string(root.join("two")).unwrap(), "1");
            std::fs::write(root.join("d/f"), "changed").unwrap();
            std::fs::remove_file(root.join("gone")).unwrap();
            std::fs::create_dir_all(root.join("new/dir")).unwrap();
            std::fs::write(root.join("new/dir/file"), "new").unwrap();
            std::fs::remove_dir_all(root.join("replaced")).unwrap();
            std::fs::create_dir(root.join("replaced")).unwrap();
            std::fs::write(root.join("replaced/above"), "above").unwrap();
        });
        let upper = store.layer_dir(&layer);
        assert!(!upper.join("d/g").exists() && !upper.join("one").exists() && !upper.join("d/sub").exists());
        layers.push(layer);
        assert_eq!(read(store, &layers, "d/f").as_deref(), Some("changed"));
        assert_eq!(read(store, &layers, "l/g").as_deref(), Some("old"));
        assert_eq!(read(store, &layers, "gone"), None);
        assert_eq!(read(store, &layers, "new/dir/file").as_deref(), Some("new"));
        assert_eq!(read(store, &layers, "replaced/below"), None);
        assert_eq!(read(store, &layers, "replaced/above").as_deref(), Some("above"));
        assert_eq!(read(store, &layers, "d/sub/x").as_deref(), Some("x"));
        // And the layer alone says the same as a tar.
        let mut tar = Vec::new();
        strake_store::tar::diff(&upper, &mut tar, &strake_store::tar::DiffOptions::default()).unwrap();
        for name in [".wh.gone", "d/f", "new/dir/"] {
            assert!(tar.windows(name.len()).any(|window| window == name.as_bytes()), "{name}");
        }
        // A directory made anew may get the old inode; the copying snapshotter then names what is gone.
        let hides = ["replaced/.wh..wh..opq", "replaced/.wh.below"];
        assert!(hides.iter().any(|name| tar.windows(name.len()).any(|window| window == name.as_bytes())));
    });
}

#[test]
fn both_make_the_same_layer() {
    let probe = fixture_with(SnapshotterChoice::Automatic);
    if probe.store.snapshots().kind() == strake_store::SnapshotterKind::Copy {
        return super::fixture::missing("overlayfs in the temporary directory");
    }
    let digest = |choice| {
        let fixture = fixture_with(choice);
        let layers = base(&fixture.store);
        let layer = step(&fixture.store, &layers, |root| {
            std::fs::write(root.join("d/new"), "1").unwrap();
            std::fs::remove_dir_all(root.join("d/sub")).unwrap();
            std::fs::remove_file(root.join("l")).unwrap();
            std::fs::create_dir(root.join("l")).unwrap();
            std::fs::set_permissions(root.join("one"), std::fs::Permissions::from_mode(0o600)).unwrap();
        });
        strake_store::tar::content_digest(
            &fixture.store.layer_dir(&layer),
            strake_store::tar::Times::Ignored,
        )
        .unwrap();
        super::fixture::describe(&fixture.store.layer_dir(&layer)).keys().cloned().collect::<Vec<_>>()
    };
    let overlay: Vec<_> = digest(SnapshotterChoice::Automatic);
    let copy: Vec<_> = digest(SnapshotterChoice::Copy);
    // A copy keeps both names of a changed file linked; overlayfs copies up only the one that was named.
    let copy: Vec<_> = copy.into_iter().filter(|path| path != b"two").collect();
    assert_eq!(overlay, copy);
}

#[test]
fn the_root_directory_keeps_its_mode_and_may_change_it() {
    on_both(|store| {
        let mut layers =
            unpack_all(store, &[tar(&[super::fixture::Raw { mode: 0o710, ..dir("./") }])]).unwrap();
        layers.push(step(store, &layers, |root| std::fs::write(root.join("x"), "").unwrap()));
        let mode =
            |layers: &[LayerId]| store.open_view(layers).unwrap().root().stat(Path::new("")).unwrap().mode;
        assert_eq!(mode(&layers), 0o710);
        let prepared = store.prepare_layer_on(&layers).unwrap();
        layers.push(store.snapshots().commit(prepared).unwrap());
        assert_eq!(mode(&layers), 0o710);
        layers.push(step(store, &layers, |root| {
            std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o751)).unwrap();
        }));
        assert_eq!(mode(&layers), 0o751);
        let mut tar = Vec::new();
        let options = strake_store::tar::DiffOptions::default();
        strake_store::tar::diff(&store.layer_dir(&layers[3]), &mut tar, &options).unwrap();
        assert!(tar.starts_with(b"./\0"), "the tar says so too");
    });
}

#[test]
fn no_parents_and_no_changes() {
    on_both(|store| {
        let layer = step(store, &[], |root| assert_eq!(std::fs::read_dir(root).unwrap().count(), 0));
        assert_eq!(std::fs::read_dir(store.layer_dir(&layer)).unwrap().count(), 0);
        assert_eq!(store.open_view(&[]).unwrap().root().read_dir(Path::new("")).unwrap().count(), 0);
        assert!(store.index().layer(&layer).unwrap().unwrap().boot_id.is_some());
    });
}

#[test]
fn a_renewed_snapshot_goes_on_with_what_was_written() {
    on_both(|store| {
        let active = store.snapshots().prepare(&base(store)).unwrap();
        run(&active, |root| {
            std::fs::write(root.join("d/f"), "half").unwrap();
            std::fs::remove_file(root.join("gone")).unwrap();
        });
        active.renew().unwrap();
        run(&active, |root| {
            assert_eq!(std::fs::read_to_string(root.join("d/f")).unwrap(), "half");
            assert!(!root.join("gone").exists() && root.join("d/g").exists());
            std::fs::write(root.join("later"), "").unwrap();
        });
        let layer = store.layer_dir(&store.snapshots().commit(active).unwrap());
        assert!(layer.join("d/f").exists() && layer.join("later").exists(), "and is a layer as any other");
        assert!(!layer.join("d/g").exists(), "what nobody touched is not in it");
    });
}

#[test]
fn a_dropped_snapshot_and_a_removed_layer_leave_nothing() {
    on_both(|store| {
        let layers = base(store);
        drop(store.snapshots().prepare(&layers).unwrap());
        store.snapshots().remove(&layers[0]).unwrap();
        assert!(store.index().layer(&layers[0]).unwrap().is_none());
        assert!(matches!(store.snapshots().prepare(&layers), Err(StoreError::NoLayer(_))));
        assert!(matches!(store.open_view(&layers), Err(StoreError::NoLayer(_))));
        assert!(store.needs_sweep());
        store.sweep().unwrap();
        assert_eq!(std::fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
    });
}

#[test]
fn a_view_shows_no_whiteouts_of_a_single_layer_and_nothing_of_the_host() {
    on_both(|store| {
        let layers = unpack_all(
            store,
            &[tar(&[
                file(".wh.x", ""),
                symlink("up", "../../../etc/hostname"),
                symlink("p", "/proc/self/root"),
            ])],
        )
        .unwrap();
        let view = store.open_view(&layers).unwrap();
        let names: Vec<_> = view.root().read_dir(Path::new("")).unwrap().map(|entry| entry.name).collect();
        assert_eq!(names, ["p", "up"]);
        assert!(view.root().open_file(Path::new("up")).is_err());
        assert!(view.root().stat_following(Path::new("p")).is_err());
        assert!(view.root().open_file(Path::new("../../../etc/passwd")).is_err());
        assert_eq!(view.root().resolve_new(Path::new("/up/../a/./b")).unwrap(), Path::new("etc/a/b"));
    });
}

#[test]
fn two_hundred_layers() {
    let fixture = fixture_with(SnapshotterChoice::Automatic);
    let tars: Vec<_> = (0..200).map(|at| tar(&[file(&format!("f{at}"), "x")])).collect();
    let layers = unpack_all(&fixture.store, &tars).unwrap();
    let view = fixture.store.open_view(&layers).unwrap();
    assert_eq!(view.root().read_dir(Path::new("")).unwrap().count(), 200);
}
