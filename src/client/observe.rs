//! `status`, `flows`, `drops`, `trace`.

use super::{plain, print};
use crate::args::{Format, OutputArgs, SideArg};
use crate::fail::{Failure, USAGE};
use crate::output::{self, Shade, note, put, say, shade};
use api::client::{Channel, FlowServiceClient, SystemServiceClient};
use api::v1;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

/// `status`.
pub(crate) async fn status(channel: Channel, output: OutputArgs) -> Result<ExitCode, Failure> {
    let answer = SystemServiceClient::new(channel).get_status(v1::GetStatusRequest {}).await.map_err(plain)?;
    let status = answer.into_inner();
    if output.output != Format::Table {
        let value = status_value(&status);
        print(&value, output, &[], &[])?;
        return Ok(ExitCode::SUCCESS);
    }
    let state = if status.programmed {
        shade("yes", Shade::Good)
    } else {
        shade(&format!("no: {}", status.reason), Shade::Bad)
    };
    say!("Version:      {}", status.version)?;
    say!("Revision:     {}", status.revision)?;
    say!("Plan:         {} (desired {}), digest {}", status.generation, status.desired_generation, status.plan_digest)?;
    say!("Programmed:   {state}")?;
    say!("Flows:        {} of {}", status.flows, status.flow_capacity)?;
    let with_headers = !output.no_headers;
    let rows: Vec<Vec<String>> = status
        .tenants
        .iter()
        .map(|it| {
            vec![
                it.tenant.clone(),
                format!("{}/{}", it.unanswered, it.unanswered_budget),
                format!("{}/{}", it.established, it.established_budget),
            ]
        })
        .collect();
    section(&["TENANT", "UNANSWERED", "ESTABLISHED"], &rows, with_headers)?;
    let rows: Vec<Vec<String>> = status.views.iter().map(|it| vec![it.graph.clone(), it.view.to_string()]).collect();
    section(&["GRAPH", "VIEW"], &rows, with_headers)?;
    let rows: Vec<Vec<String>> = status
        .tables
        .iter()
        .map(|it| vec![it.replica_set.clone(), it.members.to_string(), it.slots.to_string(), it.digest.clone()])
        .collect();
    section(&["REPLICA SET", "MEMBERS", "SLOTS", "DIGEST"], &rows, with_headers)?;
    let rows: Vec<Vec<String>> =
        status.pending_ports.iter().map(|it| vec![it.owner.clone(), it.interface.clone(), it.reason.clone()]).collect();
    section(&["WAITING PORT", "INTERFACE", "REASON"], &rows, with_headers)?;
    Ok(ExitCode::SUCCESS)
}

fn section(headers: &[&str], rows: &[Vec<String>], with_headers: bool) -> Result<(), Failure> {
    if !rows.is_empty() {
        put!("\n{}", output::table(headers, rows, with_headers))?;
    }
    Ok(())
}

fn status_value(status: &v1::GetStatusResponse) -> Value {
    json!({
        "version": status.version,
        "revision": status.revision,
        "generation": status.generation,
        "desiredGeneration": status.desired_generation,
        "planDigest": status.plan_digest,
        "programmed": status.programmed,
        "reason": status.reason,
        "flowCapacity": status.flow_capacity,
        "flows": status.flows,
        "tenants": status.tenants.iter().map(|it| json!({
            "tenant": it.tenant,
            "unanswered": it.unanswered,
            "unansweredBudget": it.unanswered_budget,
            "established": it.established,
            "establishedBudget": it.established_budget,
        })).collect::<Vec<_>>(),
        "views": status.views.iter().map(|it| json!({"graph": it.graph, "view": it.view})).collect::<Vec<_>>(),
        "tables": status.tables.iter().map(|it| json!({
            "replicaSet": it.replica_set, "digest": it.digest, "slots": it.slots, "members": it.members,
        })).collect::<Vec<_>>(),
        "pendingPorts": status.pending_ports.iter().map(|it| json!({
            "owner": it.owner, "interface": it.interface, "reason": it.reason,
        })).collect::<Vec<_>>(),
    })
}

fn tenant_name(tenant: &str) -> String {
    if tenant.contains('/') { tenant.to_owned() } else { format!("tenants/{tenant}") }
}

fn end(endpoint: Option<&v1::Endpoint>) -> String {
    let Some(v1::Endpoint { address, port }) = endpoint else { return String::new() };
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// Last parts of names, which is what fits in a table.
fn short(names: &[String]) -> String {
    let parts: Vec<String> = names.iter().map(|name| short_name(name)).collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(",") }
}

/// `fw/v1/a` for `networkFunctions/fw/replicaSets/v1/instances/a`.
fn short_name(name: &str) -> String {
    name.split('/').skip(1).step_by(2).collect::<Vec<_>>().join("/")
}

/// `flows`.
pub(crate) async fn flows(
    channel: Channel,
    tenant: Option<String>,
    instance: Option<String>,
    limit: usize,
    output: OutputArgs,
) -> Result<ExitCode, Failure> {
    let parent = tenant.map_or_else(|| "tenants/-".to_owned(), |tenant| tenant_name(&tenant));
    let instance = match instance.as_deref().map(|name| name.split('/').collect::<Vec<_>>()) {
        None => String::new(),
        Some(parts) => match parts.as_slice() {
            [function, set, name] => format!("networkFunctions/{function}/replicaSets/{set}/instances/{name}"),
            _ => parts.join("/"),
        },
    };
    let mut client = FlowServiceClient::new(channel);
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let page_size = i32::try_from((limit - all.len()).clamp(1, 1000)).unwrap_or(1000);
        let (parent, instance) = (parent.clone(), instance.clone());
        let request = v1::ListFlowsRequest { parent, page_size, page_token, instance };
        let page = client.list_flows(request).await.map_err(plain)?.into_inner();
        all.extend(page.flows);
        page_token = page.next_page_token;
        if page_token.is_empty() || all.len() >= limit {
            break;
        }
    }
    let more = !page_token.is_empty() || all.len() > limit;
    all.truncate(limit);
    let word = |flow: &v1::Flow| flow.state().as_str_name().trim_start_matches("FLOW_STATE_").to_lowercase();
    let idle = |flow: &v1::Flow| flow.idle.map_or(0.0, |idle| idle.seconds as f64 + f64::from(idle.nanos) / 1e9);
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|flow| {
            vec![
                short_name(&flow.tenant),
                flow.protocol.clone(),
                end(flow.client.as_ref()),
                end(flow.server.as_ref()),
                word(flow),
                flow.view.to_string(),
                short(&flow.instances),
                format!("{:.1}s", idle(flow)),
            ]
        })
        .collect();
    let values = all.iter().map(|flow| {
        json!({
            "tenant": flow.tenant,
            "protocol": flow.protocol,
            "client": end(flow.client.as_ref()),
            "server": end(flow.server.as_ref()),
            "state": word(flow),
            "view": flow.view,
            "generation": flow.generation,
            "instances": flow.instances,
            "clientAttachment": flow.client_attachment,
            "serverAttachment": flow.server_attachment,
            "idleSeconds": idle(flow),
            "midstream": flow.midstream,
            "overlay": flow.overlay,
            "linked": flow.linked,
        })
    });
    let headers = ["TENANT", "PROTOCOL", "CLIENT", "SERVER", "STATE", "VIEW", "INSTANCES", "IDLE"];
    print(&Value::Array(values.collect()), output, &headers, &rows)?;
    if more {
        note!("there are more; raise --limit to see them");
    }
    Ok(ExitCode::SUCCESS)
}

/// `drops`.
pub(crate) async fn drops(
    channel: Channel,
    tenant: Option<String>,
    include_zero: bool,
    output: OutputArgs,
) -> Result<ExitCode, Failure> {
    let tenant = tenant.map(|tenant| tenant_name(&tenant)).unwrap_or_default();
    let request = v1::ListDropsRequest { tenant, include_zero };
    let answer = SystemServiceClient::new(channel).list_drops(request).await.map_err(plain)?.into_inner();
    let rows: Vec<Vec<String>> = answer
        .drops
        .iter()
        .map(|drop| {
            let tenants = drop.tenants.iter().map(|it| format!("{}={}", short_name(&it.tenant), it.count));
            let tenants = tenants.collect::<Vec<_>>().join(",");
            let tenants = if tenants.is_empty() { "-".to_owned() } else { tenants };
            vec![drop.reason.clone(), drop.count.to_string(), tenants, drop.meaning.clone()]
        })
        .collect();
    let values = answer.drops.iter().map(|drop| {
        let tenants = drop.tenants.iter().map(|it| json!({"tenant": it.tenant, "count": it.count}));
        json!({
            "reason": drop.reason,
            "count": drop.count,
            "meaning": drop.meaning,
            "tenants": tenants.collect::<Vec<_>>(),
        })
    });
    print(&Value::Array(values.collect()), output, &["REASON", "FRAMES", "TENANTS", "MEANING"], &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// What `trace` asks.
pub(crate) struct Query {
    pub(crate) tenant: String,
    pub(crate) side: SideArg,
    pub(crate) attachment: Option<String>,
    pub(crate) protocol: String,
    pub(crate) source: String,
    pub(crate) destination: String,
}

fn endpoint(text: &str) -> Result<v1::Endpoint, Failure> {
    let whole = text.parse::<SocketAddr>().map(|it| (it.ip(), it.port()));
    let bare = || text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().map(|ip| (ip, 0));
    match whole.or_else(|_| bare()) {
        Ok((ip, port)) => Ok(v1::Endpoint { address: ip.to_string(), port: port.into() }),
        Err(_) => Err(Failure::new(format!("{text:?} is not ADDRESS:PORT, [ADDRESS]:PORT or ADDRESS")).code(USAGE)),
    }
}

/// `trace`.
pub(crate) async fn trace(channel: Channel, query: Query, output: OutputArgs) -> Result<ExitCode, Failure> {
    let tenant = tenant_name(&query.tenant);
    let side = match query.side {
        SideArg::Client => v1::Side::Client,
        SideArg::Server => v1::Side::Server,
    };
    let attachment = query.attachment.map(|name| format!("{tenant}/attachments/{name}")).unwrap_or_default();
    let request = v1::TraceFlowRequest {
        side: side.into(),
        attachment,
        protocol: query.protocol,
        source: Some(endpoint(&query.source)?),
        destination: Some(endpoint(&query.destination)?),
        tenant,
    };
    let trace = FlowServiceClient::new(channel).trace_flow(request).await.map_err(plain)?.into_inner();
    let outcome = trace.outcome().as_str_name().trim_start_matches("TRACE_OUTCOME_").to_lowercase();
    let reason = |hop: &v1::TraceHop| hop.reason().as_str_name().trim_start_matches("HOP_REASON_").to_lowercase();
    let rows: Vec<Vec<String>> = (1..)
        .zip(&trace.hops)
        .map(|(number, hop)| {
            let why = match (hop.slot, hop.table_choice.as_str()) {
                (Some(slot), "") => format!("{} {slot}", reason(hop)),
                (Some(slot), choice) => format!("{} of slot {slot}: {} is down", reason(hop), short_name(choice)),
                (None, _) => reason(hop),
            };
            let position = if hop.position == 0 { "-".to_owned() } else { hop.position.to_string() };
            vec![number.to_string(), hop.target.clone(), position, why]
        })
        .collect();
    let value = json!({
        "hops": trace.hops.iter().map(|hop| json!({
            "reason": reason(hop),
            "target": hop.target,
            "replicaSet": hop.replica_set,
            "position": hop.position,
            "slot": hop.slot,
            "tableChoice": hop.table_choice,
        })).collect::<Vec<_>>(),
        "outcome": outcome,
        "dropReason": trace.drop_reason,
        "dropMeaning": trace.drop_meaning,
        "graph": trace.graph,
        "view": trace.view,
        "generation": trace.generation,
        "hasRecord": trace.has_record,
    });
    print(&value, output, &["HOP", "TO", "POSITION", "WHY"], &rows)?;
    if output.output == Format::Table {
        let from = if trace.has_record { "the flow's record" } else { "the tables, as for a new flow" };
        say!("plan {}, view {} of {}, from {from}", trace.generation, trace.view, trace.graph)?;
        match trace.outcome() {
            v1::TraceOutcome::Dropped => {
                let text = format!("dropped: {}: {}", trace.drop_reason, trace.drop_meaning);
                say!("{}", shade(&text, Shade::Bad))?;
            }
            v1::TraceOutcome::TupleChanges => {
                say!("tuple_changes: the last hop rewrites the tuple; trace the new one")?
            }
            v1::TraceOutcome::FlowEnds => say!("flow_ends: the last hop opens a connection of its own")?,
            v1::TraceOutcome::Delivered | v1::TraceOutcome::Unspecified => say!("{outcome}")?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::{endpoint, short_name};

    #[test]
    fn endpoints_of_both_families_with_and_without_port() {
        for (text, address, port) in [
            ("192.0.2.1:80", "192.0.2.1", 80),
            ("192.0.2.1", "192.0.2.1", 0),
            ("[2001:db8::1]:80", "2001:db8::1", 80),
            ("2001:db8::1", "2001:db8::1", 0),
            ("[2001:db8::1]", "2001:db8::1", 0),
        ] {
            let found = endpoint(text).expect(text);
            assert_eq!((found.address.as_str(), found.port), (address, port), "{text}");
        }
        assert!(endpoint("host:80").is_err());
    }

    #[test]
    fn names_become_short() {
        assert_eq!(short_name("networkFunctions/fw/replicaSets/v1/instances/a"), "fw/v1/a");
        assert_eq!(short_name("tenants/acme"), "acme");
    }
}
