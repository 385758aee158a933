//! How long a container takes: `cargo test --release -p strake-exec --test it -- --speed`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use strake_exec::{Network, Rootfs};

use crate::sandbox::{self, Sandbox};

pub(crate) const ARGUMENT: &str = "--speed";
const RUNS: usize = 300;

/// Prints minimum, median and 90th percentile in milliseconds, beside those of a plain process.
pub(crate) fn measure() -> ExitCode {
    let who = if sandbox::is_rootless() { "rootless" } else { "root" };
    row(who, "process alone", || {
        let start = Instant::now();
        assert!(std::process::Command::new(sandbox::BUSYBOX).arg("true").status().unwrap().success());
        start.elapsed()
    });
    for network in [Network::Host, Network::None] {
        let mut sandbox = Sandbox::new();
        sandbox.container.network = network;
        let mut number = 0;
        row(who, &format!("container, network {network:?}"), || {
            number += 1;
            // As the engine does it: every step has directories of its own, and nothing is synced.
            let (upper, work) =
                (sandbox.directory(&format!("u{number}")), sandbox.directory(&format!("w{number}")));
            let lowers = vec![sandbox.base()];
            let user_xattr = sandbox::is_rootless();
            sandbox.container.rootfs = Rootfs::Overlay { lowers, upper, work, user_xattr, volatile: true };
            let start = Instant::now();
            let outcome = sandbox.args(&["/bin/true"]);
            let took = start.elapsed();
            assert!(outcome.status.is_ok(), "{outcome:?}");
            took
        });
    }
    ExitCode::SUCCESS
}

fn row(who: &str, what: &str, run: impl FnMut() -> Duration) {
    let mut times: Vec<f64> =
        std::iter::repeat_with(run).take(RUNS).map(|time| time.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    let (median, p90) = (times[RUNS / 2], times[RUNS * 9 / 10]);
    crate::say(&format!("{who} {what}: min {:.2} median {median:.2} p90 {p90:.2} ms", times[0]));
}
