//! The registry of id types. Raw integers appear only at proto, document and map boundaries.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($repr:ty), 1..=$max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(transparent))]
        pub struct $name(core::num::NonZero<$repr>);

        impl $name {
            /// The highest value; the lowest is 1, since 0 means "absent" in maps.
            pub const MAX: Self = match Self::new($max) {
                Some(max) => max,
                None => panic!("the range is not empty"),
            };

            /// Checks the range. `None` for 0 and for values above [`Self::MAX`].
            #[inline(always)]
            pub const fn new(raw: $repr) -> Option<Self> {
                if raw > $max {
                    return None;
                }
                match core::num::NonZero::new(raw) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }

            /// The plain integer, for maps, the wire and text.
            #[inline(always)]
            pub const fn get(self) -> $repr {
                self.0.get()
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// Where a tenant's traffic enters or leaves. Index into the attachment array, unique in the cluster.
    AttachmentId(u16), 1..=u16::MAX
);
id!(
    /// A plan's number in the one chain of plans of the cluster.
    Generation(u64), 1..=u64::MAX
);
id!(
    /// A tenant's service graph. Index into the graph words of a plan bank, unique in the cluster.
    GraphId(u16), 1..=(super::plan::GRAPHS_MAX - 1) as u16
);
id!(
    /// One replica of a network function. Index into the instance array, unique in the cluster.
    InstanceId(u16), 1..=u16::MAX
);
id!(
    /// A front end.
    NodeId(u16), 1..=u16::MAX
);
id!(
    /// One version of a network function's replicas. Index into the table words of a plan bank.
    ReplicaSetId(u16), 1..=(super::plan::REPLICA_SETS_MAX - 1) as u16
);
id!(
    /// Owner of graphs, budgets and limits; the VXLAN network identifier on the wire (24 bits).
    TenantId(u32), 1..=0x00ff_ffff
);
id!(
    /// One immutable compiled version of a graph. Per tenant, never reused; 23 bits, since the NSH service path
    /// identifier carries the direction in its lowest bit.
    ViewId(u32), 1..=0x007f_ffff
);
id!(
    /// A node of a view. Every edge leads to a lower one, so the NSH service index falls along every path.
    Position(u8), 1..=254
);
