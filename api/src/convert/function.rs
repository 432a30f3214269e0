//! Network functions.

use super::attachment::vlan;
use super::{path, tenant_name};
use crate::fields::Violations;
use crate::v1;
use chain_graph::model::{Forwarding, ResourceName, Tenancy, TupleEffect, VlanId};
use state_sync::{FunctionSpec, Kind, ResourcePath};
use std::collections::BTreeMap;
use std::net::IpAddr;

fn forwarding(raw: i32) -> Result<Forwarding, &'static str> {
    match v1::Forwarding::try_from(raw) {
        Ok(v1::Forwarding::Transparent) => Ok(Forwarding::Transparent),
        Ok(v1::Forwarding::Routed) => Ok(Forwarding::Routed),
        Ok(v1::Forwarding::Unspecified) | Err(_) => Err("must be FORWARDING_TRANSPARENT or FORWARDING_ROUTED"),
    }
}

fn tuple_effect(raw: i32) -> Result<TupleEffect, &'static str> {
    match v1::TupleEffect::try_from(raw) {
        Ok(v1::TupleEffect::Keeps) => Ok(TupleEffect::Keeps),
        Ok(v1::TupleEffect::Changes) => Ok(TupleEffect::Changes),
        Ok(v1::TupleEffect::Ends) => Ok(TupleEffect::Ends),
        Ok(v1::TupleEffect::Unspecified) | Err(_) => {
            Err("must be TUPLE_EFFECT_KEEPS, TUPLE_EFFECT_CHANGES or TUPLE_EFFECT_ENDS")
        }
    }
}

fn address(text: String) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no IPv4 or IPv6 address"))
}

impl TryFrom<v1::SharedTenancy> for Tenancy {
    type Error = Violations;
    fn try_from(proto: v1::SharedTenancy) -> Result<Self, Violations> {
        let v1::SharedTenancy { tags: list, isolates_state } = proto;
        let mut violations = Violations::new();
        let mut tags: BTreeMap<ResourceName, VlanId> = BTreeMap::new();
        for (index, v1::TenantTag { tenant, vlan: raw }) in list.into_iter().enumerate() {
            let name = violations.take(&format!("tags[{index}].tenant"), tenant_name(&tenant));
            let tag = violations.take(&format!("tags[{index}].vlan"), vlan(raw));
            if let Some((name, tag)) = name.zip(tag)
                && tags.insert(name, tag).is_some()
            {
                violations.add(format!("tags[{index}].tenant"), format!("{tenant} is listed twice"));
            }
        }
        violations.finish(Some(Self::Tagged { tags, isolates_state }))
    }
}

impl TryFrom<v1::NetworkFunction> for FunctionSpec {
    type Error = Violations;
    fn try_from(proto: v1::NetworkFunction) -> Result<Self, Violations> {
        let v1::NetworkFunction { name, forwarding: how, tuple_effect: effect, shared, addresses, etag: _, status: _ } =
            proto;
        let mut violations = Violations::new();
        let name = violations.take("name", path(&name, Kind::NetworkFunction));
        let forwarding = violations.take("forwarding", forwarding(how));
        let tuple = violations.take("tuple_effect", tuple_effect(effect));
        let tenancy = match shared {
            None => Some(Tenancy::Exclusive),
            Some(shared) => violations.take_under("shared", shared.try_into()),
        };
        let addresses = violations.take_each("addresses", addresses, address);
        let value = match (name, forwarding, tuple, tenancy) {
            (Some(ResourcePath::NetworkFunction(name)), Some(forwarding), Some(tuple), Some(tenancy)) => {
                Some(Self { name, forwarding, tuple, tenancy, addresses })
            }
            _ => None,
        };
        violations.finish(value)
    }
}

impl From<&FunctionSpec> for v1::NetworkFunction {
    fn from(spec: &FunctionSpec) -> Self {
        let FunctionSpec { name, forwarding, tuple, tenancy, addresses } = spec;
        Self {
            name: ResourcePath::NetworkFunction(name.clone()).to_string(),
            forwarding: match forwarding {
                Forwarding::Transparent => v1::Forwarding::Transparent.into(),
                Forwarding::Routed => v1::Forwarding::Routed.into(),
            },
            tuple_effect: match tuple {
                TupleEffect::Keeps => v1::TupleEffect::Keeps.into(),
                TupleEffect::Changes => v1::TupleEffect::Changes.into(),
                TupleEffect::Ends => v1::TupleEffect::Ends.into(),
            },
            shared: match tenancy {
                Tenancy::Exclusive => None,
                Tenancy::Tagged { tags, isolates_state } => Some(v1::SharedTenancy {
                    tags: tags
                        .iter()
                        .map(|(tenant, tag)| v1::TenantTag {
                            tenant: ResourcePath::Tenant(tenant.clone()).to_string(),
                            vlan: tag.get().into(),
                        })
                        .collect(),
                    isolates_state: *isolates_state,
                }),
            },
            addresses: addresses.iter().map(ToString::to_string).collect(),
            etag: String::new(),
            status: None,
        }
    }
}
