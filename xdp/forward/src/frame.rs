//! The frame as the core sees it.

/// A frame from its Ethernet header on, its VLAN tag apart. Implementations never read or write outside the frame.
///
/// `load` and `store` take offsets that are constants after inlining and lie in the first bytes of the frame;
/// `load_at` and `store_at` take computed offsets and may be slower.
pub trait Frame {
    /// Whether most frames go by the path cache, which then is part of the program; else it is a function of its own.
    const MOSTLY_CACHED: bool = true;

    /// Makes sure that the headers can be read at constant offsets, where the frame lies in several pieces of memory.
    fn linearize(&self) {}
    /// Length in bytes from the Ethernet header, the VLAN tag not counted; for a frame with segmentation offload the
    /// length of the whole.
    fn len(&self) -> u32;
    /// Whether the frame has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Bytes of payload of each segment the frame stands for, 0 without segmentation offload.
    fn gso_size(&self) -> u32;
    /// The outermost VLAN identifier, 0 for none (or priority tag).
    fn vlan(&self) -> u16;
    /// Removes the outermost tag if it is an 802.1Q tag.
    #[must_use]
    fn untag(&mut self) -> bool;
    /// Whether a tag is in the way of the EtherType that the frame's bytes show. The kernel keeps the outermost tag of a tc
    /// frame apart, also an 802.1ad one, and moves up the next when it is taken off.
    fn hides_tag(&self) -> bool {
        false
    }
    /// Adds a VLAN tag.
    #[must_use]
    fn tag(&mut self, vlan: u16) -> bool;
    /// Reads `N` bytes at a constant offset.
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
    /// Reads `N` four-byte words at a constant offset, each with its bytes in memory order.
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]>;
    /// Reads `N` bytes at any offset.
    fn load_at<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;
    /// Reads `N` four-byte words at any offset.
    fn words_at<const N: usize>(&self, offset: u32) -> Option<[u32; N]>;
    /// Copies the frame's first bytes, as many as there are; the rest of `into` is left alone.
    fn head<const N: usize>(&self, into: &mut [u8; N]);
    /// Writes at a constant offset.
    #[must_use]
    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> bool;
    /// Removes `count` bytes from the front (the frame then begins with the inner Ethernet header).
    #[must_use]
    fn pull<const COUNT: usize>(&mut self) -> bool;
    /// Puts `bytes` (outer Ethernet to NSH) in front of the frame.
    #[must_use]
    fn push<const COUNT: usize>(&mut self, bytes: &[u8; COUNT]) -> bool;
    /// Sets the length of the frame (answers are shorter or longer than the question).
    #[must_use]
    fn resize(&mut self, len: u32) -> bool;
}
