//! The state machine.

mod common;

use chain_graph::ViolationKind;
use chain_graph::model::Side;
use common::*;
use state_sync::{Action, Command, Operation, Precondition, Refusal, Resource};
use xdp_layout::TenantId;

fn actions(changes: &[state_sync::Change]) -> Vec<(String, Action)> {
    changes.iter().map(|change| (change.path.to_string(), change.action)).collect()
}

#[test]
fn a_batch_may_be_in_any_order_and_a_repetition_changes_nothing() {
    let mut resources = chain();
    resources.reverse();
    let first = empty().apply(&puts(resources.clone()), NOW).expect("accepted");
    assert!(first.changed && first.changes.iter().all(|change| change.action == Action::Created));
    assert_eq!(first.changes.len(), resources.len());
    let again = first.state.apply(&puts(resources), NOW).expect("accepted");
    assert!(!again.changed);
    assert!(again.changes.iter().all(|change| change.action == Action::Unchanged));
    assert_eq!(dump(&again.state), dump(&first.state));
}

#[test]
fn the_same_commands_give_the_same_state() {
    let run = || after(&empty(), [puts(chain()), Command::delete(path("tenants/acme/graphs/web"))]);
    assert_eq!(dump(&run()), dump(&run()));
}

#[test]
fn everything_wrong_is_reported_at_once_and_nothing_changes() {
    let mut state = empty();
    state = after(&state, [puts(chain())]);
    let before = dump(&state);
    let mut bad = graph("acme", "bad", "nowhere", "v1");
    if let Resource::Graph(spec) = &mut bad {
        spec.client = vec![name("unknown")];
    }
    let orphan = attachment("nobody", "x", Side::Client, "eth9");
    let rejected = state.apply(&puts(vec![tenant("good"), bad, orphan]), NOW).expect_err("three things are wrong");
    let kinds: Vec<ViolationKind> = rejected.violations.iter().map(|violation| violation.kind).collect();
    assert!(kinds.contains(&ViolationKind::UnknownFunction), "{kinds:?}");
    assert!(kinds.contains(&ViolationKind::UnknownAttachment), "{kinds:?}");
    let no_parent = Refusal::NoParent { path: path("tenants/nobody/attachments/x"), parent: path("tenants/nobody") };
    assert_eq!(rejected.refusals, [no_parent]);
    assert_eq!(dump(&state), before);
}

#[test]
fn preconditions_hold_or_refuse() {
    let state = after(&empty(), [puts(vec![tenant("acme")])]);
    let put = |when| Command::one(Operation::Put { resource: tenant("acme"), when });
    let acme = path("tenants/acme");
    let refusals = |command: &Command| state.apply(command, NOW).expect_err("refused").refusals;
    assert_eq!(refusals(&put(Precondition::Absent)), [Refusal::AlreadyExists(acme.clone())]);
    assert_eq!(
        refusals(&put(Precondition::Revision(7))),
        [Refusal::RevisionMismatch { path: acme.clone(), expected: 7, actual: 1 }]
    );
    assert!(state.apply(&put(Precondition::Revision(1)), NOW).is_ok());
    let other = path("tenants/other");
    assert_eq!(refusals(&Command::delete(other.clone())), [Refusal::NotFound(other)]);
}

#[test]
fn owners_are_deleted_only_with_what_they_own_or_by_force() {
    let state = after(&empty(), [puts(chain())]);
    let acme = path("tenants/acme");
    let rejected = state.apply(&Command::delete(acme.clone()), NOW).expect_err("it owns three");
    let child = path("tenants/acme/attachments/clients");
    assert_eq!(rejected.refusals, [Refusal::HasChildren { path: acme.clone(), child, count: 3 }]);
    let force = Operation::Delete { path: acme, when: Precondition::None, cascade: true };
    let applied = state.apply(&Command::one(force), NOW).expect("forced");
    assert_eq!(applied.changes.len(), 4);
    assert_eq!(applied.state.entries().count(), 3, "the function stays");
}

#[test]
fn a_function_in_use_cannot_be_deleted_even_by_force() {
    let state = after(&empty(), [puts(chain())]);
    let force = Operation::Delete { path: path("networkFunctions/fw"), when: Precondition::None, cascade: true };
    let rejected = state.apply(&Command::one(force), NOW).expect_err("a graph names it");
    assert_eq!(rejected.violations.iter().map(|v| v.kind).collect::<Vec<_>>(), [ViolationKind::UnknownFunction]);
}

#[test]
fn numbers_are_given_kept_and_not_reused() {
    let state = after(&empty(), [puts(chain()), puts(vec![instance("fw", "v1", "b", 2)])]);
    let number = |state: &state_sync::DesiredState, text: &str| state.get(&path(text)).expect(text).number;
    let b = "networkFunctions/fw/replicaSets/v1/instances/b";
    assert_eq!(number(&state, b), 2);
    let state = after(&state, [Command::delete(path(b)), puts(vec![instance("fw", "v1", "c", 3)])]);
    assert_eq!(number(&state, "networkFunctions/fw/replicaSets/v1/instances/c"), 3, "2 was used before");
    assert_eq!(number(&state, "networkFunctions/fw/replicaSets/v1/instances/a"), 1);
}

#[test]
fn a_chosen_vni_is_kept_and_given_to_nobody_else() {
    let with_vni = |text: &str, vni: u32| {
        let Resource::Tenant(spec) = tenant(text) else { unreachable!("a tenant") };
        Resource::Tenant(state_sync::TenantSpec { vni: TenantId::new(vni), ..spec })
    };
    let state = after(&empty(), [puts(vec![tenant("a"), with_vni("b", 1), tenant("c")])]);
    let vni = |text: &str| state.get(&path(text)).expect(text).number;
    assert_eq!((vni("tenants/a"), vni("tenants/b"), vni("tenants/c")), (2, 1, 3));
    let rejected = state.apply(&puts(vec![with_vni("b", 9)]), NOW).expect_err("it cannot change");
    assert_eq!(rejected.refusals, [Refusal::Immutable { path: path("tenants/b"), field: "vni", value: 1 }]);
    let rejected = state.apply(&puts(vec![with_vni("d", 1)]), NOW).expect_err("it is taken");
    assert_eq!(rejected.violations.first().map(|violation| violation.kind), Some(ViolationKind::DuplicateId));
    // Putting the tenant without a VNI keeps it.
    assert!(!state.apply(&puts(vec![tenant("b")]), NOW).expect("accepted").changed);
}

#[test]
fn pruning_stays_within_what_is_listed() {
    let other = vec![tenant("other"), attachment("other", "clients", Side::Client, "eth2")];
    let state = after(&empty(), [puts(chain()), puts(other)]);
    let state =
        after(&state, [puts(vec![attachment("acme", "spare", Side::Client, "eth3"), instance("fw", "v1", "b", 2)])]);
    let mut command = puts(chain());
    command.prune = true;
    let applied = state.apply(&command, NOW).expect("accepted");
    let deleted: Vec<String> = actions(&applied.changes)
        .into_iter()
        .filter(|(_, action)| *action == Action::Deleted)
        .map(|(path, _)| path)
        .collect();
    assert_eq!(deleted, ["networkFunctions/fw/replicaSets/v1/instances/b", "tenants/acme/attachments/spare"]);
    assert!(applied.state.get(&path("tenants/other/attachments/clients")).is_some());
}

#[test]
fn pruning_spares_the_owner_of_what_is_listed() {
    let state = after(&empty(), [puts(vec![function("fw"), replica_set("fw", "v1"), replica_set("fw", "v2")])]);
    // The document of v1 was forgotten, that of its instance was not.
    let mut command = puts(vec![function("fw"), instance("fw", "v1", "a", 1)]);
    command.prune = true;
    let applied = state.apply(&command, NOW).expect("accepted");
    let instance = path("networkFunctions/fw/replicaSets/v1/instances/a");
    assert!(applied.state.get(&instance).is_some());
    assert!(applied.state.get(&path("networkFunctions/fw/replicaSets/v1")).is_some());
    assert!(applied.state.get(&path("networkFunctions/fw/replicaSets/v2")).is_none());
    assert!(applied.changes.iter().all(|change| change.after.is_some() || change.action == Action::Deleted));
}

#[test]
fn a_repeated_request_is_answered_and_not_carried_out() {
    let mut command = Command::one(Operation::Put { resource: tenant("acme"), when: Precondition::Absent });
    command.request_id = "r-1".to_owned();
    let first = empty().apply(&command, NOW).expect("accepted");
    let again = first.state.apply(&command, NOW).expect("repeated");
    assert!(!again.changed);
    assert_eq!(actions(&again.changes), actions(&first.changes));
    assert_eq!(again.changes[0].after, first.changes[0].after);
    let mut other = Command::put(tenant("other"));
    other.request_id = "r-1".to_owned();
    let rejected = first.state.apply(&other, NOW).expect_err("the id is taken");
    assert_eq!(rejected.refusals, [Refusal::RequestIdReused("r-1".to_owned())]);
}

#[test]
fn budgets_must_fit_in_the_connection_table() {
    let mut greedy = tenant("greedy");
    if let Resource::Tenant(spec) = &mut greedy {
        spec.budget.established = 2_000_000;
    }
    let rejected = empty().apply(&puts(vec![greedy]), NOW).expect_err("too much");
    assert_eq!(rejected.violations.first().map(|violation| violation.kind), Some(ViolationKind::OverCapacity));
}

#[test]
fn what_changes_no_path_keeps_the_plan() {
    let state = after(&empty(), [puts(chain())]);
    let moved = after(&state, [puts(vec![attachment("acme", "clients", Side::Client, "eth7")])]);
    assert_eq!(moved.generation(), state.generation());
    assert_eq!(moved.revision(), state.revision() + 1);
    let grown = after(&state, [puts(vec![instance("fw", "v1", "b", 2)])]);
    assert!(grown.generation() > state.generation());
}
