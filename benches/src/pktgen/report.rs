//! The outcome of a test, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::check::Mismatches;
use super::latency::Summary;
use super::search::Found;
use super::trial::{Opening, Trial};
use super::units::{scaled, span};

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Everything that came back was as it should be.
    Good,
    /// Frames came back that should not look as they do.
    Faulty,
    /// Nothing came back.
    Nothing,
    /// The user stopped it before there was anything to judge.
    Stopped,
}

/// What was tested, as far as figures depend on it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Test {
    /// What the device does: `balance`, `one-way`, `loop`.
    pub mode: String,
    /// `udp` or `tcp`.
    pub protocol: String,
    /// Flows.
    pub flows: u32,
    /// `sequential` or `random`.
    pub order: String,
    /// Port of the clients' side.
    pub client_port: String,
    /// Port of the servers' side, if it has its own.
    pub server_port: Option<String>,
    /// Tag of the clients' side.
    pub client_vlan: Option<u16>,
    /// Tag of the servers' side.
    pub server_vlan: Option<u16>,
    /// What is known of packet memory: `hugepages` or `4 KiB pages`.
    pub memory: String,
}

/// All trials with one mix of frame sizes.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The mix: a size, or a name.
    pub size: String,
    /// The sizes asked for, in order.
    pub octets: Vec<u16>,
    /// Mean of those sent, octets with the check sequence: larger where the stamp needs the room, as it
    /// does in the smallest frames of IPv6.
    pub mean_octets: f64,
    /// How the flows opened; absent where they are not.
    pub opening: Option<Opening>,
    /// The trials in order.
    pub trials: Vec<Trial>,
    /// What a search found.
    pub found: Option<Found>,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `tmm-pktgen` and its version.
    pub generator: String,
    /// Release of DPDK.
    pub dpdk: String,
    /// What was tested.
    pub test: Test,
    /// By frame size.
    pub runs: Vec<Run>,
    /// The first faulty frames, decoded.
    pub faulty_frames: Vec<String>,
    /// Stopped by the user.
    pub stopped: bool,
    /// How it ended.
    pub verdict: Verdict,
}

impl Report {
    /// How the trials so far would have a test end.
    pub fn judge(runs: &[Run], stopped: bool) -> Verdict {
        let trials = || runs.iter().flat_map(|run| &run.trials);
        if trials().any(|trial| trial.faulty > 0) {
            Verdict::Faulty
        } else if trials().any(|trial| trial.received > 0) {
            Verdict::Good
        } else if stopped {
            Verdict::Stopped
        } else {
            Verdict::Nothing
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let test = &self.test;
        writeln!(out, "{}, {}, {}", self.generator, self.dpdk, test.memory)?;
        write!(
            out,
            "{}: {} {} flows, {} order, clients on {}",
            test.mode, test.flows, test.protocol, test.order, test.client_port
        )?;
        if let Some(tag) = test.client_vlan {
            write!(out, " VLAN {tag}")?;
        }
        if let Some(port) = &test.server_port {
            write!(out, ", servers on {port}")?;
        }
        if let Some(tag) = test.server_vlan {
            write!(out, " VLAN {tag}")?;
        }
        writeln!(out)?;
        for run in &self.runs {
            run.write(out)?;
        }
        if !self.faulty_frames.is_empty() {
            writeln!(out, "\nfaulty frames, the first of them:")?;
            for line in &self.faulty_frames {
                writeln!(out, "  {line}")?;
            }
        }
        let words = match self.verdict {
            Verdict::Good => "every frame that came back was as it should be",
            Verdict::Faulty => "frames came back that are not as they should be",
            Verdict::Nothing => "nothing came back",
            Verdict::Stopped => "stopped before there was anything to judge",
        };
        let cut = if self.stopped { " (stopped early)" } else { "" };
        writeln!(out, "\nverdict: {words}{cut}")
    }
}

impl Run {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\nframe size {} ({:.0} octets on average)",
            self.size, self.mean_octets
        )?;
        if let Some(opening) = &self.opening {
            writeln!(
                out,
                "  {} of {} flows opened in {:.2} s",
                opening.open, opening.flows, opening.seconds
            )?;
        }
        let connections = self.trials.iter().any(|trial| trial.connections);
        let unit = if connections { "cps" } else { "pps" };
        if !self.trials.is_empty() {
            writeln!(
                out,
                "  {:<10} {:>12} {:>12} {:>12} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}",
                "phase",
                "asked",
                "sent",
                "received",
                "lost",
                "loss",
                "p50",
                "p99",
                "p99.9",
                "p99.99",
                "max",
                "faulty"
            )?;
        }
        for trial in &self.trials {
            let asked = trial.asked_per_second.map_or_else(
                || "max".to_owned(),
                |rate| format!("{}{unit}", scaled(rate)),
            );
            let latency = &trial.latency;
            writeln!(
                out,
                "  {:<10} {:>12} {:>12} {:>12} {:>10} {:>8.4}% {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}",
                trial.phase,
                asked,
                format!("{}{unit}", scaled(trial.sent_per_second)),
                format!("{}{unit}", scaled(trial.received_per_second)),
                trial.lost,
                trial.loss * 100.0,
                span(latency.p50_ns),
                span(latency.p99_ns),
                span(latency.p999_ns),
                span(latency.p9999_ns),
                span(latency.max_ns),
                trial.faulty,
            )?;
        }
        for trial in &self.trials {
            trial.write_oddities(out)?;
        }
        if let Some(found) = &self.found {
            match found.packets_per_second {
                Some(rate) => {
                    let bits = rate * 8.0 * (self.mean_octets + 20.0);
                    write!(out, "  highest rate without loss: {}{unit}", scaled(rate))?;
                    if !connections {
                        write!(out, " ({}bit/s on the wire)", scaled(bits))?;
                    }
                    writeln!(
                        out,
                        "{}",
                        if found.limited_by_generator {
                            "; more could not be offered: the generator is the limit, or a port that holds it back"
                        } else {
                            ""
                        }
                    )?;
                }
                None => writeln!(out, "  no rate without loss was found")?,
            }
        }
        Ok(())
    }
}

impl Trial {
    /// What does not fit into a row, and is zero when all is well.
    fn write_oddities(&self, out: &mut String) -> std::fmt::Result {
        let (client, server) = (&self.client, &self.server);
        let mut notes = Vec::new();
        let mut note = |count: u64, text: &str| {
            if count > 0 {
                notes.push(format!("{count} {text}"));
            }
        };
        note(self.lost_on_the_way_there, "lost before the servers' side");
        note(client.duplicates, "duplicates");
        note(client.reordered, "reordered");
        note(client.late + server.late, "of an earlier trial");
        note(client.resets + server.resets, "TCP resets");
        note(client.failed, "connections failed");
        // As fast as possible is as fast as flows come free.
        let starved = self.asked_per_second.map_or(0, |_| client.starved);
        note(
            starved,
            "connections not begun for want of a free flow: ask for more flows",
        );
        note(client.icmp + server.icmp, "ICMP messages");
        note(
            self.not_offered,
            "due but not sent, as the generator was held up",
        );
        note(client.no_buffer, "not sent for want of buffers");
        if !notes.is_empty() {
            writeln!(out, "    {}: {}", self.phase, notes.join(", "))?;
        }
        for (side, mismatches) in [
            ("clients", &client.mismatches),
            ("servers", &server.mismatches),
        ] {
            if let Some(text) = kinds(mismatches) {
                writeln!(out, "    faults on the {side}' side: {text}")?;
            }
        }
        Ok(())
    }
}

fn kinds(mismatches: &Mismatches) -> Option<String> {
    let all: Vec<String> = mismatches
        .iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// A distribution in one line.
pub fn latency_line(summary: &Summary) -> String {
    format!(
        "p50 {}, p99 {}, max {}",
        span(summary.p50_ns),
        span(summary.p99_ns),
        span(summary.max_ns)
    )
}
