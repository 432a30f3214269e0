//! `rollout`: its verbs, but for the history.

use super::resources::Path;
use super::rollout_text::{HEADERS, line, row, say_status, value};
use super::{apply, failure, plain, print, yaml};
use crate::args::rollout::{FollowArgs, GraphArg, RolloutVerb, argument};
use crate::args::{Format, KindArg, OutputArgs};
use crate::document::{self, Source};
use crate::fail::{ERROR, Failure, USAGE};
use crate::output::{note, put, say};
use api::client::{Channel, RolloutServiceClient};
use api::v1;
use std::path::PathBuf;
use std::process::ExitCode;
use tonic::Status;

type Client = RolloutServiceClient<Channel>;

/// `rollout`.
pub(crate) async fn run(
    connect: impl AsyncFnOnce() -> Result<Channel, Failure>,
    verb: RolloutVerb,
) -> Result<ExitCode, Failure> {
    let (validate_only, request_id) = (false, String::new());
    match verb {
        RolloutVerb::Start { graph, file, spec, replace, force, dry_run, follow } => {
            let graph = name(&graph)?;
            let source = read_graph(file, &graph)?;
            let mut client = RolloutServiceClient::new(connect().await?);
            let (target, spec) = (source.graph().cloned(), Some(spec.into()));
            let request =
                v1::StartRolloutRequest { graph: target, spec, replace, force, validate_only: dry_run, request_id };
            let answer = client.start_rollout(request).await;
            begun(client, graph, answer.map_err(|status| refused(&status, Some(&source))), dry_run, follow).await
        }
        RolloutVerb::Undo { graph, to, spec, dry_run, follow } => {
            let graph = name(&graph)?;
            let mut client = RolloutServiceClient::new(connect().await?);
            let (to_view, spec, validate_only) = (to.unwrap_or(0), Some(spec.into()), dry_run);
            let request = v1::UndoRolloutRequest { graph: graph.clone(), to_view, spec, validate_only, request_id };
            let answer = client.undo_rollout(request).await;
            begun(client, graph, answer.map_err(|status| refused(&status, None)), dry_run, follow).await
        }
        RolloutVerb::Status { graph, follow } => {
            status(RolloutServiceClient::new(connect().await?), name(&graph)?, follow).await
        }
        RolloutVerb::Pause { graph, output } => {
            let request = v1::PauseRolloutRequest { graph: name(&graph)?, validate_only, request_id };
            told(RolloutServiceClient::new(connect().await?).pause_rollout(request).await, output)
        }
        RolloutVerb::Resume { graph, output } => {
            let request = v1::ResumeRolloutRequest { graph: name(&graph)?, validate_only, request_id };
            told(RolloutServiceClient::new(connect().await?).resume_rollout(request).await, output)
        }
        RolloutVerb::Promote { graph, full, output } => {
            let request = v1::PromoteRolloutRequest { graph: name(&graph)?, full, validate_only, request_id };
            told(RolloutServiceClient::new(connect().await?).promote_rollout(request).await, output)
        }
        RolloutVerb::Abort { graph, reason, force, output } => {
            let request = v1::AbortRolloutRequest { graph: name(&graph)?, reason, force, validate_only, request_id };
            told(RolloutServiceClient::new(connect().await?).abort_rollout(request).await, output)
        }
        RolloutVerb::History { graph, output } => {
            super::versions::history(RolloutServiceClient::new(connect().await?), name(&graph)?, output).await
        }
    }
}

/// The full name of a graph.
pub(crate) fn name(graph: &GraphArg) -> Result<String, Failure> {
    Path::read(KindArg::Graph, Some(&graph.graph), None).map(Path::into_name)
}

/// The one document of a file, which must be the graph.
fn read_graph(file: PathBuf, graph: &str) -> Result<Source, Failure> {
    let sources = apply::read_files(&[file])?;
    let hint = "a rollout leads to one version of one graph; `apply` the other resources before.";
    match <[Source; 1]>::try_from(sources) {
        Ok([source]) if source.graph().is_some_and(|it| it.name == graph) => Ok(source),
        Ok([source]) => {
            let problem = format!("{}: {} is not the graph {graph}", source.place, source.title);
            Err(Failure::new(problem).code(USAGE).hint(hint))
        }
        Err(several) => {
            let problem = format!("{} documents instead of one, the graph {graph}", several.len());
            Err(Failure::new(problem).code(USAGE).hint(hint))
        }
    }
}

/// A refusal, with fields as the user gave them.
fn refused(status: &Status, source: Option<&Source>) -> Failure {
    failure(status, |field| place(field, source))
}

fn place(field: &str, source: Option<&Source>) -> String {
    let document = source.filter(|_| field == "graph" || field.starts_with("graph."));
    let document = document.map(|source| format!("{}: {}: {}", source.place, source.title, document::field(field)));
    argument(field).or(document).unwrap_or_else(|| field.to_owned())
}

/// After a rollout was begun: tells where it is, or follows it.
async fn begun(
    client: Client,
    graph: String,
    answer: Result<tonic::Response<v1::Rollout>, Failure>,
    dry_run: bool,
    follow: FollowArgs,
) -> Result<ExitCode, Failure> {
    let rollout = answer?.into_inner();
    if follow.watch {
        return watch(client, graph, follow.output).await;
    }
    tell(&rollout, follow.output)?;
    if dry_run {
        note!("dry run: nothing was changed");
    }
    Ok(ExitCode::SUCCESS)
}

fn told(answer: Result<tonic::Response<v1::Rollout>, Status>, output: OutputArgs) -> Result<ExitCode, Failure> {
    tell(&answer.map_err(plain)?.into_inner(), output)?;
    Ok(ExitCode::SUCCESS)
}

fn tell(rollout: &v1::Rollout, output: OutputArgs) -> Result<(), Failure> {
    print(&value(rollout), output, &HEADERS, &[row(rollout).to_vec()])
}

async fn status(mut client: Client, graph: String, follow: FollowArgs) -> Result<ExitCode, Failure> {
    if follow.watch {
        return watch(client, graph, follow.output).await;
    }
    let rollout = client.get_rollout(v1::GetRolloutRequest { graph }).await.map_err(plain)?.into_inner();
    match follow.output.output {
        Format::Table => say_status(&rollout)?,
        Format::Json | Format::Yaml => print(&value(&rollout), follow.output, &[], &[])?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints every change until the rollout ends, and ends as it does.
async fn watch(mut client: Client, graph: String, output: OutputArgs) -> Result<ExitCode, Failure> {
    let request = v1::WatchRolloutRequest { graph, follow: false };
    let mut changes = client.watch_rollout(request).await.map_err(plain)?.into_inner();
    let goes_on = |status| plain(status).hint(GOES_ON);
    if output.output == Format::Table && !output.no_headers {
        say!("{}", line(&HEADERS.map(str::to_owned)))?;
    }
    let mut last = v1::Rollout::default();
    while let Some(rollout) = changes.message().await.map_err(goes_on)? {
        match output.output {
            Format::Table => say!("{}", line(&row(&rollout)))?,
            // One object a line, so that a program can read it while it comes.
            Format::Json => say!("{}", value(&rollout))?,
            Format::Yaml => put!("---\n{}", yaml(&value(&rollout))?)?,
        }
        last = rollout;
    }
    match code(last.phase(), last.outcome()) {
        Some(code) => Ok(code),
        None => Err(Failure::new("the server ended before it told what came of the rollout").hint(GOES_ON)),
    }
}

/// What to do where nothing more is heard of a rollout.
const GOES_ON: &str = "the rollout goes on by itself; ask again for its status.";

/// A rollout that did not come to its target is an error; that there is none is not. `None` if what came of it is not known.
fn code(phase: v1::RolloutPhase, outcome: v1::RolloutOutcome) -> Option<ExitCode> {
    match outcome {
        v1::RolloutOutcome::Success => Some(ExitCode::SUCCESS),
        v1::RolloutOutcome::Failed | v1::RolloutOutcome::Superseded => Some(ExitCode::from(ERROR)),
        v1::RolloutOutcome::Unspecified if phase == v1::RolloutPhase::Idle => Some(ExitCode::SUCCESS),
        v1::RolloutOutcome::Unspecified => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{code, place};
    use crate::document::Source;
    use crate::fail::ERROR;
    use api::v1;
    use api::v1::resource::Resource as Union;
    use api::v1::{RolloutOutcome, RolloutPhase};
    use std::process::ExitCode;

    fn source() -> Source {
        let graph = v1::Graph { name: "tenants/acme/graphs/web".to_owned(), ..v1::Graph::default() };
        let resource = v1::Resource { resource: Some(Union::Graph(graph)) };
        Source { resource, place: "g.yaml:1".to_owned(), title: "Graph web".to_owned() }
    }

    #[test]
    fn violations_point_to_arguments_and_into_the_document() {
        let source = source();
        for (field, expected) in [
            ("spec.steps[1].set_weight", "--step number 2"),
            ("graph.nodes[0].replica_set", "g.yaml:1: Graph web: spec.nodes[0].replicaSet"),
            ("graph", "g.yaml:1: Graph web: metadata"),
            ("force", "force"),
        ] {
            assert_eq!(place(field, Some(&source)), expected);
        }
        assert_eq!(place("graph.nodes[0]", None), "graph.nodes[0]");
    }

    #[test]
    fn only_success_is_success() {
        let all = [RolloutOutcome::Success, RolloutOutcome::Failed, RolloutOutcome::Superseded];
        let codes = all.map(|outcome| code(RolloutPhase::Completed, outcome));
        assert_eq!(codes, [ExitCode::SUCCESS, ExitCode::from(ERROR), ExitCode::from(ERROR)].map(Some));
        assert_eq!(code(RolloutPhase::Idle, RolloutOutcome::Unspecified), Some(ExitCode::SUCCESS));
        for phase in [RolloutPhase::Progressing, RolloutPhase::Unspecified] {
            assert_eq!(code(phase, RolloutOutcome::Unspecified), None, "nobody knows");
        }
    }
}
