//! `demo`: builds the product and the demonstration, and runs the one with the other.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::cargo::{Executable, build};
use crate::run::{command, shown};
use crate::setup;

/// Name of the environment variable that tells the demonstration where the product's program is.
const BINARY_VARIABLE: &str = "SWITCHYARD_BIN";

/// Sets up, builds and runs; the demonstration's exit code is the command's.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    setup::run()?.into_result()?;
    let built = build("build", &["build", "-p", "switchyard", "--bin", "switchyard", "-p", "tests", "--bin", "demo"])?;
    let (switchyard, demo) = (named(&built, "switchyard")?, named(&built, "demo")?);
    let mut demo = command(&demo.path);
    demo.args(arguments).env(BINARY_VARIABLE, &switchyard.path);
    let status = demo.status().with_context(|| format!("cannot run {}", shown(&demo)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn named<'a>(built: &'a [Executable], name: &str) -> anyhow::Result<&'a Executable> {
    built.iter().find(|one| one.target == name).with_context(|| format!("cargo built no `{name}`"))
}
