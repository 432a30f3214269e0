//! The kernel's tick counter and the expiry of records, both through the sweep program.

use crate::error::{Error, Result};
use crate::loader::Loader;
use aya::programs::{TestRun, TestRunOptions};
use std::time::{Duration, Instant};
use xdp_layout::ViewId;
use xdp_layout::event::{Sweep, SweepHeader};
use xdp_layout::flow::FlowKey;
use zerocopy::{FromBytes, IntoBytes};

/// Rates a kernel can be built with (`CONFIG_HZ`).
const RATES: [u32; 4] = [100, 250, 300, 1000];
/// Keys per run: a frame of test data is at most a page.
pub(crate) const KEYS_PER_RUN: usize = 64;

fn run(loader: &Loader, keys: &[FlowKey], sweep: Sweep, view: u32) -> Result<SweepHeader> {
    let header = SweepHeader { force: sweep as u32, count: keys.len() as u32, view, ..SweepHeader::default() };
    let mut frame = header.as_bytes().to_vec();
    keys.iter().for_each(|key| frame.extend_from_slice(key.as_bytes()));
    let mut out = vec![0; frame.len()];
    let options = TestRunOptions { data_in: Some(&frame), data_out: Some(&mut out), ..TestRunOptions::default() };
    let program = loader.sweep()?;
    program.test_run(options).map_err(|source| Error::Program { program: "sweep", source })?;
    let (header, _) = SweepHeader::read_from_prefix(&out).expect("the frame begins with the header");
    Ok(header)
}

/// Now, in ticks.
pub(crate) fn ticks(loader: &Loader) -> Result<u64> {
    Ok(run(loader, &[], Sweep::Idle, 0)?.ticks)
}

/// The tick rate in Hz, measured from tick edge to tick edge over about 50 ms.
pub(crate) fn rate(loader: &Loader) -> Result<u32> {
    let edge = |after: u64| -> Result<(u64, Instant)> {
        loop {
            let now = ticks(loader)?;
            if now > after {
                return Ok((now, Instant::now()));
            }
        }
    };
    let (first, began) = edge(ticks(loader)?)?;
    std::thread::sleep(Duration::from_millis(50));
    let (last, ended) = edge(ticks(loader)?)?;
    let measured = (last - first) as f64 / (ended - began).as_secs_f64();
    let off = |rate: &u32| (f64::from(*rate) - measured).abs() / f64::from(*rate);
    Ok(RATES.into_iter().min_by(|a, b| off(a).total_cmp(&off(b))).expect("the list is not empty"))
}

/// Does with `keys` (at most [`KEYS_PER_RUN`]) what `sweep` says; resets are for flows of `view` only. The count of records
/// deleted or marked for a reset.
pub(crate) fn expire(loader: &Loader, keys: &[FlowKey], sweep: Sweep, view: Option<ViewId>) -> Result<u64> {
    Ok(u64::from(run(loader, keys, sweep, view.map_or(0, ViewId::get))?.deleted))
}
