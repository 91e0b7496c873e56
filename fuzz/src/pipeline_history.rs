//! A history of frames, time and configuration, played to a whole tmm in memory.

use std::time::Duration;

use dataplane::memory::MemoryFrame;
use dataplane::port::Frame;
use dataplane::rig::{Rig, RigConfig, port_mac};
use net::emit::{self, TcpFields};
use net::{
    Addr, Encap, FlowKey, IpProto, L4Port, Layers, MacAddr, Network, PortId, Timestamp, VlanId,
};
use serde_json::{Value, json};

use crate::opinions::compare;

/// Longer histories find nothing that shorter ones do not.
const MAX_STEPS: usize = 256;
/// Few flows, so that a full table is met.
const CAPACITY: usize = 32;
/// Stations on the wires.
const STATION: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
/// Tags of the VLANs on ports 1.1 and 1.2.
const TAG: [u16; 2] = [100, 200];

/// The input, read from the front; zeros once it is used up.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn octet(&mut self) -> u8 {
        self.octets(1).first().copied().unwrap_or(0)
    }

    fn index(&mut self, n: usize) -> usize {
        usize::from(self.octet()) % n
    }

    fn octets(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

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

    /// Lets tmm work, and looks at all that it sends.
    fn settle(&mut self) {
        let mut decided = 0;
        self.rig.advance_with(self.now, |_, _, _| decided += 1);
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
        let pipeline = self.rig.worker().pipeline();
        let flows = pipeline.flows().len();
        assert!(flows <= CAPACITY);
        // What is shown of virtual servers and members is what there is.
        let tables = pipeline.tables();
        for stats in [&tables.virtual_server_stats, &tables.member_stats] {
            let shown: u64 = stats.iter().map(|s| s.totals().connections).sum();
            assert_eq!(shown, flows as u64, "connections shown, flows tracked");
        }
    }

    fn client_packet(input: &mut Input<'_>) -> Vec<u8> {
        let (shape, client, flags) = (input.octet(), input.octet(), input.octet());
        let v6 = shape & 1 != 0;
        let (src, dst) = if v6 {
            let mut src = [0; 16];
            src[..6].copy_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 1]);
            src[15] = 0x70 | (client & 7);
            let mut dst = [0; 16];
            dst[..6].copy_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0x0f]);
            dst[15] = 0x10;
            (Addr::from_v6(src), Addr::from_v6(dst))
        } else {
            (
                Addr::from_v4([192, 0, 2, 70 + (client & 7)]),
                Addr::from_v4([203, 0, 113, 10]),
            )
        };
        let sport = L4Port(40_000 + u16::from(client >> 3));
        let payload = [0xa5; 40];
        let payload = &payload[..usize::from(shape >> 3)];
        let number = u32::from(flags) << 8;
        match shape >> 1 & 3 {
            0 | 1 => emit::tcp(
                &FlowKey::new(src, dst, sport, L4Port(80), IpProto::TCP),
                TcpFields {
                    seq: number,
                    ack: number,
                    flags: flags & 0x3f,
                    window: 1000,
                },
                payload,
            ),
            2 => emit::udp(
                &FlowKey::new(src, dst, sport, L4Port(53), IpProto::UDP),
                payload,
            ),
            _ => {
                let (proto, kind) = if v6 {
                    (IpProto::ICMPV6, 128)
                } else {
                    (IpProto::ICMP, 8)
                };
                let key = FlowKey::new(src, dst, sport, sport, proto);
                emit::icmp(&key, 64, kind, 0, [0, client, 0, flags], payload)
            }
        }
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
            _ => {}
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.octet() % 9 {
            8 => {
                let (at, len, mark) = (input.octet(), input.octet(), input.octet());
                let mut packet = Self::client_packet(input);
                fragment(&mut packet, usize::from(at), usize::from(len), mark);
                self.send_packet(0, &packet);
            }
            0..=2 => {
                let packet = Self::client_packet(input);
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

/// Makes a packet a fragment with some of its octets: `at` in eights, at most `len` octets; of `mark`, a bit
/// says whether more follow, others are the identification.
fn fragment(l3: &mut Vec<u8>, at: usize, len: usize, mark: u8) {
    let v4 = l3.first().is_some_and(|octet| octet >> 4 == 4);
    let header = if v4 { 20 } else { 40 };
    let (at, more) = (at % 16, mark & 1);
    let rest = l3.split_off(header);
    let from = (at * 8).min(rest.len());
    let to = (from + len).min(rest.len());
    let id = mark >> 1 & 3;
    let at = u16::try_from(at).unwrap_or(0);
    if v4 {
        let field = at | u16::from(more) << 13;
        let total = u16::try_from(header + to - from).unwrap_or(0);
        l3[2..4].copy_from_slice(&total.to_be_bytes());
        l3[4..6].copy_from_slice(&[0, id]);
        l3[6..8].copy_from_slice(&field.to_be_bytes());
        l3[10..12].fill(0);
        let sum = net::checksum::of(&l3[..20]);
        l3[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        let field = (at << 3 | u16::from(more)).to_be_bytes();
        l3.extend([l3[6], 0, field[0], field[1], 0, 0, 0, id]);
        l3[6] = 44;
        let payload = u16::try_from(8 + to - from).unwrap_or(0);
        l3[4..6].copy_from_slice(&payload.to_be_bytes());
    }
    l3.extend(&rest[from..to]);
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
        let all = world.objects[..10].to_vec();
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
    let flows = world.rig.worker().pipeline().flows();
    assert_eq!(flows.len(), 0, "flows outlive their timeouts");
    let trains = world.rig.worker().pipeline().trains();
    assert!(trains.is_empty(), "fragments outlive their timeout");
    assert!(
        !world.rig.worker().holds_frames(),
        "frames are held forever"
    );
    flows.stats().inserts
}
