//! The command line.

mod show;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::{kinds, units};

pub use show::{FlushArgs, FlushFilter, ShowArgs};

/// Configure tmm and look inside it.
///
/// Talks to a running tmm over its config socket, with the custom resources and the watch events
/// of Kubernetes.
#[derive(Debug, Parser)]
#[command(
    name = "tmmctl",
    version,
    max_term_width = 100,
    propagate_version = true
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// tmm's config socket
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "TMM_CONFIG_SOCKET",
        hide_env_values = true,
        default_value = "/run/tmm/config.sock"
    )]
    pub socket: PathBuf,
    /// How long tmm may take to answer (5, 500ms, 1m) [default: 10s; health: 2s]
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        value_parser = units::parse_some_time
    )]
    pub timeout: Option<Duration>,
    /// When to use colour; NO_COLOR in the environment is heeded too
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

const APPLY_EXAMPLES: &str = "\
Examples:
  tmmctl apply -f vlans.yaml -f services.yaml
  tmmctl apply -R -f site/
  kubectl get f5-spk-vlans -A -o yaml | tmmctl apply -f -

The exit code is 1 if an object was refused; the others are applied all the same. An object that is
pending is no failure: it waits for another one.";

const DELETE_EXAMPLES: &str = "\
Examples:
  tmmctl delete -f vlans.yaml
  tmmctl delete vlan external
  tmmctl delete f5spkingresstcp/shop/web";

const FEED_EXAMPLES: &str = "\
Examples:
  kubectl get f5-spk-vlans -A --watch --output-watch-events -o json | tmmctl feed --feeder vlans
  kubectl get services,endpointslices -A -o json | tmmctl feed --complete --feeder services
  { kubectl get f5-spk-vlans -A -o json &&
    kubectl get f5-spk-vlans -A --watch --output-watch-events -o json; } |
    tmmctl feed --list-first --feeder vlans

kubectl does not say where its list ends, so the first form removes nothing but what is deleted while
it runs; the last one also removes what was deleted while no feeder ran.";

const SYNC_EXAMPLES: &str = "\
Examples:
  tmmctl sync                       # with the context of the kubeconfig, or as a pod of the cluster
  tmmctl sync -n shop -n network --status never

It runs until SIGTERM or SIGINT and outlives failures of the cluster, the network and tmm. What was
fed stays in tmm when it ends. The condition Programmed of each custom resource says what tmm has made
of it; of several replicas, replica 0 writes it.";

const CRDS_EXAMPLES: &str = "\
Examples:
  tmmctl crds | kubectl apply -f -
  tmmctl crds vlan > f5-spk-vlans.yaml";

const SHOW_EXAMPLES: &str = "\
Examples:
  tmmctl show virtual-servers
  tmmctl show connections --client 192.0.2.10 --state ESTABLISHED
  tmmctl show drops --watch
  tmmctl show pools --json | jq '.[] | select(.state != \"up\")'";

const FLUSH_EXAMPLES: &str = "\
Examples:
  tmmctl flush --member 198.51.100.11
  tmmctl flush --client 192.0.2.0/24 --protocol udp --port 53
  tmmctl flush --all --json";

const HEALTH_EXAMPLES: &str = "\
The exit code is 0 if the answer is yes, 1 if it is no or there is none, 2 if the command line is wrong.

Examples:
  tmmctl health              everything that is looked at
  tmmctl health live         a liveness probe: do the workers turn?
  tmmctl health ready        a readiness probe: does this replica forward?";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create or change objects
    #[command(after_help = APPLY_EXAMPLES)]
    Apply(ApplyArgs),
    /// Remove objects
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(DeleteArgs),
    /// List the objects tmm keeps
    Get(GetArgs),
    /// Check objects without applying them
    Validate(ValidateArgs),
    /// Follow a stream of watch events: `kubectl get … --watch` piped into tmm
    ///
    /// Sends events on until the input ends, then exits with 0 if all went well, else 1. When tmm
    /// goes away it exits with 1 at once and does not reconnect: let a service manager start it
    /// together with its source, so that the list begins anew. What was fed stays when a feeder
    /// ends.
    #[command(after_help = FEED_EXAMPLES)]
    Feed(FeedArgs),
    /// Keep tmm in step with a cluster, and its word on the objects in their status
    ///
    /// Lists and watches every kind through kubectl, which must be installed and find the cluster.
    #[command(after_help = SYNC_EXAMPLES)]
    Sync(SyncArgs),
    /// Print the custom resource definitions for a cluster
    #[command(after_help = CRDS_EXAMPLES)]
    Crds(CrdsArgs),
    /// Look inside: ports, virtual servers, pools, connections, drops…
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
    /// End connections: those that match, or all
    ///
    /// Both ends notice when they send next: TCP is reset, and whatever may open a connection opens a new
    /// one. Options that are given together must all match.
    #[command(after_help = FLUSH_EXAMPLES)]
    Flush(FlushArgs),
    /// Whether tmm is alive and this replica forwards: for probes and for people
    #[command(after_help = HEALTH_EXAMPLES)]
    Health(HealthArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What `-f` names.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// File or directory with YAML or JSON, or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Look into subdirectories too
    #[arg(short = 'R', long, requires = "files")]
    pub recursive: bool,
}

/// `tmmctl apply`
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// What to apply.
    #[command(flatten)]
    pub files: RequiredFiles,
    /// How long to wait for the objects' states; 0 does not wait
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::parse_time)]
    pub wait: Duration,
    /// Name under which tmm keeps the objects
    #[arg(long, value_name = "NAME", default_value = "tmmctl")]
    pub feeder: String,
}

/// What `-f` names, where it must name something.
#[derive(Debug, Args)]
pub struct RequiredFiles {
    /// File or directory with YAML or JSON, or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "PATH", required = true)]
    pub files: Vec<PathBuf>,
    /// Look into subdirectories too
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// `tmmctl delete`
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// What to delete.
    #[command(flatten)]
    pub files: FileArgs,
    /// Kind by its full or a short name; or KIND/NAMESPACE/NAME as other commands print it
    #[arg(
        value_name = "KIND",
        required_unless_present = "files",
        conflicts_with = "files",
        value_parser = Suggested(kinds::suggestions)
    )]
    pub kind: Option<String>,
    /// Names
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Namespace of the names
    #[arg(short, long, default_value = "default", conflicts_with = "files")]
    pub namespace: String,
    /// An object that is not there is no failure
    #[arg(long)]
    pub ignore_not_found: bool,
}

/// `tmmctl get`
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Kind by its full or a short name; all kinds if absent
    #[arg(value_parser = Suggested(kinds::suggestions))]
    pub kind: Option<String>,
    /// Name
    pub name: Option<String>,
    /// Namespace
    #[arg(
        short,
        long,
        default_value = "default",
        conflicts_with = "all_namespaces"
    )]
    pub namespace: String,
    /// All namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// How to print
    #[arg(short, long, default_value = "table")]
    pub output: GetOutput,
}

/// How `get` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GetOutput {
    /// A table with the state of each object
    Table,
    /// The objects as JSON
    Json,
    /// The objects as YAML documents
    Yaml,
    /// Their names, one per line
    Name,
}

/// `tmmctl validate`
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// What to check.
    #[command(flatten)]
    pub files: RequiredFiles,
    /// Check without a running tmm
    #[arg(long)]
    pub offline: bool,
    /// Only say what is wrong
    #[arg(short, long)]
    pub quiet: bool,
}

/// `tmmctl feed`
#[derive(Debug, Args)]
pub struct FeedArgs {
    /// File with watch events as JSON, or - for standard input
    #[arg(default_value = "-")]
    pub file: PathBuf,
    /// Name of this feeder: one per source, the same at each start
    #[arg(long, value_name = "NAME", default_value = "kubectl")]
    pub feeder: String,
    /// The input is the complete list: at its end, remove what this feeder gave earlier and the
    /// input lacks
    #[arg(long)]
    pub complete: bool,
    /// The input begins with the complete list (`kubectl get … -o json`): after it, remove what
    /// this feeder gave earlier and the list lacks
    #[arg(long, conflicts_with = "complete")]
    pub list_first: bool,
    /// How long to wait for states once the input has ended
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::parse_time)]
    pub wait: Duration,
    /// Only say what is refused
    #[arg(short, long)]
    pub quiet: bool,
}

/// `tmmctl health`
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// What is asked; both if absent
    pub probe: Option<Probe>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What is asked of a process in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Probe {
    /// Every worker turns; if not, tmm is to be started anew
    Live,
    /// It is live and this replica forwards; if not, traffic is better sent elsewhere
    Ready,
}

/// `tmmctl sync`
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// Only objects of this namespace; may be repeated
    #[arg(
        short,
        long = "namespace",
        value_name = "NAMESPACE",
        env = "TMM_NAMESPACES",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub namespaces: Vec<String>,
    /// Whether to write the status of custom resources
    #[arg(long, value_name = "WHEN", env = "TMM_STATUS", default_value = "auto")]
    pub status: StatusMode,
    /// The replica index; by default the ordinal at the end of POD_NAME, else 0
    #[arg(
        long,
        value_name = "INDEX",
        env = "TMM_REPLICA",
        hide_env_values = true
    )]
    pub replica: Option<usize>,
    /// Name of the pod, whose ordinal is the replica
    #[arg(long, env = "POD_NAME", value_name = "NAME", hide = true)]
    pub pod_name: Option<String>,
    /// The kubectl to use
    #[arg(
        long,
        value_name = "PATH",
        env = "TMM_KUBECTL",
        hide_env_values = true,
        default_value = "kubectl"
    )]
    pub kubectl: PathBuf,
    /// How long a watch lasts before everything is listed anew
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = units::parse_some_time)]
    pub resync: Duration,
    /// Only say what is wrong
    #[arg(short, long)]
    pub quiet: bool,
}

impl SyncArgs {
    /// The replica index: given, or the ordinal of the pod's name, as `tmm run` has it.
    pub fn replica(&self) -> usize {
        let ordinal = || {
            let (_, ordinal) = self.pod_name.as_deref()?.rsplit_once('-')?;
            ordinal.parse().ok()
        };
        self.replica.or_else(ordinal).unwrap_or(0)
    }
}

/// Who writes the status of custom resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatusMode {
    /// Replica 0
    Auto,
    /// This one, whichever it is
    Always,
    /// Nobody
    Never,
}

/// `tmmctl crds`
#[derive(Debug, Args)]
pub struct CrdsArgs {
    /// Kinds by their full or short names; all custom kinds if absent
    #[arg(value_name = "KIND")]
    pub kinds: Vec<String>,
}

/// Any text, of which some are suggested by help and completion: what there really is, tmm knows.
#[derive(Clone)]
struct Suggested(fn() -> Vec<PossibleValue>);

impl TypedValueParser for Suggested {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.0)().into_iter()))
    }
}
