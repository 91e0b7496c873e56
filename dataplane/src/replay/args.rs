//! The command `tmm replay`.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use config::document::{self, Document};
use config::{Config, Limits};
use net::{PortId, Timestamp};
use serde_json::Value;
use thiserror::Error;

use super::explain::Step;
use super::inputs::Inputs;
use super::neighbors::NeighborMode;
use super::{Replay, ReplayConfig, Sink};
use crate::compile::parse_interface;
use crate::pcap::{Cause, PcapError, Reader, Record, Writer};

/// Exit code when all that could be read was replayed, but a capture is damaged.
const DAMAGED: u8 = 3;

/// Replay captures through tmm, offline: no root, no hugepages, no device.
///
/// Frames are merged by timestamp, which is also the clock. What tmm sends is written to DIR, a
/// capture per port, with summary.json beside them. The same input gives the same octets.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 replayed; 1 the configuration, a capture or the output \
directory can not be used; 2 wrong usage; 3 replayed, but a capture is damaged: its frames up to \
the damage were used."
)]
pub struct ReplayArgs {
    /// Custom resources: files or directories of YAML or JSON.
    #[arg(long = "config", value_name = "FILE", required = true, num_args = 1..)]
    configs: Vec<PathBuf>,

    /// The frames that arrive at a port: 1.1=client.pcap (pcap or pcapng, Ethernet). Repeatable.
    #[arg(long = "port", value_name = "PORT=FILE", required = true, value_parser = port_file)]
    ports: Vec<(PortId, PathBuf)>,

    /// Directory for what tmm sends; made if need be, files in it are replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Keys every hash and random choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Which position of the self IP lists is ours, from 0.
    #[arg(long, default_value_t = 0)]
    replica: usize,

    /// The most flows tracked.
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = flow_capacity)]
    flows: usize,

    /// MTU of VLANs that name none, octets.
    #[arg(long, value_name = "OCTETS", env = "TMM_DEFAULT_MTU", default_value_t = 1500,
        value_parser = clap::value_parser!(u16).range(1500..=9000))]
    default_mtu: u16,

    /// Who answers when tmm asks for the MAC address of a neighbour.
    #[arg(long, value_enum, default_value_t)]
    neighbors: NeighborMode,

    /// Give unicast frames the MAC address of the VLAN they arrive on as their destination, so that a
    /// capture made elsewhere is taken as meant for tmm; a source address of zero is replaced, too.
    #[arg(long)]
    rewrite_mac: bool,

    /// How long the clock runs on after the last frame, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(0..=86_400))]
    settle: u64,

    /// Print a line per frame: VLAN, flow, decision, and what it was made into or why it was dropped.
    #[arg(long)]
    explain: bool,

    /// Print JSON instead of text: a line per frame with --explain, then the summary in one line.
    #[arg(long)]
    json: bool,
}

fn port_file(text: &str) -> Result<(PortId, PathBuf), String> {
    let (port, file) = text
        .split_once('=')
        .ok_or_else(|| "expected PORT=FILE, such as 1.1=client.pcap".to_owned())?;
    let id = parse_interface(port)
        .filter(|id| id.to_string() == port)
        .ok_or_else(|| format!("\"{port}\" is no port; ports are 1.1 to 1.255"))?;
    if file.is_empty() {
        return Err(format!("no file for port {port}"));
    }
    Ok((id, PathBuf::from(file)))
}

/// Enough for any capture, and little enough for any machine.
fn flow_capacity(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=16_777_216) => Ok(n),
        _ => Err("expected a number from 1 to 16777216".to_owned()),
    }
}

type FileReader = Reader<BufReader<File>>;

/// Why a replay can not be done.
#[derive(Debug, Error)]
enum ReplayError {
    #[error("{0}")]
    Config(#[from] document::ReadError),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Capture(PcapError),
    #[error("cannot read {file}: {source}")]
    Open { file: String, source: io::Error },
    #[error("port {0} is given twice; merge the captures first")]
    PortTwice(PortId),
    #[error("{} is both read and written; choose another directory for --out", .0.display())]
    Overwrites(PathBuf),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write to standard output: {0}")]
    Stdout(io::Error),
}

impl From<PcapError> for ReplayError {
    /// What the system says of a file that can not be opened has no place in it.
    fn from(error: PcapError) -> Self {
        match error {
            PcapError {
                file,
                offset: 0,
                cause: Cause::Io(source),
            } => Self::Open { file, source },
            error => Self::Capture(error),
        }
    }
}

/// Carries out `tmm replay`.
pub fn run(args: &ReplayArgs) -> ExitCode {
    match replay(args) {
        Ok(damage) if damage.is_empty() => ExitCode::SUCCESS,
        Ok(damage) => {
            for text in damage {
                eprintln!("tmm: warning: {text}; replayed what comes before");
            }
            ExitCode::from(DAMAGED)
        }
        // Whoever reads our output has seen enough.
        Err(ReplayError::Stdout(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tmm: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Replays. Gives what is damaged in the captures.
fn replay(args: &ReplayArgs) -> Result<Vec<String>, ReplayError> {
    let (objects, config) = read_config(&args.configs, args.replica)?;
    let mut inputs: Vec<(PortId, PathBuf)> = args.ports.clone();
    inputs.sort();
    if let Some(pair) = inputs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(ReplayError::PortTwice(pair[0].0));
    }
    let ports = port_count(&config, &inputs);
    let replay_config = ReplayConfig {
        ports,
        seed: args.seed,
        replica: args.replica,
        flow_capacity: args.flows,
        default_mtu: args.default_mtu,
        neighbors: args.neighbors,
        rewrite_mac: args.rewrite_mac,
        settle: Duration::from_secs(args.settle),
    };
    let mut replay = Replay::new(replay_config, &objects).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        ReplayError::Invalid(lines.join("\n"))
    })?;
    // Everything is opened before anything is written.
    let readers = open_all(&inputs)?;
    if args.neighbors != NeighborMode::None {
        for (port, reader) in open_all(&inputs)? {
            learn(&mut replay, port, reader);
        }
    }
    let mut files = Files::create(args, ports, &inputs)?;
    let mut captures = Inputs::new(readers);
    let outcome = feed(&mut replay, &mut captures, &mut files);
    files.check(outcome)?;
    let reports = captures.reports();
    let damage = reports
        .iter()
        .filter_map(|report| Some(format!("{}: {}", report.file, report.damage.as_ref()?)))
        .collect();
    let summary = replay.summary(reports);
    files.finish(args, &summary)?;
    Ok(damage)
}

fn feed(
    replay: &mut Replay,
    captures: &mut Inputs<BufReader<File>>,
    files: &mut Files,
) -> io::Result<()> {
    while captures.next_with(|port, at, octets| replay.frame(port, at, octets, files))? {}
    replay.finish(files)
}

/// Reads the configuration; whatever is wrong with it is told at once.
fn read_config(paths: &[PathBuf], replica: usize) -> Result<(Vec<Value>, Config), ReplayError> {
    let mut documents: Vec<Document> = Vec::new();
    for path in paths {
        documents.extend(document::read_path(path)?);
    }
    let (store, problems) = document::load(&documents, Limits::default());
    if !problems.is_empty() {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(ReplayError::Invalid(lines.join("\n")));
    }
    let (config, _) = config::resolve(&store, replica);
    let objects = documents.into_iter().filter_map(|d| d.content.ok());
    Ok((objects.collect(), config))
}

/// As many ports as captures or VLANs name.
fn port_count(config: &Config, inputs: &[(PortId, PathBuf)]) -> u8 {
    let named = config
        .vlans
        .iter()
        .flat_map(|vlan| &vlan.interfaces)
        .filter_map(|name| parse_interface(name));
    let given = inputs.iter().map(|(port, _)| *port);
    let last = named.chain(given).max().unwrap_or(PortId(0));
    last.0.saturating_add(1)
}

fn open_all(inputs: &[(PortId, PathBuf)]) -> Result<Vec<(PortId, FileReader)>, PcapError> {
    let mut readers = Vec::with_capacity(inputs.len());
    for (port, path) in inputs {
        readers.push((*port, Reader::open(path)?));
    }
    Ok(readers)
}

/// Reads a capture once to learn MAC addresses; its damage is told when it is replayed.
fn learn(replay: &mut Replay, port: PortId, mut reader: FileReader) {
    let mut record = Record::default();
    while let Ok(true) = reader.next_record(&mut record) {
        if !record.is_cut() {
            replay.learn(port, &record.octets);
        }
    }
}

/// The output directory and standard output.
struct Files {
    writers: Vec<(PathBuf, Writer<BufWriter<File>>)>,
    summary: PathBuf,
    stdout: io::StdoutLock<'static>,
    explain: bool,
    json: bool,
    /// What could not be written; an `io::Error` alone does not tell where.
    failed: Option<ReplayError>,
}

impl Files {
    fn create(
        args: &ReplayArgs,
        ports: u8,
        inputs: &[(PortId, PathBuf)],
    ) -> Result<Self, ReplayError> {
        let write = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ReplayError::Write { path, source }
        };
        std::fs::create_dir_all(&args.out).map_err(write(&args.out))?;
        let read: Vec<PathBuf> = inputs
            .iter()
            .map(|(_, path)| path)
            .chain(&args.configs)
            .filter_map(|path| path.canonicalize().ok())
            .collect();
        let summary = args.out.join("summary.json");
        let names = (0..ports).map(|port| args.out.join(format!("{}.pcap", PortId(port))));
        let paths: Vec<PathBuf> = names.collect();
        for path in paths.iter().chain([&summary]) {
            if path.canonicalize().is_ok_and(|path| read.contains(&path)) {
                return Err(ReplayError::Overwrites(path.clone()));
            }
        }
        let mut writers = Vec::with_capacity(paths.len());
        for path in paths {
            let writer = Writer::create(&path).map_err(write(&path))?;
            writers.push((path, writer));
        }
        Ok(Self {
            writers,
            summary,
            stdout: io::stdout().lock(),
            explain: args.explain,
            json: args.json,
            failed: None,
        })
    }

    /// An error of the sink, with its place.
    fn check(&mut self, outcome: io::Result<()>) -> Result<(), ReplayError> {
        match (outcome, self.failed.take()) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(error)) => Err(error),
            (Err(error), None) => Err(ReplayError::Stdout(error)),
        }
    }

    fn finish(
        mut self,
        args: &ReplayArgs,
        summary: &super::summary::Summary,
    ) -> Result<(), ReplayError> {
        for (path, writer) in self.writers {
            writer
                .finish()
                .map_err(|source| ReplayError::Write { path, source })?;
        }
        let json = |pretty: bool| {
            let text = if pretty {
                serde_json::to_string_pretty(summary)
            } else {
                serde_json::to_string(summary)
            };
            text.map_err(io::Error::from)
        };
        json(true)
            .and_then(|text| std::fs::write(&self.summary, text + "\n"))
            .map_err(|source| ReplayError::Write {
                path: self.summary.clone(),
                source,
            })?;
        let printed = if self.json {
            json(false).and_then(|text| writeln!(self.stdout, "{text}"))
        } else {
            write!(self.stdout, "{summary}").and_then(|()| hint(&mut self.stdout, args, summary))
        };
        printed
            .and_then(|()| self.stdout.flush())
            .map_err(ReplayError::Stdout)
    }
}

/// Says what to do when most frames were made for other MAC addresses or VLANs.
fn hint(
    out: &mut impl Write,
    args: &ReplayArgs,
    summary: &super::summary::Summary,
) -> io::Result<()> {
    let dropped = |name: &str| {
        let count = summary.drops.iter().find(|c| c.name == name);
        count.map_or(0, |c| c.packets)
    };
    // What was rewritten already is not to be rewritten again.
    let rewritable = |name: &str| if args.rewrite_mac { 0 } else { dropped(name) };
    let hints = [
        (
            rewritable("not_for_us"),
            "for a MAC address that is not tmm's; --rewrite-mac takes them as meant for tmm",
        ),
        (
            rewritable("bad_source_mac"),
            "from a MAC address no station has; --rewrite-mac replaces one of zero",
        ),
        (
            dropped("unknown_vlan"),
            "on no VLAN of the configuration; compare the VLAN tags of the capture, or that it has \
             none, and its port with tag and interfaces of the VLANs",
        ),
    ];
    let all: u64 = hints.iter().map(|(packets, _)| packets).sum();
    if all.saturating_mul(2) <= summary.frames {
        return Ok(());
    }
    for (packets, what) in hints.iter().filter(|(packets, _)| *packets > 0) {
        let frames = summary.frames;
        writeln!(out, "hint: {packets} of {frames} frames are {what}")?;
    }
    Ok(())
}

impl Sink for Files {
    fn frame(&mut self, port: PortId, at: Timestamp, octets: &[u8]) -> io::Result<()> {
        let Some((path, writer)) = self.writers.get_mut(usize::from(port.0)) else {
            return Ok(());
        };
        writer.write(at, octets).map_err(|error| {
            let kind = error.kind();
            self.failed = Some(ReplayError::Write {
                path: path.clone(),
                source: error,
            });
            kind.into()
        })
    }

    fn wants_steps(&self) -> bool {
        self.explain
    }

    fn step(&mut self, step: &Step) -> io::Result<()> {
        if self.json {
            let line = serde_json::to_string(step)?;
            writeln!(self.stdout, "{line}")
        } else {
            writeln!(self.stdout, "{step}")
        }
    }
}
