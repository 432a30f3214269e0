//! Rollouts from their beginning to their end, event by event.

use super::harness::*;
use chain_graph::rollout::*;

#[test]
fn steps_lead_to_a_promotion() {
    let spec = spec(&[weight("5"), pause(secs(60)), weight("2.5"), HOLD, weight("100"), weight("50")]);
    let mut script = Script::idle();
    let (started, command) = script.rollout.apply(start(&spec, 2), START).unwrap();
    assert_eq!(
        command,
        Some(Command { sequence: Sequence::new(1), stable: view(1), target: view(2), action: Action::Install })
    );
    script.rollout = started;
    assert_eq!(
        script.run().phase,
        Phase::Installing(Awaited { sequence: Sequence::new(1), deadline: Timer::start(DEADLINE, START) })
    );

    script.after(secs(1));
    let phase = Phase::Progressing(script.awaited());
    script.enters(script.confirmation(), 1, phase, Some(set_share("5")));

    script.after(secs(1));
    let (now, phase) = (script.now, Phase::Paused(Pause::Step(Some(Timer::start(secs(60), script.now)))));
    let delta = |run: &mut Run| {
        (run.step, run.share, run.since, run.phase) = (2, share("5"), now, phase);
    };
    script.step(script.confirmation(), delta, None);
    script.after(Span::from_millis(59_999)).step(Event::Tick, |_| {}, None);

    script.after(Span::from_millis(1));
    let phase = Phase::Progressing(script.awaited());
    script.enters(Event::Tick, 3, phase, Some(set_share("2.5")));

    let now = script.now;
    let delta = |run: &mut Run| {
        (run.step, run.share, run.since, run.phase) = (4, share("2.5"), now, Phase::Paused(Pause::Step(None)));
    };
    script.step(script.confirmation(), delta, None);
    script.after(secs(1_000_000)).step(Event::Tick, |_| {}, None);

    let phase = Phase::Progressing(script.awaited());
    script.enters(Event::Resume, 5, phase, Some(set_share("100")));

    let (now, phase) = (script.now, Phase::Progressing(script.awaited()));
    let delta = |run: &mut Run| {
        (run.step, run.share, run.since, run.phase) = (6, Share::ALL, now, phase);
    };
    script.step(script.confirmation(), delta, Some(set_share("50")));

    let (now, phase) = (script.now, Phase::Promoting(script.awaited()));
    let delta = |run: &mut Run| {
        (run.share, run.since, run.phase) = (share("50"), now, phase);
    };
    script.step(script.confirmation(), delta, Some(Action::Promote(DRAIN)));
    assert_eq!(script.rollout.placement(), Placement { stable: view(2), candidate: None });

    script.after(secs(1));
    script.ends(script.confirmation(), 6, Outcome::Success);
    assert_eq!(script.rollout.stable(), view(2));
}

#[test]
fn without_steps_a_candidate_is_promoted_at_once() {
    let mut script = Script::started(&spec(&[]));
    let phase = Phase::Promoting(script.awaited());
    script.enters(script.confirmation(), 0, phase, Some(Action::Promote(DRAIN)));
    script.ends(script.confirmation(), 0, Outcome::Success);
}

#[test]
fn a_command_that_fails_stays_in_force_until_the_deadline() {
    let mut script = Script::started(&spec(&[weight("5")]));
    let failed = |script: &Script| {
        let sequence = script.rollout.command().unwrap().sequence;
        Event::ApplyFailed { sequence, reason: "no image".to_owned() }
    };
    let in_force = script.rollout.command();
    script.after(secs(50));
    script.step(failed(&script), |run| run.failure = Some("no image".to_owned()), None);
    assert_eq!(script.rollout.command(), in_force);
    assert_eq!(script.rollout.status().message, "installs view 2; the last attempt failed: no image");
    script.after(Span::from_millis(49_999)).step(Event::Tick, |_| {}, None);

    script.after(Span::from_millis(1));
    let failure = Failure::ProgressDeadline { waited: DEADLINE, failure: Some("no image".to_owned()) };
    let stage = Stage::Withdrawing { sequence: script.next_sequence() };
    let (now, why) = (script.now, Why::Failed(failure.clone(), None));
    let delta = |run: &mut Run| {
        (run.failure, run.since, run.phase) = (None, now, Phase::Aborting { why, stage });
    };
    script.step(Event::Tick, delta, Some(Action::Withdraw(DRAIN)));
    assert_eq!(
        script.rollout.status().message,
        "failed: no progress within 100 s; the last failure: no image; withdraws view 2"
    );
    // The way back is tried for as long as it takes.
    script.after(secs(1_000_000));
    script.step(failed(&script), |run| run.failure = Some("no image".to_owned()), None);
    script.step(Event::Tick, |_| {}, None);
    script.ends(script.confirmation(), 0, Outcome::Failed(failure));
}

#[test]
fn every_command_has_its_own_deadline() {
    let mut script = Script::started(&spec(&[weight("5"), weight("10")]));
    for _ in 0..3 {
        script.after(secs(99)).quietly(Event::Tick).confirm();
    }
    assert_eq!(script.rollout.status().place.phase, PhaseName::Promoting);
    script.after(secs(100)).quietly(Event::Tick);
    assert_eq!(script.rollout.status().place.phase, PhaseName::AwaitingCapacity);
}

#[test]
fn an_operators_pause_stops_the_clocks() {
    let mut script = Script::started(&spec(&[weight("5"), pause(secs(60)), weight("10")]));
    // While the candidate is being installed.
    script.after(secs(70));
    let rest = Timer::start(secs(30), script.now);
    let awaited = Awaited { sequence: Sequence::new(1), deadline: rest };
    script.enters(Event::Pause, 0, Phase::Paused(Pause::Operator(Resume::Installing(awaited))), None);
    assert_eq!(script.rollout.command().unwrap().action, Action::Install, "it goes on being installed");
    script.after(secs(1_000_000)).step(Event::Tick, |_| {}, None);
    let awaited = Awaited { deadline: Timer::start(secs(30), script.now), ..awaited };
    script.enters(Event::Resume, 0, Phase::Installing(awaited), None);
    script.after(secs(29)).step(Event::Tick, |_| {}, None);
    let failed = Event::ApplyFailed { sequence: awaited.sequence, reason: "no image".to_owned() };
    script.quietly(failed).quietly(Event::Pause);
    assert_eq!(script.run().failure.as_deref(), Some("no image"));
    let delta = |run: &mut Run| {
        (run.failure, run.phase) = (None, Phase::Paused(Pause::Operator(Resume::Next)));
    };
    script.step(script.confirmation(), delta, None);
    assert_eq!(script.rollout.command(), None);
    let phase = Phase::Progressing(script.awaited());
    script.enters(Event::Resume, 1, phase, Some(set_share("5")));

    // While the weight is being set.
    script.after(secs(10));
    let awaited = Awaited { sequence: Sequence::new(2), deadline: Timer::start(secs(90), script.now) };
    script.enters(Event::Pause, 1, Phase::Paused(Pause::Operator(Resume::Progressing(awaited))), None);
    let delta = |run: &mut Run| {
        (run.share, run.phase) = (share("5"), Phase::Paused(Pause::Operator(Resume::Next)));
    };
    script.step(script.confirmation(), delta, None);
    let timer = Timer::start(secs(60), script.now);
    script.enters(Event::Resume, 2, Phase::Paused(Pause::Step(Some(timer))), None);

    // In a step that waits.
    script.after(secs(40));
    let rest = Timer::start(secs(20), script.now);
    script.enters(Event::Pause, 2, Phase::Paused(Pause::Operator(Resume::Step(rest))), None);
    script.after(secs(1_000_000)).step(Event::Tick, |_| {}, None);
    let rest = Timer::start(secs(20), script.now);
    script.enters(Event::Resume, 2, Phase::Paused(Pause::Step(Some(rest))), None);
    script.after(secs(19)).step(Event::Tick, |_| {}, None);
    script.after(secs(1));
    let phase = Phase::Progressing(script.awaited());
    script.enters(Event::Tick, 3, phase, Some(set_share("10")));
}

#[test]
fn a_promotion_skips_a_pause_or_everything() {
    let steps = spec(&[HOLD, pause(secs(60)), weight("5"), HOLD, weight("10")]);
    let mut script = Script::installed(&steps);
    let timer = Timer::start(secs(60), script.now);
    script.enters(Event::Promote { full: false }, 2, Phase::Paused(Pause::Step(Some(timer))), None);
    script.quietly(Event::Pause);
    let phase = Phase::Progressing(script.awaited());
    script.enters(Event::Promote { full: false }, 3, phase, Some(set_share("5")));
    script.refuses(
        Event::Promote { full: false },
        "promote refused: rollout of graph acme/web is setting a weight at step 3 of 5, where no pause can be skipped; \
         wait for the weight, or promote it in full",
    );
    let stale = script.confirmation();
    let phase = Phase::Promoting(script.awaited());
    let promote = Some(Action::Promote(DRAIN));
    script.enters(Event::Promote { full: true }, 3, phase, promote);
    script.refuses(
        stale,
        "applied refused: rollout of graph acme/web waits for no answer to command 2 of 3; ask for the one in force, if any",
    );
    script.ends(script.confirmation(), 3, Outcome::Success);
}

#[test]
fn operators_are_told_what_to_do() {
    let hold = spec(&[weight("5"), HOLD, pause(secs(60))]);
    let mut script = Script::idle();
    script.refuses(Event::Pause, "pause refused: rollout of graph acme/web is not running; start one");
    script.refuses(
        start(&hold, 1),
        "start refused: rollout of graph acme/web cannot lead to view 1, which is the stable view; name another one, or \
         abort a running rollout to return to it",
    );
    script = Script::installed(&hold);
    script.confirm();
    script.refuses(
        Event::Pause,
        "pause refused: rollout of graph acme/web is paused at step 2 of 3; resume or promote it",
    );
    script.refuses(
        start(&hold, 3),
        "start refused: rollout of graph acme/web to view 2 is paused at step 2 of 3; wait for its end, abort it or \
         replace it",
    );
    let undone = script.rollout.undo_target().unwrap_err().to_string();
    assert_eq!(undone, "undo refused: rollout of graph acme/web is paused at step 2 of 3; abort it first");
    script.quietly(Event::Resume);
    script.refuses(
        Event::Resume,
        "resume refused: rollout of graph acme/web is paused at step 3 of 3 for a set time; wait, or promote it to go on \
         at once",
    );
    script.refuses(
        Event::Applied { sequence: Sequence::new(9) },
        "applied refused: rollout of graph acme/web has given no command 9, the last one is 2; ask for the one in force, if any",
    );
}

#[test]
fn an_older_view_is_a_target_like_any_other() {
    let mut script = Script::idle();
    let none = "undo refused: rollout of graph acme/web has not made view 1 the stable one, as far as is remembered; \
                start one to the view to go back to";
    assert_eq!(script.rollout.undo_target().unwrap_err().to_string(), none);
    let direct = spec(&[]);
    for (target, undone) in [(2, 1), (3, 2)] {
        script.quietly(start(&direct, target)).confirm().confirm();
        assert_eq!(script.rollout.undo_target(), Ok(view(undone)));
    }
    // What failed is not undone.
    script.quietly(start(&direct, 4)).quietly(abort(false)).confirm();
    assert_eq!(script.rollout.undo_target(), Ok(view(2)));
    script.quietly(start(&direct, 2)).confirm().confirm();
    assert_eq!(script.rollout.stable(), view(2));
    assert_eq!(script.rollout.undo_target(), Ok(view(3)));
    let history: Vec<(u32, u32, String)> = script
        .rollout
        .history()
        .map(|ended| (ended.from.get(), ended.target.get(), ended.outcome.to_string()))
        .collect();
    let told = |from, target, outcome: &str| (from, target, outcome.to_owned());
    assert_eq!(
        history,
        [
            told(1, 2, "success"),
            told(2, 3, "success"),
            told(3, 4, "failed: aborted by an operator: because"),
            told(3, 2, "success")
        ]
    );
}

#[test]
fn the_history_is_bounded() {
    let mut script = Script::idle();
    for target in 2..100 {
        script.quietly(start(&spec(&[]), target)).confirm().confirm();
    }
    let targets: Vec<u32> = script.rollout.history().map(|ended| ended.target.get()).collect();
    let first = 99 - HISTORY_MAX as u32;
    assert_eq!(targets, (first..=99).collect::<Vec<u32>>());
}

#[test]
fn the_status_tells_where_a_rollout_is() {
    let mut script = Script::installed(&bounded(&[weight("5"), pause(secs(60)), weight("50")]));
    script.confirm().after(secs(10)).quietly(sample(well(0))).after(secs(10)).quietly(sample(well(500)));
    let expected = Status {
        graph: "acme/web".parse().unwrap(),
        place: Place { phase: PhaseName::Paused, step: 2, steps: 3 },
        stable: view(1),
        target: Some(view(2)),
        share: share("5"),
        wanted: share("5"),
        started: Some(START),
        since: Some(START),
        next_deadline: Some(START.after(secs(60))),
        figures: Some(Figures {
            since: START,
            counted: Some(well(500)),
            health: Some(Health { instances: 4, down: 0 }),
        }),
        shortages: Vec::new(),
        outcome: None,
        message: "step 2 of 3: watches view 2".to_owned(),
    };
    assert_eq!(script.rollout.status(), expected.clone());
    script.after(secs(40)).quietly(sample(well(501)));
    let status = script.rollout.status();
    assert_eq!((status.share, status.wanted), (share("5"), share("50")));
    assert_eq!(status.message, "step 3 of 3: gives view 2 50 % of the new flows");
    assert_eq!(status.next_deadline, Some(script.now.after(DEADLINE)));
    script.after(secs(1)).quietly(Event::Promote { full: true }).confirm();
    let outcome = Some(Outcome::Success);
    let place = Place { phase: PhaseName::Completed, step: 0, steps: 0 };
    let (since, next_deadline, figures) = (Some(script.now), None, None);
    let (share, wanted) = (Share::NONE, Share::NONE);
    let message = "success".to_owned();
    let stable = view(2);
    let ended = Status { place, stable, share, wanted, since, next_deadline, figures, outcome, message, ..expected };
    assert_eq!(script.rollout.status(), ended);
}
