//! A frame in tc: its VLAN tag in metadata, perhaps standing for many segments.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{
    bpf_skb_adjust_room, bpf_skb_change_proto, bpf_skb_change_tail, bpf_skb_change_type, bpf_skb_load_bytes,
    bpf_skb_pull_data, bpf_skb_store_bytes, bpf_skb_vlan_pop, bpf_skb_vlan_push,
};
use core::mem::MaybeUninit;
use xdp_forward::frame::Frame;
use xdp_layout::config::{Handover, MAGIC};

/// EtherType of 802.1Q in network byte order.
const VLAN_PROTOCOL: u16 = 0x8100u16.to_be();

/// EtherType of IPv4 in network byte order.
const IPV4_PROTOCOL: u16 = 0x0800u16.to_be();
/// Lengths of the headers without options.
const IPV4: usize = 20;
const IPV6: usize = 40;

/// Ethernet, IPv6 and a neighbour solicitation with its option: the farthest constant offset.
const HEADERS: u32 = 86;

const PACKET_HOST: u32 = 0;
/// Room between Ethernet and network header.
const BPF_ADJ_ROOM_MAC: u32 = 1;
/// `BPF_F_ADJ_ROOM_` ENCAP_L3_IPV4, ENCAP_L4_UDP, ENCAP_L2_ETH and ENCAP_L2(14).
const ENCAPSULATED: u64 = 1 << 1 | 1 << 4 | 1 << 6 | 14 << 56;
const BPF_F_ADJ_ROOM_FIXED_GSO: u64 = 1;

/// The frame of a tc program.
pub struct TcFrame(pub *mut __sk_buff);

impl TcFrame {
    #[inline(always)]
    fn skb(&self) -> &__sk_buff {
        // SAFETY: the kernel passes a valid context.
        unsafe { &*self.0 }
    }

    /// Whether the IP header names UDP (without extension headers: segments have none).
    #[inline(always)]
    fn is_udp(&self) -> bool {
        match self.load::<24>(0) {
            Some(head) if head[12] == 0x08 => head[23] == 17,
            Some(head) => head[20] == 17,
            None => false,
        }
    }

    /// What XDP said of the frame, if it came over the uplink for somebody here.
    #[inline(always)]
    pub fn handover(&self) -> Option<Handover> {
        let start = self.skb().data_meta as usize;
        if start + size_of::<Handover>() > self.skb().data as usize {
            return None;
        }
        // SAFETY: just compared with the end of the metadata; any bytes are a value.
        Some(unsafe { (start as *const Handover).read_unaligned() }).filter(|handover| handover.magic == MAGIC)
    }

    /// Marks the frame as ours: those with a foreign MAC address arrive as another host's, and before kernel 6.15 nobody
    /// clears that on the way into a pod.
    #[inline(always)]
    pub fn claim(&self) -> bool {
        // SAFETY: valid context.
        unsafe { bpf_skb_change_type(self.0, PACKET_HOST) == 0 }
    }

    /// Whether the tag in metadata is an 802.1Q one.
    #[inline(always)]
    fn has_tag(&self) -> bool {
        self.skb().vlan_present != 0 && self.skb().vlan_proto == VLAN_PROTOCOL as u32
    }

    /// The interface it arrived at.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        self.skb().ifindex
    }
}

impl Frame for TcFrame {
    #[inline(always)]
    fn linearize(&self) {
        let linear = self.skb().data_end - self.skb().data;
        if linear < HEADERS && linear < self.skb().len {
            let wanted = if self.skb().len < HEADERS { self.skb().len } else { HEADERS };
            // SAFETY: valid context. If memory is short, the loads fail and the frame is dropped with its reason.
            unsafe { bpf_skb_pull_data(self.0, wanted) };
        }
    }
    #[inline(always)]
    fn len(&self) -> u32 {
        self.skb().len
    }
    #[inline(always)]
    fn gso_size(&self) -> u32 {
        self.skb().gso_size
    }
    #[inline(always)]
    fn vlan(&self) -> u16 {
        if self.has_tag() { self.skb().vlan_tci as u16 & 0xfff } else { 0 }
    }
    #[inline(always)]
    fn untag(&mut self) -> bool {
        // SAFETY: valid context.
        !self.has_tag() || unsafe { bpf_skb_vlan_pop(self.0) } == 0
    }
    #[inline(always)]
    fn hides_tag(&self) -> bool {
        self.skb().vlan_present != 0
    }
    #[inline(always)]
    fn tag(&mut self, vlan: u16) -> bool {
        // SAFETY: valid context.
        unsafe { bpf_skb_vlan_push(self.0, VLAN_PROTOCOL, vlan) == 0 }
    }
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let start = self.skb().data as usize + offset;
        if start + N > self.skb().data_end as usize {
            return None;
        }
        // SAFETY: just compared with the end of the linear part.
        Some(unsafe { (start as *const [u8; N]).read_unaligned() })
    }
    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        let start = self.skb().data as usize + offset;
        if start + 4 * N > self.skb().data_end as usize {
            return None;
        }
        // Word by word: LLVM reads what it does not know to be aligned byte by byte. This machine reads packets at any
        // alignment, and so does its verifier.
        // SAFETY: just compared with the end of the frame.
        Some(core::array::from_fn(|i| unsafe { (start as *const u32).add(i).read() }))
    }
    #[inline(always)]
    fn words_at<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        let mut words = MaybeUninit::<[u32; N]>::uninit();
        // SAFETY: the helper checks the offset and writes all 4 N bytes or fails.
        unsafe {
            if bpf_skb_load_bytes(self.0.cast(), offset, words.as_mut_ptr().cast(), 4 * N as u32) != 0 {
                return None;
            }
            Some(words.assume_init())
        }
    }
    #[inline(always)]
    fn load_at<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper checks the offset and writes all N bytes or fails.
        unsafe {
            if bpf_skb_load_bytes(self.0.cast(), offset, bytes.as_mut_ptr().cast(), N as u32) != 0 {
                return None;
            }
            Some(bytes.assume_init())
        }
    }
    #[inline(always)]
    fn head<const N: usize>(&self, into: &mut [u8; N]) {
        let len = self.len();
        let len = if len < N as u32 { len } else { N as u32 };
        if len != 0 {
            // SAFETY: `into` has N bytes, and `len` is at most N.
            unsafe { bpf_skb_load_bytes(self.0.cast(), 0, into.as_mut_ptr().cast(), len) };
        }
    }
    // By helper rather than through a pointer: a program that writes through pointers makes the kernel copy the headers of
    // every cloned frame (each one a TCP sender sends) before it runs.
    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> bool {
        // SAFETY: the helper checks the offset.
        unsafe { bpf_skb_store_bytes(self.0, offset as u32, bytes.as_ptr().cast(), N as u32, 0) == 0 }
    }
    #[inline(always)]
    fn pull<const COUNT: usize>(&mut self) -> bool {
        // Encapsulated frames are taken apart in XDP, before receive offload; tc never sees one of ours.
        false
    }
    /// The room opens behind the Ethernet header, so that header becomes the outer one and is written again as the inner one.
    /// Frames that stand for segments are marked as a tunnel of IPv4, UDP and Ethernet, so that every segment gets its own
    /// outer lengths; others are not, since the mark outlives decapsulation and the kernel refuses a second one. The mark also
    /// makes the frame one of IPv4, by which the kernel then finds its next hop; without it, IPv6 is translated.
    #[inline(always)]
    fn push<const COUNT: usize>(&mut self, bytes: &[u8; COUNT]) -> bool {
        let Some(inner) = self.load::<{ 14 + IPV4 }>(0) else {
            return false;
        };
        let mut room = COUNT as i32;
        if self.skb().gso_size == 0 && inner[12..14] == [0x86, 0xdd] {
            // SAFETY: valid context.
            if unsafe { bpf_skb_change_proto(self.0, IPV4_PROTOCOL, 0) } != 0 {
                return false;
            }
            // What the translation cut off is among the bytes that are written again.
            room += (IPV6 - IPV4) as i32;
        }
        let flags = if self.skb().gso_size == 0 {
            0
        } else if self.is_udp() {
            // Datagrams keep their size; TCP segments may shrink by what the header takes.
            ENCAPSULATED | BPF_F_ADJ_ROOM_FIXED_GSO
        } else {
            ENCAPSULATED
        };
        // SAFETY: valid context.
        let grown = unsafe { bpf_skb_adjust_room(self.0, room, BPF_ADJ_ROOM_MAC, flags) == 0 };
        // SAFETY: as above; the helper checks the length. Not by `store`, which would copy the header to the stack.
        grown
            && unsafe { bpf_skb_store_bytes(self.0, 0, bytes.as_ptr().cast(), COUNT as u32, 0) == 0 }
            && self.store(COUNT, inner)
    }
    #[inline(always)]
    fn resize(&mut self, len: u32) -> bool {
        // SAFETY: valid context.
        unsafe { bpf_skb_change_tail(self.0, len, 0) == 0 }
    }
}
