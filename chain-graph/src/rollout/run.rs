//! How a running rollout moves from phase to phase, whatever the event.

use super::capacity::CapacityReport;
use super::event::{Action, Command, Sequence};
use super::measure::Measurement;
use super::share::Share;
use super::spec::Step;
use super::state::{Awaited, Failure, Next, Pause, Phase, Resume, Run, Stage, Why};
use super::time::{Timer, Timestamp};
use xdp_layout::ViewId;

/// Numbers commands, and knows the moment.
pub(super) struct Clerk {
    /// The last number given out.
    pub(super) last: Sequence,
    /// The moment of the event.
    pub(super) now: Timestamp,
}

impl Clerk {
    /// Gives out the next number.
    pub(super) fn issue(&mut self) -> Sequence {
        self.last = self.last.next();
        self.last
    }
}

impl Run {
    /// A rollout at its beginning.
    pub(super) fn begin(Next { spec, target }: Next, clerk: &mut Clerk) -> Self {
        let now = clerk.now;
        let deadline = Timer::start(spec.get().progress_deadline, now);
        Self {
            spec,
            target,
            started: now,
            since: now,
            step: 0,
            share: Share::NONE,
            measured: Measurement::new(now),
            failure: None,
            phase: Phase::Installing(Awaited { sequence: clerk.issue(), deadline }),
        }
    }

    /// Begins a phase.
    pub(super) fn set(&mut self, phase: Phase, now: Timestamp) {
        self.phase = phase;
        self.since = now;
        self.failure = None;
    }

    fn awaited(&self, clerk: &mut Clerk) -> Awaited {
        let deadline = Timer::start(self.spec.get().progress_deadline, clerk.now);
        Awaited { sequence: clerk.issue(), deadline }
    }

    /// Begins a step; the one after the last is the promotion.
    pub(super) fn enter(&mut self, number: u8, clerk: &mut Clerk) {
        let now = clerk.now;
        let Some(step) = self.spec.step(number) else { return self.promote(clerk) };
        self.measured.begin_step(self.spec.get().bounds.window, self.step == 0, now);
        self.step = number;
        let phase = match step {
            Step::SetWeight(_) => Phase::Progressing(self.awaited(clerk)),
            Step::Pause { duration } => {
                Phase::Paused(Pause::Step(duration.map(|duration| Timer::start(duration, now))))
            }
        };
        self.set(phase, now);
    }

    /// Begins the step after the one in hand.
    pub(super) fn advance(&mut self, clerk: &mut Clerk) {
        self.enter(self.step.saturating_add(1), clerk);
    }

    /// Begins the promotion, whatever steps are left.
    pub(super) fn promote(&mut self, clerk: &mut Clerk) {
        self.set(Phase::Promoting(self.awaited(clerk)), clerk.now);
    }

    /// Begins the way back. Asks for room unless nothing is to return.
    pub(super) fn abort(&mut self, why: Why, force: bool, clerk: &mut Clerk) {
        let at_most = self.share.max(self.asked());
        let sequence = clerk.issue();
        let stage = if force || at_most == Share::NONE {
            Stage::Withdrawing { sequence }
        } else {
            Stage::AwaitingCapacity { sequence, at_most, shortages: Vec::new() }
        };
        self.set(Phase::Aborting { why, stage }, clerk.now);
    }

    /// Changes what an abort ends as, and withdraws the candidate at once if forced to.
    pub(super) fn go_on_aborting(&mut self, why: Why, stage: Stage, force: bool, clerk: &mut Clerk) {
        let stage = match stage {
            Stage::AwaitingCapacity { .. } | Stage::Lowering { .. } if force => {
                self.failure = None;
                Stage::Withdrawing { sequence: clerk.issue() }
            }
            Stage::AwaitingCapacity { .. } | Stage::Lowering { .. } | Stage::Withdrawing { .. } => stage,
        };
        self.phase = Phase::Aborting { why, stage };
    }

    /// Takes a capacity report: capacity, then tables, then weights.
    pub(super) fn make_room(&mut self, why: Why, report: &CapacityReport, clerk: &mut Clerk) {
        let (shortages, lowest) = (report.shortages(), report.lowest_share());
        self.share = report.share;
        let stage = if report.share == Share::NONE || shortages.is_empty() {
            Stage::Withdrawing { sequence: clerk.issue() }
        } else if lowest < report.share {
            Stage::Lowering { sequence: clerk.issue(), share: lowest, shortages }
        } else {
            Stage::AwaitingCapacity { sequence: report.sequence, at_most: report.share, shortages }
        };
        self.failure = None;
        self.phase = Phase::Aborting { why, stage };
    }

    /// Ends what takes too long: commands and steps.
    pub(super) fn expire(&mut self, clerk: &mut Clerk) {
        match self.phase {
            Phase::Installing(Awaited { deadline, .. })
            | Phase::Progressing(Awaited { deadline, .. })
            | Phase::Promoting(Awaited { deadline, .. }) => {
                if deadline.is_over(clerk.now) {
                    let (waited, failure) = (self.spec.get().progress_deadline, self.failure.clone());
                    self.abort(Why::Failed(Failure::ProgressDeadline { waited, failure }, None), false, clerk);
                }
            }
            Phase::Paused(Pause::Step(Some(timer))) => {
                if timer.is_over(clerk.now) {
                    self.judge_step(clerk);
                }
            }
            Phase::Paused(Pause::Step(None) | Pause::Inconclusive(_) | Pause::Operator(_)) | Phase::Aborting { .. } => {
            }
        }
    }

    fn judge_step(&mut self, clerk: &mut Clerk) {
        let doubts = self.measured.doubts(&self.spec.get().bounds, clerk.now);
        if doubts.is_empty() {
            self.advance(clerk);
        } else {
            self.set(Phase::Paused(Pause::Inconclusive(doubts)), clerk.now);
        }
    }

    /// Aborts if a bound is exceeded.
    pub(super) fn judge_sample(&mut self, clerk: &mut Clerk) {
        let breaches = self.measured.breaches(&self.spec.get().bounds);
        if !breaches.is_empty() {
            self.abort(Why::Failed(Failure::Bounds(breaches), None), false, clerk);
        }
    }

    /// Takes note of the clock. What is left of a timer that an operator stopped begins when the pause ends.
    pub(super) fn observe(&mut self, now: Timestamp) {
        match &mut self.phase {
            Phase::Installing(Awaited { deadline: timer, .. })
            | Phase::Progressing(Awaited { deadline: timer, .. })
            | Phase::Promoting(Awaited { deadline: timer, .. })
            | Phase::Paused(Pause::Step(Some(timer))) => timer.observe(now),
            Phase::Paused(Pause::Step(None) | Pause::Inconclusive(_) | Pause::Operator(_)) | Phase::Aborting { .. } => {
            }
        }
    }

    /// The share that the last command to the data path asked for.
    pub(super) fn asked(&self) -> Share {
        match &self.phase {
            Phase::Installing(_) | Phase::Paused(Pause::Operator(Resume::Installing(_))) => Share::NONE,
            Phase::Progressing(_) | Phase::Paused(Pause::Operator(Resume::Progressing(_))) => self.weight(),
            Phase::Paused(
                Pause::Step(_) | Pause::Inconclusive(_) | Pause::Operator(Resume::Step(_) | Resume::Next),
            ) => self.share,
            Phase::Promoting(_) => Share::ALL,
            Phase::Aborting { stage, .. } => match stage {
                Stage::AwaitingCapacity { at_most, .. } => *at_most,
                Stage::Lowering { share, .. } => *share,
                Stage::Withdrawing { .. } => Share::NONE,
            },
        }
    }

    /// The weight of the step in hand; if that is a pause, the share in force.
    pub(super) fn weight(&self) -> Share {
        match self.spec.step(self.step) {
            Some(Step::SetWeight(weight)) => weight.into(),
            Some(Step::Pause { .. }) | None => self.share,
        }
    }

    /// The command in force.
    pub(super) fn command(&self, stable: ViewId) -> Option<Command> {
        let drain = self.spec.get().drain;
        let (sequence, action) = match &self.phase {
            Phase::Installing(awaited) | Phase::Paused(Pause::Operator(Resume::Installing(awaited))) => {
                (awaited.sequence, Action::Install)
            }
            Phase::Progressing(awaited) | Phase::Paused(Pause::Operator(Resume::Progressing(awaited))) => {
                (awaited.sequence, Action::SetShare(self.weight()))
            }
            Phase::Paused(
                Pause::Step(_) | Pause::Inconclusive(_) | Pause::Operator(Resume::Step(_) | Resume::Next),
            ) => return None,
            Phase::Promoting(awaited) => (awaited.sequence, Action::Promote(drain)),
            Phase::Aborting { stage, .. } => match stage {
                Stage::AwaitingCapacity { sequence, .. } => (*sequence, Action::ReportCapacity),
                Stage::Lowering { sequence, share, .. } => (*sequence, Action::SetShare(*share)),
                Stage::Withdrawing { sequence } => (*sequence, Action::Withdraw(drain)),
            },
        };
        Some(Command { sequence, stable, target: self.target, action })
    }
}
