//! Grace periods, waited for in the background: space that was freed and banks that were left may be reused after one.

use crate::error::{Error, Result};
use crate::sys;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What the thread and its users share.
#[derive(Default)]
struct State {
    /// The last moment somebody wants to have passed.
    wanted: u64,
    /// Every program that ran at this moment has ended.
    passed: u64,
    /// Why waiting failed.
    failed: Option<String>,
    is_over: bool,
}

/// Counts moments; a moment has passed when every program that ran then has ended.
pub(crate) struct Grace {
    state: Arc<(Mutex<State>, Condvar)>,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Grace {
    /// Starts the thread that waits.
    pub(crate) fn start() -> Result<Self> {
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let shared = Arc::clone(&state);
        thread::Builder::new()
            .name("grace".to_owned())
            .spawn(move || wait_on(&shared))
            .map_err(|source| Error::Host { operation: "start thread", object: "grace".to_owned(), source })?;
        Ok(Self { state })
    }

    /// A new moment: now.
    pub(crate) fn mark(&self) -> u64 {
        let (state, changed) = &*self.state;
        let mut state = locked(state);
        state.wanted += 1;
        changed.notify_all();
        state.wanted
    }

    /// The latest moment that has passed.
    pub(crate) fn passed(&self) -> u64 {
        locked(&self.state.0).passed
    }

    /// Waits until a moment has passed.
    pub(crate) fn wait(&self, moment: u64) -> Result<()> {
        let (state, changed) = &*self.state;
        let mut state = locked(state);
        while state.passed < moment {
            if let Some(cause) = state.failed.take() {
                return Err(Error::Grace { cause });
            }
            changed.notify_all();
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

impl Drop for Grace {
    fn drop(&mut self) {
        locked(&self.state.0).is_over = true;
        self.state.1.notify_all();
    }
}

/// One grace period serves all moments before it.
fn wait_on((state, changed): &(Mutex<State>, Condvar)) {
    let mut guard = locked(state);
    while !guard.is_over {
        if guard.passed == guard.wanted || guard.failed.is_some() {
            guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let moment = guard.wanted;
        drop(guard);
        let waited = sys::grace_period();
        guard = locked(state);
        match waited {
            Ok(()) => guard.passed = moment,
            Err(error) => guard.failed = Some(error.to_string()),
        }
        changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::Grace;

    #[test]
    fn a_moment_passes_and_takes_earlier_ones_with_it() {
        let grace = Grace::start().expect("thread");
        let (first, second) = (grace.mark(), grace.mark());
        assert!(first < second);
        grace.wait(second).expect("a grace period");
        assert!(grace.passed() >= second);
        grace.wait(first).expect("passed already");
    }
}
