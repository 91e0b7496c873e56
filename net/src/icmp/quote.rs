//! The packet that an ICMP error quotes: found in it, and translated within it.

use thiserror::Error;

use super::extension_len;
use crate::addr::L4Port;
use crate::checksum::{Sum, of};
use crate::flow::{Addr, FlowKey, IpProto};
use crate::header::{Icmp, Ipv4, Ipv6, Udp, view, view_mut};
use crate::layers::{Layers, MAX_EXTENSION_HEADERS, Network, is_extension};
use crate::packet::Packet;
use crate::rewrite::{Deltas, RewriteError};

/// Octets of transport that an error quotes at least (RFC 792).
const LEAST: usize = 8;

/// Why the packet that an error quotes names no flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum QuoteError {
    /// It is cut off before its ports, or contradicts itself.
    #[error("malformed quoted packet")]
    Malformed,
    /// It is a later fragment, which has no ports.
    #[error("quoted packet is a later fragment")]
    Fragment,
    /// It is an ICMP packet that is no echo.
    #[error("quoted packet is ICMP other than an echo")]
    Icmp,
}

/// The quoted packet's headers: offsets from the start of the frame. Its checksums and lengths are not
/// checked: it may be cut off, and routers quote what they have made of it already (RFC 5508 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// Addresses, ports (or identifier) and protocol, as in the quoted headers.
    pub key: FlowKey,
    /// Its TCP sequence number.
    pub sequence: Option<u32>,
    network: Network,
    l3: usize,
    l4: usize,
    /// End of what is there of it.
    end: usize,
}

impl Quote {
    /// Finds the packet that an error quotes; the error itself has passed [`Layers::parse`].
    ///
    /// # Errors
    /// What keeps it from naming a flow.
    pub fn find(packet: &Packet<'_>, layers: &Layers) -> Result<Self, QuoteError> {
        let frame = packet.data().get(..layers.end);
        let frame = frame.ok_or(QuoteError::Malformed)?;
        let l3 = layers.l4 + 8;
        // Where extensions follow, it says how long the quoted packet is (RFC 4884 section 5).
        let (words, unit) = match layers.network {
            Network::Ipv4 => (layers.l4 + 5, 4),
            _ => (layers.l4 + 4, 8),
        };
        let stated = match (layers.network, layers.icmp_type) {
            (Network::Ipv4, 3 | 11 | 12) | (Network::Ipv6, 1 | 3) => frame.get(words).copied(),
            _ => None,
        };
        let stated = usize::from(stated.unwrap_or(0)) * unit;
        let end = match l3 + stated {
            end if stated >= 128 && end <= frame.len() => end,
            _ => frame.len(),
        };
        let quoted = frame.get(..end).ok_or(QuoteError::Malformed)?;
        if layers.network == Network::Ipv4 {
            Self::ipv4(quoted, l3)
        } else {
            Self::ipv6(quoted, l3)
        }
    }

    fn ipv4(frame: &[u8], l3: usize) -> Result<Self, QuoteError> {
        let ip: &Ipv4 = view(frame, l3).ok_or(QuoteError::Malformed)?;
        let header_len = usize::from(ip.version_ihl & 0x0f) * 4;
        let total_len = usize::from(ip.total_len.get());
        if ip.version_ihl >> 4 != 4 || header_len < 20 || total_len < header_len + LEAST {
            return Err(QuoteError::Malformed);
        }
        if ip.flags_fragment.get() & 0x1fff != 0 {
            return Err(QuoteError::Fragment);
        }
        let addrs = (Addr::from_v4(ip.src), Addr::from_v4(ip.dst));
        let frame = frame.get(..l3 + total_len).unwrap_or(frame);
        let ends = (l3, l3 + header_len);
        Self::transport(frame, Network::Ipv4, ends, addrs, IpProto(ip.proto))
    }

    fn ipv6(frame: &[u8], l3: usize) -> Result<Self, QuoteError> {
        let ip: &Ipv6 = view(frame, l3).ok_or(QuoteError::Malformed)?;
        if ip.version_class_flow.get() >> 28 != 6 {
            return Err(QuoteError::Malformed);
        }
        let end = l3 + 40 + usize::from(ip.payload_len.get());
        let frame = frame.get(..end).unwrap_or(frame);
        let (mut next, mut at) = (ip.next, l3 + 40);
        for depth in 0.. {
            if !is_extension(next) {
                break;
            }
            let header = frame.get(at..at + 8).ok_or(QuoteError::Malformed)?;
            if depth == MAX_EXTENSION_HEADERS {
                return Err(QuoteError::Malformed);
            }
            if next == 44 && u16::from_be_bytes([header[2], header[3]]) >> 3 != 0 {
                return Err(QuoteError::Fragment);
            }
            at += extension_len(next, usize::from(header[1]));
            next = header[0];
        }
        let addrs = (Addr::from_v6(ip.src), Addr::from_v6(ip.dst));
        Self::transport(frame, Network::Ipv6, (l3, at), addrs, IpProto(next))
    }

    fn transport(
        frame: &[u8],
        network: Network,
        (l3, l4): (usize, usize),
        (src, dst): (Addr, Addr),
        proto: IpProto,
    ) -> Result<Self, QuoteError> {
        let first = frame.get(l4..).and_then(<[u8]>::first_chunk::<LEAST>);
        let first = *first.ok_or(QuoteError::Malformed)?;
        let kind = first[0];
        let [ports, seq] = *first.as_chunks::<4>().0 else {
            return Err(QuoteError::Malformed);
        };
        let word = |high, low| L4Port(u16::from_be_bytes([high, low]));
        let ident = word(seq[0], seq[1]);
        let (sport, dport) = match (network, proto) {
            (_, IpProto::TCP | IpProto::UDP | IpProto::SCTP) => {
                (word(ports[0], ports[1]), word(ports[2], ports[3]))
            }
            (Network::Ipv4, IpProto::ICMP) if matches!(kind, 0 | 8) => (ident, ident),
            (Network::Ipv6, IpProto::ICMPV6) if matches!(kind, 128 | 129) => (ident, ident),
            (_, IpProto::ICMP | IpProto::ICMPV6) => return Err(QuoteError::Icmp),
            _ => (L4Port(0), L4Port(0)),
        };
        Ok(Self {
            key: FlowKey::new(src, dst, sport, dport, proto),
            sequence: (proto == IpProto::TCP).then(|| u32::from_be_bytes(seq)),
            network,
            l3,
            l4,
            end: frame.len(),
        })
    }

    /// Translates the error in `packet`, which `layers` describe and this was found in: the quoted packet
    /// becomes `quoted`, the error one from `source` to `destination` with a hop less to go. All
    /// checksums that were right stay right; of a quoted transport, its checksum is adjusted where it is
    /// there. (SCTP's covers all of the packet and is left as it is.)
    ///
    /// # Errors
    /// Nothing is changed if the families differ or no hop is left.
    pub fn translate(
        &self,
        packet: &mut Packet<'_>,
        layers: &Layers,
        quoted: &FlowKey,
        (source, destination): (&Addr, &Addr),
    ) -> Result<(), RewriteError> {
        let v4 = self.network == Network::Ipv4;
        let families = [&quoted.src, &quoted.dst, source, destination];
        if families.iter().any(|addr| addr.is_v4() != v4) || quoted.proto != self.key.proto {
            return Err(RewriteError::Mismatch);
        }
        if layers.ttl <= 1 {
            return Err(RewriteError::TtlExceeded);
        }
        let frame = packet.data_mut();
        self.rewrite(frame, quoted).ok_or(RewriteError::Mismatch)?;
        if v4 {
            let ip: &mut Ipv4 = view_mut(frame, layers.l3).ok_or(RewriteError::Mismatch)?;
            (ip.src, ip.dst) = (source.v4_octets(), destination.v4_octets());
            ip.ttl = ip.ttl.saturating_sub(1);
            ip.checksum = 0.into();
            let header = frame.get(layers.l3..layers.l4);
            let sum = of(header.ok_or(RewriteError::Mismatch)?);
            let ip: &mut Ipv4 = view_mut(frame, layers.l3).ok_or(RewriteError::Mismatch)?;
            ip.checksum = sum.into();
        } else {
            let ip: &mut Ipv6 = view_mut(frame, layers.l3).ok_or(RewriteError::Mismatch)?;
            (ip.src, ip.dst) = (*source.octets(), *destination.octets());
            ip.hop_limit = ip.hop_limit.saturating_sub(1);
        }
        let icmp: &mut Icmp = view_mut(frame, layers.l4).ok_or(RewriteError::Mismatch)?;
        icmp.checksum = 0.into();
        let message = frame.get(layers.l4..layers.end);
        let message = message.ok_or(RewriteError::Mismatch)?;
        let len = u16::try_from(message.len()).map_err(|_| RewriteError::Mismatch)?;
        let over = if v4 {
            Sum::ZERO
        } else {
            let proto = IpProto::ICMPV6.0;
            crate::checksum::pseudo_header(source.ip(), destination.ip(), proto, len)
        };
        let sum = over.add(message).checksum();
        let icmp: &mut Icmp = view_mut(frame, layers.l4).ok_or(RewriteError::Mismatch)?;
        icmp.checksum = sum.into();
        Ok(())
    }

    fn rewrite(&self, frame: &mut [u8], to: &FlowKey) -> Option<()> {
        let deltas = Deltas::between(&self.key, to);
        if self.network == Network::Ipv4 {
            let ip: &mut Ipv4 = view_mut(frame, self.l3)?;
            (ip.src, ip.dst) = (to.src.v4_octets(), to.dst.v4_octets());
            ip.checksum = deltas.adjust_addresses(ip.checksum.get()).into();
        } else {
            let ip: &mut Ipv6 = view_mut(frame, self.l3)?;
            (ip.src, ip.dst) = (*to.src.octets(), *to.dst.octets());
        }
        let transport = frame.get_mut(self.l4..self.end)?;
        let (sport, dport) = (to.sport().0.to_be_bytes(), to.dport().0.to_be_bytes());
        match to.proto {
            IpProto::TCP | IpProto::UDP | IpProto::SCTP => {
                transport.get_mut(..2)?.copy_from_slice(&sport);
                transport.get_mut(2..4)?.copy_from_slice(&dport);
            }
            IpProto::ICMP | IpProto::ICMPV6 => {
                transport.get_mut(4..6)?.copy_from_slice(&sport);
            }
            _ => {}
        }
        match to.proto {
            IpProto::TCP => {
                // Often cut off before it.
                if let Some(field) = transport.get_mut(16..18) {
                    let sum = u16::from_be_bytes([field[0], field[1]]);
                    field.copy_from_slice(&deltas.adjust_transport(sum).to_be_bytes());
                }
            }
            IpProto::UDP => {
                let udp: &mut Udp = view_mut(transport, 0)?;
                if udp.checksum.get() != 0 {
                    let sum = deltas.adjust_transport(udp.checksum.get());
                    udp.checksum = if sum == 0 { 0xffff } else { sum }.into();
                }
            }
            IpProto::ICMP | IpProto::ICMPV6 => {
                let icmp: &mut Icmp = view_mut(transport, 0)?;
                icmp.checksum = deltas.adjust_transport(icmp.checksum.get()).into();
            }
            IpProto::DCCP | IpProto::UDP_LITE => {
                crate::rewrite::adjust_at_6(Some(transport), deltas);
            }
            _ => {}
        }
        Some(())
    }
}
