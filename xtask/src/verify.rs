//! `verify` looks and changes nothing; `fix` changes.

use crate::run::{cargo, step};

/// Formatting, lints, documentation, tidiness.
///
/// # Errors
/// The first of them that fails; what it says has been shown.
pub(crate) fn verify() -> anyhow::Result<()> {
    style()?;
    step("tidy", &mut cargo(&["test", "--quiet", "--package", "tests", "--test", "tidy"]))
}

/// What `verify` has beyond the tests.
///
/// # Errors
/// The first that fails; what it says has been shown.
pub(crate) fn style() -> anyhow::Result<()> {
    step("format", &mut cargo(&["fmt", "--all", "--check"]))?;
    step("lints", &mut cargo(&["clippy", "--all-targets", "--", "-D", "warnings"]))?;
    step("documentation", cargo(&["doc", "--no-deps", "--lib"]).env("RUSTDOCFLAGS", "-Dwarnings"))
}

/// Formats, applies the corrections that the lints offer, and rewrites generated documents.
///
/// # Errors
/// One of the tools fails.
pub(crate) fn fix() -> anyhow::Result<()> {
    step("lints", &mut cargo(&["clippy", "--fix", "--allow-dirty", "--allow-staged", "--all-targets"]))?;
    step("format", &mut cargo(&["fmt", "--all"]))?;
    let mut documents = cargo(&["test", "--quiet", "--package", "tests", "--test", "tidy", "generated_documents"]);
    step("generated documents", documents.env("UPDATE_DOCUMENTS", "1"))
}
