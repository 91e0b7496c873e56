//! Instructions per packet, counted by valgrind, and compared with the committed counts.
//!
//! `instructions` runs itself under `valgrind --tool=callgrind` once per case and counts only what
//! is inside of the pipeline. The count is the same whatever else the machine does, so it shows
//! small regressions that times cannot. It says nothing about memory: a change that misses the
//! cache more often costs no instruction.
//!
//! ```text
//! instructions                 print a table
//! instructions --check         compare with instructions.tsv; exit code 1 if a case got worse
//! instructions --bless         write instructions.tsv
//! instructions --profile CASE  where they go, by function
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use benches::harness::{Bench, EXPIRE_BUDGET, Mix, Work};
use benches::parts;
use benches::site::{Layout, Traffic};

/// Bursts whose instructions are counted.
const BURSTS: usize = 64;
const BURST: u64 = 32;
/// Enough that few bursts meet a flow twice, few enough for valgrind.
const FLOWS: usize = 4096;
/// What a case may cost more than its baseline, in per mille.
const TOLERANCE: u64 = 30;
/// The counts that were accepted.
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.tsv");

/// What valgrind is told to collect in.
const STRETCHES: &[&str] = &["*harness*counted*", "*parts*stretch*"];

const CASES: &[&str] = &[
    "established/tcp4/to-server",
    "established/tcp4/to-client",
    "established/udp4/to-server",
    "established/udp4/to-client",
    "established/tcp6/to-server",
    "established/tcp6/to-client",
    "established/udp6/to-server",
    "established/udp6/to-client",
    "new-flow/tcp4",
    "new-flow/udp4",
    "new-flow/tcp6",
    "new-flow/udp6",
    "flood/tcp4",
    "expiry/tcp4",
    "drop/tcp4",
    "parse/tcp4",
    "parse/tcp6",
    "look-up/tcp4",
    "look-up/tcp6",
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["--run", case] => run(case).map(|()| true),
        [] => print().map(|()| true),
        ["--check"] => check(),
        ["--bless"] => bless().map(|()| true),
        ["--profile", case] => profile(case).map(|()| true),
        _ => Err("usage: instructions [--check | --bless | --profile CASE]".to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The case itself, to be counted.
fn run(case: &str) -> Result<(), String> {
    let mut words = case.split('/');
    let (kind, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let mix = match words.next() {
        Some("to-server") => Mix::Requests,
        Some("to-client") => Mix::Replies,
        _ => Mix::Both,
    };
    let traffic = Traffic::ALL
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, traffic)| *traffic)
        .ok_or_else(|| format!("no traffic \"{name}\""))?;
    let all = BURSTS * 32;
    let opened = |bench: &mut Bench| (0..BURSTS).map(|_| bench.opening(Work::Process)).sum();
    let done: usize = match kind {
        "established" => {
            let mut bench = Bench::with_flows(traffic, FLOWS, 0)?;
            bench.start_counting();
            (0..BURSTS)
                .map(|_| bench.established(mix, Work::Process))
                .sum()
        }
        "new-flow" => {
            let mut bench = Bench::new(Layout::for_flows(traffic, FLOWS), FLOWS)?;
            bench.start_counting();
            opened(&mut bench)
        }
        // Of forged SYNs, each of which takes the place of another in a full table.
        "flood" => {
            let mut bench = Bench::new(Layout::for_flows(traffic, FLOWS), FLOWS)?;
            while bench.len() < FLOWS {
                bench.opening(Work::Process);
            }
            bench.start_counting();
            let mut forged = || {
                let opened = bench.opening(Work::Process);
                bench.expire(EXPIRE_BUDGET);
                opened
            };
            (0..BURSTS).map(|_| forged()).sum()
        }
        "expiry" => {
            let mut bench = Bench::new(Layout::for_flows(traffic, FLOWS), FLOWS)?;
            let before: usize = opened(&mut bench);
            bench.pass(Duration::from_mins(1));
            bench.start_counting();
            while !bench.is_empty() {
                bench.expire(64);
            }
            before
        }
        "drop" => {
            let mut bench = Bench::new(Layout::for_flows(traffic, FLOWS), FLOWS)?;
            bench.start_counting();
            all + (0..BURSTS)
                .map(|_| bench.stray(Work::Process))
                .sum::<usize>()
        }
        "parse" => parts::parse(traffic, BURSTS),
        "look-up" => parts::look_up(traffic, FLOWS, BURSTS)?,
        other => return Err(format!("no case \"{other}\"")),
    };
    if done == all {
        Ok(())
    } else {
        Err(format!("{done} of {all} packets were as they should be"))
    }
}

fn print() -> Result<(), String> {
    println!("| case | instructions per packet |\n|---|---:|");
    for case in CASES {
        println!("| {case} | {} |", count(case)?);
    }
    Ok(())
}

fn bless() -> Result<(), String> {
    let mut text = format!(
        "# Instructions per packet, counted by callgrind; made by make bench-bless.\n# {}\ncase\tinstructions\n",
        compiler()
    );
    for case in CASES {
        let count = count(case)?;
        println!("{case}\t{count}");
        let _ = writeln!(text, "{case}\t{count}");
    }
    std::fs::write(BASELINE, text).map_err(|error| format!("cannot write {BASELINE}: {error}"))
}

/// Compares with the baseline. Returns whether nothing got worse.
fn check() -> Result<bool, String> {
    let path = PathBuf::from(BASELINE);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("cannot read {}: {error}; make bench-bless", path.display()))?;
    let baseline = parse_baseline(&text)?;
    let mut good = true;
    let mut better = false;
    println!("| case | baseline | now | change |\n|---|---:|---:|---:|");
    for case in CASES {
        let now = count(case)?;
        let Some(before) = baseline.get(*case).copied() else {
            println!("| {case} | none | {now} | **no baseline** |");
            good = false;
            continue;
        };
        let mark = match change(before, now) {
            Change::Worse => {
                good = false;
                " **worse**"
            }
            Change::Better => {
                better = true;
                " better"
            }
            Change::None => "",
        };
        println!(
            "| {case} | {before} | {now} | {}{mark} |",
            percent(before, now)
        );
    }
    for case in baseline
        .keys()
        .filter(|case| !CASES.contains(&case.as_str()))
    {
        println!("\n{case} is in the baseline and no longer counted.");
        good = false;
    }
    if !good {
        println!(
            "\nA case costs more than {}.{} % above its baseline, or has none. If that is what \
             the change is worth, make bench-bless and say why in the commit.",
            TOLERANCE / 10,
            TOLERANCE % 10
        );
        if !text.contains(&compiler()) {
            println!(
                "The baseline was made by another compiler than {}.",
                compiler()
            );
        }
    } else if better {
        println!("\nBetter than the baseline: make bench-bless keeps it so.");
    }
    Ok(good)
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Worse,
    Better,
    None,
}

fn change(before: u64, now: u64) -> Change {
    if now * 1000 > before * (1000 + TOLERANCE) {
        Change::Worse
    } else if now * (1000 + TOLERANCE) < before * 1000 {
        Change::Better
    } else {
        Change::None
    }
}

fn percent(before: u64, now: u64) -> String {
    let tenths = now.abs_diff(before) * 1000 / before.max(1);
    let sign = if now < before { "-" } else { "+" };
    format!("{sign}{}.{} %", tenths / 10, tenths % 10)
}

fn parse_baseline(text: &str) -> Result<BTreeMap<String, u64>, String> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("case\t"))
        .map(|line| {
            let (case, count) = line
                .split_once('\t')
                .ok_or_else(|| format!("{BASELINE}: no tab in \"{line}\""))?;
            let count = count
                .trim()
                .parse()
                .map_err(|error| format!("{BASELINE}: \"{line}\": {error}"))?;
            Ok((case.to_owned(), count))
        })
        .collect()
}

/// The compiler on the path, which is the one cargo builds with.
fn compiler() -> String {
    Command::new("rustc")
        .arg("--version")
        .output()
        .ok()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .filter(|version| !version.is_empty())
        .unwrap_or_else(|| "an unknown rustc".to_owned())
}

/// Instructions per packet of a case.
fn count(case: &str) -> Result<u64, String> {
    let text = callgrind(case, "/dev/null")?;
    let counted: u64 = text
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, number)| number.trim().parse().ok())
        .ok_or_else(|| format!("no count in what valgrind printed:\n{text}"))?;
    let per_packet = counted / (BURSTS as u64 * BURST);
    if per_packet == 0 {
        return Err(format!("{case}: nothing was counted"));
    }
    Ok(per_packet)
}

/// Runs a case under callgrind, with its profile in `file`. Returns what valgrind said.
fn callgrind(case: &str, file: &str) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind");
    command.arg(format!("--callgrind-out-file={file}"));
    for stretch in STRETCHES {
        command.arg(format!("--toggle-collect={stretch}"));
    }
    let output = command
        .arg(program)
        .args(["--run", case])
        .output()
        .map_err(|error| format!("valgrind: {error}; on Debian, apt-get install valgrind"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{case}: {text}"))
    }
}

/// Prints which functions the instructions of a case are in, what was inlined counted with the
/// function it was inlined into.
fn profile(case: &str) -> Result<(), String> {
    if !CASES.contains(&case) {
        return Err(format!(
            "no case \"{case}\": there are {}",
            CASES.join(", ")
        ));
    }
    let file = std::env::temp_dir().join(format!("tmm-callgrind-{}", std::process::id()));
    let outcome = callgrind(case, &file.display().to_string()).and_then(|_| {
        Command::new("callgrind_annotate")
            .args(["--auto=no", "--threshold=100"])
            .arg(&file)
            .output()
            .map_err(|error| format!("callgrind_annotate: {error}"))
    });
    let _ = std::fs::remove_file(&file);
    let by_function = by_function(&String::from_utf8_lossy(&outcome?.stdout));
    let packets = BURSTS as u64 * BURST;
    println!("| {case} | instructions per packet |\n|---|---:|");
    for (function, count) in by_function.iter().filter(|(_, count)| *count >= packets) {
        println!("| `{function}` | {} |", count / packets);
    }
    Ok(())
}

/// Sums up lines such as `1,234 ( 5.6%)  file.rs:function [program]` by function, most first.
fn by_function(text: &str) -> Vec<(String, u64)> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for line in text.lines() {
        let Some((count, rest)) = line.split_once('(') else {
            continue;
        };
        let Ok(count) = count.trim().replace(',', "").parse::<u64>() else {
            continue;
        };
        let Some((_, place)) = rest.split_once(")  ") else {
            continue;
        };
        let place = place.rsplit_once(" [").map_or(place, |(place, _)| place);
        if let Some((_, function)) = place.split_once(".rs:") {
            *sums.entry(function.trim().to_owned()).or_default() += count;
        }
    }
    let mut all: Vec<(String, u64)> = sums.into_iter().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_percent_more_is_tolerated_and_a_little_more_is_not() {
        assert_eq!(change(1000, 1030), Change::None);
        assert_eq!(change(1000, 1031), Change::Worse);
        assert_eq!(change(1000, 990), Change::None);
        assert_eq!(change(1000, 900), Change::Better);
    }

    #[test]
    fn the_committed_baseline_has_every_case() {
        let text = std::fs::read_to_string(BASELINE).unwrap();
        let baseline = parse_baseline(&text).unwrap();
        for case in CASES {
            assert!(baseline.contains_key(*case), "{case} is missing");
        }
    }

    #[test]
    fn what_was_inlined_is_counted_with_the_function_around_it() {
        let text = "1,000 (50.0%)  net/src/a.rs:net::look [/x/y]\n 500 (25.0%)  std/src/b.rs:net::look\n\
                    9 ( 0.1%)  c.rs:other [/x/y]\n2,000 (100.0%)  PROGRAM TOTALS\nno line\n";
        assert_eq!(
            by_function(text),
            [("net::look".to_owned(), 1500), ("other".to_owned(), 9)]
        );
    }

    #[test]
    fn a_change_is_told_in_percent_of_the_baseline() {
        assert_eq!(percent(200, 207), "+3.5 %");
        assert_eq!(percent(200, 199), "-0.5 %");
    }
}
