//! UDP datagrams with sequence numbers: loss, duplicates, order and damage are counted.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{Error, Namespace, Result, process::POLL_INTERVAL, sys};

/// Marks our datagrams; the sequence number follows, then a pattern made of it.
const MAGIC: [u8; 8] = *b"sy-udp-1";
const HEADER_BYTES: usize = 16;

/// Largest UDP payload over IPv4 (RFC 768, RFC 791).
const PAYLOAD_BYTES_MAX: usize = 65_507;

/// Room for what arrives while the receiving thread is not scheduled.
const RECEIVE_BUFFER_BYTES: usize = 64 << 20;

/// How long a receiving thread blocks before it looks whether it should end.
const RECEIVE_TURN: Duration = Duration::from_millis(20);

/// A series of datagrams of one flow.
#[derive(Debug, Clone)]
pub struct UdpLoad {
    /// Source; port 0: the kernel's choice.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
    /// How many.
    pub datagrams: u64,
    /// Payload bytes of each, 16..=65507; more than the MTU makes fragments.
    pub bytes: usize,
    /// Rate; `None`: as fast as the socket takes them.
    pub per_second: Option<u64>,
    /// How long to wait for echoes after the last datagram; zero: do not listen for them.
    pub echo_timeout: Duration,
}

impl UdpLoad {
    /// A hundred datagrams of 1000 bytes, 1000 a second, no echo.
    #[must_use]
    pub fn new(from: SocketAddr, to: SocketAddr) -> Self {
        Self { from, to, datagrams: 100, bytes: 1000, per_second: Some(1000), echo_timeout: Duration::ZERO }
    }

    /// Sends them; returns what was echoed (nothing if no echo is waited for).
    ///
    /// # Errors
    /// If the socket cannot be bound or refuses a datagram.
    pub fn run(&self, namespace: &Namespace) -> Result<UdpReport> {
        self.run_until(namespace, &AtomicBool::new(false)).map(|(_, echoed)| echoed)
    }

    /// As [`run`](Self::run), but ends early when told to. Returns how many were sent, and what was echoed.
    ///
    /// # Errors
    /// As there.
    pub fn run_until(&self, namespace: &Namespace, stop: &AtomicBool) -> Result<(u64, UdpReport)> {
        let Self { from, to, datagrams, bytes, per_second, echo_timeout } = self.clone();
        if !(HEADER_BYTES..=PAYLOAD_BYTES_MAX).contains(&bytes) {
            return Err(Error::Config {
                object: format!("UDP load to {to}"),
                reason: format!("{bytes} bytes are not within 16..=65507"),
            });
        }
        let socket = bind(namespace, from)?;
        let listener = match echo_timeout.is_zero() {
            true => None,
            false => Some(Listener::start(clone(&socket, from)?, false)?),
        };
        let start = Instant::now();
        let mut payload = Vec::with_capacity(bytes);
        let mut sent = 0;
        for sequence in 0..datagrams {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if let Some(rate) = per_second {
                let due = start + Duration::from_nanos(sequence * 1_000_000_000 / rate.max(1));
                if let Some(early) = due.checked_duration_since(Instant::now()) {
                    thread::sleep(early);
                }
            }
            fill(&mut payload, sequence, bytes);
            send(&socket, &payload, to)?;
            sent += 1;
        }
        let Some(listener) = listener else {
            return Ok((sent, UdpReport::default()));
        };
        let deadline = Instant::now() + echo_timeout;
        while listener.total().received < sent && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
        Ok((sent, listener.total()))
    }
}

/// What arrived of one flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UdpReport {
    /// Different datagrams.
    pub received: u64,
    /// Datagrams beyond the first with their number.
    pub duplicates: u64,
    /// Datagrams that came after one with a higher number.
    pub reordered: u64,
    /// Datagrams with other content than was sent, ours or not.
    pub damaged: u64,
}

impl UdpReport {
    /// Whether `sent` datagrams arrived, each once, in order, undamaged.
    #[must_use]
    pub fn is_perfect(&self, sent: u64) -> bool {
        *self == Self { received: sent, ..Self::default() }
    }
}

/// A UDP socket that counts what arrives, by source, and may send it back.
#[derive(Debug)]
pub struct UdpReceiver {
    listener: Listener,
    address: SocketAddr,
}

impl UdpReceiver {
    /// Binds and starts to receive; `echo`: every datagram goes back to its sender.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn start(namespace: &Namespace, address: SocketAddr, echo: bool) -> Result<Self> {
        let listener = Listener::start(bind(namespace, address)?, echo)?;
        Ok(Self { listener, address })
    }

    /// What arrived so far, by source.
    #[must_use]
    pub fn by_source(&self) -> BTreeMap<SocketAddr, UdpReport> {
        self.listener.reports()
    }

    /// Waits until so many different datagrams have arrived from all sources together; returns
    /// the sum.
    ///
    /// # Errors
    /// [`Error::Timeout`], which tells what did arrive.
    pub fn wait_for(&self, datagrams: u64, timeout: Duration) -> Result<UdpReport> {
        let deadline = Instant::now() + timeout;
        loop {
            let total = self.listener.total();
            if total.received >= datagrams {
                return Ok(total);
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout {
                    awaited: format!("arrival of {datagrams} datagrams at {}", self.address),
                    timeout,
                    details: format!("{total:?}"),
                });
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Sends one datagram from each source port to `to`: as many flows as ports.
///
/// # Errors
/// If a port cannot be bound or a datagram is refused.
pub fn send_from_ports(namespace: &Namespace, from: IpAddr, ports: RangeInclusive<u16>, to: SocketAddr) -> Result<()> {
    let mut payload = Vec::new();
    fill(&mut payload, 0, HEADER_BYTES);
    namespace.run(|| {
        ports.map(|port| SocketAddr::new(from, port)).try_for_each(|from| {
            let socket = UdpSocket::bind(from).map_err(Error::io("bind", format!("UDP {from}")))?;
            send(&socket, &payload, to)
        })
    })?
}

/// A connected UDP socket; with `whole`, what is larger than the path MTU is refused rather than fragmented.
///
/// # Errors
/// If it cannot be bound, connected or set.
pub fn connected_udp(namespace: &Namespace, from: SocketAddr, to: SocketAddr, whole: bool) -> Result<UdpSocket> {
    let open = || {
        let socket = UdpSocket::bind(from)?;
        if whole {
            sys::forbid_fragments(&socket, from.is_ipv4())?;
        }
        socket.connect(to)?;
        Ok(socket)
    };
    namespace.run(open)?.map_err(|error: io::Error| Error::io("connect", format!("UDP {from} > {to}"))(error))
}

/// Receives on a thread of its own until dropped.
#[derive(Debug)]
struct Listener {
    seen: Arc<Mutex<BTreeMap<SocketAddr, Seen>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    report: UdpReport,
    numbers: HashSet<u64>,
    highest: Option<u64>,
}

impl Listener {
    fn start(socket: UdpSocket, echo: bool) -> Result<Self> {
        socket.set_read_timeout(Some(RECEIVE_TURN)).map_err(Error::io("set timeout of", "a UDP socket"))?;
        let seen = Arc::<Mutex<BTreeMap<SocketAddr, Seen>>>::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (seen_there, stop_there) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; PAYLOAD_BYTES_MAX + 1];
            let mut expected = Vec::new();
            while !stop_there.load(Ordering::Relaxed) {
                // Time-outs, and ICMP errors about echoes, are no reason to end.
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let payload = &buffer[..length];
                let mut seen = seen_there.lock().unwrap_or_else(PoisonError::into_inner);
                note(seen.entry(from).or_default(), payload, &mut expected);
                drop(seen);
                if echo {
                    // A lost echo is for the sender to notice.
                    let _ = socket.send_to(payload, from);
                }
            }
        });
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    fn reports(&self) -> BTreeMap<SocketAddr, UdpReport> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().map(|(source, seen)| (*source, seen.report)).collect()
    }

    fn total(&self) -> UdpReport {
        self.reports().values().fold(UdpReport::default(), |sum, one| UdpReport {
            received: sum.received + one.received,
            duplicates: sum.duplicates + one.duplicates,
            reordered: sum.reordered + one.reordered,
            damaged: sum.damaged + one.damaged,
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; dropping must not start another.
            let _ = thread.join();
        }
    }
}

fn note(seen: &mut Seen, payload: &[u8], expected: &mut Vec<u8>) {
    let sequence = payload.strip_prefix(&MAGIC).and_then(|rest| rest.first_chunk::<8>());
    let Some(sequence) = sequence.map(|bytes| u64::from_be_bytes(*bytes)) else {
        seen.report.damaged += 1;
        return;
    };
    fill(expected, sequence, payload.len());
    if payload != expected {
        seen.report.damaged += 1;
    } else if !seen.numbers.insert(sequence) {
        seen.report.duplicates += 1;
    } else {
        seen.report.received += 1;
        if seen.highest.is_some_and(|highest| sequence < highest) {
            seen.report.reordered += 1;
        }
        seen.highest = seen.highest.max(Some(sequence));
    }
}

fn fill(payload: &mut Vec<u8>, sequence: u64, bytes: usize) {
    payload.clear();
    payload.extend(MAGIC);
    payload.extend(sequence.to_be_bytes());
    let [first, ..] = sequence.to_le_bytes();
    payload.extend((HEADER_BYTES..bytes).map(|at| first.wrapping_add(at.to_le_bytes()[0])));
}

fn bind(namespace: &Namespace, address: SocketAddr) -> Result<UdpSocket> {
    let open = || {
        let socket = UdpSocket::bind(address)?;
        sys::set_receive_buffer(&socket, RECEIVE_BUFFER_BYTES)?;
        Ok(socket)
    };
    namespace.run(open)?.map_err(|error: io::Error| Error::io("bind", format!("UDP {address}"))(error))
}

fn clone(socket: &UdpSocket, address: SocketAddr) -> Result<UdpSocket> {
    socket.try_clone().map_err(Error::io("duplicate the socket of", format!("UDP {address}")))
}

fn send(socket: &UdpSocket, payload: &[u8], to: SocketAddr) -> Result<()> {
    loop {
        match socket.send_to(payload, to) {
            Ok(_) => return Ok(()),
            // The device's queue is full, or an ICMP error about an earlier datagram has come:
            // this one was not sent.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ECONNREFUSED)) => {
                thread::yield_now();
            }
            Err(error) => return Err(Error::io("send", format!("UDP datagram to {to}"))(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_order_duplicates_and_damage_are_told_apart() {
        let mut seen = Seen::default();
        let mut scratch = Vec::new();
        let mut payload = Vec::new();
        for sequence in [0, 2, 1, 2] {
            fill(&mut payload, sequence, 100);
            note(&mut seen, &payload, &mut scratch);
        }
        payload[50] ^= 1;
        note(&mut seen, &payload, &mut scratch);
        note(&mut seen, b"short", &mut scratch);
        let expected = UdpReport { received: 3, duplicates: 1, reordered: 1, damaged: 2 };
        assert_eq!(seen.report, expected);
        assert!(!expected.is_perfect(3));
    }
}
