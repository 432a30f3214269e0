//! The repository's own commands: `cargo xtask <command>`. CI and people run the same ones.

mod cargo;
mod product;
mod run;
mod setup;
mod suite;
mod test;
mod verify;

use std::env;
use std::process::ExitCode;

use anyhow::bail;

const USAGE: &str = "\
Usage: cargo xtask <command>

  demo     install what is missing, build, run the demonstration (root)
  test     install what is missing, run all checks and tests (root; skips loudly without)
  bench    install what is missing, build for speed, measure (root): [--only PREFIX] [--quick]
  setup    install what is missing and nothing else
  verify   formatting, lints, documentation, tidiness; changes nothing
  fix      format, apply the lints' own corrections, rewrite generated documents

What follows `demo` and `bench` is passed on to them.";

fn main() -> ExitCode {
    let arguments = env::args().skip(1).collect::<Vec<_>>();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let Some((command, rest)) = arguments.split_first() else {
        println!("{USAGE}");
        return Ok(ExitCode::FAILURE);
    };
    if let ("setup" | "test" | "verify" | "fix", [unexpected, ..]) = (command.as_str(), rest) {
        bail!("`{command}` takes no argument, but was given `{unexpected}`\n\n{USAGE}");
    }
    match command.as_str() {
        "setup" => setup::run()?.into_result()?,
        "demo" => return product::demo(rest),
        "bench" => return product::bench(rest),
        "test" => return test::run(),
        "verify" => verify::verify()?,
        "fix" => verify::fix()?,
        "help" | "--help" | "-h" => println!("{USAGE}"),
        unknown => bail!("there is no command `{unknown}`\n\n{USAGE}"),
    }
    Ok(ExitCode::SUCCESS)
}
