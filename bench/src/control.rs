//! From an API write to the data path, and the start, with a thousand tenants.
//!
//! Each tenant has two attachments (a VLAN on two interfaces) and a graph through three functions of two instances each. A
//! hundred tenants share a function by VLAN tags: 30 functions, 60 instances, 122 interfaces, 14,000 ports, 1000 graphs.

use crate::row::{Bar, Report, Row, quantile};
use anyhow::{Context as _, bail, ensure};
use api::v1::{self, resource::Resource as Kind};
use aya::programs::{SchedClassifier, TcAttachType};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use testbed::{Namespace, Process, Testbed, binary};

const TENANTS: u32 = 1000;
const FUNCTIONS: [&str; 3] = ["fw", "ids", "dpi"];
/// Tenants `t` with equal `t % POOLS` share their functions.
const POOLS: u32 = 10;
const INSTANCES: u32 = 2;
/// Nodes of a long view.
const LONG_VIEW: u32 = 10;
/// Resources applied at once: messages stay below what gRPC takes by default.
const BATCH: usize = 1500;
/// Between two questions whether the process serves: what a start is longer at most.
const POLL: Duration = Duration::from_millis(1);
/// Longest wait for the process to serve and to be programmed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn measure(report: &mut Report, quick: bool, wanted: &dyn Fn(&str) -> bool) -> anyhow::Result<()> {
    let (writes, starts) = (wanted("api_to_datapath"), wanted("cold_start_1000_tenants"));
    let long_views = wanted("intent_to_datapath");
    if !writes && !starts && !long_views {
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let testbed = Testbed::new()?;
    let node = testbed.node().namespace().clone();
    let far = testbed.node().add_namespace("far")?;
    link_up(&node, &far, interface_names())?;
    let mut product = Product::new(node);
    product.start(&runtime)?;
    runtime.block_on(configure(&product))?;
    if writes {
        runtime.block_on(sequential_writes(report, &product, if quick { 50 } else { 400 }))?;
    }
    if starts {
        let rounds = if quick { 2 } else { 7 };
        let (mut fresh, mut warm) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            product.stop()?;
            warm.push(product.start(&runtime)?);
            product.stop()?;
            product.unpin()?;
            product.settle()?;
            fresh.push(product.start(&runtime)?);
        }
        for (name, times) in [("fresh_maps", &fresh), ("pinned_maps", &warm)] {
            let row = Row::new(format!("cold_start_1000_tenants_{name}"), quantile(times, 0.5), "s");
            report.add(row.beside("slowest", quantile(times, 1.0)).bar(Bar::AtMost(1.0)))?;
        }
    }
    if long_views {
        link_up(&product.namespace, &far, long_functions().flat_map(|function| ports_of(&function, 1)))?;
        runtime.block_on(long_writes(report, &product, if quick { 50 } else { 400 }))?;
    }
    Ok(())
}

/// A function of a pool.
fn pooled(function: &str, tenant: u32) -> String {
    format!("{function}{}", tenant % POOLS)
}

fn functions() -> impl Iterator<Item = String> {
    (0..POOLS).flat_map(|pool| FUNCTIONS.map(|function| pooled(function, pool)))
}

fn interface_names() -> impl Iterator<Item = String> {
    let ports = functions().flat_map(|function| ports_of(&function, INSTANCES));
    ["clients".to_owned(), "servers".to_owned()].into_iter().chain(ports)
}

/// Interfaces of a function's instances.
fn ports_of(function: &str, instances: u32) -> Vec<String> {
    (0..instances).flat_map(|i| ["in", "out"].map(|side| format!("{function}-{i}-{side}"))).collect()
}

/// The functions of the long views.
fn long_functions() -> impl Iterator<Item = String> {
    (0..LONG_VIEW).map(|index| format!("long{index}"))
}

/// Bytes of this process in memory.
pub(crate) fn rss() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/statm").context("read /proc/self/statm")?;
    let pages = status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).context("a number of pages")?;
    Ok(pages * 4096)
}

/// Makes interfaces that lead to another namespace.
pub(crate) fn link_up(node: &Namespace, far: &Namespace, names: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for name in names {
        lines.push(format!("link add name {name} type veth peer name {name} netns {}", far.name()));
        lines.push(format!("link set {name} up"));
    }
    node.ip(&lines)?;
    let ups: Vec<String> = lines.iter().filter(|line| line.starts_with("link set")).cloned().collect();
    Ok(far.ip(&ups)?)
}

/// `switchyard dev` over one state directory.
struct Product {
    namespace: Namespace,
    folder: PathBuf,
    bpffs: PathBuf,
    process: Option<Process>,
}

impl Product {
    fn new(namespace: Namespace) -> Self {
        let folder = namespace.directory().to_owned();
        let bpffs = PathBuf::from("/sys/fs/bpf").join(format!("{}-control", namespace.name()));
        Self { namespace, folder, bpffs, process: None }
    }

    fn address(&self) -> api::Address {
        api::Address::Unix(self.folder.join("api.sock"))
    }

    /// Starts the process. Seconds until it says that the data path runs the desired plan in full.
    fn start(&mut self, runtime: &tokio::runtime::Runtime) -> anyhow::Result<f64> {
        // The sweep of idle records and the like are as in production; only the addresses are ours.
        let mut command = self.namespace.command(binary());
        command.arg("dev").arg("--listen").arg(self.folder.join("api.sock")).arg("--state-dir").arg(&self.folder);
        command.arg("--bpffs").arg(&self.bpffs).args(["--log", "warn"]);
        let began = Instant::now();
        let process = self.namespace.spawn(command)?;
        let served = runtime.block_on(async {
            loop {
                if let Ok(channel) = api::client::connect(&self.address()).await {
                    let mut system = api::client::SystemServiceClient::new(channel);
                    let status = system.get_status(v1::GetStatusRequest {}).await;
                    if status.is_ok_and(|status| status.get_ref().programmed) {
                        return Ok(began.elapsed().as_secs_f64());
                    }
                }
                if began.elapsed() > PATIENCE {
                    bail!("not programmed within {PATIENCE:?}: {}", process.stderr());
                }
                // Who asks without a pause takes a processor from who is starting.
                tokio::time::sleep(POLL).await;
            }
        });
        self.process = Some(process);
        served
    }

    /// Ends the process the hard way.
    fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    fn unpin(&self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(&self.bpffs).with_context(|| format!("remove {}", self.bpffs.display()))
    }

    /// Waits until the kernel has taken off every program that was unpinned, which it does in the background under the lock
    /// that attaching needs: a node that starts has nothing to take off.
    fn settle(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        self.namespace.run(|| {
            for interface in interface_names() {
                while !attached(&interface)?.is_empty() {
                    ensure!(
                        began.elapsed() < PATIENCE,
                        "{interface} still has a program {PATIENCE:?} after it was unpinned"
                    );
                    std::thread::yield_now();
                }
            }
            Ok(())
        })?
    }
}

/// Programs at an interface of the calling thread's namespace.
fn attached(interface: &str) -> anyhow::Result<Vec<u32>> {
    let (_, programs) = SchedClassifier::query_tcx(interface, TcAttachType::Ingress)
        .with_context(|| format!("ask for the programs of {interface}"))?;
    Ok(programs.iter().map(aya::programs::ProgramInfo::id).collect())
}

impl Drop for Product {
    fn drop(&mut self) {
        if let Err(error) = self.stop().and_then(|()| self.unpin()) {
            eprintln!("{error:#}");
        }
    }
}

fn resource(kind: Kind) -> v1::Resource {
    v1::Resource { resource: Some(kind) }
}

fn set(function: &str) -> String {
    format!("networkFunctions/{function}/replicaSets/v1")
}

fn port(interface: String, number: u32) -> v1::Port {
    v1::Port { interface, mac: format!("02:00:00:00:{:02x}:{:02x}", number >> 8, number & 0xff) }
}

fn instance(function: &str, number: u32, weight: u32) -> v1::Instance {
    v1::Instance {
        name: format!("{}/instances/i{number}", set(function)),
        weight: Some(weight),
        inside: Some(port(format!("{function}-{number}-in"), 2 * number)),
        outside: Some(port(format!("{function}-{number}-out"), 2 * number + 1)),
        ..v1::Instance::default()
    }
}

/// A tenant's graph through the functions of its pool in a row.
fn graph(number: u32, functions: &[&str]) -> v1::Graph {
    chain(number, &functions.iter().map(|function| pooled(function, number)).collect::<Vec<_>>())
}

/// A tenant's graph through functions in a row.
fn chain(number: u32, functions: &[String]) -> v1::Graph {
    let tenant = format!("tenants/t{number}");
    let node = |name: &String| v1::GraphNode { name: name.clone(), replica_set: set(name) };
    let edge = |i: usize| v1::GraphEdge {
        from: i.checked_sub(1).map(|i| functions[i].clone()).unwrap_or_default(),
        to: functions.get(i).cloned().unwrap_or_default(),
        ..v1::GraphEdge::default()
    };
    v1::Graph {
        name: format!("{tenant}/graphs/web"),
        client_attachments: vec!["clients".to_owned()],
        server_attachments: vec!["servers".to_owned()],
        nodes: functions.iter().map(node).collect(),
        edges: (0..=functions.len()).map(edge).collect(),
        ..v1::Graph::default()
    }
}

/// Everything that the thousand tenants need.
fn resources() -> Vec<v1::Resource> {
    let mut all = Vec::new();
    for tenant in 0..TENANTS {
        all.push(resource(Kind::Tenant(v1::Tenant {
            name: format!("tenants/t{tenant}"),
            vni: tenant + 1,
            budget: Some(v1::Budget { unanswered: 100, established: 100 }),
            ..v1::Tenant::default()
        })));
        for (name, side) in [("clients", v1::Side::Client), ("servers", v1::Side::Server)] {
            all.push(resource(Kind::Attachment(v1::Attachment {
                name: format!("tenants/t{tenant}/attachments/{name}"),
                side: side.into(),
                interface: name.to_owned(),
                vlan: tenant + 1,
                ..v1::Attachment::default()
            })));
        }
    }
    for (index, function) in functions().enumerate() {
        let pool = index as u32 / FUNCTIONS.len() as u32;
        let tenants = (0..TENANTS).filter(|tenant| tenant % POOLS == pool);
        all.extend(shared_function(&function, tenants, INSTANCES));
    }
    all.extend((0..TENANTS).map(|tenant| resource(Kind::Graph(graph(tenant, &FUNCTIONS)))));
    all
}

/// A function that these tenants share by tags.
fn shared_function(function: &str, tenants: impl Iterator<Item = u32>, instances: u32) -> Vec<v1::Resource> {
    let tag = |tenant| v1::TenantTag { tenant: format!("tenants/t{tenant}"), vlan: tenant + 1 };
    let function_itself = v1::NetworkFunction {
        name: format!("networkFunctions/{function}"),
        forwarding: v1::Forwarding::Transparent.into(),
        tuple_effect: v1::TupleEffect::Keeps.into(),
        shared: Some(v1::SharedTenancy { tags: tenants.map(tag).collect(), isolates_state: true }),
        ..v1::NetworkFunction::default()
    };
    let replica_set = v1::ReplicaSet { name: set(function), max_members: 100, ..v1::ReplicaSet::default() };
    let owners = [Kind::NetworkFunction(function_itself), Kind::ReplicaSet(replica_set)];
    let instances = (0..instances).map(|number| Kind::Instance(instance(function, number, 10)));
    owners.into_iter().chain(instances).map(resource).collect()
}

async fn configure(product: &Product) -> anyhow::Result<()> {
    let began = Instant::now();
    apply(product, &resources()).await?;
    println!("  {TENANTS} tenants configured in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

async fn apply(product: &Product, resources: &[v1::Resource]) -> anyhow::Result<()> {
    let channel = api::client::connect(&product.address()).await.context("connect")?;
    let mut config = api::client::ConfigServiceClient::new(channel);
    for batch in resources.chunks(BATCH) {
        let request = v1::ApplyRequest { resources: batch.to_vec(), ..v1::ApplyRequest::default() };
        let answer = config.apply(request).await.context("configure the tenants")?.into_inner();
        ensure!(answer.programmed, "the tenants are not programmed: {}", answer.reason);
    }
    Ok(())
}

/// Graphs of ten functions, each write with another order of them: a new view each time.
async fn long_writes(report: &mut Report, product: &Product, count: u32) -> anyhow::Result<()> {
    let mut functions: Vec<String> = long_functions().collect();
    let pool = (0..TENANTS).filter(|tenant| tenant % POOLS == 0);
    let shared = functions.iter().flat_map(|function| shared_function(function, pool.clone(), 1));
    apply(product, &shared.collect::<Vec<_>>()).await?;
    let channel = api::client::connect(&product.address()).await.context("connect")?;
    let mut graphs = api::client::GraphServiceClient::new(channel);
    let mut times = Vec::new();
    for (write, tenant) in (0..count).zip(pool.cycle()) {
        functions.rotate_left(1 + (write / 100) as usize);
        let request = v1::UpdateGraphRequest { graph: Some(chain(tenant, &functions)), ..Default::default() };
        let began = Instant::now();
        let status = graphs.update_graph(request).await.context("change a graph")?.into_inner().status;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        let status = status.context("the answer has a status")?;
        ensure!(status.programmed, "write {write} is not programmed: {}", status.reason);
    }
    let row = Row::new("intent_to_datapath_view_of_10_p99", quantile(&times, 0.99), "ms").bar(Bar::AtMost(10.0));
    report.add(row.beside("p50", quantile(&times, 0.5)).beside("slowest", quantile(&times, 1.0)))
}

/// Writes one after the other, each timed from the call to the answer that says it is programmed.
async fn sequential_writes(report: &mut Report, product: &Product, count: u32) -> anyhow::Result<()> {
    let channel = api::client::connect(&product.address()).await.context("connect")?;
    let mut functions = api::client::NetworkFunctionServiceClient::new(channel.clone());
    let mut graphs = api::client::GraphServiceClient::new(channel);
    let mut times: [Vec<f64>; 2] = Default::default();
    for write in 0..count {
        let began = Instant::now();
        let status = if write % 2 == 0 {
            let function = pooled(FUNCTIONS[write as usize / 2 % 3], write / 2);
            let changed = instance(&function, write / 60 % INSTANCES, 11 + write % 89);
            let request = v1::UpdateInstanceRequest { instance: Some(changed), ..Default::default() };
            functions.update_instance(request).await.context("change a weight")?.into_inner().status
        } else {
            // Another order of functions, so that every write makes a view.
            let mut order = FUNCTIONS;
            order.rotate_left(1 + write as usize / TENANTS as usize % 2);
            let request = v1::UpdateGraphRequest { graph: Some(graph(write % TENANTS, &order)), ..Default::default() };
            graphs.update_graph(request).await.context("change a graph")?.into_inner().status
        };
        let took = began.elapsed().as_secs_f64() * 1e3;
        let status = status.context("the answer has a status")?;
        ensure!(status.programmed, "write {write} is not programmed: {}", status.reason);
        times[write as usize % 2].push(took);
    }
    let all = times.concat();
    let p99 = Row::new("api_to_datapath_p99", quantile(&all, 0.99), "ms").bar(Bar::AtMost(10.0));
    report.add(Row::new("api_to_datapath_p50", quantile(&all, 0.5), "ms"))?;
    report.add(
        p99.beside("weight_p50", quantile(&times[0], 0.5))
            .beside("weight_p99", quantile(&times[0], 0.99))
            .beside("graph_p50", quantile(&times[1], 0.5))
            .beside("graph_p99", quantile(&times[1], 0.99))
            .beside("slowest", quantile(&all, 1.0)),
    )
}
