//! An owner out of budget forwards without a record.
//!
//! I1 does not hold for such a flow: a change moves it. What holds: within a plan it stays, a change moves it at most once
//! and never back, and from its first record on it is like any other.

use super::one_stage::{X, Y, Z};
use crate::check::{breaks, holds};
use crate::config::{Config, Mutant};
use crate::model::ONE_INSTANCE;

#[test]
fn a_flow_without_record_moves_forward_only() {
    holds("x y, no budget at times", Config::new([X, Y]).stateless());
    holds("x y, no budget at times, restart, abort", Config::new([X, Y]).stateless().restarts(1).aborts(1));
    holds("x y z, no budget at times", Config::new([X, Y, Z]).stateless());
}

#[test]
fn without_the_fence_it_moves_back() {
    breaks("x y, no fence", ONE_INSTANCE, Config::new([X, Y]).stateless().without(Mutant::NoFence));
}
