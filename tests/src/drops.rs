//! What the kernel itself dropped, and why: a judge that no counter of the product has a say in.
//!
//! A small program at the tracepoint `skb:kfree_skb`, which every dropped frame passes (one that was used up passes another),
//! counts by network namespace, reason and place. So parallel testbeds do not see each other's drops.

mod btf;
mod program;

use std::{collections::BTreeMap, fs};

use crate::{Error, Namespace, Result};
use btf::Btf;
use program::{Offsets, Program};

const TYPES: &str = "/sys/kernel/btf/vmlinux";
const SYMBOLS: &str = "/proc/kallsyms";

/// Beginning of the names of `enum skb_drop_reason`.
const REASON_PREFIX: &str = "SKB_DROP_REASON_";

/// A reason and the kernel function that dropped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelDrop {
    /// Name of `enum skb_drop_reason` without its beginning: `TC_INGRESS`.
    pub reason: String,
    /// The function: `skb_do_redirect`.
    pub function: String,
}

/// Watches what the kernel drops, from [`KernelDrops::watch`] until dropped.
#[derive(Debug)]
pub struct KernelDrops {
    program: Program,
    reasons: BTreeMap<u32, String>,
    /// Functions by address.
    functions: BTreeMap<u64, String>,
}

impl KernelDrops {
    /// Begins to watch.
    ///
    /// # Errors
    /// If the kernel does not describe its types (CONFIG_DEBUG_INFO_BTF), has no such tracepoint, or this is not root.
    pub fn watch() -> Result<Self> {
        let bytes = fs::read(TYPES).map_err(Error::io("read", TYPES))?;
        let unreadable = || Error::Output {
            program: TYPES.into(),
            reason: "the types of a dropped frame are not in it".into(),
            output: format!("{} bytes", bytes.len()),
        };
        let btf = Btf::parse(&bytes).ok_or_else(unreadable)?;
        let offset = |name, fields: &[&str]| btf.offset(name, fields).ok_or_else(unreadable);
        let offsets = Offsets {
            device: offset("sk_buff", &["dev"])?,
            network: offset("net_device", &["nd_net", "net"])?,
            inode: offset("net", &["ns", "inum"])?,
        };
        let names = btf.names("skb_drop_reason").ok_or_else(unreadable)?;
        let short = |name: &str| name.strip_prefix(REASON_PREFIX).unwrap_or(name).to_owned();
        let reasons = names.into_iter().map(|(value, name)| (value, short(name))).collect();
        let program = Program::attach(offsets).map_err(Error::io("watch", "the tracepoint skb:kfree_skb"))?;
        Ok(Self { program, reasons, functions: functions()? })
    }

    /// Frames dropped so far whose interface was in a namespace. Frames without an interface are nobody's: those that a
    /// socket gives up when it is closed.
    ///
    /// # Errors
    /// If they cannot be read, or were too many different ones to be counted.
    pub fn of(&self, namespace: &Namespace) -> Result<BTreeMap<KernelDrop, u64>> {
        let inode = namespace.inode()?;
        let counts = self.program.counts().map_err(Error::io("read", "the kernel's drops"))?;
        let mut drops = BTreeMap::new();
        for (key, count) in counts.into_iter().filter(|(key, _)| u64::from(key.namespace) == inode) {
            let reason = self.reasons.get(&key.reason).cloned().unwrap_or_else(|| key.reason.to_string());
            let function = self.functions.range(..=key.location).next_back();
            let function = function.map_or_else(|| format!("{:#x}", key.location), |(_, name)| name.clone());
            *drops.entry(KernelDrop { reason, function }).or_default() += count;
        }
        Ok(drops)
    }
}

/// The kernel's functions by address.
fn functions() -> Result<BTreeMap<u64, String>> {
    let text = fs::read_to_string(SYMBOLS).map_err(Error::io("read", SYMBOLS))?;
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
        let address = u64::from_str_radix(address, 16).ok().filter(|address| *address != 0)?;
        matches!(kind, "t" | "T").then(|| (address, name.to_owned()))
    });
    Ok(lines.collect())
}
