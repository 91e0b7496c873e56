//! What the tests share: a VLAN, its neighbours, and packets in buffers with room.

use net::{Encap, IpPrefix, MacAddr, Packet, PortId, RxMeta, VlanId, VlanIndex};

use crate::table::{SelfIp, Vlan};

/// The VLAN that most tests live on: tag 100 on ports 1.1 and 1.2.
pub(crate) const EXTERNAL: VlanIndex = VlanIndex(1);
/// Our MAC address on [`EXTERNAL`].
pub(crate) const OURS: MacAddr = MacAddr([0x02, 0x00, 0x5e, 0x00, 0x01, 0x01]);
/// Another station.
pub(crate) const PEER: MacAddr = MacAddr([0x02, 0x00, 0x00, 0x00, 0x00, 0x99]);
/// Room in front of and behind a frame.
pub(crate) const ROOM: usize = 64;

pub(crate) fn self_ip(addr: &str, len: u8) -> SelfIp {
    let addr = addr.parse().unwrap();
    SelfIp {
        addr,
        prefix: IpPrefix::new(addr, len).unwrap(),
    }
}

/// 192.0.2.1/24 and 2001:db8::1/64 on ports 1.1 and 1.2; tag 0 is untagged.
pub(crate) fn vlan(index: u16, tag: u16) -> Vlan {
    Vlan {
        index: VlanIndex(index),
        name: format!("vlan-{index}"),
        encap: Encap::from_ids(None, VlanId::new(tag)),
        ports: vec![PortId(0), PortId(1)],
        mac: OURS,
        macs: Vec::new(),
        mtu: 1500,
        self_ips: vec![self_ip("192.0.2.1", 24), self_ip("2001:db8::1", 64)],
        internal: false,
        auto_lasthop: true,
        mss_clamp: false,
        allowed_services: None,
    }
}

/// Runs `f` on a packet with this frame; gives its result and the frame afterwards.
pub(crate) fn with_packet<R>(frame: &[u8], f: impl FnOnce(&mut Packet<'_>) -> R) -> (R, Vec<u8>) {
    let mut buf = vec![0xee; ROOM + frame.len() + ROOM];
    buf[ROOM..ROOM + frame.len()].copy_from_slice(frame);
    let mut packet = Packet::new(&mut buf, ROOM, frame.len(), RxMeta::default());
    let result = f(&mut packet);
    (result, packet.data().to_vec())
}
