//! Several nodes on one graph at the same time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use strake_testkit::{Etcd, Failure, Outcome};

use super::flow::as_figure;
use super::meter::Meter;
use crate::line::{Bench, add};
use crate::peer::Peer;
use crate::table::{Row, Target};

/// How many stages need nothing of each other; each takes a second of waiting.
const STAGES: usize = 12;

/// How many steps a node carries out at once.
const JOBS: usize = 2;

/// What only a step that is carried out says; its text in the Dockerfile is another one.
const SAID: &str = "carried-out-42";

/// One, two and four nodes that run the same command: until the last of them has ended, and how many steps were
/// carried out by all.
pub(super) fn rows(bench: &mut Bench, meter: &Meter) -> Outcome<Vec<Row>> {
    let etcd = Etcd::start()?;
    let mut rows = Vec::new();
    for count in [1, 2, 4] {
        let (mut seconds, mut carried_out) = (BTreeMap::new(), BTreeMap::new());
        for round in 0..bench.rounds {
            let context = bench.context("share-wide", &dockerfile(count, round))?;
            let words = [
                "build".to_owned(),
                "--network=none".to_owned(),
                "--progress=plain".to_owned(),
                format!("--jobs={JOBS}"),
                format!("--repo={}", meter.name("wide")),
                format!("--coordinate=etcd://{}", etcd.address()),
                context.display().to_string(),
            ];
            let (took, said) = together(bench, count, &words)?;
            add(&mut seconds, Peer::Strake, took);
            add(&mut carried_out, Peer::Strake, as_figure(said));
        }
        let limit = Some(as_figure(STAGES.div_ceil(count * JOBS)));
        let work = format!("{STAGES} × 1 s, nodes: {count}");
        let steps = format!("{work}: carried out");
        rows.push(Row { work, samples: seconds, limit, target: Target::None });
        let target = Target::Absolute(as_figure(STAGES));
        rows.push(Row { work: steps, samples: carried_out, limit: None, target });
    }
    Ok(rows)
}

fn dockerfile(count: usize, round: usize) -> String {
    let mut text = String::new();
    for stage in 0..STAGES {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "FROM busybox AS s{stage}\nRUN sleep 1; echo {count} {round} > /s{stage}; echo carried-out-$((40 + 2))"
        );
    }
    text.push_str("FROM busybox\n");
    for stage in 0..STAGES {
        let _ = writeln!(text, "COPY --from=s{stage} /s{stage} /");
    }
    text
}

/// Starts `count` nodes with stores of their own, and answers the seconds until all have ended and how many steps said
/// that they were carried out.
fn together(bench: &Bench, count: usize, words: &[String]) -> Outcome<(f64, usize)> {
    let stores: Vec<_> = (0..count).map(|node| bench.path(&format!("share-node-{node}"))).collect();
    for store in &stores {
        bench.peers.prepare(store)?;
    }
    let begun = Instant::now();
    let nodes = stores.iter().map(|store| start(bench, store, words)).collect::<Outcome<Vec<_>>>()?;
    let ended: Vec<_> = nodes.into_iter().map(Child::wait_with_output).collect();
    let seconds = begun.elapsed().as_secs_f64();
    let mut said = 0;
    for output in ended {
        let output = output.map_err(Failure::at("wait for a node"))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Err(Failure::new(format!("a node failed: {text}")));
        }
        said += text.matches(SAID).count();
    }
    for store in stores {
        remove(&store).map_err(Failure::at("remove the store of a node"))?;
    }
    Ok((seconds, said))
}

/// A command leaves tidying to a process that may still be at it.
fn remove(store: &Path) -> std::io::Result<()> {
    let mut tries = 100;
    loop {
        match std::fs::remove_dir_all(store) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty && tries > 0 => tries -= 1,
            removed => return removed,
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn start(bench: &Bench, store: &Path, words: &[String]) -> Outcome<Child> {
    let mut command: Command = bench.peers.command(Peer::Strake);
    command.args(words).env("STRAKE_ROOT", store);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().map_err(Failure::at("start a node"))
}
