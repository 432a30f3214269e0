//! Running the model.

use crate::config::{Config, NODES};
use crate::flow::{Flow, Node, Path};
use crate::model::{Action, ONE_ANSWER, ONE_INSTANCE};
use crate::world::World;
use chain_graph::phase::At;
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::HashMap;
use std::time::Instant;

/// Looks at every state: both properties hold in each.
#[track_caller]
pub(crate) fn holds(what: &str, config: Config) {
    let started = Instant::now();
    let checker = config.checker().spawn_bfs().join();
    println!("{what}: holds, {} states, {:?}", checker.unique_state_count(), started.elapsed());
    for property in [ONE_INSTANCE, ONE_ANSWER] {
        if let Some(path) = checker.discovery(property) {
            let world = format!("{:#?}", path.last_state());
            panic!("{what}: {property:?} does not hold: {}\n{world}", written(path.into_actions()));
        }
    }
}

/// In some state this property does not hold.
#[track_caller]
pub(crate) fn breaks(what: &str, property: &'static str, config: Config) {
    let started = Instant::now();
    let wanted = HasDiscoveries::AnyOf([property].into());
    let checker = config.checker().finish_when(wanted).spawn_bfs().join();
    let states = checker.unique_state_count();
    let path = checker.discovery(property).unwrap_or_else(|| {
        panic!("{what}: {property:?} holds in all {states} states, it must not");
    });
    println!("{what}: {property:?} breaks, {states} states, {:?}: {}", started.elapsed(), written(path.into_actions()));
}

fn written(actions: Vec<Action>) -> String {
    actions.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// From every state, the whole chain of plans can still be carried through, up to where a frame is delivered wherever it
/// enters.
#[track_caller]
pub(crate) fn never_stuck(what: &str, config: Config) {
    let started = Instant::now();
    let mut states = config.init_states();
    let mut index = HashMap::from([(states[0].clone(), 0)]);
    let mut before = vec![Vec::new()];
    let mut at = 0;
    while at < states.len() {
        for next in config.next_states(&states[at].clone()) {
            let number = *index.entry(next).or_insert_with_key(|next| {
                states.push(next.clone());
                before.push(Vec::new());
                states.len() - 1
            });
            before[number].push(at);
        }
        at += 1;
    }
    let mut can_end: Vec<bool> = states.iter().map(|world| is_done(&config, world)).collect();
    let mut waiting: Vec<usize> = (0..states.len()).filter(|number| can_end[*number]).collect();
    while let Some(number) = waiting.pop() {
        for earlier in &before[number] {
            if !std::mem::replace(&mut can_end[*earlier], true) {
                waiting.push(*earlier);
            }
        }
    }
    println!("{what}: never stuck, {} states, {:?}", states.len(), started.elapsed());
    let stuck = can_end.iter().position(|can_end| !can_end);
    assert!(stuck.is_none(), "{what}: stuck in {:#?}", stuck.map(|number| &states[number]));
}

/// The last plan of the chain is in force everywhere, and no front end loses frames of the flow, unless a host of its path
/// is dead.
fn is_done(config: &Config, world: &World) -> bool {
    let is_last = |at: At| matches!(at, At::Stable { plan, .. } if plan.digest as usize + 1 == config.chain.len());
    let is_cut = |path: &Path| (0..NODES as Node).any(|node| path.has(node) && !world.node(node).is_alive);
    world.coordinator.is_settled()
        && is_last(world.coordinator.place().at())
        && (world.flow.is_dead
            || config.chain.last().is_some_and(is_cut)
            || world.alive().all(|node| is_delivered(config, world, node)))
}

/// Whether a frame that enters at a front end is delivered, if no other is under way.
fn is_delivered(config: &Config, world: &World, node: Node) -> bool {
    let mut world = World { flow: Flow::default(), ..world.clone() };
    world.frames.clear();
    world.enters(config, node, false, true);
    while let Some(frame) = world.frames.pop_first() {
        world.arrives(config, frame, false, true);
    }
    world.flow.home[0].is_some()
}
