//! Command line.

pub(crate) mod rollout;

use clap::{Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Tenant-aware load balancing and service chaining for network functions.
///
/// Exit codes: 0 ok, 1 error, 2 usage, 3 not found. `diff`: 0 no differences, 1 differences, 2 or 3 error. `rollout` with
/// `--watch`: 0 success, 1 failed, superseded or error.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 120)]
pub(crate) struct Args {
    /// API to talk to: ADDRESS:PORT, or the path of a Unix socket.
    #[arg(long, global = true, env = "SWITCHYARD_SERVER", default_value = "127.0.0.1:7443")]
    pub(crate) server: api::Address,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run control plane and front end in one process.
    Dev(DevArgs),
    #[command(flatten)]
    Client(Verb),
}

/// Arguments of `dev`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DevArgs {
    /// Where the API listens: a loopback ADDRESS:PORT, or the path of a Unix socket. It has no authentication.
    #[arg(long, default_value = "127.0.0.1:7443")]
    pub(crate) listen: api::Address,
    /// Where `GET /metrics` is answered; not at all if absent.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Directory of the state file.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/switchyard")]
    pub(crate) state_dir: PathBuf,
    /// Directory on a BPF file system for pinned programs and maps.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/switchyard")]
    pub(crate) bpffs: PathBuf,
    /// Records the connection table holds. The tenants' budgets must fit in.
    #[arg(long, value_name = "RECORDS", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) flow_capacity: u32,
    /// Log filter, for example `info` or `switchyard=debug,warn`.
    #[arg(long, env = "SWITCHYARD_LOG", default_value = "info")]
    pub(crate) log: String,
    /// Form of log lines on stderr.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// Form of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Form of results.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// JSON; resources in the form that `apply` takes.
    Json,
    /// YAML; resources in the form that `apply` takes.
    Yaml,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Leave out the first line of tables.
    #[arg(long)]
    pub(crate) no_headers: bool,
}

/// A kind of resource, in singular or plural.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum KindArg {
    /// Tenants.
    #[value(aliases = ["tenants"])]
    Tenant,
    /// Attachments.
    #[value(aliases = ["attachments", "att"])]
    Attachment,
    /// Network functions.
    #[value(aliases = ["networkfunctions", "nf"])]
    NetworkFunction,
    /// Replica sets.
    #[value(aliases = ["replicasets", "rs"])]
    ReplicaSet,
    /// Instances.
    #[value(aliases = ["instances"])]
    Instance,
    /// Graphs.
    #[value(aliases = ["graphs"])]
    Graph,
}

/// Side of a graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum SideArg {
    /// Where clients are.
    Client,
    /// Where servers are.
    Server,
}

/// Names one resource.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Target {
    /// Kind of resource.
    #[arg(value_enum, ignore_case = true)]
    pub(crate) kind: KindArg,
    /// Its name: `acme`, `acme/web`, `fw/v1`, `fw/v1/a`, or in full like `tenants/acme/graphs/web`.
    pub(crate) name: String,
    /// Owner of the resource; then NAME is its last part alone.
    #[arg(long, short)]
    pub(crate) tenant: Option<String>,
}

/// What a client can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make resources be as documents say: all of them, or none.
    Apply {
        /// YAML documents; `-` for standard input. May be repeated.
        #[arg(short, long = "file", value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Check only, change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Also delete what belongs to the listed resources but is not listed: attachments and graphs of their tenants,
        /// replica sets of listed functions, instances of listed replica sets.
        #[arg(long)]
        prune: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show what `apply` would change, or how two versions of a graph differ. Exit code 1 if anything.
    Diff {
        /// YAML documents; `-` for standard input. May be repeated.
        #[arg(short, long = "file", value_name = "FILE", required_unless_present = "versions")]
        files: Vec<PathBuf>,
        /// As in `apply`.
        #[arg(long, requires = "files")]
        prune: bool,
        /// Two versions of the graph TENANT/GRAPH: `stable`, `candidate` or the number of a view.
        #[arg(long, num_args = 2, value_names = ["FROM", "TO"], requires = "graph", conflicts_with = "files")]
        versions: Option<Vec<String>>,
        /// Flows that are drawn for each graph concerned, to estimate the share that is at risk [default: 100000].
        #[arg(long, value_name = "FLOWS", value_parser = clap::value_parser!(u32).range(1..))]
        flows: Option<u32>,
        /// The graph of --versions.
        #[arg(value_name = "TENANT/GRAPH", requires = "versions")]
        graph: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Change a graph in steps, under traffic: canary, pause, promote, abort, undo.
    #[command(subcommand)]
    Rollout(rollout::RolloutVerb),
    /// List resources, or show one.
    Get {
        /// Kind of resource.
        #[arg(value_enum, ignore_case = true)]
        kind: KindArg,
        /// Name of one; all if absent.
        name: Option<String>,
        /// Only of this tenant.
        #[arg(long, short)]
        tenant: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show a resource with its state in the data path.
    Describe {
        #[command(flatten)]
        target: Target,
    },
    /// Delete a resource.
    Delete {
        #[command(flatten)]
        target: Target,
        /// Also delete what it owns.
        #[arg(long)]
        force: bool,
        /// Check only, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what is desired, what is programmed and how much is used.
    Status {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List flow records.
    Flows {
        /// Only of this tenant.
        #[arg(long, short)]
        tenant: Option<String>,
        /// Only pinned to this instance, like `fw/v1/a`.
        #[arg(long)]
        instance: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List dropped frames by reason.
    Drops {
        /// Only of this tenant.
        #[arg(long, short)]
        tenant: Option<String>,
        /// Also reasons that have not occurred.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Ask the forwarding core where a frame would go, hop by hop, and why.
    Trace {
        /// Owner of the flow.
        #[arg(long, short)]
        tenant: String,
        /// Side the frame arrives from.
        #[arg(long, value_enum, default_value_t = SideArg::Client)]
        side: SideArg,
        /// Attachment it arrives at, by its last part; else the one that takes the source address.
        #[arg(long)]
        attachment: Option<String>,
        /// tcp, udp, sctp, icmp, icmpv6 or a number.
        protocol: String,
        /// Source: ADDRESS:PORT, `[ADDRESS]:PORT`, or ADDRESS.
        source: String,
        /// Destination, likewise.
        destination: String,
        #[command(flatten)]
        output: OutputArgs,
    },
}
