//! A sentence for each field: what `kubectl explain` shows.

use crate::kind::Kind;

type Note = (&'static str, &'static str);

const VLAN: &[Note] = &[
    ("", "A VLAN of tmm with its self IPs."),
    ("spec", "The VLAN."),
    (
        "spec.name",
        "The VLAN's name in tmm; unique among all VLANs. Other resources refer to it.",
    ),
    ("spec.tag", "The 802.1Q tag; untagged if absent."),
    (
        "spec.outerTag",
        "An 802.1ad tag (TPID 0x88a8) around the 802.1Q tag.",
    ),
    (
        "spec.interfaces",
        "The ports, in the order of the pod's attachments: 1.1, 1.2…",
    ),
    (
        "spec.bonded",
        "The interfaces form one link aggregation group (default false).",
    ),
    (
        "spec.internal",
        "The node-facing VLAN: the egress gateway towards the cluster (default false).",
    ),
    (
        "spec.selfip_v4s",
        "IPv4 self IPs, one per replica: the first is of replica 0, and so on. A replica beyond the list stays standby.",
    ),
    ("spec.prefixlen_v4", "Prefix length of all IPv4 self IPs."),
    (
        "spec.selfip_v6s",
        "IPv6 self IPs, one per replica: the first is of replica 0, and so on. A replica beyond the list stays standby.",
    ),
    ("spec.prefixlen_v6", "Prefix length of all IPv6 self IPs."),
    (
        "spec.mtu",
        "Largest IP packet in octets; TMM_DEFAULT_MTU if absent, else 1500.",
    ),
    (
        "spec.allowed_services",
        "What the self IPs accept besides ARP, neighbour discovery and ICMP; nothing is locked down if absent.",
    ),
    (
        "spec.allowed_services[].protocol",
        "tcp, udp, sctp, icmp or any, in letters of any case.",
    ),
    (
        "spec.allowed_services[].port",
        "The destination port; 0, the default, means all.",
    ),
    (
        "spec.trunk_hash",
        "How flows are spread over the links of a bonded VLAN (default SRC_DST_IPPORT).",
    ),
    (
        "spec.cmp_hash",
        "How flows are spread over workers (default DEFAULT: addresses and ports).",
    ),
    (
        "spec.pod_hash",
        "How flows are spread over replicas that share the VLAN (default DEFAULT).",
    ),
    (
        "spec.auto_lasthop",
        "Whether replies go to the MAC address that the request came from (by default they do).",
    ),
    (
        "spec.mss_clamp",
        "Lowers the MSS that TCP connections over this VLAN announce to what its MTU holds (default false).",
    ),
    (
        "spec.category",
        "A label that other resources may select VLANs by.",
    ),
];

const STATIC_ROUTE: &[Note] = &[
    ("", "A static route of tmm."),
    ("spec", "The route."),
    (
        "spec.destination",
        "Where it leads: an address without its length; 0.0.0.0 or :: for the default route.",
    ),
    (
        "spec.prefixLen",
        "The length of the destination's prefix; 0 for the default route.",
    ),
    ("spec.type", "How it leads there: by a gateway."),
    (
        "spec.gateway",
        "The next hop, of the destination's address family.",
    ),
    (
        "spec.interface",
        "The VLAN that the gateway is on; found by its subnet if absent.",
    ),
];

const INGRESS: &[Note] = &[
    (
        "",
        "A virtual server of tmm, balanced over the endpoints of a Service.",
    ),
    (
        "service",
        "The Service whose ready endpoints are the pool; in the namespace of this object.",
    ),
    ("service.name", "Its name."),
    ("service.port", "Which of its ports, by number or name."),
    ("spec", "The virtual server."),
    (
        "spec.destinationAddress",
        "The IPv4 address or subnet it listens on; 0.0.0.0/0 is a wildcard. May stand beside ipv6destinationAddress.",
    ),
    (
        "spec.ipv6destinationAddress",
        "The IPv6 address or subnet it listens on; ::/0 is a wildcard. May stand beside destinationAddress.",
    ),
    (
        "spec.destinationPort",
        "The port it listens on; 0 means all.",
    ),
    (
        "spec.idleTimeout",
        "After how many seconds of silence a flow is forgotten (default: TCP and SCTP 300, UDP 60).",
    ),
    (
        "spec.connectionLimit",
        "The most connections it has at a time; 0, the default, is any number. Further ones are reset (TCP) or dropped.",
    ),
    (
        "spec.clientConnectionLimit",
        "The most connections of one client address at a time; 0, the default, is any number. Further ones are reset (TCP) or dropped.",
    ),
    (
        "spec.loadBalancingMethod",
        "How a pool member is selected (default ROUND_ROBIN).",
    ),
    (
        "spec.snat",
        "How the client's address is translated (default SRC_TRANS_NONE); with automap, to the self IP of the VLAN that the packet leaves by; with a SNAT pool, to one of its addresses.",
    ),
    (
        "spec.snatpool",
        "The spec.name of an F5SPKSnatpool; beside SRC_TRANS_SNATPOOL.",
    ),
    ("spec.persistence", "Not supported yet, and refused."),
    ("spec.vlans", "Where it listens; on every VLAN if absent."),
    ("spec.vlans.vlanList", "Names of VLANs."),
    (
        "spec.vlans.category",
        "A category of VLANs, in addition to the list.",
    ),
    (
        "spec.vlans.disableListedVlans",
        "On all VLANs but these (default false).",
    ),
    (
        "spec.serviceDownAction",
        "What happens to the flows of a member that goes down (default NONE).",
    ),
    (
        "monitors",
        "Health checks. They are validated and kept, and not run yet.",
    ),
    (
        "monitors.tcp",
        "TCP connections that are opened and closed.",
    ),
    (
        "monitors.tcp[].interval",
        "Seconds between two checks (default 5).",
    ),
    (
        "monitors.tcp[].timeout",
        "Seconds without a good answer after which a member is down (default 16).",
    ),
    ("monitors.icmp", "ICMP echoes."),
    (
        "monitors.icmp[].interval",
        "Seconds between two checks (default 5).",
    ),
    (
        "monitors.icmp[].timeout",
        "Seconds without a good answer after which a member is down (default 16).",
    ),
    ("monitors.http", "HTTP requests."),
    (
        "monitors.http[].interval",
        "Seconds between two checks (default 5).",
    ),
    (
        "monitors.http[].timeout",
        "Seconds without a good answer after which a member is down (default 16).",
    ),
    ("monitors.http[].sendString", "What is sent."),
    (
        "monitors.http[].receiveString",
        "What the answer must contain.",
    ),
    (
        "monitors.http[].port",
        "The port, where it is not the member's.",
    ),
    ("monitors.udp", "UDP datagrams."),
    (
        "monitors.udp[].interval",
        "Seconds between two checks (default 5).",
    ),
    (
        "monitors.udp[].timeout",
        "Seconds without a good answer after which a member is down (default 16).",
    ),
];

/// What connections of TCP have besides.
const TCP: &[Note] = &[
    (
        "spec.tcpHandshakeTimeout",
        "After how many seconds a connection is forgotten whose handshake is not complete (default 30); a SYN sent again does not prolong it.",
    ),
    (
        "spec.tcpCloseTimeout",
        "After how many seconds of silence a connection is forgotten that both sides are closing (default 60).",
    ),
    (
        "spec.tcpHalfCloseTimeout",
        "After how many seconds of silence a connection is forgotten that one side has closed (default: idleTimeout).",
    ),
    (
        "spec.tcpTimeWaitTimeout",
        "For how many seconds a connection is remembered that both sides have closed (default 10).",
    ),
    (
        "spec.resetOnTimeout",
        "Tells both ends by a reset when a connection ends because it was silent for too long (default false).",
    ),
    (
        "spec.looseInitialization",
        "Takes on connections in their middle, after a segment of the client that is neither SYN, FIN nor reset (default false: such a segment is reset).",
    ),
];

/// What associations of SCTP have besides.
const SCTP: &[Note] = &[
    (
        "spec.sctpHandshakeTimeout",
        "After how many seconds of silence an association is forgotten whose handshake is not complete (default 30); an INIT sent again does not prolong it.",
    ),
    (
        "spec.sctpShutdownTimeout",
        "After how many seconds of silence an association is forgotten that is being shut down (default 60).",
    ),
];

/// Instead of where an Ingress listens.
const DIAMETER: &[Note] = &[
    (
        "spec.externalTCP",
        "Where it listens for Diameter over TCP; may stand beside externalSCTP.",
    ),
    (
        "spec.externalSCTP",
        "Where it listens for Diameter over SCTP; may stand beside externalTCP.",
    ),
    ("spec.externalTCP.destinationAddress", V4),
    ("spec.externalTCP.ipv6destinationAddress", V6),
    ("spec.externalTCP.destinationPort", DIAMETER_PORT),
    ("spec.externalSCTP.destinationAddress", V4),
    ("spec.externalSCTP.ipv6destinationAddress", V6),
    ("spec.externalSCTP.destinationPort", DIAMETER_PORT),
    ("spec.internalTCP", MESSAGES),
    ("spec.internalSCTP", MESSAGES),
    ("spec.externalSession", MESSAGES),
    ("spec.internalSession", MESSAGES),
];

const V4: &str = "The IPv4 address or subnet it listens on; 0.0.0.0/0 is a wildcard.";
const V6: &str = "The IPv6 address or subnet it listens on; ::/0 is a wildcard.";
const DIAMETER_PORT: &str = "The port it listens on (default 3868); 0 means all.";
const MESSAGES: &str =
    "Refused: connections are balanced here, and the Diameter messages in them are not looked at.";

const NGAP: &[Note] = &[(
    "spec.destinationPort",
    "The port it listens on (default 38412); 0 means all.",
)];

const SNATPOOL: &[Note] = &[
    (
        "",
        "Addresses of tmm that clients' addresses are translated to.",
    ),
    ("spec", "The pool."),
    (
        "spec.name",
        "The pool's name, unique among all pools. Other resources refer to it.",
    ),
    (
        "spec.addressList",
        "IPv4 and IPv6 addresses: a list of lists, one for each replica (the first is replica 0's), or one list. tmm owns them: it answers ARP and neighbour discovery for them.",
    ),
    (
        "spec.sharedSnatAddressEnabled",
        "Must be false or absent: replicas do not share addresses.",
    ),
];

const EGRESS: &[Note] = &[
    (
        "",
        "The way out of the cluster: what comes in by its VLANs for anywhere is routed on, with its source translated.",
    ),
    ("spec", "The egress."),
    (
        "spec.snatType",
        "How the client's address is translated (default: to the SNAT pool that egressSnatpool names, else automap, the self IP of the VLAN that the packet leaves by).",
    ),
    (
        "spec.egressSnatpool",
        "The spec.name of an F5SPKSnatpool; empty means automap.",
    ),
    (
        "spec.dualStackEnabled",
        "For IPv6 too, not only IPv4 (default false).",
    ),
    (
        "spec.vlans",
        "Where it listens; on every internal VLAN if absent.",
    ),
    ("spec.vlans.vlanList", "Names of VLANs."),
    (
        "spec.vlans.category",
        "A category of VLANs, in addition to the list.",
    ),
    (
        "spec.vlans.disableListedVlans",
        "On all VLANs but these (default false).",
    ),
    (
        "spec.natMapping",
        "Whether a client's port is translated to the same port towards all servers (ENDPOINT_INDEPENDENT, RFC 4787) or for each flow anew (the default).",
    ),
    (
        "spec.natFiltering",
        "Who may send to a translated port: the address and port that the client has sent to (the default), that address from any port, or anybody. The latter two need natMapping: ENDPOINT_INDEPENDENT.",
    ),
    (
        "spec.maxMappingsPerClient",
        "The most ports that one client may have translated, with natMapping: ENDPOINT_INDEPENDENT (default 2048).",
    ),
    (
        "spec.tcpIdleTimeout",
        "After how many seconds of silence a TCP connection is forgotten (default 7440).",
    ),
    (
        "spec.udpIdleTimeout",
        "After how many seconds of silence a UDP flow is forgotten (default 300).",
    ),
    (
        "spec.icmpIdleTimeout",
        "After how many seconds of silence an ICMP echo is forgotten (default 60).",
    ),
    (
        "spec.otherIdleTimeout",
        "After how many seconds of silence a flow of another protocol is forgotten (default 600).",
    ),
    (
        "spec.dnsNat46Enabled",
        "Must be false or absent: not supported.",
    ),
    (
        "spec.dnsNat46Ipv4Subnet",
        "Taken and without effect, as DNS46 is not supported.",
    ),
    ("spec.dnsNat46PoolIps", "Must be empty: not supported."),
    ("spec.maxTmmReplicas", "Taken and without effect."),
    ("spec.maxReservedStaticIps", "Taken and without effect."),
    (
        "spec.nat64Enabled",
        "Must be false or absent: not supported.",
    ),
    (
        "spec.nat64Ipv6Subnet",
        "Taken and without effect, as NAT64 is not supported.",
    ),
    ("spec.dnsCacheName", "Must be empty: not supported."),
    (
        "spec.firewallEnforcedPolicy",
        "Must be empty: not supported.",
    ),
];

const UDP: &[Note] = &[
    (
        "spec.unrepliedTimeout",
        "After how many seconds of silence a flow is forgotten that was never replied to (default: idleTimeout).",
    ),
    (
        "spec.datagramLoadBalancing",
        "A member is chosen for each datagram by itself (default false).",
    ),
];

const fn own(kind: Kind) -> &'static [Note] {
    match kind {
        Kind::Vlan => VLAN,
        Kind::StaticRoute => STATIC_ROUTE,
        Kind::IngressTcp => INGRESS,
        Kind::IngressUdp => UDP,
        Kind::IngressNgap => NGAP,
        Kind::IngressDiameter => DIAMETER,
        Kind::Snatpool => SNATPOOL,
        Kind::Egress => EGRESS,
        Kind::Service | Kind::EndpointSlice => &[],
    }
}

/// What only virtual servers of TCP have.
const SYN: &[Note] = &[(
    "spec.synProtectionThreshold",
    "New TCP connections per second beyond which clients must prove that their addresses are theirs; 0, the default, is never.",
)];

const fn of_tcp(kind: Kind) -> &'static [Note] {
    match kind {
        Kind::IngressTcp | Kind::IngressDiameter => SYN,
        _ => &[],
    }
}

/// What kinds have in common with an Ingress.
fn common(kind: Kind) -> impl Iterator<Item = &'static Note> {
    let shared = matches!(
        kind,
        Kind::IngressUdp | Kind::IngressNgap | Kind::IngressDiameter
    );
    let place = move |path: &str| {
        kind == Kind::IngressDiameter && path.to_ascii_lowercase().contains("destination")
    };
    let notes = INGRESS.iter().filter(move |_| shared);
    notes.filter(move |(path, _)| !place(path) && !own(kind).iter().any(|(own, _)| own == path))
}

fn all(kind: Kind) -> impl Iterator<Item = &'static Note> {
    let sctp = match kind {
        Kind::IngressNgap | Kind::IngressDiameter => SCTP,
        _ => &[],
    };
    let tcp = match kind {
        Kind::IngressTcp | Kind::IngressDiameter => TCP,
        _ => &[],
    };
    own(kind)
        .iter()
        .chain(common(kind))
        .chain(tcp)
        .chain(sctp)
        .chain(of_tcp(kind))
}

/// The sentence of a place.
pub(super) fn of(kind: Kind, path: &str) -> Option<&'static str> {
    let found = all(kind).find(|(place, _)| *place == path);
    found.map(|(_, note)| *note)
}

/// Places that have sentences.
#[cfg(test)]
pub(super) fn paths(kind: Kind) -> Vec<&'static str> {
    all(kind).map(|(path, _)| *path).collect()
}
