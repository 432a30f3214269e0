//! Frames of 64 bytes and TCP through one transparent network function, as shares of direct veth in the same run.

use crate::bpf;
use crate::frame;
use crate::row::{Bar, Report, Row, median};
use crate::wiring::{CLIENT, SERVER, WAYS, Way, Wiring, index};
use anyhow::{Context as _, ensure};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use testbed::Testbed;
use testbed::measure::{BacklogGuard, CpuTime};
use testbed::traffic::{Iperf, IperfServer};

/// Flows, the name of that number, the bar: the share of direct veth that must be reached.
const FLOWS: [(u64, &str, f64); 2] = [(256, "256", 0.81), (1 << 16, "64Ki", 0.77)];

pub(crate) fn measure(report: &mut Report, quick: bool, wanted: &dyn Fn(&str) -> bool) -> anyhow::Result<()> {
    let flows: Vec<_> = FLOWS.into_iter().filter(|(_, label, _)| wanted(&format!("chain_64B_{label}"))).collect();
    if flows.is_empty() && !wanted("tcp_cpu_per_gb") {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let _backlog = BacklogGuard::raise(100_000)?;
    // How fast it goes depends on where in memory the kernel puts tables and frames, so they are put there several times.
    let (layouts, rounds, frames) = if quick { (1, 3, 1 << 17) } else { (5, 5, 1 << 18) };
    let mut rates: Vec<Rates> = vec![Rates::default(); flows.len()];
    for layout in 0..layouts {
        let mut wirings = Vec::new();
        for way in Way::ALL {
            wirings.push(Wiring::new(&testbed, layout, way).with_context(|| format!("lay out {}", way.name()))?);
        }
        if layout == 0 && wanted("tcp_cpu_per_gb") {
            tcp(report, &wirings, if quick { 2 } else { 5 })?;
        }
        if flows.is_empty() {
            return Ok(());
        }
        let lanes = wirings.iter().map(Lane::new).collect::<anyhow::Result<Vec<_>>>()?;
        for ((flows, ..), rates) in flows.iter().zip(&mut rates) {
            // The first round warms up: it writes the records.
            for round in 0..=rounds {
                for (lane, rates) in lanes.iter().zip(rates.iter_mut()) {
                    let rate = lane.run(*flows, frames)?;
                    if round > 0 {
                        rates.push(rate);
                    }
                }
            }
        }
    }
    for ((_, label, bar), rates) in flows.into_iter().zip(&rates) {
        report.add(row(label, bar, rates))?;
    }
    Ok(())
}

/// Frames per second of every [`Way`], round by round.
type Rates = [Vec<f64>; WAYS];

fn row(label: &str, bar: f64, rates: &Rates) -> Row {
    let share = |way: Way| -> f64 {
        let shares: Vec<f64> = rates[way as usize].iter().zip(&rates[0]).map(|(own, direct)| own / direct).collect();
        median(&shares)
    };
    let own = share(Way::Switchyard);
    let mut row = Row::new(format!("chain_64B_{label}"), own, "of direct veth").bar(Bar::AtLeast(bar));
    for way in [Way::RedirectPeer, Way::Bridge, Way::BareLookup] {
        row = row.beside(way.name(), share(way));
    }
    for (way, rates) in Way::ALL.iter().zip(rates) {
        row = row.beside(&format!("{}_mpps", way.name()), median(rates) / 1e6);
    }
    row.ratio_to(share(Way::BareLookup))
}

/// A generator at the client and a sink at the server.
struct Lane<'a> {
    wiring: &'a Wiring,
    generator: OwnedFd,
    state: bpf::Word,
    received: bpf::Word,
    frame: [u8; frame::BYTES],
    _sink: OwnedFd,
}

impl<'a> Lane<'a> {
    fn new(wiring: &'a Wiring) -> anyhow::Result<Self> {
        let (state, received) = (bpf::Word::new(0)?, bpf::Word::new(0)?);
        let interface = wiring.client.namespace.run(|| index("eth0"))??;
        let mut code = vec![bpf::mov(6, 1)];
        code.extend(frame::next_flow(&state));
        code.extend([
            bpf::load32(4, 6, 0),
            bpf::load32(5, 6, 4),
            bpf::mov(1, 4),
            bpf::add(1, 42),
            bpf::if_greater(1, 5, 2),
            bpf::big_endian(2, 16),
            bpf::store16(4, frame::SOURCE_PORT, 2),
            bpf::set(1, interface as i32),
            bpf::set(2, 0),
            bpf::call(23),
            bpf::exit(),
        ]);
        let generator = bpf::load(bpf::XDP, &code)?;
        // Counts UDP and drops it; everything else passes.
        let mut code =
            vec![bpf::mov(6, 1), bpf::load32(4, 6, 76), bpf::load32(5, 6, 80), bpf::mov(1, 4), bpf::add(1, 34)];
        let mut count = bpf::value_address(7, &received).to_vec();
        count.extend([bpf::set(2, 1), bpf::atomic_add(7, 0, 2), bpf::set(0, 2), bpf::exit()]);
        code.extend([
            bpf::if_greater(1, 5, count.len() as i16 + 2),
            bpf::load8(1, 4, 23),
            bpf::if_not(1, 17, count.len() as i16),
        ]);
        code.extend(count);
        code.extend([bpf::set(0, 0), bpf::exit()]);
        let sink = bpf::load(bpf::CLASSIFIER, &code)?;
        let sink = wiring.server.namespace.run(|| bpf::attach_ingress(sink.as_fd(), index("eth0")?))??;
        let frame = frame::udp(wiring.client.mac.0, wiring.server.mac.0, CLIENT, SERVER);
        Ok(Self { wiring, generator, state, received, frame, _sink: sink })
    }

    /// Sends frames of so many flows as fast as they go through. Frames received per second.
    fn run(&self, flows: u64, frames: u32) -> anyhow::Result<f64> {
        let before = self.received.read()?;
        self.state.write(frame::generator(flows))?;
        let took = self.wiring.client.namespace.run(|| -> anyhow::Result<Duration> {
            bpf::pin(1)?;
            let began = Instant::now();
            bpf::run_live(self.generator.as_fd(), &self.frame, frames)?;
            Ok(began.elapsed())
        })??;
        let received = self.received.read()? - before;
        let way = self.wiring.way.name();
        ensure!(received >= u64::from(frames) * 99 / 100, "{way}: only {received} of {frames} frames arrived");
        Ok(received as f64 / took.as_secs_f64())
    }
}

/// CPU time of the whole machine for a gigabyte of TCP.
fn tcp(report: &mut Report, wirings: &[Wiring], rounds: usize) -> anyhow::Result<()> {
    let port = 5201;
    let mut servers = Vec::new();
    for wiring in wirings {
        servers.push(IperfServer::start(&wiring.server.namespace, port)?);
    }
    let (mut costs, mut speeds): ([Vec<f64>; WAYS], [Vec<f64>; WAYS]) = Default::default();
    for _ in 0..rounds {
        for (variant, wiring) in wirings.iter().enumerate() {
            let load = Iperf { duration: Duration::from_secs(2), ..Iperf::new(SERVER.into(), port) };
            let before = CpuTime::now()?;
            let result = load.run(&wiring.client.namespace)?;
            let busy = CpuTime::now()?.since(before).busy;
            costs[variant].push(busy.as_secs_f64() / (result.bytes as f64 / 1e9));
            speeds[variant].push(result.gbit_per_s);
        }
    }
    let ratio = |way: Way| -> f64 {
        let ratios: Vec<f64> = costs[way as usize].iter().zip(&costs[0]).map(|(own, direct)| own / direct).collect();
        median(&ratios)
    };
    let mut row = Row::new("tcp_cpu_per_gb", ratio(Way::Switchyard), "x direct veth").bar(Bar::AtMost(1.1));
    for way in [Way::RedirectPeer, Way::Bridge] {
        row = row.beside(way.name(), ratio(way));
    }
    for (variant, way) in Way::ALL.iter().enumerate() {
        row = row.beside(&format!("{}_cpu_s_per_gb", way.name()), median(&costs[variant]));
        row = row.beside(&format!("{}_gbit_per_s", way.name()), median(&speeds[variant]));
    }
    report.add(row)
}
