//! `apply` and `diff`.

use super::diff as risk;
use super::{failure, print, yaml};
use crate::args::{Format, OutputArgs};
use crate::document::{self, Source};
use crate::fail::Failure;
use crate::output::{Shade, note, say, shade};
use api::client::{Channel, ConfigServiceClient};
use api::v1;
use serde_json::json;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Reads all documents of all files, or reports everything that is wrong with any.
pub(crate) fn read_files(files: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        let is_stdin = file.as_path() == Path::new("-");
        let text = if is_stdin {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            std::fs::read_to_string(file)
        };
        let name = if is_stdin { "stdin".to_owned() } else { file.display().to_string() };
        match text.map_err(|error| vec![format!("read {name}: {error}")]).and_then(|text| document::read(&name, &text))
        {
            Ok(found) => sources.extend(found),
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        return Err(Failure::all(problems).hint("nothing was sent; correct all of these and repeat."));
    }
    if sources.is_empty() { Err(Failure::new("there are no documents in the input")) } else { Ok(sources) }
}

/// Turns `resources[3].graph.edges[1].to` into the place of the document and the field in it.
fn place(sources: &[Source], field: &str) -> String {
    let located = field.strip_prefix("resources[").and_then(|rest| {
        let (index, rest) = rest.split_once(']')?;
        let source = sources.get(index.parse::<usize>().ok()?)?;
        Some(format!("{}: {}: {}", source.place, source.title, document::field(rest.trim_start_matches('.'))))
    });
    located.unwrap_or_else(|| field.to_owned())
}

/// `apply`.
pub(crate) async fn apply(
    channel: Channel,
    sources: Vec<Source>,
    dry_run: bool,
    prune: bool,
    output: OutputArgs,
) -> Result<ExitCode, Failure> {
    let request = v1::ApplyRequest {
        resources: sources.iter().map(|source| source.resource.clone()).collect(),
        prune,
        validate_only: dry_run,
        request_id: String::new(),
    };
    let answer = client(channel).apply(request).await;
    let answer = answer.map_err(|status| failure(&status, |field| place(&sources, field)))?.into_inner();
    let rows: Vec<Vec<String>> =
        answer.changes.iter().map(|change| vec![change.name.clone(), action(change).to_owned()]).collect();
    let changes = answer.changes.iter().map(|change| json!({"name": change.name, "action": action(change)}));
    let value = json!({
        "changes": changes.collect::<Vec<_>>(),
        "generation": answer.generation,
        "programmed": answer.programmed,
        "reason": answer.reason,
        "dryRun": dry_run,
    });
    print(&value, output, &["NAME", "ACTION"], &rows)?;
    if dry_run {
        note!("dry run: nothing was changed");
    } else if !answer.programmed {
        note!("warning: stored, but not all of it is in the data path yet: {}", answer.reason);
        note!("hint: it is tried again until it succeeds; see `switchyard status`.");
    }
    Ok(ExitCode::SUCCESS)
}

/// `diff`.
pub(crate) async fn diff(
    channel: Channel,
    sources: Vec<Source>,
    prune: bool,
    sample_flows: u32,
    output: OutputArgs,
) -> Result<ExitCode, Failure> {
    let resources = sources.iter().map(|source| source.resource.clone()).collect();
    let answer = client(channel).diff(v1::DiffRequest { resources, prune, sample_flows, seed: 0 }).await;
    let answer = answer.map_err(|status| failure(&status, |field| place(&sources, field)))?.into_inner();
    let code = if answer.changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) };
    if output.output != Format::Table {
        print(&diff_value(&answer), output, &[], &[])?;
        return Ok(code);
    }
    for change in &answer.changes {
        say!("{} {}", action(change), change.name)?;
        let text = |resource: &Option<v1::Resource>| match resource.as_ref().and_then(document::write) {
            Some(document) => yaml(&document["spec"]),
            None => Ok(String::new()),
        };
        let (before, after) = (text(&change.before)?, text(&change.after)?);
        for (mark, line) in lines(&before, &after) {
            match mark {
                '+' => say!("{}", shade(&format!("  +{line}"), Shade::Good))?,
                '-' => say!("{}", shade(&format!("  -{line}"), Shade::Bad))?,
                _ => say!("   {line}")?,
            }
        }
    }
    for graph in &answer.graphs {
        risk::say_graph(graph)?;
    }
    risk::say_tables(&answer.tables)?;
    Ok(code)
}

fn diff_value(answer: &v1::DiffResponse) -> serde_json::Value {
    let document = |resource: &Option<v1::Resource>| resource.as_ref().and_then(document::write);
    let changes = answer.changes.iter().map(|change| {
        let (before, after) = (document(&change.before), document(&change.after));
        json!({"name": change.name, "action": action(change), "before": before, "after": after})
    });
    json!({
        "changes": changes.collect::<Vec<_>>(),
        "graphs": answer.graphs.iter().map(risk::graph_value).collect::<Vec<_>>(),
        "tables": risk::tables_value(&answer.tables),
    })
}

fn client(channel: Channel) -> ConfigServiceClient<Channel> {
    ConfigServiceClient::new(channel).max_encoding_message_size(16 << 20).max_decoding_message_size(64 << 20)
}

fn action(change: &v1::ResourceChange) -> &'static str {
    match change.action() {
        v1::ChangeAction::Created => "created",
        v1::ChangeAction::Updated => "updated",
        v1::ChangeAction::Unchanged => "unchanged",
        v1::ChangeAction::Deleted => "deleted",
        v1::ChangeAction::Unspecified => "unknown",
    }
}

/// Lines of both texts with `+`, `-` or a space: what their longest common subsequence leaves.
fn lines<'a>(before: &'a str, after: &'a str) -> Vec<(char, &'a str)> {
    let (a, b): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let mut common = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut marked) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            marked.push((' ', a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            marked.push(('-', a[i]));
            i += 1;
        } else {
            marked.push(('+', b[j]));
            j += 1;
        }
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::{lines, place};
    use crate::document::Source;

    #[test]
    fn differences_keep_what_both_have() {
        assert_eq!(lines("a\nb\nc", "a\nx\nc\nd"), [(' ', "a"), ('-', "b"), ('+', "x"), (' ', "c"), ('+', "d")]);
        assert_eq!(lines("", "a"), [('+', "a")]);
        assert_eq!(lines("a", ""), [('-', "a")]);
    }

    #[test]
    fn violations_point_into_documents() {
        let source = Source { resource: Default::default(), place: "f.yaml:7".to_owned(), title: "Graph x".to_owned() };
        let sources = [source];
        assert_eq!(place(&sources, "resources[0].graph.edges[1].to"), "f.yaml:7: Graph x: spec.edges[1].to");
        assert_eq!(place(&sources, "resources[0].graph"), "f.yaml:7: Graph x: metadata");
        assert_eq!(place(&sources, "resources[9].graph.edges"), "resources[9].graph.edges");
    }
}
