//! Damage to frames.

use net::{Addr, FlowKey, IpProto, L4Port};

/// Numbers that look random and are the same on every run (SplitMix64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// Changes a frame in a few places among its headers, cuts it or makes it longer, and makes its
/// checksums right again, so that what is wrong is not found by them.
pub fn damage(octets: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(3) {
        let reach = octets.len().min(96);
        if reach == 0 {
            return;
        }
        let at = numbers.below(reach);
        octets[at] = match numbers.below(4) {
            0 => 0,
            1 => 0xff,
            2 => octets[at] ^ (1 << numbers.below(8)),
            _ => u8::try_from(numbers.below(256)).unwrap(),
        };
    }
    match numbers.below(8) {
        0 => octets.truncate(numbers.below(octets.len() + 1)),
        1 => octets.resize(octets.len() + numbers.below(64), 0xa5),
        _ => {}
    }
    repair_checksums(octets);
}

/// Sets the checksums of an untagged or tagged IPv4 packet, as far as its headers can be followed.
fn repair_checksums(octets: &mut [u8]) {
    let mut l3 = 14;
    while matches!(octets.get(l3 - 2..l3), Some([0x81, 0] | [0x88, 0xa8])) {
        l3 += 4;
    }
    let Some(packet) = octets.get_mut(l3..) else {
        return;
    };
    let Some(first) = packet.first() else { return };
    let header_len = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header_len < 20 || packet.len() < header_len {
        return;
    }
    packet[10..12].fill(0);
    let sum = net::checksum::of(&packet[..header_len]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]])).min(packet.len());
    let proto = IpProto(packet[9]);
    let (src, dst) = (
        Addr::from_v4([packet[12], packet[13], packet[14], packet[15]]),
        Addr::from_v4([packet[16], packet[17], packet[18], packet[19]]),
    );
    let Some(segment) = packet.get_mut(header_len..total) else {
        return;
    };
    let field = match proto {
        IpProto::TCP => 16,
        IpProto::UDP => 6,
        IpProto::ICMP => 2,
        _ => return,
    };
    let Some(place) = segment.get_mut(field..field + 2) else {
        return;
    };
    place.fill(0);
    let key = FlowKey::new(src, dst, L4Port(0), L4Port(0), proto);
    let sum = net::emit::transport_checksum(&key, segment);
    segment[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}
