//! One test program: run with its output shown, its results and times read from that output.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// A program that takes longer hangs: it is ended and counts as failed.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// How often a silent program is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What came of a test program.
#[derive(Default, Debug)]
pub(crate) struct Outcome {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed; at least one if the program did.
    pub(crate) failed: u64,
    /// Tests that are not run unless asked for, with the reason they give.
    pub(crate) ignored: Vec<String>,
    /// Names and times of tests, where the harness tells.
    pub(crate) times: Vec<(String, Duration)>,
    /// Names of tests that failed, or what the program died of.
    pub(crate) failures: Vec<String>,
    /// Time of the whole program.
    pub(crate) elapsed: Duration,
    /// Whether a line with the harness's own sum was seen.
    pub(crate) summed: bool,
}

impl Outcome {
    /// Takes a line of libtest's output into account.
    fn read(&mut self, line: &str) {
        if let Some(sum) = line.strip_prefix("test result: ") {
            self.summed = true;
            self.passed += count(sum, "passed");
            self.failed += count(sum, "failed");
        } else if let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            if let Some(reason) = result.strip_prefix("ignored") {
                self.ignored.push(format!("{name}{reason}"));
                return;
            }
            if result.starts_with("FAILED") {
                self.failures.push(name.into());
            }
            self.times.extend(time(result).map(|time| (name.to_owned(), time)));
        }
    }

    /// A program that ended badly has failed, whatever it said.
    fn close(&mut self, end: Result<(), String>) {
        match end {
            Ok(()) if !self.summed => self.passed += 1,
            Ok(()) => {}
            Err(how) => {
                if self.failed == 0 {
                    self.failed = 1;
                    self.failures.push(how);
                }
            }
        }
    }
}

/// The number before a word: `12 passed;`.
fn count(sum: &str, word: &str) -> u64 {
    let words = sum.split([' ', ';', '.']).collect::<Vec<_>>();
    let pair = words.windows(2).find(|pair| pair[1] == word);
    pair.and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

/// The time at the end of a result: `ok <0.012s>`.
fn time(result: &str) -> Option<Duration> {
    let (_, time) = result.trim_end().rsplit_once('<')?;
    Duration::try_from_secs_f64(time.strip_suffix("s>")?.parse().ok()?).ok()
}

/// Runs a test program to its end.
///
/// # Errors
/// It cannot be started or waited for.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<Outcome> {
    run_within(command, LIMIT)
}

fn run_within(command: &mut Command, limit: Duration) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {command:?}"))?;
    let stdout = child.stdout.take().context("standard output of a test program")?;
    let (lines, read) = mpsc::channel();
    // Not joined: a process that a test left behind may hold the pipe open for ever.
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    let mut outcome = Outcome::default();
    let mut ended = None;
    let end = loop {
        match read.recv_timeout(LOOK) {
            Ok(line) => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(&line).and_then(|()| stdout.write_all(b"\n")).context("cannot write")?;
                outcome.read(&String::from_utf8_lossy(&line));
            }
            Err(RecvTimeoutError::Disconnected) => {
                break child.wait().context("cannot wait for a test program")?;
            }
            // One more look after its end, for its last words.
            Err(RecvTimeoutError::Timeout) => match ended {
                Some(status) => break status,
                None => ended = child.try_wait().context("cannot wait for a test program")?,
            },
        }
        if started.elapsed() > limit {
            child.kill().context("cannot end a test program that hangs")?;
            child.wait().context("cannot wait for a test program")?;
            outcome.elapsed = started.elapsed();
            outcome.close(Err(format!("took more than {} s and was ended", limit.as_secs())));
            return Ok(outcome);
        }
    };
    outcome.elapsed = started.elapsed();
    outcome.close(if end.success() { Ok(()) } else { Err(format!("the program ended with {end}")) });
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        shell
    }

    #[test]
    fn output_of_libtest_is_understood() {
        let mut outcome = Outcome::default();
        let output = "\nrunning 4 tests\n\
            test a::quick ... ok <0.001s>\n\
            test slow - should panic ... ok <12.500s>\n\
            test later ... ignored, is started by another\n\
            test bad ... FAILED <0.250s>\n\
            test has been running for over 60 seconds\n\
            test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 7 filtered out; finished in 12.51s\n";
        output.lines().for_each(|line| outcome.read(line));
        outcome.close(Err("exit status: 101".into()));
        assert_eq!((outcome.passed, outcome.failed), (2, 1));
        assert_eq!(outcome.ignored, ["later, is started by another"]);
        assert_eq!(outcome.failures, ["bad"]);
        let times = [("a::quick", 1), ("slow - should panic", 12_500), ("bad", 250)];
        assert_eq!(outcome.times, times.map(|(name, ms)| (name.into(), Duration::from_millis(ms))));
    }

    #[test]
    fn a_program_that_dies_has_failed() {
        let died = run(&mut shell("echo 'test a ... ok <0.001s>'; kill -SEGV $$")).unwrap();
        assert_eq!((died.passed, died.failed), (0, 1));
        assert!(died.failures[0].contains("signal: 11"), "{died:?}");
        let sums = "test result: ok. 3 passed; 0 failed; 0 ignored";
        let late = run(&mut shell(&format!("echo '{sums}'; exit 3"))).unwrap();
        assert_eq!((late.passed, late.failed), (3, 1));
    }

    #[test]
    fn a_program_of_another_harness_is_one_test() {
        let fine = run(&mut shell("echo all is well")).unwrap();
        assert_eq!((fine.passed, fine.failed), (1, 0));
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let hung = run_within(&mut shell("exec sleep 600"), Duration::from_millis(1)).unwrap();
        assert_eq!((hung.passed, hung.failed), (0, 1));
    }

    #[test]
    fn a_process_left_behind_delays_nothing() {
        let started = Instant::now();
        let left = run(&mut shell("sleep 8 & echo 'test result: ok. 1 passed; 0 failed; 0 ignored'")).unwrap();
        assert_eq!((left.passed, left.failed), (1, 0));
        assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    }
}
