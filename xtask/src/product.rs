//! `demo` and `bench`: build the product and a program that shows or measures it, and run the one with the other.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::cargo::{BINARY_VARIABLE, Profile, SWITCHYARD, programs};
use crate::run::{command, shown};
use crate::setup;

/// Sets up, builds and runs the demonstration; its exit code is the command's.
pub(crate) fn demo(arguments: &[String]) -> anyhow::Result<ExitCode> {
    run("tests", "demo", Profile::Dev, arguments)
}

/// Sets up, builds and runs the measurements; their exit code is the command's.
pub(crate) fn bench(arguments: &[String]) -> anyhow::Result<ExitCode> {
    run("bench", "bench", Profile::Release, arguments)
}

fn run(package: &str, name: &str, profile: Profile, arguments: &[String]) -> anyhow::Result<ExitCode> {
    setup::run()?.into_result()?;
    let built = programs(&[SWITCHYARD, (package, name)], profile)?;
    let mut program = command(&built[1]);
    program.args(arguments).env(BINARY_VARIABLE, &built[0]);
    let status = program.status().with_context(|| format!("cannot run {}", shown(&program)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
