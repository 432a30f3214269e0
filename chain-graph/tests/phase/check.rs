//! Running the model.

use crate::config::Config;
use crate::world::World;
use chain_graph::phase::At;
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::HashMap;
use std::time::Instant;

/// Looks at every state; each property holds in each.
#[track_caller]
pub(crate) fn holds(what: &str, config: Config) {
    let started = Instant::now();
    let checker = config.checker().spawn_bfs().join();
    println!("{what}: {} states in {:?}", checker.unique_state_count(), started.elapsed());
    checker.assert_properties();
}

/// Some state breaks this property.
#[track_caller]
pub(crate) fn breaks(what: &str, property: &'static str, config: Config) {
    let wanted = HasDiscoveries::AnyOf([property].into());
    let checker = config.checker().finish_when(wanted).spawn_bfs().join();
    let path = checker.discovery(property).unwrap_or_else(|| {
        panic!("{what}: no counterexample to {property:?} in {} states", checker.unique_state_count());
    });
    println!("{what}: {property:?} broken, {} states\n  {:?}", checker.unique_state_count(), path.into_actions());
}

/// From every state, the whole chain of plans can still be carried through.
#[track_caller]
pub(crate) fn never_stuck(what: &str, config: Config) {
    let started = Instant::now();
    let mut index = HashMap::new();
    let mut states = config.init_states();
    index.insert(states[0].clone(), 0);
    let mut before: Vec<Vec<usize>> = vec![Vec::new()];
    let mut at = 0;
    while at < states.len() {
        for next in config.next_states(&states[at].clone()) {
            let number = *index.entry(next.clone()).or_insert_with(|| {
                states.push(next);
                before.push(Vec::new());
                states.len() - 1
            });
            before[number].push(at);
        }
        at += 1;
    }
    let mut reached: Vec<bool> = states.iter().map(|world| is_done(&config, world)).collect();
    let mut waiting: Vec<usize> = (0..states.len()).filter(|number| reached[*number]).collect();
    while let Some(number) = waiting.pop() {
        for earlier in &before[number] {
            if !std::mem::replace(&mut reached[*earlier], true) {
                waiting.push(*earlier);
            }
        }
    }
    println!("{what}: {} states in {:?}", states.len(), started.elapsed());
    let stuck = reached.iter().position(|reached| !reached);
    assert!(stuck.is_none(), "{what}: stuck in {:#?}", stuck.map(|number| &states[number]));
}

/// The last plan of the chain is in force everywhere.
fn is_done(config: &Config, world: &World) -> bool {
    let is_last = |at: At| matches!(at, At::Stable { plan, .. } if plan.digest as usize + 1 == config.chain.len());
    world.coordinator.is_settled() && is_last(world.coordinator.place().at())
}
