//! Whether the testbed can work here, and loud skipping where it cannot.

use std::{
    env,
    error::Error as _,
    fs::OpenOptions,
    io::{self, Write as _},
    path::Path,
    sync::OnceLock,
};

use crate::{Testbed, sys};

/// Programs the testbed runs, with the Debian package of each.
pub const PROGRAMS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ethtool", "ethtool"),
    ("iperf3", "iperf3"),
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("ping", "iputils-ping"),
    ("curl", "curl"),
];

/// Name of the environment variable with the file to which each skip is appended as one line.
pub const SKIP_FILE_VARIABLE: &str = "SWITCHYARD_SKIP_FILE";

/// Name of the environment variable that, when set, turns a skip into a failure.
pub const NO_SKIP_VARIABLE: &str = "SWITCHYARD_NO_SKIP";

/// What is missing, in plain sentences; empty if the testbed can work. Looked at once a process.
#[must_use]
pub fn requirements() -> &'static [String] {
    static MISSING: OnceLock<Vec<String>> = OnceLock::new();
    MISSING.get_or_init(look)
}

fn look() -> Vec<String> {
    if !sys::is_root() {
        return vec!["Network namespaces need root: run this as root.".into()];
    }
    let mut missing = PROGRAMS
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .map(|(program, package)| format!("The program `{program}` is missing: apt-get install {package}."))
        .collect::<Vec<_>>();
    if !Path::new("/dev/net/tun").exists() {
        missing.push("The kernel has no TUN (/dev/net/tun is missing).".into());
    }
    if missing.is_empty() {
        missing.extend(kernel_features());
    }
    missing
}

/// Tries each feature in a namespace of its own.
fn kernel_features() -> Vec<String> {
    let bed = match Testbed::new() {
        Ok(bed) => bed,
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            return vec![format!("Network namespaces cannot be made: {error}{cause}.")];
        }
    };
    let node = bed.node().namespace();
    let tries: [(&str, &str, &[&str]); 5] = [
        ("veth pairs", "ip", &["link", "add", "sy0", "type", "veth", "peer", "name", "sy1"]),
        ("Linux bridges", "ip", &["link", "add", "sy2", "type", "bridge"]),
        ("nftables in the bridge family", "nft", &[BRIDGE_RULE]),
        ("nftables with conntrack", "nft", &[CONNTRACK_RULE]),
        ("nftables source NAT", "nft", &[NAT_RULE]),
    ];
    let failed = tries.iter().filter_map(|(feature, program, arguments)| {
        let error = node.output(program, arguments).err()?;
        Some(format!("The kernel has no {feature}: {error}."))
    });
    let mut missing = failed.collect::<Vec<_>>();
    if node.sysctl("net/bridge/bridge-nf-call-iptables").is_err() {
        missing.push("The kernel has no br_netfilter (modprobe br_netfilter).".into());
    }
    missing
}

const BRIDGE_RULE: &str = "add table bridge t; \
    add chain bridge t c { type filter hook forward priority 0; }; \
    add rule bridge t c vlan id 1 tcp dport 1 counter";
const CONNTRACK_RULE: &str = "add table inet t; \
    add chain inet t c { type filter hook forward priority 0; }; \
    add rule inet t c ct state invalid drop";
const NAT_RULE: &str = "add table ip n; \
    add chain ip n c { type nat hook postrouting priority 100; }; \
    add rule ip n c snat to 192.0.2.1";

fn is_installed(program: &str) -> bool {
    let search = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&search).any(|folder| folder.join(program).is_file())
}

/// Returns from a test that cannot run here. Used by [`require!`](crate::require).
pub trait Skipped {
    /// What the test returns when skipped.
    fn skipped() -> Self;
}

impl Skipped for () {
    fn skipped() -> Self {}
}

impl<E> Skipped for Result<(), E> {
    fn skipped() -> Self {
        Ok(())
    }
}

/// Whether a test may go on; if not, says so on the terminal (past the test runner's capture)
/// and in the file named by [`SKIP_FILE_VARIABLE`].
///
/// # Panics
/// Instead of returning `false` if [`NO_SKIP_VARIABLE`] is set: where everything is meant to be
/// there, nothing may go untested unseen.
#[must_use]
pub fn may_run(test: &str, missing: &[String]) -> bool {
    if missing.is_empty() {
        return true;
    }
    let line = format!("SKIPPED: {test}: {}\n", missing.join(" "));
    assert!(env::var_os(NO_SKIP_VARIABLE).is_none(), "{NO_SKIP_VARIABLE} is set, but {line}");
    let told = io::stderr().write_all(line.as_bytes());
    let noted = env::var_os(SKIP_FILE_VARIABLE).map(|path| {
        // One write of one line: appending is atomic between processes.
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
    });
    assert!(told.is_ok() || matches!(noted, Some(Ok(()))), "a skip must not go unseen: {told:?} {noted:?}");
    false
}

/// Skips the rest of a test (returning `()` or `Ok(())`), loudly, where the testbed cannot work.
/// Further requirements, as `Vec<String>` of what is missing, may be given.
#[macro_export]
macro_rules! require {
    () => {
        $crate::require!(::std::vec::Vec::<::std::string::String>::new())
    };
    ($further:expr) => {
        let mut missing = $crate::requirements().to_vec();
        missing.extend($further);
        let thread = ::std::thread::current();
        if !$crate::preflight::may_run(thread.name().unwrap_or(module_path!()), &missing) {
            return $crate::preflight::Skipped::skipped();
        }
    };
}
