//! Time to build a table, beside the published crates, with the same number of slots and the same members.
//!
//! The published crates have no weights, so ours is measured both with weights 1..=100 and with equal ones. `hash-rings` keeps every
//! member's whole permutation, 8 bytes a slot: 524 MB for 65,537 slots and 1000 members. It is left out where that would be gigabytes.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use maglev::{Member, TableSize, build};

const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
const PERMUTATIONS_MAX_BYTES: usize = 1 << 30;

fn members<'a>(names: &'a [String], weight: impl Fn(usize) -> u32) -> Vec<Member<'a>> {
    names.iter().enumerate().map(|(i, name)| Member { name: name.as_bytes(), weight: weight(i) }).collect()
}

fn construction(c: &mut Criterion) {
    for (slots, count) in [(65_537, 1000), (655_373, 1000), (655_373, 6553)] {
        let size = TableSize::try_from(slots).expect("a listed size");
        let names: Vec<String> = (0..count).map(|i| format!("instance-{i:05}")).collect();
        let mut group = c.benchmark_group(format!("maglev_build/{slots}x{count}"));
        group.sampling_mode(SamplingMode::Flat).sample_size(20).measurement_time(Duration::from_secs(3));

        for (label, members) in
            [("weighted", members(&names, |i| 1 + i as u32 % 100)), ("equal", members(&names, |_| 1))]
        {
            group.bench_with_input(BenchmarkId::from_parameter(label), &members, |b, members| {
                b.iter(|| build(black_box(members), size, KEY).expect("valid members"));
            });
        }
        group.sample_size(10);
        group.bench_function("published-maglev-hash-0.1.0", |b| {
            b.iter(|| maglev_hash::MaglevTable::with_capacity(black_box(names.clone()), slots as usize));
        });
        if slots as usize * count * size_of::<usize>() <= PERMUTATIONS_MAX_BYTES {
            group.bench_function("published-hash-rings-1.1.0", |b| {
                b.iter(|| {
                    let nodes = black_box(&names).iter().collect();
                    hash_rings::maglev::Ring::with_capacity_hint(nodes, slots as usize)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, construction);
criterion_main!(benches);
