//! The control plane drives rollouts, over a data path and a clock in memory.

mod common;

use chain_graph::Image;
use chain_graph::model::ObjectKey;
use chain_graph::rollout::{
    Bounds, CheckedSpec, Drain, DrainPolicy, Failure, Outcome, Percent, PhaseName, RolloutSpec, Span, Status, Step,
    Timestamp,
};
use common::*;
use state_sync::{
    Census, Clock, Command, ControlOptions, ControlPlane, Counters, DataPlane, DataPlaneError, DataPlaneStatus,
    DesiredState, FlowPage, FlowQuery, GraphSpec, Installed, Observer, PendingPort, PendingReason, PortOwner, Resource,
    RolloutVerb, Store, Trace, TraceQuery, ViewCensus, ViewCounters,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use xdp_layout::{Generation, InstanceId, TenantId, ViewId};

/// Stable view, candidate with share, draining views.
type Views = (u32, Option<(u32, u16)>, Vec<u32>);

#[derive(Default)]
struct Shared {
    /// The views of the graph `web`, each time others were installed.
    installed: Vec<Views>,
    fail: bool,
    pending: Vec<PendingPort>,
    census: Census,
    counters: Option<ViewCounters>,
    resets: Vec<ViewId>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Shared>>);

impl Fake {
    fn set(&self, change: impl FnOnce(&mut Shared)) {
        change(&mut self.0.lock().expect("no panic before"));
    }

    fn installed(&self) -> Vec<Views> {
        self.0.lock().expect("no panic before").installed.clone()
    }
}

impl DataPlane for Fake {
    fn install(&mut self, image: &Arc<Image>) -> Result<Installed, DataPlaneError> {
        let mut shared = self.0.lock().expect("no panic before");
        if shared.fail {
            return Err(DataPlaneError { operation: "write map".to_owned(), cause: "told to fail".to_owned() });
        }
        let graphs = &image.plan().content().graphs;
        shared.installed.extend(graphs.values().next().map(|active| {
            let canary = active.canary.map(|canary| (canary.view.id.get(), canary.share));
            (active.stable.id.get(), canary, active.draining.iter().map(|view| view.id.get()).collect())
        }));
        shared.installed.dedup();
        let (generation, digest) = (image.plan().generation(), image.plan().digest());
        Ok(Installed { generation, digest, pending: shared.pending.clone() })
    }

    fn reset_flows(&mut self, _tenant: TenantId, view: ViewId) -> Result<u64, DataPlaneError> {
        self.set(|shared| shared.resets.push(view));
        Ok(1)
    }

    fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(self.clone())
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
        Ok(self.0.lock().expect("no panic before").census.clone())
    }
    fn view_counters(&self, _tenant: TenantId, _view: ViewId) -> Result<Option<ViewCounters>, DataPlaneError> {
        Ok(self.0.lock().expect("no panic before").counters)
    }
}

/// A clock that stands until it is set.
#[derive(Clone, Debug)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn advance(&self, span: Span) {
        self.0.fetch_add(span.millis(), Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

struct World {
    control: Option<ControlPlane>,
    thread: Option<JoinHandle<()>>,
    fake: Fake,
    clock: Hand,
    directory: PathBuf,
}

impl World {
    /// A chain through `fw`, of which there are three versions. Instances have room for 100 flows.
    async fn new(test: &str) -> Self {
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

    fn start(&mut self) {
        let (store, state) = Store::open(&self.directory.join("state.redb"), CAPACITY, Some(SEED)).expect("open");
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let options = ControlOptions { retry: Duration::from_millis(1), clock, ..ControlOptions::default() };
        let (control, thread) =
            ControlPlane::start(store, state, Box::new(self.fake.clone()), options).expect("start the writer");
        (self.control, self.thread) = (Some(control), Some(thread));
    }

    fn stop(&mut self) {
        self.control = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the writer did not panic");
        }
    }

    fn control(&self) -> &ControlPlane {
        self.control.as_ref().expect("it runs")
    }

    async fn write(&self, command: Command) {
        self.control().write(command).await.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn drive(&self, verb: RolloutVerb) {
        self.write(Command::rollout(web(), verb)).await;
    }

    async fn wait(&self, what: &str, holds: impl Fn(&DesiredState) -> bool) -> Arc<DesiredState> {
        let mut state = self.control().watch_state();
        let found = tokio::time::timeout(Duration::from_secs(20), state.wait_for(|state| holds(state))).await;
        let last = || format!("{:?}, installed {:?}", self.status(), self.fake.installed());
        found.unwrap_or_else(|_| panic!("{what}: {}", last())).expect("it runs").clone()
    }

    async fn phase(&self, phase: PhaseName) -> Status {
        let state = self.wait(phase.name(), |state| status_of(state).place.phase == phase).await;
        status_of(&state)
    }

    fn status(&self) -> Status {
        status_of(&self.control().state())
    }

    fn generation(&self) -> Generation {
        self.control().state().generation()
    }

    /// What the data path counts from here on.
    fn records(&self, generation: Generation, records: &[(u32, u16, u64)]) {
        let tenant = TenantId::new(1).expect("a number");
        let views = records.iter().map(|(number, instance, records)| {
            let instances = [(InstanceId::new(*instance).expect("a number"), *records)].into();
            ((tenant, view(*number)), ViewCensus { records: *records, instances })
        });
        let census = Census { generation: Some(generation), views: views.collect() };
        self.fake.set(|shared| shared.census = census);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.control = None;
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

fn status_of(state: &DesiredState) -> Status {
    state.rollout(&web()).expect("the graph is there").status()
}

fn web() -> ObjectKey {
    ObjectKey::new(&name("acme"), &name("web"))
}

fn view(number: u32) -> ViewId {
    ViewId::new(number).expect("a view number")
}

fn version(set: &str) -> GraphSpec {
    match graph("acme", "web", "fw", set) {
        Resource::Graph(spec) => spec,
        other => panic!("{other:?} is no graph"),
    }
}

fn start(spec: RolloutSpec) -> RolloutVerb {
    RolloutVerb::Start { spec: CheckedSpec::try_from(spec).expect("sound"), target: version("v2") }
}

fn steps(steps: impl Into<Vec<Step>>) -> RolloutSpec {
    RolloutSpec { steps: steps.into(), ..RolloutSpec::default() }
}

fn weight(percent: u32) -> Step {
    Step::SetWeight(Percent::from_hundredths(percent * 100))
}

fn pause(seconds: u64) -> Step {
    Step::Pause { duration: Some(Span::from_secs(seconds)) }
}

const FOREVER: Step = Step::Pause { duration: None };

#[tokio::test]
async fn a_rollout_without_steps_is_over_when_it_is_answered() {
    let world = World::new("no-steps").await;
    world.drive(start(steps([]))).await;
    assert_eq!(world.status().outcome, Some(Outcome::Success));
    assert_eq!(world.fake.installed(), [(1, None, vec![]), (1, Some((2, 0)), vec![]), (2, None, vec![1])]);
}

#[tokio::test]
async fn steps_are_taken_by_the_clock() {
    let world = World::new("steps").await;
    world.drive(start(steps([weight(5), pause(30), weight(20), pause(30)]))).await;
    assert_eq!(world.status().place.phase, PhaseName::Paused);
    world.clock.advance(Span::from_secs(30));
    world.wait("the second weight", |state| status_of(state).place.step == 4).await;
    world.clock.advance(Span::from_secs(30));
    world.phase(PhaseName::Completed).await;
    let plans =
        [(1, None, vec![]), (1, Some((2, 0)), vec![]), (1, Some((2, 3277)), vec![]), (1, Some((2, 13107)), vec![])];
    assert_eq!(world.fake.installed()[..4], plans);
    assert_eq!(world.fake.installed()[4..], [(2, None, vec![1])]);
}

#[tokio::test]
async fn a_candidate_out_of_bounds_is_aborted() {
    let world = World::new("bounds").await;
    let bounds = Bounds { min_flows: 10, dropped: Some(Percent::from_hundredths(100)), ..Bounds::default() };
    world.fake.set(|shared| shared.counters = Some(ViewCounters::default()));
    world.records(world.generation(), &[(1, 1, 50), (2, 2, 5)]);
    world.drive(start(RolloutSpec { bounds, ..steps([weight(5), FOREVER]) })).await;
    world.fake.set(|shared| {
        shared.counters = Some(ViewCounters { flows: 20, frames: 100, dropped: 2, ..ViewCounters::default() });
    });
    world.clock.advance(Span::from_secs(1));
    let status = world.phase(PhaseName::Completed).await;
    assert!(matches!(status.outcome, Some(Outcome::Failed(Failure::Bounds(_)))), "{status:?}");
    assert_eq!(world.fake.installed().last(), Some(&(1, None, vec![2])), "its flows drain");
}

#[tokio::test]
async fn what_cannot_be_installed_is_given_up_at_the_deadline() {
    let world = World::new("deadline").await;
    world.fake.set(|shared| shared.fail = true);
    world.drive(start(steps([weight(5)]))).await;
    let status = world.status();
    assert_eq!(status.place.phase, PhaseName::Installing);
    assert!(status.message.contains("told to fail"), "{}", status.message);
    world.clock.advance(Span::from_secs(600));
    world.phase(PhaseName::Aborting).await;
    world.fake.set(|shared| shared.fail = false);
    let status = world.phase(PhaseName::Completed).await;
    assert!(matches!(status.outcome, Some(Outcome::Failed(Failure::ProgressDeadline { .. }))), "{status:?}");
    assert!(world.fake.installed().iter().all(|(stable, canary, _)| *stable == 1 && canary.is_none()));
}

#[tokio::test]
async fn a_candidate_whose_port_is_missing_gets_no_flows() {
    let world = World::new("port").await;
    let owner = PortOwner::Instance(InstanceId::new(2).expect("a number"));
    let missing = PendingPort { owner, interface: "p2-0".to_owned(), reason: PendingReason::Missing };
    world.fake.set(|shared| shared.pending = vec![missing]);
    world.drive(start(steps([weight(5), FOREVER]))).await;
    assert_eq!(world.status().place.phase, PhaseName::Installing);
    assert!(world.status().message.contains("p2-0: no such interface"), "{}", world.status().message);
    world.fake.set(|shared| shared.pending.clear());
    world.phase(PhaseName::Paused).await;
}

#[tokio::test]
async fn a_view_is_retired_when_a_count_of_its_own_plan_says_zero() {
    let world = World::new("drain").await;
    let before = world.generation();
    world.records(before, &[]);
    world.write(puts(vec![graph("acme", "web", "fw", "v2")])).await;
    let left = world.generation();
    // A count that began under the plan before finds nothing; then one of the right plan finds a flow.
    world.clock.advance(Span::from_secs(1));
    world.write(puts(vec![tenant("other")])).await;
    assert_eq!(world.fake.installed().last(), Some(&(2, None, vec![1])));
    world.records(left, &[(1, 1, 1)]);
    world.clock.advance(Span::from_secs(1));
    world.write(puts(vec![tenant("another")])).await;
    assert_eq!(world.fake.installed().last(), Some(&(2, None, vec![1])));
    world.records(left, &[]);
    world.clock.advance(Span::from_secs(1));
    world.wait("nothing drains", |state| state.draining().next().is_none()).await;
    let mut programmed = world.control().programmed();
    let last = world.generation();
    programmed.wait_for(|now| now.installed.as_ref().is_some_and(|i| i.generation == last)).await.expect("it runs");
    assert_eq!(world.fake.installed().last(), Some(&(2, None, vec![])));
}

#[tokio::test]
async fn flows_are_reset_at_the_deadline_if_that_is_the_policy() {
    let world = World::new("reset").await;
    let drain = Drain { policy: DrainPolicy::Reset, deadline: Span::from_secs(10) };
    world.drive(start(RolloutSpec { drain, ..steps([]) })).await;
    world.records(world.generation(), &[(1, 1, 3)]);
    world.clock.advance(Span::from_secs(9));
    world.write(puts(vec![tenant("other")])).await;
    assert!(world.fake.0.lock().expect("no panic before").resets.is_empty(), "not before");
    world.clock.advance(Span::from_secs(1));
    world.write(puts(vec![tenant("another")])).await;
    assert_eq!(world.fake.0.lock().expect("no panic before").resets, [view(1)]);
    world.records(world.generation(), &[]);
    world.clock.advance(Span::from_secs(1));
    world.wait("nothing drains", |state| state.draining().next().is_none()).await;
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let mut world = World::new("restart").await;
    world.drive(start(steps([weight(5), FOREVER, weight(20)]))).await;
    let before = world.control().state();
    world.stop();
    world.fake.set(|shared| shared.installed.clear());
    world.start();
    let mut programmed = world.control().programmed();
    programmed.wait_for(|now| now.reason().is_none()).await.expect("it is installed without a write");
    assert_eq!(world.fake.installed(), [(1, Some((2, 3277)), vec![])], "the same views, the same share");
    let state = world.control().state();
    assert_eq!((dump(&state), state.versions(&web())), (dump(&before), before.versions(&web())));
    assert_eq!(status_of(&state).place, status_of(&before).place);
    world.fake.set(|shared| shared.fail = true);
    world.drive(RolloutVerb::Resume).await;
    // Killed while a command is in force: it is carried out afterwards.
    world.stop();
    world.fake.set(|shared| shared.fail = false);
    world.start();
    world.phase(PhaseName::Completed).await;
    assert_eq!(world.fake.installed().last(), Some(&(2, None, vec![1])));
}

#[tokio::test]
async fn an_abort_returns_what_there_is_room_for() {
    let world = World::new("room").await;
    world.drive(start(steps([weight(50), FOREVER]))).await;
    world.records(world.generation(), &[(1, 1, 60), (2, 2, 60)]);
    world.drive(RolloutVerb::Abort { reason: "enough".to_owned(), force: false }).await;
    let status = world.status();
    assert_eq!(status.place.phase, PhaseName::AwaitingCapacity);
    assert_eq!(status.shortages.len(), 1, "{status:?}");
    let (_, canary, _) = world.fake.installed().last().cloned().expect("installed");
    assert_eq!(canary, Some((2, 10923)), "100 of 120 flows fit: a sixth stays");
    // The instance is given more room.
    let mut bigger = instance("fw", "v1", "a", 1);
    if let Resource::Instance(spec) = &mut bigger {
        spec.max_flows = 120;
    }
    world.write(puts(vec![bigger])).await;
    world.clock.advance(Span::from_secs(1));
    world.phase(PhaseName::Completed).await;
    assert_eq!(world.fake.installed().last(), Some(&(1, None, vec![2])));
}
