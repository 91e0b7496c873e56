//! Addresses and ports set in place while the checksums stay right.

use thiserror::Error;

use crate::checksum::{Sum, fold_small};
use crate::flow::{FlowKey, IpProto};
use crate::header::{Icmp, Ipv4, Ipv6, Tcp, Udp, view_mut};
use crate::layers::{Fragment, Layers, Network};
use crate::packet::Packet;
use crate::sctp;
use crate::tuple::Tuple;

/// A packet that a rewrite does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RewriteError {
    /// Another address family or protocol than the rewrite was made for.
    #[error("the packet is not of the rewrite's family and protocol")]
    Mismatch,
    /// A later fragment, whose octets must not be taken for a transport header; or any of SCTP whose ports
    /// would change.
    #[error("a fragment that cannot be rewritten by itself")]
    Fragment,
    /// Hops are used up (RFC 1812 section 5.3.1): the packet must not be forwarded.
    #[error("time to live exceeded")]
    TtlExceeded,
}

/// What a rewrite does to checksums, worked out once per flow; four octets to keep in its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Deltas {
    /// Difference of the addresses.
    addr: u16,
    /// Difference of addresses and ports: what a checksum over a pseudo-header sees.
    l4: u16,
}

impl Deltas {
    /// What turning the key `from` into the key `to`, of the same family, does to checksums.
    #[inline]
    pub fn between(from: &FlowKey, to: &FlowKey) -> Self {
        let addr = Sum::of_words(difference(addrs(from), addrs(to))).fold();
        // They were added as they lie in memory (RFC 1071 section 2 (B)).
        let addr = u16::from_be(addr);
        let identifier = |k: &FlowKey| u64::from(k.sport().0);
        let ports = |k: &FlowKey| u64::from(k.sport().0) + u64::from(k.dport().0);
        let l4 = match to.proto {
            // One identifier stands for both ports, and ICMP has no pseudo-header (RFC 792).
            IpProto::ICMP => difference(identifier(from), identifier(to)),
            IpProto::ICMPV6 => difference(identifier(from), identifier(to) + u64::from(addr)),
            _ => difference(ports(from), ports(to) + u64::from(addr)),
        };
        let l4 = Sum::of_words(l4).fold();
        Self { addr, l4 }
    }

    /// The header checksum of an IPv4 packet that had `checksum`, after the rewrite with one hop taken
    /// off: TTL is the upper half of its word (RFC 1624 equation 3).
    #[inline]
    pub(crate) const fn adjust_ip(self, checksum: u16) -> u16 {
        !fold_small(!checksum as u32 + self.addr as u32 + !0x0100_u16 as u32)
    }

    /// The header checksum of an IPv4 packet that had `checksum`, after the rewrite of its addresses alone.
    #[inline]
    pub(crate) const fn adjust_addresses(self, checksum: u16) -> u16 {
        !fold_small(!checksum as u32 + self.addr as u32)
    }

    /// A checksum over a pseudo-header, after the rewrite.
    #[inline]
    pub(crate) const fn adjust_transport(self, checksum: u16) -> u16 {
        !fold_small(!checksum as u32 + self.l4 as u32)
    }

    /// What the way back does: packets of the reply are translated the other way round, so their
    /// differences are the same with the other sign.
    #[inline]
    #[must_use]
    pub const fn inverted(self) -> Self {
        Self {
            addr: !self.addr,
            l4: !self.l4,
        }
    }
}

/// The sum of both addresses, as they lie in memory.
#[inline]
fn addrs(key: &FlowKey) -> u64 {
    let word = |word: &[u8; 4]| u64::from(u32::from_ne_bytes(*word));
    if key.src.is_v4() {
        // What the mapped forms have in common makes no difference.
        return word(&key.src.v4_octets()) + word(&key.dst.v4_octets());
    }
    let [src, dst] = [&key.src, &key.dst].map(|addr| addr.octets().as_chunks().0);
    src.iter().chain(dst).map(word).sum()
}

/// `to` less `from`, of few words each, as one's complement numbers have it: no sum of any words is told
/// from itself and 2^64 - 1.
#[inline]
const fn difference(from: u64, to: u64) -> u64 {
    let (sum, carry) = to.overflowing_add(!from);
    sum.wrapping_add(carry as u64)
}

/// The change from one flow key to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    to: Tuple,
    deltas: Deltas,
}

/// The checksum of DCCP (RFC 4340 section 5.1) or UDP-Lite (RFC 3828 section 3.1): at the same place in both,
/// over a pseudo-header and as much of the rest as the sender chose. UDP-Lite must not do without one, and DCCP need not
/// mind which zero it is.
pub(crate) fn adjust_at_6(segment: Option<&mut [u8]>, deltas: Deltas) {
    if let Some(field) = segment.and_then(|segment| segment.get_mut(6..8)) {
        let sum = deltas.adjust_transport(u16::from_be_bytes([field[0], field[1]]));
        let sum = if sum == 0 { 0xffff } else { sum };
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

impl Rewrite {
    /// What turns packets with the key `from` into packets with the key `to`; both must be of one
    /// family and protocol, or [`apply`](Self::apply) refuses every packet.
    pub fn new(from: &FlowKey, to: &FlowKey) -> Self {
        Self {
            to: Tuple::from(to),
            deltas: Deltas::between(from, to),
        }
    }

    /// A rewrite whose differences were worked out before: `deltas` must be those between the key
    /// of the packets it will be applied to and `to`.
    #[inline]
    pub fn with_deltas(to: impl Into<Tuple>, deltas: Deltas) -> Self {
        let to = to.into();
        Self { to, deltas }
    }

    /// The tuple of packets after the rewrite.
    #[inline]
    pub const fn to(&self) -> &Tuple {
        &self.to
    }

    /// Rewrites `packet`, takes one hop off, and adjusts the checksums (RFC 1624): of TCP, UDP, SCTP and
    /// echoes (whose identifier stands for both ports); of other protocols only addresses can change. DCCP and
    /// UDP-Lite have a checksum that covers them, and it is adjusted; of what else has one (Mobile IPv6, HIP) it is left wrong. A UDP datagram without a checksum stays
    /// without one (RFC 3022 section 4.1). A first fragment is rewritten like a whole packet, but for SCTP
    /// with other ports: how its checksum changes depends on how long the whole packet is.
    #[inline]
    pub fn apply(&self, packet: &mut Packet<'_>, layers: &Layers) -> Result<(), RewriteError> {
        let (proto, ports) = (self.to.proto(), self.to.ports());
        // All that can be refused is, before the first octet changes.
        if layers.key.proto != proto {
            return Err(RewriteError::Mismatch);
        }
        if !matches!(proto, IpProto::TCP | IpProto::UDP) {
            self.may_be_applied(layers)?;
        }
        if layers.fragment == Fragment::Later {
            return Err(RewriteError::Fragment);
        }
        if layers.ttl <= 1 {
            return Err(RewriteError::TtlExceeded);
        }
        let frame = packet.data_mut();
        self.readdress(frame, layers)?;
        let [sport, dport]: [[u8; 2]; 2] = zerocopy::transmute!(ports);
        match proto {
            IpProto::TCP => {
                let tcp: &mut Tcp = view_mut(frame, layers.l4).ok_or(RewriteError::Mismatch)?;
                (tcp.sport, tcp.dport) = (sport.into(), dport.into());
                tcp.checksum = self.deltas.adjust_transport(tcp.checksum.get()).into();
            }
            IpProto::UDP => {
                let udp: &mut Udp = view_mut(frame, layers.l4).ok_or(RewriteError::Mismatch)?;
                (udp.sport, udp.dport) = (sport.into(), dport.into());
                if udp.checksum.get() != 0 {
                    let sum = self.deltas.adjust_transport(udp.checksum.get());
                    // Zero means "none"; its other representation is sent (RFC 768).
                    udp.checksum = if sum == 0 { 0xffff } else { sum }.into();
                }
            }
            IpProto::ICMP | IpProto::ICMPV6 => {
                let icmp: &mut Icmp = view_mut(frame, layers.l4).ok_or(RewriteError::Mismatch)?;
                icmp.ident = sport.into();
                icmp.checksum = self.deltas.adjust_transport(icmp.checksum.get()).into();
            }
            // No checksum of its covers the addresses.
            IpProto::SCTP => {
                let segment = frame.get_mut(layers.l4..layers.end);
                let segment = segment.ok_or(RewriteError::Mismatch)?;
                let [sport, dport] = [sport, dport].map(u16::from_be_bytes);
                sctp::set_ports(segment, sport, dport);
            }
            IpProto::DCCP | IpProto::UDP_LITE => {
                adjust_at_6(frame.get_mut(layers.l4..layers.end), self.deltas);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a packet of another protocol than TCP and UDP can be rewritten so.
    fn may_be_applied(&self, layers: &Layers) -> Result<(), RewriteError> {
        let to = FlowKey::from(self.to);
        let other_ports = (to.sport(), to.dport()) != (layers.key.sport(), layers.key.dport());
        let rewritable = match to.proto {
            IpProto::SCTP => true,
            // Echoes have an identifier.
            IpProto::ICMP => matches!(layers.icmp_type, 0 | 8) && to.src.is_v4(),
            IpProto::ICMPV6 => matches!(layers.icmp_type, 128 | 129) && !to.src.is_v4(),
            // Of others, the addresses are all that is known.
            _ => !other_ports,
        };
        if !rewritable {
            return Err(RewriteError::Mismatch);
        }
        if to.proto == IpProto::SCTP && other_ports && layers.fragment == Fragment::First {
            return Err(RewriteError::Fragment);
        }
        Ok(())
    }

    /// Takes back what [`apply`](Self::apply) did to a packet that `layers` describe as it was before: for
    /// what is then said about it to its sender. Where nothing had been done, nothing is taken back.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn undo(&self, packet: &mut Packet<'_>, layers: &Layers) -> Result<(), RewriteError> {
        let ttl_at = if layers.network == Network::Ipv4 {
            8
        } else {
            7
        };
        if packet.data().get(layers.l3 + ttl_at) == Some(&layers.ttl) {
            return Ok(());
        }
        Self::with_deltas(layers.key, self.deltas.inverted()).apply(packet, layers)?;
        let frame = packet.data_mut();
        if let Some(ttl) = frame.get_mut(layers.l3 + ttl_at) {
            *ttl = layers.ttl;
        }
        if layers.network == Network::Ipv4
            && let Some(ip) = view_mut::<Ipv4>(frame, layers.l3)
        {
            let two_hops = Sum::ZERO.add_u16(0x0200);
            ip.checksum = crate::checksum::adjust(ip.checksum.get(), two_hops).into();
        }
        Ok(())
    }

    /// Sets the addresses and takes a hop off.
    #[inline]
    pub(crate) fn readdress(&self, frame: &mut [u8], layers: &Layers) -> Result<(), RewriteError> {
        match (layers.network, self.to) {
            (Network::Ipv4, Tuple::V4 { addrs, .. }) => {
                let ip: &mut Ipv4 = view_mut(frame, layers.l3).ok_or(RewriteError::Mismatch)?;
                let both: [[u8; 4]; 2] = zerocopy::transmute!(addrs);
                [ip.src, ip.dst] = both;
                ip.ttl = ip.ttl.saturating_sub(1);
                ip.checksum = self.deltas.adjust_ip(ip.checksum.get()).into();
            }
            (Network::Ipv6, Tuple::V6 { addrs, .. }) => {
                let ip: &mut Ipv6 = view_mut(frame, layers.l3).ok_or(RewriteError::Mismatch)?;
                let both: [[u8; 16]; 2] = zerocopy::transmute!(addrs);
                [ip.src, ip.dst] = both;
                ip.hop_limit = ip.hop_limit.saturating_sub(1);
            }
            _ => return Err(RewriteError::Mismatch),
        }
        Ok(())
    }
}
