//! Every state that can be reached, each looked at once.

use std::collections::HashMap;
use std::fmt;

use crate::protocol::{Faults, MAX_NODES, Rules, World};

/// More than any of the tests needs; a mistake in the model must not eat the machine.
const MAX_STATES: usize = 4_000_000;

/// What is wrong, and the states that lead there.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) what: String,
    pub(crate) steps: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:\n{}", self.what, self.steps.join("\n"))
    }
}

/// Gives how often the step runs in the worst case. Breadth first, so that a violation is told by the shortest way to it.
pub(crate) fn explore(rules: Rules, nodes: usize, faults: Faults) -> Result<u8, Violation> {
    assert!(nodes <= MAX_NODES);
    let first = World::new(nodes, faults).canonical();
    let mut worlds = vec![first];
    let mut numbers = HashMap::from([(first, 0)]);
    let mut parents = vec![0];
    let mut edges = Vec::new();
    let mut most_runs = 0;
    let mut next = 0;
    while next < worlds.len() {
        let world = worlds[next];
        most_runs = most_runs.max(world.runs);
        let mut after = Vec::new();
        world.steps(rules, &mut after).map_err(|what| violation(what, &worlds, &parents, next))?;
        world.check(faults).map_err(|what| violation(what, &worlds, &parents, next))?;
        for world in after.into_iter().map(World::canonical) {
            let number = *numbers.entry(world).or_insert_with(|| {
                worlds.push(world);
                parents.push(next);
                worlds.len() - 1
            });
            edges.push((number, next));
        }
        assert!(worlds.len() < MAX_STATES, "the model grows without end");
        next += 1;
    }
    match first_stuck(&worlds, &edges) {
        Some(stuck) => {
            Err(violation("stuck: nobody can finish any more".to_owned(), &worlds, &parents, stuck))
        }
        None => Ok(most_runs),
    }
}

/// The first state from which no way leads to one where every living node has finished.
fn first_stuck(worlds: &[World], edges: &[(usize, usize)]) -> Option<usize> {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); worlds.len()];
    for &(to, from) in edges {
        before[to].push(from);
    }
    let mut waiting: Vec<usize> = (0..worlds.len()).filter(|&number| worlds[number].is_finished()).collect();
    let mut can_finish = vec![false; worlds.len()];
    for &number in &waiting {
        can_finish[number] = true;
    }
    while let Some(number) = waiting.pop() {
        for &earlier in &before[number] {
            if !std::mem::replace(&mut can_finish[earlier], true) {
                waiting.push(earlier);
            }
        }
    }
    can_finish.iter().position(|can| !can)
}

fn violation(what: String, worlds: &[World], parents: &[usize], mut number: usize) -> Violation {
    let mut steps = vec![format!("{:?}", worlds[number])];
    while number > 0 {
        number = parents[number];
        steps.push(format!("{:?}", worlds[number]));
    }
    steps.reverse();
    Violation { what, steps }
}
