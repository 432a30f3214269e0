//! A rollout as lines, as a table and for programs.

use crate::fail::Failure;
use crate::output::{Shade, say, shade};
use api::v1;
use api::v1::rollout_step::Step as Union;
use serde_json::{Value, json};

/// Columns of [`row`].
pub(crate) const HEADERS: [&str; 5] = ["TIME", "PHASE", "STEP", "WEIGHT", "MESSAGE"];

/// Widths of the columns but the last, for lines that come one by one: wide enough for every value.
const WIDTHS: [usize; 4] = [20, 18, 5, 6];

/// A line of a stream.
pub(crate) fn line(cells: &[String; 5]) -> String {
    let (fixed, last) = cells.split_at(WIDTHS.len());
    let fixed = fixed.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:width$}  "));
    fixed.chain(last.iter().cloned()).collect::<String>().trim_end().to_owned()
}

/// Where a rollout is, in one line.
pub(crate) fn row(rollout: &v1::Rollout) -> [String; 5] {
    let step = if rollout.steps == 0 { "-".to_owned() } else { format!("{}/{}", rollout.step, rollout.steps) };
    let weight = if is_over(rollout) { "-".to_owned() } else { percent(rollout.share) };
    [seconds(rollout.read_time), phase(rollout), step, weight, rollout.message.clone()]
}

/// Whether there is no candidate any more that could have a share.
fn is_over(rollout: &v1::Rollout) -> bool {
    rollout.phase() == v1::RolloutPhase::Completed
}

/// What a rollout's target gets of the new flows.
fn candidate(rollout: &v1::Rollout) -> String {
    if is_over(rollout) {
        let is_stable = rollout.stable_view == rollout.target_view;
        return if is_stable { "the stable one now" } else { "taken back" }.to_owned();
    }
    let (share, wanted) = (percent(rollout.share), percent(rollout.wanted_share));
    let wanted = if share == wanted { String::new() } else { format!(", {wanted} asked for") };
    format!("{share} of the new flows{wanted}")
}

/// A share, 0 to 1, as a percentage with at most two decimals.
pub(crate) fn percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A time by its second; `-` if there is none.
pub(crate) fn seconds(time: Option<impl ToString>) -> String {
    let text = time.map_or_else(|| "-".to_owned(), |time| time.to_string());
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

fn phase(rollout: &v1::Rollout) -> String {
    rollout.phase().as_str_name().trim_start_matches("ROLLOUT_PHASE_").to_lowercase()
}

/// What came of a rollout in one word; empty if nothing yet.
pub(crate) fn outcome(outcome: v1::RolloutOutcome) -> String {
    match outcome {
        v1::RolloutOutcome::Unspecified => String::new(),
        known => known.as_str_name().trim_start_matches("ROLLOUT_OUTCOME_").to_lowercase(),
    }
}

fn shortage(shortage: &v1::CapacityShortage) -> String {
    let set = shortage.replica_set.split('/').skip(1).step_by(2).collect::<Vec<_>>().join("/");
    if shortage.no_members {
        format!("{set} has no live member installed")
    } else {
        format!("{set} lacks room for {} flows", shortage.flows)
    }
}

/// Prints everything that is known of a rollout.
pub(crate) fn say_status(rollout: &v1::Rollout) -> Result<(), Failure> {
    let step = if rollout.steps == 0 { String::new() } else { format!(", step {} of {}", rollout.step, rollout.steps) };
    say!("Graph:      {}", rollout.graph)?;
    say!("Phase:      {}{step}, since {}", phase(rollout), seconds(rollout.phase_time))?;
    say!("Stable:     view {}", rollout.stable_view)?;
    if rollout.target_view != 0 {
        say!("Candidate:  view {}, {}", rollout.target_view, candidate(rollout))?;
        say!("Began:      {}", seconds(rollout.start_time))?;
    }
    if rollout.deadline_time.is_some() {
        say!("Deadline:   {}", seconds(rollout.deadline_time))?;
    }
    if let Some(figures) = &rollout.figures {
        say_figures(figures)?;
    }
    for lacking in &rollout.shortages {
        say!("Lacking:    {}", shade(&shortage(lacking), Shade::Bad))?;
    }
    match rollout.outcome() {
        v1::RolloutOutcome::Unspecified => {}
        v1::RolloutOutcome::Success => say!("Outcome:    {}", shade("success", Shade::Good))?,
        other => say!("Outcome:    {}", shade(&outcome(other), Shade::Bad))?,
    }
    say!("Message:    {}", rollout.message)
}

fn say_figures(figures: &v1::RolloutFigures) -> Result<(), Failure> {
    let v1::RolloutFigures { window_time, counted, instances, down } = figures;
    match counted {
        Some(v1::RolloutCounters { flows, tcp_flows, tcp_resets, frames, dropped }) => say!(
            "Counted:    {flows} flows, {tcp_flows} of them TCP, {tcp_resets} reset; {frames} frames, {dropped} dropped; since {}",
            seconds(*window_time)
        )?,
        None => say!("Counted:    not known")?,
    }
    match (instances, down) {
        (Some(instances), Some(down)) => say!("Instances:  {down} of {instances} down"),
        _ => say!("Instances:  not known"),
    }
}

/// For programs.
pub(crate) fn value(rollout: &v1::Rollout) -> Value {
    let figures = rollout.figures.as_ref().map(|figures| {
        let counted = figures.counted.as_ref().map(|counted| {
            json!({
                "flows": counted.flows,
                "tcpFlows": counted.tcp_flows,
                "tcpResets": counted.tcp_resets,
                "frames": counted.frames,
                "dropped": counted.dropped,
            })
        });
        let since = figures.window_time.map(|time| time.to_string());
        json!({"windowTime": since, "counted": counted, "instances": figures.instances, "down": figures.down})
    });
    let shortages = rollout
        .shortages
        .iter()
        .map(|it| json!({"replicaSet": it.replica_set, "noMembers": it.no_members, "flows": it.flows}));
    json!({
        "graph": rollout.graph,
        "phase": phase(rollout),
        "step": rollout.step,
        "steps": rollout.steps,
        "stableView": rollout.stable_view,
        "targetView": rollout.target_view,
        "share": rollout.share,
        "wantedShare": rollout.wanted_share,
        "startTime": rollout.start_time.map(|time| time.to_string()),
        "phaseTime": rollout.phase_time.map(|time| time.to_string()),
        "deadlineTime": rollout.deadline_time.map(|time| time.to_string()),
        "figures": figures,
        "shortages": shortages.collect::<Vec<_>>(),
        "outcome": outcome(rollout.outcome()),
        "message": rollout.message,
        "spec": rollout.spec.as_ref().map(spec),
        "readTime": rollout.read_time.map(|time| time.to_string()),
    })
}

fn spec(spec: &v1::RolloutSpec) -> Value {
    let steps = spec.steps.iter().map(|step| match &step.step {
        Some(Union::SetWeight(weight)) => json!({"setWeight": weight}),
        Some(Union::Pause(v1::RolloutPause { duration })) => {
            json!({"pause": {"duration": duration.map(|duration| duration.to_string())}})
        }
        None => Value::Null,
    });
    let bounds = spec.bounds.as_ref().map(|bounds| {
        let window = bounds.window().as_str_name().trim_start_matches("ROLLOUT_WINDOW_").to_lowercase();
        json!({
            "window": window,
            "minFlows": bounds.min_flows,
            "dropped": bounds.dropped,
            "resets": bounds.resets,
            "down": bounds.down,
        })
    });
    let drain = spec.drain.as_ref().map(|drain| {
        let policy = drain.policy().as_str_name().trim_start_matches("DRAIN_POLICY_").to_lowercase();
        json!({"policy": policy, "deadline": drain.deadline.map(|deadline| deadline.to_string())})
    });
    json!({
        "steps": steps.collect::<Vec<_>>(),
        "progressDeadline": spec.progress_deadline.map(|deadline| deadline.to_string()),
        "bounds": bounds,
        "drain": drain,
    })
}

#[cfg(test)]
mod tests {
    use super::{HEADERS, candidate, line, percent, row, seconds, shortage, value};
    use api::v1;

    fn rollout() -> v1::Rollout {
        let mut rollout = v1::Rollout { step: 2, steps: 4, share: 8192.0 / 65535.0, ..v1::Rollout::default() };
        rollout.set_phase(v1::RolloutPhase::AwaitingCapacity);
        rollout.message = "waits".to_owned();
        rollout
    }

    #[test]
    fn lines_of_a_stream_are_as_wide_as_their_header() {
        let (header, text) = (line(&HEADERS.map(str::to_owned)), line(&row(&rollout())));
        assert_eq!(header, "TIME                  PHASE               STEP   WEIGHT  MESSAGE");
        assert_eq!(text, "-                     awaiting_capacity   2/4    12.5%   waits");
        assert_eq!(header.find("MESSAGE"), text.find("waits"));
    }

    #[test]
    fn a_rollout_that_is_over_has_no_candidate_that_could_have_a_share() {
        let mut rollout = v1::Rollout { stable_view: 1, target_view: 3, ..rollout() };
        rollout.wanted_share = 0.25;
        assert_eq!(
            (candidate(&rollout), &*row(&rollout)[3]),
            ("12.5% of the new flows, 25% asked for".to_owned(), "12.5%")
        );
        rollout.set_phase(v1::RolloutPhase::Completed);
        assert_eq!((candidate(&rollout), &*row(&rollout)[3]), ("taken back".to_owned(), "-"));
        rollout.stable_view = 3;
        assert_eq!(candidate(&rollout), "the stable one now");
    }

    #[test]
    fn shares_are_what_the_user_asked_for() {
        let found = [0, 3277, 21843, 65535].map(|parts| percent(f64::from(parts) / 65535.0));
        assert_eq!(found, ["0%", "5%", "33.33%", "100%"]);
    }

    #[test]
    fn times_end_with_their_second() {
        assert_eq!(seconds(Some("2026-01-02T03:04:05.678Z")), "2026-01-02T03:04:05Z");
        assert_eq!(seconds(Some("2026-01-02T03:04:05Z")), "2026-01-02T03:04:05Z");
    }

    #[test]
    fn what_is_lacking_is_told_by_short_names() {
        let replica_set = "networkFunctions/fw/replicaSets/v1".to_owned();
        let lacking = v1::CapacityShortage { replica_set, no_members: false, flows: 7 };
        assert_eq!(shortage(&lacking), "fw/v1 lacks room for 7 flows");
        let lacking = v1::CapacityShortage { no_members: true, ..lacking };
        assert_eq!(shortage(&lacking), "fw/v1 has no live member installed");
    }

    #[test]
    fn programs_are_told_what_is_not_there_by_null() {
        let value = value(&rollout());
        assert_eq!((&value["phase"], &value["outcome"]), (&"awaiting_capacity".into(), &"".into()));
        assert!(value["startTime"].is_null() && value["figures"].is_null() && value["spec"].is_null(), "{value}");
    }
}
