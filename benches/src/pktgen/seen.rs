//! A received frame taken apart, with nothing taken on trust: the checksums are summed anew.

use net::{Addr, MacAddr};

use super::flows::Proto;
use super::frame::{fold, sum};

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// TCP or UDP over IP.
    Packet(Seen),
    /// ARP or neighbour discovery, to be looked at by the neighbour.
    Neighbor,
    /// An ICMP or ICMPv6 error or echo.
    Icmp,
    /// Something else, such as what kernels and switches say of their own accord.
    Foreign,
    /// IP, but cut off or with lengths that contradict each other, or a fragment.
    Malformed,
}

/// A TCP or UDP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Destination station.
    pub dst_mac: MacAddr,
    /// Source station.
    pub src_mac: MacAddr,
    /// VLAN id of its tag; 0 is untagged.
    pub vid: u16,
    /// IPv4 rather than IPv6.
    pub v4: bool,
    /// Transport protocol.
    pub proto: Proto,
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Hops left.
    pub ttl: u8,
    /// Type of service, or traffic class and flow label.
    pub class: u32,
    /// IPv4 identification.
    pub ident: u16,
    /// TCP numbers and flags; 0 for UDP.
    pub seq: u32,
    /// TCP acknowledgement number.
    pub ack: u32,
    /// TCP flags.
    pub flags: u8,
    /// TCP urgent pointer.
    pub urgent: u16,
    /// The IPv4 header checksum is right.
    pub ip_checksum_good: bool,
    /// The transport checksum is right.
    pub l4_checksum_good: bool,
    /// Where the IP header begins.
    pub l3: usize,
    /// Where the transport header begins.
    pub l4: usize,
    /// Where the payload begins.
    pub payload: usize,
    /// Where the IP packet ends; padding may follow.
    pub end: usize,
}

impl Seen {
    /// The payload in the frame it was parsed from.
    #[inline]
    pub fn payload_of<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(self.payload..self.end).unwrap_or(&[])
    }

    /// Octets of payload.
    #[inline]
    pub const fn payload_len(&self) -> usize {
        self.end - self.payload
    }
}

#[inline]
fn u16_at(frame: &[u8], at: usize) -> Option<u16> {
    frame
        .get(at..at + 2)?
        .first_chunk::<2>()
        .map(|b| u16::from_be_bytes(*b))
}

#[inline]
fn u32_at(frame: &[u8], at: usize) -> Option<u32> {
    frame
        .get(at..at + 4)?
        .first_chunk::<4>()
        .map(|b| u32::from_be_bytes(*b))
}

/// Takes a frame apart.
#[inline]
pub fn parse(frame: &[u8]) -> Parsed {
    let Some(outer) = u16_at(frame, 12) else {
        return Parsed::Foreign;
    };
    let (vid, kind, l3) = if outer == 0x8100 {
        match (u16_at(frame, 14), u16_at(frame, 16)) {
            (Some(tci), Some(kind)) => (tci & 0x0fff, kind, 18),
            _ => return Parsed::Foreign,
        }
    } else {
        (0, outer, 14)
    };
    match kind {
        0x0800 => packet::<true>(frame, vid, l3).unwrap_or(Parsed::Malformed),
        0x86dd => packet::<false>(frame, vid, l3).unwrap_or(Parsed::Malformed),
        0x0806 => Parsed::Neighbor,
        _ => Parsed::Foreign,
    }
}

#[inline]
fn packet<const V4: bool>(frame: &[u8], vid: u16, l3: usize) -> Option<Parsed> {
    let (l4, end, number, ttl, ident, class);
    let (src, dst, addresses, ip_checksum_good);
    if V4 {
        let header = frame.get(l3..)?.first_chunk::<20>()?;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        // We send no options and no fragments, so none may come back.
        if header[0] != 0x45 || total < 20 || (header[6] & 0x3f) | header[7] != 0 {
            return None;
        }
        (l4, end, number, ttl) = (l3 + 20, l3 + total, header[9], header[8]);
        ident = u16::from_be_bytes([header[4], header[5]]);
        class = u32::from(header[1]);
        src = Addr::from_v4([header[12], header[13], header[14], header[15]]);
        dst = Addr::from_v4([header[16], header[17], header[18], header[19]]);
        addresses = sum(&header[12..]);
        ip_checksum_good = fold(sum(&header[..12]) + addresses) == 0xffff;
    } else {
        let header = frame.get(l3..)?.first_chunk::<40>()?;
        let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        if header[0] >> 4 != 6 {
            return None;
        }
        (l4, end, number, ttl, ident) = (l3 + 40, l3 + 40 + len, header[6], header[7], 0);
        class = u32::from_be_bytes([header[0] & 0x0f, header[1], header[2], header[3]]);
        src = Addr::from_v6(*header[8..].first_chunk::<16>()?);
        dst = Addr::from_v6(*header[24..].first_chunk::<16>()?);
        addresses = sum(&header[8..]);
        ip_checksum_good = true;
    }
    let segment = frame.get(l4..end)?;
    let proto = match number {
        6 => Proto::Tcp,
        17 => Proto::Udp,
        1 if V4 => return Some(Parsed::Icmp),
        58 if !V4 => {
            return Some(match segment.first() {
                Some(135 | 136) => Parsed::Neighbor,
                // Routers and listeners speak of their own accord.
                Some(130..=134 | 137 | 143) => Parsed::Foreign,
                _ => Parsed::Icmp,
            });
        }
        _ => return Some(Parsed::Foreign),
    };
    let pseudo = addresses + u64::from(number) + segment.len() as u64;
    let mut l4_checksum_good = fold(pseudo + sum(segment)) == 0xffff;
    let header_len;
    let (mut seq, mut ack, mut flags, mut urgent) = (0, 0, 0, 0);
    match proto {
        Proto::Udp => {
            header_len = 8;
            // A datagram without a checksum is not one that we sent.
            l4_checksum_good &= u16_at(segment, 6)? != 0;
            if usize::from(u16_at(segment, 4)?) != segment.len() {
                return None;
            }
        }
        Proto::Tcp => {
            header_len = usize::from(segment.get(12)? >> 4) * 4;
            (seq, ack) = (u32_at(segment, 4)?, u32_at(segment, 8)?);
            (flags, urgent) = (*segment.get(13)?, u16_at(segment, 18)?);
        }
    }
    if header_len < proto.header_len() || segment.len() < header_len {
        return None;
    }
    Some(Parsed::Packet(Seen {
        dst_mac: MacAddr(*frame.first_chunk::<6>()?),
        src_mac: MacAddr(*frame.get(6..)?.first_chunk::<6>()?),
        vid,
        v4: V4,
        proto,
        src,
        dst,
        sport: u16_at(segment, 0)?,
        dport: u16_at(segment, 2)?,
        ttl,
        class,
        ident,
        seq,
        ack,
        flags,
        urgent,
        ip_checksum_good,
        l4_checksum_good,
        l3,
        l4,
        payload: l4 + header_len,
        end,
    }))
}
