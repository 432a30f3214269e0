//! What the program of a port costs for a flow that has its record, delivered locally.
//!
//! A run by hand feeds the same frame again and again, so a wrapper program takes the next flow's source address (every
//! flow once, in a scrambled order, before any comes again), writes it into the frame and tail-calls the program. The same
//! wrapper in front of an empty program, run in turn with it, is what is taken off.

use crate::bpf;
use crate::frame;
use crate::row::{Report, Row, median};
use anyhow::{Context as _, ensure};
use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use xdp::loader::{self, Hook, Loader};
use xdp_forward::key::{Tuple, tag};
use xdp_layout::cache::{CACHE_SETS, CacheConfig, PortWord};
use xdp_layout::config::{Config, MAGIC};
use xdp_layout::flow::{FlowKey, FlowRecord, FlowState, record_flags, state_bits};
use xdp_layout::port::{Instance, Port, PortKey, PortKind, Target, target_flags};
use xdp_layout::{Addr, Counter, names};

/// Katran's balancer program on its own benchmark (IPIP encapsulation), ns net, by number of flows: published beside the
/// prototype's figures, measured on a machine of this kind. It encapsulates; we deliver locally.
const KATRAN: [(&str, u64, f64); 3] = [("1", 1, 103.0), ("64Ki", 1 << 16, 152.0), ("1Mi", 1 << 20, 262.0)];
/// The loopback interface, where a run by hand arrives.
const LOOPBACK: u32 = 1;
/// Per second; what the kernel's are does not matter here.
const TICKS: u32 = 250;
const TENANT: u32 = 7;
const TAG_KEY: u64 = 0x1234_5678_9abc_def1;
const SERVER: [u8; 4] = [192, 0, 2, 1];
const PORT: u16 = 0x2710;
/// What the bare look-up answers.
const FOUND: u32 = 3;
/// `TC_ACT_REDIRECT`.
const REDIRECT: u32 = 7;
const INSTANCE: u16 = 1;

/// How the program finds the path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Record,
    Cache,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Record => "record_hit",
            Self::Cache => "cache_hit",
        }
    }

    fn config(self) -> CacheConfig {
        let mut number = TAG_KEY;
        let mut random = || {
            number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            number ^ number >> 31
        };
        let sets_mask = if self == Self::Cache { CACHE_SETS - 1 } else { 0 };
        let config = CacheConfig { sets_mask, stamps: (u32::MAX / (6 * TICKS)) & !63, ..CacheConfig::default() };
        config.with_keys(config.keys.map(|key| key.map(|_| random())))
    }
}

/// Pins that go away with it.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = loader::remove(&self.0) {
            eprintln!("pins stay in {}: {error}", self.0.display());
        }
    }
}

pub(crate) fn measure(report: &mut Report, quick: bool, wanted: &dyn Fn(&str) -> bool) -> anyhow::Result<()> {
    let wanted: Vec<_> = [Way::Record, Way::Cache]
        .into_iter()
        .flat_map(|way| KATRAN.map(|(label, flows, katran)| (way, format!("{}_{label}", way.name()), flows, katran)))
        .filter(|(_, name, ..)| wanted(name))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let directory = PathBuf::from(format!("/sys/fs/bpf/switchyard-bench-{}", std::process::id()));
    let pins = Pins(directory.clone());
    let mut loader = Loader::open(&directory, 1 << 20, &[xdp::loader::Hook::Port]).context("load the programs")?;
    let verified = loader.verified_instructions(Hook::Port).unwrap_or_default();
    println!("record hit: {verified} instructions verified for the port program");
    prepare(&mut loader)?;
    let mut table = map::<HashMap<MapData, FlowKey, FlowRecord>>(&mut loader, names::FLOWS)?;
    let mut filled = 0;
    let counters = map::<PerCpuArray<MapData, u64>>(&mut loader, names::COUNTERS)?;
    let program = loader.ebpf().program("port").context("the object has a port program")?;
    let program = program.fd().context("the port program is loaded")?;
    let frame = frame::udp([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [10, 0, 0, 0], SERVER);
    let empty = bpf::load(bpf::CLASSIFIER, &[bpf::set(0, 0), bpf::exit()])?;
    let state = bpf::Word::new(0)?;
    let ours = wrap(&state, program.as_fd())?;
    let nothing = wrap(&state, empty.as_fd())?;
    let flows = MapData::from_pin(loader.directory().join(names::FLOWS)).context("open the connection table")?;
    let lookup = wrap(&state, bare_lookup(&flows.fd())?.as_fd())?;
    bpf::pin(0)?;
    let mut cache = map::<Array<MapData, CacheConfig>>(&mut loader, names::CACHE_CONFIG)?;
    for (way, name, flows, katran) in wanted {
        fill(&mut table, filled, flows)?;
        filled = filled.max(flows);
        cache.set(0, way.config(), 0).context("configure the path cache")?;
        let repeat = if quick { 1 << 19 } else { 1 << 21 };
        let (mut net, mut bare, mut cached) = (Vec::new(), Vec::new(), 0.0);
        // The first round warms up.
        for round in 0..=if quick { 3 } else { 9 } {
            let once = |wrapper: &Wrapper| -> anyhow::Result<(u32, f64)> {
                state.write(frame::generator(flows))?;
                bpf::run(wrapper.program.as_fd(), &frame, repeat)
            };
            let count = |counter: Counter| -> anyhow::Result<u64> {
                Ok(counters.get(&(counter as u32), 0).context("read a counter")?.iter().sum())
            };
            let hits = || -> anyhow::Result<u64> { Ok(count(Counter::TierRecord)? + count(Counter::TierCache)?) };
            let (before, cached_before) = (hits()?, count(Counter::TierCache)?);
            let (answer, cost) = once(&ours)?;
            ensure!(answer == REDIRECT, "the port program answered {answer} instead of redirecting");
            ensure!(hits()? - before == u64::from(repeat), "not every frame hit its record");
            cached = (count(Counter::TierCache)? - cached_before) as f64 / f64::from(repeat);
            let (_, base) = once(&nothing)?;
            let (found, looked_up) = once(&lookup)?;
            ensure!(found == FOUND, "the bare look-up did not find the record");
            if round > 0 {
                net.push(cost - base);
                bare.push(looked_up - base);
            }
        }
        let mut row = Row::new(name, median(&net), "ns").ratio_to(katran);
        row = row.beside("katran_ipip_published", katran).beside("bare_map_lookup", median(&bare));
        report.add(if way == Way::Cache { row.beside("share_by_cache", cached) } else { row })?;
    }
    drop(loader);
    drop(pins);
    Ok(())
}

/// A program that does nothing but make the key of the frame's flow, look its record up and read the first word: what this
/// machine's memory allows, in the same run.
fn bare_lookup(table: &impl AsFd) -> anyhow::Result<OwnedFd> {
    let mut code = vec![
        bpf::load32(4, 1, 76),
        bpf::load32(5, 1, 80),
        bpf::mov(2, 4),
        bpf::add(2, 42),
        bpf::if_greater(2, 5, 0),
        bpf::load32(3, 4, frame::SOURCE),
        bpf::store32(10, -28, 3),
    ];
    let mapped = 0xffff_0000_u32 as i32;
    let port = i32::from(PORT);
    let words = [
        (-40, 0),
        (-36, 0),
        (-32, mapped),
        (-24, 0),
        (-20, 0),
        (-16, mapped),
        (-12, i32::from_ne_bytes(SERVER)),
        (-8, port << 16 | port),
        (-4, 17 << 24 | TENANT as i32),
    ];
    code.extend(words.map(|(offset, value)| bpf::store_constant32(10, offset, value)));
    code.extend(bpf::map_address(1, table));
    code.extend([bpf::mov(2, 10), bpf::add(2, -40), bpf::call(1), bpf::if_not(0, 0, 1), bpf::exit()]);
    code.extend([bpf::load32(1, 0, 0), bpf::set(0, FOUND as i32), bpf::exit()]);
    let skipped = code.len() as i16 - 5;
    code[4] = bpf::if_greater(2, 5, skipped);
    code.extend([bpf::set(0, 0), bpf::exit()]);
    bpf::load(bpf::CLASSIFIER, &code)
}

/// The wrapper, and the array it finds the program in: the kernel empties that when its last descriptor goes.
struct Wrapper {
    program: OwnedFd,
    _array: OwnedFd,
}

fn wrap(state: &bpf::Word, program: BorrowedFd<'_>) -> anyhow::Result<Wrapper> {
    let array = bpf::program_array(program)?;
    let mut code = vec![bpf::mov(6, 1)];
    code.extend(frame::next_flow(state));
    code.extend([
        bpf::load32(4, 6, 76),
        bpf::load32(5, 6, 80),
        bpf::mov(1, 4),
        bpf::add(1, 42),
        bpf::if_greater(1, 5, 8),
        bpf::arithmetic(0x44, 2, 0x0a00_0000),
        bpf::big_endian(2, 32),
        bpf::store32(4, frame::SOURCE, 2),
        bpf::mov(1, 6),
    ]);
    code.extend(bpf::map_address(2, &array));
    code.extend([bpf::set(3, 0), bpf::call(12), bpf::set(0, 0), bpf::exit()]);
    Ok(Wrapper { program: bpf::load(bpf::CLASSIFIER, &code)?, _array: array })
}

fn map<T: TryFrom<aya::maps::Map, Error = aya::maps::MapError>>(
    loader: &mut Loader,
    name: &'static str,
) -> anyhow::Result<T> {
    T::try_from(loader.take_map(name)?).with_context(|| format!("open map {name}"))
}

/// A client attachment at the loopback interface, and a transparent instance.
fn prepare(loader: &mut Loader) -> anyhow::Result<()> {
    let config = Config {
        magic: MAGIC,
        tag_key: TAG_KEY,
        ticks_per_second: TICKS,
        mac: [2, 0, 0, 0, 0, 9],
        ..Config::default()
    };
    map::<Array<MapData, Config>>(loader, names::CONFIG)?.set(0, config, 0).context("write the configuration")?;
    let port = Port { tenant: TENANT, kind: PortKind::Attachment as u8, side: 0, id: 1, graph: 1 };
    let key = PortKey { ifindex: LOOPBACK, vlan: 0 };
    map::<HashMap<MapData, PortKey, Port>>(loader, names::PORTS)?.insert(key, port, 0).context("write the port")?;
    let mut words = map::<Array<MapData, u64>>(loader, names::PORT_WORDS)?;
    words.set(PortWord::index(LOOPBACK), PortWord::new(key, &port).0, 0).context("write the port's word")?;
    let target = Target {
        ifindex: LOOPBACK,
        tenant: TENANT,
        vlan: 0,
        flags: target_flags::EXISTS | target_flags::UP | target_flags::PEER,
        node: 0,
        mtu: 1500,
    };
    let instance =
        Instance { ports: [target; 2], macs: [[2, 0, 0, 0, 1, 0]; 2], replica_set: 1, ..Instance::default() };
    let mut instances = map::<Array<MapData, Instance>>(loader, names::INSTANCES)?;
    instances.set(INSTANCE.into(), instance, 0).context("write the instance")
}

/// Writes the records of flows `from..to`, `to` a power of two, between the attachment and the instance.
fn fill(table: &mut HashMap<MapData, FlowKey, FlowRecord>, from: u64, to: u64) -> anyhow::Result<()> {
    for step in 0..to as u32 {
        // Not in the order of the flows' numbers, so that neighbours in memory are not neighbours in time.
        let number = step.reverse_bits().checked_shr(32 - to.trailing_zeros()).unwrap_or(0);
        if u64::from(number) < from {
            continue;
        }
        let tuple = Tuple {
            source: Addr::v4((0x0a00_0000 | number).to_be_bytes()),
            destination: Addr::v4(SERVER),
            source_port: PORT,
            destination_port: PORT,
            protocol: 17,
        };
        let mut key = FlowKey::default();
        let source_is_a = tuple.key(TENANT, &mut key);
        let tag = tag(&key, TAG_KEY);
        let mut record = FlowRecord {
            tag,
            view: 1,
            generation: 1,
            state: (tag as u32) << 16 | state_bits::COUNTED_ESTABLISHED | FlowState::Established as u32,
            entry: 1,
            exit: 2,
            path_len: 1,
            flags: record_flags::FROM_CLIENT | if source_is_a { record_flags::CLIENT_IS_A } else { 0 },
            ..FlowRecord::default()
        };
        record.path[0] = INSTANCE;
        table
            .insert(key, record, 0)
            .with_context(|| format!("write the record of {}", Ipv4Addr::from(0x0a00_0000 | number)))?;
    }
    Ok(())
}
