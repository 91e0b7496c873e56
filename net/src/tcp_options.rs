//! TCP options (RFC 9293 section 3.1), read without being changed, but for the MSS.

use crate::checksum::{Sum, adjust};
use crate::header::{Tcp, view, view_mut};
use crate::layers::Layers;
use crate::packet::Packet;

/// Length of a TCP header without options.
const PLAIN: usize = 20;

/// Kinds (RFC 9293 section 3.2, RFC 7323 section 2.2).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;
const WINDOW_SCALE: u8 = 3;

/// The options of a TCP header as far as they are well formed: where each begins, and all its octets.
#[derive(Debug, Clone)]
pub struct Options<'f> {
    octets: &'f [u8],
    at: usize,
}

impl<'f> Options<'f> {
    /// Of the header that `segment` begins with.
    pub fn of(segment: &'f [u8]) -> Self {
        let len = view::<Tcp>(segment, 0).map_or(0, |tcp| usize::from(tcp.offset >> 4) * 4);
        Self {
            octets: segment.get(..len).unwrap_or(&[]),
            at: PLAIN,
        }
    }
}

impl<'f> Iterator for Options<'f> {
    type Item = (usize, &'f [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.octets.get(self.at..)? {
                [] | [END, ..] => return None,
                [NO_OPERATION, ..] => self.at += 1,
                [_, len, ..] if *len >= 2 => {
                    let (at, len) = (self.at, usize::from(*len));
                    let option = self.octets.get(at..at + len)?;
                    self.at = at + len;
                    return Some((at, option));
                }
                _ => return None,
            }
        }
    }
}

/// The window scale that a SYN offers (RFC 7323 section 2.2).
pub fn window_scale(segment: &[u8]) -> Option<u8> {
    Options::of(segment).find_map(|(_, option)| match option {
        [WINDOW_SCALE, 3, shift] => Some(*shift),
        _ => None,
    })
}

/// Lowers the maximum segment size that a SYN announces to `limit`; never raises it, nor adds what is
/// not there. The checksum stays as right as it was. Whether something was changed.
pub fn clamp_mss(packet: &mut Packet<'_>, layers: &Layers, limit: u16) -> bool {
    let Some(segment) = packet.data_mut().get_mut(layers.l4..layers.end) else {
        return false;
    };
    let mut changed = false;
    // Should there be several, no one knows which its receiver believes.
    while let Some((at, old)) = Options::of(segment).find_map(|(at, option)| match option {
        [MAXIMUM_SEGMENT_SIZE, 4, a, b] if u16::from_be_bytes([*a, *b]) > limit => {
            Some((at + 2, u16::from_be_bytes([*a, *b])))
        }
        _ => None,
    }) {
        let Some(place) = segment.get_mut(at..at + 2) else {
            return changed;
        };
        place.copy_from_slice(&limit.to_be_bytes());
        // Octets at an odd place count for the other half of their words.
        let word = |value: u16| match at % 2 {
            0 => value,
            _ => value.swap_bytes(),
        };
        if let Some(tcp) = view_mut::<Tcp>(segment, 0) {
            let delta = Sum::ZERO.add_u16(word(limit)).sub_u16(word(old));
            tcp.checksum = adjust(tcp.checksum.get(), delta).into();
        }
        changed = true;
    }
    changed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::emit;
    use crate::flow::{Addr, FlowKey, IpProto};
    use crate::{L4Port, MacAddr, RxMeta};

    fn key() -> FlowKey {
        FlowKey::new(
            Addr::from_v4([192, 0, 2, 1]),
            Addr::from_v4([198, 51, 100, 2]),
            L4Port(40_000),
            L4Port(80),
            IpProto::TCP,
        )
    }

    /// A frame with a SYN that has these options, a multiple of four octets, and data.
    fn syn(options: &[u8], data: &[u8]) -> Vec<u8> {
        let mut segment = vec![0; 20];
        segment[12] = u8::try_from((20 + options.len()) / 4).unwrap() << 4;
        segment[13] = crate::header::tcp_flags::SYN;
        segment[..2].copy_from_slice(&40_000_u16.to_be_bytes());
        segment[2..4].copy_from_slice(&80_u16.to_be_bytes());
        segment.extend_from_slice(options);
        segment.extend_from_slice(data);
        let sum = emit::transport_checksum(&key(), &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        let l3 = emit::ip(&key(), 64, &segment);
        let encap = crate::Encap::UNTAGGED;
        emit::ethernet(MacAddr([2; 6]), MacAddr([4; 6]), encap, 0x0800, &l3)
    }

    fn clamped(options: &[u8], limit: u16) -> Vec<u8> {
        let mut frame = syn(options, b"odd");
        let len = frame.len();
        let mut packet = Packet::new(&mut frame, 0, len, RxMeta::default());
        let layers = Layers::parse(&packet).unwrap();
        clamp_mss(&mut packet, &layers, limit);
        Layers::parse(&packet).expect("the checksum is right");
        frame[54..54 + options.len()].to_vec()
    }

    #[test]
    fn the_mss_is_lowered_and_never_raised() {
        assert_eq!(clamped(&[2, 4, 5, 180], 1360), [2, 4, 5, 80]);
        assert_eq!(clamped(&[2, 4, 5, 180], 1460), [2, 4, 5, 180]);
        assert_eq!(clamped(&[2, 4, 5, 180], 8960), [2, 4, 5, 180]);
        // Where there is none, none is made.
        assert_eq!(clamped(&[1, 1, 4, 2], 1000), [1, 1, 4, 2]);
    }

    #[test]
    fn other_options_are_left_alone_wherever_they_stand() {
        let odd = [1, 2, 4, 255, 255, 3, 3, 7, 4, 2, 0, 0];
        let mut want = odd;
        want[3..5].copy_from_slice(&1400_u16.to_be_bytes());
        assert_eq!(clamped(&odd, 1400), want);
        let twice = [2, 4, 9, 9, 2, 4, 8, 8];
        assert_eq!(clamped(&twice, 1024), [2, 4, 4, 0, 2, 4, 4, 0]);
    }

    #[test]
    fn malformed_options_end_the_list() {
        for options in [
            &[2, 0, 5, 180][..],
            &[2, 3, 5, 180],
            &[0, 0, 2, 4, 5, 180, 0, 0],
            &[3, 9, 2, 4],
            &[1, 1, 1, 2],
        ] {
            assert_eq!(clamped(options, 100), options);
        }
        let scaled = syn(&[1, 3, 3, 9], &[]);
        assert_eq!(window_scale(&scaled[34..]), Some(9));
        assert_eq!(window_scale(&syn(&[3, 3], &[])[34..36]), None);
        assert_eq!(window_scale(&[]), None);
    }

    proptest! {
        #[test]
        fn any_options_are_survived_and_the_checksum_stays_right(
            words in prop::collection::vec(any::<[u8; 4]>(), 0..=10),
            limit: u16,
        ) {
            clamped(words.as_flattened(), limit);
        }
    }
}
