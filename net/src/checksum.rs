//! The Internet checksum: whole (RFC 1071) and by difference (RFC 1624 section 3, equation 3).
//!
//! Sums are kept as one's complement accumulators ([`Sum`]) in the byte order of the wire, so that
//! a difference can be computed once per flow and applied to every packet of it.

use std::net::IpAddr;

/// A one's complement sum of 16-bit words, not yet complemented.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// Adds `data` as 16-bit big-endian words; an odd last octet is padded with zero, so only the
    /// last piece of a message may have an odd length.
    #[inline]
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "adds octets, not another sum"
    )]
    pub fn add(self, data: &[u8]) -> Self {
        // One's complement addition commutes with byte swapping (RFC 1071 section 2 (B)), so
        // 32-bit words are added as they lie in memory and the folded result is swapped once.
        let mut acc: u64 = 0;
        let (words, rest) = data.as_chunks::<4>();
        for word in words {
            acc += u64::from(u32::from_ne_bytes(*word));
        }
        let mut tail = [0u8; 4];
        tail[..rest.len()].copy_from_slice(rest);
        acc += u64::from(u32::from_ne_bytes(tail));
        Self(self.0 + u64::from(u16::from_be(fold(acc))))
    }

    /// A sum of 32-bit words in the order of the wire.
    #[inline]
    pub(crate) const fn of_words(sum: u64) -> Self {
        Self(sum)
    }

    /// Adds one 16-bit word.
    #[inline]
    #[must_use]
    pub const fn add_u16(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// Subtracts one 16-bit word.
    #[inline]
    #[must_use]
    pub const fn sub_u16(self, word: u16) -> Self {
        Self(self.0 + (!word) as u64)
    }

    /// Adds another sum.
    #[inline]
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Subtracts another sum.
    #[inline]
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 + (!fold(other.0)) as u64)
    }

    /// Adds an address, all of its octets.
    #[inline]
    #[must_use]
    pub fn add_addr(self, addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(a) => self.add(&a.octets()),
            IpAddr::V6(a) => self.add(&a.octets()),
        }
    }

    /// The sum as 16 bits.
    #[inline]
    pub const fn fold(self) -> u16 {
        fold(self.0)
    }

    /// The checksum field for data with this sum.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !fold(self.0)
    }

    /// Whether data that includes its own checksum sums up as it must.
    #[inline]
    pub const fn is_valid(self) -> bool {
        fold(self.0) == 0xffff
    }
}

/// A sum of 64-bit words as they lie in memory, carries added back in: for data that is only to be
/// verified, for which the order of octets does not matter (RFC 1071 section 2 (B)). A few
/// instructions for a short header; [`Sum`] is as fast for long data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words(u64);

/// Octets from which on vector code pays.
const LONG: usize = 128;

impl Words {
    /// The sum of a fixed number of octets, a multiple of four.
    #[inline]
    pub(crate) fn of<const N: usize>(data: &[u8; N]) -> Self {
        const { assert!(N.is_multiple_of(4)) }
        let words = data.as_chunks::<4>().0;
        Self(
            words
                .iter()
                .map(|word| u64::from(u32::from_le_bytes(*word)))
                .sum(),
        )
    }

    /// The pseudo-header of TCP and UDP over `addrs`, both addresses as in the IP header.
    #[inline]
    pub(crate) fn pseudo_header(addrs: &[u8], proto: u8, len: u16) -> Self {
        let words = addrs.as_chunks::<4>().0;
        let addrs: u64 = words
            .iter()
            .map(|word| u64::from(u32::from_le_bytes(*word)))
            .sum();
        Self(addrs + (u64::from(proto) << 8) + u64::from(len.swap_bytes()))
    }

    /// With `data`, at least eight octets.
    #[inline]
    pub(crate) fn add(self, data: &[u8]) -> Self {
        if data.len() >= LONG {
            // Its sum is in the order of the wire.
            return Self(self.0 + u64::from(Sum::ZERO.add(data).fold().swap_bytes()));
        }
        let mut sum = self.0;
        let mut carries = 0;
        let (words, rest) = data.as_chunks::<8>();
        for word in words {
            let (next, carry) = sum.overflowing_add(u64::from_le_bytes(*word));
            sum = next;
            carries += u64::from(carry);
        }
        // The last octets that make no word, taken from the last eight there are.
        if let (false, Some(last)) = (rest.is_empty(), data.last_chunk::<8>()) {
            let tail = u64::from_le_bytes(*last) >> (8 * (8 - rest.len()));
            let (next, carry) = sum.overflowing_add(tail);
            sum = next;
            carries += u64::from(carry);
        }
        // 2^64 is 1 modulo 2^16 - 1, and so is 2^32.
        Self((sum >> 32) + (sum & 0xffff_ffff) + carries)
    }

    /// Whether data that includes its own checksum sums up as it must.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    pub(crate) const fn is_valid(self) -> bool {
        // Below 2^40: the upper half is small, so one carry more is all there can be.
        let (low, carry) = (self.0 as u32).overflowing_add((self.0 >> 32) as u32);
        let (low, over) = low.overflowing_add(carry as u32);
        fold_small((low & 0xffff) + (low >> 16) + over as u32) == 0xffff
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits first")]
const fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The sum of a few words as 16 bits: at most 65,536 of them.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits first")]
pub(crate) const fn fold_small(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

/// The checksum of `data` (RFC 1071).
#[inline]
pub fn of(data: &[u8]) -> u16 {
    Sum::ZERO.add(data).checksum()
}

/// The pseudo-header of TCP, UDP and ICMPv6 (RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1).
/// `len` is the length of the upper-layer packet in octets, at most 65,535 (no jumbograms).
#[inline]
pub fn pseudo_header(src: IpAddr, dst: IpAddr, proto: u8, len: u16) -> Sum {
    Sum::ZERO
        .add_addr(src)
        .add_addr(dst)
        .add_u16(u16::from(proto))
        .add_u16(len)
}

/// The checksum field after words that sum to `delta = new - old` changed (RFC 1624 equation 3:
/// HC' = ~(~HC + ~m + m')). Never gives the all-ones value for data that does not sum to zero, so a
/// header checksum stays canonical.
#[inline]
#[must_use]
pub const fn adjust(checksum: u16, delta: Sum) -> u16 {
    !fold((!checksum) as u64 + delta.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The textbook sum, word by word.
    fn naive(data: &[u8]) -> u16 {
        let mut sum: u32 = 0;
        for pair in data.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        let sum = Sum::ZERO.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), 0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624_adjusts_to_zero() {
        // HC = 0xDD2F, one word changes from 0x5555 to 0x3285: HC' is 0x0000, not 0xFFFF.
        assert_eq!(
            adjust(0xdd2f, Sum::ZERO.add_u16(0x3285).sub_u16(0x5555)),
            0x0000
        );
    }

    proptest! {
        #[test]
        fn the_fast_sum_is_the_textbook_sum(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(of(&data), naive(&data));
        }

        #[test]
        fn words_are_valid_when_the_textbook_says_so(
            mut data in proptest::collection::vec(any::<u8>(), 8..400),
            right in any::<bool>(),
        ) {
            let (src, dst, proto) = ([10, 0, 0, 1], [192, 0, 2, 77], 6);
            data[0] = 0; data[1] = 0;
            let len = u16::try_from(data.len()).unwrap();
            let sum = pseudo_header(src.into(), dst.into(), proto, len).add(&data).checksum();
            let sum = if right { sum } else { sum.wrapping_add(1) };
            data[..2].copy_from_slice(&sum.to_be_bytes());
            let addrs = [src, dst].concat();
            let words = Words::pseudo_header(&addrs, proto, len).add(&data);
            // Both zeros are right, and one is the other's neighbour.
            let expected = pseudo_header(src.into(), dst.into(), proto, len).add(&data).is_valid();
            prop_assert_eq!(words.is_valid(), expected);
            prop_assert!(!right || expected);
        }

        #[test]
        fn an_adjusted_checksum_is_the_recomputed_one(
            mut data in proptest::collection::vec(any::<u8>(), 20..200),
            at in 1usize..9,
            new in any::<[u8; 2]>(),
        ) {
            // The first word stays as it is and is not zero: real headers never sum to zero.
            data[0] = 0x45;
            let before = of(&data);
            let delta = Sum::ZERO.add(&new).minus(Sum::ZERO.add(&data[at * 2..at * 2 + 2]));
            data[at * 2..at * 2 + 2].copy_from_slice(&new);
            prop_assert_eq!(adjust(before, delta), of(&data));
        }

        #[test]
        fn data_with_its_checksum_is_valid(mut data in proptest::collection::vec(any::<u8>(), 4..200)) {
            if data.len() % 2 == 1 { data.push(0); }
            data[0] = 0; data[1] = 0;
            let sum = of(&data);
            data[0..2].copy_from_slice(&sum.to_be_bytes());
            prop_assert!(Sum::ZERO.add(&data).is_valid());
        }
    }
}
