//! Every program loads, and costs the verifier no more than the committed budget.

use xdp::loader::{Hook, Loader};

#[test]
fn programs_load_within_the_verifier_budget() {
    let directory = std::path::PathBuf::from(format!("/sys/fs/bpf/switchyard-test-load-{}", std::process::id()));
    let loader = Loader::open(&directory, 1024).unwrap_or_else(|e| {
        let mut text = e.to_string();
        let mut source = std::error::Error::source(&e);
        while let Some(cause) = source {
            text += &format!("\n{cause}");
            source = cause.source();
        }
        panic!("{text}")
    });
    for hook in [Hook::Port, Hook::Uplink, Hook::Handover] {
        println!("{hook:?}: {:?} instructions verified", loader.verified_instructions(hook));
    }
    drop(loader);
    xdp::loader::remove(&directory).expect("remove the pins");
}
