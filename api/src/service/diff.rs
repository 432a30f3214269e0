//! What changes would do to flows: images compared, on a thread where that may take its time.

use super::rollout::missing;
use crate::convert::{self, Names};
use crate::error;
use crate::fields::Violations;
use crate::v1;
use chain_graph::diff::{Comparison, Sampling};
use chain_graph::model::{Desired, Graph, ObjectKey};
use chain_graph::{Image, check_after};
use state_sync::{DesiredState, GraphSpec, Refusal, Rejected, Role, Version};
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::Status;

/// Flows drawn for each graph if the request does not say: a standard error of at most 0.16 percentage points.
const FLOWS: u32 = 100_000;
/// The most.
const FLOWS_MAX: u32 = 1_000_000;

/// Reads how many flows are to be drawn, and from which seed.
pub(super) fn sampling(violations: &mut Violations, flows: u32, seed: u64) -> Sampling {
    if flows > FLOWS_MAX {
        violations.add("sample_flows", format!("{flows} is above {FLOWS_MAX}"));
    }
    Sampling { flows: if flows == 0 { FLOWS } else { flows.min(FLOWS_MAX) }, seed }
}

/// What differs between two images.
pub(super) async fn compare(
    before: Arc<Image>,
    after: Arc<Image>,
    sampling: Sampling,
) -> Result<(Vec<v1::GraphDiff>, Vec<v1::TableBuild>), Status> {
    let compared = tokio::task::spawn_blocking(move || {
        let names = [&before, &after].map(|image| Names::new(image.checked().desired()));
        let diff = Comparison::new(&before, &after).diff(sampling);
        convert::diff(&diff, &names[0], &names[1])
    });
    compared.await.map_err(|error| Status::internal(format!("compare two images: {error}")))
}

/// The version of a graph that a request names.
pub(super) fn version(versions: &[Version], text: &str) -> Result<GraphSpec, String> {
    let is_meant = |version: &&Version| match text {
        "stable" => version.role == Role::Stable,
        "candidate" => version.role == Role::Candidate,
        number => number.parse() == Ok(version.view.get()),
    };
    let found = versions.iter().find(is_meant).map(|version| version.spec.clone());
    found.ok_or_else(|| match (text, text.parse::<u32>()) {
        ("candidate", _) => "there is no candidate".to_owned(),
        (_, Ok(number)) => format!("view {number} is not remembered; the history lists those that are"),
        (_, Err(_)) => format!("{text:?} is not stable, candidate or the number of a view"),
    })
}

/// What there would be after `base` if a graph had this version alone, and every graph its stable one. Two images that are to
/// be compared are built one after the other, so that views with other content have other numbers.
pub(super) fn image_with(
    state: &DesiredState,
    base: &Image,
    key: &ObjectKey,
    spec: GraphSpec,
) -> Result<Arc<Image>, Status> {
    let mut desired: Desired = state.desired().clone();
    let id = desired.graphs.get(key).ok_or_else(|| missing(key))?.id;
    let GraphSpec { tenant, name, client, server, nodes, edges } = spec;
    desired.put_graph(Graph { tenant, name, id, client, server, nodes, edges });
    desired.versions = BTreeMap::new();
    let place = error::Place::Nowhere;
    let checked = check_after(Some(state.checked()), &Arc::new(desired));
    let checked =
        checked.map_err(|violations| error::rejected(&Rejected { refusals: Vec::new(), violations }, &place))?;
    let image = Image::build(Some(base), &checked, state.setting().cluster);
    image.map(Arc::new).map_err(|error| error::rejected(&Refusal::Build(error).into(), &place))
}
