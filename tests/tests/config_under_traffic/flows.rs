//! Who asks for what, and a flow as its two ends see it.

use super::protocols::{Proto, split};

/// A place on the wires around tmm: the VLAN there, and how frames come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// The object that its VLAN is.
    pub vlan: &'static str,
    /// The port that its frames come by.
    pub port: &'static str,
    /// The other link, where they are bonded.
    pub second: &'static str,
    /// Its tag, and who speaks to whom.
    pub way: &'static str,
}

pub const CLIENTS: Side = Side {
    vlan: "F5SPKVlan external",
    port: "1.1",
    second: "1.4",
    way: "100 client>tmm1",
};

pub const OTHERS: Side = Side {
    vlan: "F5SPKVlan other",
    port: "1.3",
    second: "1.4",
    way: "110 client2>tmm3",
};

/// Servers outside.
pub const OUTSIDE: Side = Side {
    way: "100 gw>tmm1",
    ..CLIENTS
};

pub const MEMBERS: Side = Side {
    vlan: "F5SPKVlan internal",
    port: "1.2",
    second: "1.2",
    way: "200 b1>tmm2",
};

/// Client, what it asks for, by which protocol, and where it is.
#[derive(Debug)]
pub struct Asked {
    pub client: &'static str,
    pub server: &'static str,
    pub proto: Proto,
    pub from: Side,
    /// Another server that it asks from the same port, by its place in [`ASKED`].
    pub also: Option<usize>,
}

impl Asked {
    const fn new(client: &'static str, server: &'static str, proto: Proto) -> Self {
        Self {
            client,
            server,
            proto,
            from: CLIENTS,
            also: None,
        }
    }

    const fn from(self, from: Side) -> Self {
        Self { from, ..self }
    }

    const fn also(self, also: usize) -> Self {
        Self {
            also: Some(also),
            ..self
        }
    }

    /// Out of the cluster.
    pub const fn outward(&self) -> bool {
        matches!(self.from.vlan.as_bytes(), b"F5SPKVlan internal")
    }
}

pub const ASKED: [Asked; 24] = [
    Asked::new("192.0.2.7", "203.0.113.10:80", Proto::Tcp),
    Asked::new("192.0.2.8", "203.0.113.11:80", Proto::Tcp),
    Asked::new("[2001:db8:1::7]", "[2001:db8:f::10]:80", Proto::Tcp),
    Asked::new("192.0.2.9", "203.0.113.10:53", Proto::Udp),
    Asked::new("192.0.2.8", "203.0.113.12:80", Proto::Tcp),
    Asked::new("192.0.2.10", "203.0.113.20:38412", Proto::Sctp),
    Asked::new("192.0.2.10", "203.0.113.30:3868", Proto::Tcp),
    Asked::new("198.51.100.11", "192.0.2.77:443", Proto::Tcp)
        .from(MEMBERS)
        .also(8),
    Asked::new("198.51.100.11", "192.0.2.78:443", Proto::Tcp).from(MEMBERS),
    Asked::new("198.51.100.12", "192.0.2.77:443", Proto::Tcp).from(MEMBERS),
    Asked::new("198.51.100.11", "192.0.2.77:53", Proto::Udp)
        .from(MEMBERS)
        .also(11),
    Asked::new("198.51.100.11", "192.0.2.78:53", Proto::Udp).from(MEMBERS),
    Asked::new("198.51.100.12", "192.0.2.77:53", Proto::Udp).from(MEMBERS),
    Asked::new("198.51.100.11", "192.0.2.77", Proto::Echo)
        .from(MEMBERS)
        .also(14),
    Asked::new("198.51.100.11", "192.0.2.78", Proto::Echo).from(MEMBERS),
    Asked::new("[2001:db8:2::11]", "[2001:db8:1::77]:443", Proto::Tcp).from(MEMBERS),
    Asked::new("[2001:db8:2::11]", "[2001:db8:1::77]:53", Proto::Udp).from(MEMBERS),
    Asked::new("[2001:db8:2::11]", "[2001:db8:1::77]", Proto::Echo).from(MEMBERS),
    Asked::new("192.0.9.7", "203.0.113.10:80", Proto::Tcp).from(OTHERS),
    Asked::new("192.0.9.7", "203.0.113.10:53", Proto::Udp).from(OTHERS),
    Asked::new("192.0.2.10", "203.0.113.31:3868", Proto::Sctp),
    Asked::new("[2001:db8:1::7]", "[2001:db8:f::20]:38412", Proto::Sctp),
    Asked::new("[2001:db8:1::7]", "[2001:db8:f::12]:80", Proto::Tcp),
    Asked::new("[2001:db8:1::7]", "[2001:db8:f::10]:53", Proto::Udp),
];

/// A flow as its two ends see it.
#[derive(Debug, Clone)]
pub struct Flow {
    pub client: String,
    pub server: String,
    pub source: String,
    pub member: String,
    pub virtual_server: String,
    pub proto: Proto,
    /// Where its client is.
    pub from: Side,
    /// Its client's port is the same towards everybody.
    pub mapped: bool,
    /// Nothing that it needs has changed since it was opened.
    pub unchanged: bool,
}

/// A packet as it comes, as it must leave, and on which side.
pub struct Passage {
    pub comes: String,
    pub leaves: String,
    pub by: Side,
}

impl Flow {
    /// Out of the cluster.
    pub fn is_outward(&self) -> bool {
        self.from == MEMBERS
    }

    pub fn is_v6(&self) -> bool {
        self.client.starts_with('[')
    }

    /// Where its member is.
    pub fn to(&self) -> Side {
        if self.is_outward() { OUTSIDE } else { MEMBERS }
    }

    /// A packet of the client's.
    pub fn there(&self, what: &str) -> Passage {
        let packet = |from: &str, to: &str| self.proto.packet(from, to, true, what);
        let Side { port, way, .. } = self.from;
        Passage {
            comes: format!("> {port} {way} {}", packet(&self.client, &self.server)),
            leaves: format!("{} ttl=63", packet(&self.source, &self.member)),
            by: self.to(),
        }
    }

    /// A packet of the member's.
    pub fn back(&self, what: &str) -> Passage {
        let packet = |from: &str, to: &str| self.proto.packet(from, to, false, what);
        let Side { port, way, .. } = self.to();
        // A reply to an echo has the identifier of the request.
        let (from, left) = match self.proto {
            Proto::Echo => (&self.with_id(&self.source), &self.with_id(&self.client)),
            _ => (&self.member, &self.server),
        };
        Passage {
            comes: format!("> {port} {way} {}", packet(from, &self.source)),
            leaves: format!("{} ttl=63", packet(left, &self.client)),
            by: self.from,
        }
    }

    /// The member, and the identifier of an end.
    fn with_id(&self, end: &str) -> String {
        format!("{}:{}", split(&self.member).0, split(end).1)
    }

    /// Two fragments of a datagram of the client's.
    pub fn in_pieces(&self, ident: u32) -> [Passage; 2] {
        let whole = self.there("len=2000");
        let [(source, _), (member, _)] = [split(&self.source), split(&self.member)];
        let piece = |place: &str, leaves: String| Passage {
            comes: format!("{} frag={place} fid={ident}", whole.comes),
            leaves,
            by: whole.by,
        };
        [
            piece("0+1208", format!("{} frag=0+1208+", whole.leaves)),
            piece(
                "1208+800",
                format!("piece {source}>{member} proto=17 at=1208 len=800 from=196 ttl=63"),
            ),
        ]
    }

    /// The member, or a router on the way to it, says that a packet of the client's did not arrive.
    pub fn error(&self) -> Option<Passage> {
        let what = match self.proto {
            // What is under way: an error about what has arrived is not believed.
            Proto::Tcp => ". seq=7 ack=1010",
            Proto::Udp => self.proto.data()[0],
            Proto::Sctp | Proto::Echo => return None,
        };
        let Side { port, way, .. } = self.to();
        let kind = if self.is_v6() {
            "type=1 code=0"
        } else {
            "type=3 code=1"
        };
        let packet = |from: &str, to: &str| self.proto.packet(from, to, true, what);
        let [server, client, member, source] =
            [&self.server, &self.client, &self.member, &self.source].map(|end| split(end).0);
        Some(Passage {
            comes: format!(
                "> {port} {way} icmp {member}>{source} {kind} quotes {} ttl=63",
                packet(&self.source, &self.member)
            ),
            leaves: format!(
                "icmp {server}>{client} {kind} ttl=63 quotes {} ttl=63",
                packet(&self.client, &self.server)
            ),
            by: self.from,
        })
    }
}
