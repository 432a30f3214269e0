//! The `switchyard` binary: subcommands and wiring only.

mod args;
mod client;
mod dataplane;
mod dev;
mod document;
mod fail;
mod output;

use args::{Args, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Args { server, command } = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail::Failure::new(format!("start the runtime: {error}")).report(),
    };
    let result = match command {
        Command::Dev(args) => runtime.block_on(dev::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Client(verb) => runtime.block_on(client::run(&server, verb)),
    };
    result.unwrap_or_else(|failure| failure.report())
}
