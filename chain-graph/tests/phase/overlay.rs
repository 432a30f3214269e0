//! An instance fails while its host lives, or is declared down though it runs, and front ends hear of it at different times.

use super::one_stage::{X, Y, Z};
use crate::check::{breaks, holds};
use crate::config::{Config, Mutant, Overlay};
use crate::flow::Path;
use crate::model::ONE_INSTANCE;

/// The instance of path x; `spare`: the path if it is stepped over; `up_from`: the first plan under which it is up again.
fn failing(spare: [Path; 2], up_from: usize) -> Overlay {
    Overlay { host: 1, spare: spare.to_vec(), up_from, host_first: true }
}

const NEVER: usize = usize::MAX;

#[test]
fn a_change_while_an_instance_is_down() {
    holds("x y, z instead of x", Config::new([X, Y]).overlay(failing([Z, Y], NEVER)));
    holds("x x, z then y instead", Config::new([X, X]).overlay(failing([Z, Y], NEVER)));
    holds("x x, z then y instead, death", Config::new([X, X]).overlay(failing([Z, Y], NEVER)).deaths(1));
}

#[test]
fn a_change_that_brings_an_instance_up() {
    holds("x x, z instead until the change", Config::new([X, X]).overlay(failing([Z, Z], 1)));
    holds("y x, x is down before", Config::new([Y, X]).overlay(failing([Y, Z], 1)));
}

/// Whoever hears first picks another instance while the host still delivers to this one.
#[test]
fn the_host_must_hear_first() {
    let overlay = Overlay { host_first: false, ..failing([Z, Z], NEVER) };
    breaks("down is heard in any order", ONE_INSTANCE, Config::new([X, X]).overlay(overlay));
}

#[test]
fn the_host_refuses_what_was_picked_while_its_instance_was_down() {
    let change = Config::new([X, X]).overlay(failing([Z, Z], 1)).without(Mutant::DownServed);
    breaks("frames from before are served after", ONE_INSTANCE, change);
}

/// That a record picked around a failure is announced at once is not for safety: until a front end hears of the failure or
/// of the record, its frames go to the instance that is down, whose host drops them.
#[test]
fn announcing_at_once_only_shortens_the_loss() {
    for (spare, up_from) in [([Z, Y], NEVER), ([Z, Z], 1)] {
        let change = Config::new([X, X]).overlay(failing(spare, up_from)).without(Mutant::OverlayNotAnnounced);
        holds("x x, announced in Flush only", change);
    }
}
