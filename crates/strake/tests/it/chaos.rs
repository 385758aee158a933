//! Nodes that build random graphs together while they are killed, frozen and cut off at random.
//!
//! After each round every node that was not killed has ended well; then, with everything healed, all build once more,
//! and every image is compared with that of a clean build alone. `STRAKE_CHAOS_SEED` (printed on failure) and
//! `STRAKE_CHAOS_ROUNDS` repeat a run, or make it last.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use strake_testkit::{Cut, Running};

use crate::scene::Built;
use crate::team::{Service, Team, alone, executions, expect_equal};

/// How long nothing happens at most between two faults; they come sooner when the builds get on.
const LULL: Duration = Duration::from_millis(1500);

/// Random numbers that follow from a seed (Steele et al., "Fast splittable pseudorandom number generators").
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// A Dockerfile of several stages; each takes from those before it, and the last one from all. No label occurs twice.
fn dockerfile(random: &mut Random, tag: &str) -> String {
    let mut text = String::new();
    let stages = 2 + random.below(4);
    for stage in 0..stages {
        let base = match random.below(3) {
            0 if stage > 0 => format!("s{}", random.below(stage)),
            _ => "busybox".to_owned(),
        };
        writeln!(text, "FROM {base} AS s{stage}").unwrap();
        for step in 0..1 + random.below(3) {
            let name = format!("{tag}-{stage}-{step}");
            match random.below(4) {
                0 => writeln!(text, "COPY in.txt /{name}"),
                1 if stage > 0 => {
                    writeln!(text, "COPY --from=s{} /done-{tag} /{name}", random.below(stage))
                }
                _ => writeln!(text, "RUN sleep 0.{}; ls / > /{name}", random.below(8)),
            }
            .unwrap();
        }
        writeln!(text, "RUN sleep 0.{}; echo {tag} {stage} >> /done-{tag}", random.below(5)).unwrap();
    }
    text += "FROM busybox\n";
    for stage in 0..stages {
        writeln!(text, "COPY --from=s{stage} /done-{tag} /{tag}-{stage}").unwrap();
    }
    writeln!(text, "RUN cat /{tag}-* > /all").unwrap();
    text
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill(usize),
    /// Killed, and started again at once.
    Restart(usize),
    Freeze(usize),
    Cut(usize, Service, Cut),
    /// etcd is killed and started again.
    Etcd,
}

impl Fault {
    fn random(random: &mut Random, nodes: usize) -> Self {
        let node = random.below(nodes);
        match random.below(9) {
            0 => Self::Kill(node),
            1 | 2 => Self::Restart(node),
            3 | 4 => Self::Freeze(node),
            5 => Self::Etcd,
            _ => {
                let service = random.one_of(&[Service::Etcd, Service::Registry, Service::Both]);
                Self::Cut(node, service, random.one_of(&[Cut::Silent, Cut::Unreachable]))
            }
        }
    }

    /// How many nodes it can make repeat a step.
    fn weight(self, nodes: usize) -> usize {
        if self == Self::Etcd { nodes } else { 1 }
    }
}

/// What has been seen, for people.
#[derive(Debug, Default)]
struct Figures {
    rounds: usize,
    kills: usize,
    freezes: usize,
    cuts: usize,
    etcd_deaths: usize,
    steps: usize,
    executions: usize,
}

/// Says how to repeat what failed.
struct Repeat {
    seed: u64,
    round: usize,
    told: Vec<String>,
}

impl Drop for Repeat {
    #[expect(clippy::print_stderr, reason = "how a failed test is repeated")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("STRAKE_CHAOS_SEED={} failed in round {}:", self.seed, self.round);
            self.told.iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

struct Chaos {
    team: Team,
    random: Random,
    figures: Figures,
    repeat: Repeat,
}

/// The builds of one round.
struct Round {
    context: String,
    running: Vec<Option<Running>>,
    killed: Vec<Built>,
    frozen: Vec<bool>,
    /// Waits for those that are not frozen before it thaws the others.
    begun: Instant,
    weight: usize,
}

impl Chaos {
    fn round(&mut self, number: usize, faults: usize) {
        self.repeat.round = number;
        self.repeat.told.clear();
        let context = format!("r{number}");
        let dockerfile = dockerfile(&mut self.random, &context);
        self.repeat.told.push(dockerfile.clone());
        self.team.context(&context, &dockerfile);
        let mut round = self.begin(&context);
        for _ in 0..faults {
            self.lull(&mut round);
            let fault = Fault::random(&mut self.random, self.team.nodes.len());
            self.repeat.told.push(format!("{:.1?}: {fault:?}", round.begun.elapsed()));
            round.weight += fault.weight(self.team.nodes.len());
            self.strike(&mut round, fault);
        }
        let mut built = self.end(&mut round);
        (0..self.team.nodes.len()).for_each(|node| self.team.heal(node));
        let again = self.team.all(&context);
        let alone = alone(&dockerfile);
        expect_equal(&alone, &built);
        expect_equal(&alone, &again);
        built.extend(again);
        built.append(&mut round.killed);
        self.count(&alone, &built, round.weight);
    }

    fn begin(&self, context: &str) -> Round {
        let nodes = 0..self.team.nodes.len();
        Round {
            context: context.to_owned(),
            running: nodes
                .clone()
                .map(|node| Some(self.team.build(node, context).start().unwrap()))
                .collect(),
            killed: Vec::new(),
            frozen: nodes.map(|_| false).collect(),
            begun: Instant::now(),
            weight: 0,
        }
    }

    /// Lets the builds get on a little.
    fn lull(&mut self, round: &mut Round) {
        let enough = round.said() + 1 + self.random.below(12);
        let until = Instant::now() + LULL;
        while round.said() < enough && Instant::now() < until && !round.has_ended() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn strike(&mut self, round: &mut Round, fault: Fault) {
        match fault {
            Fault::Kill(node) | Fault::Restart(node) => {
                self.figures.kills += 1;
                let Some(running) = round.running[node].take() else { return };
                let finished = running.kill().unwrap();
                round.frozen[node] = false;
                round.killed.push(Built::of_killed(finished));
                if matches!(fault, Fault::Restart(_)) {
                    round.running[node] = Some(self.team.build(node, &round.context).start().unwrap());
                }
            }
            Fault::Freeze(node) => {
                self.figures.freezes += 1;
                if let Some(running) = &round.running[node] {
                    running.freeze().unwrap();
                    round.frozen[node] = true;
                }
            }
            Fault::Cut(node, service, cut) => {
                self.figures.cuts += 1;
                self.team.heal(node);
                self.team.cut(node, service, cut);
            }
            Fault::Etcd => {
                self.figures.etcd_deaths += 1;
                self.team.etcd.kill();
                self.team.etcd.start();
            }
        }
    }

    /// Waits for all builds, and expects success. Some are only thawed, and some cuts healed, when the others are done.
    fn end(&mut self, round: &mut Round) -> Vec<Built> {
        for node in 0..self.team.nodes.len() {
            if self.random.below(2) == 0 {
                self.team.heal(node);
            }
            if self.random.below(2) == 0 {
                round.thaw(node);
            }
        }
        let mut built = Vec::new();
        for is_frozen in [false, true] {
            for node in 0..self.team.nodes.len() {
                if round.frozen[node] == is_frozen
                    && let Some(running) = round.running[node].take()
                {
                    self.repeat.told.push(format!("{:.1?}: wait for n{node}", round.begun.elapsed()));
                    if is_frozen {
                        running.thaw();
                    }
                    let finished = running.finish().unwrap();
                    assert_eq!(finished.code, 0, "n{node}: {finished}");
                    built.push(Built::of(finished));
                }
            }
        }
        built
    }

    fn count(&mut self, alone: &Built, built: &[Built], weight: usize) {
        let counts = executions(built);
        self.figures.rounds += 1;
        self.figures.steps += alone.ran().len();
        self.figures.executions += counts.values().sum::<usize>();
        assert_eq!(counts.len(), alone.ran().len(), "{counts:#?}");
        assert!(counts.values().all(|count| *count <= 1 + weight), "{weight} faults: {counts:#?}");
    }
}

impl Round {
    /// How much the builds have said together.
    fn said(&self) -> usize {
        let said = |running: &Running| running.said().unwrap().lines().count();
        self.running.iter().flatten().map(said).sum()
    }

    fn has_ended(&mut self) -> bool {
        self.running.iter_mut().flatten().all(|running| running.has_ended().unwrap())
    }

    fn thaw(&mut self, node: usize) {
        if let Some(running) = &self.running[node] {
            running.thaw();
        }
        self.frozen[node] = false;
    }
}

/// A number from the environment.
#[expect(clippy::disallowed_methods, reason = "how a failed run is repeated")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn no_fault_makes_an_image_wrong() {
    let seed = setting("STRAKE_CHAOS_SEED").unwrap_or(1);
    let rounds = usize::try_from(setting("STRAKE_CHAOS_ROUNDS").unwrap_or(3)).unwrap();
    let mut random = Random(seed);
    let Some(team) = Team::new(3 + random.below(4)) else { return };
    let repeat = Repeat { seed, round: 0, told: Vec::new() };
    let mut chaos = Chaos { team, random, figures: Figures::default(), repeat };
    for number in 0..rounds {
        // Now and then nothing goes wrong, and each step is carried out once.
        let faults = if number % 5 == 0 { 0 } else { 1 + chaos.random.below(5) };
        chaos.round(number, faults);
    }
    eprintln!("seed {seed}, {} nodes: {:?}", chaos.team.nodes.len(), chaos.figures);
}
