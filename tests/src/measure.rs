//! What a run cost and what the kernel lost meanwhile.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::Path,
    time::Duration,
};

use crate::{Error, Namespace, Result};

/// Packets the kernel has processed and dropped in its per-CPU backlogs, all CPUs and all
/// namespaces together: `/proc/net/softnet_stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Softnet {
    /// Packets processed.
    pub processed: u64,
    /// Packets dropped because a backlog was full (`netdev_max_backlog`): lost between programs,
    /// counted by no interface. Any "nothing was lost" needs 0 here.
    pub dropped: u64,
    /// Times a CPU ran out of budget or time with work left.
    pub squeezed: u64,
}

impl Softnet {
    /// The counts since boot.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn now() -> Result<Self> {
        let path = "/proc/net/softnet_stat";
        let text = read(path)?;
        text.lines().try_fold(Self::default(), |sum, line| {
            let mut columns = line.split_whitespace().map(|text| u64::from_str_radix(text, 16));
            match (columns.next(), columns.next(), columns.next()) {
                (Some(Ok(processed)), Some(Ok(dropped)), Some(Ok(squeezed))) => Ok(Self {
                    processed: sum.processed + processed,
                    dropped: sum.dropped + dropped,
                    squeezed: sum.squeezed + squeezed,
                }),
                _ => Err(unreadable(path, &text)),
            }
        })
    }

    /// The counts since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            processed: self.processed.saturating_sub(earlier.processed),
            dropped: self.dropped.saturating_sub(earlier.dropped),
            squeezed: self.squeezed.saturating_sub(earlier.squeezed),
        }
    }
}

/// An interface's counters since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Frames received.
    pub received: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Frames dropped on reception, errors included.
    pub receive_drops: u64,
    /// Frames sent.
    pub sent: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Frames dropped on sending, errors included.
    pub send_drops: u64,
}

/// The counters of all interfaces of a namespace, by name.
///
/// # Errors
/// If they cannot be read.
pub fn interface_counters(namespace: &Namespace) -> Result<BTreeMap<String, InterfaceCounters>> {
    let text = namespace.read("/proc/thread-self/net/dev")?;
    let lines = text.lines().skip(2).map(|line| {
        let (name, figures) = line.split_once(':')?;
        let figures = figures.split_whitespace().map(|text| text.parse().ok());
        let figures = figures.collect::<Option<Vec<u64>>>()?;
        let [received_bytes, received, receive_errors, receive_drops, ..] = figures[..] else {
            return None;
        };
        let [sent_bytes, sent, send_errors, send_drops, ..] = *figures.get(8..)? else {
            return None;
        };
        let counters = InterfaceCounters {
            received,
            received_bytes,
            receive_drops: receive_drops + receive_errors,
            sent,
            sent_bytes,
            send_drops: send_drops + send_errors,
        };
        Some((name.trim().to_owned(), counters))
    });
    lines.collect::<Option<_>>().ok_or_else(|| unreadable("/proc/thread-self/net/dev", &text))
}

/// CPU time of the whole machine since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// All CPUs, everything but idle and waiting for I/O; resolution 10 ms.
    pub busy: Duration,
    /// Of it, soft interrupts.
    pub softirq: Duration,
}

impl CpuTime {
    /// The time since boot.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn now() -> Result<Self> {
        let text = read("/proc/stat")?;
        Self::parse(&text).ok_or_else(|| unreadable("/proc/stat", &text))
    }

    /// The time since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { busy: self.busy.saturating_sub(earlier.busy), softirq: self.softirq.saturating_sub(earlier.softirq) }
    }

    /// `proc(5)`: user nice system idle iowait irq softirq steal, in ticks of 10 ms (USER_HZ is
    /// 100 on every architecture we run on); stolen time is not ours.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks = line.split_whitespace().map(|text| text.parse().ok());
        let ticks = ticks.collect::<Option<Vec<u64>>>()?;
        let &[user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks.as_slice() else {
            return None;
        };
        let time = |ticks| Duration::from_millis(ticks * 10);
        Some(Self { busy: time(user + nice + system + irq + softirq), softirq: time(softirq) })
    }
}

/// Raises `net.core.netdev_max_backlog` (one value for the whole machine, default 1000 packets)
/// while any guard of any process lives, and restores it after the last.
#[derive(Debug)]
pub struct BacklogGuard {
    /// Locked shared while the guard lives; holds the value to restore.
    file: File,
}

const BACKLOG: &str = "/proc/sys/net/core/netdev_max_backlog";

impl BacklogGuard {
    /// Raises the limit to `packets` unless it is higher already.
    ///
    /// # Errors
    /// If the sysctl or the lock file in the temporary folder cannot be written.
    pub fn raise(packets: u32) -> Result<Self> {
        let path = std::env::temp_dir().join("sy-netdev-max-backlog");
        let object = path.display().to_string();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("open", &object))?;
        loop {
            // Alone: nobody has raised it, or whoever did crashed before restoring it; then the
            // file still holds the value from before.
            if file.try_lock().is_ok() {
                if stored(&mut file).map_err(Error::io("read", &object))?.is_empty() {
                    let before = read(BACKLOG)?;
                    file.write_all(before.as_bytes()).map_err(Error::io("write", &object))?;
                }
                file.unlock().map_err(Error::io("unlock", &object))?;
            }
            file.lock_shared().map_err(Error::io("lock", &object))?;
            // Between the two locks another guard may have come, gone and taken the value along.
            if !stored(&mut file).map_err(Error::io("read", &object))?.is_empty() {
                break;
            }
            file.unlock().map_err(Error::io("unlock", &object))?;
        }
        let now = read(BACKLOG)?;
        if now.trim().parse::<u32>().map_err(|_| unreadable(BACKLOG, &now))? < packets {
            fs::write(BACKLOG, packets.to_string()).map_err(Error::io("write", BACKLOG))?;
        }
        Ok(Self { file })
    }
}

impl Drop for BacklogGuard {
    fn drop(&mut self) {
        // Drop cannot report; what fails here leaves a higher limit, which harms nobody.
        let _ = self.restore_if_last();
    }
}

impl BacklogGuard {
    fn restore_if_last(&mut self) -> io::Result<()> {
        self.file.unlock()?;
        if self.file.try_lock().is_err() {
            return Ok(());
        }
        let before = stored(&mut self.file)?;
        if !before.is_empty() {
            fs::write(BACKLOG, before)?;
            self.file.set_len(0)?;
        }
        Ok(())
    }
}

/// The whole content of the lock file, trimmed; writing goes on at its end.
fn stored(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    fs::read_to_string(path).map_err(Error::io("read", path.display().to_string()))
}

fn unreadable(path: &str, text: &str) -> Error {
    Error::Output { program: path.into(), reason: "unknown form".into(), output: text.into() }
}
