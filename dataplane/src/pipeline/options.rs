//! IPv4 options of packets that are passed on: tmm does not interpret them, but it does not spread
//! malformed ones, nor source routes, either (RFC 7126 sections 4.3 and 4.4: a source route gets
//! around what is configured here, and its checksum is not for the destination in the header).

use net::{Layers, Network, Packet};

/// Length of an IPv4 header without options.
const PLAIN: usize = 20;

const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Whether the packet has no IPv4 options, or well-formed ones that do not route it.
#[inline]
pub(super) fn sound(packet: &Packet<'_>, layers: &Layers) -> bool {
    layers.network != Network::Ipv4
        || layers.l4 - layers.l3 <= PLAIN
        || packet
            .data()
            .get(layers.l3 + PLAIN..layers.l4)
            .is_some_and(well_formed)
}

/// Whether each option lies within the header and is as long as its kind has to be (RFC 791 section
/// 3.1, RFC 1108 sections 2 and 3, RFC 2113).
#[cold]
fn well_formed(mut options: &[u8]) -> bool {
    loop {
        options = match options {
            // End of the list: padding follows.
            [] | [0, ..] => return true,
            [1, rest @ ..] => rest,
            [LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, ..] => return false,
            [kind, len, ..] if *len >= shortest(*kind) => match options.get(usize::from(*len)..) {
                Some(rest) => rest,
                None => return false,
            },
            _ => return false,
        };
    }
}

const fn shortest(kind: u8) -> u8 {
    match kind {
        // Record route, basic and extended security.
        7 | 130 | 133 => 3,
        // Timestamps, stream identifier, router alert.
        68 | 136 | 148 => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stay_within_the_header_and_have_their_lengths() {
        for good in [
            &[][..],
            &[0, 0xff, 0xff, 0xff],
            &[1, 1, 1, 1],
            &[148, 4, 0, 0],
            &[7, 7, 4, 0, 0, 0, 0, 0],
            &[1, 94, 2, 0],
        ] {
            assert!(well_formed(good), "{good:?}");
        }
        for bad in [
            &[7][..],
            &[7, 0, 4, 0],
            &[7, 1, 4, 0],
            &[130, 2, 0, 0],
            &[148, 3, 0, 0],
            &[7, 9, 4, 0, 0, 0, 0, 0],
            &[1, 1, 1, 7],
            &[131, 7, 4, 192, 0, 2, 9, 0],
            &[1, 137, 7, 4, 192, 0, 2, 9],
        ] {
            assert!(!well_formed(bad), "{bad:?}");
        }
    }
}
