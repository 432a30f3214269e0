//! System calls that aya 0.14 does not wrap: memory-mapped arrays, batch look-ups, membarrier.
#![allow(unsafe_code, reason = "bpf(2), mmap(2) and membarrier(2) have no safe wrapper")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// `BPF_MAP_LOOKUP_BATCH` (kernel 5.6).
const MAP_LOOKUP_BATCH: libc::c_long = 24;
/// `BPF_MAP_LOOKUP_ELEM`.
const MAP_LOOKUP_ELEM: libc::c_long = 1;
/// `BPF_MAP_UPDATE_ELEM`.
const MAP_UPDATE_ELEM: libc::c_long = 2;
/// `BPF_MAP_CREATE`.
const MAP_CREATE: libc::c_long = 0;
/// `BPF_OBJ_GET`.
const OBJ_GET: libc::c_long = 7;
/// `BPF_OBJ_GET_INFO_BY_FD`.
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// `BPF_LINK_TYPE_XDP`.
const LINK_TYPE_XDP: u32 = 6;
/// `BPF_LINK_TYPE_TCX` (kernel 6.6).
const LINK_TYPE_TCX: u32 = 11;
/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_ARRAY_OF_MAPS`.
const ARRAY_OF_MAPS: u32 = 12;
/// `MEMBARRIER_CMD_GLOBAL`: waits until every running thread has passed a quiescent state, as `synchronize_rcu` does.
const MEMBARRIER_GLOBAL: libc::c_int = 1;

/// A BPF array (`BPF_F_MMAPABLE`) mapped into this process.
pub(crate) struct Mapping {
    address: *mut u8,
    len: usize,
}

// SAFETY: the mapping is plain shared memory; every access goes through `&mut self` or a volatile store.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes of the array.
    pub(crate) fn new(map: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if address == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(Self { address: address.cast(), len })
        }
    }

    /// Writes values from element `index` on. Not atomic: for memory that no reader is led to yet.
    pub(crate) fn write<T: Copy>(&mut self, index: usize, values: &[T]) {
        let start = index * size_of::<T>();
        assert!(start + size_of_val(values) <= self.len, "write past the end of a mapped array");
        // SAFETY: within the mapping, just checked; source and destination do not overlap.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr().cast(), self.address.add(start), size_of_val(values)) }
    }

    /// Reads one element.
    pub(crate) fn read<T: Copy>(&self, index: usize) -> T {
        let start = index * size_of::<T>();
        assert!(start + size_of::<T>() <= self.len, "read past the end of a mapped array");
        // SAFETY: within the mapping; BPF arrays are page-aligned and their elements aligned to 8.
        unsafe { ptr::read_volatile(self.address.add(start).cast()) }
    }

    /// Stores one word as a whole, after everything written before it.
    pub(crate) fn publish(&mut self, index: usize, word: u64) {
        assert!(index * 8 + 8 <= self.len, "store past the end of a mapped array");
        // SAFETY: within the mapping and aligned.
        let place = unsafe { std::sync::atomic::AtomicU64::from_ptr(self.address.cast::<u64>().add(index)) };
        place.store(word, std::sync::atomic::Ordering::Release);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, unmapped once.
        unsafe { libc::munmap(self.address.cast(), self.len) };
    }
}

/// Waits until no program can still hold what it read before. About 10 ms.
pub(crate) fn grace_period() -> io::Result<()> {
    // SAFETY: no pointers.
    let answer = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_GLOBAL, 0, 0) };
    if answer == 0 {
        return Ok(());
    }
    // Refused on kernels with nohz_full processors, and by some seccomp filters.
    let refused = io::Error::last_os_error();
    grace_period_of_map().map_err(|error| {
        let advice = "allow one of the two, or boot without nohz_full";
        io::Error::new(
            error.kind(),
            format!("membarrier(MEMBARRIER_CMD_GLOBAL): {refused}; update of an array of maps: {error}; {advice}"),
        )
    })
}

/// The same by an update of an array of maps: the kernel returns from it only when every program that runs sees the new map
/// (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c, which is `synchronize_rcu`).
fn grace_period_of_map() -> io::Result<()> {
    /// The kernel's `union bpf_attr` for `BPF_MAP_CREATE`.
    #[repr(C)]
    struct CreateAttr {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
        inner_map_fd: u32,
    }
    let create = |map_type, inner_map_fd| {
        let attr = CreateAttr { map_type, key_size: 4, value_size: 4, max_entries: 1, map_flags: 0, inner_map_fd };
        // SAFETY: no pointers in the attributes.
        let fd = unsafe { libc::syscall(libc::SYS_bpf, MAP_CREATE, &raw const attr, size_of::<CreateAttr>()) };
        // SAFETY: a fresh descriptor of ours, owned once.
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }) }
    };
    let inner = create(ARRAY, 0)?;
    let outer = create(ARRAY_OF_MAPS, inner.as_raw_fd() as u32)?;
    let (key, value) = (0_u32, inner.as_raw_fd() as u32);
    let attr = ElementAttr {
        map_fd: outer.as_raw_fd() as u32,
        key: ptr::from_ref(&key) as u64,
        value: ptr::from_ref(&value) as u64,
        flags: 0,
    };
    // SAFETY: key and value are four bytes each, as the map was made, and live through the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, MAP_UPDATE_ELEM, &raw const attr, size_of::<ElementAttr>()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The kernel's `union bpf_attr` for element operations.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Index of the interface that a pinned tcx or XDP link leads to; 0 if the interface is gone.
pub(crate) fn pinned_ifindex(path: &Path) -> io::Result<u32> {
    /// The kernel's `union bpf_attr` for `BPF_OBJ_GET`.
    #[repr(C)]
    struct PathAttr {
        path: u64,
        bpf_fd: u32,
        flags: u32,
    }
    /// The same for `BPF_OBJ_GET_INFO_BY_FD`.
    #[repr(C)]
    struct InfoAttr {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    /// The kernel's `struct bpf_link_info`, of which the part after the program differs by type.
    #[repr(C)]
    #[derive(Default)]
    struct LinkInfo {
        link_type: u32,
        id: u32,
        program: u32,
        padding: u32,
        ifindex: u32,
        rest: [u32; 11],
    }
    let text = CString::new(path.as_os_str().as_bytes())?;
    let attr = PathAttr { path: text.as_ptr() as u64, bpf_fd: 0, flags: 0 };
    // SAFETY: the path is a C string that lives through the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET, &raw const attr, size_of::<PathAttr>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor of ours, owned once.
    let link = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    let mut info = LinkInfo::default();
    let attr = InfoAttr {
        bpf_fd: link.as_raw_fd() as u32,
        info_len: size_of::<LinkInfo>() as u32,
        info: ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes to memory that lives through the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET_INFO_BY_FD, &raw const attr, size_of::<InfoAttr>()) };
    match (answer, info.link_type) {
        (0, LINK_TYPE_XDP | LINK_TYPE_TCX) => Ok(info.ifindex),
        (0, other) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("link of type {other}, not tcx or XDP"))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The kernel's `union bpf_attr` for batch operations.
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Reads a hash in batches of at most `batch` elements and hands each to `visit`. Elements that come or go meanwhile may be
/// missed, never torn.
pub(crate) fn scan<K: Copy + Default, V: Copy + Default>(
    map: BorrowedFd<'_>,
    batch: usize,
    mut visit: impl FnMut(&K, &V),
) -> io::Result<()> {
    let mut keys = vec![K::default(); batch];
    let mut values = vec![V::default(); batch];
    let (mut position, mut next) = ([0u8; 64], [0u8; 64]);
    let mut is_first = true;
    loop {
        let mut attr = BatchAttr {
            in_batch: if is_first { 0 } else { position.as_ptr() as u64 },
            out_batch: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: batch as u32,
            map_fd: map.as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: every pointer is to memory of the size the kernel expects (keys and values of the map's own types, `batch`
        // of them; the position of a hash is 4 bytes), and lives through the call.
        let answer = unsafe { libc::syscall(libc::SYS_bpf, MAP_LOOKUP_BATCH, &raw mut attr, size_of::<BatchAttr>()) };
        let error = (answer != 0).then(io::Error::last_os_error);
        let is_end = match error {
            None => false,
            Some(e) if e.raw_os_error() == Some(libc::ENOENT) => true,
            Some(e) => return Err(e),
        };
        let count = attr.count as usize;
        keys[..count].iter().zip(&values[..count]).for_each(|(key, value)| visit(key, value));
        if is_end {
            return Ok(());
        }
        position = next;
        is_first = false;
    }
}

/// Looks up one element of a hash.
pub(crate) fn lookup<K: Copy, V: Copy + Default>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = V::default();
    let attr = ElementAttr {
        map_fd: map.as_raw_fd() as u32,
        key: ptr::from_ref(key) as u64,
        value: ptr::from_mut(&mut value) as u64,
        flags: 0,
    };
    // SAFETY: key and value are of the map's own types and live through the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, MAP_LOOKUP_ELEM, &raw const attr, size_of::<ElementAttr>()) };
    if answer == 0 {
        return Ok(Some(value));
    }
    match io::Error::last_os_error() {
        e if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        e => Err(e),
    }
}

/// Waits until a descriptor is readable, or for `timeout`.
pub(crate) fn readable(fd: RawFd, timeout: std::time::Duration) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd that lives through the call.
    unsafe { libc::poll(&raw mut poll, 1, timeout.as_millis() as libc::c_int) > 0 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_ways_to_wait_for_running_programs_work() {
        testbed::require!();
        super::grace_period().expect("a grace period");
        super::grace_period_of_map().expect("a grace period without membarrier");
    }
}
