//! `tmm-bench`: measures what tmm costs, and writes a report.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use benches::clock::stolen_ms;
use benches::huge::HugePages;
use benches::report::machine::Machine;
use benches::report::{self, Results};
use benches::row::{Effort, Row, Sink};
use benches::sections::{self, Section};
use clap::Parser;

/// Measures what tmm costs, and writes a report with plots.
///
/// Each section runs in a process of its own. Figures are CPU time, so other processes disturb them
/// less than they would the clock, but they do: run it on an otherwise quiet machine.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
        tmm-bench                            everything, in less than ten minutes\n  \
        tmm-bench --only pipeline --quick    a look at one section"
)]
struct Args {
    /// Sections to run, separated by commas; all if absent (see --list).
    #[arg(long, value_delimiter = ',', value_name = "SECTION")]
    only: Vec<String>,
    /// Few samples and few flows: to see that everything works.
    #[arg(long)]
    quick: bool,
    /// List the sections.
    #[arg(long)]
    list: bool,
    /// The folder for report.md, results.json and the plots.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    out: PathBuf,
    /// Huge pages to ask the kernel for as long as it runs, MiB; needs root, and 0 leaves the pool
    /// alone.
    #[arg(long, value_name = "MIB", default_value_t = 2800)]
    hugepages: u64,
    /// Runs one section in this process and prints its figures.
    #[arg(long, hide = true, value_name = "SECTION")]
    section: Option<String>,
    /// Runs tmm's worker on a capture file in this process.
    #[arg(long, hide = true, value_name = "FILE")]
    dpdk_worker: Option<PathBuf>,
    /// For how long.
    #[arg(long, hide = true, default_value_t = 2)]
    seconds: u64,
}

/// How long a section may take.
const SECTION_TIME: Duration = Duration::from_mins(4);

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = if args.list {
        for section in sections::ALL {
            println!("{:10} {}", section.name, section.about);
        }
        Ok(true)
    } else if let Some(file) = &args.dpdk_worker {
        worker(file, args.seconds).map(|()| true)
    } else if let Some(name) = &args.section {
        one(name, args.quick).map(|()| true)
    } else {
        all(&args)
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tmm-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn worker(file: &Path, seconds: u64) -> Result<(), String> {
    let run = sections::dpdk::worker(file, Duration::from_secs(seconds))?;
    println!(
        "{}",
        serde_json::to_string(&run).map_err(|error| error.to_string())?
    );
    Ok(())
}

fn find(name: &str) -> Result<&'static Section, String> {
    sections::ALL
        .iter()
        .find(|section| section.name == name)
        .ok_or_else(|| {
            let names: Vec<&str> = sections::ALL.iter().map(|section| section.name).collect();
            format!("no section \"{name}\": there are {}", names.join(", "))
        })
}

/// Runs a section and prints a line of JSON for each figure.
fn one(name: &str, quick: bool) -> Result<(), String> {
    let section = find(name)?;
    let effort = if quick { Effort::QUICK } else { Effort::FULL };
    let mut emit = |row: Row| println!("{}", serde_json::to_string(&row).unwrap_or_default());
    (section.run)(&mut Sink::new(section.name, effort, &mut emit))
}

/// Runs sections one after the other and writes the report. Returns whether all went well.
fn all(args: &Args) -> Result<bool, String> {
    let chosen: Vec<&Section> = if args.only.is_empty() {
        sections::ALL.iter().collect()
    } else {
        let names = args.only.iter();
        names
            .map(|name| find(name.trim()))
            .collect::<Result<_, _>>()?
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| format!("cannot catch signals: {error}"))?;
    }
    let pages = HugePages::reserve(args.hugepages);
    let machine = Machine::look();
    let (start, stolen) = (Instant::now(), stolen_ms());
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for section in chosen {
        eprintln!("{}: {}", section.name, section.about);
        let outcome = in_process(section, args.quick, &stop, &mut rows);
        if let Err(why) = outcome {
            eprintln!("{}: {why}", section.name);
            failures.push((section.name.to_owned(), why));
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    drop(pages);
    let good = failures.is_empty();
    let results = Results {
        machine,
        failures,
        seconds: start.elapsed().as_secs(),
        stolen_ms: stolen_ms() - stolen,
        quick: args.quick,
        rows,
    };
    report::write(&results, &args.out)?;
    eprintln!("wrote {}", args.out.join("report.md").display());
    Ok(good)
}

/// Runs a section in a process of its own and gathers its figures.
fn in_process(
    section: &Section,
    quick: bool,
    stop: &AtomicBool,
    rows: &mut Vec<Row>,
) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command
        .args(["--section", section.name])
        .args(quick.then_some("--quick"))
        .stdout(Stdio::piped());
    if section.name == "table" {
        // The baseline's memory comes from malloc: it shall have huge pages as the others have.
        command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
    }
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let stdout = child.stdout.take().ok_or("no output")?;
    let reader = std::thread::spawn(move || {
        BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str::<Row>(&line).ok())
            .collect::<Vec<Row>>()
    });
    let outcome = wait(&mut child, stop);
    rows.extend(reader.join().map_err(|_| "lost its output")?);
    outcome
}

fn wait(child: &mut Child, stop: &AtomicBool) -> Result<(), String> {
    let begun = Instant::now();
    let why = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("ended with {status}; see above")),
            None if stop.load(Ordering::Relaxed) => break "interrupted".to_owned(),
            None if begun.elapsed() > SECTION_TIME => break format!("took over {SECTION_TIME:?}"),
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    Err(why)
}
