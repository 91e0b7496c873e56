//! The protocols of flows, and what their packets say.

use net::IpProto;

/// A protocol, and what its packets say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proto {
    Tcp,
    Udp,
    Sctp,
    Echo,
}

impl Proto {
    /// The protocol of packets, in one family or the other.
    pub const fn numbers(self) -> [IpProto; 2] {
        match self {
            Self::Tcp => [IpProto::TCP; 2],
            Self::Udp => [IpProto::UDP; 2],
            Self::Sctp => [IpProto::SCTP; 2],
            Self::Echo => [IpProto::ICMP, IpProto::ICMPV6],
        }
    }

    /// As a Service writes it.
    pub const fn of_service(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Echo => "",
        }
    }

    /// The field that says how long a flow out of the cluster may be silent.
    pub const fn egress_timeout(self) -> &'static str {
        match self {
            Self::Tcp | Self::Sctp => "tcpIdleTimeout",
            Self::Udp => "udpIdleTimeout",
            Self::Echo => "icmpIdleTimeout",
        }
    }

    /// What opens a flow.
    pub const fn opening(self) -> &'static str {
        match self {
            Self::Tcp => "S seq=1",
            Self::Udp => "len=4",
            Self::Sctp => "tag=0 INIT:init=7",
            Self::Echo => "seq=1 len=8",
        }
    }

    /// What follows until it is open; the member begins.
    pub const fn handshake(self) -> &'static [&'static str] {
        match self {
            Self::Tcp => &["S. seq=1000 ack=2", ". seq=2 ack=1001"],
            Self::Udp => &["len=6"],
            Self::Sctp => &[
                "tag=7 INIT-ACK:init=9",
                "tag=9 COOKIE-ECHO:len=30",
                "tag=7 COOKIE-ACK",
            ],
            Self::Echo => &["seq=1 len=8"],
        }
    }

    /// Data of the client's and of the member's.
    pub const fn data(self) -> [&'static str; 2] {
        match self {
            Self::Tcp => ["P. seq=2 ack=1001 len=5", "P. seq=1001 ack=7 len=9"],
            Self::Udp => ["len=5", "len=6"],
            Self::Sctp => ["tag=9 DATA:len=20", "tag=7 DATA:len=24"],
            Self::Echo => ["seq=2 len=16", "seq=2 len=16"],
        }
    }

    /// What ends it at once, from either.
    pub const fn reset(self) -> Option<[&'static str; 2]> {
        match self {
            Self::Tcp => Some(["R. seq=7 ack=1010", "R. seq=1010 ack=7"]),
            Self::Udp | Self::Echo => None,
            Self::Sctp => Some(["tag=9 ABORT", "tag=7 ABORT"]),
        }
    }

    /// Whether what left, without the ends, ends a flow.
    pub fn is_reset(self, mut words: std::str::Split<'_, char>) -> bool {
        match self {
            Self::Tcp => words.next().is_some_and(|flags| flags.starts_with('R')),
            Self::Sctp => words.any(|word| word.starts_with("ABORT")),
            Self::Udp | Self::Echo => false,
        }
    }

    /// A packet between two ends, forth or back, as a scenario writes it.
    pub fn packet(self, from: &str, to: &str, forth: bool, what: &str) -> String {
        match (self, forth) {
            (Self::Tcp, _) => format!("tcp {from}>{to} {what}"),
            (Self::Udp, _) => format!("udp {from}>{to} {what}"),
            (Self::Sctp, _) => format!("sctp {from}>{to} {what}"),
            (Self::Echo, _) => {
                let kind = if forth { "echo" } else { "echo-reply" };
                // The identifier is that of both ends.
                let (from, id) = split(from);
                format!("{kind} {from}>{} id={id} {what}", split(to).0)
            }
        }
    }
}

/// Address and port of an end such as `192.0.2.7:80` or `[2001:db8::7]:80`.
pub fn split(end: &str) -> (&str, &str) {
    let (addr, port) = end.rsplit_once(':').unwrap();
    (addr.trim_matches(['[', ']']), port)
}
