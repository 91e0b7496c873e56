//! `tmm-bench`: measures what tmm costs, and writes a report.

use std::process::ExitCode;

use benches::row::{Effort, Sink};
use benches::sections;

fn main() -> ExitCode {
    let only = std::env::args().nth(1);
    if only.as_deref()==Some("--dpdk-worker") {
        let run = sections::dpdk::worker(std::path::Path::new(&std::env::args().nth(2).unwrap()), std::time::Duration::from_secs(2)).unwrap();
        println!("{}", serde_json::to_string(&run).unwrap());
        return ExitCode::SUCCESS;
    }
    let mut emit = |row| println!("{}", serde_json::to_string(&row).unwrap_or_default());
    for section in sections::ALL {
        if only.as_ref().is_some_and(|o| o != section.name) { continue; }
        let mut sink = Sink::new(section.name, if std::env::var("Q").is_ok() {Effort::QUICK} else {Effort::FULL}, &mut emit);
        if let Err(e) = (section.run)(&mut sink) {
            eprintln!("{e}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
