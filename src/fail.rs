//! How the program fails: what was wrong on stderr, with a next step, and an exit code.

use crate::output::note;
use std::process::ExitCode;

/// Not found.
pub(crate) const NOT_FOUND: u8 = 3;
/// Wrong usage.
pub(crate) const USAGE: u8 = 2;
/// Any other error.
pub(crate) const ERROR: u8 = 1;

/// A failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Exit code.
    pub(crate) code: u8,
    /// What is wrong, one each.
    pub(crate) problems: Vec<String>,
    /// What to do next.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// One problem.
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self::all(vec![problem.into()])
    }

    /// Several.
    pub(crate) fn all(problems: Vec<String>) -> Self {
        Self { code: ERROR, problems, hint: None }
    }

    /// With an exit code.
    pub(crate) fn code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// With a next step.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Prints it.
    pub(crate) fn report(&self) -> ExitCode {
        for problem in &self.problems {
            note!("error: {problem}");
        }
        if let Some(hint) = &self.hint {
            note!("hint: {hint}");
        }
        ExitCode::from(self.code)
    }
}
