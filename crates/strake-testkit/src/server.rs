//! Programs that serve on a port of the loopback interface until their guard is dropped.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Failure, Outcome};

/// A server that answers.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `program` and waits until somebody answers on `port`; what it prints goes to `log`.
    pub(crate) fn start(program: &Path, args: &[&str], port: u16, log: &Path) -> Outcome<Self> {
        let shown = program.display();
        let file = std::fs::File::create(log).map_err(Failure::at(format!("create the log of {shown}")))?;
        let file_too = file.try_clone().map_err(Failure::at(format!("share the log of {shown}")))?;
        // setpriv: the kernel stops the server when the test dies without running its guards.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).args(args);
        command.stdin(Stdio::null()).stdout(file).stderr(file_too);
        let process = command.spawn().map_err(Failure::at(format!("start {shown}")))?;
        let mut server = Self { process, log: log.to_owned() };
        server.wait_until_ready(program, port)?;
        Ok(server)
    }

    /// What it has printed.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn wait_until_ready(&mut self, program: &Path, port: u16) -> Outcome<()> {
        let begun = Instant::now();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            let gone = self.process.try_wait().is_ok_and(|status| status.is_some());
            if gone || begun.elapsed() > Duration::from_secs(20) {
                let message = format!("{} does not answer:\n{}", program.display(), self.log());
                return Err(Failure::new(message));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both only fail when the process is gone already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Starts a server on a free port. Between finding a free port and using it somebody else may take it.
pub(crate) fn on_free_port<T>(mut start: impl FnMut(u16) -> Outcome<T>) -> Outcome<T> {
    let mut last = Failure::new("no free port");
    for _ in 0..5 {
        match start(free_port()?) {
            Ok(server) => return Ok(server),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(Failure::at("find a free port"))?;
    Ok(listener.local_addr().map_err(Failure::at("find a free port"))?.port())
}
