//! A stage file on a fresh node.

use std::path::Path;

use strake_testkit::{Failure, Outcome, Run};

use super::flow::{Price, measure};
use super::meter::Meter;
use super::{FAR, Prices};
use crate::line::Bench;
use crate::peer::Peer;
use crate::table::{Row, Target};

const STAGE_FILE: &str = "dimg: ~\nfrom: BASE\ngit:\n- add: /\n  to: /app\n  stageDependencies:\n    install: packages\n    \
                          setup: src\nshell:\n  beforeInstall: mkdir /opt/lib\n  install: sort /app/packages > \
                          /opt/lib/lock\n  setup: cat /app/src/* > /opt/program\n";

/// Nothing to do on a fresh node and on the same node again; the stages are in the registry.
pub(super) fn rows(bench: &mut Bench, meter: &Meter) -> Outcome<Vec<Row>> {
    let directory = bench.path("share-stages");
    make(&directory, &meter.name("base:1"))?;
    let repo = meter.name("stages");
    let build = |bench: &Bench| -> Outcome<Price> {
        let words = ["--name", "app", "--repo", &repo];
        measure(meter, || bench.peers.stage_file(&directory, &words).map(|cost| cost.seconds))
    };
    build(bench)?;
    let [mut fresh, mut warm, mut far] = <[Prices; 3]>::default();
    for _ in 0..bench.rounds {
        bench.peers.forget(Peer::Strake)?;
        fresh.add(Peer::Strake, build(bench)?);
        warm.add(Peer::Strake, build(bench)?);
        bench.peers.forget(Peer::Strake)?;
        meter.set_round_trip(FAR);
        far.add(Peer::Strake, build(bench)?);
        meter.set_round_trip(std::time::Duration::ZERO);
    }
    let few = [Target::Absolute(0.06), Target::Absolute(0.1), Target::Absolute(10.0)];
    let mut rows = fresh.rows("stage file, fresh, no-op", few);
    rows.extend(warm.rows("stage file, warm, no-op", few));
    rows.extend(far.rows("stage file, fresh, no-op, 20 ms", [Target::None, few[1], few[2]]));
    Ok(rows)
}

fn make(directory: &Path, base: &str) -> Outcome<()> {
    let write = |name: &str, content: &str| {
        std::fs::create_dir_all(directory.join("src"))
            .and_then(|()| std::fs::write(directory.join(name), content))
            .map_err(Failure::at("write a file of a repository"))
    };
    write("strake.yaml", &STAGE_FILE.replace("BASE", base))?;
    write("packages", "one\nthree\ntwo\n")?;
    write("src/main", "main\n")?;
    let git = |words: &[&str]| Run::new("git").arg("-C").arg(directory).args(words);
    git(&["init", "-q", "-b", "main"]).succeed()?;
    git(&["add", "--all"]).succeed()?;
    let who = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
    git(&who).args(["commit", "-q", "-m", "all"]).succeed().map(drop)
}
