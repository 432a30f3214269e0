//! Client verbs over gRPC.

mod apply;
mod diff;
mod observe;
mod resources;
mod rollout;
mod rollout_text;
mod versions;

use crate::args::{Format, KindArg, OutputArgs, Verb};
use crate::fail::{ERROR, Failure, NOT_FOUND};
use crate::output::{self, put, say};
use api::StatusExt;
use api::client::Channel;
use api::v1;
use serde_json::Value;
use std::process::ExitCode;
use tonic::{Code, Status};

/// Runs a verb.
pub(crate) async fn run(server: &api::Address, verb: Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Apply { files, dry_run, prune, output } => {
            let sources = apply::read_files(&files)?;
            apply::apply(connect(server).await?, sources, dry_run, prune, output).await
        }
        Verb::Diff { files, prune, versions, flows, graph, output } => {
            let diff = async {
                let flows = flows.unwrap_or_default();
                if let (Some([from, to]), Some(graph)) = (versions.as_deref(), graph) {
                    let graph = resources::Path::read(KindArg::Graph, Some(&graph), None)?.into_name();
                    let (from, to) = (from.clone(), to.clone());
                    let request = v1::DiffVersionsRequest { graph, from, to, sample_flows: flows, seed: 0 };
                    return diff::versions(connect(server).await?, request, output).await;
                }
                let sources = apply::read_files(&files)?;
                apply::diff(connect(server).await?, sources, prune, flows, output).await
            };
            // 1 means that there are differences.
            diff.await.map_err(|failure| if failure.code == ERROR { failure.code(2) } else { failure })
        }
        Verb::Rollout(verb) => rollout::run(async || connect(server).await, verb).await,
        Verb::Get { kind, name, tenant, output } => {
            let path = resources::Path::read(kind, name.as_deref(), tenant.as_deref())?;
            resources::get(connect(server).await?, path, output).await
        }
        Verb::Describe { target } => {
            let path = resources::Path::read(target.kind, Some(&target.name), target.tenant.as_deref())?;
            resources::describe(connect(server).await?, path).await
        }
        Verb::Delete { target, force, dry_run } => {
            let path = resources::Path::read(target.kind, Some(&target.name), target.tenant.as_deref())?;
            resources::delete(connect(server).await?, path, force, dry_run).await
        }
        Verb::Status { output } => observe::status(connect(server).await?, output).await,
        Verb::Flows { tenant, instance, limit, output } => {
            observe::flows(connect(server).await?, tenant, instance, limit, output).await
        }
        Verb::Drops { tenant, all, output } => observe::drops(connect(server).await?, tenant, all, output).await,
        Verb::Trace { tenant, side, attachment, protocol, source, destination, output } => {
            let query = observe::Query { tenant, side, attachment, protocol, source, destination };
            observe::trace(connect(server).await?, query, output).await
        }
    }
}

async fn connect(server: &api::Address) -> Result<Channel, Failure> {
    api::client::connect(server).await.map_err(|error| {
        let cause = std::iter::successors(std::error::Error::source(&error), |error| error.source()).last();
        let cause = cause.map_or_else(|| error.to_string(), ToString::to_string);
        Failure::new(format!("connect to {server}: {cause}"))
            .hint("is `switchyard dev` running there? Give its address with --server or SWITCHYARD_SERVER.")
    })
}

/// An error of the server. `place` turns a field path of the request into what the user wrote.
fn failure(status: &Status, place: impl Fn(&str) -> String) -> Failure {
    let details = status.get_error_details();
    let mut problems: Vec<String> = Vec::new();
    if let Some(bad) = details.bad_request() {
        problems.extend(bad.field_violations.iter().map(|v| format!("{}: {}", place(&v.field), v.description)));
    }
    if let Some(failed) = details.precondition_failure() {
        problems.extend(failed.violations.iter().map(|v| format!("{}: {}", v.subject, v.description)));
    }
    if let Some(quota) = details.quota_failure() {
        problems.extend(quota.violations.iter().map(|v| format!("{}: {}", v.subject, v.description)));
    }
    let without_details =
        [Code::NotFound, Code::AlreadyExists, Code::Aborted].contains(&status.code()) && problems.len() <= 1;
    if problems.is_empty() || without_details {
        problems = vec![status.message().to_owned()];
    }
    let failure = Failure::all(problems).code(if status.code() == Code::NotFound { NOT_FOUND } else { ERROR });
    if details.error_info().is_some_and(|info| info.reason.starts_with("ROLLOUT_")) {
        // These say themselves what to do.
        return failure;
    }
    match status.code() {
        Code::NotFound => failure.hint("`switchyard get KIND` lists what there is."),
        Code::Aborted => failure.hint("it was changed meanwhile; read it again and repeat."),
        Code::FailedPrecondition => {
            failure.hint("change or delete what stands against it first, or do both in one `apply`.")
        }
        Code::InvalidArgument => failure.hint("nothing was changed; correct all of these and repeat."),
        Code::ResourceExhausted => failure.hint("nothing was changed; lower the budgets or raise --flow-capacity."),
        Code::Unavailable => failure.hint("see `switchyard status` and the log of the server."),
        _ => failure,
    }
}

/// As [`failure`], with field paths as they are.
fn plain(status: Status) -> Failure {
    failure(&status, |field| field.to_owned())
}

/// Prints a value in a form for programs, or a table.
fn print(value: &Value, output: OutputArgs, headers: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
    match output.output {
        Format::Table => put!("{}", output::table(headers, rows, !output.no_headers))?,
        Format::Json => say!("{}", json(value)?)?,
        Format::Yaml => put!("{}", yaml(value)?)?,
    }
    Ok(())
}

fn json(value: &Value) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::new(format!("write JSON: {error}")))
}

fn yaml(value: &Value) -> Result<String, Failure> {
    serde_saphyr::to_string(value).map_err(|error| Failure::new(format!("write YAML: {error}")))
}
