//! What breaks if a part is missing.

use crate::check::{breaks, holds};
use crate::config::{Caches, Config, Mutant};
use crate::flow::Path;
use crate::model::{ONE_ANSWER, ONE_INSTANCE};

const X: Path = Path::one(1);
const Y: Path = Path::one(2);

#[test]
fn mutants() {
    breaks("nohold", ONE_ANSWER, Config::new([X, Y]).deaths(1).without(Mutant::NoHold));
    for mutant in [Mutant::NoFlush, Mutant::NoFence, Mutant::NoAcknowledgement] {
        breaks(&format!("{mutant:?}"), ONE_INSTANCE, Config::new([X, Y]).deaths(1).without(mutant));
    }
    breaks("nosync", ONE_INSTANCE, Config::new([X, Y]).deaths(1).joins(1).without(Mutant::NoSynchronization));
    for mutant in [Mutant::AnybodyAnnounces, Mutant::PickerAnnounces] {
        breaks(
            &format!("{mutant:?}"),
            ONE_INSTANCE,
            Config::new([X, Y]).deaths(1).caches(Caches::Dropped).without(mutant),
        );
    }
    breaks("unordered", ONE_INSTANCE, Config::new([X, Y]).reuses(1).background().without(Mutant::Unordered));
    holds("ordered", Config::new([X, Y]).reuses(1).background());
    breaks("trust", ONE_INSTANCE, Config::new([X, Y]).reuses(1).background().without(Mutant::ReplicaTrusted));
    breaks("kept", ONE_INSTANCE, Config::new([X, Y]).deaths(1).caches(Caches::Kept));
    holds("dropped", Config::new([X, Y]).deaths(1).caches(Caches::Dropped));
}
