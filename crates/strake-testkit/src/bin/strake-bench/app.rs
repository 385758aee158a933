//! `examples/symfony-like`: a real application, cold, with nothing to do, and after a small commit.

use std::collections::BTreeMap;
use std::path::Path;

use strake_testkit::{Base, Failure, Outcome, Run, base_tar};

use crate::limit;
use crate::line::{Bench, median};
use crate::peer::Peer;
use crate::table::{Row, Target};

/// Three rows. Packages are downloaded before anything is measured.
pub(crate) fn app(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let directory = bench.path("app");
    make(&directory)?;
    bench.peers.import(&base_tar(Base::Php)?, "php-base")?;
    bench.peers.import(&base_tar(Base::Web)?, "node-base")?;
    let kept = bench.path("app-kept");
    let kept = kept.to_str().ok_or_else(|| Failure::new("the bench's directory has an odd name"))?;
    let build = |name: &str| {
        let words = ["--name", name, "--build-dir", kept];
        bench.peers.stage_file(&directory, &words).map(|cost| cost.seconds)
    };
    build("app")?;
    let (mut cold, mut cached, mut small, mut limits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.rounds {
        cold.push(build(&format!("cold-{round}"))?);
    }
    for _ in 0..bench.rounds * 3 {
        cached.push(build("app")?);
        limits.push(limit::spawn()?);
    }
    for round in 0..bench.rounds * 3 {
        let post = directory.join(format!("data/2026-06-01-round-{round}.txt"));
        std::fs::write(post, "A post\n\nOf the bench.\n").map_err(Failure::at("write a post"))?;
        commit(&directory)?;
        small.push(build("app")?);
    }
    let row = |work: &str, seconds, limit, most| Row {
        work: format!("stage file, application, {work}"),
        samples: BTreeMap::from([(Peer::Strake, seconds)]),
        limit,
        target: Target::Absolute(most),
    };
    Ok(vec![
        row("cold", cold, None, 10.0),
        row("cached", cached, median(limits), 0.05),
        row("one file", small, None, 0.15),
    ])
}

fn make(directory: &Path) -> Outcome<()> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/symfony-like");
    Run::new("cp").arg("-a").arg(example).arg(directory).succeed()?;
    Run::new("git").args(["init", "-q", "-b", "main"]).arg(directory).succeed()?;
    commit(directory)
}

fn commit(directory: &Path) -> Outcome<()> {
    let git = |words: &[&str]| Run::new("git").arg("-C").arg(directory).args(words);
    git(&["add", "--all"]).succeed()?;
    let who = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
    git(&who).args(["commit", "-q", "-m", "change"]).succeed().map(drop)
}
