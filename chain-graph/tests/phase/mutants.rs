//! What breaks if a part of the protocol is missing. Those of paths with two stages and of failures are beside their cases.

use super::one_stage::{X, Y};
use crate::check::{breaks, holds};
use crate::config::{Caches, Config, Mutant};
use crate::model::{ONE_ANSWER, ONE_INSTANCE};

fn one_change() -> Config {
    Config::new([X, Y])
}

/// Front ends that are a plan apart answer differently. The fence catches the frames, so that they are lost and do not
/// reach a second instance; unless frames that enter at the owner itself pass it.
#[test]
fn no_hold() {
    breaks("no Hold", ONE_ANSWER, one_change().without(Mutant::NoHold));
    let unfenced = one_change().without(Mutant::NoHold).without(Mutant::NoFenceAtHome);
    breaks("no Hold, no fence for frames that enter at the owner", ONE_INSTANCE, unfenced);
}

/// A record that comes after Prepare is announced to nobody.
#[test]
fn no_flush() {
    breaks("no Flush", ONE_INSTANCE, one_change().without(Mutant::NoFlush));
}

/// A frame that was picked before Hold makes a record after everything was announced.
#[test]
fn no_fence() {
    breaks("no fence", ONE_INSTANCE, one_change().without(Mutant::NoFence));
}

#[test]
fn commit_without_acknowledgements() {
    breaks("no acknowledgements", ONE_INSTANCE, one_change().without(Mutant::NoAcknowledgement));
}

#[test]
fn join_without_synchronization() {
    let change = one_change().deaths(1).joins(1).without(Mutant::NoSynchronization);
    breaks("no synchronization", ONE_INSTANCE, change);
}

/// Half an announcement by a front end that dies is worse than none: the flow lives on.
#[test]
fn anybody_announces() {
    let change = one_change().deaths(1).caches(Caches::Dropped).without(Mutant::AnybodyAnnounces);
    breaks("anybody announces", ONE_INSTANCE, change);
}

/// The owner has a record that the front end which picked the path does not know of.
#[test]
fn only_the_front_end_that_picked_announces() {
    let change = one_change().caches(Caches::Dropped).without(Mutant::PickerAnnounces);
    breaks("the picker announces", ONE_INSTANCE, change);
}

/// An old "gone" takes away what came after it.
#[test]
fn exceptions_out_of_order() {
    let change = one_change().reuses(1).background().without(Mutant::Unordered);
    breaks("streams without order", ONE_INSTANCE, change);
}

#[test]
fn replicas_trusted_without_their_owner() {
    let change = one_change().reuses(1).without(Mutant::ReplicaTrusted);
    breaks("replicas trusted", ONE_INSTANCE, change);
}

/// Front ends that remember what they picked have to forget it at commit. Those that remember nothing have nothing to
/// forget: that is why the product's do not.
#[test]
fn caches_kept_at_commit() {
    breaks("caches kept", ONE_INSTANCE, one_change().caches(Caches::Kept));
    holds("caches dropped", one_change().caches(Caches::Dropped).deaths(1));
    holds("no caches", one_change().caches(Caches::None).deaths(1));
}
