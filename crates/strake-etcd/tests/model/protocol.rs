//! What nodes, etcd and the registry do, one indivisible action at a time.

pub(crate) const MAX_NODES: usize = 3;

/// More runs than any budget of faults in the tests allows.
const MAX_RUNS: usize = FOREIGN as usize;

/// A tag that a stranger has put: a complete image, but of another signature.
const FOREIGN: u8 = 6;

/// Parts of a published result, as bits.
const BLOB: u8 = 1;
const CONFIG: u8 = 2;
const MANIFEST: u8 = 4;
const TAG: u8 = 8;
const CONTENT: u8 = BLOB | CONFIG | MANIFEST;

/// The protocol, or one with a rule broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    AsWritten,
    TagBeforeBlob,
    NoSecondLook,
    UnlocksFirst,
    LocksForEver,
    BelievesTags,
    ForgetsBadEntries,
}

impl Rules {
    fn order(self) -> [u8; 4] {
        match self {
            Self::TagBeforeBlob => [CONFIG, MANIFEST, TAG, BLOB],
            _ => [BLOB, CONFIG, MANIFEST, TAG],
        }
    }
}

/// How much may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// Leases of living holders that end: frozen, or cut off from etcd, for too long.
    pub(crate) leases: u8,
    /// Nodes that die. They are started again, and the lease of the dead one ends.
    pub(crate) crashes: u8,
    /// Requests to etcd or the registry that a node gives up on.
    pub(crate) cuts: u8,
    /// Publications whose sender hears nothing and tries again, while the first one arrives later, any number of times.
    pub(crate) delays: u8,
    /// Things that vanish from the registry.
    pub(crate) removals: u8,
    /// Tags that somebody else overwrites with an image of another step.
    pub(crate) strangers: u8,
}

impl Faults {
    pub(crate) const NONE: Self =
        Self { leases: 0, crashes: 0, cuts: 0, delays: 0, removals: 0, strangers: 0 };
}

/// Which of the two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Look {
    BeforeLock,
    WithLock,
}

/// What a node does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase {
    Absent,
    /// Asks for the tag, and gets the manifest behind it.
    ReadTag(Look),
    /// Has the manifest of a run, asks for the configuration with the record.
    ReadConfig(Look, u8),
    Lock,
    /// Until the key is gone.
    Wait,
    Run,
    /// Sends the part with this number in the order.
    Publish(u8, u8),
    Unlock(u8),
    /// Has accepted a run's record and needs its layer.
    Fetch(u8),
    Done,
    Crashed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Node {
    phase: Phase,
    /// Counts restarts: what the dead one held is not the new one's.
    life: u8,
    /// It believes to hold the lock.
    holds: bool,
    /// Runs that turned out to be incomplete, as bits.
    bad: u8,
    /// Runs of its own, as bits: of these it has the layer.
    mine: u8,
}

/// Everything there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    nodes: [Node; MAX_NODES],
    /// Who has the key in etcd: node and life.
    lock: Option<(u8, u8)>,
    tag: Option<u8>,
    /// What the registry has of each run, as bits.
    present: [u8; MAX_RUNS],
    /// What it ever had.
    ever: [u8; MAX_RUNS],
    /// What is on its way for ever.
    delayed: [u8; MAX_RUNS],
    /// How often the step was executed.
    pub(crate) runs: u8,
    /// Leases that ended with a key, of the living and the dead.
    lost: u8,
    left: Faults,
}

impl World {
    pub(crate) fn new(nodes: usize, left: Faults) -> Self {
        let absent = Node { phase: Phase::Absent, life: 0, holds: false, bad: 0, mine: 0 };
        let mut world = Self {
            nodes: [absent; MAX_NODES],
            lock: None,
            tag: None,
            present: [0; MAX_RUNS],
            ever: [0; MAX_RUNS],
            delayed: [0; MAX_RUNS],
            runs: 0,
            lost: 0,
            left,
        };
        for node in &mut world.nodes[..nodes] {
            node.phase = Phase::ReadTag(Look::BeforeLock);
        }
        world
    }

    /// The same state, told in one way: which node is which makes no difference, nor what nobody will ask for again.
    pub(crate) fn canonical(mut self) -> Self {
        let mut nodes: Vec<(Node, bool)> = Vec::new();
        for (index, mut node) in self.nodes.into_iter().enumerate() {
            let key = self.lock.filter(|&(holder, _)| holder == number(index));
            // Of earlier lives it only counts whether the key of one still stands.
            node.life = u8::from(key.is_some_and(|(_, life)| life != node.life));
            if matches!(node.phase, Phase::Done | Phase::Crashed) {
                node = Node { holds: false, bad: 0, mine: 0, ..node };
            }
            nodes.push((node, key.is_some()));
        }
        nodes.sort_unstable();
        for (index, (node, has_key)) in nodes.into_iter().enumerate() {
            self.nodes[index] = node;
            if has_key {
                self.lock = Some((number(index), 0));
            }
        }
        self
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.nodes.iter().all(|node| matches!(node.phase, Phase::Absent | Phase::Done | Phase::Crashed))
    }

    /// The invariants of one state. A late tag can bring back an entry whose content was removed meanwhile: how often
    /// the step runs is bounded where that cannot happen.
    pub(crate) fn check(&self, faults: Faults) -> Result<(), String> {
        let Faults { cuts, removals, strangers, .. } = self.left;
        let used = (faults.cuts - cuts) + (faults.removals - removals) + (faults.strangers - strangers);
        let bound = 1 + self.lost + used;
        if self.runs > bound && (faults.delays == 0 || faults.removals == 0) {
            return Err(format!("{} runs where {bound} are enough", self.runs));
        }
        Ok(())
    }

    /// All states that one action leads to; an error where a reader accepts what it must not.
    pub(crate) fn steps(&self, rules: Rules, after: &mut Vec<Self>) -> Result<(), String> {
        for index in 0..MAX_NODES {
            self.step_of(index, rules, after)?;
            self.fate_of(index, after);
        }
        self.steps_of_etcd(rules, after);
        self.steps_of_registry(after);
        Ok(())
    }

    fn step_of(&self, index: usize, rules: Rules, after: &mut Vec<Self>) -> Result<(), String> {
        let node = self.nodes[index];
        match node.phase {
            Phase::Absent | Phase::Done | Phase::Crashed => {}
            Phase::ReadTag(look) => {
                let found = self.tag.filter(|&run| self.has_manifest(run, rules) && node.bad & bit(run) == 0);
                let phase = found.map_or(missed(look), |run| Phase::ReadConfig(look, run));
                after.push(self.with(index, phase));
                // Cut off from the registry: as if there were nothing.
                after.extend(self.cut().map(|world| world.with(index, missed(look))));
            }
            Phase::ReadConfig(look, run) => {
                let phase = match (self.is_present(run, CONFIG), look) {
                    (false, _) => missed(look),
                    (true, Look::BeforeLock) => Phase::Fetch(run),
                    (true, Look::WithLock) => Phase::Unlock(run),
                };
                if self.is_present(run, CONFIG) {
                    self.accept(run)?;
                }
                after.push(self.with(index, phase));
            }
            Phase::Lock | Phase::Wait => self.lock_step(index, rules, after),
            Phase::Run => {
                let mut world = *self;
                world.runs += 1;
                world.nodes[index].mine |= bit(self.runs);
                let publish = Phase::Publish(self.runs, 0);
                if rules == Rules::UnlocksFirst {
                    world.unlock(index);
                }
                after.push(world.with(index, publish));
            }
            Phase::Publish(run, number) => self.publish_step(index, rules, run, number, after),
            Phase::Unlock(run) => {
                let mut world = *self;
                world.unlock(index);
                after.push(world.with(index, Phase::Fetch(run)));
            }
            Phase::Fetch(run) => {
                let mut world = *self;
                let is_mine = node.mine & bit(run) != 0;
                let phase = if is_mine || self.is_present(run, BLOB) { Phase::Done } else { Phase::Lock };
                if phase == Phase::Lock && rules != Rules::ForgetsBadEntries {
                    world.nodes[index].bad |= bit(run);
                }
                after.push(world.with(index, phase));
            }
        }
        Ok(())
    }

    fn lock_step(&self, index: usize, rules: Rules, after: &mut Vec<Self>) {
        if self.lock.is_none() {
            let mut world = *self;
            let look = if rules == Rules::NoSecondLook { Phase::Run } else { Phase::ReadTag(Look::WithLock) };
            world.lock = Some((number(index), self.nodes[index].life));
            world.nodes[index].holds = true;
            after.push(world.with(index, look));
        } else if self.nodes[index].phase == Phase::Lock {
            after.push(self.with(index, Phase::Wait));
        }
        // Cut off from etcd: without the lock.
        after.extend(self.cut().map(|world| world.with(index, Phase::ReadTag(Look::WithLock))));
    }

    fn publish_step(&self, index: usize, rules: Rules, run: u8, number: u8, after: &mut Vec<Self>) {
        let Some(&part) = rules.order().get(usize::from(number)) else {
            return after.push(self.with(index, Phase::Unlock(run)));
        };
        after.push(self.arrived(run, part).with(index, Phase::Publish(run, number + 1)));
        if let Some(delays) = self.left.delays.checked_sub(1) {
            let mut world = *self;
            world.left.delays = delays;
            world.delayed[usize::from(run)] |= part;
            after.push(world);
        }
        // Cut off from the registry: the result stays here.
        after.extend(self.cut().map(|world| world.with(index, Phase::Unlock(run))));
    }

    /// Death and return.
    fn fate_of(&self, index: usize, after: &mut Vec<Self>) {
        let node = self.nodes[index];
        match node.phase {
            Phase::Absent | Phase::Done => {}
            Phase::Crashed => {
                let phase = Phase::ReadTag(Look::BeforeLock);
                let mut world = *self;
                world.nodes[index] = Node { phase, life: node.life + 1, holds: false, bad: 0, mine: 0 };
                after.push(world);
            }
            _ => {
                if let Some(crashes) = self.left.crashes.checked_sub(1) {
                    let mut world = self.with(index, Phase::Crashed);
                    world.left.crashes = crashes;
                    after.push(world);
                }
            }
        }
    }

    fn steps_of_etcd(&self, rules: Rules, after: &mut Vec<Self>) {
        let Some((holder, life)) = self.lock else { return };
        let node = self.nodes[usize::from(holder)];
        let mut world = Self { lock: None, lost: self.lost + 1, ..*self };
        if node.life != life || node.phase == Phase::Crashed {
            if rules != Rules::LocksForEver {
                after.push(world);
            }
        } else if let Some(leases) = self.left.leases.checked_sub(1) {
            world.left.leases = leases;
            after.push(world);
        }
    }

    fn steps_of_registry(&self, after: &mut Vec<Self>) {
        let parts =
            || (0..number(MAX_RUNS)).flat_map(|run| [BLOB, CONFIG, MANIFEST, TAG].map(|part| (run, part)));
        let late = parts().filter(|&(run, part)| self.delayed[usize::from(run)] & part != 0);
        after.extend(late.map(|(run, part)| self.arrived(run, part)));
        if let Some(removals) = self.left.removals.checked_sub(1) {
            let left = Faults { removals, ..self.left };
            after.extend(parts().filter(|&(run, part)| self.is_present(run, part)).map(|(run, part)| {
                let mut world = Self { left, ..*self };
                world.present[usize::from(run)] &= !part;
                world
            }));
            after.extend(self.tag.map(|_| Self { left, tag: None, ..*self }));
        }
        if let Some(strangers) = self.left.strangers.checked_sub(1) {
            after.push(Self { left: Faults { strangers, ..self.left }, tag: Some(FOREIGN), ..*self });
        }
    }

    /// What must be true when a reader takes a record for what it looks for. Content may have been removed since it
    /// was published; that it never was there is what must not be.
    fn accept(&self, run: u8) -> Result<(), String> {
        match self.ever.get(usize::from(run)) {
            None => Err("a reader accepts a wrong image".to_owned()),
            Some(&ever) if ever != CONTENT => Err("a reader accepts half an image".to_owned()),
            Some(_) => Ok(()),
        }
    }

    /// Whether there is a manifest behind the tag that a reader believes in: a stranger's has another signature.
    fn has_manifest(&self, run: u8, rules: Rules) -> bool {
        if run == FOREIGN { rules == Rules::BelievesTags } else { self.is_present(run, MANIFEST) }
    }

    fn is_present(&self, run: u8, part: u8) -> bool {
        self.present.get(usize::from(run)).is_none_or(|present| present & part != 0)
    }

    fn arrived(&self, run: u8, part: u8) -> Self {
        let mut world = *self;
        if part == TAG {
            world.tag = Some(run);
        } else {
            world.present[usize::from(run)] |= part;
            world.ever[usize::from(run)] |= part;
        }
        world
    }

    /// Removes the key if it is this node's, as the transaction does.
    fn unlock(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.holds && self.lock == Some((number(index), node.life)) {
            self.lock = None;
        }
        node.holds = false;
    }

    fn cut(&self) -> Option<Self> {
        let cuts = self.left.cuts.checked_sub(1)?;
        Some(Self { left: Faults { cuts, ..self.left }, ..*self })
    }

    fn with(&self, index: usize, phase: Phase) -> Self {
        let mut world = *self;
        world.nodes[index].phase = phase;
        world
    }
}

fn missed(look: Look) -> Phase {
    match look {
        Look::BeforeLock => Phase::Lock,
        Look::WithLock => Phase::Run,
    }
}

fn bit(run: u8) -> u8 {
    1 << run
}

fn number(index: usize) -> u8 {
    u8::try_from(index).expect("a handful of nodes and runs")
}
