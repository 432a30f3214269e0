//! The services, over a real server on a loopback port and a data path in memory.

mod common;

use api::StatusExt;
use api::client::{
    AttachmentServiceClient, ConfigServiceClient, FlowServiceClient, GraphServiceClient, NetworkFunctionServiceClient,
    SystemServiceClient, TenantServiceClient,
};
use api::v1;
use common::{Server, chain, resource};
use tonic::Code;

fn fields(status: &tonic::Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

fn reason(status: &tonic::Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("every error has an ErrorInfo");
    assert_eq!(info.domain, "switchyard.dev");
    info.reason.clone()
}

fn create_tenant(id: &str) -> v1::CreateTenantRequest {
    v1::CreateTenantRequest {
        tenant_id: id.to_owned(),
        tenant: Some(v1::Tenant {
            budget: Some(v1::Budget { unanswered: 10, established: 20 }),
            ..v1::Tenant::default()
        }),
        ..v1::CreateTenantRequest::default()
    }
}

#[tokio::test]
async fn a_tenant_is_created_read_changed_and_deleted() {
    let server = Server::start("crud").await;
    let mut client = TenantServiceClient::new(server.channel().await);
    let created = client.create_tenant(create_tenant("acme")).await.expect("created").into_inner();
    assert_eq!((created.name.as_str(), created.vni), ("tenants/acme", 1));
    assert!(created.status.as_ref().is_some_and(|status| status.programmed), "{:?}", created.status);
    let name = created.name.clone();
    let read = client.get_tenant(v1::GetTenantRequest { name: name.clone() }).await.expect("read").into_inner();
    assert_eq!(read, created);

    let budget = Some(v1::Budget { unanswered: 11, established: 21 });
    let tenant = v1::Tenant { name: name.clone(), budget, ..v1::Tenant::default() };
    let update = v1::UpdateTenantRequest { tenant: Some(tenant.clone()), ..v1::UpdateTenantRequest::default() };
    let updated = client.update_tenant(update).await.expect("updated").into_inner();
    assert_eq!((updated.budget, updated.vni), (budget, 1));
    assert_ne!(updated.etag, created.etag);

    let stale = v1::Tenant { etag: created.etag.clone(), ..tenant.clone() };
    let update = v1::UpdateTenantRequest { tenant: Some(stale), ..v1::UpdateTenantRequest::default() };
    let error = client.update_tenant(update).await.expect_err("the etag is stale");
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Aborted, "ETAG_MISMATCH"));

    let mask = Some(prost_types::FieldMask { paths: vec!["colour".to_owned()] });
    let update = v1::UpdateTenantRequest { tenant: Some(tenant), update_mask: mask, validate_only: false };
    let error = client.update_tenant(update).await.expect_err("there is no such field");
    assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, vec!["update_mask".to_owned()]));

    let delete =
        v1::DeleteTenantRequest { name: name.clone(), etag: created.etag, ..v1::DeleteTenantRequest::default() };
    let error = client.delete_tenant(delete).await.expect_err("the etag is stale");
    assert_eq!(error.code(), Code::Aborted);
    let delete =
        v1::DeleteTenantRequest { name: name.clone(), etag: updated.etag, ..v1::DeleteTenantRequest::default() };
    client.delete_tenant(delete).await.expect("deleted");
    let error = client.get_tenant(v1::GetTenantRequest { name }).await.expect_err("gone");
    assert_eq!((error.code(), reason(&error).as_str()), (Code::NotFound, "NOT_FOUND"));
    let details = error.get_error_details();
    assert_eq!(details.resource_info().map(|info| info.resource_name.as_str()), Some("tenants/acme"));
}

#[tokio::test]
async fn lists_have_pages() {
    let server = Server::start("pages").await;
    let mut client = TenantServiceClient::new(server.channel().await);
    for number in 0..5 {
        client.create_tenant(create_tenant(&format!("t{number}"))).await.expect("created");
    }
    let (mut names, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = v1::ListTenantsRequest { page_size: 2, page_token: token };
        let page = client.list_tenants(request).await.expect("listed").into_inner();
        names.extend(page.tenants.into_iter().map(|tenant| tenant.name));
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let expected: Vec<String> = (0..5).map(|number| format!("tenants/t{number}")).collect();
    assert_eq!((names, pages), (expected, 3));

    let request = v1::ListTenantsRequest { page_size: -1, page_token: "nonsense".to_owned() };
    let error = client.list_tenants(request).await.expect_err("both are wrong");
    assert_eq!(fields(&error), ["page_size", "page_token"]);

    // A token goes only with the arguments it was made for.
    let mut client = AttachmentServiceClient::new(server.channel().await);
    for number in 0..2 {
        let attachment = v1::Attachment {
            side: v1::Side::Client.into(),
            interface: format!("eth{number}"),
            ..v1::Attachment::default()
        };
        let request = v1::CreateAttachmentRequest {
            parent: "tenants/t0".to_owned(),
            attachment_id: format!("a{number}"),
            attachment: Some(attachment),
            ..v1::CreateAttachmentRequest::default()
        };
        client.create_attachment(request).await.expect("created");
    }
    let list = |parent: &str, page_token: String| v1::ListAttachmentsRequest {
        parent: parent.to_owned(),
        page_size: 1,
        page_token,
    };
    let page = client.list_attachments(list("tenants/-", String::new())).await.expect("listed").into_inner();
    assert_eq!(page.attachments.len(), 1);
    let error = client.list_attachments(list("tenants/t0", page.next_page_token)).await.expect_err("another parent");
    assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, vec!["page_token".to_owned()]));
    let error = client.list_attachments(list("tenants/none", String::new())).await.expect_err("no such tenant");
    assert_eq!(error.code(), Code::NotFound);
}

#[tokio::test]
async fn validate_only_changes_nothing_and_finds_the_same_errors() {
    let server = Server::start("validate").await;
    let mut client = TenantServiceClient::new(server.channel().await);
    let request = v1::CreateTenantRequest { validate_only: true, ..create_tenant("acme") };
    let tenant = client.create_tenant(request.clone()).await.expect("it would work").into_inner();
    assert_eq!(tenant.name, "tenants/acme");
    let name = tenant.name;
    assert_eq!(client.get_tenant(v1::GetTenantRequest { name }).await.expect_err("nothing").code(), Code::NotFound);
    client.create_tenant(create_tenant("acme")).await.expect("created");
    assert_eq!(client.create_tenant(request).await.expect_err("it exists").code(), Code::AlreadyExists);
}

#[tokio::test]
async fn a_repeated_request_id_creates_once() {
    let server = Server::start("idempotent").await;
    let mut client = TenantServiceClient::new(server.channel().await);
    let request = v1::CreateTenantRequest { request_id: "one".to_owned(), ..create_tenant("acme") };
    let first = client.create_tenant(request.clone()).await.expect("created").into_inner();
    let again = client.create_tenant(request).await.expect("repeated").into_inner();
    assert_eq!(first, again);
    let other = v1::CreateTenantRequest { request_id: "one".to_owned(), ..create_tenant("other") };
    let error = client.create_tenant(other).await.expect_err("the id is taken");
    assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, vec!["request_id".to_owned()]));
}

#[tokio::test]
async fn every_violation_of_a_request_is_reported_at_once() {
    let server = Server::start("violations").await;
    let mut client = NetworkFunctionServiceClient::new(server.channel().await);
    let port = |mac: &str| Some(v1::Port { interface: "p".to_owned(), mac: mac.to_owned() });
    let request = v1::CreateInstanceRequest {
        parent: "networkFunctions/fw".to_owned(),
        instance_id: "UPPER".to_owned(),
        instance: Some(v1::Instance {
            weight: Some(70_000),
            inside: port("zz"),
            outside: port("02:00"),
            outside_blocks: vec![v1::OutsideBlock { prefix: "10.0.0.1/8".to_owned(), ports: None }],
            ..v1::Instance::default()
        }),
        ..v1::CreateInstanceRequest::default()
    };
    let error = client.create_instance(request).await.expect_err("everything is wrong");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(
        fields(&error),
        [
            "parent",
            "instance_id",
            "instance.weight",
            "instance.inside.mac",
            "instance.outside.mac",
            "instance.outside_blocks[0].prefix"
        ]
    );
    let mut client = AttachmentServiceClient::new(server.channel().await);
    let request = v1::CreateAttachmentRequest {
        parent: "tenants/nobody".to_owned(),
        attachment_id: "a".to_owned(),
        attachment: Some(v1::Attachment {
            side: v1::Side::Client.into(),
            interface: "eth0".to_owned(),
            ..v1::Attachment::default()
        }),
        ..v1::CreateAttachmentRequest::default()
    };
    let error = client.create_attachment(request).await.expect_err("there is no such tenant");
    assert_eq!(error.code(), Code::NotFound);
    let details = error.get_error_details();
    assert_eq!(details.resource_info().map(|info| info.resource_name.as_str()), Some("tenants/nobody"));
}

#[tokio::test]
async fn a_batch_is_applied_as_a_whole_or_not_at_all() {
    let server = Server::start("batch").await;
    let mut client = ConfigServiceClient::new(server.channel().await);
    let apply = |resources| v1::ApplyRequest { resources, ..v1::ApplyRequest::default() };

    let mut bad = chain();
    let Some(v1::resource::Resource::Graph(graph)) = bad.last_mut().and_then(|last| last.resource.as_mut()) else {
        panic!("the last one is the graph");
    };
    graph.edges[1].to = "nowhere".to_owned();
    graph.client_attachments.push("unknown".to_owned());
    let error = client.apply(apply(bad)).await.expect_err("the graph is wrong");
    assert_eq!(error.code(), Code::InvalidArgument);
    let found = fields(&error);
    assert!(found.contains(&"resources[6].graph.edges[1].to".to_owned()), "{found:?}");
    assert!(found.contains(&"resources[6].graph.client_attachments[1]".to_owned()), "{found:?}");
    let mut system = SystemServiceClient::new(server.channel().await);
    let status = system.get_status(v1::GetStatusRequest {}).await.expect("status").into_inner();
    assert_eq!(status.revision, 0, "nothing was changed");

    let diff = client
        .diff(v1::DiffRequest { resources: chain(), ..v1::DiffRequest::default() })
        .await
        .expect("diff")
        .into_inner();
    assert_eq!(diff.changes.len(), 7);
    let answer = client.apply(apply(chain())).await.expect("applied").into_inner();
    assert!(answer.programmed && answer.changes.iter().all(|change| change.action() == v1::ChangeAction::Created));
    let diff = client
        .diff(v1::DiffRequest { resources: chain(), prune: true, ..v1::DiffRequest::default() })
        .await
        .expect("diff")
        .into_inner();
    assert!(diff.changes.is_empty(), "{diff:?}");
    let again = client.apply(apply(chain())).await.expect("applied").into_inner();
    assert!(again.changes.iter().all(|change| change.action() == v1::ChangeAction::Unchanged));

    let spare = resource(v1::resource::Resource::Attachment(v1::Attachment {
        name: "tenants/acme/attachments/spare".to_owned(),
        side: v1::Side::Client.into(),
        interface: "eth9".to_owned(),
        ..v1::Attachment::default()
    }));
    client.apply(apply(vec![spare])).await.expect("applied");
    let prune = v1::ApplyRequest { prune: true, ..apply(chain()) };
    let answer = client.apply(prune).await.expect("applied").into_inner();
    let deleted: Vec<&str> = answer
        .changes
        .iter()
        .filter(|change| change.action() == v1::ChangeAction::Deleted)
        .map(|change| change.name.as_str())
        .collect();
    assert_eq!(deleted, ["tenants/acme/attachments/spare"]);

    // The function is in use: not the request's fault, but what stands against it.
    let mut functions = NetworkFunctionServiceClient::new(server.channel().await);
    let delete = v1::DeleteNetworkFunctionRequest {
        name: "networkFunctions/fw".to_owned(),
        force: true,
        ..v1::DeleteNetworkFunctionRequest::default()
    };
    let error = functions.delete_network_function(delete).await.expect_err("a graph names it");
    assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "UNKNOWN_FUNCTION"));
    assert!(error.get_error_details().precondition_failure().is_some());
}

#[tokio::test]
async fn budgets_above_the_capacity_are_a_quota_failure() {
    let server = Server::start("quota").await;
    let mut client = TenantServiceClient::new(server.channel().await);
    let mut request = create_tenant("greedy");
    if let Some(tenant) = request.tenant.as_mut() {
        tenant.budget = Some(v1::Budget { unanswered: 1, established: u32::MAX });
    }
    let error = client.create_tenant(request).await.expect_err("too much");
    assert_eq!((error.code(), reason(&error).as_str()), (Code::ResourceExhausted, "OVER_CAPACITY"));
    assert!(error.get_error_details().quota_failure().is_some());
}

#[tokio::test]
async fn what_the_data_path_says_is_shown_with_names() {
    let server = Server::start("observe").await;
    let channel = server.channel().await;
    let request = v1::ApplyRequest { resources: chain(), ..v1::ApplyRequest::default() };
    ConfigServiceClient::new(channel.clone()).apply(request).await.expect("applied");

    let graph = v1::GetGraphRequest { name: "tenants/acme/graphs/web".to_owned() };
    let graph = GraphServiceClient::new(channel.clone()).get_graph(graph).await.expect("read").into_inner();
    assert_eq!(graph.nodes[0].replica_set, "networkFunctions/fw/replicaSets/v1");

    let mut flows = FlowServiceClient::new(channel.clone());
    let list = v1::ListFlowsRequest { parent: "tenants/acme".to_owned(), ..v1::ListFlowsRequest::default() };
    let found = flows.list_flows(list).await.expect("flows").into_inner().flows;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].instances, ["networkFunctions/fw/replicaSets/v1/instances/a"]);
    assert_eq!(found[0].state(), v1::FlowState::Established);
    let end = |port| Some(v1::Endpoint { address: "192.0.2.1".to_owned(), port });
    assert_eq!((found[0].client.clone(), found[0].server.clone()), (end(1000), end(80)));

    let trace = v1::TraceFlowRequest {
        tenant: "tenants/acme".to_owned(),
        side: v1::Side::Client.into(),
        protocol: "tcp".to_owned(),
        source: end(1),
        destination: end(2),
        ..v1::TraceFlowRequest::default()
    };
    let found = flows.trace_flow(trace.clone()).await.expect("trace").into_inner();
    assert_eq!(found.outcome(), v1::TraceOutcome::Dropped);
    assert_eq!((found.drop_reason.as_str(), found.graph.as_str()), ("no_match", "tenants/acme/graphs/web"));
    assert_eq!(found.hops[0].target, "networkFunctions/fw/replicaSets/v1/instances/a");
    let error =
        flows.trace_flow(v1::TraceFlowRequest { source: None, side: 0, ..trace }).await.expect_err("incomplete");
    assert_eq!(fields(&error), ["side", "source"]);

    let mut system = SystemServiceClient::new(channel);
    let drops = system.list_drops(v1::ListDropsRequest::default()).await.expect("drops").into_inner().drops;
    assert_eq!(drops.len(), 1);
    assert_eq!((drops[0].reason.as_str(), drops[0].count), ("no_match", 7));
    assert_eq!((drops[0].tenants[0].tenant.as_str(), drops[0].tenants[0].count), ("tenants/acme", 5));
    let status = system.get_status(v1::GetStatusRequest {}).await.expect("status").into_inner();
    assert!(status.programmed && status.generation == status.desired_generation, "{status:?}");
    assert_eq!((status.views.len(), status.tables.len(), status.tenants.len()), (1, 1, 1));

    let text = String::from_utf8(server.metrics.text().expect("metrics")).expect("text");
    for line in [
        "switchyard_drops_total{reason=\"no_match\"} 7",
        "switchyard_frames_total{verdict=\"delivered\"} 3",
        "switchyard_lookups_total{tier=\"record\"} 2",
        "switchyard_flows{state=\"established\",tenant=\"acme\"} 1",
        "switchyard_api_requests_total{code=\"Ok\",method=\"switchyard.v1.ConfigService/Apply\"} 1",
        "switchyard_api_requests_total{code=\"InvalidArgument\",method=\"switchyard.v1.FlowService/TraceFlow\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn who_scrapes_beside_another_reads_the_same() {
    let server = Server::start("scrapes").await;
    let wanted = "switchyard_drops_total{reason=\"no_match\"} 7";
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let text = String::from_utf8(server.metrics.text().expect("metrics")).expect("text");
                    assert!(text.lines().any(|found| found == wanted), "{wanted} is not in\n{text}");
                }
            });
        }
    });
}

#[tokio::test]
async fn health_and_reflection_answer() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let server = Server::start("health").await;
    let channel = server.channel().await;
    let mut health = HealthClient::new(channel.clone());
    for service in ["", "switchyard.v1.TenantService", "switchyard.v1.ConfigService"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.expect("health").into_inner();
        assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving, "{service}");
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let stream = reflection.server_reflection_info(tokio_stream::iter([request])).await.expect("reflection");
    let answer = stream.into_inner().message().await.expect("a message").expect("an answer");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("no list") };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&"switchyard.v1.FlowService".to_owned()), "{names:?}");
}
