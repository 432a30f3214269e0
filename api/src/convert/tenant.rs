//! Tenants.

use super::tenant_name;
use crate::fields::Violations;
use crate::v1;
use chain_graph::model::Budget;
use state_sync::{ResourcePath, TenantSpec};
use xdp_layout::TenantId;

impl TryFrom<v1::Tenant> for TenantSpec {
    type Error = Violations;
    fn try_from(proto: v1::Tenant) -> Result<Self, Violations> {
        let v1::Tenant { name, vni, budget, etag: _, status: _ } = proto;
        let mut violations = Violations::new();
        let name = violations.take("name", tenant_name(&name));
        let vni = match vni {
            0 => None,
            raw => {
                violations.take("vni", TenantId::new(raw).ok_or_else(|| format!("{raw} is above {}", TenantId::MAX)))
            }
        };
        let budget = match budget {
            Some(v1::Budget { unanswered, established }) => Some(Budget { unanswered, established }),
            None => {
                violations.add("budget", "must be given");
                None
            }
        };
        let value = name.zip(budget).map(|(name, budget)| Self { name, vni, budget });
        violations.finish(value)
    }
}

impl From<&TenantSpec> for v1::Tenant {
    fn from(spec: &TenantSpec) -> Self {
        let TenantSpec { name, vni, budget: Budget { unanswered, established } } = spec;
        Self {
            name: ResourcePath::Tenant(name.clone()).to_string(),
            vni: vni.map_or(0, TenantId::get),
            budget: Some(v1::Budget { unanswered: *unanswered, established: *established }),
            etag: String::new(),
            status: None,
        }
    }
}
