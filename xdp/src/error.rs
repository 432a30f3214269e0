//! What can go wrong between user space and kernel.

use state_sync::DataPlaneError;
use std::path::PathBuf;

/// An operation on the data plane that failed. The cause is the error's source.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are named in the messages")]
pub enum Error {
    /// Another agent runs.
    #[error("the data plane at {} is in use by another process: stop it first, or choose another --bpffs", path.display())]
    Locked {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The pin directory cannot be used.
    #[error("{operation} {}: is a bpf file system mounted there (mount -t bpf bpf /sys/fs/bpf), and do you run as root?", path.display())]
    PinDirectory {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The object does not load.
    #[error("load the eBPF object: needs root (CAP_BPF, CAP_NET_ADMIN) and a kernel of 6.6 or later with BTF")]
    Load(#[source] aya::EbpfError),
    /// The pinned data path was made for another state.
    #[error(
        "the data path at {} belongs to another state file: give the state directory it was started with, or take it down \
         by removing that directory (its flows lose their records)",
        path.display()
    )]
    Foreign { path: PathBuf },
    /// A program is refused or absent.
    #[error("load the eBPF program `{program}` into the kernel")]
    Program {
        program: &'static str,
        #[source]
        source: aya::programs::ProgramError,
    },
    /// A program is refused by the verifier.
    #[error("attach `{program}` to interface {interface}")]
    Attach {
        program: &'static str,
        interface: String,
        #[source]
        source: aya::programs::ProgramError,
    },
    /// A link cannot be kept or taken over.
    #[error("keep the link of interface {interface} at {}", path.display())]
    Link {
        interface: String,
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A map is absent or of another shape.
    #[error("open the map {map}: it does not fit layout version {}", xdp_layout::LAYOUT_VERSION)]
    Map {
        map: &'static str,
        #[source]
        source: aya::maps::MapError,
    },
    /// A system call failed.
    #[error("{operation} of map {map}")]
    Syscall {
        operation: &'static str,
        map: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// No grace period could be waited for.
    #[error("wait until the data path has let go of what is to be reused: {cause}")]
    Grace { cause: String },
    /// The table is full.
    #[error("{what} are full: {used} used of {max}")]
    Full { what: &'static str, used: u64, max: u64 },
    /// A host file or interface query failed.
    #[error("{operation} {object}")]
    Host {
        operation: &'static str,
        object: String,
        #[source]
        source: std::io::Error,
    },
    /// The state kept beside the pins is unreadable.
    #[error("read {}: remove the pin directory's programs with `switchyard dev --detach`, or restore the file", path.display())]
    Ledger {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error with its causes in one line.
pub(crate) fn describe(operation: &str, error: &dyn std::error::Error) -> DataPlaneError {
    let mut cause = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        cause += &format!(": {next}");
        source = next.source();
    }
    DataPlaneError { operation: operation.to_owned(), cause }
}
