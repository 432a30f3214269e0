//! The one writer: commands in, durable state and a programmed data path out.

mod chain;
mod count;
mod errand;
mod follow;
mod measure;
mod reply;

use crate::clock::{Clock, SystemClock};
use crate::command::{Change, Command, Rejected};
use crate::dataplane::{Census, DataPlane, DataPlaneError, Installed, Observer, Reaper};
use crate::state::{Applied, DesiredState};
use crate::store::{Store, StoreError};
use crate::{Action, ResourcePath};
use chain::{Chain, Obstacle};
use chain_graph::rollout::Timestamp;
use count::Counting;
use reply::{Accepted, Held, Reply, send};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::Instant;
use xdp_layout::Generation;

/// How the control plane runs.
#[derive(Clone, Debug)]
pub struct ControlOptions {
    /// Commands that may wait; further ones are held back at the caller.
    pub queue: usize,
    /// Time between two attempts while the data path is not programmed in full, and between two looks at whether it still is.
    pub retry: Duration,
    /// How long a count of records serves others who ask for one: each walks the connection table.
    pub count_serves: Duration,
    /// The clock of rollouts.
    pub clock: Arc<dyn Clock>,
}

impl Default for ControlOptions {
    fn default() -> Self {
        let (retry, count_serves) = (Duration::from_secs(1), Duration::from_secs(1));
        Self { queue: 1024, retry, count_serves, clock: Arc::new(SystemClock) }
    }
}

/// How far the data path has followed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Programmed {
    /// Revision of the state that is asked for.
    pub revision: u64,
    /// The plan that is asked for.
    pub desired: Generation,
    /// What is in force; `None` before the first.
    pub installed: Option<Installed>,
    /// Revision of the state that is in force; 0 before the first.
    pub installed_revision: u64,
    /// Why the last attempt failed.
    pub error: Option<DataPlaneError>,
}

impl Programmed {
    /// Why the data path does not run the desired plan in full; `None` if it does.
    pub fn reason(&self) -> Option<String> {
        if let Some(error) = &self.error {
            return Some(error.to_string());
        }
        match &self.installed {
            None => Some("nothing is installed yet".to_owned()),
            Some(installed) if !installed.pending.is_empty() => {
                let ports = installed.pending.iter().map(|port| format!("{}: {}", port.interface, port.reason));
                Some(ports.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("; "))
            }
            Some(installed) => installed.leftover.clone(),
        }
    }
}

/// The answer to a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// What happened, see [`Applied::changes`].
    pub changes: Vec<Change>,
    /// The plan that holds it.
    pub generation: Generation,
    /// How far the data path has followed.
    pub programmed: Arc<Programmed>,
}

/// Why a command has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It was refused; nothing changed.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It could not be made durable; nothing changed.
    #[error("cannot store the change: {0}")]
    Store(Arc<StoreError>),
    /// The control plane is shutting down.
    #[error("the control plane is shutting down")]
    Stopped,
}

struct Job {
    command: Command,
    reply: Reply,
}

/// Handle to the writer. Cheap to clone; the writer stops when the last handle is dropped.
#[derive(Clone)]
pub struct ControlPlane {
    jobs: mpsc::Sender<Job>,
    state: watch::Receiver<Arc<DesiredState>>,
    programmed: watch::Receiver<Arc<Programmed>>,
    observer: Arc<dyn Observer>,
    clock: Arc<dyn Clock>,
    /// The last count that somebody asked for, and when it ended.
    counted: Arc<Mutex<Option<Counted>>>,
    count_serves: Duration,
}

struct Counted {
    ended: Instant,
    census: Arc<Census>,
}

impl ControlPlane {
    /// Starts the writer in a thread of its own, since storing and installing block. It first installs the state as it
    /// was stored. The handle of the thread is for waiting at the end.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(
        store: Store,
        state: DesiredState,
        dataplane: Box<dyn DataPlane>,
        options: ControlOptions,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, queue) = mpsc::channel(options.queue.max(1));
        let programmed = Arc::new(Programmed {
            revision: state.revision(),
            desired: state.generation(),
            installed: None,
            installed_revision: 0,
            error: None,
        });
        let (state_out, state_in) = watch::channel(Arc::new(state));
        let (programmed_out, programmed_in) = watch::channel(programmed);
        let observer = dataplane.observer();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let writer = Writer {
            store,
            observer: Arc::clone(&observer),
            reaper: dataplane.reaper(),
            dataplane,
            state: state_out,
            programmed: programmed_out,
            chain: None,
            in_force: None,
            queue,
            retry: options.retry,
            clock: Arc::clone(&options.clock),
            sampled: None,
            counting: Counting::default(),
            held: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("control-plane".to_owned())
            .spawn(move || runtime.block_on(writer.run()))?;
        let ControlOptions { count_serves, clock, .. } = options;
        let counted = Arc::default();
        Ok((Self { jobs, state: state_in, programmed: programmed_in, observer, clock, counted, count_serves }, thread))
    }

    /// The state after the last command that was made durable.
    pub fn state(&self) -> Arc<DesiredState> {
        Arc::clone(&self.state.borrow())
    }

    /// The same, and every later one.
    pub fn watch_state(&self) -> watch::Receiver<Arc<DesiredState>> {
        self.state.clone()
    }

    /// How far the data path has followed; changes can be awaited on it.
    pub fn programmed(&self) -> watch::Receiver<Arc<Programmed>> {
        self.programmed.clone()
    }

    /// Carries out a command. When it returns, the change is durable, and the data path was given it. If it makes a rollout ask
    /// for room, as an abort does, it returns when records have been counted for that and the data path has followed.
    ///
    /// # Errors
    /// [`WriteError`]; nothing changed then, unless the control plane stopped meanwhile.
    pub async fn write(&self, command: Command) -> Result<Outcome, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { command, reply }).await.map_err(|_| WriteError::Stopped)?;
        answer.await.map_err(|_| WriteError::Stopped)?
    }

    /// What a command would do now.
    ///
    /// # Errors
    /// [`Rejected`] as for [`write`](Self::write).
    pub fn validate(&self, command: &Command) -> Result<Applied, Rejected> {
        self.state().apply(command, self.clock.now())
    }

    /// Looks at the data path, on a thread where that may block.
    ///
    /// # Errors
    /// What `look` returns, or that it panicked.
    pub async fn observe<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Observer) -> Result<T, DataPlaneError> + Send + 'static,
    ) -> Result<T, DataPlaneError> {
        let observer = Arc::clone(&self.observer);
        match tokio::task::spawn_blocking(move || look(observer.as_ref())).await {
            Ok(result) => result,
            Err(error) => Err(DataPlaneError { operation: "observe".to_owned(), cause: error.to_string() }),
        }
    }

    /// How many records name each view, as of at most [`ControlOptions::count_serves`] ago. One count is made at a time,
    /// however many ask.
    ///
    /// # Errors
    /// The data path could not be read.
    pub async fn census(&self) -> Result<Arc<Census>, DataPlaneError> {
        let mut counted = self.counted.lock().await;
        if let Some(last) = counted.as_ref().filter(|last| last.ended.elapsed() < self.count_serves) {
            return Ok(Arc::clone(&last.census));
        }
        let census = Arc::new(self.observe(|observer| observer.census()).await?);
        *counted = Some(Counted { ended: Instant::now(), census: Arc::clone(&census) });
        Ok(census)
    }

    /// The data path, to look at from a thread where that may block.
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.observer)
    }
}

struct Writer {
    store: Store,
    dataplane: Box<dyn DataPlane>,
    observer: Arc<dyn Observer>,
    reaper: Arc<dyn Reaper>,
    state: watch::Sender<Arc<DesiredState>>,
    programmed: watch::Sender<Arc<Programmed>>,
    /// How the data path goes from plan to plan, or why it does not; `None` before it has told what it runs.
    chain: Option<Result<Chain, Obstacle>>,
    /// What the data path runs; `None` before the first installation.
    in_force: Option<Arc<DesiredState>>,
    queue: mpsc::Receiver<Job>,
    retry: Duration,
    clock: Arc<dyn Clock>,
    /// When candidates were last measured.
    sampled: Option<Timestamp>,
    counting: Counting,
    held: Vec<Held>,
}

impl Writer {
    async fn run(mut self) {
        self.install();
        self.follow();
        let mut tried = Instant::now();
        loop {
            let mut jobs = Vec::new();
            let wake = (tried + self.retry).min(Instant::now() + self.patience());
            tokio::select! {
                count = self.counting.ended() => self.counted(count),
                received = self.queue.recv_many(&mut jobs, usize::MAX) => {
                    if received == 0 {
                        return;
                    }
                    self.serve(jobs);
                }
                () = tokio::time::sleep_until(wake) => {}
            }
            // Whatever came: commands that change nothing must keep neither from being tried again nor from the clock.
            if tried.elapsed() >= self.retry {
                self.look_again();
                tried = Instant::now();
            }
            self.follow();
            self.release();
        }
    }

    /// Tries again what could not be installed, else looks whether ports came or went.
    fn look_again(&mut self) {
        if self.programmed.borrow().reason().is_some() {
            self.install();
        } else {
            self.follow_ports();
        }
    }

    /// Carries out commands that came together: one transaction, one installation.
    fn serve(&mut self, jobs: Vec<Job>) {
        let old = self.state();
        let now = self.clock.now();
        let mut next: Option<DesiredState> = None;
        let mut all = Vec::new();
        let mut accepted = Vec::new();
        for Job { command, reply } in jobs {
            match next.as_ref().unwrap_or(&old).apply(&command, now) {
                Ok(Applied { state, changes, changed }) => {
                    if changed {
                        all.extend(changes.iter().cloned());
                        next = Some(state);
                    }
                    let generation = next.as_ref().unwrap_or(&old).generation();
                    accepted.push(Accepted { reply, changes, generation });
                }
                Err(rejected) => send(reply, Err(rejected.into())),
            }
        }
        if let Some(next) = next
            && let Err(error) = self.adopt(&old, next, &all)
        {
            tracing::error!(%error, "change not stored");
            let error = Arc::new(error);
            for Accepted { reply, .. } in accepted {
                send(reply, Err(WriteError::Store(Arc::clone(&error))));
            }
            return;
        }
        // Rollouts go as far as the data path lets them before anybody is told; what is measured is looked at afterwards.
        self.answer();
        self.reply(&old, accepted);
    }

    fn state(&self) -> Arc<DesiredState> {
        Arc::clone(&self.state.borrow())
    }

    /// Makes a state durable, tells everybody, and installs it.
    fn adopt(&mut self, old: &DesiredState, next: DesiredState, changes: &[Change]) -> Result<(), StoreError> {
        let real = changes.iter().filter(|change| change.action != Action::Unchanged);
        let touched: BTreeSet<ResourcePath> = real.map(|change| change.path.clone()).collect();
        self.store.commit(old, &next, &touched.into_iter().collect::<Vec<_>>())?;
        self.state.send_replace(Arc::new(next));
        self.install();
        Ok(())
    }

    fn install(&mut self) {
        let state = self.state();
        let (revision, desired) = (state.revision(), state.generation());
        let before = Arc::clone(&self.programmed.borrow());
        let (installed, installed_revision, obstacle) = match self.program(&state) {
            Ok(installed) => {
                self.in_force = Some(Arc::clone(&state));
                (Some(installed), revision, None)
            }
            Err(obstacle) => (before.installed.clone(), before.installed_revision, Some(obstacle)),
        };
        let is_alarm = obstacle.as_ref().is_some_and(Obstacle::is_alarm);
        let error = obstacle.map(DataPlaneError::from);
        self.tell(Programmed { revision, desired, installed, installed_revision, error }, is_alarm);
    }

    /// Has the data path run a state. What it runs is asked once; if that contradicts what is stored, a restart with other
    /// files is needed.
    fn program(&mut self, state: &DesiredState) -> Result<Installed, Obstacle> {
        let chain = match &mut self.chain {
            Some(chain) => chain,
            None => {
                let in_force = self.dataplane.in_force(state.setting().cluster.seed)?;
                self.chain.insert(Chain::new(in_force, state))
            }
        };
        let chain = chain.as_mut().map_err(|obstacle| obstacle.clone())?;
        chain.follow(state, self.dataplane.as_mut(), &mut self.counting)
    }

    /// Notes which ports wait since interfaces went.
    fn follow_ports(&mut self) {
        let before = Arc::clone(&self.programmed.borrow());
        if let (Some(pending), Some(installed)) = (self.dataplane.changed_ports(), &before.installed) {
            let installed = Some(Installed { pending, ..installed.clone() });
            self.tell(Programmed { installed, ..Programmed::clone(&before) }, false);
        }
    }

    fn tell(&mut self, after: Programmed, is_alarm: bool) {
        let (before, desired) = (Arc::clone(&self.programmed.borrow()), after.desired);
        if after.reason() != before.reason() {
            match after.reason() {
                Some(reason) if is_alarm => tracing::error!(generation = %desired, reason, "data path not programmed"),
                Some(reason) => tracing::warn!(generation = %desired, reason, "data path not programmed in full"),
                None => tracing::info!(generation = %desired, "data path programmed"),
            }
        }
        self.programmed.send_replace(Arc::new(after));
    }
}
