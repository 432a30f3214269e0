//! What becomes of a frame.

use xdp_layout::DropReason;

/// The outcome of [`crate::step`]. Only the shells know which kernel constant each of these is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Verdict {
    /// Not ours: left to the host's own stack.
    Pass,
    /// Dropped and counted.
    Drop(DropReason),
    /// Handed to a local instance or attachment; the frame is complete.
    Deliver(Delivery),
    /// Encapsulated; sent out of this interface.
    Transmit {
        /// The uplink.
        ifindex: u32,
    },
    /// Turned into an answer: goes back out of the interface it came from.
    Reply,
}

/// A local destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Delivery {
    /// Interface index.
    pub ifindex: u32,
    /// [`xdp_layout::port::target_flags`] of the destination.
    pub flags: u16,
    /// The tag the frame was given, 0 for none.
    pub vlan: u16,
    /// Tenant of the frame.
    pub tenant: u32,
    /// View << 1 | direction (0 towards the server), as on the wire; 0 for control frames.
    pub spi: u32,
    /// Instance id, or attachment id + 65536.
    pub element: u32,
}

/// A [`Verdict`] without its values. Functions that are not inlined return it in a register: one that returned a verdict by
/// pointer would have no return value, and the kernel then looks at what the register happens to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// To [`crate::Scratch::delivery`].
    Deliver,
    Reply,
    /// Out of [`Delivery::ifindex`].
    Transmit,
    Pass,
}

/// A step that may end in a drop.
pub(crate) type Step<T> = Result<T, DropReason>;
