//! Command line of `rollout`.

use super::OutputArgs;
use api::v1;
use clap::{Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;
use v1::rollout_step::Step as Union;

/// What `rollout` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutVerb {
    /// Begin a rollout of a graph to what a document says.
    Start {
        #[command(flatten)]
        graph: GraphArg,
        /// YAML with one document, the graph as it is to be; `-` for standard input.
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        spec: SpecArgs,
        /// If a rollout is running, end it as superseded and begin this one afterwards.
        #[arg(long)]
        replace: bool,
        /// With --replace: give the flows of the one that ends back without asking for room.
        #[arg(long, requires = "replace")]
        force: bool,
        /// Check only, change nothing.
        #[arg(long, conflicts_with = "watch")]
        dry_run: bool,
        #[command(flatten)]
        follow: FollowArgs,
    },
    /// Show the running rollout, or the last one.
    Status {
        #[command(flatten)]
        graph: GraphArg,
        #[command(flatten)]
        follow: FollowArgs,
    },
    /// Stop at the weight in force. Bounds are still judged.
    Pause {
        #[command(flatten)]
        graph: GraphArg,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// End a pause.
    Resume {
        #[command(flatten)]
        graph: GraphArg,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Go on without waiting, whatever the measurements say.
    Promote {
        #[command(flatten)]
        graph: GraphArg,
        /// Skip all remaining steps, not only the pause in hand.
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Give all new flows back to the stable version, once that has room for them.
    Abort {
        #[command(flatten)]
        graph: GraphArg,
        /// Why, for people.
        #[arg(long, default_value = "")]
        reason: String,
        /// Without asking for room.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Begin a rollout back to an earlier version.
    Undo {
        #[command(flatten)]
        graph: GraphArg,
        /// The version; else the one before the last rollout that succeeded.
        #[arg(long, value_name = "VIEW", value_parser = clap::value_parser!(u32).range(1..))]
        to: Option<u32>,
        #[command(flatten)]
        spec: SpecArgs,
        /// Check only, change nothing.
        #[arg(long, conflicts_with = "watch")]
        dry_run: bool,
        #[command(flatten)]
        follow: FollowArgs,
    },
    /// List the remembered versions of a graph, the newest first.
    History {
        #[command(flatten)]
        graph: GraphArg,
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Names a graph.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GraphArg {
    /// `acme/web`, or in full `tenants/acme/graphs/web`.
    #[arg(value_name = "TENANT/GRAPH")]
    pub(crate) graph: String,
}

/// Whether to wait for the end.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct FollowArgs {
    /// Print a line for every change until the rollout ends: 0 is success, 1 failed or superseded. Interrupting this
    /// leaves the rollout running.
    #[arg(short, long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How a rollout goes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SpecArgs {
    /// A step: setWeight=PERCENT, pause=DURATION, or pause for until somebody resumes or promotes. May be repeated; in
    /// their order. Without any the graph switches at once.
    #[arg(long = "step", value_name = "STEP", value_parser = step)]
    steps: Vec<v1::RolloutStep>,
    /// Abort when more of the candidate's frames are dropped, such as 1%.
    #[arg(long, value_name = "PERCENT")]
    max_dropped: Option<String>,
    /// Abort when more of the candidate's TCP flows are reset, such as 1%.
    #[arg(long, value_name = "PERCENT")]
    max_resets: Option<String>,
    /// Abort when more instances of the candidate's replica sets are down.
    #[arg(long, value_name = "INSTANCES")]
    max_down: Option<u32>,
    /// The fewest flows to judge --max-dropped and --max-resets by [default: 100].
    #[arg(long, value_name = "FLOWS")]
    min_flows: Option<u32>,
    /// Since when the candidate is judged.
    #[arg(long, value_enum, default_value_t = WindowArg::Step)]
    window: WindowArg,
    /// Abort when the data path has not confirmed a change after this time [default: 10m].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    progress_deadline: Option<Duration>,
    /// What happens at --drain-deadline to flows of the version that leaves.
    #[arg(long, value_enum, default_value_t = DrainArg::Finish)]
    drain: DrainArg,
    /// How long those flows have [default: 1h].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    drain_deadline: Option<Duration>,
}

/// Since when a candidate is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum WindowArg {
    /// Since the step began.
    Step,
    /// Since the first step began.
    Rollout,
}

/// What happens to flows that are left at the deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum DrainArg {
    /// They are left to finish.
    Finish,
    /// They are reset.
    Reset,
}

impl From<SpecArgs> for v1::RolloutSpec {
    fn from(args: SpecArgs) -> Self {
        // Longer than the message can say is longer than the server allows, too.
        let length = |duration: Duration| duration.min(Duration::from_secs(i64::MAX as u64)).try_into().ok();
        Self {
            steps: args.steps,
            progress_deadline: args.progress_deadline.and_then(length),
            bounds: Some(v1::RolloutBounds {
                window: match args.window {
                    WindowArg::Step => v1::RolloutWindow::Step.into(),
                    WindowArg::Rollout => v1::RolloutWindow::Rollout.into(),
                },
                min_flows: args.min_flows,
                dropped: args.max_dropped.unwrap_or_default(),
                resets: args.max_resets.unwrap_or_default(),
                down: args.max_down,
            }),
            drain: Some(v1::RolloutDrain {
                policy: match args.drain {
                    DrainArg::Finish => v1::DrainPolicy::Finish.into(),
                    DrainArg::Reset => v1::DrainPolicy::Reset.into(),
                },
                deadline: args.drain_deadline.and_then(length),
            }),
        }
    }
}

/// The argument that a field path of a request's `spec` came from.
pub(crate) fn argument(field: &str) -> Option<String> {
    let field = field.strip_prefix("spec.")?;
    if let Some(rest) = field.strip_prefix("steps[") {
        let index: usize = rest.split_once(']')?.0.parse().ok()?;
        return Some(format!("--step number {}", index + 1));
    }
    let flag = match field {
        "steps" => "--step",
        "progress_deadline" => "--progress-deadline",
        "bounds.window" => "--window",
        "bounds.min_flows" => "--min-flows",
        "bounds.dropped" => "--max-dropped",
        "bounds.resets" => "--max-resets",
        "bounds.down" => "--max-down",
        "drain.policy" => "--drain",
        "drain.deadline" => "--drain-deadline",
        _ => return None,
    };
    Some(flag.to_owned())
}

/// Reads a step. Whether a weight is one is for the server to say, with everything else that is wrong.
fn step(text: &str) -> Result<v1::RolloutStep, String> {
    let step = match text.split_once('=') {
        Some(("setWeight", weight)) if !weight.trim().is_empty() => Union::SetWeight(weight.to_owned()),
        Some(("pause", length)) => {
            let exact = duration(length)?;
            let duration = exact.try_into().map_err(|_| format!("{length:?} is too long"))?;
            Union::Pause(v1::RolloutPause { duration: Some(duration) })
        }
        None if text == "pause" => Union::Pause(v1::RolloutPause { duration: None }),
        _ => {
            return Err(
                "a step is setWeight=PERCENT, pause=DURATION or pause; such as setWeight=5, pause=30s".to_owned()
            );
        }
    };
    Ok(v1::RolloutStep { step: Some(step) })
}

/// Units of durations, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a duration: numbers with units, the largest first, such as `30s`, `1h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 500ms, 30s, 10m, 1h30m or 2d");
    let (mut rest, mut millis, mut units) = (text, 0u64, UNITS.as_slice());
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let at = units.iter().position(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let length = number.checked_mul(units[at].1);
        millis = length.and_then(|length| millis.checked_add(length)).ok_or_else(|| format!("{text:?} is too long"))?;
        (rest, units) = (after, &units[at + 1..]);
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_millis(millis)) }
}

#[cfg(test)]
mod tests {
    use super::{RolloutVerb, argument, duration};
    use crate::args::{Args, Command, Verb};
    use api::v1;
    use api::v1::rollout_step::Step as Union;
    use clap::Parser;
    use std::time::Duration;

    fn start(words: &[&str]) -> Result<v1::RolloutSpec, String> {
        let before = ["switchyard", "rollout", "start", "acme/web", "-f", "graph.yaml"];
        let args = Args::try_parse_from(before.iter().chain(words)).map_err(|error| error.to_string())?;
        match args.command {
            Command::Client(Verb::Rollout(RolloutVerb::Start { spec, .. })) => Ok(spec.into()),
            other => panic!("{other:?} is no start"),
        }
    }

    fn seconds(step: &v1::RolloutStep) -> Option<i64> {
        match step.step.as_ref()? {
            Union::Pause(pause) => pause.duration.map(|duration| duration.seconds),
            Union::SetWeight(_) => None,
        }
    }

    #[test]
    fn steps_come_in_their_order() {
        let words = ["--step", "setWeight=5", "--step=pause=1m30s", "--step", "setWeight=12.5%", "--step", "pause"];
        let spec = start(&words).expect("it is right");
        let weight = |index: usize| match &spec.steps[index].step {
            Some(Union::SetWeight(weight)) => weight.as_str(),
            other => panic!("{other:?} is no weight"),
        };
        assert_eq!((spec.steps.len(), weight(0), weight(2)), (4, "5", "12.5%"));
        assert_eq!(seconds(&spec.steps[1]), Some(90));
        let endless = Some(Union::Pause(v1::RolloutPause { duration: None }));
        assert_eq!(spec.steps[3].step, endless);
    }

    #[test]
    fn what_is_left_out_is_left_to_the_server() {
        let spec = start(&[]).expect("it is right");
        let bounds = spec.bounds.clone().unwrap_or_default();
        assert_eq!((bounds.min_flows, bounds.down, bounds.dropped.as_str()), (None, None, ""));
        assert_eq!((spec.progress_deadline, spec.drain.and_then(|drain| drain.deadline)), (None, None));
        assert_eq!(bounds.window(), v1::RolloutWindow::Step);
    }

    #[test]
    fn limits_and_drains_are_told() {
        let words = ["--max-dropped", "1%", "--max-resets", "0.5", "--max-down", "0", "--min-flows", "10"];
        let more = ["--window", "rollout", "--progress-deadline", "2m", "--drain", "reset", "--drain-deadline", "1d"];
        let spec = start(&[&words[..], &more[..]].concat()).expect("it is right");
        let bounds = spec.bounds.clone().unwrap_or_default();
        assert_eq!((bounds.dropped.as_str(), bounds.resets.as_str()), ("1%", "0.5"));
        assert_eq!((bounds.down, bounds.min_flows, bounds.window()), (Some(0), Some(10), v1::RolloutWindow::Rollout));
        assert_eq!(spec.progress_deadline.map(|deadline| deadline.seconds), Some(120));
        let drain = spec.drain.unwrap_or_default();
        assert_eq!(drain.policy(), v1::DrainPolicy::Reset);
        assert_eq!(drain.deadline.map(|deadline| deadline.seconds), Some(86_400));
    }

    #[test]
    fn steps_that_cannot_be_read_say_what_can() {
        for wrong in ["setweight=5", "setWeight", "setWeight=", "wait=5s", "pause5s", ""] {
            let message = start(&["--step", wrong]).expect_err(wrong);
            assert!(message.contains("setWeight=PERCENT, pause=DURATION or pause"), "{wrong:?}: {message}");
        }
        for wrong in ["pause=", "pause=30", "pause=s", "pause=30x", "pause=-1s", "pause=30s1m", "pause=1.5s"] {
            let message = start(&["--step", wrong]).expect_err(wrong);
            assert!(message.contains("is not a duration such as"), "{wrong:?}: {message}");
        }
        let message = start(&["--step", "pause=99999999999999999d"]).expect_err("too long");
        assert!(message.contains("too long"), "{message}");
    }

    #[test]
    fn arguments_that_make_no_sense_together_are_refused() {
        assert!(start(&["--force"]).is_err_and(|message| message.contains("--replace")));
        assert!(start(&["--dry-run", "--watch"]).is_err());
    }

    #[test]
    fn durations_add_up() {
        for (text, millis) in [("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("2d1ms", 172_800_001), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn field_paths_become_arguments() {
        assert_eq!(argument("spec.steps[2].pause.duration").as_deref(), Some("--step number 3"));
        assert_eq!(argument("spec.bounds.dropped").as_deref(), Some("--max-dropped"));
        assert_eq!(argument("graph.nodes[0].name"), None);
    }
}
