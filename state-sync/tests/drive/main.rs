//! The control plane drives rollouts, over a data path and a clock in memory.

#[path = "../common/mod.rs"]
mod common;
mod counts;
mod world;

use chain_graph::rollout::{Bounds, Failure, Outcome, Percent, PhaseName, RolloutSpec, Span};
use common::*;
use state_sync::{PendingPort, PendingReason, PortOwner, RolloutVerb, ViewCounters};
use world::*;
use xdp_layout::InstanceId;

#[tokio::test]
async fn a_rollout_without_steps_is_over_when_it_is_answered() {
    let world = World::new("no-steps").await;
    world.drive(start(steps([]))).await;
    assert_eq!(world.status().outcome, Some(Outcome::Success));
    assert_eq!(world.fake.installed(), [(1, None, vec![]), (1, Some((2, 0)), vec![]), (2, None, vec![1])]);
}

#[tokio::test]
async fn steps_are_taken_by_the_clock() {
    let world = World::new("steps").await;
    world.drive(start(steps([weight(5), pause(30), weight(20), pause(30)]))).await;
    assert_eq!(world.status().place.phase, PhaseName::Paused);
    world.clock.advance(Span::from_secs(30));
    world.wait("the second weight", |state| status_of(state).place.step == 4).await;
    world.clock.advance(Span::from_secs(30));
    world.phase(PhaseName::Completed).await;
    let plans =
        [(1, None, vec![]), (1, Some((2, 0)), vec![]), (1, Some((2, 3277)), vec![]), (1, Some((2, 13107)), vec![])];
    assert_eq!(world.fake.installed()[..4], plans);
    assert_eq!(world.fake.installed()[4..], [(2, None, vec![1])]);
}

#[tokio::test]
async fn a_candidate_out_of_bounds_is_aborted() {
    let world = World::new("bounds").await;
    let bounds = Bounds { min_flows: 10, dropped: Some(Percent::from_hundredths(100)), ..Bounds::default() };
    world.fake.set(|shared| shared.counters = Some(ViewCounters::default()));
    world.records(world.generation(), &[(1, 1, 50), (2, 2, 5)]);
    world.drive(start(RolloutSpec { bounds, ..steps([weight(5), FOREVER]) })).await;
    world.fake.set(|shared| {
        shared.counters = Some(ViewCounters { flows: 20, frames: 100, dropped: 2, ..ViewCounters::default() });
    });
    world.clock.advance(Span::from_secs(1));
    let status = world.phase(PhaseName::Completed).await;
    assert!(matches!(status.outcome, Some(Outcome::Failed(Failure::Bounds(_)))), "{status:?}");
    assert_eq!(world.fake.installed().last(), Some(&(1, None, vec![2])), "its flows drain");
}

#[tokio::test]
async fn what_cannot_be_installed_is_given_up_at_the_deadline() {
    let world = World::new("deadline").await;
    world.fake.set(|shared| shared.fail = true);
    world.drive(start(steps([weight(5)]))).await;
    let status = world.status();
    assert_eq!(status.place.phase, PhaseName::Installing);
    assert!(status.message.contains("told to fail"), "{}", status.message);
    world.clock.advance(Span::from_secs(600));
    world.phase(PhaseName::Aborting).await;
    world.fake.set(|shared| shared.fail = false);
    let status = world.phase(PhaseName::Completed).await;
    assert!(matches!(status.outcome, Some(Outcome::Failed(Failure::ProgressDeadline { .. }))), "{status:?}");
    assert!(world.fake.installed().iter().all(|(stable, canary, _)| *stable == 1 && canary.is_none()));
}

#[tokio::test]
async fn a_candidate_whose_port_is_missing_gets_no_flows() {
    let world = World::new("port").await;
    let owner = PortOwner::Instance(InstanceId::new(2).expect("a number"));
    let missing = PendingPort { owner, interface: "p2-0".to_owned(), reason: PendingReason::Missing };
    world.fake.set(|shared| shared.pending = vec![missing]);
    world.drive(start(steps([weight(5), FOREVER]))).await;
    assert_eq!(world.status().place.phase, PhaseName::Installing);
    assert!(world.status().message.contains("p2-0: no such interface"), "{}", world.status().message);
    world.fake.set(|shared| shared.pending.clear());
    world.phase(PhaseName::Paused).await;
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let mut world = World::new("restart").await;
    world.drive(start(steps([weight(5), FOREVER, weight(20)]))).await;
    let before = world.control().state();
    world.stop();
    world.fake.forget_installed();
    world.start();
    let mut programmed = world.control().programmed();
    programmed.wait_for(|now| now.reason().is_none()).await.expect("it is installed without a write");
    assert_eq!(world.fake.installed(), [(1, Some((2, 3277)), vec![])], "the same views, the same share");
    let state = world.control().state();
    assert_eq!((dump(&state), state.versions(&web())), (dump(&before), before.versions(&web())));
    assert_eq!(status_of(&state).place, status_of(&before).place);
    world.fake.set(|shared| shared.fail = true);
    world.drive(RolloutVerb::Resume).await;
    // Killed while a command is in force: it is carried out afterwards.
    world.stop();
    world.fake.set(|shared| shared.fail = false);
    world.start();
    world.phase(PhaseName::Completed).await;
    assert_eq!(world.fake.installed().last(), Some(&(2, None, vec![1])));
}
