//! Many resources in one transaction.

use super::{Api, diff, precondition};
use crate::convert::present;
use crate::error::{self, Place};
use crate::fields::Violations;
use crate::message::Message;
use crate::v1;
use crate::v1::config_service_server::ConfigService;
use crate::v1::resource::Resource as Union;
use state_sync::{Action, Change, Command, Operation, Precondition, Resource, ResourcePath};
use std::collections::HashMap;
use std::sync::Arc;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl ConfigService for Api {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        let v1::ApplyRequest { resources, prune, validate_only, request_id } = request.into_inner();
        let (operations, places) = read(resources).map_err(error::invalid)?;
        let command = Command { operations, prune, request_id };
        let place = Place::List(places);
        let (changes, outcome) = self.run(command, validate_only, &place).await.map_err(|failure| failure.status)?;
        let reason = outcome.as_ref().and_then(|outcome| outcome.programmed.reason());
        Ok(Response::new(v1::ApplyResponse {
            changes: changes.iter().map(|change| self.change(change, validate_only)).collect(),
            generation: outcome.as_ref().map_or(0, |outcome| outcome.generation.get()),
            programmed: outcome.is_some() && reason.is_none(),
            reason: reason.unwrap_or_default(),
        }))
    }

    async fn diff(&self, request: Request<v1::DiffRequest>) -> Result<Response<v1::DiffResponse>, Status> {
        let v1::DiffRequest { resources, prune, sample_flows, seed } = request.into_inner();
        let mut violations = Violations::new();
        let operations = violations.take_here(read(resources));
        let sampling = diff::sampling(&mut violations, sample_flows, seed);
        let (operations, places) = violations.finish(operations).map_err(error::invalid)?;
        let command = Command { operations, prune, request_id: String::new() };
        let state = self.control.state();
        let applied =
            self.control.validate(&command).map_err(|rejected| error::rejected(&rejected, &Place::List(places)))?;
        let changes = applied.changes.iter().filter(|change| change.action != Action::Unchanged);
        let changes = changes.map(|change| self.change(change, true)).collect();
        let (before, after) = (Arc::clone(state.image()), Arc::clone(applied.state.image()));
        let (graphs, tables) = diff::compare(before, after, sampling).await?;
        Ok(Response::new(v1::DiffResponse { changes, graphs, tables }))
    }
}

impl Api {
    fn change(&self, change: &Change, validate_only: bool) -> v1::ResourceChange {
        let action = match change.action {
            Action::Created => v1::ChangeAction::Created,
            Action::Updated => v1::ChangeAction::Updated,
            Action::Unchanged => v1::ChangeAction::Unchanged,
            Action::Deleted => v1::ChangeAction::Deleted,
        };
        let after = change.after.as_ref();
        v1::ResourceChange {
            name: change.path.to_string(),
            action: action.into(),
            before: change.before.as_ref().map(|entry| present(entry, None)),
            after: after.map(|entry| present(entry, (!validate_only).then(|| self.programmed(entry)))),
        }
    }
}

type Places = HashMap<ResourcePath, usize>;

/// Reads all resources; of those that occur twice the first one keeps its place.
fn read(resources: Vec<v1::Resource>) -> Result<(Vec<Operation>, Places), Violations> {
    let mut violations = Violations::new();
    let mut operations = Vec::with_capacity(resources.len());
    let mut places = Places::new();
    for (index, message) in resources.into_iter().enumerate() {
        let when = precondition(etag(&message), Precondition::None);
        let Some(resource) = violations.take_under(&format!("resources[{index}]"), Resource::try_from(message)) else {
            continue;
        };
        places.entry(resource.path()).or_insert(index);
        operations.push(Operation::Put { resource, when });
    }
    violations.finish(Some((operations, places)))
}

fn etag(message: &v1::Resource) -> &str {
    match &message.resource {
        Some(Union::Tenant(message)) => message.etag(),
        Some(Union::Attachment(message)) => message.etag(),
        Some(Union::NetworkFunction(message)) => message.etag(),
        Some(Union::ReplicaSet(message)) => message.etag(),
        Some(Union::Instance(message)) => message.etag(),
        Some(Union::Graph(message)) => message.etag(),
        None => "",
    }
}
