//! Percentages that people write, and shares of new flows as the data path takes them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A percentage with at most two decimals, in hundredths of a percent. Whether it is one of 0 to 100 is decided where it is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Percent(u32);

/// Why a text is no percentage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PercentError {
    /// Not digits with an optional fraction and an optional percent sign, or too large.
    #[error("percentage {text:?}: not a number such as 5 or 12.5")]
    NotANumber {
        /// The text.
        text: String,
    },
    /// Finer than a hundredth of a percent.
    #[error("percentage {text:?}: more than two decimals")]
    TooFine {
        /// The text.
        text: String,
    },
}

impl Percent {
    /// Everything.
    pub const HUNDRED: Self = Self(10_000);

    /// Takes hundredths of a percent.
    pub const fn from_hundredths(hundredths: u32) -> Self {
        Self(hundredths)
    }

    /// In hundredths of a percent.
    pub const fn hundredths(self) -> u32 {
        self.0
    }

    /// Whether `part` is more than this percentage of `whole`.
    pub(super) fn is_exceeded_by(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(Self::HUNDRED.0) > u128::from(whole) * u128::from(self.0)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, hundredths) = (self.0 / 100, self.0 % 100);
        match (hundredths, hundredths % 10) {
            (0, _) => write!(f, "{whole} %"),
            (_, 0) => write!(f, "{whole}.{} %", hundredths / 10),
            (_, _) => write!(f, "{whole}.{hundredths:02} %"),
        }
    }
}

impl FromStr for Percent {
    type Err = PercentError;
    fn from_str(text: &str) -> Result<Self, PercentError> {
        let not_a_number = || PercentError::NotANumber { text: text.to_owned() };
        let number = text.strip_suffix('%').unwrap_or(text).trim();
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) {
            return Err(not_a_number());
        }
        if fraction.len() > 2 {
            return Err(PercentError::TooFine { text: text.to_owned() });
        }
        let whole: u32 = whole.parse().map_err(|_| not_a_number())?;
        let hundredths: u32 = format!("{fraction:0<2}").parse().map_err(|_| not_a_number())?;
        whole.checked_mul(100).and_then(|whole| whole.checked_add(hundredths)).map(Self).ok_or_else(not_a_number)
    }
}

/// A share of new flows, in 1/65535: 0 is no flow, 65535 is every flow. A flow belongs to the share if its place in
/// `0..65535`, a keyed hash, is below it; so a share that rises keeps the flows it had.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(u16);

impl Share {
    /// No flow.
    pub const NONE: Self = Self(0);
    /// Every flow.
    pub const ALL: Self = Self(u16::MAX);

    /// Takes 1/65535.
    pub const fn new(parts: u16) -> Self {
        Self(parts)
    }

    /// In 1/65535.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The least share of `whole` that leaves at most `part` of it.
    pub(super) fn leaving_at_most(part: u64, whole: u64) -> Self {
        let taken = u128::from(whole.saturating_sub(part)) * u128::from(u16::MAX);
        Self(u16::try_from(taken.div_ceil(u128::from(whole.max(1)))).unwrap_or(u16::MAX))
    }
}

/// To the nearest 1/65535; 0 and 100 % are exact, and two percentages of 0 to 100 never become the same share. More than
/// 100 % are every flow.
impl From<Percent> for Share {
    fn from(percent: Percent) -> Self {
        let hundredths = u64::from(percent.0.min(Percent::HUNDRED.0));
        let (all, hundred) = (u64::from(u16::MAX), u64::from(Percent::HUNDRED.0));
        Self(u16::try_from((hundredths * all + hundred / 2) / hundred).unwrap_or(u16::MAX))
    }
}

/// To the nearest hundredth of a percent: the percentage that a share was made from.
impl From<Share> for Percent {
    fn from(share: Share) -> Self {
        let all = u32::from(u16::MAX);
        Self((u32::from(share.0) * Self::HUNDRED.0 + all / 2) / all)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Percent::from(*self).fmt(f)
    }
}
