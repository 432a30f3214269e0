//! A graph's rollouts, driven by the command line.

use super::eventually;
use crate::{Documents, FrontEnd};
use serde_json::Value;

/// The rollouts of one graph.
#[derive(Clone, Copy)]
pub struct Rollout<'f> {
    front_end: &'f FrontEnd,
    /// As `acme/web`.
    graph: &'static str,
}

impl<'f> Rollout<'f> {
    /// Those of a graph, which is named as `acme/web`.
    #[must_use]
    pub fn of(front_end: &'f FrontEnd, graph: &'static str) -> Self {
        Self { front_end, graph }
    }

    /// Begins one, with more arguments; does not wait.
    ///
    /// # Panics
    /// If it is refused.
    pub fn start(&self, target: &Documents, arguments: &[&str]) {
        self.run("start", &[&["-f", "-"], arguments].concat(), target);
    }

    /// Runs another verb.
    ///
    /// # Panics
    /// If it is refused.
    pub fn verb(&self, verb: &str, arguments: &[&str]) {
        self.run(verb, arguments, "");
    }

    fn run(&self, verb: &str, arguments: &[&str], input: &str) {
        let arguments = [&["rollout", verb, self.graph], arguments].concat();
        let ran = self.front_end.run_with_input(&arguments, input).expect("command line");
        assert_eq!(ran.code, 0, "{arguments:?}: {}\n{}", ran.stderr, ran.stdout);
    }

    /// What `rollout status` says.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn status(&self) -> Value {
        self.front_end.json(&["rollout", "status", self.graph])
    }

    /// Waits for a phase.
    ///
    /// # Panics
    /// If it does not come within ten seconds.
    pub fn wait_for(&self, phase: &str) {
        eventually(&format!("phase {phase} of {}", self.graph), || self.status()["phase"] == phase);
    }

    /// What `rollout history` says of a version.
    ///
    /// # Panics
    /// If there is no such version.
    #[must_use]
    pub fn version(&self, view: u64) -> Value {
        let history = self.front_end.json(&["rollout", "history", self.graph]);
        let found = history.as_array().and_then(|all| all.iter().find(|version| version["view"] == view));
        found.cloned().unwrap_or_else(|| panic!("no view {view}: {history:#}"))
    }
}
