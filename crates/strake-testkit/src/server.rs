//! Programs that serve on a port of the loopback interface until their guard is dropped.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::{Failure, Outcome, Port, Run};

/// A server that answers.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `program` and waits until somebody answers on `port`; what it prints goes to `log`.
    pub(crate) fn start(program: &Path, args: &[&str], port: &Port, log: &Path) -> Outcome<Self> {
        let shown = program.display();
        let file = std::fs::File::create(log).map_err(Failure::at(format!("create the log of {shown}")))?;
        let file_too = file.try_clone().map_err(Failure::at(format!("share the log of {shown}")))?;
        // setpriv: the kernel stops the server when the test dies without running its guards.
        let run = Run::new("setpriv").args(["--pdeathsig", "KILL"]).arg(program).args(args);
        let mut command = run.watched();
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

    fn wait_until_ready(&mut self, program: &Path, port: &Port) -> Outcome<()> {
        let begun = Instant::now();
        while TcpStream::connect_timeout(&port.address(), Duration::from_secs(1)).is_err() {
            let gone = self.process.try_wait().is_ok_and(|status| status.is_some());
            if gone || begun.elapsed() > Duration::from_secs(60) {
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
