//! The keyed hash of tuples.
//!
//! Products of secret sums: each pair of words is added to a pair of secret ones, multiplied to 128
//! bits and folded. Without the secrets, which are drawn anew at every start, nobody can choose
//! tuples that collide. IPv4 takes two multiplications, IPv6 four.

use net::Tuple;

/// The secrets of one table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hasher {
    secrets: [u64; 8],
}

impl Hasher {
    /// Secrets made of `seed` (`SplitMix64`; Steele, Lea, Flood 2014).
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self {
            secrets: std::array::from_fn(|_| next()),
        }
    }

    /// The hash of an IPv4 tuple.
    #[inline]
    pub(crate) fn v4(&self, addrs: u64, ports: u32, proto: u8) -> u64 {
        let [a, b, c, d, ..] = self.secrets;
        let rest = u64::from(ports) | u64::from(proto) << 32;
        let once = fold(addrs ^ a, rest.wrapping_add(b));
        fold(once ^ c, d | 1)
    }

    /// The hash of an IPv6 tuple.
    #[inline]
    #[expect(clippy::many_single_char_names, reason = "secrets have no names")]
    pub(crate) fn v6(&self, addrs: &[u64; 4], ports: u32, proto: u8) -> u64 {
        let [a, b, c, d, e, f, g, h] = self.secrets;
        let rest = u64::from(ports) | u64::from(proto) << 32 | 1 << 40;
        let src = fold(addrs[0] ^ a, addrs[1] ^ b);
        let dst = fold(addrs[2] ^ c, addrs[3] ^ d);
        let both = fold(src ^ e, dst.wrapping_add(f));
        fold(both ^ g, rest ^ h)
    }

    /// The hash of three IPv6 addresses.
    #[inline]
    #[expect(clippy::many_single_char_names, reason = "secrets have no names")]
    pub(crate) fn three(&self, addrs: &[[u64; 2]; 3]) -> u64 {
        let [a, b, c, d, e, f, g, h] = self.secrets;
        let [first, second, third] = addrs;
        let first = fold(first[0] ^ a, first[1] ^ b);
        let second = fold(second[0] ^ c, second[1] ^ d);
        let third = fold(third[0] ^ e, third[1] ^ f);
        fold(first ^ second.rotate_left(32) ^ g, third ^ h)
    }

    /// The hash of a tuple.
    #[inline]
    pub(crate) fn tuple(&self, tuple: &Tuple) -> u64 {
        match tuple {
            Tuple::V4 {
                addrs,
                ports,
                proto,
            } => self.v4(*addrs, *ports, proto.0),
            Tuple::V6 {
                addrs,
                ports,
                proto,
            } => self.v6(addrs, *ports, proto.0),
        }
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}
