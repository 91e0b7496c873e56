//! `tmmctl`, the operator's tool, as a library: arguments and streams in, an exit code out.
//!
//! Everything goes over tmm's config socket as [`config::client`] describes it: this crate knows
//! neither tables nor workers, and builds without DPDK.
//!
//! * [`args`]: the command line.
//! * `link`: one connection to tmm.
//! * `manifests`: what `-f` names, as documents.
//! * `apply`, `delete`, `validate`, `get`, `feed`, `sync`, `crds`, `show`: one module per command.
//! * `table`, `units`, `ui`: how things are put to people.
//!
//! Exit codes: 0 when all went well, 1 when something was refused or failed, 2 when the command
//! line is wrong.

#![forbid(unsafe_code)]

mod apply;
pub mod args;
mod batch;
mod crds;
mod delete;
mod error;
mod feed;
mod flush;
mod get;
mod health;
mod kinds;
mod link;
mod manifests;
mod show;
mod sync;
mod table;
mod ui;
mod units;
mod validate;

use std::ffi::OsString;
use std::io::{Read, Write};

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command};
use error::Error;
use ui::Ui;

/// What a run reads and writes.
pub struct Io<'io> {
    /// Manifests given as `-`, and what `feed` feeds.
    pub stdin: Box<dyn Read + Send>,
    /// Results.
    pub stdout: &'io mut dyn Write,
    /// Errors and remarks.
    pub stderr: &'io mut dyn Write,
    /// What the streams are connected to.
    pub terminal: Terminal,
}

/// What the streams are connected to, and what the environment says of colour.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminal {
    /// Results go to a terminal.
    pub stdout: bool,
    /// Errors go to a terminal.
    pub stderr: bool,
    /// `NO_COLOR` is set to something.
    pub no_color: bool,
}

/// All that was asked for has been done.
const OK: u8 = 0;
/// Something was refused or has failed.
const FAILED: u8 = 1;

/// Runs the tool; `args` begins with the program's name. Returns the exit code.
pub fn run<A>(args: impl IntoIterator<Item = A>, io: Io<'_>) -> u8
where
    A: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, io.stdout, io.stderr, io.terminal),
    };
    let mut ui = Ui::new(io.stdout, io.stderr, io.terminal, cli.global.color);
    let result = match cli.command {
        Command::Apply(args) => apply::run(&cli.global, &args, io.stdin, &mut ui),
        Command::Delete(args) => delete::run(&cli.global, &args, io.stdin, &mut ui),
        Command::Get(args) => get::run(&cli.global, &args, &mut ui),
        Command::Validate(args) => validate::run(&cli.global, &args, io.stdin, &mut ui),
        Command::Feed(args) => feed::run(&cli.global, &args, io.stdin, &mut ui),
        Command::Health(args) => health::run(&cli.global, &args, &mut ui),
        Command::Sync(args) => sync::run(&cli.global, &args, &mut ui),
        Command::Crds(args) => crds::run(&args, &mut ui),
        Command::Flush(args) => flush::run(&cli.global, &args, &mut ui),
        Command::Show(args) => show::run(&cli.global, &args, &mut ui),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tmmctl", &mut script);
            ui.write(&script).map(|()| OK)
        }
    };
    match result.and_then(|code| ui.flush().map(|()| code)) {
        Ok(code) => code,
        // Whoever read has seen enough: `tmmctl show connections | head` is no failure.
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => OK,
        Err(error) => {
            ui.error(&error);
            FAILED
        }
    }
}

/// Help and version are what was asked for; anything else is a mistake in the command line.
fn usage<'io>(
    error: &clap::Error,
    stdout: &'io mut dyn Write,
    stderr: &'io mut dyn Write,
    terminal: Terminal,
) -> u8 {
    let (stream, is_terminal) = if error.use_stderr() {
        (stderr, terminal.stderr)
    } else {
        (stdout, terminal.stdout)
    };
    let text = error.render();
    // There is nowhere left to say that this could not be said.
    let _ = if is_terminal && !terminal.no_color {
        write!(stream, "{}", text.ansi())
    } else {
        write!(stream, "{text}")
    };
    let _ = stream.flush();
    u8::try_from(error.exit_code()).unwrap_or(2)
}
