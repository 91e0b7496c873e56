//! The multicast groups that a port must take in so that neighbours find our IPv6 addresses. Taking in all
//! multicast would do, and is refused to virtual functions that are not trusted.

use std::collections::BTreeSet;
use std::net::IpAddr;

use net::{MacAddr, PortId};

use crate::tables::Tables;

/// All nodes (RFC 4291 section 2.7.1): advertisements that nobody asked for.
const ALL_NODES: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);

/// The groups of a port: for each address on its VLANs that of its solicited nodes (RFC 4291 section 2.7.1),
/// as an Ethernet address (RFC 2464 section 7).
pub fn of_port(tables: &Tables, port: PortId) -> BTreeSet<MacAddr> {
    let vlans = tables.vlans.iter();
    let mine = vlans.filter(|vlan| vlan.ports.contains(&port));
    let mut groups: BTreeSet<MacAddr> = mine
        .flat_map(|vlan| tables.owned.addresses(vlan.index))
        .filter_map(|(addr, _)| match addr.ip() {
            IpAddr::V4(_) => None,
            IpAddr::V6(addr) => Some(addr.octets()),
        })
        .map(|octets| MacAddr([0x33, 0x33, 0xff, octets[13], octets[14], octets[15]]))
        .collect();
    if !groups.is_empty() {
        groups.insert(ALL_NODES);
    }
    groups
}

#[cfg(test)]
mod tests {
    use net::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::rig::{Rig, RigConfig};

    #[test]
    fn a_port_listens_for_the_addresses_of_its_own_vlans() {
        let vlan = |name: &str, tag: u16, port: &str, own: &str| {
            json!({
                "apiVersion": "k8s.f5net.com/v1",
                "kind": "F5SPKVlan",
                "metadata": {"name": name},
                "spec": {
                    "name": name, "tag": tag, "interfaces": [port],
                    "selfip_v6s": [own], "prefixlen_v6": 64,
                },
            })
        };
        let mut rig = Rig::new(&RigConfig::default());
        rig.apply(&[
            vlan("a", 100, "1.1", "2001:db8::12:3456"),
            vlan("b", 200, "1.2", "2001:db8:1::ab:cdef"),
        ])
        .unwrap();
        rig.advance(Timestamp::ZERO);
        let tables = rig.control().tables();
        let of = |port| of_port(&tables, PortId(port));
        let group = |last: [u8; 3]| MacAddr([0x33, 0x33, 0xff, last[0], last[1], last[2]]);
        assert!(of(0).contains(&ALL_NODES));
        assert!(of(0).contains(&group([0x12, 0x34, 0x56])));
        assert!(!of(0).contains(&group([0xab, 0xcd, 0xef])));
        assert!(of(1).contains(&group([0xab, 0xcd, 0xef])));
        assert_eq!(of(7), BTreeSet::new());
    }
}
