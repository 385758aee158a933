//! How long the three COPY rows of the speed table take at the level of the library: 20,000 files, 200 MB.
//!
//! `cargo run --release -p strake-engine --example copy_speed -- DIRECTORY`: the directory is used for everything
//! and should lie on the disk that the store will lie on. Prints milliseconds, median of five rounds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use strake_engine::Cancellation;
use strake_engine::build_context::SourceTree;
use strake_engine::copy::{Copied, CopyPlan, CopyTarget, LayerFiles, Listing, Previous, copy};
use strake_graph::pattern::IgnoreRules;
use strake_graph::{CopyOp, CopySource, Graph, Op, Span, Step, StepId};
use strake_oci::Platform;
use strake_store::{Flavour, StatCache};

const FILES: usize = 20_000;
const SIZE: usize = 10_000;
const ROUNDS: usize = 5;

struct Bench {
    root: PathBuf,
    op: CopyOp,
    context: StepId,
    layers: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::args_os().nth(1).ok_or("say which directory to use")?);
    let mut bench = Bench::new(root)?;
    bench.make_files()?;
    let (mut cold, mut same, mut touched) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let mut cache = StatCache::default();
        let start = Instant::now();
        let (plan, _) = bench.signature(&mut cache)?;
        let first = bench.layer(&plan, None)?;
        cold.push(start.elapsed());
        let start = Instant::now();
        bench.signature(&mut cache)?;
        same.push(start.elapsed());
        fs::write(bench.root.join("context/d7/f7"), format!("touched {round}"))?;
        let start = Instant::now();
        let (plan, _) = bench.signature(&mut cache)?;
        bench.layer(&plan, Some(&first))?;
        touched.push(start.elapsed());
    }
    for (name, mut times) in [("cold", cold), ("same", same), ("one touched", touched)] {
        times.sort();
        #[expect(clippy::print_stdout, reason = "this is what the program is for")]
        {
            println!("{name:12} {:6.1} ms", times[times.len() / 2].as_secs_f64() * 1000.0);
        }
    }
    Ok(())
}

impl Bench {
    fn new(root: PathBuf) -> Result<Self, std::io::Error> {
        fs::create_dir_all(root.join("context"))?;
        let mut graph = Graph::new();
        let mut step = || {
            graph.push_step(Step {
                op: Op::Scratch,
                platform: Platform::linux("amd64"),
                span: Span::default(),
                label: String::new(),
                stage: String::new(),
                position: None,
                no_cache: false,
                named: None,
            })
        };
        let (base, context) = (step(), step());
        let op = CopyOp {
            base,
            sources: vec![CopySource::Path { from: context, pattern: ".".into() }],
            destination: "/app/".into(),
            chown: None,
            chmod: None,
            unpack: false,
        };
        Ok(Self { root, op, context, layers: 0 })
    }

    fn make_files(&self) -> Result<(), std::io::Error> {
        for number in 0..FILES {
            let folder = self.root.join(format!("context/d{}", number / 100));
            if number % 100 == 0 {
                fs::create_dir_all(&folder)?;
            }
            let content: Vec<u8> =
                (0..SIZE).map(|at| ((at * 31 + number * 17 + at / 7) % 251).to_le_bytes()[0]).collect();
            fs::write(folder.join(format!("f{}", number % 100)), content)?;
        }
        // Files younger than the clock's grain are not remembered.
        std::thread::sleep(std::time::Duration::from_millis(50));
        Ok(())
    }

    /// All that a hit costs: scan, digests, listing, digest of the listing.
    fn signature(&self, cache: &mut StatCache) -> Result<(CopyPlan, Listing), Box<dyn std::error::Error>> {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
        let globs = [CopyPlan::glob(".")?];
        let tree = SourceTree::of_context(
            &self.root.join("context"),
            &IgnoreRules::default(),
            &globs,
            &Cancellation::new(),
        )?;
        let plan = CopyPlan::resolve(&self.op.sources, &BTreeMap::from([(self.context, Arc::new(tree))]))?;
        let mut caches = BTreeMap::from([(self.context, std::mem::take(cache))]);
        plan.digest_files(&mut caches, now)?;
        *cache = caches.remove(&self.context).unwrap_or_default();
        let listing = plan.listing();
        std::hint::black_box(listing.digest());
        Ok((plan, listing))
    }

    fn layer(
        &mut self,
        plan: &CopyPlan,
        previous: Option<&(PathBuf, LayerFiles)>,
    ) -> Result<(PathBuf, LayerFiles), Box<dyn std::error::Error>> {
        self.layers += 1;
        let path = self.root.join(format!("layer{}", self.layers));
        fs::create_dir(&path)?;
        let previous = previous.map(|(dir, files)| Previous { dir, files });
        let target = CopyTarget {
            upper: &path,
            below: None,
            scratch: Path::new("/nonexistent"),
            previous,
            flavour: Flavour::Trusted,
        };
        let Copied { files, .. } = copy(&self.op, plan, &target)?;
        Ok((path, files))
    }
}
