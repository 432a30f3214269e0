//! The system calls std has no wrapper for, each behind a safe function.
#![allow(unsafe_code, reason = "setns, kill and pre_exec hooks have no safe form in std")]

use std::{
    ffi::CString,
    fs::File,
    io,
    net::UdpSocket,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::process::CommandExt,
    },
    process::Command,
    sync::Arc,
};

/// Moves the calling thread into the network namespace `namespace` refers to.
pub(crate) fn enter_network_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: setns takes no pointers; the descriptor is open for the duration of the borrow.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes `command` start inside `namespace` and in a process group of its own. The mount
/// namespace stays the caller's (unlike with `ip netns exec`), so bpffs remains visible.
pub(crate) fn start_inside(command: &mut Command, namespace: Arc<File>) {
    command.process_group(0);
    let enter = move || {
        // SAFETY: setns takes no pointers; the closure owns the descriptor, so it is open.
        match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the hook runs between fork and exec and makes one async-signal-safe system call;
    // it neither allocates nor takes locks (io::Error::last_os_error is a plain integer).
    unsafe {
        command.pre_exec(enter);
    }
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// One process.
    Process(i32),
    /// Every process of a group.
    Group(i32),
}

/// Sends `signal`; an already ended target is no error.
pub(crate) fn send_signal(target: Target, signal: i32) -> io::Result<()> {
    let id = match target {
        Target::Process(id) => id,
        Target::Group(id) => -id,
    };
    // 0, 1 and -1 would mean the caller's own group, init, and every process there is.
    assert!(id.abs() > 1, "refusing to signal process id {id}");
    // SAFETY: kill takes two integers.
    if unsafe { libc::kill(id, signal) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

/// Whether the calling process runs as root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// The number of interface `name` in the calling thread's network namespace.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: the pointer is to a NUL-terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Sets a socket's receive buffer, beyond the system's limit too (SO_RCVBUFFORCE).
pub(crate) fn set_receive_buffer(socket: &UdpSocket, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the pointer and length describe `bytes`, which outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as u32,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps the calling thread on one CPU.
pub(crate) fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    // SAFETY: cpu_set_t is plain integers, for which zero is valid; the pointer and length describe it.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Forbids fragmentation of what a socket sends: what is larger than the path MTU is refused (IP_PMTUDISC_DO).
pub(crate) fn forbid_fragments(socket: &UdpSocket, is_ipv4: bool) -> io::Result<()> {
    let (level, option) = match is_ipv4 {
        true => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        false => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    };
    let value: libc::c_int = libc::IP_PMTUDISC_DO;
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size_of_val(&value) as u32)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread a bigger share of the CPU than programs under load have.
pub(crate) fn raise_priority() -> io::Result<()> {
    // SAFETY: setpriority takes three integers; 0 is the calling thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
