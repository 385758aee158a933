//! A program that runs beside the test: watched, frozen, killed.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Failure, Finished, Outcome};

/// How long is waited for what has to happen.
const PATIENCE: Duration = Duration::from_secs(90);

/// A started program with everything it started in turn; all of it is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    pub(crate) shown: String,
    pub(crate) child: Child,
    pub(crate) stdout: File,
    pub(crate) stderr: File,
}

impl Running {
    /// What it has written to standard error so far.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn said(&self) -> Outcome<String> {
        text_of(&self.stderr)
    }

    /// Waits until standard error has `text`.
    ///
    /// # Errors
    /// When the program ends without having said it, or does not say it in 90 seconds.
    pub fn wait_for(&mut self, text: &str) -> Outcome<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            // Asked in this order: what was said last is there when the program is found to have ended.
            let has_ended = self.has_ended()?;
            let said = self.said()?;
            if said.contains(text) {
                return Ok(());
            }
            if has_ended || Instant::now() > until {
                return Err(Failure::new(format!("{} never said {text:?}, but:\n{said}", self.shown)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn has_ended(&mut self) -> Outcome<bool> {
        let status = self.child.try_wait().map_err(Failure::at(format!("wait for {}", self.shown)))?;
        Ok(status.is_some())
    }

    /// Waits until something that it started has stopped itself (`kill -STOP $$`), to go on with [`thaw`](Self::thaw).
    ///
    /// # Errors
    /// When the program ends before, or nothing stops in 90 seconds.
    pub fn wait_for_stop(&mut self) -> Outcome<()> {
        let until = Instant::now() + PATIENCE;
        while !self.tree().into_iter().any(|pid| stat(pid).is_some_and(|(state, _)| state == 'T')) {
            if self.has_ended()? || Instant::now() > until {
                return Err(Failure::new(format!(
                    "nothing of {} stops; it said:\n{}",
                    self.shown,
                    self.said()?
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Stops it and everything it started, until [`thaw`](Self::thaw). Returns when all of it stands still.
    ///
    /// # Errors
    /// When something does not stop within 10 seconds.
    pub fn freeze(&self) -> Outcome<()> {
        let until = Instant::now() + Duration::from_secs(10);
        let mut stopped = BTreeSet::new();
        loop {
            // What started something just before it was stopped is asked again: there may be more of them now.
            let tree = self.tree();
            let fresh: Vec<i32> = tree.iter().copied().filter(|pid| stopped.insert(*pid)).collect();
            fresh.iter().filter(|pid| !stops_by_itself(**pid)).for_each(|pid| send(*pid, Signal::STOP));
            let moving = tree.into_iter().filter(|pid| is_moving(*pid)).count();
            if fresh.is_empty() && moving == 0 {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(Failure::new(format!("{moving} processes of {} do not stop", self.shown)));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets all of it go on that was [frozen](Self::freeze) or has stopped itself.
    pub fn thaw(&self) {
        // Children first: a parent that sees them stopped could take that for news.
        self.tree().into_iter().rev().for_each(|pid| send(pid, Signal::CONT));
    }

    /// Kills it and everything it started, as the loss of the machine would.
    ///
    /// # Errors
    /// When what it said cannot be read.
    pub fn kill(mut self) -> Outcome<Finished> {
        self.kill_tree();
        self.end()
    }

    /// Waits for its end, whatever that is.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn finish(mut self) -> Outcome<Finished> {
        self.end()
    }

    fn end(&mut self) -> Outcome<Finished> {
        let status = self.child.wait().map_err(Failure::at(format!("wait for {}", self.shown)))?;
        Ok(Finished {
            shown: self.shown.clone(),
            code: code(status),
            stdout: text_of(&self.stdout)?,
            stderr: text_of(&self.stderr)?,
        })
    }

    fn kill_tree(&self) {
        // Frozen first, so that nothing escapes by being started meanwhile; what does not stop is killed all the same.
        drop(self.freeze());
        let tree = self.tree();
        tree.iter().for_each(|pid| send(*pid, Signal::KILL));
        let until = Instant::now() + Duration::from_secs(10);
        // The first one is our own child, which stays until it is waited for.
        while tree.iter().skip(1).any(|pid| is_there(*pid)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The program and all that descends from it, parents before children.
    fn tree(&self) -> Vec<i32> {
        let all: Vec<(i32, i32)> =
            processes().into_iter().filter_map(|pid| Some((pid, stat(pid)?.1))).collect();
        let mut tree: Vec<i32> = i32::try_from(self.child.id()).into_iter().collect();
        let mut next = 0;
        while let Some(parent) = tree.get(next).copied() {
            tree.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        tree
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.kill_tree();
            drop(self.child.wait());
        }
    }
}

/// Exit code, or 128 + signal.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// All of a file that somebody else is writing. Its position, which the writer shares, stays.
fn text_of(file: &File) -> Outcome<String> {
    let mut bytes = Vec::new();
    let mut piece = [0; 8192];
    loop {
        let count =
            file.read_at(&mut piece, bytes.len() as u64).map_err(Failure::at("read what was said"))?;
        if count == 0 {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        bytes.extend_from_slice(&piece[..count]);
    }
}

fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended meanwhile.
        let _ = kill_process(pid, signal);
    }
}

/// nsenter stops itself when its child is stopped. Stopped by us as well, it could do so again after it was told to go
/// on, and nobody would wake it a second time.
fn stops_by_itself(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "nsenter\n")
}

/// A stopped process stands still when its last thread does.
pub(crate) fn is_moving(pid: i32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut states = threads.filter_map(|thread| Some(parse_stat(&thread.path().join("stat"))?.0));
    states.any(|state| !matches!(state, 'T' | 't' | 'Z' | 'X'))
}

/// A process whose first thread has ended keeps its files, and the ports it listens at, until the last one has.
fn is_there(pid: i32) -> bool {
    let has_threads = || std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.count() > 1);
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X') || has_threads())
}

fn processes() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// State and parent of a process.
fn stat(pid: i32) -> Option<(char, i32)> {
    parse_stat(Path::new(&format!("/proc/{pid}/stat")))
}

/// State and parent of a process or thread, as its file `stat` has them after the name in parentheses.
fn parse_stat(path: &Path) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut words = text.rsplit_once(") ")?.1.split(' ');
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Run;

    /// A shell whose grandchild counts into a file.
    fn counting(file: &std::path::Path) -> Running {
        let script = "(sh -c 'echo started >&2; while :; do echo x >> \"$0\"; done' \"$0\"; true); true";
        Run::new("sh").args(["-c", script]).arg(file).start().unwrap()
    }

    fn size(file: &tempfile::NamedTempFile) -> u64 {
        file.as_file().metadata().unwrap().len()
    }

    #[test]
    fn a_frozen_tree_stands_still_and_goes_on() {
        let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        let mut running = counting(file.path());
        running.wait_for("started").unwrap();
        running.freeze().unwrap();
        let before = size(&file);
        // Time in which a process that is not stopped would write thousands of lines.
        Run::new("sh").args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"]).succeed().unwrap();
        assert_eq!(size(&file), before);
        running.thaw();
        while size(&file) == before {
            assert!(!running.has_ended().unwrap());
            std::thread::yield_now();
        }
    }

    #[test]
    fn nothing_of_a_killed_tree_is_left() {
        let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        let mut running = counting(file.path());
        running.wait_for("started").unwrap();
        let tree = running.tree();
        assert!(tree.len() >= 3, "{tree:?}");
        let finished = running.kill().unwrap();
        assert_eq!((finished.code, finished.stderr.as_str()), (137, "started\n"));
        assert!(!tree.into_iter().any(is_there));
    }

    #[test]
    fn what_is_never_said_is_a_failure() {
        let mut running = Run::new("sh").args(["-c", "echo something >&2; cat"]).input("in").start().unwrap();
        let failure = running.wait_for("nothing").unwrap_err().to_string();
        assert!(failure.contains("something"), "{failure}");
        assert_eq!(running.finish().unwrap().stdout, "in");
    }
}
