//! A hash that is the same on every machine and in every release.
//!
//! Replicas, and a tmm before and after an upgrade, must send a client to the same member, so the
//! hash of a client is part of the product and not left to a library. It is public: whoever wants
//! to load one member can, as he could by choosing addresses against any consistent hash.

use net::Addr;

/// Odd constants with about as many ones as zeros (fractional digits of the golden ratio, √2, √3).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const ROOT2: u64 = 0x6a09_e667_f3bc_c909;
const ROOT3: u64 = 0xbb67_ae85_84ca_a73b;

/// Both halves of the 128-bit product, folded: each bit of the result depends on each of the input.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "halves of a product")]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product as u64) ^ ((product >> 64) as u64)
}

/// Finalises one word (the mixer of SplitMix64: Steele, Lea, Flood 2014).
#[inline]
pub(crate) const fn word(mut x: u64) -> u64 {
    x = x.wrapping_add(GOLDEN);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// An address, with `salt` for independent hashes of the same address.
#[inline]
pub(crate) fn addr(addr: &Addr, salt: u64) -> u64 {
    let o = addr.octets();
    let high = u64::from_be_bytes([o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7]]);
    let low = u64::from_be_bytes([o[8], o[9], o[10], o[11], o[12], o[13], o[14], o[15]]);
    word(fold(word(high ^ salt) ^ ROOT2, word(low) ^ ROOT3))
}

/// Maps a hash evenly to `0..n`, without a division; 0 if `n` is 0.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "below n")]
pub(crate) const fn reduce(hash: u64, n: usize) -> usize {
    ((hash as u128 * n as u128) >> 64) as usize
}
