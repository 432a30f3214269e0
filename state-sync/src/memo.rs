//! Memory of requests, for idempotence.

use crate::command::{Action, Command};
use crate::resource::ResourcePath;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// What a request with an id did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RequestMemo {
    /// The id the client chose.
    pub id: String,
    /// Revision of the state after it; names the memo.
    pub revision: u64,
    /// Hash of the command.
    pub fingerprint: u64,
    /// What happened to which resource.
    pub changes: Vec<(ResourcePath, Action)>,
}

impl RequestMemo {
    /// Whether it is the memo of a request id. None has the empty id.
    pub(crate) fn is(&self, id: &str) -> bool {
        !id.is_empty() && self.id == id
    }

    /// Hash of a command; the same on every machine and in every release that reads the store's format.
    pub(crate) fn fingerprint_of(command: &Command) -> u64 {
        let mut hasher = SipHasher13::new();
        hasher.write(format!("{:?}", (&command.operations, command.prune)).as_bytes());
        hasher.finish()
    }
}
