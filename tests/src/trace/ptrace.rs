//! ptrace(2) on x86-64, each request behind a safe function. All of a tracer's calls come from one thread.
#![allow(unsafe_code, reason = "ptrace and waitid have no safe form in std")]

use std::{io, mem, ptr};

/// Bytes of the instruction `syscall`.
pub(super) const SYSCALL_BYTES: u64 = 2;
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Number of a thread.
pub(super) type Thread = libc::pid_t;

/// Why a thread no longer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// A signal is about to be delivered.
    Signal(i32),
    /// Something that only tracers are told: a new thread, an interruption.
    Event,
    /// It has ended.
    Ended,
}

fn request(what: libc::c_uint, thread: Thread, address: usize, data: usize) -> io::Result<i64> {
    // SAFETY: only requests without pointers come here; a thread that is no tracee is refused by the kernel.
    let answer = unsafe { libc::ptrace(what, thread, address, data) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Begins to trace a thread and those it starts, without stopping it.
pub(super) fn seize(thread: Thread) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, thread, 0, libc::PTRACE_O_TRACECLONE as usize).map(drop)
}

/// Stops a thread that runs.
pub(super) fn interrupt(thread: Thread) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT, thread, 0, 0).map(drop)
}

/// Lets a stopped thread run on, with a signal or 0 for none.
pub(super) fn go_on(thread: Thread, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_CONT, thread, 0, signal as usize).map(drop)
}

/// Lets a stopped thread carry out one instruction.
pub(super) fn step(thread: Thread) -> io::Result<()> {
    request(libc::PTRACE_SINGLESTEP, thread, 0, 0).map(drop)
}

/// Registers of a stopped thread.
pub(super) fn registers(thread: Thread) -> io::Result<libc::user_regs_struct> {
    // SAFETY: the registers are plain integers, for which zero is valid.
    let mut registers: libc::user_regs_struct = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes one such structure to the pointer, which is to a live local.
    let answer = unsafe { libc::ptrace(libc::PTRACE_GETREGS, thread, 0, &raw mut registers) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(registers) }
}

/// Sets the registers of a stopped thread.
pub(super) fn set_registers(thread: Thread, registers: &libc::user_regs_struct) -> io::Result<()> {
    // SAFETY: the kernel reads one such structure from the pointer, which is to a live value.
    let answer = unsafe { libc::ptrace(libc::PTRACE_SETREGS, thread, 0, ptr::from_ref(registers)) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether an instruction `syscall` is at an address of a stopped thread's.
pub(super) fn is_system_call(thread: Thread, address: u64) -> bool {
    request(libc::PTRACE_PEEKTEXT, thread, address as usize, 0)
        .is_ok_and(|word| word.to_le_bytes().starts_with(&SYSCALL))
}

/// The address that a thread was stopped for by a memory fault.
pub(super) fn fault_address(thread: Thread) -> io::Result<u64> {
    // SAFETY: siginfo_t is plain integers, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes one such structure to the pointer, which is to a live local.
    let answer = unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, thread, 0, &raw mut info) };
    if answer == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every variant of the union begins with an integer or a pointer, and both are there.
    Ok(unsafe { info.si_addr() } as u64)
}

/// Waits for a stop of one tracee, or of any with 0. The end of `leader` is seen and left to its parent, which is this process,
/// too; it may also have taken it already.
pub(super) fn wait(thread: Thread, leader: Thread) -> io::Result<(Thread, Stop)> {
    let whom = if thread == 0 { libc::P_ALL } else { libc::P_PID };
    let of_own = libc::WEXITED | libc::WSTOPPED | libc::__WALL | libc::__WNOTHREAD;
    // SAFETY: siginfo_t is plain integers, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes one such structure to the pointer, which is to a live local.
    if unsafe { libc::waitid(whom, thread as libc::id_t, &raw mut info, of_own | libc::WNOWAIT) } == -1 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ECHILD) { Ok((leader, Stop::Ended)) } else { Err(error) };
    }
    // SAFETY: waitid succeeded, so the fields of a child's change are there.
    let thread = unsafe { info.si_pid() };
    if thread == leader && !matches!(info.si_code, libc::CLD_TRAPPED | libc::CLD_STOPPED) {
        return Ok((thread, Stop::Ended));
    }
    let mut status = 0;
    // SAFETY: the pointer is to a live local.
    if unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL | libc::__WNOTHREAD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    let stop = match libc::WIFSTOPPED(status) {
        false => Stop::Ended,
        true if status >> 16 != 0 => Stop::Event,
        true => Stop::Signal(libc::WSTOPSIG(status)),
    };
    Ok((thread, stop))
}
