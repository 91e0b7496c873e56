//! The command line of `tmm`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    Replay(Box<crate::replay::args::ReplayArgs>),
    Check(crate::check::CheckArgs),
}

/// Carries out the command line.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        #[cfg(feature = "dpdk")]
        Command::Run(args) => run(&args),
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
            eprintln!("tmm: {error}");
            ExitCode::FAILURE
        }
    }
}
