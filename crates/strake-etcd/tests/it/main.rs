//! Locks against a real etcd, and against servers that only claim to be one.

#![expect(clippy::unwrap_used, reason = "what the helpers of tests cannot do is a failed test")]

mod fake;

mod access;
mod faults;
mod hostile;
mod locks;
mod processes;

use std::time::{Duration, Instant};

use strake_etcd::{Attempt, Busy, Coordinator, EtcdConfig, EtcdError, Holder, LockGuard, Timeouts, Waited};
use strake_testkit::{Etcd, EtcdOptions, lacking, program_on_path};

/// Longer than anything here takes on the slowest machine.
const LONG: Duration = Duration::from_secs(120);

/// An etcd; none where it is not installed.
fn etcd() -> Option<Etcd> {
    etcd_with(EtcdOptions::default())
}

fn etcd_with(options: EtcdOptions<'_>) -> Option<Etcd> {
    if program_on_path("etcd").is_none() || program_on_path("openssl").is_none() {
        lacking("etcd and openssl (packages etcd-server, openssl)");
        return None;
    }
    Some(Etcd::start_with(options).unwrap())
}

/// A coordinator for a plain etcd, with a lease as long as `ttl` says.
fn coordinator(etcd: &Etcd, ttl: &str) -> Coordinator {
    at(&format!("etcd://{}?ttl={ttl}", etcd.address()))
}

fn at(address: &str) -> Coordinator {
    Coordinator::new(address.parse().unwrap())
}

/// For servers that do not answer: they are not waited for longer than the test needs.
fn hasty(address: &str) -> Coordinator {
    let moment = Duration::from_secs(1);
    let timeouts = Timeouts { connect: moment, answer: moment, operation: 2 * moment, release: moment };
    Coordinator::new(address.parse::<EtcdConfig>().unwrap().with_timeouts(timeouts))
}

fn me(what: &str) -> Holder {
    Holder { host: "here".to_owned(), pid: std::process::id(), since: 1_700_000_000, what: what.to_owned() }
}

fn lock(coordinator: &Coordinator, name: &str) -> LockGuard {
    match coordinator.try_lock(name, &me("a test")).unwrap() {
        Attempt::Held(guard) => guard,
        Attempt::Busy(busy) => panic!("{name} is held: {busy:?}"),
    }
}

fn busy(coordinator: &Coordinator, name: &str) -> Busy {
    match coordinator.try_lock(name, &me("a test")).unwrap() {
        Attempt::Held(guard) => panic!("{name} is free, now {guard:?}"),
        Attempt::Busy(busy) => busy,
    }
}

fn error(coordinator: &Coordinator, name: &str) -> EtcdError {
    coordinator.try_lock(name, &me("a test")).expect_err("nobody could have locked this")
}

/// Waits for the lock and takes it, as often as it changes hands.
fn lock_after_wait(coordinator: &Coordinator, name: &str) -> LockGuard {
    loop {
        match coordinator.try_lock(name, &me("a waiter")).unwrap() {
            Attempt::Held(guard) => return guard,
            Attempt::Busy(busy) => assert_eq!(wait(coordinator, &busy), Waited::Changed),
        }
    }
}

fn wait(coordinator: &Coordinator, busy: &Busy) -> Waited {
    coordinator.wait(busy, LONG, &|| false).unwrap()
}

/// Looks until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "never: {what}");
        std::thread::yield_now();
    }
}

/// How many keys there are.
fn keys(etcd: &Etcd) -> u64 {
    // From the key that is one zero byte to the end.
    let answer = etcd.ask("kv/range", r#"{"key":"AA==","range_end":"AA==","count_only":true}"#).unwrap();
    let answer = answer.split(r#""count":""#).nth(1);
    answer.map_or(0, |rest| rest.split('"').next().unwrap().parse().unwrap())
}

/// The leases there are.
fn leases(etcd: &Etcd) -> Vec<String> {
    let answer = etcd.ask("lease/leases", "{}").unwrap();
    answer.split(r#""ID":""#).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}
