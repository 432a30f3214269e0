//! The one writer, over a data path in memory.

mod common;

use chain_graph::Image;
use chain_graph::model::Side;
use common::*;
use state_sync::{
    Census, Command, ControlOptions, ControlPlane, Counters, DataPlane, DataPlaneError, DataPlaneStatus, FlowPage,
    FlowQuery, Installed, Observer, PendingPort, PendingReason, PortOwner, Reaper, Store, Trace, TraceQuery,
    ViewCounters, WriteError,
};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use xdp_layout::{AttachmentId, TenantId, ViewId};

/// What the fake does at its next installation, and what it did.
#[derive(Default)]
struct Shared {
    installed: Vec<(u64, usize)>,
    fail: bool,
    pending: bool,
    changed: Option<Vec<PendingPort>>,
    gate: Option<mpsc::Receiver<()>>,
    entered: Option<mpsc::Sender<()>>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Shared>>);

impl Fake {
    fn set(&self, change: impl FnOnce(&mut Shared)) {
        change(&mut self.0.lock().expect("no panic before"));
    }

    fn installs(&self) -> usize {
        self.0.lock().expect("no panic before").installed.len()
    }
}

fn waiting(interface: &str, reason: PendingReason) -> PendingPort {
    PendingPort { owner: PortOwner::Attachment(AttachmentId::MAX), interface: interface.to_owned(), reason }
}

impl DataPlane for Fake {
    fn install(&mut self, image: &Arc<Image>) -> Result<Installed, DataPlaneError> {
        let gate = {
            let mut shared = self.0.lock().expect("no panic before");
            if let Some(entered) = shared.entered.take() {
                entered.send(()).expect("the test listens");
            }
            shared.gate.take()
        };
        if let Some(gate) = gate {
            gate.recv().expect("the test opens the gate");
        }
        let mut shared = self.0.lock().expect("no panic before");
        shared.installed.push((image.plan().generation().get(), image.tenants().len()));
        if shared.fail {
            return Err(DataPlaneError { operation: "write map".to_owned(), cause: "told to fail".to_owned() });
        }
        let pending = shared.pending.then(|| waiting("eth0", PendingReason::Missing));
        Ok(Installed {
            generation: image.plan().generation(),
            digest: image.plan().digest(),
            pending: pending.into_iter().collect(),
        })
    }

    fn changed_ports(&mut self) -> Option<Vec<PendingPort>> {
        self.0.lock().expect("no panic before").changed.take()
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
        Ok(Census::default())
    }
    fn view_counters(&self, _tenant: TenantId, _view: ViewId) -> Result<Option<ViewCounters>, DataPlaneError> {
        Ok(None)
    }
    fn trace(&self, _query: &TraceQuery) -> Result<Trace, DataPlaneError> {
        Err(DataPlaneError { operation: "trace".to_owned(), cause: "there is no core here".to_owned() })
    }
}

struct Running {
    control: ControlPlane,
    fake: Fake,
    directory: PathBuf,
}

fn start(test: &str, retry: Duration) -> Running {
    let directory =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("control-{test}-{}", std::process::id()));
    let (store, state) = Store::open(&directory.join("state.redb"), CAPACITY, Some(SEED)).expect("open");
    let fake = Fake::default();
    let options = ControlOptions { retry, ..ControlOptions::default() };
    let (control, _thread) =
        ControlPlane::start(store, state, Box::new(fake.clone()), options).expect("start the writer");
    Running { control, fake, directory }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_write_is_answered_when_the_data_path_has_it() {
    let running = start("answered", NEVER);
    let outcome = running.control.write(puts(chain())).await.expect("accepted");
    assert!(outcome.programmed.reason().is_none());
    assert_eq!(outcome.programmed.installed.as_ref().map(|installed| installed.generation), Some(outcome.generation));
    assert_eq!(running.control.state().revision(), 1);
    let refused = running.control.write(Command::delete(path("tenants/nobody"))).await;
    assert!(matches!(refused, Err(WriteError::Rejected(_))));
    assert_eq!(running.control.state().revision(), 1);
}

#[tokio::test]
async fn waiting_writes_are_installed_together() {
    let running = start("together", NEVER);
    running.control.write(puts(vec![tenant("first")])).await.expect("accepted");
    let (open, gate) = mpsc::channel();
    let (entered, inside) = mpsc::channel();
    running.fake.set(|shared| (shared.gate, shared.entered) = (Some(gate), Some(entered)));
    let control = running.control.clone();
    let blocked = tokio::spawn(async move { control.write(puts(vec![tenant("second")])).await });
    tokio::task::spawn_blocking(move || inside.recv()).await.expect("join").expect("it installs");
    let before = running.fake.installs();
    // While that one is being installed, ten more come.
    let mut waiting = Box::pin(async {
        let writes = (0..10).map(|number| running.control.write(puts(vec![tenant(&format!("t{number}"))])));
        let mut set = Vec::new();
        for write in writes {
            set.push(Box::pin(write));
        }
        let mut outcomes = Vec::new();
        // All are sent on the first poll, before any is answered.
        std::future::poll_fn(|context| {
            set.retain_mut(|write| match write.as_mut().poll(context) {
                std::task::Poll::Ready(outcome) => {
                    outcomes.push(outcome);
                    false
                }
                std::task::Poll::Pending => true,
            });
            if set.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        outcomes
    });
    let sent =
        std::future::poll_fn(|context| std::task::Poll::Ready(waiting.as_mut().poll(context).is_pending())).await;
    assert!(sent, "nothing is answered while the gate is shut");
    open.send(()).expect("the gate opens");
    let outcomes = waiting.await;
    assert!(outcomes.iter().all(Result::is_ok));
    blocked.await.expect("join").expect("accepted");
    assert_eq!(running.fake.installs(), before + 2, "one for the blocked write, one for the ten");
}

#[tokio::test]
async fn what_cannot_be_installed_is_kept_and_tried_again() {
    let running = start("again", Duration::from_millis(1));
    running.fake.set(|shared| shared.fail = true);
    let outcome = running.control.write(puts(chain())).await.expect("durable all the same");
    let reason = outcome.programmed.reason().expect("not programmed");
    assert!(reason.contains("told to fail"), "{reason}");
    running.fake.set(|shared| (shared.fail, shared.pending) = (false, true));
    let mut programmed = running.control.programmed();
    let pending = |reason: Option<String>| reason.is_some_and(|reason| reason == "eth0: no such interface");
    programmed.wait_for(|now| pending(now.reason())).await.expect("it is tried again");
    running.fake.set(|shared| shared.pending = false);
    programmed.wait_for(|now| now.reason().is_none()).await.expect("and again, until it is there");
}

#[tokio::test]
async fn an_interface_that_goes_is_told_without_a_write() {
    let running = start("ports", Duration::from_millis(1));
    running.control.write(puts(chain())).await.expect("accepted");
    let mut programmed = running.control.programmed();
    running.fake.set(|shared| shared.changed = Some(vec![waiting("eth1", PendingReason::Down)]));
    let told = programmed.wait_for(|now| now.reason().is_some()).await.expect("it is told").clone();
    assert!(told.reason().is_some_and(|reason| reason.starts_with("eth1: ")), "{told:?}");
    programmed.wait_for(|now| now.reason().is_none()).await.expect("it is installed again, with nothing to wait for");
}

#[tokio::test]
async fn a_restart_installs_what_was_stored() {
    let first = start("restart", NEVER);
    first.control.write(puts(chain())).await.expect("accepted");
    first.control.write(puts(vec![attachment("acme", "more", Side::Client, "eth5")])).await.expect("accepted");
    let before = dump(&first.control.state());
    let directory = first.directory.clone();
    let kept = std::fs::read(directory.join("state.redb")).expect("read");
    drop(first);
    std::fs::create_dir_all(&directory).expect("make");
    std::fs::write(directory.join("state.redb"), kept).expect("write");
    let second = start("restart", NEVER);
    let mut programmed = second.control.programmed();
    programmed.wait_for(|now| now.reason().is_none()).await.expect("it is installed without a write");
    assert_eq!(dump(&second.control.state()), before);
}
