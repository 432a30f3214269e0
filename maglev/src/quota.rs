//! How many slots each member gets.
//!
//! The slots are apportioned like seats, by the divisor method of Webster and Sainte-Lague with a guaranteed seat: the next slot goes to
//! the member with the smallest `(2 q + 1) / weight`, where `q` is what it has, and every member gets its first slot before anybody gets
//! a second. Counts are thus the nearest integers to the fair shares (a member of weight w > 0 is never without a slot), and as
//! with every divisor method, a member that leaves makes no other member's count fall: survivors only gain.

use alloc::{collections::BinaryHeap, vec::Vec};
use core::cmp::{Ordering, Reverse};

/// The signpost `odd / weight` of one member, ordered by value, then by index.
#[derive(PartialEq, Eq)]
struct Signpost {
    odd: u64,
    weight: u64,
    index: usize,
}

impl Ord for Signpost {
    fn cmp(&self, other: &Self) -> Ordering {
        // `odd` is below 2^21 and `weight` below 2^32: the products fit.
        (self.odd * other.weight).cmp(&(other.odd * self.weight)).then(self.index.cmp(&other.index))
    }
}

impl PartialOrd for Signpost {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Slots per member, in the order of `weights`; their sum is `size`. Weights must be positive and no more than `size` in number.
pub(crate) fn quotas(weights: &[u32], size: u32) -> Vec<u32> {
    let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
    let mut quotas: Vec<u32> = weights
        .iter()
        .map(|&w| {
            let doubled = 2 * u64::from(w) * u64::from(size);
            (((doubled + total) / (2 * total)) as u32).max(1)
        })
        .collect();

    let mut given: u32 = quotas.iter().sum();
    if given < size {
        let mut next: BinaryHeap<_> =
            (0..weights.len()).map(|i| Reverse(signpost(2 * quotas[i] + 1, weights[i], i))).collect();
        while given < size
            && let Some(mut top) = next.peek_mut()
        {
            quotas[top.0.index] += 1;
            top.0.odd += 2;
            given += 1;
        }
    } else if given > size {
        let mut last: BinaryHeap<_> =
            (0..weights.len()).filter(|&i| quotas[i] > 1).map(|i| signpost(2 * quotas[i] - 1, weights[i], i)).collect();
        while given > size
            && let Some(mut top) = last.pop()
        {
            quotas[top.index] -= 1;
            given -= 1;
            if quotas[top.index] > 1 {
                top.odd -= 2;
                last.push(top);
            }
        }
    }
    quotas
}

fn signpost(odd: u32, weight: u32, index: usize) -> Signpost {
    Signpost { odd: u64::from(odd), weight: u64::from(weight), index }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// The definition: slot by slot to the smallest signpost, the first slot of each member before all others.
    fn slot_by_slot(weights: &[u32], size: u32) -> Vec<u32> {
        let mut quotas = vec![1u32; weights.len()];
        for _ in weights.len()..size as usize {
            let next = (0..weights.len())
                .min_by_key(|&i| signpost(2 * quotas[i] + 1, weights[i], i))
                .expect("there are members");
            quotas[next] += 1;
        }
        quotas
    }

    #[test]
    fn counts_are_those_of_the_definition() {
        let mut state = 20_161_024u32;
        let mut below = |bound: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            crate::slot(state, bound)
        };
        for case in 0..500 {
            let count = 1 + below(30) as usize;
            let spread = [2, 10, 100, u32::MAX][below(4) as usize];
            let weights: Vec<u32> = (0..count).map(|_| 1 + below(spread - 1)).collect();
            let size = count as u32 + below(200);
            assert_eq!(
                quotas(&weights, size),
                slot_by_slot(&weights, size),
                "case {case}: weights {weights:?} in {size} slots"
            );
        }
    }
}
