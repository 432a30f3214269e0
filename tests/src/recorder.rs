//! What the instances saw: the judge's evidence, taken inside their namespaces.

mod headers;
mod socket;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    sync::mpsc,
    thread::{self, JoinHandle},
};

pub use headers::{FiveTuple, Kind};

pub(crate) use self::socket::PacketSocket;
use self::{
    headers::{Parsed, parse},
    socket::{FRAMES_QUEUED_MAX, wait_readable},
};
use crate::{Error, Namespace, Result, sys};

/// Whether an instance got a frame or sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// It came in at the port.
    Received,
    /// The instance sent it out of the port.
    Sent,
}

/// One thing that can be seen of a flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sighting {
    /// Interface in the namespace: `in`, `out`, `eth0`.
    pub interface: String,
    /// Whether it came or went there.
    pub way: Way,
    /// Outermost VLAN identifier, if tagged.
    pub vlan: Option<u16>,
    /// Kind of packet.
    pub kind: Kind,
    /// The packet's tuple.
    pub tuple: FiveTuple,
}

/// How often something was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Frames; a segment train carried as one (GSO, GRO) counts once.
    pub frames: u64,
    /// Bytes of these frames, Ethernet headers included.
    pub bytes: u64,
    /// Of TCP the octets of sequence space (payload, SYN and FIN), of others the bytes of IP payload. The same wherever a
    /// flow passes, however its segments were merged.
    pub octets: u64,
    /// TCP segments with RST among them.
    pub resets: u64,
    /// When the first passed, in nanoseconds since 1970.
    pub first_ns: u64,
    /// When the last passed, in nanoseconds since 1970.
    pub last_ns: u64,
}

/// Everything a recorder has seen so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// IP packets.
    pub sightings: BTreeMap<Sighting, Count>,
    /// Frames that are not IP, by interface, way and EtherType.
    pub other: BTreeMap<(String, Way, u16), u64>,
    /// Frames cut short or malformed.
    pub malformed: u64,
    /// Frames the recorder was too slow for. A judgement that something was *not* seen is worth
    /// nothing unless this is 0.
    pub lost: u64,
}

impl Recording {
    /// Conversations seen at all: canonical tuples of whole packets and first fragments.
    #[must_use]
    pub fn conversations(&self) -> BTreeSet<FiveTuple> {
        let whole = self.sightings.keys().filter(|sighting| sighting.kind == Kind::Whole);
        whole.map(|sighting| sighting.tuple.canonical()).collect()
    }

    /// Tuples of whole packets that passed `interface` this way.
    #[must_use]
    pub fn tuples(&self, interface: &str, way: Way) -> BTreeSet<FiveTuple> {
        let seen = self
            .sightings
            .keys()
            .filter(|sighting| sighting.kind == Kind::Whole && sighting.interface == interface && sighting.way == way);
        seen.map(|sighting| sighting.tuple).collect()
    }

    /// Frames of all sightings for which `wanted` holds.
    #[must_use]
    pub fn frames(&self, wanted: impl Fn(&Sighting) -> bool) -> u64 {
        let matching = self.sightings.iter().filter(|(sighting, _)| wanted(sighting));
        matching.map(|(_, count)| count.frames).sum()
    }
}

/// Records the headers of all frames on some interfaces of a namespace, both ways, from
/// [`Recorder::start`] until it is dropped.
#[derive(Debug)]
pub struct Recorder {
    /// Bytes written here wake the thread; closing it ends the thread.
    wake: UnixStream,
    answers: mpsc::Receiver<io::Result<Recording>>,
    thread: Option<JoinHandle<()>>,
    namespace: String,
}

impl Recorder {
    /// Starts to record on these interfaces.
    ///
    /// # Errors
    /// If one does not exist, or packet sockets are not allowed.
    pub fn start(namespace: &Namespace, interfaces: &[&str]) -> Result<Self> {
        let object = || format!("a packet socket on {interfaces:?} in {}", namespace.name());
        let sockets = namespace
            .run(|| interfaces.iter().map(|name| PacketSocket::open(name)).collect::<io::Result<Vec<_>>>())?
            .map_err(Error::io("open", object()))?;
        let (wake, woken) = UnixStream::pair().map_err(Error::io("make", "a socket pair"))?;
        let (answer, answers) = mpsc::channel();
        let mut worker = Worker {
            interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
            sockets,
            seen: HashMap::new(),
            recording: Recording::default(),
        };
        let thread = thread::Builder::new()
            .name(format!("recorder-{}", namespace.short_name()))
            .spawn(move || worker.run(woken, &answer))
            .map_err(Error::io("start", "the recorder's thread"))?;
        Ok(Self { wake, answers, thread: Some(thread), namespace: namespace.name().to_owned() })
    }

    /// Everything seen so far: every frame that passed an interface before the call is in it.
    ///
    /// # Errors
    /// If the recorder has failed to read a socket.
    pub fn snapshot(&self) -> Result<Recording> {
        let asked = (&self.wake)
            .write_all(&[0])
            .and_then(|()| self.answers.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())));
        asked.map_err(Error::io("ask the recorder in", &self.namespace))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // The thread sees the end of the stream; if that fails it has ended already.
        let _ = self.wake.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; dropping must not start another.
            let _ = thread.join();
        }
    }
}

/// What frames are told apart by: index of the interface, way, tag, kind, tuple.
type Key = (usize, Way, Option<u16>, Kind, FiveTuple);

struct Worker {
    interfaces: Vec<String>,
    sockets: Vec<PacketSocket>,
    seen: HashMap<Key, Count>,
    recording: Recording,
}

impl Worker {
    fn run(&mut self, mut woken: UnixStream, answer: &mpsc::Sender<io::Result<Recording>>) {
        let woken_fd = woken.as_raw_fd();
        // A recorder that has to wait for its turn loses frames, and then nothing can be judged.
        let mut failure = woken.set_nonblocking(true).and_then(|()| sys::raise_priority()).err();
        loop {
            let round = wait_readable(&self.sockets, woken_fd);
            // What was asked for before the drain is answered after it.
            let mut asked = [0; 64];
            let questions = match woken.read(&mut asked) {
                Ok(0) => return,
                Ok(questions) => questions,
                Err(_) => 0,
            };
            if let Err(error) = round.and_then(|()| self.drain()) {
                failure.get_or_insert(error);
            }
            for _ in 0..questions {
                let result = match failure.take() {
                    Some(error) => Err(error),
                    None => Ok(self.snapshot()),
                };
                if answer.send(result).is_err() {
                    return;
                }
            }
        }
    }

    /// Reads at least what waits on every socket now, and ends though frames keep coming.
    fn drain(&mut self) -> io::Result<()> {
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            for _ in 0..FRAMES_QUEUED_MAX {
                let Some(frame) = socket.receive()? else {
                    break;
                };
                let way = if frame.sent { Way::Sent } else { Way::Received };
                match parse(frame.bytes, frame.tag) {
                    Parsed::Ip { vlan, packet } => {
                        let count = self.seen.entry((index, way, vlan, packet.kind, packet.tuple)).or_insert(Count {
                            frames: 0,
                            bytes: 0,
                            octets: 0,
                            resets: 0,
                            first_ns: frame.time_ns,
                            last_ns: frame.time_ns,
                        });
                        count.frames += 1;
                        count.bytes += u64::from(frame.length);
                        count.octets += u64::from(packet.octets);
                        count.resets += u64::from(packet.is_reset);
                        count.last_ns = count.last_ns.max(frame.time_ns);
                    }
                    Parsed::Other(ethertype) => {
                        let key = (self.interfaces[index].clone(), way, ethertype);
                        *self.recording.other.entry(key).or_default() += 1;
                    }
                    Parsed::Malformed => self.recording.malformed += 1,
                }
            }
            self.recording.lost += socket.take_lost()?;
        }
        Ok(())
    }

    fn snapshot(&self) -> Recording {
        let sightings = self.seen.iter().map(|((index, way, vlan, kind, tuple), count)| {
            let sighting = Sighting {
                interface: self.interfaces[*index].clone(),
                way: *way,
                vlan: *vlan,
                kind: *kind,
                tuple: *tuple,
            };
            (sighting, *count)
        });
        Recording { sightings: sightings.collect(), ..self.recording.clone() }
    }
}
