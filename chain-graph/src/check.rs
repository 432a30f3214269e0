//! Whether what users declared fits together.
//!
//! [`check`] reports everything that is wrong at once. Its result, [`Checked`], is the only input that views, plans and
//! images are made from, and there is no other way to make one.

mod global;
mod graph;
mod matches;
mod place;
mod resource;
mod shape;
mod violation;

pub(crate) use graph::Resolved;
pub use violation::{Violation, ViolationKind};

use crate::model::{Desired, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use violation::Report;

/// A declaration without violations, its graphs resolved and compiled.
#[derive(Clone, Debug)]
pub struct Checked {
    desired: Desired,
    graphs: BTreeMap<ObjectKey, Arc<Resolved>>,
}

impl Checked {
    /// What was checked.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// What a graph compiles to.
    pub fn content(&self, key: &ObjectKey) -> Option<&Arc<crate::view::ViewContent>> {
        self.graphs.get(key).map(|resolved| &resolved.content)
    }

    pub(crate) fn graphs(&self) -> &BTreeMap<ObjectKey, Arc<Resolved>> {
        &self.graphs
    }
}

/// Checks a declaration.
///
/// # Errors
/// Every violation, in the order tenants, attachments, functions, graphs, then rules between them.
pub fn check(desired: &Desired) -> Result<Checked, Vec<Violation>> {
    check_after(None, desired)
}

/// As [`check`], given an earlier result: graphs and functions that are the same objects are not looked at again. The
/// answer is the same.
///
/// # Errors
/// Every violation.
pub fn check_after(earlier: Option<&Checked>, desired: &Desired) -> Result<Checked, Vec<Violation>> {
    let mut report = Report::default();
    for (name, tenant) in &desired.tenants {
        resource::tenant(name, tenant, &mut report);
    }
    for (key, attachment) in &desired.attachments {
        resource::attachment(desired, key, attachment, &mut report);
    }
    for (name, function) in &desired.functions {
        let known = earlier.and_then(|earlier| earlier.desired.functions.get(name));
        if !known.is_some_and(|known| Arc::ptr_eq(known, function)) {
            resource::function(name, function, &mut report);
        }
    }
    let mut graphs = BTreeMap::new();
    let mut changed = BTreeSet::new();
    for (key, graph) in &desired.graphs {
        let known = earlier.and_then(|earlier| earlier.graphs.get(key));
        match known.filter(|known| known.is_current(key, desired)) {
            Some(known) => {
                graphs.insert(key.clone(), Arc::clone(known));
            }
            None => {
                changed.insert(&key.tenant);
                if let Some(resolved) = graph::resolve(desired, key, graph, &mut report) {
                    graphs.insert(key.clone(), Arc::new(resolved));
                }
            }
        }
    }
    global::check(desired, &changed, &mut report);
    if report.0.is_empty() { Ok(Checked { desired: desired.clone(), graphs }) } else { Err(report.0) }
}

/// Whether the connection table holds all tenants' budgets, unanswered and established together: a budget is a guarantee.
/// `capacity` is in records.
///
/// # Errors
/// One violation, at the first tenant in the order of names whose budget no longer fits.
pub fn check_capacity(desired: &Desired, capacity: u64) -> Result<(), Violation> {
    let mut sum = 0u64;
    for (name, tenant) in &desired.tenants {
        sum += u64::from(tenant.budget.unanswered) + u64::from(tenant.budget.established);
        if sum > capacity {
            return Err(Violation {
                path: format!("tenants[\"{name}\"].budget"),
                kind: ViolationKind::OverCapacity,
                message: format!("with this one the budgets sum to {sum} records, the connection table holds {capacity}"),
            });
        }
    }
    Ok(())
}
