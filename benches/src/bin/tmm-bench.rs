//! `tmm-bench`: measures what tmm costs, and writes a report.

use std::process::ExitCode;

use benches::row::{Effort, Sink};
use benches::sections;

fn main() -> ExitCode {
    let only = std::env::args().nth(1);
    let mut emit = |row| println!("{}", serde_json::to_string(&row).unwrap_or_default());
    for section in sections::ALL {
        if only.as_ref().is_some_and(|o| o != section.name) { continue; }
        let mut sink = Sink::new(section.name, Effort::FULL, &mut emit);
        if let Err(e) = (section.run)(&mut sink) {
            eprintln!("{e}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
