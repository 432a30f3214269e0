//! The seam between control plane and data path.

use chain_graph::Image;
use chain_graph::model::{Protocol, Side};
use chain_graph::plan::PlanRef;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use xdp_layout::event::Traffic;
use xdp_layout::flow::{FlowKey, FlowRecord};
use xdp_layout::{AttachmentId, Counter, DropReason, Generation, InstanceId, Position, ReplicaSetId, TenantId, ViewId};

/// A data path. One caller puts images in force; [`Observer`]s look at it meanwhile.
///
/// It goes from plan to plan in two operations, which are commands of a front end in [`chain_graph::phase`]: what is new is
/// prepared beside what is in force, then one write switches. Both are level-triggered: the same image is given again after
/// an error, or while ports are pending. Plan numbers never fall; they stay the same where only what is part of no plan
/// changed, and skip where changes were waiting. Both block.
pub trait DataPlane: Send {
    /// The plan that the data path runs, whoever put it in force; `None` if it runs none, or one whose digest it does not
    /// know. `seed` is the cluster's.
    ///
    /// # Errors
    /// The data path is another cluster's, or could not be read.
    fn in_force(&self, seed: [u64; 2]) -> Result<Option<PlanRef>, DataPlaneError>;

    /// Writes what is new of an image beside what is in force, which no frame meets yet. What is left of an image that is
    /// not entered goes when the next one is.
    ///
    /// # Errors
    /// Not all of it could be written; what is in force goes on.
    fn prepare(&mut self, image: &Arc<Image>) -> Result<(), DataPlaneError>;

    /// Puts in force an image that was prepared last, by one write, then takes out what is gone. Returns when the data path
    /// does what the image says.
    ///
    /// A port whose interface is missing or down is no error: everything else is in force and the port reported as
    /// [`PendingPort`].
    ///
    /// # Errors
    /// The image is not in force, or not all that is gone could be taken out. To be called again with the same image.
    fn enter(&mut self, image: &Arc<Image>) -> Result<Installed, DataPlaneError>;

    /// Both at once, for an image whose plan is in force, and where nobody has to agree.
    ///
    /// # Errors
    /// Those of [`prepare`](Self::prepare) and [`enter`](Self::enter).
    fn install(&mut self, image: &Arc<Image>) -> Result<Installed, DataPlaneError> {
        self.prepare(image)?;
        self.enter(image)
    }

    /// The ports that wait now, if they are others than at the last installation or call: interfaces come and go without
    /// one. Asked often, so it must cost next to nothing.
    fn changed_ports(&mut self) -> Option<Vec<PendingPort>> {
        None
    }

    /// A handle to look at the data path while images are installed.
    fn observer(&self) -> Arc<dyn Observer>;

    /// A handle to end flows while images are installed.
    fn reaper(&self) -> Arc<dyn Reaper>;
}

/// Ends flows. Calls block for as long as a walk over the connection table takes.
pub trait Reaper: Send + Sync {
    /// Resets every flow of a view: TCP flows hear of it from the front end, all lose their records. Returns how many there
    /// were. Doing it again does no harm.
    ///
    /// # Errors
    /// The flows could not be reset, or not all of them.
    fn reset_flows(&self, tenant: TenantId, view: ViewId) -> Result<u64, DataPlaneError>;
}

/// Looks at a data path. Calls block for as long as reading kernel maps takes.
pub trait Observer: Send + Sync {
    /// The plan in force and the use of the connection table.
    ///
    /// # Errors
    /// The data path could not be read.
    fn status(&self) -> Result<DataPlaneStatus, DataPlaneError>;

    /// Counters since the data path was loaded.
    ///
    /// # Errors
    /// The data path could not be read.
    fn counters(&self) -> Result<Counters, DataPlaneError>;

    /// A page of flow records in the table's own order.
    ///
    /// # Errors
    /// The data path could not be read.
    fn flows(&self, query: &FlowQuery) -> Result<FlowPage, DataPlaneError>;

    /// Where the forwarding core would send a frame. Changes nothing.
    ///
    /// # Errors
    /// The data path could not be read.
    fn trace(&self, query: &TraceQuery) -> Result<Trace, DataPlaneError>;

    /// Counts the records of every view. Takes as long as a walk over the connection table.
    ///
    /// # Errors
    /// The data path could not be read, or not in full.
    fn census(&self) -> Result<Census, DataPlaneError>;

    /// What the data path has counted for a view; `None` if it does not watch that view.
    ///
    /// # Errors
    /// The data path could not be read.
    fn view_counters(&self, tenant: TenantId, view: ViewId) -> Result<Option<ViewCounters>, DataPlaneError>;
}

/// Records by view.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// The plan that was in force when the count began; `None` before the first.
    pub generation: Option<Generation>,
    /// Views that a record names; absent means none does. Notes are not counted: the flow that left one has a record, or was
    /// forwarded without one and may meet another view at any change.
    pub views: BTreeMap<(TenantId, ViewId), ViewCensus>,
    /// How long the walk over the connection table kept a processor busy.
    pub cost: Duration,
}

/// Records of one view.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ViewCensus {
    /// Records that name it.
    pub records: u64,
    /// Records among them whose path names an instance.
    pub instances: BTreeMap<InstanceId, u64>,
}

/// Counters of one view, summed over CPUs. They rise while the view is watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ViewCounters {
    /// Flows that began.
    pub flows: u64,
    /// TCP flows among them.
    pub tcp_flows: u64,
    /// TCP flows that were reset.
    pub tcp_resets: u64,
    /// Frames that came in.
    pub frames: u64,
    /// Frames among them that were dropped.
    pub dropped: u64,
}

/// What went wrong in the data path: operation, object and cause as text for operators.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("data path: {operation}: {cause}")]
pub struct DataPlaneError {
    /// What was attempted on what, for example `write map FLOWS`.
    pub operation: String,
    /// Why it failed.
    pub cause: String,
}

/// An image in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Installed {
    /// Number of the plan.
    pub generation: Generation,
    /// Digest of the plan; equal on every node that runs it.
    pub digest: u64,
    /// Ports that could not be programmed yet.
    pub pending: Vec<PendingPort>,
    /// Why something that the plan does not need is still there. Installing it once more tries again.
    pub leftover: Option<String>,
}

/// A port that waits for its interface.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PendingPort {
    /// Whose port.
    pub owner: PortOwner,
    /// Name of the interface.
    pub interface: String,
    /// What is wrong with it.
    pub reason: PendingReason,
}

/// Who a port belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PortOwner {
    /// An attachment.
    Attachment(AttachmentId),
    /// An instance.
    Instance(InstanceId),
}

/// Why a port is pending.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PendingReason {
    /// There is no interface of that name.
    Missing,
    /// The interface is down.
    Down,
    /// Programs could not be attached, for the reason given.
    Attach(String),
}

impl std::fmt::Display for PendingReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("no such interface"),
            Self::Down => f.write_str("interface is down"),
            Self::Attach(cause) => write!(f, "cannot attach: {cause}"),
        }
    }
}

/// Use of the connection table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DataPlaneStatus {
    /// The plan in force; `None` before the first.
    pub generation: Option<Generation>,
    /// Its digest.
    pub digest: u64,
    /// Records the connection table holds.
    pub flow_capacity: u64,
    /// Usage by tenant.
    pub tenants: BTreeMap<TenantId, FlowUsage>,
}

/// A tenant's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowUsage {
    /// Flows seen in one direction.
    pub unanswered: u64,
    /// Flows seen in both directions.
    pub established: u64,
}

/// Counters, summed over CPUs, monotone while the data path is loaded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Frames and lookups; absent means 0.
    pub events: BTreeMap<Counter, u64>,
    /// Dropped frames; absent means 0.
    pub drops: BTreeMap<DropReason, u64>,
    /// Dropped frames whose tenant is known.
    pub tenant_drops: BTreeMap<(TenantId, DropReason), u64>,
    /// Frames and bytes delivered to instances of the plan in force.
    pub instances: BTreeMap<InstanceId, Traffic>,
}

impl Counters {
    /// One counter.
    pub fn event(&self, counter: Counter) -> u64 {
        self.events.get(&counter).copied().unwrap_or(0)
    }

    /// Frames dropped for a reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(&reason).copied().unwrap_or(0)
    }
}

/// Which flows to list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowQuery {
    /// Of this tenant only.
    pub tenant: Option<TenantId>,
    /// Pinned to this instance only.
    pub instance: Option<InstanceId>,
    /// Begin after this key, which the page before gave as [`FlowPage::next`].
    pub after: Option<FlowKey>,
    /// At most this many.
    pub limit: usize,
}

/// A page of flows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowPage {
    /// Flows that were asked for.
    pub flows: Vec<FlowEntry>,
    /// Where the next page begins; `None` at the end. The table's order changes while flows come and go, so a key that is
    /// gone starts from the beginning.
    pub next: Option<FlowKey>,
}

/// A flow and its record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowEntry {
    /// Tenant and tuple.
    pub key: FlowKey,
    /// Its record.
    pub record: FlowRecord,
    /// Time since its last frame.
    pub idle: Duration,
}

/// A frame to trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceQuery {
    /// Owner.
    pub tenant: TenantId,
    /// The side it arrives from.
    pub side: Side,
    /// Where it arrives; `None` for the attachment of that side that takes the source address.
    pub attachment: Option<AttachmentId>,
    /// IP protocol.
    pub protocol: Protocol,
    /// Source address and port (identifier for ICMP echo, 0 without ports).
    pub source: (IpAddr, u16),
    /// Destination address and port.
    pub destination: (IpAddr, u16),
}

/// Why a hop was chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HopReason {
    /// The flow's record says so.
    Record,
    /// A slot of the Maglev table.
    TableSlot(u32),
    /// As above, but that slot's instance is down.
    Overlay {
        /// The slot.
        slot: u32,
        /// The instance in it.
        choice: InstanceId,
    },
    /// The tuple lies in the instance's outside block.
    OutsideBlock,
    /// The address is behind the attachment.
    Route,
}

/// Where a hop leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HopTarget {
    /// To an instance.
    Instance {
        /// The instance.
        instance: InstanceId,
        /// Its replica set.
        replica_set: ReplicaSetId,
        /// Position of the node in the view.
        position: Position,
    },
    /// Out through an attachment.
    Attachment(AttachmentId),
}

/// A step of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// Where the frame goes.
    pub target: HopTarget,
    /// Why.
    pub reason: HopReason,
}

/// How a trace ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TraceEnd {
    /// The last hop is the attachment it leaves by.
    Delivered,
    /// The last hop rewrites the tuple.
    TupleChanges,
    /// The last hop ends the connection.
    FlowEnds,
    /// It is dropped.
    Dropped(DropReason),
}

/// Where a frame would go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// Steps in the order the frame takes; those before a drop included.
    pub hops: Vec<Hop>,
    /// How it ends.
    pub end: TraceEnd,
    /// The view that decided.
    pub view: Option<ViewId>,
    /// The plan in force.
    pub generation: Option<Generation>,
    /// Whether the flow has a record.
    pub has_record: bool,
}
