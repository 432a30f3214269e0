//! Percentages, shares, spans, timers; what makes a specification wrong.

use super::harness::*;
use chain_graph::rollout::*;

#[test]
fn percentages_are_read_and_written() {
    for (text, hundredths, written) in [
        ("0", 0, "0 %"),
        ("5", 500, "5 %"),
        ("12.5", 1250, "12.5 %"),
        ("0.01", 1, "0.01 %"),
        ("99.90%", 9990, "99.9 %"),
        ("7.05 %", 705, "7.05 %"),
        ("100", 10_000, "100 %"),
        ("250", 25_000, "250 %"),
    ] {
        let read: Percent = text.parse().unwrap();
        assert_eq!(read.hundredths(), hundredths, "{text}");
        assert_eq!(read.to_string(), written);
    }
    for text in ["", "%", "a", "-1", "+1", "1e2", "1.", ".5", "1,5", "1.2.3", "1.2a", "5 %%", "42949673", "99999999999"]
    {
        assert_eq!(text.parse::<Percent>(), Err(PercentError::NotANumber { text: text.to_owned() }), "{text}");
    }
    for text in ["1.234", "0.000"] {
        assert_eq!(text.parse::<Percent>(), Err(PercentError::TooFine { text: text.to_owned() }), "{text}");
    }
    assert_eq!(Percent::from_hundredths(u32::MAX).to_string(), "42949672.95 %");
}

#[test]
fn shares_keep_the_percentages_they_are_made_from() {
    assert_eq!(share("0"), Share::NONE);
    assert_eq!(share("100"), Share::ALL);
    assert_eq!(share("101"), Share::ALL);
    assert_eq!(share("50").get(), 32_768);
    let mut last = None;
    for hundredths in 0..=Percent::HUNDRED.hundredths() {
        let percent = Percent::from_hundredths(hundredths);
        let share = Share::from(percent);
        assert!(last < Some(share), "{percent} is not more than the one before");
        assert_eq!(Percent::from(share), percent);
        let exact = f64::from(hundredths) / 10_000.0 * 65_535.0;
        assert!((f64::from(share.get()) - exact).abs() <= 0.5, "{percent}: {}", share.get());
        last = Some(share);
    }
}

#[test]
fn timers_take_a_clock_that_is_set_back() {
    let spec = spec(&[pause(secs(60))]);
    let mut script = Script::installed(&spec);
    script.after(secs(59)).quietly(Event::Tick);
    assert_eq!(script.run().step, 1);
    // A year back: the pause begins anew, and is over after its own length.
    script.now = Timestamp::from_millis(START.millis() - 365 * 24 * 3600 * 1000);
    script.quietly(Event::Tick).after(secs(59)).quietly(Event::Tick);
    assert_eq!(script.rollout.status().place.phase, PhaseName::Paused);
    script.after(secs(1)).quietly(Event::Tick);
    assert_eq!(script.rollout.status().place.phase, PhaseName::Promoting);
    for now in [0, u64::MAX] {
        let end = Timer::start(secs(u64::MAX), Timestamp::from_millis(now)).end();
        assert_eq!(end, Timestamp::from_millis(u64::MAX));
    }
}

#[test]
fn what_is_wrong_with_a_specification_is_told_at_once() {
    let over = Span::from_millis(SPAN_MAX.millis() + 1);
    let mut wrong = spec(&[weight("100.01"), weight("100"), HOLD, pause(Span::ZERO), pause(over), pause(SPAN_MAX)]);
    wrong.steps.extend([HOLD; STEPS_MAX]);
    wrong.progress_deadline = Span::ZERO;
    wrong.bounds =
        Bounds { min_flows: 0, dropped: Some(percent("101")), resets: Some(percent("200")), ..Bounds::default() };
    wrong.drain.deadline = over;
    let SpecViolations(found) = CheckedSpec::try_from(wrong.clone()).unwrap_err();
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "steps: 38 steps, at most 32 are allowed",
            "steps[0].set_weight: 100.01 %, 0 to 100 % are allowed",
            "steps[3].pause.duration: a pause of no length; leave the duration out to pause until a promote or resume",
            "steps[4].pause.duration: 2592000001 ms, at most 2592000 s are allowed",
            "progress_deadline: a deadline of no length; give at least 1 ms",
            "bounds.min_flows: a judgement by no flows; give at least 1",
            "bounds.dropped: 101 %, 0 to 100 % are allowed",
            "bounds.resets: 200 %, 0 to 100 % are allowed",
            "drain.deadline: 2592000001 ms, at most 2592000 s are allowed",
        ]
    );
    // What is stored is checked when it is read.
    let stored = serde_json::to_string(&wrong).unwrap();
    let error = serde_json::from_str::<CheckedSpec>(&stored).unwrap_err().to_string();
    assert!(error.starts_with("steps: 38 steps, at most 32 are allowed; steps[0].set_weight: "), "{error}");
}

#[test]
fn the_limits_of_a_specification_are_allowed() {
    let mut widest = bounded(&[HOLD; STEPS_MAX]);
    widest.steps[0] = weight("0");
    widest.steps[1] = weight("100");
    widest.steps[2] = pause(Span::from_millis(1));
    widest.steps[3] = pause(SPAN_MAX);
    widest.progress_deadline = SPAN_MAX;
    widest.bounds = Bounds { min_flows: 1, dropped: Some(percent("0")), resets: Some(percent("100")), ..widest.bounds };
    widest.drain.deadline = Span::from_millis(1);
    let checked = CheckedSpec::try_from(widest.clone()).unwrap();
    assert_eq!(*checked.get(), widest);
    assert_eq!(CheckedSpec::try_from(RolloutSpec::default()).unwrap(), CheckedSpec::default());
}
