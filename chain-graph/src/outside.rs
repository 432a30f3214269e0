//! Outside blocks of several instances, arranged as the data plane looks them up.

use crate::cidr::Cidr;
use crate::model::{OutsideBlock, PortRange};
use std::collections::BTreeMap;

/// One outside block and what it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Claim<O> {
    pub(crate) prefix: Cidr,
    pub(crate) ports: PortRange,
    pub(crate) owner: O,
}

impl<O> Claim<O> {
    pub(crate) fn new(block: &OutsideBlock, owner: O) -> Self {
        Self { prefix: block.prefix.into(), ports: block.ports(), owner }
    }
}

/// Calls `found(earlier, later)` for every claim that has an address and port in common with an earlier one, and the first such one: of
/// many equal claims, all pairs would be more than anybody reads, or memory holds. Sorts the claims.
pub(crate) fn overlaps<'a, O: Copy + Ord>(
    claims: &'a mut [Claim<O>],
    mut found: impl FnMut(&'a Claim<O>, &'a Claim<O>),
) {
    claims.sort_unstable();
    // A prefix sorts before what is inside it, so what may overlap the current claim is the chain of prefixes around it.
    let mut around: Vec<&Claim<O>> = Vec::new();
    for claim in claims.iter() {
        while around.last().is_some_and(|outer| !outer.prefix.covers(claim.prefix)) {
            around.pop();
        }
        if let Some(outer) = around.iter().find(|outer| outer.ports.overlaps(claim.ports)) {
            found(outer, claim);
        }
        around.push(claim);
    }
}

/// Port ranges by prefix. A longest-prefix match finds one prefix only, so each one also has the ranges of those around it.
pub(crate) fn by_prefix<O: Copy + Ord>(claims: &mut [Claim<O>]) -> BTreeMap<Cidr, Vec<(PortRange, O)>> {
    claims.sort_unstable();
    let mut prefixes: BTreeMap<Cidr, Vec<(PortRange, O)>> = BTreeMap::new();
    let mut around: Vec<&Claim<O>> = Vec::new();
    for claim in claims.iter() {
        while around.last().is_some_and(|outer| !outer.prefix.covers(claim.prefix)) {
            around.pop();
        }
        let ranges = prefixes.entry(claim.prefix).or_default();
        if ranges.is_empty() {
            ranges.extend(around.iter().map(|outer| (outer.ports, outer.owner)));
        }
        ranges.push((claim.ports, claim.owner));
        around.push(claim);
    }
    for ranges in prefixes.values_mut() {
        ranges.sort_unstable();
    }
    prefixes
}
