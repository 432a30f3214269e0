//! Errors as google.rpc.Status with details (AIP-193).

use crate::convert::member;
use crate::fields::{FieldViolation, Violations};
use chain_graph::model::ObjectKey;
use chain_graph::rollout::Rejection;
use chain_graph::{Violation, ViolationKind};
use state_sync::{DataPlaneError, Refusal, Rejected, ResourcePath, WriteError};
use std::collections::{BTreeSet, HashMap};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// [`tonic_types::ErrorInfo::domain`] of every error.
pub const DOMAIN: &str = "switchyard.dev";

/// Violations that a status carries at most; the rest is counted in its message, since clients bound header sizes.
const VIOLATIONS_MAX: usize = 200;

/// Where in the request a resource is.
pub(crate) enum Place<'a> {
    /// The request is about one resource, in this field.
    Field(&'a ResourcePath, &'a str),
    /// The request lists resources.
    List(HashMap<ResourcePath, usize>),
    /// The request is to make this graph a version, in its field `graph`.
    Candidate(&'a ResourcePath),
    /// The request has names only.
    Nowhere,
}

impl Place<'_> {
    fn of(&self, path: &ResourcePath) -> Option<String> {
        match self {
            Self::Field(known, field) if *known == path => Some((*field).to_owned()),
            Self::List(indexes) => {
                let index = indexes.get(path)?;
                Some(format!("resources[{index}].{}", member(path.kind())))
            }
            Self::Candidate(known) if *known == path => Some("graph".to_owned()),
            Self::Field(..) | Self::Candidate(_) | Self::Nowhere => None,
        }
    }

    /// A field of the resource, as the request has it.
    fn field<'f>(&self, field: &'f str) -> &'f str {
        match (self, field.strip_prefix("candidate")) {
            (Self::Candidate(_), Some(rest)) => rest.trim_start_matches('.'),
            _ => field,
        }
    }
}

fn info(details: &mut ErrorDetails, reason: &str) {
    details.set_error_info(reason, DOMAIN, HashMap::new());
}

/// Fields that are wrong by themselves.
pub(crate) fn invalid(violations: Violations) -> Status {
    let violations = violations.into_vec();
    let message = summary(violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect());
    let mut details = ErrorDetails::new();
    info(&mut details, "INVALID_FIELDS");
    for FieldViolation { field, description } in violations.into_iter().take(VIOLATIONS_MAX) {
        details.add_bad_request_violation(field, description);
    }
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// A resource that does not exist.
pub(crate) fn not_found(path: &ResourcePath) -> Status {
    let mut details = ErrorDetails::new();
    info(&mut details, "NOT_FOUND");
    details.set_resource_info(path.kind().name(), path.to_string(), "", "does not exist");
    Status::with_error_details(Code::NotFound, format!("{path} does not exist"), details)
}

/// The history of a graph does not have a rollout that was watched.
pub(crate) fn forgotten(graph: &ObjectKey) -> Status {
    let mut details = ErrorDetails::new();
    info(&mut details, "ROLLOUT_FORGOTTEN");
    let message = format!("the rollout of graph {graph} has ended and is not remembered; see what its versions are");
    Status::with_error_details(Code::Aborted, message, details)
}

/// The data path could not be asked.
pub(crate) fn dataplane(error: &DataPlaneError) -> Status {
    let mut details = ErrorDetails::new();
    info(&mut details, "DATA_PATH_UNAVAILABLE");
    Status::with_error_details(Code::Unavailable, error.to_string(), details)
}

/// A command without an outcome.
pub(crate) fn write(error: WriteError, place: &Place<'_>) -> Status {
    let (code, reason) = match &error {
        WriteError::Rejected(reasons) => return rejected(reasons, place),
        WriteError::Store(_) => (Code::Internal, "STORE_FAILED"),
        WriteError::Stopped => (Code::Unavailable, "SHUTTING_DOWN"),
    };
    let mut details = ErrorDetails::new();
    info(&mut details, reason);
    Status::with_error_details(code, error.to_string(), details)
}

/// One reason, in the terms of the API.
struct Reason {
    code: Code,
    reason: String,
    /// Resource or field it is about.
    subject: String,
    field: String,
    description: String,
    resource: Option<ResourcePath>,
}

/// A command that was refused. One kind of reason has its own code; a mixture is INVALID_ARGUMENT.
pub(crate) fn rejected(rejected: &Rejected, place: &Place<'_>) -> Status {
    let refusals = rejected.refusals.iter().map(|refusal| of_refusal(refusal, place));
    let violations = rejected.violations.iter().map(|violation| of_violation(violation, place));
    let reasons: Vec<Reason> = refusals.chain(violations).collect();
    let codes: BTreeSet<i32> = reasons.iter().map(|reason| reason.code.into()).collect();
    let names: BTreeSet<&str> = reasons.iter().map(|reason| reason.reason.as_str()).collect();
    let code =
        if codes.len() == 1 { reasons.first().map_or(Code::Internal, |r| r.code) } else { Code::InvalidArgument };
    let mut details = ErrorDetails::new();
    info(
        &mut details,
        if names.len() == 1 { names.first().copied().unwrap_or_default() } else { "INVALID_CONFIGURATION" },
    );
    for reason in reasons.iter().take(VIOLATIONS_MAX) {
        match code {
            Code::FailedPrecondition => {
                details.add_precondition_failure_violation(&reason.reason, &reason.subject, &reason.description);
            }
            Code::ResourceExhausted => {
                details.add_quota_failure_violation(&reason.subject, &reason.description);
            }
            _ => {
                details.add_bad_request_violation(&reason.field, &reason.description);
            }
        }
    }
    if let Some(Reason { resource: Some(path), description, .. }) = reasons.first()
        && reasons.iter().filter_map(|reason| reason.resource.as_ref()).collect::<BTreeSet<_>>().len() == 1
    {
        details.set_resource_info(path.kind().name(), path.to_string(), "", description);
    }
    let message = summary(reasons.iter().map(|r| format!("{}: {}", r.field, r.description)).collect());
    Status::with_error_details(code, message, details)
}

/// First and number of further ones: the details have them all.
fn summary(all: Vec<String>) -> String {
    match all.as_slice() {
        [] => "refused".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

fn of_refusal(refusal: &Refusal, place: &Place<'_>) -> Reason {
    let field_of = |path: &ResourcePath, field: &str| match place.of(path) {
        Some(at) if field.is_empty() => at,
        Some(at) => format!("{at}.{field}"),
        None => path.to_string(),
    };
    let graph;
    let (code, reason, path, field, resource) = match refusal {
        Refusal::NotFound(path) => (Code::NotFound, "NOT_FOUND", Some(path), "name", Some(path)),
        Refusal::NoParent { path, parent } => (Code::NotFound, "NOT_FOUND", Some(path), "name", Some(parent)),
        Refusal::AlreadyExists(path) => (Code::AlreadyExists, "ALREADY_EXISTS", Some(path), "name", Some(path)),
        Refusal::RevisionMismatch { path, .. } => (Code::Aborted, "ETAG_MISMATCH", Some(path), "etag", Some(path)),
        Refusal::HasChildren { path, .. } => (Code::FailedPrecondition, "HAS_CHILDREN", Some(path), "name", Some(path)),
        Refusal::Immutable { path, field, .. } => (Code::InvalidArgument, "IMMUTABLE_FIELD", Some(path), *field, None),
        Refusal::Duplicate(path) => (Code::InvalidArgument, "DUPLICATE_RESOURCE", Some(path), "name", None),
        Refusal::NumbersExhausted { path, .. } => (Code::ResourceExhausted, "NUMBERS_EXHAUSTED", Some(path), "", None),
        Refusal::RolloutRunning { path, .. } => (Code::FailedPrecondition, "ROLLOUT_RUNNING", Some(path), "", None),
        Refusal::Rollout(rejected) => {
            graph = ResourcePath::Graph(rejected.graph.clone());
            (Code::FailedPrecondition, of_rejection(&rejected.why), Some(&graph), "", None)
        }
        Refusal::UnknownVersion { path, .. } => (Code::NotFound, "ROLLOUT_UNKNOWN_VERSION", Some(path), "", Some(path)),
        Refusal::Build(_) => (Code::ResourceExhausted, "CANNOT_BUILD", None, "", None),
        Refusal::RequestIdReused(_) => (Code::InvalidArgument, "REQUEST_ID_REUSED", None, "request_id", None),
        Refusal::RequestIdTooLong(_) => (Code::InvalidArgument, "REQUEST_ID_TOO_LONG", None, "request_id", None),
    };
    Reason {
        code,
        reason: reason.to_owned(),
        subject: path.map_or_else(|| field.to_owned(), ToString::to_string),
        field: path.map_or_else(|| field.to_owned(), |path| field_of(path, field)),
        description: refusal.to_string(),
        resource: resource.cloned(),
    }
}

/// Why a rollout does not allow something, in one word. Each begins with `ROLLOUT_`: the text says what to do.
const fn of_rejection(why: &Rejection) -> &'static str {
    match why {
        Rejection::Running { .. } | Rejection::AbortFirst { .. } => "ROLLOUT_RUNNING",
        Rejection::NotRunning { .. } => "ROLLOUT_NOT_RUNNING",
        Rejection::AlreadyStable { .. } => "ROLLOUT_ALREADY_STABLE",
        Rejection::AlreadyPaused { .. } => "ROLLOUT_ALREADY_PAUSED",
        Rejection::NotPaused { .. } => "ROLLOUT_NOT_PAUSED",
        Rejection::Waiting { .. } => "ROLLOUT_WAITING",
        Rejection::NotInstalled { .. } => "ROLLOUT_NOT_INSTALLED",
        Rejection::NothingToSkip { .. } => "ROLLOUT_NOTHING_TO_SKIP",
        Rejection::Promoting => "ROLLOUT_PROMOTING",
        Rejection::Aborting { .. } => "ROLLOUT_ABORTING",
        Rejection::AwaitingCapacity { .. } => "ROLLOUT_AWAITING_CAPACITY",
        Rejection::NothingToUndo { .. } => "ROLLOUT_NOTHING_TO_UNDO",
        // Answers of the data path; no request is one.
        Rejection::Stale { .. }
        | Rejection::NeverIssued { .. }
        | Rejection::AnotherAnswer { .. }
        | Rejection::AnotherView { .. }
        | Rejection::ShareNotGiven { .. } => "ROLLOUT_OUT_OF_TURN",
    }
}

fn of_violation(violation: &Violation, place: &Place<'_>) -> Reason {
    let located = locate(&violation.path);
    let listed = located.as_ref().and_then(|(path, field)| Some((place.of(path)?, place.field(field))));
    let elsewhere = match &located {
        Some((path, field)) if field.is_empty() => path.to_string(),
        Some((path, field)) => format!("{path}: {field}"),
        None => violation.path.clone(),
    };
    let code = match (&listed, violation.kind) {
        (_, ViolationKind::OverCapacity) => Code::ResourceExhausted,
        (Some(_), _) => Code::InvalidArgument,
        // The request is right by itself; something else that exists does not go with it.
        (None, _) => Code::FailedPrecondition,
    };
    let field = match listed {
        Some((at, "")) => at,
        Some((at, field)) => format!("{at}.{field}"),
        None => elsewhere.clone(),
    };
    Reason {
        code,
        reason: violation.kind.name().to_uppercase(),
        subject: elsewhere,
        field,
        description: violation.message.clone(),
        resource: None,
    }
}

/// From the model's field path to the resource and the field of its message.
fn locate(path: &str) -> Option<(ResourcePath, String)> {
    let (collection, key, rest) = element(path)?;
    match collection {
        "tenants" => Some((ResourcePath::Tenant(key.parse().ok()?), field("tenants", rest))),
        "attachments" => Some((ResourcePath::Attachment(key.parse().ok()?), field("attachments", rest))),
        "graphs" => Some((ResourcePath::Graph(key.parse().ok()?), field("graphs", rest))),
        "functions" => {
            let function = key.parse().ok()?;
            let Some(("replica_sets", set, rest)) = element(rest) else {
                return Some((ResourcePath::NetworkFunction(function), field("functions", rest)));
            };
            let set = set.parse().ok()?;
            let Some(("instances", instance, rest)) = element(rest) else {
                return Some((ResourcePath::ReplicaSet { function, name: set }, field("replica_sets", rest)));
            };
            let name = instance.parse().ok()?;
            Some((ResourcePath::Instance { function, replica_set: set, name }, field("instances", rest)))
        }
        _ => None,
    }
}

/// Takes `collection["key"]` and an optional dot off the front.
fn element(path: &str) -> Option<(&str, &str, &str)> {
    let (collection, rest) = path.split_once("[\"")?;
    let (key, rest) = rest.split_once("\"]")?;
    if collection.contains('.') { None } else { Some((collection, key, rest.strip_prefix('.').unwrap_or(rest))) }
}

/// Fields that are called otherwise in messages: collection, the model's name, the message's.
const RENAMED: [(&str, &str, &str); 10] = [
    ("tenants", "id", "vni"),
    ("attachments", "tenant", "name"),
    ("graphs", "tenant", "name"),
    ("graphs", "client", "client_attachments"),
    ("graphs", "server", "server_attachments"),
    ("graphs", "function", "replica_set"),
    ("graphs", "matches", "match"),
    ("functions", "tuple", "tuple_effect"),
    ("functions", "tenancy", "shared"),
    ("instances", "outside", "outside_blocks"),
];

fn field(collection: &str, path: &str) -> String {
    // A message has an instance's ports beside its other fields, and calls the only one `inside`.
    if let Some(port) = path.strip_prefix("ports").filter(|_| collection == "instances") {
        let port = port.trim_start_matches('.');
        return match port.strip_prefix("one_armed") {
            Some(rest) => format!("inside{rest}"),
            None => port.to_owned(),
        };
    }
    let parts = path.split('.').map(|part| {
        let (name, index) = part.find('[').map_or((part, ""), |at| part.split_at(at));
        let renamed = RENAMED.iter().find(|(of, from, _)| *of == collection && *from == name);
        format!("{}{index}", renamed.map_or(name, |(_, _, to)| to))
    });
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::{Place, locate};

    #[test]
    fn a_candidates_fields_are_those_of_the_request_that_made_it() {
        let (path, field) = locate(r#"graphs["acme/web"].candidate.nodes[2].function"#).expect("it is understood");
        let here = Place::Candidate(&path);
        assert_eq!((here.of(&path).as_deref(), here.field(&field)), (Some("graph"), "nodes[2].replica_set"));
        assert_eq!(here.field("candidate"), "");
        assert_eq!(Place::Nowhere.field(&field), "candidate.nodes[2].replica_set");
    }

    #[test]
    fn the_models_paths_become_names_and_fields_of_messages() {
        for (path, name, field) in [
            (r#"tenants["acme"].budget.unanswered"#, "tenants/acme", "budget.unanswered"),
            (r#"attachments["acme/c"].prefixes[1]"#, "tenants/acme/attachments/c", "prefixes[1]"),
            (r#"graphs["acme/web"]"#, "tenants/acme/graphs/web", ""),
            (r#"graphs["acme/web"].client[0]"#, "tenants/acme/graphs/web", "client_attachments[0]"),
            (r#"graphs["acme/web"].nodes[2].function"#, "tenants/acme/graphs/web", "nodes[2].replica_set"),
            (
                r#"graphs["acme/web"].edges[3].matches.client_ports[0]"#,
                "tenants/acme/graphs/web",
                "edges[3].match.client_ports[0]",
            ),
            (r#"functions["fw"].tenancy.tags["acme"]"#, "networkFunctions/fw", r#"shared.tags["acme"]"#),
            (r#"functions["fw"].replica_sets["v1"].max_members"#, "networkFunctions/fw/replicaSets/v1", "max_members"),
            (
                r#"functions["fw"].replica_sets["v1"].instances["a"].ports.outside.mac"#,
                "networkFunctions/fw/replicaSets/v1/instances/a",
                "outside.mac",
            ),
            (
                r#"functions["fw"].replica_sets["v1"].instances["a"].ports.one_armed.mac"#,
                "networkFunctions/fw/replicaSets/v1/instances/a",
                "inside.mac",
            ),
            (
                r#"functions["fw"].replica_sets["v1"].instances["a"].outside[0].ports"#,
                "networkFunctions/fw/replicaSets/v1/instances/a",
                "outside_blocks[0].ports",
            ),
        ] {
            let (found, found_field) = locate(path).unwrap_or_else(|| panic!("{path} is not understood"));
            assert_eq!((found.to_string().as_str(), found_field.as_str()), (name, field), "{path}");
        }
    }
}
