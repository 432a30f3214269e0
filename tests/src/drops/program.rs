//! The program at the tracepoint and its map.
#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const PROG_LOAD: libc::c_long = 5;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;

/// `BPF_MAP_TYPE_HASH`.
const HASH: u32 = 1;
/// `BPF_PROG_TYPE_RAW_TRACEPOINT`.
const RAW_TRACEPOINT: u32 = 17;

/// Different drops the map holds.
const ENTRIES: u32 = 4096;

/// Where the kernel keeps what the program reads, offsets in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offsets {
    /// `sk_buff.dev`.
    pub(super) device: u32,
    /// `net_device.nd_net.net`.
    pub(super) network: u32,
    /// `net.ns.inum`.
    pub(super) inode: u32,
}

/// Key of the map: what was dropped where.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Key {
    /// Address in the kernel's code of the place that dropped.
    pub(super) location: u64,
    /// Inode of the network namespace of the frame's interface, 0 if it had none.
    pub(super) namespace: u32,
    /// `enum skb_drop_reason`.
    pub(super) reason: u32,
}

/// `struct bpf_insn`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Insn {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn insn(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Insn {
    Insn { code, registers: source << 4 | destination, offset, immediate }
}

/// Register 10, the frame pointer, and where on the stack the key, a pointer and a new count lie.
const STACK: u8 = 10;
const KEY: i16 = -16;
const NAMESPACE: i16 = KEY + 8;
const REASON: i16 = KEY + 12;
const POINTER: i16 = -24;
const COUNT: i16 = -32;

/// Helper functions (`enum bpf_func_id`).
const LOOKUP: i32 = 1;
const UPDATE: i32 = 2;
const PROBE_READ_KERNEL: i32 = 113;
/// `BPF_NOEXIST`.
const NO_EXIST: i32 = 1;

/// Reads `len` bytes of kernel memory to the stack at `to`, from `offset` behind the address in register 3. Where nothing is, the kernel
/// writes zeros.
fn read(to: i16, len: i32, offset: u32) -> [Insn; 5] {
    [
        insn(0x07, 3, 0, 0, offset as i32),
        insn(0xbf, 1, STACK, 0, 0),
        insn(0x07, 1, 0, 0, to.into()),
        insn(0xb7, 2, 0, 0, len),
        insn(0x85, 0, 0, 0, PROBE_READ_KERNEL),
    ]
}

/// Registers 1 and 2: the map and the address of the key.
fn map_and_key(map: &OwnedFd) -> [Insn; 4] {
    [
        insn(0x18, 1, 1, 0, map.as_raw_fd()),
        insn(0, 0, 0, 0, 0),
        insn(0xbf, 2, STACK, 0, 0),
        insn(0x07, 2, 0, 0, KEY.into()),
    ]
}

/// The tracepoint's arguments are the frame, the place and the reason, eight bytes each.
fn instructions(map: &OwnedFd, offsets: Offsets) -> Vec<Insn> {
    let mut program = vec![
        insn(0x79, 2, 1, 8, 0),
        insn(0x7b, STACK, 2, KEY, 0),
        insn(0x79, 2, 1, 16, 0),
        insn(0x63, STACK, 2, REASON, 0),
        insn(0x79, 3, 1, 0, 0),
    ];
    program.extend(read(POINTER, 8, offsets.device));
    program.push(insn(0x79, 3, STACK, POINTER, 0));
    program.extend(read(POINTER, 8, offsets.network));
    program.push(insn(0x79, 3, STACK, POINTER, 0));
    program.extend(read(NAMESPACE, 4, offsets.inode));
    // A count of 0 unless there is one, then 1 more.
    program.extend(map_and_key(map));
    program.extend([
        insn(0x7a, STACK, 0, COUNT, 0),
        insn(0xbf, 3, STACK, 0, 0),
        insn(0x07, 3, 0, 0, COUNT.into()),
        insn(0xb7, 4, 0, 0, NO_EXIST),
        insn(0x85, 0, 0, 0, UPDATE),
    ]);
    program.extend(map_and_key(map));
    program.extend([
        insn(0x85, 0, 0, 0, LOOKUP),
        insn(0x15, 0, 0, 2, 0),
        insn(0xb7, 1, 0, 0, 1),
        insn(0xdb, 0, 1, 0, 0),
        insn(0xb7, 0, 0, 0, 0),
        insn(0x95, 0, 0, 0, 0),
    ]);
    program
}

/// Calls bpf(2) with an attribute structure of the command's own form.
fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the structure lives through the call, its size is passed, and callers put in it only pointers to memory that
    // lives as long and has the size that the kernel expects.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn descriptor<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    let answer = bpf(command, attr)?;
    // SAFETY: the command made a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(answer as i32) })
}

/// The program in the kernel, at its tracepoint until this is dropped.
#[derive(Debug)]
pub(super) struct Program {
    map: OwnedFd,
    _link: OwnedFd,
}

impl Program {
    /// Loads it and attaches it to `skb:kfree_skb`.
    pub(super) fn attach(offsets: Offsets) -> io::Result<Self> {
        let map = descriptor(MAP_CREATE, &mut [HASH, size_of::<Key>() as u32, 8, ENTRIES])?;
        let instructions = instructions(&map, offsets);
        // `union bpf_attr` of the command: type, number of instructions, instructions, license; no log.
        #[repr(C)]
        struct Load {
            kind: u32,
            count: u32,
            instructions: u64,
            license: u64,
        }
        let mut load = Load {
            kind: RAW_TRACEPOINT,
            count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
        };
        let program = descriptor(PROG_LOAD, &mut load)?;
        let mut open = [c"kfree_skb".as_ptr() as u64, program.as_raw_fd() as u64];
        Ok(Self { _link: descriptor(RAW_TRACEPOINT_OPEN, &mut open)?, map })
    }

    /// All drops so far.
    pub(super) fn counts(&self) -> io::Result<Vec<(Key, u64)>> {
        let mut counts = Vec::new();
        let mut last: Option<Key> = None;
        loop {
            let mut key = Key::default();
            let before = last.as_ref().map_or(0, |key| std::ptr::from_ref(key) as u64);
            match self.element(MAP_GET_NEXT_KEY, before, std::ptr::from_mut(&mut key) as u64) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
                Err(error) => return Err(error),
            }
            let mut count = 0u64;
            self.element(MAP_LOOKUP_ELEM, &raw const key as u64, &raw mut count as u64)?;
            counts.push((key, count));
            last = Some(key);
        }
        if counts.len() as u32 == ENTRIES {
            return Err(io::Error::other("the map of drops is full: some may be missing"));
        }
        Ok(counts)
    }

    fn element(&self, command: libc::c_long, key: u64, value: u64) -> io::Result<()> {
        bpf(command, &mut [self.map.as_raw_fd() as u64, key, value, 0]).map(drop)
    }
}
