//! Pinned links that are taken over: only where they still lead to their interface.

use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use std::path::PathBuf;
use testbed::{Namespace, Testbed, require};
use xdp::loader::{Hook, Loader, remove};

const FIRST: u32 = 4001;
const SECOND: u32 = 4002;

fn add(namespace: &Namespace, name: &str, ifindex: u32) {
    namespace.ip(&[format!("link add name {name} index {ifindex} type veth peer name {name}-peer")]).expect("veth");
}

/// How many programs are at an interface's tcx ingress.
fn programs(interface: &str) -> usize {
    SchedClassifier::query_tcx(interface, TcAttachType::Ingress).expect("tcx can be asked").1.len()
}

#[test]
fn a_pin_that_leads_elsewhere_or_nowhere_is_replaced() {
    require!();
    let testbed = Testbed::new().expect("testbed");
    let namespace = testbed.node().namespace();
    let directory = PathBuf::from(format!("/sys/fs/bpf/switchyard-test-links-{}", std::process::id()));
    add(namespace, "first", FIRST);
    add(namespace, "second", SECOND);
    let work = || {
        let mut loader = Loader::open(&directory, 1024, &Hook::ALL).expect("load");
        for hook in [Hook::Port, Hook::Uplink] {
            loader.attach("first", FIRST, hook).expect("attach");
            loader.attach("first", FIRST, hook).expect("take over");
        }
        assert_eq!(programs("first"), 1);

        namespace.ip(&["link del first".to_owned()]).expect("delete");
        add(namespace, "first", FIRST);
        for hook in [Hook::Port, Hook::Uplink] {
            loader.attach("first", FIRST, hook).expect("attach to the new interface of the old number");
        }
        assert_eq!(programs("first"), 1, "the pin of an interface that is gone");

        let pin = |ifindex| loader.directory().join(format!("link_port_{ifindex}"));
        std::fs::rename(pin(FIRST), pin(SECOND)).expect("rename");
        loader.attach("second", SECOND, Hook::Port).expect("attach to the second");
        assert_eq!((programs("first"), programs("second")), (0, 1), "the pin of another interface");
        loader.attach("first", FIRST, Hook::Port).expect("attach to the first");
        assert_eq!((programs("first"), programs("second")), (1, 1));

        drop(loader);
        remove(&directory).expect("remove");
        assert!(!directory.exists(), "nothing is left of an empty directory");
    };
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| namespace.run(work)));
    drop(remove(&directory));
    drop(std::fs::remove_dir(&directory));
    match done {
        Ok(ran) => ran.expect("namespace"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
