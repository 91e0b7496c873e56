//! `tmmctl show` and `tmmctl flush`: which rows, and which connections.

use std::time::Duration;

use clap::Args;

use super::Suggested;
use crate::{show, units};

/// `tmmctl show`
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // each is a flag of its own on the command line
pub struct ShowArgs {
    /// The table; if absent, what each of them shows
    #[arg(value_parser = Suggested(show::tables))]
    pub table: Option<String>,
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
    /// All columns
    #[arg(short, long)]
    pub wide: bool,
    /// Only rows whose column has this value, by the name in --json; may be repeated
    #[arg(long = "filter", value_name = "COLUMN=VALUE", value_parser = units::parse_pair)]
    pub filters: Vec<(String, String)>,
    /// Only this client's address
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<String>,
    /// Only this pool member's address
    #[arg(long, value_name = "ADDRESS")]
    pub member: Option<String>,
    /// Only this virtual server
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub virtual_server: Option<String>,
    /// Only rows in this state
    #[arg(long)]
    pub state: Option<String>,
    /// Only this protocol: tcp, udp, sctp, icmp or icmpv6
    #[arg(long)]
    pub protocol: Option<String>,
    /// Only this port
    #[arg(long)]
    pub port: Option<String>,
    /// Only this destination address
    #[arg(long, value_name = "ADDRESS")]
    pub destination: Option<String>,
    /// At most this many rows
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Only say how many rows there are
    #[arg(long)]
    pub count: bool,
    /// Also rows of zeros (drops)
    #[arg(short, long)]
    pub all: bool,
    /// Show again every so often
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        default_missing_value = "2s",
        value_parser = units::parse_some_time
    )]
    pub watch: Option<Duration>,
}

/// `tmmctl flush`
#[derive(Debug, Args)]
pub struct FlushArgs {
    /// Which connections.
    #[command(flatten)]
    pub filter: FlushFilter,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Which connections to end.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct FlushFilter {
    /// All of them
    #[arg(
        short,
        long,
        conflicts_with_all = ["client", "member", "virtual_server", "state", "protocol", "port", "destination"]
    )]
    pub all: bool,
    /// Those of this client, or of clients in this subnet
    #[arg(long, value_name = "ADDRESS[/LENGTH]")]
    pub client: Option<String>,
    /// Those to this pool member, or to members in this subnet
    #[arg(long, value_name = "ADDRESS[/LENGTH]")]
    pub member: Option<String>,
    /// Those of this virtual server
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub virtual_server: Option<String>,
    /// Those in this state
    #[arg(long)]
    pub state: Option<String>,
    /// Those of this protocol: tcp, udp, sctp, icmp or icmpv6
    #[arg(long)]
    pub protocol: Option<String>,
    /// Those to this port of the virtual server
    #[arg(long)]
    pub port: Option<String>,
    /// Those to this destination, or to one in this subnet
    #[arg(long, value_name = "ADDRESS[/LENGTH]")]
    pub destination: Option<String>,
}

impl FlushFilter {
    /// The filters by the names that tmm has for them.
    pub fn named(&self) -> [(&'static str, &Option<String>); 7] {
        [
            ("client", &self.client),
            ("member", &self.member),
            ("virtualServer", &self.virtual_server),
            ("state", &self.state),
            ("protocol", &self.protocol),
            ("port", &self.port),
            ("destination", &self.destination),
        ]
    }
}
