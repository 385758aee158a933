//! What a lock costs: `cargo run --release -p strake-etcd --example measure etcd://HOST:PORT`.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use strake_etcd::{Attempt, Busy, Coordinator, EtcdError, Holder, LockGuard};

const LOCKS: usize = 1000;
const WAKES: usize = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("usage: measure etcd://HOST:PORT")?;
    let (node, other) = (Coordinator::new(address.parse()?), Coordinator::new(address.parse()?));
    drop(lock(&node)?);
    let mut times = Vec::new();
    for _ in 0..LOCKS {
        let begun = Instant::now();
        drop(lock(&node)?);
        times.push(begun.elapsed());
    }
    show("lock and unlock", times);
    let mut times = Vec::new();
    for _ in 0..WAKES {
        times.push(wake(&node, &other)?);
    }
    show("a waiter is woken after", times);
    Ok(())
}

fn me() -> Holder {
    Holder { host: "here".to_owned(), pid: std::process::id(), since: 0, what: "measuring".to_owned() }
}

fn lock(node: &Coordinator) -> Result<LockGuard, Box<dyn std::error::Error>> {
    match node.try_lock("measure", &me())? {
        Attempt::Held(guard) => Ok(guard),
        Attempt::Busy(busy) => Err(format!("somebody else measures: {busy:?}").into()),
    }
}

/// The time from the beginning of the release to the end of the wait.
fn wake(node: &Coordinator, other: &Coordinator) -> Result<Duration, Box<dyn std::error::Error>> {
    let guard = lock(node)?;
    let Attempt::Busy(busy) = other.try_lock("measure", &me())? else {
        return Err("the lock is not exclusive".into());
    };
    let (sender, receiver) = channel();
    let ended = std::thread::scope(|scope| {
        let waiter = scope.spawn(move || woken(other, &busy, &sender));
        // The second question shows that the stream has had 50 ms to open.
        let _questions = receiver.iter().take(2).count();
        let begun = Instant::now();
        drop(guard);
        waiter.join().map(|ended| ended.map(|ended| ended - begun))
    });
    Ok(ended.map_err(|_| "the waiter panicked")??)
}

fn woken(node: &Coordinator, busy: &Busy, asked: &std::sync::mpsc::Sender<()>) -> Result<Instant, EtcdError> {
    node.wait(busy, Duration::from_secs(60), &|| asked.send(()).is_err())?;
    Ok(Instant::now())
}

#[expect(clippy::print_stdout, reason = "the figures are what the program is for")]
fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!("{what}: median {:.2?}, 95 % {:.2?}, most {:.2?}", at(50), at(95), at(100));
}
