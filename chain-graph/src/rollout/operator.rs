//! What operators may do, and when.

use super::Rollout;
use super::rejected::Rejection;
use super::run::Clerk;
use super::state::{Failure, Next, Pause, Phase, Resume, Run, Stage, State, Why};
use super::status::Place;
use xdp_layout::ViewId;

impl Rollout {
    pub(super) fn start(&mut self, next: Next, clerk: &mut Clerk) -> Result<(), Rejection> {
        self.refuse_stable(next.target)?;
        match &self.state {
            State::Running(run) => {
                return Err(Rejection::Running { target: run.target, place: Place::of(&self.state) });
            }
            State::Idle => {}
            State::Completed(ended) => {
                let ended = ended.clone();
                self.remember(ended);
            }
        }
        self.state = State::Running(Box::new(Run::begin(next, clerk)));
        Ok(())
    }

    pub(super) fn replace(&mut self, next: Next, force: bool, clerk: &mut Clerk) -> Result<(), Rejection> {
        self.refuse_stable(next.target)?;
        let run = self.state.running()?;
        match &run.phase {
            Phase::Installing(_) | Phase::Progressing(_) | Phase::Paused(_) | Phase::Promoting(_) => {
                run.abort(Why::Superseded(next), force, clerk);
            }
            Phase::Aborting { why, stage } => {
                let why = match why {
                    Why::Failed(failure, _) => Why::Failed(failure.clone(), Some(next)),
                    Why::Superseded(_) => Why::Superseded(next),
                };
                run.go_on_aborting(why, stage.clone(), force, clerk);
            }
        }
        Ok(())
    }

    fn refuse_stable(&self, target: ViewId) -> Result<(), Rejection> {
        if target == self.stable { Err(Rejection::AlreadyStable { target }) } else { Ok(()) }
    }

    pub(super) fn pause(&mut self, clerk: &Clerk) -> Result<(), Rejection> {
        let (place, now) = (Place::of(&self.state), clerk.now);
        let run = self.state.running()?;
        let resume = match &run.phase {
            Phase::Installing(awaited) => Resume::Installing(awaited.rest(now)),
            Phase::Progressing(awaited) => Resume::Progressing(awaited.rest(now)),
            Phase::Paused(Pause::Step(Some(timer))) => Resume::Step(timer.rest(now)),
            Phase::Paused(Pause::Step(None) | Pause::Inconclusive(_) | Pause::Operator(_)) => {
                return Err(Rejection::AlreadyPaused { place });
            }
            Phase::Promoting(_) => return Err(Rejection::Promoting),
            Phase::Aborting { stage, .. } => return Err(aborting(stage, place)),
        };
        run.phase = Phase::Paused(Pause::Operator(resume));
        run.since = now;
        Ok(())
    }

    pub(super) fn resume(&mut self, clerk: &mut Clerk) -> Result<(), Rejection> {
        let (place, now) = (Place::of(&self.state), clerk.now);
        let run = self.state.running()?;
        let phase = match &run.phase {
            Phase::Paused(Pause::Operator(resume)) => match resume {
                Resume::Installing(awaited) => Phase::Installing(awaited.again(now)),
                Resume::Progressing(awaited) => Phase::Progressing(awaited.again(now)),
                Resume::Step(timer) => Phase::Paused(Pause::Step(Some(timer.again(now)))),
                Resume::Next => {
                    run.advance(clerk);
                    return Ok(());
                }
            },
            Phase::Paused(Pause::Step(None)) => {
                run.advance(clerk);
                return Ok(());
            }
            // Watched once more: going on without a judgement is a promotion.
            Phase::Paused(Pause::Inconclusive(_)) => {
                run.enter(run.step, clerk);
                return Ok(());
            }
            Phase::Paused(Pause::Step(Some(_))) => return Err(Rejection::Waiting { place }),
            Phase::Installing(_) | Phase::Progressing(_) => return Err(Rejection::NotPaused { place }),
            Phase::Promoting(_) => return Err(Rejection::Promoting),
            Phase::Aborting { stage, .. } => return Err(aborting(stage, place)),
        };
        run.phase = phase;
        run.since = now;
        Ok(())
    }

    pub(super) fn promote(&mut self, full: bool, clerk: &mut Clerk) -> Result<(), Rejection> {
        let place = Place::of(&self.state);
        let run = self.state.running()?;
        match &run.phase {
            Phase::Installing(_) | Phase::Paused(Pause::Operator(Resume::Installing(_))) => {
                return Err(Rejection::NotInstalled { place });
            }
            Phase::Progressing(_) | Phase::Paused(Pause::Operator(Resume::Progressing(_))) if !full => {
                return Err(Rejection::NothingToSkip { place });
            }
            Phase::Progressing(_) | Phase::Paused(_) => {}
            Phase::Promoting(_) => return Err(Rejection::Promoting),
            Phase::Aborting { stage, .. } => return Err(aborting(stage, place)),
        }
        if full {
            run.promote(clerk)
        } else {
            run.advance(clerk)
        }
        Ok(())
    }

    pub(super) fn abort(&mut self, reason: String, force: bool, clerk: &mut Clerk) -> Result<(), Rejection> {
        let place = Place::of(&self.state);
        let run = self.state.running()?;
        let (why, stage) = match &run.phase {
            Phase::Installing(_) | Phase::Progressing(_) | Phase::Paused(_) | Phase::Promoting(_) => {
                run.abort(Why::Failed(Failure::Operator(reason), None), force, clerk);
                return Ok(());
            }
            Phase::Aborting { why, stage } => (why, stage.clone()),
        };
        let can_be_forced = force && !matches!(stage, Stage::Withdrawing { .. });
        let why = match why {
            // What waits for the end of this abort is given up too.
            Why::Superseded(_) => Why::Failed(Failure::Operator(reason), None),
            Why::Failed(failure, next) if next.is_some() || can_be_forced => Why::Failed(failure.clone(), None),
            Why::Failed(..) => return Err(aborting(&stage, place)),
        };
        run.go_on_aborting(why, stage, force, clerk);
        Ok(())
    }
}

/// Why an abort under way stays as it is.
const fn aborting(stage: &Stage, place: Place) -> Rejection {
    match stage {
        Stage::AwaitingCapacity { .. } | Stage::Lowering { .. } => Rejection::AwaitingCapacity { place },
        Stage::Withdrawing { .. } => Rejection::Aborting { place },
    }
}
