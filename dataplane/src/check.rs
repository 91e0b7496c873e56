//! The command `tmm check`: validates custom resources offline.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use config::document::{self, Document, Problem, ReadError};
use config::{Config, Limits, ObjectState, State};
use net::Timestamp;
use serde_json::{Value, json};

use crate::compile::parse_interface;
use crate::rig::{Rig, RigConfig};

/// Validate custom resources without a running tmm.
///
/// Tells everything that is wrong at once, each with file, document and field; then how far each
/// object would come: Programmed, Pending (it waits for something that is not in these files) or
/// Error (it contradicts another object).
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 valid; 1 something is wrong, or a file can not be read; 2 \
wrong usage. Objects that wait for others are valid, unless --strict says otherwise."
)]
pub struct CheckArgs {
    /// Files or directories of YAML or JSON; - is standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Which position of the self IP lists is ours, from 0.
    #[arg(long, default_value_t = 0)]
    replica: usize,

    /// How many ports tmm will have; without it, as many as the VLANs name.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    ports: Option<u8>,

    /// Objects that wait for others count as wrong.
    #[arg(long)]
    strict: bool,

    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// What was found out.
struct Findings {
    unreadable: Vec<String>,
    documents: usize,
    problems: Vec<Problem>,
    states: Vec<ObjectState>,
}

/// Carries out `tmm check`.
pub fn run(args: &CheckArgs) -> ExitCode {
    let findings = examine(args);
    let valid = findings.valid(args.strict);
    let mut out = io::stdout().lock();
    let printed = if args.json {
        writeln!(out, "{}", findings.json(valid))
    } else {
        findings.print(&mut out)
    };
    match printed.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("tmm: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
        _ if valid => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn examine(args: &CheckArgs) -> Findings {
    let mut documents: Vec<Document> = Vec::new();
    let mut unreadable = Vec::new();
    let mut take = |read: Result<Vec<Document>, ReadError>| match read {
        Ok(found) => documents.extend(found),
        Err(error) => unreadable.push(error.to_string()),
    };
    for path in &args.files {
        if path.as_os_str() == "-" {
            take(document::read_from("-", io::stdin().lock().by_ref()));
            continue;
        }
        // File by file, so that one that can not be read does not hide the others.
        match document::files(path) {
            Ok(files) => files
                .iter()
                .for_each(|file| take(document::read_file(file))),
            Err(error) => take(Err(error)),
        }
    }
    let (store, problems) = document::load(&documents, Limits::default());
    let (config, states) = config::resolve(&store, args.replica);
    let objects: Vec<Value> = store
        .iter()
        .filter_map(|(_, stored)| serde_json::from_str(&stored.text).ok())
        .collect();
    let states = program(args, &config, &objects).unwrap_or(states);
    Findings {
        unreadable,
        documents: documents.len(),
        problems,
        states,
    }
}

/// How far the objects come in a tmm in memory, which knows of ports too.
fn program(args: &CheckArgs, config: &Config, objects: &[Value]) -> Option<Vec<ObjectState>> {
    let named = config
        .vlans
        .iter()
        .flat_map(|vlan| &vlan.interfaces)
        .filter_map(|name| parse_interface(name));
    let ports = args.ports.unwrap_or_else(|| {
        named
            .map(|port| port.0.saturating_add(1))
            .max()
            .unwrap_or(1)
    });
    let mut rig = Rig::new(&RigConfig {
        ports,
        replica: args.replica,
        flow_capacity: 1,
        ..RigConfig::default()
    });
    rig.apply(objects).ok()?;
    rig.advance(Timestamp::ZERO);
    Some(rig.states().to_vec())
}

impl Findings {
    fn valid(&self, strict: bool) -> bool {
        let worst = if strict {
            State::Programmed
        } else {
            State::Pending
        };
        self.unreadable.is_empty()
            && self.problems.is_empty()
            && self.states.iter().all(|state| state.state <= worst)
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for error in &self.unreadable {
            writeln!(out, "{error}")?;
        }
        for problem in &self.problems {
            writeln!(out, "{problem}")?;
        }
        for state in &self.states {
            write!(out, "{}: {:?}", state.key, state.state)?;
            if state.reasons.is_empty() {
                writeln!(out)?;
            } else {
                writeln!(out, ": {}", state.message())?;
            }
        }
        let wrong: usize = self.problems.iter().map(|p| p.errors.len()).sum();
        let errors = wrong + self.unreadable.len();
        let s = |number: usize| if number == 1 { "" } else { "s" };
        let of = |wanted| self.states.iter().filter(|s| s.state == wanted).count();
        writeln!(
            out,
            "{} document{}: {} programmed, {} pending, {} in conflict, {errors} error{}",
            self.documents,
            s(self.documents),
            of(State::Programmed),
            of(State::Pending),
            of(State::Error),
            s(errors),
        )
    }

    fn json(&self, valid: bool) -> Value {
        let problems: Vec<Value> = self
            .problems
            .iter()
            .map(|problem| {
                json!({
                    "file": problem.source.name,
                    "document": problem.source.document,
                    "item": problem.source.item,
                    "line": problem.source.line,
                    "kind": problem.identity.kind,
                    "namespace": problem.identity.namespace,
                    "name": problem.identity.name,
                    "errors": problem.errors,
                })
            })
            .collect();
        let states: Vec<Value> = self
            .states
            .iter()
            .map(|state| {
                json!({
                    "kind": state.key.kind.name(),
                    "namespace": state.key.namespace,
                    "name": state.key.name,
                    "state": state.state,
                    "reasons": state.reasons,
                })
            })
            .collect();
        json!({
            "valid": valid,
            "documents": self.documents,
            "unreadable": self.unreadable,
            "problems": problems,
            "states": states,
        })
    }
}
