//! What is configured now, and what that promises to flows.

use super::flows::{Flow, Side};
use super::objects::{KINDS, place};
use super::protocols::{Proto, split};

/// What is configured now: by object, which of its ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World(pub [Option<usize>; KINDS.len()]);

/// What is said of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// It takes nothing, and what it had is up to `serviceDownAction`.
    Down,
    /// It serves what it has.
    Draining,
    Ready,
}

impl World {
    pub fn new() -> Self {
        Self(std::array::from_fn(|kind| {
            (KINDS[kind].ways[0] != "-").then_some(0)
        }))
    }

    /// How the object of that name is.
    fn way(&self, name: &str) -> Option<&'static str> {
        let kind = place(name);
        self.0[kind].map(|way| KINDS[kind].ways[way])
    }

    /// The value of a field of an object, empty if it says nothing; `None` if there is no such object.
    pub fn field(&self, name: &str, key: &str) -> Option<&'static str> {
        let mut words = self.way(name)?.split(' ');
        let found = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        Some(found.unwrap_or(""))
    }

    /// What is said of a flow's member; `None` if it is no endpoint any more.
    pub fn endpoint(&self, flow: &Flow) -> Option<Endpoint> {
        let (_, number) = self
            .field(&flow.virtual_server, "service")?
            .split_once(':')?;
        let protocol = flow.proto.of_service();
        let port = format!("{number}/{protocol}");
        let service = self.way("Service web")?;
        if !service.split(' ').any(|word| word == port) {
            return None;
        }
        let named = |kind: &str| {
            let slice = kind.strip_prefix("EndpointSlice web");
            slice.is_some_and(|rest| match rest.strip_prefix(':') {
                Some(rest) => rest.split('/').next() == Some(number),
                None => rest.is_empty() && number == "80",
            })
        };
        let slices = KINDS.iter().filter(|kind| named(kind.name));
        let listed = slices.filter_map(|slice| {
            let mut words = self.way(slice.name)?.split(' ');
            if words.next() != Some(protocol) {
                return None;
            }
            let mut state = Endpoint::Ready;
            words.find_map(|word| {
                state = match word {
                    "not-ready" | "ended" => Endpoint::Down,
                    "terminating" => Endpoint::Draining,
                    _ => state,
                };
                (word == flow.member).then_some(state)
            })
        });
        listed.max()
    }

    /// Whether what the flow needs is as it was.
    pub fn is_unchanged(&self, before: &Self, flow: &Flow) -> bool {
        let server = flow.virtual_server.as_str();
        let Some(action) = self.field(server, "serviceDownAction") else {
            return false;
        };
        // An object whose destination is another's now serves something else.
        let same = |name: &str, key: &str| self.field(name, key) == before.field(name, key);
        let destinations = [
            "destinationAddress",
            "ipv6destinationAddress",
            "destinationPort",
            "externalTCP.destinationAddress",
            "externalSCTP.destinationAddress",
        ];
        if !destinations.iter().all(|key| same(server, key)) {
            return false;
        }
        let wired = [flow.from, flow.to()]
            .iter()
            .all(|side| same(side.vlan, "tag") && self.has_port(side.vlan, side.port));
        let sourced = flow.source == flow.client || self.owns(&flow.source);
        let served = if flow.is_outward() {
            self.field("F5SPKVlan internal", "internal") == Some("true")
                && (!flow.is_v6() || self.field(server, "dualStackEnabled") == Some("true"))
        } else {
            match self.endpoint(flow) {
                Some(Endpoint::Ready | Endpoint::Draining) => true,
                Some(Endpoint::Down) => action.is_empty(),
                None => action.is_empty() && flow.proto != Proto::Udp,
            }
        };
        wired && sourced && served
    }

    /// Whether a VLAN is there and has the port.
    fn has_port(&self, vlan: &str, port: &str) -> bool {
        let interfaces = self.field(vlan, "interfaces");
        interfaces.is_some_and(|names| names.contains(&format!("\"{port}\"")))
    }

    /// The ports by which frames leave towards one side.
    pub fn ports(&self, side: Side) -> Vec<&'static str> {
        let bonded = self.field(side.vlan, "bonded") == Some("true");
        if bonded {
            vec![side.port, side.second]
        } else {
            vec![side.port]
        }
    }

    /// Whether the address of `end` is one that sources are translated to.
    fn owns(&self, end: &str) -> bool {
        let quoted = format!("\"{}\"", split(end).0);
        [
            "F5SPKVlan external",
            "F5SPKVlan internal",
            "F5SPKSnatpool pool",
        ]
        .iter()
        .any(|name| self.way(name).is_some_and(|way| way.contains(&quoted)))
    }

    /// Whether the address of `end` is one of the pool.
    pub fn is_pooled(&self, end: &str) -> bool {
        let quoted = format!("\"{}\"", split(end).0);
        let pool = self.way("F5SPKSnatpool pool");
        pool.is_some_and(|way| way.contains(&quoted))
    }

    /// Whether flows that are opened now keep for as long as histories last.
    pub fn keeps(&self, virtual_server: &str, proto: Proto) -> bool {
        let key = if virtual_server.starts_with("F5SPKEgress") {
            proto.egress_timeout()
        } else {
            "idleTimeout"
        };
        self.field(virtual_server, key) == Some("1000000")
    }

    /// Whether a way out of the cluster maps ports, and lets everybody in by them.
    pub fn mapping(&self, virtual_server: &str) -> (bool, bool) {
        let independent = |key| self.field(virtual_server, key) == Some("ENDPOINT_INDEPENDENT");
        (independent("natMapping"), independent("natFiltering"))
    }
}
