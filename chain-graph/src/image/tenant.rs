//! One tenant's share of an image.

use super::BuildError;
use super::views::{GraphImage, Numbering};
use crate::check::{Resolved, ResolvedGraph};
use crate::cidr::{Cidr, addr_of};
use crate::digest::Digest;
use crate::model::{Attachment, Budget, NetworkFunction, ResourceName, Side, Tenancy, Tenant, VlanId};
use crate::outside::{Claim, by_prefix};
use crate::plan::{ActiveViews, Canary, OutsideBlocks, OutsideOwner, Plan, ViewRef};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use xdp_layout::plan::{OUTSIDE_RANGES_MAX, OutsideOwners, OutsideRange};
use xdp_layout::{Addr, AttachmentId, GraphId, InstanceId, ReplicaSetId, TenantId, ViewId};

/// Everything the data plane needs for one tenant. Immutable and shared between images: two images whose `Arc`s for a
/// tenant are the same need no comparing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantImage {
    pub(super) source: Arc<Tenant>,
    pub(super) last_view: Option<ViewId>,
    attachments: BTreeMap<AttachmentId, AttachmentImage>,
    graphs: BTreeMap<GraphId, GraphImage>,
    routes: BTreeMap<Route, Option<AttachmentId>>,
    outside_blocks: Option<Arc<OutsideBlocks>>,
    outside: BTreeMap<Cidr, OutsideOwners>,
    origins: BTreeMap<ReplicaSetId, GraphId>,
    owned: BTreeSet<Addr>,
    ports: BTreeMap<PortName, PortBinding>,
    tags: BTreeMap<InstanceId, VlanId>,
}

/// An attachment as a destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttachmentImage {
    /// Its name.
    pub name: ResourceName,
    /// Its side.
    pub side: Side,
    /// Name of the interface.
    pub interface: Arc<str>,
    /// VLAN to push.
    pub vlan: Option<VlanId>,
    /// The graph that uses it.
    pub graph: Option<GraphId>,
}

/// A prefix on a side of a graph. Of several that hold an address the longest decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Route {
    /// The graph.
    pub graph: GraphId,
    /// The side.
    pub side: Side,
    /// The prefix.
    pub prefix: Cidr,
}

/// Where frames of the tenant arrive.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortName {
    /// Name of the interface.
    pub interface: Arc<str>,
    /// VLAN on it.
    pub vlan: Option<VlanId>,
}

/// What a port is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PortBinding {
    /// An attachment.
    Attachment {
        /// Which one.
        id: AttachmentId,
        /// Its side.
        side: Side,
        /// The graph that uses it.
        graph: Option<GraphId>,
    },
    /// A port of an instance that the tenant's graphs use.
    Instance {
        /// Which one.
        id: InstanceId,
        /// Its side; `Client` for the only port of a one-armed instance.
        side: Side,
    },
}

/// What a tenant's graphs were given before.
pub(super) struct Before<'a> {
    pub(super) plan: Option<&'a Plan>,
    pub(super) image: Option<&'a TenantImage>,
    pub(super) last_view: Option<ViewId>,
}

impl TenantImage {
    /// Owner.
    pub fn id(&self) -> TenantId {
        self.source.id
    }
    /// Its name.
    pub fn name(&self) -> &ResourceName {
        &self.source.name
    }
    /// Its share of the connection table.
    pub fn budget(&self) -> Budget {
        self.source.budget
    }
    /// All its attachments.
    pub fn attachments(&self) -> &BTreeMap<AttachmentId, AttachmentImage> {
        &self.attachments
    }
    /// Its graphs.
    pub fn graphs(&self) -> &BTreeMap<GraphId, GraphImage> {
        &self.graphs
    }
    /// Which attachment takes an address. `None` keeps IPv4 addresses out of an IPv6 prefix that formally holds them (`::/0`).
    pub fn routes(&self) -> &BTreeMap<Route, Option<AttachmentId>> {
        &self.routes
    }
    /// Owners of outside addresses: of several prefixes that hold an address the longest has them all.
    pub fn outside(&self) -> &BTreeMap<Cidr, OutsideOwners> {
        &self.outside
    }
    /// The same as the plan has them.
    pub fn outside_blocks(&self) -> Option<&Arc<OutsideBlocks>> {
        self.outside_blocks.as_ref()
    }
    /// The graph in which frames of a replica set go on that have no record: those of a tuple it made, or of a flow that is
    /// forwarded without one.
    pub fn origins(&self) -> &BTreeMap<ReplicaSetId, GraphId> {
        &self.origins
    }
    /// Addresses for which the front end answers ARP and neighbour solicitations.
    pub fn owned(&self) -> &BTreeSet<Addr> {
        &self.owned
    }
    /// Where its frames arrive: attachments and ports of the instances its installed views use.
    pub fn ports(&self) -> &BTreeMap<PortName, PortBinding> {
        &self.ports
    }
    /// Its tags at shared instances.
    pub fn tags(&self) -> &BTreeMap<InstanceId, VlanId> {
        &self.tags
    }
    /// The highest view number it was ever given.
    pub fn last_view(&self) -> Option<ViewId> {
        self.last_view
    }

    /// Builds a tenant's image. A version of a graph keeps its view if the content is that of an installed one.
    pub(super) fn build(
        tenant: &Arc<Tenant>,
        attachments: &[&Arc<Attachment>],
        graphs: &[&Arc<ResolvedGraph>],
        before: &Before<'_>,
    ) -> Result<Self, BuildError> {
        let mut image = Self {
            source: Arc::clone(tenant),
            last_view: before.last_view,
            attachments: BTreeMap::new(),
            graphs: BTreeMap::new(),
            routes: BTreeMap::new(),
            outside_blocks: None,
            outside: BTreeMap::new(),
            origins: BTreeMap::new(),
            owned: BTreeSet::new(),
            ports: BTreeMap::new(),
            tags: BTreeMap::new(),
        };
        for resolved in graphs {
            image.add_graph(resolved, before)?;
        }
        for attachment in attachments {
            image.add_attachment(attachment, graphs);
        }
        let installed = image.installed(graphs);
        image.add_functions(&installed);
        Ok(image)
    }

    fn add_graph(&mut self, resolved: &ResolvedGraph, before: &Before<'_>) -> Result<(), BuildError> {
        let graph = resolved.stable.graph.id;
        let routes = self.add_routes(graph, &resolved.stable);
        let known = before.plan.and_then(|plan| plan.content().graphs.get(&graph));
        let known = known.filter(|active| active.tenant == self.source.id);
        let image = before.image.and_then(|image| image.graphs().get(&graph));
        let mut numbering = Numbering::new(&self.source, graph, known.map(|known| &**known), image, self.last_view);
        let stable = numbering.number(&resolved.stable.content, known.map(|known| known.stable.id))?;
        let mut canary = None;
        if let Some((candidate, share)) = &resolved.candidate {
            canary = Some(Canary { view: numbering.number(&candidate.content, Some(stable.id))?, share: *share });
        }
        let draining = resolved.draining.iter().filter_map(|old| numbering.installed(&old.content));
        let draining: BTreeSet<ViewRef> = draining.collect();
        let is_active = |view: &ViewRef| view.id == stable.id || canary.is_some_and(|canary| view.id == canary.view.id);
        let draining = draining.into_iter().filter(|view| !is_active(view)).collect();
        let (views, last_view) = numbering.finish();
        self.last_view = last_view;
        let active = Arc::new(ActiveViews { tenant: self.source.id, stable, canary, draining, routes });
        self.graphs.insert(graph, GraphImage { name: resolved.stable.graph.name.clone(), active, views });
        Ok(())
    }

    /// Whether a version of a graph is among the installed views.
    pub(super) fn installs(&self, version: &Resolved) -> bool {
        let graph = self.graphs.get(&version.graph.id);
        graph.is_some_and(|graph| graph.views.values().any(|view| view.digest() == version.content.digest()))
    }

    /// The installed versions of all graphs: stable ones, then candidates, then draining ones.
    fn installed<'r>(&self, graphs: &[&'r Arc<ResolvedGraph>]) -> Vec<&'r Arc<Resolved>> {
        let stable = graphs.iter().map(|graph| &graph.stable);
        let candidates = graphs.iter().filter_map(|graph| Some(&graph.candidate.as_ref()?.0));
        let draining = graphs.iter().flat_map(|graph| &graph.draining).filter(|old| self.installs(old));
        stable.chain(candidates).chain(draining).collect()
    }

    /// Enters a graph's routes; returns their digest.
    fn add_routes(&mut self, graph: GraphId, resolved: &Resolved) -> u64 {
        let mut routes = BTreeMap::new();
        for (side, attachment) in &resolved.attachments {
            for prefix in attachment.taken_prefixes() {
                routes.insert(Route { graph, side: *side, prefix }, Some(attachment.id));
                if prefix.length() < Cidr::V4.length() && prefix.covers(Cidr::V4) {
                    routes.entry(Route { graph, side: *side, prefix: Cidr::V4 }).or_insert(None);
                }
            }
        }
        let mut digest = Digest::new();
        for (route, attachment) in &routes {
            digest.number(route.side as u8).bytes(&route.prefix.addr().0).number(route.prefix.length());
            digest.number(attachment.map_or(0, AttachmentId::get));
        }
        self.routes.append(&mut routes);
        digest.finish()
    }

    fn add_attachment(&mut self, attachment: &Attachment, graphs: &[&Arc<ResolvedGraph>]) {
        let mut stable = graphs.iter().map(|graph| &graph.stable);
        let user = stable.find(|resolved| resolved.attachments.iter().any(|(_, used)| used.id == attachment.id));
        let graph = user.map(|resolved| resolved.graph.id);
        let interface: Arc<str> = attachment.interface.as_str().into();
        let port = PortName { interface: Arc::clone(&interface), vlan: attachment.vlan };
        self.ports.insert(port, PortBinding::Attachment { id: attachment.id, side: attachment.side, graph });
        let image = AttachmentImage {
            name: attachment.name.clone(),
            side: attachment.side,
            interface,
            vlan: attachment.vlan,
            graph,
        };
        self.attachments.insert(attachment.id, image);
    }

    /// Enters what the installed versions use. A replica set that none of them names goes on in the graph that comes first.
    fn add_functions(&mut self, installed: &[&Arc<Resolved>]) {
        let mut functions: BTreeMap<&ResourceName, (&Arc<NetworkFunction>, GraphId)> = BTreeMap::new();
        for resolved in installed {
            for function in &resolved.functions {
                functions.entry(&function.name).or_insert((function, resolved.graph.id));
            }
        }
        let mut blocks = Vec::new();
        for (function, graph) in functions.into_values() {
            let vlan = match &function.tenancy {
                Tenancy::Exclusive => None,
                Tenancy::Tagged { tags, .. } => tags.get(&self.source.name).copied(),
            };
            self.owned.extend(function.addresses.iter().map(|ip| addr_of(*ip)));
            for set in function.replica_sets.values() {
                // Flows of a version that no graph names any more go on in the graph that uses the function.
                self.origins.insert(set.id, graph);
                for instance in set.instances.values() {
                    self.add_instance(vlan, instance);
                    blocks.extend(instance.outside.iter().map(|block| OutsideOwner {
                        prefix: block.prefix.trunc(),
                        ports: block.ports(),
                        instance: instance.id,
                    }));
                }
            }
        }
        for resolved in installed {
            for (_, set) in resolved.replica_sets() {
                self.origins.insert(set.id, resolved.graph.id);
            }
        }
        if !blocks.is_empty() {
            let mut claims: Vec<_> = blocks
                .iter()
                .map(|block| Claim { prefix: block.prefix.into(), ports: block.ports, owner: block.instance })
                .collect();
            self.outside =
                by_prefix(&mut claims).into_iter().map(|(prefix, ranges)| (prefix, owners(&ranges))).collect();
            self.outside_blocks = Some(Arc::new(blocks.into()));
        }
    }

    /// `vlan` is the tenant's tag at the instance's function.
    fn add_instance(&mut self, vlan: Option<VlanId>, instance: &crate::model::Instance) {
        if let Some(vlan) = vlan {
            self.tags.insert(instance.id, vlan);
        }
        for side in [Side::Server, Side::Client] {
            let port = PortName { interface: instance.ports.at(side).interface.as_str().into(), vlan };
            self.ports.insert(port, PortBinding::Instance { id: instance.id, side });
        }
    }
}

fn owners(ranges: &[(crate::model::PortRange, InstanceId)]) -> OutsideOwners {
    let mut owners = OutsideOwners { ranges: [OutsideRange::default(); OUTSIDE_RANGES_MAX] };
    for (entry, (ports, instance)) in owners.ranges.iter_mut().zip(ranges) {
        *entry = OutsideRange { low: ports.first, high: ports.last, instance: instance.get(), reserved: 0 };
    }
    owners
}
