//! Commands: the only way in which desired state changes.

use crate::rollout::RolloutVerb;
use crate::{Entry, Kind, Resource, ResourcePath};
use chain_graph::model::ObjectKey;
use chain_graph::rollout::{self, Place};
use chain_graph::{BuildError, Violation};
use serde::{Deserialize, Serialize};
use std::fmt;
use xdp_layout::ViewId;

/// Longest request id, in characters.
pub const REQUEST_ID_MAX: usize = 64;

/// What must hold of a resource before it is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Precondition {
    /// Nothing.
    None,
    /// It does not exist.
    Absent,
    /// It exists.
    Exists,
    /// It exists at this revision.
    Revision(u64),
}

/// One change of one resource.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Operation {
    /// Creates it, or replaces what was written for it.
    Put {
        /// The resource.
        resource: Resource,
        /// What must hold of it.
        when: Precondition,
    },
    /// Deletes it.
    Delete {
        /// The resource.
        path: ResourcePath,
        /// What must hold of it. With [`Precondition::None`] a resource that does not exist is refused, too.
        when: Precondition,
        /// Also delete what it owns. Without it, a resource that owns others is refused.
        cascade: bool,
    },
    /// Starts or drives a rollout. Carried out after all puts and deletions of the command.
    Rollout {
        /// The graph.
        graph: ObjectKey,
        /// What happens.
        verb: RolloutVerb,
    },
}

impl Operation {
    /// The resource it is about.
    pub fn path(&self) -> ResourcePath {
        match self {
            Self::Put { resource, .. } => resource.path(),
            Self::Delete { path, .. } => path.clone(),
            Self::Rollout { graph, .. } => ResourcePath::Graph(graph.clone()),
        }
    }
}

/// Operations that take effect together or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Command {
    /// In any order; each resource at most once.
    pub operations: Vec<Operation>,
    /// Also delete what belongs to the resources that are put, but is not put itself: attachments and graphs of every
    /// tenant that is put or owns something put, replica sets of functions put, instances of replica sets put.
    pub prune: bool,
    /// Makes the command idempotent, if not empty: a repetition changes nothing and has the same result.
    pub request_id: String,
}

impl Command {
    /// One operation.
    pub fn one(operation: Operation) -> Self {
        Self { operations: vec![operation], prune: false, request_id: String::new() }
    }

    /// Puts one resource, whatever is there.
    pub fn put(resource: Resource) -> Self {
        Self::one(Operation::Put { resource, when: Precondition::None })
    }

    /// Deletes one resource that owns no others.
    pub fn delete(path: ResourcePath) -> Self {
        Self::one(Operation::Delete { path, when: Precondition::None, cascade: false })
    }

    /// Starts or drives a rollout.
    pub fn rollout(graph: ObjectKey, verb: RolloutVerb) -> Self {
        Self::one(Operation::Rollout { graph, verb })
    }

    /// Several operations.
    pub fn batch(operations: Vec<Operation>) -> Self {
        Self { operations, prune: false, request_id: String::new() }
    }
}

/// What happened to a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It was created.
    Created,
    /// It existed and was changed.
    Updated,
    /// It existed and was the same.
    Unchanged,
    /// It was deleted.
    Deleted,
}

/// What happened to one resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The resource.
    pub path: ResourcePath,
    /// What happened.
    pub action: Action,
    /// The resource before.
    pub before: Option<Entry>,
    /// The resource after.
    pub after: Option<Entry>,
}

/// Why a command was refused, apart from broken rules of the model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The resource does not exist.
    NotFound(ResourcePath),
    /// The owner does not exist.
    NoParent {
        /// The resource.
        path: ResourcePath,
        /// Its owner.
        parent: ResourcePath,
    },
    /// The resource exists.
    AlreadyExists(ResourcePath),
    /// The resource is at another revision.
    RevisionMismatch {
        /// The resource.
        path: ResourcePath,
        /// What the command expected.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// The resource owns others.
    HasChildren {
        /// The resource.
        path: ResourcePath,
        /// The first of those it owns.
        child: ResourcePath,
        /// How many it owns.
        count: usize,
    },
    /// A field that cannot be changed.
    Immutable {
        /// The resource.
        path: ResourcePath,
        /// The field.
        field: &'static str,
        /// What it is and stays.
        value: u32,
    },
    /// A resource occurs twice in the command.
    Duplicate(ResourcePath),
    /// Every number for resources of a kind is in use.
    NumbersExhausted {
        /// The resource.
        path: ResourcePath,
        /// Its kind.
        kind: Kind,
        /// How many there are.
        limit: u32,
    },
    /// A change would disturb a rollout that is running.
    RolloutRunning {
        /// The graph.
        path: ResourcePath,
        /// Where the rollout is.
        place: Place,
    },
    /// The rollout does not allow it.
    Rollout(rollout::Rejected),
    /// The graph never had that view, or it is not remembered.
    UnknownVersion {
        /// The graph.
        path: ResourcePath,
        /// The view.
        view: ViewId,
    },
    /// No plan can be made of it.
    Build(BuildError),
    /// The request id was used by another command.
    RequestIdReused(String),
    /// The request id is longer than [`REQUEST_ID_MAX`].
    RequestIdTooLong(usize),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(path) => write!(f, "{path} does not exist"),
            Self::NoParent { path, parent } => write!(f, "{path}: {parent} does not exist"),
            Self::AlreadyExists(path) => write!(f, "{path} exists already"),
            Self::RevisionMismatch { path, expected, actual } => {
                write!(f, "{path} is at revision {actual}, not {expected}")
            }
            Self::HasChildren { path, child, count } => {
                write!(f, "{path} still owns {count} resources, among them {child}")
            }
            Self::Immutable { path, field, value } => {
                write!(f, "{path}: {field} is {value} and cannot be changed")
            }
            Self::Duplicate(path) => write!(f, "{path} occurs twice"),
            Self::NumbersExhausted { path, kind, limit } => {
                write!(f, "{path}: all {limit} numbers for resources of kind {kind} are in use")
            }
            Self::RolloutRunning { path, place } => write!(
                f,
                "{path}: the rollout of it is {place} and would be disturbed; wait for its end, abort it, or replace it by a \
                 rollout to what you want"
            ),
            Self::Rollout(rejected) => rejected.fmt(f),
            Self::UnknownVersion { path, view } => {
                write!(f, "{path}: view {view} is not remembered; its history lists those to go back to")
            }
            Self::Build(error) => match std::error::Error::source(error) {
                Some(cause) => write!(f, "{error}: {cause}"),
                None => write!(f, "{error}"),
            },
            Self::RequestIdReused(id) => write!(f, "request id {id:?} was used by another request"),
            Self::RequestIdTooLong(length) => {
                write!(f, "request id of {length} characters, {REQUEST_ID_MAX} are allowed")
            }
        }
    }
}

/// Everything that is wrong with a command. It changed nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, thiserror::Error)]
#[error("command refused: {}", Listing(self))]
pub struct Rejected {
    /// Reasons that lie in single resources and their present state.
    pub refusals: Vec<Refusal>,
    /// Rules of the model that the result would break.
    pub violations: Vec<Violation>,
}

impl From<Refusal> for Rejected {
    fn from(refusal: Refusal) -> Self {
        Self { refusals: vec![refusal], violations: Vec::new() }
    }
}

/// All reasons in one line.
struct Listing<'a>(&'a Rejected);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons =
            self.0.refusals.iter().map(ToString::to_string).chain(self.0.violations.iter().map(ToString::to_string));
        f.write_str(&reasons.collect::<Vec<_>>().join("; "))
    }
}
