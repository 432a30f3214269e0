//! Paths of one instance: what holds, with the configurations of the first model of this protocol and some more.

use crate::check::{holds, never_stuck};
use crate::config::Config;
use crate::flow::Path;

pub(crate) const X: Path = Path::one(1);
pub(crate) const Y: Path = Path::one(2);
pub(crate) const Z: Path = Path::one(0);

#[test]
fn one_change() {
    holds("x y, death, reuse", Config::new([X, Y]).deaths(1).reuses(1));
    holds("x y, death, join, abort", Config::new([X, Y]).deaths(1).joins(1).aborts(1));
    holds("x y, two aborts", Config::new([X, Y]).aborts(2));
}

#[test]
fn one_change_with_exceptions_in_the_background() {
    holds("x y, background, death, reuse", Config::new([X, Y]).background().deaths(1).reuses(1));
}

#[test]
fn one_change_with_agents_that_restart() {
    holds("x y, restart, death", Config::new([X, Y]).restarts(1).deaths(1).background());
}

#[test]
fn members_down_to_one_and_up_again() {
    holds("x y, two deaths, join", Config::new([X, Y]).deaths(2).joins(1));
    holds("x y z, two members, death, join", Config::new([X, Y, Path::one(1)]).absent(1).deaths(1).joins(1));
}

#[test]
fn several_changes() {
    holds("x y x, death", Config::new([X, Y, X]).deaths(1));
    holds("x y x, death, join", Config::new([X, Y, X]).deaths(1).joins(1));
    holds("x y z, reuse", Config::new([X, Y, Z]).reuses(1));
}

#[test]
#[ignore = "takes minutes: three changes with everything"]
fn three_changes_with_everything() {
    holds("x y x z, death, join, abort", Config::new([X, Y, X, Z]).deaths(1).joins(1).aborts(1));
    holds("x y x, death, reuse", Config::new([X, Y, X]).deaths(1).reuses(1));
}

#[test]
fn never_stuck_in_one_change() {
    never_stuck("x y, death, join, abort", Config::new([X, Y]).deaths(1).joins(1).aborts(1));
    never_stuck("x y, reuse, restart", Config::new([X, Y]).reuses(1).restarts(1));
}

#[test]
fn never_stuck_in_two_changes() {
    never_stuck("x y x, death, join", Config::new([X, Y, X]).deaths(1).joins(1));
}

/// All frames of a flow that is not at risk are forwarded in every phase: none is parked, none refused.
#[test]
fn a_flow_that_is_not_at_risk_loses_nothing() {
    holds("x x, no frame refused", Config::new([X, X]).lossless());
    holds("x x, no frame refused, death", Config::new([X, X]).lossless().deaths(1));
}
