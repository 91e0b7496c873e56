//! What became of a frame, and why, in a line for people or for machines.

use std::fmt;

use conntrack::Direction;
use net::emit::macs;
use net::header::{Arp, Ethernet, Ipv4, Ipv6, ethertype, tcp_flags, view};
use net::tag::{TPID_8021AD, TPID_8021Q};
use net::{Encap, Fragment, IpProto, L4Port, Layers, MacAddr, Network, PortId, Timestamp};
use serde::Serialize;

use super::{Replay, Seen, parse};
use crate::verdict::Verdict;

/// One line of an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Position of the frame among those of all captures, from 1; none for what tmm sends by itself.
    pub frame: Option<u64>,
    /// When, nanoseconds since 1970.
    pub time: Timestamp,
    /// When, nanoseconds since the start of the replay.
    pub since_start: u64,
    /// The port it came in by; none for what tmm sends by itself.
    pub port: Option<String>,
    /// The VLAN it arrived on.
    pub vlan: Option<String>,
    /// Its tags.
    pub tag: String,
    /// What it is: protocol, addresses, ports, flags.
    pub what: String,
    /// The decision: a name that is never changed, see `tmmctl show drops`.
    pub decision: &'static str,
    /// The decision in words.
    pub reason: String,
    /// The virtual server whose flow it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_server: Option<String>,
    /// The pool member that serves the flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The address and port that the member sees instead of the client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snat: Option<String>,
    /// The state that its flow is in then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// What it was made into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<Leaving>,
}

/// A frame as it leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leaving {
    /// By which port; none while it waits for its next hop.
    pub port: Option<String>,
    /// On which VLAN.
    pub vlan: Option<String>,
    /// Its tags.
    pub tag: String,
    /// Source MAC address.
    pub source_mac: MacAddr,
    /// Destination MAC address; none while it is not known.
    pub destination_mac: Option<MacAddr>,
    /// What it is now.
    pub what: String,
}

/// A verdict's name in the summary.
pub(super) const fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Transmit(..) => "transmit",
        Verdict::Reply(..) => "reply",
        Verdict::Hold(..) => "hold",
        Verdict::Cut(..) => "cut",
        Verdict::Hairpin(..) => "hairpin",
        Verdict::Gather(_) => "gather",
        Verdict::Wait(_) => "wait",
        Verdict::Handoff(_) => "handoff",
        Verdict::Consumed => "consumed",
        Verdict::Drop(_) => "drop",
    }
}

/// Explains what was decided about a frame that arrived as `before`.
pub(super) fn frame(replay: &Replay, before: &[u8], seen: &Seen) -> Step {
    let tables = replay.rig.control().tables();
    let layers = parse(before, &mut Vec::new()).ok();
    let encap = layers
        .map(|layers| layers.encap)
        .or_else(|| encap_of(before));
    let vlan = encap.and_then(|encap| tables.vlans.demux(seen.port, encap));
    let (decision, reason, egress) = match &seen.verdict {
        Verdict::Transmit(port, step) => (step.label(), step.text().to_owned(), Some(Some(*port))),
        Verdict::Reply(port, answer) => {
            (answer.label(), answer.text().to_owned(), Some(Some(*port)))
        }
        Verdict::Hold(held, step) => {
            let reason = format!(
                "{}; waits for the MAC address of {}",
                step.text(),
                held.next_hop
            );
            (step.label(), reason, Some(None))
        }
        Verdict::Cut(port, step, _) => (
            step.label(),
            format!("{}; in fragments", step.text()),
            Some(Some(*port)),
        ),
        Verdict::Hairpin(_, step) => (
            "hairpin",
            format!(
                "{}; to an address that clients are translated to, so taken again as if from outside",
                step.text()
            ),
            None,
        ),
        Verdict::Gather(worker) => (
            "gather",
            format!("handed to worker {worker}, which sees all fragments of the datagram"),
            None,
        ),
        Verdict::Wait(_) => (
            "wait",
            "waits for the first fragment of its datagram".to_owned(),
            None,
        ),
        Verdict::Handoff(worker) => ("handoff", format!("handed to worker {worker}"), None),
        Verdict::Consumed => (
            "consumed",
            "told us something and needs no answer".to_owned(),
            None,
        ),
        Verdict::Drop(reason) => (reason.label(), reason.text().to_owned(), None),
    };
    let mut step = Step {
        frame: Some(
            replay
                .tally
                .received
                .values()
                .map(|(frames, _)| frames)
                .sum(),
        ),
        time: replay.now,
        since_start: since_start(replay),
        port: Some(seen.port.to_string()),
        vlan: vlan.map(|vlan| vlan.name.clone()),
        tag: encap.map_or_else(String::new, |encap| encap.to_string()),
        what: what(before, layers.as_ref()),
        decision,
        reason,
        virtual_server: None,
        member: None,
        snat: None,
        state: layers.and_then(|layers| state_of(replay, &layers)),
        out: egress.map(|port| leaving(replay, port, &seen.after)),
    };
    if matches!(seen.verdict, Verdict::Transmit(..) | Verdict::Hold(..))
        && let Some(layers) = layers
    {
        step.name_flow(replay, &layers);
    }
    step
}

/// Explains a frame that left without one having arrived.
pub(super) fn sent(replay: &Replay, port: PortId, octets: &[u8]) -> Step {
    let layers = parse(octets, &mut Vec::new()).ok();
    // ARP and ICMP are never forwarded, so these are tmm's own.
    let own = layers.is_some_and(|layers| {
        layers.network == Network::Arp
            || matches!(layers.key.proto, IpProto::ICMP | IpProto::ICMPV6)
    });
    let (decision, reason) = if own {
        ("originated", "sent by tmm itself")
    } else {
        ("released", "waited for its next hop, which is known now")
    };
    Step {
        frame: None,
        time: replay.now,
        since_start: since_start(replay),
        port: None,
        vlan: None,
        tag: String::new(),
        what: String::new(),
        decision,
        reason: reason.to_owned(),
        virtual_server: None,
        member: None,
        snat: None,
        state: None,
        out: Some(leaving(replay, Some(port), octets)),
    }
}

fn since_start(replay: &Replay) -> u64 {
    let since = replay.now.since(replay.start.unwrap_or(replay.now));
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn leaving(replay: &Replay, port: Option<PortId>, octets: &[u8]) -> Leaving {
    let tables = replay.rig.control().tables();
    let layers = parse(octets, &mut Vec::new()).ok();
    let encap = layers.map_or(Encap::UNTAGGED, |layers| layers.encap);
    let (source_mac, destination_mac) = macs(octets);
    let vlan = match port {
        Some(port) => tables.vlans.demux(port, encap),
        None => tables.vlans.iter().find(|vlan| vlan.encap == encap),
    };
    Leaving {
        port: port.map(|port| port.to_string()),
        vlan: vlan.map(|vlan| vlan.name.clone()),
        tag: encap.to_string(),
        source_mac,
        destination_mac: (destination_mac != MacAddr::ZERO).then_some(destination_mac),
        what: what(octets, layers.as_ref()),
    }
}

/// The state of the flow that a packet belongs to.
fn state_of(replay: &Replay, layers: &Layers) -> Option<&'static str> {
    let flows = replay.rig.worker().pipeline().flows();
    let (id, _) = flows.lookup(&layers.key)?;
    flows.get(id).map(|flow| flow.state().name())
}

impl Step {
    /// Adds whose flow the packet belongs to.
    fn name_flow(&mut self, replay: &Replay, layers: &Layers) {
        let flows = replay.rig.worker().pipeline().flows();
        let tables = replay.rig.control().tables();
        let Some((id, _)) = flows.lookup(&layers.key) else {
            return;
        };
        let Some(flow) = flows.get(id) else {
            return;
        };
        let data = flow.data();
        self.virtual_server = tables
            .virtual_servers
            .get(data.virtual_server)
            .map(|server| server.name.clone());
        let towards = flow.translated(Direction::Original);
        self.member = Some(end(&towards.dst, towards.dport()));
        let original = &flow.original();
        if (towards.src, towards.sport()) != (original.src, original.sport()) {
            self.snat = Some(end(&towards.src, towards.sport()));
        }
    }
}

fn end(addr: &net::Addr, port: L4Port) -> String {
    if addr.is_v4() {
        format!("{addr}:{port}")
    } else {
        format!("[{addr}]:{port}")
    }
}

/// What a frame is, as far as it can be told.
fn what(octets: &[u8], layers: Option<&Layers>) -> String {
    let Some(layers) = layers else {
        return damaged(octets);
    };
    match layers.network {
        Network::Arp => arp(octets, layers),
        Network::Other(kind) => format!("ethertype 0x{kind:04x}"),
        Network::Ipv4 | Network::Ipv6 => ip(octets, layers),
    }
}

/// What can be told of a frame that is not well formed.
fn damaged(octets: &[u8]) -> String {
    let len = octets.len();
    let Some((l3, kind)) = behind_tags(octets) else {
        return format!("{len} octets");
    };
    match kind {
        ethertype::IPV4 => match view::<Ipv4>(octets, l3) {
            Some(ip) => format!(
                "{} {} > {}, {len} octets",
                IpProto(ip.proto),
                net::Addr::from_v4(ip.src),
                net::Addr::from_v4(ip.dst)
            ),
            None => format!("ipv4, {len} octets"),
        },
        ethertype::IPV6 => match view::<Ipv6>(octets, l3) {
            Some(ip) => format!(
                "ipv6 {} > {}, {len} octets",
                net::Addr::from_v6(ip.src),
                net::Addr::from_v6(ip.dst)
            ),
            None => format!("ipv6, {len} octets"),
        },
        kind => format!("ethertype 0x{kind:04x}, {len} octets"),
    }
}

/// Where the network header of a frame begins that need not be well formed otherwise, and its
/// ethertype.
fn behind_tags(octets: &[u8]) -> Option<(usize, u16)> {
    let mut kind = view::<Ethernet>(octets, 0)?.ethertype.get();
    let mut at = size_of::<Ethernet>();
    while matches!(kind, TPID_8021Q | TPID_8021AD) {
        let tag = octets.get(at..)?.first_chunk::<4>()?;
        kind = u16::from_be_bytes([tag[2], tag[3]]);
        at += 4;
    }
    Some((at, kind))
}

/// The tags of a frame whose packet is damaged: those of an empty one with the same header.
fn encap_of(octets: &[u8]) -> Option<Encap> {
    let (l3, _) = behind_tags(octets)?;
    let mut header = octets.get(..l3)?.to_vec();
    // Any station and a packet of no kind that is looked into.
    header.get_mut(6..12)?.copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    header.get_mut(l3 - 2..)?.copy_from_slice(&[0x88, 0xb5]);
    let layers = parse(&header, &mut Vec::new()).ok()?;
    Some(layers.encap)
}

fn arp(octets: &[u8], layers: &Layers) -> String {
    let Some(arp) = view::<Arp>(octets, layers.l3) else {
        return "arp".to_owned();
    };
    let dotted = |addr: [u8; 4]| std::net::Ipv4Addr::from(addr);
    if arp.ptype.get() != ethertype::IPV4 {
        return format!("arp of protocol 0x{:04x}", arp.ptype.get());
    }
    let (sender, target) = (dotted(arp.spa), dotted(arp.tpa));
    match arp.oper.get() {
        1 | 2 if sender == target => format!("arp {sender} is announced by {}", MacAddr(arp.sha)),
        1 => format!("arp who has {target}? tell {sender}"),
        2 => format!("arp {sender} is at {}", MacAddr(arp.sha)),
        other => format!("arp operation {other}"),
    }
}

fn ip(octets: &[u8], layers: &Layers) -> String {
    let key = &layers.key;
    let addresses = format!("{} {} > {}", key.proto, key.src, key.dst);
    if layers.fragment != Fragment::Whole {
        return format!("{addresses} fragment");
    }
    let target = || {
        octets
            .get(layers.l4 + 8..)
            .and_then(<[u8]>::first_chunk::<16>)
            .map_or_else(String::new, |addr| {
                std::net::Ipv6Addr::from(*addr).to_string()
            })
    };
    match (key.proto, layers.icmp_type) {
        (IpProto::TCP, _) => format!("{key} {}", flags(layers.tcp_flags)),
        (IpProto::UDP | IpProto::SCTP, _) => key.to_string(),
        (IpProto::ICMP, 8) | (IpProto::ICMPV6, 128) => {
            format!("{addresses} echo request {}", key.sport())
        }
        (IpProto::ICMP, 0) | (IpProto::ICMPV6, 129) => {
            format!("{addresses} echo reply {}", key.sport())
        }
        (IpProto::ICMPV6, 135) => format!("{addresses} who has {}?", target()),
        (IpProto::ICMPV6, 136) => format!("{addresses} {} is here", target()),
        (IpProto::ICMPV6, 143) => format!("{addresses} multicast listener report"),
        (IpProto::ICMP | IpProto::ICMPV6, kind) => format!("{addresses} type {kind}"),
        _ => addresses,
    }
}

/// TCP flags as one letter each, as capture tools write them: `[S.]` is SYN and ACK.
fn flags(flags: u8) -> String {
    let mut text = String::from("[");
    for (flag, letter) in [
        (tcp_flags::FIN, 'F'),
        (tcp_flags::SYN, 'S'),
        (tcp_flags::RST, 'R'),
        (tcp_flags::PSH, 'P'),
        (tcp_flags::URG, 'U'),
        (tcp_flags::ACK, '.'),
    ] {
        if flags & flag != 0 {
            text.push(letter);
        }
    }
    text.push(']');
    text
}

impl fmt::Display for Step {
    /// One line: number, time since the start in seconds, port and VLAN, what arrived, the decision
    /// and why, and what left.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.since_start / 1_000_000_000;
        let nanos = self.since_start % 1_000_000_000;
        let number = self
            .frame
            .map_or_else(|| "-".to_owned(), |number| number.to_string());
        write!(f, "{number:>6}  {seconds:>4}.{nanos:09}  ")?;
        if let Some(port) = &self.port {
            let vlan = self.vlan.as_deref().unwrap_or("-");
            let from = format!("{port} {vlan} ({})", Tag(&self.tag));
            write!(f, "{from:<23}  {:<50}  ", self.what)?;
        }
        write!(f, "{}: {}", self.decision, self.reason)?;
        if let Some(server) = &self.virtual_server {
            write!(f, "; virtual server {server}")?;
        }
        if let Some(member) = &self.member {
            write!(f, ", member {member}")?;
        }
        if let Some(snat) = &self.snat {
            write!(f, ", source {snat}")?;
        }
        match &self.out {
            Some(out) => write!(f, "  =>  {out}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Leaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port.as_deref().unwrap_or("waits");
        let vlan = self.vlan.as_deref().unwrap_or("-");
        write!(f, "{port} {vlan} ({})  {}  ", Tag(&self.tag), self.what)?;
        write!(f, "{} > ", self.source_mac)?;
        match self.destination_mac {
            Some(mac) => write!(f, "{mac}"),
            None => f.write_str("?"),
        }
    }
}

/// Tags in words; a frame that can not be read has none that could be told.
struct Tag<'a>(&'a str);

impl fmt::Display for Tag<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str("?"),
            "untagged" => f.write_str("untagged"),
            tags => write!(f, "tag {tags}"),
        }
    }
}
