//! The way back: capacity, then tables, then weights.

use super::harness::*;
use chain_graph::rollout::*;

const WITHDRAW: Option<Action> = Some(Action::Withdraw(DRAIN));
const ASK: Option<Action> = Some(Action::ReportCapacity);

/// At 50 %, in a pause without end.
fn half() -> Script {
    let mut script = Script::installed(&spec(&[weight("50"), HOLD]));
    script.confirm();
    script
}

/// A set with 100 flows of others, 500 of the stable view and 400 that would return.
fn load(id: u16, capacity: Option<u64>) -> SetLoad {
    SetLoad { set: set(id), flows: 600, own: 500, returning: 400, capacity, serving: true }
}

fn asking(script: &Script, at_most: &str, shortages: &[Shortage]) -> Stage {
    Stage::AwaitingCapacity { sequence: script.next_sequence(), at_most: share(at_most), shortages: shortages.to_vec() }
}

fn failed(stage: Stage) -> Phase {
    Phase::Aborting { why: Why::Failed(by_operator(), None), stage }
}

fn lacks(id: u16, flows: u64) -> Shortage {
    Shortage { set: set(id), lack: Lack::Flows(flows) }
}

#[test]
fn flows_return_at_once_if_there_is_room() {
    let mut script = half();
    let phase = failed(asking(&script, "50", &[]));
    script.enters(abort(false), 2, phase, ASK);
    script.after(secs(1));
    let sequence = script.next_sequence();
    let report = script.report(share("50"), &[load(1, Some(1000)), load(2, None)]);
    script.step(report, |run| run.phase = failed(Stage::Withdrawing { sequence }), WITHDRAW);
    assert_eq!(script.rollout.placement(), Placement { stable: view(1), candidate: None });
    script.ends(script.confirmation(), 2, Outcome::Failed(by_operator()));
}

#[test]
fn nothing_is_asked_if_nothing_is_to_return() {
    for script in [&mut Script::started(&spec(&[weight("50")])), &mut Script::installed(&spec(&[HOLD]))] {
        let stage = Stage::Withdrawing { sequence: script.next_sequence() };
        let step = script.run().step;
        script.enters(abort(false), step, failed(stage), WITHDRAW);
    }
}

#[test]
fn without_room_flows_return_as_far_as_there_is() {
    let mut script = half();
    script.quietly(abort(false));
    // The stable view's 900 flows may become 700 - 100: a third stays with the candidate.
    let lowest = Share::new(21_845);
    let shortages = vec![lacks(1, 300)];
    let (sequence, now) = (script.next_sequence(), script.now);
    let stage = Stage::Lowering { sequence, share: lowest, shortages: shortages.clone() };
    let action = Action::SetShare(lowest);
    let report = script.report(share("50"), &[load(1, Some(700)), load(2, Some(5000))]);
    script.step(report, |run| run.phase = failed(stage), Some(action));
    assert_eq!(script.rollout.placement().candidate, Some((view(2), lowest)));
    script.refuses(
        Event::Capacity(CapacityReport { sequence, share: lowest, sets: Vec::new() }),
        "capacity refused: rollout of graph acme/web asks to give the candidate 33.33 % of the new flows; answer that",
    );

    script.after(secs(1));
    let asking = failed(Stage::AwaitingCapacity { sequence: script.next_sequence(), at_most: lowest, shortages });
    let delta = |run: &mut Run| {
        (run.share, run.phase) = (lowest, asking.clone());
    };
    script.step(script.confirmation(), delta, ASK);
    let status = script.rollout.status();
    assert_eq!((status.share, status.wanted), (lowest, Share::NONE));
    assert_eq!(status.shortages, [lacks(1, 300)]);
    assert_eq!(status.since, Some(now));
    assert_eq!(
        status.message,
        "failed: aborted by an operator: because; waits for capacity: replica set 1 lacks room for 300 flows; make room or \
         force the abort"
    );

    // The same figures again: the flows have not turned over yet, and no more of them may return.
    let again = script.report(lowest, &[load(1, Some(700)), load(2, Some(5000))]);
    script.step(again, |_| {}, None);
    script.after(secs(1_000_000)).step(Event::Tick, |_| {}, None);
    let sequence = script.next_sequence();
    let fits = script.report(lowest, &[load(1, Some(1000)), load(2, Some(5000))]);
    script.step(fits, |run| run.phase = failed(Stage::Withdrawing { sequence }), WITHDRAW);
    script.ends(script.confirmation(), 2, Outcome::Failed(by_operator()));
}

#[test]
fn the_lowest_share_is_that_of_the_fullest_set() {
    let full = SetLoad { flows: 800, own: 800, returning: 200, ..load(3, Some(800)) };
    for (sets, lowest, shortages) in [
        // Nothing but this graph's flows, and room for 800 of 1000 of them.
        (vec![full, load(1, Some(700))], 21_845, vec![lacks(3, 200), lacks(1, 300)]),
        (vec![full], 13_107, vec![lacks(3, 200)]),
        // Rounded so that it fits: 65535 * 300/900 of one flow more.
        (vec![load(1, Some(701))], 21_773, vec![lacks(1, 299)]),
        // A set that is too full as it is.
        (vec![load(1, Some(599))], 32_768, vec![lacks(1, 401)]),
        (vec![load(1, Some(0))], 32_768, vec![lacks(1, 1000)]),
        // As full as may be, and with fewer flows of its own than would be right for half.
        (vec![load(1, Some(600))], 29_127, vec![lacks(1, 400)]),
        // A share above the one in force would be right: it stays as it is.
        (vec![SetLoad { flows: 150, own: 50, returning: 900, ..load(1, Some(200)) }], 32_768, vec![lacks(1, 850)]),
        // Others have the whole set.
        (vec![SetLoad { own: 0, ..load(1, Some(600)) }], 32_768, vec![lacks(1, 400)]),
    ] {
        let mut script = half();
        script.quietly(abort(false));
        let report = script.report(share("50"), &sets);
        script.quietly(report);
        assert_eq!(script.run().phase, {
            let lowest = Share::new(lowest);
            let sequence = script.rollout.sequence();
            failed(if lowest == share("50") {
                Stage::AwaitingCapacity { sequence, at_most: lowest, shortages }
            } else {
                Stage::Lowering { sequence, share: lowest, shortages }
            })
        });
    }
}

#[test]
fn a_set_gets_no_flows_before_its_table_has_a_live_member() {
    let mut script = half();
    script.quietly(abort(false));
    let dead = SetLoad { serving: false, ..load(1, None) };
    let shortages = vec![Shortage { set: set(1), lack: Lack::Members }];
    let sequence = script.rollout.sequence();
    let stage = Stage::AwaitingCapacity { sequence, at_most: share("50"), shortages };
    let report = script.report(share("50"), &[dead, load(2, Some(5000))]);
    script.step(report, |run| run.phase = failed(stage), None);
    assert!(script.rollout.status().message.contains("replica set 1 has no live member installed"));
}

#[test]
fn a_set_to_which_nothing_returns_holds_nothing_up() {
    let mut script = half();
    script.quietly(abort(false));
    let overloaded = SetLoad { flows: 900, returning: 0, ..load(1, Some(10)) };
    let sequence = script.next_sequence();
    let report = script.report(share("50"), &[overloaded]);
    script.step(report, |run| run.phase = failed(Stage::Withdrawing { sequence }), WITHDRAW);
}

#[test]
fn the_largest_share_that_may_be_in_force_counts() {
    // 50 % is commanded and not confirmed.
    let mut script = Script::installed(&spec(&[weight("5"), weight("50")]));
    script.confirm();
    let phase = failed(asking(&script, "50", &[]));
    script.enters(abort(false), 2, phase, ASK);
    script.refuses(
        script.report(share("50.01"), &[]),
        "capacity refused: rollout of graph acme/web never gave its candidate more than 50 % of the new flows, and \
         50.01 % were reported; measure again, or force the abort",
    );
    // The data path has not done it: what is in force is what was reported.
    let sequence = script.rollout.sequence();
    let delta = |run: &mut Run| {
        run.share = share("5");
        run.phase = failed(Stage::AwaitingCapacity { sequence, at_most: share("5"), shortages: vec![lacks(1, 401)] });
    };
    let report = script.report(share("5"), &[load(1, Some(599))]);
    script.step(report, delta, None);
    script.quietly(Event::Abort { reason: String::new(), force: true });

    // A promotion gives everything.
    let mut script = Script::installed(&spec(&[]));
    let phase = failed(asking(&script, "100", &[]));
    script.enters(abort(false), 0, phase, ASK);
    let sequence = script.rollout.sequence();
    let delta = |run: &mut Run| {
        run.share = Share::ALL;
        run.phase = failed(Stage::AwaitingCapacity { sequence, at_most: Share::ALL, shortages: vec![lacks(1, 401)] });
    };
    let report = script.report(Share::ALL, &[load(1, Some(599))]);
    script.step(report, delta, None);
    // Whoever finds nothing in force has nothing to make room for.
    let sequence = script.next_sequence();
    let report = script.report(Share::NONE, &[load(1, Some(0))]);
    let delta = |run: &mut Run| {
        (run.share, run.phase) = (Share::NONE, failed(Stage::Withdrawing { sequence }));
    };
    script.step(report, delta, WITHDRAW);
}

#[test]
fn force_asks_nobody() {
    let mut script = half();
    let stage = Stage::Withdrawing { sequence: script.next_sequence() };
    script.enters(abort(true), 2, failed(stage), WITHDRAW);
    let told = "abort refused: rollout of graph acme/web is being aborted at step 2 of 2; wait for its end";
    script.refuses(abort(true), told).refuses(abort(false), told);

    let mut script = half();
    script.quietly(abort(false));
    script.refuses(
        abort(false),
        "abort refused: rollout of graph acme/web is being aborted and waiting for capacity at step 2 of 2; make room, or abort \
         it with force",
    );
    let sequence = script.next_sequence();
    script.step(abort(true), |run| run.phase = failed(Stage::Withdrawing { sequence }), WITHDRAW);

    // While a part of the share returns.
    let mut script = half();
    script.quietly(abort(false)).quietly(script_report(&half(), 700));
    let sequence = script.next_sequence();
    script.step(abort(true), |run| run.phase = failed(Stage::Withdrawing { sequence }), WITHDRAW);
}

/// The report of a set with that capacity to the first question of a script that aborts after [`half`].
fn script_report(script: &Script, capacity: u64) -> Event {
    let sequence = script.next_sequence();
    Event::Capacity(CapacityReport { sequence, share: share("50"), sets: vec![load(1, Some(capacity))] })
}

#[test]
fn another_target_takes_the_place_of_a_running_one() {
    let mut script = half();
    let other = spec(&[HOLD]);
    let next = Next { spec: checked(&other), target: view(3) };
    let stage = asking(&script, "50", &[]);
    let phase = Phase::Aborting { why: Why::Superseded(next), stage };
    script.enters(replace(&other, 3), 2, phase, ASK);
    script.refuses(
        replace(&other, 1),
        "replace refused: rollout of graph acme/web cannot lead to view 1, which is the stable view; name another one, or \
         abort a running rollout to return to it",
    );
    // Room first, for this one too.
    script.quietly(script.report(share("50"), &[load(1, Some(599))]));
    assert_eq!(script.rollout.status().shortages, [lacks(1, 401)]);
    script.quietly(script.report(share("50"), &[load(1, Some(1000))]));
    script.after(secs(5));
    let confirmation = script.confirmation();
    let begun = script.awaited();
    let (rollout, command) = script.rollout.apply(confirmation, script.now).unwrap();
    assert_eq!(
        command,
        Some(Command { sequence: begun.sequence, stable: view(1), target: view(3), action: Action::Install })
    );
    script.rollout = rollout;
    let run = script.run();
    assert_eq!((run.target, run.step, run.share, run.started), (view(3), 0, Share::NONE, script.now));
    assert_eq!(run.phase, Phase::Installing(begun));
    let last = script.rollout.history().last().unwrap();
    assert_eq!((last.target, last.step, &last.outcome), (view(2), 2, &Outcome::Superseded { by: view(3) }));
}

#[test]
fn minds_change_while_an_abort_is_under_way() {
    let (one, other) = (spec(&[HOLD]), spec(&[weight("1")]));
    let next = |spec: &RolloutSpec, target| Next { spec: checked(spec), target: view(target) };
    let aborting = |why, stage: &Stage| Phase::Aborting { why, stage: stage.clone() };
    // What waits is replaced, then given up; the rollout that ends keeps its own end.
    let mut script = half();
    let stage = asking(&script, "50", &[]);
    script.quietly(replace(&one, 3));
    let phase = aborting(Why::Superseded(next(&other, 4)), &stage);
    script.step(replace(&other, 4), |run| run.phase = phase, None);
    let phase = aborting(Why::Failed(by_operator(), None), &stage);
    script.step(abort(false), |run| run.phase = phase, None);
    let phase = aborting(Why::Failed(by_operator(), Some(next(&one, 3))), &stage);
    script.step(replace(&one, 3), |run| run.phase = phase, None);
    let phase = aborting(Why::Failed(by_operator(), None), &stage);
    script.step(abort(false), |run| run.phase = phase, None);
    script.quietly(replace(&one, 3));
    // Forced, the other one begins without asking for room.
    let sequence = script.next_sequence();
    let forced = Event::Replace { spec: checked(&other), target: view(4), force: true };
    let phase = aborting(Why::Failed(by_operator(), Some(next(&other, 4))), &Stage::Withdrawing { sequence });
    script.step(forced, |run| run.phase = phase, WITHDRAW);
    script.confirm();
    assert_eq!((script.run().target, script.rollout.command().unwrap().action), (view(4), Action::Install));
    assert_eq!(script.rollout.history().last().unwrap().outcome, Outcome::Failed(by_operator()));
}
