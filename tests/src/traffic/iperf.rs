//! Bulk load by iperf3.

use std::{net::IpAddr, time::Duration};

use serde_json::Value;

use crate::{Error, Namespace, Process, Result};

/// An iperf3 server. It serves one test at a time, again and again.
#[derive(Debug)]
pub struct IperfServer {
    process: Process,
    port: u16,
}

impl IperfServer {
    /// Starts it and waits until it listens on TCP `port` of every address.
    ///
    /// # Errors
    /// If it does not listen within ten seconds.
    pub fn start(namespace: &Namespace, port: u16) -> Result<Self> {
        let mut command = namespace.command("iperf3");
        command.args(["--server", "--forceflush", "--port", &port.to_string()]);
        let mut process = namespace.spawn(command)?;
        process.wait_listening(port, Duration::from_secs(10))?;
        Ok(Self { process, port })
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// An iperf3 run.
#[derive(Debug, Clone)]
pub struct Iperf {
    /// The server's address.
    pub to: IpAddr,
    /// The server's port.
    pub port: u16,
    /// How long to send: whole seconds, at least one.
    pub duration: Duration,
    /// Streams at once.
    pub streams: u32,
    /// Whether the server sends.
    pub reverse: bool,
    /// UDP datagrams of so many bytes at so many bits per second in each stream (rate 0:
    /// unlimited), instead of TCP.
    pub udp: Option<(u16, u64)>,
    /// Source address; `None`: the kernel's choice.
    pub bind: Option<IpAddr>,
}

impl Iperf {
    /// One TCP stream from client to server for one second.
    #[must_use]
    pub fn new(to: IpAddr, port: u16) -> Self {
        Self { to, port, duration: Duration::from_secs(1), streams: 1, reverse: false, udp: None, bind: None }
    }

    /// Starts it in the background: give the process to [`IperfReport::of`].
    ///
    /// # Errors
    /// If iperf3 cannot be started.
    pub fn start(&self, from: &Namespace) -> Result<Process> {
        let mut command = from.command("iperf3");
        command.args(["--json", "--client", &self.to.to_string()]);
        command.args(["--port", &self.port.to_string()]);
        command.args(["--time", &self.duration.as_secs().max(1).to_string()]);
        command.args(["--parallel", &self.streams.to_string()]);
        command.args(["--connect-timeout", "5000"]);
        if self.reverse {
            command.arg("--reverse");
        }
        if let Some((bytes, bits_per_second)) = self.udp {
            command.args(["--udp", "--length", &bytes.to_string()]);
            command.args(["--bitrate", &bits_per_second.to_string()]);
        }
        if let Some(source) = self.bind {
            command.args(["--bind", &source.to_string()]);
        }
        from.spawn(command)
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// If iperf3 fails, or does not end within twenty seconds over its duration.
    pub fn run(&self, from: &Namespace) -> Result<IperfReport> {
        let mut process = self.start(from)?;
        IperfReport::of(&mut process, self.duration + Duration::from_secs(20))
    }
}

/// What iperf3 measured, over all streams.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IperfReport {
    /// Throughput at the receiver, in Gbit/s of payload.
    pub gbit_per_s: f64,
    /// Payload bytes received.
    pub bytes: u64,
    /// Seconds of the receiver's measurement.
    pub seconds: f64,
    /// TCP segments sent again; `None` for UDP.
    pub retransmits: Option<u64>,
    /// UDP datagrams sent and of these lost; `None` for TCP.
    pub datagrams: Option<(u64, u64)>,
}

impl IperfReport {
    /// Waits for a client's end and reads its report.
    ///
    /// # Errors
    /// If it fails, is late, or reports an error.
    pub fn of(process: &mut Process, timeout: Duration) -> Result<Self> {
        let text = process.wait_success(timeout)?;
        Self::parse(&text).map_err(|reason| Error::Output { program: "iperf3".into(), reason, output: text })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let report = serde_json::from_str::<Value>(text).map_err(|error| error.to_string())?;
        if let Some(error) = report["error"].as_str() {
            return Err(format!("it reports: {error}"));
        }
        let end = &report["end"];
        let udp = report["start"]["test_start"]["protocol"] == "UDP";
        let received = if udp { &end["sum"] } else { &end["sum_received"] };
        let number = |value: &Value, name: &str| {
            value[name].as_f64().ok_or_else(|| format!("no number `{name}` in its summary"))
        };
        let bits_per_second = number(received, "bits_per_second")?;
        let count = |name: &str| end["sum"][name].as_u64().unwrap_or_default();
        Ok(Self {
            gbit_per_s: bits_per_second / 1e9,
            bytes: number(received, "bytes")? as u64,
            seconds: number(received, "seconds")?,
            retransmits: end["sum_sent"]["retransmits"].as_u64().filter(|_| !udp),
            datagrams: udp.then(|| (count("packets"), count("lost_packets"))),
        })
    }
}
