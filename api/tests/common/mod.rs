//! A server over a data path in memory.

use api::metrics::Metrics;
use api::v1;
use api::v1::resource::Resource as Union;
use api::{Address, Listener};
use chain_graph::Image;
use chain_graph::plan::PlanRef;
use state_sync::{
    Census, ControlOptions, ControlPlane, Counters, DataPlane, DataPlaneError, DataPlaneStatus, FlowEntry, FlowPage,
    FlowQuery, FlowUsage, Hop, HopReason, HopTarget, Installed, Observer, Reaper, Store, Trace, TraceEnd, TraceQuery,
    ViewCensus, ViewCounters,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;
use xdp_layout::flow::{FlowKey, FlowRecord, FlowState, record_flags};
use xdp_layout::{Addr, Counter, DropReason, InstanceId, Position, ReplicaSetId, TenantId, ViewId};

/// Says always the same, apart from the image it was given.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Option<Arc<Image>>>>);

impl Fake {
    fn image(&self) -> Option<Arc<Image>> {
        self.0.lock().expect("no panic before").clone()
    }
}

impl DataPlane for Fake {
    fn in_force(&self, _seed: [u64; 2]) -> Result<Option<PlanRef>, DataPlaneError> {
        Ok(None)
    }

    fn prepare(&mut self, _image: &Arc<Image>) -> Result<(), DataPlaneError> {
        Ok(())
    }

    fn enter(&mut self, image: &Arc<Image>) -> Result<Installed, DataPlaneError> {
        *self.0.lock().expect("no panic before") = Some(Arc::clone(image));
        let plan = image.plan();
        Ok(Installed { generation: plan.generation(), digest: plan.digest(), pending: Vec::new(), leftover: None })
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
        let image = self.image();
        let tenants = image.iter().flat_map(|image| image.tenants().keys());
        Ok(DataPlaneStatus {
            generation: image.as_ref().map(|image| image.plan().generation()),
            digest: image.as_ref().map_or(0, |image| image.plan().digest()),
            flow_capacity: 100,
            tenants: tenants.map(|id| (*id, FlowUsage { unanswered: 0, established: 1 })).collect(),
        })
    }

    fn counters(&self) -> Result<Counters, DataPlaneError> {
        let tenant = TenantId::new(1).expect("a number");
        Ok(Counters {
            events: [(Counter::Delivered, 3), (Counter::TierRecord, 2)].into(),
            drops: [(DropReason::NoMatch, 7)].into(),
            tenant_drops: [((tenant, DropReason::NoMatch), 5)].into(),
            instances: Default::default(),
        })
    }

    fn flows(&self, query: &FlowQuery) -> Result<FlowPage, DataPlaneError> {
        let tenant = query.tenant.map_or(1, TenantId::get);
        let address = Addr::v4([192, 0, 2, 1]);
        let key = FlowKey { a: address, b: address, a_port: 80, b_port: 1000, tenant_protocol: tenant | 6 << 24 };
        // The client is the higher end: its flag is absent.
        let flags = record_flags::FROM_CLIENT;
        let mut record = FlowRecord {
            view: 1,
            state: FlowState::Established as u32,
            entry: 1,
            exit: 2,
            path_len: 1,
            flags,
            ..FlowRecord::default()
        };
        record.path[0] = 1;
        Ok(FlowPage { flows: vec![FlowEntry { key, record, idle: Duration::from_millis(1500) }], next: None })
    }

    /// One record of the first view; views are watched and nothing happens in them.
    fn census(&self) -> Result<Census, DataPlaneError> {
        let (tenant, view) = (TenantId::new(1).expect("a number"), ViewId::new(1).expect("a number"));
        let generation = self.image().map(|image| image.plan().generation());
        let found = ViewCensus { records: 1, instances: Default::default() };
        Ok(Census { generation, views: [((tenant, view), found)].into(), ..Census::default() })
    }

    fn view_counters(&self, _tenant: TenantId, _view: ViewId) -> Result<Option<ViewCounters>, DataPlaneError> {
        Ok(Some(ViewCounters::default()))
    }

    fn trace(&self, _query: &TraceQuery) -> Result<Trace, DataPlaneError> {
        let target = HopTarget::Instance {
            instance: InstanceId::new(1).expect("a number"),
            replica_set: ReplicaSetId::new(1).expect("a number"),
            position: Position::new(1).expect("a number"),
        };
        Ok(Trace {
            hops: vec![Hop { target, reason: HopReason::TableSlot(9) }],
            end: TraceEnd::Dropped(DropReason::NoMatch),
            view: ViewId::new(1),
            generation: self.image().map(|image| image.plan().generation()),
            has_record: false,
        })
    }
}

/// A running server; ends with it.
pub(crate) struct Server {
    pub(crate) metrics: Arc<Metrics>,
    address: Address,
    stop: Option<oneshot::Sender<()>>,
    serving: tokio::task::JoinHandle<Result<(), api::ServeError>>,
    directory: PathBuf,
}

impl Server {
    pub(crate) async fn start(test: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("api-{test}-{}", std::process::id()));
        let (store, state) =
            Store::open(&directory.join("state.redb"), 1_000_000, Some([1, 2])).expect("open the store");
        let (control, _thread) =
            ControlPlane::start(store, state, Box::new(Fake::default()), ControlOptions::default()).expect("start");
        let mut programmed = control.programmed();
        programmed.wait_for(|now| now.reason().is_none()).await.expect("the first installation");
        let metrics = Arc::new(Metrics::new(control.clone()).expect("metrics"));
        let listener = Listener::bind(&"127.0.0.1:0".parse().expect("an address")).await.expect("bind");
        let Listener::Tcp(tcp) = &listener else { panic!("not TCP") };
        let address = Address::Tcp(tcp.local_addr().expect("a bound address"));
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let serving = tokio::spawn(api::serve(listener, control, Arc::clone(&metrics), shutdown));
        Self { metrics, address, stop: Some(stop), serving, directory }
    }

    /// Stops it; returns when requests that are under way were answered.
    #[allow(dead_code, reason = "not every test stops its server")]
    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        (&mut self.serving).await.expect("no panic").expect("served");
    }

    pub(crate) async fn channel(&self) -> api::client::Channel {
        api::client::connect(&self.address).await.expect("connect")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

pub(crate) fn resource(union: Union) -> v1::Resource {
    v1::Resource { resource: Some(union) }
}

/// A tenant with a graph through one function; the graph comes last.
pub(crate) fn chain() -> Vec<v1::Resource> {
    let attachment = |name: &str, side: v1::Side, interface: &str| {
        Union::Attachment(v1::Attachment {
            name: format!("tenants/acme/attachments/{name}"),
            side: side.into(),
            interface: interface.to_owned(),
            ..v1::Attachment::default()
        })
    };
    let port =
        |number: u8| Some(v1::Port { interface: format!("p{number}"), mac: format!("02:00:00:00:00:0{number}") });
    let set = "networkFunctions/fw/replicaSets/v1";
    let all = [
        Union::Tenant(v1::Tenant {
            name: "tenants/acme".to_owned(),
            budget: Some(v1::Budget { unanswered: 10, established: 20 }),
            ..v1::Tenant::default()
        }),
        attachment("clients", v1::Side::Client, "eth0"),
        attachment("servers", v1::Side::Server, "eth1"),
        Union::NetworkFunction(v1::NetworkFunction {
            name: "networkFunctions/fw".to_owned(),
            forwarding: v1::Forwarding::Transparent.into(),
            tuple_effect: v1::TupleEffect::Keeps.into(),
            ..v1::NetworkFunction::default()
        }),
        Union::ReplicaSet(v1::ReplicaSet { name: set.to_owned(), max_members: 10, ..v1::ReplicaSet::default() }),
        Union::Instance(v1::Instance {
            name: format!("{set}/instances/a"),
            inside: port(1),
            outside: port(2),
            ..v1::Instance::default()
        }),
        Union::Graph(v1::Graph {
            name: "tenants/acme/graphs/web".to_owned(),
            client_attachments: vec!["clients".to_owned()],
            server_attachments: vec!["servers".to_owned()],
            nodes: vec![v1::GraphNode { name: "first".to_owned(), replica_set: set.to_owned() }],
            edges: vec![
                v1::GraphEdge { to: "first".to_owned(), ..v1::GraphEdge::default() },
                v1::GraphEdge { from: "first".to_owned(), ..v1::GraphEdge::default() },
            ],
            ..v1::Graph::default()
        }),
    ];
    all.into_iter().map(resource).collect()
}
