//! Stages that travel: one node after another, and several at once, on the same registry.
//!
//! A *fresh* node has an empty store. Seconds, bytes and requests are those of all commands that the flow of a builder
//! consists of ([`flow`]). The image is pushed where something was built: that is how the others publish their steps.

mod flow;
mod meter;
mod nodes;
mod stages;

use std::path::{Path, PathBuf};
use std::time::Duration;

use strake_testkit::{Base, Failure, Outcome};

use self::flow::{Price, Sharing, build, put};
use self::meter::Meter;
use crate::line::{Bench, Samples, add};
use crate::peer::{PEERS, Peer};
use crate::random::Random;
use crate::table::{Row, Target};

/// How far away the registry is in the rows that say so.
const FAR: Duration = Duration::from_millis(20);

/// All rows.
pub(crate) fn share(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let meter = Meter::start()?;
    let base = put(&meter, &bench.base_archive(Base::Tools, "tools")?, "base:1")?;
    let mut rows = single_nodes(bench, &meter, &base)?;
    rows.extend(stages::rows(bench, &meter)?);
    rows.extend(nodes::rows(bench, &meter)?);
    Ok(rows)
}

/// The same measurements of several builders.
#[derive(Default)]
struct Prices {
    seconds: Samples,
    megabytes: Samples,
    requests: Samples,
}

impl Prices {
    fn add(&mut self, peer: Peer, price: Price) {
        add(&mut self.seconds, peer, price.seconds);
        add(&mut self.megabytes, peer, price.megabytes);
        add(&mut self.requests, peer, price.requests);
    }

    /// A row each for seconds, megabytes and requests.
    fn rows(self, work: &str, targets: [Target; 3]) -> Vec<Row> {
        let [seconds, megabytes, requests] = targets;
        let row = |work: String, samples, target| Row { work, samples, limit: None, target };
        vec![
            row(work.to_owned(), self.seconds, seconds),
            row(format!("{work}: MB"), self.megabytes, megabytes),
            row(format!("{work}: requests"), self.requests, requests),
        ]
    }
}

/// One node at a time on an application of ten steps, above Debian and 100 MB of packages.
fn single_nodes(bench: &mut Bench, meter: &Meter, base: &str) -> Outcome<Vec<Row>> {
    let application = Application::new(bench, base)?;
    let directory = application.directory.clone();
    let build = |bench: &Bench, peer, sharing| build(bench, meter, peer, sharing, &directory);
    let [mut alone, mut published, mut changed, mut far_changed] = <[Prices; 4]>::default();
    let [mut label, mut fresh, mut far_fresh, mut warm, mut pushed] = <[Prices; 5]>::default();
    for peer in PEERS {
        bench.peers.forget(peer)?;
        alone.add(peer, build(bench, peer, Sharing::Nothing)?);
        bench.peers.forget(peer)?;
        published.add(peer, build(bench, peer, Sharing::Image)?);
    }
    for round in 0..bench.rounds {
        for peer in PEERS {
            let fresh_node = |far: Duration, sharing| {
                bench.peers.forget(peer)?;
                meter.set_round_trip(far);
                let price = build(bench, peer, sharing);
                meter.set_round_trip(Duration::ZERO);
                price
            };
            application.change(&format!("far {round}"), round)?;
            far_changed.add(peer, fresh_node(FAR, Sharing::Image)?);
            application.change(&format!("near {round}"), round)?;
            changed.add(peer, fresh_node(Duration::ZERO, Sharing::Image)?);
            fresh.add(peer, fresh_node(Duration::ZERO, Sharing::Steps)?);
            warm.add(peer, build(bench, peer, Sharing::Steps)?);
            far_fresh.add(peer, fresh_node(FAR, Sharing::Steps)?);
            pushed.add(peer, fresh_node(Duration::ZERO, Sharing::Image)?);
            application.change(&format!("near {round}"), round + 1000)?;
            label.add(peer, fresh_node(Duration::ZERO, Sharing::Steps)?);
        }
    }
    for peer in PEERS {
        bench.peers.forget(peer)?;
    }
    let none = [Target::None; 3];
    let few = [Target::Absolute(0.06), Target::Absolute(0.1), Target::Absolute(10.0)];
    let few_far = [Target::None, few[1], few[2]];
    let mut rows = alone.rows("application, cold, kept", none);
    rows.extend(published.rows("application, cold, published", none));
    rows.extend(changed.rows("fresh, source changed", none));
    rows.extend(far_changed.rows("fresh, source changed, 20 ms", none));
    rows.extend(label.rows("fresh, LABEL changed", few));
    rows.extend(fresh.rows("fresh, no-op", few));
    rows.extend(far_fresh.rows("fresh, no-op, 20 ms", few_far));
    rows.extend(warm.rows("warm, no-op", few));
    rows.extend(pushed.rows("fresh, no-op, pushed", none));
    Ok(rows)
}

/// A build context.
struct Application {
    directory: PathBuf,
    base: String,
}

impl Application {
    fn new(bench: &Bench, base: &str) -> Outcome<Self> {
        let directory = bench.context("share", "")?;
        let application = Self { directory, base: base.to_owned() };
        let write = |name: String, content: &[u8]| {
            let path = application.directory.join(name);
            let parent = path.parent().unwrap_or(Path::new("/")).to_owned();
            std::fs::create_dir_all(parent)
                .and_then(|()| std::fs::write(path, content))
                .map_err(Failure::at("write a file of the application"))
        };
        let mut random = Random(7);
        let mut content = vec![0; 20_000];
        write("packages.txt".into(), b"one\nthree\ntwo\n")?;
        for number in 0..300 {
            random.fill(&mut content);
            write(format!("vendor/d{}/f{number}", number % 10), &content)?;
        }
        application.change("first", 0)?;
        Ok(application)
    }

    /// Other sources, and another label.
    fn change(&self, source: &str, label: usize) -> Outcome<()> {
        let dockerfile = format!(
            "FROM {}\nENV LANG=C.UTF-8\n\
             RUN mkdir /opt/packages && for n in 0 1 2 3 4 5 6 7 8 9; do head -c 5000000 /dev/urandom > \
             /opt/packages/$n.so && yes \"package $n\" | head -c 5000000 > /opt/packages/$n.txt; done\n\
             WORKDIR /app\nCOPY packages.txt ./\nRUN sort packages.txt > packages.lock\nCOPY vendor vendor\n\
             RUN find vendor -type f | sort | xargs sha256sum > vendor.sum\nCOPY src src\n\
             RUN cat src/* vendor.sum > program\nLABEL build={label}\nCMD [\"cat\", \"program\"]\n",
            self.base
        );
        let source_file = self.directory.join("src/main");
        let failed = Failure::at("change the application");
        std::fs::create_dir_all(self.directory.join("src"))
            .and_then(|()| std::fs::write(source_file, source))
            .and_then(|()| std::fs::write(self.directory.join("Dockerfile"), dockerfile))
            .map_err(failed)
    }
}
