//! An image as the forwarding core reads it, so that the very code of the data plane answers on the host.

use crate::cidr::Cidr;
use crate::image::{BuiltTable, Image, InstanceImage, Route, TenantImage};
use crate::model::Side;
use crate::view;
use std::collections::HashMap;
use std::sync::Arc;
use xdp_forward::tables::{PlanTables, owner};
use xdp_forward::{Path, Question, recompute};
use xdp_layout::flow::FlowKey;
use xdp_layout::plan::{
    ActiveWord, Edge, GraphWord, Node, NodeKey, OriginKey, OutsideKey, OutsideOwners, RouteKey, TARGET_EXIT, TableWord,
    View, ViewKey,
};
use xdp_layout::{AttachmentId, DropReason, GraphId, InstanceId, Position, ReplicaSetId, TenantId, ViewId};

/// The bank that the tables pretend to be in.
const BANK: u32 = 0;

/// [`PlanTables`] over an image. Slots and indexes are laid out one view after the other, tables likewise; they mean
/// nothing outside. Making it costs a walk over views, tables and instances; nothing is copied.
#[derive(Debug)]
pub struct ImageTables<'a> {
    image: &'a Image,
    /// By slot - 1.
    views: Vec<Installed<'a>>,
    slots: HashMap<(TenantId, ViewId), u32>,
    /// In the order of their regions.
    tables: Vec<(u32, &'a BuiltTable)>,
    starts: HashMap<ReplicaSetId, (u32, &'a BuiltTable)>,
    graphs: HashMap<GraphId, &'a TenantImage>,
    instances: HashMap<InstanceId, &'a InstanceImage>,
}

/// A view and where its nodes and edges begin.
#[derive(Debug)]
struct Installed<'a> {
    view: &'a view::View,
    first_node: u32,
    first_edge: u32,
}

impl<'a> ImageTables<'a> {
    /// Lays the image out.
    pub fn new(image: &'a Image) -> Self {
        let mut tables = Self {
            image,
            views: Vec::new(),
            slots: HashMap::new(),
            tables: Vec::new(),
            starts: HashMap::new(),
            graphs: HashMap::new(),
            instances: HashMap::new(),
        };
        let (mut first_node, mut first_edge) = (0, 0);
        for tenant in image.tenants().values() {
            for (id, graph) in tenant.graphs() {
                tables.graphs.insert(*id, &**tenant);
                for view in graph.views.values() {
                    tables.views.push(Installed { view, first_node, first_edge });
                    tables.slots.insert((view.tenant(), view.id()), tables.views.len() as u32);
                    first_node += view.nodes().len() as u32;
                    first_edge += view.edges().len() as u32;
                }
            }
        }
        let mut start = 0;
        for (set, table) in image.tables() {
            let table: &BuiltTable = table;
            tables.tables.push((start, table));
            tables.starts.insert(*set, (start, table));
            start += table.page_words();
        }
        for function in image.functions().values() {
            tables.instances.extend(function.instances().iter().map(|(id, instance)| (*id, instance)));
        }
        tables
    }

    /// The path of a flow: [`xdp_forward::recompute`] over the image.
    ///
    /// # Errors
    /// The reason for which every frame of such a flow is dropped.
    pub fn path(&self, key: &FlowKey, question: &Question) -> Result<Path, DropReason> {
        recompute(self, self.active(), key, question)
    }

    /// A view by slot, as it was compiled.
    pub fn compiled(&self, slot: u32) -> Option<&'a Arc<view::ViewContent>> {
        self.installed(slot).map(|installed| installed.view.content())
    }

    fn installed(&self, slot: u32) -> Option<&Installed<'a>> {
        self.views.get((slot as usize).checked_sub(1)?)
    }

    fn slot_of(&self, tenant: TenantId, view: ViewId) -> u32 {
        self.slots.get(&(tenant, view)).copied().unwrap_or(0)
    }
}

impl ImageTables<'_> {
    /// The owners of the longest outside prefix that holds an address.
    fn owners(&self, key: OutsideKey) -> Option<&OutsideOwners> {
        let tenant = self.image.tenants().get(&TenantId::new(u32::from_be_bytes(key.tenant))?)?;
        // Prefixes order from short to long along each address, so the last one is the longest.
        tenant.outside().iter().rfind(|(prefix, _)| prefix.contains(&key.addr)).map(|(_, owners)| owners)
    }
}

impl PlanTables for ImageTables<'_> {
    fn active(&self) -> ActiveWord {
        ActiveWord::new(self.image.plan().generation().get(), BANK)
    }

    fn flow_hash_key(&self) -> [u64; 2] {
        self.image.plan().content().seed
    }

    fn graph(&self, _plan: ActiveWord, graph: GraphId) -> GraphWord {
        let Some(active) = self.image.plan().content().graphs.get(&graph) else { return GraphWord::default() };
        let stable = self.slot_of(active.tenant, active.stable.id);
        match active.canary {
            Some(canary) => GraphWord::new(stable, self.slot_of(active.tenant, canary.view.id), canary.share),
            None => GraphWord::new(stable, 0, 0),
        }
    }

    fn table(&self, _plan: ActiveWord, set: ReplicaSetId) -> TableWord {
        self.starts.get(&set).map_or_else(TableWord::default, |(start, table)| table.word(*start))
    }

    fn page_entry(&self, index: u32) -> Option<u16> {
        let after = self.tables.partition_point(|(start, _)| *start <= index);
        let (start, table) = self.tables.get(after.checked_sub(1)?)?;
        table.page_word(index - start)
    }

    fn view(&self, slot: u32) -> Option<View> {
        let installed = self.installed(slot)?;
        Some(View {
            tenant: installed.view.tenant().get(),
            view: installed.view.id().get(),
            graph: installed.view.graph().get().into(),
            first_edge: installed.first_edge + installed.view.first_edge(),
        })
    }

    fn view_slot(&self, key: ViewKey) -> Option<u32> {
        self.slots.get(&(TenantId::new(key.tenant)?, ViewId::new(key.view)?)).copied()
    }

    fn node(&self, index: u32) -> Option<Node> {
        let after = self.views.partition_point(|installed| installed.first_node <= index);
        // Views without nodes begin where the next one does, so the last of those is the owner.
        let installed = self.views.get(after.checked_sub(1)?)?;
        let node = installed.view.nodes().get((index - installed.first_node) as usize)?;
        Some(Node { first_edge: installed.first_edge + node.first_edge, ..*node })
    }

    fn node_of(&self, key: NodeKey) -> Option<u32> {
        let installed = self.installed(key.view_slot)?;
        let index = match key.position_or_set >> 16 {
            0 => installed.view.node_of(ReplicaSetId::new(key.position_or_set as u16)?)?,
            position => installed.view.node_at(Position::new(position.try_into().ok()?)?)?,
        };
        Some(installed.first_node + index)
    }

    fn edge(&self, index: u32) -> Option<Edge> {
        let after = self.views.partition_point(|installed| installed.first_edge <= index);
        let installed = self.views.get(after.checked_sub(1)?)?;
        let mut edge = *installed.view.edges().get((index - installed.first_edge) as usize)?;
        if edge.target != TARGET_EXIT {
            edge.target += installed.first_node;
        }
        Some(edge)
    }

    fn route(&self, key: RouteKey) -> Option<AttachmentId> {
        let graph = GraphId::new(u16::from_be_bytes(key.graph))?;
        let side = if key.side == 0 { Side::Client } else { Side::Server };
        let first = Route { graph, side, prefix: Cidr::ALL };
        let routes = self.graphs.get(&graph)?.routes().range(first..);
        let routes = routes.take_while(|(route, _)| route.graph == graph && route.side == side);
        let best =
            routes.filter(|(route, _)| route.prefix.contains(&key.addr)).max_by_key(|(route, _)| route.prefix.length());
        *best?.1
    }

    fn outside(&self, key: OutsideKey, port: u16) -> Option<InstanceId> {
        owner(self.owners(key)?, port)
    }

    fn is_outside(&self, key: OutsideKey) -> bool {
        self.owners(key).is_some()
    }

    fn origin(&self, key: OriginKey) -> Option<GraphId> {
        let tenant = self.image.tenants().get(&TenantId::new(key.tenant)?)?;
        tenant.origins().get(&ReplicaSetId::new(key.replica_set.try_into().ok()?)?).copied()
    }

    fn is_live(&self, instance: InstanceId) -> bool {
        self.instances.contains_key(&instance) && !self.image.down().contains(&instance)
    }

    fn replica_set_of(&self, instance: InstanceId) -> Option<ReplicaSetId> {
        Some(self.instances.get(&instance)?.replica_set)
    }
}
