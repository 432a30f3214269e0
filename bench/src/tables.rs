//! Time to build a Maglev table, beside the published crates.
//!
//! Those have no weights. `hash-rings` keeps every member's whole permutation, 8 bytes a slot, and is left out where that
//! would be gigabytes.

use crate::row::{Bar, Report, Row, median};
use anyhow::Context as _;
use maglev::{Member, TableSize, build};
use std::hint::black_box;
use std::time::Instant;

const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
const PERMUTATIONS_MAX_BYTES: usize = 1 << 30;
/// Slots, members, bar in ms.
const CASES: [(u32, usize, Option<f64>); 3] =
    [(65_537, 1000, Some(1.8)), (655_373, 1000, Some(26.0)), (655_373, 4095, None)];

fn milliseconds<T>(work: impl FnOnce() -> T) -> f64 {
    let began = Instant::now();
    black_box(work());
    began.elapsed().as_secs_f64() * 1e3
}

pub(crate) fn measure(report: &mut Report, quick: bool, wanted: &dyn Fn(&str) -> bool) -> anyhow::Result<()> {
    for (slots, count, bar) in CASES {
        let name = format!("maglev_{slots}x{count}");
        if !wanted(&name) {
            continue;
        }
        let size = TableSize::try_from(slots).context("a listed table size")?;
        let names: Vec<String> = (0..count).map(|i| format!("instance-{i:05}")).collect();
        let members = |weight: &dyn Fn(usize) -> u32| -> Vec<Member<'_>> {
            names.iter().enumerate().map(|(i, name)| Member { name: name.as_bytes(), weight: weight(i) }).collect()
        };
        let (weighted, equal) = (members(&|i| 1 + i as u32 % 100), members(&|_| 1));
        let has_rings = slots as usize * count * size_of::<usize>() <= PERMUTATIONS_MAX_BYTES;
        let mut times: [Vec<f64>; 4] = Default::default();
        for round in 0..if quick { 5 } else { 21 } {
            times[0].push(milliseconds(|| build(black_box(&weighted), size, SEED)));
            times[1].push(milliseconds(|| build(black_box(&equal), size, SEED)));
            // The published ones take a hundred times as long.
            if round < 3 {
                let copy = names.clone();
                times[2].push(milliseconds(|| maglev_hash::MaglevTable::with_capacity(copy, slots as usize)));
            }
            if has_rings && round < 3 {
                let nodes = names.iter().collect();
                times[3].push(milliseconds(|| hash_rings::maglev::Ring::with_capacity_hint(nodes, slots as usize)));
            }
        }
        let value = median(&times[0]);
        let mut row = Row::new(name, value, "ms").beside("equal_weights", median(&times[1]));
        row = row.beside("maglev-hash-0.1.0", median(&times[2])).ratio_to(median(&times[2]));
        if has_rings {
            row = row.beside("hash-rings-1.1.0", median(&times[3]));
        }
        report.add(match bar {
            Some(most) => row.bar(Bar::AtMost(most)),
            None => row,
        })?;
    }
    Ok(())
}
