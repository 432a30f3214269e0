//! Every program loads, and costs the verifier no more than the committed budget.

use xdp::loader::{Hook, Loader};

/// Instructions the verifier may walk through, about a fifth above what it does. Its own limit is a million.
const BUDGET: [(Hook, u32); 3] = [(Hook::Port, 160_000), (Hook::Uplink, 180_000), (Hook::Handover, 100)];

#[test]
fn programs_load_within_the_verifier_budget() {
    let directory = std::path::PathBuf::from(format!("/sys/fs/bpf/switchyard-test-load-{}", std::process::id()));
    let loader = Loader::open(&directory, 1024, &Hook::ALL).unwrap_or_else(|e| {
        let mut text = e.to_string();
        let mut source = std::error::Error::source(&e);
        while let Some(cause) = source {
            text += &format!("\n{cause}");
            source = cause.source();
        }
        panic!("{text}")
    });
    let verified = BUDGET.map(|(hook, budget)| (hook, loader.verified_instructions(hook), budget));
    drop(loader);
    xdp::loader::remove(&directory).expect("remove the pins");
    for (hook, count, budget) in verified {
        println!("{hook:?}: {count:?} instructions verified, budget {budget}");
        let count = count.expect("the kernel tells the count (5.16)");
        assert!(count <= budget, "{hook:?}: {count} instructions verified, the budget is {budget}");
    }
}
