//! A process that comes back takes the data path over as it is: nothing that is in use moves. One with another state is
//! refused, and harms nothing.

use aya::Pod;
use aya::maps::{Array, Map, MapData};
use std::collections::BTreeMap;
use testbed::scenario::{OneTenant, Stage};
use testbed::traffic::{Connections, EchoServer};
use testbed::{Documents, require};
use xdp_layout::names;
use xdp_layout::plan::{ActiveWord, BANK_WORDS, DIGEST_WORD, PAGE_SLOTS, REPLICA_SETS_MAX, TableWord};

const SERVICE: u16 = 7000;

type Page = [u16; PAGE_SLOTS as usize];

/// A chain of two functions with two instances each.
struct World {
    tenant: OneTenant,
}

impl World {
    fn new() -> Self {
        Self { tenant: OneTenant::with_two_stages(&[]).expect("a tenant") }
    }

    fn record(&self) -> [Stage; 2] {
        ["a", "b"].map(|function| self.tenant.site.record(function).expect("recorders"))
    }

    /// A map of the data path, whether or not a process drives it.
    fn map<V: Pod>(&self, name: &str) -> Array<MapData, V> {
        let pin = self.tenant.front_end.bpffs().join(format!("v{}", xdp_layout::LAYOUT_VERSION)).join(name);
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
    let service = world.tenant.site.service(SERVICE);
    let _echo = EchoServer::start(world.tenant.site.server.namespace(), service).expect("echo");
    let mut connections = Connections::open(world.tenant.site.client.namespace(), service, 20).expect("connections");
    let stages = world.record();
    connections.exchange().expect("connections live");
    let pins = stages.map(|stage| stage.pins("in", |tuple| tuple.protocol == 6));
    let before = world.words();
    assert_eq!((tables(&before).len(), before.len()), (2, 3), "two tables and a graph");
    for round in 1..=2 {
        world.tenant.front_end.kill().expect("kill -9");
        connections.exchange().expect("connections live without a process");
        world.tenant.front_end.restart().expect("restart");
        world.tenant.front_end.wait_programmed();
        assert_eq!(world.words(), before, "tables or views were written anew at restart {round}");
        let stages = world.record();
        connections.exchange().expect("connections live after the restart");
        assert_eq!(stages.map(|stage| stage.pins("in", |tuple| tuple.protocol == 6)), pins);
    }
    // What changes after a restart does not land on what is in use.
    let kept = tables(&before).into_iter().map(|word| (word, world.table(word))).collect::<Vec<_>>();
    let instance = world.tenant.site.members("a")[0].instance();
    world.tenant.front_end.apply(&Documents::new().instance("a", instance.name(), instance, ", weight: 3"));
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
    world.tenant.front_end.kill().expect("kill -9");
    world.set_entry(damaged.start() + 7, 1 - world.entry(damaged.start() + 7));
    assert_ne!(world.table(damaged), table);
    world.tenant.front_end.restart().expect("restart");
    world.tenant.front_end.wait_programmed();
    let [mended, kept] = tables(&world.words())[..] else { panic!("two tables") };
    assert_ne!(mended.start(), damaged.start());
    assert_eq!((world.table(mended), kept), (table, sound));
    assert!(world.tenant.site.ping());
}

#[test]
fn a_data_path_of_another_state_is_refused_and_goes_on() {
    require!();
    let mut world = World::new();
    assert!(world.tenant.site.ping());
    let words = world.words();
    let other = world.tenant.testbed.node().namespace().directory().join("other");
    std::fs::create_dir_all(&other).expect("folder");
    world.tenant.front_end.restart_with_state(&other).expect("it serves");
    let refused = |world: &World| {
        let status = world.tenant.front_end.json(&["status"]);
        assert_eq!(status["programmed"], false, "{status:#}");
        let reason = status["reason"].as_str().unwrap_or_default().to_owned();
        let path = world.tenant.front_end.bpffs().display().to_string();
        assert!(reason.contains("belongs to another state file") && reason.contains(&path), "{status:#}");
        println!("{reason}");
    };
    refused(&world);
    // Nor does the data path take what is declared there, which is stored all the same.
    let ran = world.tenant.front_end.try_apply(&world.tenant.documents()).expect("command line");
    assert!(ran.code == 0 && ran.stderr.contains("belongs to another state file"), "{ran:?}");
    refused(&world);
    assert_eq!(world.words(), words);
    assert!(world.tenant.site.ping());
    world.tenant.front_end.restart().expect("restart");
    world.tenant.front_end.wait_programmed();
    assert_eq!(world.words(), words);
    assert!(world.tenant.site.ping());
}

#[test]
fn a_plan_that_contradicts_the_stored_one_is_kept() {
    require!();
    let mut world = World::new();
    assert!(world.tenant.site.ping());
    let words = world.words();
    world.tenant.front_end.kill().expect("kill -9");
    let active = ActiveWord(world.map(names::ACTIVE).get(&0, 0).expect("the active word"));
    let (mut plan, index) = (world.map::<u64>(names::PLAN), active.bank() * BANK_WORDS + DIGEST_WORD);
    let digest = plan.get(&index, 0).expect("the digest");
    assert_ne!(digest, 0);
    plan.set(index, !digest, 0).expect("write the digest");
    world.tenant.front_end.restart().expect("restart");
    let status = world.tenant.front_end.json(&["status"]);
    let reason = status["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("same number, other content"), "{status:#}");
    println!("{reason}");
    assert_eq!(world.words(), words);
    assert!(world.tenant.site.ping());
    world.tenant.front_end.kill().expect("kill -9");
    plan.set(index, digest, 0).expect("write the digest");
    world.tenant.front_end.restart().expect("restart");
    world.tenant.front_end.wait_programmed();
    assert_eq!(world.words(), words);
}
