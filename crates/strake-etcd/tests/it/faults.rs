//! An etcd that goes away, comes back, or hangs; answers that are lost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use strake_etcd::{ErrorKind, Waited};

use crate::fake::Proxy;
use crate::{
    LONG, at, busy, coordinator, error, etcd, hasty, keys, leases, lock, lock_after_wait, until, wait,
};

#[test]
fn nobody_there_is_said_at_once() {
    let Some(mut etcd) = etcd() else { return };
    etcd.stop();
    let failed = error(&coordinator(&etcd, "30s"), "a");
    assert_eq!(failed.kind, ErrorKind::Unreachable);
    let text = failed.to_string();
    assert!(text.contains(&format!("cannot connect to etcd at {}", etcd.address())), "{text}");
    assert!(text.contains("Connection refused"), "{text}");
}

#[test]
fn a_restart_is_survived_by_locks_and_waiters() {
    let Some(mut etcd) = etcd() else { return };
    let (first, second) = (coordinator(&etcd, "60s"), coordinator(&etcd, "60s"));
    let guard = lock(&first, "a");
    let seen = busy(&second, "a");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| second.wait(&seen, LONG, &|| false));
        etcd.start_again().unwrap();
        assert!(guard.is_held());
        assert_eq!(busy(&first, "a").holder, seen.holder);
        drop(guard);
        assert_eq!(waiter.join().unwrap(), Ok(Waited::Changed));
    });
    drop(lock(&second, "a"));
    assert_eq!(keys(&etcd), 0);
}

#[test]
fn without_etcd_the_lock_is_lost_and_later_ones_get_a_new_lease() {
    let Some(mut etcd) = etcd() else { return };
    let node = hasty(&format!("etcd://{}?ttl=2s", etcd.address()));
    let guard = lock(&node, "a");
    let seen = busy(&hasty(&format!("etcd://{}", etcd.address())), "a");
    etcd.stop();
    until("the lease runs out", || !guard.is_held());
    assert_eq!(error(&node, "b").kind, ErrorKind::Unreachable);
    // A waiter is told too, when a lease would have run out.
    assert_eq!(node.wait(&seen, LONG, &|| false).unwrap_err().kind, ErrorKind::Unreachable);
    etcd.start_again().unwrap();
    let again = lock(&node, "b");
    assert!(again.is_held());
    assert!(!guard.is_held(), "lost is lost");
}

#[test]
fn what_hangs_is_left_behind() {
    let Some(etcd) = etcd() else { return };
    let node = hasty(&format!("etcd://{}?ttl=60s", etcd.address()));
    let guards: Vec<_> = (0..50).map(|number| lock(&node, &format!("a/{number}"))).collect();
    let seen = busy(&node, "a/0");
    etcd.freeze();
    assert_eq!(error(&node, "b").kind, ErrorKind::TimedOut);
    assert_eq!(node.wait(&seen, Duration::from_millis(400), &|| false), Ok(Waited::TimedOut));
    drop(guards);
    drop(node);
    etcd.thaw();
    assert!(keys(&etcd) >= 50, "nobody was kept waiting: the lease will end them");
}

#[test]
fn what_could_not_be_unlocked_is_unlocked_later() {
    let Some(etcd) = etcd() else { return };
    let node = hasty(&format!("etcd://{}?ttl=20s", etcd.address()));
    let keeps = lock(&node, "keeps");
    let guards: Vec<_> = (0..5).map(|number| lock(&node, &format!("a/{number}"))).collect();
    etcd.freeze();
    drop(guards);
    etcd.thaw();
    until("only one is left", || keys(&etcd) == 1);
    assert!(keeps.is_held());
    busy(&node, "keeps");
}

#[test]
fn a_lease_that_ends_behind_our_back_is_noticed() {
    let Some(etcd) = etcd() else { return };
    let (first, second) = (coordinator(&etcd, "3s"), coordinator(&etcd, "60s"));
    let guard = lock(&first, "a");
    let lease = leases(&etcd).pop().unwrap();
    etcd.ask("lease/revoke", &format!(r#"{{"ID":"{lease}"}}"#)).unwrap();
    let taken = lock(&second, "a");
    // Whoever locks next finds out, and helps himself to another lease.
    let again = lock(&first, "b");
    assert!(!guard.is_held());
    assert!(again.is_held());
    // The end of what was lost does not touch what others have.
    drop(guard);
    assert_eq!(keys(&etcd), 2);
    busy(&first, "a");
    drop(taken);
    drop(lock(&first, "a"));
}

#[test]
fn an_idle_holder_hears_that_its_lease_has_ended() {
    let Some(etcd) = etcd() else { return };
    // Longer than the test: only the server's word can tell, at the next extension.
    let node = coordinator(&etcd, "9s");
    let guard = lock(&node, "a");
    let lease = leases(&etcd).pop().unwrap();
    etcd.ask("lease/revoke", &format!(r#"{{"ID":"{lease}"}}"#)).unwrap();
    until("it is told", || !guard.is_held());
    assert_eq!(keys(&etcd), 0);
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    let Some(etcd) = etcd() else { return };
    let proxy = Proxy::start(etcd.address());
    let node = at(&format!("etcd://{}?ttl=60s", proxy.address));
    drop(lock(&node, "first"));
    proxy.swallow.store(1, Ordering::SeqCst);
    let guard = lock(&node, "a");
    assert_eq!(proxy.swallow.load(Ordering::SeqCst), 0, "it did happen");
    assert_eq!(keys(&etcd), 1);
    proxy.swallow.store(1, Ordering::SeqCst);
    drop(guard);
    assert_eq!(keys(&etcd), 0);
}

#[test]
fn a_lock_that_nobody_knows_of_is_let_go() {
    let Some(etcd) = etcd() else { return };
    let proxy = Proxy::start(etcd.address());
    let node = hasty(&format!("etcd://{}?ttl=6s", proxy.address));
    let _keeps = lock(&node, "keeps");
    proxy.swallow.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(error(&node, "a").kind, ErrorKind::Unreachable);
    assert_eq!(keys(&etcd), 2, "etcd has done it, but we do not know");
    proxy.swallow.store(0, Ordering::SeqCst);
    until("it is let go", || keys(&etcd) == 1);
    drop(lock_after_wait(&node, "a"));
}

#[test]
fn another_endpoint_serves() {
    let (Some(etcd), Some(mut gone)) = (crate::etcd(), crate::etcd()) else { return };
    let both = hasty(&format!("etcd://{},{}?ttl=60s", gone.address(), etcd.address()));
    gone.stop();
    let guard = lock(&both, "a");
    let seen = busy(&both, "a");
    drop(guard);
    assert_eq!(wait(&both, &seen), Waited::Changed);
    // One that hangs is left as well.
    gone.start_again().unwrap();
    gone.freeze();
    drop(lock(&hasty(&format!("etcd://{},{}", gone.address(), etcd.address())), "b"));
}
