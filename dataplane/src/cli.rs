//! The command line of `tmm`.

use std::ffi::OsStr;
#[cfg(feature = "dpdk")]
use std::io::Write;
use std::process::ExitCode;

use clap::builder::{OsStr as Str, Resettable};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// tmm: a userspace dataplane that load-balances tagged traffic, configured by Kubernetes custom
/// resources.
#[derive(Debug, Parser)]
#[command(name = "tmm", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "dpdk")]
    Run(Box<crate::run::RunArgs>),
    #[cfg(feature = "dpdk")]
    Ports(Box<crate::discover::report::PortsArgs>),
    Replay(Box<crate::replay::args::ReplayArgs>),
    Check(crate::check::CheckArgs),
}

/// Reads the command line. An environment variable that is set to nothing counts as not set, as
/// manifests leave them.
fn parse() -> Cli {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let command = Cli::command().mut_subcommands(|subcommand| {
        subcommand.mut_args(|arg| {
            if arg.get_env().is_some_and(is_empty) {
                arg.env(Resettable::<Str>::Reset)
            } else {
                arg
            }
        })
    });
    let matches = command.get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Carries out the command line.
pub fn main() -> ExitCode {
    // First, while there is but one thread: each has capabilities of its own.
    #[cfg(feature = "dpdk")]
    crate::run::capabilities::raise();
    match parse().command {
        #[cfg(feature = "dpdk")]
        Command::Run(args) => run(&args),
        #[cfg(feature = "dpdk")]
        Command::Ports(args) => crate::discover::report::run(&args),
        Command::Replay(args) => crate::replay::args::run(&args),
        Command::Check(args) => crate::check::run(&args),
    }
}

#[cfg(feature = "dpdk")]
fn run(args: &crate::run::RunArgs) -> ExitCode {
    let outcome =
        crate::run::init_logging(&args.log, args.log_format).and_then(|()| crate::run::run(args));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be reading.
            let _ = writeln!(std::io::stderr(), "tmm: {error}");
            ExitCode::FAILURE
        }
    }
}
