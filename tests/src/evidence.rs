//! What became of every flow between two hosts, put together from what the hosts and the instances themselves saw.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Error, FiveTuple, Host, Kind, Recorder, Recording, Result, Sighting, Way, nf::Instance};

/// Recorders at a client, at a server and at all ports of the instances between them.
///
/// The order of a path is that of time stamps. Linux begins to take them some milliseconds after the first socket asked for them
/// (`netstamp_wq` in net/core/dev.c) and fills in the time of reading until then, so a test holds a [`Recorder`] of anything
/// from its set-up on.
#[derive(Debug)]
pub struct Witnesses {
    client: Recorder,
    server: Recorder,
    instances: Vec<(String, Recorder)>,
}

/// Every flow that the client began, by its tuple in the client's direction.
pub type Evidence = BTreeMap<FiveTuple, Flow>;

/// A flow as it was seen. Times are in nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// The instances it passed, from the client to the server.
    pub path: Vec<String>,
    /// Its first frame left the client.
    pub began_ns: u64,
    /// Its first frame had left the first instance, or had arrived if it passed none: its path had been picked.
    pub picked_ns: u64,
    /// The server's first frame arrived, if one did.
    pub answered_ns: Option<u64>,
    /// The last frame of either host.
    pub ended_ns: u64,
    /// Frames that the two hosts sent.
    pub frames: u64,
    /// TCP segments with RST, of whomever, as seen at both hosts.
    pub resets: u64,
    /// What is wrong with it: one sentence for each host or instance that did not see all of it, as it must if every frame
    /// goes the same way and none is lost.
    pub faults: Vec<String>,
}

/// What one witness saw of one direction, over all its ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Passed {
    frames: u64,
    octets: u64,
    first_ns: u64,
    last_ns: u64,
    resets: u64,
}

/// By direction of the packets and whether they came or went.
type Seen = BTreeMap<(FiveTuple, Way), Passed>;

impl Witnesses {
    /// Starts to record.
    ///
    /// # Errors
    /// If packet sockets cannot be opened.
    pub fn start<'a>(client: &Host, server: &Host, instances: impl IntoIterator<Item = &'a Instance>) -> Result<Self> {
        let at = |host: &Host| Recorder::start(host.namespace(), &[Host::INTERFACE]);
        let instances = instances.into_iter().map(|instance| Ok((instance.name().to_owned(), instance.record()?)));
        Ok(Self { client: at(client)?, server: at(server)?, instances: instances.collect::<Result<_>>()? })
    }

    /// All flows that the client began and that are wanted, up to now. A frame that is still on its way is a fault, so ask when
    /// the load has ended.
    ///
    /// # Errors
    /// If a recorder has failed or was too slow: then nothing can be judged.
    pub fn flows(&self, wanted: impl Fn(&FiveTuple) -> bool) -> Result<Evidence> {
        let client = seen("the client", &self.client)?;
        let server = seen("the server", &self.server)?;
        let instances = self.instances.iter().map(|(name, recorder)| Ok((name.as_str(), seen(name, recorder)?)));
        let instances: Vec<(&str, Seen)> = instances.collect::<Result<_>>()?;
        let began: BTreeSet<FiveTuple> =
            client.keys().filter(|(tuple, way)| *way == Way::Sent && wanted(tuple)).map(|(tuple, _)| *tuple).collect();
        Ok(began.into_iter().map(|tuple| (tuple, flow(tuple, &client, &server, &instances))).collect())
    }
}

/// Sums a recording up by direction and way. Later fragments and ICMP errors are left out.
fn seen(name: &str, recorder: &Recorder) -> Result<Seen> {
    let Recording { sightings, lost, .. } = recorder.snapshot()?;
    if lost != 0 {
        return Err(Error::Config { object: format!("recorder of {name}"), reason: format!("it lost {lost} frames") });
    }
    let mut seen = Seen::new();
    for (Sighting { way, tuple, .. }, count) in sightings.iter().filter(|(seen, _)| seen.kind == Kind::Whole) {
        let passed = seen.entry((*tuple, *way)).or_insert(Passed { first_ns: u64::MAX, ..Passed::default() });
        passed.frames += count.frames;
        passed.octets += count.octets;
        passed.first_ns = passed.first_ns.min(count.first_ns);
        passed.last_ns = passed.last_ns.max(count.last_ns);
        passed.resets += count.resets;
    }
    Ok(seen)
}

fn flow(tuple: FiveTuple, client: &Seen, server: &Seen, instances: &[(&str, Seen)]) -> Flow {
    let back = tuple.reversed();
    let of = |seen: &Seen, tuple, way| seen.get(&(tuple, way)).copied();
    let (sent, answers) =
        (of(client, tuple, Way::Sent).unwrap_or_default(), of(server, back, Way::Sent).unwrap_or_default());
    let mut faults = Vec::new();
    let mut whole = |name: &str, seen: &Seen, tuple, way: Way, wanted: Passed| {
        let got = of(seen, tuple, way).unwrap_or_default();
        // Segments may be merged and cut on the way, datagrams are not.
        if got.octets != wanted.octets || tuple.protocol != TCP && got.frames != wanted.frames {
            let verb = if way == Way::Sent { "sent" } else { "got" };
            let (octets, frames) = (got.octets, got.frames);
            faults.push(format!(
                "{name} {verb} {octets} of {} octets, {frames} of {} frames of {tuple}",
                wanted.octets, wanted.frames
            ));
        }
    };
    whole("the server", server, tuple, Way::Received, sent);
    whole("the client", client, back, Way::Received, answers);
    let mut path = Vec::new();
    for (name, seen) in instances {
        let ways = [(tuple, sent), (back, answers)]
            .into_iter()
            .flat_map(|(tuple, all)| [Way::Received, Way::Sent].map(|way| (tuple, way, all)));
        if ways.clone().all(|(tuple, way, _)| of(seen, tuple, way).is_none()) {
            continue;
        }
        ways.for_each(|(tuple, way, all)| whole(name, seen, tuple, way, all));
        path.push((of(seen, tuple, Way::Sent).map_or(u64::MAX, |passed| passed.first_ns), (*name).to_owned()));
    }
    path.sort();
    let arrived = of(server, tuple, Way::Received);
    let picked_ns = path.first().map(|(when, _)| *when).or(arrived.map(|passed| passed.first_ns)).unwrap_or(u64::MAX);
    let hosts = [
        of(client, tuple, Way::Sent),
        of(client, back, Way::Received),
        of(server, tuple, Way::Received),
        of(server, back, Way::Sent),
    ];
    Flow {
        path: path.into_iter().map(|(_, name)| name).collect(),
        began_ns: sent.first_ns,
        picked_ns,
        answered_ns: of(client, back, Way::Received).map(|passed| passed.first_ns),
        ended_ns: sent.last_ns.max(answers.last_ns),
        frames: sent.frames + answers.frames,
        resets: hosts.iter().flatten().map(|passed| passed.resets).sum(),
        faults,
    }
}

const TCP: u8 = 6;
