//! Instances.

use super::{path, port_range, port_range_out, prefix};
use crate::fields::{Violations, narrow};
use crate::v1;
use chain_graph::model::{MacAddr, OutsideBlock, Port, Ports, ValueError};
use state_sync::{InstanceSpec, Kind, ResourcePath};

/// Share of new flows if none is given.
const DEFAULT_WEIGHT: u32 = 1;

impl TryFrom<v1::Port> for Port {
    type Error = Violations;
    fn try_from(proto: v1::Port) -> Result<Self, Violations> {
        let v1::Port { interface, mac } = proto;
        let mut violations = Violations::new();
        let mac = violations.take("mac", mac.parse::<MacAddr>().map_err(|error: ValueError| error.to_string()));
        violations.finish(mac.map(|mac| Self { interface, mac }))
    }
}

impl From<&Port> for v1::Port {
    fn from(port: &Port) -> Self {
        Self { interface: port.interface.clone(), mac: port.mac.to_string() }
    }
}

impl TryFrom<v1::OutsideBlock> for OutsideBlock {
    type Error = Violations;
    fn try_from(proto: v1::OutsideBlock) -> Result<Self, Violations> {
        let v1::OutsideBlock { prefix: text, ports } = proto;
        let mut violations = Violations::new();
        let prefix = violations.take("prefix", prefix(text));
        let ports = ports.and_then(|range| violations.take("ports", port_range(range)));
        violations.finish(prefix.map(|prefix| Self { prefix, ports }))
    }
}

impl TryFrom<v1::Instance> for InstanceSpec {
    type Error = Violations;
    fn try_from(proto: v1::Instance) -> Result<Self, Violations> {
        let v1::Instance { name, id: _, weight, inside, outside, outside_blocks, down, etag: _, status: _, max_flows } =
            proto;
        let mut violations = Violations::new();
        let key = violations.take("name", path(&name, Kind::Instance));
        let weight = violations.take("weight", narrow(weight.unwrap_or(DEFAULT_WEIGHT), u16::MAX.into()));
        let ports = match (inside, outside) {
            (None, _) => {
                violations.add("inside", "must be given");
                None
            }
            (Some(inside), None) => violations.take_under("inside", inside.try_into()).map(Ports::OneArmed),
            (Some(inside), Some(outside)) => {
                let inside = violations.take_under("inside", inside.try_into());
                let outside = violations.take_under("outside", outside.try_into());
                inside.zip(outside).map(|(inside, outside)| Ports::TwoArmed { inside, outside })
            }
        };
        let blocks = outside_blocks.into_iter().enumerate();
        let outside = blocks
            .filter_map(|(index, block)| violations.take_under(&format!("outside_blocks[{index}]"), block.try_into()))
            .collect();
        let value = match (key, weight, ports) {
            (Some(ResourcePath::Instance { function, replica_set, name }), Some(weight), Some(ports)) => {
                Some(Self { function, replica_set, name, weight, ports, outside, down, max_flows })
            }
            _ => None,
        };
        violations.finish(value)
    }
}

impl From<&InstanceSpec> for v1::Instance {
    fn from(spec: &InstanceSpec) -> Self {
        let InstanceSpec { function, replica_set, name, weight, ports, outside, down, max_flows } = spec;
        let (inside_port, outside_port) = match ports {
            Ports::OneArmed(port) => (port, None),
            Ports::TwoArmed { inside, outside } => (inside, Some(outside)),
        };
        Self {
            name: ResourcePath::Instance {
                function: function.clone(),
                replica_set: replica_set.clone(),
                name: name.clone(),
            }
            .to_string(),
            id: 0,
            weight: Some((*weight).into()),
            inside: Some(inside_port.into()),
            outside: outside_port.map(Into::into),
            outside_blocks: outside
                .iter()
                .map(|block| v1::OutsideBlock {
                    prefix: block.prefix.to_string(),
                    ports: block.ports.map(port_range_out),
                })
                .collect(),
            down: *down,
            max_flows: *max_flows,
            etag: String::new(),
            status: None,
        }
    }
}
