//! A rewritten packet is the packet that the other tuple would have sent, octet by octet.

use net::rewrite::RewriteError;
use net::{FlowKey, IpProto, L4Port, Layers, Packet, Rewrite, RxMeta};
use proptest::prelude::*;

use crate::build::{self, Spec, key, key4, key6, parse_with, spec_of};

/// Two keys of one family and protocol, TCP or UDP.
fn two_keys() -> impl Strategy<Value = (FlowKey, FlowKey)> {
    any::<(bool, bool)>().prop_flat_map(|(v4, tcp)| {
        let proto = if tcp { IpProto::TCP } else { IpProto::UDP };
        (key(v4, proto), key(v4, proto))
    })
}

fn apply(
    frame: &mut [u8],
    rx: RxMeta,
    layers: &Layers,
    rewrite: &Rewrite,
) -> Result<(), RewriteError> {
    let len = frame.len();
    rewrite.apply(&mut Packet::new(frame, 0, len, rx), layers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn a_rewrite_equals_building_the_packet_anew(
        (from, to, spec) in two_keys().prop_flat_map(|(from, to)| (Just(from), Just(to), spec_of(from))),
    ) {
        prop_assume!(spec.ttl > 1);
        let (mut frame, rx) = spec.received();
        let layers = parse_with(&frame, rx).unwrap();
        let rewrite = Rewrite::new(&from, &to);
        prop_assert_eq!(FlowKey::from(*rewrite.to()), to);
        apply(&mut frame, rx, &layers, &rewrite).unwrap();
        let expected = Spec { key: to, ttl: spec.ttl - 1, ..spec.clone() };
        prop_assert_eq!(&frame, &expected.received().0);
        // And back again, but for the hops.
        let layers = parse_with(&frame, rx).unwrap();
        if spec.ttl > 2 {
            apply(&mut frame, rx, &layers, &Rewrite::new(&to, &from)).unwrap();
            let expected = Spec { ttl: spec.ttl - 2, ..spec };
            prop_assert_eq!(frame, expected.received().0);
        }
    }

    #[test]
    fn a_rewrite_to_a_checksum_of_zero_is_sent_in_its_right_form(
        (from, to) in two_keys(),
        mut payload in prop::collection::vec(any::<u8>(), 2..40),
        onto: bool,
    ) {
        // The last whole word of the payload is chosen so that one of the two packets sums to zero.
        let len = payload.len() & !1;
        payload[len - 2..len].fill(0);
        let edge = if onto { to } else { from };
        let probe = Spec::new(edge, &payload).packet();
        let l4 = if edge.src.is_v4() { 20 } else { 40 };
        let at = l4 + if edge.proto == IpProto::TCP { 16 } else { 6 };
        let sum = u16::from_be_bytes([probe[at], probe[at + 1]]);
        payload[len - 2..len].copy_from_slice(&sum.to_be_bytes());
        let spec = Spec::new(from, &payload);
        let mut frame = spec.whole_frame();
        let layers = parse_with(&frame, RxMeta::default()).unwrap();
        apply(&mut frame, RxMeta::default(), &layers, &Rewrite::new(&from, &to)).unwrap();
        let expected = Spec { key: to, ttl: 63, ..spec };
        prop_assert_eq!(&frame, &expected.whole_frame());
        if onto {
            let zero = if to.proto == IpProto::TCP { [0, 0] } else { [0xff, 0xff] };
            prop_assert_eq!(&frame[14 + at..16 + at], &zero);
        }
    }

    #[test]
    fn a_refused_packet_stays_as_it_was(
        (from, _) in two_keys(),
        (other, _) in two_keys(),
        ttl in 0u8..4,
    ) {
        let spec = Spec { ttl, ..Spec::new(from, b"payload") };
        let mut frame = spec.whole_frame();
        let layers = parse_with(&frame, RxMeta::default()).unwrap();
        let before = frame.clone();
        let result = apply(&mut frame, RxMeta::default(), &layers, &Rewrite::new(&from, &other));
        let fits = from.proto == other.proto && from.src.is_v4() == other.src.is_v4();
        prop_assert_eq!(result.is_ok(), fits && ttl > 1);
        prop_assert_eq!(frame == before, result.is_err());
    }
}

#[test]
fn a_packet_on_its_last_hop_is_not_forwarded() {
    for key in [key4(IpProto::TCP), key6(IpProto::UDP)] {
        for ttl in [0, 1] {
            let mut frame = Spec {
                ttl,
                ..Spec::new(key, b"")
            }
            .whole_frame();
            let layers = parse_with(&frame, RxMeta::default()).unwrap();
            let result = apply(
                &mut frame,
                RxMeta::default(),
                &layers,
                &Rewrite::new(&key, &key.inverted()),
            );
            assert_eq!(result, Err(RewriteError::TtlExceeded));
        }
    }
}

#[test]
fn a_first_fragment_is_rewritten_and_a_later_one_refused() {
    let from = key4(IpProto::UDP);
    let to = FlowKey::new(from.dst, from.src, L4Port(9), L4Port(10), IpProto::UDP);
    let with_field = |key, field: u16, ttl| {
        let mut frame = Spec {
            ttl,
            ..Spec::new(key, &[3; 32])
        }
        .whole_frame();
        frame[20..22].copy_from_slice(&field.to_be_bytes());
        frame[24..26].fill(0);
        let sum = build::checksum(&[&frame[14..34]]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    let rewrite = Rewrite::new(&from, &to);
    let mut first = with_field(from, 0x2000, 64);
    let layers = parse_with(&first, RxMeta::default()).unwrap();
    apply(&mut first, RxMeta::default(), &layers, &rewrite).unwrap();
    assert_eq!(first, with_field(to, 0x2000, 63));
    let mut later = with_field(from, 0x0004, 64);
    let layers = parse_with(&later, RxMeta::default()).unwrap();
    let result = apply(&mut later, RxMeta::default(), &layers, &rewrite);
    assert_eq!(result, Err(RewriteError::Fragment));
    assert_eq!(later, with_field(from, 0x0004, 64));
}

#[test]
fn a_protocol_of_which_only_the_addresses_are_known_has_only_these_rewritten() {
    let key = key4(IpProto(47));
    let mut frame = Spec::new(key, b"payload").whole_frame();
    let layers = parse_with(&frame, RxMeta::default()).unwrap();
    let before = frame.clone();
    let rewrite = Rewrite::new(&layers.key, &layers.key.inverted());
    apply(&mut frame, RxMeta::default(), &layers, &rewrite).unwrap();
    let after = parse_with(&frame, RxMeta::default()).unwrap();
    assert_eq!(after.key, layers.key.inverted());
    assert_eq!(frame[layers.l4..], before[layers.l4..]);
}

#[test]
fn icmp_other_than_echoes_is_refused_untouched() {
    let key = key4(IpProto::ICMP);
    let mut frame = Spec::new(key, b"payload").whole_frame();
    let mut layers = parse_with(&frame, RxMeta::default()).unwrap();
    // A timestamp request.
    layers.icmp_type = 13;
    let before = frame.clone();
    let rewrite = Rewrite::new(&layers.key, &layers.key.inverted());
    let result = apply(&mut frame, RxMeta::default(), &layers, &rewrite);
    assert_eq!(result, Err(RewriteError::Mismatch));
    assert_eq!(frame, before);
}
