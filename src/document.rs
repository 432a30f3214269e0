//! Documents: resources as YAML, in the manner of Kubernetes.
//!
//! ```yaml
//! apiVersion: switchyard.dev/v1alpha1
//! kind: Graph
//! metadata: {name: web, tenant: acme}
//! spec: {...}
//! ```
//!
//! `metadata` has, besides the name, the owner: `tenant` for attachments and graphs, `networkFunction` for replica
//! sets, both `networkFunction` and `replicaSet` for instances. `spec` is the serial form of the API's message.

use api::v1;
use api::v1::resource::Resource as Union;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The only version.
const API_VERSION: &str = "switchyard.dev/v1alpha1";

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
}

/// Who a resource is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Metadata {
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    tenant: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    network_function: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    replica_set: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document<S> {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: S,
}

/// A resource from a document.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Source {
    /// The resource.
    pub(crate) resource: v1::Resource,
    /// `FILE:LINE` of the document's first line.
    pub(crate) place: String,
    /// Kind and name for messages.
    pub(crate) title: String,
}

impl Source {
    /// The graph; `None` if it is another kind of resource.
    pub(crate) fn graph(&self) -> Option<&v1::Graph> {
        match &self.resource.resource {
            Some(Union::Graph(graph)) => Some(graph),
            _ => None,
        }
    }
}

/// Reads all documents of a text.
///
/// # Errors
/// What is wrong with each document that cannot be read, as `FILE:LINE:COLUMN: message`.
pub(crate) fn read(file: &str, text: &str) -> Result<Vec<Source>, Vec<String>> {
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    for (first_line, part) in split(text) {
        match read_one(file, first_line, part) {
            Ok(source) => sources.push(source),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(sources) } else { Err(problems) }
}

/// The parts between lines that begin with `---`, with the numbers of their first lines. Parts with nothing but comments
/// are left out.
fn split(text: &str) -> Vec<(u64, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut first_line, mut offset) = (0, 1, 0);
    for (line, number) in text.split_inclusive('\n').zip(1u64..) {
        let ends =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if ends {
            parts.push((first_line, &text[start..offset]));
            start = offset + line.len();
            first_line = number + 1;
        }
        offset += line.len();
    }
    parts.push((first_line, &text[start..]));
    let is_content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    parts.retain(|(_, part)| part.lines().any(is_content));
    parts
}

fn read_one(file: &str, first_line: u64, text: &str) -> Result<Source, String> {
    let at = |line: u64, column: u64| format!("{file}:{}:{column}", first_line + line - 1);
    let head: Head = parse(text, &at)?;
    let fail = |message: String| format!("{}: {message}", at(1, 1));
    if head.api_version != API_VERSION {
        return Err(fail(format!("apiVersion: {:?} is not {API_VERSION}", head.api_version)));
    }
    let (name, union) = match head.kind.as_str() {
        "Tenant" => {
            build::<v1::Tenant>(text, &at, "tenants/{name}", |name, spec| Union::Tenant(v1::Tenant { name, ..spec }))?
        }
        "Attachment" => build::<v1::Attachment>(text, &at, "tenants/{tenant}/attachments/{name}", |name, spec| {
            Union::Attachment(v1::Attachment { name, ..spec })
        })?,
        "NetworkFunction" => build::<v1::NetworkFunction>(text, &at, "networkFunctions/{name}", |name, spec| {
            Union::NetworkFunction(v1::NetworkFunction { name, ..spec })
        })?,
        "ReplicaSet" => build::<v1::ReplicaSet>(
            text,
            &at,
            "networkFunctions/{networkFunction}/replicaSets/{name}",
            |name, spec| Union::ReplicaSet(v1::ReplicaSet { name, ..spec }),
        )?,
        "Instance" => build::<v1::Instance>(
            text,
            &at,
            "networkFunctions/{networkFunction}/replicaSets/{replicaSet}/instances/{name}",
            |name, spec| Union::Instance(v1::Instance { name, ..spec }),
        )?,
        "Graph" => build::<v1::Graph>(text, &at, "tenants/{tenant}/graphs/{name}", |name, spec| {
            Union::Graph(v1::Graph { name, ..spec })
        })?,
        other => {
            return Err(fail(format!(
                "kind: {other:?} is none of Tenant, Attachment, NetworkFunction, ReplicaSet, Instance, Graph"
            )));
        }
    };
    Ok(Source {
        resource: v1::Resource { resource: Some(union) },
        place: format!("{file}:{first_line}"),
        title: format!("{} {name}", head.kind),
    })
}

fn parse<T: DeserializeOwned>(text: &str, at: &dyn Fn(u64, u64) -> String) -> Result<T, String> {
    serde_saphyr::from_str(text).map_err(|error| {
        let message = error.without_snippet().to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        let place = error.location().map_or_else(|| at(1, 1), |location| at(location.line(), location.column()));
        format!("{place}: {message}")
    })
}

/// Reads the whole document and fills the pattern of its name from `metadata`.
fn build<S: DeserializeOwned>(
    text: &str,
    at: &dyn Fn(u64, u64) -> String,
    pattern: &str,
    wrap: impl Fn(String, S) -> Union,
) -> Result<(String, Union), String> {
    let document: Document<S> = parse(text, at)?;
    let Metadata { name, tenant, network_function, replica_set } = &document.metadata;
    let mut full = pattern.to_owned();
    for (field, value) in
        [("name", name), ("tenant", tenant), ("networkFunction", network_function), ("replicaSet", replica_set)]
    {
        let slot = format!("{{{field}}}");
        match (pattern.contains(&slot), value.is_empty()) {
            (true, true) => return Err(format!("{}: metadata.{field} must be given", at(1, 1))),
            (false, false) => {
                return Err(format!("{}: metadata.{field} does not belong to a {}", at(1, 1), document.kind));
            }
            _ => full = full.replace(&slot, value),
        }
    }
    Ok((full.clone(), wrap(full, document.spec)))
}

/// A resource as a document; `None` if there is none in it.
pub(crate) fn write(resource: &v1::Resource) -> Option<serde_json::Value> {
    match resource.resource.as_ref()? {
        Union::Tenant(spec) => value("Tenant", &spec.name, spec),
        Union::Attachment(spec) => value("Attachment", &spec.name, spec),
        Union::NetworkFunction(spec) => value("NetworkFunction", &spec.name, spec),
        Union::ReplicaSet(spec) => value("ReplicaSet", &spec.name, spec),
        Union::Instance(spec) => value("Instance", &spec.name, spec),
        Union::Graph(spec) => value("Graph", &spec.name, spec),
    }
}

fn value<S: Serialize>(kind: &str, name: &str, spec: &S) -> Option<serde_json::Value> {
    let mut metadata = Metadata::default();
    let parts: Vec<&str> = name.split('/').collect();
    for pair in parts.chunks(2) {
        let [collection, part] = pair else { continue };
        let field = match *collection {
            "tenants" => &mut metadata.tenant,
            "networkFunctions" => &mut metadata.network_function,
            "replicaSets" => &mut metadata.replica_set,
            _ => continue,
        };
        *field = (*part).to_owned();
    }
    metadata.name = parts.last().map(|part| (*part).to_owned())?;
    match kind {
        "Tenant" => metadata.tenant.clear(),
        "NetworkFunction" => metadata.network_function.clear(),
        "ReplicaSet" => metadata.replica_set.clear(),
        _ => {}
    }
    let (api_version, kind) = (API_VERSION.to_owned(), kind.to_owned());
    serde_json::to_value(Document { api_version, kind, metadata, spec }).ok()
}

/// From a field path of the API to one of the document: `graph.edges[0].match.client_ports` to `spec.edges[0].match.clientPorts`.
pub(crate) fn field(path: &str) -> String {
    match path.split_once('.') {
        Some((_, "name")) | None => "metadata".to_owned(),
        Some((_, rest)) => {
            let mut text = String::from("spec.");
            let mut raise = false;
            for letter in rest.chars() {
                match letter {
                    '_' => raise = true,
                    letter if raise => {
                        text.push(letter.to_ascii_uppercase());
                        raise = false;
                    }
                    letter => text.push(letter),
                }
            }
            text
        }
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
