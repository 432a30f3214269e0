//! `verify` looks and changes nothing; `fix` changes.

use std::process::Command;

use anyhow::bail;

use crate::run::{cargo, step};

/// Everything but the eBPF programs, which cannot be built for the host.
const CLIPPY: &[&str] = &["clippy", "--workspace", "--exclude", "xdp-programs", "--all-targets"];

/// Formatting, lints, documentation, tidiness.
///
/// # Errors
/// Names all that failed; what they say has been shown.
pub(crate) fn verify() -> anyhow::Result<()> {
    let mut failures = style();
    failures.extend(attempt("tidy", &mut cargo(&["test", "--quiet", "--package", "tests", "--test", "tidy"])));
    if !failures.is_empty() {
        bail!("verify found:\n  - {}", failures.join("\n  - "));
    }
    Ok(())
}

/// What `verify` has beyond the tests. Returns what failed.
pub(crate) fn style() -> Vec<String> {
    let mut steps = [
        ("format", cargo(&["fmt", "--all", "--check"])),
        ("lints", cargo(&[CLIPPY, &["--keep-going", "--", "-D", "warnings"]].concat())),
        ("documentation", cargo(&["doc", "--no-deps", "--lib", "--keep-going"])),
    ];
    steps[2].1.env("RUSTDOCFLAGS", "-Dwarnings");
    steps.iter_mut().filter_map(|(title, command)| attempt(title, command)).collect()
}

fn attempt(title: &str, command: &mut Command) -> Option<String> {
    step(title, command).err().map(|error| format!("{error:#}"))
}

/// Formats, applies the corrections that the lints offer, and rewrites generated documents.
///
/// # Errors
/// One of the tools fails.
pub(crate) fn fix() -> anyhow::Result<()> {
    step("lints", &mut cargo(&[CLIPPY, &["--fix", "--allow-dirty", "--allow-staged"]].concat()))?;
    step("format", &mut cargo(&["fmt", "--all"]))?;
    let mut documents = cargo(&["test", "--quiet", "--package", "tests", "--test", "tidy", "generated_documents"]);
    step("generated documents", documents.env("SWITCHYARD_BLESS", "1"))
}
