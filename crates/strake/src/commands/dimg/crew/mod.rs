//! Images of one command that are assembled at the same time.
//!
//! Each image that has something to do, and each that such an image needs, is a *task*. As many tasks go on as steps
//! may; one that waits for another lets somebody else go on meanwhile. Stages are claimed here before they are locked, so
//! that images with a beginning in common make it once, and nobody waits for himself aloud.
//!
//! Rows tell of one image after the other, whatever goes on beside it. So each task writes on a *sheet* of its own: the
//! one whose turn it is is read as it is written, the others wait. An image that is needed by another is shown where
//! it is needed first, as if it were assembled then and there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use strake_frontend::stagefile::ImageId;
use strake_frontend::stagefile::lower::Below;

use crate::failure::{Failure, Kind};

/// More threads than these do not help: most of them would wait for one image.
const THREADS_MAX: usize = 64;

/// What a sheet keeps of what commands print until it is read, in bytes. All of it is in the logs.
const OUTPUT_MAX: usize = 4 << 20;

/// The tasks of a command.
#[derive(Debug)]
pub(super) struct Crew {
    state: Mutex<State>,
    changed: Condvar,
    /// Held while a stage gets a name or loses it.
    naming: Mutex<()>,
}

#[derive(Debug)]
struct State {
    tasks: BTreeMap<ImageId, Task>,
    /// Those that nobody has begun, in the order of their rows.
    waiting: VecDeque<ImageId>,
    /// How many more may go on.
    free: usize,
    threads: usize,
    /// Signatures of stages that are being assembled.
    claimed: BTreeSet<String>,
    /// Signatures of stages that were assembled.
    made: BTreeSet<String>,
    /// What failed first: after that nothing is begun.
    failed: Option<(ImageId, Failure)>,
    /// Whether nobody waits for tasks any more.
    over: bool,
}

/// An image that is to be assembled.
#[derive(Debug)]
struct Task {
    place: Place,
    progress: Progress,
    sheet: VecDeque<Entry>,
    /// Bytes of commands' output on the sheet.
    output: usize,
    /// Bytes of it that were left out since the last entry.
    left_out: usize,
    shown: bool,
}

/// Where the rows of an image are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The image that needs it first, among whose rows they are; nothing for one that is shown for itself.
    pub(super) host: Option<ImageId>,
    /// The level of the rows.
    pub(super) level: usize,
}

#[derive(Debug)]
enum Progress {
    Waiting,
    Running,
    Done(Box<Below>, Duration),
    /// Itself, or another one before this one was done.
    Failed,
}

/// What is on a sheet.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Rows(String),
    Output(String),
    /// Here the rows of another image are shown.
    Image(ImageId),
}

/// What somebody has to do who needs an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Assemble it as a part of his own work: it is no task.
    Own,
    /// Carry out the task, which nobody had begun.
    Task(Place),
    /// Wait for whoever is at it.
    Others(Place),
}

/// Somebody who assembles images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'c> {
    crew: &'c Crew,
    /// Whether he is one of those of whom only so many go on.
    counts: bool,
}

/// A stage that one member is at. The others who need it wait until this is dropped.
#[derive(Debug)]
pub(super) struct Claim<'c> {
    crew: &'c Crew,
    signature: String,
}

impl Task {
    fn new(place: Place) -> Self {
        let sheet = VecDeque::new();
        Self { place, progress: Progress::Waiting, sheet, output: 0, left_out: 0, shown: false }
    }

    fn begin(&mut self) -> Place {
        self.progress = Progress::Running;
        self.place
    }

    fn is_over(&self) -> bool {
        matches!(self.progress, Progress::Done(..) | Progress::Failed)
    }
}

impl State {
    fn goes_on(&self) -> bool {
        self.failed.is_none() && !self.over
    }

    fn task(&mut self, image: ImageId) -> &mut Task {
        self.tasks.get_mut(&image).expect("only images that are tasks are asked for")
    }
}

impl Crew {
    /// Tasks in the order of their rows, of which so many go on at a time. Of one alone nothing is made: it is assembled
    /// where it is needed.
    pub(super) fn new(tasks: Vec<(ImageId, Place)>, jobs: NonZeroUsize) -> Self {
        let tasks = if tasks.len() > 1 && jobs.get() > 1 { tasks } else { Vec::new() };
        let state = State {
            waiting: tasks.iter().map(|(image, _)| *image).collect(),
            tasks: tasks.into_iter().map(|(image, place)| (image, Task::new(place))).collect(),
            free: jobs.get(),
            threads: 0,
            claimed: BTreeSet::new(),
            made: BTreeSet::new(),
            failed: None,
            over: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), naming: Mutex::new(()) }
    }

    /// Whether there is anything to begin.
    pub(super) fn has_tasks(&self) -> bool {
        !self.lock().tasks.is_empty()
    }

    /// Somebody who is not counted among those that go on.
    pub(super) fn outsider(&self) -> Member<'_> {
        Member { crew: self, counts: false }
    }

    /// Begins tasks, in threads of their own, until all are begun, one has failed, or nobody waits for them any more.
    pub(super) fn begin_all<'s, 'e>(
        &'e self,
        scope: &'s Scope<'s, 'e>,
        work: &'e (impl Fn(Member<'_>, ImageId, Place) -> Result<Below, Failure> + Sync),
    ) {
        let mut state = self.lock();
        loop {
            let Some(first) = state.waiting.front().copied().filter(|_| state.goes_on()) else { return };
            if state.free == 0 || state.threads >= THREADS_MAX {
                state = self.wait(state);
                continue;
            }
            state.waiting.pop_front();
            state.free -= 1;
            state.threads += 1;
            let place = state.task(first).begin();
            scope.spawn(move || {
                let member = Member { crew: self, counts: true };
                self.carry_out(first, || work(member, first, place));
                let mut state = self.lock();
                state.free += 1;
                state.threads -= 1;
                self.changed.notify_all();
            });
        }
    }

    /// Carries out a task that was begun.
    fn carry_out(&self, image: ImageId, work: impl FnOnce() -> Result<Below, Failure>) {
        /// Whoever panics has failed, too: nobody may wait for him.
        struct End<'c>(&'c Crew, ImageId, Progress);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                let mut state = self.0.lock();
                let progress = std::mem::replace(&mut self.2, Progress::Failed);
                state.over |= std::thread::panicking();
                state.task(self.1).progress = progress;
                self.0.changed.notify_all();
            }
        }
        let mut end = End(self, image, Progress::Failed);
        let begun = Instant::now();
        match work() {
            Ok(below) => end.2 = Progress::Done(Box::new(below), begun.elapsed()),
            Err(failure) => {
                let mut state = self.lock();
                // Who only stopped because of others has not failed.
                if state.goes_on() {
                    state.failed = Some((image, failure));
                }
            }
        }
    }

    /// Nobody waits for tasks any more: those that go on end with the stage that they are at.
    pub(super) fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }

    /// The task that failed first, its place, and why.
    pub(super) fn failure(&self) -> Option<(ImageId, Place, Failure)> {
        let mut state = self.lock();
        let (image, failure) = state.failed.clone()?;
        let place = state.task(image).place;
        Some((image, place, failure))
    }

    /// Whether an image is a task whose rows are shown for themselves.
    pub(super) fn shows(&self, image: ImageId) -> bool {
        self.lock().tasks.get(&image).is_some_and(|task| task.place.host.is_none())
    }

    /// Puts rows on the sheet of a task.
    pub(super) fn rows(&self, image: ImageId, text: &str) {
        let mut state = self.lock();
        state.task(image).put(Entry::Rows(text.to_owned()));
        self.changed.notify_all();
    }

    /// Puts what a command printed on the sheet of a task. When there is no room it waits for whoever reads, and leaves
    /// the text out when nobody does yet.
    pub(super) fn output(&self, image: ImageId, text: &str) {
        let mut state = self.lock();
        while state.task(image).output + text.len() > OUTPUT_MAX && state.task(image).output > 0 {
            if !(state.task(image).shown && state.goes_on()) {
                state.task(image).left_out += text.len();
                return;
            }
            state = self.wait(state);
        }
        let task = state.task(image);
        task.output += text.len();
        task.put(Entry::Output(text.to_owned()));
        self.changed.notify_all();
    }

    /// Hands what is on the sheet of a task to `reader`, with the sheets of those that are shown on it, until the task is
    /// over. What was shown is not shown again.
    ///
    /// # Errors
    /// As the reader.
    pub(super) fn show(
        &self,
        image: ImageId,
        reader: &mut dyn FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut state = self.lock();
        if std::mem::replace(&mut state.task(image).shown, true) {
            return Ok(());
        }
        loop {
            let goes_on = state.goes_on();
            let task = state.task(image);
            let Some(entry) = task.sheet.pop_front() else {
                // After a failure nobody begins it any more.
                if task.is_over() || !goes_on && matches!(task.progress, Progress::Waiting) {
                    return Ok(());
                }
                state = self.wait(state);
                continue;
            };
            if let Entry::Output(text) = &entry {
                task.output -= text.len();
                self.changed.notify_all();
            }
            drop(state);
            match entry {
                Entry::Rows(text) | Entry::Output(text) => reader(&text)?,
                Entry::Image(needed) => self.show(needed, reader)?,
            }
            state = self.lock();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves it right, so whoever panicked elsewhere does not matter here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, state: MutexGuard<'g, State>) -> MutexGuard<'g, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task {
    fn put(&mut self, entry: Entry) {
        if self.left_out > 0 {
            let text = format!("\n[{} bytes left out; the log has them]\n", self.left_out);
            self.left_out = 0;
            self.sheet.push_back(Entry::Rows(text));
        }
        self.sheet.push_back(entry);
    }
}

impl<'c> Member<'c> {
    /// What there is to do about an image that is needed. A task that nobody has begun is the asker's from now on.
    pub(super) fn turn(self, image: ImageId) -> Turn {
        let mut state = self.crew.lock();
        let Some(task) = state.tasks.get_mut(&image) else { return Turn::Own };
        if !matches!(task.progress, Progress::Waiting) {
            return Turn::Others(task.place);
        }
        let place = task.begin();
        state.waiting.retain(|waiting| *waiting != image);
        Turn::Task(place)
    }

    /// Notes on the sheet of `host` that the rows of another image are shown there.
    pub(super) fn nest(self, host: ImageId, image: ImageId) {
        let mut state = self.crew.lock();
        state.task(host).put(Entry::Image(image));
        self.crew.changed.notify_all();
    }

    /// Carries out a task of [`Turn::Task`].
    pub(super) fn carry_out(self, image: ImageId, work: impl FnOnce() -> Result<Below, Failure>) {
        self.crew.carry_out(image, work);
    }

    /// Waits until a task is done: its image, and how long it took.
    ///
    /// # Errors
    /// When it failed, or will never be begun because another one has.
    pub(super) fn wait_for(self, image: ImageId) -> Result<(Below, Duration), Failure> {
        self.idle(|state| {
            let goes_on = state.goes_on();
            match &state.task(image).progress {
                Progress::Done(below, span) => Some(Ok(((**below).clone(), *span))),
                Progress::Failed => Some(Err(stopped())),
                Progress::Waiting if !goes_on => Some(Err(stopped())),
                Progress::Waiting | Progress::Running => None,
            }
        })
    }

    /// Claims a stage, as soon as nobody else has it.
    pub(super) fn claim(self, signature: &str) -> Claim<'c> {
        self.idle(|state| state.claimed.insert(signature.to_owned()).then_some(()));
        Claim { crew: self.crew, signature: signature.to_owned() }
    }

    /// Keeps others from giving stages names, or taking them, until it is dropped.
    pub(super) fn naming(self) -> MutexGuard<'c, ()> {
        self.crew.naming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a stage was assembled and has its name.
    pub(super) fn note_made(self, signature: &str) {
        self.crew.lock().made.insert(signature.to_owned());
    }

    /// Whether somebody has assembled a stage.
    pub(super) fn has_made(self, signature: &str) -> bool {
        self.crew.lock().made.contains(signature)
    }

    /// Whether to begin another stage.
    ///
    /// # Errors
    /// When a task has failed.
    pub(super) fn go_on(self) -> Result<(), Failure> {
        if self.crew.lock().goes_on() { Ok(()) } else { Err(stopped()) }
    }

    /// Waits for an answer, and lets somebody else go on meanwhile.
    fn idle<T>(self, mut answer: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut state = self.crew.lock();
        if let Some(answer) = answer(&mut state) {
            return answer;
        }
        let slots = usize::from(self.counts);
        state.free += slots;
        self.crew.changed.notify_all();
        let found = loop {
            state = self.crew.wait(state);
            if let Some(answer) = answer(&mut state) {
                break answer;
            }
        };
        while state.free < slots {
            state = self.crew.wait(state);
        }
        state.free -= slots;
        found
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.crew.lock().claimed.remove(&self.signature);
        self.crew.changed.notify_all();
    }
}

/// Never shown: whoever reads it tells of what failed first.
fn stopped() -> Failure {
    Failure::new(Kind::Interrupted, "another image has failed")
}

#[cfg(test)]
mod tests;
