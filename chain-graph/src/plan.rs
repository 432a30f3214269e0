//! Plans: what a new flow's path depends on, as one immutable, numbered chain for the cluster.
//!
//! Two plans are interchangeable if their digests are equal: the digest covers the content and nothing else, neither the
//! number nor which instances are down.
//!
//! Views that only drain are part of the content and of the digest. They get no share of the new flows, but a tuple that a
//! NAT makes inherits its inside flow's view while that is installed, and takes an active one if it is not: two front ends
//! of which one lacks a draining view would answer for the same tuple differently. So taking a view out is a plan of its
//! own, under which no flow is at risk once no record and no note names the view.

use crate::digest::Digest;
use crate::map::{Change, Map, changes};
use crate::model::{PortRange, ResourceName};
use ipnet::IpNet;
use maglev::TableSize;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use xdp_layout::{Generation, GraphId, InstanceId, ReplicaSetId, TenantId, ViewId};

/// One plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "StoredPlan", into = "StoredPlan")]
pub struct Plan {
    number: PlanNumber,
    sums: Sums,
    digest: u64,
    last_views: Map<TenantId, ViewId>,
    content: PlanContent,
}

/// Where a plan stands in the chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PlanNumber {
    /// Life of the cluster; a restore from a backup starts a new one.
    pub incarnation: u64,
    /// Number in the chain.
    pub generation: Generation,
    /// The plan it follows.
    pub parent: Option<PlanRef>,
}

/// Names a plan and what it says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PlanRef {
    /// Its number.
    pub generation: Generation,
    /// Digest of its content.
    pub digest: u64,
}

/// What a plan says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PlanContent {
    /// SipHash key of instance selection, tables and canary cohorts: the cluster seed.
    pub seed: [u64; 2],
    /// Installed views by graph.
    pub graphs: Map<GraphId, Arc<ActiveViews>>,
    /// Members by replica set.
    pub replica_sets: Map<ReplicaSetId, Arc<Members>>,
    /// Outside blocks of the functions each tenant uses; tenants without are absent.
    pub outside: Map<TenantId, Arc<OutsideBlocks>>,
}

/// A graph's views: which of them new flows take, and which are installed beside.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ActiveViews {
    /// Owner of the graph.
    pub tenant: TenantId,
    /// The view of new flows, apart from the canary's share.
    pub stable: ViewRef,
    /// A view that gets a share of the new flows.
    pub canary: Option<Canary>,
    /// Views that get no new flows, but whose flows have not ended; by number, none of those above among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<ViewRef>,
    /// Digest of the routes from addresses to attachments, on which a path's ends depend.
    pub routes: u64,
}

impl ActiveViews {
    /// All installed views, the stable one first. The canary's may be the stable one.
    pub fn installed(&self) -> impl Iterator<Item = &ViewRef> {
        [&self.stable].into_iter().chain(self.canary.as_ref().map(|canary| &canary.view)).chain(&self.draining)
    }
}

/// Names a view and what it says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ViewRef {
    /// Its number, unique for the tenant.
    pub id: ViewId,
    /// The view it was made from.
    pub parent: Option<ViewId>,
    /// Digest of its content.
    pub digest: u64,
}

/// A view on trial.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Canary {
    /// The view.
    pub view: ViewRef,
    /// Its share of new flows in 1/65535.
    pub share: u16,
}

/// One member of a replica set.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its identity in the table.
    pub name: ResourceName,
    /// The instance.
    pub instance: InstanceId,
    /// Share of new flows relative to the others; 0 for none.
    pub weight: u16,
}

/// The members of a replica set: all that its table depends on besides the seed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "StoredMembers", into = "StoredMembers")]
pub struct Members {
    table_size: TableSize,
    members: Vec<Member>,
    digest: u64,
}

impl Members {
    /// Takes members in any order.
    pub fn new(table_size: TableSize, mut members: Vec<Member>) -> Self {
        members.sort_unstable();
        let mut digest = Digest::new();
        digest.number(table_size.get()).number(members.len() as u64);
        for member in &members {
            digest.bytes(member.name.as_str().as_bytes()).number(member.instance.get()).number(member.weight);
        }
        let digest = digest.finish();
        Self { table_size, members, digest }
    }
    /// Number of slots of the table.
    pub fn table_size(&self) -> TableSize {
        self.table_size
    }
    /// Members, sorted by name: a member's place here is its index in the table.
    pub fn members(&self) -> &[Member] {
        &self.members
    }
    /// Digest of the two.
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

/// An outside block and its owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct OutsideOwner {
    /// Addresses, host bits zero.
    pub prefix: IpNet,
    /// Ports.
    pub ports: PortRange,
    /// Whose they are.
    pub instance: InstanceId,
}

/// Outside blocks of one tenant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<OutsideOwner>", into = "Vec<OutsideOwner>")]
pub struct OutsideBlocks {
    blocks: Vec<OutsideOwner>,
    digest: u64,
}

impl OutsideBlocks {
    /// The blocks, sorted.
    pub fn blocks(&self) -> &[OutsideOwner] {
        &self.blocks
    }
    /// Their digest.
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

impl From<Vec<OutsideOwner>> for OutsideBlocks {
    fn from(mut blocks: Vec<OutsideOwner>) -> Self {
        blocks.sort_unstable();
        let mut digest = Digest::new();
        digest.number(blocks.len() as u64);
        for OutsideOwner { prefix, ports, instance } in &blocks {
            match prefix.addr() {
                IpAddr::V4(v4) => digest.bytes(&v4.octets()),
                IpAddr::V6(v6) => digest.bytes(&v6.octets()),
            };
            digest.number(prefix.prefix_len()).number(ports.first).number(ports.last).number(instance.get());
        }
        let digest = digest.finish();
        Self { blocks, digest }
    }
}

impl From<OutsideBlocks> for Vec<OutsideOwner> {
    fn from(blocks: OutsideBlocks) -> Self {
        blocks.blocks
    }
}

impl PlanContent {
    /// Digest of everything.
    pub fn digest(&self) -> u64 {
        Sums::default().after(&Self::default(), self).digest(self)
    }
}

/// Digests of a plan's elements, summed modulo 2^64 by kind: the digest of a plan follows from its parent's and from what
/// differs (the incremental hash AdHash of Bellare and Micciancio, EUROCRYPT 1997; against accidents, not adversaries).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sums {
    graphs: u64,
    replica_sets: u64,
    outside: u64,
}

impl Sums {
    /// The sums of `new`, given that these are those of `old`.
    fn after(self, old: &PlanContent, new: &PlanContent) -> Self {
        Self {
            graphs: sum(self.graphs, &changes(&old.graphs, &new.graphs), graph_digest),
            replica_sets: sum(self.replica_sets, &changes(&old.replica_sets, &new.replica_sets), |id, members| {
                Digest::new().number(id.get()).number(members.digest).finish()
            }),
            outside: sum(self.outside, &changes(&old.outside, &new.outside), |tenant, blocks| {
                Digest::new().number(tenant.get()).number(blocks.digest).finish()
            }),
        }
    }

    fn digest(&self, content: &PlanContent) -> u64 {
        let PlanContent { seed, graphs, replica_sets, outside } = content;
        let mut digest = Digest::new();
        digest.number(seed[0]).number(seed[1]);
        for (len, sum) in
            [(graphs.len(), self.graphs), (replica_sets.len(), self.replica_sets), (outside.len(), self.outside)]
        {
            digest.number(len as u64).number(sum);
        }
        digest.finish()
    }
}

fn sum<K, V>(before: u64, changes: &[Change<'_, K, V>], digest: impl Fn(&K, &V) -> u64) -> u64 {
    changes.iter().fold(before, |sum, Change { key, before, after }| {
        let of = |value: &Option<&V>| value.map_or(0, |value| digest(key, value));
        sum.wrapping_sub(of(before)).wrapping_add(of(after))
    })
}

fn graph_digest(id: &GraphId, active: &Arc<ActiveViews>) -> u64 {
    let ActiveViews { tenant, stable, canary, draining, routes } = &**active;
    let mut digest = Digest::new();
    digest.number(id.get()).number(tenant.get()).number(*routes);
    digest_view(&mut digest, Some(stable));
    digest_view(&mut digest, canary.as_ref().map(|canary| &canary.view));
    digest.number(canary.map_or(0, |canary| canary.share)).number(draining.len() as u64);
    draining.iter().for_each(|view| digest_view(&mut digest, Some(view)));
    digest.finish()
}

fn digest_view(digest: &mut Digest, view: Option<&ViewRef>) {
    // The parent is history; no path depends on it.
    digest.number(view.map_or(0, |view| view.id.get())).number(view.map_or(0, |view| view.digest));
}

impl Plan {
    /// The plan that follows `parent`, or the first one. `last_views` is the highest view number each tenant was ever given.
    pub fn next(
        parent: Option<&Self>,
        incarnation: u64,
        content: PlanContent,
        last_views: Map<TenantId, ViewId>,
    ) -> Self {
        let generation = parent.map_or(1, |parent| parent.generation().get().saturating_add(1));
        let number = PlanNumber {
            incarnation,
            generation: Generation::new(generation).unwrap_or(Generation::MAX),
            parent: parent.map(|parent| PlanRef { generation: parent.generation(), digest: parent.digest }),
        };
        let nothing = PlanContent::default();
        let (sums, known) = parent.map_or((Sums::default(), &nothing), |parent| (parent.sums, &parent.content));
        let sums = sums.after(known, &content);
        Self { number, sums, digest: sums.digest(&content), last_views, content }
    }
    /// Its place in the chain.
    pub fn number(&self) -> PlanNumber {
        self.number
    }
    /// Its number in the chain.
    pub fn generation(&self) -> Generation {
        self.number.generation
    }
    /// Digest of the content.
    pub fn digest(&self) -> u64 {
        self.digest
    }
    /// What it says.
    pub fn content(&self) -> &PlanContent {
        &self.content
    }
    /// The highest view number each tenant was ever given, deleted tenants included: numbers are never reused.
    pub fn last_views(&self) -> &Map<TenantId, ViewId> {
        &self.last_views
    }
}

/// Why a stored plan cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredPlanError {
    /// The content is not what was stored.
    #[error("read plan {generation}: its content has digest {found:016x}, stored was {stored:016x}")]
    Digest {
        /// Number of the plan.
        generation: Generation,
        /// Digest of what was read.
        found: u64,
        /// Digest that was stored with it.
        stored: u64,
    },
    /// A replica set's table size is not a possible one.
    #[error("read members of a replica set: {0}")]
    Size(#[from] maglev::SizeError),
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredPlan {
    number: PlanNumber,
    /// Absent where another formula gave it.
    digest: Option<u64>,
    last_views: Map<TenantId, ViewId>,
    content: PlanContent,
}

impl TryFrom<StoredPlan> for Plan {
    type Error = StoredPlanError;
    fn try_from(StoredPlan { number, digest, last_views, content }: StoredPlan) -> Result<Self, StoredPlanError> {
        let sums = Sums::default().after(&PlanContent::default(), &content);
        let found = sums.digest(&content);
        if let Some(stored) = digest.filter(|stored| *stored != found) {
            return Err(StoredPlanError::Digest { generation: number.generation, found, stored });
        }
        Ok(Self { number, sums, digest: found, last_views, content })
    }
}

impl From<Plan> for StoredPlan {
    fn from(Plan { number, sums: _, digest, last_views, content }: Plan) -> Self {
        Self { number, digest: Some(digest), last_views, content }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredMembers {
    table_size: u32,
    members: Vec<Member>,
}

impl TryFrom<StoredMembers> for Members {
    type Error = StoredPlanError;
    fn try_from(StoredMembers { table_size, members }: StoredMembers) -> Result<Self, StoredPlanError> {
        Ok(Self::new(TableSize::try_from(table_size)?, members))
    }
}

impl From<Members> for StoredMembers {
    fn from(Members { table_size, members, digest: _ }: Members) -> Self {
        Self { table_size: table_size.get(), members }
    }
}
