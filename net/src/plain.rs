//! Frames of the kind nearly all are, found at a glance.
//!
//! TCP or UDP over IPv4 without options or IPv6 without extension headers, whole, with one tag or
//! none, right lengths and right checksums, hops left. Such a frame needs none of the questions that
//! the rest need; what is not plain is for [`Layers`], which remains the judge of form:
//! it takes every plain frame but those with an address that must not be on the wire, and finds the
//! same in it (there is a test that says so). No flow has such an address, so whoever compares
//! addresses with those of a flow need not ask.

use crate::checksum::Words;
use crate::flow::{FlowKey, IpProto};
use crate::header::ethertype;
use crate::layers::{self, Fragment, Layers, Network, ParseError};
use crate::packet::{Packet, RxChecksum};
use crate::rewrite::Deltas;
use crate::tag::{Encap, TPID_8021Q};
use crate::tuple::Tuple;

/// A plain frame: where its headers are, and what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain {
    /// VID of its tag, 0 if there is none.
    vid: u16,
    /// End of the IP packet; padding of the frame follows.
    end: u16,
    /// Octets of transport payload.
    payload_len: u16,
    /// Offset of the network header.
    l3: u8,
    /// Offset of the transport header.
    l4: u8,
    /// TCP or UDP.
    proto: IpProto,
    v6: bool,
}

/// The TCP header of a plain frame, in host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainTcp {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window, not scaled.
    pub window: u16,
    /// Flags, see [`tcp_flags`](crate::header::tcp_flags).
    pub flags: u8,
}

#[inline]
fn be16<const N: usize>(octets: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

impl Plain {
    /// Looks at a frame; `None` if it is not plain. Checksums that the device has verified are not
    /// looked at again.
    #[inline]
    pub fn parse(packet: &Packet<'_>) -> Option<Self> {
        let frame = packet.data();
        let head: &[u8; 18] = frame.first_chunk()?;
        let source = u64::from_be_bytes(*chunk(head, 6)?) >> 16;
        // A station's address: neither a group's nor zero.
        if source == 0 || head[6] & 1 != 0 || packet.rx.stripped_service_tci.is_some() {
            return None;
        }
        let (l3, vid, kind) = match (be16(head, 12), packet.rx.stripped_tci) {
            (TPID_8021Q, None) => (18, be16(head, 14) & 0x0fff, be16(head, 16)),
            (kind, tci) => (14, tci.unwrap_or(0) & 0x0fff, kind),
        };
        let rest = frame.get(usize::from(l3)..)?;
        match kind {
            ethertype::IPV4 => Self::v4(packet, rest, l3, vid),
            ethertype::IPV6 => Self::v6(packet, rest, l3, vid),
            _ => None,
        }
    }

    #[inline]
    fn v4(packet: &Packet<'_>, rest: &[u8], l3: u8, vid: u16) -> Option<Self> {
        let ip: &[u8; 20] = rest.first_chunk()?;
        let len = be16(ip, 2);
        // No options, no fragment, and a hop to spare.
        if ip[0] != 0x45 || be16(ip, 6) & 0x3fff != 0 || ip[8] <= 1 {
            return None;
        }
        match packet.rx.ip_checksum {
            RxChecksum::Good => {}
            RxChecksum::Unknown if Words::of(ip).is_valid() => {}
            RxChecksum::Unknown | RxChecksum::Bad => return None,
        }
        let segment = rest.get(20..usize::from(len))?;
        let pseudo = Words::pseudo_header(&ip[12..20], ip[9], len - 20);
        let payload_len = transport(packet, segment, ip[9], pseudo, false)?;
        Some(Self {
            vid,
            end: u16::from(l3).checked_add(len)?,
            payload_len,
            l3,
            l4: l3 + 20,
            proto: IpProto(ip[9]),
            v6: false,
        })
    }

    #[inline]
    fn v6(packet: &Packet<'_>, rest: &[u8], l3: u8, vid: u16) -> Option<Self> {
        let ip: &[u8; 40] = rest.first_chunk()?;
        let len = be16(ip, 4);
        if ip[0] >> 4 != 6 || ip[7] <= 1 {
            return None;
        }
        let segment = rest.get(40..40 + usize::from(len))?;
        let pseudo = Words::pseudo_header(&ip[8..40], ip[6], len);
        let payload_len = transport(packet, segment, ip[6], pseudo, true)?;
        Some(Self {
            vid,
            end: (u16::from(l3) + 40).checked_add(len)?,
            payload_len,
            l3,
            l4: l3 + 40,
            proto: IpProto(ip[6]),
            v6: true,
        })
    }

    /// Its tag, or none.
    #[inline]
    pub const fn encap(&self) -> Encap {
        Encap::raw(0, self.vid)
    }

    /// VID of its tag, 0 if there is none.
    #[inline]
    pub const fn vid(&self) -> u16 {
        self.vid
    }

    /// The protocol.
    #[inline]
    pub const fn proto(&self) -> IpProto {
        self.proto
    }

    /// Whether it is an IPv6 packet.
    #[inline]
    pub const fn is_v6(&self) -> bool {
        self.v6
    }

    /// Offset of the network header.
    #[inline]
    pub fn l3(&self) -> usize {
        usize::from(self.l3)
    }

    /// End of the IP packet.
    #[inline]
    pub fn end(&self) -> usize {
        usize::from(self.end)
    }

    /// Octets of transport payload.
    #[inline]
    pub const fn payload_len(&self) -> u16 {
        self.payload_len
    }

    /// Both ports, in wire order.
    #[inline]
    pub fn ports(&self, frame: &[u8]) -> u32 {
        chunk(frame, self.l4).map_or(0, |ports| u32::from_ne_bytes(*ports))
    }

    /// Both addresses of an IPv4 packet, in wire order.
    #[inline]
    pub fn addrs_v4(&self, frame: &[u8]) -> u64 {
        chunk(frame, self.l3 + 12).map_or(0, |addrs| u64::from_ne_bytes(*addrs))
    }

    /// Both addresses of an IPv6 packet, in wire order.
    #[inline]
    pub fn addrs_v6(&self, frame: &[u8]) -> [u64; 4] {
        let addrs: Option<&[u8; 32]> = chunk(frame, self.l3 + 8);
        addrs.map_or([0; 4], |addrs| zerocopy::transmute!(*addrs))
    }

    /// Addresses, ports and protocol.
    pub fn tuple(&self, frame: &[u8]) -> Tuple {
        let (ports, proto) = (self.ports(frame), self.proto);
        if self.v6 {
            let addrs = self.addrs_v6(frame);
            Tuple::V6 {
                addrs,
                ports,
                proto,
            }
        } else {
            let addrs = self.addrs_v4(frame);
            Tuple::V4 {
                addrs,
                ports,
                proto,
            }
        }
    }

    /// What the judge of form says of the frame, without looking at lengths and checksums again.
    ///
    /// Errors: an address that must not be on the wire.
    #[inline]
    pub fn layers(&self, frame: &[u8]) -> Result<Layers, ParseError> {
        let key = FlowKey::from(self.tuple(frame));
        let (martian, network, ttl_at) = if self.v6 {
            let martian = layers::is_martian_v6(key.src.octets(), key.dst.octets());
            // Only neighbour discovery may come from the unspecified address.
            let martian = martian || *key.src.octets() == [0; 16];
            (martian, Network::Ipv6, 7)
        } else {
            let martian = layers::is_martian_v4(key.src.v4_octets(), key.dst.v4_octets());
            (martian, Network::Ipv4, 8)
        };
        if martian {
            return Err(ParseError::MartianAddress);
        }
        Ok(Layers {
            encap: self.encap(),
            network,
            l3: self.l3(),
            l4: usize::from(self.l4),
            end: self.end(),
            payload: self.end() - usize::from(self.payload_len),
            ttl: frame.get(self.l3() + ttl_at).copied().unwrap_or(0),
            fragment: Fragment::Whole,
            tcp_flags: self.tcp(frame).map_or(0, |tcp| tcp.flags),
            icmp_type: 0,
            key,
        })
    }

    /// The TCP header; of a UDP datagram, nothing.
    #[inline]
    pub fn tcp(&self, frame: &[u8]) -> Option<PlainTcp> {
        if self.proto != IpProto::TCP {
            return None;
        }
        let tcp: &[u8; 20] = chunk(frame, self.l4)?;
        Some(PlainTcp {
            seq: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
            ack: u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]),
            window: be16(tcp, 14),
            flags: tcp[13],
        })
    }

    /// Gives an IPv4 packet other addresses and ports, takes one hop off, and adjusts the checksums by
    /// `deltas`, which must be those between the tuple it has and the one it gets (RFC 1624). `frame`
    /// is the frame that was parsed; in any other, nothing is promised but that it survives.
    #[inline(always)]
    pub fn rewrite_v4(&self, frame: &mut [u8], addrs: u64, ports: u32, deltas: Deltas) {
        let Some(rest) = frame.get_mut(usize::from(self.l3)..) else {
            return;
        };
        let Some((ip, segment)) = rest.split_first_chunk_mut::<20>() else {
            return;
        };
        ip[8] = ip[8].wrapping_sub(1);
        let sum = deltas.adjust_ip(be16(ip, 10));
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip[12..20].copy_from_slice(&addrs.to_ne_bytes());
        self.rewrite_transport(segment, ports, deltas);
    }

    /// As [`rewrite_v4`](Self::rewrite_v4), for IPv6.
    #[inline(always)]
    pub fn rewrite_v6(&self, frame: &mut [u8], addrs: [u64; 4], ports: u32, deltas: Deltas) {
        let Some(rest) = frame.get_mut(usize::from(self.l3)..) else {
            return;
        };
        let Some((ip, segment)) = rest.split_first_chunk_mut::<40>() else {
            return;
        };
        ip[7] = ip[7].wrapping_sub(1);
        let addrs: [u8; 32] = zerocopy::transmute!(addrs);
        ip[8..40].copy_from_slice(&addrs);
        self.rewrite_transport(segment, ports, deltas);
    }

    #[inline(always)]
    fn rewrite_transport(&self, segment: &mut [u8], ports: u32, deltas: Deltas) {
        if self.proto == IpProto::TCP {
            if let Some(tcp) = segment.first_chunk_mut::<20>() {
                tcp[..4].copy_from_slice(&ports.to_ne_bytes());
                let sum = deltas.adjust_transport(be16(tcp, 16));
                tcp[16..18].copy_from_slice(&sum.to_be_bytes());
            }
        } else if let Some(udp) = segment.first_chunk_mut::<8>() {
            udp[..4].copy_from_slice(&ports.to_ne_bytes());
            let old = be16(udp, 6);
            // A datagram without a checksum stays without one (RFC 3022 section 4.1).
            if old != 0 {
                let sum = deltas.adjust_transport(old);
                // Zero means "none"; its other representation is sent (RFC 768).
                let sum = if sum == 0 { 0xffff } else { sum };
                udp[6..8].copy_from_slice(&sum.to_be_bytes());
            }
        }
    }
}

#[inline]
fn chunk<const N: usize>(frame: &[u8], at: u8) -> Option<&[u8; N]> {
    frame.get(usize::from(at)..)?.first_chunk()
}

/// The octets of payload of a TCP segment or UDP datagram with right lengths and checksum; `None` for
/// any other.
#[inline]
fn transport(
    packet: &Packet<'_>,
    segment: &[u8],
    proto: u8,
    pseudo: Words,
    v6: bool,
) -> Option<u16> {
    let header_len = match IpProto(proto) {
        IpProto::TCP => {
            let tcp: &[u8; 20] = segment.first_chunk()?;
            let len = usize::from(tcp[12] >> 4) * 4;
            (len >= 20 && len <= segment.len()).then_some(len)?
        }
        IpProto::UDP => {
            let udp: &[u8; 8] = segment.first_chunk()?;
            if usize::from(be16(udp, 4)) != segment.len() {
                return None;
            }
            if be16(udp, 6) == 0 {
                // No checksum: fine over IPv4, forbidden over IPv6 (RFC 8200 section 8.1).
                return if v6 || packet.rx.l4_checksum == RxChecksum::Bad {
                    None
                } else {
                    u16::try_from(segment.len() - 8).ok()
                };
            }
            8
        }
        _ => return None,
    };
    match packet.rx.l4_checksum {
        RxChecksum::Good => {}
        RxChecksum::Unknown if pseudo.add(segment).is_valid() => {}
        RxChecksum::Unknown | RxChecksum::Bad => return None,
    }
    u16::try_from(segment.len() - header_len).ok()
}
