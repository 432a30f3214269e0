//! What holds.

use crate::check::{holds, never_stuck};
use crate::config::Config;
use crate::flow::Path;

const X: Path = Path::one(1);
const Y: Path = Path::one(2);
const Z: Path = Path::one(0);

#[test]
fn one_change_with_a_death_and_reuse() {
    holds("x,y, 1 death, reuse", Config::new([X, Y]).deaths(1).reuses(1));
}

#[test]
fn there_and_back() {
    holds("x,y,x, 1 death", Config::new([X, Y, X]).deaths(1));
}

#[test]
fn two_changes_with_reuse() {
    holds("x,y,z, reuse", Config::new([X, Y, Z]).reuses(1));
}

#[test]
fn never_stuck_in_one_change() {
    never_stuck("x,y, 1 death, 1 join, abort", Config::new([X, Y]).deaths(1).joins(1).aborts(1));
}
