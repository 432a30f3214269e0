//! Taking over the maps from an earlier process: what is in use keeps its place, what nobody wants goes.

use super::Installer;
use super::views::ViewPlace;
use crate::error::Result;
use crate::maps::IDS;
use chain_graph::BuiltTable;
use std::collections::BTreeSet;
use xdp_layout::plan::{EDGES_MAX, Edge, NODES_MAX, Node, TableWord};
use xdp_layout::port::{Instance, Target};
use xdp_layout::{AttachmentId, InstanceId, ReplicaSetId, TenantId, ViewId};

impl Installer {
    /// Reads from the maps what is in use: installed views with all they lead to, tables of the active bank.
    pub(super) fn recover(&mut self) -> Result<()> {
        let mut slots = BTreeSet::new();
        for (key, slot) in self.maps.view_slots.all()? {
            let view: xdp_layout::plan::View = self.maps.views.read(slot as usize);
            let (Some(tenant), Some(id)) = (TenantId::new(key.tenant), ViewId::new(key.view)) else {
                continue;
            };
            let place = self.extent(slot, view.first_edge);
            slots.insert(slot);
            self.slots.claim(slot, 1);
            self.nodes.claim(place.nodes.0, place.nodes.1);
            self.edges.claim(place.edges.0, place.edges.1);
            self.views.entry(tenant).or_default().insert(id, place);
        }
        // Keys of a view whose install or removal was cut short.
        for (key, _) in self.maps.node_of.all()? {
            if !slots.contains(&key.view_slot) {
                self.maps.node_of.delete(&key)?;
            }
        }
        for (index, word) in self.banks.recover(&self.maps.plan) {
            if let Some(set) = u16::try_from(*index).ok().and_then(ReplicaSetId::new) {
                let word = TableWord(*word);
                self.pages.claim(word.start(), word.size() + word.members());
                self.tables.recover(set, word);
            }
        }
        Ok(())
    }

    /// The nodes and edges that a view leads to.
    fn extent(&self, slot: u32, first_edge: u32) -> ViewPlace {
        let (mut nodes, mut edges) = ((u32::MAX, 0), (first_edge, first_edge));
        let mut waiting = vec![first_edge];
        let mut seen = BTreeSet::new();
        while let Some(first) = waiting.pop() {
            let mut index = first;
            while index < EDGES_MAX && seen.insert(index) {
                let edge: Edge = self.maps.edges.read(index as usize);
                edges = (edges.0.min(index), edges.1.max(index + 1));
                if edge.target < NODES_MAX {
                    let node: Node = self.maps.nodes.read(edge.target as usize);
                    nodes = (nodes.0.min(edge.target), nodes.1.max(edge.target + 1));
                    waiting.push(node.first_edge);
                }
                index += 1;
                if edge.last != 0 {
                    break;
                }
            }
        }
        let nodes = if nodes.1 == 0 { (0, 0) } else { (nodes.0, nodes.1 - nodes.0) };
        ViewPlace { slot, nodes, edges: (edges.0, edges.1 - edges.0) }
    }

    /// The table that an earlier process wrote, if it has the same bytes.
    pub(super) fn adopt(&self, set: ReplicaSetId, table: &BuiltTable) -> Option<TableWord> {
        let word = self.tables.recovered(set).filter(|word| *word == table.word(word.start()))?;
        let same = |(at, wanted): (usize, u16)| self.maps.pages.read::<u16>(word.start() as usize + at) == wanted;
        table.entries().iter().copied().chain(table.member_words()).enumerate().all(same).then_some(word)
    }

    /// Tenants and destinations that earlier processes left and the first image does not have.
    pub(super) fn sweep_leftovers(&mut self) -> Result<()> {
        let known = self.maps.tenants.all()?.into_iter().map(|(id, _)| id);
        let is_tenant = |id: &u32| TenantId::new(*id).is_some_and(|id| self.tenants.contains_key(&id));
        let gone: Vec<u32> = known.filter(|id| !is_tenant(id)).collect();
        gone.iter().try_for_each(|id| self.maps.tenants.delete(id))?;
        for id in 1..IDS as u16 {
            let target: Target = self.maps.attachments.read(id as usize);
            let known = AttachmentId::new(id).is_some_and(|id| self.placed.attachments.contains_key(&id));
            if target != Target::default() && !known {
                self.maps.attachments.write(id as usize, &[Target::default()]);
            }
            let instance: Instance = self.maps.instances.read(id as usize);
            let known = InstanceId::new(id).is_some_and(|id| self.placed.instances.contains_key(&id));
            if instance != Instance::default() && !known {
                self.maps.instances.write(id as usize, &[Instance::default()]);
            }
        }
        Ok(())
    }
}
