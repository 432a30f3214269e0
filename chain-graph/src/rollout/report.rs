//! What the data path and the clock report, and what follows from it.

use super::Rollout;
use super::capacity::CapacityReport;
use super::event::{Action, Sequence};
use super::measure::Sample;
use super::rejected::Rejection;
use super::run::Clerk;
use super::state::{Outcome, Pause, Phase, Resume, Stage, State};

impl Rollout {
    pub(super) fn tick(&mut self, clerk: &mut Clerk) {
        match &mut self.state {
            State::Running(run) => run.expire(clerk),
            State::Idle | State::Completed(_) => {}
        }
    }

    pub(super) fn applied(&mut self, got: Sequence, clerk: &mut Clerk) -> Result<(), Rejection> {
        let action = self.answered(got)?;
        let run = self.state.running()?;
        run.failure = None;
        match &mut run.phase {
            Phase::Installing(_) => run.advance(clerk),
            Phase::Progressing(_) => {
                run.share = run.weight();
                run.advance(clerk);
            }
            Phase::Paused(Pause::Operator(resume)) => {
                *resume = Resume::Next;
                run.share = run.weight();
            }
            Phase::Promoting(_) => self.finish(Outcome::Success, None, clerk),
            Phase::Aborting { why, stage } => match stage {
                Stage::Lowering { share, shortages, .. } => {
                    let (at_most, shortages) = (*share, std::mem::take(shortages));
                    *stage = Stage::AwaitingCapacity { sequence: clerk.issue(), at_most, shortages };
                    run.share = at_most;
                }
                Stage::Withdrawing { .. } => {
                    let (outcome, next) = (why.outcome(), why.clone().next());
                    self.finish(outcome, next, clerk);
                }
                Stage::AwaitingCapacity { .. } => return Err(Rejection::AnotherAnswer { action }),
            },
            // Without a command in force there is none that could have been answered.
            Phase::Paused(Pause::Step(_) | Pause::Inconclusive(_)) => {}
        }
        Ok(())
    }

    pub(super) fn apply_failed(&mut self, got: Sequence, reason: String) -> Result<(), Rejection> {
        self.answered(got)?;
        self.state.running()?.failure = Some(reason);
        Ok(())
    }

    pub(super) fn sample(&mut self, sample: Sample, clerk: &mut Clerk) -> Result<(), Rejection> {
        let run = self.state.running()?;
        if sample.view != run.target {
            return Err(Rejection::AnotherView { got: sample.view, target: run.target });
        }
        match &run.phase {
            // Replicas that are not ready yet are what the progress deadline is for.
            Phase::Installing(_) | Phase::Paused(Pause::Operator(Resume::Installing(_))) => {
                run.measured.take(sample, clerk.now);
            }
            Phase::Progressing(_) | Phase::Paused(_) | Phase::Promoting(_) => {
                run.measured.take(sample, clerk.now);
                run.judge_sample(clerk);
            }
            // The figures stay those that the abort goes back to.
            Phase::Aborting { .. } => {}
        }
        run.expire(clerk);
        Ok(())
    }

    pub(super) fn capacity(&mut self, report: &CapacityReport, clerk: &mut Clerk) -> Result<(), Rejection> {
        let action = self.answered(report.sequence)?;
        let run = self.state.running()?;
        match &run.phase {
            Phase::Aborting { why, stage: Stage::AwaitingCapacity { at_most, .. } } => {
                if report.share > *at_most {
                    return Err(Rejection::ShareNotGiven { reported: report.share, at_most: *at_most });
                }
                let why = why.clone();
                run.make_room(why, report, clerk);
                Ok(())
            }
            Phase::Installing(_)
            | Phase::Progressing(_)
            | Phase::Paused(_)
            | Phase::Promoting(_)
            | Phase::Aborting { stage: Stage::Lowering { .. } | Stage::Withdrawing { .. }, .. } => {
                Err(Rejection::AnotherAnswer { action })
            }
        }
    }

    /// What the command asks for that is answered; it has to be the one in force.
    fn answered(&self, got: Sequence) -> Result<Action, Rejection> {
        let last = self.sequence;
        if got > last {
            return Err(Rejection::NeverIssued { got, last });
        }
        let command = self.command().filter(|command| command.sequence == got);
        command.map(|command| command.action).ok_or(Rejection::Stale { got, last })
    }
}
