//! nginx as the web server, curl as its client.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::Deserialize;

use crate::{Error, Namespace, Process, Result};

/// First lines of every nginx configuration here: in the foreground, as the caller's user.
pub(crate) const NGINX_GLOBAL: &str = "daemon off;
user root;
worker_processes 1;
error_log stderr;
events { worker_connections 4000; }";

/// nginx serving files made for the occasion. `/` answers the namespace's short name; every
/// response carries it in the header `X-Served-By`.
#[derive(Debug)]
pub struct WebServer {
    process: Process,
    address: SocketAddr,
}

impl WebServer {
    /// Starts it and waits until it listens. `files` are name and size in bytes; their content
    /// is the byte sequence 0, 1, .. 250, again and again.
    ///
    /// # Errors
    /// If a file cannot be made or nginx does not listen within ten seconds.
    pub fn start(namespace: &Namespace, listen: SocketAddr, files: &[(&str, usize)]) -> Result<Self> {
        let directory = namespace.directory().join(format!("web-{}", listen.port()));
        let root = directory.join("root");
        fs::create_dir_all(&root).map_err(Error::io("create", root.display().to_string()))?;
        let write = |path: std::path::PathBuf, content: &[u8]| {
            fs::write(&path, content).map_err(Error::io("write", path.display().to_string()))
        };
        for (name, size) in files {
            write(root.join(name), &Self::content(*size))?;
        }
        let config = directory.join("nginx.conf");
        let (folder, name) = (directory.display(), namespace.short_name());
        let text = format!(
            "{NGINX_GLOBAL}
pid {folder}/nginx.pid;
http {{
  access_log off;
  sendfile on;
  client_body_temp_path {folder}/body;
  server {{
    listen {listen};
    root {folder}/root;
    add_header X-Served-By {name} always;
    location = / {{ return 200 \"{name}\\n\"; }}
  }}
}}
"
        );
        write(config.clone(), text.as_bytes())?;
        let mut command = namespace.command("nginx");
        command.args(["-e", "stderr", "-c"]).arg(&config);
        let mut process = namespace.spawn(command)?;
        process.wait_listening(listen.port(), Duration::from_secs(10))?;
        Ok(Self { process, address: listen })
    }

    /// What a file of this size holds.
    #[must_use]
    pub fn content(size: usize) -> Vec<u8> {
        (0..=250).cycle().take(size).collect()
    }

    /// The URL of a path (which begins with `/`).
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// nginx's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A request by curl.
#[derive(Debug, Clone)]
pub struct Curl {
    /// What to get.
    pub url: String,
    /// Limit of the whole transfer.
    pub timeout: Duration,
    /// Source address; `None`: the kernel's choice.
    pub bind: Option<IpAddr>,
    /// Source port; `None`: the kernel's choice.
    pub local_port: Option<u16>,
    /// Limit in bytes per second, to keep a transfer going for long; `None`: unlimited.
    pub bytes_per_s: Option<u64>,
}

impl Curl {
    /// A request that may take ten seconds.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), timeout: Duration::from_secs(10), bind: None, local_port: None, bytes_per_s: None }
    }

    /// Starts it in the background: give the process to [`CurlReport::of`].
    ///
    /// # Errors
    /// If curl cannot be started.
    pub fn start(&self, from: &Namespace) -> Result<Process> {
        let mut command = from.command("curl");
        command.args(["--silent", "--show-error", "--noproxy", "*", "--include"]);
        command.args(["--max-time", &format!("{:.3}", self.timeout.as_secs_f64())]);
        command.args(["--write-out", "%{stderr}%{json}"]);
        if let Some(address) = self.bind {
            command.args(["--interface", &address.to_string()]);
        }
        if let Some(port) = self.local_port {
            command.args(["--local-port", &port.to_string()]);
        }
        if let Some(rate) = self.bytes_per_s {
            command.args(["--limit-rate", &rate.to_string()]);
        }
        command.arg(&self.url);
        from.spawn(command)
    }

    /// Runs it to its end. An HTTP error status is no error.
    ///
    /// # Errors
    /// If the server cannot be reached or the transfer is not complete in time.
    pub fn run(&self, from: &Namespace) -> Result<CurlReport> {
        let mut process = self.start(from)?;
        CurlReport::of(&mut process, self.timeout + Duration::from_secs(5))
    }
}

/// What curl got.
#[derive(Debug, Clone, PartialEq)]
pub struct CurlReport {
    /// HTTP status.
    pub status: u16,
    /// Response headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Seconds from start to end.
    pub seconds: f64,
    /// Source port of the connection.
    pub local_port: u16,
}

#[derive(Deserialize)]
struct WriteOut {
    http_code: u16,
    time_total: f64,
    local_port: u16,
}

impl CurlReport {
    /// Waits for a request's end and reads what it got.
    ///
    /// # Errors
    /// As [`Curl::run`].
    pub fn of(process: &mut Process, timeout: Duration) -> Result<Self> {
        process.wait_success(timeout)?;
        let unreadable = |reason: String| Error::Output { program: "curl".into(), reason, output: process.stderr() };
        let figures =
            serde_json::from_str::<WriteOut>(&process.stderr()).map_err(|error| unreadable(error.to_string()))?;
        let response = process.stdout_bytes()?;
        let split = response.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let split = split.ok_or_else(|| unreadable("no end of the headers".into()))?;
        let head = String::from_utf8_lossy(&response[..split]);
        let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        Ok(Self {
            status: figures.http_code,
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.into())).collect(),
            body: response[split + 4..].to_vec(),
            seconds: figures.time_total,
            local_port: figures.local_port,
        })
    }

    /// A response header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
