//! Every state with every event, as a table and as a picture.

use super::harness::*;
use chain_graph::rollout::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// Every kind of state.
pub(crate) const STATES: [&str; 19] = [
    "Idle",
    "Installing",
    "Progressing",
    "Paused(Step, timed)",
    "Paused(Step)",
    "Paused(Inconclusive)",
    "Paused(Operator, Installing)",
    "Paused(Operator, Progressing)",
    "Paused(Operator, Step)",
    "Paused(Operator, Next)",
    "Promoting",
    "Aborting(AwaitingCapacity)",
    "Aborting(Lowering)",
    "Aborting(Withdrawing)",
    "Aborting(AwaitingCapacity), another waits",
    "Aborting(Lowering), another waits",
    "Aborting(Withdrawing), another waits",
    "Completed(Success)",
    "Completed(Failed)",
];

/// A state's name in [`STATES`].
pub(crate) fn name(state: &State) -> &'static str {
    let index = match state {
        State::Idle => 0,
        State::Running(run) => match &run.phase {
            Phase::Installing(_) => 1,
            Phase::Progressing(_) => 2,
            Phase::Paused(pause) => match pause {
                Pause::Step(Some(_)) => 3,
                Pause::Step(None) => 4,
                Pause::Inconclusive(_) => 5,
                Pause::Operator(Resume::Installing(_)) => 6,
                Pause::Operator(Resume::Progressing(_)) => 7,
                Pause::Operator(Resume::Step(_)) => 8,
                Pause::Operator(Resume::Next) => 9,
            },
            Phase::Promoting(_) => 10,
            Phase::Aborting { why, stage } => {
                let stage = match stage {
                    Stage::AwaitingCapacity { .. } => 11,
                    Stage::Lowering { .. } => 12,
                    Stage::Withdrawing { .. } => 13,
                };
                match why {
                    Why::Failed(_, None) => stage,
                    Why::Failed(_, Some(_)) | Why::Superseded(_) => stage + 3,
                }
            }
        },
        State::Completed(ended) => match ended.outcome {
            Outcome::Success => 17,
            Outcome::Failed(_) => 18,
            Outcome::Superseded { .. } => panic!("what is superseded is followed by another one"),
        },
    };
    STATES[index]
}

/// An event's place in the enum; the number of kinds is below.
const fn kind(event: &Event) -> usize {
    match event {
        Event::Start { .. } => 0,
        Event::Replace { .. } => 1,
        Event::Tick => 2,
        Event::Applied { .. } => 3,
        Event::ApplyFailed { .. } => 4,
        Event::Sample(_) => 5,
        Event::Capacity(_) => 6,
        Event::Pause => 7,
        Event::Resume => 8,
        Event::Promote { .. } => 9,
        Event::Abort { .. } => 10,
    }
}
const KINDS: usize = 11;

fn steps() -> RolloutSpec {
    bounded(&[weight("10"), pause(secs(60)), HOLD, weight("50")])
}

/// A room of 1000 flows: with `others` there, and 500 and 500 of this graph's.
fn room(others: u64) -> SetLoad {
    SetLoad { set: set(1), flows: others + 500, own: 500, returning: 500, capacity: Some(1000), serving: true }
}

/// A report to the command in force, or to the last one.
fn capacity(script: &Script, others: u64) -> Event {
    let share = script.rollout.status().share;
    Event::Capacity(CapacityReport { sequence: script.rollout.sequence(), share, sets: vec![room(others)] })
}

/// One of every kind of state.
fn states() -> Vec<Script> {
    let spec = steps();
    let idle = Script::idle;
    let then = |script: Script, event: Event| {
        let mut script = script;
        script.quietly(event);
        script
    };
    let confirmed = |script: Script| {
        let confirmation = script.confirmation();
        then(script, confirmation)
    };
    // Measured, so that the step that begins next can be judged.
    let installing = || then(Script::started(&spec), sample(well(0)));
    let progressing = || confirmed(installing());
    let timed = || confirmed(progressing());
    let promoting = || then(progressing(), Event::Promote { full: true });
    let aborting = || then(timed(), abort(false));
    let replaced = || then(timed(), replace(&spec, 3));
    let reported = |script: Script, others| {
        let report = capacity(&script, others);
        then(script, report)
    };
    let mut inconclusive = timed();
    inconclusive.after(secs(60)).quietly(Event::Tick);
    vec![
        idle(),
        installing(),
        progressing(),
        timed(),
        then(timed(), Event::Promote { full: false }),
        inconclusive,
        then(installing(), Event::Pause),
        then(progressing(), Event::Pause),
        then(timed(), Event::Pause),
        confirmed(then(progressing(), Event::Pause)),
        promoting(),
        aborting(),
        reported(aborting(), 50),
        reported(aborting(), 0),
        replaced(),
        reported(replaced(), 50),
        reported(replaced(), 0),
        confirmed(promoting()),
        confirmed(then(installing(), abort(false))),
    ]
}

/// What an event is called in the table, what it is in a state, and how much later it comes.
type Case = (&'static str, fn(&Script) -> Event, Span);

const CASES: [Case; 25] = [
    ("Start", |_| start(&steps(), 3), Span::ZERO),
    ("Start, to the stable view", |script| start(&steps(), script.rollout.stable().get()), Span::ZERO),
    ("Replace", |_| replace(&steps(), 4), Span::ZERO),
    ("Replace, to the stable view", |script| replace(&steps(), script.rollout.stable().get()), Span::ZERO),
    ("Replace, forced", |_| Event::Replace { spec: checked(&steps()), target: view(4), force: true }, Span::ZERO),
    ("Tick, nothing is due", |_| Event::Tick, Span::ZERO),
    ("Tick, what waits is due", |_| Event::Tick, secs(1000)),
    ("Applied", |script| Event::Applied { sequence: script.rollout.sequence() }, Span::ZERO),
    ("Applied, stale", |_| Event::Applied { sequence: Sequence::NONE }, Span::ZERO),
    ("Applied, never issued", |_| Event::Applied { sequence: Sequence::new(99) }, Span::ZERO),
    ("ApplyFailed", |script| failed(script.rollout.sequence()), Span::ZERO),
    ("ApplyFailed, stale", |_| failed(Sequence::NONE), Span::ZERO),
    ("Sample, within bounds", |_| sample(well(0)), Span::ZERO),
    ("Sample, within bounds, what waits is due", |_| sample(well(1000)), secs(1000)),
    ("Sample, out of bounds", |_| down(2), Span::ZERO),
    ("Sample, of another view", |_| down(9), Span::ZERO),
    ("Capacity, for all", |script| capacity(script, 0), Span::ZERO),
    ("Capacity, for some", |script| capacity(script, 50), Span::ZERO),
    ("Capacity, for none", |script| capacity(script, 501), Span::ZERO),
    ("Pause", |_| Event::Pause, Span::ZERO),
    ("Resume", |_| Event::Resume, Span::ZERO),
    ("Promote", |_| Event::Promote { full: false }, Span::ZERO),
    ("Promote, in full", |_| Event::Promote { full: true }, Span::ZERO),
    ("Abort", |_| abort(false), Span::ZERO),
    ("Abort, forced", |_| abort(true), Span::ZERO),
];

fn failed(sequence: Sequence) -> Event {
    Event::ApplyFailed { sequence, reason: "no image".to_owned() }
}

fn down(of: u32) -> Event {
    Event::Sample(Sample { view: view(of), counters: None, health: Some(Health { instances: 4, down: 4 }) })
}

/// What comes of an event.
fn outcome(before: &Script, case: &Case) -> (Option<&'static str>, String) {
    let (_, event, later) = case;
    match before.rollout.apply(event(before), before.now.after(*later)) {
        Err(rejected) => (None, format!("refused: {}", rejected.why)),
        Ok((after, command)) => {
            let (from, to) = (name(before.rollout.state()), name(after.state()));
            let mut text = match (from == to, *before.rollout.state() == *after.state()) {
                (_, true) => "as before".to_owned(),
                (true, false) => format!("{to}, changed"),
                (false, false) => to.to_owned(),
            };
            if let Some(Command { action, .. }) = command {
                let _ = write!(text, "; {action}");
            }
            (Some(to), text)
        }
    }
}

#[test]
fn every_state_with_every_event() {
    let states = states();
    let kinds: BTreeSet<usize> = CASES.iter().map(|(_, event, _)| kind(&event(&states[0]))).collect();
    assert!(kinds.into_iter().eq(0..KINDS), "every kind of event");
    assert!(states.iter().map(|script| name(script.rollout.state())).eq(STATES), "every kind of state");
    let mut table = String::from(
        "# Rollouts: every state with every event\n\n\
        Made from the engine by a test. The rollout leads from view 1 to view 2 in the steps 10 %, a pause of 60 s, a pause\n\
        without end, 50 %; what is refused changes nothing. `rollout.dot` is the picture.\n",
    );
    let mut edges: BTreeMap<(usize, usize), Vec<&str>> = BTreeMap::new();
    for (index, before) in states.iter().enumerate() {
        let _ = write!(table, "\n## {}\n\n| event | what comes of it |\n|---|---|\n", STATES[index]);
        for case in &CASES {
            let (to, text) = outcome(before, case);
            let _ = writeln!(table, "| {} | {text} |", case.0);
            if let Some(to) = to.and_then(|to| STATES.iter().position(|state| *state == to)).filter(|to| *to != index) {
                edges.entry((index, to)).or_default().push(case.0);
            }
        }
    }
    let mut picture = String::from("// Made from the engine by a test: dot -Tsvg rollout.dot\ndigraph rollout {\n");
    picture.push_str("  node [shape=box, fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=9];\n");
    for (index, state) in STATES.iter().enumerate() {
        let _ = writeln!(picture, "  s{index} [label=\"{state}\"];");
    }
    for ((from, to), events) in &edges {
        let _ = writeln!(picture, "  s{from} -> s{to} [label=\"{}\"];", events.join("\\n"));
    }
    picture.push_str("}\n");
    compare("rollout.md", &table);
    compare("rollout.dot", &picture);
    let dead: Vec<&str> =
        (0..STATES.len()).filter(|i| !edges.keys().any(|(from, _)| from == i)).map(|i| STATES[i]).collect();
    assert_eq!(dead, [""; 0], "states without a way out");
}

/// Compares with the file, or writes it.
#[track_caller]
fn compare(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    if std::env::var_os("SWITCHYARD_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
        std::fs::write(&path, text).expect("write the file");
    }
    let golden = std::fs::read_to_string(&path).expect("read the file");
    assert!(golden == text, "tests/golden/{file} differs from what the engine does; SWITCHYARD_BLESS=1 writes it anew");
}
