//! What came of a graph's rollouts.

use super::Rollout;
use super::rejected::{Rejected, Rejection};
use super::run::Clerk;
use super::state::{Ended, Next, Outcome, Run, State};
use super::status::Place;
use xdp_layout::ViewId;

/// Rollouts that have ended, besides the last one, whose outcomes are remembered.
pub const HISTORY_MAX: usize = 32;

impl Rollout {
    /// Rollouts that have ended, the oldest first: the last one and [`HISTORY_MAX`] before it. A target that was replaced
    /// before it began is not among them.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &Ended> {
        let last = match &self.state {
            State::Completed(ended) => Some(ended),
            State::Idle | State::Running(_) => None,
        };
        self.past.iter().chain(last)
    }

    /// The view that undoes the last rollout that succeeded: start another one to it.
    ///
    /// # Errors
    /// [`Rejected`] if a rollout is running, or if none that led to the stable view is remembered.
    pub fn undo_target(&self) -> Result<ViewId, Rejected> {
        if let State::Running(_) = &self.state {
            return Err(self.rejected("undo", Rejection::AbortFirst { place: Place::of(&self.state) }));
        }
        // Nothing but a success changes the stable view: the last one led to it.
        let last = self.history().rfind(|ended| ended.outcome == Outcome::Success);
        last.map(|ended| ended.from)
            .ok_or_else(|| self.rejected("undo", Rejection::NothingToUndo { stable: self.stable }))
    }

    /// Ends the running rollout; begins the one that waits for it.
    pub(super) fn finish(&mut self, outcome: Outcome, next: Option<Next>, clerk: &mut Clerk) {
        let State::Running(run) = &self.state else { return };
        let Run { target, started, step, .. } = **run;
        let ended = Ended { from: self.stable, target, started, ended: clerk.now, step, outcome };
        if ended.outcome == Outcome::Success {
            self.stable = target;
        }
        self.state = match next {
            None => State::Completed(ended),
            Some(next) => {
                self.remember(ended);
                State::Running(Box::new(Run::begin(next, clerk)))
            }
        };
    }

    /// Files an outcome; forgets the oldest if there are too many.
    pub(super) fn remember(&mut self, ended: Ended) {
        self.past.push(ended);
        let surplus = self.past.len().saturating_sub(HISTORY_MAX);
        self.past.drain(..surplus);
    }
}
