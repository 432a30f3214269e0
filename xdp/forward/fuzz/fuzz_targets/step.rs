//! Frames that libFuzzer makes up, through the core over the setups of the fixture table. The first two bytes of an input
//! choose the case, whose earlier frames arrive first; the rest is the frame, which comes three times: the first may write a record,
//! the second enters it in the path cache, the third goes by that.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::OnceCell;
use xdp_fixtures::case::Hit;
use xdp_fixtures::conserve::Pair;
use xdp_fixtures::{Case, cases};

/// Of the path cache's hash keys.
const SEED: u64 = 1;

thread_local! {
    static CASES: OnceCell<Vec<Case>> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| {
    let [high, low, frame @ ..] = input else {
        return;
    };
    CASES.with(|all| {
        let all = all.get_or_init(cases::all);
        let case = &all[usize::from(u16::from_be_bytes([*high, *low])) % all.len()];
        let mut pair = Pair::new(case, SEED);
        let hit = Hit { frame: frame.to_vec(), ..case.hit.clone() };
        for _ in 0..3 {
            if let Err(why) = pair.account(&hit) {
                panic!("case `{}`: {why}", case.name);
            }
        }
        assert!(pair.usage_adds_up(), "case `{}`: usage is out of step", case.name);
    });
});
