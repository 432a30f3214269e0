//! The testbed: owner of every namespace and file, and the sweeper of what crashes left.

use std::{
    env, fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use ipnet::IpNet;

use crate::{
    Error, LinkEnd, MacAddr, Namespace, Offloads, Result,
    link::{self, veth},
    namespace::{self, PREFIX},
};

/// A set of namespaces around one or more front-end nodes. Dropping it ends every process in
/// its namespaces and removes them, whatever handles are still about.
#[derive(Debug)]
pub struct Testbed {
    shared: Arc<Shared>,
    node: Node,
}

/// What nodes, hosts and instances of one testbed have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    /// `sy-<pid>-<n>`: the beginning of all namespace names, and the name of the folder.
    prefix: String,
    directory: PathBuf,
}

impl Testbed {
    /// Makes a testbed with one node, called `node`, after removing what dead processes left.
    ///
    /// # Errors
    /// If namespaces cannot be made: see [`crate::requirements`].
    pub fn new() -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        sweep();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}{}-{number}", std::process::id());
        let directory = env::temp_dir().join(&prefix);
        fs::create_dir_all(&directory).map_err(Error::io("create", directory.display().to_string()))?;
        let shared = Arc::new(Shared { prefix, directory });
        let node = Node::create(Arc::clone(&shared), "node")?;
        Ok(Self { shared, node })
    }

    /// The first node: where the front end runs.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Makes a further node, with front end, hosts and instances of its own.
    ///
    /// # Errors
    /// If the name (at most 11 letters, digits, `-`, `_`) is taken.
    pub fn add_node(&self, name: &str) -> Result<Node> {
        Node::create(Arc::clone(&self.shared), name)
    }

    /// The beginning of the names of all its namespaces.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.shared.prefix
    }

    /// Connects two nodes by a wire: a veth pair with transmit offloads off and GRO on, an
    /// address on each end, and IPv6 enabled there.
    ///
    /// # Errors
    /// If an interface name is taken or an address is not valid.
    pub fn uplink(&self, a: (&Node, &str, &[IpNet]), b: (&Node, &str, &[IpNet]), mtu: u16) -> Result<Uplink> {
        let end = |node: &Node, interface: &str| LinkEnd {
            namespace: node.namespace.clone(),
            interface: interface.to_owned(),
            mac: MacAddr::unique(),
            offloads: Offloads::WIRE,
        };
        let uplink = Uplink { a: end(a.0, a.1), b: end(b.0, b.1) };
        veth(&uplink.a, &uplink.b, mtu)?;
        for (end, addresses) in [(&uplink.a, a.2), (&uplink.b, b.2)] {
            let disable = format!("net/ipv6/conf/{}/disable_ipv6", end.interface);
            end.namespace.set_sysctls(&[(&disable, "0")])?;
            link::configure(&end.namespace, &[(&end.interface, addresses)], &[])?;
        }
        Ok(uplink)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Drop cannot report; a folder that stays is swept by the next testbed.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        for name in namespace::named_with(&format!("{}-", self.shared.prefix)) {
            namespace::destroy(&name);
        }
    }
}

/// A node: the namespace a front end runs in. Node-side ends of hosts and instances are here;
/// they are silent (IPv6 disabled, no addresses).
#[derive(Debug, Clone)]
pub struct Node {
    namespace: Namespace,
    shared: Arc<Shared>,
}

impl Node {
    fn create(shared: Arc<Shared>, name: &str) -> Result<Self> {
        let namespace = Namespace::create(&shared.prefix, name, &shared.directory)?;
        namespace.set_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")])?;
        // A bridge made here is a bar to compare with: not slowed by hooks nobody uses.
        link::show_bridged_packets(&namespace, false)?;
        Ok(Self { namespace, shared })
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Makes a namespace of this testbed, connected to nothing.
    ///
    /// # Errors
    /// If the name (at most 11 letters, digits, `-`, `_`) is taken.
    pub fn add_namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::create(&self.shared.prefix, name, &self.shared.directory)
    }

    /// Connects `inside`, an interface yet to be made, to this node. Returns the node's end,
    /// named `node_interface`.
    ///
    /// # Errors
    /// If a name is taken or `mtu` is out of range.
    pub fn attach(&self, inside: &LinkEnd, node_interface: &str, mtu: u16) -> Result<LinkEnd> {
        let end = LinkEnd {
            namespace: self.namespace.clone(),
            interface: node_interface.to_owned(),
            mac: MacAddr::unique(),
            offloads: Offloads::KERNEL,
        };
        veth(&end, inside, mtu)?;
        Ok(end)
    }
}

/// The two ends of a wire between nodes.
#[derive(Debug, Clone)]
pub struct Uplink {
    /// At the first node.
    pub a: LinkEnd,
    /// At the second node.
    pub b: LinkEnd,
}

/// Removes namespaces and folders whose maker is dead, or which carry this process's id but are
/// older than it.
fn sweep() {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    static OWN_ID_REUSED: OnceLock<()> = OnceLock::new();
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let own = std::process::id();
    let first = OWN_ID_REUSED.set(()).is_ok();
    let is_left = |name: &str| {
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
        maker.is_some_and(|maker: u32| match maker == own {
            true => first,
            false => !PathBuf::from(format!("/proc/{maker}")).exists(),
        })
    };
    for name in namespace::named_with(PREFIX).iter().filter(|name| is_left(name)) {
        namespace::destroy(name);
    }
    let Ok(entries) = fs::read_dir(env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_left) {
            // Fails only if another sweep was quicker.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
