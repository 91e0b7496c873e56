//! Protocols of which only addresses are translated, and whose checksums cover them.
#![allow(clippy::unwrap_used)]

use net::{Addr, FlowKey, IpProto, L4Port, Layers, Packet, Rewrite, RxMeta};
use proptest::prelude::*;

/// The sum over a pseudo-header and `covered`; right if it is 0xffff.
fn sum(v6: bool, ip: &[u8], proto: u8, len: usize, covered: &[u8]) -> u16 {
    let addrs = if v6 { &ip[8..40] } else { &ip[12..20] };
    let mut words: Vec<u8> = addrs.to_vec();
    words.extend(u32::try_from(len).unwrap().to_be_bytes());
    words.extend([0, proto]);
    words.extend(covered);
    words.resize(words.len().next_multiple_of(2), 0);
    let mut sum: u32 = words
        .chunks_exact(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// A frame with a packet of `proto` whose checksum, at octet 6, is right over the first `coverage` octets.
fn frame(v6: bool, proto: IpProto, payload: &[u8], coverage: usize) -> Vec<u8> {
    let mut octets = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    octets.extend(if v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
    let len = u16::try_from(payload.len()).unwrap();
    let mut ip = Vec::new();
    if v6 {
        ip.extend([0x60, 0, 0, 0]);
        ip.extend(len.to_be_bytes());
        ip.extend([proto.0, 64]);
        for last in [7, 9] {
            ip.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
    } else {
        ip.extend([0x45, 0]);
        ip.extend((20 + len).to_be_bytes());
        ip.extend([
            0, 1, 0x40, 0, 64, proto.0, 0, 0, 192, 0, 2, 7, 203, 0, 113, 9,
        ]);
        let header = net::checksum::of(&ip);
        ip[10..12].copy_from_slice(&header.to_be_bytes());
    }
    let mut segment = payload.to_vec();
    segment[6..8].fill(0);
    let check = !sum(v6, &ip, proto.0, payload.len(), &segment[..coverage]);
    let check = if check == 0 { 0xffff } else { check };
    segment[6..8].copy_from_slice(&check.to_be_bytes());
    octets.extend(ip);
    octets.extend(segment);
    octets
}

proptest! {
    #[test]
    fn checksums_of_udp_lite_and_dccp_are_right_after_their_addresses_were_translated(
        v6: bool,
        dccp: bool,
        payload in prop::collection::vec(any::<u8>(), 12..200),
        part in 0.0..1.0_f64,
        to: [u8; 4],
    ) {
        let proto = if dccp { IpProto::DCCP } else { IpProto::UDP_LITE };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let coverage = 8 + ((payload.len() - 8) as f64 * part) as usize;
        let mut octets = frame(v6, proto, &payload, coverage);
        let len = octets.len();
        let mut packet = Packet::new(&mut octets, 0, len, RxMeta::default());
        let layers = Layers::parse(&packet).unwrap();
        let src = if v6 {
            let mut new = *layers.key.src.octets();
            new[12..].copy_from_slice(&to);
            Addr::from_v6(new)
        } else {
            Addr::from_v4(to)
        };
        let key = FlowKey::new(src, layers.key.dst, L4Port(0), L4Port(0), proto);
        let rewrite = Rewrite::new(&layers.key, &key);
        rewrite.apply(&mut packet, &layers).unwrap();
        let data = packet.data();
        let (ip, segment) = (&data[14..], &data[layers.l4..]);
        prop_assert_eq!(sum(v6, ip, proto.0, segment.len(), &segment[..coverage]), 0xffff);
        prop_assert_ne!(&segment[6..8], &[0, 0]);
        // And back, as for an error about it.
        rewrite.undo(&mut packet, &layers).unwrap();
        let data = packet.data();
        let (ip, segment) = (&data[14..], &data[layers.l4..]);
        prop_assert_eq!(sum(v6, ip, proto.0, segment.len(), &segment[..coverage]), 0xffff);
        prop_assert_eq!(Layers::parse(&packet).unwrap().key, layers.key);
    }
}
