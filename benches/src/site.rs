//! The network that the benchmarks pretend to be in: two VLANs, virtual servers, members whose MAC
//! addresses are known, and the control side that programmed them.
//!
//! Clients are 10.0.0.0/8 (2001:db8::/96) behind the external VLAN 100, virtual servers are
//! 100.64.0.0/10 (2001:db8:ffff::/96), and members are 198.18.0.0/16 (2001:db8:200::/96) on the
//! internal VLAN 200. With source translation a member sees 198.18.0.1.

use std::sync::Arc;
use std::time::Duration;

use config::watch::{Hub, Output};
use config::{Limits, Store};
use dataplane::control::{Control, ControlConfig};
use dataplane::pipeline::{Pipeline, PipelineConfig};
use dataplane::tables::PortInfo;
use dataplane::worker::Shared;
use lb::snat::PortStripe;
use net::{Addr, IpProto, MacAddr, PortId, Timestamp};
use serde_json::{Value, json};
use vlan::{Event, How};

/// MAC address of the station that clients are behind.
pub const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
/// MAC address of every member.
pub const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
/// MAC addresses of the two ports.
pub const PORT_MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 1, 1]), MacAddr([2, 0, 0, 0, 1, 2])];
/// Tag of the clients' VLAN.
pub const EXTERNAL_TAG: u16 = 100;
/// Tag of the members' VLAN.
pub const INTERNAL_TAG: u16 = 200;
/// The transport port that virtual servers listen on.
pub const SERVICE_PORT: u16 = 80;
/// The transport port of members.
pub const MEMBER_PORT: u16 = 8080;

/// The last four octets of the first virtual server's address: 100.64.0.1.
const FIRST_VIRTUAL: u32 = 0x6440_0001;
/// The last four octets of the first member's address: 198.18.1.0.
const FIRST_MEMBER: u32 = 0xc612_0100;
/// The last four octets of our address on the internal VLAN: 198.18.0.1.
const SELF_INTERNAL: u32 = 0xc612_0001;

/// Neighbours told to the control side at a time: each takes two events of its ring.
const NEIGHBORS_AT_ONCE: u32 = 1024;

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
    pub const TCP4: Self = Self::new(IpProto::TCP, false);
    /// UDP over IPv4 with full translation.
    pub const UDP4: Self = Self::new(IpProto::UDP, false);
    /// TCP over IPv6 with full translation.
    pub const TCP6: Self = Self::new(IpProto::TCP, true);
    /// UDP over IPv6 with full translation.
    pub const UDP6: Self = Self::new(IpProto::UDP, true);
    /// All of them, with the names they have on the command line and in reports.
    pub const ALL: [(&'static str, Self); 4] = [
        ("tcp4", Self::TCP4),
        ("udp4", Self::UDP4),
        ("tcp6", Self::TCP6),
        ("udp6", Self::UDP6),
    ];

    const fn new(proto: IpProto, v6: bool) -> Self {
        Self {
            proto,
            v6,
            snat: true,
        }
    }
}

/// How large the network is.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// What is sent.
    pub traffic: Traffic,
    /// Virtual servers; all of them share one pool.
    pub virtual_servers: u32,
    /// Members of the pool, up to 32,768. Our one address has 64,512 ports towards each.
    pub members: u32,
    /// When silent flows end.
    pub idle: Duration,
    /// Workers the control side serves.
    pub workers: u16,
    /// Both VLANs on the first port, as a load source with one port needs it.
    pub one_arm: bool,
    /// Take memory for flows from the kernel's pool of huge pages.
    pub hugetlb: bool,
}

impl Layout {
    /// One virtual server, and members enough for `flows` flows.
    pub fn for_flows(traffic: Traffic, flows: usize) -> Self {
        Self {
            traffic,
            virtual_servers: 1,
            members: if flows > 1 << 20 { 512 } else { 64 },
            idle: Duration::from_hours(1),
            workers: 1,
            one_arm: false,
            hugetlb: true,
        }
    }
}

impl Layout {
    /// The name of the Service.
    const fn service(&self) -> &'static str {
        if self.traffic.proto.0 == IpProto::TCP.0 {
            "web-tcp"
        } else {
            "web-udp"
        }
    }
}

/// The control side with the network programmed into it.
pub struct Site {
    layout: Layout,
    control: Control,
    workers: Vec<Shared>,
    now: Timestamp,
}

impl Site {
    /// Programs the network and makes its members known.
    ///
    /// Errors: a configuration that is refused, which would be a mistake here.
    pub fn new(layout: Layout) -> Result<Self, String> {
        let ports = (0..if layout.one_arm { 1u8 } else { 2 })
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
            workers: layout.workers,
            flows: 65_536,
            resolver: vlan::ResolverConfig::default(),
            batch: Duration::ZERO,
        };
        // More than is kept by default: 100,000 virtual servers are not the only objects.
        let limits = Limits {
            objects: 250_000,
            ..Limits::default()
        };
        let control = Control::new(&config, Hub::with_store(Store::new(limits)));
        let workers = control.workers().to_vec();
        let mut site = Self {
            layout,
            control,
            workers,
            now: Timestamp::from_secs(1),
        };
        site.apply(&objects(&layout))?;
        site.control.poll(site.now);
        site.meet_members()?;
        Ok(site)
    }

    /// What it was built from.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The time at which the network was programmed.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The control side.
    pub fn control(&mut self) -> &mut Control {
        &mut self.control
    }

    /// What a worker shares with the control side.
    ///
    /// Errors: no worker of that number.
    pub fn shared(&self, worker: u16) -> Result<&Shared, String> {
        self.workers
            .get(usize::from(worker))
            .ok_or_else(|| format!("there is no worker {worker}"))
    }

    /// A pipeline for one of the workers, with room for `capacity` flows. With the same seed and
    /// the same packets it chooses the same members and ports.
    ///
    /// Errors: no worker of that number.
    pub fn pipeline(&self, worker: u16, capacity: usize) -> Result<Pipeline, String> {
        let shared = self.shared(worker)?;
        Ok(Pipeline::new(
            &self.pipeline_config(worker, capacity)?,
            shared.publisher.newest(),
            Arc::clone(&shared.neighbors),
            Arc::clone(&shared.counters),
            Arc::clone(&shared.events),
        ))
    }

    /// How [`pipeline`](Self::pipeline) makes it.
    ///
    /// Errors: no worker of that number.
    pub fn pipeline_config(&self, worker: u16, capacity: usize) -> Result<PipelineConfig, String> {
        let stripe = PortStripe::new(worker, self.layout.workers, 1024, 65_535)
            .map_err(|error| error.to_string())?;
        Ok(PipelineConfig {
            worker,
            stripe,
            flow_capacity: capacity,
            seed: 7,
            hugetlb: self.layout.hugetlb,
            straight_way: true,
            icmp_errors_per_second: dataplane::pipeline::ICMP_ERRORS_PER_SECOND,
        })
    }

    /// Changes the configuration in something that no packet depends on, and publishes it: every
    /// flow is checked anew against the new generation.
    ///
    /// Errors: a configuration that is refused, which would be a mistake here.
    pub fn swap(&mut self, round: u64) -> Result<(), String> {
        let mut layout = self.layout;
        layout.idle += Duration::from_secs(round % 2);
        let object = virtual_server(&layout, 0);
        self.apply(&[object])?;
        self.control.poll(self.now);
        Ok(())
    }

    fn meet_members(&mut self) -> Result<(), String> {
        let internal = self
            .control
            .tables()
            .vlans
            .iter()
            .find(|vlan| vlan.internal)
            .map(|vlan| vlan.index)
            .ok_or("no internal VLAN")?;
        for member in 0..self.layout.members {
            if member % NEIGHBORS_AT_ONCE == 0 {
                self.control.poll(self.now);
            }
            let addr = member_addr(self.layout.traffic.v6, member);
            let needed = Event::Needed {
                vlan: internal,
                addr,
            };
            let learned = Event::Learned {
                vlan: internal,
                addr,
                mac: SERVER_MAC,
                how: How::ArpRequest,
            };
            for event in [needed, learned] {
                self.shared(0)?
                    .events
                    .push(event)
                    .map_err(|_| "the event ring is full")?;
            }
        }
        self.control.poll(self.now);
        Ok(())
    }

    fn apply(&mut self, objects: &[Value]) -> Result<(), String> {
        let hub = self.control.hub();
        let mut session = hub.open();
        let mut out = Vec::new();
        for object in objects {
            let event = json!({ "type": "ADDED", "object": object });
            session.feed(hub, format!("{event}\n").as_bytes(), &mut out);
            for output in out.drain(..) {
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
}

/// The last four octets of a member's address.
pub(crate) const fn member_low(member: u32) -> u32 {
    FIRST_MEMBER + member
}

/// The last four octets of a virtual server's address.
pub(crate) const fn virtual_low(number: u32) -> u32 {
    FIRST_VIRTUAL + number
}

/// The last four octets of the address that members see with source translation.
pub(crate) const fn self_low() -> u32 {
    SELF_INTERNAL
}

/// The last four octets of a client's address; sixteen flows share it.
pub(crate) const fn client_low(flow: u32) -> u32 {
    0x0a00_0000 + (flow >> 4)
}

/// The address of a member.
pub fn member_addr(v6: bool, member: u32) -> Addr {
    address(v6, [0x02, 0x00], member_low(member))
}

/// The number of the member with this address.
pub fn member_number(addr: &Addr) -> u32 {
    u32::from_be_bytes(addr.v4_octets()).wrapping_sub(FIRST_MEMBER)
}

/// The address of a virtual server.
pub fn virtual_addr(v6: bool, number: u32) -> Addr {
    address(v6, [0xff, 0xff], virtual_low(number))
}

/// The address that members see with source translation.
pub fn self_addr(v6: bool) -> Addr {
    address(v6, [0x02, 0x00], self_low())
}

/// The address of a client.
pub fn client_addr(v6: bool, flow: u32) -> Addr {
    address(v6, [0, 0], client_low(flow))
}

/// The source port of a client, among the ephemeral ones; differs among the flows of an address.
pub const fn client_port(flow: u32) -> u16 {
    // An odd multiplier visits every value once in 2^15.
    let spread = flow.wrapping_mul(40_503) & 0x7fff;
    let spread = spread as u16;
    0x8000 | spread
}

fn address(v6: bool, net: [u8; 2], low: u32) -> Addr {
    if v6 {
        let mut octets = [0u8; 16];
        octets[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        octets[4..6].copy_from_slice(&net);
        octets[12..].copy_from_slice(&low.to_be_bytes());
        Addr::from_v6(octets)
    } else {
        Addr::from_v4(low.to_be_bytes())
    }
}

/// The custom resources that make the network.
pub fn objects(layout: &Layout) -> Vec<Value> {
    let v6 = layout.traffic.v6;
    let vlan = |name: &str, tag: u16, port: &str, v4: String, addr6: String, internal: bool| {
        json!({
            "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKVlan", "metadata": { "name": name },
            "spec": {
                "name": name, "tag": tag, "interfaces": [port], "internal": internal,
                "selfip_v4s": [v4], "prefixlen_v4": if internal { 16 } else { 24 },
                "selfip_v6s": [addr6], "prefixlen_v6": 64,
            },
        })
    };
    let inner_port = if layout.one_arm { "1.1" } else { "1.2" };
    let endpoints: Vec<Value> = (0..layout.members)
        .map(|member| {
            json!({ "addresses": [member_addr(v6, member).to_string()], "conditions": { "ready": true } })
        })
        .collect();
    let proto = proto_name(layout.traffic.proto);
    let mut all = vec![
        vlan(
            "external",
            EXTERNAL_TAG,
            "1.1",
            "192.0.2.1".to_owned(),
            "2001:db8:100::1".to_owned(),
            false,
        ),
        vlan(
            "internal",
            INTERNAL_TAG,
            inner_port,
            self_addr(false).to_string(),
            self_addr(true).to_string(),
            true,
        ),
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": layout.service() },
            "spec": { "ports": [{ "name": "p", "protocol": proto, "port": SERVICE_PORT }] } }),
    ];
    // A slice holds at most a thousand endpoints, as Kubernetes makes them.
    for (number, some) in endpoints.chunks(1000).enumerate() {
        all.push(
            json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": format!("{}-{number}", layout.service()),
                "labels": { "kubernetes.io/service-name": layout.service() } },
            "addressType": if v6 { "IPv6" } else { "IPv4" },
            "ports": [{ "name": "p", "protocol": proto, "port": MEMBER_PORT }],
            "endpoints": some }),
        );
    }
    all.extend((0..layout.virtual_servers).map(|number| virtual_server(layout, number)));
    all
}

/// The custom resource of one virtual server.
pub fn virtual_server(layout: &Layout, number: u32) -> Value {
    let (kind, api) = match layout.traffic.proto {
        IpProto::TCP => ("F5SPKIngressTCP", "ingresstcp.k8s.f5net.com/v1"),
        _ => ("F5SPKIngressUDP", "ingressudp.k8s.f5net.com/v1"),
    };
    let destination = if layout.traffic.v6 {
        "ipv6destinationAddress"
    } else {
        "destinationAddress"
    };
    json!({ "apiVersion": api, "kind": kind, "metadata": { "name": format!("{}-{number}", layout.service()) },
        "service": { "name": layout.service(), "port": SERVICE_PORT },
        "spec": {
            destination: virtual_addr(layout.traffic.v6, number).to_string(),
            "destinationPort": SERVICE_PORT,
            "idleTimeout": layout.idle.as_secs(),
            "snat": if layout.traffic.snat { "SRC_TRANS_AUTOMAP" } else { "SRC_TRANS_NONE" },
        } })
}

fn proto_name(proto: IpProto) -> &'static str {
    if proto == IpProto::TCP { "TCP" } else { "UDP" }
}
