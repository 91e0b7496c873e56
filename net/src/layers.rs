//! Where each header of a frame begins, found and checked once per packet.
//!
//! [`Layers::parse`] is the only place that decides whether a frame is well formed. What it lets
//! through has an intact Ethernet header, at most two tags and, for IP, consistent lengths, a
//! right header checksum, no address that must not be on the wire and, unless it is a fragment, an
//! intact transport header with a right checksum.

use thiserror::Error;

use crate::addr::{L4Port, MacAddr};
use crate::checksum::{Sum, pseudo_header};
use crate::flow::{Addr, FlowKey, IpProto};
use crate::header::{Ethernet, Icmp, Ipv4, Ipv6, Sctp, Tcp, Udp, ethertype, view};
use crate::packet::{Packet, RxChecksum};
use crate::tag::{Encap, TPID_8021AD, TPID_8021Q};

/// The most IPv6 extension headers followed; more is an attack or a mistake (RFC 7045 section 2.1).
pub(crate) const MAX_EXTENSION_HEADERS: usize = 8;

/// Why a frame is not well formed. Each is one drop reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum ParseError {
    /// Shorter than its Ethernet header and tags.
    #[error("frame shorter than its Ethernet header")]
    TruncatedEthernet,
    /// More than two VLAN tags.
    #[error("more than two VLAN tags")]
    TooManyTags,
    /// The source MAC is a group address or zero (IEEE 802.3 3.2.4).
    #[error("source MAC is not a station's")]
    BadSourceMac,
    /// The network header is cut off.
    #[error("network header cut off")]
    TruncatedNetwork,
    /// Version, header length or total length contradict each other or the frame.
    #[error("malformed IP header")]
    BadIpHeader,
    /// The IPv4 header checksum is wrong (RFC 1812 section 5.2.2).
    #[error("wrong IPv4 header checksum")]
    BadIpChecksum,
    /// IPv6 extension headers that are cut off, misplaced or too many.
    #[error("malformed IPv6 extension headers")]
    BadExtensionHeader,
    /// An address that must not be on the wire (RFC 1812 section 5.3.7, RFC 4291 section 2.5).
    #[error("address that must not be on the wire")]
    MartianAddress,
    /// The transport header is cut off.
    #[error("transport header cut off")]
    TruncatedTransport,
    /// A transport length or data offset contradicts the packet.
    #[error("malformed transport header")]
    BadTransportHeader,
    /// The TCP, UDP, SCTP or ICMP checksum is wrong.
    #[error("wrong transport checksum")]
    BadTransportChecksum,
}

/// What the network layer of a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// ARP; its fields are not checked here.
    Arp,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// Another ethertype (or an IEEE 802.3 length).
    Other(u16),
}

/// Whether a packet is a fragment (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// The whole packet (an IPv6 atomic fragment too, RFC 6946).
    Whole,
    /// The first fragment; more follow.
    First,
    /// A later fragment: no transport header in it.
    Later,
}

/// The headers of one frame: offsets from the start of the frame, and the facts needed to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    /// Tags, in the frame or stripped by the device.
    pub encap: Encap,
    /// What the network layer is.
    pub network: Network,
    /// Offset of the network header.
    pub l3: usize,
    /// Offset of the transport header: behind options and extension headers.
    pub l4: usize,
    /// End of the IP packet; padding of the frame follows.
    pub end: usize,
    /// Offset of the transport payload; `end` if there is none or it is unknown.
    pub payload: usize,
    /// Hops left, 0 for other than IP.
    pub ttl: u8,
    /// Whether the packet is a fragment.
    pub fragment: Fragment,
    /// TCP flags, 0 for other than TCP.
    pub tcp_flags: u8,
    /// ICMP or ICMPv6 type, 0 for others; see [`FlowKey::proto`].
    pub icmp_type: u8,
    /// Addresses, ports and protocol; all zero for other than IP. Ports are 0 where there are none.
    pub key: FlowKey,
}

impl Layers {
    /// Finds and checks the headers of `packet`.
    pub fn parse(packet: &Packet<'_>) -> Result<Self, ParseError> {
        let frame = packet.data();
        let eth: &Ethernet = view(frame, 0).ok_or(ParseError::TruncatedEthernet)?;
        if !MacAddr(eth.src).is_station() {
            return Err(ParseError::BadSourceMac);
        }
        let (encap, l3, kind) = tags(packet, frame, eth.ethertype.get())?;
        let mut layers = Self {
            encap,
            network: Network::Other(kind),
            l3,
            l4: l3,
            end: frame.len(),
            payload: frame.len(),
            ttl: 0,
            fragment: Fragment::Whole,
            tcp_flags: 0,
            icmp_type: 0,
            key: FlowKey::default(),
        };
        match kind {
            ethertype::IPV4 => layers.ipv4(packet, frame)?,
            ethertype::IPV6 => layers.ipv6(packet, frame)?,
            ethertype::ARP => layers.network = Network::Arp,
            _ => {}
        }
        Ok(layers)
    }

    /// Whether the frame carries IPv4 or IPv6.
    #[inline]
    pub fn is_ip(&self) -> bool {
        matches!(self.network, Network::Ipv4 | Network::Ipv6)
    }

    /// Whether it is an echo request or reply, of ICMP or ICMPv6.
    #[inline]
    pub const fn is_echo(&self) -> bool {
        matches!(
            (self.key.proto, self.icmp_type),
            (IpProto::ICMP, 0 | 8) | (IpProto::ICMPV6, 128 | 129)
        )
    }

    /// Whether it is an echo request, of ICMP or ICMPv6.
    #[inline]
    pub const fn is_echo_request(&self) -> bool {
        matches!(
            (self.key.proto, self.icmp_type),
            (IpProto::ICMP, 8) | (IpProto::ICMPV6, 128)
        )
    }

    /// Octets of transport payload.
    #[inline]
    pub fn payload_len(&self) -> usize {
        self.end.saturating_sub(self.payload)
    }

    fn ipv4(&mut self, packet: &Packet<'_>, frame: &[u8]) -> Result<(), ParseError> {
        let ip: &Ipv4 = view(frame, self.l3).ok_or(ParseError::TruncatedNetwork)?;
        let header_len = usize::from(ip.version_ihl & 0x0f) * 4;
        let total_len = usize::from(ip.total_len.get());
        if ip.version_ihl >> 4 != 4 || header_len < 20 || total_len < header_len {
            return Err(ParseError::BadIpHeader);
        }
        let header = frame
            .get(self.l3..self.l3 + header_len)
            .ok_or(ParseError::TruncatedNetwork)?;
        if self.l3 + total_len > frame.len() {
            return Err(ParseError::BadIpHeader);
        }
        match packet.rx.ip_checksum {
            RxChecksum::Good => {}
            RxChecksum::Unknown if Sum::ZERO.add(header).is_valid() => {}
            RxChecksum::Unknown | RxChecksum::Bad => return Err(ParseError::BadIpChecksum),
        }
        if is_martian_v4(ip.src, ip.dst) {
            return Err(ParseError::MartianAddress);
        }
        self.network = Network::Ipv4;
        self.ttl = ip.ttl;
        self.l4 = self.l3 + header_len;
        self.end = self.l3 + total_len;
        self.payload = self.end;
        let fragment = ip.flags_fragment.get();
        self.fragment = fragment_kind(fragment & 0x1fff, fragment & 0x2000 != 0);
        self.key.src = Addr::from_v4(ip.src);
        self.key.dst = Addr::from_v4(ip.dst);
        self.transport(packet, frame, IpProto(ip.proto))
    }

    fn ipv6(&mut self, packet: &Packet<'_>, frame: &[u8]) -> Result<(), ParseError> {
        let ip: &Ipv6 = view(frame, self.l3).ok_or(ParseError::TruncatedNetwork)?;
        let end = self.l3 + 40 + usize::from(ip.payload_len.get());
        if ip.version_class_flow.get() >> 28 != 6 || end > frame.len() {
            return Err(ParseError::BadIpHeader);
        }
        let (src, dst) = (Addr::from_v6(ip.src), Addr::from_v6(ip.dst));
        if is_martian_v6(&ip.src, &ip.dst) {
            return Err(ParseError::MartianAddress);
        }
        self.network = Network::Ipv6;
        self.ttl = ip.hop_limit;
        self.end = end;
        self.payload = end;
        self.key.src = src;
        self.key.dst = dst;
        let mut at = self.l3 + 40;
        let mut next = ip.next;
        let packet_bytes = frame.get(..end).ok_or(ParseError::BadIpHeader)?;
        let mut fragment_headers = 0;
        for depth in 0.. {
            if !is_extension(next) {
                break;
            }
            // Hop-by-hop options are allowed in the first place only (RFC 8200 section 4.1).
            if depth == MAX_EXTENSION_HEADERS || (next == 0 && depth != 0) {
                return Err(ParseError::BadExtensionHeader);
            }
            let header = packet_bytes
                .get(at..at + 8)
                .ok_or(ParseError::BadExtensionHeader)?;
            let len = match next {
                44 => {
                    // A second one would overrule the first (RFC 8200 section 4.1: once at most).
                    fragment_headers += 1;
                    if fragment_headers > 1 {
                        return Err(ParseError::BadExtensionHeader);
                    }
                    let field = u16::from_be_bytes([header[2], header[3]]);
                    self.fragment = fragment_kind(field >> 3, field & 1 != 0);
                    8
                }
                // Twelve octets are fixed (RFC 4302 section 2).
                51 if header[1] == 0 => return Err(ParseError::BadExtensionHeader),
                51 => (usize::from(header[1]) + 2) * 4,
                _ => (usize::from(header[1]) + 1) * 8,
            };
            next = header[0];
            at += len;
            if at > end {
                return Err(ParseError::BadExtensionHeader);
            }
            if self.fragment == Fragment::Later {
                break;
            }
        }
        // Only neighbour discovery may come from the unspecified address (RFC 4861 section 4.3).
        if ip.src == [0; 16] && IpProto(next) != IpProto::ICMPV6 {
            return Err(ParseError::MartianAddress);
        }
        self.l4 = at;
        self.transport(packet, frame, IpProto(next))
    }

    fn transport(
        &mut self,
        packet: &Packet<'_>,
        frame: &[u8],
        proto: IpProto,
    ) -> Result<(), ParseError> {
        self.key.proto = proto;
        if self.fragment == Fragment::Later {
            return Ok(());
        }
        let segment = frame
            .get(self.l4..self.end)
            .ok_or(ParseError::BadIpHeader)?;
        let cut = ParseError::TruncatedTransport;
        let (mut sport, mut dport) = (L4Port(0), L4Port(0));
        match proto {
            IpProto::TCP => {
                let tcp: &Tcp = view(segment, 0).ok_or(cut)?;
                let header_len = usize::from(tcp.offset >> 4) * 4;
                if header_len < 20 || header_len > segment.len() {
                    return Err(ParseError::BadTransportHeader);
                }
                (sport, dport) = (L4Port(tcp.sport.get()), L4Port(tcp.dport.get()));
                self.tcp_flags = tcp.flags;
                self.payload = self.l4 + header_len;
            }
            IpProto::UDP => {
                let udp: &Udp = view(segment, 0).ok_or(cut)?;
                let len = usize::from(udp.len.get());
                // A first fragment holds less than the datagram it announces.
                let too_long = len > segment.len() && self.fragment == Fragment::Whole;
                if len < 8 || too_long {
                    return Err(ParseError::BadTransportHeader);
                }
                (sport, dport) = (L4Port(udp.sport.get()), L4Port(udp.dport.get()));
                self.payload = self.l4 + 8;
            }
            IpProto::SCTP => {
                let sctp: &Sctp = view(segment, 0).ok_or(cut)?;
                (sport, dport) = (L4Port(sctp.sport.get()), L4Port(sctp.dport.get()));
                self.payload = self.l4 + 12;
            }
            // ICMP of the other family means nothing: it is opaque like any unknown protocol.
            IpProto::ICMP | IpProto::ICMPV6
                if (proto == IpProto::ICMP) == (self.network == Network::Ipv4) =>
            {
                let icmp: &Icmp = view(segment, 0).ok_or(cut)?;
                self.icmp_type = icmp.kind;
                // Echo request and reply have an identifier, which stands in for both ports.
                if matches!(
                    (proto, icmp.kind),
                    (IpProto::ICMP, 0 | 8) | (IpProto::ICMPV6, 128 | 129)
                ) {
                    (sport, dport) = (L4Port(icmp.ident.get()), L4Port(icmp.ident.get()));
                }
                self.payload = self.l4 + 8;
            }
            _ => {}
        }
        self.key = FlowKey::new(self.key.src, self.key.dst, sport, dport, proto);
        if self.fragment == Fragment::Whole {
            self.check_transport(packet, segment)?;
        }
        Ok(())
    }

    /// Verifies the transport checksum where the device has not.
    fn check_transport(&self, packet: &Packet<'_>, segment: &[u8]) -> Result<(), ParseError> {
        let wrong = Err(ParseError::BadTransportChecksum);
        let v6 = self.network == Network::Ipv6;
        let covered = match self.key.proto {
            IpProto::TCP => segment,
            IpProto::UDP => {
                let udp: &Udp = view(segment, 0).ok_or(ParseError::TruncatedTransport)?;
                if udp.checksum.get() == 0 {
                    // No checksum: fine over IPv4, forbidden over IPv6 (RFC 8200 section 8.1).
                    return if v6 { wrong } else { Ok(()) };
                }
                segment
                    .get(..usize::from(udp.len.get()))
                    .ok_or(ParseError::BadTransportHeader)?
            }
            IpProto::ICMP if !v6 => segment,
            IpProto::ICMPV6 if v6 => segment,
            IpProto::SCTP => return crate::sctp::check(segment),
            _ => return Ok(()),
        };
        match packet.rx.l4_checksum {
            RxChecksum::Bad => return wrong,
            // Devices do not check ICMP.
            RxChecksum::Good if matches!(self.key.proto, IpProto::TCP | IpProto::UDP) => {
                return Ok(());
            }
            RxChecksum::Good | RxChecksum::Unknown => {}
        }
        let sum = if self.key.proto == IpProto::ICMP {
            Sum::ZERO
        } else {
            let len = u16::try_from(covered.len()).map_err(|_| ParseError::BadIpHeader)?;
            self.pseudo_header(len)
        };
        if sum.add(covered).is_valid() {
            Ok(())
        } else {
            wrong
        }
    }

    /// The pseudo-header of this packet's transport, for `len` octets of it.
    #[inline]
    pub fn pseudo_header(&self, len: u16) -> Sum {
        pseudo_header(self.key.src.ip(), self.key.dst.ip(), self.key.proto.0, len)
    }
}

/// No source is multicast, reserved or loopback; no destination "this host" or loopback.
#[inline]
pub(crate) fn is_martian_v4(src: [u8; 4], dst: [u8; 4]) -> bool {
    src[0] >= 224 || src[0] == 127 || src == [0; 4] || dst[0] == 127 || dst == [0; 4]
}

/// No source is multicast or loopback; no destination unspecified or loopback; neither is mapped.
#[inline]
pub(crate) fn is_martian_v6(src: &[u8; 16], dst: &[u8; 16]) -> bool {
    const LOOPBACK: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    src[0] == 0xff
        || Addr::from_v6(*src).is_v4()
        || Addr::from_v6(*dst).is_v4()
        || *src == LOOPBACK
        || *dst == LOOPBACK
        || *dst == [0; 16]
}

/// Walks the tags; gives them, the offset of the network header, and its ethertype.
#[inline]
fn tags(packet: &Packet<'_>, frame: &[u8], first: u16) -> Result<(Encap, usize, u16), ParseError> {
    // (whether the tag is an S-tag, VID), outermost first.
    let mut found = [(false, 0u16); 2];
    let mut count = 0;
    let stripped = [
        (true, packet.rx.stripped_service_tci),
        (false, packet.rx.stripped_tci),
    ];
    for (is_service, tci) in stripped {
        if let (Some(tci), Some(slot)) = (tci, found.get_mut(count)) {
            *slot = (is_service, tci & 0x0fff);
            count += 1;
        }
    }
    let (mut at, mut kind) = (14, first);
    while kind == TPID_8021Q || kind == TPID_8021AD {
        let slot = found.get_mut(count).ok_or(ParseError::TooManyTags)?;
        let tag = frame.get(at..at + 4).ok_or(ParseError::TruncatedEthernet)?;
        *slot = (
            kind == TPID_8021AD,
            u16::from_be_bytes([tag[0], tag[1]]) & 0x0fff,
        );
        kind = u16::from_be_bytes([tag[2], tag[3]]);
        count += 1;
        at += 4;
    }
    let encap = match (count, found) {
        (0, _) => Encap::UNTAGGED,
        // A lone S-tag is a service tag around nothing, not a VLAN of the same number.
        (1, [(true, vid), _]) => Encap::raw(vid, 0),
        // One tag; or two, of which the inner is a priority tag and counts as none.
        (_, [(false, vid), (_, 0)]) => Encap::raw(0, vid),
        // Two tags are a stack whichever TPID the outer one has; many switches use 0x8100 twice.
        (_, [(_, outer), (_, inner)]) => Encap::raw(outer, inner),
    };
    Ok((encap, at, kind))
}

const fn fragment_kind(offset: u16, more: bool) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    }
}

/// Hop-by-hop, routing, fragment, authentication, destination options, mobility, HIP, shim6.
pub(crate) const fn is_extension(next: u8) -> bool {
    matches!(next, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140)
}
