//! The services: one file each. The standard methods of all kinds of resources share [`Api`].

mod attachment;
mod config;
mod diff;
mod flow;
mod graph;
mod network_function;
mod rollout;
mod system;
mod tenant;
mod watch;

use crate::convert::{member, path, present, revision};
use crate::error::{self, Place};
use crate::fields::Violations;
use crate::message::{Message, new_path, placeholder};
use crate::metrics::Metrics;
use crate::page::Page;
use crate::v1;
use prost_types::FieldMask;
use state_sync::{
    Change, Command, ControlPlane, Entry, Kind, Operation, Outcome, PortOwner, Precondition, Programmed, Refusal,
    Rejected, Resource, ResourcePath, WriteError,
};
use std::sync::Arc;
use tonic::{Response, Status};
use xdp_layout::{AttachmentId, InstanceId};

/// How often an update without an etag is tried against changes by others.
const UPDATE_ATTEMPTS: usize = 16;

/// What all services share.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) control: ControlPlane,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether the server stops: what would go on for long then ends.
    pub(crate) stopping: tokio::sync::watch::Receiver<bool>,
}

impl Api {
    /// Standard method Create.
    async fn create<M: Message>(
        &self,
        parent: &str,
        id: &str,
        message: Option<M>,
        validate_only: bool,
        request_id: String,
    ) -> Result<Response<M>, Status> {
        let field = member(M::KIND);
        let mut violations = Violations::new();
        let path = violations.take_here(new_path(M::KIND, parent, id));
        let mut message = message.unwrap_or_default();
        match &path {
            Some(path) if !message.name().is_empty() && message.name() != path.to_string() => {
                violations.add(format!("{field}.name"), format!("is not {path}; leave it empty"));
            }
            _ => {}
        }
        message.set_name(path.as_ref().map_or_else(|| placeholder(M::KIND).to_owned(), ToString::to_string));
        let resource = violations.take_under(field, message.read());
        let (path, resource) = violations.finish(path.zip(resource)).map_err(error::invalid)?;
        let operation = Operation::Put { resource, when: Precondition::Absent };
        let command = Command { request_id, ..Command::one(operation) };
        self.one(command, validate_only, &path).await
    }

    /// Standard method Get.
    fn get<M: Message>(&self, name: &str) -> Result<Response<M>, Status> {
        let path = read_path(name, M::KIND, "name")?;
        let entry = self.control.state().get(&path).ok_or_else(|| error::not_found(&path))?;
        self.message(&entry, false).map(Response::new)
    }

    /// Standard method List: messages and the token of the next page. `pattern` is the parent, parts of which may be
    /// `-` for any; empty for kinds without.
    fn list<M: Message>(&self, pattern: &str, size: i32, token: &str) -> Result<(Vec<M>, String), Status> {
        let page = Page::read(size, token, &(M::KIND, pattern)).map_err(error::invalid)?;
        let state = self.control.state();
        let parent = ParentPattern::read(pattern, M::KIND).map_err(error::invalid)?;
        if let Some(exact) = parent.exact.as_ref().filter(|exact| state.get(exact).is_none()) {
            return Err(error::not_found(exact));
        }
        let after = page.after.as_deref().and_then(|after| after.parse::<ResourcePath>().ok());
        let mut found = state
            .paths_after(after.as_ref())
            .filter(|path| path.kind() == M::KIND && path.parent().is_none_or(|path| parent.holds(&path)));
        let taken: Vec<&ResourcePath> = found.by_ref().take(page.size).collect();
        let token = match (taken.last(), found.next()) {
            (Some(last), Some(_)) => page.token(&last.to_string()),
            _ => String::new(),
        };
        let entries = taken.into_iter().filter_map(|path| state.get(path));
        let messages = entries.map(|entry| self.message(&entry, false)).collect::<Result<_, _>>()?;
        Ok((messages, token))
    }

    /// Standard method Update.
    async fn update<M: Message>(
        &self,
        message: Option<M>,
        mask: Option<FieldMask>,
        validate_only: bool,
    ) -> Result<Response<M>, Status> {
        let field = member(M::KIND);
        let message = message.unwrap_or_default();
        let path = read_path(message.name(), M::KIND, &format!("{field}.name"))?;
        let expected = precondition(message.etag(), Precondition::Exists);
        for attempt in 1.. {
            let entry = self.control.state().get(&path).ok_or_else(|| error::not_found(&path))?;
            let mut merged: M = self.message(&entry, false)?;
            merged.merge(message.clone(), mask.clone()).map_err(error::invalid)?;
            let mut violations = Violations::new();
            let resource = violations.take_under(field, merged.read());
            let resource = violations.finish(resource).map_err(error::invalid)?;
            // What is put was merged with what was read, so it may only replace that.
            let when = match expected {
                Precondition::Revision(_) => expected,
                _ => Precondition::Revision(entry.revision),
            };
            let command = Command::one(Operation::Put { resource, when });
            let retry = expected == Precondition::Exists && attempt < UPDATE_ATTEMPTS;
            match self.run(command, validate_only, &Place::Field(&path, field)).await {
                Err(Failure { only: Some(Refusal::RevisionMismatch { .. }), .. }) if retry => {}
                Err(Failure { status, .. }) => return Err(status),
                Ok((changes, _)) => return self.first(&changes, validate_only),
            }
        }
        Err(Status::internal("unreachable end of update"))
    }

    /// Standard method Delete.
    async fn delete(
        &self,
        name: &str,
        kind: Kind,
        etag: &str,
        cascade: bool,
        validate_only: bool,
    ) -> Result<Response<()>, Status> {
        let path = read_path(name, kind, "name")?;
        let when = precondition(etag, Precondition::Exists);
        let command = Command::one(Operation::Delete { path, when, cascade });
        self.run(command, validate_only, &Place::Nowhere).await.map_err(|failure| failure.status)?;
        Ok(Response::new(()))
    }

    /// Runs a command about one resource and returns that.
    async fn one<M: Message>(
        &self,
        command: Command,
        validate_only: bool,
        path: &ResourcePath,
    ) -> Result<Response<M>, Status> {
        let place = Place::Field(path, member(M::KIND));
        let (changes, _) = self.run(command, validate_only, &place).await.map_err(|failure| failure.status)?;
        self.first(&changes, validate_only)
    }

    fn first<M: Message>(&self, changes: &[Change], validate_only: bool) -> Result<Response<M>, Status> {
        match changes.first().and_then(|change| change.after.as_ref()) {
            Some(entry) => self.message(entry, validate_only).map(Response::new),
            // A repeated request whose resource was deleted since.
            None => match changes.first() {
                Some(change) => Err(error::not_found(&change.path)),
                None => Err(Status::internal("a command without a change")),
            },
        }
    }

    /// Runs or only checks a command.
    pub(crate) async fn run(
        &self,
        command: Command,
        validate_only: bool,
        place: &Place<'_>,
    ) -> Result<(Vec<Change>, Option<Outcome>), Failure> {
        if validate_only {
            return match self.control.validate(&command) {
                Ok(applied) => Ok((applied.changes, None)),
                Err(rejected) => Err(Failure::of(WriteError::Rejected(rejected), place)),
            };
        }
        let timer = self.metrics.program_seconds.start_timer();
        match self.control.write(command).await {
            Ok(outcome) => {
                timer.observe_duration();
                Ok((outcome.changes.clone(), Some(outcome)))
            }
            Err(error) => {
                timer.stop_and_discard();
                Err(Failure::of(error, place))
            }
        }
    }

    fn message<M: Message>(&self, entry: &Entry, validate_only: bool) -> Result<M, Status> {
        let status = (!validate_only).then(|| self.programmed(entry));
        M::pick(present(entry, status)).ok_or_else(|| Status::internal("a resource of another kind"))
    }

    /// Whether the data path does what a resource says.
    pub(crate) fn programmed(&self, entry: &Entry) -> v1::ProgrammedStatus {
        let programmed: Arc<Programmed> = Arc::clone(&self.control.programmed().borrow());
        let reason = if programmed.installed_revision < entry.revision || programmed.installed.is_none() {
            programmed.reason().unwrap_or_else(|| "not installed yet".to_owned())
        } else {
            let owner = u16::try_from(entry.number).ok().and_then(|number| match entry.resource {
                Resource::Attachment(_) => AttachmentId::new(number).map(PortOwner::Attachment),
                Resource::Instance(_) => InstanceId::new(number).map(PortOwner::Instance),
                _ => None,
            });
            let pending = programmed.installed.iter().flat_map(|installed| &installed.pending);
            let own = pending.filter(|port| Some(port.owner) == owner);
            own.map(|port| format!("{}: {}", port.interface, port.reason)).collect::<Vec<_>>().join("; ")
        };
        v1::ProgrammedStatus { programmed: reason.is_empty(), reason }
    }
}

/// A command that failed.
pub(crate) struct Failure {
    pub(crate) status: Status,
    /// The reason, if there is one alone and it lies in the present state.
    only: Option<Refusal>,
}

impl Failure {
    fn of(error: WriteError, place: &Place<'_>) -> Self {
        let only = match &error {
            WriteError::Rejected(Rejected { refusals, violations }) => {
                match (refusals.as_slice(), violations.as_slice()) {
                    ([only], []) => Some(only.clone()),
                    _ => None,
                }
            }
            WriteError::Store(_) | WriteError::Stopped => None,
        };
        Self { status: error::write(error, place), only }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self { status, only: None }
    }
}

/// What an etag asks for. One that the server never gave out matches no revision.
pub(crate) fn precondition(etag: &str, without: Precondition) -> Precondition {
    if etag.is_empty() { without } else { Precondition::Revision(revision(etag).unwrap_or(0)) }
}

fn read_path(name: &str, kind: Kind, field: &str) -> Result<ResourcePath, Status> {
    let mut violations = Violations::new();
    let value = violations.take(field, path(name, kind));
    violations.finish(value).map_err(error::invalid)
}

/// The parent in a list request.
struct ParentPattern<'a> {
    parts: Vec<&'a str>,
    /// The parent, if no part is `-`.
    exact: Option<ResourcePath>,
}

impl<'a> ParentPattern<'a> {
    fn read(pattern: &'a str, kind: Kind) -> Result<Self, Violations> {
        let parent_kind = match kind {
            Kind::Tenant | Kind::NetworkFunction => return Ok(Self { parts: Vec::new(), exact: None }),
            Kind::ReplicaSet => Kind::NetworkFunction,
            Kind::Instance => Kind::ReplicaSet,
            Kind::Attachment | Kind::Graph => Kind::Tenant,
        };
        let mut violations = Violations::new();
        let parts: Vec<&str> = pattern.split('/').collect();
        // With a name in the place of each `-` it must be a parent's name.
        let filled: Vec<&str> = parts.iter().map(|part| if *part == "-" { "x" } else { *part }).collect();
        let parent = violations.take("parent", path(&filled.join("/"), parent_kind));
        let exact = parent.clone().filter(|_| !parts.contains(&"-"));
        violations.finish(parent.map(|_| Self { parts, exact }))
    }

    fn holds(&self, parent: &ResourcePath) -> bool {
        let name = parent.to_string();
        let mut parts = name.split('/');
        self.parts.iter().all(|part| parts.next().is_some_and(|actual| *part == "-" || *part == actual))
    }
}
