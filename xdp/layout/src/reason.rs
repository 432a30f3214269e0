//! The closed, append-only list of reasons for which a frame is dropped.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal, $text:literal;)+) => {
        /// Why a frame was dropped. The value is the index of the per-CPU counter; the name is the metric label and the
        /// word in CLI, trace and documents.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name = $value,)+
        }

        impl DropReason {
            /// Every reason, by value.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The one name used everywhere.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// One sentence for operators: what happened.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+)),+ }
            }
        }
    };
}

reasons! {
    /// The frame is shorter than its headers say, or a header contradicts itself.
    Malformed = 0, "malformed";
    /// The EtherType is neither IPv4, IPv6 nor ARP.
    UnsupportedEthertype = 1, "unsupported_ethertype";
    /// The frame carries a VLAN tag that is not registered on this interface.
    UnknownVlan = 2, "unknown_vlan";
    /// An IPv6 header carries a v4-mapped address, which must not appear on the wire.
    V4Mapped = 3, "v4_mapped";
    /// Source and destination are the same endpoint (LAND).
    SelfTuple = 4, "self_tuple";
    /// A multicast or broadcast datagram: chains carry unicast only.
    Multicast = 5, "multicast";
    /// A later fragment arrived before the first of its datagram.
    FragmentBeforeFirst = 6, "frag_before_first";
    /// An ICMP error whose embedded datagram is truncated or a later fragment, so its flow is unknown.
    IcmpUnrelated = 7, "icmp_unrelated";
    /// The attachment belongs to no graph with an active view.
    NoActiveView = 8, "no_active_view";
    /// No attachment of the other side takes this address.
    NoRoute = 9, "no_route";
    /// No edge of the graph matches and there is no default edge.
    NoMatch = 10, "no_match";
    /// The walk through the view met more edges than allowed.
    WalkLimit = 11, "walk_limit";
    /// Every instance of a replica set on the path is down, or it has no member with weight.
    NoLiveInstance = 12, "no_live_instance";
    /// The next instance or attachment is gone or its interface is down.
    PortDown = 13, "port_down";
    /// An instance sent a frame of a flow whose path does not contain it.
    NotInPath = 14, "not_in_path";
    /// An instance sent a frame back out of the port it came in by.
    WrongSide = 15, "wrong_side";
    /// A frame came from the side of an attachment where its flow's other end lives.
    WrongAttachment = 16, "wrong_attachment";
    /// An instance that is declared to change the tuple passed the frame on unchanged.
    TupleUnchanged = 17, "tuple_unchanged";
    /// The MAC address of the destination host is not known yet; it is being asked for.
    NeighbourUnknown = 18, "neighbour_unknown";
    /// Link-local chatter that ends at the front end (router solicitation, multicast listener report, duplicate address detection).
    LinkLocal = 19, "link_local";
    /// The datagram is larger than the next hop takes; the sender is told by ICMP.
    TooBig = 20, "too_big";
    /// A pod's own tunnel with segmentation offload cannot be encapsulated again.
    NestedGso = 21, "nested_gso";
    /// The kernel refused to grow, shrink or retag the frame.
    FrameEdit = 22, "frame_edit";
    /// An encapsulated frame from a sender that is no front end of this cluster.
    UnknownSender = 23, "unknown_sender";
    /// The tunnel or NSH header is malformed or of an unsupported kind.
    NshMalformed = 24, "nsh_malformed";
    /// Service path identifier or service index lead nowhere here (RFC 8300 section 3).
    NshUnknownPath = 25, "nsh_unknown_path";
    /// The service index reached zero (RFC 8300 section 3).
    NshSiZero = 26, "nsh_si_zero";
    /// The NSH time to live reached zero (RFC 8300 section 2.2).
    NshTtlZero = 27, "nsh_ttl_zero";
    /// An OAM packet, which this release does not process.
    NshOam = 28, "nsh_oam";
    /// The program was started before its configuration was written.
    NotConfigured = 29, "not_configured";
    /// The tenant has no tag at this shared instance.
    NoTag = 30, "no_tag";
    /// The destination belongs to another tenant: tables are inconsistent, and isolation comes first.
    WrongTenant = 31, "wrong_tenant";
    /// The flow's view was retired at its deadline by reset; senders of TCP segments are answered with a RST.
    FlowReset = 32, "flow_reset";
}

/// Number of reasons; size of the counter array.
pub const REASONS: u32 = DropReason::ALL.len() as u32;
