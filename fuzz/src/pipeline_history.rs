//! A history of frames, time and configuration, played to a whole tmm in memory.

use std::sync::Arc;
use std::time::Duration;

use conntrack::{Cursor, FlowRef};
use dataplane::counters::ServiceStats;
use dataplane::memory::MemoryFrame;
use dataplane::pipeline::FlowData;
use dataplane::port::Frame;
use dataplane::rig::{Nic, Rig, RigConfig, port_mac};
use dataplane::verdict::Verdict;
use lb::MemberId;
use net::emit::{self, TcpFields};
use net::{
    Addr, Encap, FlowKey, IpProto, L4Port, Layers, MacAddr, Network, PortId, Timestamp, VlanId,
};
use serde_json::{Value, json};

use crate::opinions::compare;
use crate::pipeline_packets::{self as packets, Input};

/// Longer histories find nothing that shorter ones do not.
const MAX_STEPS: usize = 256;
/// Few flows, so that a full table is met.
const CAPACITY: usize = 32;
/// Stations on the wires.
const STATION: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
/// Tags of the VLANs on ports 1.1 and 1.2.
const TAG: [u16; 2] = [100, 200];

/// Everything the history may configure.
fn objects() -> Vec<Value> {
    let vlan = |name: &str, at: usize, v4: &str, v6: &str| {
        json!({"apiVersion":"k8s.f5net.com/v1","kind":"F5SPKVlan","metadata":{"name":name},
            "spec":{"name":name,"tag":TAG[at],"interfaces":[format!("1.{}", at + 1)],
                "internal":at == 1,"selfip_v4s":[v4],"prefixlen_v4":24,
                "selfip_v6s":[v6],"prefixlen_v6":64}})
    };
    let service = |name: &str, port: u16, proto: &str| {
        json!({"apiVersion":"v1","kind":"Service","metadata":{"name":name},
            "spec":{"ports":[{"name":"p","port":port,"protocol":proto}]}})
    };
    let slice = |name: &str, family: &str, proto: &str, addresses: [&str; 2]| {
        json!({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice",
            "metadata":{"name":format!("{name}-{}", family.to_lowercase()),
                "labels":{"kubernetes.io/service-name":name}},
            "addressType":family,"ports":[{"name":"p","port":8080,"protocol":proto}],
            "endpoints":[
                {"addresses":[addresses[0]],"conditions":{"ready":true}},
                {"addresses":[addresses[1]],"conditions":{"ready":true}}]})
    };
    let ingress = |kind: &str, group: &str, name: &str, port: u16, snat: &str| {
        json!({"apiVersion":group,"kind":kind,"metadata":{"name":name},
            "service":{"name":name,"port":port},
            "spec":{"destinationAddress":"203.0.113.10","ipv6destinationAddress":"2001:db8:f::10",
                "destinationPort":port,"snat":snat,"idleTimeout":30}})
    };
    let tcp = |snat: &str| {
        ingress(
            "F5SPKIngressTCP",
            "ingresstcp.k8s.f5net.com/v1",
            "web",
            80,
            snat,
        )
    };
    let udp = |snat: &str| {
        ingress(
            "F5SPKIngressUDP",
            "ingressudp.k8s.f5net.com/v1",
            "dns",
            53,
            snat,
        )
    };
    let egress = |spec: Value| {
        json!({"apiVersion":"k8s.f5net.com/v1","kind":"F5SPKEgress","metadata":{"name":"egress"},
            "spec":spec})
    };
    // The virtual server for TCP, with limits and the like.
    let guarded = |more: Value| {
        let mut object = tcp("SRC_TRANS_NONE");
        if let (Some(spec), Value::Object(more)) = (object["spec"].as_object_mut(), more) {
            spec.extend(more);
        }
        object
    };
    let mut balanced = udp("SRC_TRANS_AUTOMAP");
    balanced["spec"]["datagramLoadBalancing"] = json!(true);
    vec![
        vlan("external", 0, "192.0.2.1", "2001:db8:1::1"),
        vlan("internal", 1, "198.51.100.1", "2001:db8:2::1"),
        service("web", 80, "TCP"),
        service("dns", 53, "UDP"),
        slice("web", "IPv4", "TCP", ["198.51.100.11", "198.51.100.12"]),
        slice("web", "IPv6", "TCP", ["2001:db8:2::11", "2001:db8:2::12"]),
        slice("dns", "IPv4", "UDP", ["198.51.100.11", "198.51.100.13"]),
        slice("dns", "IPv6", "UDP", ["2001:db8:2::11", "2001:db8:2::13"]),
        tcp("SRC_TRANS_AUTOMAP"),
        udp("SRC_TRANS_AUTOMAP"),
        tcp("SRC_TRANS_NONE"),
        udp("SRC_TRANS_NONE"),
        json!({"apiVersion":"k8s.f5net.com/v1","kind":"F5SPKStaticRoute","metadata":{"name":"r"},
            "spec":{"destination":"0.0.0.0","prefixLen":0,"type":"gateway","gateway":"192.0.2.254"}}),
        // From here on only where the seed says so.
        service("amf", 38_412, "SCTP"),
        slice("amf", "IPv4", "SCTP", ["198.51.100.11", "198.51.100.12"]),
        slice("amf", "IPv6", "SCTP", ["2001:db8:2::11", "2001:db8:2::12"]),
        json!({"apiVersion":"k8s.f5net.com/v1","kind":"F5SPKIngressNGAP","metadata":{"name":"amf"},
            "service":{"name":"amf","port":38412},
            "spec":{"destinationAddress":"203.0.113.20","ipv6destinationAddress":"2001:db8:f::20",
                "snat":"SRC_TRANS_AUTOMAP","idleTimeout":30}}),
        json!({"apiVersion":"k8s.f5net.com/v1","kind":"F5SPKSnatpool","metadata":{"name":"out"},
            "spec":{"name":"out","addressList":["192.0.2.50","2001:db8:1::50"]}}),
        egress(json!({"egressSnatpool":"out","dualStackEnabled":true})),
        egress(json!({"egressSnatpool":"out","dualStackEnabled":true,
            "natMapping":"ENDPOINT_INDEPENDENT","natFiltering":"ENDPOINT_INDEPENDENT",
            "maxMappingsPerClient":3})),
        egress(json!({"natMapping":"ENDPOINT_INDEPENDENT","natFiltering":"ADDRESS_DEPENDENT"})),
        guarded(json!({"synProtectionThreshold":1,"resetOnTimeout":true})),
        guarded(
            json!({"connectionLimit":3,"clientConnectionLimit":2,"looseInitialization":true,
            "snat":"SRC_TRANS_SNATPOOL","snatpool":"out"}),
        ),
        balanced,
    ]
}

fn vlan(port: usize) -> Encap {
    Encap::from_ids(None, VlanId::new(TAG[port]))
}

fn port_id(port: usize) -> PortId {
    PortId(u8::from(port == 1))
}

/// The world around tmm: what it remembers of what went by.
struct World {
    rig: Rig,
    now: Timestamp,
    /// Frames sent that tmm has not decided on yet.
    due: u64,
    sent: [Vec<u8>; 2],
    received: [Vec<Vec<u8>>; 2],
    objects: Vec<Value>,
}

impl World {
    fn new(seed: u8) -> Self {
        let config = RigConfig {
            flow_capacity: CAPACITY,
            seed: u64::from(seed),
            workers: if seed & 8 == 0 { 1 } else { 3 },
            nic: if seed & 16 == 0 {
                Nic::Tuple
            } else {
                Nic::RoundRobin
            },
            straight_way: seed & 32 == 0,
            ..RigConfig::default()
        };
        Self {
            rig: Rig::new(&config),
            now: Timestamp::from_secs(1),
            due: 0,
            sent: [Vec::new(), Vec::new()],
            received: [Vec::new(), Vec::new()],
            objects: objects(),
        }
    }

    fn send(&mut self, port: usize, frame: Vec<u8>) {
        self.due += 1;
        self.rig.send(port_id(port), MemoryFrame::new(&frame));
        self.sent[port] = frame;
    }

    /// Puts a packet into a frame from the station on this port.
    fn send_packet(&mut self, port: usize, l3: &[u8]) {
        let kind = if l3.first().is_some_and(|o| o >> 4 == 4) {
            0x0800
        } else {
            0x86dd
        };
        let to = port_mac(port_id(port));
        self.send(
            port,
            emit::ethernet(to, STATION[port], vlan(port), kind, l3),
        );
    }

    /// How often a frame came round so far.
    fn turns(&self) -> u64 {
        let workers = self.rig.workers().iter();
        let turns = workers.map(|worker| worker.shared().counters.hairpin_packets.get());
        turns.sum()
    }

    /// Lets tmm work, and looks at all that it sends.
    fn settle(&mut self) {
        let mut decided = 0;
        let turns = self.turns();
        self.rig.advance_with(self.now, |_, _, verdict| {
            // Whoever it is handed to decides.
            let handed = matches!(verdict, Verdict::Handoff(_) | Verdict::Gather(_));
            decided += u64::from(!handed);
        });
        // Those that come round have one more.
        decided -= self.turns() - turns;
        assert_eq!(decided, self.due, "each frame has one verdict");
        self.due = 0;
        for port in 0..2 {
            let mut count = 0;
            while let Some(mut frame) = self.rig.receive(port_id(port)) {
                let layers = Layers::parse(&frame.packet());
                assert!(
                    layers.is_ok(),
                    "sent {:02x?}: {:?}",
                    frame.octets(),
                    layers.err()
                );
                compare(frame.octets());
                count += 1;
                assert!(count < 10_000, "a storm");
                let kept = &mut self.received[port];
                kept.push(frame.octets().to_vec());
                if kept.len() > 8 {
                    kept.remove(0);
                }
            }
        }
        let (mut flows, mut of_members) = (0, 0);
        for worker in self.rig.workers() {
            let table = worker.pipeline().flows();
            assert!(table.len() <= CAPACITY);
            flows += table.len() as u64;
            let all = table.iter_from(Cursor::default(), usize::MAX).0;
            let without = [MemberId::ROUTED, MemberId::MAPPED, MemberId::ADMITTED];
            let of_member = |flow: &FlowRef<'_, FlowData>| !without.contains(&flow.data().member);
            of_members += all.filter(|(_, flow)| of_member(flow)).count() as u64;
        }
        // What is shown of virtual servers and members is what there is.
        let tables = self.rig.worker().pipeline().tables();
        let shown = |stats: &[Arc<ServiceStats>]| -> u64 {
            stats.iter().map(|s| s.totals().connections).sum()
        };
        let shown = (
            shown(&tables.virtual_server_stats),
            shown(&tables.member_stats),
        );
        assert_eq!(
            shown,
            (flows, of_members),
            "connections shown, flows tracked"
        );
    }

    /// Answers a frame that tmm sent, as the station on that port would.
    fn answer(&mut self, input: &mut Input<'_>) {
        let (port, flags) = (input.index(2), input.octet());
        let Some(frame) = self.received[port].last().cloned() else {
            return;
        };
        let mut seen = MemoryFrame::new(&frame);
        let Ok(layers) = Layers::parse(&seen.packet()) else {
            return;
        };
        let l3 = &frame[layers.l3..];
        match (layers.network, layers.key.proto, layers.icmp_type) {
            (Network::Arp, ..) if l3.len() >= 28 => {
                let mut reply = l3[..28].to_vec();
                reply[7] = 2;
                reply[8..14].copy_from_slice(&STATION[port].0);
                reply[14..18].copy_from_slice(&l3[24..28]);
                reply[18..28].copy_from_slice(&l3[8..18]);
                let to = port_mac(port_id(port));
                let reply = emit::ethernet(to, STATION[port], vlan(port), 0x0806, &reply);
                self.send(port, reply);
            }
            (_, IpProto::ICMPV6, 135) if l3.len() >= 64 => {
                let mut target = [0; 16];
                target.copy_from_slice(&l3[48..64]);
                let mut body = target.to_vec();
                body.extend([2, 1]);
                body.extend(STATION[port].0);
                let key = FlowKey::new(
                    Addr::from_v6(target),
                    layers.key.src,
                    L4Port(0),
                    L4Port(0),
                    IpProto::ICMPV6,
                );
                let l3 = emit::icmp(&key, 255, 136, 0, [0x60, 0, 0, 0], &body);
                self.send_packet(port, &l3);
            }
            // An error about it, with as much of it as the dice say.
            (_, IpProto::TCP | IpProto::UDP, _) if flags & 0x80 != 0 => {
                let v4 = layers.network == Network::Ipv4;
                let (proto, kinds) = if v4 {
                    (IpProto::ICMP, [3, 4, 11, 12])
                } else {
                    (IpProto::ICMPV6, [1, 2, 3, 4])
                };
                let quoted = &l3[..l3.len().min(usize::from(flags & 0x7f))];
                let kind = kinds[usize::from(flags & 3)];
                let key = layers.key.inverted();
                let key = FlowKey::new(key.src, key.dst, L4Port(0), L4Port(0), proto);
                let l3 = emit::icmp(&key, 64, kind, 1, [0; 4], quoted);
                self.send_packet(port, &l3);
            }
            (_, IpProto::TCP, _) => {
                let number = |at: usize| {
                    let o = &frame[layers.l4 + at..];
                    u32::from_be_bytes([o[0], o[1], o[2], o[3]])
                };
                let fields = TcpFields {
                    seq: number(8),
                    ack: number(4).wrapping_add(1),
                    flags: flags & 0x3f,
                    window: 1000,
                };
                let l3 = emit::tcp(&layers.key.inverted(), fields, &[]);
                self.send_packet(port, &l3);
            }
            (_, IpProto::UDP, _) => {
                let l3 = emit::udp(&layers.key.inverted(), b"answer");
                self.send_packet(port, &l3);
            }
            (_, IpProto::SCTP, _) => {
                let l3 = packets::sctp(&layers.key.inverted(), input);
                self.send_packet(port, &l3);
            }
            _ => {}
        }
    }

    /// An ICMP error about a frame that tmm sent, from its receiver or from a router on the way.
    fn complain(&mut self, input: &mut Input<'_>) {
        let (port, who) = (input.index(2), input.octet());
        let Some(frame) = self.received[port].last().cloned() else {
            return;
        };
        let Ok(layers) = Layers::parse(&MemoryFrame::new(&frame).packet()) else {
            return;
        };
        let router = match layers.network {
            Network::Ipv4 => Addr::from_v4([10, 0, 0, who]),
            Network::Ipv6 => Addr::from_v6([0x20; 16]),
            _ => return,
        };
        let source = if who & 1 == 0 { layers.key.dst } else { router };
        let packet = packets::error(source, layers.key.src, &frame[layers.l3..], input);
        self.send_packet(port, &packet);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.octet() % 16 {
            9 | 10 => {
                let packet = packets::association(input);
                self.send_packet(0, &packet);
            }
            11 => self.complain(input),
            12 => {
                let mut packet = packets::client_packet(input);
                packets::extend(&mut packet, input);
                self.send_packet(0, &packet);
            }
            13 => {
                let packet = packets::outward(input);
                self.send_packet(1, &packet);
            }
            14 => {
                let packet = packets::with_options(input);
                self.send_packet(0, &packet);
            }
            15 => {
                let packet = packets::inward(input);
                self.send_packet(0, &packet);
            }
            8 => {
                let (at, len, mark) = (input.octet(), input.octet(), input.octet());
                let mut packet = packets::client_packet(input);
                packets::fragment(&mut packet, usize::from(at), usize::from(len), mark);
                self.send_packet(0, &packet);
            }
            0..=2 => {
                let packet = packets::client_packet(input);
                self.send_packet(0, &packet);
            }
            3 | 4 => self.answer(input),
            5 => {
                // The last frame again, with an octet changed.
                let (port, at, value) = (input.index(2), input.octet(), input.octet());
                let mut frame = self.sent[port].clone();
                let len = frame.len().max(1);
                if let Some(octet) = frame.get_mut(usize::from(at) % len) {
                    *octet ^= value;
                }
                self.send(port, frame);
            }
            6 => {
                let (port, len) = (input.index(2), input.octet());
                let frame = input.octets(usize::from(len)).to_vec();
                self.send(port, frame);
            }
            _ => {
                let (what, which) = (input.octet(), input.octet());
                if what & 1 == 0 {
                    let passed = Duration::from_millis(1 << (which & 15));
                    // Clocks of replays may step back.
                    self.now = if which == 0xff {
                        self.now - passed
                    } else {
                        self.now + passed
                    };
                } else {
                    let object = self.objects[usize::from(which) % self.objects.len()].clone();
                    let result = if what & 2 == 0 {
                        self.rig.apply(&[object])
                    } else {
                        self.rig.delete(&[object])
                    };
                    // Deleting what is not there is an error; nothing else may be.
                    assert!(what & 2 != 0 || result.is_ok(), "{result:?}");
                }
            }
        }
        self.settle();
    }
}

/// The input is a list of steps, behind one octet of seed.
pub fn check(input: &[u8]) {
    play(input);
}

/// How many flows a history opened; whether it gets anywhere at all.
pub fn play(input: &[u8]) -> u64 {
    let mut input = Input(input);
    let seed = input.octet();
    let mut world = World::new(seed);
    if seed & 1 == 0 {
        let (most, more) = (world.objects[..10].iter(), world.objects[13..19].iter());
        let more = more.filter(|_| seed & 4 != 0);
        let all: Vec<Value> = most.chain(more).cloned().collect();
        world.rig.apply(&all).expect("the objects are valid");
        world.settle();
    }
    for _ in 0..MAX_STEPS {
        if input.0.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    // Whatever happened: after hours of silence nothing is left of it.
    for _ in 0..4 {
        world.now = world.now + Duration::from_hours(1);
        world.settle();
    }
    let mut opened = 0;
    for worker in world.rig.workers() {
        let pipeline = worker.pipeline();
        assert_eq!(pipeline.flows().len(), 0, "flows outlive their timeouts");
        assert!(
            pipeline.trains().is_empty(),
            "fragments outlive their timeout"
        );
        assert!(!worker.holds_frames(), "frames are held forever");
        assert_eq!(pipeline.mappings(), 0, "mappings outlive their flows");
        opened += pipeline.flows().stats().inserts;
    }
    opened
}
