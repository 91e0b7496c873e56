//! `F5SPKIngressTCP` and `F5SPKIngressUDP`, and what the other Ingress kinds have in common with them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use net::{IpPrefix, L4Port};
use serde_json::Value;

use super::monitors;
use crate::reader::{Fields, Node, quote};
use crate::sketch::Text;
use crate::types::{
    LbMethod, Monitor, Profile, Protocol, SctpProfile, ServiceDownAction, Snat, TcpProfile,
    UdpProfile,
};

/// What an Ingress object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// TCP, UDP or SCTP, by kind.
    pub protocol: Protocol,
    /// Name of the Service, in the object's own namespace.
    pub service: String,
    /// Which of its ports.
    pub service_port: ServicePortRef,
    /// One or two destinations, of different families, IPv4 first.
    pub destinations: Vec<IpPrefix>,
    /// The port it listens on; 0 means all.
    pub port: L4Port,
    /// How a member is selected.
    pub method: LbMethod,
    /// How the client's address is translated.
    pub snat: Snat,
    /// To an address of the SNAT pool with this name, where [`Snat::Snatpool`] says so.
    pub snat_pool: Option<Arc<str>>,
    /// Where it listens; `None` is on every VLAN.
    pub vlans: Option<VlanSelector>,
    /// How its flows are treated.
    pub profile: Profile,
    /// Health checks.
    pub monitors: Arc<[Monitor]>,
}

/// A port of a Service, as a resource names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServicePortRef {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

impl fmt::Display for ServicePortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// `spec.vlans`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct VlanSelector {
    /// Names of VLANs.
    pub list: Vec<String>,
    /// A category of VLANs, in addition to the list.
    pub category: Option<String>,
    /// All VLANs but these.
    pub disable_listed: bool,
}

const METHODS: [(&str, LbMethod); 5] = [
    ("ROUND_ROBIN", LbMethod::RoundRobin),
    ("RATIO_LEAST_CONN_MEMBER", LbMethod::RatioLeastConnMember),
    ("RATIO_MEMBER", LbMethod::RatioMember),
    ("LEAST_CONN_MEMBER", LbMethod::LeastConnMember),
    ("SOURCE_ADDR_HASH", LbMethod::SourceAddrHash),
];

const DOWN_ACTIONS: [(&str, ServiceDownAction); 4] = [
    ("NONE", ServiceDownAction::None),
    ("REJECT", ServiceDownAction::Reject),
    ("DROP", ServiceDownAction::Drop),
    ("RESELECT", ServiceDownAction::Reselect),
];

/// How a client's address may be translated.
pub(super) const SNAT: [(&str, Snat); 3] = [
    ("SRC_TRANS_NONE", Snat::None),
    ("SRC_TRANS_AUTOMAP", Snat::Automap),
    ("SRC_TRANS_SNATPOOL", Snat::Snatpool),
];

/// Most VLANs in a list: there are no more tags.
const MAX_VLANS: usize = 4094;

/// Default idle timeouts in seconds.
const IDLE_TCP: u32 = 300;
const IDLE_UDP: u32 = 60;
const IDLE_SCTP: u32 = 300;

/// Seconds where nothing is said: for a handshake, for both sides to close, and for late segments then.
const HANDSHAKE: u16 = 30;
const CLOSE: u16 = 60;
const TIME_WAIT: u16 = 10;

pub(super) fn read(object: &Fields<'_>, protocol: Protocol) -> Option<Ingress> {
    read_with(object, |f| {
        let place = read_place(f, None);
        let common = read_common(f, protocol);
        Some([common.at(protocol, place?)])
    })?
    .pop()
}

/// The Service, the monitors and, by `spec`, the rest of an object: one or several virtual servers.
pub(super) fn read_with<S: IntoIterator<Item = Ingress>>(
    object: &Fields<'_>,
    spec: impl FnOnce(&Fields<'_>) -> Option<S>,
) -> Option<Vec<Ingress>> {
    let service = object.require("service", read_service);
    let spec = object.require("spec", |node| {
        let f = node.object()?;
        let spec = spec(&f);
        f.deny_unknown();
        spec
    });
    let monitors = object.take("monitors", monitors::read);
    let (service, service_port) = service?;
    let monitors: Arc<[Monitor]> = monitors.unwrap_or_default().into();
    let whole = spec?.into_iter().map(|ingress| Ingress {
        service: service.clone(),
        service_port: service_port.clone(),
        monitors: Arc::clone(&monitors),
        ..ingress
    });
    Some(whole.collect())
}

fn read_service(node: &Node<'_>) -> Option<(String, ServicePortRef)> {
    let f = node.object()?;
    let name = f.require("name", |node| node.name().map(str::to_owned));
    let port = f.require("port", |node| {
        node.integer_or_text(1..=u16::MAX, Text::PortName)?;
        match node.value() {
            Value::String(text) if text.parse::<i64>().is_ok() => node.error(format!(
                "{} is a number in quotes; write it without quotes",
                quote(text)
            )),
            Value::String(text) if is_port_name(text) => Some(ServicePortRef::Name(text.clone())),
            Value::String(text) => node.error(format!(
                "{} is not the name of a Service port (1-63 lower-case letters, digits and \"-\")",
                quote(text)
            )),
            _ => node.integer(1..=u16::MAX).map(ServicePortRef::Number),
        }
    });
    f.deny_unknown();
    Some((name?, port?))
}

/// A DNS label (RFC 1123) that is no number, as the API server has the names of ports.
fn is_port_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let allowed = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    bytes.len() <= 63
        && bytes.iter().all(allowed)
        && edge(bytes.first())
        && edge(bytes.last())
        && !bytes.iter().all(u8::is_ascii_digit)
}

/// Where a virtual server listens: one or two destinations, and the port.
pub(super) type Place = (Vec<IpPrefix>, L4Port);

/// Reads where a virtual server listens; `port` is the one meant where none is given.
pub(super) fn read_place(f: &Fields<'_>, port: Option<u16>) -> Option<Place> {
    let v4 = f.take("destinationAddress", |node| destination(node, false));
    let v6 = f.take("ipv6destinationAddress", |node| destination(node, true));
    if !f.has("destinationAddress") && !f.has("ipv6destinationAddress") {
        f.error_at(
            "destinationAddress",
            "is required, or ipv6destinationAddress, or both",
        );
    }
    let number = |node: &Node<'_>| node.integer(0..=u16::MAX);
    let port = match port {
        None => f.require("destinationPort", number),
        Some(usual) => f.take("destinationPort", number).or(Some(usual)),
    };
    Some((v4.into_iter().chain(v6).collect(), L4Port(port?)))
}

/// What the virtual servers of an object have in common.
#[derive(Clone)]
pub(super) struct Common(Ingress);

impl Common {
    /// With what the SCTP side has besides, of an object that has other sides as well.
    pub(super) fn with_sctp(mut self, f: &Fields<'_>) -> Self {
        self.0.profile.sctp = Some(read_sctp(f));
        self
    }

    /// The virtual server of that protocol that listens at `place`.
    pub(super) fn at(&self, protocol: Protocol, (destinations, port): Place) -> Ingress {
        let mut ingress = self.0.clone();
        ingress.profile.tcp = ingress.profile.tcp.filter(|_| protocol == Protocol::Tcp);
        ingress.profile.sctp = ingress.profile.sctp.filter(|_| protocol == Protocol::Sctp);
        Ingress {
            protocol,
            destinations,
            port,
            ..ingress
        }
    }
}

/// Everything under `spec` but where it listens; service and monitors are filled in by the caller.
pub(super) fn read_common(f: &Fields<'_>, protocol: Protocol) -> Common {
    let idle = f.take("idleTimeout", |node| node.integer(1..=u32::MAX));
    let method = f.take("loadBalancingMethod", |node| node.one_of(&METHODS));
    let snat = f.take("snat", |node| node.one_of(&SNAT));
    let snat_pool = f.take("snatpool", pool_name);
    match (snat.unwrap_or_default(), f.has("snatpool")) {
        (Snat::Snatpool, false) => f.error_at(
            "snatpool",
            "is required beside snat: SRC_TRANS_SNATPOOL: the spec.name of an F5SPKSnatpool",
        ),
        (Snat::None | Snat::Automap, true) => f.error_at(
            "snatpool",
            "has no meaning without snat: SRC_TRANS_SNATPOOL",
        ),
        _ => {}
    }
    f.refuse("persistence");
    let vlans = f.take("vlans", read_vlans);
    let limit = |name| f.take(name, |node| node.integer(0..=u32::MAX)).unwrap_or(0);
    let connection_limit = limit("connectionLimit");
    let client_connection_limit = limit("clientConnectionLimit");
    let syn_protection_threshold = match protocol {
        Protocol::Tcp => limit("synProtectionThreshold"),
        Protocol::Udp | Protocol::Sctp => 0,
    };
    let service_down_action = f.take("serviceDownAction", |node| node.one_of(&DOWN_ACTIONS));
    let idle = idle.unwrap_or(match protocol {
        Protocol::Tcp => IDLE_TCP,
        Protocol::Udp => IDLE_UDP,
        Protocol::Sctp => IDLE_SCTP,
    });
    let tcp = (protocol == Protocol::Tcp).then(|| read_tcp(f, idle));
    let udp = (protocol == Protocol::Udp).then(|| read_udp(f, idle));
    let sctp = (protocol == Protocol::Sctp).then(|| read_sctp(f));
    Common(Ingress {
        protocol,
        service: String::new(),
        service_port: ServicePortRef::Number(0),
        destinations: Vec::new(),
        port: L4Port(0),
        method: method.unwrap_or_default(),
        snat: snat.unwrap_or_default(),
        snat_pool,
        vlans: vlans.filter(|vlans| !vlans.list.is_empty() || vlans.category.is_some()),
        profile: Profile {
            idle_timeout: Duration::from_secs(idle.into()),
            service_down_action: service_down_action.unwrap_or_default(),
            connection_limit,
            client_connection_limit,
            syn_protection_threshold,
            tcp,
            udp,
            sctp,
        },
        monitors: Arc::default(),
    })
}

/// Seconds, or what is meant where nothing is said.
fn short(f: &Fields<'_>, name: &'static str, default: u16) -> Duration {
    let seconds = f.take(name, |node| node.integer(1..=u16::MAX));
    Duration::from_secs(seconds.unwrap_or(default).into())
}

/// What the TCP kind has besides. `idle`: seconds that an open connection may be silent.
fn read_tcp(f: &Fields<'_>, idle: u32) -> TcpProfile {
    let half_close = f.take("tcpHalfCloseTimeout", |node| node.integer(1..=u32::MAX));
    TcpProfile {
        handshake_timeout: short(f, "tcpHandshakeTimeout", HANDSHAKE),
        close_timeout: short(f, "tcpCloseTimeout", CLOSE),
        half_close_timeout: Duration::from_secs(half_close.unwrap_or(idle).into()),
        time_wait_timeout: short(f, "tcpTimeWaitTimeout", TIME_WAIT),
        reset_on_timeout: f.take("resetOnTimeout", Node::boolean).unwrap_or(false),
        loose_initialization: f
            .take("looseInitialization", Node::boolean)
            .unwrap_or(false),
    }
}

/// What the UDP kind has besides. `idle`: seconds that a flow may be silent.
fn read_udp(f: &Fields<'_>, idle: u32) -> UdpProfile {
    let unreplied = f.take("unrepliedTimeout", |node| node.integer(1..=u16::MAX));
    let unreplied = unreplied.map_or(idle, u32::from);
    let each = f.take("datagramLoadBalancing", Node::boolean);
    UdpProfile {
        unreplied_timeout: Duration::from_secs(unreplied.into()),
        datagram_load_balancing: each.unwrap_or(false),
    }
}

/// What virtual servers of SCTP have besides.
fn read_sctp(f: &Fields<'_>) -> SctpProfile {
    SctpProfile {
        handshake_timeout: short(f, "sctpHandshakeTimeout", HANDSHAKE),
        shutdown_timeout: short(f, "sctpShutdownTimeout", CLOSE),
    }
}

/// An address, a subnet or a wildcard, of the family the field is for.
fn destination(node: &Node<'_>, v6: bool) -> Option<IpPrefix> {
    let (form, other) = if v6 {
        (Text::Ipv6Destination, "destinationAddress")
    } else {
        (Text::Ipv4Destination, "ipv6destinationAddress")
    };
    let what = form.what();
    let text = node.text(form)?;
    let refuse = || node.error(format!("{} is not {what}", quote(text)));
    let (addr, len) = match text.split_once('/') {
        Some((addr, len)) => (addr, Some(len)),
        None => (text, None),
    };
    let Ok(addr) = addr.parse::<IpAddr>() else {
        return refuse();
    };
    if addr.is_ipv6() != v6 {
        return node.error(format!(
            "{} is not {what}; it belongs into spec.{other}",
            quote(text)
        ));
    }
    let Some(len) = len else {
        if addr.is_unspecified() {
            return node.error(format!("a wildcard is written \"{addr}/0\""));
        }
        if addr.is_multicast() || matches!(addr, IpAddr::V4(v4) if v4.is_broadcast()) {
            return node.error(format!("\"{addr}\" is not a unicast address"));
        }
        return Some(IpPrefix::host(addr));
    };
    // As `parse`, which takes "+8" and "08", is not.
    let digits = len.bytes().all(|b| b.is_ascii_digit()) && (len == "0" || !len.starts_with('0'));
    let prefix = digits
        .then(|| len.parse().ok())
        .flatten()
        .and_then(|len| IpPrefix::new(addr, len).ok());
    match prefix {
        Some(prefix) if prefix.addr() == addr => Some(prefix),
        Some(prefix) => node.error(format!(
            "{} has bits set beyond its prefix length; the subnet is {prefix}",
            quote(text)
        )),
        None => refuse(),
    }
}

/// The name of an `F5SPKSnatpool`.
pub(super) fn pool_name(node: &Node<'_>) -> Option<Arc<str>> {
    node.name().map(Arc::from)
}

pub(super) fn read_vlans(node: &Node<'_>) -> Option<VlanSelector> {
    let f = node.object()?;
    let list = f.take("vlanList", |node| {
        node.list(MAX_VLANS, |item| item.name().map(str::to_owned))
    });
    let category = f.take("category", |node| node.name().map(str::to_owned));
    let disable_listed = f.take("disableListedVlans", Node::boolean).unwrap_or(false);
    if disable_listed && !f.has("vlanList") && !f.has("category") {
        f.error_at(
            "disableListedVlans",
            "lists nothing to disable: vlanList and category are absent",
        );
    }
    f.deny_unknown();
    let mut list = list.unwrap_or_default();
    list.sort_unstable();
    list.dedup();
    Some(VlanSelector {
        list,
        category,
        disable_listed,
    })
}
