//! Why an event changes nothing.

use super::event::{Action, Sequence};
use super::share::Share;
use super::status::Place;
use crate::model::ObjectKey;
use xdp_layout::ViewId;

/// An event that does not fit. The rollout is as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} refused: rollout of graph {graph} {why}")]
pub struct Rejected {
    /// Name of the event, as [`super::Event::name`] gives it.
    pub event: &'static str,
    /// The graph.
    pub graph: ObjectKey,
    /// Why, and what to do.
    pub why: Rejection,
}

/// Why an event does not fit. The text goes on from the name of the rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// One is running.
    #[error("to view {target} is {place}; wait for its end, abort it or replace it")]
    Running {
        /// Its candidate.
        target: ViewId,
        /// Where it is.
        place: Place,
    },
    /// None is running.
    #[error("is {place}; start one")]
    NotRunning {
        /// Where it is.
        place: Place,
    },
    /// The target is the stable view.
    #[error(
        "cannot lead to view {target}, which is the stable view; name another one, or abort a running rollout to return to it"
    )]
    AlreadyStable {
        /// The view.
        target: ViewId,
    },
    /// It is paused, and not for a time.
    #[error("is {place}; resume or promote it")]
    AlreadyPaused {
        /// Where it is.
        place: Place,
    },
    /// It is not paused.
    #[error("is {place} and not paused; there is nothing to resume")]
    NotPaused {
        /// Where it is.
        place: Place,
    },
    /// It waits for a set time.
    #[error("is {place} for a set time; wait, or promote it to go on at once")]
    Waiting {
        /// Where it is.
        place: Place,
    },
    /// The candidate cannot take flows yet.
    #[error("is {place} and its candidate is not installed; wait until it is, or abort it")]
    NotInstalled {
        /// Where it is.
        place: Place,
    },
    /// No pause is in hand.
    #[error("is {place}, where no pause can be skipped; wait for the weight, or promote it in full")]
    NothingToSkip {
        /// Where it is.
        place: Place,
    },
    /// It is being promoted.
    #[error("is being promoted; wait for its end, or abort it")]
    Promoting,
    /// It is being aborted.
    #[error("is {place}; wait for its end")]
    Aborting {
        /// Where it is.
        place: Place,
    },
    /// It is being aborted, and the stable view has no room.
    #[error("is {place}; make room, or abort it with force")]
    AwaitingCapacity {
        /// Where it is.
        place: Place,
    },
    /// A rollout has to end before the one before can be undone.
    #[error("is {place}; abort it first")]
    AbortFirst {
        /// Where it is.
        place: Place,
    },
    /// There is nothing to go back to.
    #[error("has not made view {stable} the stable one, as far as is remembered; start one to the view to go back to")]
    NothingToUndo {
        /// The stable view.
        stable: ViewId,
    },
    /// An answer to a command that is not in force any more.
    #[error("waits for no answer to command {got} of {last}; ask for the one in force, if any")]
    Stale {
        /// The command that was answered.
        got: Sequence,
        /// The last command.
        last: Sequence,
    },
    /// An answer to a command that was never given.
    #[error("has given no command {got}, the last one is {last}; ask for the one in force, if any")]
    NeverIssued {
        /// The command that was answered.
        got: Sequence,
        /// The last command.
        last: Sequence,
    },
    /// Not the kind of answer that the command in force asks for.
    #[error("asks to {action}; answer that")]
    AnotherAnswer {
        /// What it asks.
        action: Action,
    },
    /// A sample of another view.
    #[error("leads to view {target}, and view {got} was measured; measure the candidate")]
    AnotherView {
        /// The view that was measured.
        got: ViewId,
        /// The candidate.
        target: ViewId,
    },
    /// A capacity report measured while the candidate had more than it was ever given.
    #[error(
        "never gave its candidate more than {at_most} of the new flows, and {reported} were reported; measure again, or force the abort"
    )]
    ShareNotGiven {
        /// The share that was reported.
        reported: Share,
        /// The largest that it may have.
        at_most: Share,
    },
}
