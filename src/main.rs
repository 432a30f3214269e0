//! The `switchyard` binary: subcommands and wiring only.

fn main() {}
