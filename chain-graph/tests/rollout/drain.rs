//! Views that have left the plan.

use super::harness::*;
use chain_graph::rollout::*;
use xdp_layout::Generation;

fn count(records: u64, generation: u64) -> Option<RecordCount> {
    Some(RecordCount { records, generation: Generation::new(generation).unwrap() })
}

fn draining(policy: DrainPolicy) -> Draining {
    Draining::new(view(1), Generation::new(7).unwrap(), Drain { policy, deadline: secs(100) }, START)
}

/// Seconds, count, verdict, one after the other.
fn run(policy: DrainPolicy, steps: &[(u64, Option<RecordCount>, Verdict)]) {
    let mut draining = draining(policy);
    for (at, count, expected) in steps {
        let (next, verdict) = draining.step(*count, START.after(secs(*at)));
        assert_eq!(verdict, *expected, "{policy:?} at {at} s with {count:?}");
        let stored = serde_json::to_string(&next).unwrap();
        draining = serde_json::from_str(&stored).unwrap();
        assert_eq!(draining, next);
    }
}

#[test]
fn a_view_goes_with_its_last_flow() {
    let end = Verdict::Retire(Retirement::Finished);
    for policy in [DrainPolicy::Finish, DrainPolicy::Reset] {
        run(policy, &[(0, None, Verdict::Keep), (1, count(5, 7), Verdict::Keep), (99, count(0, 8), end)]);
    }
}

#[test]
fn counts_from_before_the_view_left_do_not_count() {
    let end = Verdict::Retire(Retirement::Finished);
    run(DrainPolicy::Finish, &[(1, count(0, 6), Verdict::Keep), (2, None, Verdict::Keep), (3, count(0, 7), end)]);
    run(
        DrainPolicy::Reset,
        &[
            (1, count(0, 6), Verdict::Keep),
            // By plan 6 it still gets new flows.
            (100, count(3, 6), Verdict::Keep),
            (101, None, Verdict::Keep),
            (102, count(3, 7), Verdict::ResetFlows),
        ],
    );
}

#[test]
fn the_policy_applies_at_the_deadline() {
    let finished = Verdict::Retire(Retirement::Finished);
    run(
        DrainPolicy::Finish,
        &[(99, count(5, 7), Verdict::Keep), (100, count(5, 7), Verdict::Keep), (9_999, count(0, 7), finished)],
    );
    assert!(!draining(DrainPolicy::Finish).is_overdue(START.after(secs(99))));
    assert!(draining(DrainPolicy::Finish).is_overdue(START.after(secs(100))));
    let reset = Verdict::Retire(Retirement::Reset);
    run(
        DrainPolicy::Reset,
        &[
            (99, count(5, 7), Verdict::Keep),
            (100, count(5, 7), Verdict::ResetFlows),
            (101, None, Verdict::ResetFlows),
            (102, count(0, 7), reset),
        ],
    );
}

#[test]
fn a_clock_that_is_set_back_delays_the_deadline_and_nothing_else() {
    let early = Timestamp::from_millis(5);
    let (draining, verdict) = draining(DrainPolicy::Reset).step(count(5, 7), early);
    assert_eq!(verdict, Verdict::Keep);
    assert_eq!(draining.step(count(5, 7), early.after(secs(99))).1, Verdict::Keep);
    assert_eq!(draining.step(count(5, 7), early.after(secs(100))).1, Verdict::ResetFlows);
    assert_eq!(draining.step(count(0, 7), early).1, Verdict::Retire(Retirement::Finished));
}
