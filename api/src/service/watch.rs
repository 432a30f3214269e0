//! The stream of a rollout's changes.

use super::Api;
use super::rollout::{missing, of};
use crate::convert::ended;
use crate::error::{self, Place};
use crate::v1;
use chain_graph::model::ObjectKey;
use chain_graph::rollout::{Rollout, State, Timestamp};
use state_sync::{DesiredState, WriteError};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use xdp_layout::ViewId;

/// Changes that wait for a slow client; further ones are seen together.
const QUEUE: usize = 16;

/// What WatchRollout answers.
pub(crate) type RolloutStream = ReceiverStream<Result<v1::Rollout, Status>>;

/// Begins a stream. It ends when the server stops: a client that waits must not hold it up.
pub(super) fn rollout(api: &Api, graph: ObjectKey, follow: bool) -> RolloutStream {
    let (out, stream) = mpsc::channel(QUEUE);
    let states = api.control.watch_state();
    let mut stopping = api.stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = tell(states, Watched::new(graph, follow), &out) => {}
            () = out.closed() => {}
            _ = stopping.wait_for(|stopping| *stopping) => {
                drop(out.try_send(Err(error::write(WriteError::Stopped, &Place::Nowhere))));
            }
        }
    });
    ReceiverStream::new(stream)
}

/// Sends what changes, to the end.
async fn tell(
    mut states: watch::Receiver<Arc<DesiredState>>,
    mut watched: Watched,
    out: &mpsc::Sender<Result<v1::Rollout, Status>>,
) {
    loop {
        let state = Arc::clone(&states.borrow_and_update());
        let seen = watched.see(&state);
        let is_over = seen.as_ref().map_or(true, |seen| seen.is_over);
        let messages = seen.map_or_else(|status| vec![Err(status)], |seen| seen.messages.into_iter().map(Ok).collect());
        for message in messages {
            if out.send(message).await.is_err() {
                return;
            }
        }
        if is_over || states.changed().await.is_err() {
            return;
        }
    }
}

/// What a stream is about and what it has told.
struct Watched {
    graph: ObjectKey,
    follow: bool,
    /// The rollout that was running when last seen: when it began, and its candidate.
    running: Option<(Timestamp, ViewId)>,
    told: Option<v1::Rollout>,
}

/// What a state adds to a stream.
struct Seen {
    messages: Vec<v1::Rollout>,
    is_over: bool,
}

impl Watched {
    const fn new(graph: ObjectKey, follow: bool) -> Self {
        Self { graph, follow, running: None, told: None }
    }

    /// States may have been skipped: a rollout can have ended and others begun since the last one.
    fn see(&mut self, state: &DesiredState) -> Result<Seen, Status> {
        let rollout = state.rollout(&self.graph).ok_or_else(|| missing(&self.graph))?;
        let (before, now) = (self.running, running(rollout));
        let mut messages = Vec::new();
        self.running = now;
        if let Some(before) = before.filter(|before| Some(*before) != now) {
            let found = rollout.history().rfind(|ended| (ended.started, ended.target) == before);
            let found = found.ok_or_else(|| error::forgotten(&self.graph))?;
            messages.extend(self.news(ended(rollout, found)));
            if !self.follow {
                return Ok(Seen { messages, is_over: true });
            }
        }
        messages.extend(self.news(of(state, &self.graph)?));
        Ok(Seen { messages, is_over: now.is_none() && !self.follow })
    }

    /// The message, if it says something else than the last one.
    fn news(&mut self, message: v1::Rollout) -> Option<v1::Rollout> {
        // Figures change with every sample, and nothing follows from most of them.
        let visible = v1::Rollout { figures: None, read_time: None, ..message.clone() };
        let is_news = self.told.as_ref() != Some(&visible);
        self.told = Some(visible);
        is_news.then_some(message)
    }
}

fn running(rollout: &Rollout) -> Option<(Timestamp, ViewId)> {
    match rollout.state() {
        State::Running(run) => Some((run.started, run.target)),
        State::Idle | State::Completed(_) => None,
    }
}
