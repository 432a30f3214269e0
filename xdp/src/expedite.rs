//! Short grace periods while many programs are attached.
//!
//! The kernel waits for a grace period for every tcx program it attaches, one after the other under the lock of all network
//! configuration (`tcx_entry_sync` in include/net/tcx.h): 10 to 25 ms an interface, seconds on a node with a hundred pods.
//! `/sys/kernel/rcu_expedited` makes it interrupt the processors instead, which takes microseconds
//! (Documentation/RCU/checklist.rst). An operator who cannot have such interruptions sets `/sys/kernel/rcu_normal`, which the
//! kernel puts first.

use std::fs;
use std::path::Path;

const SWITCH: &str = "/sys/kernel/rcu_expedited";
/// Fewer interfaces than this are attached without it: they take a tenth of a second.
const WORTH_IT: usize = 8;

/// Grace periods are expedited while it lives.
pub(crate) struct Expedited(());

impl Expedited {
    /// Expedites grace periods if so many interfaces are worth it. `None` if they are not, if somebody else has expedited
    /// them, or if the system does not let us: attaching takes its time then.
    pub(crate) fn for_interfaces(count: usize) -> Option<Self> {
        let switch = Path::new(SWITCH);
        if count < WORTH_IT || fs::read_to_string(switch).ok()?.trim() != "0" {
            return None;
        }
        match fs::write(switch, "1") {
            Ok(()) => Some(Self(())),
            Err(error) => {
                tracing::info!(%error, interfaces = count, "cannot expedite grace periods ({SWITCH}): attaching takes longer");
                None
            }
        }
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, "0") {
            tracing::warn!(%error, "grace periods stay expedited: write 0 to {SWITCH}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Expedited, SWITCH, WORTH_IT};
    use std::fs;

    #[test]
    fn grace_periods_are_expedited_for_many_interfaces_and_no_longer_than_asked_for() {
        testbed::require!();
        let now = || fs::read_to_string(SWITCH).expect("the kernel has the switch").trim().to_owned();
        if now() != "0" {
            // Another agent of this machine is attaching.
            return;
        }
        assert!(Expedited::for_interfaces(WORTH_IT - 1).is_none(), "few interfaces do not interrupt every processor");
        let held = Expedited::for_interfaces(WORTH_IT);
        assert!(held.is_some() && now() == "1");
        assert!(Expedited::for_interfaces(WORTH_IT).is_none(), "who did not switch it on does not switch it off");
        drop(held);
        assert_eq!(now(), "0");
    }
}
