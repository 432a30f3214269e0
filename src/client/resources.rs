//! `get`, `describe`, `delete`.

use super::{json, plain, yaml};
use crate::args::{Format, KindArg, OutputArgs};
use crate::document;
use crate::fail::{Failure, USAGE};
use crate::output::{self, Shade, put, say, shade};
use api::client::{
    AttachmentServiceClient, Channel, GraphServiceClient, NetworkFunctionServiceClient, TenantServiceClient,
};
use api::v1;
use api::v1::resource::Resource as Union;
use serde_json::Value;
use std::process::ExitCode;

/// Results of a page; the server's maximum.
const PAGE: i32 = 1000;

/// What a verb is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Path {
    kind: KindArg,
    /// Full name of one resource, or of the parent of all.
    name: String,
    one: bool,
}

impl Path {
    /// Reads a name in any of its forms.
    pub(crate) fn read(kind: KindArg, name: Option<&str>, tenant: Option<&str>) -> Result<Self, Failure> {
        let collections: &[&str] = match kind {
            KindArg::Tenant => &["tenants"],
            KindArg::Attachment => &["tenants", "attachments"],
            KindArg::Graph => &["tenants", "graphs"],
            KindArg::NetworkFunction => &["networkFunctions"],
            KindArg::ReplicaSet => &["networkFunctions", "replicaSets"],
            KindArg::Instance => &["networkFunctions", "replicaSets", "instances"],
        };
        let (Some((last, owners)), Some(first)) = (collections.split_last(), collections.first()) else {
            return Err(Failure::new("a kind without a collection"));
        };
        let owned_by_tenant = matches!(kind, KindArg::Attachment | KindArg::Graph);
        if tenant.is_some() && !owned_by_tenant {
            return Err(Failure::new(format!("{last} do not belong to a tenant")).code(USAGE));
        }
        let join = |collections: &[&str], parts: &[&str]| {
            let pairs = collections.iter().zip(parts).map(|(collection, part)| format!("{collection}/{part}"));
            pairs.collect::<Vec<_>>().join("/")
        };
        let Some(name) = name else {
            let parts = vec![tenant.unwrap_or("-"); owners.len()];
            return Ok(Self { kind, name: join(owners, &parts), one: false });
        };
        if name.starts_with(&format!("{first}/")) {
            return Ok(Self { kind, name: name.to_owned(), one: true });
        }
        let mut parts: Vec<&str> = tenant.into_iter().collect();
        parts.extend(name.split('/'));
        if parts.len() == collections.len() {
            return Ok(Self { kind, name: join(collections, &parts), one: true });
        }
        let form = collections.iter().map(|collection| collection.trim_end_matches('s')).collect::<Vec<_>>().join("/");
        Err(Failure::new(format!("name {name:?} is not of the form {form}")).code(USAGE))
    }

    /// The full name.
    pub(crate) fn into_name(self) -> String {
        self.name
    }
}

fn union<T>(found: tonic::Response<T>, wrap: impl Fn(T) -> Union) -> v1::Resource {
    v1::Resource { resource: Some(wrap(found.into_inner())) }
}

async fn fetch_one(channel: Channel, path: &Path) -> Result<v1::Resource, tonic::Status> {
    let name = path.name.clone();
    match path.kind {
        KindArg::Tenant => {
            let found = TenantServiceClient::new(channel).get_tenant(v1::GetTenantRequest { name }).await?;
            Ok(union(found, Union::Tenant))
        }
        KindArg::Attachment => {
            let found = AttachmentServiceClient::new(channel).get_attachment(v1::GetAttachmentRequest { name }).await?;
            Ok(union(found, Union::Attachment))
        }
        KindArg::Graph => {
            let found = GraphServiceClient::new(channel).get_graph(v1::GetGraphRequest { name }).await?;
            Ok(union(found, Union::Graph))
        }
        KindArg::NetworkFunction => {
            let mut client = NetworkFunctionServiceClient::new(channel);
            Ok(union(
                client.get_network_function(v1::GetNetworkFunctionRequest { name }).await?,
                Union::NetworkFunction,
            ))
        }
        KindArg::ReplicaSet => {
            let mut client = NetworkFunctionServiceClient::new(channel);
            Ok(union(client.get_replica_set(v1::GetReplicaSetRequest { name }).await?, Union::ReplicaSet))
        }
        KindArg::Instance => {
            let mut client = NetworkFunctionServiceClient::new(channel);
            Ok(union(client.get_instance(v1::GetInstanceRequest { name }).await?, Union::Instance))
        }
    }
}

/// Collects all pages of a list.
macro_rules! pages {
    ($client:expr, $method:ident, $request:ident { $($parent:ident: $value:expr)? }, $items:ident, $wrap:path) => {{
        let (mut client, mut all, mut page_token) = ($client, Vec::new(), String::new());
        loop {
            let request = v1::$request { $($parent: $value.clone(),)? page_size: PAGE, page_token };
            let page = client.$method(request).await?.into_inner();
            all.extend(page.$items.into_iter().map(|item| v1::Resource { resource: Some($wrap(item)) }));
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            page_token = page.next_page_token;
        }
    }};
}

async fn fetch_all(channel: Channel, path: &Path) -> Result<Vec<v1::Resource>, tonic::Status> {
    let parent = &path.name;
    match path.kind {
        KindArg::Tenant => {
            pages!(TenantServiceClient::new(channel), list_tenants, ListTenantsRequest {}, tenants, Union::Tenant)
        }
        KindArg::Attachment => pages!(
            AttachmentServiceClient::new(channel),
            list_attachments,
            ListAttachmentsRequest { parent: parent },
            attachments,
            Union::Attachment
        ),
        KindArg::Graph => {
            pages!(
                GraphServiceClient::new(channel),
                list_graphs,
                ListGraphsRequest { parent: parent },
                graphs,
                Union::Graph
            )
        }
        KindArg::NetworkFunction => pages!(
            NetworkFunctionServiceClient::new(channel),
            list_network_functions,
            ListNetworkFunctionsRequest {},
            network_functions,
            Union::NetworkFunction
        ),
        KindArg::ReplicaSet => pages!(
            NetworkFunctionServiceClient::new(channel),
            list_replica_sets,
            ListReplicaSetsRequest { parent: parent },
            replica_sets,
            Union::ReplicaSet
        ),
        KindArg::Instance => pages!(
            NetworkFunctionServiceClient::new(channel),
            list_instances,
            ListInstancesRequest { parent: parent },
            instances,
            Union::Instance
        ),
    }
}

/// `get`.
pub(crate) async fn get(channel: Channel, path: Path, output: OutputArgs) -> Result<ExitCode, Failure> {
    let found = if path.one {
        vec![fetch_one(channel, &path).await.map_err(plain)?]
    } else {
        fetch_all(channel, &path).await.map_err(plain)?
    };
    let documents: Vec<Value> = found.iter().filter_map(document::write).collect();
    match output.output {
        Format::Table => {
            let rows: Vec<Vec<String>> = found.iter().map(row).collect();
            put!("{}", output::table(headers(path.kind), &rows, !output.no_headers))?;
        }
        // Documents one after the other, since that is what `apply` takes.
        Format::Yaml => {
            let texts: Vec<String> = documents.iter().map(yaml).collect::<Result<_, _>>()?;
            put!("{}", texts.join("---\n"))?;
        }
        Format::Json => {
            // One value, so that programs can read it: the document, or all of them in an array.
            let value = match documents.as_slice() {
                [only] if path.one => only.clone(),
                _ => Value::Array(documents),
            };
            say!("{}", json(&value)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn headers(kind: KindArg) -> &'static [&'static str] {
    match kind {
        KindArg::Tenant => &["NAME", "VNI", "UNANSWERED", "ESTABLISHED", "PROGRAMMED"],
        KindArg::Attachment => &["NAME", "ID", "SIDE", "INTERFACE", "VLAN", "PREFIXES", "PROGRAMMED"],
        KindArg::NetworkFunction => &["NAME", "FORWARDING", "TUPLE", "SHARED", "PROGRAMMED"],
        KindArg::ReplicaSet => &["NAME", "ID", "MAX-MEMBERS", "PROGRAMMED"],
        KindArg::Instance => &["NAME", "ID", "WEIGHT", "INSIDE", "OUTSIDE", "DOWN", "PROGRAMMED"],
        KindArg::Graph => &["NAME", "ID", "CLIENT", "SERVER", "NODES", "PROGRAMMED"],
    }
}

fn programmed(status: Option<&v1::ProgrammedStatus>) -> String {
    match status {
        Some(status) if status.programmed => "yes".to_owned(),
        Some(status) => format!("no: {}", status.reason),
        None => "unknown".to_owned(),
    }
}

fn row(resource: &v1::Resource) -> Vec<String> {
    let word = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase();
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    match &resource.resource {
        Some(Union::Tenant(it)) => {
            let budget = it.budget.unwrap_or_default();
            vec![
                it.name.clone(),
                it.vni.to_string(),
                budget.unanswered.to_string(),
                budget.established.to_string(),
                programmed(it.status.as_ref()),
            ]
        }
        Some(Union::Attachment(it)) => vec![
            it.name.clone(),
            it.id.to_string(),
            word(it.side().as_str_name(), "SIDE_"),
            it.interface.clone(),
            or_dash(if it.vlan == 0 { String::new() } else { it.vlan.to_string() }),
            or_dash(it.prefixes.join(",")),
            programmed(it.status.as_ref()),
        ],
        Some(Union::NetworkFunction(it)) => vec![
            it.name.clone(),
            word(it.forwarding().as_str_name(), "FORWARDING_"),
            word(it.tuple_effect().as_str_name(), "TUPLE_EFFECT_"),
            it.shared.as_ref().map_or_else(|| "no".to_owned(), |shared| format!("{} tenants", shared.tags.len())),
            programmed(it.status.as_ref()),
        ],
        Some(Union::ReplicaSet(it)) => {
            vec![it.name.clone(), it.id.to_string(), it.max_members.to_string(), programmed(it.status.as_ref())]
        }
        Some(Union::Instance(it)) => vec![
            it.name.clone(),
            it.id.to_string(),
            it.weight.unwrap_or(1).to_string(),
            or_dash(it.inside.as_ref().map(|port| port.interface.clone()).unwrap_or_default()),
            or_dash(it.outside.as_ref().map(|port| port.interface.clone()).unwrap_or_default()),
            if it.down { "yes" } else { "no" }.to_owned(),
            programmed(it.status.as_ref()),
        ],
        Some(Union::Graph(it)) => vec![
            it.name.clone(),
            it.id.to_string(),
            it.client_attachments.join(","),
            it.server_attachments.join(","),
            or_dash(it.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(",")),
            programmed(it.status.as_ref()),
        ],
        None => Vec::new(),
    }
}

/// `describe`.
pub(crate) async fn describe(channel: Channel, path: Path) -> Result<ExitCode, Failure> {
    let resource = fetch_one(channel, &path).await.map_err(plain)?;
    let (id, etag, status) = match &resource.resource {
        Some(Union::Tenant(it)) => (it.vni, &it.etag, &it.status),
        Some(Union::Attachment(it)) => (it.id, &it.etag, &it.status),
        Some(Union::NetworkFunction(it)) => (0, &it.etag, &it.status),
        Some(Union::ReplicaSet(it)) => (it.id, &it.etag, &it.status),
        Some(Union::Instance(it)) => (it.id, &it.etag, &it.status),
        Some(Union::Graph(it)) => (it.id, &it.etag, &it.status),
        None => return Err(Failure::new(format!("{}: the answer is empty", path.name))),
    };
    say!("Name:        {}", path.name)?;
    let text = programmed(status.as_ref());
    let good = status.as_ref().is_some_and(|status| status.programmed);
    say!("Programmed:  {}", shade(&text, if good { Shade::Good } else { Shade::Bad }))?;
    say!("Number:      {id}")?;
    say!("Etag:        {etag}")?;
    say!("Spec:")?;
    if let Some(document) = document::write(&resource) {
        for line in yaml(&document["spec"])?.lines() {
            say!("  {line}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `delete`.
pub(crate) async fn delete(channel: Channel, path: Path, force: bool, dry_run: bool) -> Result<ExitCode, Failure> {
    let (name, etag, validate_only) = (path.name.clone(), String::new(), dry_run);
    let answer = match path.kind {
        KindArg::Tenant => {
            let request = v1::DeleteTenantRequest { name, etag, force, validate_only };
            TenantServiceClient::new(channel).delete_tenant(request).await
        }
        KindArg::Attachment => {
            let request = v1::DeleteAttachmentRequest { name, etag, validate_only };
            AttachmentServiceClient::new(channel).delete_attachment(request).await
        }
        KindArg::Graph => {
            let request = v1::DeleteGraphRequest { name, etag, validate_only };
            GraphServiceClient::new(channel).delete_graph(request).await
        }
        KindArg::NetworkFunction => {
            let request = v1::DeleteNetworkFunctionRequest { name, etag, force, validate_only };
            NetworkFunctionServiceClient::new(channel).delete_network_function(request).await
        }
        KindArg::ReplicaSet => {
            let request = v1::DeleteReplicaSetRequest { name, etag, force, validate_only };
            NetworkFunctionServiceClient::new(channel).delete_replica_set(request).await
        }
        KindArg::Instance => {
            let request = v1::DeleteInstanceRequest { name, etag, validate_only };
            NetworkFunctionServiceClient::new(channel).delete_instance(request).await
        }
    };
    answer.map_err(plain)?;
    say!("{} {}", path.name, if dry_run { "would be deleted" } else { "deleted" })?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::Path;
    use crate::args::KindArg;

    fn name(kind: KindArg, name: Option<&str>, tenant: Option<&str>) -> Option<String> {
        Path::read(kind, name, tenant).ok().map(|path| path.name)
    }

    #[test]
    fn names_have_several_forms() {
        let web = Some("tenants/acme/graphs/web".to_owned());
        assert_eq!(name(KindArg::Graph, Some("acme/web"), None), web);
        assert_eq!(name(KindArg::Graph, Some("web"), Some("acme")), web);
        assert_eq!(name(KindArg::Graph, Some("tenants/acme/graphs/web"), None), web);
        assert_eq!(name(KindArg::Graph, Some("web"), None), None);
        assert_eq!(name(KindArg::Graph, None, None), Some("tenants/-".to_owned()));
        assert_eq!(name(KindArg::Graph, None, Some("acme")), Some("tenants/acme".to_owned()));
        let parent = Some("networkFunctions/-/replicaSets/-".to_owned());
        assert_eq!(name(KindArg::Instance, None, None), parent);
        assert_eq!(name(KindArg::Tenant, None, None), Some(String::new()));
        assert_eq!(name(KindArg::Tenant, Some("acme"), Some("acme")), None);
    }
}
