//! A frame in XDP: plain bytes, its VLAN tag among them.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{
    bpf_xdp_adjust_head, bpf_xdp_adjust_meta, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_load_bytes,
};
use core::mem::MaybeUninit;
use xdp_forward::frame::Frame;
use xdp_layout::config::Handover;

const TAG: usize = 4;

/// The frame of an XDP program.
pub struct XdpFrame(pub *mut xdp_md);

impl XdpFrame {
    #[inline(always)]
    fn md(&self) -> &xdp_md {
        // SAFETY: the kernel passes a valid context.
        unsafe { &*self.0 }
    }

    #[inline(always)]
    fn tag_bytes(&self) -> Option<[u8; TAG]> {
        // 18 bytes, so that a frame cut off inside its tag has none.
        let head: [u8; 18] = self.load(0)?;
        (head[12] == 0x81 && head[13] == 0).then_some([head[12], head[13], head[14], head[15]])
    }

    /// Puts what the tc program needs to know in front of the frame. False where the driver has no room for metadata.
    #[inline(always)]
    pub fn hand_over(&mut self, handover: &Handover) -> bool {
        // SAFETY: valid context.
        if unsafe { bpf_xdp_adjust_meta(self.0, -(size_of::<Handover>() as i32)) } != 0 {
            return false;
        }
        let start = self.md().data_meta as usize;
        if start + size_of::<Handover>() > self.md().data as usize {
            return false;
        }
        // SAFETY: just compared with the end of the metadata.
        unsafe { (start as *mut Handover).write_unaligned(*handover) };
        true
    }

    #[inline(always)]
    fn adjust_head(&mut self, delta: i32) -> bool {
        // SAFETY: valid context; pointers are read anew after this.
        unsafe { bpf_xdp_adjust_head(self.0, delta) == 0 }
    }
}

impl Frame for XdpFrame {
    // Frames come in over uplinks, and those are not cached.
    const MOSTLY_CACHED: bool = false;

    #[inline(always)]
    fn len(&self) -> u32 {
        // By helper: the compiler keeps half of a pointer for the difference, which the verifier refuses.
        // SAFETY: valid context.
        unsafe { bpf_xdp_get_buff_len(self.0) as u32 }
    }
    #[inline(always)]
    fn gso_size(&self) -> u32 {
        0
    }
    #[inline(always)]
    fn vlan(&self) -> u16 {
        self.tag_bytes().map_or(0, |tag| u16::from_be_bytes([tag[2], tag[3]]) & 0xfff)
    }
    #[inline(always)]
    fn untag(&mut self) -> bool {
        if self.tag_bytes().is_none() {
            return true;
        }
        let Some(macs) = self.load::<12>(0) else {
            return false;
        };
        self.adjust_head(TAG as i32) && self.store(0, macs)
    }
    #[inline(always)]
    fn tag(&mut self, vlan: u16) -> bool {
        let Some(macs) = self.load::<12>(0) else {
            return false;
        };
        let [high, low] = vlan.to_be_bytes();
        self.adjust_head(-(TAG as i32)) && self.store(0, macs) && self.store(12, [0x81, 0, high, low])
    }
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let start = self.md().data as usize + offset;
        if start + N > self.md().data_end as usize {
            return None;
        }
        // SAFETY: just compared with the end of the frame.
        Some(unsafe { (start as *const [u8; N]).read_unaligned() })
    }
    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        let start = self.md().data as usize + offset;
        if start + 4 * N > self.md().data_end as usize {
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
            if bpf_xdp_load_bytes(self.0, offset, words.as_mut_ptr().cast(), 4 * N as u32) != 0 {
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
            if bpf_xdp_load_bytes(self.0, offset, bytes.as_mut_ptr().cast(), N as u32) != 0 {
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
            unsafe { bpf_xdp_load_bytes(self.0, 0, into.as_mut_ptr().cast(), len) };
        }
    }
    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> bool {
        let start = self.md().data as usize + offset;
        if start + N > self.md().data_end as usize {
            return false;
        }
        // SAFETY: just compared with the end of the frame.
        unsafe { (start as *mut [u8; N]).write_unaligned(bytes) };
        true
    }
    #[inline(always)]
    fn pull<const COUNT: usize>(&mut self) -> bool {
        self.adjust_head(COUNT as i32)
    }
    #[inline(always)]
    fn push<const COUNT: usize>(&mut self, bytes: &[u8; COUNT]) -> bool {
        if !self.adjust_head(-(COUNT as i32)) {
            return false;
        }
        let start = self.md().data as usize;
        if start + COUNT > self.md().data_end as usize {
            return false;
        }
        // SAFETY: just compared with the end of the frame; the header lies in a map, not in the frame.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), start as *mut u8, COUNT) };
        true
    }
    #[inline(always)]
    fn resize(&mut self, len: u32) -> bool {
        let delta = len as i32 - self.len() as i32;
        // SAFETY: valid context.
        unsafe { bpf_xdp_adjust_tail(self.0, delta) == 0 }
    }
}
