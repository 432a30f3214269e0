//! Kills between two writes to mapped arrays, where no system call is.

use crate::{Random, SHAPES, World, maps, shape};
use std::collections::BTreeSet;
use testbed::require;
use testbed::scenario::eventually;
use testbed::trace::{MappedWrites, Writes};

/// How far an install came before its process was killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reached {
    /// It had written to mapped arrays, but not switched.
    BetweenWrites,
    /// It had switched.
    Switched,
}

impl World {
    /// Puts a shape in force in a data path that never had another one, so that the other shape's functions are known to none
    /// of its maps.
    fn begin_with(&mut self, declared: &str) {
        self.tenant.front_end.apply(declared);
        self.tenant.front_end.kill().expect("kill -9");
        self.tenant.front_end.take_down().expect("take the data path down");
        self.tenant.front_end.restart().expect("restart");
        self.tenant.front_end.wait_programmed();
        eventually("a version without flows goes", || maps::views(&self.content()) == 1);
    }

    /// Has the process killed when it has made so many writes for a document. The writes that it made.
    fn kill_after(&mut self, writes: u64, wanted: &str) -> Writes {
        let process = self.tenant.front_end.process_id().expect("it runs");
        let watched = MappedWrites::watch(process, writes).expect("the process is watched");
        // Whether the answer still came, the moment of the kill decides.
        self.tenant.front_end.try_apply(wanted).expect("command line");
        self.tenant.front_end.kill().expect("kill -9");
        watched.writes().expect("watched to its end")
    }
}

/// Numbers of writes after which to kill: for each array that is written to in a row, behind the first write, behind one at
/// random and behind the last.
fn moments(writes: &Writes, random: &mut Random) -> BTreeSet<u64> {
    let mut before = 0;
    let of_run = |(_, count): &(u64, u64)| {
        let first = before + 1;
        before += count;
        [first, first + random.below(*count), before]
    };
    writes.iter().flat_map(of_run).collect()
}

#[test]
fn killed_between_two_writes_to_mapped_arrays_it_forwards_by_one_version() {
    require!();
    let (mut world, mut random) = (World::new(), Random::new());
    world.begin_with(&shape(0, 0));
    let writes = world.kill_after(u64::MAX, &shape(1, 1));
    println!("an install writes to arrays of (bytes, times in a row): {writes:?}");
    let mut reached = Vec::new();
    world.tenant.front_end.restart().expect("restart");
    for (round, moment) in moments(&writes, &mut random).into_iter().enumerate() {
        let version = 2 * round + 2;
        world.begin_with(&shape(0, version));
        let mut connections = world.connect();
        let generation = maps::generation(world.tenant.front_end.bpffs());
        let made = world.kill_after(moment, &shape(1, version + 1));
        assert!(made.iter().map(|(_, count)| count).sum::<u64>() <= moment, "it outlived the moment: {made:?}");
        let has_switched = maps::generation(world.tenant.front_end.bpffs()) != generation;
        reached.push(if has_switched { Reached::Switched } else { Reached::BetweenWrites });
        let wanted = if has_switched { SHAPES[1] } else { SHAPES[0] };
        assert_eq!(world.new_flows(), BTreeSet::from([wanted.to_vec()]), "killed after {made:?}");
        connections.exchange().expect("connections after the kill");
        world.tenant.front_end.restart().expect("restart");
        world.tenant.front_end.wait_programmed();
        assert_eq!(world.new_flows(), BTreeSet::from([world.declared().to_vec()]), "killed after {made:?}, restarted");
        connections.exchange().expect("connections after the restart");
    }
    let count = |wanted| reached.iter().filter(|reached| **reached == wanted).count();
    let (before, behind) = (count(Reached::BetweenWrites), count(Reached::Switched));
    println!("killed {before} times between writes before the switch, {behind} times behind it");
    assert!(before >= 4 && behind >= 1, "the install was not interrupted on both sides of its switch");
}
