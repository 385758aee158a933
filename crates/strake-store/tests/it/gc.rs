//! What is collected and what is not.

use strake_oci::Digest;
use strake_store::gc::{Item, PrunePolicy, Reason, prune, usage};
use strake_store::{LayerId, Link, Store, StoreOptions};

use super::fixture::{file, fixture, tar, unpack_all};

fn layer(store: &Store, content: &str) -> LayerId {
    unpack_all(store, &[tar(&[file("f", content)])]).unwrap().remove(0)
}

fn removed(report: &strake_store::gc::Report) -> Vec<Item> {
    report.removed.iter().map(|(item, ..)| item.clone()).collect()
}

/// A name, a record that it does not need, and what both stand on; written by a process that is gone.
fn filled() -> (super::fixture::Fixture, [LayerId; 3], Digest) {
    let fixture = fixture();
    let layers = ["named", "cached", "orphan"].map(|content| layer(&fixture.store, &content.repeat(5000)));
    let blob = fixture.store.blobs().write(b"config").unwrap().digest;
    let index = fixture.store.index();
    let record = Link::Document { kind: "record".into(), key: "a".into() };
    index.put("record", "a", b"", &[Link::Layer(layers[0].clone()), Link::Blob(blob)]).unwrap();
    index.put("image", "name", b"", &[record]).unwrap();
    index.put("record", "b", b"", &[Link::Layer(layers[1].clone())]).unwrap();
    let super::fixture::Fixture { store, folder } = fixture;
    let root = store.root().to_owned();
    drop(store);
    let store = Store::open(&root, &StoreOptions::default()).unwrap();
    (super::fixture::Fixture { store, folder }, layers, blob)
}

#[test]
fn only_what_nothing_needs_goes_by_default() {
    let (fixture, layers, blob) = filled();
    let policy = PrunePolicy { root_kinds: vec!["image".into()], ..PrunePolicy::default() };
    let dry = prune(&fixture.store, &PrunePolicy { dry_run: true, ..policy.clone() }).unwrap();
    assert_eq!(removed(&dry), [Item::Layer(layers[2].clone())]);
    assert!(fixture.store.layer_dir(&layers[2]).exists());
    let report = prune(&fixture.store, &policy).unwrap();
    assert_eq!((removed(&report), report.freed_bytes), (removed(&dry), dry.freed_bytes));
    assert!(report.freed_bytes > 0 && !fixture.store.layer_dir(&layers[2]).exists());
    assert!(fixture.store.blobs().has(&blob).unwrap() && fixture.store.layer_dir(&layers[1]).exists());
    assert_eq!(report.removed[0].2, Reason::Unreferenced);
}

#[test]
fn all_keeps_what_names_need() {
    let (fixture, layers, blob) = filled();
    let policy = PrunePolicy { root_kinds: vec!["image".into()], all: true, ..PrunePolicy::default() };
    let report = prune(&fixture.store, &policy).unwrap();
    let record = Item::Document { kind: "record".into(), key: "b".into() };
    assert!(removed(&report).contains(&record) && removed(&report).contains(&Item::Layer(layers[1].clone())));
    assert!(fixture.store.layer_dir(&layers[0]).exists() && fixture.store.blobs().has(&blob).unwrap());
    assert!(fixture.store.index().get("record", "a").unwrap().is_some(), "linked by the name");
    assert!(fixture.store.index().get("record", "b").unwrap().is_none());
}

#[test]
fn the_least_recently_used_goes_first_and_sizes_add_up() {
    let (fixture, layers, _) = filled();
    let of = |usage: &strake_store::gc::Usage, id: &LayerId| {
        let found = usage.layers.iter().find(|layer| layer.item == *id);
        found.map_or(0, |layer| layer.bytes)
    };
    let before = usage(&fixture.store).unwrap();
    assert_eq!(before.documents["record"].0, 2);
    let keep_bytes = Some(of(&before, &layers[1]) + 10);
    let report = prune(&fixture.store, &PrunePolicy { keep_bytes, ..PrunePolicy::default() }).unwrap();
    assert!(removed(&report).contains(&Item::Layer(layers[0].clone())), "{report:?}");
    assert!(fixture.store.layer_dir(&layers[1]).exists(), "the record put last is the most recent");
    let newer =
        prune(&fixture.store, &PrunePolicy { keep_newer_than: Some(i64::MAX), ..PrunePolicy::default() })
            .unwrap();
    assert!(removed(&newer).contains(&Item::Layer(layers[1].clone())));
}

#[test]
fn what_a_living_process_touched_stays_and_what_it_only_read_may_go() {
    let (fixture, layers, _) = filled();
    let other = Store::open(fixture.store.root(), &StoreOptions::default()).unwrap();
    assert_eq!(other.index().touch_many(&[("record", "b"), ("record", "zzz")]).unwrap(), [true, false]);
    let fresh = layer(&other, "fresh");
    let policy = PrunePolicy { all: true, ..PrunePolicy::default() };
    let report = prune(&fixture.store, &policy).unwrap();
    assert!(fixture.store.layer_dir(&layers[1]).exists() && fixture.store.layer_dir(&fresh).exists());
    assert!(!fixture.store.layer_dir(&layers[0]).exists());
    assert!(
        report.kept.iter().any(|(item, _, why)| *item == Item::Layer(fresh.clone()) && *why == Reason::InUse)
    );
    assert_eq!(other.index().touch_many(&[("record", "a")]).unwrap(), [false], "told that it is gone");
    drop(other);
}

#[test]
fn what_a_touched_document_stood_on_stays_when_another_process_replaces_the_document() {
    let (fixture, layers, blob) = filled();
    let index = fixture.store.index();
    let to_a = Link::Document { kind: "record".into(), key: "a".into() };
    let back = Link::Document { kind: "record".into(), key: "b".into() };
    index.put("record", "b", b"", &[Link::Layer(layers[1].clone()), to_a]).unwrap();
    index.put("record", "a", b"", &[Link::Layer(layers[0].clone()), Link::Blob(blob), back]).unwrap();
    let root = fixture.store.root().to_owned();
    drop(fixture.store);
    let running = Store::open(&root, &StoreOptions::default()).unwrap();
    let other = Store::open(&root, &StoreOptions::default()).unwrap();
    assert_eq!(running.index().touch_many(&[("record", "b")]).unwrap(), [true]);

    // The same step built again without the cache, and its image removed.
    other.index().put("record", "b", b"new", &[]).unwrap();
    assert!(other.index().delete("record", "a").unwrap());
    let report = prune(&other, &PrunePolicy { all: true, ..PrunePolicy::default() }).unwrap();
    assert!(running.layer_dir(&layers[0]).exists(), "below the document that was linked: {report:?}");
    assert!(running.layer_dir(&layers[1]).exists(), "{report:?}");
    assert!(running.blobs().has(&blob).unwrap(), "{report:?}");
    assert!(!running.layer_dir(&layers[2]).exists(), "nobody touched this one");
}
