//! Rollouts in the state machine: plans, numbers, what drains, what is refused.

mod common;

use chain_graph::model::{
    EdgeFrom, EdgeMatch, EdgeTo, Forwarding, GraphEdge, ObjectKey, PortRange, Protocol, Side, TupleEffect,
};
use chain_graph::plan::ActiveViews;
use chain_graph::rollout::{
    CapacityReport, CheckedSpec, Drain, DrainPolicy, Outcome, Percent, PhaseName, Rejection, RolloutSpec, Sequence,
    SetLoad, Share, Span, State, Step, Timestamp,
};
use common::*;
use state_sync::{Command, DesiredState, Refusal, Report, Resource, Role, RolloutVerb, VERSIONS_KEPT};
use std::collections::BTreeMap;
use xdp_layout::{Generation, ReplicaSetId, ViewId};

fn at(seconds: u64) -> Timestamp {
    NOW.after(Span::from_secs(seconds))
}

fn web() -> ObjectKey {
    ObjectKey::new(&name("acme"), &name("web"))
}

fn view(number: u32) -> ViewId {
    ViewId::new(number).expect("a view number")
}

/// The chain, with two further versions of its function.
fn world() -> DesiredState {
    let mut resources = chain();
    resources.extend([replica_set("fw", "v2"), instance("fw", "v2", "b", 2)]);
    resources.extend([replica_set("fw", "v3"), instance("fw", "v3", "c", 3)]);
    after(&empty(), [puts(resources)])
}

fn version(set: &str) -> state_sync::GraphSpec {
    match graph("acme", "web", "fw", set) {
        Resource::Graph(spec) => spec,
        other => panic!("{other:?} is no graph"),
    }
}

fn steps(steps: impl Into<Vec<Step>>) -> CheckedSpec {
    CheckedSpec::try_from(RolloutSpec { steps: steps.into(), ..RolloutSpec::default() }).expect("a sound rollout")
}

fn weight(percent: u32) -> Step {
    Step::SetWeight(Percent::from_hundredths(percent * 100))
}

const PAUSE: Step = Step::Pause { duration: None };

fn verb(verb: RolloutVerb) -> Command {
    Command::rollout(web(), verb)
}

fn start(spec: CheckedSpec, set: &str) -> Command {
    verb(RolloutVerb::Start { spec, target: version(set) })
}

fn at_time(state: &DesiredState, command: &Command, now: Timestamp) -> DesiredState {
    state.apply(command, now).unwrap_or_else(|rejected| panic!("{rejected}")).state
}

/// Confirms the command in force.
fn confirmed(state: &DesiredState, now: Timestamp) -> DesiredState {
    let command = state.rollout(&web()).and_then(|rollout| rollout.command()).expect("a command is in force");
    at_time(state, &verb(RolloutVerb::Report(Report::Applied { sequence: command.sequence })), now)
}

fn views(state: &DesiredState) -> &ActiveViews {
    state.image().plan().content().graphs.values().next().expect("one graph")
}

/// Stable view, candidate with share, draining views.
fn plan(state: &DesiredState) -> (u32, Option<(u32, u16)>, Vec<u32>) {
    let active = views(state);
    let canary = active.canary.map(|canary| (canary.view.id.get(), canary.share));
    (active.stable.id.get(), canary, active.draining.iter().map(|view| view.id.get()).collect())
}

fn phase(state: &DesiredState) -> PhaseName {
    state.rollout(&web()).expect("the graph is there").status().place.phase
}

fn counted(state: &DesiredState, generation: Generation, records: &[(u32, u64)], now: Timestamp) -> DesiredState {
    let records = records.iter().map(|(number, count)| (view(*number), *count)).collect();
    at_time(state, &verb(RolloutVerb::Report(Report::Count { generation, records })), now)
}

fn roles(state: &DesiredState) -> Vec<(u32, Role)> {
    state.versions(&web()).iter().map(|version| (version.view.get(), version.role)).collect()
}

#[test]
fn a_rollout_goes_from_plan_to_plan() {
    let state = world();
    assert_eq!(plan(&state), (1, None, vec![]));
    let state = at_time(&state, &start(steps([weight(5), PAUSE, weight(20)]), "v2"), at(1));
    assert_eq!((plan(&state), phase(&state)), ((1, Some((2, 0)), vec![]), PhaseName::Installing));
    let state = confirmed(&state, at(2));
    assert_eq!((plan(&state), phase(&state)), ((1, Some((2, 3277)), vec![]), PhaseName::Progressing));
    let state = confirmed(&state, at(3));
    assert_eq!((plan(&state), phase(&state)), ((1, Some((2, 3277)), vec![]), PhaseName::Paused));
    let revision = state.get(&path("tenants/acme/graphs/web")).expect("it is there").revision;
    let state = at_time(&state, &verb(RolloutVerb::Resume), at(4));
    assert_eq!(plan(&state), (1, Some((2, 13107)), vec![]));
    let state = confirmed(&state, at(5));
    assert_eq!((plan(&state), phase(&state)), ((2, None, vec![1]), PhaseName::Promoting));
    let entry = state.get(&path("tenants/acme/graphs/web")).expect("it is there");
    assert_eq!(entry.resource, graph("acme", "web", "fw", "v2"), "the resource is what was promoted");
    assert!(entry.revision > revision, "and its etag is another");
    let state = confirmed(&state, at(6));
    assert_eq!((plan(&state), phase(&state)), ((2, None, vec![1]), PhaseName::Completed));
    assert_eq!(roles(&state), [(2, Role::Stable), (1, Role::Draining)]);
    let made: Vec<_> = state.versions(&web()).iter().map(|version| (version.parent, version.made)).collect();
    assert_eq!(made, [(Some(view(1)), Some(at(1))), (None, Some(NOW))]);
}

#[test]
fn an_ordinary_change_switches_at_once_and_the_old_view_drains() {
    let state = world();
    let state = at_time(&state, &puts(vec![graph("acme", "web", "fw", "v2")]), at(1));
    assert_eq!((plan(&state), phase(&state)), ((2, None, vec![1]), PhaseName::Completed));
    let left = state.generation();
    let before = Generation::new(left.get() - 1).expect("not the first");
    let kept = counted(&state, before, &[], at(2));
    assert_eq!(plan(&kept), (2, None, vec![1]), "the count began while the view got new flows");
    let kept = counted(&state, left, &[(1, 7), (2, 9)], at(100_000));
    assert_eq!(plan(&kept), (2, None, vec![1]), "flows are left to finish, however long it takes");
    assert!(kept.draining().all(|(_, draining)| draining.is_overdue(at(100_000))));
    let gone = counted(&kept, left, &[(2, 9)], at(100_001));
    assert_eq!(plan(&gone), (2, None, vec![]));
    assert!(gone.generation() > left);
    assert_eq!(roles(&gone), [(2, Role::Stable), (1, Role::Retired)]);
}

#[test]
fn a_change_back_takes_the_draining_view_again() {
    let there = at_time(&world(), &puts(vec![graph("acme", "web", "fw", "v2")]), at(1));
    let back = at_time(&there, &puts(vec![graph("acme", "web", "fw", "v1")]), at(2));
    assert_eq!(plan(&back), (1, None, vec![2]));
    assert_eq!(roles(&back), [(2, Role::Draining), (1, Role::Stable)]);
}

#[test]
fn an_ordinary_change_can_be_undone() {
    let state = at_time(&world(), &puts(vec![graph("acme", "web", "fw", "v2")]), at(1));
    let state = at_time(&state, &verb(RolloutVerb::Undo { spec: steps([]), to: None }), at(2));
    assert_eq!(plan(&state), (2, Some((1, 0)), vec![]), "its view is still there");
    let state = confirmed(&confirmed(&state, at(3)), at(4));
    assert_eq!((plan(&state), phase(&state)), ((1, None, vec![2]), PhaseName::Completed));
}

#[test]
fn a_retired_version_comes_back_as_another_view() {
    let state = at_time(&world(), &puts(vec![graph("acme", "web", "fw", "v2")]), at(1));
    let state = counted(&state, state.generation(), &[], at(2));
    let state = at_time(&state, &verb(RolloutVerb::Undo { spec: steps([]), to: Some(view(1)) }), at(3));
    assert_eq!(plan(&state), (2, Some((3, 0)), vec![]));
    assert_eq!(state.versions(&web())[0].spec, version("v1"));
    let unknown = verb(RolloutVerb::Undo { spec: steps([]), to: Some(view(9)) });
    let idle = at_time(&world(), &puts(vec![graph("acme", "web", "fw", "v2")]), at(1));
    let refused = idle.apply(&unknown, at(4)).expect_err("no such view").refusals;
    assert_eq!(refused, [Refusal::UnknownVersion { path: path("tenants/acme/graphs/web"), view: view(9) }]);
}

#[test]
fn what_would_disturb_a_rollout_is_refused() {
    let state = at_time(&world(), &start(steps([weight(5), PAUSE]), "v2"), at(1));
    let before = dump(&state);
    let refusals = |command: &Command| state.apply(command, at(2)).expect_err("refused").refusals;
    let place = state.rollout(&web()).expect("there").status().place;
    let running = [Refusal::RolloutRunning { path: path("tenants/acme/graphs/web"), place }];
    assert_eq!(refusals(&puts(vec![graph("acme", "web", "fw", "v3")])), running);
    assert_eq!(refusals(&start(steps([]), "v3")), running);
    let mut function = function("fw");
    if let Resource::NetworkFunction(spec) = &mut function {
        (spec.forwarding, spec.tuple) = (Forwarding::Routed, TupleEffect::Ends);
    }
    assert_eq!(refusals(&puts(vec![function])), running, "the views would mean something else");
    assert!(!state.apply(&puts(vec![graph("acme", "web", "fw", "v1")]), at(2)).expect("the same").changed);
    let mut both = puts(vec![graph("acme", "web", "fw", "v3"), attachment("acme", "x", Side::Client, "")]);
    both.operations.push(state_sync::Operation::Rollout {
        graph: ObjectKey::new(&name("acme"), &name("none")),
        verb: RolloutVerb::Pause,
    });
    let rejected = state.apply(&both, at(2)).expect_err("three things are wrong");
    assert_eq!((rejected.refusals.len(), rejected.violations.len()), (2, 1), "{rejected}");
    assert_eq!(dump(&state), before);
    let idle = world();
    let same = idle.apply(&start(steps([]), "v1"), at(1)).expect_err("it is the stable one").refusals;
    assert!(
        matches!(&same[..], [Refusal::Rollout(rejected)] if matches!(rejected.why, Rejection::AlreadyStable { .. }))
    );
    let none = idle.apply(&verb(RolloutVerb::Pause), at(1)).expect_err("nothing runs").refusals;
    assert!(matches!(&none[..], [Refusal::Rollout(rejected)] if matches!(rejected.why, Rejection::NotRunning { .. })));
}

#[test]
fn a_target_is_checked_like_everything_declared() {
    let state = world();
    let mut target = version("nowhere");
    target.client = vec![name("servers")];
    let rejected = state.apply(&verb(RolloutVerb::Start { spec: steps([]), target }), at(1)).expect_err("two rules");
    assert!(rejected.refusals.is_empty() && rejected.violations.len() >= 2, "{rejected}");
}

#[test]
fn pause_and_resume_keep_the_plan() {
    let state = at_time(&world(), &start(steps([weight(5), PAUSE]), "v2"), at(1));
    let paused = at_time(&state, &verb(RolloutVerb::Pause), at(2));
    assert_eq!((plan(&paused), phase(&paused)), (plan(&state), PhaseName::PausedByOperator));
    assert_eq!(paused.generation(), state.generation());
    let resumed = at_time(&paused, &verb(RolloutVerb::Resume), at(3));
    assert_eq!(phase(&resumed), PhaseName::Installing);
    let full = at_time(&confirmed(&resumed, at(4)), &verb(RolloutVerb::Promote { full: true }), at(5));
    assert_eq!(plan(&full), (2, None, vec![1]));
}

#[test]
fn another_target_takes_the_place_of_a_stuck_one() {
    let state = at_time(&world(), &start(steps([weight(5), PAUSE]), "v2"), at(1));
    let state = confirmed(&confirmed(&state, at(2)), at(3));
    let replace = RolloutVerb::Replace { spec: steps([weight(50), PAUSE]), target: version("v3"), force: false };
    let state = at_time(&state, &verb(replace), at(4));
    assert_eq!((plan(&state), phase(&state)), ((1, Some((2, 3277)), vec![3]), PhaseName::AwaitingCapacity));
    assert_eq!(roles(&state), [(3, Role::Candidate), (2, Role::Candidate), (1, Role::Stable)]);
    // Another graph's views take no number that is waiting.
    let extra = [
        attachment("acme", "c2", Side::Client, "eth5"),
        attachment("acme", "s2", Side::Server, "eth6"),
        function("ids"),
        replica_set("ids", "v1"),
        instance("ids", "v1", "i", 9),
    ];
    let mut other = graph("acme", "mail", "ids", "v1");
    if let Resource::Graph(spec) = &mut other {
        (spec.client, spec.server) = (vec![name("c2")], vec![name("s2")]);
    }
    let state = at_time(&state, &puts(extra.into_iter().chain([other]).collect()), at(5));
    let room = CapacityReport { sequence: sequence(&state), share: Share::new(3277), sets: vec![] };
    let state = at_time(&state, &verb(RolloutVerb::Report(Report::Capacity(room))), at(6));
    assert_eq!(plan(&state), (1, None, vec![2, 3]));
    let state = confirmed(&state, at(7));
    assert_eq!((plan(&state), phase(&state)), ((1, Some((3, 0)), vec![2]), PhaseName::Installing));
    let state = confirmed(&state, at(8));
    assert_eq!(plan(&state), (1, Some((3, 32768)), vec![2]));
    let outcome = state.rollout(&web()).and_then(|rollout| rollout.history().last()).map(|ended| ended.outcome.clone());
    assert_eq!(outcome, Some(Outcome::Superseded { by: view(3) }));
}

fn sequence(state: &DesiredState) -> Sequence {
    state.rollout(&web()).and_then(|rollout| rollout.command()).expect("a command").sequence
}

#[test]
fn an_abort_waits_for_room_and_goes_on() {
    let state = at_time(&world(), &start(steps([weight(50), PAUSE]), "v2"), at(1));
    let state = confirmed(&confirmed(&state, at(2)), at(3));
    let abort = RolloutVerb::Abort { reason: "changed my mind".to_owned(), force: false };
    let state = at_time(&state, &verb(abort), at(4));
    let load = |capacity| SetLoad {
        set: ReplicaSetId::new(1).expect("a number"),
        flows: 50,
        own: 50,
        returning: 50,
        capacity: Some(capacity),
        serving: true,
    };
    let report = |state: &DesiredState, share, capacity| {
        verb(RolloutVerb::Report(Report::Capacity(CapacityReport {
            sequence: sequence(state),
            share: Share::new(share),
            sets: vec![load(capacity)],
        })))
    };
    let applied = state.apply(&report(&state, 32768, 50), at(5)).expect("it fits");
    assert!(!applied.changed, "nothing can return, and figures are not stored");
    assert_eq!(applied.state.rollout(&web()).map(|rollout| rollout.status().shortages.len()), Some(1), "but shown");
    let state = applied.state;
    let state = at_time(&state, &report(&state, 32768, 80), at(6));
    assert_eq!(plan(&state), (1, Some((2, 13107)), vec![]), "a part can");
    let state = confirmed(&state, at(7));
    let state = at_time(&state, &report(&state, 13107, 100), at(8));
    assert_eq!(plan(&state), (1, None, vec![2]));
    assert_eq!(phase(&confirmed(&state, at(9))), PhaseName::Completed);
}

#[test]
fn deleting_the_graph_ends_everything_of_it() {
    let state = at_time(&world(), &puts(vec![graph("acme", "web", "fw", "v2")]), at(1));
    let state = at_time(&state, &start(steps([PAUSE]), "v3"), at(2));
    let gone = at_time(&state, &Command::delete(path("tenants/acme/graphs/web")), at(3));
    assert!(gone.rollout(&web()).is_none() && gone.versions(&web()).is_empty());
    assert!(gone.image().plan().content().graphs.is_empty() && gone.desired().versions.is_empty());
    let again = at_time(&gone, &puts(vec![graph("acme", "web", "fw", "v1")]), at(4));
    assert_eq!((plan(&again), phase(&again)), ((4, None, vec![]), PhaseName::Idle));
}

#[test]
fn a_repeated_request_starts_nothing_twice() {
    let mut command = start(steps([PAUSE]), "v2");
    command.request_id = "r-1".to_owned();
    let state = at_time(&world(), &command, at(1));
    let again = state.apply(&command, at(50)).expect("repeated");
    assert!(!again.changed);
    assert_eq!(dump(&again.state), dump(&state));
}

#[test]
fn a_function_that_changes_beneath_makes_another_view_and_drops_what_drained() {
    let state = at_time(&world(), &puts(vec![graph("acme", "web", "fw", "v2")]), at(1));
    let mut function = function("fw");
    if let Resource::NetworkFunction(spec) = &mut function {
        (spec.forwarding, spec.tuple) = (Forwarding::Routed, TupleEffect::Ends);
    }
    let state = at_time(&state, &puts(vec![function]), at(2));
    let (stable, canary, draining) = plan(&state);
    let rollout = state.rollout(&web()).expect("there");
    assert_eq!((rollout.stable().get(), canary, draining.len()), (stable, None, state.draining().count()));
    assert!(matches!(rollout.state(), State::Completed(_)));
}

#[test]
fn reset_is_due_at_the_deadline() {
    let drain = Drain { policy: DrainPolicy::Reset, deadline: Span::from_secs(10) };
    let spec = CheckedSpec::try_from(RolloutSpec { drain, ..RolloutSpec::default() }).expect("sound");
    let state = at_time(&world(), &start(spec, "v2"), at(1));
    let state = confirmed(&confirmed(&state, at(2)), at(3));
    let generation = state.generation();
    let early = state.apply(
        &verb(RolloutVerb::Report(Report::Count { generation, records: BTreeMap::from([(view(1), 4)]) })),
        at(5),
    );
    assert!(!early.expect("counted").changed);
    let reset = counted(&state, generation, &[(1, 4)], at(13));
    assert_eq!(plan(&reset), (2, None, vec![1]), "until a count says that they are gone");
    assert_eq!(plan(&counted(&reset, generation, &[], at(14))), (2, None, vec![]));
}

#[test]
fn the_same_log_gives_the_same_state() {
    let log = || {
        let mut log = vec![
            (puts(vec![graph("acme", "web", "fw", "v2")]), at(1)),
            (start(steps([weight(5), PAUSE]), "v3"), at(2)),
        ];
        for number in 1..=4 {
            log.push((verb(RolloutVerb::Report(Report::Applied { sequence: Sequence::new(number) })), at(2 + number)));
        }
        let replace = RolloutVerb::Replace { spec: steps([PAUSE]), target: version("v1"), force: true };
        log.push((verb(replace), at(20)));
        log
    };
    let run = || {
        let mut state = world();
        for (command, now) in log() {
            // Some answers are to commands that are not in force: refused, and the same everywhere.
            if let Ok(applied) = state.apply(&command, now) {
                state = applied.state;
            }
        }
        state
    };
    let (one, two) = (run(), run());
    assert_eq!(dump(&one), dump(&two));
    assert_eq!(one.rollout(&web()), two.rollout(&web()));
    assert_eq!(one.versions(&web()), two.versions(&web()));
    assert_eq!(one.draining().collect::<Vec<_>>(), two.draining().collect::<Vec<_>>());
    assert_eq!(plan(&one), (2, None, vec![1, 3]), "the log is not one of refusals only");
}

#[test]
fn the_oldest_versions_are_forgotten_but_never_an_installed_one() {
    let mut state = world();
    let first = state.generation();
    for number in 0..VERSIONS_KEPT as u16 + 3 {
        let mut changed = graph("acme", "web", "fw", "v1");
        if let Resource::Graph(spec) = &mut changed {
            let server_ports = vec![PortRange { first: number, last: number }];
            let matches = EdgeMatch { protocol: Some(Protocol::TCP), server_ports, ..EdgeMatch::default() };
            let edge = GraphEdge { from: EdgeFrom::Client, to: EdgeTo::Server, matches: Some(matches) };
            spec.edges.insert(0, edge);
        }
        state = at_time(&state, &puts(vec![changed]), at(1));
        // The first view has a flow that does not end.
        state = counted(&state, state.generation(), &[(1, 1)], at(2));
    }
    assert!(state.generation() > first);
    let roles = roles(&state);
    assert_eq!((roles.len(), roles.last()), (VERSIONS_KEPT, Some(&(1, Role::Draining))));
    assert_eq!(roles.first(), Some(&(VERSIONS_KEPT as u32 + 4, Role::Stable)));
}
