//! The hash by which network cards spread flows over their queues (receive side scaling), worked out
//! in software.
//!
//! Whoever knows the card's key can tell from a tuple which queue its packets come in by. It is
//! linear: the hash of a tuple is the exclusive or of what each of its nibbles contributes, so the
//! part of the addresses is worked out once, and each source port that is tried costs four loads.

use net::{Addr, FlowKey, L4Port};

/// Octets of a key: enough for two IPv6 addresses and two ports.
pub const KEY_LEN: usize = 40;
/// Nibbles of the longest input.
const NIBBLES: usize = 72;

/// What each nibble contributes, by its place in the input and its value.
#[derive(Clone)]
pub struct Toeplitz {
    key: [u8; KEY_LEN],
    parts: Box<[[u32; 16]; NIBBLES]>,
}

impl Toeplitz {
    /// The tables of a key.
    pub fn new(key: [u8; KEY_LEN]) -> Self {
        let mut parts = Box::new([[0u32; 16]; NIBBLES]);
        for (place, row) in parts.iter_mut().enumerate() {
            for (value, part) in row.iter_mut().enumerate() {
                for bit in 0..4 {
                    if value & (0b1000 >> bit) != 0 {
                        *part ^= window(&key, place * 4 + bit);
                    }
                }
            }
        }
        Self { key, parts }
    }

    /// The key, as a device takes it.
    pub const fn key(&self) -> &[u8; KEY_LEN] {
        &self.key
    }

    /// The hash of the addresses and ports of a packet, as it arrives.
    #[inline]
    pub fn tuple(&self, key: &FlowKey) -> u32 {
        let v4 = key.src.is_v4() && key.dst.is_v4();
        let (addresses, ports) = if v4 {
            let src = self.octets(0, &key.src.v4_octets());
            (src ^ self.octets(8, &key.dst.v4_octets()), 16)
        } else {
            let src = self.octets(0, key.src.octets());
            (src ^ self.octets(32, key.dst.octets()), 64)
        };
        addresses
            ^ self.octets(ports, &key.sport().0.to_be_bytes())
            ^ self.octets(ports + 4, &key.dport().0.to_be_bytes())
    }

    /// What the destination port contributes to the hash of a packet. The hash of a tuple with
    /// destination port 0, exclusive-or this, is that of the tuple with the port.
    #[inline]
    pub fn destination_port(&self, v4: bool, port: L4Port) -> u32 {
        self.octets(if v4 { 20 } else { 68 }, &port.0.to_be_bytes())
    }

    /// The hash of one address alone.
    #[inline]
    pub fn address(&self, addr: &Addr) -> u32 {
        if addr.is_v4() {
            self.octets(0, &addr.v4_octets())
        } else {
            self.octets(0, addr.octets())
        }
    }

    /// The hash of the two addresses of a packet alone: what devices work out for packets whose
    /// ports they do not read.
    #[inline]
    pub fn addresses(&self, src: &Addr, dst: &Addr) -> u32 {
        if src.is_v4() && dst.is_v4() {
            self.octets(0, &src.v4_octets()) ^ self.octets(8, &dst.v4_octets())
        } else {
            self.octets(0, src.octets()) ^ self.octets(32, dst.octets())
        }
    }

    /// What octets at the nibble `place` of the input contribute.
    #[inline]
    fn octets(&self, place: usize, octets: &[u8]) -> u32 {
        let pairs = self.parts.get(place..).unwrap_or(&[]).chunks_exact(2);
        octets.iter().zip(pairs).fold(0, |hash, (octet, rows)| {
            let high = rows.first().map_or(0, |row| row[usize::from(octet >> 4)]);
            let low = rows.get(1).map_or(0, |row| row[usize::from(octet & 15)]);
            hash ^ high ^ low
        })
    }
}

impl std::fmt::Debug for Toeplitz {
    /// Without the key: whoever has it can aim all his flows at one worker.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Toeplitz")
    }
}

/// The 32 bits of the key from bit number `at` on; what lies behind the key is zero.
fn window(key: &[u8; KEY_LEN], at: usize) -> u32 {
    (0..32).fold(0, |bits, n| {
        let at = at + n;
        let octet = key.get(at / 8).copied().unwrap_or(0);
        bits << 1 | u32::from(octet >> (7 - at % 8) & 1)
    })
}
