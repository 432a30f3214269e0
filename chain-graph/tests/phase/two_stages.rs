//! Paths of two instances on different hosts: frames towards the client meet the second before the owner.

use crate::check::{breaks, holds, never_stuck};
use crate::config::{Config, Mutant};
use crate::flow::Path;
use crate::model::ONE_INSTANCE;

const OLD: Path = Path::two(1, 2);

/// Each change the two stages can go through together.
const CHANGES: [(&str, Path); 4] = [
    ("the second moves", Path::two(1, 0)),
    ("both move along", Path::two(2, 0)),
    ("both move to one host", Path::two(0, 0)),
    ("the second moves to the first's host", Path::two(1, 1)),
];

#[test]
fn the_owner_gives_its_word() {
    for (what, new) in CHANGES {
        holds(what, Config::new([OLD, new]));
    }
    holds("the first moves", Config::new([OLD, Path::two(0, 2)]));
    holds("they change places, restart", Config::new([OLD, Path::two(2, 1)]).absent(1).restarts(1));
}

/// The design's first rule: what the host of a later stage keeps of a path decides nothing. A frame towards the client
/// reaches the second instance by the old plan, is refused by the owner's fence, and the flow goes on by the new plan.
#[test]
fn without_the_owners_word_two_instances_see_the_flow() {
    for (what, new) in CHANGES {
        breaks(what, ONE_INSTANCE, Config::new([OLD, new]).without(Mutant::HopUnasked));
    }
}

/// The fence at every host instead of the owner's word: two hosts raise theirs at different times.
#[test]
fn a_fence_at_each_stage_is_not_enough() {
    let change = || Config::new([OLD, Path::two(1, 0)]);
    breaks("fence at each stage", ONE_INSTANCE, change().without(Mutant::HopFenced));
}

#[test]
fn a_dead_owners_word_does_not_count() {
    let change = || Config::new([OLD, Path::two(2, 0)]).deaths(1);
    holds("both move along, death", change());
    breaks("both move along, death, its word counts", ONE_INSTANCE, change().without(Mutant::DeadHeeded));
}

#[test]
fn the_owners_word_ends_before_the_record() {
    let change = || Config::new([OLD, Path::two(2, 1)]).absent(1).reuses(1);
    holds("they change places, reuse", change());
    breaks("they change places, reuse, the word stays", ONE_INSTANCE, change().without(Mutant::LeaseOutlives));
}

#[test]
fn never_stuck_with_two_stages() {
    never_stuck("they change places, abort", Config::new([OLD, Path::two(2, 1)]).absent(1).aborts(1));
}
