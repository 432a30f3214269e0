//! What a rollout is doing and what came of it.

use super::rollout::rollout_spec_out;
use crate::v1;
use chain_graph::rollout::{
    Counters, Ended, Figures, Lack, Outcome, PhaseName, Rollout, Share, Shortage, State, Status, Timestamp,
};
use state_sync::{ResourcePath, Role, Version};
use std::time::SystemTime;
use xdp_layout::{ReplicaSetId, ViewId};

/// A moment of the engine.
pub(crate) fn timestamp_out(at: Timestamp) -> prost_types::Timestamp {
    let (secs, millis) = (at.millis() / 1000, at.millis() % 1000);
    prost_types::Timestamp {
        seconds: i64::try_from(secs).unwrap_or(i64::MAX),
        // Fewer than 1000 ms: it fits.
        nanos: i32::try_from(millis * 1_000_000).unwrap_or_default(),
    }
}

/// A share of the new flows, 0 to 1.
pub(crate) fn share_out(share: Share) -> f64 {
    f64::from(share.get()) / f64::from(Share::ALL.get())
}

/// The rollout of a graph. `name` tells the names of replica sets.
pub(crate) fn rollout(rollout: &Rollout, name: impl Fn(ReplicaSetId) -> String) -> v1::Rollout {
    let status = rollout.status();
    let Status { graph, place, stable, target, share, wanted, started, since, next_deadline, .. } = &status;
    let spec = match rollout.state() {
        State::Running(run) => Some(rollout_spec_out(&run.spec)),
        State::Idle | State::Completed(_) => None,
    };
    v1::Rollout {
        graph: ResourcePath::Graph(graph.clone()).to_string(),
        phase: phase(place.phase).into(),
        step: place.step.into(),
        steps: place.steps.into(),
        stable_view: stable.get(),
        target_view: target.map_or(0, ViewId::get),
        share: share_out(*share),
        wanted_share: share_out(*wanted),
        start_time: started.map(timestamp_out),
        phase_time: since.map(timestamp_out),
        deadline_time: next_deadline.map(timestamp_out),
        figures: status.figures.as_ref().map(figures),
        shortages: status.shortages.iter().map(|one| shortage(*one, &name)).collect(),
        outcome: status.outcome.as_ref().map_or(v1::RolloutOutcome::Unspecified, outcome).into(),
        message: status.message,
        spec,
        read_time: Some(SystemTime::now().into()),
    }
}

/// A rollout that has ended and another one followed.
pub(crate) fn ended(rollout: &Rollout, ended: &Ended) -> v1::Rollout {
    let Ended { from: _, target, started, ended: at, step: _, outcome: came } = ended;
    v1::Rollout {
        graph: ResourcePath::Graph(rollout.graph().clone()).to_string(),
        phase: v1::RolloutPhase::Completed.into(),
        stable_view: rollout.stable().get(),
        target_view: target.get(),
        start_time: Some(timestamp_out(*started)),
        phase_time: Some(timestamp_out(*at)),
        outcome: outcome(came).into(),
        message: came.to_string(),
        read_time: Some(SystemTime::now().into()),
        ..v1::Rollout::default()
    }
}

const fn outcome(outcome: &Outcome) -> v1::RolloutOutcome {
    match outcome {
        Outcome::Success => v1::RolloutOutcome::Success,
        Outcome::Failed(_) => v1::RolloutOutcome::Failed,
        Outcome::Superseded { by: _ } => v1::RolloutOutcome::Superseded,
    }
}

/// A version of the graph that `rollout` is of, and the flow records that name it.
pub(crate) fn version(version: &Version, records: Option<u64>, rollout: &Rollout) -> v1::GraphVersion {
    let Version { view, parent, spec, made, role } = version;
    let last = rollout.history().rfind(|ended| ended.target == *view);
    v1::GraphVersion {
        view: view.get(),
        parent_view: parent.map_or(0, ViewId::get),
        role: match role {
            Role::Stable => v1::VersionRole::Stable.into(),
            Role::Candidate => v1::VersionRole::Candidate.into(),
            Role::Draining => v1::VersionRole::Draining.into(),
            Role::Retired => v1::VersionRole::Retired.into(),
        },
        create_time: made.map(timestamp_out),
        records,
        outcome: last.map_or(v1::RolloutOutcome::Unspecified, |ended| outcome(&ended.outcome)).into(),
        outcome_message: last.map(|ended| ended.outcome.to_string()).unwrap_or_default(),
        graph: Some(spec.into()),
    }
}

const fn phase(phase: PhaseName) -> v1::RolloutPhase {
    match phase {
        PhaseName::Idle => v1::RolloutPhase::Idle,
        PhaseName::Installing => v1::RolloutPhase::Installing,
        PhaseName::Progressing => v1::RolloutPhase::Progressing,
        PhaseName::Paused => v1::RolloutPhase::Paused,
        PhaseName::Inconclusive => v1::RolloutPhase::Inconclusive,
        PhaseName::PausedByOperator => v1::RolloutPhase::PausedByOperator,
        PhaseName::Promoting => v1::RolloutPhase::Promoting,
        PhaseName::AwaitingCapacity => v1::RolloutPhase::AwaitingCapacity,
        PhaseName::Aborting => v1::RolloutPhase::Aborting,
        PhaseName::Completed => v1::RolloutPhase::Completed,
    }
}

fn figures(figures: &Figures) -> v1::RolloutFigures {
    let Figures { since, counted, health } = *figures;
    v1::RolloutFigures {
        window_time: Some(timestamp_out(since)),
        counted: counted.map(|Counters { flows, tcp_flows, tcp_resets, frames, dropped }| v1::RolloutCounters {
            flows,
            tcp_flows,
            tcp_resets,
            frames,
            dropped,
        }),
        instances: health.map(|health| health.instances.into()),
        down: health.map(|health| health.down.into()),
    }
}

fn shortage(shortage: Shortage, name: impl Fn(ReplicaSetId) -> String) -> v1::CapacityShortage {
    let Shortage { set, lack } = shortage;
    let (no_members, flows) = match lack {
        Lack::Members => (true, 0),
        Lack::Flows(flows) => (false, flows),
    };
    v1::CapacityShortage { replica_set: name(set), no_members, flows }
}

#[cfg(test)]
mod tests {
    use super::{phase, rollout, timestamp_out};
    use crate::v1;
    use chain_graph::model::{ObjectKey, ResourceName};
    use chain_graph::rollout::{
        CapacityReport, Event, Percent, PhaseName, Rollout, RolloutSpec, SetLoad, Share, Step, Timestamp,
    };
    use xdp_layout::{ReplicaSetId, ViewId};

    fn view(number: u32) -> ViewId {
        ViewId::new(number).expect("a number")
    }

    fn apply(rollout: &Rollout, event: Event, millis: u64) -> Rollout {
        rollout.apply(event, Timestamp::from_millis(millis)).expect("it fits").0
    }

    fn confirmed(rollout: &Rollout, millis: u64) -> Rollout {
        apply(rollout, Event::Applied { sequence: rollout.sequence() }, millis)
    }

    /// At step 2 of 2, a pause, with 5 % for the candidate.
    fn paused() -> Rollout {
        let name = |text| ResourceName::new(text).expect("a name");
        let idle = Rollout::new(ObjectKey::new(&name("acme"), &name("web")), view(1));
        let steps = vec![Step::SetWeight(Percent::from_hundredths(500)), Step::Pause { duration: None }];
        let spec = RolloutSpec { steps, ..RolloutSpec::default() }.try_into().expect("nothing is wrong");
        let installing = apply(&idle, Event::Start { spec, target: view(2) }, 1_000);
        confirmed(&confirmed(&installing, 2_000), 3_000)
    }

    fn unnamed(_: ReplicaSetId) -> String {
        panic!("nothing is lacking")
    }

    #[test]
    fn a_rollout_is_told_with_its_step_and_share() {
        let found = rollout(&paused(), unnamed);
        assert_eq!(found.graph, "tenants/acme/graphs/web");
        assert_eq!((found.phase(), found.step, found.steps), (v1::RolloutPhase::Paused, 2, 2));
        assert_eq!((found.stable_view, found.target_view), (1, 2));
        assert!(
            (found.share - 0.05).abs() < 1e-5 && found.share.to_bits() == found.wanted_share.to_bits(),
            "{found:?}"
        );
        assert_eq!(found.start_time, Some(prost_types::Timestamp { seconds: 1, nanos: 0 }));
        assert_eq!(found.phase_time, Some(prost_types::Timestamp { seconds: 3, nanos: 0 }));
        assert_eq!((found.deadline_time, found.outcome()), (None, v1::RolloutOutcome::Unspecified));
        assert_eq!(found.spec.map(|spec| spec.steps.len()), Some(2));
        assert!(found.read_time.is_some());
    }

    #[test]
    fn an_abort_tells_what_it_lacks_and_then_why_it_failed() {
        let aborting = apply(&paused(), Event::Abort { reason: "enough".to_owned(), force: false }, 4_000);
        let set = ReplicaSetId::new(7).expect("a number");
        let load = SetLoad { set, flows: 95, own: 95, returning: 10, capacity: Some(95), serving: true };
        let share = Share::from(Percent::from_hundredths(500));
        let report = CapacityReport { sequence: aborting.sequence(), share, sets: vec![load] };
        let waiting = apply(&aborting, Event::Capacity(report), 5_000);
        let found = rollout(&waiting, |set| format!("set {set}"));
        assert_eq!(found.phase(), v1::RolloutPhase::AwaitingCapacity);
        let lacking = v1::CapacityShortage { replica_set: "set 7".to_owned(), no_members: false, flows: 10 };
        assert_eq!(found.shortages, [lacking]);
        let forced = apply(&waiting, Event::Abort { reason: "enough".to_owned(), force: true }, 6_000);
        let over = confirmed(&forced, 7_000);
        let found = rollout(&over, unnamed);
        assert_eq!((found.phase(), found.outcome()), (v1::RolloutPhase::Completed, v1::RolloutOutcome::Failed));
        assert!(found.message.contains("enough"), "{found:?}");
        let ended = over.history().next_back().expect("one has ended");
        let again = v1::Rollout { read_time: found.read_time, ..super::ended(&over, ended) };
        assert_eq!(again, found);
    }

    #[test]
    fn phases_have_the_engines_names() {
        for name in [
            PhaseName::Idle,
            PhaseName::Installing,
            PhaseName::Progressing,
            PhaseName::Paused,
            PhaseName::Inconclusive,
            PhaseName::PausedByOperator,
            PhaseName::Promoting,
            PhaseName::AwaitingCapacity,
            PhaseName::Aborting,
            PhaseName::Completed,
        ] {
            assert_eq!(phase(name).as_str_name(), format!("ROLLOUT_PHASE_{}", name.name().to_uppercase()));
        }
    }

    #[test]
    fn moments_keep_their_milliseconds() {
        let found = timestamp_out(Timestamp::from_millis(1_500));
        assert_eq!(found, prost_types::Timestamp { seconds: 1, nanos: 500_000_000 });
    }
}
