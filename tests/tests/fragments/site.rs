//! A tmm that fragments go through.

use std::path::Path;

use dataplane::memory::MemoryFrame;
use dataplane::rig::{Rig, port_mac};
use net::emit::ethernet;
use net::{Addr, Encap, FlowKey, IpProto, L4Port, MacAddr, PortId, Timestamp, VlanId};
use tests::scenario::Stage;

pub const NOW: Timestamp = Timestamp::from_secs(5);
pub const CLIENT: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub const MEMBER: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);

/// The two VLANs of `base.scn` around a tmm.
pub struct Site<'a> {
    pub stage: Stage<'a>,
}

impl Site<'_> {
    pub fn new(rig: &str, snat: &str) -> Self {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios"));
        let mut stage = Stage::new(folder);
        for line in [
            rig,
            "use base",
            &format!(
                "apply F5SPKIngressUDP dns service=web:53 destinationAddress=203.0.113.10 \
                 ipv6destinationAddress=2001:db8:f::10 destinationPort=53 snat={snat}"
            ),
            "publish",
        ] {
            stage.run(line).unwrap();
        }
        Self { stage }
    }

    pub fn rig(&mut self) -> &mut Rig {
        self.stage.rig()
    }

    pub fn counter(&mut self, name: &str) -> u64 {
        self.rig().control().counters()[name]
    }

    /// Sends packets by a port, `burst` at a time, and gives those that leave by the other.
    pub fn through(&mut self, port: u8, packets: &[Vec<u8>], burst: usize) -> Vec<Vec<u8>> {
        let (vid, station) = if port == 0 {
            (100, CLIENT)
        } else {
            (200, MEMBER)
        };
        let encap = Encap::tagged(VlanId::new(vid).unwrap());
        let mut left = Vec::new();
        let rig = self.rig();
        for some in packets.chunks(burst) {
            for l3 in some {
                let kind = if l3[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
                let frame = ethernet(port_mac(PortId(port)), station, encap, kind, l3);
                rig.send(PortId(port), MemoryFrame::new(&frame));
            }
            rig.advance(NOW);
            while let Some(frame) = rig.receive(PortId(1 - port)) {
                left.push(frame.octets()[18..].to_vec());
            }
        }
        left
    }
}

pub fn key(v6: bool, client: u8) -> FlowKey {
    let (src, dst) = if v6 {
        let addr = |text: &str| {
            let addr: std::net::Ipv6Addr = text.parse().unwrap();
            Addr::from_v6(addr.octets())
        };
        (
            addr(&format!("2001:db8:1::{client}")),
            addr("2001:db8:f::10"),
        )
    } else {
        (
            Addr::from_v4([192, 0, 2, client]),
            Addr::from_v4([203, 0, 113, 10]),
        )
    };
    FlowKey::new(src, dst, L4Port(5000), L4Port(53), IpProto::UDP)
}
