//! Fragments of IP datagrams: what part of which datagram one is, how it is readdressed without a
//! transport header, and how a packet is cut into fragments.

use crate::checksum::{self, fold_small};
use crate::header::{Ipv4, Ipv6, view, view_mut};
use crate::layers::{Fragment, Layers, Network};
use crate::packet::Packet;
use crate::rewrite::{Rewrite, RewriteError};

/// The most octets an IP datagram has behind its header: IPv4 counts the header too.
const LONGEST: u32 = 65_535;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
/// The protocol number of IPv6's fragment header.
const FRAGMENT_HEADER: u8 = 44;
/// The flag of an IPv4 option that each fragment has to carry (RFC 791 section 3.1).
const COPIED: u8 = 0x80;

/// Which part of which datagram a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The identification of the datagram: 16 bits of IPv4, 32 of IPv6.
    pub ident: u32,
    /// First octet of the datagram's payload that it carries; a multiple of 8.
    pub start: u16,
    /// Behind the last one.
    pub end: u16,
    /// Whether the datagram goes on behind it.
    pub more: bool,
    /// The protocol, which is part of what names an IPv4 datagram (RFC 791 section 2.3); 0 for IPv6
    /// (RFC 8200 section 4.5).
    pub proto: u8,
    /// Offset from the network header of the fields that say all this: 0 for IPv4.
    pub header: usize,
}

impl Piece {
    /// What a fragment says of itself; `None` if it cannot be true: nothing in it, an end within eight
    /// octets though more follows, or an end beyond the longest datagram (RFC 791 section 3.2, RFC 8200
    /// section 4.5).
    pub fn of(frame: &[u8], layers: &Layers) -> Option<Self> {
        let (field, ident, more, proto, header, before) = match layers.network {
            Network::Ipv4 => {
                let ip: &Ipv4 = view(frame, layers.l3)?;
                let field = ip.flags_fragment.get();
                (
                    (field & OFFSET) << 3,
                    u32::from(ip.ident.get()),
                    field & MORE_FRAGMENTS != 0,
                    ip.proto,
                    0,
                    layers.l4 - layers.l3,
                )
            }
            Network::Ipv6 => {
                let header = fragment_header(frame, layers)?;
                let [_, _, a, b, id @ ..] = frame.get(header..)?.first_chunk::<8>()?;
                let field = u16::from_be_bytes([*a, *b]);
                (
                    field & !7,
                    u32::from_be_bytes(*id),
                    field & 1 != 0,
                    0,
                    header - layers.l3,
                    // The payload length counts extension headers, not the header itself.
                    header - layers.l3 - 40,
                )
            }
            _ => return None,
        };
        let payload = match layers.network {
            Network::Ipv4 => layers.l4,
            _ => layers.l3 + header + 8,
        };
        let len = u32::try_from(layers.end.checked_sub(payload)?).ok()?;
        let end = u32::from(field) + len;
        let whole = end + u32::try_from(before).ok()?;
        if len == 0 || (more && !len.is_multiple_of(8)) || whole > LONGEST {
            return None;
        }
        Some(Self {
            ident,
            start: field,
            end: u16::try_from(end).ok()?,
            more,
            proto,
            header,
        })
    }

    /// Whether it begins the datagram.
    pub const fn is_first(&self) -> bool {
        self.start == 0
    }

    /// Gives the datagram of a fragment whose network header is at `l3` another identification, and
    /// mends the header checksum of IPv4 (RFC 1624).
    pub fn set_ident(&self, frame: &mut [u8], l3: usize, ident: u32) {
        if self.header == 0 {
            set_ident_v4(frame, l3, ident);
        } else if let Some(field) = frame
            .get_mut(l3 + self.header + 4..)
            .and_then(<[u8]>::first_chunk_mut)
        {
            *field = ident.to_be_bytes();
        }
    }
}

/// Gives an IPv4 packet the low half of `ident`.
pub fn set_ident_v4(frame: &mut [u8], l3: usize, ident: u32) {
    if let Some(ip) = view_mut::<Ipv4>(frame, l3) {
        let [_, _, high, low] = ident.to_be_bytes();
        let new = u16::from_be_bytes([high, low]);
        let sum = u32::from(!ip.checksum.get()) + u32::from(!ip.ident.get()) + u32::from(new);
        ip.checksum = (!fold_small(sum)).into();
        ip.ident = new.into();
    }
}

/// Where the fragment header of an IPv6 packet begins. The parser has checked that the headers lie
/// within the packet.
fn fragment_header(frame: &[u8], layers: &Layers) -> Option<usize> {
    let ip: &Ipv6 = view(frame, layers.l3)?;
    let (mut next, mut at) = (ip.next, layers.l3 + 40);
    while at < layers.end {
        let [following, len, ..] = *frame.get(at..)?.first_chunk::<8>()?;
        at += match next {
            FRAGMENT_HEADER => return Some(at),
            51 => (usize::from(len) + 2) * 4,
            _ => (usize::from(len) + 1) * 8,
        };
        next = following;
    }
    None
}

impl Rewrite {
    /// As [`apply`](Self::apply) for a later fragment: addresses are set, a hop is taken off, and not an
    /// octet behind the network header is touched. The checksum over the pseudo-header is in the first
    /// fragment, where `apply` adjusts it.
    ///
    /// # Errors
    /// What `apply` refuses too; the packet is as it was.
    pub fn apply_to_later(
        &self,
        packet: &mut Packet<'_>,
        layers: &Layers,
    ) -> Result<(), RewriteError> {
        if layers.fragment != Fragment::Later {
            return Err(RewriteError::Fragment);
        }
        if layers.ttl <= 1 {
            return Err(RewriteError::TtlExceeded);
        }
        self.readdress(packet.data_mut(), layers)
    }
}

/// Whether a packet may be cut where it is too long: IPv4 without "don't fragment". IPv6 is cut by its
/// source alone (RFC 8200 section 4.5).
pub fn may_cut(frame: &[u8], l3: usize) -> bool {
    view::<Ipv4>(frame, l3)
        .is_some_and(|ip| ip.version_ihl >> 4 == 4 && ip.flags_fragment.get() & DONT_FRAGMENT == 0)
}

/// Cuts an IPv4 packet, or a fragment of one, into fragments (RFC 791 section 3.2).
#[derive(Debug)]
pub struct Cutter {
    l3: usize,
    /// What is left of the payload.
    at: usize,
    end: usize,
    /// The offset of the next fragment, in eights.
    offset: u16,
    /// Whether the packet was not the end of its datagram.
    more: bool,
    mtu: usize,
    /// The header: of the first fragment, then that of the rest, with fewer options.
    header: [u8; 60],
    header_len: usize,
}

impl Cutter {
    /// To cut the frame whose network header is at `l3` so that no packet is longer than `mtu` octets.
    /// `None` if it is not an IPv4 packet that may be cut, or no room is left beside the header.
    pub fn new(frame: &[u8], l3: usize, mtu: usize) -> Option<Self> {
        let ip: &Ipv4 = view(frame, l3)?;
        let header_len = usize::from(ip.version_ihl & 0x0f) * 4;
        let end = l3 + usize::from(ip.total_len.get());
        if !may_cut(frame, l3) || end > frame.len() || mtu < header_len + 8 {
            return None;
        }
        let field = ip.flags_fragment.get();
        let mut header = [0; 60];
        header
            .get_mut(..header_len)?
            .copy_from_slice(frame.get(l3..l3 + header_len)?);
        Some(Self {
            l3,
            at: l3 + header_len,
            end,
            offset: field & OFFSET,
            more: field & MORE_FRAGMENTS != 0,
            mtu,
            header,
            header_len,
        })
    }

    /// Writes the next fragment, with what stands before the network header in `frame`, into `out`,
    /// which is emptied first. False: there is none left.
    pub fn next(&mut self, frame: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        if self.at >= self.end {
            return false;
        }
        let rest = self.end - self.at;
        let room = self.mtu.saturating_sub(self.header_len);
        let (len, last) = if rest <= room {
            (rest, true)
        } else {
            (room & !7, false)
        };
        let payload = frame.get(self.at..self.at + len);
        let parts = (
            frame.get(..self.l3),
            self.header.get(..self.header_len),
            payload,
        );
        let (Some(before), Some(header), Some(payload)) = parts else {
            return false;
        };
        out.extend_from_slice(before);
        out.extend_from_slice(header);
        out.extend_from_slice(payload);
        let total = u16::try_from(self.header_len + len).unwrap_or(u16::MAX);
        let more = if last && !self.more {
            0
        } else {
            MORE_FRAGMENTS
        };
        if let Some(ip) = view_mut::<Ipv4>(out, self.l3) {
            ip.total_len = total.into();
            ip.flags_fragment = (self.offset & OFFSET | more).into();
            ip.checksum = 0.into();
        }
        let sum = out
            .get(self.l3..self.l3 + self.header_len)
            .map_or(0, checksum::of);
        if let Some(ip) = view_mut::<Ipv4>(out, self.l3) {
            ip.checksum = sum.into();
        }
        self.at += len;
        self.offset = self
            .offset
            .wrapping_add(u16::try_from(len / 8).unwrap_or(0));
        self.keep_copied_options();
        true
    }

    /// The header of all fragments but the first: only with the options that each has to carry.
    fn keep_copied_options(&mut self) {
        let (mut from, mut to) = (20, 20);
        while from < self.header_len {
            let (kind, len) = match self.header.get(from..from + 2) {
                Some([0, _]) | None => break,
                Some([1, _]) => (1, 1),
                Some([kind, len]) => (*kind, usize::from(*len).max(2)),
                Some(_) => break,
            };
            let end = (from + len).min(self.header_len);
            if kind & COPIED != 0 {
                self.header.copy_within(from..end, to);
                to += end - from;
            }
            from = end;
        }
        let len = to.next_multiple_of(4);
        if let Some(padding) = self.header.get_mut(to..) {
            padding.fill(0);
        }
        self.header_len = len.min(60);
        self.header[0] = 0x40 | u8::try_from(self.header_len / 4).unwrap_or(5);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::emit;
    use crate::flow::{Addr, FlowKey, IpProto};
    use crate::packet::RxMeta;
    use crate::{L4Port, MacAddr};

    const L3: usize = 14;

    fn key() -> FlowKey {
        FlowKey::new(
            Addr::from_v4([192, 0, 2, 7]),
            Addr::from_v4([198, 51, 100, 11]),
            L4Port(5000),
            L4Port(53),
            IpProto::UDP,
        )
    }

    fn framed(l3: &[u8]) -> Vec<u8> {
        let (a, b) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        emit::ethernet(a, b, crate::Encap::UNTAGGED, 0x0800, l3)
    }

    /// A UDP datagram, with these options in its header, and whether it may be cut.
    fn datagram(len: usize, options: &[u8], may: bool) -> Vec<u8> {
        let payload: Vec<u8> = (0..=255).cycle().take(len).collect();
        let mut l3 = emit::udp(&key(), &payload);
        l3.splice(20..20, options.iter().copied());
        l3[0] = 0x45 + u8::try_from(options.len() / 4).unwrap();
        let total = u16::try_from(l3.len()).unwrap();
        l3[2..4].copy_from_slice(&total.to_be_bytes());
        l3[4..6].copy_from_slice(&0x1234u16.to_be_bytes());
        l3[6..8].copy_from_slice(&[if may { 0 } else { 0x40 }, 0]);
        l3[10..12].fill(0);
        let sum = checksum::of(&l3[..20 + options.len()]);
        l3[10..12].copy_from_slice(&sum.to_be_bytes());
        framed(&l3)
    }

    fn layers(frame: &[u8]) -> Layers {
        let mut octets = frame.to_vec();
        let len = octets.len();
        Layers::parse(&Packet::new(&mut octets, 0, len, RxMeta::default())).unwrap()
    }

    fn cut(frame: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        let mut cutter = Cutter::new(frame, L3, mtu).unwrap();
        let (mut all, mut out) = (Vec::new(), Vec::new());
        while cutter.next(frame, &mut out) {
            all.push(out.clone());
        }
        all
    }

    /// The payload that fragments amount to, which must be in order.
    fn joined(pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut whole = Vec::new();
        for (at, frame) in pieces.iter().enumerate() {
            let layers = layers(frame);
            let piece = Piece::of(frame, &layers).unwrap();
            assert_eq!(usize::from(piece.start), whole.len());
            assert_eq!(piece.more, at + 1 < pieces.len());
            assert_eq!(piece.ident, 0x1234);
            whole.extend(&frame[L3 + usize::from(frame[L3] & 15) * 4..]);
        }
        whole
    }

    #[test]
    fn a_packet_is_cut_into_fragments_that_fit_and_amount_to_it() {
        let frame = datagram(3000, &[], true);
        let pieces = cut(&frame, 1500);
        assert_eq!(pieces.len(), 3);
        assert!(pieces.iter().all(|piece| piece.len() <= L3 + 1500));
        assert_eq!(joined(&pieces), frame[L3 + 20..]);
    }

    #[test]
    fn a_fragment_is_cut_into_fragments_of_the_same_datagram() {
        let frame = datagram(3000, &[], true);
        let coarse = cut(&frame, 1500);
        let fine: Vec<_> = coarse.iter().flat_map(|piece| cut(piece, 576)).collect();
        assert!(fine.len() > 5);
        assert_eq!(joined(&fine), frame[L3 + 20..]);
    }

    #[test]
    fn only_options_with_the_copied_flag_are_in_later_fragments() {
        // Record route (7, not copied), stream id (136, copied), no-operation and end.
        let options = [7, 7, 4, 0, 0, 0, 0, 136, 4, 0xab, 0xcd, 0];
        let pieces = cut(&datagram(2000, &options, true), 1500);
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[0][L3 + 20..L3 + 32], options);
        assert_eq!(pieces[1][L3], 0x46);
        assert_eq!(pieces[1][L3 + 20..L3 + 24], [136, 4, 0xab, 0xcd]);
        joined(&pieces);
    }

    #[test]
    fn a_packet_that_must_not_be_cut_is_not() {
        assert!(Cutter::new(&datagram(3000, &[], false), L3, 1500).is_none());
        assert!(Cutter::new(&datagram(3000, &[], true), L3, 27).is_none());
        assert!(!may_cut(&framed(&[0x60; 60]), L3));
        assert!(!may_cut(&[], L3));
    }

    #[test]
    fn a_new_identification_leaves_the_header_checksum_right() {
        for ident in [0, 1, 0x1234, 0xffff] {
            let mut frame = cut(&datagram(3000, &[], true), 1500).remove(1);
            let before = Piece::of(&frame, &layers(&frame)).unwrap();
            before.set_ident(&mut frame, L3, ident);
            let after = Piece::of(&frame, &layers(&frame)).unwrap();
            assert_eq!(after, Piece { ident, ..before });
        }
    }

    proptest! {
        #[test]
        fn whatever_is_cut_fits_and_amounts_to_the_whole(len in 0usize..4000, mtu in 68usize..2000, finer in 28usize..100) {
            let frame = datagram(len, &[], true);
            let pieces = cut(&frame, mtu);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= L3 + mtu));
            let finest: Vec<_> = pieces.iter().flat_map(|piece| cut(piece, finer)).collect();
            if pieces.len() > 1 {
                prop_assert_eq!(joined(&pieces), &frame[L3 + 20..]);
                prop_assert_eq!(joined(&finest), &frame[L3 + 20..]);
            }
        }

        #[test]
        fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..120), mtu in 0usize..100) {
            if let Some(mut cutter) = Cutter::new(&octets, L3, mtu) {
                let (mut out, mut count) = (Vec::new(), 0);
                while cutter.next(&octets, &mut out) {
                    count += 1;
                    prop_assert!(count < 100);
                }
            }
        }
    }
}
