//! `recompute`: a flow's path under a plan, as a pure function of the plan and the key.
//!
//! Branches match key fields and attachments only, so the first frame of either direction, at any front end, gives the
//! same path. All instances up to the next tuple-changing network function are picked at once.

use crate::key::flow_hash;
use crate::tables::{PlanTables, Round};
use crate::verdict::Step;
use xdp_layout::flow::{FlowKey, PATH_MAX, record_flags};
use xdp_layout::plan::{
    ActiveWord, Edge, NodeKey, OriginKey, OutsideKey, RouteKey, TARGET_EXIT, TableWord, View, ViewKey, WALK_MAX,
    node_flags,
};
use xdp_layout::port::Side;
use xdp_layout::{Addr, AttachmentId, DropReason, GraphId, InstanceId, Position, ReplicaSetId, TenantId, ViewId};

/// What is known of a flow whose path is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Its tenant.
    pub tenant: TenantId,
    /// Whether the client's end is the key's `a`.
    pub client_is_a: bool,
    /// The graph, where the port of arrival tells it.
    pub graph: Option<GraphId>,
    /// Client attachment the frame arrived at; else found by route.
    pub entry: Option<AttachmentId>,
    /// Server attachment the frame arrived at; else found by route.
    pub exit: Option<AttachmentId>,
    /// The instance that made this tuple, where the port of arrival tells it; else found by outside block.
    pub origin: Option<InstanceId>,
    /// The view to walk, where it is given rather than chosen: inherited from the inside flow, or pinned by a record.
    pub view: Option<ViewId>,
    /// Position of the tuple-changing node to continue from, inherited with the view.
    pub position: Option<Position>,
}

/// The answer: what a flow record is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Path {
    /// The view.
    pub view: u32,
    /// Client attachment, 0 if the path starts at an instance.
    pub entry: u16,
    /// Server attachment, 0 if the path ends at a tuple-changing instance.
    pub exit: u16,
    /// [`record_flags`]: where it starts and ends, overlay.
    pub flags: u8,
    /// Elements used in `instances`.
    pub len: u8,
    /// Position of the tuple-changing node at its end, else 0.
    pub cut_position: u8,
    /// Instances in client-to-server order.
    pub instances: [u16; PATH_MAX],
}

impl Question {
    #[inline(always)]
    fn client(&self, key: &FlowKey) -> (Addr, u16) {
        if self.client_is_a { (key.a, key.a_port) } else { (key.b, key.b_port) }
    }

    #[inline(always)]
    fn server(&self, key: &FlowKey) -> (Addr, u16) {
        if self.client_is_a { (key.b, key.b_port) } else { (key.a, key.a_port) }
    }
}

/// The path of a flow under the plan `plan`.
///
/// # Errors
/// The reason for which every frame of such a flow is dropped.
pub fn recompute<T: PlanTables>(
    tables: &T,
    plan: ActiveWord,
    key: &FlowKey,
    question: &Question,
) -> Result<Path, DropReason> {
    let mut walk = Walk::default();
    walk.run(tables, plan, key, question, None)?;
    Ok(walk.path)
}

impl Walk {
    /// Computes the path of a flow into [`Walk::path`]. A stage whose instance in `kept`, by its place in the path, is up and of the
    /// stage's replica set keeps it, whatever its weight is by now; 0 for none.
    #[inline(never)]
    pub(crate) fn run<T: PlanTables>(
        &mut self,
        tables: &T,
        plan: ActiveWord,
        key: &FlowKey,
        question: &Question,
        kept: Option<&[u16; PATH_MAX]>,
    ) -> Step<()> {
        self.path.flags = 0;
        self.kept = kept.copied().unwrap_or_default();
        let (client, client_port) = question.client(key);
        let (server, server_port) = question.server(key);
        let origin = match (question.origin, question.entry) {
            (Some(origin), _) => Some(origin),
            // A host behind a client attachment that uses an outside address is still a client.
            (None, Some(_)) => None,
            (None, None) => {
                tables.outside(OutsideKey { tenant: question.tenant.get().to_be_bytes(), addr: client }, client_port)
            }
        };
        let origin_set = match origin {
            Some(origin) => Some(tables.replica_set_of(origin).ok_or(DropReason::PortDown)?),
            None => None,
        };
        let graph = match (question.graph, origin_set) {
            (Some(graph), _) => graph,
            (None, Some(set)) => {
                let origin = OriginKey { tenant: question.tenant.get(), replica_set: set.get() as u32 };
                tables.origin(origin).ok_or(DropReason::NoActiveView)?
            }
            (None, None) => return Err(DropReason::NoActiveView),
        };
        let hash = flow_hash(key, tables.flow_hash_key());
        let (slot, view, is_canary) = choose_view(tables, plan, question, graph, hash)?;
        let exit = match question.exit {
            Some(exit) => Some(exit),
            None => route(tables, graph, Side::Server, server),
        };
        self.plan = plan;
        self.hash = hash;
        self.edge = view.first_edge;
        self.compared = 0;
        self.set = 0;
        self.client_attachment = 0;
        self.server_attachment = exit.map_or(0, AttachmentId::get);
        self.client = client;
        self.server = server;
        self.client_port = client_port;
        self.server_port = server_port;
        self.protocol = key.protocol();
        self.outcome = Err(DropReason::WalkLimit);
        self.path.view = view.view;
        self.path.entry = 0;
        self.path.exit = 0;
        self.path.flags = if question.client_is_a { record_flags::CLIENT_IS_A } else { 0 };
        if is_canary {
            self.path.flags |= record_flags::WATCHED;
        }
        self.path.len = 0;
        self.path.cut_position = 0;
        self.path.instances = [0; PATH_MAX];
        if let (Some(origin), Some(set)) = (origin, origin_set) {
            // A position says something only of the view it was inherited with.
            let known = question.view.map_or(0, ViewId::get);
            let position_or_set = match question.position {
                Some(position) if known == view.view => (position.get() as u32) << 16,
                _ => set.get() as u32,
            };
            let node = tables.node_of(NodeKey { view_slot: slot, position_or_set }).ok_or(DropReason::NotInPath)?;
            self.edge = tables.node(node).ok_or(DropReason::NotInPath)?.first_edge;
            self.path.instances[0] = origin.get();
            self.path.len = 1;
            self.path.flags |= record_flags::STARTS_AT_FUNCTION;
        } else {
            let entry = match question.entry {
                Some(entry) => entry,
                None => route(tables, graph, Side::Client, client).ok_or(DropReason::NoRoute)?,
            };
            self.client_attachment = entry.get();
            self.path.entry = entry.get();
        }
        tables.repeat(ROUNDS_MAX, &mut Rounds { walk: self, tables });
        self.outcome?;
        if self.path.flags & record_flags::ENDS_AT_FUNCTION == 0 {
            self.path.exit = exit.ok_or(DropReason::NoRoute)?.get();
        }
        Ok(())
    }
}

/// The active view and whether it is the canary: that for its share of the flows, by the flow's own hash; so raising the
/// share keeps the first cohort.
#[inline(always)]
fn choose_view<T: PlanTables>(
    tables: &T,
    plan: ActiveWord,
    question: &Question,
    graph: GraphId,
    hash: u64,
) -> Step<(u32, View, bool)> {
    let word = tables.graph(plan, graph);
    if let Some(pinned) = question.view {
        let key = ViewKey { tenant: question.tenant.get(), view: pinned.get() };
        if let Some(slot) = tables.view_slot(key)
            && let Some(view) = tables.view(slot)
            && view.view == key.view
            && view.tenant == key.tenant
        {
            return Ok((slot, view, slot == word.canary()));
        }
    }
    let is_canary = cohort(hash, graph) < word.canary_share() && word.canary() != 0;
    let slot = if is_canary { word.canary() } else { word.stable() };
    if slot == 0 {
        return Err(DropReason::NoActiveView);
    }
    let view = tables.view(slot).ok_or(DropReason::NoActiveView)?;
    // Isolation does not rest on the tables alone: a view of another tenant is never walked.
    if view.tenant != question.tenant.get() {
        return Err(DropReason::WrongTenant);
    }
    Ok((slot, view, is_canary))
}

/// A flow's place in 0..65535, uncorrelated with its slots in any table. Flows below the canary's share are the canary's, so
/// raising the share keeps those it has.
#[inline(always)]
pub const fn cohort(hash: u64, graph: GraphId) -> u32 {
    ((maglev::mix(hash, 0xc0_0000 + graph.get() as u32, 0) as u64 * u16::MAX as u64) >> 32) as u32
}

#[inline(always)]
fn route<T: PlanTables>(tables: &T, graph: GraphId, side: Side, addr: Addr) -> Option<AttachmentId> {
    tables.route(RouteKey { graph: graph.get().to_be_bytes(), side: side as u8, reserved: 0, addr })
}

/// Rounds of a walk: every edge, and for every stage of the path every candidate.
const ROUNDS_MAX: u32 = WALK_MAX + PATH_MAX as u32 * maglev::ATTEMPTS;

/// The state of a walk. One round compares one edge or tries one candidate of a stage, so that the kernel verifies a body
/// without loops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    plan: ActiveWord,
    hash: u64,
    /// Edge to compare next, or with `set` the first edge behind its node.
    edge: u32,
    /// Edges compared.
    compared: u32,
    /// The replica set whose instance is being picked, 0 while edges are compared.
    set: u16,
    /// Flags and position of its node.
    node_flags: u8,
    position: u8,
    /// The candidate to try next.
    attempt: u32,
    client_attachment: u16,
    server_attachment: u16,
    client: Addr,
    server: Addr,
    client_port: u16,
    server_port: u16,
    protocol: u8,
    outcome: Step<()>,
    kept: [u16; PATH_MAX],
    pub(crate) path: Path,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            plan: ActiveWord(0),
            hash: 0,
            edge: 0,
            compared: 0,
            set: 0,
            node_flags: 0,
            position: 0,
            attempt: 0,
            client_attachment: 0,
            server_attachment: 0,
            client: Addr([0; 16]),
            server: Addr([0; 16]),
            client_port: 0,
            server_port: 0,
            protocol: 0,
            outcome: Ok(()),
            kept: [0; PATH_MAX],
            path: Path::default(),
        }
    }
}

/// A walk in progress.
struct Rounds<'a, T> {
    walk: &'a mut Walk,
    tables: &'a T,
}

impl<T: PlanTables> Round for Rounds<'_, T> {
    #[inline(always)]
    fn round(&mut self) -> bool {
        let walk = &mut *self.walk;
        let step = if walk.set == 0 { walk.compare(self.tables) } else { walk.try_candidate(self.tables) };
        match step {
            Ok(true) => true,
            Ok(false) => {
                self.walk.outcome = Ok(());
                false
            }
            Err(reason) => {
                self.walk.outcome = Err(reason);
                false
            }
        }
    }
}

impl Walk {
    /// Compares the current edge and moves on, to the next edge or into a stage. False at the end of the path.
    #[inline(always)]
    fn compare<T: PlanTables>(&mut self, tables: &T) -> Step<bool> {
        if self.compared == WALK_MAX {
            return Err(DropReason::WalkLimit);
        }
        self.compared += 1;
        let edge = tables.edge(self.edge).ok_or(DropReason::NoActiveView)?;
        if !self.matches(&edge) {
            if edge.last != 0 {
                return Err(DropReason::NoMatch);
            }
            self.edge += 1;
            return Ok(true);
        }
        if edge.target == TARGET_EXIT {
            return Ok(false);
        }
        let node = tables.node(edge.target).ok_or(DropReason::NoActiveView)?;
        self.edge = node.first_edge;
        self.set = node.replica_set;
        self.node_flags = node.flags;
        self.position = node.position;
        self.attempt = 0;
        Ok(true)
    }

    /// Tries one candidate of the stage. False at the end of the path.
    #[inline(always)]
    fn try_candidate<T: PlanTables>(&mut self, tables: &T) -> Step<bool> {
        let set = ReplicaSetId::new(self.set).ok_or(DropReason::NoLiveInstance)?;
        if self.attempt >= maglev::ATTEMPTS {
            return Err(DropReason::NoLiveInstance);
        }
        let len = self.path.len as usize;
        if len >= PATH_MAX {
            return Err(DropReason::WalkLimit);
        }
        let attempt = self.attempt;
        self.attempt += 1;
        let kept = if attempt == 0 { InstanceId::new(self.kept[len & (PATH_MAX - 1)]) } else { None };
        let kept = kept.filter(|kept| tables.is_live(*kept) && tables.replica_set_of(*kept) == Some(set));
        let instance = match kept {
            Some(kept) => kept,
            None => {
                let members = Members { tables, word: tables.table(self.plan, set) };
                let candidate = maglev::candidate(&members, self.hash, set.get() as u32, attempt);
                let Some(picked) = candidate.and_then(|member| members.instance(member)) else {
                    return Ok(true);
                };
                if !tables.is_live(picked) {
                    return Ok(true);
                }
                if attempt != 0 {
                    self.path.flags |= record_flags::OVERLAY;
                }
                picked
            }
        };
        self.path.instances[len & (PATH_MAX - 1)] = instance.get();
        self.path.len = len as u8 + 1;
        self.set = 0;
        if self.node_flags & (node_flags::CHANGES_TUPLE | node_flags::ENDS_FLOW) != 0 {
            self.path.flags |= record_flags::ENDS_AT_FUNCTION;
            self.path.cut_position = self.position;
            return Ok(false);
        }
        Ok(true)
    }

    #[inline(always)]
    fn matches(&self, edge: &Edge) -> bool {
        (edge.protocol == 0 || edge.protocol == self.protocol)
            && in_range(edge.client_ports, self.client_port)
            && in_range(edge.server_ports, self.server_port)
            && (edge.client_attachment == 0 || edge.client_attachment == self.client_attachment)
            && (edge.server_attachment == 0 || edge.server_attachment == self.server_attachment)
            && edge.client.contains(&self.client)
            && edge.server.contains(&self.server)
    }
}

#[inline(always)]
const fn in_range(range: [u16; 2], port: u16) -> bool {
    range[0] <= port && port <= range[1]
}

/// A replica set's table and members in the pages.
struct Members<'a, T> {
    tables: &'a T,
    word: TableWord,
}

impl<T: PlanTables> Members<'_, T> {
    #[inline(always)]
    fn instance(&self, member: u16) -> Option<InstanceId> {
        if member as u32 >= self.word.members() {
            return None;
        }
        // Members of weight 0 have no id here, so they are never picked.
        InstanceId::new(self.tables.page_entry(self.word.start() + self.word.size() + member as u32)?)
    }
}

impl<T: PlanTables> maglev::Table for Members<'_, T> {
    #[inline(always)]
    fn size(&self) -> u32 {
        self.word.size()
    }

    #[inline(always)]
    fn entry(&self, slot: u32) -> Option<u16> {
        if slot >= self.word.size() { None } else { self.tables.page_entry(self.word.start() + slot) }
    }

    #[inline(always)]
    fn is_live(&self, member: u16) -> bool {
        match self.instance(member) {
            Some(instance) => self.tables.is_live(instance),
            None => false,
        }
    }

    #[inline(always)]
    fn members(&self) -> u16 {
        self.word.members() as u16
    }
}
