//! What the tests of whole builds share: a store with a base image, builds read from their events, and programs
//! that are watched and stopped while they run.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use strake_testkit::{Base, Finished, Run, Sandbox};

use crate::STRAKE;

/// How long a test waits for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(90);

/// A sandbox of root's whose store has `busybox:latest`, and a build context `c`.
pub(crate) struct Scene {
    pub(crate) sandbox: Sandbox,
}

impl Scene {
    /// A scene whose context has this Dockerfile.
    pub(crate) fn new(dockerfile: &str) -> Self {
        let scene = Self { sandbox: Sandbox::new(STRAKE).unwrap() };
        scene.sandbox.load_base(Base::Busybox, "busybox").unwrap();
        scene.file("Dockerfile", dockerfile);
        scene
    }

    /// Writes a file of the context.
    pub(crate) fn file(&self, path: &str, content: &str) {
        self.sandbox.write(&format!("c/{path}"), content).unwrap();
    }

    /// A build of the context `c` that tells its events; steps have no network unless `args` say so.
    pub(crate) fn command(&self, args: &[&str]) -> Run {
        let network: &[&str] =
            if args.iter().any(|arg| arg.starts_with("--network")) { &[] } else { &["--network=none"] };
        let build = self.sandbox.strake(["build", "--progress=rawjson"]);
        build.args(network).args(args).arg("c").seconds(PATIENCE.as_secs())
    }

    /// Builds, and expects success.
    pub(crate) fn build(&self, args: &[&str]) -> Built {
        Built::of(self.command(args).succeed().unwrap())
    }

    /// Builds, and expects the exit code.
    pub(crate) fn fails(&self, code: i32, args: &[&str]) -> Built {
        let built = Built::of(self.command(args).finish().unwrap());
        assert_eq!(built.finished.code, code, "{}", built.finished);
        built
    }

    /// Builds into a directory and reads one file of it.
    pub(crate) fn content(&self, path: &str, args: &[&str]) -> String {
        self.command(args).args(["-o", "out"]).succeed().unwrap();
        self.sandbox.read(&format!("out/{path}")).unwrap()
    }

    /// Runs strake with these words and expects success.
    pub(crate) fn strake(&self, words: &[&str]) -> Finished {
        self.sandbox.strake(words).succeed().unwrap()
    }

    /// Starts strake without waiting for it.
    pub(crate) fn start(&self, words: &[&str]) -> Started {
        Started::new(self.sandbox.strake(words).watched())
    }

    /// Starts a build of the context `c` that tells its events.
    pub(crate) fn start_build(&self, args: &[&str]) -> Started {
        self.start(&[&["build", "--progress=rawjson", "--network=none"], args, &["c"]].concat())
    }
}

/// A build that has ended, with its events.
pub(crate) struct Built {
    pub(crate) finished: Finished,
    pub(crate) events: Vec<Value>,
    labels: BTreeMap<u64, String>,
}

impl Built {
    pub(crate) fn of(finished: Finished) -> Self {
        let parse = |line: &str| serde_json::from_str(line).map_err(|error| format!("{error}: {line}"));
        let events = finished.stderr.lines().map(|line| parse(line).unwrap()).collect();
        Self::with(finished, events)
    }

    /// A build that was killed, perhaps in the middle of a line.
    pub(crate) fn of_killed(finished: Finished) -> Self {
        let events = finished.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Self::with(finished, events)
    }

    fn with(finished: Finished, events: Vec<Value>) -> Self {
        let planned = events.iter().filter(|event| event["event"] == "planned");
        let steps = planned.flat_map(|event| event["steps"].as_array().unwrap());
        let label = |step: &Value| (step["step"].as_u64().unwrap(), text(&step["label"]));
        let labels = steps.map(label).collect();
        Self { finished, events, labels }
    }

    /// The image ID that was printed.
    pub(crate) fn id(&self) -> &str {
        let id = self.finished.stdout.trim();
        assert!(id.starts_with("sha256:"), "{}", self.finished);
        id
    }

    /// The steps of which something was said: `finished`, `cached`, `waiting`.
    pub(crate) fn steps(&self, event: &str) -> Vec<&str> {
        let events = self.events.iter().filter(|found| found["event"] == event);
        events.map(|found| self.labels[&found["step"].as_u64().unwrap()].as_str()).collect()
    }

    /// The steps that were carried out. Of a base image it is only said that it is known.
    pub(crate) fn ran(&self) -> Vec<&str> {
        self.steps("finished").into_iter().filter(|label| !label.starts_with("FROM ")).collect()
    }

    /// Expects exactly the steps whose labels contain these texts to have been carried out, in any order.
    #[track_caller]
    pub(crate) fn expect_ran(&self, expected: &[&str]) {
        let ran = self.ran();
        let all = expected.iter().all(|text| ran.iter().any(|label| label.contains(text)));
        assert!(all && ran.len() == expected.len(), "ran {ran:?}, expected {expected:?}\n{}", self.finished);
    }

    /// Why the step whose label contains `label` was or was not cached: the reason, then the differences.
    #[track_caller]
    pub(crate) fn why(&self, label: &str) -> (String, Vec<String>) {
        let is_it = |event: &&Value| {
            event["event"] == "explained"
                && self.labels[&event["step"].as_u64().unwrap()].as_str().contains(label)
        };
        let found = self.events.iter().find(is_it);
        let event = found.unwrap_or_else(|| panic!("nothing explains {label:?}\n{}", self.finished));
        let differences = event["differences"].as_array().unwrap().iter().map(text).collect();
        (text(&event["reason"]), differences)
    }

    /// The last event of this name.
    #[track_caller]
    pub(crate) fn last(&self, event: &str) -> &Value {
        let found = self.events.iter().rfind(|found| found["event"] == event);
        found.unwrap_or_else(|| panic!("no event {event:?}\n{}", self.finished))
    }
}

/// The text of a JSON string.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// A program that runs beside the test; killed when this is dropped.
pub(crate) struct Started {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    stdout: Option<JoinHandle<String>>,
}

impl Started {
    pub(crate) fn new(mut command: Command) -> Self {
        // A group of its own, so that what is sent to it reaches nothing else.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // The test may have stopped listening.
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut stdout = child.stdout.take().unwrap();
        let stdout = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        Self { child, lines, seen: Vec::new(), stdout: Some(stdout) }
    }

    /// Reads standard error until a line has `what`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(what) {
                        return line;
                    }
                }
                Err(why) => panic!("waited for {what:?}: {why}; it said:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Reads `count` lines of standard error, or as many as there are.
    pub(crate) fn lines(&mut self, count: usize) -> usize {
        let until = Instant::now() + PATIENCE;
        for number in 0..count {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return number,
                Err(why) => panic!("waited for line {number}: {why}"),
            }
        }
        count
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end: the exit code (128 + signal), standard output, standard error.
    #[track_caller]
    pub(crate) fn end(mut self) -> (i32, String, String) {
        let status = eventually("the program to end", || self.child.try_wait().unwrap());
        self.seen.extend(self.lines.iter());
        let stdout = self.stdout.take().unwrap().join().unwrap();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        (code, stdout, self.seen.join("\n"))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Both only fail when it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
