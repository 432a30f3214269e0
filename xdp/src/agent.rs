//! The agent of a front end: follows images, watches interfaces, expires records, answers the data path's questions.

use crate::ask::FrameSocket;
use crate::cache::PathCache;
use crate::clock;
use crate::error::{Error, Result, describe};
use crate::events;
use crate::install::{Installer, Prepared};
use crate::links::{self, Links};
use crate::loader::{Hook, Loader};
use crate::maps::{self, Gauges, Maps};
use crate::observe::Watcher;
use crate::views::Watch;
use aya::maps::{MapData, MapError, RingBuf};
use chain_graph::Image;
use chain_graph::map::Map;
use chain_graph::plan::PlanRef;
use imbl::OrdSet;
use state_sync::{DataPlane, DataPlaneError, Installed, Observer, PendingPort, Reaper, ViewCounters};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use xdp_forward::sweep::idle_class;
use xdp_layout::config::{Config, IdleClass, MAGIC};
use xdp_layout::event::Sweep;
use xdp_layout::flow::FlowKey;
use xdp_layout::plan::ViewKey;
use xdp_layout::port::{Instance, Target};
use xdp_layout::{AttachmentId, Counter, InstanceId, TenantId, ViewId};

/// MAC address that every front end answers with: hosts and routed functions keep it when a flow moves between nodes.
/// Locally administered.
pub const FRONT_END_MAC: [u8; 6] = [0x02, 0x53, 0x57, 0x59, 0x44, 0x01];

/// How the agent runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Records the connection table holds, when it is created; 1 to 2^26.
    pub flow_capacity: u32,
    /// How long a record stays without a frame, at least. It may stay longer by the sweep's interval, and by a twenty-eighth of that
    /// and the longest limit together.
    pub idle: IdleLimits,
    /// Time between two scans of the connection table for idle records.
    pub sweep_interval: Duration,
}

/// Idle limits by state of the flow. The defaults are those that operators of gateway load balancers know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdleLimits {
    /// One direction seen.
    pub unanswered: Duration,
    /// TCP, both directions seen.
    pub established_tcp: Duration,
    /// Other protocols, both directions seen.
    pub established_other: Duration,
    /// TCP after FINs or RST.
    pub closing: Duration,
}

impl IdleLimits {
    /// The limits in ticks, by [`IdleClass`].
    fn ticks(&self, rate: u32) -> [u32; 4] {
        let mut classes = [0; 4];
        classes[IdleClass::Unanswered as usize] = ticks(self.unanswered, rate);
        classes[IdleClass::EstablishedTcp as usize] = ticks(self.established_tcp, rate);
        classes[IdleClass::EstablishedOther as usize] = ticks(self.established_other, rate);
        classes[IdleClass::Closing as usize] = ticks(self.closing, rate);
        classes
    }
}

fn ticks(time: Duration, rate: u32) -> u32 {
    (time.as_secs_f64() * f64::from(rate)) as u32
}

impl Default for Options {
    fn default() -> Self {
        Self {
            flow_capacity: 1 << 20,
            idle: IdleLimits {
                unanswered: Duration::from_secs(30),
                established_tcp: Duration::from_secs(350),
                established_other: Duration::from_secs(120),
                closing: Duration::from_secs(10),
            },
            sweep_interval: Duration::from_secs(2),
        }
    }
}

/// What install, sweep and the link watch share.
pub(crate) struct Inner {
    loader: Loader,
    installer: Installer,
    pub(crate) cache: PathCache,
    image: Option<Arc<Image>>,
    /// The image that was prepared last, with what is to follow; nothing is, where it is in force already.
    prepared: Option<(Arc<Image>, Option<Prepared>)>,
    /// Interfaces as last read; `None` after a change.
    links: Option<Arc<Links>>,
    /// Programs may be on interfaces that need none: after a start, and after an attempt that was not entered.
    has_leftovers: bool,
    /// Records of tenants that are gone may still be there: after a start, after a deletion until it is carried out.
    has_leavers: bool,
}

impl Inner {
    /// Writes an image beside what is in force.
    fn prepare(&mut self, image: &Arc<Image>) -> Result<()> {
        self.prepared = None;
        self.claim(image.plan().content().seed)?;
        // Interfaces are read again when one has changed, which the watch tells, and when one is missing.
        let known = self.links.take().map(|known| (self.installer.place(image, &known), known));
        let (placed, links) = match known.filter(|(placed, _)| placed.pending.is_empty()) {
            Some(known) => known,
            None => {
                let links = Arc::new(links::dump()?);
                (self.installer.place(image, &links), links)
            }
        };
        self.links = Some(Arc::clone(&links));
        let is_same = self.image.as_ref().is_some_and(|known| Arc::ptr_eq(known, image));
        let is_done = is_same && self.installer.is_current(&links) && !self.has_leavers;
        let prepared = if is_done {
            None
        } else {
            // Programs are put on interfaces, and an attempt that is not entered may leave some there.
            self.has_leftovers |= self.installer.is_unknown();
            let prepared = self.installer.prepare(image, placed, &links, &mut self.loader)?;
            self.has_leavers |= prepared.loses_tenants();
            Some(prepared)
        };
        self.prepared = Some((Arc::clone(image), prepared));
        Ok(())
    }

    /// Puts an image in force. The tenants that are gone with it, whose records nobody needs any more.
    fn enter(&mut self, image: &Arc<Image>) -> Result<Vec<TenantId>> {
        // Interfaces that came or went meanwhile have made void what was prepared.
        if !self.prepared.as_ref().is_some_and(|(prepared, _)| Arc::ptr_eq(prepared, image)) {
            self.prepare(image)?;
        }
        let Some((_, Some(prepared))) = self.prepared.take() else { return Ok(Vec::new()) };
        let entered = self.installer.enter(image, prepared, &mut self.loader);
        if self.generation() == Some(image.plan().generation()) {
            // Frames go by it, whatever could not be done behind the switch.
            self.image = Some(Arc::clone(image));
        }
        entered?;
        if std::mem::take(&mut self.has_leftovers) {
            self.detach_leftovers().inspect_err(|_| self.has_leftovers = true)?;
        }
        if self.has_leavers { self.installer.leavers(image) } else { Ok(Vec::new()) }
    }

    /// The configuration, if the data path is that of the cluster with this seed or of none. Views, records and ids of
    /// another state mean other things.
    fn owned(&self, seed: [u64; 2]) -> Result<Config> {
        let config = self.installer.maps.config.get(&0, 0).map_err(unconfigured)?;
        if config.flow_key != seed && config.flow_key != [0, 0] {
            return Err(Error::Foreign { path: self.loader.directory().to_owned() });
        }
        Ok(config)
    }

    /// Makes the data path that of the cluster with this seed.
    fn claim(&mut self, seed: [u64; 2]) -> Result<()> {
        let config = self.owned(seed)?;
        if config.flow_key == seed {
            return Ok(());
        }
        self.installer.maps.config.set(0, Config { flow_key: seed, ..config }, 0).map_err(unconfigured)
    }

    fn detach_leftovers(&mut self) -> Result<()> {
        for (ifindex, hook) in self.loader.attached()? {
            if !self.installer.placed().interfaces.contains_key(&ifindex) {
                self.loader.detach(ifindex, hook)?;
            }
        }
        Ok(())
    }

    /// Attachments as the last install placed them.
    pub(crate) fn attachments(&self) -> &Map<AttachmentId, Target> {
        &self.installer.placed().attachments
    }

    /// Instances as the last install placed them.
    pub(crate) fn instances(&self) -> &Map<InstanceId, Instance> {
        &self.installer.placed().instances
    }

    /// Image in force.
    pub(crate) fn image(&self) -> Option<&Arc<Image>> {
        self.image.as_ref()
    }

    /// Usage of a tenant's budget.
    pub(crate) fn usage(&self, tenant: u32) -> Result<xdp_layout::port::Usage> {
        Ok(self.installer.maps.usage.get(&tenant)?.unwrap_or_default())
    }

    /// What is known of a host.
    pub(crate) fn neighbour(
        &self,
        key: &xdp_layout::flow::NeighbourKey,
    ) -> Result<Option<xdp_layout::flow::Neighbour>> {
        self.installer.maps.neighbours.get(key)
    }

    /// Generation in force; `None` for none.
    pub(crate) fn generation(&self) -> Option<xdp_layout::Generation> {
        xdp_layout::Generation::new(self.installer.generation())
    }

    /// Forgets what a deleted tenant used and might have.
    pub(crate) fn forget_tenant(&mut self, tenant: u32) -> Result<()> {
        self.installer.maps.usage.delete(&tenant)?;
        self.installer.maps.tenants.delete(&tenant)
    }

    /// What was counted for a view, if it is watched.
    pub(crate) fn view_counters(&self, key: ViewKey) -> Result<Option<ViewCounters>> {
        self.installer.watch().read(key)
    }

    /// See [`PathCache::fit`].
    fn fit_cache(&mut self, records: u64, turned_away: u64) -> Result<()> {
        self.cache.fit(&self.loader, records, turned_away)
    }

    /// The tick counter.
    pub(crate) fn ticks(&self) -> Result<u64> {
        clock::ticks(&self.loader)
    }
}

/// The front end's data plane.
pub struct Agent {
    inner: Arc<Mutex<Inner>>,
    watcher: Arc<Watcher>,
    stop: Arc<AtomicBool>,
    /// Pending ports that the control plane knows of.
    told: OrdSet<PendingPort>,
}

pub(crate) fn locked(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    // A panic while installing leaves maps that the next install mends.
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Agent {
    /// Loads the programs under `bpffs` and takes over what runs there already. Starts the threads that watch interfaces,
    /// expire records and answer the data path.
    ///
    /// # Errors
    /// See [`Error`]: no privileges, a kernel that is too old, another agent at the same directory.
    pub fn open(bpffs: &Path, options: Options) -> Result<Self> {
        let mut loader = Loader::open(bpffs, options.flow_capacity, &[Hook::Port])?;
        let mut maps = Maps::open(&mut loader)?;
        let watch = Watch::open(&mut loader)?;
        let gauges = Gauges::open(&mut loader)?;
        let ring = maps::events(&mut loader)?;
        let rate = clock::rate(&loader)?;
        configure(&mut maps, options, rate)?;
        let mut cache = PathCache::open(&mut loader)?;
        let longest = options.idle.ticks(rate).into_iter().max().unwrap_or(0);
        let longest = longest.saturating_add(ticks(options.sweep_interval, rate));
        cache.configure(&loader, longest, gauges.count(Counter::CachePathsFull)?)?;
        let installer = Installer::new(maps, watch)?;
        let inner = Arc::new(Mutex::new(Inner {
            loader,
            installer,
            cache,
            image: None,
            prepared: None,
            links: None,
            has_leftovers: true,
            has_leavers: true,
        }));
        let watcher = Arc::new(Watcher::new(Arc::clone(&inner), gauges, rate));
        let agent = Self { inner, watcher, stop: Arc::new(AtomicBool::new(false)), told: OrdSet::new() };
        agent.start_threads(ring, options, rate)?;
        Ok(agent)
    }

    fn start_threads(&self, ring: RingBuf<MapData>, options: Options, rate: u32) -> Result<()> {
        let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).map_err(|source| Error::Host {
                operation: "start thread",
                object: name.to_owned(),
                source,
            })
        };
        let (inner, stop) = (Arc::clone(&self.inner), Arc::clone(&self.stop));
        let watch = links::Watch::new()?;
        start("links", Box::new(move || follow_links(&watch, &inner, &stop)))?;
        let (inner, watcher, stop) = (Arc::clone(&self.inner), Arc::clone(&self.watcher), Arc::clone(&self.stop));
        start("sweep", Box::new(move || sweep(&inner, &watcher, &stop, options, rate)))?;
        let (inner, stop) = (Arc::clone(&self.inner), Arc::clone(&self.stop));
        let socket = FrameSocket::open()?;
        start("events", Box::new(move || events::answer(ring, &socket, &inner, &stop)))
    }
}

impl Drop for Agent {
    /// Programs, maps and links stay: the data path goes on.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn unconfigured(source: MapError) -> Error {
    Error::Map { map: xdp_layout::names::CONFIG, source }
}

/// Writes the configuration. Keys survive a restart, since records are tagged with them.
fn configure(maps: &mut Maps, options: Options, rate: u32) -> Result<()> {
    let known = maps.config.get(&0, 0).map_err(unconfigured)?;
    let tag_key = if known.magic == MAGIC { known.tag_key } else { random()? };
    let config = Config {
        magic: MAGIC,
        version: xdp_layout::LAYOUT_VERSION,
        tag_key,
        ticks_per_second: rate,
        node: 1,
        idle: options.idle.ticks(rate),
        mac: FRONT_END_MAC,
        ..known
    };
    maps.config.set(0, config, 0).map_err(unconfigured)
}

impl DataPlane for Agent {
    fn in_force(&self, seed: [u64; 2]) -> std::result::Result<Option<PlanRef>, DataPlaneError> {
        let inner = locked(&self.inner);
        inner.owned(seed).map_err(|e| describe("take over what runs", &e))?;
        Ok(inner.installer.in_force())
    }

    fn prepare(&mut self, image: &Arc<Image>) -> std::result::Result<(), DataPlaneError> {
        locked(&self.inner).prepare(image).map_err(|e| describe("prepare the plan", &e))
    }

    fn enter(&mut self, image: &Arc<Image>) -> std::result::Result<Installed, DataPlaneError> {
        let (entered, is_in_force, pending) = {
            let mut inner = locked(&self.inner);
            let entered = inner.enter(image).map_err(|e| describe("enter the plan", &e));
            let is_in_force = inner.generation() == Some(image.plan().generation());
            (entered, is_in_force, inner.installer.placed().pending.clone())
        };
        // Once frames go by the plan it is entered, and nothing that is left to do may keep the next one waiting.
        let expelled = entered.and_then(|gone| {
            let expel = || self.watcher.expel(&gone).map_err(|e| describe("delete the records of deleted tenants", &e));
            if gone.is_empty() { Ok(()) } else { expel() }
        });
        let leftover = match expelled {
            Ok(()) => None,
            Err(error) if is_in_force => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        locked(&self.inner).has_leavers = leftover.is_some();
        self.told = pending.clone();
        Ok(Installed {
            generation: image.plan().number().generation,
            digest: image.plan().digest(),
            pending: pending.into_iter().collect(),
            leftover,
        })
    }

    fn changed_ports(&mut self) -> Option<Vec<PendingPort>> {
        let inner = locked(&self.inner);
        let now = &inner.installer.placed().pending;
        if *now == self.told {
            return None;
        }
        self.told = now.clone();
        Some(now.iter().cloned().collect())
    }

    fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.watcher) as Arc<dyn Observer>
    }

    fn reaper(&self) -> Arc<dyn Reaper> {
        Arc::clone(&self.watcher) as Arc<dyn Reaper>
    }
}

/// Installs the image again whenever interfaces change, so that ports come and go with them.
fn follow_links(watch: &links::Watch, inner: &Mutex<Inner>, stop: &AtomicBool) {
    loop {
        let waited = watch.wait();
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = waited {
            tracing::warn!(%error, "watching network interfaces failed; ports follow at the next change of the plan");
            return;
        }
        let mut inner = locked(inner);
        inner.links = None;
        inner.prepared = None;
        if let Some(image) = inner.image.clone()
            && let Err(error) = inner.enter(&image)
        {
            tracing::warn!(error = %describe("follow interfaces", &error), "ports not up to date");
        }
    }
}

/// Has records deleted or reset, in portions, so that installs need not wait for all of them.
pub(crate) fn expire(inner: &Mutex<Inner>, keys: &[FlowKey], sweep: Sweep, view: Option<ViewId>) -> Result<u64> {
    keys.chunks(clock::KEYS_PER_RUN).map(|keys| clock::expire(&locked(inner).loader, keys, sweep, view)).sum()
}

/// Proposes idle records to the data path for deletion, forever.
fn sweep(inner: &Mutex<Inner>, watcher: &Watcher, stop: &AtomicBool, options: Options, rate: u32) {
    let limits = options.idle.ticks(rate);
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(options.sweep_interval);
        let pass = || -> Result<u64> {
            let now = locked(inner).ticks()? as u32;
            let (mut idle, mut records) = (Vec::new(), 0);
            watcher.gauges().scan(|key, record| {
                records += 1;
                if now.wrapping_sub(record.last_seen) as i32 >= limits[idle_class(key, record.state) as usize] as i32 {
                    idle.push(*key);
                }
            })?;
            let turned_away = watcher.gauges().count(Counter::CachePathsFull)?;
            locked(inner).fit_cache(records, turned_away)?;
            expire(inner, &idle, Sweep::Idle, None)
        };
        match pass() {
            Ok(0) => {}
            Ok(expired) => tracing::debug!(expired, "idle records deleted"),
            Err(error) => tracing::warn!(error = %describe("expire records", &error), "idle records stay"),
        }
    }
}

/// A random number of the kernel's.
pub(crate) fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    let read =
        std::fs::File::open("/dev/urandom").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    read.map_err(|source| Error::Host { operation: "read", object: "/dev/urandom".to_owned(), source })?;
    Ok(u64::from_ne_bytes(bytes))
}
