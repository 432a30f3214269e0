//! The path cache from user space: begun, made larger as flows come, and begun anew when there is no room for more paths.

use crate::agent::random;
use crate::clock;
use crate::error::{Error, Result};
use crate::loader::Loader;
use crate::maps::{mapped, typed};
use crate::sys::{self, Mapping};
use aya::maps::{Array, MapData};
use std::time::{Duration, Instant};
use xdp_layout::cache::{CACHE_SETS, CACHE_WAYS, CACHED_PATHS, CacheConfig, CacheEntry, CacheSet, CachedPath};
use xdp_layout::flow::FlowKey;
use xdp_layout::names;

/// Sets at first: 1 MiB, which stays in the second-level cache of today's processors.
const SETS_MIN: u32 = 1 << 14;
/// Records for two sets beyond which there are to be twice as many sets: of eight entries, so that about one flow in seventy finds its
/// set full.
const RECORDS_PER_TWO_SETS: u64 = 9;
/// Paths are forgotten no oftener, since with them is forgotten which records are idle.
const PATHS_KEPT: Duration = Duration::from_secs(3600);
/// Stamps in which a record is idle for the longest limit and found so by a sweep.
const STAMPS_OF_A_RECORD: u32 = 56;

/// The maps of the path cache.
pub(crate) struct PathCache {
    config: Array<MapData, CacheConfig>,
    sets: Mapping,
    paths: Mapping,
    begun: Instant,
    /// Frames without room for their path, when the paths were forgotten last.
    turned_away: u64,
}

impl PathCache {
    pub(crate) fn open(loader: &mut Loader) -> Result<Self> {
        Ok(Self {
            config: typed(loader, names::CACHE_CONFIG)?,
            sets: mapped::<CacheSet>(loader, names::CACHE, CACHE_SETS as usize)?,
            paths: mapped::<CachedPath>(loader, names::PATHS, CACHED_PATHS as usize)?,
            begun: Instant::now(),
            turned_away: 0,
        })
    }

    fn config(&self) -> Result<CacheConfig> {
        self.config.get(&0, 0).map_err(|source| Error::Map { map: names::CACHE_CONFIG, source })
    }

    fn set_config(&mut self, config: CacheConfig) -> Result<()> {
        self.config.set(0, config, 0).map_err(|source| Error::Map { map: names::CACHE_CONFIG, source })
    }

    /// Takes over what is there, unless it was begun for other limits: records stay without a frame for `longest` ticks at most, until
    /// a sweep finds them. `turned_away` frames have found no room for their path so far.
    pub(crate) fn configure(&mut self, loader: &Loader, longest: u32, turned_away: u64) -> Result<()> {
        self.turned_away = turned_away;
        let known = self.config()?;
        let stamps = stamps(longest);
        if known.sets_mask != 0 && known.stamps == stamps {
            return Ok(());
        }
        self.begin(CacheConfig { stamps, ..known }, known.sets_mask.saturating_add(1).max(SETS_MIN), loader)
    }

    /// Makes room for the flows there are, and for other paths where some found none (`turned_away` frames so far).
    pub(crate) fn fit(&mut self, loader: &Loader, records: u64, turned_away: u64) -> Result<()> {
        let config = self.config()?;
        let sets = config.sets_mask + 1;
        let wanted = wanted(records);
        let is_full = turned_away > self.turned_away && self.begun.elapsed() > PATHS_KEPT;
        if wanted <= sets && !is_full {
            return Ok(());
        }
        self.turned_away = turned_away;
        let sets = wanted.max(sets);
        tracing::info!(records, sets, turned_away, "path cache begun anew");
        self.begin(config, sets, loader)
    }

    /// Forgets everything. Nothing but the number of sets, a power of two from 2 on, changes while anybody may read it.
    fn begin(&mut self, config: CacheConfig, sets: u32, loader: &Loader) -> Result<()> {
        self.set_config(CacheConfig { sets_mask: 0, ..self.config()? })?;
        // Also if there were none before: whoever put it off may not have waited.
        grace_period()?;
        (0..CACHE_SETS as usize).for_each(|set| self.sets.write(set, &[CacheSet::default()]));
        (0..CACHED_PATHS as usize).for_each(|path| self.paths.write(path, &[CachedPath::default()]));
        let mut keys = config.keys;
        keys.as_flattened_mut().iter_mut().try_for_each(|key| random().map(|random| *key = random))?;
        // Read now: frames went by what is forgotten until a moment ago.
        let begun = clock::ticks(loader)? as u32;
        let fresh = CacheConfig { sets_mask: 0, begun, ..config }.with_keys(keys);
        self.set_config(fresh)?;
        // Whoever sees that there are sets sees all the rest.
        grace_period()?;
        self.set_config(CacheConfig { sets_mask: sets - 1, ..fresh })?;
        self.begun = Instant::now();
        Ok(())
    }

    /// Ticks for which these flows may have been without a frame at most, by what the cache says and has not forgotten.
    pub(crate) fn idle<'a>(&self, keys: impl Iterator<Item = &'a FlowKey>, now: u32) -> Result<Vec<u32>> {
        let config = self.config()?;
        let begun = now.wrapping_sub(config.begun);
        let word = |set: u32, way: usize| Some(self.sets.read(set as usize * CACHE_WAYS + way));
        Ok(keys.map(|key| xdp_forward::cache::idle(&config, key, now, word).unwrap_or(begun)).collect())
    }
}

fn grace_period() -> Result<()> {
    sys::grace_period().map_err(|source| Error::Host {
        operation: "wait for a grace period",
        object: "the path cache".to_owned(),
        source,
    })
}

/// Sets for so many records.
fn wanted(records: u64) -> u32 {
    let sets = (2 * records).div_ceil(RECORDS_PER_TWO_SETS).next_power_of_two();
    u32::try_from(sets).unwrap_or(CACHE_SETS).clamp(SETS_MIN, CACHE_SETS)
}

/// Stamps in 2^32 ticks: whole rounds of them, so that the clock goes on where it starts again.
fn stamps(longest: u32) -> u32 {
    let round = 1 << CacheEntry::STAMP_BITS;
    let ticks = longest / STAMPS_OF_A_RECORD + 1;
    (u32::MAX / ticks / round).max(1) * round
}

#[cfg(test)]
mod tests {
    use super::{PATHS_KEPT, PathCache, SETS_MIN, STAMPS_OF_A_RECORD, stamps, wanted};
    use crate::clock;
    use crate::loader::{self, Hook, Loader};
    use std::path::PathBuf;
    use std::time::Duration;
    use xdp_layout::cache::{CACHE_SETS, CACHE_WAYS, CacheConfig, CachedPath};

    #[test]
    fn it_is_taken_over_and_begun_anew_only_when_it_must_be() {
        let directory = PathBuf::from(format!("/sys/fs/bpf/switchyard-test-cache-{}", std::process::id()));
        let mut loader = Loader::open(&directory, 1024, &[Hook::Port]).expect("the programs load");
        let mut cache = PathCache::open(&mut loader).expect("maps");
        cache.configure(&loader, 88_000, 3).expect("begun");
        let first = cache.config().expect("a configuration");
        assert_eq!((first.sets_mask, first.stamps), (SETS_MIN - 1, stamps(88_000)));
        assert!(first.keys.iter().flatten().all(|key| *key != 0));
        let same = |cache: &PathCache, known: CacheConfig| assert_eq!(cache.config().expect("a configuration"), known);
        // Another agent with the same limits, and room enough.
        cache.configure(&loader, 88_000, 4).expect("taken over");
        cache.fit(&loader, 1000, 4).expect("nothing to do");
        same(&cache, first);
        // More flows: nothing of before is left.
        cache.sets.write(3, &[7u64; CACHE_WAYS]);
        cache.paths.write(9, &[CachedPath { flags: 1, ..CachedPath::default() }]);
        let before = clock::ticks(&loader).expect("ticks") as u32;
        cache.fit(&loader, 80_000, 4).expect("begun anew");
        let larger = cache.config().expect("a configuration");
        assert_eq!((larger.sets_mask, larger.stamps), (2 * SETS_MIN - 1, first.stamps));
        assert!(larger.begun.wrapping_sub(before) < 1 << 16, "begun {} after {before}", larger.begun);
        assert!(larger.keys.iter().flatten().zip(first.keys.iter().flatten()).all(|(new, old)| new != old));
        assert_eq!(cache.sets.read::<u64>(3 * CACHE_WAYS), 0);
        assert_eq!(cache.paths.read::<CachedPath>(9), CachedPath::default());
        // Fewer flows, and paths that were found full a short time ago.
        cache.fit(&loader, 0, 5).expect("nothing to do");
        same(&cache, larger);
        cache.begun = cache.begun.checked_sub(PATHS_KEPT + Duration::from_secs(1)).expect("the machine is up so long");
        cache.fit(&loader, 0, 5).expect("begun anew");
        let again = cache.config().expect("a configuration");
        assert!(again.keys != larger.keys && again.sets_mask == larger.sets_mask);
        // Other limits, and an agent that ended on its way there.
        cache.configure(&loader, 99_000, 5).expect("begun anew");
        let other = cache.config().expect("a configuration");
        assert_eq!((other.sets_mask, other.stamps), (2 * SETS_MIN - 1, stamps(99_000)));
        cache.set_config(CacheConfig { sets_mask: 0, ..other }).expect("written");
        cache.configure(&loader, 99_000, 5).expect("begun anew");
        let again = cache.config().expect("a configuration");
        assert!(again.keys != other.keys && again.sets_mask == SETS_MIN - 1);
        drop(loader);
        loader::remove(&directory).expect("remove the pins");
    }

    #[test]
    fn there_are_sets_for_the_records_and_no_more() {
        assert_eq!(wanted(0), SETS_MIN);
        assert_eq!(wanted(1 << 16), SETS_MIN);
        assert_eq!(wanted(73_729), 2 * SETS_MIN);
        assert_eq!(wanted(1 << 30), CACHE_SETS);
        for records in (0..1 << 19).step_by(977) {
            let entries = u64::from(wanted(records)) * CACHE_WAYS as u64;
            assert!(entries * 9 / 16 >= records, "{records} records, {entries} entries");
        }
    }

    #[test]
    fn a_record_goes_before_its_stamp_comes_again() {
        for longest in [1, 60, 1000, 87_500, 88_000, 1 << 24] {
            let config = CacheConfig { stamps: stamps(longest), ..CacheConfig::default() };
            assert!(u64::from(config.ticks()) * u64::from(STAMPS_OF_A_RECORD) > u64::from(longest), "{longest}");
            assert_eq!(config.stamp(u32::MAX), 63, "the clock goes on where it starts again");
            assert_eq!(config.stamp(0), 0);
        }
    }
}
