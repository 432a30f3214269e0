//! Random walks: a data path that loses confirmations, operators who change their minds, a clock that jumps.

use super::harness::*;
use super::random::{Random, with_seeds};
use super::table::{STATES, name};
use chain_graph::rollout::*;
use std::collections::BTreeSet;
use xdp_layout::ViewId;

const SEEDS: u64 = 300;
const EVENTS: usize = 200;

/// What is in force, and the highest command seen; lower ones are refused.
#[derive(Clone)]
struct DataPath {
    views: Placement,
    seen: Sequence,
}

impl DataPath {
    fn carry_out(&mut self, command: Command) {
        let Command { sequence, stable, target, action } = command;
        if sequence < self.seen {
            return;
        }
        self.seen = sequence;
        self.views = match action {
            Action::Install => Placement { stable, candidate: Some((target, Share::NONE)) },
            Action::SetShare(share) => Placement { stable, candidate: Some((target, share)) },
            Action::Promote(_) => Placement { stable: target, candidate: None },
            Action::Withdraw(_) => Placement { stable, candidate: None },
            Action::ReportCapacity => self.views,
        };
    }

    /// The share of the new flows that a view has.
    fn share(&self, of: ViewId) -> Share {
        match self.views {
            Placement { candidate: Some((view, share)), .. } if view == of => share,
            Placement { stable, candidate: None } if stable == of => Share::ALL,
            Placement { .. } => Share::NONE,
        }
    }
}

struct Walk {
    random: Random,
    rollout: Rollout,
    now: Timestamp,
    path: DataPath,
    /// Every command there was.
    issued: Vec<Command>,
    /// Whether an operator has given up the check of the capacity.
    is_forced: bool,
    seen: BTreeSet<&'static str>,
    fitting: usize,
}

impl Walk {
    fn new(random: Random) -> Self {
        let rollout = Script::idle().rollout;
        let path = DataPath { views: rollout.placement(), seen: Sequence::NONE };
        let (issued, seen) = (Vec::new(), BTreeSet::new());
        Self { random, rollout, now: START, path, issued, is_forced: false, seen, fitting: 0 }
    }

    /// One event, or something that happens to the data path alone.
    fn step(&mut self) {
        self.pass_time();
        let choice = self.random.below(18);
        let event = match choice {
            0..=5 => self.answer(),
            6 => {
                // An old command is carried out late.
                if !self.issued.is_empty() {
                    let command = self.random.pick(&self.issued);
                    if Some(command) != self.rollout.command() {
                        self.path.carry_out(command);
                    }
                }
                None
            }
            7 => {
                let sequence = self.some_sequence();
                Some(Event::ApplyFailed { sequence, reason: "no image".to_owned() })
            }
            8 | 9 => Some(Event::Tick),
            10 | 11 => Some(self.sample()),
            12 => {
                // A confirmation of something else than what is in force.
                let sequence = self.some_sequence();
                let in_force = self.rollout.command().map(|command| command.sequence);
                (in_force != Some(sequence)).then_some(Event::Applied { sequence })
            }
            13 => Some(Event::Start { spec: self.spec(), target: self.target() }),
            14 => Some(Event::Replace { spec: self.spec(), target: self.target(), force: self.random.one_in(4) }),
            15 => Some(self.random.pick(&[Event::Pause, Event::Resume])),
            16 => Some(Event::Promote { full: self.random.one_in(3) }),
            _ => Some(abort(self.random.one_in(4))),
        };
        if let Some(event) = event {
            self.apply(event);
        }
        if self.random.one_in(8) {
            let stored = serde_json::to_string(&self.rollout).unwrap();
            let restored: Rollout = serde_json::from_str(&stored).unwrap();
            assert_eq!(restored, self.rollout, "after a restart");
        }
    }

    fn pass_time(&mut self) {
        if self.random.one_in(20) {
            self.now =
                Timestamp::from_millis(self.random.pick(&[0, 5, START.millis() - 7_000, START.millis(), u64::MAX / 2]));
        }
        self.now = self.now.after(secs(self.random.pick(&[0, 1, 20, 70, 500])));
    }

    /// The command in force is carried out, and perhaps answered.
    fn answer(&mut self) -> Option<Event> {
        let command = self.rollout.command()?;
        self.path.carry_out(command);
        if command.action != Action::ReportCapacity {
            assert_eq!(self.path.views, self.rollout.placement(), "{command:?} leads to what has to be in force");
        }
        if self.random.one_in(4) {
            return None;
        }
        let sequence = command.sequence;
        Some(match command.action {
            Action::ReportCapacity => {
                let sets = (1..=self.random.below(4)).map(|id| self.load(id as u16)).collect();
                Event::Capacity(CapacityReport { sequence, share: self.path.share(command.target), sets })
            }
            Action::Install | Action::SetShare(_) | Action::Promote(_) | Action::Withdraw(_) => {
                Event::Applied { sequence }
            }
        })
    }

    fn load(&mut self, id: u16) -> SetLoad {
        let (own, others, returning) = (self.random.below(500), self.random.below(300), self.random.below(500));
        let capacity = self.random.below(1200);
        SetLoad {
            set: set(id),
            flows: own + others,
            own,
            returning,
            capacity: (!self.random.one_in(4)).then_some(capacity),
            serving: !self.random.one_in(8),
        }
    }

    fn some_sequence(&mut self) -> Sequence {
        Sequence::new(self.random.below(self.rollout.sequence().get() + 3))
    }

    fn target(&mut self) -> ViewId {
        view(self.random.below(6) as u32 + 1)
    }

    fn spec(&mut self) -> CheckedSpec {
        let one = [weight("0"), weight("5"), weight("33.33"), weight("100"), HOLD, pause(secs(30)), pause(secs(300))];
        let steps: Vec<Step> = (0..self.random.below(6)).map(|_| self.random.pick(&one)).collect();
        checked(&if self.random.one_in(2) { bounded(&steps) } else { spec(&steps) })
    }

    fn sample(&mut self) -> Event {
        let flows = self.random.below(1000);
        let counters = Counters { dropped: self.random.pick(&[0, 0, 0, flows]), ..well(flows) };
        let down = self.random.pick(&[0, 0, 0, 2]);
        let view = match self.rollout.state() {
            State::Running(run) if !self.random.one_in(8) => run.target,
            State::Running(_) | State::Idle | State::Completed(_) => self.target(),
        };
        Event::Sample(Sample {
            view,
            counters: (!self.random.one_in(4)).then_some(counters),
            health: (!self.random.one_in(4)).then_some(Health { instances: 4, down }),
        })
    }

    fn apply(&mut self, event: Event) {
        let Ok((after, command)) = self.rollout.apply(event.clone(), self.now) else { return };
        self.fitting += 1;
        let before = std::mem::replace(&mut self.rollout, after);
        self.seen.insert(name(self.rollout.state()));
        match &event {
            Event::Abort { force, .. } | Event::Replace { force, .. } => self.is_forced |= force,
            _ => {}
        }
        self.check_command(&before, &event, command);
        self.issued.extend(command);
        match self.rollout.state() {
            State::Idle => {}
            State::Completed(ended) => {
                self.is_forced = false;
                let share = self.path.share(ended.target);
                let expected = if ended.outcome == Outcome::Success { Share::ALL } else { Share::NONE };
                assert_eq!(share, expected, "the share in force at the end: {ended:?}");
            }
            State::Running(run) => self.is_forced &= matches!(run.phase, Phase::Aborting { .. }),
        }
        if self.rollout.command().is_none() {
            assert_eq!(self.path.views, self.rollout.placement(), "nothing is left to do");
        }
    }

    fn check_command(&self, before: &Rollout, event: &Event, command: Option<Command>) {
        let Some(Command { sequence, action, .. }) = command else {
            assert_eq!(self.rollout.sequence(), before.sequence(), "a command that nobody was told of");
            return;
        };
        assert_eq!(sequence.get(), before.sequence().get() + 1);
        assert_eq!(self.rollout.command(), command, "one at a time");
        let State::Running(run) = self.rollout.state() else { panic!("a command without a rollout") };
        let is_abort = matches!(run.phase, Phase::Aborting { .. });
        match (action, event) {
            (Action::SetShare(share), _) if !is_abort => {
                let step = run.spec.get().steps[usize::from(run.step) - 1];
                assert!(matches!(step, Step::SetWeight(weight) if share == weight.into()), "{share} in {step:?}");
            }
            (Action::SetShare(share), Event::Capacity(report)) => {
                assert!(share < self.path.share(run.target), "an abort raises the share");
                assert!(is_bearable(share, report), "{share} is too low for {report:?}");
                let lower = Share::new(share.get() - 1);
                assert!(!is_bearable(lower, report), "{share} could be lower for {report:?}");
            }
            (Action::Withdraw(_), Event::Capacity(report)) => assert!(is_bearable(Share::NONE, report), "{report:?}"),
            (Action::Withdraw(_), _) if self.is_forced => {}
            (Action::Withdraw(_), _) => {
                assert_eq!(self.path.share(run.target), Share::NONE, "flows return and nobody has asked: {event:?}");
            }
            (Action::SetShare(_), _) => panic!("an abort lowers the share unasked: {event:?}"),
            (Action::Install | Action::Promote(_) | Action::ReportCapacity, _) => {}
        }
    }
}

/// Whether no replica set gets more than it may have if the candidate's share becomes `share`: neither by the flows that
/// are there nor by those that will be when all have turned over.
fn is_bearable(share: Share, report: &CapacityReport) -> bool {
    let is_bearable = |load: &SetLoad| {
        let SetLoad { flows, own, returning, capacity, serving, .. } = *load;
        // In 1/65535 of a flow.
        let later = (flows - own) * 65_535 + (own + returning) * u64::from(65_535 - share.get());
        let fits = capacity.is_none_or(|capacity| flows <= capacity && later <= capacity * 65_535);
        serving && (fits || returning == 0)
    };
    report.share == Share::NONE || report.sets.iter().all(is_bearable)
}

/// Everything goes well from here on: the rollout has to come to an end.
fn heal(rollout: &Rollout, path: &DataPath, now: Timestamp) -> Rollout {
    let (mut rollout, mut path) = (rollout.clone(), path.clone());
    for _ in 0..10 {
        let event = match (rollout.command(), rollout.state()) {
            (None, State::Idle | State::Completed(_)) => {
                assert_eq!(path.views, rollout.placement());
                return rollout;
            }
            (None, State::Running(_)) => Event::Promote { full: true },
            (Some(command), _) => {
                path.carry_out(command);
                let Command { sequence, target, action, .. } = command;
                if action == Action::ReportCapacity {
                    Event::Capacity(CapacityReport { sequence, share: path.share(target), sets: Vec::new() })
                } else {
                    Event::Applied { sequence }
                }
            }
        };
        rollout = rollout.apply(event, now).unwrap_or_else(|rejected| panic!("{rejected}")).0;
    }
    panic!("no end: {:?}", rollout.state());
}

/// The walk goes nowhere from which there is no way out, and to nowhere that another target cannot take over.
fn check_ways_out(walk: &Walk) {
    heal(&walk.rollout, &walk.path, walk.now);
    let (spec, target) = (checked(&spec(&[])), view(50));
    let event = match walk.rollout.state() {
        State::Running(_) => Event::Replace { spec, target, force: false },
        State::Idle | State::Completed(_) => Event::Start { spec, target },
    };
    let (replaced, _) = walk.rollout.apply(event, walk.now).unwrap_or_else(|rejected| panic!("{rejected}"));
    let end = heal(&replaced, &walk.path, walk.now);
    assert_eq!(end.stable(), target);
    assert!(matches!(end.state(), State::Completed(Ended { outcome: Outcome::Success, .. })));
}

#[test]
fn walks_keep_to_the_rules() {
    let (mut seen, mut fitting, mut walks) = (BTreeSet::new(), 0, 0);
    with_seeds(SEEDS, |random| {
        let mut walk = Walk::new(random);
        for _ in 0..EVENTS {
            walk.step();
            check_ways_out(&walk);
        }
        (fitting, walks) = (fitting + walk.fitting, walks + 1);
        seen.append(&mut walk.seen);
    });
    println!("{walks} walks, {fitting} events that fitted");
    if walks > 1 {
        let missed: Vec<&str> = STATES.into_iter().filter(|state| *state != "Idle" && !seen.contains(state)).collect();
        assert_eq!(missed, [""; 0], "states that no walk has reached");
    }
}

/// A replica set of the stable view while its flows turn over: they end, and new ones go where the share says.
struct Turnover {
    others: f64,
    stable: f64,
    candidate: f64,
}

impl Turnover {
    fn pass(&mut self, share: Share, part: f64) {
        let (all, share) = (self.stable + self.candidate, f64::from(share.get()) / 65_535.0);
        self.stable += part * (all * (1.0 - share) - self.stable);
        self.candidate = all - self.stable;
    }

    fn load(&self) -> f64 {
        self.others + self.stable
    }
}

#[test]
fn an_abort_overloads_nobody_while_flows_turn_over() {
    let (mut partly, mut whole) = (0, 0);
    with_seeds(2000, |mut random| {
        let mut flows = |most| (random.below(most) + 1) as f64;
        let mut set_of = Turnover { others: flows(500), stable: flows(1000), candidate: flows(1000) };
        let capacity = flows(2500).floor();
        let mut script = Script::installed(&spec(&[weight(random.pick(&["5", "20", "50", "95"])), HOLD]));
        script.confirm().quietly(abort(false));
        let mut share = script.run().share;
        let steady = set_of.others + (set_of.stable + set_of.candidate) * (1.0 - f64::from(share.get()) / 65_535.0);
        // It may be overloaded by what happened before, and come to be by the share it has.
        let bound = capacity.max(set_of.load()).max(steady);
        for _ in 0..50 {
            // Rounded against the engine's favour at most one flow each.
            let (own, others, returning) =
                (set_of.stable.ceil() as u64, set_of.others as u64, set_of.candidate.ceil() as u64);
            let (flows, capacity) = (own + others, Some(capacity as u64));
            let load = SetLoad { set: set(1), flows, own, returning, capacity, serving: true };
            script.quietly(script.report(share, &[load]));
            match script.rollout.command().map(|command| command.action) {
                Some(Action::SetShare(lower)) => {
                    share = lower;
                    partly += 1;
                    script.confirm();
                }
                Some(Action::Withdraw(_)) => {
                    share = Share::NONE;
                    script.confirm();
                }
                Some(Action::ReportCapacity) => {}
                action => panic!("{action:?}"),
            }
            for _ in 0..5 {
                set_of.pass(share, random.pick(&[0.01, 0.2, 0.9]));
                assert!(set_of.load() <= bound + 1e-6, "{} flows, {bound} are allowed", set_of.load());
            }
            if share == Share::NONE {
                whole += 1;
                break;
            }
        }
    });
    println!("{partly} returns in part, {whole} in whole");
}
