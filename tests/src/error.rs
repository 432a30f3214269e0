//! The one error type of the testbed.

use std::{io, time::Duration};

/// Result of every fallible testbed operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with the operation and the object it was about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program ended unsuccessfully.
    #[error("`{command}` in namespace {namespace} failed ({status}): {output}")]
    Command {
        /// The command line, space-separated.
        command: String,
        /// Name of the network namespace it ran in.
        namespace: String,
        /// How it ended.
        status: String,
        /// What it wrote to stderr (stdout where stderr was empty), trimmed.
        output: String,
    },
    /// A system call or file operation failed.
    #[error("cannot {operation} {object}")]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// What it was tried on.
        object: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Something that was waited for did not happen in time.
    #[error("{awaited} did not happen within {timeout:?}: {details}")]
    Timeout {
        /// What was waited for.
        awaited: String,
        /// How long.
        timeout: Duration,
        /// What was seen instead: the last lines of a program's output, for instance.
        details: String,
    },
    /// A program's output does not have the expected form.
    #[error("cannot read the output of {program}: {reason}: {output}")]
    Output {
        /// The program.
        program: String,
        /// What is wrong with it.
        reason: String,
        /// The output itself.
        output: String,
    },
    /// The caller asked for something that cannot be built.
    #[error("{object}: {reason}")]
    Config {
        /// The host, link or network function concerned.
        object: String,
        /// Why it cannot be built.
        reason: String,
    },
}

impl Error {
    /// For `map_err`: wraps an I/O error with its operation and object.
    pub(crate) fn io(operation: &'static str, object: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let object = object.into();
        move |source| Self::Io { operation, object, source }
    }
}
