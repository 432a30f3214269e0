//! Flows and traces.

use super::{Api, read_path};
use crate::convert::{Names, TraceRequest, flow, tenant_name, trace, trace_query};
use crate::error;
use crate::fields::Violations;
use crate::page::Page;
use crate::v1;
use crate::v1::flow_service_server::FlowService;
use state_sync::{FlowQuery, Kind, ResourcePath};
use tonic::{Request, Response, Status};
use xdp_layout::flow::FlowKey;
use xdp_layout::{Addr, InstanceId};

#[tonic::async_trait]
impl FlowService for Api {
    async fn list_flows(
        &self,
        request: Request<v1::ListFlowsRequest>,
    ) -> Result<Response<v1::ListFlowsResponse>, Status> {
        let v1::ListFlowsRequest { parent, page_size, page_token, instance } = request.into_inner();
        let state = self.control.state();
        let page = Page::read(page_size, &page_token, &(&parent, &instance)).map_err(error::invalid)?;
        let tenant = match parent.as_str() {
            "tenants/-" => None,
            text => {
                let mut violations = Violations::new();
                let name = violations.take("parent", tenant_name(text));
                let name = violations.finish(name).map_err(error::invalid)?;
                let owner = state.desired().tenants.get(&name);
                Some(owner.ok_or_else(|| error::not_found(&ResourcePath::Tenant(name)))?.id)
            }
        };
        let instance = match instance.as_str() {
            "" => None,
            text => {
                let path = read_path(text, Kind::Instance, "instance")?;
                let entry = state.get(&path).ok_or_else(|| error::not_found(&path))?;
                u16::try_from(entry.number).ok().and_then(InstanceId::new)
            }
        };
        let after = match &page.after {
            None => None,
            Some(text) => {
                let mut violations = Violations::new();
                let key = violations.take("page_token", open_key(text).ok_or("is not a token of this server"));
                Some(violations.finish(key).map_err(error::invalid)?)
            }
        };
        let query = FlowQuery { tenant, instance, after, limit: page.size };
        let found = self.control.observe(move |observer| observer.flows(&query)).await;
        let found = found.map_err(|error| error::dataplane(&error))?;
        let names = Names::new(state.desired());
        Ok(Response::new(v1::ListFlowsResponse {
            flows: found.flows.iter().map(|entry| flow(entry, &names)).collect(),
            next_page_token: found.next.map(|key| page.token(&seal_key(&key))).unwrap_or_default(),
        }))
    }

    async fn trace_flow(
        &self,
        request: Request<v1::TraceFlowRequest>,
    ) -> Result<Response<v1::TraceFlowResponse>, Status> {
        let state = self.control.state();
        let query = match trace_query(request.into_inner(), state.desired()).map_err(error::invalid)? {
            TraceRequest::Query(query) => query,
            TraceRequest::NotFound(path) => return Err(error::not_found(&path)),
        };
        let found = self.control.observe(move |observer| observer.trace(&query)).await;
        let found = found.map_err(|error| error::dataplane(&error))?;
        let views = state.image().tenants().get(&query.tenant).into_iter().flat_map(|tenant| tenant.graphs());
        let graph = found.view.and_then(|view| {
            let mut owners = views.filter(|(_, graph)| graph.views.contains_key(&view));
            owners.next().map(|(id, _)| *id)
        });
        Ok(Response::new(trace(&found, graph, &Names::new(state.desired()))))
    }
}

/// A key as text: addresses, ports and tenant in hexadecimal.
fn seal_key(key: &FlowKey) -> String {
    let (a, b) = (u128::from_be_bytes(key.a.0), u128::from_be_bytes(key.b.0));
    format!("{a:032x}{b:032x}{:04x}{:04x}{:08x}", key.a_port, key.b_port, key.tenant_protocol)
}

fn open_key(text: &str) -> Option<FlowKey> {
    let part = |from: usize, to: usize| u128::from_str_radix(text.get(from..to)?, 16).ok();
    if text.len() != 80 {
        return None;
    }
    Some(FlowKey {
        a: Addr(part(0, 32)?.to_be_bytes()),
        b: Addr(part(32, 64)?.to_be_bytes()),
        a_port: part(64, 68)?.try_into().ok()?,
        b_port: part(68, 72)?.try_into().ok()?,
        tenant_protocol: part(72, 80)?.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::{open_key, seal_key};
    use xdp_layout::Addr;
    use xdp_layout::flow::FlowKey;

    #[test]
    fn a_key_survives_its_token() {
        let key = FlowKey {
            a: Addr::v4([192, 0, 2, 1]),
            b: Addr([0xfe; 16]),
            a_port: 65535,
            b_port: 1,
            tenant_protocol: 0x06ff_fffe,
        };
        assert_eq!(open_key(&seal_key(&key)), Some(key));
        assert_eq!(open_key("00"), None);
        assert_eq!(open_key(&"g".repeat(80)), None);
    }
}
