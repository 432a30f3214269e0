//! Answers to commands. Who makes a rollout ask for room, by aborting it, is answered when a count has told: new flows have
//! gone back by then, as far as there is room. Nobody else waits for that.

use super::count::asked;
use super::{Outcome, WriteError, Writer};
use crate::command::Change;
use crate::state::DesiredState;
use crate::{Action, ResourcePath};
use chain_graph::model::ObjectKey;
use chain_graph::rollout::Sequence;
use std::sync::Arc;
use tokio::sync::oneshot;
use xdp_layout::Generation;

/// Where the answer to a command goes.
pub(super) type Reply = oneshot::Sender<Result<Outcome, WriteError>>;

/// A command that was carried out.
pub(super) struct Accepted {
    pub(super) reply: Reply,
    pub(super) changes: Vec<Change>,
    pub(super) generation: Generation,
}

/// One whose answer waits for those to questions for room.
pub(super) struct Held {
    accepted: Accepted,
    questions: Vec<(ObjectKey, Sequence)>,
}

/// A caller that has gone away needs no answer.
pub(super) fn send(reply: Reply, result: Result<Outcome, WriteError>) {
    drop(reply.send(result));
}

impl Writer {
    /// Answers commands that were carried out on the state `before`, or holds the answer back.
    pub(super) fn reply(&mut self, before: &DesiredState, all: Vec<Accepted>) {
        let known = asked(before);
        let mut raised = asked(&self.state());
        raised.retain(|graph, question| known.get(graph) != Some(question));
        for accepted in all {
            let real = accepted.changes.iter().filter(|change| change.action != Action::Unchanged);
            let questions = real.filter_map(|change| match &change.path {
                ResourcePath::Graph(graph) => Some((graph.clone(), *raised.get(graph)?)),
                _ => None,
            });
            let questions = questions.collect();
            self.held.push(Held { accepted, questions });
        }
        self.release();
    }

    /// Gives the answers whose questions a count has told of, or that nobody asks any more.
    pub(super) fn release(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let open = asked(&self.state());
        for Held { accepted, mut questions } in std::mem::take(&mut self.held) {
            questions.retain(|(graph, question)| {
                open.get(graph) == Some(question) && !self.counting.has_told(graph, *question)
            });
            if questions.is_empty() {
                self.tell_outcome(accepted);
            } else {
                self.held.push(Held { accepted, questions });
            }
        }
    }

    fn tell_outcome(&self, Accepted { reply, changes, generation }: Accepted) {
        send(reply, Ok(Outcome { changes, generation, programmed: Arc::clone(&self.programmed.borrow()) }));
    }
}
