//! ICMP and ICMPv6 echo by `ping`.

use std::{net::IpAddr, time::Duration};

use crate::{Error, Namespace, Result};

/// An echo run.
#[derive(Debug, Clone)]
pub struct Ping {
    /// Whom to ask.
    pub to: IpAddr,
    /// Requests to send.
    pub count: u32,
    /// Time between requests.
    pub interval: Duration,
    /// Bytes of data in each; more than the MTU makes fragments.
    pub data_bytes: u16,
    /// Whether fragmentation is forbidden (`-M do`).
    pub dont_fragment: bool,
    /// How long to wait for an answer.
    pub timeout: Duration,
}

impl Ping {
    /// Five requests of 56 bytes, 10 ms apart, each answered within two seconds.
    #[must_use]
    pub fn new(to: IpAddr) -> Self {
        Self {
            to,
            count: 5,
            interval: Duration::from_millis(10),
            data_bytes: 56,
            dont_fragment: false,
            timeout: Duration::from_secs(2),
        }
    }

    /// Runs it in a namespace. Missing answers are no error: see the report.
    ///
    /// # Errors
    /// If `ping` cannot be run or its summary not be read.
    pub fn run(&self, from: &Namespace) -> Result<PingReport> {
        let mut command = from.command("ping");
        command.arg("-n");
        command.args(["-c", &self.count.to_string()]);
        command.args(["-i", &format!("{:.3}", self.interval.as_secs_f64())]);
        command.args(["-s", &self.data_bytes.to_string()]);
        command.args(["-W", &format!("{:.3}", self.timeout.as_secs_f64())]);
        if self.dont_fragment {
            command.args(["-M", "do"]);
        }
        command.arg(self.to.to_string()).env("LC_ALL", "C");
        let mut process = from.spawn(command)?;
        let limit = self.interval * self.count + self.timeout + Duration::from_secs(10);
        let status = process.wait(limit)?;
        let output = process.stdout();
        // 1: answers are missing. Anything else: ping did not do its work.
        match status.code() {
            Some(0 | 1) => parse(&output).ok_or_else(|| Error::Output {
                program: "ping".into(),
                reason: "no summary".into(),
                output: format!("{output}{}", process.stderr()),
            }),
            _ => Err(Error::Command {
                command: format!("ping {}", self.to),
                namespace: from.name().into(),
                status: status.to_string(),
                output: format!("{output}{}", process.stderr()),
            }),
        }
    }
}

/// What came of an echo run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PingReport {
    /// Requests sent.
    pub sent: u32,
    /// Answers, duplicates not counted.
    pub received: u32,
    /// Answers beyond the first to a request.
    pub duplicates: u32,
    /// ICMP errors that came instead.
    pub errors: u32,
    /// Round-trip times in milliseconds, if there was an answer.
    pub rtt_ms: Option<RoundTrip>,
}

impl PingReport {
    /// Whether every request was answered exactly once and nothing else came.
    #[must_use]
    pub fn is_perfect(&self) -> bool {
        self.sent > 0 && self.received == self.sent && self.duplicates == 0 && self.errors == 0
    }
}

/// Round-trip times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundTrip {
    /// Shortest.
    pub min: f64,
    /// Mean.
    pub mean: f64,
    /// Longest.
    pub max: f64,
}

fn parse(output: &str) -> Option<PingReport> {
    let summary = output.lines().find(|line| line.contains("packets transmitted"))?;
    let before = |what: &str| {
        let part = summary.split(", ").find(|part| part.contains(what))?;
        part.trim_start_matches('+').split_whitespace().next()?.parse().ok()
    };
    let rtt_ms = output.lines().find_map(|line| {
        let figures = line.strip_prefix("rtt min/avg/max/mdev = ")?;
        let mut figures = figures.split('/').map(str::parse::<f64>);
        let mut next = || figures.next()?.ok();
        Some(RoundTrip { min: next()?, mean: next()?, max: next()? })
    });
    Some(PingReport {
        sent: before("packets transmitted")?,
        received: before("received")?,
        duplicates: before("duplicates").unwrap_or(0),
        errors: before("errors").unwrap_or(0),
        rtt_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_read() {
        let text = "3 packets transmitted, 2 received, +1 duplicates, 33.3% packet loss, time 2ms\n\
                    rtt min/avg/max/mdev = 0.040/0.050/0.070/0.010 ms\n";
        let expected = PingReport {
            sent: 3,
            received: 2,
            duplicates: 1,
            errors: 0,
            rtt_ms: Some(RoundTrip { min: 0.04, mean: 0.05, max: 0.07 }),
        };
        assert_eq!(parse(text), Some(expected));
        let text = "2 packets transmitted, 0 received, +2 errors, 100% packet loss, time 10ms\n";
        let expected = PingReport { sent: 2, errors: 2, ..PingReport::default() };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("ping: unknown host"), None);
    }
}
