//! State of the system itself.

use super::{Api, read_path};
use crate::convert::Names;
use crate::error;
use crate::v1;
use crate::v1::system_service_server::SystemService;
use state_sync::{Kind, PortOwner};
use std::sync::Arc;
use tonic::{Request, Response, Status};
use xdp_layout::{DropReason, TenantId};

#[tonic::async_trait]
impl SystemService for Api {
    async fn get_status(
        &self,
        _request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let state = self.control.state();
        let programmed = Arc::clone(&self.control.programmed().borrow());
        let usage = self.control.observe(|observer| observer.status()).await;
        let usage = usage.map_err(|error| error::dataplane(&error))?;
        let names = Names::new(state.desired());
        let reason = programmed.reason();
        let installed = programmed.installed.as_ref();
        let pending = installed.into_iter().flat_map(|installed| &installed.pending).map(|port| v1::PendingPort {
            owner: match port.owner {
                PortOwner::Attachment(id) => names.attachment(id),
                PortOwner::Instance(id) => names.instance(id),
            },
            interface: port.interface.clone(),
            reason: port.reason.to_string(),
        });
        let image = state.image();
        let graphs = image.plan().content().graphs.iter();
        let views = graphs.map(|(id, active)| v1::ViewStatus { graph: names.graph(*id), view: active.stable.id.get() });
        let tables = image.tables().iter().map(|(id, table)| v1::TableStatus {
            replica_set: names.replica_set(*id),
            digest: format!("{:016x}", table.digest()),
            slots: table.members().table_size().get(),
            members: u32::try_from(table.members().members().len()).unwrap_or(u32::MAX),
        });
        let tenants = state.desired().tenants.values().map(|tenant| {
            let used = usage.tenants.get(&tenant.id).copied().unwrap_or_default();
            v1::TenantUsage {
                tenant: names.tenant(tenant.id),
                unanswered: used.unanswered,
                unanswered_budget: tenant.budget.unanswered.into(),
                established: used.established,
                established_budget: tenant.budget.established.into(),
            }
        });
        Ok(Response::new(v1::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: state.revision(),
            desired_generation: state.generation().get(),
            generation: usage.generation.map_or(0, |generation| generation.get()),
            plan_digest: format!("{:016x}", usage.digest),
            programmed: reason.is_none(),
            reason: reason.unwrap_or_default(),
            pending_ports: pending.collect(),
            views: views.collect(),
            tables: tables.collect(),
            tenants: tenants.collect(),
            flow_capacity: usage.flow_capacity,
            flows: usage.tenants.values().map(|used| used.unanswered + used.established).sum(),
        }))
    }

    async fn list_drops(
        &self,
        request: Request<v1::ListDropsRequest>,
    ) -> Result<Response<v1::ListDropsResponse>, Status> {
        let v1::ListDropsRequest { tenant, include_zero } = request.into_inner();
        let state = self.control.state();
        let tenant = match tenant.as_str() {
            "" => None,
            text => {
                let path = read_path(text, Kind::Tenant, "tenant")?;
                let entry = state.get(&path).ok_or_else(|| error::not_found(&path))?;
                TenantId::new(entry.number)
            }
        };
        let counters = self.control.observe(|observer| observer.counters()).await;
        let counters = counters.map_err(|error| error::dataplane(&error))?;
        let names = Names::new(state.desired());
        let drops = DropReason::ALL.iter().map(|reason| {
            let of_reason = counters
                .tenant_drops
                .iter()
                .filter(|((id, why), _)| why == reason && tenant.is_none_or(|tenant| tenant == *id));
            let tenants: Vec<v1::TenantDrops> = of_reason
                .map(|((id, _), count)| v1::TenantDrops { tenant: names.tenant(*id), count: *count })
                .collect();
            let count = match tenant {
                None => counters.dropped(*reason),
                Some(_) => tenants.iter().map(|drops| drops.count).sum(),
            };
            let (name, meaning) = (reason.name().to_owned(), reason.meaning().trim().to_owned());
            v1::Drop { reason: name, meaning, count, tenants }
        });
        let drops = drops.filter(|drop| include_zero || drop.count > 0).collect();
        Ok(Response::new(v1::ListDropsResponse { drops }))
    }
}
