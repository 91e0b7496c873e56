//! What the benchmarks share: a pipeline with live neighbours and any number of flows, and the frames
//! that belong to it.
//!
//! There is no port in it: frames are copied from templates into buffers, as a device would write
//! them, and the pipeline decides about them. The copy (64 octets) is part of what is measured.

use std::sync::Arc;

use arrayvec::ArrayVec;
use config::watch::{Hub, Output};
use dataplane::control::{Control, ControlConfig};
use dataplane::pipeline::{Pipeline, PipelineConfig};
use dataplane::port::BURST;
use dataplane::tables::PortInfo;
use dataplane::verdict::Verdict;
use lb::snat::PortStripe;
use net::emit::{TcpFields, ethernet, tcp, udp};
use net::header::tcp_flags::{ACK, SYN};
use net::{
    Addr, Encap, FlowKey, IpProto, L4Port, MacAddr, Packet, PortId, RxMeta, Timestamp, VlanId,
};
use serde_json::{Value, json};
use vlan::{Event, How};

const CLIENT: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const SERVER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const PORT_MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 1, 1]), MacAddr([2, 0, 0, 0, 1, 2])];
const HEADROOM: usize = 128;
// One self IP has 64,512 ports towards each member: enough for two million flows.
const MEMBERS: u8 = 32;

/// What kind of traffic a bench sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// TCP or UDP.
    pub proto: IpProto,
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// Source translation (automap), so that both addresses and both ports change.
    pub snat: bool,
}

impl Traffic {
    /// TCP over IPv4 with full translation: the usual case.
    pub const TCP4: Self = Self {
        proto: IpProto::TCP,
        v6: false,
        snat: true,
    };
    /// UDP over IPv4 with full translation.
    pub const UDP4: Self = Self {
        proto: IpProto::UDP,
        v6: false,
        snat: true,
    };
    /// TCP over IPv6 with full translation.
    pub const TCP6: Self = Self {
        proto: IpProto::TCP,
        v6: true,
        snat: true,
    };
}

/// A pipeline, buffers for one burst, and the frames of its flows.
pub struct Bench {
    pipeline: Pipeline,
    _control: Control,
    traffic: Traffic,
    buffers: Vec<[u8; 256]>,
    verdicts: ArrayVec<Verdict, BURST>,
    now: Timestamp,
    next_client: u32,
    random: u64,
    frames: Vec<(PortId, Vec<u8>)>,
}

impl Bench {
    /// A pipeline with room for `capacity` flows and none in it.
    ///
    /// Errors: a configuration that is refused, which would be a mistake here.
    pub fn new(traffic: Traffic, capacity: usize) -> Result<Self, String> {
        let ports = (0..2u8)
            .zip(PORT_MACS)
            .map(|(id, mac)| PortInfo {
                id: PortId(id),
                mac,
                mtu: 1500,
                inserts_tag: false,
            })
            .collect();
        let config = ControlConfig {
            replica: 0,
            ports,
            default_mtu: 1500,
            workers: 1,
            resolver: vlan::ResolverConfig::default(),
            batch: std::time::Duration::ZERO,
        };
        let (mut control, shared) = Control::with_one_worker(&config, Hub::default());
        apply(&mut control, &objects(traffic))?;
        let now = Timestamp::from_secs(1);
        control.poll(now);
        let internal = control
            .tables()
            .vlans
            .iter()
            .find(|vlan| vlan.internal)
            .map(|vlan| vlan.index)
            .ok_or("no internal VLAN")?;
        for member in 0..MEMBERS {
            let addr = member_addr(traffic.v6, member);
            let learned = Event::Learned {
                vlan: internal,
                addr,
                mac: SERVER,
                how: How::ArpRequest,
            };
            for event in [
                Event::Needed {
                    vlan: internal,
                    addr,
                },
                learned,
            ] {
                shared.events.push(event).map_err(|_| "event ring full")?;
            }
        }
        control.poll(now);
        let pipeline = Pipeline::new(
            &PipelineConfig {
                worker: 0,
                stripe: PortStripe::whole(),
                flow_capacity: capacity,
                seed: 7,
            },
            control.tables(),
            Arc::clone(&shared.neighbors),
            Arc::clone(&shared.counters),
            Arc::clone(&shared.events),
        );
        Ok(Self {
            pipeline,
            _control: control,
            traffic,
            buffers: vec![[0; 256]; BURST],
            verdicts: ArrayVec::new(),
            now,
            next_client: 0,
            random: 0x1234_5678_9abc_def1,
            frames: Vec::new(),
        })
    }

    /// A pipeline with `flows` established flows; their frames, in both directions, become the
    /// pool that [`established`](Self::established) draws from.
    ///
    /// Errors: a frame that is not forwarded, which would be a mistake here.
    pub fn with_flows(traffic: Traffic, flows: usize) -> Result<Self, String> {
        let mut bench = Self::new(traffic, flows + flows / 8 + 64)?;
        // Enough frames to leave every cache cold that so many flows would leave cold.
        bench.frames.reserve(flows * 2);
        for _ in 0..flows {
            let opening = bench.opening_frame();
            let (verdict, sent) = bench.one(PortId(0), &opening);
            if !matches!(verdict, Verdict::Transmit(..)) {
                return Err(format!("opening a flow: {verdict:?}"));
            }
            let reply = bench.reply_to(&sent)?;
            let (verdict, _) = bench.one(PortId(1), &reply);
            if !matches!(verdict, Verdict::Transmit(..)) {
                return Err(format!("answering a flow: {verdict:?}"));
            }
            let data = bench.data_frame(bench.next_client - 1);
            bench.frames.push((PortId(0), data));
            bench.frames.push((PortId(1), with_flags(reply, ACK)));
        }
        bench.shuffle();
        // The first data completes the handshake of every flow.
        for at in 0..bench.frames.len() {
            let (port, frame) = bench.frames[at].clone();
            if port == PortId(0) {
                bench.one(port, &frame);
            }
        }
        Ok(bench)
    }

    /// How many different frames of established flows there are.
    pub fn frame_count(&self) -> usize {
        self.frames.len()
    }

    /// Sends a burst of 32 frames of established flows in random order, both directions mixed,
    /// from the `at`-th frame on. Returns how many were forwarded: 32.
    #[inline]
    pub fn established(&mut self, at: usize) -> usize {
        let total = self.frames.len();
        let mut forwarded = 0;
        // A burst comes from one port; every second frame belongs to the other.
        for port in [PortId(0), PortId(1)] {
            let mut packets: ArrayVec<Packet<'_>, BURST> = ArrayVec::new();
            for (i, buffer) in self.buffers.iter_mut().enumerate() {
                let (owner, frame) = &self.frames[(at + i) % total];
                if *owner == port {
                    buffer[HEADROOM..HEADROOM + frame.len()].copy_from_slice(frame);
                    packets.push(Packet::new(
                        buffer,
                        HEADROOM,
                        frame.len(),
                        RxMeta::default(),
                    ));
                }
            }
            self.verdicts.clear();
            self.pipeline
                .process(self.now, port, &mut packets, &mut self.verdicts);
            forwarded += self
                .verdicts
                .iter()
                .filter(|v| matches!(v, Verdict::Transmit(..)))
                .count();
        }
        forwarded
    }

    /// Prepares a burst of 32 frames that open new flows.
    pub fn opening_burst(&mut self) -> Vec<Vec<u8>> {
        (0..BURST).map(|_| self.opening_frame()).collect()
    }

    /// Sends one burst by port 1.1. Returns how many frames were forwarded or answered.
    #[inline]
    pub fn burst(&mut self, frames: &[Vec<u8>]) -> usize {
        let mut packets: ArrayVec<Packet<'_>, BURST> = ArrayVec::new();
        for (buffer, frame) in self.buffers.iter_mut().zip(frames) {
            buffer[HEADROOM..HEADROOM + frame.len()].copy_from_slice(frame);
            packets.push(Packet::new(
                buffer,
                HEADROOM,
                frame.len(),
                RxMeta::default(),
            ));
        }
        self.verdicts.clear();
        self.pipeline
            .process(self.now, PortId(0), &mut packets, &mut self.verdicts);
        self.verdicts
            .iter()
            .filter(|v| !matches!(v, Verdict::Drop(_)))
            .count()
    }

    /// Lets time pass until every flow has ended.
    pub fn expire_all(&mut self) {
        self.now = self.now + std::time::Duration::from_secs(10_000);
        while self.pipeline.expire(self.now, 4096) > 0 || !self.pipeline.flows().is_empty() {}
    }

    /// A frame of a VLAN that does not exist.
    pub fn stray_frame(&self) -> Vec<u8> {
        let mut frame = self.data_frame(1);
        frame[14..16].copy_from_slice(&300u16.to_be_bytes());
        frame
    }

    fn one(&mut self, port: PortId, frame: &[u8]) -> (Verdict, Vec<u8>) {
        let mut buffer = [0u8; 256];
        buffer[HEADROOM..HEADROOM + frame.len()].copy_from_slice(frame);
        let mut packets = [Packet::new(
            &mut buffer,
            HEADROOM,
            frame.len(),
            RxMeta::default(),
        )];
        self.verdicts.clear();
        self.pipeline
            .process(self.now, port, &mut packets, &mut self.verdicts);
        let sent = packets[0].data().to_vec();
        (
            self.verdicts.first().copied().unwrap_or(Verdict::Consumed),
            sent,
        )
    }

    fn client_key(&self, client: u32) -> FlowKey {
        let [a, b, c, d] = client.to_be_bytes();
        // 16 ports per client address spread the flows over many addresses.
        let port = L4Port(1024 + u16::from(d & 0x0f) * 4001);
        let (src, dst) = if self.traffic.v6 {
            let mut src = [0u8; 16];
            src[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
            src[12..].copy_from_slice(&[a, b, c, d >> 4]);
            let mut dst = [0u8; 16];
            dst[..6].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0xff, 0xff]);
            dst[15] = 0x10;
            (Addr::from_v6(src), Addr::from_v6(dst))
        } else {
            (
                Addr::from_v4([10 + (a & 0x3f), b, c, d >> 4]),
                Addr::from_v4([203, 0, 113, 10]),
            )
        };
        FlowKey::new(src, dst, port, L4Port(80), self.traffic.proto)
    }

    fn opening_frame(&mut self) -> Vec<u8> {
        let key = self.client_key(self.next_client);
        self.next_client += 1;
        let l3 = match self.traffic.proto {
            IpProto::TCP => tcp(
                &key,
                TcpFields {
                    seq: 100,
                    flags: SYN,
                    window: 65535,
                    ack: 0,
                },
                &[],
            ),
            _ => udp(&key, &[0; 12]),
        };
        self.frame(0, CLIENT, 100, &l3)
    }

    fn data_frame(&self, client: u32) -> Vec<u8> {
        let key = self.client_key(client);
        let l3 = match self.traffic.proto {
            IpProto::TCP => tcp(
                &key,
                TcpFields {
                    seq: 101,
                    ack: 501,
                    flags: ACK,
                    window: 65535,
                },
                &[],
            ),
            _ => udp(&key, &[0; 12]),
        };
        self.frame(0, CLIENT, 100, &l3)
    }

    fn reply_to(&self, sent: &[u8]) -> Result<Vec<u8>, String> {
        let mut copy = sent.to_vec();
        let len = copy.len();
        let packet = Packet::new(&mut copy, 0, len, RxMeta::default());
        let layers = net::Layers::parse(&packet).map_err(|error| error.to_string())?;
        let key = layers.key.inverted();
        let l3 = match self.traffic.proto {
            IpProto::TCP => tcp(
                &key,
                TcpFields {
                    seq: 500,
                    ack: 101,
                    flags: SYN | ACK,
                    window: 65535,
                },
                &[],
            ),
            _ => udp(&key, &[0; 12]),
        };
        Ok(self.frame(1, SERVER, 200, &l3))
    }

    fn frame(&self, port: usize, src: MacAddr, vid: u16, l3: &[u8]) -> Vec<u8> {
        let encap = VlanId::new(vid).map_or(Encap::UNTAGGED, Encap::tagged);
        let kind = if self.traffic.v6 { 0x86dd } else { 0x0800 };
        let mut frame = ethernet(PORT_MACS[port], src, encap, kind, l3);
        frame.resize(frame.len().max(60), 0);
        frame
    }

    fn shuffle(&mut self) {
        for at in (1..self.frames.len()).rev() {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let other = usize::try_from(self.random % (at as u64 + 1)).unwrap_or(0);
            self.frames.swap(at, other);
        }
    }
}

/// The same TCP segment with other flags and the sequence number after a SYN.
fn with_flags(mut frame: Vec<u8>, flags: u8) -> Vec<u8> {
    let len = frame.len();
    let packet = Packet::new(&mut frame, 0, len, RxMeta::default());
    let Ok(layers) = net::Layers::parse(&packet) else {
        return frame;
    };
    if layers.key.proto != IpProto::TCP {
        return frame;
    }
    let fields = TcpFields {
        seq: 501,
        ack: 101,
        flags,
        window: 65535,
    };
    let l3 = tcp(&layers.key, fields, &[]);
    frame.truncate(layers.l3);
    frame.extend_from_slice(&l3);
    frame.resize(frame.len().max(60), 0);
    frame
}

fn member_addr(v6: bool, member: u8) -> Addr {
    if v6 {
        let mut addr = [0u8; 16];
        addr[..6].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0x02, 0x00]);
        addr[15] = 11 + member;
        Addr::from_v6(addr)
    } else {
        Addr::from_v4([198, 51, 100, 11 + member])
    }
}

fn apply(control: &mut Control, objects: &[Value]) -> Result<(), String> {
    let hub = control.hub();
    let mut session = hub.open();
    for object in objects {
        let event = json!({ "type": "ADDED", "object": object });
        let mut out = Vec::new();
        session.feed(hub, format!("{event}\n").as_bytes(), &mut out);
        for output in out {
            if let Output::Line(line) = output
                && line.contains("\"accepted\":false")
            {
                return Err(line);
            }
        }
    }
    hub.close(&session);
    Ok(())
}

fn objects(traffic: Traffic) -> Vec<Value> {
    let family = if traffic.v6 { "IPv6" } else { "IPv4" };
    let endpoints: Vec<Value> = (0..MEMBERS)
        .map(|m| json!({ "addresses": [member_addr(traffic.v6, m).to_string()], "conditions": { "ready": true } }))
        .collect();
    let vlan = |name: &str, tag: u16, port: &str, v4: &str, v6: &str, internal: bool| {
        json!({
            "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKVlan", "metadata": { "name": name },
            "spec": {
                "name": name, "tag": tag, "interfaces": [port], "internal": internal,
                "selfip_v4s": [v4], "prefixlen_v4": 24, "selfip_v6s": [v6], "prefixlen_v6": 64,
            },
        })
    };
    let (kind, api, proto) = match traffic.proto {
        IpProto::TCP => ("F5SPKIngressTCP", "ingresstcp.k8s.f5net.com/v1", "TCP"),
        _ => ("F5SPKIngressUDP", "ingressudp.k8s.f5net.com/v1", "UDP"),
    };
    let destination = if traffic.v6 {
        "ipv6destinationAddress"
    } else {
        "destinationAddress"
    };
    let address = if traffic.v6 {
        "2001:db8:ffff::10"
    } else {
        "203.0.113.10"
    };
    vec![
        vlan(
            "external",
            100,
            "1.1",
            "192.0.2.1",
            "2001:db8:100::1",
            false,
        ),
        vlan(
            "internal",
            200,
            "1.2",
            "198.51.100.1",
            "2001:db8:200::1",
            true,
        ),
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
            "spec": { "ports": [{ "name": "p", "protocol": proto, "port": 80 }] } }),
        json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } },
            "addressType": family,
            "ports": [{ "name": "p", "protocol": proto, "port": 8080 }],
            "endpoints": endpoints }),
        json!({ "apiVersion": api, "kind": kind, "metadata": { "name": "web" },
            "service": { "name": "web", "port": 80 },
            "spec": {
                destination: address, "destinationPort": 80, "idleTimeout": 3600,
                "snat": if traffic.snat { "SRC_TRANS_AUTOMAP" } else { "SRC_TRANS_NONE" },
            } }),
    ]
}
