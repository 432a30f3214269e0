//! The closed list of data-path counters that are not drops. Per CPU, monotone.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal, $text:literal;)+) => {
        /// A counter; the value is its index.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Counter { $($(#[doc = $doc])+ $name = $value,)+ }

        impl Counter {
            /// Every counter, by value.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The name used in metrics, CLI and tests.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// One sentence for operators.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+)),+ }
            }
        }
    };
}

counters! {
    /// Frames that arrived on a port of ours. Equals delivered + transmitted + replied + passed + every drop.
    FramesIn = 0, "frames_in";
    /// Frames handed to a local instance or attachment.
    Delivered = 1, "delivered";
    /// Frames encapsulated and sent to another front end.
    Transmitted = 2, "transmitted";
    /// Frames answered on the port they came from (ARP, neighbour discovery).
    Replied = 3, "replied";
    /// Frames left to the host's own stack.
    Passed = 4, "passed";
    /// Path taken from the flow's record.
    TierRecord = 5, "tier_record";
    /// Path picked from the Maglev tables, record written.
    TierTable = 6, "tier_table";
    /// Path picked around a down instance, record written.
    TierOverlay = 7, "tier_overlay";
    /// Path picked without a record: budget reached or map full.
    TierStateless = 8, "tier_stateless";
    /// A first frame found that another CPU had just written its record, and used that.
    InsertRace = 9, "insert_race";
    /// Forwarded without a record because the tenant's unanswered budget is reached.
    BudgetUnanswered = 10, "budget_unanswered";
    /// Not promoted because the tenant's established budget is reached.
    BudgetEstablished = 11, "budget_established";
    /// Forwarded without a record because the connection table is full.
    TableFull = 12, "table_full";
    /// TCP segments without SYN for which there was no record; classified anew.
    TcpNoRecord = 13, "tcp_no_record";
    /// Records replaced because a SYN arrived on a closing record.
    RecordReused = 14, "record_reused";
    /// Records picked anew because an instance of their path is down.
    RecordRepicked = 15, "record_repicked";
    /// Outside flows linked to their inside flow by a note.
    NoteLinked = 16, "note_linked";
    /// Outside flows for which there was no note; they take the active view.
    NoteMissing = 17, "note_missing";
    /// Frames classified with more extension headers than are followed, by addresses and next header only.
    HeaderLimit = 18, "header_limit";
    /// Hosts whose MAC address was learnt or changed.
    NeighbourLearnt = 19, "neighbour_learnt";
    /// Copies of ARP and neighbour-discovery frames carried across a chain of transparent functions.
    ControlForwarded = 20, "control_forwarded";
    /// Records read while the kernel recycled them; the frame was treated as a miss.
    StaleRecord = 21, "stale_record";
    /// Frames of a flow that met another view, or another instance of a stage, than its first frame did. Stays 0.
    ConsistencyViolation = 22, "consistency_violation";
    /// Path taken from the path cache, which repeats the flow's record.
    TierCache = 23, "tier_cache";
    /// Frames whose flow was not entered in the path cache, since there was no room for its path.
    CachePathsFull = 24, "cache_paths_full";
}

impl Counter {
    /// The count, from the words of the array. A frame that goes by the path cache is counted in one word, though it has
    /// arrived and was delivered, too.
    pub fn total(self, word: impl Fn(Self) -> u64) -> u64 {
        match self {
            Self::FramesIn | Self::Delivered => word(self) + word(Self::TierCache),
            _ => word(self),
        }
    }
}

/// Number of counters; size of the counter array.
pub const COUNTERS: u32 = Counter::ALL.len() as u32;
