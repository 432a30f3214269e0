//! The store: durable, and clear when it cannot be read.

mod common;

use chain_graph::model::ObjectKey;
use chain_graph::rollout::{CheckedSpec, Percent, RolloutSpec, Step};
use common::*;
use state_sync::{Command, DesiredState, FORMAT, Report, Resource, RolloutVerb, Store, StoreError};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Set in the child that writes until it is killed.
const CHILD_FILE: &str = "SWITCHYARD_TEST_STORE";

/// A directory that goes away with it.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("store-{test}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).expect("make a directory");
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("state.redb")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn open(file: &Path) -> (Store, DesiredState) {
    Store::open(file, CAPACITY, Some(SEED)).unwrap_or_else(|error| panic!("{error}"))
}

fn commit(store: &Store, state: &DesiredState, command: &Command) -> DesiredState {
    let applied = state.apply(command, NOW).unwrap_or_else(|rejected| panic!("{rejected}"));
    let touched: Vec<_> = applied.changes.iter().map(|change| change.path.clone()).collect();
    store.commit(state, &applied.state, &touched).unwrap_or_else(|error| panic!("{error}"));
    applied.state
}

#[test]
fn what_was_committed_is_back() {
    let directory = Directory::new("back");
    let (store, mut state) = open(&directory.file());
    let mut with_id = puts(vec![tenant("other")]);
    with_id.request_id = "r-1".to_owned();
    let remove = Command::delete(path("networkFunctions/fw/replicaSets/v1/instances/b"));
    let commands = [puts(chain()), puts(vec![instance("fw", "v1", "b", 2)]), with_id.clone(), remove];
    for command in &commands {
        state = commit(&store, &state, command);
    }
    drop(store);
    let (_store, restored) = open(&directory.file());
    assert_eq!(dump(&restored), dump(&state));
    // Request ids and numbers are remembered, too.
    assert!(!restored.apply(&with_id, NOW).expect("repeated").changed);
    let next = after(&restored, [puts(vec![instance("fw", "v1", "c", 3)])]);
    assert_eq!(next.get(&path("networkFunctions/fw/replicaSets/v1/instances/c")).map(|entry| entry.number), Some(3));
    let next_state = after(&state, [puts(vec![instance("fw", "v1", "c", 3)])]);
    assert_eq!(dump(&next), dump(&next_state), "the plan goes on where it was");
}

/// A rollout of acme's graph web to `set`, which waits after its first weight.
fn start(set: &str) -> Command {
    let Resource::Graph(target) = graph("acme", "web", "fw", set) else { unreachable!("a graph") };
    let steps = vec![Step::SetWeight(Percent::from_hundredths(500)), Step::Pause { duration: None }];
    let spec = CheckedSpec::try_from(RolloutSpec { steps, ..RolloutSpec::default() }).expect("sound");
    Command::rollout(web(), RolloutVerb::Start { spec, target })
}

fn web() -> ObjectKey {
    ObjectKey::new(&name("acme"), &name("web"))
}

#[test]
fn rollouts_versions_and_what_drains_are_back() {
    let directory = Directory::new("rollouts");
    let (store, mut state) = open(&directory.file());
    let further = vec![replica_set("fw", "v2"), instance("fw", "v2", "b", 2)];
    let switch = graph("acme", "web", "fw", "v2");
    let third = vec![replica_set("fw", "v3"), instance("fw", "v3", "c", 3)];
    for command in [puts(chain()), puts(further), puts(vec![switch]), puts(third), start("v3")] {
        state = commit(&store, &state, &command);
    }
    let sequence = state.rollout(&web()).and_then(|rollout| rollout.command()).expect("to install").sequence;
    let applied = RolloutVerb::Report(Report::Applied { sequence });
    state = commit(&store, &state, &Command::rollout(web(), applied));
    drop(store);
    let (store, restored) = open(&directory.file());
    assert_eq!(dump(&restored), dump(&state));
    assert_eq!(restored.rollout(&web()), state.rollout(&web()));
    assert_eq!(restored.versions(&web()), state.versions(&web()));
    assert_eq!(restored.draining().collect::<Vec<_>>(), state.draining().collect::<Vec<_>>());
    assert_eq!(restored.versions(&web()).len(), 3);
    assert_eq!(restored.draining().count(), 1);
    let gone = commit(&store, &restored, &Command::delete(path("tenants/acme/graphs/web")));
    drop(store);
    let (_store, restored) = open(&directory.file());
    assert_eq!(dump(&restored), dump(&gone));
    assert!(restored.rollout(&web()).is_none());
}

#[test]
fn a_file_of_format_1_is_read_and_then_remembers_versions() {
    let directory = Directory::new("format-1");
    let (store, state) = open(&directory.file());
    let state = commit(&store, &state, &puts(chain()));
    drop(store);
    let database = redb::Database::create(directory.file()).expect("open");
    let transaction = database.begin_write().expect("begin");
    let rollouts: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("rollouts");
    let versions: redb::TableDefinition<'_, (&str, u32), &[u8]> = redb::TableDefinition::new("versions");
    assert!(transaction.delete_table(rollouts).expect("delete") && transaction.delete_table(versions).expect("delete"));
    transaction.commit().expect("commit");
    drop(database);
    rewrite(&directory.file(), "plan", "digest", b"1");
    let error = Store::open(&directory.file(), CAPACITY, None).expect_err("another digest");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    // Formats 1 and 2 had another function for it.
    rewrite(&directory.file(), "meta", "format", b"1");
    for _ in 0..2 {
        let (_store, restored) = open(&directory.file());
        assert_eq!(dump(&restored), dump(&state));
        let made: Vec<_> = restored.versions(&web()).iter().map(|version| version.made).collect();
        assert_eq!(made, [None], "nobody knows when");
    }
    rewrite(&directory.file(), "resources", "tenants/acme/graphs/web", b"{}");
    let error = Store::open(&directory.file(), CAPACITY, None).expect_err("damaged");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
}

#[test]
fn a_second_process_is_told_so() {
    let directory = Directory::new("locked");
    let (_store, _) = open(&directory.file());
    let error = Store::open(&directory.file(), CAPACITY, None).expect_err("it is open");
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
}

#[test]
fn damaged_and_foreign_files_are_refused_clearly() {
    let directory = Directory::new("damaged");
    std::fs::write(directory.file(), b"this is no database, and never was one").expect("write");
    let error = Store::open(&directory.file(), CAPACITY, None).expect_err("no database");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("state.redb"), "{error}");

    std::fs::remove_file(directory.file()).expect("remove");
    drop(open(&directory.file()));
    rewrite(&directory.file(), "meta", "format", format!("{}", FORMAT + 1).as_bytes());
    let error = Store::open(&directory.file(), CAPACITY, None).expect_err("newer");
    assert!(matches!(error, StoreError::Newer { found, .. } if found == FORMAT + 1), "{error:?}");

    rewrite(&directory.file(), "meta", "format", format!("{FORMAT}").as_bytes());
    rewrite(&directory.file(), "resources", "tenants/acme", b"{\"resource\":");
    let error = Store::open(&directory.file(), CAPACITY, None).expect_err("not JSON");
    assert!(matches!(error, StoreError::Damaged { .. }) && error.to_string().contains("tenants/acme"), "{error:?}");
}

fn rewrite(file: &Path, table: &str, key: &str, value: &[u8]) {
    let database = redb::Database::create(file).expect("open");
    let transaction = database.begin_write().expect("begin");
    let definition: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new(table);
    transaction.open_table(definition).expect("table").insert(key, value).expect("insert");
    transaction.commit().expect("commit");
}

#[test]
fn a_capacity_below_the_budgets_is_refused() {
    let directory = Directory::new("capacity");
    let (store, state) = open(&directory.file());
    commit(&store, &state, &puts(vec![tenant("acme")]));
    drop(store);
    let error = Store::open(&directory.file(), 29, None).expect_err("10 + 20 do not fit");
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    assert!(Store::open(&directory.file(), 30, None).is_ok());
}

/// Not a test by itself: what the next one starts and kills.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(file) = std::env::var_os(CHILD_FILE) else { return };
    let (store, mut state) = open(Path::new(&file));
    for number in 0.. {
        let mut resource = tenant(&format!("t{}", number % 50));
        if let state_sync::Resource::Tenant(spec) = &mut resource {
            spec.budget.unanswered = number + 1;
        }
        state = commit(&store, &state, &puts(vec![resource]));
        println!("acknowledged {} {number}", state.revision());
        std::io::stdout().flush().expect("flush");
    }
}

/// I8 for one node: an acknowledged write survives kill -9.
#[test]
fn nothing_acknowledged_is_lost_by_kill() {
    let directory = Directory::new("kill");
    for round in 1..=5u32 {
        let mut child = std::process::Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture", "--test-threads=1"])
            .env(CHILD_FILE, directory.file())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the child");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut last = None;
        let mut seen = 0;
        while let Some(Ok(line)) = lines.next() {
            if let Some(acknowledged) = parse(&line) {
                last = Some(acknowledged);
                seen += 1;
            }
            if seen == 10 * round {
                child.kill().expect("kill");
                break;
            }
        }
        // What it still had said before it died counts, too.
        last = lines.map_while(Result::ok).filter_map(|line| parse(&line)).last().or(last);
        let status = child.wait().expect("wait");
        assert_eq!(status.signal(), Some(9), "it was to be killed: {status}");
        let (revision, number) = last.expect("it acknowledged something");
        let (_store, state) = open(&directory.file());
        assert!(state.revision() >= revision, "round {round}: {} is older than {revision}", state.revision());
        let entry = state.get(&path(&format!("tenants/t{}", number % 50))).expect("the last tenant");
        let state_sync::Resource::Tenant(spec) = entry.resource else { panic!("no tenant") };
        assert!(spec.budget.unanswered > number, "round {round}: {} is older than {number}", spec.budget.unanswered);
    }
}

fn parse(line: &str) -> Option<(u64, u32)> {
    let (_, rest) = line.split_once("acknowledged ")?;
    let (revision, number) = rest.split_once(' ')?;
    Some((revision.parse().ok()?, number.parse().ok()?))
}
