//! How long the questions of a stage file take in a repository of 5,000 commits and 10,000 files:
//! `cargo run --release -p strake-git --example facts`. Compares each with the git program where it can answer it.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use strake_git::{CommitId, DependencyPattern, GitProgram, Memo, Repository, RepositoryPath, Selection};

const COMMITS: usize = 5_000;
const FILES: usize = 10_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let repository = directory.path().join("repository");
    std::fs::create_dir(&repository)?;
    make(&repository)?;
    let git = GitProgram::new("git", std::env::vars_os(), directory.path());
    println!("{COMMITS} commits, {FILES} files, one pack");
    ask_all(&repository, &git)?;
    println!("with a commit-graph");
    run(&repository, &["commit-graph", "write", "--reachable"], b"")?;
    ask_all(&repository, &git)
}

fn ask_all(directory: &Path, git: &GitProgram) -> Outcome<()> {
    let id = |name: &str| -> Outcome<CommitId> {
        Ok(CommitId::from_hex(String::from_utf8(run(directory, &["rev-parse", name], b"")?)?.trim())?)
    };
    let (head, recent, old) = (id("HEAD")?, id("HEAD~10")?, id("HEAD~4000")?);
    let (root, web) = (RepositoryPath::parse("/")?, RepositoryPath::parse("/d7")?);
    let all = Selection::everything();
    let memory = RefCell::new(BTreeMap::<String, Vec<u8>>::new());
    let memo = Memo {
        get: &|key| memory.borrow().get(key).cloned(),
        put: &|key, value| drop(memory.borrow_mut().insert(key.to_owned(), value.to_vec())),
    };
    let repository = Repository::open(directory, git)?;
    time("all messages for reset commits (memo cold)", || {
        Ok(repository.reset_commit(head, memo)?.commit.is_some())
    })?;
    time("a warm start: open, head, state, differs, reset (memo warm)", || {
        let repository = Repository::open(directory, git)?;
        let head = repository.head()?.ok_or("no commit")?;
        repository.state(head, &web)?;
        repository.differs(recent, head, &web, all)?;
        Ok(repository.reset_commit(head, memo)?)
    })?;
    let earlier = RefCell::new(Vec::new());
    repository.reset_commit(
        recent,
        Memo { get: &|_| None, put: &|_, value| *earlier.borrow_mut() = value.to_vec() },
    )?;
    time("reset after 10 new commits", || {
        let memo = Memo { get: &|_| Some(earlier.borrow().clone()), put: &|_, _| () };
        Ok(repository.reset_commit(head, memo)?)
    })?;
    time("10 commits ago is an ancestor", || Ok(repository.is_ancestor(recent, head)?))?;
    time("4,000 commits ago is an ancestor", || Ok(repository.is_ancestor(old, head)?))?;
    time("HEAD is an ancestor of 4,000 commits ago", || Ok(repository.is_ancestor(head, old)?))?;
    time("list all files", || Ok(repository.files(head, &root, all)?.len()))?;
    time("changes of 10 commits", || Ok(repository.changes(recent, head, &root, all)?.len()))?;
    time("changes of 4,000 commits", || Ok(repository.changes(old, head, &root, all)?.len()))?;
    time("patch steps of 10 commits", || Ok(repository.patch_steps(recent, head, &root, all)?))?;
    time("patch steps of 4,000 commits (exact)", || Ok(repository.patch_steps(old, head, &root, all)?))?;
    let pattern = [DependencyPattern { text: "**/*", matches: all }];
    let checksum =
        |memo| Ok(repository.dependency_checksum(head, &root, &pattern, ("", all), memo)?.is_some());
    time("checksum of all files (memo cold)", || checksum(memo))?;
    time("checksum of all files (memo warm)", || checksum(memo))?;
    time("git: list all files", || Ok(run(directory, &["ls-tree", "-r", "HEAD"], b"")?.len()))?;
    time("git: changes of 4,000 commits", || {
        Ok(run(directory, &["diff-tree", "-r", "--name-status", "HEAD~4000", "HEAD"], b"")?.len())
    })
}

/// The best of five, since the machine has other things to do.
fn time<T: std::fmt::Debug>(what: &str, mut ask: impl FnMut() -> Outcome<T>) -> Outcome<()> {
    let mut best = f64::INFINITY;
    let mut answer = None;
    for _ in 0..5 {
        let started = Instant::now();
        answer = Some(ask()?);
        best = best.min(started.elapsed().as_secs_f64() * 1000.0);
        if what.ends_with("(memo cold)") {
            break;
        }
    }
    let answer = answer.map(|answer| format!("{answer:?}")).unwrap_or_default();
    println!("{best:9.2} ms  {what}: {}", answer.chars().take(40).collect::<String>());
    Ok(())
}

fn make(directory: &Path) -> Outcome<()> {
    run(directory, &["init", "-q"], b"")?;
    let mut stream = String::new();
    for commit in 0..COMMITS {
        let time = 1_500_000_000 + commit * 60;
        let message = if commit == 100 { "[dapp reset]" } else { "change" };
        write!(
            stream,
            "commit refs/heads/main\ncommitter A <a@b> {time} +0000\ndata {}\n{message}\n",
            message.len()
        )?;
        let changed = if commit == 0 { 0..FILES } else { commit * 2..commit * 2 + 2 };
        for file in changed.map(|file| file % FILES) {
            let content = format!("file {file} of commit {commit}\n").repeat(20);
            let (outer, inner) = (file % 10, file / 10 % 100);
            let length = content.len();
            write!(stream, "M 100644 inline d{outer}/e{inner}/f{file}\ndata {length}\n{content}\n")?;
        }
    }
    run(directory, &["fast-import", "--quiet"], stream.as_bytes())?;
    run(directory, &["symbolic-ref", "HEAD", "refs/heads/main"], b"")?;
    run(directory, &["repack", "-qad"], b"").map(drop)
}

fn run(directory: &Path, arguments: &[&str], input: &[u8]) -> Outcome<Vec<u8>> {
    let mut command = Command::new("git");
    command.current_dir(directory).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(input)?;
    let output = child.wait_with_output()?;
    if output.status.success() { Ok(output.stdout) } else { Err(format!("git {arguments:?} failed").into()) }
}
