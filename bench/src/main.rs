//! `bench [--only PREFIX] [--quick]`: the product's figures, each beside its bar or beside what else there is.
//!
//! What is compared runs in turn in one run, and medians are given. Exit code 1 if a bar does not hold.

mod bpf;
mod chain;
mod control;
mod frame;
mod record;
mod row;
mod tables;
mod views;
mod wiring;

use clap::Parser;
use std::process::ExitCode;

/// Measures; needs root.
#[derive(Parser)]
struct Args {
    /// Only figures whose names begin so.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    only: String,
    /// Fewer rounds: for trying out, not for quoting.
    #[arg(long)]
    quick: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let mut report = row::Report::create()?;
    let wanted = |name: &str| name.starts_with(&args.only);
    // A measurement pins its thread.
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| record::measure(&mut report, args.quick, &wanted)).join();
        measured.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    chain::measure(&mut report, args.quick, &wanted)?;
    tables::measure(&mut report, args.quick, &wanted)?;
    control::measure(&mut report, args.quick, &wanted)?;
    views::measure(&mut report, args.quick, &wanted)?;
    Ok(if report.finish() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
