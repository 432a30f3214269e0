//! Records are counted beside everything else: what drains, what is to be reset, how much room there is.

use super::common::*;
use super::world::*;
use chain_graph::rollout::{Drain, DrainPolicy, PhaseName, RecordCount, Retirement, RolloutSpec, Span, Verdict};
use state_sync::{Command, DesiredState, Resource, RolloutVerb};
use std::time::Duration;

#[tokio::test]
async fn a_view_is_retired_when_a_count_of_its_own_plan_says_zero() {
    let world = World::new("drain").await;
    let before = world.generation();
    world.records(before, &[]);
    world.write(puts(vec![graph("acme", "web", "fw", "v2")])).await;
    let left = world.generation();
    // A count that began under the plan before finds nothing; then one of the right plan finds a flow.
    world.counted().await;
    assert_eq!(world.fake.installed().last(), Some(&(2, None, vec![1])));
    world.records(left, &[(1, 1, 1)]);
    world.counted().await;
    assert_eq!(world.fake.installed().last(), Some(&(2, None, vec![1])));
    world.records(left, &[]);
    world.clock.advance(Span::from_secs(1));
    world.fake.installs((2, None, vec![])).await;
    assert!(world.control().state().draining().next().is_none());
}

#[tokio::test]
async fn flows_are_reset_at_the_deadline_if_that_is_the_policy() {
    let world = World::new("reset").await;
    let drain = Drain { policy: DrainPolicy::Reset, deadline: Span::from_secs(10) };
    world.drive(start(RolloutSpec { drain, ..steps([]) })).await;
    world.records(world.generation(), &[(1, 1, 3)]);
    world.clock.advance(Span::from_secs(7));
    world.counted().await;
    assert!(world.fake.resets().is_empty(), "not before");
    world.clock.advance(Span::from_secs(1));
    world.fake.reset(view(1)).await;
    world.records(world.generation(), &[]);
    world.clock.advance(Span::from_secs(1));
    world.wait("nothing drains", |state| state.draining().next().is_none()).await;
}

#[tokio::test]
async fn an_abort_returns_what_there_is_room_for() {
    let world = World::new("room").await;
    world.drive(start(steps([weight(50), FOREVER]))).await;
    world.records(world.generation(), &[(1, 1, 60), (2, 2, 60)]);
    world.drive(RolloutVerb::Abort { reason: "enough".to_owned(), force: false }).await;
    let status = world.status();
    assert_eq!(status.place.phase, PhaseName::AwaitingCapacity);
    assert_eq!(status.shortages.len(), 1, "{status:?}");
    let (_, canary, _) = world.fake.installed().last().cloned().expect("installed");
    assert_eq!(canary, Some((2, 10923)), "100 of 120 flows fit: a sixth stays");
    // The instance is given more room.
    let mut bigger = instance("fw", "v1", "a", 1);
    if let Resource::Instance(spec) = &mut bigger {
        spec.max_flows = 120;
    }
    world.write(puts(vec![bigger])).await;
    world.clock.advance(Span::from_secs(1));
    world.phase(PhaseName::Completed).await;
    assert_eq!(world.fake.installed().last(), Some(&(1, None, vec![2])));
}

#[tokio::test]
async fn a_reset_is_noted_when_it_is_done() {
    let world = World::new("noted").await;
    let drain = Drain { policy: DrainPolicy::Reset, deadline: Span::from_secs(10) };
    world.drive(start(RolloutSpec { drain, ..steps([]) })).await;
    let generation = world.generation();
    world.records(generation, &[(1, 1, 3)]);
    // How the view would be retired tells what was noted.
    let verdict = |state: &DesiredState| {
        let (_, view) = state.draining().next().expect("a view drains");
        view.step(Some(RecordCount { records: 0, generation }), NOW).1
    };
    world.fake.set(|shared| shared.fail_resets = true);
    world.clock.advance(Span::from_secs(10));
    world.fake.reset(view(1)).await;
    world.counted().await;
    assert_eq!(verdict(&world.control().state()), Verdict::Retire(Retirement::Finished));
    world.fake.set(|shared| shared.fail_resets = false);
    world.clock.advance(Span::from_secs(1));
    world.wait("it is noted", |state| verdict(state) == Verdict::Retire(Retirement::Reset)).await;
}

#[tokio::test]
async fn a_write_waits_neither_for_a_count_nor_for_a_reset() {
    let world = World::new("beside").await;
    let drain = Drain { policy: DrainPolicy::Reset, deadline: Span::from_secs(10) };
    let count = world.fake.shut_counts();
    world.drive(start(RolloutSpec { drain, ..steps([]) })).await;
    count.wait();
    world.write(puts(vec![tenant("other")])).await;
    world.records(world.generation(), &[(1, 1, 3)]);
    count.open();
    let reset = world.fake.shut_resets();
    world.clock.advance(Span::from_secs(10));
    reset.wait();
    world.write(puts(vec![tenant("another")])).await;
    assert!(world.fake.resets().is_empty());
    reset.open();
    world.fake.reset(view(1)).await;
}

#[tokio::test]
async fn a_view_gets_no_flows_while_its_flows_are_reset() {
    let world = World::new("undone").await;
    let drain = Drain { policy: DrainPolicy::Reset, deadline: Span::from_secs(10) };
    world.drive(start(RolloutSpec { drain, ..steps([]) })).await;
    world.records(world.generation(), &[(1, 1, 3)]);
    let reset = world.fake.shut_resets();
    world.clock.advance(Span::from_secs(10));
    reset.wait();
    let control = world.control().clone();
    let undo = puts(vec![graph("acme", "web", "fw", "v1")]);
    let mut undone = tokio::spawn(async move { control.write(undo).await });
    let early = tokio::time::timeout(Duration::from_millis(200), &mut undone).await;
    assert!(early.is_err(), "installed while flows are reset: {:?}", world.fake.installed());
    reset.open();
    undone.await.expect("no panic").expect("accepted");
    assert_eq!(world.fake.installed().last(), Some(&(1, None, vec![2])));
}

#[tokio::test]
async fn an_abort_is_answered_when_nothing_can_be_counted() {
    let world = World::new("blind").await;
    world.drive(start(steps([weight(50), FOREVER]))).await;
    world.fake.set(|shared| shared.fail_counts = true);
    world.drive(RolloutVerb::Abort { reason: "enough".to_owned(), force: false }).await;
    assert_eq!(world.status().place.phase, PhaseName::AwaitingCapacity);
    world.fake.set(|shared| shared.fail_counts = false);
    world.clock.advance(Span::from_secs(1));
    world.fake.installs((1, None, vec![2])).await;
}

#[tokio::test]
async fn a_question_for_room_is_answered_by_a_count_that_began_after_it() {
    let world = World::new("after").await;
    world.write(puts(vec![graph("acme", "web", "fw", "v2")])).await;
    world.records(world.generation(), &[(1, 1, 1)]);
    world.counted().await;
    let RolloutVerb::Start { spec, .. } = start(steps([weight(50), FOREVER])) else { panic!("it starts") };
    world.drive(RolloutVerb::Start { spec, target: version("v3") }).await;
    // This one finds room for everything.
    let early = world.fake.shut_counts();
    world.clock.advance(Span::from_secs(1));
    early.wait();
    world.records(world.generation(), &[(1, 1, 1), (2, 2, 60), (3, 3, 60)]);
    let control = world.control().clone();
    let abort = Command::rollout(web(), RolloutVerb::Abort { reason: "enough".to_owned(), force: false });
    let aborted = tokio::spawn(async move { control.write(abort).await });
    world.phase(PhaseName::AwaitingCapacity).await;
    // Other writes do not wait for the answer.
    world.write(puts(vec![tenant("other")])).await;
    assert!(!aborted.is_finished());
    early.open();
    aborted.await.expect("no panic").expect("accepted");
    assert_eq!(world.fake.installed().last(), Some(&(2, Some((3, 10923)), vec![1])));
    assert_eq!(world.status().place.phase, PhaseName::AwaitingCapacity);
}
