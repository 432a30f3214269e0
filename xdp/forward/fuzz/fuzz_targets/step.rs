//! Frames that libFuzzer makes up, through the core over the setups of the fixture table. The first two bytes of an input
//! choose the case, whose earlier frames arrive first; the rest is the frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::OnceCell;
use xdp_fixtures::case::{Hit, Host};
use xdp_fixtures::{Case, cases, conserve};

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
        let mut host = Host::new((case.setup)());
        let adds_up = conserve::usage_adds_up(&host);
        for hit in &case.before {
            let _verdict = host.step(hit);
        }
        let hit = Hit { frame: frame.to_vec(), ..case.hit.clone() };
        if let Err(why) = conserve::account(&mut host, &hit) {
            panic!("case `{}`: {why}", case.name);
        }
        assert!(!adds_up || conserve::usage_adds_up(&host), "case `{}`: usage is out of step", case.name);
    });
});
