//! Plays a scenario and writes down what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use config::client::Show;
use conntrack::{Cursor, Direction};
use dataplane::control::show::Answered;
use dataplane::memory::MemoryFrame;
use dataplane::rig::{Nic, Rig, RigConfig, port_mac};
use dataplane::verdict::Verdict;
use lb::snat::PortStripe;
use net::emit::ethernet;
use net::{Encap, MacAddr, PortId, Timestamp};

use super::report::Snapshot;
use super::truth::falsehood;
use super::{decode, names, objects, wire};

type Result<T> = std::result::Result<T, String>;

/// When scenarios begin.
const START: Timestamp = Timestamp::from_secs(1);

/// What became of a scenario.
#[derive(Debug)]
pub struct Played {
    /// The scenario as it should read: its commands, and all that followed from each.
    pub transcript: String,
    /// The counters that were more than zero at some time.
    pub touched: BTreeSet<String>,
}

/// Plays the scenario `text`; `folder` is where `use` finds others.
///
/// Errors: the line that makes no sense.
pub fn play(text: &str, folder: &Path) -> Result<Played> {
    let mut stage = Stage::new(folder);
    for (number, line) in text.lines().enumerate() {
        let at = |error: String| format!("line {}: {line}: {error}", number + 1);
        if line.starts_with("  ") {
            continue; // what was expected
        }
        stage.out.push(line.to_owned());
        stage.command(line.trim_end()).map_err(at)?;
    }
    let mut transcript = stage.out.join("\n");
    transcript.push('\n');
    Ok(Played {
        transcript,
        touched: stage.touched,
    })
}

/// A station that answers for its addresses.
struct Station {
    mac: MacAddr,
    port: PortId,
    encap: Encap,
    addresses: Vec<IpAddr>,
}

/// tmm, the stations around it and the time: what commands act on.
pub struct Stage<'a> {
    folder: &'a Path,
    config: RigConfig,
    stripe: PortStripe,
    rig: Option<Rig>,
    now: Timestamp,
    stations: BTreeMap<String, Station>,
    /// Ports in one segment.
    joined: Vec<Vec<PortId>>,
    before: Snapshot,
    touched: BTreeSet<String>,
    out: Vec<String>,
}

impl<'a> Stage<'a> {
    /// A stage before its first command; `folder` is where `use` finds other scenarios.
    pub fn new(folder: &'a Path) -> Self {
        Self {
            folder,
            config: RigConfig::default(),
            stripe: PortStripe::whole(),
            rig: None,
            now: START,
            stations: BTreeMap::new(),
            joined: Vec::new(),
            before: Snapshot::default(),
            touched: BTreeSet::new(),
            out: Vec::new(),
        }
    }

    /// Carries out one command; gives the lines that follow from it.
    ///
    /// Errors: what makes no sense about it.
    pub fn run(&mut self, line: &str) -> Result<Vec<String>> {
        self.out.clear();
        self.command(line)?;
        Ok(std::mem::take(&mut self.out))
    }

    /// The tmm that the commands are played to.
    pub fn rig(&mut self) -> &mut Rig {
        let Self {
            rig,
            config,
            stripe,
            ..
        } = self;
        rig.get_or_insert_with(|| Rig::with_stripe(config, *stripe))
    }

    fn command(&mut self, line: &str) -> Result<()> {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        match command {
            "" | "#" => return Ok(()),
            "rig" => return self.configure(rest),
            "use" => return self.include(rest),
            "apply" | "delete" => return self.objects(command, rest),
            ">>" => {
                let (port, frame) = wire::frame(rest)?;
                self.send(port, frame);
                return Ok(());
            }
            "join" => {
                let ports = rest.split_whitespace().map(names::port);
                let ports: Option<Vec<PortId>> = ports.collect();
                self.joined.push(ports.ok_or("no such port")?);
                return Ok(());
            }
            "station" => return self.station(rest),
            "gone" => {
                self.stations.remove(rest);
                return Ok(());
            }
            "txroom" => return self.tx_room(rest),
            "link" => self.link(rest)?,
            ">" => {
                let (port, frame) = wire::frame(rest)?;
                self.send(port, frame);
                self.settle(None);
            }
            "go" | "publish" => self.settle(None),
            "wait" => self.wait(rest)?,
            "flows" => self.show_flows(),
            "snat" => self.show(
                "snat-pools",
                &["snatPool", "connections", "exhausted", "mappingsRefused"],
            )?,
            "neighbors" => self.show("neighbors", &["vlan", "address", "mac", "state"])?,
            "segments" => self.show("vlans", &["vlan", "segments"])?,
            "states" => self.show_states(),
            "health" => self.show("health", &["probe", "check", "ok", "reason", "message"])?,
            "drain" => {
                let limit = seconds(rest).ok_or("drain 30s")?;
                let now = self.now;
                self.rig().control_mut().start_drain(limit, now);
                self.settle(None);
            }
            "drained" => {
                let now = self.now;
                // Asked twice: the first question has the workers count.
                self.rig().control_mut().drained(now);
                self.settle(None);
                let drained = self.rig().control_mut().drained(now);
                self.out.push(format!("  {drained:?}"));
            }
            other => return Err(format!("no command is called {other}")),
        }
        self.count();
        Ok(())
    }

    /// A station's frame arrives; one to everybody at all ports of the segment.
    fn send(&mut self, port: PortId, frame: MemoryFrame) {
        for other in self.beside(port, &frame) {
            self.rig().send(other, frame.clone());
        }
        self.rig().send(port, frame);
    }

    /// The other ports that hear a frame which is on the wire of one.
    fn beside(&self, port: PortId, frame: &MemoryFrame) -> Vec<PortId> {
        let to_all = frame.octets().first().is_some_and(|octet| octet & 1 != 0);
        let segments = self.joined.iter().filter(|ports| ports.contains(&port));
        let others = segments.flatten().copied().filter(|other| *other != port);
        if to_all { others.collect() } else { Vec::new() }
    }

    /// Whether two ports are in one segment.
    fn are_joined(&self, one: PortId, other: PortId) -> bool {
        let both = |ports: &&Vec<PortId>| ports.contains(&one) && ports.contains(&other);
        one == other || self.joined.iter().any(|ports| both(&ports))
    }

    fn configure(&mut self, rest: &str) -> Result<()> {
        if self.rig.is_some() {
            return Err("tmm runs already".to_owned());
        }
        for word in rest.split_whitespace() {
            let wrong = || format!("what is {word}?");
            let (key, value) = word.split_once('=').ok_or_else(wrong)?;
            if key == "stripe" {
                let (first, last) = value.split_once('-').ok_or_else(wrong)?;
                let port = |text: &str| text.parse().map_err(|_| wrong());
                self.stripe = PortStripe::new(0, 1, port(first)?, port(last)?)
                    .map_err(|error| error.to_string())?;
                continue;
            }
            if key == "nic" {
                self.config.nic = match value {
                    "tuple" => Nic::Tuple,
                    "source" => Nic::Source,
                    "destination" => Nic::Destination,
                    "turns" => Nic::RoundRobin,
                    "one-queue" => Nic::OneQueue,
                    _ => return Err(wrong()),
                };
                continue;
            }
            if key == "straight" {
                self.config.straight_way = match value {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(wrong()),
                };
                continue;
            }
            let number: u16 = value.parse().map_err(|_| wrong())?;
            match key {
                "workers" => self.config.workers = number,
                "flows" => self.config.flow_capacity = usize::from(number),
                "replica" => self.config.replica = usize::from(number),
                "ports" => self.config.ports = u8::try_from(number).map_err(|_| wrong())?,
                "seed" => self.config.seed = u64::from(number),
                "icmp" => self.config.icmp_errors_per_second = u32::from(number),
                "mtu" => self.config.default_mtu = number,
                _ => return Err(wrong()),
            }
        }
        Ok(())
    }

    /// What comes from another file is not shown; its counters are not counted here.
    fn include(&mut self, name: &str) -> Result<()> {
        let path = self.folder.join(format!("{name}.scn"));
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let shown = self.out.len();
        for line in text.lines().filter(|line| !line.starts_with("  ")) {
            self.command(line.trim_end())
                .map_err(|error| format!("{name}: {line}: {error}"))?;
        }
        self.out.truncate(shown);
        Ok(())
    }

    fn objects(&mut self, command: &str, rest: &str) -> Result<()> {
        let object = objects::object(rest)?;
        let result = if command == "apply" {
            self.rig().apply(&[object])
        } else {
            self.rig().delete(&[object])
        };
        for error in result.err().into_iter().flatten() {
            self.out
                .push(format!("  ! {}: {}", error.field, error.message));
        }
        Ok(())
    }

    fn station(&mut self, rest: &str) -> Result<()> {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let [name, port, tags, addresses @ ..] = words.as_slice() else {
            return Err("station NAME PORT TAGS ADDRESS…".to_owned());
        };
        let addresses: std::result::Result<Vec<IpAddr>, _> =
            addresses.iter().map(|text| text.parse()).collect();
        let station = Station {
            mac: wire::station(name)?,
            port: names::port(port).ok_or("no such port")?,
            encap: wire::encap(tags)?,
            addresses: addresses.map_err(|_| "not an address")?,
        };
        self.stations.insert((*name).to_owned(), station);
        Ok(())
    }

    fn tx_room(&mut self, rest: &str) -> Result<()> {
        let mut words = rest.split_whitespace();
        let port = words.next().and_then(names::port).ok_or("no such port")?;
        let room = words.next().map(str::parse).transpose();
        let room = room.map_err(|_| "txroom PORT N")?;
        if let Some(wire) = self.rig().wire(port) {
            wire.limit_tx(room);
        }
        Ok(())
    }

    fn link(&mut self, rest: &str) -> Result<()> {
        let (port, state) = rest.split_once(' ').ok_or("link PORT up|down")?;
        let port = names::port(port).ok_or("no such port")?;
        let now = self.now;
        self.rig().control_mut().set_link(port, state == "up", now);
        self.settle(None);
        Ok(())
    }

    /// Lets tmm work at this time until nothing moves any more, stations included.
    fn settle(&mut self, stamp: Option<Timestamp>) {
        loop {
            let now = self.now;
            let mut verdicts = Vec::new();
            let rig = self.rig();
            rig.advance_with(now, |_, _, verdict| verdicts.push(describe(verdict)));
            let mut lines = Vec::new();
            let mut answers = Vec::new();
            for port in (0..self.config.ports).map(PortId) {
                while let Some(frame) = self.rig().receive(port) {
                    if let Some(lie) = falsehood(self.rig(), port, &frame) {
                        lines.push(format!("! {lie}"));
                    }
                    for other in self.beside(port, &frame) {
                        answers.push((other, frame.clone()));
                    }
                    match self.answer(port, &frame) {
                        Some(answer) => answers.push((port, answer)),
                        None => lines.push(decode::frame(port, &frame)),
                    }
                }
            }
            let stamp = stamp.map_or_else(String::new, |now| {
                format!("{:.3}s: ", now.since(START).as_secs_f64())
            });
            for line in verdicts {
                self.out.push(format!("  {stamp}= {line}"));
            }
            for line in lines {
                self.out.push(format!("  {stamp}{line}"));
            }
            if answers.is_empty() {
                break;
            }
            for (port, answer) in answers {
                self.rig().send(port, answer);
            }
        }
    }

    /// What a station answers to a question that tmm asked.
    fn answer(&self, port: PortId, frame: &MemoryFrame) -> Option<MemoryFrame> {
        let octets = frame.octets();
        self.stations.values().find_map(|station| {
            let l3 = octets.get(station.encap.header_len()..)?;
            let tagged = ethernet(port_mac(port), MacAddr::ZERO, station.encap, 0, &[]);
            let same_vlan =
                tagged.get(12..tagged.len() - 2) == octets.get(12..station.encap.header_len() - 2);
            let to = MacAddr(*octets.first_chunk::<6>()?);
            if !self.are_joined(station.port, port)
                || !same_vlan
                || (to != station.mac && !to.is_group())
            {
                return None;
            }
            let kind = *octets
                .get(station.encap.header_len() - 2..)?
                .first_chunk::<2>()?;
            let (kind, l3) = match kind {
                [0x08, 0x06] => (0x0806, station.arp(l3)?),
                [0x86, 0xdd] => (0x86dd, station.neighbor_advertisement(l3)?),
                _ => return None,
            };
            let to = port_mac(port);
            Some(MemoryFrame::new(&ethernet(
                to,
                station.mac,
                station.encap,
                kind,
                &l3,
            )))
        })
    }

    fn wait(&mut self, text: &str) -> Result<()> {
        let end = self.now + seconds(text).ok_or("wait 1.5s")?;
        while self.now < end {
            // A second at most: not everything that happens by itself is announced.
            let due = self.rig().next_deadline().unwrap_or(end);
            let least = self.now + Duration::from_millis(1);
            let most = self.now + Duration::from_secs(1);
            self.now = due.max(least).min(most).min(end);
            self.settle(Some(self.now));
        }
        Ok(())
    }

    fn show_flows(&mut self) {
        let flows = self.rig().worker().pipeline().flows();
        let mut lines: Vec<String> = flows
            .iter_from(Cursor::default(), usize::MAX)
            .0
            .map(|(_, flow)| {
                let key = |key: &net::FlowKey| {
                    format!("{} {} > {} {}", key.src, key.sport(), key.dst, key.dport())
                };
                format!(
                    "  {} | {} | {} {}/{}",
                    key(&flow.original()),
                    key(&flow.translated(Direction::Original)),
                    flow.state(),
                    flow.packets(Direction::Original),
                    flow.packets(Direction::Reply),
                )
            })
            .collect();
        lines.sort();
        self.out.append(&mut lines);
    }

    fn show(&mut self, table: &str, columns: &[&str]) -> Result<()> {
        let now = self.now;
        let show = Show {
            table: table.to_owned(),
            filter: serde_json::Map::new(),
            limit: None,
        };
        let answered = self.rig().control().show(&show, now);
        let Ok(Answered::Rows(rows)) = answered else {
            return Err(format!("no table {table}"));
        };
        for row in rows {
            let cells: Vec<String> = columns
                .iter()
                .map(|column| {
                    let text = row.get(*column).map_or_else(String::new, |value| {
                        value
                            .as_str()
                            .map_or_else(|| value.to_string(), str::to_owned)
                    });
                    text.parse().map_or(text, names::of)
                })
                .collect();
            self.out.push(format!("  {}", cells.join(" ")));
        }
        Ok(())
    }

    fn show_states(&mut self) {
        let lines: Vec<String> = self
            .rig()
            .states()
            .iter()
            .map(|state| {
                let message = state.message();
                let message = if message.is_empty() {
                    String::new()
                } else {
                    format!(": {message}")
                };
                format!("  {} {}{message}", state.key, state.reason())
            })
            .collect();
        self.out.extend(lines);
    }

    /// Says what the last command did to the counters.
    fn count(&mut self) {
        let after = Snapshot::of(self.rig());
        for line in self.before.changes(&after) {
            self.out.push(format!("  {line}"));
        }
        self.touched.extend(after.touched().map(str::to_owned));
        self.before = after;
    }
}

impl Station {
    fn arp(&self, l3: &[u8]) -> Option<Vec<u8>> {
        let v4 = |at: usize| Some(std::net::Ipv4Addr::from(*l3.get(at..)?.first_chunk::<4>()?));
        let (asks, target) = (v4(14)?, v4(24)?);
        if *l3.get(7)? != 1 || asks == target || !self.addresses.contains(&target.into()) {
            return None;
        }
        let asker = MacAddr(*l3.get(8..)?.first_chunk::<6>()?);
        Some(wire::arp_octets(2, (self.mac, target), (asker, asks)))
    }

    fn neighbor_advertisement(&self, l3: &[u8]) -> Option<Vec<u8>> {
        let v6 = |at: usize| {
            Some(std::net::Ipv6Addr::from(
                *l3.get(at..)?.first_chunk::<16>()?,
            ))
        };
        let (asks, target) = (v6(8)?, v6(48)?);
        if *l3.get(6)? != 58 || *l3.get(40)? != 135 || !self.addresses.contains(&target.into()) {
            return None;
        }
        Some(wire::advertisement(target, asks, self.mac))
    }
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn describe(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Transmit(port, step) => format!("forwarded {} by {port}", step.label()),
        Verdict::Reply(port, answer) => format!("answered {} by {port}", answer.label()),
        Verdict::Hold(held, step) => format!("held {} for {}", step.label(), held.next_hop),
        Verdict::Hairpin(_, step) => format!("hairpin {}", step.label()),
        Verdict::Handoff(worker) => format!("handed to worker {worker}"),
        Verdict::Cut(port, step, _) => format!("forwarded {} in fragments by {port}", step.label()),
        Verdict::Gather(worker) => format!("gathered by worker {worker}"),
        Verdict::Wait(_) => "waits for its first fragment".to_owned(),
        Verdict::Consumed => "consumed".to_owned(),
        Verdict::Drop(reason) => format!("dropped {}", reason.label()),
    }
}
