//! Instructions per packet, counted by valgrind.
//!
//! `instructions` runs itself under `valgrind --tool=cachegrind` twice per case, with few and with many
//! bursts, and divides the difference by the packets: what the set-up costs falls out. The count is
//! the same whatever else the machine does, so it shows small regressions that times cannot.

use std::process::{Command, ExitCode};

use benches::{Bench, Traffic};

const BURST: u64 = 32;
const FEW: u64 = 16;
const MANY: u64 = 272;

const CASES: &[&str] = &[
    "established/tcp4",
    "established/udp4",
    "established/tcp6",
    "new_flow/tcp4",
    "new_flow/udp4",
    "drop",
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.as_slice() {
        [case, bursts] => bursts
            .parse()
            .map_err(|_| format!("\"{bursts}\" is not a number of bursts"))
            .and_then(|bursts| run(case, bursts)),
        // Cargo hands `--bench` and the like to every target; they mean nothing here.
        _ => report(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The case itself, to be counted.
fn run(case: &str, bursts: u64) -> Result<(), String> {
    let (kind, traffic) = case.split_once('/').unwrap_or((case, "tcp4"));
    let traffic = match traffic {
        "tcp4" => Traffic::TCP4,
        "udp4" => Traffic::UDP4,
        "tcp6" => Traffic::TCP6,
        other => return Err(format!("no traffic \"{other}\"")),
    };
    let done: usize = match kind {
        "established" => {
            let mut bench = Bench::with_flows(traffic, 512)?;
            let total = bench.frame_count();
            (0..bursts)
                .map(|burst| bench.established(usize::try_from(burst * BURST).unwrap_or(0) % total))
                .sum()
        }
        "new_flow" => {
            let mut bench = Bench::new(traffic, 16_384)?;
            // The same frames are made for every number of bursts, so that making them falls out.
            let frames: Vec<_> = (0..MANY).map(|_| bench.opening_burst()).collect();
            frames
                .iter()
                .zip(0..bursts)
                .map(|(frames, _)| bench.burst(frames))
                .sum()
        }
        "drop" => {
            let mut bench = Bench::new(traffic, 1024)?;
            let frames: Vec<_> = (0..BURST).map(|_| bench.stray_frame()).collect();
            let forwarded: usize = (0..bursts).map(|_| bench.burst(&frames)).sum();
            return if forwarded == 0 {
                Ok(())
            } else {
                Err("a stray frame got through".to_owned())
            };
        }
        other => return Err(format!("no case \"{other}\"")),
    };
    let expected = usize::try_from(bursts * BURST).unwrap_or(usize::MAX);
    if done == expected {
        Ok(())
    } else {
        Err(format!("{done} of {expected} packets got through"))
    }
}

fn report() -> Result<(), String> {
    println!("| case | instructions per packet |\n|---|---:|");
    for case in CASES {
        let (few, many) = (count(case, FEW)?, count(case, MANY)?);
        let packets = (MANY - FEW) * BURST;
        println!("| {case} | {} |", many.saturating_sub(few) / packets);
    }
    Ok(())
}

/// Instructions of a whole run.
fn count(case: &str, bursts: u64) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args([
            "--tool=cachegrind",
            "--cache-sim=no",
            "--cachegrind-out-file=/dev/null",
        ])
        .arg(program)
        .args([case, bursts.to_string().as_str()])
        .output()
        .map_err(|error| format!("valgrind: {error}; on Debian, apt-get install valgrind"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{case}: {text}"));
    }
    text.lines()
        .find_map(|line| {
            line.split_once("I   refs:")
                .or_else(|| line.split_once("I refs:"))
        })
        .and_then(|(_, number)| number.replace(',', "").trim().parse().ok())
        .ok_or_else(|| format!("no count in what valgrind printed:\n{text}"))
}
