use std::collections::HashMap;

use net::VlanId;
use proptest::prelude::*;

use super::*;
use crate::testing::{EXTERNAL, PEER, self_ip, vlan};

fn vid(v: u16) -> VlanId {
    VlanId::new(v).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_frame_belongs_to_the_vlan_of_its_port_and_tags() {
    let mut untagged = vlan(0, 0);
    untagged.ports = vec![PortId(1)];
    let mut stacked = vlan(7, 0);
    stacked.encap = Encap::stacked(vid(500), vid(100));
    stacked.ports = vec![PortId(0)];
    let table = Table::new(vec![untagged, vlan(1, 100), vlan(300, 4094), stacked]).unwrap();
    let found = |port, encap| table.demux(PortId(port), encap).map(|v| v.index.0);
    assert_eq!(found(0, Encap::tagged(vid(100))), Some(1));
    assert_eq!(found(1, Encap::tagged(vid(100))), Some(1));
    assert_eq!(found(1, Encap::tagged(vid(4094))), Some(300));
    assert_eq!(found(1, Encap::UNTAGGED), Some(0));
    assert_eq!(found(0, Encap::stacked(vid(500), vid(100))), Some(7));
    for (port, encap) in [
        (0, Encap::UNTAGGED),
        (0, Encap::tagged(vid(500))),
        (0, Encap::tagged(vid(1))),
        (1, Encap::stacked(vid(500), vid(100))),
        (0, Encap::stacked(vid(501), vid(100))),
        (0, Encap::stacked(vid(500), vid(101))),
        (0, Encap::from_ids(Some(vid(500)), None)),
        (2, Encap::tagged(vid(100))),
        (255, Encap::tagged(vid(100))),
    ] {
        assert_eq!(found(port, encap), None, "port {port}, {encap}");
    }
    assert_eq!(table.get(VlanIndex(300)).unwrap().encap.vid(), 4094);
    assert!(table.get(VlanIndex(2)).is_none() && table.get(VlanIndex(u16::MAX)).is_none());
    assert_eq!((table.len(), table.iter().count()), (4, 4));
}

#[test]
fn vlans_that_contradict_each_other_are_refused() {
    let refusal = |vlans| Table::new(vlans).unwrap_err().to_string();
    assert_eq!(
        refusal(vec![vlan(1, 100), vlan(2, 100)]),
        "VLANs \"vlan-1\" and \"vlan-2\" both take 100 frames on port 1.1"
    );
    assert_eq!(
        refusal(vec![vlan(1, 100), vlan(1, 200)]),
        "VLANs \"vlan-1\" and \"vlan-1\" have the same index"
    );
    let mut elsewhere = vlan(1, 100);
    elsewhere.self_ips[0].prefix = "198.51.100.0/24".parse().unwrap();
    assert_eq!(
        refusal(vec![elsewhere]),
        "VLAN \"vlan-1\": self IP 192.0.2.1 is not in its prefix 198.51.100.0/24"
    );
    for bad in [
        "224.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "127.0.0.1",
        "ff02::1",
        "::1",
        "::",
        "::ffff:1.2.3.4",
    ] {
        let mut nobody = vlan(1, 100);
        nobody.self_ips = vec![self_ip(bad, 32)];
        assert!(
            matches!(Table::new(vec![nobody]), Err(TableError::NotUnicast { .. })),
            "{bad}"
        );
    }
    for bad in [MacAddr::ZERO, MacAddr::BROADCAST] {
        let mut mute = vlan(1, 100);
        mute.mac = bad;
        assert!(matches!(
            Table::new(vec![mute]),
            Err(TableError::BadMac { .. })
        ));
    }
}

#[test]
fn a_port_listed_twice_is_one_port() {
    let mut twice = vlan(1, 100);
    twice.ports = vec![PortId(0), PortId(0)];
    assert!(Table::new(vec![twice]).is_ok());
}

// case VPPI-003: of several addresses, the one in the subnet of who is asked.
#[test]
fn the_source_is_the_self_ip_nearest_to_the_remote() {
    let mut v = vlan(1, 100);
    v.self_ips = vec![
        self_ip("10.0.0.1", 8),
        self_ip("10.1.0.1", 16),
        self_ip("10.1.0.2", 16),
        self_ip("2001:db8:1::1", 64),
        self_ip("2001:db8:2::1", 64),
    ];
    let own = v.link_local().to_string();
    for (remote, source) in [
        ("10.1.2.3", Some("10.1.0.1")),
        ("10.2.2.3", Some("10.0.0.1")),
        ("192.0.2.1", Some("10.0.0.1")),
        ("2001:db8:2::9", Some("2001:db8:2::1")),
        ("2001:db8:3::9", Some("2001:db8:1::1")),
        ("fe80::9", Some(own.as_str())),
    ] {
        assert_eq!(v.self_ip_for(ip(remote)), source.map(ip), "{remote}");
    }
    v.self_ips.insert(0, self_ip("169.254.7.7", 16));
    assert_eq!(v.self_ip_for(ip("192.0.2.1")), Some(ip("10.0.0.1")));
    assert_eq!(v.self_ip_for(ip("169.254.9.9")), Some(ip("169.254.7.7")));
    v.self_ips = vec![self_ip("fe80::77", 64)];
    assert_eq!(v.self_ip_for(ip("fe80::9")), Some(ip("fe80::77")));
    assert_eq!(v.self_ip_for(ip("2001:db8::1")), None, "scope");
    assert_eq!(v.self_ip_for(ip("10.0.0.1")), None);
}

#[test]
fn a_neighbor_is_one_station_on_the_link() {
    let mut v = vlan(1, 100);
    v.self_ips.push(self_ip("198.51.100.0", 31));
    v.self_ips.push(self_ip("203.0.113.7", 32));
    for yes in [
        "192.0.2.254",
        "2001:db8::2",
        "fe80::1",
        "198.51.100.1",
        "203.0.113.7",
    ] {
        assert!(v.can_be_neighbor(ip(yes)), "{yes}");
    }
    for no in [
        "192.0.2.0",
        "192.0.2.255",
        "192.0.3.1",
        "224.0.0.1",
        "0.0.0.0",
        "2001:db8:0:1::2",
        "ff02::1",
        "::",
        "203.0.113.8",
    ] {
        assert!(!v.can_be_neighbor(ip(no)), "{no}");
    }
    assert!(v.on_link(ip("192.0.2.255")) && !v.on_link(ip("192.0.3.1")));
}

#[test]
fn no_lockdown_allows_all_and_a_lockdown_only_what_it_lists() {
    let mut v = vlan(1, 100);
    assert!(v.allows(IpProto::TCP, L4Port(22)));
    v.allowed_services = Some(vec![
        AllowedService {
            proto: Some(IpProto::TCP),
            port: Some(L4Port(179)),
        },
        AllowedService {
            proto: Some(IpProto::UDP),
            port: None,
        },
        AllowedService {
            proto: None,
            port: Some(L4Port(3784)),
        },
    ]);
    for (proto, port, allowed) in [
        (IpProto::TCP, 179, true),
        (IpProto::TCP, 22, false),
        (IpProto::UDP, 53, true),
        (IpProto::TCP, 3784, true),
        (IpProto::SCTP, 3784, true),
        (IpProto::SCTP, 179, false),
    ] {
        assert_eq!(v.allows(proto, L4Port(port)), allowed, "{proto} {port}");
    }
}

#[test]
fn frames_to_our_mac_and_to_groups_are_received() {
    let v = vlan(1, 100);
    assert!(v.receives(v.mac) && v.receives(MacAddr::BROADCAST));
    assert!(v.receives(MacAddr([0x33, 0x33, 0xff, 0, 0, 1])));
    assert!(!v.receives(PEER));
    assert_eq!(v.index, EXTERNAL);
}

proptest! {
    #[test]
    fn demux_agrees_with_a_map(
        wanted in proptest::collection::vec((0u8..4, 0u16..6, 0u16..6), 1..40),
        asked in proptest::collection::vec((0u8..5, 0u16..7, 0u16..7), 1..80),
    ) {
        let mut model = HashMap::new();
        let mut vlans = vec![];
        for (i, (port, service, tag)) in wanted.into_iter().enumerate() {
            let index = u16::try_from(i).unwrap();
            if model.contains_key(&(port, service, tag)) {
                continue;
            }
            let mut v = vlan(index, 0);
            v.ports = vec![PortId(port)];
            v.encap = Encap::from_ids(VlanId::new(service), VlanId::new(tag));
            vlans.push(v);
            model.insert((port, service, tag), VlanIndex(index));
        }
        let table = Table::new(vlans).unwrap();
        for (port, service, tag) in asked {
            let encap = Encap::from_ids(VlanId::new(service), VlanId::new(tag));
            let found = table.demux(PortId(port), encap).map(|v| v.index);
            prop_assert_eq!(found, model.get(&(port, service, tag)).copied());
        }
    }
}
