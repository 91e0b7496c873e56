//! What is configured, and the ways it may be.

/// An object, and the ways it may be. The first is how it begins; `-` begins without it.
pub struct Kind {
    pub name: &'static str,
    pub ways: &'static [&'static str],
}

/// The place of the object of that name.
pub fn place(name: &str) -> usize {
    KINDS.iter().position(|kind| kind.name == name).unwrap()
}

const EXTERNAL: &str = "F5SPKVlan external";
const INTERNAL: &str = "F5SPKVlan internal";

/// To try another kind of object, add it here with the ways it may be; if flows depend on it, say how in
/// `World::is_unchanged`.
pub const KINDS: [Kind; 29] = [
    Kind {
        name: EXTERNAL,
        ways: &[
            "tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64",
            "tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64 mtu=1600 mss_clamp=true auto_lasthop=AUTO_LASTHOP_DISABLED",
            "tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.33\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::33\"] prefixlen_v6=64",
            "tag=100 interfaces=[\"1.1\",\"1.4\"] bonded=true selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64 cmp_hash=SRC_ADDR allowed_services=[{\"protocol\":\"tcp\",\"port\":22}]",
            "tag=101 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64",
            "tag=100 interfaces=[\"1.1\",\"1.4\"] bonded=true trunk_hash=SRC_DST_IPPORT selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64",
            "tag=100 interfaces=[\"1.1\",\"1.4\"] selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64",
        ],
    },
    Kind {
        name: INTERNAL,
        ways: &[
            "tag=200 interfaces=[\"1.2\"] internal=true selfip_v4s=[\"198.51.100.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:2::1\"] prefixlen_v6=64",
            "tag=200 interfaces=[\"1.2\"] internal=false selfip_v4s=[\"198.51.100.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:2::1\"] prefixlen_v6=64 cmp_hash=DST_ADDR mtu=9000",
            "tag=200 interfaces=[\"1.2\"] internal=true selfip_v4s=[\"198.51.100.2\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:2::2\"] prefixlen_v6=64 auto_lasthop=AUTO_LASTHOP_DISABLED",
            "tag=201 interfaces=[\"1.2\"] internal=true selfip_v4s=[\"198.51.100.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:2::1\"] prefixlen_v6=64",
        ],
    },
    // Clients on a VLAN and a port of their own.
    Kind {
        name: "F5SPKVlan other",
        ways: &[
            "tag=110 interfaces=[\"1.3\"] selfip_v4s=[\"192.0.9.1\"] prefixlen_v4=24",
            "tag=110 interfaces=[\"1.3\"] selfip_v4s=[\"192.0.9.1\"] prefixlen_v4=24 cmp_hash=SRC_ADDR mtu=1600",
            "tag=110 interfaces=[\"1.3\",\"1.4\"] bonded=true selfip_v4s=[\"192.0.9.1\"] prefixlen_v4=24 auto_lasthop=AUTO_LASTHOP_DISABLED",
        ],
    },
    Kind {
        name: "F5SPKVlan spare",
        ways: &[
            "-",
            "tag=300 interfaces=[\"1.2\"] selfip_v4s=[\"10.3.0.1\"] prefixlen_v4=24",
            // The tag of another: a conflict, which the younger one loses.
            "tag=200 interfaces=[\"1.2\"] selfip_v4s=[\"10.3.0.1\"] prefixlen_v4=24",
        ],
    },
    Kind {
        name: "Service web",
        ways: &[
            "80/TCP 53/UDP 38412/SCTP 3868/TCP 3868/SCTP",
            "80/TCP 53/UDP 38412/SCTP 3868/TCP 3868/SCTP 443/TCP",
            "80/TCP",
        ],
    },
    Kind {
        name: "EndpointSlice web",
        ways: &[
            "TCP 198.51.100.11:8080",
            "TCP not-ready 198.51.100.11:8080",
            "TCP 198.51.100.11:8080 198.51.100.12:8080",
            "TCP 198.51.100.12:8080",
            "TCP 198.51.100.12:8080 terminating 198.51.100.11:8080",
            "TCP terminating 198.51.100.11:8080 198.51.100.12:8080",
            "TCP 198.51.100.12:8080 ended 198.51.100.11:8080",
        ],
    },
    Kind {
        name: "EndpointSlice web:80/2",
        ways: &[
            "-",
            "TCP 198.51.100.12:8080 198.51.100.13:8080",
            "TCP 198.51.100.11:8080",
            "TCP 198.51.100.13:8080 terminating 198.51.100.12:8080",
        ],
    },
    Kind {
        name: "EndpointSlice web:80/1",
        ways: &[
            "TCP [2001:db8:2::11]:8080",
            "TCP [2001:db8:2::12]:8080 [2001:db8:2::11]:8080",
            "TCP [2001:db8:2::12]:8080 terminating [2001:db8:2::11]:8080",
        ],
    },
    Kind {
        name: "EndpointSlice web:53",
        ways: &[
            "UDP 198.51.100.11:5353",
            "UDP 198.51.100.11:5353 198.51.100.12:5353",
            "UDP 198.51.100.12:5353",
            "UDP 198.51.100.12:5353 terminating 198.51.100.11:5353",
        ],
    },
    Kind {
        name: "EndpointSlice web:53/1",
        ways: &[
            "UDP [2001:db8:2::11]:5353",
            "UDP [2001:db8:2::13]:5353 terminating [2001:db8:2::11]:5353",
        ],
    },
    Kind {
        name: "F5SPKIngressTCP web",
        ways: &[
            "service=web:80 destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10 destinationPort=80 idleTimeout=1000000",
            "service=web:80 destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10 destinationPort=80 idleTimeout=1000000 loadBalancingMethod=SOURCE_ADDR_HASH snat=SRC_TRANS_AUTOMAP",
            "service=web:80 destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10 destinationPort=80 idleTimeout=1000000 vlans={\"vlanList\":[\"external\"]} serviceDownAction=REJECT",
            "service=web:80 destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10 destinationPort=80 idleTimeout=1000000 serviceDownAction=RESELECT loadBalancingMethod=LEAST_CONN_MEMBER",
            "service=web:80 destinationAddress=203.0.113.0/24 ipv6destinationAddress=2001:db8:f::10 destinationPort=0 idleTimeout=1000000 serviceDownAction=DROP",
            // For new connections; those that are open keep the timeouts they began with.
            "service=web:80 destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10 destinationPort=80 idleTimeout=2 tcpHalfCloseTimeout=2 tcpCloseTimeout=2 resetOnTimeout=true connectionLimit=3",
        ],
    },
    Kind {
        name: "F5SPKIngressTCP auto",
        ways: &[
            "service=web:80 destinationAddress=203.0.113.11 destinationPort=80 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP",
            "service=web:80 destinationAddress=203.0.113.11 destinationPort=80 idleTimeout=1000000",
            "service=web:80 destinationAddress=203.0.113.11 destinationPort=80 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP serviceDownAction=REJECT vlans={\"vlanList\":[\"external\"]}",
        ],
    },
    Kind {
        name: "F5SPKIngressTCP other",
        ways: &[
            "-",
            "service=web:80 destinationAddress=203.0.113.0/24 destinationPort=0 idleTimeout=1000000",
            "service=web:80 destinationAddress=0.0.0.0/0 destinationPort=0 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP vlans={\"vlanList\":[\"external\"]}",
            // What another listens to already.
            "service=web:80 destinationAddress=203.0.113.11 destinationPort=80 idleTimeout=1000000",
        ],
    },
    Kind {
        name: "F5SPKIngressUDP dns",
        ways: &[
            "service=web:53 destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10 destinationPort=53 idleTimeout=1000000",
            "service=web:53 destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10 destinationPort=53 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP",
            "service=web:53 destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10 destinationPort=53 idleTimeout=1000000 serviceDownAction=RESELECT",
            "service=web:53 destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10 destinationPort=53 idleTimeout=1000000 datagramLoadBalancing=true unrepliedTimeout=9",
            "service=web:53 destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10 destinationPort=53 idleTimeout=1000000 snat=SRC_TRANS_SNATPOOL snatpool=pool connectionLimit=2",
            "service=web:53 destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10 destinationPort=53 idleTimeout=2",
        ],
    },
    Kind {
        name: "F5SPKStaticRoute far",
        ways: &[
            "-",
            "destination=10.9.0.0 prefixLen=16 type=gateway gateway=198.51.100.12",
            "destination=10.9.0.0 prefixLen=16 type=gateway gateway=192.0.2.254",
            "destination=10.0.0.0 prefixLen=8 type=gateway gateway=198.51.100.13",
        ],
    },
    Kind {
        name: "F5SPKSnatpool pool",
        ways: &[
            "addressList=[\"198.51.100.50\",\"192.0.2.50\",\"2001:db8:1::50\",\"2001:db8:2::50\"]",
            "addressList=[\"198.51.100.50\",\"198.51.100.51\",\"192.0.2.50\",\"192.0.2.51\",\"2001:db8:1::50\",\"2001:db8:2::50\",\"2001:db8:1::51\"]",
            "addressList=[\"198.51.100.51\",\"192.0.2.51\",\"2001:db8:1::51\"]",
        ],
    },
    // Used by nobody: what it has, and where it stands among pools, is nobody's business.
    Kind {
        name: "F5SPKSnatpool elsewhere",
        ways: &[
            "-",
            "addressList=[\"192.0.2.60\",\"192.0.2.61\"]",
            "addressList=[\"192.0.2.61\",\"2001:db8:1::60\"]",
        ],
    },
    Kind {
        name: "F5SPKIngressTCP pooled",
        ways: &[
            "service=web:80 destinationAddress=203.0.113.12 ipv6destinationAddress=2001:db8:f::12 destinationPort=80 idleTimeout=1000000 snat=SRC_TRANS_SNATPOOL snatpool=pool",
            "service=web:80 destinationAddress=203.0.113.12 ipv6destinationAddress=2001:db8:f::12 destinationPort=80 idleTimeout=1000000 snat=SRC_TRANS_SNATPOOL snatpool=nobody",
            "service=web:80 destinationAddress=203.0.113.12 ipv6destinationAddress=2001:db8:f::12 destinationPort=80 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP connectionLimit=2 clientConnectionLimit=1",
            "service=web:80 destinationAddress=203.0.113.12 ipv6destinationAddress=2001:db8:f::12 destinationPort=80 idleTimeout=1000000 snat=SRC_TRANS_SNATPOOL snatpool=pool synProtectionThreshold=1 resetOnTimeout=true looseInitialization=true tcpHandshakeTimeout=1",
        ],
    },
    Kind {
        name: "EndpointSlice web:38412",
        ways: &[
            "SCTP 198.51.100.11:38412",
            "SCTP 198.51.100.11:38412 198.51.100.12:38412",
            "SCTP not-ready 198.51.100.11:38412",
            "SCTP terminating 198.51.100.11:38412 198.51.100.12:38412",
            "SCTP 198.51.100.12:38412",
        ],
    },
    Kind {
        name: "EndpointSlice web:38412/1",
        ways: &[
            "SCTP [2001:db8:2::12]:38412",
            "SCTP [2001:db8:2::13]:38412 terminating [2001:db8:2::12]:38412",
        ],
    },
    Kind {
        name: "F5SPKIngressNGAP amf",
        ways: &[
            "service=web:38412 destinationAddress=203.0.113.20 ipv6destinationAddress=2001:db8:f::20 idleTimeout=1000000",
            "service=web:38412 destinationAddress=203.0.113.20 ipv6destinationAddress=2001:db8:f::20 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP loadBalancingMethod=LEAST_CONN_MEMBER",
            "service=web:38412 destinationAddress=203.0.113.20 ipv6destinationAddress=2001:db8:f::20 idleTimeout=1000000 snat=SRC_TRANS_SNATPOOL snatpool=pool serviceDownAction=REJECT",
            "service=web:38412 destinationAddress=203.0.113.20 ipv6destinationAddress=2001:db8:f::20 idleTimeout=2",
        ],
    },
    Kind {
        name: "EndpointSlice web:3868",
        ways: &[
            "TCP 198.51.100.12:3868",
            "TCP 198.51.100.12:3868 198.51.100.13:3868",
            "TCP 198.51.100.13:3868 terminating 198.51.100.12:3868",
        ],
    },
    Kind {
        name: "EndpointSlice web:3868/sctp",
        ways: &[
            "SCTP 198.51.100.12:3868",
            "SCTP 198.51.100.12:3868 198.51.100.13:3868",
            "SCTP terminating 198.51.100.12:3868 198.51.100.11:3868",
        ],
    },
    Kind {
        name: "F5SPKIngressDiameter hss",
        ways: &[
            "service=web:3868 externalTCP.destinationAddress=203.0.113.30 externalSCTP.destinationAddress=203.0.113.31 idleTimeout=1000000",
            "service=web:3868 externalTCP.destinationAddress=203.0.113.30 externalSCTP.destinationAddress=203.0.113.31 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP loadBalancingMethod=SOURCE_ADDR_HASH",
            "service=web:3868 externalTCP.destinationAddress=203.0.113.30 externalSCTP.destinationAddress=203.0.113.31 idleTimeout=1000000 snat=SRC_TRANS_SNATPOOL snatpool=pool serviceDownAction=RESELECT",
            "service=web:3868 externalTCP.destinationAddress=203.0.113.30 idleTimeout=1000000",
        ],
    },
    Kind {
        name: "F5SPKEgress away",
        ways: &[
            "dualStackEnabled=true snatType=SRC_TRANS_AUTOMAP tcpIdleTimeout=1000000 udpIdleTimeout=1000000 icmpIdleTimeout=1000000",
            "dualStackEnabled=true egressSnatpool=pool tcpIdleTimeout=1000000 udpIdleTimeout=1000000 icmpIdleTimeout=1000000",
            "dualStackEnabled=true egressSnatpool=pool natMapping=ENDPOINT_INDEPENDENT tcpIdleTimeout=1000000 udpIdleTimeout=1000000 icmpIdleTimeout=1000000",
            "dualStackEnabled=true egressSnatpool=pool natMapping=ENDPOINT_INDEPENDENT natFiltering=ENDPOINT_INDEPENDENT tcpIdleTimeout=1000000 udpIdleTimeout=1000000 icmpIdleTimeout=1000000",
            "snatType=SRC_TRANS_AUTOMAP natMapping=ENDPOINT_INDEPENDENT maxMappingsPerClient=2 tcpIdleTimeout=1000000 udpIdleTimeout=1000000 icmpIdleTimeout=1000000",
            "dualStackEnabled=true snatType=SRC_TRANS_NONE tcpIdleTimeout=1000000 udpIdleTimeout=2 icmpIdleTimeout=2",
        ],
    },
    // Addresses and ports that belong to nothing of the others.
    Kind {
        name: "Service spare",
        ways: &["-", "80/TCP", "80/TCP 53/UDP"],
    },
    Kind {
        name: "EndpointSlice spare",
        ways: &[
            "-",
            "TCP 198.51.100.11:8080",
            "TCP 198.51.100.12:8080 198.51.100.11:8080",
        ],
    },
    Kind {
        name: "F5SPKIngressTCP spare",
        ways: &[
            "-",
            "service=spare:80 destinationAddress=203.0.113.99 destinationPort=80 snat=SRC_TRANS_AUTOMAP",
            "service=spare:80 destinationAddress=203.0.113.99 destinationPort=80 snat=SRC_TRANS_SNATPOOL snatpool=elsewhere",
        ],
    },
    Kind {
        name: "F5SPKEgress second",
        ways: &[
            "-",
            "egressSnatpool=elsewhere vlans={\"vlanList\":[\"spare\"]}",
        ],
    },
];
