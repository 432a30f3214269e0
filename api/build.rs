//! Generates message types, services and the descriptor set from `proto/`, without protoc.

use prost::Message;
use std::path::PathBuf;

const FILES: [&str; 9] = [
    "switchyard/v1/attachment.proto",
    "switchyard/v1/common.proto",
    "switchyard/v1/config.proto",
    "switchyard/v1/flow.proto",
    "switchyard/v1/graph.proto",
    "switchyard/v1/network_function.proto",
    "switchyard/v1/rollout.proto",
    "switchyard/v1/system.proto",
    "switchyard/v1/tenant.proto",
];

/// Messages that also occur in documents; their serial form is that of a document's `spec`.
const DOCUMENT_MESSAGES: [&str; 15] = [
    "Attachment",
    "Budget",
    "EdgeMatch",
    "Graph",
    "GraphEdge",
    "GraphNode",
    "Instance",
    "NetworkFunction",
    "OutsideBlock",
    "Port",
    "PortRange",
    "ReplicaSet",
    "SharedTenancy",
    "Tenant",
    "TenantTag",
];

/// Fields with a document form of their own, and the module that has it.
const DOCUMENT_FIELDS: [(&str, &str); 5] = [
    ("Attachment.side", "side"),
    ("NetworkFunction.forwarding", "forwarding"),
    ("NetworkFunction.tuple_effect", "tuple_effect"),
    ("GraphNode.replica_set", "replica_set"),
    ("TenantTag.tenant", "tenant"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let descriptors = protox::compile(FILES, ["proto"])?;
    std::fs::write(out.join("switchyard.bin"), descriptors.encode_to_vec())?;
    let mut build = tonic_prost_build::configure();
    for message in DOCUMENT_MESSAGES {
        build = build.type_attribute(
            format!(".switchyard.v1.{message}"),
            "#[derive(serde::Serialize, serde::Deserialize)] \
             #[serde(rename_all = \"camelCase\", deny_unknown_fields, default)]",
        );
        if let Some(fields) = descriptors.file.iter().find_map(|file| {
            let found = file.message_type.iter().find(|known| known.name.as_deref() == Some(message))?;
            Some(&found.field)
        }) {
            for field in fields.iter().filter_map(|field| field.name.as_deref()) {
                let path = format!(".switchyard.v1.{message}.{field}");
                let attribute = match (message, field) {
                    // The name is in the document's metadata, the others are output only.
                    (_, "status" | "etag") | ("Attachment" | "Graph" | "ReplicaSet" | "Instance", "id") => {
                        "#[serde(skip)]"
                    }
                    ("Tenant" | "Attachment" | "Graph" | "NetworkFunction" | "ReplicaSet" | "Instance", "name") => {
                        "#[serde(skip)]"
                    }
                    _ => "#[serde(skip_serializing_if = \"crate::document::is_default\")]",
                };
                build = build.field_attribute(&path, attribute);
            }
        }
    }
    for (field, module) in DOCUMENT_FIELDS {
        build = build.field_attribute(
            format!(".switchyard.v1.{field}"),
            format!("#[serde(with = \"crate::document::{module}\")]"),
        );
    }
    build.compile_fds(descriptors)?;
    Ok(())
}
