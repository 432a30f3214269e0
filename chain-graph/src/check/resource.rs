//! Tenants, attachments and network functions one by one.

use super::place::{InstancePlace, Place};
use super::violation::{Report, ViolationKind as Kind};
use crate::cidr::{Cidr, addr_of};
use crate::model::{
    Attachment, Desired, Instance, NetworkFunction, ObjectKey, Port, Ports, ReplicaSet, ResourceName, Tenancy, Tenant,
    TupleEffect,
};
use crate::outside::{Claim, by_prefix, overlaps};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use xdp_layout::plan::{MEMBERS_MAX, OUTSIDE_RANGES_MAX};

/// Bytes of an interface's name without the closing zero (Linux `IFNAMSIZ` - 1).
const INTERFACE_NAME_MAX: usize = 15;

pub(super) fn tenant(key: &ResourceName, tenant: &Tenant, report: &mut Report) {
    let path = Place::Tenant(key);
    check_key(key, &tenant.name, path, report);
    for (field, records) in [("unanswered", tenant.budget.unanswered), ("established", tenant.budget.established)] {
        if records == 0 {
            let message = format!("a budget of 0 {field} records lets no flow have one");
            report.add(Kind::ZeroBudget, format!("{path}.budget.{field}"), message);
        }
    }
}

pub(super) fn attachment(desired: &Desired, key: &ObjectKey, attachment: &Attachment, report: &mut Report) {
    let path = Place::Attachment(key);
    if attachment.key() != *key {
        let message = format!("the attachment stored here is named {}", attachment.key());
        report.add(Kind::KeyMismatch, path.to_string(), message);
    }
    if !desired.tenants.contains_key(&attachment.tenant) {
        let message = format!("there is no tenant {}", attachment.tenant);
        report.add(Kind::UnknownTenant, format!("{path}.tenant"), message);
    }
    check_interface(&attachment.interface, path, report);
    for (index, net) in attachment.prefixes.iter().enumerate() {
        check_mapped(*net, || format!("{path}.prefixes[{index}]"), report);
    }
}

pub(super) fn function(key: &ResourceName, function: &NetworkFunction, report: &mut Report) {
    let path = format!("functions[\"{key}\"]");
    check_key(key, &function.name, &path, report);
    for (index, ip) in function.addresses.iter().enumerate() {
        if !is_station(*ip) {
            let message = format!("{ip} cannot be a station's address");
            report.add(Kind::InvalidAddress, format!("{path}.addresses[{index}]"), message);
        }
    }
    if let Tenancy::Tagged { tags, .. } = &function.tenancy {
        let mut holders = BTreeMap::new();
        for (tenant, tag) in tags {
            if let Some(other) = holders.insert(tag, tenant) {
                let message = format!("tenants {other} and {tenant} both have tag {tag}");
                report.add(Kind::DuplicateTag, format!("{path}.tenancy.tags[\"{tenant}\"]"), message);
            }
        }
    }
    let mut claims = Vec::new();
    let mut places = Vec::new();
    for (name, set) in &function.replica_sets {
        replica_set(key, name, set, report);
        for (instance_name, instance) in &set.instances {
            let place = InstancePlace { function: key, set: name, instance: instance_name };
            check_instance(function, place, instance, report);
            for (index, block) in instance.outside.iter().enumerate() {
                claims.push(Claim::new(block, places.len()));
                places.push(Place::Outside(place, index));
            }
        }
    }
    overlaps(&mut claims, |earlier, later| {
        let message = format!("overlaps with {}", places[earlier.owner]);
        report.add(Kind::OutsideOverlap, places[later.owner].to_string(), message);
    });
    for (prefix, ranges) in by_prefix(&mut claims) {
        if let Some((_, owner)) = ranges.get(OUTSIDE_RANGES_MAX) {
            let message = format!("{} port ranges on {prefix}, {OUTSIDE_RANGES_MAX} are allowed", ranges.len());
            report.add(Kind::OutsideRanges, places[*owner].to_string(), message);
        }
    }
}

fn replica_set(function: &ResourceName, key: &ResourceName, set: &ReplicaSet, report: &mut Report) {
    let path = Place::ReplicaSet(function, key);
    check_key(key, &set.name, path, report);
    if set.max_members == 0 || u32::from(set.max_members) > MEMBERS_MAX {
        let message = format!("a maximum of {} members: must be 1 to {MEMBERS_MAX}", set.max_members);
        report.add(Kind::MaxMembers, format!("{path}.max_members"), message);
    } else if set.instances.len() > usize::from(set.max_members) {
        let message = format!("{} instances, the declared maximum is {}", set.instances.len(), set.max_members);
        report.add(Kind::TooManyInstances, format!("{path}.instances"), message);
    }
}

fn check_instance(function: &NetworkFunction, place: InstancePlace<'_>, instance: &Instance, report: &mut Report) {
    check_key(place.instance, &instance.name, place, report);
    for (field, port) in ports(&instance.ports) {
        let path = Place::Port(place, field);
        check_interface(&port.interface, path, report);
        if !port.mac.is_unicast() {
            let message = format!("{} cannot be a station's address", port.mac);
            report.add(Kind::InvalidMac, format!("{path}.mac"), message);
        }
    }
    for (index, block) in instance.outside.iter().enumerate() {
        let path = Place::Outside(place, index);
        check_mapped(block.prefix, || format!("{path}.prefix"), report);
        if let Some(range) = block.ports.filter(|range| range.is_empty()) {
            let message = format!("the range {} to {} holds no port", range.first, range.last);
            report.add(Kind::EmptyRange, format!("{path}.ports"), message);
        }
    }
    match function.tuple {
        TupleEffect::Keeps if !instance.outside.is_empty() => {
            let message = "the function leaves tuples alone, so it has no outside".to_owned();
            report.add(Kind::OutsideNotAllowed, format!("{place}.outside"), message);
        }
        TupleEffect::Changes if instance.outside.is_empty() => {
            let message = "the function changes tuples, so every instance needs an outside block".to_owned();
            report.add(Kind::OutsideMissing, format!("{place}.outside"), message);
        }
        TupleEffect::Keeps | TupleEffect::Changes | TupleEffect::Ends => {}
    }
}

/// An instance's ports with their fields' names.
pub(super) fn ports(ports: &Ports) -> impl Iterator<Item = (&'static str, &Port)> {
    match ports {
        Ports::TwoArmed { inside, outside } => [Some(("inside", inside)), Some(("outside", outside))],
        Ports::OneArmed(port) => [Some(("one_armed", port)), None],
    }
    .into_iter()
    .flatten()
}

fn check_key(key: &ResourceName, name: &ResourceName, path: impl std::fmt::Display, report: &mut Report) {
    if key != name {
        report.add(Kind::KeyMismatch, path.to_string(), format!("the resource stored here is named {name}"));
    }
}

fn check_interface(name: &str, path: Place<'_>, report: &mut Report) {
    let fits = !name.is_empty() && name.len() <= INTERFACE_NAME_MAX && name != "." && name != "..";
    if !fits || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
        let message = format!("{name:?} cannot be an interface's name");
        report.add(Kind::InvalidInterface, format!("{path}.interface"), message);
    }
}

/// IPv4 addresses in IPv6 form never appear on the wire.
fn check_mapped(net: IpNet, path: impl FnOnce() -> String, report: &mut Report) {
    if matches!(net, IpNet::V6(_)) && Cidr::V4.covers(net.into()) {
        report.add(Kind::InvalidAddress, path(), format!("{net} is an IPv4 prefix in IPv6 form"));
    }
}

fn is_station(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast() && !addr_of(ip).is_v4(),
    }
}
