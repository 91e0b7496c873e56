//! Each reason to refuse a frame, with a frame for it.

use net::{IpProto, ParseError, RxChecksum, RxMeta};

use crate::build::{Spec, checksum, key4, key6, parse, parse_with};

fn tcp4() -> Vec<u8> {
    Spec::new(key4(IpProto::TCP), b"payload").whole_frame()
}

fn tcp6() -> Vec<u8> {
    Spec::new(key6(IpProto::TCP), b"payload").whole_frame()
}

fn udp4() -> Vec<u8> {
    Spec::new(key4(IpProto::UDP), b"payload").whole_frame()
}

/// The IPv4 frame after a change, with a right header checksum.
fn changed(mut frame: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut frame[14..]);
    frame[24..26].fill(0);
    let header = 14 + usize::from(frame[14] & 15) * 4;
    let sum = checksum(&[&frame[14..header.clamp(34, frame.len())]]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The IPv6 frame after a change.
fn changed6(mut frame: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut frame[14..]);
    frame
}

fn refused(frame: &[u8], reason: ParseError) {
    assert_eq!(parse(frame).err(), Some(reason), "{frame:02x?}");
}

/// An IPv6 frame with these extension headers (number, octets behind the next-header octet).
fn extended(extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let mut spec = Spec::new(key6(IpProto::TCP), b"payload");
    spec.extensions = extensions.iter().map(|(n, o)| (*n, o.to_vec())).collect();
    spec.whole_frame()
}

#[test]
fn a_frame_shorter_than_its_ethernet_header_is_truncated() {
    for len in 0..14 {
        refused(&tcp4()[..len], ParseError::TruncatedEthernet);
    }
    let mut tagged = Spec::new(key4(IpProto::TCP), b"");
    tagged.tags = vec![(0x8100, 5), (0x8100, 6)];
    for len in [14, 15, 17, 18, 21] {
        refused(&tagged.whole_frame()[..len], ParseError::TruncatedEthernet);
    }
}

#[test]
fn three_tags_are_too_many() {
    let mut spec = Spec::new(key4(IpProto::TCP), b"");
    spec.tags = vec![(0x88a8, 7), (0x8100, 5), (0x8100, 6)];
    refused(&spec.whole_frame(), ParseError::TooManyTags);
    // A stripped one counts.
    spec.tags = vec![(0x8100, 5), (0x8100, 6)];
    let rx = RxMeta {
        stripped_tci: Some(7),
        ..RxMeta::default()
    };
    let result = parse_with(&spec.whole_frame(), rx);
    assert_eq!(result.err(), Some(ParseError::TooManyTags));
}

#[test]
fn a_group_or_zero_source_mac_is_bad() {
    for mac in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1], [3, 0, 0, 0, 0, 1]] {
        let mut frame = tcp4();
        frame[6..12].copy_from_slice(&mac);
        refused(&frame, ParseError::BadSourceMac);
    }
}

#[test]
fn a_network_header_that_is_cut_off_is_truncated() {
    refused(&tcp4()[..33], ParseError::TruncatedNetwork);
    refused(&tcp4()[..14], ParseError::TruncatedNetwork);
    refused(&tcp6()[..53], ParseError::TruncatedNetwork);
    // Options that the frame does not hold.
    let frame = changed(tcp4(), |ip| (ip[0], ip[3]) = (0x4f, 60));
    refused(&frame[..14 + 40], ParseError::TruncatedNetwork);
}

// case VPPI-006: bad versions, header lengths and total lengths.
#[test]
fn contradicting_ip_lengths_and_versions_are_malformed() {
    let reason = ParseError::BadIpHeader;
    refused(&changed(tcp4(), |ip| ip[0] = 0x65), reason);
    refused(&changed(tcp4(), |ip| ip[0] = 0x44), reason);
    refused(
        &changed(tcp4(), |ip| ip[2..4].copy_from_slice(&[0, 19])),
        reason,
    );
    refused(
        &changed(tcp4(), |ip| ip[2..4].copy_from_slice(&[0, 0])),
        reason,
    );
    refused(&changed(tcp4(), |ip| ip[3] += 1), reason);
    refused(&tcp4()[..tcp4().len() - 1], reason);
    refused(&changed6(tcp6(), |ip| ip[0] = 0x45), reason);
    refused(&changed6(tcp6(), |ip| ip[5] += 1), reason);
}

#[test]
fn a_wrong_header_checksum_is_refused_unless_the_device_vouches() {
    let mut frame = tcp4();
    frame[24] ^= 1;
    refused(&frame, ParseError::BadIpChecksum);
    let rx = |ip_checksum| RxMeta {
        ip_checksum,
        ..RxMeta::default()
    };
    assert!(parse_with(&frame, rx(RxChecksum::Good)).is_ok());
    let bad = parse_with(&tcp4(), rx(RxChecksum::Bad));
    assert_eq!(bad.err(), Some(ParseError::BadIpChecksum));
}

#[test]
fn malformed_extension_headers_are_refused() {
    let reason = ParseError::BadExtensionHeader;
    let options: &[u8] = &[0, 1, 4, 0, 0, 0, 0];
    // Hop-by-hop options anywhere but first.
    refused(&extended(&[(60, options), (0, options)]), reason);
    // More than the packet holds.
    refused(&extended(&[(60, &[200, 1, 4, 0, 0, 0, 0])]), reason);
    refused(&extended(&[(51, &[200, 0, 0, 0, 0, 0, 0])]), reason);
    // Cut off by the packet's end.
    let cut = changed6(extended(&[(60, options)]), |ip| {
        ip[4..6].copy_from_slice(&[0, 7]);
    });
    refused(&cut, reason);
    // Too many.
    refused(&extended(&[(60, options); 9]), reason);
    assert!(parse(&extended(&[(60, options); 8])).is_ok());
    // Two fragment headers, of which the second would hide the first.
    let (first, atomic): (&[u8], &[u8]) = (&[0, 0, 1, 0, 0, 0, 1], &[0; 7]);
    refused(&extended(&[(44, first), (44, atomic)]), reason);
    // An authentication header shorter than its fixed part.
    refused(&extended(&[(51, &[0; 7])]), reason);
}

#[test]
fn addresses_that_must_not_be_on_the_wire_are_martian() {
    let reason = ParseError::MartianAddress;
    for source in [
        [0; 4],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [240, 0, 0, 1],
        [255; 4],
    ] {
        refused(
            &changed(tcp4(), |ip| ip[12..16].copy_from_slice(&source)),
            reason,
        );
    }
    for destination in [[0; 4], [127, 0, 0, 1]] {
        refused(
            &changed(tcp4(), |ip| ip[16..20].copy_from_slice(&destination)),
            reason,
        );
    }
    let mut loopback = [0; 16];
    loopback[15] = 1;
    let mut mapped = [0; 16];
    mapped[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
    for source in [[0xff; 16], loopback, mapped, [0; 16]] {
        refused(
            &changed6(tcp6(), |ip| ip[8..24].copy_from_slice(&source)),
            reason,
        );
    }
    for destination in [loopback, mapped, [0; 16]] {
        refused(
            &changed6(tcp6(), |ip| ip[24..40].copy_from_slice(&destination)),
            reason,
        );
    }
}

#[test]
fn a_transport_header_that_is_cut_off_is_truncated() {
    let reason = ParseError::TruncatedTransport;
    for (proto, whole) in [(6, 20u8), (17, 8), (1, 8), (132, 12)] {
        for len in [0, whole - 1] {
            let frame = changed(tcp4(), |ip| {
                (ip[3], ip[9]) = (20 + len, proto);
            });
            refused(&frame, reason);
        }
    }
    refused(&changed6(tcp6(), |ip| ip[5] = 19), reason);
    refused(&changed6(tcp6(), |ip| (ip[5], ip[6]) = (7, 58)), reason);
    // A first fragment must hold the whole header too (RFC 1858, RFC 7112).
    refused(
        &changed(tcp4(), |ip| (ip[3], ip[6]) = (20 + 16, 0x20)),
        reason,
    );
}

#[test]
fn contradicting_transport_lengths_are_malformed() {
    let reason = ParseError::BadTransportHeader;
    // TCP data offset: below five words, and behind the segment's end.
    refused(&changed(tcp4(), |ip| ip[32] = 0x40), reason);
    refused(&changed(tcp4(), |ip| ip[32] = 0xf0), reason);
    // UDP length: below eight octets, and behind the datagram's end.
    refused(&changed(udp4(), |ip| ip[25] = 7), reason);
    refused(&changed(udp4(), |ip| ip[25] = 0), reason);
    refused(&changed(udp4(), |ip| ip[25] += 1), reason);
}

#[test]
fn a_wrong_transport_checksum_is_refused_unless_the_device_vouches() {
    let reason = ParseError::BadTransportChecksum;
    let rx = |l4_checksum| RxMeta {
        l4_checksum,
        ..RxMeta::default()
    };
    for (key, device_checks) in [
        (key4(IpProto::TCP), true),
        (key4(IpProto::UDP), true),
        (key6(IpProto::TCP), true),
        (key6(IpProto::UDP), true),
        (key4(IpProto::ICMP), false),
        (key6(IpProto::ICMPV6), false),
    ] {
        let right = Spec::new(key, b"payload").whole_frame();
        let mut wrong = right.clone();
        *wrong.last_mut().unwrap() ^= 1;
        refused(&wrong, reason);
        let vouched = parse_with(&wrong, rx(RxChecksum::Good));
        assert_eq!(vouched.is_ok(), device_checks, "{key}");
        let denied = parse_with(&right, rx(RxChecksum::Bad));
        assert_eq!(denied.err(), Some(reason), "{key}");
    }
}

#[test]
fn udp_may_go_without_a_checksum_over_ipv4_only() {
    let mut v4 = udp4();
    v4[40..42].fill(0);
    assert!(parse(&v4).is_ok());
    let mut v6 = Spec::new(key6(IpProto::UDP), b"payload").whole_frame();
    v6[60..62].fill(0);
    refused(&v6, ParseError::BadTransportChecksum);
}

#[test]
fn every_reason_has_a_test_above() {
    // No wildcard: a new reason does not compile until it is listed here, and tested.
    let tested = |reason| match reason {
        ParseError::TruncatedEthernet
        | ParseError::TooManyTags
        | ParseError::BadSourceMac
        | ParseError::TruncatedNetwork
        | ParseError::BadIpHeader
        | ParseError::BadIpChecksum
        | ParseError::BadExtensionHeader
        | ParseError::MartianAddress
        | ParseError::TruncatedTransport
        | ParseError::BadTransportHeader
        | ParseError::BadTransportChecksum => true,
    };
    assert!(tested(ParseError::TooManyTags));
}
