//! Hand-made frames: tags, malformed headers, tuples no socket would send.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::{Error, LinkEnd, Result, recorder::PacketSocket, sys};

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

/// Sends each frame twice at the same moment, from two CPUs, whose soft interrupts then carry the two side by side.
///
/// # Errors
/// As [`FrameSender`]'s methods, or if there is no second CPU.
pub fn race_frames(end: &LinkEnd, frames: &[Vec<u8>]) -> Result<()> {
    let arrived = AtomicUsize::new(0);
    let run = |cpu: usize| -> Result<()> {
        sys::pin_to_cpu(cpu).map_err(Error::io("pin a thread to", format!("CPU {cpu}")))?;
        let sender = FrameSender::open(end)?;
        let mut first_error = Ok(());
        for (index, frame) in frames.iter().enumerate() {
            arrived.fetch_add(1, Ordering::AcqRel);
            // Both have come to this race when the sum says so; neither can be ahead by more than one.
            let mut spins = 0_u32;
            while arrived.load(Ordering::Acquire) < 2 * (index + 1) {
                std::hint::spin_loop();
                spins += 1;
                // The other may wait for this CPU.
                if spins.is_multiple_of(100_000) {
                    thread::yield_now();
                }
            }
            // Goes on after an error, since the other sender waits for this one.
            first_error = first_error.and(sender.send(frame));
        }
        first_error
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| run(1));
        let own = scope.spawn(|| run(0));
        let join = |sender: thread::ScopedJoinHandle<'_, Result<()>>| {
            sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        join(own).and(join(other))
    })
}
