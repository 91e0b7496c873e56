//! `tmmctl`: hands the process's arguments and streams to the library.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use cli::{Io, Terminal};

fn main() -> ExitCode {
    let stdout = std::io::stdout();
    let stderr = std::io::stderr();
    let terminal = Terminal {
        stdout: stdout.is_terminal(),
        stderr: stderr.is_terminal(),
        no_color: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
    };
    // Locked for good: nothing else writes, and a lock per line is not free in long tables.
    let mut stdout = std::io::BufWriter::new(stdout.lock());
    let mut stderr = stderr.lock();
    let code = cli::run(
        std::env::args_os(),
        Io {
            stdin: Box::new(std::io::stdin()),
            stdout: &mut stdout,
            stderr: &mut stderr,
            terminal,
        },
    );
    // What could not be written has been dealt with; a closed pipe is no news at the end.
    let _ = stdout.flush();
    ExitCode::from(code)
}
