//! Frames made from templates: everything that is the same in all frames of a class is written once;
//! per frame, addresses, ports and the stamp are filled in and the checksums follow from sums kept with
//! the template (RFC 1071).

use net::{MacAddr, Timestamp, VlanId};

use super::flows::{Proto, Tuple};
use super::stamp::{self, Direction, Format, PATTERN};
use super::units::FCS;

/// Hop limit of every packet sent.
pub const TTL: u8 = 64;
/// The shortest frame a port is given, octets: 64 with the check sequence.
const SHORTEST: usize = 60;

/// The Ethernet addresses and the tag of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ethernet {
    /// Our own address.
    pub own: MacAddr,
    /// Who frames go to.
    pub peer: MacAddr,
    /// Tag of all frames.
    pub vlan: Option<VlanId>,
}

impl Ethernet {
    /// Octets of the header.
    pub const fn header_len(&self) -> usize {
        if self.vlan.is_some() { 18 } else { 14 }
    }

    /// The header of a frame of this ethertype.
    pub fn header(&self, ethertype: u16) -> Vec<u8> {
        let mut out = Vec::with_capacity(18);
        out.extend_from_slice(&self.peer.0);
        out.extend_from_slice(&self.own.0);
        if let Some(vlan) = self.vlan {
            out.extend_from_slice(&[0x81, 0x00]);
            out.extend_from_slice(&vlan.get().to_be_bytes());
        }
        out.extend_from_slice(&ethertype.to_be_bytes());
        out
    }
}

/// Adds octets as big-endian words; four at a time, for 2^16 is 1 in one's complement.
#[inline]
pub(super) fn sum(octets: &[u8]) -> u64 {
    let (words, rest) = octets.as_chunks::<4>();
    let mut acc = 0u64;
    if words.len() < 16 {
        for word in words {
            acc += u64::from(u32::from_be_bytes(*word));
        }
    } else {
        // Without a swap per word the compiler makes vectors of it; swapping the sum swaps every word
        // (RFC 1071 section 2 (B)).
        for word in words {
            acc += u64::from(u32::from_ne_bytes(*word));
        }
        acc = u64::from(u16::from_be(fold(acc)));
    }
    match *rest {
        [a] => acc += u64::from(a) << 8,
        [a, b] => acc += u64::from(u16::from_be_bytes([a, b])),
        [a, b, c] => acc += u64::from(u16::from_be_bytes([a, b])) + (u64::from(c) << 8),
        _ => {}
    }
    acc
}

/// The sum as 16 bits.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits first")]
pub(super) const fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The numbers of a TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Segment {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags, see [`net::header::tcp_flags`].
    pub flags: u8,
}

/// All frames of one protocol, family and size on one link.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    proto: Proto,
    v4: bool,
    format: Option<Format>,
    /// Where the headers and the payload begin.
    l3: usize,
    l4: usize,
    payload: usize,
    payload_len: usize,
    /// Of the IPv4 header without what is filled in.
    ip_sum: u64,
    /// Of the transport's pseudo-header, header and payload without what is filled in.
    l4_sum: u64,
}

/// Octets of all headers.
fn headers(ethernet: &Ethernet, proto: Proto, v4: bool) -> usize {
    ethernet.header_len() + if v4 { 20 } else { 40 } + proto.header_len()
}

/// The smallest frame that can carry a stamp, octets with the check sequence.
pub fn least_size(ethernet: &Ethernet, proto: Proto, v4: bool) -> u16 {
    let octets = headers(ethernet, proto, v4) + Format::least_payload(proto, v4);
    u16::try_from(octets.max(SHORTEST))
        .unwrap_or(u16::MAX)
        .saturating_add(FCS)
}

impl Template {
    /// Frames of `size` octets with the check sequence; at least of [`least_size`].
    pub fn data(ethernet: &Ethernet, proto: Proto, v4: bool, size: u16) -> Self {
        let size = size.max(least_size(ethernet, proto, v4));
        let payload = usize::from(size - FCS) - headers(ethernet, proto, v4);
        Self::with_payload(ethernet, proto, v4, payload)
    }

    /// TCP segments without data, for opening and closing connections.
    pub fn control(ethernet: &Ethernet, v4: bool) -> Self {
        Self::with_payload(ethernet, Proto::Tcp, v4, 0)
    }

    fn with_payload(ethernet: &Ethernet, proto: Proto, v4: bool, payload_len: usize) -> Self {
        let clip = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
        let mut bytes = ethernet.header(if v4 { 0x0800 } else { 0x86dd });
        let l3 = bytes.len();
        let segment_len = proto.header_len() + payload_len;
        if v4 {
            let [a, b] = clip(20 + segment_len);
            // Don't fragment: the identification is free to carry something else.
            bytes.extend_from_slice(&[0x45, 0, a, b, 0, 0, 0x40, 0, TTL, proto.number(), 0, 0]);
            bytes.resize(bytes.len() + 8, 0);
        } else {
            let [a, b] = clip(segment_len);
            bytes.extend_from_slice(&[0x60, 0, 0, 0, a, b, proto.number(), TTL]);
            bytes.resize(bytes.len() + 32, 0);
        }
        let l4 = bytes.len();
        match proto {
            Proto::Udp => {
                let [a, b] = clip(segment_len);
                bytes.extend_from_slice(&[0, 0, 0, 0, a, b, 0, 0]);
            }
            Proto::Tcp => {
                bytes.resize(l4 + 12, 0);
                bytes.extend_from_slice(&[0x50, 0, 0xff, 0xff, 0, 0, 0, 0]);
            }
        }
        let payload = bytes.len();
        let format = Format::of(proto, v4, payload_len);
        let stamped = format.map_or(0, Format::octets);
        bytes.resize(payload + stamped, 0);
        bytes.extend_from_slice(PATTERN.get(stamped..payload_len).unwrap_or(&[]));
        let pseudo = u64::from(proto.number()) + segment_len as u64;
        let mut template = Self {
            ip_sum: if v4 { sum(&bytes[l3..l4]) } else { 0 },
            l4_sum: pseudo + sum(&bytes[l4..]),
            bytes,
            proto,
            v4,
            format,
            l3,
            l4,
            payload,
            payload_len,
        };
        template.bytes.resize(template.bytes.len().max(SHORTEST), 0);
        template
    }

    /// Octets of a frame, without the check sequence.
    #[inline]
    pub fn frame_len(&self) -> usize {
        self.bytes.len()
    }

    /// Octets of payload.
    #[inline]
    pub fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// Whether it is of IPv4.
    pub const fn is_v4(&self) -> bool {
        self.v4
    }

    /// Writes a request of `flow` into `out`, which must be [`frame_len`](Self::frame_len) long
    /// (nothing is written otherwise). `segment` counts for TCP only.
    #[inline]
    pub fn fill(
        &self,
        out: &mut [u8],
        tuple: &Tuple,
        flow: u32,
        number: u32,
        at: Timestamp,
        segment: Segment,
    ) {
        if out.len() != self.bytes.len() {
            return;
        }
        out.copy_from_slice(&self.bytes);
        let mut ip_sum = self.ip_sum;
        let mut l4_sum = self.l4_sum;
        let mut urgent = 0;
        if let Some(format) = self.format {
            if format == Format::Bare {
                let (ident, number) = stamp::bare_fields(number, at);
                out[self.l3 + 4..self.l3 + 6].copy_from_slice(&ident.to_be_bytes());
                ip_sum += u64::from(ident);
                l4_sum += u64::from(number);
                urgent = number;
            }
            let stamped = &mut out[self.payload..self.payload + format.octets()];
            stamp::write(format, Direction::Request, flow, number, at, stamped);
            l4_sum += sum(stamped);
        }
        let addresses;
        if self.v4 {
            let ip = &mut out[self.l3 + 12..self.l3 + 20];
            ip[..4].copy_from_slice(&tuple.client.v4_octets());
            ip[4..].copy_from_slice(&tuple.server.v4_octets());
            addresses = sum(ip);
            let checksum = !fold(ip_sum + addresses);
            out[self.l3 + 10..self.l3 + 12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            let ip = &mut out[self.l3 + 8..self.l3 + 40];
            ip[..16].copy_from_slice(tuple.client.octets());
            ip[16..].copy_from_slice(tuple.server.octets());
            addresses = sum(ip);
        }
        l4_sum += addresses + u64::from(tuple.client_port) + u64::from(tuple.server_port);
        let l4 = &mut out[self.l4..];
        l4[..2].copy_from_slice(&tuple.client_port.to_be_bytes());
        l4[2..4].copy_from_slice(&tuple.server_port.to_be_bytes());
        match self.proto {
            Proto::Udp => {
                let checksum = match !fold(l4_sum) {
                    // Zero means "none"; its other representation is sent (RFC 768).
                    0 => 0xffff,
                    checksum => checksum,
                };
                l4[6..8].copy_from_slice(&checksum.to_be_bytes());
            }
            Proto::Tcp => {
                l4[4..8].copy_from_slice(&segment.seq.to_be_bytes());
                l4[8..12].copy_from_slice(&segment.ack.to_be_bytes());
                l4[13] = segment.flags;
                l4[18..20].copy_from_slice(&urgent.to_be_bytes());
                l4_sum +=
                    u64::from(segment.seq) + u64::from(segment.ack) + u64::from(segment.flags);
                l4[16..18].copy_from_slice(&(!fold(l4_sum)).to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::{Addr, IpProto, Layers, Packet, RxMeta};
    use proptest::prelude::*;

    fn link(tag: bool) -> Ethernet {
        Ethernet {
            own: MacAddr([2, 0, 0, 0, 0, 1]),
            peer: MacAddr([2, 0, 0, 0, 0, 2]),
            vlan: VlanId::new(100).filter(|_| tag),
        }
    }

    proptest! {
        // `Layers::parse` verifies lengths and both checksums.
        #[test]
        fn every_frame_is_well_formed_and_has_its_size(
            tag in any::<bool>(), v4 in any::<bool>(), tcp in any::<bool>(), size in 64u16..=9000,
            flow in any::<u32>(), number in any::<u32>(), at in 0u64..1 << 50, client in any::<u32>(),
            ports in any::<(u16, u16)>(), numbers in any::<(u32, u32)>(),
        ) {
            let proto = if tcp { Proto::Tcp } else { Proto::Udp };
            let template = Template::data(&link(tag), proto, v4, size);
            let client = (client & 0x00ff_ffff) | 0x0a00_0000;
            let addr = |last: u32| {
                if v4 {
                    Addr::from_v4(last.to_be_bytes())
                } else {
                    let mut octets = [0x20; 16];
                    octets[12..].copy_from_slice(&last.to_be_bytes());
                    Addr::from_v6(octets)
                }
            };
            let tuple = Tuple {
                client: addr(client), server: addr(0xcb00_710a),
                client_port: ports.0, server_port: ports.1, v4,
            };
            let mut frame = vec![0; template.frame_len()];
            let segment = Segment { seq: numbers.0, ack: numbers.1, flags: 0x18 };
            template.fill(&mut frame, &tuple, flow, number, Timestamp::from_nanos(at), segment);
            prop_assert_eq!(frame.len() + 4, usize::from(size.max(least_size(&link(tag), proto, v4))));
            let len = frame.len();
            let packet = Packet::new(&mut frame, 0, len, RxMeta::default());
            let layers = Layers::parse(&packet).unwrap();
            prop_assert_eq!(layers.key.src, tuple.client);
            prop_assert_eq!(layers.key.dst, tuple.server);
            prop_assert_eq!((layers.key.sport().0, layers.key.dport().0), ports);
            prop_assert_eq!(layers.key.proto, IpProto(proto.number()));
            prop_assert_eq!(layers.payload_len(), template.payload_len());
        }
    }

    #[test]
    fn the_smallest_tagged_frames_fit_64_octets_over_ipv4() {
        let link = link(true);
        assert_eq!(least_size(&link, Proto::Udp, true), 64);
        assert_eq!(least_size(&link, Proto::Tcp, true), 64);
        assert_eq!(least_size(&link, Proto::Udp, false), 84);
        assert_eq!(least_size(&link, Proto::Tcp, false), 96);
    }
}
