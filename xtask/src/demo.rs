//! `demo`: builds the product and the demonstration, and runs the one with the other.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::cargo::{BINARY_VARIABLE, build, switchyard};
use crate::run::{command, shown};
use crate::setup;

/// Sets up, builds and runs; the demonstration's exit code is the command's.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    setup::run()?.into_result()?;
    let switchyard = switchyard()?;
    let built = build("build of the demonstration", &["build", "-p", "tests", "--bin", "demo"])?;
    let demo = built.iter().find(|one| one.target == "demo").context("cargo built no `demo`")?;
    let mut demo = command(&demo.path);
    demo.args(arguments).env(BINARY_VARIABLE, &switchyard.path);
    let status = demo.status().with_context(|| format!("cannot run {}", shown(&demo)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
