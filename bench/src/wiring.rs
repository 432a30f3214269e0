//! Client, one transparent network function, server, connected in five ways: directly by veth (the bar), by a bare
//! `bpf_redirect_peer`, by a Linux bridge, by a look-up in a table like the connection table and `bpf_redirect_peer` (the
//! least that any program with a record for each flow does), and by Switchyard. The function is the same in all: a bridge
//! with a firewall rule.

use crate::{bpf, frame};
use anyhow::Context as _;
use std::os::fd::{AsFd, OwnedFd};
use testbed::{Documents, FrontEnd, LinkEnd, MacAddr, Namespace, Node, Offloads, Testbed, bridge, veth};

/// Addresses of client and server.
pub(crate) const CLIENT: [u8; 4] = [10, 0, 0, 1];
pub(crate) const SERVER: [u8; 4] = [10, 0, 0, 2];
/// Records of the connection table, as in the prototype that is compared with.
const CAPACITY: u32 = 1 << 20;

/// Number of [`Way`]s.
pub(crate) const WAYS: usize = 5;

/// How the three are connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Direct,
    RedirectPeer,
    Bridge,
    BareLookup,
    Switchyard,
}

impl Way {
    pub(crate) const ALL: [Self; WAYS] =
        [Self::Direct, Self::RedirectPeer, Self::Bridge, Self::BareLookup, Self::Switchyard];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct_veth",
            Self::RedirectPeer => "redirect_peer",
            Self::Bridge => "linux_bridge",
            Self::BareLookup => "bare_lookup",
            Self::Switchyard => "switchyard",
        }
    }
}

/// A chain in namespaces of its own.
pub(crate) struct Wiring {
    pub(crate) way: Way,
    pub(crate) client: LinkEnd,
    pub(crate) server: LinkEnd,
    _links: Vec<OwnedFd>,
    _front_end: Option<FrontEnd>,
    /// A namespace goes when its last handle does.
    _namespaces: [Namespace; 2],
}

/// GRO on everywhere: it gives the receiving end NAPI, without which frames cannot be injected, and every variant gets the
/// same.
fn end(namespace: &Namespace, interface: &str) -> LinkEnd {
    LinkEnd {
        namespace: namespace.clone(),
        interface: interface.to_owned(),
        mac: MacAddr::unique(),
        offloads: Offloads::POD,
    }
}

impl Wiring {
    pub(crate) fn new(testbed: &Testbed, layout: usize, way: Way) -> anyhow::Result<Self> {
        let number = layout * WAYS + way as usize;
        let node = testbed.add_node(&format!("{number}-node"))?;
        let [clients, function, servers] =
            ["client", "fw", "server"].map(|name| node.add_namespace(&format!("{number}-{name}")));
        let function = function?;
        let (client, server) = (end(&clients?, "eth0"), end(&servers?, "eth0"));
        let (inward, outward) = (end(&function, "in"), end(&function, "out"));
        let mut links = Vec::new();
        let mut front_end = None;
        if way == Way::Direct {
            veth(&client, &inward, 1500)?;
            veth(&outward, &server, 1500)?;
        } else {
            for (near, far) in [("client", &client), ("fw-in", &inward), ("fw-out", &outward), ("server", &server)] {
                veth(&end(node.namespace(), near), far, 1500)?;
            }
        }
        bridge(&function, "br0", &["in", "out"])?;
        let rules = "table bridge firewall {\n chain forward {\n \
                     type filter hook forward priority 0; policy accept;\n tcp dport 23 drop\n }\n}\n";
        function.output_of_input("nft", &["-f", "-"], rules)?;
        for (host, address) in [(&client, CLIENT), (&server, SERVER)] {
            let address = std::net::Ipv4Addr::from(address);
            host.namespace.ip(&[format!("addr add {address}/24 dev eth0")])?;
        }
        match way {
            Way::Direct => {}
            Way::RedirectPeer => links = redirect(&node, None)?,
            Way::BareLookup => links = redirect(&node, Some(&table()?))?,
            Way::Bridge => {
                bridge(node.namespace(), "br0", &["client", "fw-in"])?;
                bridge(node.namespace(), "br1", &["fw-out", "server"])?;
            }
            Way::Switchyard => front_end = Some(switchyard(&node, &inward, &outward)?),
        }
        let namespaces = [node.namespace().clone(), function];
        Ok(Self { way, client, server, _links: links, _front_end: front_end, _namespaces: namespaces })
    }
}

/// A table with a record for every source port, under [`key`].
fn table() -> anyhow::Result<bpf::Table> {
    let table = bpf::Table::new(CAPACITY)?;
    for port in 0..=u16::MAX {
        table.insert(&key(port.to_be()))?;
    }
    Ok(table)
}

/// A key of the connection table's size that differs by the source port, as read from the frame.
fn key(port: u16) -> [u8; bpf::TABLE_KEY] {
    let mut key = [0; bpf::TABLE_KEY];
    key[32..34].copy_from_slice(&port.to_ne_bytes());
    key
}

/// Connects client and `in`, `out` and server; with a table, what is not in there is dropped.
fn redirect(node: &Node, table: Option<&bpf::Table>) -> anyhow::Result<Vec<OwnedFd>> {
    node.namespace().run(|| {
        let pairs = [("client", "fw-in"), ("fw-in", "client"), ("fw-out", "server"), ("server", "fw-out")];
        let attach = |(from, to): (&str, &str)| -> anyhow::Result<OwnedFd> {
            let mut code = table.map(look_up).unwrap_or_default();
            code.extend([bpf::set(1, index(to)? as i32), bpf::set(2, 0), bpf::call(155), bpf::exit()]);
            let program = bpf::load(bpf::CLASSIFIER, &code)?;
            bpf::attach_ingress(program.as_fd(), index(from)?)
        };
        pairs.into_iter().map(attach).collect()
    })?
}

/// Reads a UDP frame's record, all four quarters of it; others pass to what follows, frames without a record are dropped.
fn look_up(table: &bpf::Table) -> Vec<bpf::Insn> {
    let mut found = vec![bpf::load16(3, 4, frame::SOURCE_PORT)];
    let words = (0..bpf::TABLE_KEY as i16).step_by(4);
    found.extend(words.map(|offset| bpf::store_constant32(10, offset - bpf::TABLE_KEY as i16, 0)));
    found.push(bpf::store16(10, 32 - bpf::TABLE_KEY as i16, 3));
    found.extend(bpf::map_address(1, table));
    found.extend([bpf::mov(2, 10), bpf::add(2, -(bpf::TABLE_KEY as i32)), bpf::call(1), bpf::if_not(0, 0, 2)]);
    found.extend([bpf::set(0, 2), bpf::exit()]);
    found.extend((0..4).map(|quarter| bpf::load32(2, 0, quarter * 16)));
    let mut code = vec![bpf::load32(4, 1, 76), bpf::load32(5, 1, 80), bpf::mov(2, 4), bpf::add(2, 42)];
    code.push(bpf::if_greater(2, 5, found.len() as i16 + 2));
    code.push(bpf::load8(3, 4, 23));
    code.push(bpf::if_not(3, 17, found.len() as i16));
    code.extend(found);
    code
}

/// The number of an interface of the calling thread's namespace.
pub(crate) fn index(interface: &str) -> anyhow::Result<u32> {
    bpf::interface_index(interface).with_context(|| format!("find interface {interface}"))
}

fn switchyard(node: &Node, inward: &LinkEnd, outward: &LinkEnd) -> anyhow::Result<FrontEnd> {
    let front_end = FrontEnd::start_with_capacity(node, CAPACITY)?;
    let node_end = |name: &str| end(node.namespace(), name);
    let port = |name: &str, inside: &LinkEnd| format!("{{interface: {name}, mac: '{}'}}", inside.mac);
    let instance = format!("weight: 1, inside: {}, outside: {}", port("fw-in", inward), port("fw-out", outward));
    let documents = Documents::new()
        .raw("Tenant", "name: acme", "vni: 100, budget: {unanswered: 300000, established: 300000}")
        .attachment_of("acme", "clients", "client", &node_end("client"), "")
        .attachment_of("acme", "servers", "server", &node_end("server"), "")
        .function("fw", "forwarding: transparent, tupleEffect: keeps", 10)
        .raw("Instance", "name: a, networkFunction: fw, replicaSet: v1", &instance)
        .chain("acme", "web", &["fw"]);
    front_end.apply(&documents);
    Ok(front_end)
}
