//! How long a program runs and how much memory it holds.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strake_testkit::{Failure, Outcome};

/// What one run cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Wall-clock seconds from starting the program to its end.
    pub(crate) seconds: f64,
    /// Largest resident size of the program, in bytes; of programs it starts only their own samples count.
    pub(crate) resident: u64,
}

/// Runs `command` to its successful end. `watch` samples its memory, which costs a little time of its own, so
/// figures of time are taken without it.
pub(crate) fn cost(mut command: Command, watch: Watch) -> Outcome<Cost> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let shown = format!("{command:?}");
    let begun = Instant::now();
    let mut child = command.spawn().map_err(Failure::at(format!("start {shown}")))?;
    let resident = match watch {
        Watch::Memory => watch_memory(&mut child),
        Watch::Nothing => 0,
    };
    let output = child.wait_with_output().map_err(Failure::at(format!("wait for {shown}")))?;
    let seconds = begun.elapsed().as_secs_f64();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::new(format!("{shown}: {}\n{}", output.status, said.trim_end())));
    }
    Ok(Cost { seconds, resident })
}

/// Whether memory is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Time only.
    Nothing,
    /// Memory as well.
    Memory,
}

/// The kernel keeps the high-water mark itself; the last reading before the end is the answer.
fn watch_memory(child: &mut Child) -> u64 {
    let mut most = 0;
    while child.try_wait().is_ok_and(|status| status.is_none()) {
        most = most.max(high_water(child.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    most
}

/// Largest resident size so far of a process, in bytes.
pub(crate) fn high_water(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Starts the high-water mark of a process anew (proc(5), `clear_refs`).
pub(crate) fn reset_high_water(pid: u32) {
    // Without it the figure is only larger; it is a daemon's, never strake's.
    drop(std::fs::write(format!("/proc/{pid}/clear_refs"), "5"));
}
