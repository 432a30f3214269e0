//! Attachments.

use super::{path, prefix};
use crate::fields::{Violations, narrow};
use crate::v1;
use chain_graph::model::{ObjectKey, Side, ValueError, VlanId};
use state_sync::{AttachmentSpec, Kind, ResourcePath};

/// Reads a side.
pub(crate) fn side(raw: i32) -> Result<Side, &'static str> {
    match v1::Side::try_from(raw) {
        Ok(v1::Side::Client) => Ok(Side::Client),
        Ok(v1::Side::Server) => Ok(Side::Server),
        Ok(v1::Side::Unspecified) | Err(_) => Err("must be SIDE_CLIENT or SIDE_SERVER"),
    }
}

/// Reads a VLAN.
pub(crate) fn vlan(raw: u32) -> Result<VlanId, String> {
    narrow(raw, 4094).and_then(|raw: u16| VlanId::try_from(raw).map_err(|error: ValueError| error.to_string()))
}

impl TryFrom<v1::Attachment> for AttachmentSpec {
    type Error = Violations;
    fn try_from(proto: v1::Attachment) -> Result<Self, Violations> {
        let v1::Attachment { name, id: _, side: raw_side, interface, vlan: raw_vlan, prefixes, etag: _, status: _ } =
            proto;
        let mut violations = Violations::new();
        let key = violations.take("name", path(&name, Kind::Attachment));
        let side = violations.take("side", side(raw_side));
        let vlan = match raw_vlan {
            0 => None,
            raw => violations.take("vlan", vlan(raw)),
        };
        let prefixes = violations.take_each("prefixes", prefixes, prefix);
        let value = match (key, side) {
            (Some(ResourcePath::Attachment(ObjectKey { tenant, name })), Some(side)) => {
                Some(Self { tenant, name, side, interface, vlan, prefixes })
            }
            _ => None,
        };
        violations.finish(value)
    }
}

impl From<&AttachmentSpec> for v1::Attachment {
    fn from(spec: &AttachmentSpec) -> Self {
        let AttachmentSpec { tenant, name, side, interface, vlan, prefixes } = spec;
        Self {
            name: ResourcePath::Attachment(ObjectKey::new(tenant, name)).to_string(),
            id: 0,
            side: match side {
                Side::Client => v1::Side::Client.into(),
                Side::Server => v1::Side::Server.into(),
            },
            interface: interface.clone(),
            vlan: vlan.map_or(0, |vlan| vlan.get().into()),
            prefixes: prefixes.iter().map(ToString::to_string).collect(),
            etag: String::new(),
            status: None,
        }
    }
}
