//! Flows that nobody drew, and what becomes of each.

use super::common::question;
use chain_graph::{Image, ImageTables};
use std::collections::BTreeMap;
use xdp_forward::key::Tuple;
use xdp_forward::{Path, Question};
use xdp_layout::flow::FlowKey;
use xdp_layout::{Addr, AttachmentId};

/// Flows of some traffic: web and mail and whatnot.
pub(crate) fn traffic(seed: u64, flows: usize) -> impl Iterator<Item = FlowKey> {
    let mut state = seed.wrapping_mul(0x5851_f42d_4c95_7f2d);
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    (0..flows).map(move |_| {
        let [_, a, b, c] = random().to_be_bytes();
        let port = [25, 80, 443, 993, 5432, 8080, 8443][random() as usize % 7];
        let tuple = Tuple {
            source: Addr::v4([10, a, b, c]),
            destination: Addr::v4([10, c, a, 7]),
            source_port: 32_768 + (random() % 28_000) as u16,
            destination_port: port,
            protocol: if random() % 10 == 0 { 17 } else { 6 },
        };
        let mut key = FlowKey::default();
        tuple.key(1, &mut key);
        key
    })
}

/// Clients are those with a high port.
pub(crate) fn from_client(key: &FlowKey) -> Question {
    let client_is_a = key.a_port >= 32_768;
    Question { client_is_a, entry: AttachmentId::new(1), ..question(1, Some(1)) }
}

/// Shares as they are found by asking for every flow: fw has instances 100 to 299, dpi those from 300.
#[derive(Default)]
pub(crate) struct Reality {
    flows: f64,
    pub(crate) at_risk: f64,
    pub(crate) diverted: f64,
    pub(crate) by_function: BTreeMap<&'static str, [f64; 3]>,
}

impl Reality {
    pub(crate) fn stages(&self) -> Vec<(&'static str, [f64; 3])> {
        self.by_function.iter().map(|(name, shares)| (*name, *shares)).collect()
    }
}

pub(crate) fn reality(before: &Image, after: &Image, keys: impl Iterator<Item = FlowKey>) -> Reality {
    let sides = [before, after].map(ImageTables::new);
    let mut found = Reality::default();
    let of_function = |path: &Path, range: std::ops::Range<u16>| -> Vec<u16> {
        path.instances[..usize::from(path.len)].iter().copied().filter(|id| range.contains(id)).collect()
    };
    for key in keys {
        let [old, new] = [0, 1].map(|side| sides[side].path(&key, &from_client(&key)).unwrap());
        found.flows += 1.0;
        found.at_risk += f64::from(u8::from(old != new));
        found.diverted +=
            f64::from(u8::from((old.instances, old.entry, old.exit) != (new.instances, new.entry, new.exit)));
        for (name, range) in [("fw", 100..300), ("dpi", 300..400)] {
            let (old, new) = (of_function(&old, range.clone()), of_function(&new, range));
            let counts = found.by_function.entry(name).or_default();
            counts[0] += f64::from(u8::from(old.is_empty() && !new.is_empty()));
            counts[1] += f64::from(u8::from(!old.is_empty() && new.is_empty()));
            counts[2] += f64::from(u8::from(!old.is_empty() && !new.is_empty() && old != new));
        }
    }
    found.at_risk /= found.flows;
    found.diverted /= found.flows;
    found.by_function.values_mut().flatten().for_each(|count| *count /= found.flows);
    found
}
