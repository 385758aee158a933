//! How long a container takes: `cargo test --release -p strake-exec --test it -- --speed`.

use std::process::ExitCode;
use std::time::Instant;

use crate::sandbox::{self, Sandbox};

pub(crate) const ARGUMENT: &str = "--speed";
const RUNS: usize = 300;

/// Prints minimum, median and 90th percentile in milliseconds.
pub(crate) fn measure() -> ExitCode {
    for network in [strake_exec::Network::Host, strake_exec::Network::None] {
        let mut sandbox = Sandbox::new();
        sandbox.container.network = network;
        let mut times = Vec::new();
        for _ in 0..RUNS {
            let start = Instant::now();
            let outcome = sandbox.args(&["/bin/true"]);
            times.push(start.elapsed().as_secs_f64() * 1e3);
            assert!(outcome.status.is_ok(), "{outcome:?}");
        }
        times.sort_by(f64::total_cmp);
        let who = if sandbox::is_rootless() { "rootless" } else { "root" };
        crate::say(&format!(
            "{who} {network:?}: min {:.2} median {:.2} p90 {:.2} ms",
            times[0],
            times[RUNS / 2],
            times[RUNS * 9 / 10]
        ));
    }
    ExitCode::SUCCESS
}
