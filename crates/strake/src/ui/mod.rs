//! Shows what happens. Driven by [`Event`]s only; results go to standard output, all of this to standard error.

pub(crate) mod conveyor;
mod json;
mod model;
mod plain;
mod text;
mod tty;

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use strake_engine::Event;

use crate::args::ProgressMode;
use crate::failure::Failure;
use json::Json;
use plain::Plain;
use tty::{Size, Tty};

pub(crate) use text::{Lines, ago, clean, cut, elapsed, size};

/// Time between two frames: ten a second look alive and cost nothing.
const FRAME: Duration = Duration::from_millis(100);

/// How to show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UiOptions {
    /// In which form.
    pub(crate) mode: ProgressMode,
    /// Whether colours are wanted where they can be had.
    pub(crate) colour: bool,
    /// Whether all reasons of all steps are shown.
    pub(crate) explain: bool,
    /// The verb of the head line.
    pub(crate) title: &'static str,
}

/// Shows what happens, from any thread, until dropped.
#[derive(Debug)]
pub(crate) struct Ui {
    shared: Arc<Shared>,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    renderer: Mutex<Renderer>,
    started: Instant,
    finished: AtomicBool,
    /// The last warning: several that wait for the same say it once.
    warned: Mutex<String>,
    wake: (Mutex<bool>, Condvar),
}

#[derive(Debug)]
enum Renderer {
    Plain(Box<Plain>),
    Tty(Box<Tty>),
    Json(Json),
    Quiet,
}

/// Whether the cursor is hidden now, for whoever must end the process at once.
static CURSOR_HIDDEN: AtomicBool = AtomicBool::new(false);

/// Whether standard error is for programs; set once, as soon as it is known.
static JSON: AtomicBool = AtomicBool::new(false);

/// When the program began to show something.
static STARTED: OnceLock<Instant> = OnceLock::new();

/// What shows something now. There is one at a time.
static CURRENT: Mutex<Weak<Shared>> = Mutex::new(Weak::new());

/// Takes note of the form that was asked for, for all that is said outside of any [`Ui`].
pub(crate) fn announce(mode: ProgressMode) {
    JSON.store(mode == ProgressMode::Rawjson, Ordering::Relaxed);
}

/// Writes a warning as programs read it, or nothing if people read.
pub(crate) fn warn_programs(text: &str) -> bool {
    let is_json = JSON.load(Ordering::Relaxed);
    if is_json {
        write_all(&Json::default().event(started().elapsed(), &Event::Warning(text.to_owned())));
    }
    is_json
}

/// Writes why the program ends as programs read it, or nothing if people read.
pub(crate) fn fail_programs(failure: &Failure) -> bool {
    let is_json = JSON.load(Ordering::Relaxed);
    if is_json {
        write_all(&json::failure(started().elapsed(), failure));
    }
    is_json
}

/// Lets something be written that may be on the same terminal: a live region steps aside meanwhile.
pub(crate) fn aside<T>(write: impl FnOnce() -> T) -> T {
    let current = lock(&CURRENT).upgrade();
    let Some(shared) = current else { return write() };
    let mut renderer = lock(&shared.renderer);
    let Renderer::Tty(tty) = &mut *renderer else {
        drop(renderer);
        return write();
    };
    let size = terminal_size();
    write_all(&tty.suspend(size));
    let written = write();
    if !shared.finished.load(Ordering::SeqCst) {
        write_all(&tty.frame(shared.started.elapsed(), size));
    }
    written
}

fn started() -> Instant {
    *STARTED.get_or_init(Instant::now)
}

/// Gives the terminal back as it was. May be called at any time, from any thread.
pub(crate) fn restore_terminal() {
    if CURSOR_HIDDEN.swap(false, Ordering::SeqCst) {
        write_all("\x1b[?25h");
    }
}

/// A closed standard error must not stop a build: what cannot be shown is not.
fn write_all(text: &str) {
    if !text.is_empty() {
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

fn terminal_size() -> Size {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    match size {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: usize::from(size.ws_col), rows: usize::from(size.ws_row) }
        }
        _ => Size { columns: 80, rows: 24 },
    }
}

impl Ui {
    /// Nothing is written, and no thread is started, before the first event.
    pub(crate) fn new(options: UiOptions) -> Self {
        let wall_clock =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |span| span.as_secs());
        let is_terminal = std::io::stderr().is_terminal();
        let mode = match options.mode {
            ProgressMode::Auto if is_terminal => ProgressMode::Tty,
            ProgressMode::Auto => ProgressMode::Plain,
            mode => mode,
        };
        let renderer = match mode {
            ProgressMode::Tty => {
                let colour = options.colour && is_terminal;
                Renderer::Tty(Box::new(Tty::new(options.title, colour, options.explain, wall_clock)))
            }
            ProgressMode::Rawjson => Renderer::Json(Json::default()),
            ProgressMode::Quiet => Renderer::Quiet,
            ProgressMode::Plain | ProgressMode::Auto => {
                Renderer::Plain(Box::new(Plain::new(options.explain, wall_clock)))
            }
        };
        let shared = Shared {
            renderer: Mutex::new(renderer),
            started: started(),
            finished: AtomicBool::new(false),
            warned: Mutex::default(),
            wake: (Mutex::new(false), Condvar::new()),
        };
        let shared = Arc::new(shared);
        *lock(&CURRENT) = Arc::downgrade(&shared);
        Self { shared, ticker: Mutex::new(None) }
    }

    /// Shows an event.
    pub(crate) fn event(&self, event: &Event) {
        if let Event::Warning(text) = event
            && std::mem::replace(&mut *lock(&self.shared.warned), text.clone()) == *text
        {
            return;
        }
        let now = self.shared.started.elapsed();
        let mut renderer = lock(&self.shared.renderer);
        match &mut *renderer {
            Renderer::Plain(plain) => write_all(&plain.event(now, event)),
            Renderer::Json(json) => write_all(&json.event(now, event)),
            Renderer::Quiet => {
                if let Event::Warning(text) = event {
                    write_all(&format!("warning: {}\n", clean(text.as_bytes())));
                }
            }
            Renderer::Tty(tty) => {
                tty.event(now, event);
                drop(renderer);
                self.start_ticker();
            }
        }
    }

    /// Shows what is final and gives the terminal back. What comes later is shown as text.
    pub(crate) fn finish(&self) {
        if self.shared.finished.swap(true, Ordering::SeqCst) {
            return;
        }
        *lock(&self.shared.wake.0) = true;
        self.shared.wake.1.notify_all();
        if let Some(ticker) = lock(&self.ticker).take() {
            // A ticker that panicked has been reported by the panic hook.
            let _ = ticker.join();
        }
        let now = self.shared.started.elapsed();
        match &mut *lock(&self.shared.renderer) {
            Renderer::Plain(plain) => write_all(&plain.finish(now)),
            Renderer::Tty(tty) => write_all(&tty.finish(now, terminal_size())),
            Renderer::Json(_) | Renderer::Quiet => {}
        }
        restore_terminal();
    }

    /// Shows why a command failed, after everything else.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.finish();
        let now = self.shared.started.elapsed();
        match &*lock(&self.shared.renderer) {
            Renderer::Json(_) => write_all(&json::failure(now, failure)),
            _ => crate::report::print(failure),
        }
    }

    /// Shows text of several lines, such as rendered diagnostics, which stays.
    pub(crate) fn text(&self, text: &str) {
        let mut renderer = lock(&self.shared.renderer);
        match &mut *renderer {
            Renderer::Tty(tty) => {
                let size = terminal_size();
                let now = self.shared.started.elapsed();
                let out = format!("{}{}", tty.suspend(size), text.replace('\n', "\r\n"));
                let frame = if self.shared.finished.load(Ordering::SeqCst) {
                    String::new()
                } else {
                    tty.frame(now, size)
                };
                write_all(&format!("{out}{frame}"));
            }
            Renderer::Plain(_) => write_all(text),
            Renderer::Json(json) => {
                let warning = Event::Warning(text.trim_end().to_owned());
                write_all(&json.event(self.shared.started.elapsed(), &warning));
            }
            Renderer::Quiet => {}
        }
    }

    /// Says in JSON what was made; the other forms leave that to standard output.
    pub(crate) fn result(&self, image: &str, names: &[String]) {
        if matches!(&*lock(&self.shared.renderer), Renderer::Json(_)) {
            write_all(&json::result(self.shared.started.elapsed(), image, names));
        }
    }

    /// Whether standard error is for programs, or for nobody: remarks for people are left out.
    pub(crate) fn is_machine_readable(&self) -> bool {
        matches!(&*lock(&self.shared.renderer), Renderer::Json(_) | Renderer::Quiet)
    }

    /// Starts the thread that draws frames. A build that is over within one frame never has it draw.
    fn start_ticker(&self) {
        let mut ticker = lock(&self.ticker);
        if ticker.is_some() || self.shared.finished.load(Ordering::SeqCst) {
            return;
        }
        let shared = self.shared.clone();
        *ticker = std::thread::Builder::new().name("progress".to_owned()).spawn(move || tick(&shared)).ok();
    }
}

impl Drop for Ui {
    fn drop(&mut self) {
        self.finish();
    }
}

fn tick(shared: &Shared) {
    let mut stop = lock(&shared.wake.0);
    loop {
        let waited = shared.wake.1.wait_timeout(stop, FRAME);
        stop = waited.unwrap_or_else(PoisonError::into_inner).0;
        if *stop {
            return;
        }
        if let Renderer::Tty(tty) = &mut *lock(&shared.renderer) {
            let hide = if CURSOR_HIDDEN.swap(true, Ordering::SeqCst) { "" } else { "\x1b[?25l" };
            let frame = tty.frame(shared.started.elapsed(), terminal_size());
            write_all(&format!("{hide}{frame}"));
        }
    }
}

/// A renderer that panicked has been reported; what it holds is still the best there is to show.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
