//! The table of virtual servers against a model that looks at every one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use lb::{Listen, Method, Profile, Registry, Snat, VirtualServer, VirtualServers, VlanSet};
use net::{Addr, IpPrefix, IpProto, L4Port, VlanIndex};
use proptest::prelude::*;

/// Builds virtual servers, each with a name of its own.
#[derive(Default)]
struct Builder {
    registry: Registry,
    servers: Vec<VirtualServer>,
}

impl Builder {
    fn add(&mut self, proto: IpProto, destination: IpPrefix, port: u16, listen: Listen) {
        let name = format!("vs-{}", self.servers.len());
        self.servers.push(VirtualServer {
            id: self.registry.virtual_server(&name),
            pool: self.registry.pool(&name),
            name,
            proto,
            destination,
            port: L4Port(port),
            listen,
            method: Method::RoundRobin,
            snat: Snat::None,
            profile: Profile::default(),
        });
    }

    fn tcp(mut self, destination: &str, port: u16, listen: Listen) -> Self {
        self.add(IpProto::TCP, destination.parse().unwrap(), port, listen);
        self
    }

    fn build(self) -> VirtualServers {
        VirtualServers::new(self.servers)
    }
}

fn vlans(set: &[u16]) -> VlanSet {
    set.iter().copied().map(VlanIndex).collect()
}

fn only(set: &[u16]) -> Listen {
    Listen::Only(vlans(set))
}

/// Name of what a TCP packet meets.
fn hit(table: &VirtualServers, dst: &str, dport: u16, vlan: u16) -> Option<String> {
    let dst = Addr::from(dst.parse::<IpAddr>().unwrap());
    table
        .lookup(IpProto::TCP, &dst, L4Port(dport), VlanIndex(vlan))
        .map(|vs| vs.name.clone())
}

#[test]
fn the_more_specific_virtual_server_takes_the_packet() {
    let table = Builder::default()
        .tcp("0.0.0.0/0", 0, Listen::All) // vs-0
        .tcp("0.0.0.0/0", 80, Listen::All) // vs-1
        .tcp("10.0.0.0/8", 0, Listen::All) // vs-2
        .tcp("10.1.0.0/16", 443, Listen::All) // vs-3
        .tcp("10.1.2.3", 0, Listen::All) // vs-4
        .tcp("10.1.2.3", 80, Listen::All) // vs-5
        .tcp("::/0", 0, Listen::All) // vs-6
        .tcp("2001:db8::/32", 80, Listen::All) // vs-7
        .tcp("2001:db8::1", 80, Listen::All) // vs-8
        .build();
    for (dst, dport, expected) in [
        ("10.1.2.3", 80, "vs-5"),
        ("10.1.2.3", 81, "vs-4"),
        // A host with all ports comes before a subnet with this very port.
        ("10.1.2.3", 443, "vs-4"),
        ("10.1.2.4", 443, "vs-3"),
        ("10.1.2.4", 80, "vs-2"),
        ("10.2.0.1", 80, "vs-2"),
        ("11.0.0.1", 80, "vs-1"),
        ("11.0.0.1", 0, "vs-0"),
        ("2001:db8::1", 80, "vs-8"),
        ("2001:db8::2", 80, "vs-7"),
        ("2001:db8::1", 81, "vs-6"),
        // The mapped form of 10.1.2.3 without the mapping's marker is another host.
        ("::a01:203", 80, "vs-6"),
    ] {
        let got = hit(&table, dst, dport, 0);
        assert_eq!(got.as_deref(), Some(expected), "{dst} {dport}");
    }
    let dst = Addr::from_v4([10, 1, 2, 3]);
    assert!(
        table
            .lookup(IpProto::UDP, &dst, L4Port(80), VlanIndex(0))
            .is_none()
    );
}

#[test]
fn hairpin_one_destination_is_served_differently_on_each_vlan() {
    let table = Builder::default()
        .tcp("192.0.2.10", 80, only(&[1])) // external
        .tcp("192.0.2.10", 80, only(&[2])) // internal, with automap
        .build();
    assert_eq!(hit(&table, "192.0.2.10", 80, 1).as_deref(), Some("vs-0"));
    assert_eq!(hit(&table, "192.0.2.10", 80, 2).as_deref(), Some("vs-1"));
    assert_eq!(hit(&table, "192.0.2.10", 80, 3), None);
}

#[test]
fn a_virtual_server_that_does_not_listen_leaves_the_packet_to_a_less_specific_one() {
    let table = Builder::default()
        .tcp("192.0.2.10", 80, only(&[1]))
        .tcp("192.0.2.0/24", 0, Listen::Except(vlans(&[3])))
        .tcp("0.0.0.0/0", 0, only(&[3]))
        .build();
    for (vlan, expected) in [(1, "vs-0"), (2, "vs-1"), (3, "vs-2")] {
        let got = hit(&table, "192.0.2.10", 80, vlan);
        assert_eq!(got.as_deref(), Some(expected), "VLAN {vlan}");
    }
}

#[test]
fn the_narrower_scope_wins_then_the_earlier_in_the_list() {
    let table = Builder::default()
        .tcp("192.0.2.10", 80, Listen::All)
        .tcp("192.0.2.10", 80, Listen::Except(vlans(&[9])))
        .tcp("192.0.2.10", 80, only(&[1, 2]))
        .tcp("192.0.2.10", 80, only(&[2]))
        .build();
    for (vlan, expected) in [(1, "vs-2"), (2, "vs-2"), (3, "vs-1"), (9, "vs-0")] {
        let got = hit(&table, "192.0.2.10", 80, vlan);
        assert_eq!(got.as_deref(), Some(expected), "VLAN {vlan}");
    }
}

#[test]
fn an_ipv4_wildcard_serves_no_ipv6_and_the_other_way_round() {
    let v4 = Builder::default().tcp("0.0.0.0/0", 0, Listen::All).build();
    assert!(hit(&v4, "2001:db8::1", 80, 0).is_none());
    assert!(hit(&v4, "::", 80, 0).is_none());
    let v6 = Builder::default().tcp("::/0", 0, Listen::All).build();
    assert!(hit(&v6, "10.0.0.1", 80, 0).is_none());
    // A prefix of mapped addresses is not IPv4 either.
    let mapped = Builder::default()
        .tcp("::ffff:0:0/96", 0, Listen::All)
        .build();
    assert!(hit(&mapped, "10.0.0.1", 80, 0).is_none());
}

#[test]
fn virtual_servers_are_found_by_id_in_any_generation_that_has_them() {
    let mut all = Builder::default();
    for n in 1..=3 {
        let host = IpPrefix::host(IpAddr::from([10, 0, 0, n]));
        all.add(IpProto::UDP, host, 53, Listen::All);
    }
    let ids: Vec<_> = all.servers.iter().map(|vs| vs.id).collect();
    let next = VirtualServers::new(vec![all.servers[2].clone(), all.servers[0].clone()]);
    assert_eq!(next.get(ids[0]).unwrap().name, "vs-0");
    assert!(next.get(ids[1]).is_none());
    assert_eq!(next.get(ids[2]).unwrap().name, "vs-2");
    assert_eq!(next.len(), 2);
    assert!(VirtualServers::new(Vec::new()).get(ids[2]).is_none());
    assert!(VirtualServers::default().is_empty());
}

#[test]
fn a_hundred_thousand_virtual_servers_are_no_slower_than_a_few() {
    let mut many = Builder::default();
    let address = |n: u32| Ipv4Addr::from_bits(0x0a00_0000 + n / 4);
    for n in 0..100_000u32 {
        let host = IpPrefix::host(IpAddr::V4(address(n)));
        let port = u16::try_from(n % 4).unwrap();
        many.add(IpProto::TCP, host, 80 + port, Listen::All);
    }
    let begun = Instant::now();
    let table = many.build();
    for n in 0..100_000u32 {
        let dst = Addr::from_v4(address(n).octets());
        let port = L4Port(80 + u16::try_from(n % 4).unwrap());
        let found = table
            .lookup(IpProto::TCP, &dst, port, VlanIndex(0))
            .unwrap();
        assert_eq!(found.id.to_u32(), n);
    }
    // A scan would take 10^10 steps. The bound is generous: it is the order that matters.
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// What the module's page says, word by word.
fn model<'a>(
    servers: &'a [VirtualServer],
    proto: IpProto,
    dst: &Addr,
    dport: L4Port,
    vlan: VlanIndex,
) -> Option<&'a VirtualServer> {
    servers
        .iter()
        .filter(|vs| vs.proto == proto && vs.destination.contains(dst.ip()))
        .filter(|vs| vs.port.0 == 0 || vs.port == dport)
        .filter(|vs| match &vs.listen {
            Listen::All => true,
            Listen::Only(set) => set.contains(vlan),
            Listen::Except(set) => !set.contains(vlan),
        })
        .min_by_key(|vs| {
            let breadth = match vs.listen {
                Listen::Only(_) => 0,
                Listen::Except(_) => 1,
                Listen::All => 2,
            };
            let len = u16::from(vs.destination.prefix_len());
            (1000 - len, vs.port.0 == 0, breadth)
        })
}

/// Addresses that often share prefixes.
fn near_address() -> impl Strategy<Value = IpAddr> {
    let bits = prop::sample::select(vec![0u8, 1, 2, 7, 127, 128, 255]);
    let octets = [bits.clone(), bits.clone(), bits.clone(), bits];
    prop_oneof![
        octets
            .clone()
            .prop_map(|[a, b, c, d]| IpAddr::from([10 + (a & 1), b, c, d])),
        octets.prop_map(|[a, b, c, d]| {
            let mut o = [0; 16];
            (o[0], o[1], o[7], o[14], o[15]) = (0x20, a, b, c, d);
            IpAddr::V6(Ipv6Addr::from(o))
        }),
    ]
}

fn listen() -> impl Strategy<Value = Listen> {
    let set = prop::collection::vec(0u16..4, 0..3).prop_map(|v| vlans(&v));
    prop_oneof![
        2 => Just(Listen::All),
        1 => set.clone().prop_map(Listen::Only),
        1 => set.prop_map(Listen::Except),
    ]
}

fn proto() -> impl Strategy<Value = IpProto> {
    prop::sample::select(vec![IpProto::TCP, IpProto::UDP])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_table_finds_what_the_linear_model_finds(
        servers in prop::collection::vec(
            (proto(), near_address(), 0u8..=128, 0u16..3, listen()), 0..40),
        packets in prop::collection::vec((proto(), near_address(), 0u16..4, 0u16..5), 1..40),
    ) {
        let mut builder = Builder::default();
        for (proto, addr, len, port, listen) in servers {
            let max = if addr.is_ipv4() { 32 } else { 128 };
            let prefix = IpPrefix::new(addr, len.min(max)).unwrap();
            builder.add(proto, prefix, port, listen);
        }
        let servers = builder.servers.clone();
        let table = builder.build();
        prop_assert!(table.iter().eq(&servers));
        // Random packets, and one to each virtual server's own address.
        let own = servers.iter().map(|vs| (vs.proto, vs.destination.addr(), vs.port.0, 1));
        for (proto, dst, dport, vlan) in packets.into_iter().chain(own) {
            let (dst, dport, vlan) = (Addr::from(dst), L4Port(dport), VlanIndex(vlan));
            let got = table.lookup(proto, &dst, dport, vlan).map(|vs| vs.id);
            let expected = model(&servers, proto, &dst, dport, vlan).map(|vs| vs.id);
            prop_assert_eq!(got, expected, "{} {} {:?}", dst, dport, vlan);
        }
        for vs in &servers {
            prop_assert_eq!(table.get(vs.id), Some(vs));
        }
    }
}
