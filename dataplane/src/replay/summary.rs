//! What became of all frames of a replay.

use std::collections::BTreeMap;
use std::fmt;

use config::client::Show;
use crossbeam::channel::unbounded;
use net::{PortId, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::Replay;
use super::inputs::InputReport;
use crate::command::{Command, DumpPiece, FlowDump, FlowFilter};
use crate::control::show::{Answered, Row};
use crate::verdict::{Answer, DropReason, FlowStep};

/// The most flows listed; beyond, they are only counted.
const MAX_FLOWS: usize = 1000;

/// What happened in a replay. A function of the captures, the configuration and the seed alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// What keyed the hashes and random choices.
    pub seed: u64,
    /// Time of the first frame, nanoseconds since 1970.
    pub start: Timestamp,
    /// When the replay was over, nanoseconds since 1970.
    pub end: Timestamp,
    /// What was read.
    pub inputs: Vec<InputReport>,
    /// What was sent, by port.
    pub outputs: Vec<Output>,
    /// Frames replayed.
    pub frames: u64,
    /// First decisions about them; what is held is decided again when its next hop is known.
    pub verdicts: BTreeMap<String, u64>,
    /// How forwarded frames met their flows.
    pub forwarded: Vec<Count>,
    /// Answers that tmm gave by itself.
    pub answers: Vec<Count>,
    /// Why frames were dropped.
    pub drops: Vec<Count>,
    /// Frames that tmm sent by itself: questions for neighbours, announcements.
    pub originated: u64,
    /// Answers given to it on behalf of neighbours. They are in no other number of this summary.
    pub synthetic_answers: u64,
    /// Every counter, by name.
    pub counters: BTreeMap<String, u64>,
    /// Virtual servers.
    pub virtual_servers: Vec<Row>,
    /// Pool members.
    pub pools: Vec<Row>,
    /// Flows in the table at the end.
    pub flows_at_end: u64,
    /// The first of them.
    pub flows: Vec<Row>,
    /// Objects that are not carried out in full, and why.
    pub pending: Vec<Row>,
}

/// What was sent by a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Output {
    /// The port.
    pub port: String,
    /// Frames.
    pub frames: u64,
    /// Octets of those.
    pub octets: u64,
}

/// How often something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Its name, which is never changed.
    pub name: &'static str,
    /// How often.
    pub packets: u64,
    /// What it means.
    pub meaning: &'static str,
}

impl Replay {
    /// Sums up, after [`finish`](Self::finish).
    pub fn summary(&mut self, inputs: Vec<InputReport>) -> Summary {
        let mut counters = self.rig.control().counters();
        for (name, n) in &self.tally.discount {
            if let Some(counter) = counters.get_mut(name) {
                *counter = counter.saturating_sub(*n);
            }
        }
        let count = |kind: &str, name: &'static str, meaning: &'static str| Count {
            name,
            packets: counters
                .get(&format!("{kind}.{name}"))
                .copied()
                .unwrap_or(0),
            meaning,
        };
        let forwarded = FlowStep::ALL
            .iter()
            .map(|step| count("forwarded", step.label(), step.text()));
        let answers = Answer::ALL
            .iter()
            .map(|answer| count("answer", answer.label(), answer.text()));
        let drops = DropReason::ALL
            .iter()
            .map(|reason| count("drop", reason.label(), reason.text()));
        let happened = |counts: Vec<Count>| -> Vec<Count> {
            counts.into_iter().filter(|c| c.packets > 0).collect()
        };
        let (forwarded, answers, drops) = (
            happened(forwarded.collect()),
            happened(answers.collect()),
            happened(drops.collect()),
        );
        let flows = self.flows();
        Summary {
            seed: self.config.seed,
            start: self.start.unwrap_or_default(),
            end: self.now,
            inputs,
            outputs: self.outputs(),
            frames: self.tally.received.values().map(|(frames, _)| frames).sum(),
            verdicts: self
                .tally
                .verdicts
                .iter()
                .map(|(name, n)| ((*name).to_owned(), *n))
                .collect(),
            forwarded,
            answers,
            drops,
            originated: counters.get("originated_packets").copied().unwrap_or(0),
            synthetic_answers: self.tally.synthetic,
            counters,
            virtual_servers: self.table("virtual-servers"),
            pools: self.table("pools"),
            flows_at_end: self.rig.worker().pipeline().flows().len() as u64,
            flows,
            pending: self
                .table("config")
                .into_iter()
                .filter(|row| row.get("reason") != Some(&Value::from("Programmed")))
                .collect(),
        }
    }

    fn outputs(&self) -> Vec<Output> {
        (0..self.config.ports)
            .map(PortId)
            .map(|port| {
                let (frames, octets) = self.tally.sent.get(&port).copied().unwrap_or_default();
                Output {
                    port: port.to_string(),
                    frames,
                    octets,
                }
            })
            .collect()
    }

    fn table(&self, table: &str) -> Vec<Row> {
        let show = Show {
            table: table.to_owned(),
            ..Show::default()
        };
        match self.rig.control().show(&show, self.now) {
            Ok(Answered::Rows(rows)) => rows,
            _ => Vec::new(),
        }
    }

    /// The flows of the table, in order of client and destination.
    fn flows(&mut self) -> Vec<Row> {
        let (rows, dumped) = unbounded();
        let dump = FlowDump::new(0, FlowFilter::default(), self.now, rows);
        if let Some(worker) = self.rig.control().workers().first()
            && worker.commands.push(Command::Dump(dump)).is_err()
        {
            return Vec::new();
        }
        self.rig.advance(self.now);
        let mut flows = Vec::new();
        for piece in dumped.try_iter() {
            if let DumpPiece::Rows(rows) = piece {
                flows.extend(rows);
            }
        }
        flows.sort_by_key(|flow| flow.original);
        flows
            .iter()
            .take(MAX_FLOWS)
            .map(|flow| self.rig.control().flow_row(flow))
            .collect()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elapsed = self.end.since(self.start);
        writeln!(
            f,
            "{} frames replayed, {}.{:03} s of their clock",
            self.frames,
            elapsed.as_secs(),
            elapsed.subsec_millis()
        )?;
        for input in &self.inputs {
            write!(
                f,
                "  in   {}  {:>8} frames  {} ({})",
                input.port, input.frames, input.file, input.format
            )?;
            if input.cut_frames > 0 {
                write!(f, "; {} cut by the capture, left out", input.cut_frames)?;
            }
            if input.late_frames > 0 {
                write!(f, "; {} out of order", input.late_frames)?;
            }
            writeln!(f)?;
        }
        for output in &self.outputs {
            writeln!(
                f,
                "  out  {}  {:>8} frames  {} octets",
                output.port, output.frames, output.octets
            )?;
        }
        let verdicts: Vec<String> = self
            .verdicts
            .iter()
            .map(|(name, n)| format!("{name} {n}"))
            .collect();
        if !verdicts.is_empty() {
            writeln!(f, "verdicts: {}", verdicts.join(", "))?;
        }
        for (title, counts) in [
            ("forwarded", &self.forwarded),
            ("answered", &self.answers),
            ("dropped", &self.drops),
        ] {
            if !counts.is_empty() {
                writeln!(f, "{title}:")?;
            }
            for count in counts {
                writeln!(
                    f,
                    "  {:>8}  {:<26} {}",
                    count.packets, count.name, count.meaning
                )?;
            }
        }
        writeln!(
            f,
            "tmm itself sent {} frames; {} answers were given on behalf of neighbours",
            self.originated, self.synthetic_answers
        )?;
        self.fmt_services(f)?;
        writeln!(f, "flows at the end: {}", self.flows_at_end)?;
        for row in &self.flows {
            writeln!(
                f,
                "  {} {} > {}  to {} from {}  {}  {}",
                text(row, "protocol"),
                text(row, "client"),
                text(row, "destination"),
                text(row, "member"),
                text(row, "source"),
                text(row, "state"),
                text(row, "virtualServer"),
            )?;
        }
        let beyond = self.flows_at_end.saturating_sub(self.flows.len() as u64);
        if beyond > 0 {
            writeln!(f, "  and {beyond} more")?;
        }
        for row in &self.pending {
            writeln!(
                f,
                "not carried out in full: {} {}/{}: {}",
                text(row, "kind"),
                text(row, "namespace"),
                text(row, "name"),
                text(row, "message"),
            )?;
        }
        Ok(())
    }
}

impl Summary {
    fn fmt_services(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.virtual_servers.is_empty() {
            writeln!(f, "virtual servers:")?;
        }
        for row in &self.virtual_servers {
            writeln!(
                f,
                "  {}  {} {} port {}  {}, {} of {} members up  {} connections",
                text(row, "virtualServer"),
                text(row, "protocol"),
                text(row, "destination"),
                text(row, "port"),
                text(row, "state"),
                text(row, "membersUp"),
                text(row, "members"),
                text(row, "connectionsTotal"),
            )?;
        }
        if !self.pools.is_empty() {
            writeln!(f, "pool members:")?;
        }
        for row in &self.pools {
            writeln!(
                f,
                "  {}  {} port {}  {}  {} connections",
                text(row, "pool"),
                text(row, "member"),
                text(row, "port"),
                text(row, "state"),
                text(row, "connectionsTotal"),
            )?;
        }
        Ok(())
    }
}

/// A cell of a row, as people read it.
fn text(row: &Row, column: &str) -> String {
    match row.get(column) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}
