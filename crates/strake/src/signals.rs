//! Ctrl-C and SIGTERM: once asks for a clean stop, twice ends the program at once.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::failure::{Failure, Kind, reason};
use crate::{report, ui};

/// What arrives so soon after the first signal is the same one: `timeout`, for one, sends it to the process and to its
/// group.
const SAME: Duration = Duration::from_millis(200);

/// Listens for signals from now on.
#[derive(Debug)]
pub(crate) struct Signals {
    last: Arc<AtomicUsize>,
}

impl Signals {
    /// Calls `stop` on another thread at the first signal.
    ///
    /// # Errors
    /// When the system has no descriptor or thread left.
    pub(crate) fn install(stop: impl Fn() + Send + 'static) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::environment(format!("listen for signals: {}", reason(&error)));
        let last = Arc::new(AtomicUsize::new(0));
        let (mut incoming, outgoing) = UnixStream::pair().map_err(failed)?;
        for (signal, number) in [(SIGINT, 2), (SIGTERM, 15), (SIGHUP, 1)] {
            // Handlers run in the order of registration, so that the number is there when the byte arrives.
            signal_hook::flag::register_usize(signal, last.clone(), number).map_err(failed)?;
            let end = outgoing.try_clone().map_err(failed)?;
            signal_hook::low_level::pipe::register(signal, end).map_err(failed)?;
        }
        let seen = last.clone();
        let listen = move || listen(&mut incoming, stop, || end_now(&seen));
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(failed)?;
        Ok(Self { last })
    }

    /// What the signal that arrived makes of the result of a command.
    pub(crate) fn verdict(&self) -> Option<Kind> {
        match self.last.load(Ordering::SeqCst) {
            0 => None,
            2 => Some(Kind::Interrupted),
            _ => Some(Kind::Terminated),
        }
    }
}

/// Calls `stop` for the first byte, and `end` for what comes later than its echo.
fn listen(incoming: &mut impl Read, stop: impl Fn(), end: impl Fn()) {
    let mut byte = [0];
    let mut stopped: Option<Instant> = None;
    while incoming.read_exact(&mut byte).is_ok() {
        match stopped {
            None => {
                stop();
                stopped = Some(Instant::now());
            }
            Some(at) if at.elapsed() < SAME => {}
            Some(_) => end(),
        }
    }
}

/// The second signal: whatever is not finished is left to the next run, which finds it as garbage.
#[expect(clippy::exit, reason = "the user asked a second time; nothing may be waited for")]
fn end_now(last: &AtomicUsize) {
    ui::restore_terminal();
    report::note("stopped at once");
    let kind = if last.load(Ordering::SeqCst) == 2 { Kind::Interrupted } else { Kind::Terminated };
    std::process::exit(i32::from(kind.code()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Write;

    use super::*;

    #[test]
    fn the_echo_of_a_signal_is_not_the_second_one() {
        let (mut incoming, mut outgoing) = UnixStream::pair().unwrap();
        let sender = std::thread::spawn(move || {
            outgoing.write_all(b"11").unwrap();
            std::thread::sleep(3 * SAME);
            outgoing.write_all(b"1").unwrap();
        });
        let (stopped, ended) = (Cell::new(0), Cell::new(0));
        listen(&mut incoming, || stopped.set(stopped.get() + 1), || ended.set(ended.get() + 1));
        sender.join().unwrap();
        assert_eq!((stopped.get(), ended.get()), (1, 1));
    }
}
