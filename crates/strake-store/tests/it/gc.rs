//! What is collected and what is not.

use strake_oci::Digest;
use strake_store::gc::{Item, NotRoots, PrunePolicy, Reason, prune, usage};
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
fn some_roots_are_kept_for_as_long_as_they_are_used() {
    let kept = |prefix: &str, unused_since: i64| {
        let (fixture, layers, _) = filled();
        let not_roots = NotRoots { kind: "image".into(), prefix: prefix.into(), unused_since };
        let policy = PrunePolicy {
            root_kinds: vec!["image".into()],
            not_roots: Some(not_roots),
            keep_bytes: Some(0),
            ..PrunePolicy::default()
        };
        prune(&fixture.store, &policy).unwrap();
        fixture.store.layer_dir(&layers[0]).exists()
    };
    assert!(!kept("na", i64::MAX));
    assert!(kept("na", 0), "it was used since");
    assert!(kept("other", i64::MAX));
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

const HOUR_NS: i64 = 3_600_000_000_000;

fn now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// A lock as a step takes it: with something written inside.
fn lock(store: &Store, name: &str) -> std::fs::File {
    let path = store.lock_dir().join(name);
    std::fs::write(&path, "1\n2\nhere\nRUN true\n").unwrap();
    std::fs::File::options().read(true).write(true).open(path).unwrap()
}

fn make_cache(store: &Store, name: &str) -> (Digest, std::path::PathBuf) {
    let id = Digest::of(name.as_bytes());
    let path = store.cache_mount_dir(&id);
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("f"), vec![1; 100_000]).unwrap();
    (id, path)
}

fn age(path: &std::path::Path, days: u64) {
    let time = now() - std::time::Duration::from_secs(days * 86_400);
    std::fs::File::open(path).unwrap().set_modified(time).unwrap();
}

fn reason(report: &strake_store::gc::Report, item: &Item) -> Option<Reason> {
    let all = report.removed.iter().chain(&report.kept);
    all.filter(|(found, ..)| found == item).map(|(.., reason)| *reason).next()
}

#[test]
fn everything_beside_the_layers_goes_except_what_a_step_holds() {
    let fixture = fixture();
    let store = &fixture.store;
    let (shared, shared_path) = make_cache(store, "shared");
    let (free, free_path) = make_cache(store, "free");
    let held = lock(store, &format!("cache-{}", shared.hex()));
    held.lock_shared().unwrap();
    drop(lock(store, &format!("cache-{}", free.hex())));
    let (running, ended) = (Digest::of(b"running").hex(), Digest::of(b"ended").hex());
    let step = lock(store, &running);
    step.lock().unwrap();
    drop(lock(store, &ended));
    for name in [&running, &ended] {
        std::fs::write(store.log_dir().join(format!("{name}.log")), "output").unwrap();
    }
    let source = fixture.folder.path().to_str().unwrap();
    store.index().save_stat_cache(source, &strake_store::StatCache::default()).unwrap();

    let policy = PrunePolicy { all: true, ..PrunePolicy::default() };
    let before = usage(store).unwrap();
    let dry = prune(store, &PrunePolicy { dry_run: true, ..policy.clone() }).unwrap();
    assert_eq!(usage(store).unwrap().cache_mounts, before.cache_mounts);
    let report = prune(store, &policy).unwrap();
    assert_eq!((removed(&report), report.freed_bytes), (removed(&dry), dry.freed_bytes));
    for item in [Item::CacheMount(free), Item::Log(format!("{ended}.log"))] {
        assert_eq!(reason(&report, &item), Some(Reason::NotARoot), "{report:?}");
        assert!(removed(&dry).contains(&item) && removed(&report).contains(&item));
    }
    for item in [Item::CacheMount(shared), Item::Log(format!("{running}.log"))] {
        assert_eq!(reason(&report, &item), Some(Reason::InUse), "{report:?}");
    }
    assert!(shared_path.join("f").exists() && !free_path.exists());
    assert!(store.log_dir().join(format!("{running}.log")).exists());
    let mut locks: Vec<_> = std::fs::read_dir(store.lock_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    locks.sort();
    // The store's own are not those of steps.
    locks.retain(|name| name != "repair" && name != "sweep");
    let mut expected = [running, format!("cache-{}", shared.hex())];
    expected.sort();
    assert_eq!(locks, expected, "only those that are held");

    // What was said to be given back is what is not counted any more.
    let after = usage(store).unwrap();
    let total =
        |usage: &strake_store::gc::Usage| usage.cache_mounts + usage.logs + usage.stat_caches + usage.locks;
    assert_eq!(total(&before) - total(&after), report.freed_bytes);
    assert!(after.trash >= 100_000, "renamed, not removed under the lock");

    drop((held, step));
    prune(store, &policy).unwrap();
    assert_eq!(total(&usage(store).unwrap()), 0);
}

#[test]
fn a_cache_mount_is_as_old_as_its_last_use() {
    let fixture = fixture();
    let store = &fixture.store;
    let (unused, unused_path) = make_cache(store, "unused");
    let (used, used_path) = make_cache(store, "used");
    for path in [&unused_path, &used_path] {
        age(path, 20);
    }
    drop(lock(store, &format!("cache-{}", unused.hex())));
    age(&store.lock_dir().join(format!("cache-{}", unused.hex())), 20);
    // The directory itself did not change, but a step has just had it.
    drop(lock(store, &format!("cache-{}", used.hex())));
    let now = i64::try_from(now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    let policy = PrunePolicy { keep_newer_than: Some(now - HOUR_NS), ..PrunePolicy::default() };
    let report = prune(store, &policy).unwrap();
    assert_eq!(reason(&report, &Item::CacheMount(unused)), Some(Reason::Old));
    assert_eq!(reason(&report, &Item::CacheMount(used)), Some(Reason::Recent));
    assert!(used_path.exists() && !unused_path.exists());
    // The time of its lock was not lost by that.
    assert!(prune(store, &policy).unwrap().removed.is_empty() && used_path.exists());
}

#[test]
fn a_sweep_forgets_what_nobody_will_ask_for() {
    let fixture = fixture();
    let store = &fixture.store;
    for (name, days) in [("old.log", 31), ("young.log", 29)] {
        std::fs::write(store.log_dir().join(name), "output").unwrap();
        age(&store.log_dir().join(name), days);
    }
    let stat = |key: &str| store.root().join("stat").join(Digest::of(key.as_bytes()).hex());
    let source = |name: &str| {
        let path = fixture.folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        let key = path.to_str().unwrap().to_owned();
        store.index().save_stat_cache(&key, &strake_store::StatCache::default()).unwrap();
        key
    };
    let [there, gone, old, read] = ["there", "gone", "old", "read"].map(source);
    std::fs::remove_dir(&gone).unwrap();
    age(&stat(&old), 31);
    age(&stat(&read), 31);
    store.index().stat_cache(&read);
    let own = store.temp_dir().unwrap();
    let own_key = own.path().to_str().unwrap();
    store.index().save_stat_cache(own_key, &strake_store::StatCache::default()).unwrap();
    assert!(!stat(own_key).exists(), "nobody will see this directory again");
    let (_, cache) = make_cache(store, "cache");
    age(&cache, 400);
    let locks = ["old", "held", "young"].map(|name| Digest::of(name.as_bytes()).hex());
    let files = locks.each_ref().map(|name| lock(store, name));
    files[1].lock().unwrap();
    for name in &locks[..2] {
        age(&store.lock_dir().join(name), 2);
    }

    assert_eq!(store.sweep().unwrap().expired, 4);
    assert!(!store.log_dir().join("old.log").exists() && store.log_dir().join("young.log").exists());
    assert!(stat(&there).exists() && stat(&read).exists() && !stat(&gone).exists() && !stat(&old).exists());
    assert!(cache.exists(), "only a prune takes these");
    assert_eq!(locks.map(|name| store.lock_dir().join(name).exists()), [false, true, true]);
}
