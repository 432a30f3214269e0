//! Scripted rollouts: each step names everything that it changes.

use chain_graph::model::ObjectKey;
use chain_graph::rollout::*;
use xdp_layout::{ReplicaSetId, ViewId};

/// When scripts begin.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// The drain of every script.
pub(crate) const DRAIN: Drain = Drain { policy: DrainPolicy::Reset, deadline: secs(1000) };
/// The progress deadline of every script.
pub(crate) const DEADLINE: Span = secs(100);

pub(crate) const fn secs(secs: u64) -> Span {
    Span::from_secs(secs)
}

pub(crate) fn view(id: u32) -> ViewId {
    ViewId::new(id).unwrap()
}

pub(crate) fn set(id: u16) -> ReplicaSetId {
    ReplicaSetId::new(id).unwrap()
}

pub(crate) fn percent(text: &str) -> Percent {
    text.parse().unwrap()
}

pub(crate) fn share(text: &str) -> Share {
    percent(text).into()
}

pub(crate) fn weight(text: &str) -> Step {
    Step::SetWeight(percent(text))
}

pub(crate) const fn pause(length: Span) -> Step {
    Step::Pause { duration: Some(length) }
}

pub(crate) const HOLD: Step = Step::Pause { duration: None };

pub(crate) fn spec(steps: &[Step]) -> RolloutSpec {
    RolloutSpec { steps: steps.to_vec(), progress_deadline: DEADLINE, bounds: Bounds::default(), drain: DRAIN }
}

/// All bounds, over windows of a step.
pub(crate) fn bounded(steps: &[Step]) -> RolloutSpec {
    let (dropped, resets) = (Some(percent("1")), Some(percent("5")));
    let bounds = Bounds { window: Window::Step, min_flows: 100, dropped, resets, down: Some(1) };
    RolloutSpec { bounds, ..spec(steps) }
}

pub(crate) fn start(spec: &RolloutSpec, target: u32) -> Event {
    Event::Start { spec: checked(spec), target: view(target) }
}

pub(crate) fn replace(spec: &RolloutSpec, target: u32) -> Event {
    Event::Replace { spec: checked(spec), target: view(target), force: false }
}

pub(crate) fn abort(force: bool) -> Event {
    Event::Abort { reason: "because".to_owned(), force }
}

pub(crate) fn by_operator() -> Failure {
    Failure::Operator("because".to_owned())
}

pub(crate) fn checked(spec: &RolloutSpec) -> CheckedSpec {
    spec.clone().try_into().unwrap()
}

pub(crate) fn set_share(text: &str) -> Action {
    Action::SetShare(share(text))
}

pub(crate) fn sample(counters: Counters) -> Event {
    let health = Some(Health { instances: 4, down: 0 });
    Event::Sample(Sample { view: view(2), counters: Some(counters), health })
}

/// Counters of a candidate that does well, after so many flows.
pub(crate) const fn well(flows: u64) -> Counters {
    Counters { flows, tcp_flows: flows, tcp_resets: 0, frames: 10 * flows, dropped: 0 }
}

/// A rollout, driven by hand from view 1 to view 2.
pub(crate) struct Script {
    pub(crate) rollout: Rollout,
    pub(crate) now: Timestamp,
}

impl Script {
    /// Before anything.
    pub(crate) fn idle() -> Self {
        let graph: ObjectKey = "acme/web".parse().unwrap();
        Self { rollout: Rollout::new(graph, view(1)), now: START }
    }

    /// Installing view 2.
    pub(crate) fn started(spec: &RolloutSpec) -> Self {
        let mut script = Self::idle();
        script.quietly(start(spec, 2));
        script
    }

    /// After the installation, and everything that follows from it at once.
    pub(crate) fn installed(spec: &RolloutSpec) -> Self {
        let mut script = Self::started(spec);
        script.confirm();
        script
    }

    /// Lets time pass.
    pub(crate) fn after(&mut self, span: Span) -> &mut Self {
        self.now = self.now.after(span);
        self
    }

    /// Applies an event that has to fit, whatever it does.
    pub(crate) fn quietly(&mut self, event: Event) -> &mut Self {
        let applied = self.rollout.apply(event, self.now);
        self.rollout = applied.unwrap_or_else(|rejected| panic!("{rejected}")).0;
        self
    }

    /// Confirms the command in force.
    pub(crate) fn confirm(&mut self) -> &mut Self {
        let confirmation = self.confirmation();
        self.quietly(confirmation)
    }

    /// The confirmation of the command in force.
    pub(crate) fn confirmation(&self) -> Event {
        Event::Applied { sequence: self.rollout.command().expect("a command in force").sequence }
    }

    /// The answer to the question in force.
    pub(crate) fn report(&self, share: Share, sets: &[SetLoad]) -> Event {
        let sequence = self.rollout.command().expect("a command in force").sequence;
        Event::Capacity(CapacityReport { sequence, share, sets: sets.to_vec() })
    }

    pub(crate) fn run(&self) -> &Run {
        match self.rollout.state() {
            State::Running(run) => run,
            state => panic!("no rollout is running, but {state:?}"),
        }
    }

    /// A command of the number that comes next, to be confirmed in time.
    pub(crate) fn awaited(&self) -> Awaited {
        let sequence = Sequence::new(self.rollout.sequence().get() + 1);
        Awaited { sequence, deadline: Timer::start(DEADLINE, self.now) }
    }

    pub(crate) fn next_sequence(&self) -> Sequence {
        self.awaited().sequence
    }

    /// Applies an event to a running rollout that goes on. Of the rollout changes what `delta` changes and nothing else,
    /// its measurements apart; and `action` is all that there is to do.
    #[track_caller]
    pub(crate) fn step(&mut self, event: Event, delta: impl FnOnce(&mut Run), action: Option<Action>) -> &mut Self {
        let mut expected = self.run().clone();
        let before = self.rollout.clone();
        delta(&mut expected);
        self.perform(event, action);
        expected.measured = self.run().measured.clone();
        assert_eq!(*self.run(), expected);
        assert_eq!(self.rollout.stable(), before.stable());
        assert!(self.rollout.history().eq(before.history()), "the history changed");
        self
    }

    /// Applies an event that begins a phase.
    #[track_caller]
    pub(crate) fn enters(&mut self, event: Event, step: u8, phase: Phase, action: Option<Action>) -> &mut Self {
        let now = self.now;
        let delta = |run: &mut Run| {
            run.step = step;
            run.since = now;
            run.phase = phase;
        };
        self.step(event, delta, action)
    }

    /// Applies an event that ends the rollout.
    #[track_caller]
    pub(crate) fn ends(&mut self, event: Event, step: u8, outcome: Outcome) -> &mut Self {
        let (run, from) = (self.run().clone(), self.rollout.stable());
        let before = self.rollout.history().count();
        self.perform(event, None);
        let Run { target, started, .. } = run;
        let stable = if outcome == Outcome::Success { target } else { from };
        let ended = Ended { from, target, started, ended: self.now, step, outcome };
        assert_eq!(*self.rollout.state(), State::Completed(ended.clone()));
        assert_eq!(self.rollout.history().last(), Some(&ended));
        assert_eq!(self.rollout.history().count(), before + 1);
        assert_eq!(self.rollout.placement(), Placement { stable, candidate: None });
        self
    }

    /// Applies an event that is refused with this text, and changes nothing.
    #[track_caller]
    pub(crate) fn refuses(&mut self, event: Event, text: &str) -> &mut Self {
        let rejected = self.rollout.apply(event, self.now).expect_err("the event fits");
        assert_eq!(rejected.to_string(), text);
        self
    }

    #[track_caller]
    fn perform(&mut self, event: Event, action: Option<Action>) {
        let (stable, target) = (self.rollout.stable(), self.run().target);
        let expected = action.map(|action| Command { sequence: self.next_sequence(), stable, target, action });
        let applied = self.rollout.apply(event, self.now);
        let (rollout, command) = applied.unwrap_or_else(|rejected| panic!("{rejected}"));
        assert_eq!(command, expected);
        assert_eq!(rollout.sequence(), expected.map_or(self.rollout.sequence(), |command| command.sequence));
        if command.is_some() {
            assert_eq!(rollout.command(), command, "in force is what was commanded last");
        }
        self.rollout = rollout;
    }
}
