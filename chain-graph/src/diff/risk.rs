//! How many flows a change puts at risk.

use crate::model::ResourceName;
use std::collections::BTreeMap;
use std::fmt;

/// What the flows that were looked at say of a change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Risk {
    /// Flows that were looked at.
    pub flows: u64,
    /// Those at risk: the recomputation differs, be it in the view alone. Living ones become exceptions.
    pub at_risk: u64,
    /// Those of them that a frame without a record would be delivered otherwise for: to another instance, out of another
    /// attachment, or not at all.
    pub diverted: u64,
    /// By network function, those that it meets before or after.
    pub stages: BTreeMap<ResourceName, StageRisk>,
}

/// What becomes of the flows at one network function, in flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StageRisk {
    /// Flows that pass it before or after, or both.
    pub passing: u64,
    /// Flows that pass it only after.
    pub added: u64,
    /// Flows that pass it only before.
    pub removed: u64,
    /// Flows that pass other instances of it than before.
    pub changed: u64,
}

impl StageRisk {
    /// Flows for which the stage is not what it was.
    pub const fn at_risk(&self) -> u64 {
        self.added + self.removed + self.changed
    }
}

/// A share that was estimated from a sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Share {
    /// The estimate, 0.0 to 1.0.
    pub value: f64,
    /// Its standard error by the binomial distribution. Of a share that no flow of n had, 3/n is an upper bound at 95 %.
    pub standard_error: f64,
}

impl Risk {
    /// The share of all flows that `count` of them are.
    pub fn share(&self, count: u64) -> Share {
        if self.flows == 0 {
            return Share { value: 0.0, standard_error: 0.0 };
        }
        let flows = self.flows as f64;
        let value = count as f64 / flows;
        Share { value, standard_error: (value * (1.0 - value) / flows).sqrt() }
    }

    /// Adds the flows of another graph.
    pub fn absorb(&mut self, other: &Self) {
        self.flows += other.flows;
        self.at_risk += other.at_risk;
        self.diverted += other.diverted;
        for (function, stage) in &other.stages {
            let sum = self.stages.entry(function.clone()).or_default();
            sum.passing += stage.passing;
            sum.added += stage.added;
            sum.removed += stage.removed;
            sum.changed += stage.changed;
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} % +- {:.2}", 100.0 * self.value, 100.0 * self.standard_error)
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "at risk: {} of {} flows", self.share(self.at_risk), self.flows)?;
        writeln!(f, "diverted: {}", self.share(self.diverted))?;
        for (function, stage) in &self.stages {
            write!(f, "  {function}: {}", self.share(stage.at_risk()))?;
            writeln!(f, " (added {}, removed {}, other instance {})", stage.added, stage.removed, stage.changed)?;
        }
        Ok(())
    }
}
