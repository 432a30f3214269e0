//! The one writer, over a data path in memory.

mod common;

use chain_graph::model::Side;
use common::fake::*;
use common::*;
use state_sync::{Command, PendingReason, Programmed, WriteError};
use std::sync::mpsc;
use std::time::Duration;

#[tokio::test]
async fn a_write_is_answered_when_the_data_path_has_it() {
    let running = start("answered", NEVER);
    let outcome = running.control().write(puts(chain())).await.expect("accepted");
    assert!(outcome.programmed.reason().is_none());
    assert_eq!(outcome.programmed.installed.as_ref().map(|installed| installed.generation), Some(outcome.generation));
    assert_eq!(running.control().state().revision(), 1);
    let refused = running.control().write(Command::delete(path("tenants/nobody"))).await;
    assert!(matches!(refused, Err(WriteError::Rejected(_))));
    assert_eq!(running.control().state().revision(), 1);
}

#[tokio::test]
async fn many_who_ask_how_many_records_there_are_cost_one_count() {
    let running = start("counts", NEVER);
    running.control().write(puts(chain())).await.expect("accepted");
    let before = running.fake.set(|shared| shared.counts);
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let control = running.control().clone();
            tokio::spawn(async move { control.census().await.map(|_| ()) })
        })
        .collect();
    for asked in asking {
        asked.await.expect("join").expect("counted");
    }
    assert_eq!(running.fake.set(|shared| shared.counts) - before, 1);
}

#[tokio::test]
async fn waiting_writes_are_installed_together() {
    let running = start("together", NEVER);
    running.control().write(puts(vec![tenant("first")])).await.expect("accepted");
    let (open, gate) = mpsc::channel();
    let (entered, inside) = mpsc::channel();
    running.fake.set(|shared| (shared.gate, shared.begun) = (Some(gate), Some(entered)));
    let control = running.control().clone();
    let blocked = tokio::spawn(async move { control.write(puts(vec![tenant("second")])).await });
    tokio::task::spawn_blocking(move || inside.recv()).await.expect("join").expect("it installs");
    let before = running.fake.calls().len();
    // While that one is being installed, ten more come.
    let mut waiting = Box::pin(async {
        let writes = (0..10).map(|number| running.control().write(puts(vec![tenant(&format!("t{number}"))])));
        let mut set = Vec::new();
        for write in writes {
            set.push(Box::pin(write));
        }
        let mut outcomes = Vec::new();
        // All are sent on the first poll, before any is answered.
        std::future::poll_fn(|context| {
            set.retain_mut(|write| match write.as_mut().poll(context) {
                std::task::Poll::Ready(outcome) => {
                    outcomes.push(outcome);
                    false
                }
                std::task::Poll::Pending => true,
            });
            if set.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        outcomes
    });
    let sent =
        std::future::poll_fn(|context| std::task::Poll::Ready(waiting.as_mut().poll(context).is_pending())).await;
    assert!(sent, "nothing is answered while the gate is shut");
    open.send(()).expect("the gate opens");
    let outcomes = waiting.await;
    assert!(outcomes.iter().all(Result::is_ok));
    blocked.await.expect("join").expect("accepted");
    let entered = running.fake.calls()[before..].iter().filter(|(operation, _)| *operation == Operation::Enter).count();
    assert_eq!(entered, 2, "one for the blocked write, one for the ten");
}

#[tokio::test]
async fn what_cannot_be_installed_is_kept_and_tried_again() {
    let running = start("again", Duration::from_millis(1));
    running.fake.set(|shared| shared.fail = Some(Operation::Prepare));
    let outcome = running.control().write(puts(chain())).await.expect("durable all the same");
    let reason = outcome.programmed.reason().expect("not programmed");
    assert!(reason.contains("told to fail"), "{reason}");
    running.fake.set(|shared| (shared.fail, shared.pending) = (None, true));
    let pending = |reason: Option<String>| reason.is_some_and(|reason| reason == "eth0: no such interface");
    running.wait("it is tried again", |now| pending(now.reason())).await;
    running.fake.set(|shared| shared.pending = false);
    running.programmed().await;
}

#[tokio::test]
async fn an_interface_that_goes_is_told_without_a_write() {
    let running = start("ports", Duration::from_millis(1));
    running.control().write(puts(chain())).await.expect("accepted");
    running
        .fake
        .set(|shared| (shared.changed, shared.pending) = (Some(vec![waiting("eth1", PendingReason::Down)]), true));
    let told = |now: &Programmed| now.reason().is_some_and(|reason| reason.starts_with("eth"));
    running.wait("it is told, and tried again", told).await;
    running.fake.set(|shared| shared.pending = false);
    running.programmed().await;
}

#[tokio::test]
async fn a_restart_installs_what_was_stored() {
    let first = start("restart", NEVER);
    first.control().write(puts(chain())).await.expect("accepted");
    let more = puts(vec![attachment("acme", "more", Side::Client, "eth5")]);
    first.control().write(more).await.expect("accepted");
    let before = dump(&first.control().state());
    let second = first.restart(Fake::default());
    second.programmed().await;
    assert_eq!(dump(&second.control().state()), before);
}
