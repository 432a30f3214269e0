//! Randomness from a seed. `SWITCHYARD_SEED` names the one seed to run; a test that fails prints its own.

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Below `end`, which is above 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}

/// Runs a test with every seed of `0..seeds`, or with the one that is asked for.
pub(crate) fn with_seeds(seeds: u64, mut test: impl FnMut(Random)) {
    let asked = std::env::var("SWITCHYARD_SEED").ok();
    let seeds = match asked.map(|seed| seed.parse().expect("SWITCHYARD_SEED is a number")) {
        Some(seed) => seed..seed + 1,
        None => 0..seeds,
    };
    for seed in seeds {
        println!("SWITCHYARD_SEED={seed}");
        test(Random(seed));
    }
}
