//! A canary's share is part of the plan: raising it, promoting and aborting are changes, and a flow is at risk in those that
//! move its place in the cohort across the share.

use super::one_stage::{X, Y};
use crate::check::holds;
use crate::config::Config;
use crate::flow::Path;

/// The path of a flow at this place of the cohort, in per cent, under each share of a canary that sends it to y.
fn shares(place: u8, shares: &[u8]) -> Vec<Path> {
    shares.iter().map(|share| if place < *share { Y } else { X }).collect()
}

/// Start, raise, promote.
#[test]
fn promoted() {
    for place in [0, 10, 50] {
        holds(&format!("flow at {place} %, promoted"), Config::new(shares(place, &[0, 5, 20, 100])));
    }
}

/// Start, raise, abort. The first cohort goes there and back.
#[test]
fn aborted() {
    for place in [0, 10] {
        holds(&format!("flow at {place} %, canary aborted"), Config::new(shares(place, &[0, 5, 20, 0])));
    }
}

/// Raising the share, a flow that stays on its side of it loses nothing.
#[test]
fn raised() {
    for place in [0, 50] {
        holds(&format!("flow at {place} %, raised"), Config::new(shares(place, &[5, 20])).lossless());
    }
}
