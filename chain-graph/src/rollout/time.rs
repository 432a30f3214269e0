//! Moments and spans. The wall clock is the only clock that outlives a restart, and it may be set back.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A moment: milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Takes milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// In milliseconds since the Unix epoch.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// The time since an earlier moment; nothing if that moment is later.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// The moment after a span; the last one there is if that is too far.
    pub const fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

/// A length of time in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(u64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Takes milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Takes seconds; more than fit are the longest span.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// In milliseconds.
    pub const fn millis(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) { write!(f, "{} s", self.0 / 1000) } else { write!(f, "{} ms", self.0) }
    }
}

/// A span that runs. Holds its beginning, not its end: a clock that is set back to before the beginning starts the span
/// anew, so that a timer is over at the latest one span after the clock was last set back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Timer {
    /// When it began.
    pub began: Timestamp,
    /// How long it takes.
    pub length: Span,
}

impl Timer {
    /// Begins at `now`.
    pub const fn start(length: Span, now: Timestamp) -> Self {
        Self { began: now, length }
    }

    /// When it is over.
    pub const fn end(&self) -> Timestamp {
        self.began.after(self.length)
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.began) >= self.length
    }

    /// Takes note of the clock; see the type.
    pub(super) fn observe(&mut self, now: Timestamp) {
        self.began = self.began.min(now);
    }

    /// With what is left of it, beginning at `now`.
    pub(super) fn rest(&self, now: Timestamp) -> Self {
        let passed = now.since(self.began).millis();
        Self::start(Span(self.length.0.saturating_sub(passed)), now)
    }

    /// With its whole length, beginning at `now`.
    pub(super) fn again(&self, now: Timestamp) -> Self {
        Self::start(self.length, now)
    }
}
