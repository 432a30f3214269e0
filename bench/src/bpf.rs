//! Small programs of raw instructions, and `BPF_PROG_TEST_RUN` with options that aya 0.14 does not offer (live frames).
#![allow(unsafe_code, reason = "bpf(2), sched_setaffinity(2) and sched_setscheduler(2) have no safe wrapper")]

use anyhow::{Context as _, bail};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
const LINK_CREATE: libc::c_long = 28;

const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PROG_ARRAY: u32 = 3;
/// `BPF_PROG_TYPE_SCHED_CLS`.
pub(crate) const CLASSIFIER: u32 = 3;
/// `BPF_PROG_TYPE_XDP`.
pub(crate) const XDP: u32 = 6;
const TCX_INGRESS: u32 = 46;
const LIVE_FRAMES: u32 = 1 << 1;
/// Bytes of a key and of a value of the connection table.
pub(crate) const TABLE_KEY: usize = 40;
pub(crate) const TABLE_VALUE: usize = 64;

/// One instruction as the kernel reads it (`struct bpf_insn`).
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Insn {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn insn(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Insn {
    Insn { code, registers: source << 4 | destination, offset, immediate }
}

/// 64-bit move of a register.
pub(crate) const fn mov(to: u8, from: u8) -> Insn {
    insn(0xbf, to, from, 0, 0)
}
/// 64-bit move of a constant.
pub(crate) const fn set(to: u8, value: i32) -> Insn {
    insn(0xb7, to, 0, 0, value)
}
/// 64-bit addition of a constant.
pub(crate) const fn add(to: u8, value: i32) -> Insn {
    insn(0x07, to, 0, 0, value)
}
/// 32-bit arithmetic with a constant: 0x04 add, 0x24 multiply, 0x44 or.
pub(crate) const fn arithmetic(code: u8, to: u8, value: i32) -> Insn {
    insn(code, to, 0, 0, value)
}
/// 32-bit and of two registers.
pub(crate) const fn and(to: u8, from: u8) -> Insn {
    insn(0x5c, to, from, 0, 0)
}
/// To big-endian, of 16 or 32 bits.
pub(crate) const fn big_endian(to: u8, bits: i32) -> Insn {
    insn(0xdc, to, 0, 0, bits)
}
/// Load of 32 bits.
pub(crate) const fn load32(to: u8, base: u8, offset: i16) -> Insn {
    insn(0x61, to, base, offset, 0)
}
/// Load of 8 bits.
pub(crate) const fn load16(to: u8, base: u8, offset: i16) -> Insn {
    insn(0x69, to, base, offset, 0)
}
/// Unsigned byte of memory.
pub(crate) const fn load8(to: u8, base: u8, offset: i16) -> Insn {
    insn(0x71, to, base, offset, 0)
}
/// Store of 32 bits.
pub(crate) const fn store32(base: u8, offset: i16, from: u8) -> Insn {
    insn(0x63, base, from, offset, 0)
}
/// Store of a constant of 32 bits.
pub(crate) const fn store_constant32(base: u8, offset: i16, value: i32) -> Insn {
    insn(0x62, base, 0, offset, value)
}
/// Store of 16 bits.
pub(crate) const fn store16(base: u8, offset: i16, from: u8) -> Insn {
    insn(0x6b, base, from, offset, 0)
}
/// Atomic 64-bit addition to memory.
pub(crate) const fn atomic_add(base: u8, offset: i16, from: u8) -> Insn {
    insn(0xdb, base, from, offset, 0)
}
/// Jump if one register is greater than the other.
pub(crate) const fn if_greater(a: u8, b: u8, skip: i16) -> Insn {
    insn(0x2d, a, b, skip, 0)
}
/// Jump if a register is not a constant.
pub(crate) const fn if_not(register: u8, value: i32, skip: i16) -> Insn {
    insn(0x55, register, 0, skip, value)
}
/// Call of a helper.
pub(crate) const fn call(helper: i32) -> Insn {
    insn(0x85, 0, 0, 0, helper)
}
/// End, with what register 0 holds.
pub(crate) const fn exit() -> Insn {
    insn(0x95, 0, 0, 0, 0)
}
/// Address of a map (two instructions).
pub(crate) fn map_address(to: u8, map: &impl AsFd) -> [Insn; 2] {
    [insn(0x18, to, 1, 0, map.as_fd().as_raw_fd()), insn(0, 0, 0, 0, 0)]
}
/// Address of an array's first element (two instructions).
pub(crate) fn value_address(to: u8, map: &impl AsFd) -> [Insn; 2] {
    [insn(0x18, to, 2, 0, map.as_fd().as_raw_fd()), insn(0, 0, 0, 0, 0)]
}

/// Calls bpf(2) with an attribute structure of the command's own form.
fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the structure lives through the call, its size is passed, and callers put in it only pointers to memory that
    // lives as long and has the lengths given.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn bpf_fd<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the command made a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[repr(C)]
struct ElementAttr {
    map: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn create(kind: u32, key_size: u32, value_size: u32, entries: u32) -> anyhow::Result<OwnedFd> {
    let mut attr = [kind, key_size, value_size, entries];
    bpf_fd(MAP_CREATE, &mut attr).context("create a BPF map")
}

/// A preallocated hash with the sizes of the connection table's keys and values.
pub(crate) struct Table(OwnedFd);

impl Table {
    pub(crate) fn new(entries: u32) -> anyhow::Result<Self> {
        Ok(Self(create(HASH, TABLE_KEY as u32, TABLE_VALUE as u32, entries)?))
    }

    pub(crate) fn insert(&self, key: &[u8; TABLE_KEY]) -> anyhow::Result<()> {
        let value = [0u8; TABLE_VALUE];
        let mut attr = ElementAttr {
            map: self.0.as_raw_fd() as u32,
            reserved: 0,
            key: key.as_ptr() as u64,
            value: value.as_ptr() as u64,
            flags: 0,
        };
        bpf(MAP_UPDATE_ELEM, &mut attr).map(drop).context("write into a BPF hash")
    }
}

impl AsFd for Table {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An array of one 8-byte element.
pub(crate) struct Word(OwnedFd);

impl Word {
    pub(crate) fn new(value: u64) -> anyhow::Result<Self> {
        let word = Self(create(ARRAY, 4, 8, 1)?);
        word.write(value)?;
        Ok(word)
    }

    pub(crate) fn write(&self, value: u64) -> anyhow::Result<()> {
        let mut value = value;
        self.element(MAP_UPDATE_ELEM, &mut value)
    }

    pub(crate) fn read(&self) -> anyhow::Result<u64> {
        let mut value = 0;
        self.element(MAP_LOOKUP_ELEM, &mut value)?;
        Ok(value)
    }

    fn element(&self, command: libc::c_long, value: &mut u64) -> anyhow::Result<()> {
        let key = 0u32;
        let mut attr = ElementAttr {
            map: self.0.as_raw_fd() as u32,
            reserved: 0,
            key: &raw const key as u64,
            value: &raw mut *value as u64,
            flags: 0,
        };
        bpf(command, &mut attr).map(drop).context("access a BPF array")
    }
}

impl AsFd for Word {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An array of one program, for tail calls.
pub(crate) fn program_array(program: BorrowedFd<'_>) -> anyhow::Result<OwnedFd> {
    let map = create(PROG_ARRAY, 4, 4, 1)?;
    let (key, value) = (0u32, program.as_raw_fd());
    let mut attr = ElementAttr {
        map: map.as_raw_fd() as u32,
        reserved: 0,
        key: &raw const key as u64,
        value: &raw const value as u64,
        flags: 0,
    };
    bpf(MAP_UPDATE_ELEM, &mut attr).context("put the program into a program array")?;
    Ok(map)
}

/// Loads a program of `kind`.
pub(crate) fn load(kind: u32, instructions: &[Insn]) -> anyhow::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach_type: u32,
    }
    let mut log = vec![0u8; 1 << 16];
    let mut attr = Attr {
        kind,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 1,
        log_size: log.len() as u32,
        log: log.as_mut_ptr() as u64,
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
        interface: 0,
        attach_type: 0,
    };
    let loaded = bpf_fd(PROG_LOAD, &mut attr);
    loaded.with_context(|| format!("load a program: {}", String::from_utf8_lossy(&log).trim_end_matches('\0')))
}

/// Puts a classifier on an interface of the calling thread's namespace, until the link is dropped.
pub(crate) fn attach_ingress(program: BorrowedFd<'_>, ifindex: u32) -> anyhow::Result<OwnedFd> {
    let mut attr = [program.as_raw_fd() as u32, ifindex, TCX_INGRESS, 0, 0, 0, 0, 0];
    bpf_fd(LINK_CREATE, &mut attr).with_context(|| format!("attach a program to interface {ifindex}"))
}

#[repr(C)]
#[derive(Default)]
struct RunAttr {
    program: u32,
    answer: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    reserved: u32,
}

/// Runs a classifier `repeat` times on a frame. What it answered last, and ns of one run by the kernel's own clock.
pub(crate) fn run(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> anyhow::Result<(u32, f64)> {
    let mut attr = RunAttr {
        program: program.as_raw_fd() as u32,
        size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat,
        ..RunAttr::default()
    };
    bpf(PROG_TEST_RUN, &mut attr).context("run a program by BPF_PROG_TEST_RUN")?;
    Ok((attr.answer, f64::from(attr.duration)))
}

/// Sends `count` frames as the XDP program says, for real.
pub(crate) fn run_live(program: BorrowedFd<'_>, frame: &[u8], count: u32) -> anyhow::Result<()> {
    let mut attr = RunAttr {
        program: program.as_raw_fd() as u32,
        size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat: count,
        flags: LIVE_FRAMES,
        batch_size: 64,
        ..RunAttr::default()
    };
    bpf(PROG_TEST_RUN, &mut attr).map(drop).context("send live frames by BPF_PROG_TEST_RUN")
}

/// Keeps the calling thread on one CPU, and ahead of everything that is not real-time, so that other work on the machine
/// disturbs a measurement less.
pub(crate) fn pin(cpu: usize) -> anyhow::Result<()> {
    // SAFETY: an all-zero set is empty; `cpu` is below its size; both structures live through the calls.
    let (pinned, scheduled) = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        let parameters = libc::sched_param { sched_priority: 1 };
        (
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set),
            libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters),
        )
    };
    if pinned != 0 || scheduled != 0 {
        bail!("cannot pin to CPU {cpu}: {}", io::Error::last_os_error());
    }
    Ok(())
}

/// The number of an interface of the calling thread's namespace.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: a NUL-terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}
