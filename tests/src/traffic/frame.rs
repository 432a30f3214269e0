//! Hand-made frames: tags, malformed headers, tuples no socket would send.

use crate::{Error, LinkEnd, Result, recorder::PacketSocket};

/// Sends whole Ethernet frames out of an interface.
#[derive(Debug)]
pub struct FrameSender {
    socket: PacketSocket,
    interface: String,
}

impl FrameSender {
    /// Opens it on one end of a link: frames arrive at the other end.
    ///
    /// # Errors
    /// If the interface is gone or packet sockets are not allowed.
    pub fn open(end: &LinkEnd) -> Result<Self> {
        let interface = format!("{} in {}", end.interface, end.namespace.name());
        let socket = end
            .namespace
            .run(|| PacketSocket::open_sender(&end.interface))?
            .map_err(Error::io("open a packet socket on", &interface))?;
        Ok(Self { socket, interface })
    }

    /// Sends one frame, from destination address to payload, at least 14 bytes. Nothing is added
    /// or corrected.
    ///
    /// # Errors
    /// If the interface is down or the frame larger than its MTU allows.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let object = || format!("a frame of {} bytes out of {}", frame.len(), self.interface);
        self.socket.send(frame).map_err(Error::io("send", object()))
    }
}
