//! The phase functions, written down: every state with every event, and a picture of the states. Both are made from the
//! functions and compared with what is committed; `SWITCHYARD_BLESS=1` rewrites them.

use chain_graph::phase::*;
use chain_graph::plan::{PlanNumber, PlanRef};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use xdp_layout::{Generation, NodeId};

/// The plan in force, the one to come, and one that comes in its place.
const A: u64 = 10;
const B: u64 = 11;
const C: u64 = 12;

fn number(number: u64) -> Generation {
    Generation::new(number).expect("above 0")
}

fn plan(generation: u64) -> PlanRef {
    PlanRef { generation: number(generation), digest: generation * 0x11 }
}

fn node(node: u16) -> NodeId {
    NodeId::new(node).expect("above 0")
}

fn nodes(all: &[u16]) -> BTreeSet<NodeId> {
    all.iter().map(|one| node(*one)).collect()
}

fn stable(plan: PlanRef, last: u64) -> Place {
    Place::new(1, At::Stable { plan, last: number(last) }).expect("numbers rise")
}

fn change(next: PlanRef, phase: Phase) -> Place {
    Place::new(1, At::Change { plan: plan(A), next, phase }).expect("numbers rise")
}

fn order(place: Place, epoch: u64, members: &[u16]) -> MemberEvent {
    MemberEvent::Order(Order { place, epoch, members: nodes(members) })
}

/// Everything a member is told or hears, most likely first.
fn member_events() -> Vec<(&'static str, MemberEvent)> {
    let all = &[1, 2, 3];
    let other = PlanRef { digest: 0xbad, ..plan(B) };
    let lost = Place::new(1, At::Stable { plan: plan(C), last: number(C) }).expect("numbers rise");
    let restored = Place::new(2, At::Stable { plan: plan(A), last: number(A) }).expect("numbers rise");
    vec![
        ("order stable 10", order(stable(plan(A), A), 1, all)),
        ("order prepare 10 to 11", order(change(plan(B), Phase::Prepare), 1, all)),
        ("order hold 10 to 11", order(change(plan(B), Phase::Hold), 1, all)),
        ("order flush 10 to 11", order(change(plan(B), Phase::Flush), 1, all)),
        ("order flush 10 to 11, 3 is gone", order(change(plan(B), Phase::Flush), 2, &[1, 2])),
        ("order stable 11 (commit)", order(stable(plan(B), B), 1, all)),
        ("order stable 11, alone", order(stable(plan(B), B), 2, &[1])),
        ("order stable 10, 11 used up (abort)", order(stable(plan(A), B), 1, all)),
        ("order prepare 10 to 12", order(change(plan(C), Phase::Prepare), 1, all)),
        ("order stable 12", order(lost, 1, all)),
        ("order stable 10 of incarnation 2", order(restored, 1, all)),
        ("order prepare 10 to 11 of another digest", order(change(other, Phase::Prepare), 1, all)),
        ("order stable 10, not a member", order(stable(plan(A), A), 2, &[2, 3])),
        ("order prepare 10 to 11, not a member", order(change(plan(B), Phase::Prepare), 2, &[2, 3])),
        ("installed 10", MemberEvent::Installed(plan(A))),
        ("installed 11", MemberEvent::Installed(plan(B))),
        ("installed 11 of another digest", MemberEvent::Installed(other)),
        ("acknowledged by 2", MemberEvent::Acknowledged { peer: node(2), next: plan(B) }),
        ("acknowledged by 3", MemberEvent::Acknowledged { peer: node(3), next: plan(B) }),
        ("synchronized with 2, 3", MemberEvent::Synchronized { plan: plan(A), with: nodes(&[2, 3]) }),
    ]
}

/// A member after these events.
fn after(mut member: Member, events: &[&str]) -> Member {
    let all = member_events();
    for event in events {
        let (_, event) = all.iter().find(|(name, _)| name == event).expect("an event of the table");
        member = member.step(event).expect("a step that is taken").0;
    }
    member
}

/// Every state of a member that differs in what it does.
fn members() -> Vec<(&'static str, Member)> {
    let new = || Member::new(node(1));
    let prepare = ["order prepare 10 to 11", "installed 11"];
    let stable = || after(Member::resume(node(1), stable(plan(A), A)), &["order stable 10"]);
    let hold = || after(stable(), &[&prepare[..], &["order hold 10 to 11"]].concat());
    let flush = || after(hold(), &["order flush 10 to 11"]);
    vec![
        ("Outside, new", new()),
        ("Outside, in a change", after(new(), &["order prepare 10 to 11, not a member"])),
        ("Joining", after(new(), &["order stable 10, not a member"])),
        ("Joining, ready", after(new(), &["order stable 10, not a member", "installed 10", "synchronized with 2, 3"])),
        ("Stable", stable()),
        ("Stable, 11 used up", after(hold(), &["order stable 10, 11 used up (abort)"])),
        ("Prepare", after(stable(), &prepare[..1])),
        ("Prepare, installed", after(stable(), &prepare)),
        ("Hold", hold()),
        ("Flush, waiting for 2, 3", flush()),
        ("Flush, waiting for 3", after(flush(), &["acknowledged by 2"])),
        ("Flush, acknowledged", after(flush(), &["acknowledged by 2", "acknowledged by 3"])),
        ("Flush, resumed", Member::resume(node(1), change(plan(B), Phase::Flush))),
        ("Stable 11", after(flush(), &["acknowledged by 2", "acknowledged by 3", "order stable 11 (commit)"])),
    ]
}

fn at(place: &Place) -> String {
    if place.incarnation() == 1 { place.at().to_string() } else { place.to_string() }
}

fn listed(nodes: &BTreeSet<NodeId>) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn member_command(command: &MemberCommand) -> String {
    match command {
        MemberCommand::Install(plan) => format!("install {}", plan.generation),
        MemberCommand::Discard(plan) => format!("discard {}", plan.generation),
        MemberCommand::Heed(members) => format!("heed {}", listed(members)),
        MemberCommand::Enter(rules) => format!("enter [{rules}]"),
        MemberCommand::Send(plan) => format!("send against {}", plan.generation),
        MemberCommand::Clear => "clear".into(),
        MemberCommand::Synchronize(with) => format!("synchronize with {}", listed(with)),
        MemberCommand::Join { place, .. } => format!("join at {}", at(place)),
        MemberCommand::Leave => "leave".into(),
        MemberCommand::Report(place) => format!("report {}", at(place)),
    }
}

fn member_state(member: &Member) -> String {
    let name = member.state().name();
    match (member.state(), member.place()) {
        (MemberState::Outside { .. }, _) | (_, None) => name.into(),
        (MemberState::Joining { installed, synchronized, .. }, Some(place)) => {
            let missing = [(!installed).then_some("plan"), synchronized.is_none().then_some("snapshots")];
            let missing = missing.into_iter().flatten().collect::<Vec<_>>();
            let missing = if missing.is_empty() { "ready".into() } else { format!("lacks {}", missing.join(", ")) };
            format!("{name}: {}, {missing}", at(&place))
        }
        (MemberState::Prepare { installed: false, .. }, Some(place)) => {
            format!("{name}: {}, not installed", at(&place))
        }
        (MemberState::Flush { waiting, .. }, Some(place)) => match waiting {
            None => format!("{name}: {}, not sent", at(&place)),
            Some(waiting) if waiting.is_empty() => format!("{name}: {}", at(&place)),
            Some(waiting) => format!("{name}: {}, waits for {}", at(&place), listed(waiting)),
        },
        (_, Some(place)) => format!("{name}: {}", at(&place)),
    }
}

fn member_rejection(rejection: &MemberRejection) -> String {
    let name = match rejection {
        MemberRejection::Stale { .. } => "Stale",
        MemberRejection::NotAwaited { .. } => "NotAwaited",
        MemberRejection::Contradiction { .. } => "Contradiction",
        MemberRejection::Digest { .. } => "Digest",
        MemberRejection::LeftOut { .. } => "LeftOut",
    };
    format!("*{name}*{}", if rejection.is_alarm() { ", alarm" } else { "" })
}

/// One row for every state and event.
fn member_table() -> String {
    let mut table = String::from("| state | event | then | to do |\n|---|---|---|---|\n");
    for (state, member) in members() {
        for (name, event) in member_events() {
            let (then, commands) = match member.step(&event) {
                Ok((next, commands)) if next == member => ("(same)".into(), commands),
                Ok((next, commands)) => (member_state(&next), commands),
                Err(rejection) => (member_rejection(&rejection), Vec::new()),
            };
            let commands = commands.iter().map(member_command).collect::<Vec<_>>().join("; ");
            writeln!(table, "| {state} | {name} | {then} | {commands} |").expect("a string");
        }
    }
    table
}

/// The arrows between states of different names.
fn member_picture() -> String {
    let mut arrows = BTreeMap::<(&str, &str), BTreeSet<String>>::new();
    for (_, member) in members() {
        for (name, event) in member_events() {
            if let Ok((next, _)) = member.step(&event)
                && next.state().name() != member.state().name()
            {
                let label = name.split(", not a member").next().unwrap_or(name).to_owned();
                let label = if name.contains("not a member") { format!("{label}, removed") } else { label };
                arrows.entry((member.state().name(), next.state().name())).or_default().insert(label);
            }
        }
    }
    picture("member", &arrows)
}

/// Everything that the coordinator hears of.
fn coordinator_events() -> Vec<(&'static str, CoordinatorEvent)> {
    let propose = |generation: u64, parent: PlanRef, incarnation| CoordinatorEvent::Propose {
        number: PlanNumber { incarnation, generation: number(generation), parent: Some(parent) },
        digest: plan(generation).digest,
        revision: 5,
    };
    let report = |one, place| CoordinatorEvent::Report { node: node(one), place };
    let join = |with: &[u16]| CoordinatorEvent::Join { node: node(4), place: stable(plan(A), A), with: nodes(with) };
    vec![
        ("want 6", CoordinatorEvent::Want { revision: 6 }),
        ("propose 11 after 10", propose(B, plan(A), 1)),
        ("propose 12 after 11", propose(C, plan(B), 1)),
        ("propose 12 after 10", propose(C, plan(A), 1)),
        ("propose 11 of incarnation 2", propose(B, plan(A), 2)),
        ("1 reports stable 10", report(1, stable(plan(A), A))),
        ("1 reports prepare 11", report(1, change(plan(B), Phase::Prepare))),
        ("2 reports prepare 11", report(2, change(plan(B), Phase::Prepare))),
        ("1 reports hold 11", report(1, change(plan(B), Phase::Hold))),
        ("2 reports hold 11", report(2, change(plan(B), Phase::Hold))),
        ("1 reports flush 11", report(1, change(plan(B), Phase::Flush))),
        ("2 reports flush 11", report(2, change(plan(B), Phase::Flush))),
        ("1 reports stable 11", report(1, stable(plan(B), B))),
        ("2 reports stable 11", report(2, stable(plan(B), B))),
        ("1 reports stable 10, 11 used up", report(1, stable(plan(A), B))),
        ("2 reports stable 10, 11 used up", report(2, stable(plan(A), B))),
        ("4 reports stable 10", report(4, stable(plan(A), A))),
        ("abort 11", CoordinatorEvent::Abort { next: number(B) }),
        ("abort 12", CoordinatorEvent::Abort { next: number(C) }),
        ("4 joins at 10, having 1, 2", join(&[1, 2])),
        ("4 joins at 10, having 1", join(&[1])),
        ("2 joins", CoordinatorEvent::Join { node: node(2), place: stable(plan(A), A), with: nodes(&[1]) }),
        ("2 leaves", CoordinatorEvent::Leave { node: node(2) }),
        ("2 is lost", CoordinatorEvent::Lost { node: node(2) }),
        ("4 is lost", CoordinatorEvent::Lost { node: node(4) }),
    ]
}

fn coordinated(mut coordinator: Coordinator, events: &[&str]) -> Coordinator {
    let all = coordinator_events();
    for event in events {
        let (_, event) = all.iter().find(|(name, _)| name == event).expect("an event of the table");
        coordinator = coordinator.step(event).expect("a step that is taken").0;
    }
    coordinator
}

/// Every state of a coordinator of two members that differs in what it does, and a change with one.
fn coordinators() -> Vec<(&'static str, Coordinator)> {
    let new = |members: &[u16]| {
        let coordinator = Coordinator::new(1, plan(A), number(A), members.iter().map(|one| node(*one)));
        let reports =
            members.iter().map(|one| CoordinatorEvent::Report { node: node(*one), place: stable(plan(A), A) });
        reports.fold(coordinator, |coordinator, report| coordinator.step(&report).expect("its place").0)
    };
    let prepare = || coordinated(new(&[1, 2]), &["propose 11 after 10"]);
    let hold = || coordinated(prepare(), &["1 reports prepare 11", "2 reports prepare 11"]);
    let flush = || coordinated(hold(), &["1 reports hold 11", "2 reports hold 11"]);
    let commit = || coordinated(flush(), &["1 reports flush 11", "2 reports flush 11"]);
    vec![
        ("Stable, nothing heard", Coordinator::new(1, plan(A), number(A), [node(1), node(2)])),
        ("Stable", new(&[1, 2])),
        ("Stable, no members", new(&[])),
        ("Stable, waiting", coordinated(new(&[1, 2]), &["want 6"])),
        ("Prepare", prepare()),
        ("Prepare, 1 there", coordinated(prepare(), &["1 reports prepare 11"])),
        ("Prepare, 1 there, waiting", coordinated(prepare(), &["want 6", "1 reports prepare 11"])),
        ("Prepare, one member", coordinated(new(&[1]), &["propose 11 after 10"])),
        ("Hold", hold()),
        ("Hold, 1 there", coordinated(hold(), &["1 reports hold 11"])),
        ("Flush", flush()),
        ("Flush, 1 there", coordinated(flush(), &["1 reports flush 11"])),
        ("Commit", commit()),
        ("Commit, 1 there", coordinated(commit(), &["1 reports stable 11"])),
        ("Abort", coordinated(flush(), &["abort 11"])),
        ("Abort, 1 there, waiting", coordinated(flush(), &["abort 11", "want 6", "1 reports stable 10, 11 used up"])),
    ]
}

fn coordinator_command(command: &CoordinatorCommand) -> String {
    match command {
        CoordinatorCommand::Tell(order) => format!("tell {}, members {}", at(&order.place), listed(&order.members)),
        CoordinatorCommand::Build { parent, generation } => format!("build {generation} after {}", parent.generation),
        CoordinatorCommand::Settled(plan) => format!("settled {}", plan.generation),
    }
}

fn coordinator_state(coordinator: &Coordinator) -> String {
    let place = coordinator.place();
    let missing = coordinator.members().filter(|(_, known)| *known != Some(place));
    let missing = missing.map(|(node, _)| node.to_string()).collect::<Vec<_>>().join(" ");
    let missing = if missing.is_empty() { String::new() } else { format!(", waits for {missing}") };
    format!("{}{missing}{}", at(&place), if coordinator.is_waiting() { ", more wanted" } else { "" })
}

fn coordinator_rejection(rejection: &CoordinatorRejection) -> String {
    let name = match rejection {
        CoordinatorRejection::Busy { .. } => "Busy",
        CoordinatorRejection::Used { .. } => "Used",
        CoordinatorRejection::NotAChild { .. } => "NotAChild",
        CoordinatorRejection::NotUnderWay { .. } => "NotUnderWay",
        CoordinatorRejection::Member { .. } => "Member",
        CoordinatorRejection::NotAMember { .. } => "NotAMember",
        CoordinatorRejection::NotSettled { .. } => "NotSettled",
        CoordinatorRejection::Elsewhere { .. } => "Elsewhere",
        CoordinatorRejection::NotSynchronized { .. } => "NotSynchronized",
        CoordinatorRejection::Contradiction { .. } => "Contradiction",
    };
    format!("*{name}*{}", if rejection.is_alarm() { ", alarm" } else { "" })
}

fn coordinator_table() -> String {
    let mut table = String::from("| state | event | then | to do |\n|---|---|---|---|\n");
    for (state, coordinator) in coordinators() {
        for (name, event) in coordinator_events() {
            let (then, commands) = match coordinator.step(&event) {
                Ok((next, commands)) if next == coordinator => ("(same)".into(), commands),
                Ok((next, commands)) => (coordinator_state(&next), commands),
                Err(rejection) => (coordinator_rejection(&rejection), Vec::new()),
            };
            let commands = commands.iter().map(coordinator_command).collect::<Vec<_>>().join("; ");
            writeln!(table, "| {state} | {name} | {then} | {commands} |").expect("a string");
        }
    }
    table
}

fn coordinator_name(coordinator: &Coordinator) -> &'static str {
    match coordinator.place().at() {
        At::Stable { .. } => "Stable",
        At::Change { phase: Phase::Prepare, .. } => "Prepare",
        At::Change { phase: Phase::Hold, .. } => "Hold",
        At::Change { phase: Phase::Flush, .. } => "Flush",
    }
}

fn coordinator_picture() -> String {
    let mut arrows = BTreeMap::<(&str, &str), BTreeSet<String>>::new();
    for (state, coordinator) in coordinators() {
        for (name, event) in coordinator_events() {
            if let Ok((next, _)) = coordinator.step(&event)
                && coordinator_name(&next) != coordinator_name(&coordinator)
            {
                let label = if state.contains("one member") { format!("{name}, alone") } else { name.into() };
                arrows.entry((coordinator_name(&coordinator), coordinator_name(&next))).or_default().insert(label);
            }
        }
    }
    picture("coordinator", &arrows)
}

fn picture(name: &str, arrows: &BTreeMap<(&str, &str), BTreeSet<String>>) -> String {
    let mut dot = format!("digraph {name} {{\n  rankdir = LR;\n  node [shape = box, style = rounded];\n");
    for ((from, to), labels) in arrows {
        let labels = labels.iter().cloned().collect::<Vec<_>>().join("\\n");
        writeln!(dot, "  {from} -> {to} [label = \"{labels}\"];").expect("a string");
    }
    dot + "}\n"
}

#[track_caller]
fn golden(file: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    if std::env::var_os("SWITCHYARD_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
        std::fs::write(&path, wanted).expect("write the golden file");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "chain-graph/tests/golden/{file} is not what the functions do; SWITCHYARD_BLESS=1 rewrites it"
    );
}

#[test]
fn every_state_and_event_of_a_member() {
    golden("phase-member.md", &member_table());
    golden("phase-member.dot", &member_picture());
}

#[test]
fn every_state_and_event_of_the_coordinator() {
    golden("phase-coordinator.md", &coordinator_table());
    golden("phase-coordinator.dot", &coordinator_picture());
}
