//! Construction: what the bytes are, what they depend on, and what a change of members moves.

use std::hash::Hasher;

use maglev::{
    BuildError, BuiltTable, DisruptionError, Member, Report, Side, SizeError, TableSize, build, digest, disruption,
};
use proptest::prelude::*;
use siphasher::sip::SipHasher13;

const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("instance-{i:05}")).collect()
}

fn members<'a>(names: &'a [String], weights: &[u32]) -> Vec<Member<'a>> {
    names.iter().zip(weights).map(|(name, &weight)| Member { name: name.as_bytes(), weight }).collect()
}

fn size(slots: u32) -> TableSize {
    TableSize::try_from(slots).expect("a listed size")
}

fn counts(table: &BuiltTable) -> Vec<u32> {
    let mut counts = vec![0; table.members_count()];
    for &entry in table.entries() {
        counts[usize::from(entry)] += 1;
    }
    counts
}

fn fair_share(weights: &[u32], i: usize, size: TableSize) -> f64 {
    let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
    f64::from(size.get()) * f64::from(weights[i]) / total as f64
}

/// Repeatable for every run: proptest's own cases follow a fixed seed, printed with a failing case.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 48,
        rng_seed: proptest::test_runner::RngSeed::Fixed(20_161_024),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_slot_is_claimed_and_counts_are_the_nearest_to_the_weights(
        weights in prop::collection::vec(0u32..=100, 1..40),
        size in prop::sample::select(TableSize::LISTED[5..9].to_vec()),
    ) {
        prop_assume!(weights.iter().any(|&w| w > 0));
        let names = names(weights.len());
        let table = build(&members(&names, &weights), size, KEY)?;
        prop_assert_eq!(table.entries().len(), size.get() as usize);
        for (i, &count) in counts(&table).iter().enumerate() {
            let fair = fair_share(&weights, i, size);
            if weights[i] == 0 {
                prop_assert_eq!(count, 0);
            } else {
                prop_assert!((f64::from(count) - fair).abs() < 1.0, "{count} for a share of {fair}");
            }
        }
    }

    /// Weights so far apart that a light member's fair share is a small part of a slot.
    #[test]
    fn any_positive_weight_has_a_slot(
        weights in prop::collection::vec(prop_oneof![1u32..4, any::<u32>(), Just(u32::MAX)], 1..30),
    ) {
        let names = names(weights.len());
        let table = build(&members(&names, &weights), size(1031), KEY)?;
        for (count, weight) in counts(&table).into_iter().zip(weights) {
            prop_assert_eq!(count > 0, weight > 0);
        }
    }

    /// I3.
    #[test]
    fn the_order_of_the_members_changes_nothing(
        (straight, shuffled) in prop::collection::vec(0u32..=20, 2..60)
            .prop_map(|weights| weights.into_iter().enumerate().collect::<Vec<_>>())
            .prop_flat_map(|members| (Just(members.clone()), Just(members).prop_shuffle())),
    ) {
        prop_assume!(straight.iter().any(|&(_, w)| w > 0));
        let names = names(straight.len());
        let list = |order: &[(usize, u32)]| -> Vec<Member<'_>> {
            order.iter().map(|&(i, weight)| Member { name: names[i].as_bytes(), weight }).collect()
        };
        let a = build(&list(&straight), size(4099), KEY)?;
        let b = build(&list(&shuffled), size(4099), KEY)?;
        prop_assert_eq!(a.entries(), b.entries());
        prop_assert_eq!(a.digest(), b.digest());
        for (index, &position) in b.order().iter().enumerate() {
            prop_assert_eq!(shuffled[usize::from(position)].0, index);
        }
    }

    #[test]
    fn a_removal_takes_slots_from_no_survivor_on_balance(
        weights in prop::collection::vec(1u32..=50, 3..40),
        removed in any::<prop::sample::Index>(),
    ) {
        let names = names(weights.len());
        let before = members(&names, &weights);
        let mut after = before.clone();
        let removed = after.remove(removed.index(before.len()));
        let report = compare(&before, &after, size(4099));
        for member in &report.members {
            if member.name.as_bytes() == removed.name {
                prop_assert_eq!((member.after_slots, member.gained_slots), (0, 0));
            } else {
                prop_assert!(member.after_slots >= member.before_slots, "{member:?}");
            }
            prop_assert_eq!(
                member.before_slots + member.gained_slots,
                member.after_slots + member.lost_slots
            );
        }
    }
}

fn compare(before: &[Member<'_>], after: &[Member<'_>], size: TableSize) -> Report {
    let a = build(before, size, KEY).expect("valid members");
    let b = build(after, size, KEY).expect("valid members");
    disruption(Side { table: &a, members: before }, Side { table: &b, members: after }).expect("comparable tables")
}

/// Any change of a byte, on any machine and in any version, must show here: front ends of two versions work side by side.
#[test]
fn the_bytes_are_what_they_always_were() {
    let names = names(20);
    let weights: Vec<u32> = (0..20).map(|i| i * 7 % 13).collect();
    let small = build(&members(&names, &weights), size(2053), KEY).expect("valid members");
    assert_eq!(&small.entries()[..16], &[9, 10, 16, 7, 16, 8, 4, 9, 5, 18, 16, 19, 12, 11, 9, 3]);
    assert_eq!(format!("{:#018x}", small.digest()), "0x30dbb0df70c64537");

    let names = self::names(1000);
    let weights: Vec<u32> = (0..1000).map(|i| 1 + i % 100).collect();
    let large = build(&members(&names, &weights), size(65_537), KEY).expect("valid members");
    assert_eq!(format!("{:#018x}", large.digest()), "0x24cfb9adc8ce2631");
}

/// With equal weights the table is the paper's, written here as section 3.4 has it.
#[test]
fn equal_weights_give_the_tables_of_the_paper() {
    for (count, slots, weight) in [(1, 101, 1), (3, 101, 7), (40, 4099, 100), (655, 65_537, 1)] {
        let names = names(count);
        let table = build(&members(&names, &vec![weight; count]), size(slots), KEY).expect("valid");
        let m = u64::from(slots);
        let permutation = |name: &String, turn: u64| {
            let mut hasher = SipHasher13::new_with_keys(KEY[0], KEY[1]);
            hasher.write(name.as_bytes());
            let hash = hasher.finish();
            let offset = ((hash >> 32) * m) >> 32;
            let skip = 1 + (((hash & 0xffff_ffff) * (m - 1)) >> 32);
            ((offset + turn * skip) % m) as usize
        };
        let mut entry = vec![None; slots as usize];
        let mut next = vec![0u64; count];
        let mut filled = 0;
        'filling: loop {
            for (i, name) in names.iter().enumerate() {
                while entry[permutation(name, next[i])].is_some() {
                    next[i] += 1;
                }
                entry[permutation(name, next[i])] = Some(i as u16);
                next[i] += 1;
                filled += 1;
                if filled == slots {
                    break 'filling;
                }
            }
        }
        let entry: Vec<u16> = entry.into_iter().flatten().collect();
        assert_eq!(table.entries(), entry, "{count} members in {slots} slots");
    }
}

#[test]
fn the_digest_tells_tables_apart() {
    assert_eq!(format!("{:#018x}", digest(&[])), "0x328cb4f4fd2b169b");
    assert_ne!(digest(&[1, 2]), digest(&[2, 1]));
    assert_ne!(digest(&[0]), digest(&[0, 0]));
    let long: Vec<u16> = (0..1000).collect();
    let mut changed = long.clone();
    changed[999] ^= 0x100;
    assert_ne!(digest(&long), digest(&changed));
}

#[test]
fn another_key_gives_another_table() {
    let names = names(10);
    let members = members(&names, &[1; 10]);
    let a = build(&members, size(1031), KEY).expect("valid members");
    let b = build(&members, size(1031), [KEY[0], KEY[1] ^ 1]).expect("valid members");
    let same = a.entries().iter().zip(b.entries()).filter(|(x, y)| x == y).count();
    assert!(same < 1031 / 5, "{same} slots of 1031 agree under different keys");
}

/// With 1.3 slots to a unit of weight, whole slots are coarse: a weight of 1 has one slot, 0.77 of its share. But that is a rounding to
/// the nearest slot, and no bias against light members.
#[test]
fn counts_are_rounded_to_the_nearest_slot_without_bias() {
    let names = names(1000);
    let weights: Vec<u32> = (0..1000).map(|i| 1 + i % 100).collect();
    let size = size(65_537);
    let table = build(&members(&names, &weights), size, KEY).expect("valid members");
    let counts = counts(&table);
    let fair: Vec<f64> = (0..1000).map(|i| fair_share(&weights, i, size)).collect();
    for (&count, &fair) in counts.iter().zip(&fair) {
        assert!((f64::from(count) - fair).abs() <= 0.51, "{count} slots for a share of {fair}");
    }
    for (range, bias) in [(1..=10, 0.01), (11..=50, 0.001), (51..=100, 0.001)] {
        let of_range = || (0..1000).filter(|&i| range.contains(&weights[i]));
        let got: f64 = of_range().map(|i| f64::from(counts[i])).sum();
        let due: f64 = of_range().map(|i| fair[i]).sum();
        println!("weights {range:?}: {:.4} of their share", got / due);
        assert!((got / due - 1.0).abs() <= bias, "weights {range:?} have {got} slots of {due}");
    }
}

/// Means over four removals, in percent of the slots; the bounds are 1.1 times what the paper's unweighted construction does.
#[test]
fn few_slots_move_between_survivors() {
    for (slots, count, bound_percent) in
        [(65_537, 10, 0.29), (65_537, 100, 0.62), (65_537, 1000, 0.63), (655_373, 1000, 0.36)]
    {
        let names = names(count);
        let weighted: Vec<u32> = (0..count as u32).map(|i| 1 + i * 37 % 100).collect();
        for (label, weights) in [("equal", vec![1; count]), ("weighted", weighted)] {
            let all = members(&names, &weights);
            let mut moved = 0;
            for removed in [0, count / 3, count / 2, count - 1] {
                let mut fewer = all.clone();
                fewer.remove(removed);
                let removal = compare(&all, &fewer, size(slots));
                let addition = compare(&fewer, &all, size(slots));
                assert_eq!(removal.moved_slots, addition.moved_slots);
                let lost = removal.members[removed].lost_slots;
                assert_eq!(removal.moved_slots, removal.moved_between_survivors + lost);
                moved += removal.moved_between_survivors;
            }
            let percent = 100.0 * f64::from(moved) / 4.0 / f64::from(slots);
            println!("{slots} slots, {count} {label} members: {percent:.3} % move between survivors");
            assert!(percent <= bound_percent, "{slots} x {count} {label}: {percent} %");
        }
    }
}

#[test]
fn weight_zero_keeps_its_index_and_gets_nothing() {
    let names = names(4);
    let with = members(&names, &[5, 0, 5, 5]);
    let table = build(&with, size(521), KEY).expect("valid members");
    assert_eq!(counts(&table)[1], 0);
    assert_eq!(table.members_count(), 4);

    let without = [with[0], with[2], with[3]];
    let report = compare(&with, &without, size(521));
    assert_eq!((report.moved_slots, report.members.len()), (0, 4));

    let drained = members(&names, &[5, 0, 0, 5]);
    let report = compare(&with, &drained, size(521));
    assert_eq!(report.members[2].after_slots, 0);
    assert_eq!(report.moved_slots, report.moved_between_survivors + report.members[2].before_slots);
}

#[test]
fn what_cannot_be_built_is_refused() {
    let names = names(300);
    let one = |weight| members(&names[..1], &[weight])[0];
    let refused = |members: &[Member<'_>], slots| build(members, size(slots), KEY).expect_err("must be refused");
    assert_eq!(refused(&[], 101), BuildError::NoWeight { members: 0 });
    assert_eq!(refused(&[one(0)], 101), BuildError::NoWeight { members: 1 });
    assert_eq!(
        refused(&[one(1), members(&names, &[1, 1])[1], one(0)], 101).to_string(),
        "build table: member \"instance-00000\" is listed twice"
    );
    let many = members(&names, &[1; 300]);
    assert_eq!(
        refused(&many, 257).to_string(),
        "build table of 257 slots: 300 members are more than the 257 it can hold"
    );
    assert!(build(&many[..257], size(257), KEY).is_ok());
    let numbers: Vec<[u8; 4]> = (0u32..65_536).map(u32::to_be_bytes).collect();
    let too_many: Vec<Member<'_>> = numbers.iter().map(|name| Member { name, weight: 1 }).collect();
    assert!(matches!(refused(&too_many, 655_373), BuildError::TooManyMembers { members: 65_536, limit: 65_535, .. }));
    assert!(build(&too_many[1..], size(655_373), KEY).is_ok());
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let names = names(3);
    let all = members(&names, &[1, 2, 3]);
    let small = build(&all, size(101), KEY).expect("valid members");
    let large = build(&all, size(257), KEY).expect("valid members");
    let side = |table, members| Side { table, members };
    assert_eq!(
        disruption(side(&small, &all), side(&large, &all)),
        Err(DisruptionError::SizesDiffer { before: 101, after: 257 })
    );
    assert_eq!(
        disruption(side(&small, &all), side(&small, &all[1..])),
        Err(DisruptionError::NotItsMembers { which: "after", table: 3, listed: 2 })
    );
}

#[test]
fn sizes_are_primes_with_room_for_their_members() {
    for size in TableSize::LISTED {
        let n = size.get();
        assert!((2..).take_while(|d| d * d <= n).all(|d| n % d != 0), "{n} is not a prime");
        assert_eq!(TableSize::try_from(n), Ok(*size));
    }
    assert!(TableSize::LISTED.is_sorted());
    for max in 1..=6553 {
        let size = TableSize::for_max_members(max).expect("in range");
        assert!(size.get() >= 100 * max && size.max_members() >= max);
        let smaller = TableSize::LISTED.iter().rev().find(|s| **s < size);
        assert!(smaller.is_none_or(|s| s.get() < 100 * max), "{size} is not the smallest for {max}");
    }
    assert_eq!(TableSize::for_max_members(655).map(TableSize::get), Ok(65_537));
    assert_eq!(TableSize::for_max_members(6553), Ok(TableSize::LARGEST));
    for max_members in [0, 6554, u32::MAX] {
        assert_eq!(TableSize::for_max_members(max_members), Err(SizeError::MaxMembers { max_members, largest: 6553 }));
    }
    assert_eq!(TableSize::try_from(65_536), Err(SizeError::NotListed { size: 65_536 }));
}
