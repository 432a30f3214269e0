//! Documents made from the code.

use std::fmt::Write as _;

use xdp_layout::{Counter, DropReason};

/// Kinds of metrics by the type that makes them.
const KINDS: [(&str, &str); 7] = [
    ("IntCounterVec::new", "counter"),
    ("IntCounter::new", "counter"),
    ("HistogramVec::new", "histogram"),
    ("HistogramOpts::new", "histogram"),
    ("GaugeVec::new", "gauge"),
    ("Gauge::new", "gauge"),
    ("Histogram::with_opts", "histogram"),
];

pub(crate) fn drop_reasons() -> String {
    let mut text = String::from(
        "# Drop reasons\n\n\
        Every frame that the data path drops is counted under one of these reasons. The list is closed: `switchyard drops`,\n\
        `switchyard trace`, the label `reason` of `switchyard_drops_total` and the tests use the same words. Numbers are never\n\
        reused. Made from [the code](../xdp/layout/src/reason.rs); a test compares.\n\n\
        | number | reason | what happened |\n|---:|---|---|\n",
    );
    for reason in DropReason::ALL {
        let _ = writeln!(text, "| {} | `{}` | {} |", *reason as u8, reason.name(), reason.meaning().trim());
    }
    text
}

pub(crate) fn counters() -> String {
    let mut text = String::from(
        "# Counters of the data path\n\n\
        Counted per CPU and never falling, beside the [drop reasons](drop-reasons.md). Every frame that arrives on a port of\n\
        ours is counted in `frames_in` and once more: in `delivered`, `transmitted`, `replied`, `passed` or under a drop\n\
        reason. Made from [the code](../xdp/layout/src/counter.rs); a test compares.\n\n\
        | number | counter | what it counts |\n|---:|---|---|\n",
    );
    for counter in Counter::ALL {
        let _ = writeln!(text, "| {} | `{}` | {} |", *counter as u8, counter.name(), counter.meaning().trim());
    }
    text
}

/// The metrics that a source file makes.
pub(crate) fn metrics(source: &str) -> String {
    let mut text = String::from(
        "# Metrics\n\n\
        Served as `GET /metrics` in the Prometheus text format. Units are base units and part of the name. The values of\n\
        `reason` are the [drop reasons](drop-reasons.md). Made from [the code](../api/src/metrics.rs); a test compares.\n\n\
        | metric | kind | labels | what it says |\n|---|---|---|---|\n",
    );
    for metric in found(source) {
        let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "| `{}` | {} | {labels} | {} |", metric.name, metric.kind, metric.help);
    }
    text
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Metric {
    name: String,
    kind: &'static str,
    labels: Vec<String>,
    help: String,
}

/// Constructors name a metric by a literal, its help by the next one, and its labels in the array that may follow.
fn found(source: &str) -> Vec<Metric> {
    let starts = source.match_indices("\"switchyard_").map(|(at, _)| at).collect::<Vec<_>>();
    let ends = starts.iter().skip(1).copied().chain([source.len()]);
    let mut metrics = starts.iter().zip(ends).map(|(&start, end)| {
        let (before, own) = (&source[..start], &source[start..end]);
        let own = own.split(")?").next().unwrap_or(own);
        let literals = own.split('"').skip(1).step_by(2).collect::<Vec<_>>();
        let latest = KINDS.iter().filter_map(|(made_by, kind)| Some((before.rfind(made_by)?, *kind))).max();
        let labels = own.split_once("&[").and_then(|(_, rest)| rest.split(']').next()).unwrap_or_default();
        Metric {
            name: literals[0].into(),
            kind: latest.expect("a metric is made by a constructor").1,
            labels: labels.split('"').skip(1).step_by(2).map(str::to_owned).collect(),
            help: (*literals.get(1).expect("a metric has a help text")).into(),
        }
    });
    let mut sorted = metrics.by_ref().collect::<Vec<_>>();
    sorted.sort();
    sorted
}

#[test]
fn lists_name_everything_once() {
    let (reasons, counters) = (drop_reasons(), counters());
    for reason in DropReason::ALL {
        assert_eq!(reasons.matches(&format!("| `{}` |", reason.name())).count(), 1);
    }
    for counter in Counter::ALL {
        assert_eq!(counters.matches(&format!("| `{}` |", counter.name())).count(), 1);
    }
}

#[test]
fn metrics_are_read_from_source() {
    let source = r#"
        /// `switchyard_not_made{x}`
        let b = Histogram::with_opts(
            HistogramOpts::new("switchyard_b_seconds", "Time.").buckets(BUCKETS),
        )?;
        let a = IntCounterVec::new(
            Opts::new("switchyard_a_total", "Things, by kind."),
            &["kind", "code"],
        )?;
        Self { up: IntGauge::new("switchyard_up", "1 if up.")?, other: GaugeVec::new(Opts::new("switchyard_z", "Z; z."), &["l"])? }
        drop(&["x"]);
    "#;
    let table = metrics(source);
    let rows = table.lines().filter(|line| line.starts_with("| `")).collect::<Vec<_>>();
    let wanted = [
        "| `switchyard_a_total` | counter | `kind`, `code` | Things, by kind. |",
        "| `switchyard_b_seconds` | histogram |  | Time. |",
        "| `switchyard_up` | gauge |  | 1 if up. |",
        "| `switchyard_z` | gauge | `l` | Z; z. |",
    ];
    assert_eq!(rows, wanted);
}
