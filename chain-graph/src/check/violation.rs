//! What can be wrong with what users declare.

use std::fmt;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident, $text:literal;)+) => {
        /// What rule was broken. The name is the word in API errors, CLI and documents.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum ViolationKind { $($(#[doc = $doc])+ $name,)+ }

        impl ViolationKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The one name used everywhere, in snake case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

kinds! {
    /// A resource is stored under a key that is not its name.
    KeyMismatch, "key_mismatch";
    /// A name or list element occurs twice.
    DuplicateName, "duplicate_name";
    /// A number that must be unique in the cluster occurs twice.
    DuplicateId, "duplicate_id";
    /// There is no tenant of that name.
    UnknownTenant, "unknown_tenant";
    /// The tenant has no attachment of that name.
    UnknownAttachment, "unknown_attachment";
    /// A candidate of a graph that does not exist.
    UnknownGraph, "unknown_graph";
    /// There is no network function of that name.
    UnknownFunction, "unknown_function";
    /// The function has no replica set of that name.
    UnknownReplicaSet, "unknown_replica_set";
    /// The graph has no node of that name.
    UnknownNode, "unknown_node";
    /// A match names an attachment that is not on that side of the graph.
    AttachmentNotInGraph, "attachment_not_in_graph";
    /// An attachment of the client side is used on the server side, or the reverse.
    WrongSide, "wrong_side";
    /// A candidate has another number than its graph.
    IdDiffers, "id_differs";
    /// A candidate has other attachments than its graph.
    AttachmentsDiffer, "attachments_differ";
    /// An attachment is used by two graphs.
    AttachmentInUse, "attachment_in_use";
    /// Two attachments on one side of a graph take the same prefix.
    PrefixConflict, "prefix_conflict";
    /// A graph has no attachment on a side.
    EmptySide, "empty_side";
    /// A budget of 0.
    ZeroBudget, "zero_budget";
    /// The tenants' budgets sum to more than the connection table holds.
    OverCapacity, "over_capacity";
    /// No possible interface name: empty, longer than 15 bytes, or with a slash or white space.
    InvalidInterface, "invalid_interface";
    /// A MAC address that no station can have: zero or a group address.
    InvalidMac, "invalid_mac";
    /// An address that no station can have, or an IPv4 address in IPv6 form.
    InvalidAddress, "invalid_address";
    /// An IPv6 prefix that holds IPv4 addresses in IPv6 form.
    MixedPrefix, "mixed_prefix";
    /// A replica set's maximum of members is outside 1..=4095.
    MaxMembers, "max_members";
    /// A replica set has more instances than its maximum.
    TooManyInstances, "too_many_instances";
    /// Two ports on one interface and VLAN.
    DuplicatePort, "duplicate_port";
    /// Two tenants have the same tag at a shared function.
    DuplicateTag, "duplicate_tag";
    /// A tenant's graph names a shared function that has no tag for the tenant.
    NoTag, "no_tag";
    /// A function without tags is named by graphs of two tenants.
    NotShareable, "not_shareable";
    /// Tenants with overlapping prefixes share a function that does not keep their state apart.
    StateNotIsolated, "state_not_isolated";
    /// An outside block at a function that leaves tuples alone.
    OutsideNotAllowed, "outside_not_allowed";
    /// An instance of a function that changes tuples has no outside block.
    OutsideMissing, "outside_missing";
    /// Two outside blocks have an address and port in common.
    OutsideOverlap, "outside_overlap";
    /// More port ranges on one outside prefix than the data plane holds.
    OutsideRanges, "outside_ranges";
    /// A replica set is used in two graphs of a tenant, so a frame of a flow without a record, which it sends, has no one graph.
    AmbiguousOrigin, "ambiguous_origin";
    /// Nodes that lead back to themselves.
    Cycle, "cycle";
    /// A node that no edge reaches from the client side.
    Unreachable, "unreachable";
    /// A place from which no edge leads to the server side.
    NoWayOut, "no_way_out";
    /// One replica set twice on a path.
    RepeatedReplicaSet, "repeated_replica_set";
    /// More nodes than positions.
    TooManyNodes, "too_many_nodes";
    /// A path with more instances between two changes of the tuple than a record holds.
    PathTooLong, "path_too_long";
    /// A path on which a frame may be compared with more edges than allowed.
    WalkTooLong, "walk_too_long";
    /// A range without ports.
    EmptyRange, "empty_range";
    /// A match whose parts cannot hold together.
    Contradiction, "contradiction";
    /// An edge whose flows all take earlier edges.
    Shadowed, "shadowed";
    /// A second default edge.
    SecondDefault, "second_default";
}

/// One broken rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Violation {
    /// Where: a field path such as `graphs["acme/web"].edges[3].to`, or `graphs["acme/web"].candidate.edges[3].to`.
    pub path: String,
    /// Which rule.
    pub kind: ViolationKind,
    /// What is wrong, for the user who wrote it.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.path, self.message, self.kind.name())
    }
}

/// Violations found so far.
#[derive(Default)]
pub(crate) struct Report(pub(crate) Vec<Violation>);

impl Report {
    pub(crate) fn add(&mut self, kind: ViolationKind, path: String, message: String) {
        self.0.push(Violation { path, kind, message });
    }
}
