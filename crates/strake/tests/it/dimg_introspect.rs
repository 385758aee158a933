//! Shells where stages are assembled (`--introspect-…`), on a real terminal.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use strake_testkit::{Base, Sandbox, TestUser, is_root, lacking, program_on_path};

use crate::STRAKE;
use crate::dimg_scene::Project;
use crate::scene::eventually;

/// How long something may take before it is taken for hanging.
const PATIENCE: Duration = Duration::from_mins(1);

/// What every shell says of itself before it is there.
const SHELL: &str = "a shell of ";

/// A build on a terminal of its own, and who types there.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    screen: Receiver<Vec<u8>>,
    seen: String,
    /// Up to where what was seen has been looked at.
    read: usize,
}

impl Terminal {
    /// `strake dimg build` with these options; nothing when this machine cannot.
    fn build(project: &Project, options: &str) -> Option<Self> {
        if program_on_path("script").is_none() {
            lacking("script (package bsdutils)");
            return None;
        }
        let pid = project.sandbox.path("pid");
        let line = format!("echo $$ > {}; exec {STRAKE} dimg build {options}", pid.display());
        let script = project.sandbox.run("script").args(["-q", "-e", "-c", &line, "/dev/null"]);
        let script =
            script.env("TERM", "xterm").env("SHELL", "/bin/sh").directory(&project.sandbox.path("p"));
        let mut command = script.watched();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = command.spawn().unwrap();
        let (keys, mut output) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut piece) {
                // The test may have stopped watching.
                if sender.send(piece[..count].to_owned()).is_err() {
                    return;
                }
            }
        });
        Some(Self { script, keys, screen, seen: String::new(), read: 0 })
    }

    /// Watches until `what` is to be seen, and answers what came before it.
    #[track_caller]
    fn wait_for(&mut self, what: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.seen[self.read..].find(what) {
                let before = self.seen[self.read..self.read + found].to_owned();
                self.read += found + what.len();
                return before;
            }
            match self.screen.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(piece) => self.seen.push_str(&String::from_utf8_lossy(&piece)),
                Err(why) => panic!("waited for {what:?}: {why}; there was:\n{}", self.seen),
            }
        }
    }

    /// Waits for a shell that an option opens, and answers what was said before.
    #[track_caller]
    fn shell(&mut self, option: &str) -> String {
        self.wait_for(&format!("{option}: {SHELL}"))
    }

    /// Types a command and answers what it prints.
    #[track_caller]
    fn prints(&mut self, command: &str) -> String {
        // The terminal shows what is typed, so what stands around the answer is not typed as it is printed.
        writeln!(self.keys, "echo '<''<'; {command}; echo '>''>'").unwrap();
        self.wait_for("<<");
        self.wait_for(">>").trim().replace("\r\n", "\n")
    }

    /// Leaves a shell.
    fn leave(&mut self) {
        writeln!(self.keys, "exit 7").unwrap();
    }

    /// Waits for the end, and answers the exit code with what was to be seen since the last look.
    #[track_caller]
    fn end(mut self) -> (i32, String) {
        let until = Instant::now() + PATIENCE;
        while let Ok(piece) = self.screen.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.seen.push_str(&String::from_utf8_lossy(&piece));
        }
        let status = eventually("the terminal to close", || self.script.try_wait().unwrap());
        (status.code().unwrap(), self.seen[self.read..].to_owned())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both only fail when it has ended.
        drop(self.script.kill());
        drop(self.script.wait());
    }
}

impl Project {
    /// How many snapshots are being written, and how many layers there are.
    fn snapshots_and_layers(&self) -> (usize, usize) {
        let count = |folder: &str| std::fs::read_dir(self.sandbox.store().join(folder)).unwrap().count();
        (count("active"), count("layers"))
    }

    /// What a command prints in the built image.
    #[track_caller]
    fn in_image(&self, command: &str) -> String {
        let name = self.prints(&["stage", "image"]);
        self.prints(&["run", "--network", "none", name.trim(), "sh", "-c", command])
    }
}

const AROUND: &str = "dimg: ~
from: busybox
mount:
- from: build_dir
  to: /cache
shell:
  beforeInstall: echo 1 > /one
  install: echo 2 > /two
  setup: test ! -e /cache/fail
";

#[test]
fn shells_are_opened_around_stages() {
    let project = Project::on_busybox(AROUND);
    project.commit("first");
    let Some(mut build) = Terminal::build(&project, "--introspect-before install") else { return };
    build.shell("--introspect-before install");
    assert_eq!(build.prints("echo /one* /two*; touch /cache/mine /lost"), "/one /two*");
    assert!(build.prints("tty").starts_with("/dev/"));
    build.leave();
    assert_eq!(build.end().0, 0);

    let options = "--introspect-stage install --introspect-before setup --introspect-stage setup";
    let mut build = Terminal::build(&project, options).unwrap();
    build.shell("--introspect-stage install");
    assert_eq!(build.prints("echo /one* /two* /lost* $(ls /cache) $(id -u)"), "/one /two /lost* mine 0");
    build.leave();
    build.shell("--introspect-before setup");
    build.leave();
    build.shell("--introspect-stage setup");
    build.leave();
    assert_eq!(build.end().0, 0);

    let mut unseen = Terminal::build(&project, "--introspect-artifact-stage install").unwrap();
    let warning = "--introspect-artifact-stage install: the image of that stage is not here";
    assert!(!unseen.wait_for(warning).contains(SHELL));
    assert_eq!(unseen.end().0, 0);
}

#[test]
fn where_nothing_fails_no_shell_is_opened() {
    let project = Project::on_busybox(AROUND);
    let Some(build) = Terminal::build(&project, "--introspect-before-error --introspect-error") else {
        return;
    };
    let (code, said) = build.end();
    assert!(code == 0 && !said.contains(SHELL), "{said}");
}

const FAILING: &str = "dimg: ~
from: busybox
mount:
- from: build_dir
  to: /cache
shell:
  beforeInstall: echo whole > /file; mkdir /gone; touch /tmp/kept
  install:
  - cd /tmp; touch /a
  - rm -r /gone; echo half > /file; echo of $PWD > /cache/note; false
  - touch /never
";

#[test]
fn a_failed_command_can_be_looked_at_before_and_after() {
    let project = Project::on_busybox(FAILING);
    let options = "--introspect-before-error --introspect-error";
    let Some(mut build) = Terminal::build(&project, options) else { return };
    let said = build.shell("--introspect-before-error");
    assert!(
        said.contains("process \"rm -r /gone; ") && said.contains("exit code 1"),
        "what failed comes first: {said}"
    );
    let look = "echo $(cat /file) /a* /gone* /never*";
    assert_eq!(build.prints(look), "whole /a* /gone /never*");
    build.leave();
    build.shell("--introspect-error");
    assert_eq!(build.prints(look), "half /a /gone* /never*");
    let surroundings = "echo $(id -u) $(cat /cache/note) $HOSTNAME; touch /lost; ls /.strake/tools/bash";
    assert_eq!(build.prints(surroundings), "0 of /tmp strake\n/.strake/tools/bash");
    let (active, layers) = project.snapshots_and_layers();
    assert_eq!(active, 1);
    build.leave();
    let (code, said) = build.end();
    assert!(code == 1 && said.contains("exit code 1"), "{said}");
    assert_eq!(project.snapshots_and_layers(), (0, layers), "it is gone");

    // Nothing of it is in what is built later.
    project.file("strake.yaml", &FAILING.replace("; false", ""));
    project.prints(&["dimg", "build"]);
    assert_eq!(
        project.in_image("echo $(cat /file) /a* /lost* /gone* /never* /.strake*"),
        "half /a /lost* /gone* /never /.strake*\n"
    );
}

#[test]
fn a_failed_command_can_be_looked_at_by_ordinary_users_and_with_copies() {
    if program_on_path("script").is_none() {
        return lacking("script (package bsdutils)");
    }
    let check = |sandbox: Sandbox, snapshotter: &str| {
        sandbox.load_base(Base::Busybox, "busybox").unwrap();
        let project = Project::in_sandbox(sandbox, "app");
        project.file("strake.yaml", FAILING);
        project.commit("first");
        let line = format!("{STRAKE} dimg build --introspect-error");
        let run = project.sandbox.run("script").args(["-q", "-e", "-c", &line, "/dev/null"]);
        let run = run.directory(&project.sandbox.path("p")).env("TERM", "xterm");
        let run = run.env("STRAKE_ROOT", project.sandbox.store()).env("STRAKE_SNAPSHOTTER", snapshotter);
        let seen = run.input("echo saw $(cat /file) /a* /gone*; exit\n").seconds(60).finish().unwrap();
        assert!(seen.code == 1 && seen.stdout.contains("saw half /a /gone*"), "{snapshotter}: {seen}");
        assert_eq!(project.snapshots_and_layers().0, 0, "{snapshotter}");
    };
    check(Sandbox::new(STRAKE).unwrap(), "copy");
    if !is_root() {
        return lacking("root, to run as a second, ordinary user");
    }
    for snapshotter in ["auto", "copy"] {
        check(Sandbox::of_user(STRAKE, TestUser::first().unwrap()).unwrap(), snapshotter);
    }
}

#[test]
fn artifacts_and_single_instructions_are_looked_at_as_well() {
    let stage_file = "artifact: tools
from: busybox
shell:
  install: echo 1 > /tool; mkdir /part; exit 9
---
dimg: app
from: busybox
asLayers: true
import:
- artifact: tools
  add: /tool
  to: /tool
  before: install
shell:
  install:
  - echo first > /order
  - echo second >> /order; (exit 5)
";
    let project = Project::on_busybox(stage_file);
    let options = "--introspect-before-error --introspect-error";
    let Some(mut build) = Terminal::build(&project, options) else { return };
    build.shell("--introspect-before-error");
    assert_eq!(build.prints("echo /tool* /part*"), "/tool* /part*");
    build.leave();
    build.shell("--introspect-error");
    assert_eq!(build.prints("echo /tool* /part*"), "/tool /part");
    build.leave();
    let (code, said) = build.end();
    assert!(code == 1 && said.contains("exit code 9"), "{said}");

    project.file("strake.yaml", &stage_file.replace("; exit 9", ""));
    let all = "--introspect-before install --introspect-stage install --introspect-artifact-before install \
               --introspect-artifact-stage install --introspect-before-error --introspect-error";
    let mut build = Terminal::build(&project, all).unwrap();
    let look = "echo $(cat /order 2> /dev/null) /tool*";
    for (option, expect) in [
        ("--introspect-artifact-before install", "/tool*"),
        ("--introspect-artifact-stage install", "/tool"),
        ("--introspect-before install", "/tool"),
        ("--introspect-stage install", "first /tool"),
        ("--introspect-before install", "first /tool"),
        ("--introspect-before-error", "first /tool"),
        ("--introspect-error", "first second /tool"),
    ] {
        build.shell(option);
        assert_eq!(build.prints(look), expect, "{option}");
        build.leave();
    }
    let (code, said) = build.end();
    assert!(code == 1 && said.contains("exit code 5"), "{said}");

    // What is here can be looked at, also when nothing needs it.
    project.file("strake.yaml", &stage_file.replace("; exit 9", "").replace("; (exit 5)", ""));
    project.prints(&["dimg", "build"]);
    let options = "--introspect-artifact-stage install --introspect-stage tools/install";
    let mut build = Terminal::build(&project, options).unwrap();
    build.shell("--introspect-stage tools/install");
    assert_eq!(build.prints("ls -d /tool*"), "/tool");
    build.leave();
    // One shell answers both options.
    let (code, said) = build.end();
    assert!(code == 0 && !said.contains(SHELL) && !said.contains("not here"), "{said}");
}

#[test]
fn a_stage_of_one_image_can_be_named() {
    let stage_file =
        "dimg: [a, b]\nfrom: busybox\nshell:\n  install: echo 1 > /one\n---\nartifact: t\nfrom: busybox\n";
    let project = Project::on_busybox(stage_file);
    let Some(mut build) = Terminal::build(&project, "--introspect-stage b/install --introspect-stage from")
    else {
        return;
    };
    for (option, image) in [("from", "a;"), ("from", "b;"), ("b/install", "b;")] {
        build.shell(&format!("--introspect-stage {option}"));
        build.wait_for(image);
        build.leave();
    }
    assert_eq!(build.end().0, 0);
    for (option, said) in [
        ("--introspect-stage c/install", "has no image c"),
        ("--introspect-before a/build_artifact", "a has no such stage"),
        ("--introspect-artifact-before t/docker_instructions", "want one of from, before_install, "),
        ("--introspect-stage build_artifact", "docker_instructions"),
        ("--introspect-artifact-before nonsense", "build_artifact"),
        ("--dry-run --introspect-stage other/install", "it has a, b, t"),
    ] {
        let mut build = Terminal::build(&project, option).unwrap();
        build.wait_for(said);
        assert_eq!(build.end().0, 2, "{option}");
    }
}

#[test]
fn a_build_killed_while_its_shell_is_open_leaves_what_the_next_one_collects() {
    let project = Project::on_busybox(FAILING);
    let Some(mut build) = Terminal::build(&project, "--introspect-error") else { return };
    build.shell("--introspect-error");
    assert_eq!(build.prints("cat /file"), "half");
    let pid = project.sandbox.read("pid").unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    build.end();
    assert_eq!(project.snapshots_and_layers().0, 1, "what it could not clean up");
    project.prints(&["prune", "--force"]);
    assert_eq!(project.snapshots_and_layers().0, 0);
    project.file("strake.yaml", &FAILING.replace("; false", ""));
    project.prints(&["dimg", "build"]);
    assert_eq!(project.in_image("echo $(cat /file) /a*"), "half /a\n");
}
