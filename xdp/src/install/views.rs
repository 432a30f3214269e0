//! Views in the arrays of nodes and edges.

use super::{Delta, Freed, Installer, full};
use crate::error::Result;
use chain_graph::{Image, View};
use std::collections::BTreeSet;
use xdp_layout::plan::{EDGES_MAX, Edge, NODES_MAX, Node, NodeKey, TARGET_EXIT, VIEW_SLOTS_MAX, ViewKey};
use xdp_layout::{TenantId, ViewId};

/// Where an installed view lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct ViewPlace {
    pub(super) slot: u32,
    pub(super) nodes: (u32, u32),
    pub(super) edges: (u32, u32),
}

impl Installer {
    /// Writes the views of changed tenants that are not there.
    pub(super) fn write_views(&mut self, delta: &Delta) -> Result<()> {
        for (tenant, image) in delta.tenants.iter().filter_map(|change| Some((change.key, change.after.as_ref()?))) {
            for (id, view) in image.graphs().values().flat_map(|graph| &graph.views) {
                if !self.views.get(&tenant).is_some_and(|views| views.contains_key(id)) {
                    let place = self.write_view(view)?;
                    self.views.entry(tenant).or_default().insert(*id, place);
                    self.fresh_views.push((tenant, *id));
                }
            }
        }
        Ok(())
    }

    /// Takes views out that the image does not have any more.
    pub(super) fn forget_views(&mut self, image: &Image, delta: &Delta) -> Result<()> {
        let of = |tenant: TenantId| {
            let views = image.tenants().get(&tenant).into_iter().flat_map(|tenant| tenant.graphs().values());
            views.flat_map(|graph| graph.views.keys().copied()).collect::<BTreeSet<ViewId>>()
        };
        let tenants: BTreeSet<TenantId> = if delta.is_full {
            self.views.keys().copied().collect()
        } else {
            delta.tenants.iter().map(|change| change.key).collect()
        };
        for tenant in tenants {
            let wanted = of(tenant);
            let known = self.views.get(&tenant).into_iter().flat_map(|views| views.keys().copied());
            let gone: Vec<_> = known.filter(|view| !wanted.contains(view)).collect();
            gone.into_iter().try_for_each(|view| self.forget_view(tenant, view))?;
            if wanted.is_empty() {
                self.views.remove(&tenant);
            }
        }
        Ok(())
    }

    pub(super) fn forget_view(&mut self, tenant: TenantId, view: ViewId) -> Result<()> {
        let Some(place) = self.views.get(&tenant).and_then(|views| views.get(&view)).copied() else { return Ok(()) };
        self.maps.view_slots.delete(&ViewKey { tenant: tenant.get(), view: view.get() })?;
        self.unindex(place)?;
        if let Some(views) = self.views.get_mut(&tenant) {
            views.remove(&view);
        }
        self.freeing.push(Freed::View(place));
        Ok(())
    }

    fn write_view(&mut self, view: &View) -> Result<ViewPlace> {
        let place = match self.claim_view(view) {
            Ok(place) => place,
            Err(_) => {
                self.reclaim()?;
                self.claim_view(view)?
            }
        };
        if let Err(error) = self.fill_view(view, place) {
            // Nothing leads to a view that was not written to its end. Where what it has in the index cannot be taken out
            // again, its room stays taken: another view there would be found by it.
            if self.unindex(place).is_ok() {
                self.freeing.push(Freed::View(place));
            }
            return Err(error);
        }
        Ok(place)
    }

    /// Takes a view's nodes out of the index.
    fn unindex(&mut self, place: ViewPlace) -> Result<()> {
        for index in place.nodes.0..place.nodes.0 + place.nodes.1 {
            let node: Node = self.maps.nodes.read(index as usize);
            for key in [u32::from(node.position) << 16, u32::from(node.replica_set)] {
                self.maps.node_of.delete(&NodeKey { view_slot: place.slot, position_or_set: key })?;
            }
        }
        Ok(())
    }

    /// Takes room for a view, all of it or none.
    fn claim_view(&mut self, view: &View) -> Result<ViewPlace> {
        let (nodes, edges) = (view.nodes().len() as u32, view.edges().len() as u32);
        let slot = self.slots.take(1).ok_or_else(|| full("view slots", &self.slots, VIEW_SLOTS_MAX))?;
        let Some(first_node) = self.nodes.take(nodes) else {
            self.slots.give(slot, 1);
            return Err(full("view nodes", &self.nodes, NODES_MAX));
        };
        let Some(first_edge) = self.edges.take(edges) else {
            self.slots.give(slot, 1);
            self.nodes.give(first_node, nodes);
            return Err(full("view edges", &self.edges, EDGES_MAX));
        };
        Ok(ViewPlace { slot, nodes: (first_node, nodes), edges: (first_edge, edges) })
    }

    fn fill_view(&mut self, view: &View, place: ViewPlace) -> Result<()> {
        let (nodes, edges) = (view.nodes(), view.edges());
        let ViewPlace { slot, nodes: (node_base, _), edges: (edge_base, _) } = place;
        let placed: Vec<Edge> = edges
            .iter()
            .map(|edge| Edge {
                target: if edge.target == TARGET_EXIT { TARGET_EXIT } else { edge.target + node_base },
                ..*edge
            })
            .collect();
        self.maps.edges.write(edge_base as usize, &placed);
        let placed: Vec<Node> =
            nodes.iter().map(|node| Node { first_edge: node.first_edge + edge_base, ..*node }).collect();
        self.maps.nodes.write(node_base as usize, &placed);
        let header = xdp_layout::plan::View {
            tenant: view.tenant().get(),
            view: view.id().get(),
            graph: view.graph().get().into(),
            first_edge: view.first_edge() + edge_base,
        };
        self.maps.views.write(slot as usize, &[header]);
        // From the lowest position up, so that of two nodes of one replica set the highest stays.
        for (index, node) in nodes.iter().enumerate().rev() {
            let index = node_base + index as u32;
            for key in [u32::from(node.position) << 16, u32::from(node.replica_set)] {
                self.maps.node_of.put(&NodeKey { view_slot: slot, position_or_set: key }, &index)?;
            }
        }
        let key = ViewKey { tenant: header.tenant, view: header.view };
        self.maps.view_slots.put(&key, &slot)
    }
}
