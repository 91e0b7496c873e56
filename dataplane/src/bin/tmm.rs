//! The `tmm` binary: nothing but the library's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    dataplane::cli::main()
}
