//! The maps, typed; arrays in this process's memory.

use crate::desired::TenantEntries;
use crate::error::{Error, Result};
use crate::loader::{Loader, data};
use crate::sys::Mapping;
use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray, PerCpuHashMap, RingBuf};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use xdp_layout::cache::{PORT_WORDS, PortWord};
use xdp_layout::event::{TenantDropKey, Traffic};
use xdp_layout::flow::{FlowKey, FlowRecord, Neighbour, NeighbourKey};
use xdp_layout::plan::{
    BANK_WORDS, BANKS, EDGES_MAX, Edge, NODES_MAX, Node, NodeKey, OriginKey, OutsideKey, OutsideOwners, PAGE_SLOTS,
    PAGES_MAX, RouteKey, VIEW_SLOTS_MAX, View, ViewKey,
};
use xdp_layout::port::{Instance, OwnedKey, Port, PortKey, TagKey, Target, Tenant, Usage};
use xdp_layout::{Counter, names};

/// Elements of the arrays by attachment and instance id.
pub(crate) const IDS: usize = 65_536;

/// A hash map with its name, for errors.
pub(crate) struct Table<K: Pod, V: Pod> {
    name: &'static str,
    map: HashMap<MapData, K, V>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    fn open(loader: &mut Loader, name: &'static str) -> Result<Self> {
        let map = HashMap::try_from(loader.take_map(name)?).map_err(|source| Error::Map { map: name, source })?;
        Ok(Self { name, map })
    }

    pub(crate) fn get(&self, key: &K) -> Result<Option<V>> {
        match self.map.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(Error::Map { map: self.name, source }),
        }
    }

    pub(crate) fn put(&mut self, key: &K, value: &V) -> Result<()> {
        self.map.insert(key, value, 0).map_err(|source| Error::Map { map: self.name, source })
    }

    pub(crate) fn delete(&mut self, key: &K) -> Result<()> {
        match self.map.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(e)) if e.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(Error::Map { map: self.name, source }),
        }
    }

    pub(crate) fn all(&self) -> Result<Vec<(K, V)>> {
        self.map.iter().collect::<std::result::Result<_, _>>().map_err(|source| Error::Map { map: self.name, source })
    }
}

/// The ports: the hash that has them all, and the words of those that fit in one. A word never says more than the hash: it is
/// written after it, and goes before it.
pub(crate) struct PortTable {
    hash: Table<PortKey, Port>,
    words: Mapping,
}

impl PortTable {
    /// An earlier process may have ended between the two.
    fn open(loader: &mut Loader) -> Result<Self> {
        let hash = Table::open(loader, names::PORTS)?;
        let mut ports = Self { hash, words: mapped::<u64>(loader, names::PORT_WORDS, PORT_WORDS as usize)? };
        let mut words = vec![0u64; PORT_WORDS as usize];
        for (key, port) in ports.hash.all()? {
            let word = PortWord::new(key, &port);
            if word != PortWord(0) {
                words[PortWord::index(key.ifindex) as usize] = word.0;
            }
        }
        for (index, word) in words.into_iter().enumerate() {
            if ports.words.read::<u64>(index) != word {
                ports.words.publish(index, word);
            }
        }
        Ok(ports)
    }

    pub(crate) fn put(&mut self, key: &PortKey, port: &Port) -> Result<()> {
        self.forget(key);
        self.hash.put(key, port)?;
        let word = PortWord::new(*key, port);
        if word != PortWord(0) {
            self.words.publish(PortWord::index(key.ifindex) as usize, word.0);
        }
        Ok(())
    }

    pub(crate) fn delete(&mut self, key: &PortKey) -> Result<()> {
        self.forget(key);
        self.hash.delete(key)
    }

    pub(crate) fn all(&self) -> Result<Vec<(PortKey, Port)>> {
        self.hash.all()
    }

    fn forget(&mut self, key: &PortKey) {
        let index = PortWord::index(key.ifindex) as usize;
        if key.vlan == 0 && PortWord(self.words.read(index)).is_of(key.ifindex) {
            self.words.publish(index, 0);
        }
    }
}

/// A longest-prefix-match map with its name.
pub(crate) struct Trie<K: Pod, V: Pod> {
    name: &'static str,
    fixed_bits: u32,
    map: LpmTrie<MapData, K, V>,
}

impl<K: Pod, V: Pod> Trie<K, V> {
    fn open(loader: &mut Loader, name: &'static str, fixed_bits: u32) -> Result<Self> {
        let map = LpmTrie::try_from(loader.take_map(name)?).map_err(|source| Error::Map { map: name, source })?;
        Ok(Self { name, fixed_bits, map })
    }

    /// The first part of the key counts the bits of the address.
    pub(crate) fn put(&mut self, &(bits, key): &(u8, K), value: &V) -> Result<()> {
        let key = Key::new(self.fixed_bits + u32::from(bits), key);
        self.map.insert(&key, value, 0).map_err(|source| Error::Map { map: self.name, source })
    }

    pub(crate) fn delete(&mut self, &(bits, key): &(u8, K)) -> Result<()> {
        match self.map.remove(&Key::new(self.fixed_bits + u32::from(bits), key)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(e)) if e.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(Error::Map { map: self.name, source }),
        }
    }

    pub(crate) fn all(&self) -> Result<Vec<((u8, K), V)>> {
        let entries = self.map.iter().map(|entry| entry.map(|(key, value)| (self.part(&key), value)));
        entries.collect::<std::result::Result<_, _>>().map_err(|source| Error::Map { map: self.name, source })
    }

    fn part(&self, key: &Key<K>) -> (u8, K) {
        ((key.prefix_len() - self.fixed_bits) as u8, key.data())
    }
}

/// Everything the agent writes.
pub(crate) struct Maps {
    pub(crate) config: aya::maps::Array<MapData, xdp_layout::config::Config>,
    pub(crate) active: Mapping,
    pub(crate) plan: Mapping,
    pub(crate) pages: Mapping,
    pub(crate) views: Mapping,
    pub(crate) nodes: Mapping,
    pub(crate) edges: Mapping,
    pub(crate) attachments: Mapping,
    pub(crate) instances: Mapping,
    pub(crate) view_slots: Table<ViewKey, u32>,
    pub(crate) node_of: Table<NodeKey, u32>,
    pub(crate) ports: PortTable,
    pub(crate) tags: Table<TagKey, u32>,
    pub(crate) owned: Table<OwnedKey, u32>,
    pub(crate) tenants: Table<u32, Tenant>,
    pub(crate) usage: Table<u32, Usage>,
    pub(crate) neighbours: Table<NeighbourKey, Neighbour>,
    pub(crate) origins: Table<OriginKey, u32>,
    pub(crate) routes: Trie<RouteKey, u32>,
    pub(crate) outside: Trie<OutsideKey, OutsideOwners>,
}

/// Everything observers read.
pub(crate) struct Gauges {
    pub(crate) flows: Map,
    pub(crate) flow_capacity: u64,
    pub(crate) drops: PerCpuArray<MapData, u64>,
    pub(crate) counters: PerCpuArray<MapData, u64>,
    pub(crate) tenant_drops: Mutex<PerCpuHashMap<MapData, TenantDropKey, u64>>,
    pub(crate) instance_traffic: PerCpuArray<MapData, Traffic>,
}

pub(crate) fn mapped<T>(loader: &mut Loader, name: &'static str, elements: usize) -> Result<Mapping> {
    let map = loader.take_map(name)?;
    Mapping::new(data(&map).fd().as_fd(), elements * size_of::<T>()).map_err(|source| Error::Syscall {
        operation: "memory-map the array",
        map: name,
        source,
    })
}

pub(crate) fn typed<T: TryFrom<Map, Error = MapError>>(loader: &mut Loader, name: &'static str) -> Result<T> {
    T::try_from(loader.take_map(name)?).map_err(|source| Error::Map { map: name, source })
}

impl Maps {
    pub(crate) fn open(loader: &mut Loader) -> Result<Self> {
        Ok(Self {
            config: typed(loader, names::CONFIG)?,
            active: mapped::<u64>(loader, names::ACTIVE, 1)?,
            plan: mapped::<u64>(loader, names::PLAN, (BANKS * BANK_WORDS) as usize)?,
            pages: mapped::<u16>(loader, names::PAGES, (PAGES_MAX * PAGE_SLOTS) as usize)?,
            views: mapped::<View>(loader, names::VIEWS, VIEW_SLOTS_MAX as usize)?,
            nodes: mapped::<Node>(loader, names::NODES, NODES_MAX as usize)?,
            edges: mapped::<Edge>(loader, names::EDGES, EDGES_MAX as usize)?,
            attachments: mapped::<Target>(loader, names::ATTACHMENTS, IDS)?,
            instances: mapped::<Instance>(loader, names::INSTANCES, IDS)?,
            view_slots: Table::open(loader, names::VIEW_SLOTS)?,
            node_of: Table::open(loader, names::NODE_OF)?,
            ports: PortTable::open(loader)?,
            tags: Table::open(loader, names::TAGS)?,
            owned: Table::open(loader, names::OWNED)?,
            tenants: Table::open(loader, names::TENANTS)?,
            usage: Table::open(loader, names::USAGE)?,
            neighbours: Table::open(loader, names::NEIGHBOURS)?,
            origins: Table::open(loader, names::ORIGINS)?,
            routes: Trie::open(loader, names::ROUTES, xdp_layout::plan::ROUTE_KEY_FIXED_BITS)?,
            outside: Trie::open(loader, names::OUTSIDE, xdp_layout::plan::OUTSIDE_KEY_FIXED_BITS)?,
        })
    }
}

/// Runs one expression for each of the hashes and tries, with `$map` the map, `$old` and `$new` its entries.
macro_rules! each_table {
    ($maps:expr, $before:expr, $after:expr, |$map:ident, $old:ident, $new:ident| $body:expr) => {{
        each_table!(@one $maps, $before, $after, ports, $map, $old, $new, $body);
        each_table!(@one $maps, $before, $after, tags, $map, $old, $new, $body);
        each_table!(@one $maps, $before, $after, owned, $map, $old, $new, $body);
        each_table!(@one $maps, $before, $after, origins, $map, $old, $new, $body);
        each_table!(@one $maps, $before, $after, routes, $map, $old, $new, $body);
        each_table!(@one $maps, $before, $after, outside, $map, $old, $new, $body);
    }};
    (@one $maps:expr, $before:expr, $after:expr, $name:ident, $map:ident, $old:ident, $new:ident, $body:expr) => {{
        let ($map, $old, $new) = (&mut $maps.$name, &$before.$name, &$after.$name);
        $body
    }};
}

impl Maps {
    /// Everything that the hashes and tries hold.
    pub(crate) fn entries(&self) -> Result<TenantEntries> {
        Ok(TenantEntries {
            ports: self.ports.all()?.into_iter().collect(),
            tags: self.tags.all()?.into_iter().collect(),
            owned: self.owned.all()?.into_iter().collect(),
            origins: self.origins.all()?.into_iter().collect(),
            routes: self.routes.all()?.into_iter().collect(),
            outside: self.outside.all()?.into_iter().collect(),
        })
    }

    /// Writes entries whose keys are new.
    pub(crate) fn write_new(&mut self, old: &TenantEntries, new: &TenantEntries) -> Result<()> {
        each_table!(self, old, new, |map, old, new| {
            let added = new.iter().filter(|(key, _)| !old.contains_key(key));
            added.into_iter().try_for_each(|(key, value)| map.put(key, value))?;
        });
        Ok(())
    }

    /// Writes entries whose values differ.
    pub(crate) fn write_changed(&mut self, old: &TenantEntries, new: &TenantEntries) -> Result<()> {
        each_table!(self, old, new, |map, old, new| {
            let changed = new.iter().filter(|(key, value)| old.get(key).is_some_and(|known| known != *value));
            changed.into_iter().try_for_each(|(key, value)| map.put(key, value))?;
        });
        Ok(())
    }

    /// Deletes entries that are not there any more.
    pub(crate) fn delete_gone(&mut self, old: &TenantEntries, new: &TenantEntries) -> Result<()> {
        each_table!(self, old, new, |map, old, new| {
            let gone = old.keys().filter(|key| !new.contains_key(key));
            gone.into_iter().try_for_each(|key| map.delete(key))?;
        });
        Ok(())
    }
}

impl Gauges {
    pub(crate) fn open(loader: &mut Loader) -> Result<Self> {
        let flows = loader.take_map(names::FLOWS)?;
        let info = data(&flows).info().map_err(|source| Error::Map { map: names::FLOWS, source })?;
        Ok(Self {
            flow_capacity: u64::from(info.max_entries()),
            flows,
            drops: typed(loader, names::DROPS)?,
            counters: typed(loader, names::COUNTERS)?,
            tenant_drops: Mutex::new(typed(loader, names::TENANT_DROPS)?),
            instance_traffic: typed(loader, names::INSTANCE_TRAFFIC)?,
        })
    }

    /// A counter's words of all CPUs together.
    pub(crate) fn count(&self, counter: Counter) -> Result<u64> {
        let values = self.counters.get(&(counter as u32), 0);
        Ok(values.map_err(|source| Error::Map { map: names::COUNTERS, source })?.iter().sum())
    }

    /// Deletes a tenant's drop counters.
    pub(crate) fn forget_drops(&self, tenant: u32) -> Result<()> {
        let mut drops = self.tenant_drops.lock().unwrap_or_else(PoisonError::into_inner);
        for reason in xdp_layout::DropReason::ALL {
            match drops.remove(&TenantDropKey { tenant, reason: *reason as u32 }) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(MapError::SyscallError(e)) if e.io_error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Map { map: names::TENANT_DROPS, source }),
            }
        }
        Ok(())
    }

    /// One record.
    pub(crate) fn record(&self, key: &FlowKey) -> Result<Option<FlowRecord>> {
        let Map::HashMap(map) = &self.flows else { unreachable!("FLOWS is a hash") };
        crate::sys::lookup(map.fd().as_fd(), key).map_err(|source| Error::Syscall {
            operation: "look up a record",
            map: names::FLOWS,
            source,
        })
    }

    /// Every record.
    pub(crate) fn scan(&self, visit: impl FnMut(&FlowKey, &FlowRecord)) -> Result<()> {
        crate::sys::scan(data(&self.flows).fd().as_fd(), 4096, visit).map_err(|source| Error::Syscall {
            operation: "read in batches",
            map: names::FLOWS,
            source,
        })
    }
}

/// The ring of events.
pub(crate) fn events(loader: &mut Loader) -> Result<RingBuf<MapData>> {
    typed(loader, names::EVENTS)
}
