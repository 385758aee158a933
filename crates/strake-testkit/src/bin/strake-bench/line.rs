//! The lines of `performance.md`, as far as they exist.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use strake_testkit::{Base, Failure, Outcome, Registry, Run, Sandbox, write_docker_archive};

use crate::app::app;
use crate::limit;
use crate::measure::{Cost, Watch, cost};
use crate::peer::{PEERS, Peer, Peers};
use crate::plan::plan;
use crate::random::Random;
use crate::share::share;
use crate::table::{Row, Target};

/// One line: what it is called on the command line, and what produces its rows.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Bench) -> Outcome<Vec<Row>>,
}

/// All lines, in the table's order.
pub(crate) const LINES: [Line; 9] = [
    Line { name: "noop", run: noop },
    Line { name: "run", run: run_steps },
    Line { name: "copy", run: copy },
    Line { name: "pull", run: pull },
    Line { name: "export", run: export },
    Line { name: "stages", run: stages },
    Line { name: "plan", run: plan },
    Line { name: "app", run: app },
    Line { name: "share", run: share },
];

/// Everything the lines share.
pub(crate) struct Bench {
    pub(crate) peers: Peers,
    pub(crate) rounds: usize,
    directory: tempfile::TempDir,
    failures: Vec<String>,
    sandbox: Sandbox,
}

impl Bench {
    /// Starts the builders.
    pub(crate) fn start(strake: &str, rounds: usize) -> Outcome<Self> {
        let directory = tempfile::Builder::new().prefix("strake-bench-").tempdir_in("/var/tmp");
        let directory = directory.map_err(Failure::at("create a directory in /var/tmp"))?;
        let sandbox = Sandbox::new(strake)?;
        let peers = Peers::start(strake, directory.path(), &sandbox)?;
        Ok(Self { peers, rounds, directory, failures: Vec::new(), sandbox })
    }

    /// Remembers that a line gave no figures.
    #[expect(clippy::print_stderr, reason = "the reader waits for this line")]
    pub(crate) fn failed(&mut self, line: &str, failure: &Failure) {
        eprintln!("bench: {line} failed: {failure}");
        self.failures.push(line.into());
    }

    /// Says what failed, at the end.
    pub(crate) fn finish(self) -> Outcome<()> {
        if self.failures.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(format!("no figures for {}", self.failures.join(", "))))
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The docker archive of a base image.
    pub(crate) fn base_archive(&self, base: Base, name: &str) -> Outcome<PathBuf> {
        self.sandbox.base_archive(base, name)
    }

    /// A build context with this Dockerfile.
    pub(crate) fn context(&self, name: &str, dockerfile: &str) -> Outcome<PathBuf> {
        let path = self.path(name);
        std::fs::create_dir_all(&path).map_err(Failure::at("create a build context"))?;
        std::fs::write(path.join("Dockerfile"), dockerfile).map_err(Failure::at("write a Dockerfile"))?;
        Ok(path)
    }
}

/// Measurements by builder.
pub(crate) type Samples = BTreeMap<Peer, Vec<f64>>;

pub(crate) fn add(samples: &mut Samples, peer: Peer, seconds: f64) {
    samples.entry(peer).or_default().push(seconds);
}

/// A ten-step Dockerfile of which nothing has changed.
fn noop(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let mut dockerfile = "FROM busybox\nWORKDIR /w\nCOPY a b /w/\nENV A=1\n".to_owned();
    for step in 0..6 {
        let _ = writeln!(dockerfile, "RUN echo {step} > /w/{step}");
    }
    let context = bench.context("noop", &dockerfile)?;
    for name in ["a", "b"] {
        std::fs::write(context.join(name), name).map_err(Failure::at("write a file"))?;
    }
    for peer in PEERS {
        bench.peers.build(peer, "noop", &context, Watch::Nothing)?;
    }
    let mut samples = Samples::new();
    let mut limits = Vec::new();
    for _ in 0..bench.rounds * 3 {
        for peer in PEERS {
            add(&mut samples, peer, bench.peers.build(peer, "noop", &context, Watch::Nothing)?.seconds);
        }
        limits.push(limit::spawn()?);
    }
    let work = "nothing to do, ten steps cached".into();
    Ok(vec![Row { work, samples, limit: median(limits), target: Target::OfBuildKit(0.1) }])
}

/// Twenty steps that do nothing, none of them cached.
fn run_steps(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let mut samples = Samples::new();
    let mut limits = Vec::new();
    for round in 0..bench.rounds {
        // The first step differs in every round, so nothing above the base is ever cached.
        let dockerfile = format!("FROM busybox\nENV ROUND={round}\n{}", "RUN true\n".repeat(20));
        let context = bench.context("run", &dockerfile)?;
        for peer in PEERS {
            add(&mut samples, peer, bench.peers.build(peer, "run", &context, Watch::Nothing)?.seconds);
        }
        limits.push(limit::namespaces(20)?);
    }
    let work = "20 × RUN true".into();
    Ok(vec![Row { work, samples, limit: median(limits), target: Target::OfBuildKit(1.0 / 7.0) }])
}

/// 20,000 files of 10 KB: never seen, unchanged, and with one of them changed.
fn copy(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let mut samples: [Samples; 3] = Default::default();
    let mut limits: [Vec<f64>; 3] = Default::default();
    let mut memory = Samples::new();
    for round in 0..bench.rounds {
        let context = bench.context(&format!("copy-{round}"), "FROM busybox\nCOPY tree /tree\n")?;
        let files = write_tree(&context.join("tree"), 20_000, 10_000, round as u64 + 1)?;
        for peer in PEERS {
            settle()?;
            let build = |watch| bench.peers.build(peer, "copy", &context, watch);
            add(&mut samples[0], peer, build(Watch::Nothing)?.seconds);
            add(&mut samples[1], peer, build(Watch::Nothing)?.seconds);
            // As long as before, other content: what an editor does.
            std::fs::write(&files[7], format!("changed for {peer:?} in round {round}"))
                .map_err(Failure::at("change a file"))?;
            add(&mut samples[2], peer, build(Watch::Nothing)?.seconds);
        }
        limits[0].push(limit::copy_all(&files, &bench.path(&format!("copied-{round}")))?);
        limits[1].push(limit::stat_all(&files)?);
        limits[2].push(limit::link_all(&files, &bench.path(&format!("linked-{round}")))?);
        if round == 0 {
            let again = bench.context("copy-memory", "FROM busybox\nENV A=1\nCOPY tree /tree\n")?;
            write_tree(&again.join("tree"), 20_000, 10_000, 99)?;
            for peer in PEERS {
                add(&mut memory, peer, megabytes(bench.peers.build(peer, "copy", &again, Watch::Memory)?));
            }
        }
    }
    let works =
        ["COPY of 20,000 files, 200 MB, cold", "the same, nothing changed", "the same, one file changed"];
    let targets = [1.0 / 12.0, 0.1, 1.0 / 15.0];
    let mut rows = Vec::new();
    for (((work, samples), limits), target) in works.into_iter().zip(samples).zip(limits).zip(targets) {
        rows.push(Row {
            work: work.into(),
            samples,
            limit: median(limits),
            target: Target::OfBuildKit(target),
        });
    }
    rows.push(Row {
        work: "peak memory of that, MB".into(),
        samples: memory,
        limit: None,
        target: Target::Absolute(64.0),
    });
    Ok(rows)
}

/// An image of four gzip layers in a registry on loopback: fetched, verified, unpacked, and one step on top.
fn pull(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let registry = Registry::start()?;
    let name = format!("{}/pulled:1", registry.address());
    let layers = push_layers(bench, &name)?;
    let context = bench.context("pull", &format!("FROM {name}\nCOPY Dockerfile /\n"))?;
    let mut samples = Samples::new();
    let mut memory = Samples::new();
    let mut limits = Vec::new();
    for round in 0..bench.rounds {
        for peer in PEERS {
            bench.peers.forget(peer)?;
            settle()?;
            let watch = if round == 0 { Watch::Memory } else { Watch::Nothing };
            let cost = bench.peers.build_from_registry(peer, "pull", &context, watch)?;
            add(&mut samples, peer, cost.seconds);
            if round == 0 {
                add(&mut memory, peer, megabytes(cost));
            }
        }
        limits.push(limit::unpack(&layers, &bench.path(&format!("unpacked-{round}")))?);
    }
    for peer in PEERS {
        bench.peers.forget(peer)?;
    }
    Ok(vec![
        Row {
            work: "pull and unpack 4 gzip layers, 655 MB".into(),
            samples,
            limit: median(limits),
            target: Target::OfBuildKit(1.0 / 3.0),
        },
        Row {
            work: "peak memory of that, MB".into(),
            samples: memory,
            limit: None,
            target: Target::Absolute(64.0),
        },
    ])
}

/// 1 GB, half of it incompressible and half text, pushed as gzip to an empty registry.
fn export(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let mut samples = Samples::new();
    let mut limits = Vec::new();
    for round in 0..bench.rounds.min(2) {
        let context = bench.context("export", "FROM busybox\nCOPY big /big\n")?;
        write_large(&context.join("big"), 1_000_000_000, round as u64 + 1)?;
        settle()?;
        for peer in PEERS {
            let registry = Registry::start()?;
            let name = format!("{}/big:1", registry.address());
            bench.peers.build(peer, &name, &context, Watch::Nothing)?;
            add(&mut samples, peer, bench.peers.push(peer, &name)?.seconds);
            bench.peers.forget(peer)?;
        }
        limits.push(limit::gzip(&context.join("big"), 6)?);
    }
    let work = "push of 1 GB as gzip".into();
    Ok(vec![Row { work, samples, limit: median(limits), target: Target::OfBuildKit(1.0 / 3.0) }])
}

/// Six stages that need nothing of each other, merged at the end.
fn stages(bench: &mut Bench) -> Outcome<Vec<Row>> {
    // One stage's work: about a second of one core.
    let work = "dd if=/dev/zero bs=1M count=400 2>/dev/null | busybox sha256sum";
    let mut samples = Samples::new();
    let mut limits = Vec::new();
    for round in 0..bench.rounds {
        let mut dockerfile = String::new();
        for stage in 0..6 {
            let _ =
                write!(dockerfile, "FROM busybox AS s{stage}\nENV ROUND={round}\nRUN {work} > /sum{stage}\n");
        }
        dockerfile.push_str("FROM busybox\n");
        for stage in 0..6 {
            let _ = writeln!(dockerfile, "COPY --from=s{stage} /sum{stage} /");
        }
        let context = bench.context("stages", &dockerfile)?;
        for peer in PEERS {
            add(&mut samples, peer, bench.peers.build(peer, "stages", &context, Watch::Nothing)?.seconds);
        }
        limits.push(limit::processes(6, work)?);
    }
    let work = "six independent stages, merged".into();
    Ok(vec![Row { work, samples, limit: median(limits), target: Target::OfLimit(1.1) }])
}

/// Makes four layers of 4,900 files each, 655 MB together, and pushes them with skopeo as gzip.
/// Returns the compressed layers as files, for the limit.
fn push_layers(bench: &Bench, name: &str) -> Outcome<Vec<PathBuf>> {
    let mut layers = Vec::new();
    for number in 0..4u64 {
        let tree = bench.path(&format!("layer-{number}/d{number}"));
        write_tree(&tree, 4_900, 33_400, 1_000 + number)?;
        let file = bench.path(&format!("layer-{number}.tar"));
        let run = Run::new("tar").args(["--owner=0", "--group=0", "--numeric-owner", "-cf"]).arg(&file);
        run.arg("-C").arg(bench.path(&format!("layer-{number}"))).arg(".").succeed()?;
        layers.push(file);
    }
    let contents: Vec<Vec<u8>> =
        layers.iter().map(std::fs::read).collect::<Result<_, _>>().map_err(Failure::at("read a layer"))?;
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let archive = bench.path("pulled.tar");
    write_docker_archive(&archive, "pulled:1", &contents, &serde_json::json!({}))?;
    let run = Run::new("skopeo").args([
        "copy",
        "--insecure-policy",
        "--dest-tls-verify=false",
        "--dest-compress-format=gzip",
    ]);
    run.arg(format!("docker-archive:{}", archive.display()))
        .arg(format!("docker://{name}"))
        .seconds(600)
        .succeed()?;
    for layer in &layers {
        cost(
            {
                let mut gzip = Command::new("gzip");
                gzip.arg("-6").arg(layer);
                gzip
            },
            Watch::Nothing,
        )?;
    }
    Ok(layers.iter().map(|layer| layer.with_extension("tar.gz")).collect())
}

/// Writes `count` files of `size` bytes in folders of 100: half of each random, half of it text.
fn write_tree(root: &Path, count: usize, size: usize, seed: u64) -> Outcome<Vec<PathBuf>> {
    let mut random = Random(seed);
    let mut files = Vec::new();
    let mut content = vec![0; size];
    for number in 0..count {
        let directory = root.join(format!("{:03}", number / 100));
        if number % 100 == 0 {
            std::fs::create_dir_all(&directory).map_err(Failure::at("create a folder"))?;
        }
        random.fill(&mut content);
        let file = directory.join(format!("file-{number}"));
        std::fs::write(&file, &content).map_err(Failure::at("write a file"))?;
        files.push(file);
    }
    Ok(files)
}

fn write_large(file: &Path, size: usize, seed: u64) -> Outcome<()> {
    let mut random = Random(seed);
    let mut out = BufWriter::new(File::create(file).map_err(Failure::at("create a large file"))?);
    let mut block = vec![0; 1_000_000];
    for _ in 0..size / block.len() {
        random.fill(&mut block);
        out.write_all(&block).map_err(Failure::at("write a large file"))?;
    }
    out.flush().map_err(Failure::at("write a large file"))
}

/// Writes what is dirty to the disk, so that nobody pays for what was prepared, or written by another builder, before.
fn settle() -> Outcome<()> {
    Run::new("sync").succeed().map(drop)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people, far below 2^52")]
fn megabytes(cost: Cost) -> f64 {
    cost.resident as f64 / 1e6
}

pub(crate) fn median(mut samples: Vec<f64>) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied()
}
