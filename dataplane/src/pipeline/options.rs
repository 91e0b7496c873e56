//! Options of IP headers.
//!
//! IPv6 options matter where we are the destination ([`unknown`]). IPv4 options of packets that are passed on: tmm does not interpret them, but it does not spread
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

/// What the first IPv6 option that is unknown here asks to be done about that (RFC 8200 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// To drop the packet silently; the same for options that are cut off.
    Drop,
    /// To tell the sender where it is, octets from the start of the IPv6 header.
    Tell(u32),
}

/// Looks at the hop-by-hop and destination options of a packet for ourselves. `None`: each is known, or may be
/// passed over.
pub(super) fn unknown(packet: &Packet<'_>, layers: &Layers) -> Option<Unknown> {
    const FIXED: usize = 40;
    if layers.network != Network::Ipv6 || layers.l4 - layers.l3 == FIXED {
        return None;
    }
    let headers = packet.data().get(layers.l3..layers.l4)?;
    let mut next = *headers.get(6)?;
    let mut at = FIXED;
    // The parser has checked that the headers lie within the packet.
    while let Some(&[following, len, ..]) = headers.get(at..) {
        let end = at + net::icmp::extension_len(next, usize::from(len));
        if matches!(next, 0 | 60) {
            let found = unknown_among(headers.get(..end)?, at + 2);
            if found.is_some() {
                return found;
            }
        }
        (next, at) = (following, end);
    }
    None
}

/// As [`unknown`], of the options that lie from `at` to the end of `headers`.
fn unknown_among(headers: &[u8], mut at: usize) -> Option<Unknown> {
    /// Asks routers to look at the packet; there is nothing to be seen in it for us.
    const ROUTER_ALERT: u8 = 5;
    loop {
        match headers.get(at..)? {
            [] => return None,
            [0, ..] => at += 1,
            [_] => return Some(Unknown::Drop),
            [_, len, rest @ ..] if rest.len() < usize::from(*len) => return Some(Unknown::Drop),
            [1 | ROUTER_ALERT, len, ..] => at += 2 + usize::from(*len),
            [kind, len, ..] => match kind >> 6 {
                0 => at += 2 + usize::from(*len),
                1 => return Some(Unknown::Drop),
                // The two differ for groups only, and no packet to a group gets here.
                _ => return u32::try_from(at).ok().map(Unknown::Tell),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_ipv6_option_says_itself_what_is_to_be_done() {
        let of = |options: &[u8]| unknown_among(&[&[59, 0][..], options].concat(), 2);
        for passed in [
            &[][..],
            &[0, 0, 0, 0, 0, 0],
            &[1, 4, 0, 0, 0, 0],
            &[5, 2, 0, 0, 1, 0],
            &[0x1e, 4, 1, 2, 3, 4],
        ] {
            assert_eq!(of(passed), None, "{passed:?}");
        }
        for dropped in [&[0x5e, 4, 1, 2, 3, 4][..], &[1], &[1, 5, 0], &[0xc2, 1]] {
            assert_eq!(of(dropped), Some(Unknown::Drop), "{dropped:?}");
        }
        assert_eq!(of(&[0, 0x9e, 3, 1, 2, 3]), Some(Unknown::Tell(3)));
        assert_eq!(of(&[0xde, 4, 1, 2, 3, 4]), Some(Unknown::Tell(2)));
    }

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
