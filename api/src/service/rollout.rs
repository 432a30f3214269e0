//! Rollouts and versions of graphs.

use super::watch::{self, RolloutStream};
use super::{Api, Failure, diff};
use crate::convert::{Names, path, rollout, rollout_spec, version};
use crate::error::{self, Place};
use crate::fields::Violations;
use crate::v1;
use crate::v1::rollout_service_server::RolloutService;
use chain_graph::model::ObjectKey;
use chain_graph::rollout::{CheckedSpec, Rejected, Rejection};
use state_sync::{Command, DesiredState, GraphSpec, Kind, Refusal, ResourcePath, RolloutVerb, WriteError};
use tonic::{Request, Response, Status};
use xdp_layout::ViewId;

/// Longest reason of an abort, in characters: it is kept with the history.
const REASON_MAX: usize = 256;

#[tonic::async_trait]
impl RolloutService for Api {
    async fn start_rollout(&self, request: Request<v1::StartRolloutRequest>) -> Result<Response<v1::Rollout>, Status> {
        let v1::StartRolloutRequest { graph, spec, replace, force, validate_only, request_id } = request.into_inner();
        let mut violations = Violations::new();
        let target: Option<GraphSpec> = violations.take_under("graph", graph.unwrap_or_default().try_into());
        let spec = violations.take_under("spec", rollout_spec(spec));
        if force && !replace {
            violations.add("force", "goes with replace only");
        }
        let (target, spec) = violations.finish(target.zip(spec)).map_err(error::invalid)?;
        let graph = ObjectKey::new(&target.tenant, &target.name);
        if replace {
            let verb = RolloutVerb::Replace { spec: spec.clone(), target: target.clone(), force };
            match self.attempt(&graph, verb, validate_only, &request_id).await {
                Err(failure) if failure.only.as_ref().is_some_and(may_have_been_a_start) => {}
                done => return done.map(Response::new).map_err(|failure| failure.status),
            }
        }
        self.drive(graph, RolloutVerb::Start { spec, target }, validate_only, request_id).await
    }

    async fn get_rollout(&self, request: Request<v1::GetRolloutRequest>) -> Result<Response<v1::Rollout>, Status> {
        let graph = read_graph(&request.into_inner().graph)?;
        of(&self.control.state(), &graph).map(Response::new)
    }

    type WatchRolloutStream = RolloutStream;

    async fn watch_rollout(
        &self,
        request: Request<v1::WatchRolloutRequest>,
    ) -> Result<Response<RolloutStream>, Status> {
        let v1::WatchRolloutRequest { graph, follow } = request.into_inner();
        let graph = read_graph(&graph)?;
        // A graph that does not exist is an error of the call, not of the stream.
        of(&self.control.state(), &graph)?;
        Ok(Response::new(watch::rollout(self, graph, follow)))
    }

    async fn pause_rollout(&self, request: Request<v1::PauseRolloutRequest>) -> Result<Response<v1::Rollout>, Status> {
        let v1::PauseRolloutRequest { graph, validate_only, request_id } = request.into_inner();
        self.drive(read_graph(&graph)?, RolloutVerb::Pause, validate_only, request_id).await
    }

    async fn resume_rollout(
        &self,
        request: Request<v1::ResumeRolloutRequest>,
    ) -> Result<Response<v1::Rollout>, Status> {
        let v1::ResumeRolloutRequest { graph, validate_only, request_id } = request.into_inner();
        self.drive(read_graph(&graph)?, RolloutVerb::Resume, validate_only, request_id).await
    }

    async fn promote_rollout(
        &self,
        request: Request<v1::PromoteRolloutRequest>,
    ) -> Result<Response<v1::Rollout>, Status> {
        let v1::PromoteRolloutRequest { graph, full, validate_only, request_id } = request.into_inner();
        self.drive(read_graph(&graph)?, RolloutVerb::Promote { full }, validate_only, request_id).await
    }

    async fn abort_rollout(&self, request: Request<v1::AbortRolloutRequest>) -> Result<Response<v1::Rollout>, Status> {
        let v1::AbortRolloutRequest { graph, reason, force, validate_only, request_id } = request.into_inner();
        let mut violations = Violations::new();
        let graph = violations.take("graph", graph_key(&graph));
        let length = reason.chars().count();
        if length > REASON_MAX {
            violations.add("reason", format!("{length} characters, at most {REASON_MAX} are allowed"));
        }
        let graph = violations.finish(graph).map_err(error::invalid)?;
        self.drive(graph, RolloutVerb::Abort { reason, force }, validate_only, request_id).await
    }

    async fn undo_rollout(&self, request: Request<v1::UndoRolloutRequest>) -> Result<Response<v1::Rollout>, Status> {
        let v1::UndoRolloutRequest { graph, to_view, spec, validate_only, request_id } = request.into_inner();
        let mut violations = Violations::new();
        let graph = violations.take("graph", graph_key(&graph));
        let to = match to_view {
            0 => None,
            number => violations.take("to_view", view(number)),
        };
        let spec: Option<CheckedSpec> = violations.take_under("spec", rollout_spec(spec));
        let (graph, spec) = violations.finish(graph.zip(spec)).map_err(error::invalid)?;
        self.drive(graph, RolloutVerb::Undo { spec, to }, validate_only, request_id).await
    }

    async fn list_versions(
        &self,
        request: Request<v1::ListVersionsRequest>,
    ) -> Result<Response<v1::ListVersionsResponse>, Status> {
        let graph = read_graph(&request.into_inner().graph)?;
        let state = self.control.state();
        let rollout = state.rollout(&graph).ok_or_else(|| missing(&graph))?;
        let tenant = state.desired().tenants.get(&graph.tenant).map(|tenant| tenant.id);
        let census = match self.control.census().await {
            Ok(census) => Some(census),
            Err(error) => {
                tracing::warn!(%error, "records of versions cannot be counted");
                None
            }
        };
        let records = |view| {
            let (census, tenant) = (census.as_ref()?, tenant?);
            Some(census.views.get(&(tenant, view)).map_or(0, |found| found.records))
        };
        let versions = state.versions(&graph);
        let versions = versions.iter().map(|one| version(one, records(one.view), rollout)).collect();
        Ok(Response::new(v1::ListVersionsResponse { versions }))
    }

    async fn diff_versions(
        &self,
        request: Request<v1::DiffVersionsRequest>,
    ) -> Result<Response<v1::DiffVersionsResponse>, Status> {
        let v1::DiffVersionsRequest { graph, from, to, sample_flows, seed } = request.into_inner();
        let key = read_graph(&graph)?;
        let state = self.control.state();
        state.rollout(&key).ok_or_else(|| missing(&key))?;
        let (mut violations, versions) = (Violations::new(), state.versions(&key));
        let sampling = diff::sampling(&mut violations, sample_flows, seed);
        let from = violations.take("from", diff::version(&versions, &from));
        let to = violations.take("to", diff::version(&versions, &to));
        let (from, to) = violations.finish(from.zip(to)).map_err(error::invalid)?;
        let before = diff::image_with(&state, state.image(), &key, from)?;
        let after = diff::image_with(&state, &before, &key, to)?;
        let (graphs, tables) = diff::compare(before, after, sampling).await?;
        let diff = graphs.into_iter().find(|diff| diff.graph == graph);
        Ok(Response::new(v1::DiffVersionsResponse { diff, tables }))
    }
}

impl Api {
    /// Carries out an operator's verb, or only checks it, and tells where the rollout is then.
    async fn drive(
        &self,
        graph: ObjectKey,
        verb: RolloutVerb,
        validate_only: bool,
        request_id: String,
    ) -> Result<Response<v1::Rollout>, Status> {
        let done = self.attempt(&graph, verb, validate_only, &request_id).await;
        done.map(Response::new).map_err(|failure| failure.status)
    }

    async fn attempt(
        &self,
        graph: &ObjectKey,
        verb: RolloutVerb,
        validate_only: bool,
        request_id: &str,
    ) -> Result<v1::Rollout, Failure> {
        let command = Command { request_id: request_id.to_owned(), ..Command::rollout(graph.clone(), verb) };
        let path = ResourcePath::Graph(graph.clone());
        let place = Place::Candidate(&path);
        if validate_only {
            let applied = self.control.validate(&command);
            let applied = applied.map_err(|rejected| Failure::of(WriteError::Rejected(rejected), &place))?;
            return Ok(of(&applied.state, graph)?);
        }
        self.run(command, false, &place).await?;
        Ok(of(&self.control.state(), graph)?)
    }
}

/// Whether a refusal to replace a rollout leaves the possibility to start one: none is running, or this request started it
/// when it was made before.
const fn may_have_been_a_start(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::Rollout(Rejected { why: Rejection::NotRunning { .. }, .. }) | Refusal::RequestIdReused(_)
    )
}

/// The rollout of a graph as clients see it.
pub(super) fn of(state: &DesiredState, graph: &ObjectKey) -> Result<v1::Rollout, Status> {
    let found = state.rollout(graph).ok_or_else(|| missing(graph))?;
    Ok(rollout(found, |set| Names::new(state.desired()).replica_set(set)))
}

pub(super) fn missing(graph: &ObjectKey) -> Status {
    error::not_found(&ResourcePath::Graph(graph.clone()))
}

fn graph_key(name: &str) -> Result<ObjectKey, String> {
    match path(name, Kind::Graph)? {
        ResourcePath::Graph(key) => Ok(key),
        other => Err(format!("{other} is no graph")),
    }
}

fn read_graph(name: &str) -> Result<ObjectKey, Status> {
    let mut violations = Violations::new();
    let key = violations.take("graph", graph_key(name));
    violations.finish(key).map_err(error::invalid)
}

fn view(number: u32) -> Result<ViewId, String> {
    ViewId::new(number).ok_or_else(|| format!("view numbers are 1 to {}", ViewId::MAX))
}
