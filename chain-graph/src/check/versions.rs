//! The versions of one graph: resolved each by itself, compared with the stable one.

use super::graph::{Names, Resolved, resolve};
use super::of_tenant;
use super::place::{GraphPlace, Version};
use super::violation::{Report, ViolationKind as Kind};
use crate::map::Map;
use crate::model::{Desired, Graph, ObjectKey, ResourceName, Versions};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A graph's versions without violations. Draining versions that do not resolve are left out.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedGraph {
    pub(crate) stable: Arc<Resolved>,
    /// With its share of new flows in 1/65535.
    pub(crate) candidate: Option<(Arc<Resolved>, u16)>,
    pub(crate) draining: Vec<Arc<Resolved>>,
}

impl ResolvedGraph {
    /// All versions, the stable one first, draining ones last.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &Arc<Resolved>> {
        let candidate = self.candidate.iter().map(|(candidate, _)| candidate);
        [&self.stable].into_iter().chain(candidate).chain(&self.draining)
    }

    /// The functions that they name.
    pub(crate) fn function_names(&self) -> impl Iterator<Item = &ResourceName> {
        self.versions().flat_map(|version| &version.functions).map(|function| &function.name)
    }
}

/// By the identity of their parts: whatever they name is then the same, too.
impl PartialEq for ResolvedGraph {
    fn eq(&self, other: &Self) -> bool {
        let share = |graph: &Self| graph.candidate.as_ref().map(|(_, share)| *share);
        share(self) == share(other)
            && self.draining.len() == other.draining.len()
            && self.versions().zip(other.versions()).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

impl Eq for ResolvedGraph {}

/// Checks a graph's versions one by one. `known` is what they were before; what has not changed since is taken from there.
/// `None` if there is no such graph, or if the stable version or the candidate has violations, which are reported.
pub(super) fn resolve_graph(
    names: Names<'_>,
    key: &ObjectKey,
    known: Option<&Arc<ResolvedGraph>>,
    report: &mut Report,
) -> Option<Arc<ResolvedGraph>> {
    let desired = names.desired;
    let nothing = Versions::default();
    let versions = desired.versions.get(key).map_or(&nothing, |versions| &**versions);
    let Some(graph) = desired.graphs.get(key) else {
        if versions.candidate.is_some() {
            let place = GraphPlace { key, version: Version::Candidate };
            report.add(Kind::UnknownGraph, place.to_string(), format!("there is no graph {key} to be a version of"));
        }
        return None;
    };
    let fresh = |graph: &Arc<Graph>, version, report: &mut Report| {
        let same = known.into_iter().flat_map(|known| known.versions()).find(|known| known.is_of(names, graph));
        let resolved = same.cloned();
        resolved.or_else(|| resolve(names, GraphPlace { key, version }, graph, report).map(Arc::new))
    };
    let stable = fresh(graph, Version::Stable, report);
    let candidate = match &versions.candidate {
        Some(candidate) => {
            compare(graph, &candidate.graph, key, report);
            Some((fresh(&candidate.graph, Version::Candidate, report)?, candidate.share))
        }
        None => None,
    };
    let draining = versions.draining.iter().filter(|old| old.key() == *key && old.id == graph.id);
    let draining = draining.filter_map(|old| fresh(old, Version::Draining, &mut Report::default())).collect();
    let resolved = ResolvedGraph { stable: stable?, candidate, draining };
    Some(known.filter(|known| ***known == resolved).cloned().unwrap_or_else(|| Arc::new(resolved)))
}

/// What a candidate must have in common with its graph. Another tenant or name is reported where it is resolved.
fn compare(graph: &Graph, candidate: &Graph, key: &ObjectKey, report: &mut Report) {
    let place = GraphPlace { key, version: Version::Candidate };
    if candidate.id != graph.id {
        let message = format!("a version of graph {key} has its number, {}, not {}", graph.id, candidate.id);
        report.add(Kind::IdDiffers, format!("{place}.id"), message);
    }
    for (side, of_graph, own) in
        [("client", &graph.client, &candidate.client), ("server", &graph.server, &candidate.server)]
    {
        let names = |list: &[ResourceName]| list.iter().cloned().collect::<BTreeSet<_>>();
        if names(of_graph) != names(own) {
            let message = format!(
                "all versions of graph {key} have the same attachments on the {side} side: an attachment leads to a graph, \
                 not to a version of it; change the graph's attachments first, with an ordinary apply"
            );
            report.add(Kind::AttachmentsDiffer, format!("{place}.{side}"), message);
        }
    }
}

/// All versions that rules between graphs apply to: those declared, resolved or not, and the draining ones that resolve.
/// Stable versions come first, then candidates, then draining ones; within each, keys in their order.
#[derive(Clone, Copy)]
pub(super) struct AllVersions<'a> {
    pub(super) desired: &'a Desired,
    pub(super) resolved: &'a Map<ObjectKey, Arc<ResolvedGraph>>,
}

impl<'a> AllVersions<'a> {
    /// Of these graphs.
    pub(super) fn among<'k>(
        self,
        keys: impl Iterator<Item = &'k ObjectKey> + Clone,
    ) -> impl Iterator<Item = (GraphPlace<'a>, &'a Graph)> {
        arrange(
            keys.clone().filter_map(move |key| self.desired.graphs.get_key_value(key)),
            keys.clone().filter_map(move |key| self.desired.versions.get_key_value(key)),
            keys.filter_map(move |key| self.resolved.get_key_value(key)),
        )
    }

    /// Of one tenant.
    pub(super) fn of(self, tenant: &ResourceName) -> impl Iterator<Item = (GraphPlace<'a>, &'a Graph)> {
        arrange(
            of_tenant(&self.desired.graphs, tenant),
            of_tenant(&self.desired.versions, tenant),
            of_tenant(self.resolved, tenant),
        )
    }
}

fn arrange<'a>(
    stable: impl Iterator<Item = (&'a ObjectKey, &'a Arc<Graph>)>,
    versions: impl Iterator<Item = (&'a ObjectKey, &'a Arc<Versions>)>,
    resolved: impl Iterator<Item = (&'a ObjectKey, &'a Arc<ResolvedGraph>)>,
) -> impl Iterator<Item = (GraphPlace<'a>, &'a Graph)> {
    let place = |key, version| GraphPlace { key, version };
    let stable = stable.map(move |(key, graph)| (place(key, Version::Stable), &**graph));
    let candidates = versions.filter_map(move |(key, versions)| {
        let candidate = versions.candidate.as_ref()?;
        Some((place(key, Version::Candidate), &*candidate.graph))
    });
    let draining = resolved.flat_map(move |(key, graph)| {
        graph.draining.iter().map(move |old| (place(key, Version::Draining), &*old.graph))
    });
    stable.chain(candidates).chain(draining)
}
