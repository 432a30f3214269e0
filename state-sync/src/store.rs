//! Desired state on disk: one redb file, one transaction per accepted group of commands.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `format`, `cluster`, `state` | format version; [`Cluster`]; revision and number cursors |
//! | `resources` | resource name | [`Entry`] |
//! | `plan` | part of the plan | see [`crate::plan`] |
//! | `requests` | revision | [`RequestMemo`] |
//! | `rollouts` | graph name | rollout engine, and what drains |
//! | `versions` | graph name, view | what the view was made from |
//!
//! Values are JSON: small, readable with any tool, and tolerant of fields that a later version adds.

mod lineages;

use crate::clock::{Clock, SystemClock};
use crate::command::Rejected;
use crate::numbers::Cursors;
use crate::plan;
use crate::restore::restore;
use crate::state::{DesiredState, Entry, Setting};
use crate::{RequestMemo, ResourcePath};
use chain_graph::{Cluster, Plan};
use lineages::Lineages;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the file's content. A file with a higher one is refused.
///
/// 1: without `rollouts` and `versions`. 2: with them. 3: the plan's digest is another function of its content.
pub const FORMAT: u32 = 3;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const RESOURCES: TableDefinition<&str, &[u8]> = TableDefinition::new("resources");
const PLAN: TableDefinition<&str, &[u8]> = TableDefinition::new("plan");
const REQUESTS: TableDefinition<u64, &[u8]> = TableDefinition::new("requests");

/// What is wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or its directory could not be opened or made.
    #[error("state file {path}: open: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Another process has the file open.
    #[error("state file {path}: another process has it open")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The database refused an operation.
    #[error("state file {path}: {operation}: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        operation: &'static str,
        /// Cause.
        source: Box<redb::Error>,
    },
    /// The content is damaged.
    #[error("state file {path}: damaged: {what}; restore it from a backup, or move it away to start empty")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What and where.
        what: String,
    },
    /// The file was written by a newer program.
    #[error("state file {path}: format {found} is newer than this program's {FORMAT}; use a newer switchyard")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// What is stored breaks a rule of this program.
    #[error("state file {path}: not accepted: {source}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// The rules.
        source: Rejected,
    },
}

#[derive(Serialize, Deserialize)]
struct Head {
    revision: u64,
    cursors: Cursors,
}

/// The open state file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    database: Database,
}

impl Store {
    /// Opens a state file, or makes an empty one, and reads the state. `capacity`: records of the connection table.
    /// `seed`: cluster seed of a new file; one from the system's random source if absent.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was changed then.
    pub fn open(path: &Path, capacity: u64, seed: Option<[u64; 2]>) -> Result<(Self, DesiredState), StoreError> {
        let path = path.to_owned();
        let entries = entries(&path);
        let io = |source| StoreError::Io { path: path.clone(), source };
        entries.first().map_or(Ok(()), std::fs::create_dir_all).map_err(io)?;
        let database = match Database::create(&path) {
            Ok(database) => database,
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(StoreError::Locked { path }),
            Err(redb::DatabaseError::Storage(redb::StorageError::Corrupted(what))) => {
                return Err(StoreError::Damaged { path, what });
            }
            Err(redb::DatabaseError::Storage(redb::StorageError::Io(source)))
                if source.kind() == std::io::ErrorKind::InvalidData =>
            {
                return Err(StoreError::Damaged { path, what: source.to_string() });
            }
            Err(redb::DatabaseError::Storage(redb::StorageError::Io(source))) => {
                return Err(StoreError::Io { path, source });
            }
            Err(source) => {
                return Err(StoreError::Database { path, operation: "open", source: Box::new(source.into()) });
            }
        };
        // redb syncs the file, not its name: without this a loss of power may take the whole file away.
        entries.iter().try_for_each(|directory| std::fs::File::open(directory)?.sync_all()).map_err(io)?;
        let store = Self { path, database };
        store.prepare(Cluster { incarnation: 1, seed: seed.unwrap_or_else(random_seed) })?;
        let state = store.load(capacity)?;
        Ok((store, state))
    }

    /// Writes what differs between two states, durably: when it returns, a loss of power loses nothing of it.
    ///
    /// # Errors
    /// [`StoreError::Database`]; then nothing of it is stored.
    pub fn commit(&self, old: &DesiredState, new: &DesiredState, touched: &[ResourcePath]) -> Result<(), StoreError> {
        self.write("commit", |transaction| {
            let mut resources = transaction.open_table(RESOURCES)?;
            for path in touched {
                match new.get(path) {
                    Some(entry) => resources.insert(path.to_string().as_str(), encode(&entry).as_slice())?,
                    None => resources.remove(path.to_string().as_str())?,
                };
            }
            let mut plan = transaction.open_table(PLAN)?;
            for (part, value) in plan::difference(Some(old.image.plan()), new.image.plan()) {
                match value {
                    Some(value) => plan.insert(part.as_str(), encode(&value).as_slice())?,
                    None => plan.remove(part.as_str())?,
                };
            }
            let mut requests = transaction.open_table(REQUESTS)?;
            let first_kept = new.requests.front().map_or(0, |memo| memo.revision);
            for memo in old.requests.iter().take_while(|memo| memo.revision < first_kept) {
                requests.remove(memo.revision)?;
            }
            for memo in new.requests.iter().rev().take_while(|memo| memo.revision > old.revision) {
                requests.insert(memo.revision, encode(memo.as_ref()).as_slice())?;
            }
            lineages::write(transaction, &old.lineages, &new.lineages)?;
            let head = Head { revision: new.revision, cursors: new.cursors };
            transaction.open_table(META)?.insert("state", encode(&head).as_slice())?;
            Ok(())
        })
    }

    /// Writes format version and cluster into a new file, and compares the version in others.
    fn prepare(&self, cluster: Cluster) -> Result<(), StoreError> {
        let read = self.database.begin_read().map_err(|e| self.database_error("read", e))?;
        match read.open_table(META) {
            Ok(meta) => {
                let value = meta.get("format").map_err(|e| self.database_error("read format", e))?;
                let bytes = value.as_ref().map(|guard| guard.value());
                match bytes.map(decode::<u32>) {
                    Some(Ok(FORMAT)) => Ok(()),
                    // A program that does not know the tables of this format must not write the file again.
                    Some(Ok(1..FORMAT)) => self.write("upgrade", |transaction| {
                        transaction.open_table(PLAN)?.remove("digest")?;
                        transaction.open_table(META)?.insert("format", encode(&FORMAT).as_slice())?;
                        Ok(())
                    }),
                    Some(Ok(found)) if found > FORMAT => Err(StoreError::Newer { path: self.path.clone(), found }),
                    Some(Ok(found)) => Err(self.damaged(format!("format {found} never existed"))),
                    Some(Err(error)) => Err(self.damaged(format!("format version: {error}"))),
                    None => Err(self.damaged("format version is missing".to_owned())),
                }
            }
            Err(redb::TableError::TableDoesNotExist(_)) => self.write("initialise", |transaction| {
                transaction.open_table(RESOURCES)?;
                transaction.open_table(PLAN)?;
                transaction.open_table(REQUESTS)?;
                let mut meta = transaction.open_table(META)?;
                meta.insert("format", encode(&FORMAT).as_slice())?;
                meta.insert("cluster", encode(&cluster).as_slice())?;
                Ok(())
            }),
            Err(error) => Err(self.database_error("read format", error)),
        }
    }

    fn load(&self, capacity: u64) -> Result<DesiredState, StoreError> {
        let stored = self.read().map_err(|error| match error {
            ReadError::Database(redb::Error::Corrupted(what)) => self.damaged(what),
            ReadError::Database(error) => self.database_error("read", error),
            ReadError::Content(what) => self.damaged(what),
        })?;
        let (stored_plan, stored_lineages) = (stored.plan.clone(), stored.lineages.clone());
        let Some(cluster) = stored.cluster else { return Err(self.damaged("meta cluster is missing".to_owned())) };
        let state = restore(stored, Setting { capacity, cluster }, SystemClock.now()).map_err(|error| match error {
            RestoreError::Damaged(what) => self.damaged(what),
            RestoreError::Refused(source) => StoreError::Refused { path: self.path.clone(), source },
        })?;
        // A plan's number is never given twice, so the number must be durable before the plan is used.
        let is_same = |(key, lineage)| stored_lineages.get(key).is_some_and(|known| Arc::ptr_eq(known, lineage));
        if stored_plan.as_ref() != Some(state.image.plan()) || !state.lineages.iter().all(is_same) {
            self.write("store plan", |transaction| {
                lineages::write(transaction, &stored_lineages, &state.lineages)?;
                let mut table = transaction.open_table(PLAN)?;
                for (part, value) in plan::difference(stored_plan.as_ref(), state.image.plan()) {
                    match value {
                        Some(value) => table.insert(part.as_str(), encode(&value).as_slice())?,
                        None => table.remove(part.as_str())?,
                    };
                }
                Ok(())
            })?;
        }
        Ok(state)
    }

    fn read(&self) -> Result<Stored, ReadError> {
        let read = self.database.begin_read()?;
        let mut stored = Stored::default();
        if let Some(cluster) = read.open_table(META)?.get("cluster")? {
            stored.cluster = Some(content("meta", "cluster", cluster.value())?);
        }
        if let Some(head) = read.open_table(META)?.get("state")? {
            let Head { revision, cursors } = content("meta", "state", head.value())?;
            stored.revision = revision;
            stored.cursors = cursors;
        }
        for item in read.open_table(RESOURCES)?.iter()? {
            let (key, value) = item?;
            let path: ResourcePath = name("resources", key.value())?;
            stored.entries.insert(path, content("resources", key.value(), value.value())?);
        }
        let mut parts = BTreeMap::new();
        for item in read.open_table(PLAN)?.iter()? {
            let (key, value) = item?;
            parts.insert(key.value().to_owned(), content("plan", key.value(), value.value())?);
        }
        stored.plan =
            plan::assemble(parts).map_err(|error| ReadError::Content(format!("plan: {error}")))?.map(Arc::new);
        for item in read.open_table(REQUESTS)?.iter()? {
            let (key, value) = item?;
            let memo: RequestMemo = content("requests", &key.value().to_string(), value.value())?;
            stored.requests.push_back(Arc::new(memo));
        }
        stored.lineages = lineages::read(&read)?;
        Ok(stored)
    }

    fn write(
        &self,
        operation: &'static str,
        body: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let run = || -> Result<(), redb::Error> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            body(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        run().map_err(|source| self.database_error(operation, source))
    }

    fn database_error(&self, operation: &'static str, source: impl Into<redb::Error>) -> StoreError {
        StoreError::Database { path: self.path.clone(), operation, source: Box::new(source.into()) }
    }

    fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what }
    }
}

/// The directories whose entries lead to a file that may not be there yet, innermost first: its own, and those above that
/// must be made, up to the first that exists. Its own is among them also if the file exists: the process that made it may
/// have died before it was synced.
fn entries(path: &Path) -> Vec<PathBuf> {
    let mut entries = Vec::new();
    for directory in path.ancestors().skip(1) {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        entries.push(directory.to_owned());
        // An entry of a directory that exists lies in the one above, which we did not change.
        if directory.is_dir() {
            break;
        }
    }
    entries
}

/// What was read, not yet a state.
#[derive(Default)]
pub(crate) struct Stored {
    pub(crate) cluster: Option<Cluster>,
    pub(crate) revision: u64,
    pub(crate) cursors: Cursors,
    pub(crate) entries: BTreeMap<ResourcePath, Entry>,
    pub(crate) plan: Option<Arc<Plan>>,
    pub(crate) requests: VecDeque<Arc<RequestMemo>>,
    pub(crate) lineages: Lineages,
}

/// Why what was read is no state.
pub(crate) enum RestoreError {
    Damaged(String),
    Refused(Rejected),
}

enum ReadError {
    Database(redb::Error),
    Content(String),
}

impl<E: Into<redb::Error>> From<E> for ReadError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    // Keys of all maps in these types are strings and no type's serialisation fails on its own, so neither does this.
    serde_json::to_vec(value).unwrap_or_default()
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes)
}

fn content<T: DeserializeOwned>(table: &str, key: &str, bytes: &[u8]) -> Result<T, ReadError> {
    decode(bytes).map_err(|error| ReadError::Content(format!("{table} {key}: {error}")))
}

fn name<T: std::str::FromStr<Err: std::fmt::Display>>(table: &str, key: &str) -> Result<T, ReadError> {
    key.parse().map_err(|error| ReadError::Content(format!("{table} {key}: {error}")))
}

/// Two words that nobody can guess.
fn random_seed() -> [u64; 2] {
    [(); 2].map(|()| RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use super::entries;
    use std::path::{Path, PathBuf};

    #[test]
    fn every_directory_that_gets_a_new_entry_is_known_before_it_is_made() {
        let root = std::env::temp_dir();
        let top = root.join(format!("switchyard-entries-{}", std::process::id()));
        let new = top.join("a/b");
        assert_eq!(entries(&new.join("state")), [new.clone(), top.join("a"), top.clone(), root]);
        std::fs::create_dir_all(&new).expect("directories");
        assert_eq!(entries(&new.join("state")), std::slice::from_ref(&new), "only the file's own entry is new");
        std::fs::remove_dir_all(&top).expect("remove");
        assert_eq!(entries(Path::new("state")), [PathBuf::from(".")]);
    }
}
