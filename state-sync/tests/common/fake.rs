//! A data path in memory that notes what it is told, and a control plane over it.

use super::{CAPACITY, SEED};
use chain_graph::Image;
use chain_graph::plan::PlanRef;
use state_sync::{
    Census, ControlOptions, ControlPlane, Counters, DataPlane, DataPlaneError, DataPlaneStatus, FlowPage, FlowQuery,
    Installed, Observer, PendingPort, PendingReason, PortOwner, Programmed, Reaper, Store, Trace, TraceQuery,
    ViewCounters,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use xdp_layout::{AttachmentId, TenantId, ViewId};

/// For tests in which nothing is to be tried again.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);
/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a data path is told to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Prepare,
    Enter,
}

/// An operation with the number of the plan.
pub(crate) type Call = (Operation, u64);

/// What the fake does next, and what it did.
#[derive(Default)]
pub(crate) struct Shared {
    calls: Vec<Call>,
    /// The operation that fails until it is told otherwise.
    pub(crate) fail: Option<Operation>,
    pub(crate) pending: bool,
    pub(crate) changed: Option<Vec<PendingPort>>,
    /// Where the next preparation waits.
    pub(crate) gate: Option<mpsc::Receiver<()>>,
    /// Told when it has begun.
    pub(crate) begun: Option<mpsc::Sender<()>>,
    pub(crate) in_force: Option<PlanRef>,
    /// Counts of records that were made.
    pub(crate) counts: u32,
}

#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<Shared>>);

impl Fake {
    /// One that runs a plan since before.
    pub(crate) fn running(plan: PlanRef) -> Self {
        let fake = Self::default();
        fake.set(|shared| shared.in_force = Some(plan));
        fake
    }

    pub(crate) fn set<T>(&self, change: impl FnOnce(&mut Shared) -> T) -> T {
        change(&mut self.0.lock().expect("no panic before"))
    }

    /// What it was told, in this order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.set(|shared| shared.calls.clone())
    }

    pub(crate) fn forget_calls(&self) {
        self.set(|shared| shared.calls.clear());
    }

    pub(crate) fn in_force(&self) -> Option<PlanRef> {
        self.set(|shared| shared.in_force)
    }

    fn call(&self, operation: Operation, image: &Image) -> Result<(), DataPlaneError> {
        let fails = self.set(|shared| {
            shared.calls.push((operation, image.plan().generation().get()));
            shared.fail == Some(operation)
        });
        let error = || DataPlaneError { operation: format!("{operation:?}"), cause: "told to fail".to_owned() };
        if fails { Err(error()) } else { Ok(()) }
    }
}

pub(crate) fn waiting(interface: &str, reason: PendingReason) -> PendingPort {
    PendingPort { owner: PortOwner::Attachment(AttachmentId::MAX), interface: interface.to_owned(), reason }
}

impl DataPlane for Fake {
    fn in_force(&self, seed: [u64; 2]) -> Result<Option<PlanRef>, DataPlaneError> {
        assert_eq!(seed, SEED);
        Ok(Fake::in_force(self))
    }

    fn prepare(&mut self, image: &Arc<Image>) -> Result<(), DataPlaneError> {
        let gate = self.set(|shared| {
            if let Some(begun) = shared.begun.take() {
                begun.send(()).expect("the test listens");
            }
            shared.gate.take()
        });
        if let Some(gate) = gate {
            gate.recv().expect("the test opens the gate");
        }
        self.call(Operation::Prepare, image)
    }

    fn enter(&mut self, image: &Arc<Image>) -> Result<Installed, DataPlaneError> {
        self.call(Operation::Enter, image)?;
        let (generation, digest) = (image.plan().generation(), image.plan().digest());
        let pending = self.set(|shared| {
            shared.in_force = Some(PlanRef { generation, digest });
            shared.pending.then(|| waiting("eth0", PendingReason::Missing))
        });
        Ok(Installed { generation, digest, pending: pending.into_iter().collect(), leftover: None })
    }

    fn changed_ports(&mut self) -> Option<Vec<PendingPort>> {
        self.set(|shared| shared.changed.take())
    }

    fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(self.clone())
    }

    fn reaper(&self) -> Arc<dyn Reaper> {
        Arc::new(self.clone())
    }
}

impl Reaper for Fake {
    fn reset_flows(&self, _tenant: TenantId, _view: ViewId) -> Result<u64, DataPlaneError> {
        Ok(0)
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
    fn census(&self) -> Result<Census, DataPlaneError> {
        self.set(|shared| shared.counts += 1);
        Ok(Census::default())
    }
    fn view_counters(&self, _tenant: TenantId, _view: ViewId) -> Result<Option<ViewCounters>, DataPlaneError> {
        Ok(None)
    }
    fn trace(&self, _query: &TraceQuery) -> Result<Trace, DataPlaneError> {
        Err(DataPlaneError { operation: "trace".to_owned(), cause: "there is no core here".to_owned() })
    }
}

/// A control plane over a fake.
pub(crate) struct Running {
    control: Option<ControlPlane>,
    thread: Option<JoinHandle<()>>,
    pub(crate) fake: Fake,
    directory: PathBuf,
    retry: Duration,
}

/// Starts one with nothing stored. What fails is tried again after `retry`.
pub(crate) fn start(test: &str, retry: Duration) -> Running {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("control-{test}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&directory));
    Running::open(directory, retry, Fake::default())
}

impl Running {
    fn open(directory: PathBuf, retry: Duration, fake: Fake) -> Self {
        let (store, state) = Store::open(&directory.join("state.redb"), CAPACITY, Some(SEED)).expect("open");
        let options = ControlOptions { retry, count_serves: NEVER, ..ControlOptions::default() };
        let (control, thread) =
            ControlPlane::start(store, state, Box::new(fake.clone()), options).expect("start the writer");
        Self { control: Some(control), thread: Some(thread), fake, directory, retry }
    }

    /// Ends the process and starts another one over a data path.
    pub(crate) fn restart(mut self, fake: Fake) -> Self {
        self.stop();
        Self::open(std::mem::take(&mut self.directory), self.retry, fake)
    }

    fn stop(&mut self) {
        self.control = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the writer did not panic");
        }
    }

    pub(crate) fn control(&self) -> &ControlPlane {
        self.control.as_ref().expect("it runs")
    }

    /// Waits until it has told of the data path what is asked for.
    pub(crate) async fn wait(&self, what: &str, holds: impl Fn(&Programmed) -> bool) -> Arc<Programmed> {
        let mut programmed = self.control().programmed();
        let found = tokio::time::timeout(PATIENCE, programmed.wait_for(|now| holds(now))).await;
        found.unwrap_or_else(|_| panic!("{what}: {:?}", self.fake.calls())).expect("it runs").clone()
    }

    /// Waits until the data path runs what is stored.
    pub(crate) async fn programmed(&self) -> Arc<Programmed> {
        self.wait("it is programmed", |now| now.reason().is_none()).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if self.directory != PathBuf::new() {
            drop(std::fs::remove_dir_all(&self.directory));
        }
    }
}
