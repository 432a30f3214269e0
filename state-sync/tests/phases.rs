//! The data path goes from plan to plan by the phase functions.

mod common;

use chain_graph::model::Side;
use chain_graph::plan::PlanRef;
use common::fake::Operation::{Enter, Prepare};
use common::fake::*;
use common::*;
use state_sync::{DesiredState, Resource};
use std::sync::mpsc;
use std::time::Duration;
use xdp_layout::Generation;

const SOON: Duration = Duration::from_millis(1);

/// A change of the plan: `fw` gets another weight.
fn weight(weight: u16) -> state_sync::Command {
    let mut resource = instance("fw", "v1", "a", 1);
    if let Resource::Instance(spec) = &mut resource {
        spec.weight = weight;
    }
    puts(vec![resource])
}

fn plan(state: &DesiredState) -> PlanRef {
    PlanRef { generation: state.generation(), digest: state.image().plan().digest() }
}

/// With the chain as plan 2, and nothing noted.
async fn chained(test: &str, retry: Duration) -> Running {
    let running = start(test, retry);
    running.control().write(puts(chain())).await.expect("accepted");
    assert_eq!(running.fake.in_force(), Some(plan(&running.control().state())));
    running.fake.forget_calls();
    running
}

#[tokio::test]
async fn from_nothing_to_a_plan_and_on_to_the_next() {
    let running = start("nothing", NEVER);
    running.programmed().await;
    assert_eq!(running.fake.calls(), [(Prepare, 1), (Enter, 1)]);
    running.control().write(puts(chain())).await.expect("accepted");
    assert_eq!(running.fake.calls()[2..], [(Prepare, 2), (Enter, 2)]);
}

#[tokio::test]
async fn what_is_part_of_no_plan_is_in_force_without_one() {
    let running = chained("no-plan", NEVER).await;
    let more = puts(vec![attachment("acme", "more", Side::Client, "eth5")]);
    let outcome = running.control().write(more).await.expect("accepted");
    assert_eq!(outcome.generation.get(), 2);
    assert_eq!(running.fake.calls(), [(Prepare, 2), (Enter, 2)]);
}

#[tokio::test]
async fn a_plan_that_is_not_prepared_is_not_entered() {
    let running = chained("prepare", SOON).await;
    running.fake.set(|shared| shared.fail = Some(Prepare));
    let outcome = running.control().write(weight(2)).await.expect("durable");
    assert!(outcome.programmed.reason().is_some_and(|reason| reason.contains("Prepare")), "{outcome:?}");
    running.fake.set(|shared| shared.fail = None);
    running.programmed().await;
    let calls = running.fake.calls();
    let (last, before) = calls.split_last().expect("called");
    assert_eq!(*last, (Enter, 3));
    assert!(before.len() >= 2 && before.iter().all(|call| *call == (Prepare, 3)), "{calls:?}");
}

#[tokio::test]
async fn a_plan_that_cannot_be_prepared_is_given_up_for_a_later_one() {
    let running = chained("abort", NEVER).await;
    running.fake.set(|shared| shared.fail = Some(Prepare));
    running.control().write(weight(2)).await.expect("durable");
    running.control().write(weight(3)).await.expect("durable");
    assert_eq!(running.fake.calls(), [(Prepare, 3), (Prepare, 4)]);
    running.fake.set(|shared| shared.fail = None);
    let outcome = running.control().write(weight(4)).await.expect("accepted");
    assert!(outcome.programmed.reason().is_none(), "{outcome:?}");
    assert_eq!(running.fake.calls()[2..], [(Prepare, 5), (Enter, 5)]);
}

#[tokio::test]
async fn what_was_decided_is_entered_before_a_later_plan() {
    let running = chained("decided", NEVER).await;
    running.fake.set(|shared| shared.fail = Some(Enter));
    let outcome = running.control().write(weight(2)).await.expect("durable");
    assert!(outcome.programmed.reason().is_some_and(|reason| reason.contains("Enter")), "{outcome:?}");
    running.fake.set(|shared| shared.fail = None);
    let outcome = running.control().write(weight(3)).await.expect("accepted");
    assert!(outcome.programmed.reason().is_none(), "{outcome:?}");
    assert_eq!(running.fake.calls(), [(Prepare, 3), (Enter, 3), (Enter, 3), (Prepare, 4), (Enter, 4)]);
}

#[tokio::test]
async fn plans_that_wait_are_one_change() {
    let running = chained("coalesced", NEVER).await;
    let (open, gate) = mpsc::channel();
    let (begun, inside) = mpsc::channel();
    running.fake.set(|shared| (shared.gate, shared.begun) = (Some(gate), Some(begun)));
    let writes: Vec<_> = (2..=6)
        .map(|number| {
            let control = running.control().clone();
            tokio::spawn(async move { control.write(weight(number)).await })
        })
        .collect();
    tokio::task::spawn_blocking(move || inside.recv()).await.expect("join").expect("one is prepared");
    open.send(()).expect("the gate opens");
    for write in writes {
        write.await.expect("join").expect("accepted");
    }
    let calls = running.fake.calls();
    let entered: Vec<u64> = calls.iter().filter(|(operation, _)| *operation == Enter).map(|(_, plan)| *plan).collect();
    assert_eq!(entered.last(), Some(&7), "{calls:?}");
    assert!(entered.len() <= 2, "one before they wait, one for all that wait: {calls:?}");
}

#[tokio::test]
async fn a_restart_goes_on_from_what_the_data_path_runs() {
    let running = chained("same", SOON).await;
    let kept = plan(&running.control().state());
    let same = running.restart(Fake::running(kept));
    same.programmed().await;
    assert_eq!(same.fake.calls(), [(Prepare, 2), (Enter, 2)]);
    // Three plans are stored that the data path never hears of.
    same.fake.set(|shared| shared.fail = Some(Prepare));
    for number in 2..=4 {
        same.control().write(weight(number)).await.expect("durable");
    }
    assert_eq!(same.fake.in_force(), Some(kept));
    let behind = Fake::running(kept);
    behind.set(|shared| shared.fail = Some(Prepare));
    let older = same.restart(behind);
    older.wait("it is tried", |now| now.error.is_some()).await;
    older.fake.set(|shared| shared.fail = None);
    older.programmed().await;
    assert_eq!(older.fake.in_force(), Some(plan(&older.control().state())));
    assert!(older.fake.calls().iter().all(|(_, plan)| *plan == 5), "{:?}", older.fake.calls());
}

/// The data path runs what the stored state cannot have come after.
async fn refused(test: &str, change: impl FnOnce(PlanRef) -> PlanRef, wanted: &str) {
    let running = chained(test, SOON).await;
    let stored = plan(&running.control().state());
    let running = running.restart(Fake::running(change(stored)));
    let told = running.wait("it is told", |now| now.error.is_some()).await;
    let reason = told.reason().expect("an error");
    assert!(reason.contains(wanted) && reason.contains("take it down"), "{reason}");
    let outcome = running.control().write(weight(2)).await.expect("durable");
    assert_eq!(outcome.programmed.reason(), Some(reason), "a later plan does not mend it");
    assert_eq!(running.fake.calls(), [], "it goes on as it is");
}

#[tokio::test]
async fn the_same_number_with_another_content_is_an_alarm() {
    refused("alarm", |plan| PlanRef { digest: !plan.digest, ..plan }, "same number, other content").await;
}

#[tokio::test]
async fn a_later_plan_than_any_that_is_stored_is_kept() {
    let later = |plan| PlanRef { generation: Generation::new(100).expect("a number"), ..plan };
    refused("later", later, "it is at stable 100").await;
}
