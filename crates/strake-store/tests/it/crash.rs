//! Killed processes, lost and damaged indexes, several processes at once.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use strake_oci::{Compression, Digest};
use strake_store::{Link, Store, StoreError, StoreOptions, unpack_layer};

use super::fixture::{file, fixture, ids, tar, unpack_all};

/// Cargo builds examples before it runs tests, beside them.
fn hammer(root: &std::path::Path) -> Child {
    let binary: PathBuf = std::env::current_exe().unwrap().parent().unwrap().join("../examples/hammer");
    Command::new(binary).arg(root).spawn().unwrap()
}

/// What must be true of a store at any time.
fn check(store: &Store) {
    for entry in store.index().list("test").unwrap() {
        let layer = String::from_utf8(entry.document.body).unwrap().parse().unwrap();
        assert!(
            store.index().layer(&layer).unwrap().is_some(),
            "a record names a layer that is not recorded"
        );
        let content = std::fs::read_to_string(store.layer_dir(&layer).join("file")).unwrap();
        assert_eq!(content.len() % 100, 0, "a layer in place is incomplete");
    }
    for blob in store.blobs().list().unwrap() {
        assert_eq!(store.blobs().read_verified(&blob.digest, 1 << 20).unwrap().len() as u64, blob.size);
    }
}

#[test]
fn processes_killed_at_any_moment_leave_garbage_at_most() {
    let fixture = fixture();
    for round in 0..12 {
        let mut children = [hammer(fixture.store.root()), hammer(fixture.store.root())];
        std::thread::sleep(Duration::from_millis(20 + 13 * round));
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let store = Store::open(fixture.store.root(), &StoreOptions::default()).unwrap();
        check(&store);
        store.sweep().unwrap();
        check(&store);
        for folder in ["active", "tmp", "trash"] {
            assert_eq!(std::fs::read_dir(store.root().join(folder)).unwrap().count(), 0, "{folder}");
        }
        let (layers, recorded) = (
            std::fs::read_dir(store.root().join("layers")).unwrap().count(),
            strake_store::gc::usage(&store).unwrap().layers.len(),
        );
        assert_eq!(layers, recorded, "the sweep left something that nobody knows");
    }
    assert!(!fixture.store.index().list("test").unwrap().is_empty(), "nothing was ever written");
}

#[test]
fn a_lost_or_damaged_index_is_rebuilt_from_what_is_there() {
    for damage in ["gone", "garbage", "marked"] {
        let fixture = fixture();
        let root = fixture.store.root().to_owned();
        let layers = unpack_all(&fixture.store, &[tar(&[file("a", "1")])]).unwrap();
        let blob = fixture.store.blobs().write(b"blob").unwrap();
        let info = fixture.store.index().layer(&layers[0]).unwrap().unwrap();
        fixture.store.sweep().unwrap();
        drop(fixture.store);
        let database = root.join("index.db");
        match damage {
            "gone" => std::fs::remove_file(&database).unwrap(),
            "garbage" => std::fs::write(&database, vec![7; 100_000]).unwrap(),
            _ => std::fs::write(root.join("index.damaged"), "").unwrap(),
        }
        let store = Store::open(&root, &StoreOptions::default()).unwrap();
        let rebuilt = store.index().layer(&layers[0]).unwrap().unwrap();
        assert_eq!((rebuilt.diff_id, rebuilt.tar_size), (info.diff_id, info.tar_size), "{damage}");
        assert!(store.blobs().has(&blob.digest).unwrap(), "{damage}");
        assert_eq!(store.blobs().read_verified(&blob.digest, 10).unwrap(), b"blob");
        store.index().put("k", "v", b"", &[Link::Layer(layers[0].clone())]).unwrap();
    }
}

#[test]
fn blobs_that_are_damaged_or_cut_short_are_never_believed() {
    use std::io::Read as _;
    let fixture = fixture();
    let blobs = fixture.store.blobs();
    let blob = blobs.write(b"some content").unwrap();
    std::fs::write(blobs.path(&blob.digest), b"some Content").unwrap();
    let error = blobs.open(&blob.digest).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(matches!(blobs.read_verified(&blob.digest, 100), Err(StoreError::Mismatch { .. })));
    assert!(!blobs.has(&blob.digest).unwrap(), "a damaged blob is removed");
    blobs.write(b"some content").unwrap();
    std::fs::write(blobs.path(&blob.digest), b"some").unwrap();
    assert!(!blobs.has(&blob.digest).unwrap());
    assert_eq!(blobs.write(b"some content").unwrap(), blob, "and written anew");
    assert!(blobs.has(&blob.digest).unwrap());
    assert!(matches!(blobs.open(&Digest::of(b"other")), Err(StoreError::NoBlob(_))));
    use std::io::Write as _;
    let mut writer = blobs.writer().unwrap();
    writer.write_all(b"x").unwrap();
    assert!(matches!(writer.commit(Some(Digest::of(b"y"))), Err(StoreError::Mismatch { .. })));
    assert_eq!(std::fs::read_dir(fixture.store.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_layer_that_is_not_what_was_promised_is_refused() {
    let fixture = fixture();
    let bytes = tar(&[file("a", "1")]);
    let (diff_ids, chains) = ids(&[tar(&[file("a", "2")])]);
    let unpack = |bytes: &[u8], compression| {
        unpack_layer(&fixture.store, &[], chains[0], diff_ids[0], compression, bytes).unwrap_err()
    };
    assert!(matches!(unpack(&bytes, Compression::None), StoreError::Mismatch { .. }));
    assert!(matches!(unpack(&bytes, Compression::Gzip), StoreError::Tar { .. }));
    assert!(matches!(unpack(b"<html>not found</html>", Compression::Zstd), StoreError::Tar { .. }));
    for folder in ["active", "layers"] {
        assert_eq!(std::fs::read_dir(fixture.store.root().join(folder)).unwrap().count(), 0);
    }
}

#[test]
fn the_same_layer_unpacked_by_several_at_once_is_there_once() {
    let fixture = fixture();
    let tars = [tar(&[file("a", &"x".repeat(100_000))])];
    let open = || Store::open(fixture.store.root(), &StoreOptions::default()).unwrap();
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| unpack_all(&open(), &tars).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().all(|layers| *layers == results[0]));
    assert_eq!(std::fs::read_dir(fixture.store.root().join("layers")).unwrap().count(), 1);
}

#[test]
fn foreign_directories_other_versions_and_the_other_flavour_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("thesis.tex"), "").unwrap();
    let open = |path: &std::path::Path| {
        Store::open(path, &StoreOptions::default()).map(|_| ()).unwrap_err().to_string()
    };
    assert!(open(folder.path()).contains("thesis.tex"));
    let fixture = fixture();
    let version = fixture.store.root().join("strake-store");
    let own = std::fs::read_to_string(&version).unwrap();
    let other =
        if own.contains("trusted") { own.replace("trusted", "user") } else { own.replace("user", "trusted") };
    std::fs::write(&version, other).unwrap();
    assert!(open(fixture.store.root()).contains("choose another store directory"));
    std::fs::write(&version, "layout 99\n").unwrap();
    assert!(open(fixture.store.root()).contains("version 99"));
}

#[test]
fn a_document_cannot_name_a_layer_that_is_not_there() {
    let fixture = fixture();
    let layer = unpack_all(&fixture.store, &[tar(&[file("a", "")])]).unwrap().remove(0);
    fixture.store.snapshots().remove(&layer).unwrap();
    let put = fixture.store.index().put("k", "v", b"", &[Link::Layer(layer)]);
    assert!(matches!(put, Err(StoreError::NoLayer(_))));
    assert!(fixture.store.index().get("k", "v").unwrap().is_none());
}
