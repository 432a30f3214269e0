//! A thousand tenants, each with a stable view, one on trial and one that drains, of five nodes each: what installing them
//! takes, and what switching one tenant costs beside ten tenants and beside a thousand.

use crate::control::{link_up, rss};
use crate::row::{Bar, Report, Row, median, quantile};
use anyhow::{Context as _, ensure};
use chain_graph::model::{
    Attachment, Budget, Candidate, Desired, EdgeFrom, EdgeTo, Forwarding, Graph, GraphEdge, GraphNode, Instance,
    MacAddr, NetworkFunction, ObjectKey, Port, Ports, ReplicaSet, ResourceName, Side, Tenancy, Tenant, TupleEffect,
    Versions, VlanId,
};
use chain_graph::{Cluster, Image, check_after};
use state_sync::DataPlane;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use testbed::Testbed;
use xdp::{Agent, Options};
use xdp_layout::{AttachmentId, GraphId, InstanceId, ReplicaSetId, TenantId};

/// Functions of a chain.
const NODES: u16 = 5;
const INSTANCES: u16 = 2;
/// Tenants beside which one is switched.
const FEW: u16 = 10;
const MANY: u16 = 1000;
const CLUSTER: Cluster = Cluster { incarnation: 1, seed: [7, 8] };
/// How much more a switch beside many tenants may cost than one beside few.
const SAME: f64 = 1.5;

pub(crate) fn measure(report: &mut Report, quick: bool, wanted: &dyn Fn(&str) -> bool) -> anyhow::Result<()> {
    if !wanted("views_1000x3x5") && !wanted("switch_one_tenant") {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let node = testbed.node().namespace().clone();
    let far = testbed.node().add_namespace("far")?;
    link_up(&node, &far, interfaces())?;
    let cases = node.run(|| side_by_side(report, if quick { 20 } else { 400 }))??;
    let [few, many] = [&cases[0], &cases[1]];
    report.add(Row::new("switch_one_tenant_beside_10", median(few), "ms").beside("p99", quantile(few, 0.99)))?;
    let row = Row::new("switch_one_tenant_beside_1000", median(many), "ms").beside("p99", quantile(many, 0.99));
    report.add(row.ratio_to(median(few)))?;
    report.add(Row::new("switch_one_tenant_ratio", median(many) / median(few), "x").bar(Bar::AtMost(SAME)))
}

/// Switches one tenant beside few and one beside many in turns, so that whatever else the machine does meets both.
/// Milliseconds of each switch.
fn side_by_side(report: &mut Report, rounds: u16) -> anyhow::Result<[Vec<f64>; 2]> {
    let pins = [FEW, MANY].map(|tenants| format!("/sys/fs/bpf/switchyard-bench-{}-{tenants}", std::process::id()));
    let pins = pins.map(|pins| Pins(pins.into()));
    let (mut few, ..) = Case::install(&pins[0].0, FEW)?;
    let (mut many, took, bytes) = Case::install(&pins[1].0, MANY)?;
    let row = Row::new("views_1000x3x5_installed", took, "ms");
    report.add(row.beside("resident_mib", bytes / f64::from(1 << 20)))?;
    let mut costs = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        costs[0].push(few.switch(round)?);
        costs[1].push(many.switch(round)?);
    }
    Ok(costs)
}

/// Where a case's data path is pinned, until it is dropped.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("remove {}: {error}", self.0.display());
        }
    }
}

/// A data path with its tenants.
struct Case {
    agent: Agent,
    desired: Desired,
    image: Arc<Image>,
}

impl Case {
    /// Installs so many tenants from nothing. Milliseconds and bytes that took.
    fn install(pins: &Path, tenants: u16) -> anyhow::Result<(Self, f64, f64)> {
        let mut agent = Agent::open(pins, Options::default()).context("open the data path")?;
        let before = rss()?;
        let began = Instant::now();
        let desired = declare(tenants)?;
        let checked = check_after(None, &Arc::new(desired.clone())).map_err(|all| anyhow::anyhow!("{all:?}"))?;
        let image = Arc::new(Image::build(None, &checked, CLUSTER).context("build the image")?);
        agent.install(&image).context("install")?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        Ok((Self { agent, desired, image }, took, (rss()? - before) as f64))
    }

    /// Gives the view on trial of one tenant another share. Milliseconds that took.
    fn switch(&mut self, round: u16) -> anyhow::Result<f64> {
        let tenant = round % FEW;
        let versions = versions(tenant, 1 + round)?;
        let began = Instant::now();
        self.desired.put_versions(key(tenant)?, versions);
        let next = Arc::new(self.desired.clone());
        let checked = check_after(Some(self.image.checked()), &next).map_err(|all| anyhow::anyhow!("{all:?}"))?;
        self.image = Arc::new(Image::build(Some(&self.image), &checked, CLUSTER).context("build the image")?);
        let installed = self.agent.install(&self.image).context("install")?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        ensure!(installed.pending.is_empty(), "ports are pending: {:?}", installed.pending);
        Ok(took)
    }
}

fn interfaces() -> impl Iterator<Item = String> {
    let ports = (0..NODES).flat_map(|f| (0..INSTANCES).flat_map(move |i| ["in", "out"].map(|side| port(f, i, side))));
    ["clients".to_owned(), "servers".to_owned()].into_iter().chain(ports)
}

fn name(text: &str) -> anyhow::Result<ResourceName> {
    text.parse().with_context(|| format!("name {text}"))
}

fn key(tenant: u16) -> anyhow::Result<ObjectKey> {
    Ok(ObjectKey::new(&name(&format!("t{tenant}"))?, &name("web")?))
}

fn port(function: u16, instance: u16, side: &str) -> String {
    format!("f{function}-{instance}-{side}")
}

/// The tenant's graph with its functions in an order of their own: `turn` of them go from the front to the back.
fn graph(tenant: u16, turn: u16) -> anyhow::Result<Graph> {
    let functions: Vec<String> = (0..NODES).map(|f| format!("f{}", (f + turn) % NODES)).collect();
    let nodes = functions
        .iter()
        .map(|function| Ok(GraphNode { name: name(function)?, function: name(function)?, replica_set: name("v1")? }));
    let mut edges = Vec::new();
    for at in 0..=functions.len() {
        let from = if at == 0 { EdgeFrom::Client } else { EdgeFrom::Node(name(&functions[at - 1])?) };
        let to = functions.get(at).map_or(Ok(EdgeTo::Server), |to| name(to).map(EdgeTo::Node))?;
        edges.push(GraphEdge { from, to, matches: None });
    }
    Ok(Graph {
        tenant: name(&format!("t{tenant}"))?,
        name: name("web")?,
        id: GraphId::new(tenant + 1).context("a graph's number")?,
        client: vec![name("clients")?],
        server: vec![name("servers")?],
        nodes: nodes.collect::<anyhow::Result<_>>()?,
        edges,
    })
}

/// A view on trial with a share, and one that drains.
fn versions(tenant: u16, share: u16) -> anyhow::Result<Versions> {
    let candidate = Some(Candidate { graph: Arc::new(graph(tenant, 1)?), share });
    Ok(Versions { candidate, draining: vec![Arc::new(graph(tenant, 2)?)] })
}

fn declare(tenants: u16) -> anyhow::Result<Desired> {
    let mut desired = Desired::default();
    let mut tags = BTreeMap::new();
    for tenant in 0..tenants {
        let owner = name(&format!("t{tenant}"))?;
        let vlan = VlanId::try_from(tenant + 1).context("a VLAN")?;
        tags.insert(owner.clone(), vlan);
        desired.put_tenant(Tenant {
            name: owner.clone(),
            id: TenantId::new(u32::from(tenant) + 1).context("a tenant's number")?,
            budget: Budget { unanswered: 100, established: 100 },
        });
        for (number, (attachment, side)) in
            [("clients", Side::Client), ("servers", Side::Server)].into_iter().enumerate()
        {
            desired.put_attachment(Attachment {
                tenant: owner.clone(),
                name: name(attachment)?,
                id: AttachmentId::new(2 * tenant + number as u16 + 1).context("an attachment's number")?,
                side,
                interface: attachment.to_owned(),
                vlan: Some(vlan),
                prefixes: Vec::new(),
            });
        }
        desired.put_graph(graph(tenant, 0)?);
        desired.put_versions(key(tenant)?, versions(tenant, 0)?);
    }
    for function in 0..NODES {
        let instance = |number: u16| -> anyhow::Result<(ResourceName, Instance)> {
            let end = |side: &str, last: u8| Port {
                interface: port(function, number, side),
                mac: MacAddr([2, 0, 0, function as u8, number as u8, last]),
            };
            let instance = Instance {
                name: name(&format!("i{number}"))?,
                id: InstanceId::new(function * INSTANCES + number + 1).context("an instance's number")?,
                weight: 1,
                ports: Ports::TwoArmed { inside: end("in", 0), outside: end("out", 1) },
                outside: Vec::new(),
                down: false,
                max_flows: 0,
            };
            Ok((instance.name.clone(), instance))
        };
        let set = ReplicaSet {
            name: name("v1")?,
            id: ReplicaSetId::new(function + 1).context("a replica set's number")?,
            max_members: 100,
            instances: (0..INSTANCES).map(instance).collect::<anyhow::Result<_>>()?,
        };
        desired.put_function(NetworkFunction {
            name: name(&format!("f{function}"))?,
            forwarding: Forwarding::Transparent,
            tuple: TupleEffect::Keeps,
            tenancy: Tenancy::Tagged { tags: tags.clone(), isolates_state: true },
            addresses: Vec::new(),
            replica_sets: BTreeMap::from([(set.name.clone(), set)]),
        });
    }
    Ok(desired)
}
