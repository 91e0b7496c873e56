//! The cards' hash, against the published vectors of Microsoft's "Verifying the RSS Hash Calculation".
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use lb::toeplitz::{KEY_LEN, Toeplitz};
use net::{Addr, FlowKey, IpProto, L4Port};
use proptest::prelude::*;

const KEY: [u8; KEY_LEN] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// Source, destination, hash of the addresses, hash with the ports.
const VECTORS: &[(&str, u16, &str, u16, u32, u32)] = &[
    (
        "66.9.149.187",
        2794,
        "161.142.100.80",
        1766,
        0x323e_8fc2,
        0x51cc_c178,
    ),
    (
        "199.92.111.2",
        14230,
        "65.69.140.83",
        4739,
        0xd718_262a,
        0xc626_b0ea,
    ),
    (
        "24.19.198.95",
        12898,
        "12.22.207.184",
        38024,
        0xd2d0_a5de,
        0x5c2b_394a,
    ),
    (
        "38.27.205.30",
        48228,
        "209.142.163.6",
        2217,
        0x8298_9176,
        0xafc7_327f,
    ),
    (
        "153.39.163.191",
        44251,
        "202.188.127.2",
        1303,
        0x5d18_09c5,
        0x10e8_28a2,
    ),
    (
        "3ffe:2501:200:1fff::7",
        2794,
        "3ffe:2501:200:3::1",
        1766,
        0x2cc1_8cd5,
        0x4020_7d3d,
    ),
    (
        "3ffe:501:8::260:97ff:fe40:efab",
        14230,
        "ff02::1",
        4739,
        0x0f0c_461c,
        0xdde5_1bbf,
    ),
    (
        "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
        44251,
        "fe80::200:f8ff:fe21:67cf",
        38024,
        0x4b61_e985,
        0x02d1_feef,
    ),
];

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<IpAddr>().unwrap())
}

#[test]
fn the_hash_is_the_one_that_network_cards_compute() {
    let toeplitz = Toeplitz::new(KEY);
    for (src, sport, dst, dport, addresses, tuple) in VECTORS {
        let (src, dst) = (addr(src), addr(dst));
        let key = FlowKey::new(src, dst, L4Port(*sport), L4Port(*dport), IpProto::TCP);
        assert_eq!(toeplitz.tuple(&key), *tuple, "{key}");
        assert_eq!(toeplitz.addresses(&src, &dst), *addresses, "{key}");
    }
}

#[test]
fn the_key_is_not_shown() {
    assert_eq!(format!("{:?}", Toeplitz::new(KEY)), "Toeplitz");
}

/// The definition, bit by bit.
fn plain(key: &[u8; KEY_LEN], input: &[u8]) -> u32 {
    let bit = |octets: &[u8], n: usize| octets[n / 8] >> (7 - n % 8) & 1;
    let mut hash = 0;
    for n in 0..input.len() * 8 {
        if bit(input, n) == 1 {
            hash ^= (0..32).fold(0u32, |word, k| word << 1 | u32::from(bit(key, n + k)));
        }
    }
    hash
}

proptest! {
    #[test]
    fn tables_and_definition_agree(
        key: [u8; KEY_LEN],
        v4: bool,
        src: [u8; 16],
        dst: [u8; 16],
        sport: u16,
        dport: u16,
    ) {
        let toeplitz = Toeplitz::new(key);
        let take = |a: [u8; 16]| if v4 {
            (Addr::from_v4([a[0], a[1], a[2], a[3]]), a[..4].to_vec())
        } else {
            (Addr::from_v6(a), a.to_vec())
        };
        let ((src, mut input), (dst, behind)) = (take(src), take(dst));
        prop_assert_eq!(toeplitz.address(&src), plain(&key, &input));
        input.extend(behind);
        prop_assert_eq!(toeplitz.addresses(&src, &dst), plain(&key, &input));
        input.extend(sport.to_be_bytes());
        input.extend(dport.to_be_bytes());
        let tuple = |dport| FlowKey::new(src, dst, L4Port(sport), L4Port(dport), IpProto::UDP);
        let whole = toeplitz.tuple(&tuple(dport));
        prop_assert_eq!(whole, plain(&key, &input));
        let parts = toeplitz.tuple(&tuple(0)) ^ toeplitz.destination_port(v4, L4Port(dport));
        prop_assert_eq!(whole, parts);
    }
}
