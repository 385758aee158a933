//! What holds while everything works.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use strake_etcd::{Attempt, Waited};

use crate::{LONG, at, busy, coordinator, etcd, keys, leases, lock, lock_after_wait, me, until, wait};

#[test]
fn two_exclude_each_other_and_say_who_it_is() {
    let Some(etcd) = etcd() else { return };
    let (first, second) = (coordinator(&etcd, "30s"), coordinator(&etcd, "30s"));
    let Attempt::Held(guard) = first.try_lock("app/1", &me("RUN make")).unwrap() else {
        panic!("nobody else is here");
    };
    assert!(guard.is_held());
    let seen = busy(&second, "app/1");
    assert_eq!(seen.holder, Some(me("RUN make")));
    // Another lock, and another prefix, are nobody's.
    drop(lock(&second, "app/2"));
    drop(lock(&at(&format!("etcd://{}/other", etcd.address())), "app/1"));
    // Not even this process takes it twice.
    assert_eq!(busy(&first, "app/1").holder, Some(me("RUN make")));
    drop(guard);
    assert_eq!(wait(&second, &seen), Waited::Changed);
    drop(lock(&second, "app/1"));
    assert_eq!(keys(&etcd), 0);
}

#[test]
fn nothing_is_sent_before_the_first_lock() {
    let Some(etcd) = etcd() else { return };
    let idle = coordinator(&etcd, "30s");
    assert!(leases(&etcd).is_empty());
    let guard = lock(&idle, "a");
    let another = lock(&idle, "b");
    assert_eq!(leases(&etcd).len(), 1);
    drop((guard, another));
    drop(idle);
    assert!(leases(&etcd).is_empty());
}

#[test]
fn a_waiter_is_woken_by_the_release() {
    let Some(etcd) = etcd() else { return };
    // A lease that outlasts the test: only the release can wake.
    let (first, second) = (coordinator(&etcd, "10m"), coordinator(&etcd, "10m"));
    let guard = lock(&first, "a");
    let seen = busy(&second, "a");
    let asked = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            second.wait(&seen, LONG, &|| {
                asked.fetch_add(1, Ordering::SeqCst);
                false
            })
        });
        // It is waiting by now, and has opened its stream.
        until("the waiter waits", || asked.load(Ordering::SeqCst) > 3);
        drop(guard);
        assert_eq!(waiter.join().unwrap(), Ok(Waited::Changed));
    });
}

#[test]
fn a_release_between_attempt_and_wait_is_not_missed() {
    let Some(etcd) = etcd() else { return };
    let (first, second, third) =
        (coordinator(&etcd, "10m"), coordinator(&etcd, "10m"), coordinator(&etcd, "10m"));
    let guard = lock(&first, "a");
    let seen = busy(&second, "a");
    drop(guard);
    let _taken_again = lock(&third, "a");
    assert_eq!(wait(&second, &seen), Waited::Changed);
    // Even when the server has forgotten what happened since.
    let revision = r#"{"revision":"4","physical":true}"#;
    etcd.ask("kv/compaction", revision).unwrap();
    assert_eq!(wait(&second, &seen), Waited::Changed);
}

#[test]
fn waiting_ends_when_it_is_no_use() {
    let Some(etcd) = etcd() else { return };
    let (first, second) = (coordinator(&etcd, "30s"), coordinator(&etcd, "30s"));
    let _guard = lock(&first, "a");
    let seen = busy(&second, "a");
    assert_eq!(second.wait(&seen, Duration::from_millis(200), &|| false), Ok(Waited::TimedOut));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| second.wait(&seen, LONG, &|| stop.load(Ordering::SeqCst)));
        stop.store(true, Ordering::SeqCst);
        assert_eq!(waiter.join().unwrap(), Ok(Waited::GaveUp));
    });
}

#[test]
fn one_at_a_time_among_many() {
    let Some(etcd) = etcd() else { return };
    let nodes: Vec<_> = (0..3).map(|_| coordinator(&etcd, "30s")).collect();
    let (inside, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for node in &nodes {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let guard = lock_after_wait(node, "contended");
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        done.fetch_add(1, Ordering::SeqCst);
                        drop(guard);
                    }
                });
            }
        }
    });
    assert_eq!((most.into_inner(), done.into_inner()), (1, 45));
    assert_eq!((keys(&etcd), leases(&etcd).len()), (0, 3));
}

#[test]
fn thousands_of_locks_leave_no_key_behind() {
    let Some(etcd) = etcd() else { return };
    let node = coordinator(&etcd, "30s");
    for round in 0..1000 {
        let guards = (lock(&node, "same"), lock(&node, &format!("other/{round}")));
        assert!(guards.0.is_held() && guards.1.is_held());
    }
    assert_eq!((keys(&etcd), leases(&etcd).len()), (0, 1));
}
