//! Captures made frame by frame, from addresses of the documentation prefixes; the same octets on
//! every run.

use std::time::Duration;

use dataplane::rig::port_mac;
use net::emit::{TcpFields, ethernet, ethertype_of, icmp, tcp, udp};
use net::header::tcp_flags::{ACK, FIN, PSH, SYN};
use net::{Addr, Encap, FlowKey, IpProto, L4Port, MacAddr, Network, PortId, Timestamp, VlanId};
use serde_json::{Value, json};

pub const CLIENT_SIDE: PortId = PortId(0);
pub const SERVER_SIDE: PortId = PortId(1);
pub const CLIENT_MAC: MacAddr = MacAddr([0x02, 0xc1, 0, 0, 0, 7]);
pub const SERVER_MAC: MacAddr = MacAddr([0x02, 0x5e, 0, 0, 0, 11]);

/// When every capture begins: 2023-11-14 22:13:20 UTC.
pub const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// A configuration, and what arrives at the ports.
pub struct Scene {
    pub name: &'static str,
    pub objects: Vec<Value>,
    pub frames: Vec<(PortId, Timestamp, Vec<u8>)>,
    pub client_encap: Encap,
    pub server_encap: Encap,
    now: Timestamp,
}

pub fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<std::net::IpAddr>().unwrap())
}

pub fn vid(number: u16) -> VlanId {
    VlanId::new(number).unwrap()
}

pub fn key(proto: IpProto, src: (&str, u16), dst: (&str, u16)) -> FlowKey {
    FlowKey::new(
        addr(src.0),
        addr(dst.0),
        L4Port(src.1),
        L4Port(dst.1),
        proto,
    )
}

/// The two VLANs that all scenes have.
pub fn vlans(client: Encap, server: Encap) -> Vec<Value> {
    let vlan = |name: &str, encap: Encap, port: &str, v4: &str, v6: &str| {
        let mut spec = json!({ "name": name, "interfaces": [port],
            "selfip_v4s": [v4], "prefixlen_v4": 24, "selfip_v6s": [v6], "prefixlen_v6": 64,
            "internal": name == "internal" });
        if encap.vid() != 0 {
            spec["tag"] = json!(encap.vid());
        }
        if encap.service_vid() != 0 {
            spec["outerTag"] = json!(encap.service_vid());
        }
        json!({ "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKVlan",
            "metadata": { "name": name }, "spec": spec })
    };
    vec![
        vlan("external", client, "1.1", "192.0.2.1", "2001:db8:100::1"),
        vlan("internal", server, "1.2", "198.51.100.1", "2001:db8:200::1"),
    ]
}

/// A virtual server on 203.0.113.10 and 2001:db8:ffff::10, with one member of each family.
pub fn virtual_server(
    proto: &str,
    port: u16,
    member_port: u16,
    snat: &str,
    idle: u64,
) -> Vec<Value> {
    let name = format!("{}-{port}", proto.to_lowercase());
    let slice = |family: &str, member: &str| {
        json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": format!("{name}-{}", family.to_lowercase()),
                "labels": { "kubernetes.io/service-name": name } },
            "addressType": family,
            "ports": [{ "name": "p", "port": member_port, "protocol": proto }],
            "endpoints": [{ "addresses": [member], "conditions": { "ready": true } }] })
    };
    vec![
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "ports": [{ "name": "p", "port": port, "protocol": proto }] } }),
        slice("IPv4", "198.51.100.11"),
        slice("IPv6", "2001:db8:200::11"),
        json!({ "apiVersion": format!("ingress{}.k8s.f5net.com/v1", proto.to_lowercase()),
            "kind": format!("F5SPKIngress{proto}"), "metadata": { "name": name },
            "service": { "name": name, "port": port },
            "spec": { "destinationAddress": "203.0.113.10",
                "ipv6destinationAddress": "2001:db8:ffff::10",
                "destinationPort": port, "snat": snat, "idleTimeout": idle,
                "vlans": { "vlanList": ["external"] } } }),
    ]
}

impl Scene {
    pub fn new(name: &'static str, client: Encap, server: Encap) -> Self {
        Self {
            name,
            objects: vlans(client, server),
            frames: Vec::new(),
            client_encap: client,
            server_encap: server,
            now: START,
        }
    }

    pub fn with(mut self, objects: Vec<Value>) -> Self {
        self.objects.extend(objects);
        self
    }

    /// Time passes.
    pub fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// A frame as it is; the next one comes a millisecond and 7 ns later.
    pub fn raw(&mut self, port: PortId, octets: Vec<u8>) {
        self.frames.push((port, self.now, octets));
        self.wait(Duration::from_nanos(1_000_007));
    }

    /// A packet from the station of that port to tmm.
    pub fn packet(&mut self, port: PortId, packet: &[u8]) {
        let kind = match packet.first().map(|first| first >> 4) {
            Some(4) => ethertype_of(Network::Ipv4),
            _ => ethertype_of(Network::Ipv6),
        };
        let (mac, encap) = self.station(port);
        self.raw(port, ethernet(port_mac(port), mac, encap, kind, packet));
    }

    /// A frame of the station of that port, to anybody.
    pub fn frame(&mut self, port: PortId, to: MacAddr, kind: u16, payload: &[u8]) {
        let (mac, encap) = self.station(port);
        self.raw(port, ethernet(to, mac, encap, kind, payload));
    }

    fn station(&self, port: PortId) -> (MacAddr, Encap) {
        if port == CLIENT_SIDE {
            (CLIENT_MAC, self.client_encap)
        } else {
            (SERVER_MAC, self.server_encap)
        }
    }

    /// A connection: handshake, a request, a response in two segments, an orderly close. `client` is
    /// what the client sends, `server` what the server sends.
    pub fn connection(&mut self, client: FlowKey, server: FlowKey) {
        let (mut c, mut s) = (1000_u32, 90_000_u32);
        let mut say = |scene: &mut Self, from_client: bool, flags: u8, payload: &[u8]| {
            let (key, port, seq, ack) = if from_client {
                (client, CLIENT_SIDE, &mut c, s)
            } else {
                (server, SERVER_SIDE, &mut s, c)
            };
            let fields = TcpFields {
                seq: *seq,
                ack: if flags & ACK == 0 { 0 } else { ack },
                flags,
                window: 64_240,
            };
            scene.packet(port, &tcp(&key, fields, payload));
            let control = u32::from(flags & (SYN | FIN) != 0);
            *seq += u32::try_from(payload.len()).unwrap() + control;
        };
        say(self, true, SYN, b"");
        say(self, false, SYN | ACK, b"");
        say(self, true, ACK, b"");
        say(
            self,
            true,
            PSH | ACK,
            b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n",
        );
        say(
            self,
            false,
            ACK,
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        );
        say(self, false, PSH | ACK, b"hello");
        say(self, true, ACK, b"");
        say(self, true, FIN | ACK, b"");
        say(self, false, FIN | ACK, b"");
        say(self, true, ACK, b"");
    }

    pub fn udp(&mut self, port: PortId, key: &FlowKey, payload: &[u8]) {
        self.packet(port, &udp(key, payload));
    }

    /// An echo request of the client.
    pub fn ping(&mut self, from: &str, to: &str) {
        let v4 = addr(to).is_v4();
        let (proto, kind) = if v4 {
            (IpProto::ICMP, 8)
        } else {
            (IpProto::ICMPV6, 128)
        };
        let key = key(proto, (from, 0), (to, 0));
        self.packet(
            CLIENT_SIDE,
            &icmp(&key, 64, kind, 0, [0x12, 0x34, 0, 1], b"are you there?"),
        );
    }

    /// An ARP packet of the client.
    pub fn arp(&mut self, operation: u8, sender: &str, target: &str, to: MacAddr) {
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, operation];
        arp.extend_from_slice(&CLIENT_MAC.0);
        arp.extend_from_slice(&addr(sender).v4_octets());
        arp.extend_from_slice(&[0; 6]);
        arp.extend_from_slice(&addr(target).v4_octets());
        // Padded to the shortest frame, as a device does.
        arp.resize(46, 0);
        self.frame(CLIENT_SIDE, to, 0x0806, &arp);
    }

    /// A neighbour solicitation of the client.
    pub fn solicit(&mut self, sender: &str, target: &str) {
        let target = addr(target);
        let mut group = [0; 16];
        group[..2].copy_from_slice(&[0xff, 2]);
        group[11] = 1;
        group[12] = 0xff;
        group[13..].copy_from_slice(&target.octets()[13..]);
        let key = FlowKey::new(
            addr(sender),
            Addr::from_v6(group),
            L4Port(0),
            L4Port(0),
            IpProto::ICMPV6,
        );
        let mut body = target.octets().to_vec();
        body.extend_from_slice(&[1, 1]);
        body.extend_from_slice(&CLIENT_MAC.0);
        let packet = icmp(&key, 255, 135, 0, [0; 4], &body);
        let to = MacAddr::ipv6_multicast(group.into());
        self.frame(CLIENT_SIDE, to, 0x86dd, &packet);
    }
}
