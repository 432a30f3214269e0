//! A data path and a clock in memory, and a control plane over them.

use super::common::*;
use chain_graph::Image;
use chain_graph::model::ObjectKey;
use chain_graph::plan::PlanRef;
use chain_graph::rollout::{CheckedSpec, Percent, PhaseName, RolloutSpec, Span, Status, Step, Timestamp};
use state_sync::{
    Census, Clock, Command, ControlOptions, ControlPlane, Counters, DataPlane, DataPlaneError, DataPlaneStatus,
    DesiredState, FlowPage, FlowQuery, GraphSpec, Installed, Observer, PendingPort, Reaper, Resource, RolloutVerb,
    Store, Trace, TraceQuery, ViewCensus, ViewCounters,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use xdp_layout::{Generation, InstanceId, TenantId, ViewId};

/// Stable view, candidate with share, draining views.
pub(crate) type Views = (u32, Option<(u32, u16)>, Vec<u32>);

/// A walk over the connection table that does not end before the test says so.
pub(crate) struct Gate {
    /// Told when the walk has begun.
    begun: mpsc::Sender<()>,
    open: mpsc::Receiver<()>,
}

/// The test's side of a [`Gate`].
pub(crate) struct Key {
    begun: mpsc::Receiver<()>,
    open: mpsc::Sender<()>,
}

impl Key {
    /// Waits until a walk stands at the gate.
    pub(crate) fn wait(&self) {
        self.begun.recv_timeout(PATIENCE).expect("a walk begins");
    }

    pub(crate) fn open(self) {
        self.open.send(()).expect("a walk waits");
    }
}

fn gate() -> (Gate, Key) {
    let ((begun, heard), (open, opened)) = (mpsc::channel(), mpsc::channel());
    (Gate { begun, open: opened }, Key { begun: heard, open })
}

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) fail: bool,
    pub(crate) fail_resets: bool,
    pub(crate) fail_counts: bool,
    pub(crate) pending: Vec<PendingPort>,
    pub(crate) census: Census,
    pub(crate) counters: Option<ViewCounters>,
    in_force: Option<PlanRef>,
    /// The views of the graph `web`, each time others were installed.
    installed: watch::Sender<Vec<Views>>,
    /// Counts that have begun.
    counts: watch::Sender<u64>,
    resets: watch::Sender<Vec<ViewId>>,
    /// Where the next count waits.
    count_gate: Option<Gate>,
    /// Where the next reset waits.
    reset_gate: Option<Gate>,
}

#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<Shared>>);

impl Fake {
    pub(crate) fn set<T>(&self, change: impl FnOnce(&mut Shared) -> T) -> T {
        change(&mut self.0.lock().expect("no panic before"))
    }

    pub(crate) fn installed(&self) -> Vec<Views> {
        self.set(|shared| shared.installed.borrow().clone())
    }

    pub(crate) fn forget_installed(&self) {
        self.set(|shared| drop(shared.installed.send_replace(Vec::new())));
    }

    /// Waits until these views are what was installed last.
    pub(crate) async fn installs(&self, views: Views) {
        let mut installed = self.set(|shared| shared.installed.subscribe());
        let found = tokio::time::timeout(PATIENCE, installed.wait_for(|all| all.last() == Some(&views))).await;
        assert!(found.is_ok(), "{views:?} after {:?}", self.installed());
    }

    pub(crate) fn resets(&self) -> Vec<ViewId> {
        self.set(|shared| shared.resets.borrow().clone())
    }

    /// Waits until flows of a view are being reset, or that was tried.
    pub(crate) async fn reset(&self, view: ViewId) {
        let mut resets = self.set(|shared| shared.resets.subscribe());
        let found = tokio::time::timeout(PATIENCE, resets.wait_for(|all| all.contains(&view))).await;
        assert!(found.is_ok(), "flows of view {view} are reset");
    }

    /// The next count waits for the key.
    pub(crate) fn shut_counts(&self) -> Key {
        let (gate, key) = gate();
        self.set(|shared| shared.count_gate = Some(gate));
        key
    }

    /// The next reset of a view's flows waits for the key.
    pub(crate) fn shut_resets(&self) -> Key {
        let (gate, key) = gate();
        self.set(|shared| shared.reset_gate = Some(gate));
        key
    }
}

/// Waits until the test opens the gate, if there is one.
fn pass(gate: Option<Gate>) {
    if let Some(Gate { begun, open }) = gate {
        begun.send(()).expect("the test listens");
        open.recv().expect("the test opens the gate");
    }
}

impl DataPlane for Fake {
    fn in_force(&self, _seed: [u64; 2]) -> Result<Option<PlanRef>, DataPlaneError> {
        Ok(self.set(|shared| shared.in_force))
    }

    fn prepare(&mut self, _image: &Arc<Image>) -> Result<(), DataPlaneError> {
        let fails = self.set(|shared| shared.fail);
        let error = || DataPlaneError { operation: "write map".to_owned(), cause: "told to fail".to_owned() };
        if fails { Err(error()) } else { Ok(()) }
    }

    fn enter(&mut self, image: &Arc<Image>) -> Result<Installed, DataPlaneError> {
        let mut shared = self.0.lock().expect("no panic before");
        let graphs = &image.plan().content().graphs;
        if let Some(active) = graphs.values().next() {
            let canary = active.canary.map(|canary| (canary.view.id.get(), canary.share));
            let draining = active.draining.iter().map(|view| view.id.get()).collect();
            let views = (active.stable.id.get(), canary, draining);
            shared.installed.send_if_modified(|all| {
                let is_new = all.last() != Some(&views);
                all.extend(is_new.then_some(views));
                is_new
            });
        }
        let (generation, digest) = (image.plan().generation(), image.plan().digest());
        shared.in_force = Some(PlanRef { generation, digest });
        Ok(Installed { generation, digest, pending: shared.pending.clone(), leftover: None })
    }

    fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(self.clone())
    }

    fn reaper(&self) -> Arc<dyn Reaper> {
        Arc::new(self.clone())
    }
}

impl Reaper for Fake {
    fn reset_flows(&self, _tenant: TenantId, view: ViewId) -> Result<u64, DataPlaneError> {
        pass(self.set(|shared| shared.reset_gate.take()));
        let fails = self.set(|shared| {
            shared.resets.send_modify(|all| all.push(view));
            shared.fail_resets
        });
        let error = || DataPlaneError { operation: "reset flows".to_owned(), cause: "told to fail".to_owned() };
        if fails { Err(error()) } else { Ok(1) }
    }
}

impl Observer for Fake {
    fn status(&self) -> Result<DataPlaneStatus, DataPlaneError> {
        Ok(DataPlaneStatus::default())
    }
    fn counters(&self) -> Result<Counters, DataPlaneError> {
        Ok(Counters::default())
    }
    fn flows(&self, _query: &FlowQuery) -> Result<FlowPage, DataPlaneError> {
        Ok(FlowPage::default())
    }
    fn trace(&self, _query: &TraceQuery) -> Result<Trace, DataPlaneError> {
        Err(DataPlaneError { operation: "trace".to_owned(), cause: "there is no core here".to_owned() })
    }
    fn census(&self) -> Result<Census, DataPlaneError> {
        let (census, gate, fails) = self.set(|shared| {
            shared.counts.send_modify(|counts| *counts += 1);
            (shared.census.clone(), shared.count_gate.take(), shared.fail_counts)
        });
        pass(gate);
        let error = || DataPlaneError { operation: "count".to_owned(), cause: "told to fail".to_owned() };
        if fails { Err(error()) } else { Ok(census) }
    }
    fn view_counters(&self, _tenant: TenantId, _view: ViewId) -> Result<Option<ViewCounters>, DataPlaneError> {
        Ok(self.set(|shared| shared.counters))
    }
}

/// A clock that stands until it is set.
#[derive(Clone, Debug)]
pub(crate) struct Hand(Arc<AtomicU64>);

impl Hand {
    pub(crate) fn advance(&self, span: Span) {
        self.0.fetch_add(span.millis(), Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) struct World {
    control: Option<ControlPlane>,
    thread: Option<JoinHandle<()>>,
    pub(crate) fake: Fake,
    pub(crate) clock: Hand,
    directory: PathBuf,
}

impl World {
    /// A chain through `fw`, of which there are three versions. Instances have room for 100 flows.
    pub(crate) async fn new(test: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("drive-{test}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&directory));
        let clock = Hand(Arc::new(AtomicU64::new(NOW.millis())));
        let mut world = Self { control: None, thread: None, fake: Fake::default(), clock, directory };
        world.start();
        let mut resources = chain();
        resources.extend([replica_set("fw", "v2"), instance("fw", "v2", "b", 2)]);
        resources.extend([replica_set("fw", "v3"), instance("fw", "v3", "c", 3)]);
        for resource in &mut resources {
            if let Resource::Instance(spec) = resource {
                spec.max_flows = 100;
            }
        }
        world.write(puts(resources)).await;
        world
    }

    pub(crate) fn start(&mut self) {
        let (store, state) = Store::open(&self.directory.join("state.redb"), CAPACITY, Some(SEED)).expect("open");
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let options = ControlOptions { retry: Duration::from_millis(1), clock, ..ControlOptions::default() };
        let (control, thread) =
            ControlPlane::start(store, state, Box::new(self.fake.clone()), options).expect("start the writer");
        (self.control, self.thread) = (Some(control), Some(thread));
    }

    pub(crate) fn stop(&mut self) {
        self.control = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the writer did not panic");
        }
    }

    pub(crate) fn control(&self) -> &ControlPlane {
        self.control.as_ref().expect("it runs")
    }

    pub(crate) async fn write(&self, command: Command) {
        let written = tokio::time::timeout(PATIENCE, self.control().write(command)).await.expect("it is answered");
        written.unwrap_or_else(|error| panic!("{error}"));
    }

    pub(crate) async fn drive(&self, verb: RolloutVerb) {
        self.write(Command::rollout(web(), verb)).await;
    }

    pub(crate) async fn wait(&self, what: &str, holds: impl Fn(&DesiredState) -> bool) -> Arc<DesiredState> {
        let mut state = self.control().watch_state();
        let found = tokio::time::timeout(PATIENCE, state.wait_for(|state| holds(state))).await;
        let last = || format!("{:?}, installed {:?}", self.status(), self.fake.installed());
        found.unwrap_or_else(|_| panic!("{what}: {}", last())).expect("it runs").clone()
    }

    pub(crate) async fn phase(&self, phase: PhaseName) -> Status {
        let state = self.wait(phase.name(), |state| status_of(state).place.phase == phase).await;
        status_of(&state)
    }

    pub(crate) fn status(&self) -> Status {
        status_of(&self.control().state())
    }

    pub(crate) fn generation(&self) -> Generation {
        self.control().state().generation()
    }

    /// What the data path counts from here on.
    pub(crate) fn records(&self, generation: Generation, records: &[(u32, u16, u64)]) {
        let tenant = TenantId::new(1).expect("a number");
        let views = records.iter().map(|(number, instance, records)| {
            let instances = [(InstanceId::new(*instance).expect("a number"), *records)].into();
            ((tenant, view(*number)), ViewCensus { records: *records, instances })
        });
        let census = Census { generation: Some(generation), views: views.collect(), ..Census::default() };
        self.fake.set(|shared| shared.census = census);
    }

    /// Lets two seconds pass, and waits until the records as they are set were counted and that was told: the second count
    /// begins when the first was told. Something must drain all the while.
    pub(crate) async fn counted(&self) {
        let mut counts = self.fake.set(|shared| shared.counts.subscribe());
        let before = *counts.borrow();
        for more in 1..=2 {
            self.clock.advance(Span::from_secs(1));
            let begun = tokio::time::timeout(PATIENCE, counts.wait_for(|counts| *counts >= before + more)).await;
            assert!(begun.is_ok(), "count {more} of 2: {:?}", self.status());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.control = None;
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

pub(crate) fn status_of(state: &DesiredState) -> Status {
    state.rollout(&web()).expect("the graph is there").status()
}

pub(crate) fn web() -> ObjectKey {
    ObjectKey::new(&name("acme"), &name("web"))
}

pub(crate) fn view(number: u32) -> ViewId {
    ViewId::new(number).expect("a view number")
}

pub(crate) fn version(set: &str) -> GraphSpec {
    match graph("acme", "web", "fw", set) {
        Resource::Graph(spec) => spec,
        other => panic!("{other:?} is no graph"),
    }
}

pub(crate) fn start(spec: RolloutSpec) -> RolloutVerb {
    RolloutVerb::Start { spec: CheckedSpec::try_from(spec).expect("sound"), target: version("v2") }
}

pub(crate) fn steps(steps: impl Into<Vec<Step>>) -> RolloutSpec {
    RolloutSpec { steps: steps.into(), ..RolloutSpec::default() }
}

pub(crate) fn weight(percent: u32) -> Step {
    Step::SetWeight(Percent::from_hundredths(percent * 100))
}

pub(crate) fn pause(seconds: u64) -> Step {
    Step::Pause { duration: Some(Span::from_secs(seconds)) }
}

pub(crate) const FOREVER: Step = Step::Pause { duration: None };
