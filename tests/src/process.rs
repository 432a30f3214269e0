//! Programs in the background: started inside a namespace, reaped without fail.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{Error, Namespace, Result, sys};

/// How often a condition is looked at that the kernel gives no event for.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// So many bytes of a program's output are shown in errors.
const SHOWN_BYTES_MAX: usize = 4096;

/// A running program. Dropping it kills its whole process group and reaps it; if the thread is
/// panicking, the end of its output is shown first.
#[derive(Debug)]
pub struct Process {
    name: String,
    namespace: Namespace,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    pub(crate) fn start(namespace: Namespace, mut command: Command) -> Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let base = Path::new(&program).file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{base}-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let stdout = namespace.directory().join(format!("{name}.stdout"));
        let stderr = namespace.directory().join(format!("{name}.stderr"));
        let create = |path: &Path| File::create(path).map_err(Error::io("create", path.to_string_lossy()));
        command.stdout(create(&stdout)?).stderr(create(&stderr)?);
        let child =
            command.spawn().map_err(Error::io("start", format!("`{program}` in namespace {}", namespace.name())))?;
        Ok(Self { name, namespace, child, stdout, stderr })
    }

    /// Process id, which is its process group's id too.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The namespace it runs in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What it has written to stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What it has written to stdout so far, byte for byte.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn stdout_bytes(&self) -> Result<Vec<u8>> {
        fs::read(&self.stdout).map_err(Error::io("read", self.stdout.display().to_string()))
    }

    /// What it has written to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// If its state cannot be read.
    pub fn is_running(&mut self) -> Result<bool> {
        let ended = self.child.try_wait().map_err(Error::io("wait for", &self.name))?;
        Ok(ended.is_none())
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// [`Error::Timeout`], with the end of its output; it goes on running then.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait().map_err(Error::io("wait for", &self.name))? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(self.late("its end", timeout));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits until it ends successfully and returns its stdout.
    ///
    /// # Errors
    /// As [`Process::wait`], and [`Error::Command`] if it ends unsuccessfully.
    pub fn wait_success(&mut self, timeout: Duration) -> Result<String> {
        let status = self.wait(timeout)?;
        if status.success() { Ok(self.stdout()) } else { Err(self.failed(status)) }
    }

    /// Waits until `ready` holds, looking every few milliseconds.
    ///
    /// # Errors
    /// [`Error::Timeout`], or [`Error::Command`] as soon as the program has ended.
    pub fn wait_until(&mut self, awaited: &str, timeout: Duration, mut ready: impl FnMut(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while !ready(self) {
            if let Some(status) = self.child.try_wait().map_err(Error::io("wait for", &self.name))? {
                return Err(self.failed(status));
            }
            if Instant::now() >= deadline {
                return Err(self.late(awaited, timeout));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Waits until a TCP socket listens on `port` in its namespace, without connecting to it.
    ///
    /// # Errors
    /// As [`Process::wait_until`].
    pub fn wait_listening(&mut self, port: u16, timeout: Duration) -> Result<()> {
        let namespace = self.namespace.clone();
        let awaited = format!("{} listening on TCP port {port}", self.name);
        self.wait_until(&awaited, timeout, |_| listens(&namespace, port))
    }

    /// Sends a signal (`libc::SIGTERM`, ...) to its process group.
    ///
    /// # Errors
    /// If the signal is refused; a program that has ended is no error.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let group = i32::try_from(self.child.id()).expect("Linux process ids fit in an i32");
        sys::send_signal(sys::Target::Group(group), signal).map_err(Error::io("signal", &self.name))
    }

    /// Kills its process group (SIGKILL) and reaps it, as a crash would end it.
    ///
    /// # Errors
    /// If it cannot be signalled or reaped.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(libc::SIGKILL)?;
        self.child.wait().map_err(Error::io("wait for", &self.name))
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// As [`Process::wait`].
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.signal(libc::SIGTERM)?;
        self.wait(timeout)
    }

    fn output_end(&self) -> String {
        let mut shown = String::new();
        for (stream, text) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
            let text = text.trim_end();
            if !text.is_empty() {
                let start = text.ceil_char_boundary(text.len().saturating_sub(SHOWN_BYTES_MAX));
                shown.push_str(&format!("\n--- {} {stream}:\n{}", self.name, &text[start..]));
            }
        }
        if shown.is_empty() { format!("{} wrote nothing", self.name) } else { shown }
    }

    fn late(&self, awaited: &str, timeout: Duration) -> Error {
        Error::Timeout { awaited: awaited.to_owned(), timeout, details: self.output_end() }
    }

    fn failed(&self, status: ExitStatus) -> Error {
        Error::Command {
            command: self.name.clone(),
            namespace: self.namespace.name().to_owned(),
            status: status.to_string(),
            output: self.output_end(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("in namespace {}: {}", self.namespace.name(), self.output_end());
        }
        // Drop cannot report; the namespace's own removal kills whatever is left in it. A child
        // that was reaped already must not be signalled: its id may be another's by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.kill();
        }
    }
}

/// Whether any TCP socket listens on `port` in the namespace (`proc(5)`: state 0A).
fn listens(namespace: &Namespace, port: u16) -> bool {
    let port = format!(":{port:04X}");
    ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"].iter().any(|table| {
        namespace.read(table).is_ok_and(|text| {
            text.lines().skip(1).any(|line| {
                let mut columns = line.split_whitespace().skip(1);
                let local = columns.next().unwrap_or_default();
                let state = columns.nth(1).unwrap_or_default();
                local.ends_with(&port) && state == "0A"
            })
        })
    })
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
