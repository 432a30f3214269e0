//! `rollout history`.

use super::rollout_text::{outcome, seconds};
use super::{plain, print};
use crate::args::OutputArgs;
use crate::document;
use crate::fail::Failure;
use api::client::{Channel, RolloutServiceClient};
use api::v1;
use api::v1::resource::Resource as Union;
use serde_json::{Value, json};
use std::process::ExitCode;

/// `rollout history`.
pub(crate) async fn history(
    mut client: RolloutServiceClient<Channel>,
    graph: String,
    output: OutputArgs,
) -> Result<ExitCode, Failure> {
    let answer = client.list_versions(v1::ListVersionsRequest { graph }).await.map_err(plain)?.into_inner();
    let rows: Vec<Vec<String>> = answer.versions.iter().map(row).collect();
    let values = Value::Array(answer.versions.iter().map(value).collect());
    print(&values, output, &["VIEW", "PARENT", "ROLE", "MADE", "RECORDS", "OUTCOME"], &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn role(version: &v1::GraphVersion) -> String {
    version.role().as_str_name().trim_start_matches("VERSION_ROLE_").to_lowercase()
}

fn row(version: &v1::GraphVersion) -> Vec<String> {
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let parent = if version.parent_view == 0 { String::new() } else { version.parent_view.to_string() };
    vec![
        version.view.to_string(),
        or_dash(parent),
        role(version),
        seconds(version.create_time),
        or_dash(version.records.map(|records| records.to_string()).unwrap_or_default()),
        or_dash(version.outcome_message.clone()),
    ]
}

fn value(version: &v1::GraphVersion) -> Value {
    let graph = version.graph.clone().map(|graph| v1::Resource { resource: Some(Union::Graph(graph)) });
    json!({
        "view": version.view,
        "parentView": (version.parent_view != 0).then_some(version.parent_view),
        "role": role(version),
        "createTime": version.create_time.map(|time| time.to_string()),
        "records": version.records,
        "outcome": outcome(version.outcome()),
        "outcomeMessage": version.outcome_message,
        "graph": graph.as_ref().and_then(document::write),
    })
}

#[cfg(test)]
mod tests {
    use super::{row, value};
    use api::v1;

    #[test]
    fn what_is_not_known_is_a_dash() {
        let first = v1::GraphVersion { view: 1, role: v1::VersionRole::Stable.into(), ..v1::GraphVersion::default() };
        assert_eq!(row(&first), ["1", "-", "stable", "-", "-", "-"]);
        assert!(value(&first)["records"].is_null() && value(&first)["parentView"].is_null());
        let second = v1::GraphVersion {
            view: 2,
            parent_view: 1,
            records: Some(0),
            outcome: v1::RolloutOutcome::Failed.into(),
            outcome_message: "failed: enough".to_owned(),
            ..first
        };
        assert_eq!(row(&second)[1..], ["1", "stable", "-", "0", "failed: enough"]);
        assert_eq!(value(&second)["outcome"], "failed");
    }
}
