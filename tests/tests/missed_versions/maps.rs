//! What the maps of a data path say, by what its numbers lead to: two data paths may have put the same things in different
//! places. Read by an own parser, on purpose not the one under test.

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use xdp_layout::cache::PORT_WORDS;
use xdp_layout::plan::{ActiveWord, BANK_WORDS, GraphWord, PAGE_SLOTS, REPLICA_SETS_MAX, TARGET_EXIT, TableWord};
use xdp_layout::{LAYOUT_VERSION, names};

/// Ids are given from 1 up; these tests use few of each kind.
const IDS: u32 = 256;
const PAGE_BYTES: usize = PAGE_SLOTS as usize * 2;

/// Everything the plan in force consists of, and everything that is installed beside it; flows and counters are left out.
pub(crate) type Content = BTreeSet<String>;

/// How many views are installed.
pub(crate) fn views(content: &Content) -> usize {
    content.iter().filter(|line| line.starts_with("installed ")).count()
}

struct Maps(PathBuf);

impl Maps {
    fn of(bpffs: &Path) -> Self {
        Self(bpffs.join(format!("v{LAYOUT_VERSION}")))
    }

    fn active(&self) -> ActiveWord {
        ActiveWord(u64::from_ne_bytes(get(&self.array::<8>(names::ACTIVE), 0)))
    }

    fn data(&self, name: &str) -> MapData {
        let path = self.0.join(name);
        MapData::from_pin(&path).unwrap_or_else(|error| panic!("map {}: {error}", path.display()))
    }

    fn array<const N: usize>(&self, name: &str) -> Array<MapData, [u8; N]> {
        Map::Array(self.data(name)).try_into().unwrap_or_else(|error| panic!("array {name}: {error}"))
    }

    fn hash<const K: usize, const V: usize>(&self, name: &str) -> BTreeMap<[u8; K], [u8; V]> {
        let map: HashMap<MapData, [u8; K], [u8; V]> =
            Map::HashMap(self.data(name)).try_into().unwrap_or_else(|error| panic!("hash {name}: {error}"));
        map.iter().collect::<Result<_, _>>().unwrap_or_else(|error| panic!("hash {name}: {error}"))
    }

    fn trie<const V: usize>(&self, name: &str) -> Vec<(u32, [u8; 20], [u8; V])> {
        let map: LpmTrie<MapData, [u8; 20], [u8; V]> =
            Map::LpmTrie(self.data(name)).try_into().unwrap_or_else(|error| panic!("trie {name}: {error}"));
        let entries = map.iter().map(|entry| entry.map(|(key, value)| (key.prefix_len(), key.data(), value)));
        entries.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("trie {name}: {error}"))
    }
}

fn get<const N: usize>(array: &Array<MapData, [u8; N]>, index: u32) -> [u8; N] {
    array.get(&index, 0).unwrap_or_else(|error| panic!("element {index}: {error}"))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Views and what they lead to.
struct Views {
    views: Array<MapData, [u8; 16]>,
    nodes: Array<MapData, [u8; 8]>,
    edges: Array<MapData, [u8; 88]>,
}

impl Views {
    /// A view in words, with all that its edges lead to.
    fn view(&self, slot: u32) -> String {
        let view = get(&self.views, slot);
        let [tenant, id, graph, first] = [0, 4, 8, 12].map(|at| u32_at(&view, at));
        format!("tenant {tenant} view {id} graph {graph}: {}", self.edges(first))
    }

    fn edges(&self, first: u32) -> String {
        let mut text = String::new();
        for index in first.. {
            let edge = get(&self.edges, index);
            let target = u32_at(&edge, 72);
            let to = if target == TARGET_EXIT { "exit".to_owned() } else { self.node(target) };
            text.push_str(&format!("{:x?}{:x?} -> {to}; ", &edge[..72], &edge[76..81]));
            if edge[81] != 0 {
                break;
            }
        }
        text
    }

    fn node(&self, index: u32) -> String {
        let node = get(&self.nodes, index);
        format!("set {} position {} flags {} {{{}}}", u16_at(&node, 4), node[6], node[7], self.edges(u32_at(&node, 0)))
    }
}

/// Generation of the plan in force in the data path that is pinned below `bpffs`.
pub(crate) fn generation(bpffs: &Path) -> u64 {
    Maps::of(bpffs).active().generation()
}

/// Reads the data path that is pinned below `bpffs`.
pub(crate) fn read(bpffs: &Path) -> Content {
    let maps = Maps::of(bpffs);
    let mut content = Content::new();
    content.extend(maps.hash::<8, 12>(names::PORTS).iter().map(|entry| format!("port {entry:x?}")));
    content.extend(maps.hash::<8, 4>(names::TAGS).iter().map(|entry| format!("tag {entry:x?}")));
    content.extend(maps.hash::<20, 4>(names::OWNED).iter().map(|entry| format!("owned {entry:x?}")));
    content.extend(maps.hash::<8, 4>(names::ORIGINS).iter().map(|entry| format!("origin {entry:x?}")));
    content.extend(maps.hash::<4, 16>(names::TENANTS).iter().map(|entry| format!("tenant {entry:x?}")));
    content.extend(maps.trie::<4>(names::ROUTES).iter().map(|entry| format!("route {entry:x?}")));
    content.extend(maps.trie::<128>(names::OUTSIDE).iter().map(|entry| format!("outside {entry:x?}")));
    let words = maps.array::<8>(names::PORT_WORDS);
    let words = (0..PORT_WORDS).map(|index| (index, get(&words, index))).filter(|(_, word)| *word != [0; 8]);
    content.extend(words.map(|(index, word)| format!("port word {index} {word:x?}")));
    let (attachments, instances) = (maps.array::<16>(names::ATTACHMENTS), maps.array::<56>(names::INSTANCES));
    for id in 1..IDS {
        let (attachment, instance) = (get(&attachments, id), get(&instances, id));
        if attachment != [0; 16] {
            content.insert(format!("attachment {id} {attachment:x?}"));
        }
        if instance != [0; 56] {
            content.insert(format!("instance {id} {instance:x?}"));
        }
    }
    plan(&maps, &mut content);
    content
}

/// The bank in force, tables and views.
fn plan(maps: &Maps, content: &mut Content) {
    let active = maps.active();
    content.insert(format!("generation {}", active.generation()));
    let (words, pages) = (maps.array::<8>(names::PLAN), maps.array::<PAGE_BYTES>(names::PAGES));
    let word = |index: u32| u64::from_ne_bytes(get(&words, active.bank() * BANK_WORDS + index));
    let entry = |index: u32| u16_at(&get(&pages, index / PAGE_SLOTS), (index % PAGE_SLOTS) as usize * 2);
    let views =
        Views { views: maps.array(names::VIEWS), nodes: maps.array(names::NODES), edges: maps.array(names::EDGES) };
    for id in 1..IDS {
        let table = TableWord(word(id));
        if table.0 != 0 {
            let all = table.start()..table.start() + table.size() + table.members();
            let entries: Vec<u16> = all.map(entry).collect();
            let (slots, members) = entries.split_at(table.size() as usize);
            let sum = slots.iter().fold(0_u64, |sum, slot| sum.wrapping_mul(0x100_0000_01b3) ^ u64::from(*slot));
            content.insert(format!("set {id}: {} slots {sum:x} of members {members:?}", slots.len()));
        }
        let graph = GraphWord(word(REPLICA_SETS_MAX + id));
        if graph.0 != 0 {
            let candidate = if graph.canary() == 0 { String::new() } else { views.view(graph.canary()) };
            let (stable, share) = (views.view(graph.stable()), graph.canary_share());
            content.insert(format!("graph {id}: {stable} candidate {share} {candidate}"));
        }
    }
    let slots = maps.hash::<8, 4>(names::VIEW_SLOTS);
    let installed: BTreeMap<u32, [u8; 8]> = slots.iter().map(|(key, slot)| (u32_at(slot, 0), *key)).collect();
    content.extend(slots.iter().map(|(key, slot)| format!("installed {key:x?} {}", views.view(u32_at(slot, 0)))));
    for (key, node) in maps.hash::<8, 4>(names::NODE_OF) {
        let (slot, what) = (u32_at(&key, 0), u32_at(&key, 4));
        let of = installed
            .get(&slot)
            .map_or_else(|| format!("of slot {slot}, which no view has"), |view| format!("{view:x?}"));
        content.insert(format!("node {what:x} of {of}: {}", views.node(u32_at(&node, 0))));
    }
}
