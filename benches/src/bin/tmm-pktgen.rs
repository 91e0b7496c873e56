//! The `tmm-pktgen` binary: nothing but the library's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    benches::pktgen::cli::main()
}
