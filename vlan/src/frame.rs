//! The network layer of ARP and neighbour discovery, written into a buffer: a packet being
//! answered, or a frame of our own.

use std::net::{Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;
use net::checksum::pseudo_header;
use net::header::{Arp, Ipv6, ethertype, view_mut};
use net::{IpProto, MacAddr, Packet, RxMeta};

use crate::table::Vlan;

/// A frame of our own: Ethernet header with tags and all.
pub type Frame = ArrayVec<u8, MAX_FRAME>;

/// Room for the longest frame of our own.
const MAX_FRAME: usize = 128;

/// The shortest Ethernet frame, without FCS (IEEE 802.3 section 3.2.7).
pub(crate) const MIN_FRAME: usize = 60;
/// The longest header that tags make.
const MAX_ETHERNET: usize = 22;

/// ARP operation: who has this address?
pub(crate) const ARP_REQUEST: u16 = 1;
/// ARP operation: I have.
pub(crate) const ARP_REPLY: u16 = 2;
/// ICMPv6 type of a neighbour solicitation.
pub(crate) const SOLICITATION: u8 = 135;
/// ICMPv6 type of a neighbour advertisement.
pub(crate) const ADVERTISEMENT: u8 = 136;
/// Neighbour discovery option: the sender's MAC address.
pub(crate) const SOURCE_LINK_LAYER: u8 = 1;
/// Neighbour discovery option: the target's MAC address.
pub(crate) const TARGET_LINK_LAYER: u8 = 2;
/// Flag of an advertisement: the sender forwards packets.
pub(crate) const ROUTER: u32 = 0x8000_0000;
/// Flag of an advertisement: it answers a solicitation.
pub(crate) const SOLICITED: u32 = 0x4000_0000;
/// Flag of an advertisement: replaces what was known.
pub(crate) const OVERRIDE: u32 = 0x2000_0000;
/// What neighbour discovery is sent and accepted with: it never crossed a router (RFC 4861
/// section 7.1).
pub(crate) const ND_HOP_LIMIT: u8 = 255;
/// Offset of the options of a solicitation or advertisement in its ICMPv6 message.
pub(crate) const ND_OPTIONS: usize = 24;

/// ff02::1.
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The group that the owner of `addr` listens to (RFC 4291 section 2.7.1).
pub(crate) const fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    let o = addr.octets();
    let (high, low) = (
        u16::from_be_bytes([0xff, o[13]]),
        u16::from_be_bytes([o[14], o[15]]),
    );
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, high, low)
}

/// The fields of an ARP packet that differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArpFields {
    pub(crate) oper: u16,
    pub(crate) sender: (MacAddr, Ipv4Addr),
    pub(crate) target: (MacAddr, Ipv4Addr),
}

/// The fields of a neighbour solicitation or advertisement that differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NdFields {
    pub(crate) kind: u8,
    /// The four octets behind the checksum.
    pub(crate) flags: u32,
    pub(crate) src: Ipv6Addr,
    pub(crate) dst: Ipv6Addr,
    pub(crate) target: Ipv6Addr,
    /// A link-layer option.
    pub(crate) option: (u8, MacAddr),
}

/// A network layer to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body {
    Arp(ArpFields),
    Nd(NdFields),
}

impl Body {
    const fn ethertype(&self) -> u16 {
        match self {
            Self::Arp(_) => ethertype::ARP,
            Self::Nd(_) => ethertype::IPV6,
        }
    }

    /// Octets.
    const fn len(&self) -> usize {
        match self {
            Self::Arp(_) => 28,
            Self::Nd(_) => 40 + ND_OPTIONS + 8,
        }
    }

    /// Writes into the first octets of `l3`, if there are enough.
    fn write(&self, l3: &mut [u8]) -> Option<()> {
        match self {
            Self::Arp(fields) => {
                *view_mut::<Arp>(l3, 0)? = Arp {
                    htype: 1.into(),
                    ptype: ethertype::IPV4.into(),
                    hlen: 6,
                    plen: 4,
                    oper: fields.oper.into(),
                    sha: fields.sender.0.0,
                    spa: fields.sender.1.octets(),
                    tha: fields.target.0.0,
                    tpa: fields.target.1.octets(),
                };
            }
            Self::Nd(fields) => {
                let len = 32u16;
                *view_mut::<Ipv6>(l3, 0)? = Ipv6 {
                    version_class_flow: 0x6000_0000.into(),
                    payload_len: len.into(),
                    next: IpProto::ICMPV6.0,
                    hop_limit: ND_HOP_LIMIT,
                    src: fields.src.octets(),
                    dst: fields.dst.octets(),
                };
                let message = l3.get_mut(40..40 + usize::from(len))?;
                message[..4].copy_from_slice(&[fields.kind, 0, 0, 0]);
                message[4..8].copy_from_slice(&fields.flags.to_be_bytes());
                message[8..24].copy_from_slice(&fields.target.octets());
                message[24..26].copy_from_slice(&[fields.option.0, 1]);
                message[26..].copy_from_slice(&fields.option.1.0);
                let sum =
                    pseudo_header(fields.src.into(), fields.dst.into(), IpProto::ICMPV6.0, len)
                        .add(message)
                        .checksum();
                message[2..4].copy_from_slice(&sum.to_be_bytes());
            }
        }
        Some(())
    }

    /// Makes `packet` a frame with this body from our station on `vlan` to `dst`: tags in the
    /// frame, padded where the buffer has room. `l3` is where its network layer was. `None` if the
    /// buffer is too small; the packet is then of no use.
    pub(crate) fn replace(
        &self,
        packet: &mut Packet<'_>,
        l3: usize,
        dst: MacAddr,
        vlan: &Vlan,
    ) -> Option<()> {
        packet.set_len(l3 + self.len()).ok()?;
        self.write(packet.data_mut().get_mut(l3..)?)?;
        packet
            .set_ethernet(l3, dst, vlan.mac, vlan.encap, self.ethertype(), false)
            .ok()?;
        pad(packet);
        Some(())
    }

    /// A frame with this body from our station on `vlan` to `dst`.
    pub(crate) fn frame(&self, dst: MacAddr, vlan: &Vlan) -> Option<Frame> {
        let mut buf = [0; MAX_FRAME];
        let mut packet = Packet::new(&mut buf, MAX_ETHERNET, 0, RxMeta::default());
        self.replace(&mut packet, 0, dst, vlan)?;
        Frame::try_from(packet.data()).ok()
    }
}

/// Pads a frame to the minimum with zeros, as far as there is room; drivers pad what is left.
pub(crate) fn pad(packet: &mut Packet<'_>) {
    if packet.len() < MIN_FRAME {
        let room = packet.len() + packet.tailroom();
        // Within the buffer, so it cannot fail.
        let _ = packet.set_len(MIN_FRAME.min(room));
    }
}
