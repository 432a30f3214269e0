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
    desired.versions = chain_graph::map::Map::new();
    let place = error::Place::Nowhere;
    let checked = check_after(Some(state.checked()), &Arc::new(desired));
    let checked =
        checked.map_err(|violations| error::rejected(&Rejected { refusals: Vec::new(), violations }, &place))?;
    let image = Image::build(Some(base), &checked, state.setting().cluster);
    image.map(Arc::new).map_err(|error| error::rejected(&Refusal::Build(error).into(), &place))
}

#[cfg(test)]
mod tests {
    use super::{image_with, version};
    use chain_graph::Cluster;
    use chain_graph::diff::{Comparison, Sampling};
    use chain_graph::model::{Budget, EdgeFrom, EdgeMatch, EdgeTo, GraphEdge, ObjectKey, Protocol, ResourceName, Side};
    use chain_graph::rollout::Timestamp;
    use state_sync::{AttachmentSpec, Command, DesiredState, GraphSpec, Resource, Setting, TenantSpec};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn name(text: &str) -> ResourceName {
        ResourceName::new(text).expect("a name")
    }

    /// A graph without functions, for flows of these protocols.
    fn graph(protocols: &[u8]) -> GraphSpec {
        let edge = |protocol: &u8| GraphEdge {
            from: EdgeFrom::Client,
            to: EdgeTo::Server,
            matches: Some(EdgeMatch { protocol: Protocol::new(*protocol), ..EdgeMatch::default() }),
        };
        GraphSpec {
            tenant: name("acme"),
            name: name("web"),
            client: vec![name("client")],
            server: vec![name("server")],
            nodes: Vec::new(),
            edges: protocols.iter().map(edge).collect(),
        }
    }

    fn state() -> DesiredState {
        let cluster = Cluster { incarnation: 1, seed: [1, 2] };
        let empty = DesiredState::empty(Setting { capacity: 1_000, cluster }).expect("nothing is wrong");
        let budget = Budget { unanswered: 10, established: 10 };
        let attachment = |side: Side| {
            Resource::Attachment(AttachmentSpec {
                tenant: name("acme"),
                name: name(side.name()),
                side,
                interface: side.name().to_owned(),
                vlan: None,
                prefixes: Vec::new(),
            })
        };
        let resources = [
            Resource::Tenant(TenantSpec { name: name("acme"), vni: None, budget }),
            attachment(Side::Client),
            attachment(Side::Server),
            Resource::Graph(graph(&[1])),
        ];
        resources
            .into_iter()
            .fold(empty, |state, resource| state.apply(&Command::put(resource), NOW).expect("nothing is wrong").state)
    }

    #[test]
    fn versions_that_are_not_installed_have_numbers_of_their_own() {
        let (state, key) = (state(), ObjectKey::new(&name("acme"), &name("web")));
        let before = image_with(&state, state.image(), &key, graph(&[6, 17])).expect("it goes with the rest");
        let after = image_with(&state, &before, &key, graph(&[6])).expect("it goes with the rest");
        let diff = Comparison::new(&before, &after).diff(Sampling { flows: 1_000, seed: 1 });
        let risk = &diff.tenants[0].graphs[0].risk;
        assert!(risk.at_risk == 1_000 && (300..700).contains(&risk.diverted), "{risk:?}");
    }

    #[test]
    fn a_version_is_named_by_its_role_or_number() {
        let (state, key) = (state(), ObjectKey::new(&name("acme"), &name("web")));
        let versions = state.versions(&key);
        assert_eq!(version(&versions, "stable"), Ok(graph(&[1])));
        assert_eq!(version(&versions, &versions[0].view.to_string()), Ok(graph(&[1])));
        assert_eq!(version(&versions, "candidate"), Err("there is no candidate".to_owned()));
        assert!(version(&versions, "77").is_err_and(|error| error.contains("not remembered")));
        assert!(version(&versions, "newest").is_err_and(|error| error.contains("is not stable, candidate")));
    }
}
