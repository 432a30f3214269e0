//! A packet socket that yields the first bytes of every frame of an interface, both ways.
#![allow(unsafe_code, reason = "packet sockets, their options and control messages have no safe form in std")]

use std::{
    io, mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    ptr,
};

use crate::sys;

/// Bytes kept of a frame: enough for an ICMPv6 error quoting a packet with extension headers.
pub(super) const SNAP_BYTES: usize = 256;

/// Room for packet auxdata and a time stamp, each with its header.
const CONTROL_BYTES: usize = 128;

/// Frames wait here while the recorder is not scheduled; the kernel counts a frame with its
/// whole memory, up to 64 KiB for a segment train.
const RECEIVE_BUFFER_BYTES: libc::c_int = 256 << 20;

/// No more frames than this can wait in a socket: the kernel doubles the buffer's size, and a
/// frame counts with at least 512 bytes of memory.
pub(super) const FRAMES_QUEUED_MAX: usize = RECEIVE_BUFFER_BYTES as usize * 2 / 512;

/// One frame, as captured.
pub(super) struct Captured<'a> {
    /// Its first bytes, at most [`SNAP_BYTES`].
    pub(super) bytes: &'a [u8],
    /// Its length on the interface.
    pub(super) length: u32,
    /// The VLAN tag control information, if the kernel keeps the tag beside the bytes.
    pub(super) tag: Option<u16>,
    /// Whether the instance sent it.
    pub(super) sent: bool,
    /// When it passed: nanoseconds since 1970.
    pub(super) time_ns: u64,
}

#[derive(Debug)]
pub(crate) struct PacketSocket {
    fd: OwnedFd,
    buffer: [u8; SNAP_BYTES],
}

impl PacketSocket {
    /// Opens a socket that receives every frame of `interface`, which is looked for in the
    /// calling thread's network namespace.
    pub(crate) fn open(interface: &str) -> io::Result<Self> {
        Self::bound(interface, libc::ETH_P_ALL as u16)
    }

    /// Opens a socket that only sends (protocol 0 receives nothing).
    pub(crate) fn open_sender(interface: &str) -> io::Result<Self> {
        Self::bound(interface, 0)
    }

    /// Sends one Ethernet frame.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and length describe `frame`, which outlives the call.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn bound(interface: &str, protocol: u16) -> io::Result<Self> {
        let index = i32::try_from(sys::interface_index(interface)?).expect("an int in the kernel");
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Protocol 0: nothing is received before bind, so no other interface's frames either.
        // SAFETY: socket takes three integers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let one: libc::c_int = 1;
        set(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER_BYTES)?;
        set(&fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &one)?;
        set(&fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &one)?;
        let mut code = libc::sock_filter {
            code: 0x06, // BPF_RET | BPF_K: keep this many bytes
            jt: 0,
            jf: 0,
            k: SNAP_BYTES as u32,
        };
        let filter = libc::sock_fprog { len: 1, filter: &raw mut code };
        set(&fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)?;
        // SAFETY: sockaddr_ll is plain integers, for which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = index;
        // SAFETY: the pointer and length describe `address`, which outlives the call.
        let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32) };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { fd, buffer: [0; SNAP_BYTES] })
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The next frame, `None` if none waits.
    pub(super) fn receive(&mut self) -> io::Result<Option<Captured<'_>>> {
        #[repr(align(8))]
        struct Control([u8; CONTROL_BYTES]);
        let mut control = Control([0; CONTROL_BYTES]);
        // SAFETY: sockaddr_ll and msghdr are integers and pointers, for which zero is valid.
        let (mut address, mut message): (libc::sockaddr_ll, libc::msghdr) = unsafe { (mem::zeroed(), mem::zeroed()) };
        let mut vector = libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: SNAP_BYTES };
        message.msg_name = (&raw mut address).cast();
        message.msg_namelen = size_of_val(&address) as u32;
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_BYTES;
        // SAFETY: every pointer in `message` is to a live local or to `self.buffer`, with its
        // true length beside it.
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, 0) };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock => Ok(None),
                _ => Err(error),
            };
        };
        let mut captured = Captured {
            bytes: &self.buffer[..length],
            length: length as u32,
            tag: None,
            sent: address.sll_pkttype == libc::PACKET_OUTGOING,
            time_ns: 0,
        };
        read_control(&message, &mut captured);
        Ok(Some(captured))
    }

    /// Frames lost since the last call because the buffer was full.
    pub(super) fn take_lost(&self) -> io::Result<u64> {
        // SAFETY: tpacket_stats is two integers, for which zero is valid.
        let mut statistics: libc::tpacket_stats = unsafe { mem::zeroed() };
        let mut length = size_of_val(&statistics) as u32;
        // SAFETY: the pointer and length describe `statistics`, which outlives the call.
        let read = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        if read < 0 { Err(io::Error::last_os_error()) } else { Ok(statistics.tp_drops.into()) }
    }
}

/// Waits until one of `sockets` or `wake` is readable.
pub(super) fn wait_readable(sockets: &[PacketSocket], wake: RawFd) -> io::Result<()> {
    let descriptors = sockets.iter().map(PacketSocket::raw_fd).chain([wake]);
    let mut polled = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect::<Vec<_>>();
    // SAFETY: the pointer and count describe `polled`, which outlives the call.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
    let error = io::Error::last_os_error();
    if ready < 0 && error.kind() != io::ErrorKind::Interrupted { Err(error) } else { Ok(()) }
}

/// Takes the tag, the true length and the time stamp out of the control messages.
fn read_control(message: &libc::msghdr, captured: &mut Captured<'_>) {
    // SAFETY: `message` was filled by recvmsg and its control buffer is alive in the caller.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a whole header in the buffer;
        // the data behind a header of this level and type is the structure read, and
        // read_unaligned asks for no alignment.
        unsafe {
            let data = libc::CMSG_DATA(header);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::SOL_PACKET, libc::PACKET_AUXDATA) => {
                    let aux: libc::tpacket_auxdata = ptr::read_unaligned(data.cast());
                    captured.length = aux.tp_len;
                    if aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                        captured.tag = Some(aux.tp_vlan_tci);
                    }
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let time: libc::timespec = ptr::read_unaligned(data.cast());
                    captured.time_ns = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}

fn set<T>(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    let done =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, ptr::from_ref(value).cast(), size_of::<T>() as u32) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
