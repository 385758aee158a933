//! A stage file in a repository with many files and a long history.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use strake_testkit::{Failure, Outcome, Run};

use crate::limit;
use crate::line::{Bench, median};
use crate::peer::Peer;
use crate::table::{Row, Target};

const COMMITS: usize = 5_000;
const FILES: usize = 10_000;

const STAGE_FILE: &str = "dimg: ~\nfrom: busybox\ngit:\n- add: /\n  to: /app\n  excludePaths: docs\n  stageDependencies:\n    \
                          install: d7/**/*\n    setup: d1/e1/*\nshell:\n  install: 'true'\n  setup: 'true'\n";

/// A build of 10,000 files after 5,000 commits of which nothing has changed: signatures only.
pub(crate) fn plan(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let directory = bench.path("plan");
    make(&directory)?;
    bench.peers.stage_file(&directory, &[])?;
    let mut seconds = Vec::new();
    let mut limits = Vec::new();
    for _ in 0..bench.rounds * 3 {
        seconds.push(bench.peers.stage_file(&directory, &[])?.seconds);
        limits.push(limit::spawn()?);
    }
    let work = "stage file, 5,000 commits, all cached".into();
    let samples = BTreeMap::from([(Peer::Strake, seconds)]);
    Ok(vec![Row { work, samples, limit: median(limits), target: Target::Absolute(0.05) }])
}

fn make(directory: &Path) -> Outcome<()> {
    std::fs::create_dir_all(directory).map_err(Failure::at("create a repository"))?;
    let git = |words: &[&str]| Run::new("git").arg("-C").arg(directory).args(words);
    git(&["init", "-q", "-b", "main"]).succeed()?;
    git(&["fast-import", "--quiet"]).input(history()).succeed()?;
    git(&["repack", "-qad"]).succeed()?;
    std::fs::write(directory.join("strake.yaml"), STAGE_FILE).map_err(Failure::at("write a stage file"))
}

/// For `git fast-import`: all files in the first commit, two changed in each further one.
fn history() -> String {
    let mut stream = String::new();
    for commit in 0..COMMITS {
        let time = 1_500_000_000 + commit * 60;
        let _ = write!(stream, "commit refs/heads/main\ncommitter A <a> {time} +0000\ndata 6\nchange\n");
        let changed = if commit == 0 { 0..FILES } else { commit * 2 - 2..commit * 2 };
        for file in changed {
            let content = format!("file {file} of commit {commit}\n").repeat(20);
            let (outer, inner, length) = (file % 10, file / 10 % 100, content.len());
            let _ = write!(stream, "M 100644 inline d{outer}/e{inner}/f{file}\ndata {length}\n{content}\n");
        }
    }
    stream
}
