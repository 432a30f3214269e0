//! `test`: all checks and tests, the slowest, what was skipped and why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::cargo::{BINARY_VARIABLE, Executable, SWITCHYARD, build};
use crate::run::{cargo, command, is_root, root, seconds};
use crate::suite::{self, Outcome};
use crate::{setup, verify};

/// Name of the environment variable with the file to which tests append a line for each skip (`testbed::preflight`).
const SKIP_FILE_VARIABLE: &str = "SWITCHYARD_SKIP_FILE";

/// The package whose tests are privileged.
const PRIVILEGED: &str = "tests";

/// How many of the slowest are shown.
const SLOWEST: usize = 10;

/// Sum over all test programs.
#[derive(Default)]
struct Report {
    passed: u64,
    failed: u64,
    privileged: u64,
    ignored: Vec<String>,
    failures: Vec<String>,
    tests: Vec<(String, Duration)>,
    programs: Vec<(String, Duration)>,
}

impl Report {
    fn add(&mut self, program: &str, outcome: Outcome) {
        let named = |name: String| format!("{program}: {name}");
        self.passed += outcome.passed;
        self.failed += outcome.failed;
        self.ignored.extend(outcome.ignored.into_iter().map(named));
        self.failures.extend(outcome.failures.into_iter().map(named));
        self.tests.extend(outcome.times.into_iter().map(|(name, time)| (named(name), time)));
        self.programs.push((program.into(), outcome.elapsed));
    }

    fn fail(&mut self, why: String) {
        self.failed += 1;
        self.failures.push(why);
    }

    fn exit_code(&self) -> ExitCode {
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Sets up, checks, tests. The last line printed is `N passed, N failed`.
///
/// # Errors
/// The machine lacks what root could have, or the build fails.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let unmet = setup::run()?;
    let needs = unmet.sentences().to_vec();
    if is_root() {
        unmet.into_result()?;
    }
    // Tests and the product at once, so that what they share is built once, with one set of features.
    let built = build("build", &["build", "--tests", "--bins"])?;
    let switchyard = built.iter().find(|one| one.is_program(SWITCHYARD)).context("cargo built no `switchyard`")?;
    let programs = built.iter().filter(|one| one.is_test).collect::<Vec<_>>();
    if programs.is_empty() {
        bail!("cargo built no tests");
    }
    let skip_file = skip_file()?;
    let mut report = Report::default();
    for program in programs {
        let name = format!("{}/{}", program.package, program.target);
        println!("\n==> {name}");
        let outcome = suite::run(harness(program, &skip_file).env(BINARY_VARIABLE, &switchyard.path))?;
        if program.package == PRIVILEGED {
            report.privileged += outcome.passed;
        }
        report.add(&name, outcome);
    }
    println!("\n==> examples in the documentation");
    report.add("doctests", suite::run(cargo(&["test", "--doc"]).env(SKIP_FILE_VARIABLE, &skip_file))?);
    println!();
    verify::style().into_iter().for_each(|failure| report.fail(failure));
    let skips = fs::read_to_string(&skip_file).unwrap_or_default();
    let skips = skips.lines().map(str::to_owned).collect::<Vec<_>>();
    judge_privileged(&mut report, is_root(), skips.len());
    show(&mut report, &needs, &skips, started.elapsed());
    Ok(report.exit_code())
}

/// As root everything was there to run the privileged tests, so each of them must have run.
fn judge_privileged(report: &mut Report, root: bool, skips: usize) {
    if !root {
        return;
    }
    if skips > 0 {
        report.fail(format!("{skips} tests were skipped although this is root and the set-up is complete"));
    }
    if report.privileged == 0 {
        report.fail("no privileged test ran although this is root".into());
    }
}

fn harness(program: &Executable, skip_file: &Path) -> Command {
    let mut harness = command(&program.path);
    harness.current_dir(&program.folder).env("CARGO_MANIFEST_DIR", &program.folder);
    // libtest tells times only with its unstable options, which this variable allows on a stable toolchain.
    harness.args(["-Zunstable-options", "--report-time"]).env("RUSTC_BOOTSTRAP", "1");
    harness.env(SKIP_FILE_VARIABLE, skip_file);
    harness
}

/// An empty file for the skips of this run.
fn skip_file() -> anyhow::Result<PathBuf> {
    let folder = root().join("target/xtask");
    let file = folder.join("skipped.txt");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(&file, "").with_context(|| format!("cannot empty {}", file.display()))?;
    Ok(file)
}

fn show(report: &mut Report, needs: &[String], skips: &[String], elapsed: Duration) {
    slowest("test programs", &mut report.programs);
    slowest("tests", &mut report.tests);
    list("Only run when asked for by name:", &report.ignored);
    if !skips.is_empty() {
        println!("\n{0}\n!!! {1} TESTS WERE SKIPPED\n{0}", "!".repeat(72), skips.len());
        list("This machine lacks:", needs);
        list("Skipped:", skips);
    }
    list("FAILED:", &report.failures);
    println!("\nTook {}.", seconds(elapsed));
    println!("{} passed, {} failed", report.passed, report.failed);
}

fn slowest(what: &str, times: &mut [(String, Duration)]) {
    times.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    println!("\nSlowest {what}:");
    for (name, time) in times.iter().take(SLOWEST) {
        println!("{:>10}  {name}", seconds(*time));
    }
}

fn list(title: &str, lines: &[String]) {
    if !lines.is_empty() {
        println!("\n{title}");
        lines.iter().for_each(|line| println!("  - {line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_no_excuse() {
        let judged = |root, privileged, skips| {
            let mut report = Report { privileged, ..Report::default() };
            judge_privileged(&mut report, root, skips);
            report.failed
        };
        assert_eq!(judged(false, 0, 5), 0);
        assert_eq!(judged(true, 9, 0), 0);
        assert_eq!(judged(true, 9, 1), 1);
        assert_eq!(judged(true, 0, 0), 1);
    }

    #[test]
    fn a_failure_decides_the_exit_code() {
        let mut report = Report::default();
        report.add("a/b", Outcome { passed: 3, ..Outcome::default() });
        assert_eq!(report.exit_code(), ExitCode::SUCCESS);
        report.add("a/c", Outcome { failed: 1, failures: vec!["x".into()], ..Outcome::default() });
        assert_eq!(report.exit_code(), ExitCode::FAILURE);
        assert_eq!(report.failures, ["a/c: x"]);
    }
}
