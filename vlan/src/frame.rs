//! The network layer of ARP, neighbour discovery and listener reports, written into a buffer: a packet being
//! answered, or a frame of our own.

use std::net::{Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;
use net::checksum::pseudo_header;
use net::header::{Arp, Ipv6, ethertype, view_mut};
use net::{Encap, IpProto, MacAddr, Packet, RxMeta};

use crate::segment::{PROBE_ETHERTYPE, nonce};

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

/// ICMPv6 type of a multicast listener query (RFC 3810 section 5.1).
pub(crate) const LISTENER_QUERY: u8 = 130;
/// ICMPv6 type of a multicast listener report, version 2.
const LISTENER_REPORT: u8 = 143;
/// Record of a report that answers a query: we listen, to any source.
pub(crate) const MODE_IS_EXCLUDE: u8 = 2;
/// Record of a report of our own accord: we now listen, to any source.
pub(crate) const TO_EXCLUDE_MODE: u8 = 4;

/// ff02::16, all routers and switches that listen for reports (RFC 3810 section 5.2.14).
pub(crate) const ALL_MLDV2: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
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

/// The fields of an ARP packet that differ; the sender's MAC address is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArpFields {
    pub(crate) oper: u16,
    pub(crate) sender: Ipv4Addr,
    pub(crate) target: (MacAddr, Ipv4Addr),
}

/// The fields of a neighbour solicitation or advertisement that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NdFields {
    pub(crate) kind: u8,
    /// The four octets behind the checksum.
    pub(crate) flags: u32,
    pub(crate) src: Ipv6Addr,
    pub(crate) dst: Ipv6Addr,
    pub(crate) target: Ipv6Addr,
    /// The kind of link-layer option that our MAC address is in.
    pub(crate) option: u8,
}

/// A multicast listener report for one group (RFC 3810 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReportFields {
    /// [`MODE_IS_EXCLUDE`] or [`TO_EXCLUDE_MODE`].
    pub(crate) record: u8,
    pub(crate) src: Ipv6Addr,
    pub(crate) group: Ipv6Addr,
}

/// What the probes of our ports begin with.
pub(crate) const PROBE_MAGIC: [u8; 4] = *b"tmmP";

/// A network layer to be written, but for our MAC address: that is the one of the port it leaves by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Arp(ArpFields),
    Nd(NdFields),
    Report(ReportFields),
    /// By which our ports find out who else of them is in their segment.
    Probe {
        key: u64,
    },
}

impl Body {
    const fn ethertype(&self) -> u16 {
        match self {
            Self::Arp(_) => ethertype::ARP,
            Self::Nd(_) | Self::Report(_) => ethertype::IPV6,
            Self::Probe { .. } => PROBE_ETHERTYPE,
        }
    }

    /// Octets.
    const fn len(&self) -> usize {
        match self {
            Self::Arp(_) => 28,
            Self::Nd(_) => 40 + ND_OPTIONS + 8,
            Self::Report(_) => 40 + 8 + 28,
            Self::Probe { .. } => 12,
        }
    }

    /// Writes into the first octets of `l3`, if there are enough.
    fn write(&self, l3: &mut [u8], ours: MacAddr) -> Option<()> {
        match self {
            Self::Arp(fields) => {
                *view_mut::<Arp>(l3, 0)? = Arp {
                    htype: 1.into(),
                    ptype: ethertype::IPV4.into(),
                    hlen: 6,
                    plen: 4,
                    oper: fields.oper.into(),
                    sha: ours.0,
                    spa: fields.sender.octets(),
                    tha: fields.target.0.0,
                    tpa: fields.target.1.octets(),
                };
            }
            Self::Nd(fields) => {
                ipv6(
                    l3,
                    fields.src,
                    fields.dst,
                    IpProto::ICMPV6,
                    ND_HOP_LIMIT,
                    32,
                )?;
                let message = l3.get_mut(40..72)?;
                message[..4].copy_from_slice(&[fields.kind, 0, 0, 0]);
                message[4..8].copy_from_slice(&fields.flags.to_be_bytes());
                message[8..24].copy_from_slice(&fields.target.octets());
                message[24..26].copy_from_slice(&[fields.option, 1]);
                message[26..].copy_from_slice(&ours.0);
                fill_checksum(message, fields.src, fields.dst)?;
            }
            Self::Report(fields) => {
                ipv6(l3, fields.src, ALL_MLDV2, IpProto::HOP_BY_HOP, 1, 36)?;
                // Hop-by-hop options: a router alert for MLD (RFC 2711), padded with PadN.
                l3.get_mut(40..48)?
                    .copy_from_slice(&[IpProto::ICMPV6.0, 0, 5, 2, 0, 0, 1, 0]);
                let message = l3.get_mut(48..76)?;
                message[..8].copy_from_slice(&[LISTENER_REPORT, 0, 0, 0, 0, 0, 0, 1]);
                message[8..12].copy_from_slice(&[fields.record, 0, 0, 0]);
                message[12..].copy_from_slice(&fields.group.octets());
                fill_checksum(message, fields.src, ALL_MLDV2)?;
            }
            Self::Probe { key } => {
                l3.get_mut(..4)?.copy_from_slice(&PROBE_MAGIC);
                let nonce = nonce(*key, ours);
                l3.get_mut(4..12)?.copy_from_slice(&nonce.to_be_bytes());
            }
        }
        Some(())
    }

    /// Makes `packet` a frame with this body from our station `ours` to `dst`: tags in the frame,
    /// padded where the buffer has room. `l3` is where its network layer was. `None` if the
    /// buffer is too small; the packet is then of no use.
    pub(crate) fn replace(
        &self,
        packet: &mut Packet<'_>,
        l3: usize,
        dst: MacAddr,
        ours: MacAddr,
        encap: Encap,
    ) -> Option<()> {
        packet.set_len(l3 + self.len()).ok()?;
        self.write(packet.data_mut().get_mut(l3..)?, ours)?;
        packet
            .set_ethernet(l3, dst, ours, encap, self.ethertype(), false)
            .ok()?;
        pad(packet);
        Some(())
    }

    /// A frame with this body from our station `ours` to `dst`.
    pub(crate) fn frame(&self, dst: MacAddr, ours: MacAddr, encap: Encap) -> Option<Frame> {
        let mut buf = [0; MAX_FRAME];
        let mut packet = Packet::new(&mut buf, MAX_ETHERNET, 0, RxMeta::default());
        self.replace(&mut packet, 0, dst, ours, encap)?;
        Frame::try_from(packet.data()).ok()
    }
}

/// An IPv6 header.
fn ipv6(
    l3: &mut [u8],
    src: Ipv6Addr,
    dst: Ipv6Addr,
    next: IpProto,
    hop_limit: u8,
    payload_len: u16,
) -> Option<()> {
    *view_mut::<Ipv6>(l3, 0)? = Ipv6 {
        version_class_flow: 0x6000_0000.into(),
        payload_len: payload_len.into(),
        next: next.0,
        hop_limit,
        src: src.octets(),
        dst: dst.octets(),
    };
    Some(())
}

/// Fills the checksum of an ICMPv6 message, which must be zero.
fn fill_checksum(message: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) -> Option<()> {
    let len = u16::try_from(message.len()).ok()?;
    let sum = pseudo_header(src.into(), dst.into(), IpProto::ICMPV6.0, len)
        .add(message)
        .checksum();
    message.get_mut(2..4)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Pads a frame to the minimum with zeros, as far as there is room; drivers pad what is left.
pub(crate) fn pad(packet: &mut Packet<'_>) {
    if packet.len() < MIN_FRAME {
        let room = packet.len() + packet.tailroom();
        // Within the buffer, so it cannot fail.
        let _ = packet.set_len(MIN_FRAME.min(room));
    }
}
