//! What a rollout is asked to do, and durations.

use crate::fields::{Violations, narrow};
use crate::v1;
use chain_graph::rollout::{
    Bounds, CheckedSpec, Drain, DrainPolicy, Percent, PercentError, RolloutSpec, Span, SpecViolations, Step, Window,
};
use prost_types::Duration;
use v1::rollout_step::Step as Union;

/// Reads what a rollout is asked to do, every violation at once: those of single fields and those of the engine.
pub(crate) fn rollout_spec(proto: Option<v1::RolloutSpec>) -> Result<CheckedSpec, Violations> {
    let v1::RolloutSpec { steps, progress_deadline, bounds, drain } = proto.unwrap_or_default();
    let defaults = RolloutSpec::default();
    let mut violations = Violations::new();
    let steps = steps.into_iter().enumerate();
    // A step that cannot be read keeps its place, so that the engine's paths of the others are right.
    let unread = Step::Pause { duration: None };
    let steps = steps.map(|(index, step)| violations.take_under(&format!("steps[{index}]"), read_step(step)));
    let steps = steps.map(|step| step.unwrap_or(unread)).collect();
    let spec = RolloutSpec {
        steps,
        progress_deadline: span_or(&mut violations, "progress_deadline", progress_deadline, defaults.progress_deadline),
        bounds: read_bounds(&mut violations, bounds.unwrap_or_default(), defaults.bounds),
        drain: read_drain(&mut violations, drain.unwrap_or_default(), defaults.drain),
    };
    let checked = CheckedSpec::try_from(spec).map_err(|SpecViolations(found)| {
        for violation in found {
            violations.add(violation.path, violation.rule);
        }
    });
    violations.finish(checked.ok())
}

fn read_step(proto: v1::RolloutStep) -> Result<Step, Violations> {
    let mut violations = Violations::new();
    let step = match proto.step {
        Some(Union::SetWeight(text)) => violations.take("set_weight", percent(&text)).map(Step::SetWeight),
        Some(Union::Pause(v1::RolloutPause { duration: None })) => Some(Step::Pause { duration: None }),
        Some(Union::Pause(v1::RolloutPause { duration: Some(duration) })) => {
            violations.take("pause.duration", span(&duration)).map(|span| Step::Pause { duration: Some(span) })
        }
        None => {
            violations.add("", "must be set_weight or pause");
            None
        }
    };
    violations.finish(step)
}

fn read_bounds(violations: &mut Violations, proto: v1::RolloutBounds, defaults: Bounds) -> Bounds {
    let v1::RolloutBounds { window, min_flows, dropped, resets, down } = proto;
    let window = match v1::RolloutWindow::try_from(window) {
        Ok(v1::RolloutWindow::Unspecified) => defaults.window,
        Ok(v1::RolloutWindow::Step) => Window::Step,
        Ok(v1::RolloutWindow::Rollout) => Window::Rollout,
        Err(_) => {
            violations.add("bounds.window", "must be ROLLOUT_WINDOW_STEP or ROLLOUT_WINDOW_ROLLOUT");
            defaults.window
        }
    };
    let mut limit = |field, text: String| match text.as_str() {
        "" => None,
        text => violations.take(field, percent(text)),
    };
    let (dropped, resets) = (limit("bounds.dropped", dropped), limit("bounds.resets", resets));
    let down = down.and_then(|down| violations.take("bounds.down", narrow(down, u16::MAX.into())));
    Bounds { window, min_flows: min_flows.unwrap_or(defaults.min_flows), dropped, resets, down }
}

fn read_drain(violations: &mut Violations, proto: v1::RolloutDrain, defaults: Drain) -> Drain {
    let v1::RolloutDrain { policy, deadline } = proto;
    let policy = match v1::DrainPolicy::try_from(policy) {
        Ok(v1::DrainPolicy::Unspecified) => defaults.policy,
        Ok(v1::DrainPolicy::Finish) => DrainPolicy::Finish,
        Ok(v1::DrainPolicy::Reset) => DrainPolicy::Reset,
        Err(_) => {
            violations.add("drain.policy", "must be DRAIN_POLICY_FINISH or DRAIN_POLICY_RESET");
            defaults.policy
        }
    };
    Drain { policy, deadline: span_or(violations, "drain.deadline", deadline, defaults.deadline) }
}

fn percent(text: &str) -> Result<Percent, PercentError> {
    text.parse()
}

fn span_or(violations: &mut Violations, field: &str, proto: Option<Duration>, default: Span) -> Span {
    proto.and_then(|duration| violations.take(field, span(&duration))).unwrap_or(default)
}

/// Reads a length of time.
fn span(proto: &Duration) -> Result<Span, &'static str> {
    let exact = std::time::Duration::try_from(*proto).map_err(|_| "must not be negative")?;
    if exact.subsec_nanos().is_multiple_of(1_000_000) {
        Ok(Span::from_millis(u64::try_from(exact.as_millis()).unwrap_or(u64::MAX)))
    } else {
        Err("must be whole milliseconds")
    }
}

fn span_out(span: Span) -> Duration {
    let (secs, millis) = (span.millis() / 1000, span.millis() % 1000);
    // Both fit: a checked span is 30 days at most, and there are fewer than 1000 milliseconds beside the seconds.
    Duration {
        seconds: i64::try_from(secs).unwrap_or(i64::MAX),
        nanos: i32::try_from(millis * 1_000_000).unwrap_or_default(),
    }
}

/// What a rollout is asked to do, as clients see it.
pub(crate) fn rollout_spec_out(spec: &CheckedSpec) -> v1::RolloutSpec {
    let RolloutSpec { steps, progress_deadline, bounds, drain } = spec.get();
    let Bounds { window, min_flows, dropped, resets, down } = *bounds;
    let step = |step: &Step| match step {
        Step::SetWeight(weight) => Union::SetWeight(percent_out(*weight)),
        Step::Pause { duration } => Union::Pause(v1::RolloutPause { duration: duration.map(span_out) }),
    };
    let limit = |percent: Option<Percent>| percent.map(percent_out).unwrap_or_default();
    v1::RolloutSpec {
        steps: steps.iter().map(|one| v1::RolloutStep { step: Some(step(one)) }).collect(),
        progress_deadline: Some(span_out(*progress_deadline)),
        bounds: Some(v1::RolloutBounds {
            window: match window {
                Window::Step => v1::RolloutWindow::Step.into(),
                Window::Rollout => v1::RolloutWindow::Rollout.into(),
            },
            min_flows: Some(min_flows),
            dropped: limit(dropped),
            resets: limit(resets),
            down: down.map(Into::into),
        }),
        drain: Some(v1::RolloutDrain {
            policy: match drain.policy {
                DrainPolicy::Finish => v1::DrainPolicy::Finish.into(),
                DrainPolicy::Reset => v1::DrainPolicy::Reset.into(),
            },
            deadline: Some(span_out(drain.deadline)),
        }),
    }
}

/// Without the sign, which the field's meaning says.
fn percent_out(percent: Percent) -> String {
    percent.to_string().trim_end_matches(" %").to_owned()
}

#[cfg(test)]
mod tests {
    use super::{rollout_spec, rollout_spec_out};
    use crate::fields::FieldViolation;
    use crate::v1;
    use prost_types::Duration;
    use v1::rollout_step::Step as Union;

    fn steps(steps: impl IntoIterator<Item = Union>) -> Vec<v1::RolloutStep> {
        steps.into_iter().map(|step| v1::RolloutStep { step: Some(step) }).collect()
    }

    fn seconds(seconds: i64) -> Option<Duration> {
        Some(Duration { seconds, nanos: 0 })
    }

    #[test]
    fn a_spec_comes_back_as_it_went() {
        let pause = |duration| Union::Pause(v1::RolloutPause { duration });
        let spec = v1::RolloutSpec {
            steps: steps([
                Union::SetWeight("5".to_owned()),
                pause(Some(Duration { seconds: 30, nanos: 500_000_000 })),
                Union::SetWeight("12.5".to_owned()),
                pause(None),
                Union::SetWeight("33.33".to_owned()),
            ]),
            progress_deadline: seconds(90),
            bounds: Some(v1::RolloutBounds {
                window: v1::RolloutWindow::Rollout.into(),
                min_flows: Some(7),
                dropped: "0.01".to_owned(),
                resets: "100".to_owned(),
                down: Some(0),
            }),
            drain: Some(v1::RolloutDrain { policy: v1::DrainPolicy::Reset.into(), deadline: seconds(60) }),
        };
        let read = rollout_spec(Some(spec.clone())).expect("nothing is wrong");
        assert_eq!(rollout_spec_out(&read), spec);
    }

    #[test]
    fn what_is_left_out_is_the_engines_default() {
        let read = rollout_spec(None).expect("nothing is wrong");
        assert_eq!(read, chain_graph::rollout::CheckedSpec::default());
        assert_eq!(rollout_spec(Some(rollout_spec_out(&read))), Ok(read));
    }

    #[test]
    fn every_violation_is_reported_at_its_field() {
        let pause = |seconds, nanos| Union::Pause(v1::RolloutPause { duration: Some(Duration { seconds, nanos }) });
        let mut wrong = steps([
            Union::SetWeight("five".to_owned()),
            Union::SetWeight("100.5".to_owned()),
            pause(0, 0),
            pause(-1, 0),
            pause(0, 1),
            Union::SetWeight("1.234".to_owned()),
        ]);
        wrong.push(v1::RolloutStep { step: None });
        let spec = v1::RolloutSpec {
            steps: wrong,
            progress_deadline: seconds(31 * 24 * 3600),
            bounds: Some(v1::RolloutBounds {
                window: 9,
                min_flows: Some(0),
                dropped: "-1".to_owned(),
                resets: "101".to_owned(),
                down: Some(65_536),
            }),
            drain: Some(v1::RolloutDrain { policy: 9, deadline: seconds(0) }),
        };
        let found = rollout_spec(Some(spec)).expect_err("everything is wrong").into_vec();
        let fields: Vec<&str> = found.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "steps[0].set_weight",
                "steps[3].pause.duration",
                "steps[4].pause.duration",
                "steps[5].set_weight",
                "steps[6]",
                "bounds.window",
                "bounds.dropped",
                "bounds.down",
                "drain.policy",
                "steps[1].set_weight",
                "steps[2].pause.duration",
                "progress_deadline",
                "bounds.min_flows",
                "bounds.resets",
                "drain.deadline",
            ]
        );
        let of = |field: &str| found.iter().find(|one: &&FieldViolation| one.field == field).expect("it is there");
        assert!(of("steps[5].set_weight").description.contains("more than two decimals"), "{found:?}");
        assert_eq!(of("steps[3].pause.duration").description, "must not be negative");
    }
}
