//! The lease protocol of `docs/coordination.md`, explored to the last state.
//!
//! Two or three nodes want the same step. They share one lock, whose lease may end at any moment, and one registry,
//! where what was sent may arrive late, twice, or after its sender has died. A node may at any moment crash, be cut off
//! from either, or stand still for as long as the others take (it simply is not its turn). Everything that can happen
//! within a budget of faults is tried, in every order. `protocol` says what nodes do, `explore` tries it.
//!
//! The checker is itself checked: protocols with one rule broken must be caught.

mod explore;
mod protocol;

use explore::{Violation, explore};
use protocol::{Faults, Rules};

/// How often the step ran in the worst case.
fn holds(nodes: usize, faults: Faults) -> u8 {
    explore(Rules::AsWritten, nodes, faults).unwrap_or_else(|violation| panic!("{violation}"))
}

fn caught(rules: Rules, nodes: usize, faults: Faults, expect: &str) {
    let Violation { what, steps } = explore(rules, nodes, faults).expect_err("the broken rule does not show");
    assert!(what.contains(expect), "{what}:\n{}", steps.join("\n"));
}

#[test]
fn without_faults_the_step_runs_once() {
    for nodes in 1..=3 {
        assert_eq!(holds(nodes, Faults::NONE), 1);
    }
}

#[test]
fn each_lost_lease_costs_one_run_at_most() {
    for leases in 0..=2 {
        let faults = Faults { leases, ..Faults::NONE };
        // Not only at most: the bound is reached.
        assert_eq!(holds(3, faults), 1 + leases);
    }
}

#[test]
fn a_crash_costs_one_run_at_most() {
    for crashes in 1..=2 {
        assert_eq!(holds(3, Faults { crashes, ..Faults::NONE }), 1 + crashes);
    }
}

#[test]
fn cut_off_from_etcd_or_the_registry() {
    assert_eq!(holds(3, Faults { cuts: 1, ..Faults::NONE }), 2);
    assert_eq!(holds(2, Faults { cuts: 2, ..Faults::NONE }), 2);
}

#[test]
fn what_arrives_late_or_twice_is_harmless() {
    assert_eq!(holds(3, Faults { delays: 2, ..Faults::NONE }), 1);
    holds(2, Faults { delays: 2, leases: 1, crashes: 1, ..Faults::NONE });
}

#[test]
fn what_is_removed_or_overwritten_is_made_again() {
    assert_eq!(holds(3, Faults { removals: 1, ..Faults::NONE }), 2);
    assert_eq!(holds(3, Faults { strangers: 1, ..Faults::NONE }), 2);
    holds(2, Faults { removals: 2, delays: 1, ..Faults::NONE });
}

#[test]
fn faults_of_several_kinds_at_once() {
    holds(3, Faults { leases: 1, cuts: 1, ..Faults::NONE });
    holds(3, Faults { leases: 1, crashes: 1, ..Faults::NONE });
    holds(2, Faults { leases: 1, crashes: 1, cuts: 1, ..Faults::NONE });
    holds(2, Faults { leases: 1, cuts: 1, removals: 1, strangers: 1, ..Faults::NONE });
    holds(2, Faults { leases: 1, crashes: 1, delays: 1, removals: 1, ..Faults::NONE });
}

#[test]
fn a_tag_before_its_blob_is_caught() {
    caught(Rules::TagBeforeBlob, 2, Faults::NONE, "half an image");
}

#[test]
fn no_look_after_the_lock_is_caught() {
    caught(Rules::NoSecondLook, 2, Faults::NONE, "2 runs");
}

#[test]
fn unlocking_before_publishing_is_caught() {
    caught(Rules::UnlocksFirst, 2, Faults::NONE, "2 runs");
}

#[test]
fn locks_without_a_lease_are_caught() {
    caught(Rules::LocksForEver, 2, Faults { crashes: 1, ..Faults::NONE }, "stuck");
}

#[test]
fn believing_a_tag_is_caught() {
    caught(Rules::BelievesTags, 2, Faults { strangers: 1, ..Faults::NONE }, "a wrong image");
}

#[test]
fn forgetting_what_was_bad_is_caught() {
    caught(Rules::ForgetsBadEntries, 2, Faults { removals: 1, ..Faults::NONE }, "stuck");
}
