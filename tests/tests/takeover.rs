//! A process that comes back takes the data path over as it is: nothing that is in use moves. One with another state is
//! refused, and harms nothing.

use aya::Pod;
use aya::maps::{Array, Map, MapData};
use std::collections::BTreeMap;
use testbed::nf::BridgeFirewall;
use testbed::scenario::{Stage, TRANSPARENT, firewalls, function, host, plain};
use testbed::traffic::{Connections, EchoServer, Ping};
use testbed::{Documents, FrontEnd, Host, Testbed, require};
use xdp_layout::names;
use xdp_layout::plan::{ActiveWord, BANK_WORDS, DIGEST_WORD, PAGE_SLOTS, REPLICA_SETS_MAX, TableWord};

const SERVICE: u16 = 7000;

type Page = [u16; PAGE_SLOTS as usize];

/// A client, a server, and a chain of two functions with two instances each.
struct World {
    client: Host,
    server: Host,
    stages: [Vec<BridgeFirewall>; 2],
    front_end: FrontEnd,
    testbed: Testbed,
}

impl World {
    fn new() -> Self {
        let testbed = Testbed::new().expect("testbed");
        let node = testbed.node();
        let (client, server) = (host(node, "client", 1).expect("client"), host(node, "server", 2).expect("server"));
        let stages = [["a1", "a2"], ["b1", "b2"]].map(|names| firewalls(node, &names, &[]).expect("firewalls"));
        let front_end = FrontEnd::start(node).expect("front end");
        let world = Self { client, server, stages, front_end, testbed };
        world.front_end.apply(&world.documents());
        world
    }

    fn documents(&self) -> Documents {
        let documents = Documents::new()
            .tenant("acme", 100)
            .attachment("acme", "clients", "client", &self.client)
            .attachment("acme", "servers", "server", &self.server);
        let documents = function(documents, "a", TRANSPARENT, plain(&self.stages[0]));
        function(documents, "b", TRANSPARENT, plain(&self.stages[1])).chain("acme", "web", &["a", "b"])
    }

    fn ping(&self) -> bool {
        Ping::new(self.server.ipv4()).run(self.client.namespace()).expect("ping").is_perfect()
    }

    /// A map of the data path, whether or not a process drives it.
    fn map<V: Pod>(&self, name: &str) -> Array<MapData, V> {
        let pin = self.front_end.bpffs().join(format!("v{}", xdp_layout::LAYOUT_VERSION)).join(name);
        let data = MapData::from_pin(&pin).unwrap_or_else(|e| panic!("{}: {e}", pin.display()));
        Array::try_from(Map::Array(data)).expect("an array")
    }

    /// Where the plan in force has tables and views: the words of its bank, by index, apart from the digest.
    fn words(&self) -> BTreeMap<u32, u64> {
        let active = ActiveWord(self.map(names::ACTIVE).get(&0, 0).expect("the active word"));
        let plan = self.map::<u64>(names::PLAN);
        let word = |index| (index, plan.get(&(active.bank() * BANK_WORDS + index), 0).expect("a word"));
        (DIGEST_WORD + 1..BANK_WORDS).map(word).filter(|(_, word)| *word != 0).collect()
    }

    /// The u16 at an index of the pages.
    fn entry(&self, index: u32) -> u16 {
        let page: Page = self.map(names::PAGES).get(&(index / PAGE_SLOTS), 0).expect("a page");
        page[(index % PAGE_SLOTS) as usize]
    }

    fn set_entry(&self, index: u32, value: u16) {
        let mut pages = self.map::<Page>(names::PAGES);
        let mut page = pages.get(&(index / PAGE_SLOTS), 0).expect("a page");
        page[(index % PAGE_SLOTS) as usize] = value;
        pages.set(index / PAGE_SLOTS, page, 0).expect("write a page");
    }

    /// A table and its members' instances as the pages have them.
    fn table(&self, word: TableWord) -> Vec<u16> {
        (word.start()..word.start() + word.size() + word.members()).map(|index| self.entry(index)).collect()
    }
}

/// Words of replica sets.
fn tables(words: &BTreeMap<u32, u64>) -> Vec<TableWord> {
    words.range(..REPLICA_SETS_MAX).map(|(_, word)| TableWord(*word)).collect()
}

#[test]
fn tables_and_views_stay_where_they_are() {
    require!();
    let mut world = World::new();
    let service = std::net::SocketAddr::new(world.server.ipv4(), SERVICE);
    let _echo = EchoServer::start(world.server.namespace(), service).expect("echo");
    let mut connections = Connections::open(world.client.namespace(), service, 20).expect("connections");
    let record = |world: &World| {
        world
            .stages
            .each_ref()
            .map(|stage| Stage::record(stage.iter().map(BridgeFirewall::instance)).expect("recorders"))
    };
    let stages = record(&world);
    connections.exchange().expect("connections live");
    let pins = stages.map(|stage| stage.pins("in", |tuple| tuple.protocol == 6));
    let before = world.words();
    assert_eq!((tables(&before).len(), before.len()), (2, 3), "two tables and a graph");
    for round in 1..=2 {
        world.front_end.kill().expect("kill -9");
        connections.exchange().expect("connections live without a process");
        world.front_end.restart().expect("restart");
        world.front_end.wait_programmed();
        assert_eq!(world.words(), before, "tables or views were written anew at restart {round}");
        let stages = record(&world);
        connections.exchange().expect("connections live after the restart");
        assert_eq!(stages.map(|stage| stage.pins("in", |tuple| tuple.protocol == 6)), pins);
    }
    // What changes after a restart does not land on what is in use.
    let kept = tables(&before).into_iter().map(|word| (word, world.table(word))).collect::<Vec<_>>();
    let instance = world.stages[0][0].instance();
    world.front_end.apply(&Documents::new().instance("a", instance.name(), instance, ", weight: 3"));
    let after = world.words();
    let moved: Vec<_> = before.iter().filter(|(index, word)| after.get(index) != Some(word)).collect();
    assert_eq!(moved.len(), 1, "{before:x?}, then {after:x?}");
    let still = kept.iter().filter(|(word, _)| tables(&after).contains(word)).collect::<Vec<_>>();
    assert!(still.len() == 1 && still.iter().all(|(word, table)| world.table(*word) == *table));
    connections.exchange().expect("connections live");
}

#[test]
fn a_table_with_other_bytes_is_not_taken_over() {
    require!();
    let mut world = World::new();
    let before = world.words();
    let [damaged, sound] = tables(&before)[..] else { panic!("two tables: {before:x?}") };
    let table = world.table(damaged);
    world.front_end.kill().expect("kill -9");
    world.set_entry(damaged.start() + 7, 1 - world.entry(damaged.start() + 7));
    assert_ne!(world.table(damaged), table);
    world.front_end.restart().expect("restart");
    world.front_end.wait_programmed();
    let [mended, kept] = tables(&world.words())[..] else { panic!("two tables") };
    assert_ne!(mended.start(), damaged.start());
    assert_eq!((world.table(mended), kept), (table, sound));
    assert!(world.ping());
}

#[test]
fn a_data_path_of_another_state_is_refused_and_goes_on() {
    require!();
    let mut world = World::new();
    assert!(world.ping());
    let words = world.words();
    let other = world.testbed.node().namespace().directory().join("other");
    std::fs::create_dir_all(&other).expect("folder");
    world.front_end.restart_with_state(&other).expect("it serves");
    let refused = |world: &World| {
        let status = world.front_end.json(&["status"]);
        assert_eq!(status["programmed"], false, "{status:#}");
        let reason = status["reason"].as_str().unwrap_or_default().to_owned();
        let path = world.front_end.bpffs().display().to_string();
        assert!(reason.contains("belongs to another state file") && reason.contains(&path), "{status:#}");
        println!("{reason}");
    };
    refused(&world);
    // Nor does the data path take what is declared there, which is stored all the same.
    let ran = world.front_end.try_apply(&world.documents()).expect("command line");
    assert!(ran.code == 0 && ran.stderr.contains("belongs to another state file"), "{ran:?}");
    refused(&world);
    assert_eq!(world.words(), words);
    assert!(world.ping());
    world.front_end.restart().expect("restart");
    world.front_end.wait_programmed();
    assert_eq!(world.words(), words);
    assert!(world.ping());
}

#[test]
fn a_plan_that_contradicts_the_stored_one_is_kept() {
    require!();
    let mut world = World::new();
    assert!(world.ping());
    let words = world.words();
    world.front_end.kill().expect("kill -9");
    let active = ActiveWord(world.map(names::ACTIVE).get(&0, 0).expect("the active word"));
    let (mut plan, index) = (world.map::<u64>(names::PLAN), active.bank() * BANK_WORDS + DIGEST_WORD);
    let digest = plan.get(&index, 0).expect("the digest");
    assert_ne!(digest, 0);
    plan.set(index, !digest, 0).expect("write the digest");
    world.front_end.restart().expect("restart");
    let status = world.front_end.json(&["status"]);
    let reason = status["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("same number, other content"), "{status:#}");
    println!("{reason}");
    assert_eq!(world.words(), words);
    assert!(world.ping());
    world.front_end.kill().expect("kill -9");
    plan.set(index, digest, 0).expect("write the digest");
    world.front_end.restart().expect("restart");
    world.front_end.wait_programmed();
    assert_eq!(world.words(), words);
}
