//! What the candidate may do, and what cannot be judged.

use super::harness::*;
use chain_graph::rollout::*;

/// Watching at 5 %, after a sample at the beginning of the step.
fn watching(spec: impl FnOnce(&[Step]) -> RolloutSpec) -> Script {
    let mut script = Script::started(&spec(&[weight("5"), pause(secs(60)), weight("50"), pause(secs(60))]));
    script.quietly(sample(well(1000))).confirm().confirm();
    script
}

fn with(bounds: Bounds) -> impl FnOnce(&[Step]) -> RolloutSpec {
    move |steps| RolloutSpec { bounds, ..spec(steps) }
}

/// The counters after `counted` on top of those at the beginning.
fn plus(counted: Counters) -> Counters {
    let Counters { flows, tcp_flows, tcp_resets, frames, dropped } = well(1000);
    Counters {
        flows: flows + counted.flows,
        tcp_flows: tcp_flows + counted.tcp_flows,
        tcp_resets: tcp_resets + counted.tcp_resets,
        frames: frames + counted.frames,
        dropped: dropped + counted.dropped,
    }
}

fn with_health(counters: Option<Counters>, down: Option<u16>) -> Event {
    let health = down.map(|down| Health { instances: 4, down });
    Event::Sample(Sample { view: view(2), counters, health })
}

/// The abort of a candidate that has a share.
#[track_caller]
fn aborts(script: &mut Script, event: Event, breaches: &[Breach]) {
    let stage =
        Stage::AwaitingCapacity { sequence: script.next_sequence(), at_most: share("5"), shortages: Vec::new() };
    let phase = Phase::Aborting { why: Why::Failed(Failure::Bounds(breaches.to_vec()), None), stage };
    script.enters(event, 2, phase, Some(Action::ReportCapacity));
}

#[test]
fn a_bound_is_exceeded_by_one_frame_or_flow_or_instance() {
    let limit = percent("1");
    let at_limit = Counters { flows: 100, tcp_flows: 100, tcp_resets: 5, frames: 2000, dropped: 20 };
    let mut script = watching(bounded);
    script.after(secs(1)).step(with_health(Some(plus(at_limit)), Some(1)), |_| {}, None);

    let mut script = watching(bounded);
    let event = with_health(Some(plus(Counters { dropped: 21, ..at_limit })), Some(1));
    aborts(&mut script, event, &[Breach::Dropped { dropped: 21, frames: 2000, limit }]);
    assert_eq!(
        script.rollout.status().message,
        "failed: 21 of 2000 frames dropped, at most 1 % are allowed; asks for room"
    );

    let limit = percent("5");
    let mut script = watching(bounded);
    let event = with_health(Some(plus(Counters { tcp_resets: 6, ..at_limit })), Some(1));
    aborts(&mut script, event, &[Breach::Resets { resets: 6, flows: 100, limit }]);

    let mut script = watching(bounded);
    aborts(&mut script, with_health(None, Some(2)), &[Breach::Down { down: 2, instances: 4, limit: 1 }]);
}

#[test]
fn all_bounds_that_are_exceeded_are_told() {
    let mut script = watching(bounded);
    let counted = Counters { flows: 200, tcp_flows: 150, tcp_resets: 150, frames: 300, dropped: 299 };
    let breaches = [
        Breach::Dropped { dropped: 299, frames: 300, limit: percent("1") },
        Breach::Resets { resets: 150, flows: 150, limit: percent("5") },
        Breach::Down { down: 4, instances: 4, limit: 1 },
    ];
    aborts(&mut script, with_health(Some(plus(counted)), Some(4)), &breaches);
}

#[test]
fn too_few_flows_are_not_judged() {
    let counted = Counters { flows: 99, tcp_flows: 99, tcp_resets: 99, frames: 99, dropped: 99 };
    let mut script = watching(bounded);
    script.after(secs(1)).step(with_health(Some(plus(counted)), Some(0)), |_| {}, None);
    // Of many flows too few are TCP.
    let counted = Counters { flows: 1000, dropped: 0, ..counted };
    let mut script = watching(bounded);
    script.after(secs(1)).step(with_health(Some(plus(counted)), Some(0)), |_| {}, None);
}

#[test]
fn limits_of_nothing_and_of_everything() {
    let none = Bounds { min_flows: 1, dropped: Some(percent("0")), ..Bounds::default() };
    let mut script = watching(with(none));
    script.step(sample(plus(Counters { frames: 1, ..well(1) })), |_| {}, None);
    let event = sample(plus(Counters { frames: 1_000_000, dropped: 1, ..well(1) }));
    aborts(&mut script, event, &[Breach::Dropped { dropped: 1, frames: 1_000_000, limit: percent("0") }]);

    let all = Bounds { min_flows: 1, dropped: Some(Percent::HUNDRED), ..Bounds::default() };
    let mut script = watching(with(all));
    script.step(sample(plus(Counters { frames: 7, dropped: 7, ..well(1) })), |_| {}, None);
}

/// The end of the step with its last sample, `age` before the end.
fn ended(script: &mut Script, last: Event, age: u64) -> &mut Script {
    script.after(secs(60 - age)).step(last, |_| {}, None).after(secs(age))
}

#[track_caller]
fn inconclusive(script: &mut Script, doubts: &[Doubt]) {
    script.enters(Event::Tick, 2, Phase::Paused(Pause::Inconclusive(doubts.to_vec())), None);
}

#[test]
fn a_step_that_was_judged_is_followed_by_the_next() {
    let mut script = watching(bounded);
    ended(&mut script, with_health(Some(plus(well(100))), Some(1)), 15);
    let phase = Phase::Progressing(script.awaited());
    script.enters(Event::Tick, 3, phase, Some(set_share("50")));
}

#[test]
fn a_step_that_cannot_be_judged_is_paused() {
    let wanted = 100;
    let cases: [(Event, u64, &[Doubt]); 6] = [
        (with_health(Some(plus(well(100))), Some(1)), 16, &[Doubt::NoSample]),
        (with_health(None, Some(1)), 1, &[Doubt::NoCounters]),
        (with_health(Some(plus(well(100))), None), 1, &[Doubt::NoHealth]),
        (
            with_health(Some(plus(well(99))), Some(1)),
            1,
            &[Doubt::TooFewFlows { flows: 99, wanted }, Doubt::TooFewTcpFlows { flows: 99, wanted }],
        ),
        (
            with_health(Some(plus(Counters { tcp_flows: 7, ..well(100) })), Some(1)),
            1,
            &[Doubt::TooFewTcpFlows { flows: 7, wanted }],
        ),
        (with_health(None, None), 1, &[Doubt::NoCounters, Doubt::NoHealth]),
    ];
    for (last, age, doubts) in cases {
        let mut script = watching(bounded);
        ended(&mut script, last, age);
        inconclusive(&mut script, doubts);
    }
    // No sample at all since the step began: the one before it says nothing about it.
    let mut script = watching(bounded);
    inconclusive(script.after(secs(60)), &[Doubt::NoSample]);
    assert_eq!(
        script.rollout.status().message,
        "step 2 of 4: no judgement: no sample of its end; resume to watch it again, promote to go on, or abort"
    );
}

#[test]
fn only_what_is_bounded_has_to_be_known() {
    for (bounds, counters, health) in [
        (Bounds::default(), None, None),
        (Bounds { down: Some(0), ..Bounds::default() }, None, Some(0)),
        (
            Bounds { dropped: Some(percent("1")), ..Bounds::default() },
            Some(Counters { tcp_flows: 0, ..well(100) }),
            None,
        ),
        (Bounds { resets: Some(percent("1")), ..Bounds::default() }, Some(well(100)), None),
    ] {
        let mut script = watching(with(bounds));
        ended(&mut script, with_health(counters.map(plus), health), 1).quietly(Event::Tick);
        assert_eq!(script.run().step, 3, "{bounds:?}");
    }
    let mut script = watching(spec);
    script.after(secs(60)).quietly(Event::Tick);
    assert_eq!(script.run().step, 3, "without bounds nobody has to measure");
}

#[test]
fn an_inconclusive_step_is_watched_again_or_skipped() {
    let mut script = watching(bounded);
    inconclusive(script.after(secs(60)), &[Doubt::NoSample]);
    script.after(secs(1_000)).step(sample(plus(well(500))), |_| {}, None);
    script.refuses(
        Event::Pause,
        "pause refused: rollout of graph acme/web is paused without a judgement at step 2 of 4; resume or promote it",
    );
    let timer = Timer::start(secs(60), script.now);
    script.enters(Event::Resume, 2, Phase::Paused(Pause::Step(Some(timer))), None);
    // A window of its own: nothing of before counts.
    script.after(secs(59)).step(sample(plus(well(599))), |_| {}, None);
    let doubts = [Doubt::TooFewFlows { flows: 99, wanted: 100 }, Doubt::TooFewTcpFlows { flows: 99, wanted: 100 }];
    inconclusive(script.after(secs(1)), &doubts);
    let phase = Phase::Progressing(script.awaited());
    script.enters(Event::Promote { full: false }, 3, phase, Some(set_share("50")));
}

#[test]
fn a_sample_at_the_end_of_a_step_ends_it() {
    let mut script = watching(bounded);
    script.after(secs(300));
    let phase = Phase::Progressing(script.awaited());
    script.enters(sample(plus(well(100))), 3, phase, Some(set_share("50")));
}

#[test]
fn bounds_hold_in_a_pause_and_not_before_the_installation() {
    let bad = || with_health(None, Some(4));
    let breaches = [Breach::Down { down: 4, instances: 4, limit: 1 }];
    let mut script = Script::started(&bounded(&[weight("5"), HOLD]));
    script.step(bad(), |_| {}, None).quietly(Event::Pause).step(bad(), |_| {}, None);
    script.quietly(Event::Resume).confirm().confirm();
    aborts(&mut script, bad(), &breaches);

    let mut script = watching(bounded);
    script.quietly(Event::Pause);
    aborts(&mut script, bad(), &breaches);

    let mut script = Script::installed(&bounded(&[]));
    let at_most = Share::ALL;
    let stage = Stage::AwaitingCapacity { sequence: script.next_sequence(), at_most, shortages: Vec::new() };
    let phase = Phase::Aborting { why: Why::Failed(Failure::Bounds(breaches.to_vec()), None), stage };
    script.enters(bad(), 0, phase, Some(Action::ReportCapacity));
}

#[test]
fn a_window_is_a_step_or_the_rollout() {
    let bounds = Bounds { dropped: Some(percent("10")), ..Bounds::default() };
    for (window, since, counted) in [(Window::Step, 65, 200), (Window::Rollout, 5, 700)] {
        let steps = spec(&[weight("5"), pause(secs(60)), weight("50"), pause(secs(60))]);
        let mut script = Script::started(&RolloutSpec { bounds: Bounds { window, ..bounds }, ..steps });
        // What was counted before the first step does not count.
        script.quietly(sample(well(10))).after(secs(5)).quietly(sample(well(1000))).confirm().confirm();
        script.after(secs(60)).quietly(sample(plus(well(500)))).confirm();
        assert_eq!(script.run().step, 4);
        script.after(secs(1)).quietly(sample(plus(well(700))));
        let figures = script.rollout.status().figures.unwrap();
        assert_eq!(figures.since, START.after(secs(since)), "{window:?}");
        assert_eq!(figures.counted, Some(well(counted)), "{window:?}");
    }
}

#[test]
fn counting_that_begins_anew_counts_from_0() {
    let mut script = watching(bounded);
    script.quietly(sample(plus(well(50)))).quietly(sample(Counters { dropped: 3, ..well(30) }));
    assert_eq!(script.rollout.status().figures.unwrap().counted, Some(Counters { dropped: 3, ..well(30) }));
    script.quietly(with_health(None, Some(0))).quietly(sample(Counters { dropped: 3, ..well(40) }));
    assert_eq!(script.rollout.status().figures.unwrap().counted, Some(Counters { dropped: 3, ..well(40) }));
}

#[test]
fn without_a_sample_before_the_step_the_first_one_begins_the_window() {
    let mut script = Script::installed(&bounded(&[weight("5"), pause(secs(60))]));
    script.confirm().quietly(sample(well(1000)));
    assert_eq!(script.rollout.status().figures.unwrap().counted, Some(well(0)));
    script.quietly(sample(well(1100)));
    assert_eq!(script.rollout.status().figures.unwrap().counted, Some(well(100)));
}

#[test]
fn samples_of_other_views_and_after_an_abort_change_nothing() {
    let mut script = watching(bounded);
    let other = Sample { view: view(7), counters: None, health: Some(Health { instances: 1, down: 1 }) };
    script.refuses(
        Event::Sample(other),
        "sample refused: rollout of graph acme/web leads to view 2, and view 7 was measured; measure the candidate",
    );
    script.quietly(sample(plus(well(500)))).quietly(abort(false));
    let figures = script.rollout.status().figures;
    script.step(sample(plus(Counters { dropped: 9_999, ..well(1000) })), |_| {}, None);
    assert_eq!(script.rollout.status().figures, figures);
}
