//! Holders that are killed or frozen: they have to be processes of their own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use strake_etcd::Waited;
use strake_testkit::Etcd;

use crate::{at, busy, coordinator, etcd, lock, lock_after_wait, until, wait};

/// Tells the process of [`another_process_holds_a_lock`] that it is the other one, and where etcd is.
const ADDRESS: &str = "STRAKE_TEST_ETCD_HOLDER";

/// A process that holds the lock `a`.
struct OtherProcess {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl OtherProcess {
    /// Starts it, and waits until it has the lock.
    fn start(etcd: &Etcd, ttl: &str) -> Self {
        // setpriv: it ends with this process, however that ends.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "processes::another_process_holds_a_lock", "--nocapture"])
            .env(ADDRESS, format!("etcd://{}?ttl={ttl}", etcd.address()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut other = Self { child, stdin, stdout: BufReader::new(stdout) };
        other.hear("held: true");
        other
    }

    /// Asks whether it still has the lock.
    fn ask(&mut self, expect: bool) {
        self.stdin.write_all(b"?\n").unwrap();
        self.hear(&format!("held: {expect}"));
    }

    /// Reads until the answer comes, among what the test harness says.
    fn hear(&mut self, expect: &str) {
        let mut line = String::new();
        while !line.contains("held: ") {
            line.clear();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "it ended");
        }
        assert!(line.contains(expect), "{line}");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().cast_signed()).unwrap(), signal).unwrap();
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[expect(clippy::disallowed_methods, reason = "a process started by a test has no other settings")]
fn address() -> Option<String> {
    std::env::var(ADDRESS).ok()
}

#[test]
fn another_process_holds_a_lock() {
    if let Some(address) = address() {
        let node = at(&address);
        let guard = lock(&node, "a");
        println!("held: {}", guard.is_held());
        for _question in std::io::stdin().lines().map_while(Result::ok) {
            println!("held: {}", guard.is_held());
        }
        return;
    }
    let Some(etcd) = etcd() else { return };
    let mut other = OtherProcess::start(&etcd, "30s");
    let node = coordinator(&etcd, "30s");
    assert_eq!(busy(&node, "a").holder.unwrap().pid, other.child.id());
    other.ask(true);
}

#[test]
fn a_killed_holder_loses_its_lock() {
    let Some(etcd) = etcd() else { return };
    let other = OtherProcess::start(&etcd, "2s");
    let node = coordinator(&etcd, "30s");
    let seen = busy(&node, "a");
    other.signal(Signal::KILL);
    assert_eq!(wait(&node, &seen), Waited::Changed);
    assert!(lock(&node, "a").is_held());
}

#[test]
fn a_frozen_holder_loses_its_lock_and_knows_when_it_wakes() {
    let Some(etcd) = etcd() else { return };
    let mut other = OtherProcess::start(&etcd, "2s");
    let node = coordinator(&etcd, "30s");
    other.signal(Signal::STOP);
    let guard = lock_after_wait(&node, "a");
    other.signal(Signal::CONT);
    other.ask(false);
    // What it lets go of now is not ours.
    drop(other);
    assert!(guard.is_held());
    assert_eq!(busy(&coordinator(&etcd, "30s"), "a").holder.unwrap().pid, std::process::id());
}

#[test]
fn a_holder_that_lives_keeps_its_lock_beyond_the_first_lease() {
    let Some(etcd) = etcd() else { return };
    let mut other = OtherProcess::start(&etcd, "2s");
    let node = coordinator(&etcd, "30s");
    // Somebody who dies with the same lease is gone before the one who lives.
    let dead = etcd.ask("lease/grant", r#"{"TTL":"4"}"#).unwrap();
    let id = dead.split(r#""ID":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
    until("the other lease ends", || !crate::leases(&etcd).contains(&id));
    other.ask(true);
    busy(&node, "a");
}
