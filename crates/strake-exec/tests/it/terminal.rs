//! Terminals: a copy of this program in a terminal of its own runs a container with one.

use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};

use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use strake_exec::{Cancel, Executor, ExitStatus, Io, Stdin};

use crate::Case;
use crate::sandbox::{self, Sandbox};

/// The copy that has a terminal.
pub(crate) const ARGUMENT: &str = "--terminal-program";

pub(crate) const CASES: &[Case] =
    &[("terminal::without_one_of_ours", without_one_of_ours), ("terminal::window_on_ours", window_on_ours)];

fn without_one_of_ours() {
    let mut sandbox = Sandbox::new();
    sandbox.container.process.terminal = true;
    for user in ["", "app"] {
        sandbox.container.process.user = user.into();
        let outcome = sandbox.sh("tty; [ -c /dev/console ] && echo console; echo err >&2; exit 4");
        assert_eq!(outcome.status, Ok(ExitStatus::Exited(4)), "{outcome:?}");
        assert_eq!(outcome.stdout, "/dev/pts/0\r\nconsole\r\nerr\r\n");
        assert_eq!(outcome.stderr, "");
    }
    assert!(sandbox.changes().is_empty(), "{:?}", sandbox.changes());
}

/// The copy: runs a shell in a container on its own terminal.
pub(crate) fn program() -> ExitCode {
    let mut sandbox = Sandbox::new();
    sandbox.container.process.terminal = true;
    sandbox.container.process.args =
        ["/bin/sh", "-c", "stty size; read line; echo got $line; tty; read -r gone; echo end"]
            .map(str::to_owned)
            .into();
    let mut output = |_, bytes: &[u8]| {
        std::io::stdout().write_all(bytes).unwrap();
        std::io::stdout().flush().unwrap();
    };
    let io = Io { output: &mut output, stdin: Stdin::Terminal };
    let executor: &dyn Executor = &sandbox::own();
    assert_eq!(executor.run(&sandbox.container, io, &Cancel::new()), Ok(ExitStatus::Exited(0)));
    ExitCode::SUCCESS
}

fn window_on_ours() {
    if sandbox::is_rootless() {
        // The copy would need a user namespace of its own; what differs there is covered by the other case.
        return;
    }
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
    tcsetwinsize(&master, Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let is_raw = || !tcgetattr(&slave).unwrap().local_modes.contains(LocalModes::ICANON);
    let stream = || Stdio::from(slave.try_clone().unwrap());
    let mut program = Command::new("/proc/self/exe")
        .arg(ARGUMENT)
        .stdin(stream())
        .stdout(stream())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut terminal = std::fs::File::from(master);
    let mut seen = String::new();
    let mut wait_for = |terminal: &mut std::fs::File, text: &str| {
        while !seen.contains(text) {
            let mut buffer = [0; 1024];
            let length = terminal.read(&mut buffer).unwrap();
            seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    };
    wait_for(&mut terminal, "33 77\r\n");
    assert!(is_raw());
    terminal.write_all(b"hello\n").unwrap();
    wait_for(&mut terminal, "got hello\r\n");
    wait_for(&mut terminal, "/dev/pts/0\r\n");
    // End of input, as the user types it.
    terminal.write_all(&[4]).unwrap();
    wait_for(&mut terminal, "end\r\n");
    assert!(program.wait().unwrap().success());
    assert!(!is_raw(), "the terminal is put back");
}
