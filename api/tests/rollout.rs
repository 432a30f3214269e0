//! Rollouts over a real server, with a data path in memory that confirms everything.

mod common;

use api::StatusExt;
use api::client::{
    ConfigServiceClient, GraphServiceClient, NetworkFunctionServiceClient, RolloutServiceClient, TenantServiceClient,
};
use api::v1;
use api::v1::rollout_step::Step as Union;
use common::{Server, chain};
use tonic::Code;

const GRAPH: &str = "tenants/acme/graphs/web";

type Client = RolloutServiceClient<api::client::Channel>;

/// A server with the chain applied, and its rollouts.
async fn serving(test: &str) -> (Server, Client) {
    let server = Server::start(test).await;
    let request = v1::ApplyRequest { resources: chain(), ..v1::ApplyRequest::default() };
    ConfigServiceClient::new(server.channel().await).apply(request).await.expect("applied");
    let client = RolloutServiceClient::new(server.channel().await);
    (server, client)
}

/// The graph of the chain with its one node called otherwise: another view. `node` may be empty: no function at all.
fn target(node: &str) -> v1::Graph {
    let Some(v1::resource::Resource::Graph(mut graph)) = chain().pop().and_then(|last| last.resource) else {
        panic!("the last one is the graph");
    };
    if node.is_empty() {
        graph.nodes.clear();
        graph.edges = vec![v1::GraphEdge::default()];
    } else {
        node.clone_into(&mut graph.nodes[0].name);
        node.clone_into(&mut graph.edges[0].to);
        node.clone_into(&mut graph.edges[1].from);
    }
    graph
}

fn weight(percent: &str) -> v1::RolloutStep {
    v1::RolloutStep { step: Some(Union::SetWeight(percent.to_owned())) }
}

fn pause() -> v1::RolloutStep {
    v1::RolloutStep { step: Some(Union::Pause(v1::RolloutPause { duration: None })) }
}

fn start(node: &str, steps: Vec<v1::RolloutStep>) -> v1::StartRolloutRequest {
    let spec = v1::RolloutSpec { steps, ..v1::RolloutSpec::default() };
    v1::StartRolloutRequest { graph: Some(target(node)), spec: Some(spec), ..v1::StartRolloutRequest::default() }
}

fn reason(status: &tonic::Status) -> String {
    let details = status.get_error_details();
    details.error_info().expect("every error has an ErrorInfo").reason.clone()
}

fn fields(status: &tonic::Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

fn get() -> v1::GetRolloutRequest {
    v1::GetRolloutRequest { graph: GRAPH.to_owned() }
}

fn abort(why: &str) -> v1::AbortRolloutRequest {
    v1::AbortRolloutRequest { graph: GRAPH.to_owned(), reason: why.to_owned(), ..v1::AbortRolloutRequest::default() }
}

fn promote() -> v1::PromoteRolloutRequest {
    v1::PromoteRolloutRequest { graph: GRAPH.to_owned(), ..v1::PromoteRolloutRequest::default() }
}

fn watch(follow: bool) -> v1::WatchRolloutRequest {
    v1::WatchRolloutRequest { graph: GRAPH.to_owned(), follow }
}

#[tokio::test]
async fn a_rollout_without_steps_is_promoted_before_the_answer() {
    let (_server, mut client) = serving("switch").await;
    let idle = client.get_rollout(get()).await.expect("the graph exists").into_inner();
    assert_eq!((idle.phase(), idle.stable_view, idle.target_view), (v1::RolloutPhase::Idle, 1, 0));
    let done = client.start_rollout(start("second", Vec::new())).await.expect("started").into_inner();
    assert_eq!((done.phase(), done.outcome()), (v1::RolloutPhase::Completed, v1::RolloutOutcome::Success));
    assert_eq!((done.stable_view, done.target_view), (2, 2));
}

#[tokio::test]
async fn a_canary_is_paused_promoted_and_undone() {
    let (server, mut client) = serving("canary").await;
    let steps = vec![weight("5"), pause(), weight("50"), pause()];
    let begun = client.start_rollout(start("second", steps)).await.expect("started").into_inner();
    assert_eq!((begun.phase(), begun.step, begun.steps), (v1::RolloutPhase::Paused, 2, 4));
    assert!((begun.share - 0.05).abs() < 1e-5, "{begun:?}");
    let text = String::from_utf8(server.metrics.text().expect("metrics")).expect("text");
    let phase = r#"switchyard_rollout_phase{graph="web",phase="paused",tenant="acme"} 1"#;
    assert!(text.lines().any(|line| line == phase), "{text}");
    let share =
        text.lines().find_map(|line| line.strip_prefix(r#"switchyard_rollout_share{graph="web",tenant="acme"} "#));
    assert!((share.expect("a share").parse::<f64>().expect("a number") - 0.05).abs() < 1e-5);

    let further = client.promote_rollout(promote()).await.expect("promoted").into_inner();
    assert_eq!((further.phase(), further.step), (v1::RolloutPhase::Paused, 4));
    let full = v1::PromoteRolloutRequest { full: true, ..promote() };
    let done = client.promote_rollout(full).await.expect("promoted").into_inner();
    assert_eq!((done.outcome(), done.stable_view), (v1::RolloutOutcome::Success, 2));

    let list = v1::ListVersionsRequest { graph: GRAPH.to_owned() };
    let versions = client.list_versions(list).await.expect("listed").into_inner().versions;
    let told: Vec<_> = versions.iter().map(|one| (one.view, one.parent_view, one.role(), one.records)).collect();
    let expected = [(2, 1, v1::VersionRole::Stable, Some(0)), (1, 0, v1::VersionRole::Draining, Some(1))];
    assert_eq!(told, expected);
    assert_eq!((versions[0].outcome(), versions[1].outcome_message.as_str()), (v1::RolloutOutcome::Success, ""));
    assert_eq!(versions[0].graph.as_ref().map(|graph| graph.nodes[0].name.as_str()), Some("second"));

    let undo = v1::UndoRolloutRequest { graph: GRAPH.to_owned(), ..v1::UndoRolloutRequest::default() };
    let undone = client.undo_rollout(undo.clone()).await.expect("undone").into_inner();
    assert_eq!((undone.outcome(), undone.stable_view), (v1::RolloutOutcome::Success, 1));
    let graph = v1::GetGraphRequest { name: GRAPH.to_owned() };
    let graph = GraphServiceClient::new(server.channel().await).get_graph(graph).await.expect("read").into_inner();
    assert_eq!(graph.nodes[0].name, "first");
    let error = client.undo_rollout(v1::UndoRolloutRequest { to_view: 99, ..undo }).await.expect_err("never was");
    assert_eq!((error.code(), reason(&error).as_str()), (Code::NotFound, "ROLLOUT_UNKNOWN_VERSION"));
}

#[tokio::test]
async fn a_watch_tells_every_change_and_ends_with_the_rollout() {
    let (server, mut client) = serving("watch").await;
    client.start_rollout(start("second", vec![weight("5"), pause()])).await.expect("started");
    let mut changes = client.watch_rollout(watch(false)).await.expect("watched").into_inner();
    let first = changes.message().await.expect("told").expect("a status");
    assert_eq!(first.phase(), v1::RolloutPhase::Paused);
    // A change of something else is not told.
    let tenant = v1::Tenant { budget: Some(v1::Budget { unanswered: 1, established: 1 }), ..v1::Tenant::default() };
    let other = v1::CreateTenantRequest { tenant_id: "other".to_owned(), tenant: Some(tenant), ..Default::default() };
    TenantServiceClient::new(server.channel().await).create_tenant(other).await.expect("created");
    client.abort_rollout(abort("enough")).await.expect("aborted");
    let mut last = first;
    while let Some(next) = changes.message().await.expect("told") {
        let same = v1::Rollout { read_time: next.read_time, figures: next.figures, ..last };
        assert_ne!(same, next, "told twice");
        last = next;
    }
    assert_eq!((last.phase(), last.outcome()), (v1::RolloutPhase::Completed, v1::RolloutOutcome::Failed));
    assert!(last.message.contains("enough"), "{last:?}");
    // Of one that has ended there is one message.
    let mut changes = client.watch_rollout(watch(false)).await.expect("watched").into_inner();
    assert_eq!(changes.message().await.expect("told").expect("a status").outcome(), v1::RolloutOutcome::Failed);
    assert!(changes.message().await.expect("the end").is_none());
}

#[tokio::test]
async fn a_watch_of_a_replaced_rollout_ends_with_that_and_one_that_follows_goes_on() {
    let (_server, mut client) = serving("replace").await;
    let steps = || vec![weight("5"), pause()];
    client.start_rollout(start("second", steps())).await.expect("started");
    let mut one = client.watch_rollout(watch(false)).await.expect("watched").into_inner();
    let mut all = client.watch_rollout(watch(true)).await.expect("watched").into_inner();
    assert!(one.message().await.expect("told").is_some() && all.message().await.expect("told").is_some());

    let error = client.start_rollout(start("third", steps())).await.expect_err("one is running");
    assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "ROLLOUT_RUNNING"));
    assert!(error.message().contains("replace it"), "{error}");
    let request = v1::StartRolloutRequest { replace: true, force: true, ..start("third", steps()) };
    client.start_rollout(request).await.expect("replaced");

    let mut last = None;
    while let Some(next) = one.message().await.expect("told") {
        last = Some(next);
    }
    let last = last.expect("an end");
    assert_eq!((last.outcome(), last.target_view), (v1::RolloutOutcome::Superseded, 2));
    loop {
        let next = all.message().await.expect("told").expect("it goes on");
        if next.target_view == 3 && next.phase() == v1::RolloutPhase::Paused {
            break;
        }
    }
}

#[tokio::test]
async fn a_repeated_request_starts_one_rollout_and_so_does_one_that_may_replace() {
    let (_server, mut client) = serving("repeated").await;
    let request = v1::StartRolloutRequest {
        replace: true,
        request_id: "one".to_owned(),
        ..start("second", vec![weight("5"), pause()])
    };
    let first = client.start_rollout(request.clone()).await.expect("nothing runs: started").into_inner();
    let again = client.start_rollout(request.clone()).await.expect("repeated").into_inner();
    assert_eq!(first.start_time, again.start_time);
    let other = v1::StartRolloutRequest { graph: Some(target("third")), ..request };
    let error = client.start_rollout(other).await.expect_err("the id is taken");
    assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
    let pause = v1::PauseRolloutRequest {
        graph: GRAPH.to_owned(),
        request_id: "two".to_owned(),
        ..v1::PauseRolloutRequest::default()
    };
    let error = client.pause_rollout(pause).await.expect_err("it is paused without an end");
    assert_eq!(reason(&error), "ROLLOUT_ALREADY_PAUSED");
}

#[tokio::test]
async fn validate_only_finds_what_is_wrong_and_changes_nothing() {
    let (_server, mut client) = serving("rollout-validate").await;
    let request = v1::StartRolloutRequest { validate_only: true, ..start("second", vec![weight("5")]) };
    let would = client.start_rollout(request).await.expect("it would work").into_inner();
    assert_eq!((would.phase(), would.target_view), (v1::RolloutPhase::Installing, 2));
    assert_eq!(client.get_rollout(get()).await.expect("read").into_inner().phase(), v1::RolloutPhase::Idle);

    let mut request = start("UPPER", vec![weight("120"), pause(), weight("x")]);
    request.force = true;
    request.validate_only = true;
    let error = client.start_rollout(request).await.expect_err("everything is wrong");
    assert_eq!(error.code(), Code::InvalidArgument);
    let expected = [
        "graph.nodes[0].name",
        "graph.edges[0].to",
        "graph.edges[1].from",
        "spec.steps[2].set_weight",
        "spec.steps[0].set_weight",
        "force",
    ];
    assert_eq!(fields(&error), expected);

    let mut request = start("second", Vec::new());
    if let Some(graph) = request.graph.as_mut() {
        "networkFunctions/fw/replicaSets/none".clone_into(&mut graph.nodes[0].replica_set);
    }
    let error = client.start_rollout(request).await.expect_err("there is no such replica set");
    assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, vec!["graph.nodes[0].replica_set".to_owned()]));

    let error = client.abort_rollout(abort(&"x".repeat(257))).await.expect_err("too long");
    assert_eq!(fields(&error), ["reason"]);
    let mut request = start("second", Vec::new());
    if let Some(graph) = request.graph.as_mut() {
        "tenants/acme/graphs/none".clone_into(&mut graph.name);
    }
    let error = client.start_rollout(request).await.expect_err("there is no such graph");
    assert_eq!(error.code(), Code::NotFound);
    let request = v1::WatchRolloutRequest { graph: "tenants/acme/graphs/none".to_owned(), follow: false };
    assert_eq!(client.watch_rollout(request).await.expect_err("no such graph").code(), Code::NotFound);
}

#[tokio::test]
async fn a_change_of_the_graph_is_refused_while_its_rollout_runs() {
    let (server, mut client) = serving("disturb").await;
    client.start_rollout(start("second", vec![weight("5"), pause()])).await.expect("started");
    let update = v1::UpdateGraphRequest { graph: Some(target("third")), ..v1::UpdateGraphRequest::default() };
    let mut graphs = GraphServiceClient::new(server.channel().await);
    let error = graphs.update_graph(update.clone()).await.expect_err("a rollout runs");
    assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "ROLLOUT_RUNNING"));
    client.abort_rollout(v1::AbortRolloutRequest { force: true, ..abort("") }).await.expect("aborted");
    graphs.update_graph(update).await.expect("nothing stands against it");
}

#[tokio::test]
async fn a_declared_number_of_flows_is_kept_with_the_instance() {
    let (server, _client) = serving("max-flows").await;
    let mut client = NetworkFunctionServiceClient::new(server.channel().await);
    let name = "networkFunctions/fw/replicaSets/v1/instances/a".to_owned();
    let instance = v1::Instance { name, max_flows: 500, ..v1::Instance::default() };
    let update = v1::UpdateInstanceRequest { instance: Some(instance), ..v1::UpdateInstanceRequest::default() };
    assert_eq!(client.update_instance(update).await.expect("updated").into_inner().max_flows, 500);
}

#[tokio::test]
async fn a_stream_does_not_hold_up_the_end_of_the_server() {
    let (mut server, mut client) = serving("stop").await;
    client.start_rollout(start("second", vec![weight("5"), pause()])).await.expect("started");
    let mut changes = client.watch_rollout(watch(false)).await.expect("watched").into_inner();
    assert!(changes.message().await.expect("told").is_some());
    server.stop().await;
    let error = changes.message().await.expect_err("the server has ended");
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
}

#[tokio::test]
async fn versions_differ_by_their_nodes_and_by_the_flows_that_meet_others() {
    let (server, mut client) = serving("versions").await;
    client.start_rollout(start("", vec![weight("5"), pause()])).await.expect("started");
    let request = v1::DiffVersionsRequest {
        graph: GRAPH.to_owned(),
        from: "stable".to_owned(),
        to: "candidate".to_owned(),
        sample_flows: 1000,
        seed: 7,
    };
    let answer = client.diff_versions(request.clone()).await.expect("compared").into_inner();
    let diff = answer.diff.clone().expect("they differ");
    let told: Vec<_> =
        diff.nodes.iter().map(|node| (node.node.as_str(), node.action(), node.before.as_str())).collect();
    assert_eq!(told, [("first", v1::NodeAction::Removed, "networkFunctions/fw/replicaSets/v1")]);
    let added: Vec<_> = diff.edges.iter().filter(|edge| edge.added).map(|edge| (&*edge.from, &*edge.to)).collect();
    assert_eq!((diff.edges.len(), added), (3, vec![("", "")]));
    assert!(diff.edges.iter().all(|edge| !edge.condition.is_empty()), "{diff:?}");
    let risk = diff.risk.expect("flows were drawn");
    let stage = &risk.stages[0];
    assert_eq!((risk.flows, stage.network_function.as_str()), (1000, "networkFunctions/fw"));
    let values =
        [risk.at_risk, risk.diverted, stage.at_risk, stage.removed].map(|share| share.map(|share| share.value));
    assert_eq!(values, [Some(1.0); 4]);
    assert_eq!(client.diff_versions(request.clone()).await.expect("compared").into_inner(), answer, "the same seed");

    let same = v1::DiffVersionsRequest { from: "1".to_owned(), to: "stable".to_owned(), ..request.clone() };
    assert_eq!(client.diff_versions(same).await.expect("compared").into_inner().diff, None);
    let wrong =
        v1::DiffVersionsRequest { from: "99".to_owned(), to: "x".to_owned(), sample_flows: 1_000_001, ..request };
    let error = client.diff_versions(wrong).await.expect_err("everything is wrong");
    assert_eq!(
        (error.code(), fields(&error)),
        (Code::InvalidArgument, ["sample_flows", "from", "to"].map(str::to_owned).to_vec())
    );

    // A change to be applied is told in the same way.
    client.abort_rollout(v1::AbortRolloutRequest { force: true, ..abort("") }).await.expect("aborted");
    let resources = vec![common::resource(v1::resource::Resource::Graph(target("")))];
    let request = v1::DiffRequest { resources, sample_flows: 1000, seed: 7, ..v1::DiffRequest::default() };
    let answer = ConfigServiceClient::new(server.channel().await).diff(request).await.expect("compared").into_inner();
    assert_eq!((answer.changes.len(), answer.graphs.len(), answer.graphs[0].graph.as_str()), (1, 1, GRAPH));
    assert_eq!(answer.graphs[0].nodes.len(), 1);
}
