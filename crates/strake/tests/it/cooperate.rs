//! What becomes of a build that several nodes share when one of them, or what they meet in, is lost.

use std::collections::BTreeMap;

use serde_json::Value;
use strake_testkit::{Cut, Running};

use crate::scene::{Built, text};
use crate::team::{Service, Team, alone, executions, expect_equal, succeeded};

/// Six steps. The first one says `begun` when it runs, and takes its time: until it is told to go on where the secret
/// says so.
fn work(tag: &str) -> String {
    format!(
        "FROM busybox AS slow
RUN --mount=type=secret,id=hold printf 'beg%s\\n' un; {HOLD} || sleep 2; echo {tag} > /slow
FROM busybox AS other
COPY in.txt /in-{tag}
RUN sleep 0.2; echo other {tag} > /other
FROM busybox
COPY --from=slow /slow /slow
COPY --from=other /other /in-{tag} /
RUN cat /slow /other > /all
"
    )
}

/// Stands still until it is told to go on, where the secret says so.
const HOLD: &str = "[ \"$(cat /run/secrets/hold)\" = yes ] && sh -c 'kill -STOP $$'";

/// A team whose nodes have the context `c`, and what it gives alone.
fn team(nodes: usize) -> Option<(Team, Built)> {
    let team = Team::new(nodes)?;
    team.context("c", &work("c"));
    Some((team, alone(&work("c"))))
}

/// The first node's build, in the slow step until it is told to go on.
fn holder(team: &Team, context: &str) -> Running {
    let hold = |text: &str| team.nodes[0].sandbox().write("hold", text).unwrap();
    hold("yes");
    let mut running = team.build(0, context).start().unwrap();
    running.wait_for("begun").unwrap();
    running.wait_for_stop().unwrap();
    hold("no");
    running
}

/// Lets it go on to its end.
fn release(running: Running) -> Built {
    running.thaw();
    succeeded(running)
}

/// The builds of all other nodes, waiting for the first.
fn waiters(team: &Team, context: &str) -> Vec<Running> {
    let start = |node| team.build(node, context).start().unwrap();
    let mut waiters: Vec<Running> = (1..team.nodes.len()).map(start).collect();
    waiters.iter_mut().for_each(|waiter| waiter.wait_for("\"waiting\"").unwrap());
    waiters
}

#[track_caller]
fn expect_at_most(most: usize, counts: &BTreeMap<String, usize>) {
    assert!(counts.len() == 6 && counts.values().all(|count| *count <= most), "{counts:#?}");
}

#[test]
fn each_step_is_carried_out_by_one_node_and_the_others_know_which() {
    let Some((mut team, alone)) = team(3) else { return };
    // However busy the machine is, nobody loses it.
    team.lease = "60s";
    let first = holder(&team, "c");
    let waiters = waiters(&team, "c");
    let mut built = vec![release(first)];
    built.extend(waiters.into_iter().map(succeeded));
    expect_equal(&alone, &built);
    expect_at_most(1, &executions(&built));
    for waiter in &built[1..] {
        let is_it = |event: &&Value| event["event"] == "waiting" && text(&event["what"]).contains("printf");
        let told = waiter.events.iter().find(is_it).unwrap_or_else(|| panic!("{}", waiter.finished));
        assert_eq!(told["host"], "n0", "{told}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!((now - 300..=now).contains(&told["since"].as_u64().unwrap()), "{told}");
    }
    // From its own cache, and on a node that has nothing yet.
    team.add_node();
    team.context("c", &work("c"));
    for node in [0, 3] {
        let again = Built::of(team.build(node, "c").succeed().unwrap());
        again.expect_ran(&[]);
        expect_equal(&alone, [&again]);
    }
}

#[test]
fn a_waiting_node_tells_people_who_builds_what_since_when() {
    let Some((team, _)) = team(2) else { return };
    let first = holder(&team, "c");
    let mut second = team.coordinated(team.shown(1, "c", "plain")).start().unwrap();
    second.wait_for(" (since ").unwrap();
    release(first);
    let second = second.finish().unwrap();
    let is_it = |line: &&str| line.contains(" on n0, which is building ") && line.contains("printf");
    let said = second.stderr.lines().find(is_it).unwrap_or_else(|| panic!("{second}"));
    assert!(said.contains("waiting for process "), "{said}");
    assert!(second.success() && said.ends_with("s)") && said.contains(" (since "), "{said}");
}

#[test]
fn the_others_finish_what_a_killed_node_began() {
    let Some((team, alone)) = team(3) else { return };
    let first = holder(&team, "c");
    let waiters = waiters(&team, "c");
    let killed = first.kill().unwrap();
    assert_eq!(killed.code, 137, "{killed}");
    let built: Vec<Built> = waiters.into_iter().map(succeeded).collect();
    expect_equal(&alone, &built);
    // What it had finished and not yet published is made once more.
    let killed = Built::of_killed(killed);
    expect_at_most(2, &executions(built.iter().chain([&killed])));
    // And it goes on where they are.
    let resumed = Built::of(team.build(0, "c").succeed().unwrap());
    resumed.expect_ran(&[]);
    expect_equal(&alone, [&resumed]);
}

#[test]
fn a_node_frozen_for_longer_than_its_lease_does_no_harm() {
    let Some((team, alone)) = team(3) else { return };
    let first = holder(&team, "c");
    let waiters = waiters(&team, "c");
    first.freeze().unwrap();
    let mut built: Vec<Built> = waiters.into_iter().map(succeeded).collect();
    built.push(release(first));
    expect_equal(&alone, &built);
    expect_at_most(2, &executions(&built));
    let again = team.all("c");
    again.iter().for_each(|built| built.expect_ran(&[]));
    expect_equal(&alone, &again);
}

/// Each kind of cut hits a node of its own, while it holds a step of a build of its own; two other nodes take part in
/// all of these builds.
#[test]
fn a_node_that_is_cut_off_finishes_and_so_do_the_others() {
    const CUTS: [(Service, Cut); 6] = [
        (Service::Etcd, Cut::Silent),
        (Service::Etcd, Cut::Unreachable),
        (Service::Registry, Cut::Silent),
        (Service::Registry, Cut::Unreachable),
        (Service::Both, Cut::Silent),
        (Service::Both, Cut::Unreachable),
    ];
    let Some(team) = Team::new(CUTS.len() + 2) else { return };
    let contexts: Vec<String> = (0..CUTS.len()).map(|number| format!("c{number}")).collect();
    contexts.iter().for_each(|context| team.context(context, &work(context)));
    let mut running = Vec::new();
    for (number, (service, cut)) in CUTS.into_iter().enumerate() {
        let mut held = team.build(number, &contexts[number]).start().unwrap();
        held.wait_for("begun").unwrap();
        team.cut(number, service, cut);
        let others = [CUTS.len(), CUTS.len() + 1];
        let others = others.map(|other| team.build(other, &contexts[number]).start().unwrap());
        running.push((held, others));
    }
    for (number, (held, others)) in running.into_iter().enumerate() {
        let alone = alone(&work(&contexts[number]));
        let mut built: Vec<Built> = others.into_iter().map(succeeded).collect();
        built.push(succeeded(held));
        expect_equal(&alone, &built);
        expect_at_most(2, &executions(&built));
        team.heal(number);
        for node in [number, CUTS.len()] {
            let again = Built::of(team.build(node, &contexts[number]).succeed().unwrap());
            again.expect_ran(&[]);
            expect_equal(&alone, [&again]);
        }
    }
}

#[test]
fn a_build_survives_the_death_of_etcd() {
    let Some((mut team, alone)) = team(3) else { return };
    let first = holder(&team, "c");
    let waiters = waiters(&team, "c");
    team.etcd.kill();
    team.etcd.start();
    let mut built = vec![release(first)];
    built.extend(waiters.into_iter().map(succeeded));
    expect_equal(&alone, &built);
    expect_at_most(3, &executions(&built));
    let again = team.all("c");
    again.iter().for_each(|built| built.expect_ran(&[]));
    expect_equal(&alone, &again);
}

#[test]
fn publication_alone_keeps_several_nodes_right() {
    let Some((team, alone)) = team(3) else { return };
    let started: Vec<Running> = (0..3).map(|node| team.uncoordinated(node, "c").start().unwrap()).collect();
    let built: Vec<Built> = started.into_iter().map(succeeded).collect();
    expect_equal(&alone, &built);
    expect_at_most(3, &executions(&built));
    for node in 0..3 {
        let again = Built::of(team.uncoordinated(node, "c").succeed().unwrap());
        again.expect_ran(&[]);
        expect_equal(&alone, [&again]);
    }
}

#[test]
fn a_step_that_failed_elsewhere_is_built_by_whoever_waited_for_it() {
    let dockerfile = format!(
        "FROM busybox
RUN --mount=type=secret,id=hold printf 'beg%s\\n' un; ! {{ {HOLD}; }} && echo a > /a
"
    );
    let Some(team) = Team::new(2) else { return };
    team.context("c", &dockerfile);
    let first = holder(&team, "c");
    let mut second = team.build(1, "c").start().unwrap();
    second.wait_for("\"waiting\"").unwrap();
    first.thaw();
    let failed = first.finish().unwrap();
    assert_eq!(failed.code, 1, "{failed}");
    let second = succeeded(second);
    second.expect_ran(&["RUN --mount"]);
    assert!(
        second.finished.stderr.contains("its result is not to be found; it is built here"),
        "{}",
        second.finished
    );
    // What failed there is taken from here.
    Built::of(team.build(0, "c").succeed().unwrap()).expect_ran(&[]);
}

#[test]
fn who_cannot_publish_for_a_moment_tries_again_before_others_build_it() {
    // Nothing else is on its way when the registry is gone.
    let dockerfile = format!(
        "FROM busybox
RUN --mount=type=secret,id=hold printf 'beg%s\\n' un; {HOLD}; sleep 2; echo slow > /slow
"
    );
    let Some(mut team) = Team::new(2) else { return };
    // However busy the machine is, nobody loses it.
    team.lease = "60s";
    team.context("one", &dockerfile);
    let mut first = holder(&team, "one");
    let second = waiters(&team, "one").remove(0);
    team.cut(0, Service::Registry, Cut::Unreachable);
    first.thaw();
    first.wait_for("tried again: other machines may wait for it").unwrap();
    team.heal(0);
    let built = [succeeded(first), succeeded(second)];
    assert_eq!(built[0].id(), built[1].id());
    assert_eq!(executions(&built).into_values().collect::<Vec<_>>(), [1], "{}", built[1].finished);
}

/// Longer than the steps themselves take by one look that is given up, and by no more: the limit of the run is far
/// below what a client waits that has nothing else to do.
#[test]
fn a_silent_registry_is_given_up_soon_and_once() {
    let Some((team, alone)) = team(1) else { return };
    team.cut(0, Service::Registry, Cut::Silent);
    let built = Built::of(team.build(0, "c").seconds(60).succeed().unwrap());
    expect_equal(&alone, [&built]);
    let given_up =
        |event: &&Value| event["message"].as_str().is_some_and(|text| text.contains("goes on without it"));
    assert_eq!(built.events.iter().filter(given_up).count(), 1, "{}", built.finished);
}
