//! What histories are made of: the configuration, its parts, noise, and how ports are wired.

/// Client and virtual server.
pub const SERVERS: [(&str, &str); 3] = [
    ("192.0.2.7", "203.0.113.10:80"),
    ("192.0.2.8", "203.0.113.11:80"),
    ("[2001:db8:1::7]", "[2001:db8:f::10]:80"),
];

/// What is configured to begin with. Nothing ends because nobody speaks.
pub const BASE: &[&str] = &[
    "use base",
    "apply F5SPKIngressTCP web service=web:80 destinationAddress=203.0.113.10 \
     ipv6destinationAddress=2001:db8:f::10 destinationPort=80 idleTimeout=1000000",
    "apply F5SPKIngressTCP auto service=web:80 destinationAddress=203.0.113.11 destinationPort=80 \
     idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP",
    "publish",
];

/// The VLANs of the beginning, for wirings with more ports.
pub const VLANS: [&str; 2] = [
    "apply F5SPKVlan external tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] \
     prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64",
    "apply F5SPKVlan internal tag=200 interfaces=[\"1.2\"] internal=true \
     selfip_v4s=[\"198.51.100.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:2::1\"] \
     prefixlen_v6=64",
];

/// Parts of the configuration and the two ways each may be. None of them may move a connection.
pub const PARTS: [(&str, &str); 12] = [
    (
        "apply EndpointSlice web:80/2 TCP 198.51.100.12:8080 198.51.100.13:8080",
        "delete EndpointSlice web:80/2 TCP 198.51.100.12:8080",
    ),
    (
        "apply EndpointSlice web:80/2 TCP [2001:db8:2::12]:8080",
        "delete EndpointSlice web:80/2 TCP [2001:db8:2::12]:8080",
    ),
    (
        "apply EndpointSlice web TCP 198.51.100.11:8080",
        "apply EndpointSlice web TCP not-ready 198.51.100.11:8080",
    ),
    (
        "apply F5SPKVlan spare tag=300 interfaces=[\"1.2\"] selfip_v4s=[\"10.3.0.1\"] prefixlen_v4=24",
        "delete F5SPKVlan spare",
    ),
    (
        "apply F5SPKStaticRoute spare destination=10.9.0.0 prefixLen=16 type=gateway \
         gateway=198.51.100.12",
        "delete F5SPKStaticRoute spare",
    ),
    (
        "apply F5SPKIngressTCP other service=web:80 destinationAddress=203.0.113.0/24 \
         destinationPort=0",
        "delete F5SPKIngressTCP other",
    ),
    (
        "apply F5SPKIngressTCP wild service=web:80 destinationAddress=0.0.0.0/0 destinationPort=0",
        "delete F5SPKIngressTCP wild",
    ),
    (
        "apply F5SPKIngressUDP dns service=web:53 destinationAddress=203.0.113.10 \
         destinationPort=53 snat=SRC_TRANS_AUTOMAP",
        "delete F5SPKIngressUDP dns",
    ),
    (
        "apply F5SPKIngressTCP web service=web:80 destinationAddress=203.0.113.10 \
         ipv6destinationAddress=2001:db8:f::10 destinationPort=80 idleTimeout=1000000 \
         loadBalancingMethod=SOURCE_ADDR_HASH snat=SRC_TRANS_AUTOMAP",
        "apply F5SPKIngressTCP web service=web:80 destinationAddress=203.0.113.10 \
         ipv6destinationAddress=2001:db8:f::10 destinationPort=80 idleTimeout=1000000",
    ),
    (
        "apply F5SPKIngressTCP auto service=web:80 destinationAddress=203.0.113.11 \
         destinationPort=80 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP \
         loadBalancingMethod=LEAST_CONN_MEMBER",
        "apply F5SPKIngressTCP auto service=web:80 destinationAddress=203.0.113.11 \
         destinationPort=80 idleTimeout=1000000 vlans={\"vlanList\":[\"external\"]}",
    ),
    (
        "apply F5SPKVlan external tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] \
         prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64 \
         allowed_services=[{\"protocol\":\"tcp\",\"port\":22}]",
        "apply F5SPKVlan external tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] \
         prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64 mtu=1600",
    ),
    (
        "apply F5SPKVlan external tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] \
         prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64 cmp_hash=SRC_ADDR",
        "apply F5SPKVlan external tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] \
         prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64 cmp_hash=DST_ADDR",
    ),
];

/// Frames of no connection; `N` is a number.
pub const NOISE: [&str; 14] = [
    "1.1 100 client2>tmm1 tcp 192.0.2.99:N>203.0.113.10:80 S seq=1",
    "1.1 100 client2>tmm1 tcp 192.0.2.99:N>203.0.113.11:80 S seq=1",
    "1.1 100 client2>tmm1 udp 192.0.2.99:N>203.0.113.10:53 len=9",
    "1.1 100 client2>tmm1 tcp 192.0.2.99:N>203.0.113.10:80 . seq=1 ack=N",
    // A blind attacker guesses tuples, not sequence numbers.
    "1.1 100 client2>tmm1 tcp 192.0.2.7:40003>203.0.113.10:80 R seq=77N",
    "1.2 200 b2>tmm2 tcp 198.51.100.11:8080>192.0.2.7:40003 R seq=77N",
    "1.2 200 b2>tmm2 tcp 198.51.100.11:8080>198.51.100.1:N S seq=1",
    "1.1 100 client2>tmm1 tcp 192.0.2.99:N>203.0.113.10:80 S seq=1 badsum",
    "1.1 100 client2>tmm1 echo 192.0.2.99>203.0.113.10 id=N",
    "1.1 100 client2>all arp who-has 203.0.113.10 tell 192.0.2.99",
    "1.2 200 b3>all arp who-has 198.51.100.77 tell 198.51.100.1",
    "1.1 101 client2>tmm1 tcp 192.0.2.99:N>203.0.113.10:80 S seq=1",
    "1.1 100 client2>tmm1 udp 192.0.2.99:N>203.0.113.10:53 len=9 frag=first",
    "1.2 200 b1>tmm2 udp 198.51.100.11:5353>192.0.2.99:N len=3",
];

/// How ports and segments belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiring {
    /// A port for each VLAN.
    Single,
    /// Two for each VLAN, in one segment.
    Together,
    /// Two for each VLAN, in segments of their own; there is nobody in the other ones.
    Apart,
}

impl Wiring {
    /// A line of the configuration as it is with these ports.
    pub fn configuration(self, line: &str) -> String {
        if self == Self::Single {
            return line.to_owned();
        }
        line.replace("[\"1.1\"]", "[\"1.1\",\"1.3\"]")
            .replace("[\"1.2\"]", "[\"1.2\",\"1.4\"]")
    }

    /// A frame as it arrives, number `count`: where there are two ports, by either.
    pub fn frame(self, line: &str, count: usize) -> String {
        if self != Self::Together || count.is_multiple_of(2) {
            return line.to_owned();
        }
        line.replacen("1.1 1", "1.3 1", 1)
            .replacen("1.2 2", "1.4 2", 1)
            .replacen(">tmm1 ", ">tmm3 ", 1)
            .replacen(">tmm2 ", ">tmm4 ", 1)
    }

    /// The VLAN's first port instead of the one a frame left by.
    pub fn first(self, port: &str) -> &str {
        match port {
            "1.3" if self == Self::Together => "1.1",
            "1.4" if self == Self::Together => "1.2",
            port => port,
        }
    }
}
