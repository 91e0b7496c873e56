//! What is plain at a glance is what the judge of form finds in it.

use net::{
    FlowKey, Fragment, IpProto, Layers, Network, Packet, ParseError, Plain, Rewrite, RxChecksum,
    RxMeta, Tuple,
};
use proptest::prelude::*;

use crate::build::{Spec, key, parse_with, spec, spec_of};

fn look(frame: &[u8], rx: RxMeta) -> Option<Plain> {
    let mut copy = frame.to_vec();
    let len = copy.len();
    Plain::parse(&Packet::new(&mut copy, 0, len, rx))
}

/// The frame with another tuple.
fn rewrite(plain: &Plain, frame: &mut [u8], to: &FlowKey, deltas: net::Deltas) {
    match Tuple::from(to) {
        Tuple::V4 { addrs, ports, .. } => plain.rewrite_v4(frame, addrs, ports, deltas),
        Tuple::V6 { addrs, ports, .. } => plain.rewrite_v6(frame, addrs, ports, deltas),
    }
}

/// Whether the two agree about a frame; and whether it is plain.
fn agree(frame: &[u8], rx: RxMeta) -> Result<bool, TestCaseError> {
    let judged = parse_with(frame, rx);
    let Some(plain) = look(frame, rx) else {
        return Ok(false);
    };
    let layers = match judged {
        Ok(layers) => layers,
        Err(error) => {
            prop_assert_eq!(error, ParseError::MartianAddress);
            prop_assert_eq!(plain.layers(frame), Err(error));
            return Ok(true);
        }
    };
    prop_assert_eq!(plain.layers(frame), Ok(layers));
    prop_assert_eq!(FlowKey::from(plain.tuple(frame)), layers.key);
    prop_assert_eq!(plain.encap(), layers.encap);
    prop_assert_eq!(plain.is_v6(), layers.network == Network::Ipv6);
    prop_assert_eq!((plain.l3(), plain.end()), (layers.l3, layers.end));
    prop_assert_eq!(usize::from(plain.payload_len()), layers.payload_len());
    prop_assert_eq!(layers.fragment, Fragment::Whole);
    prop_assert!(layers.ttl > 1);
    let flags = plain.tcp(frame).map(|tcp| tcp.flags);
    prop_assert_eq!(flags.unwrap_or(0), layers.tcp_flags);
    Ok(true)
}

/// Whether a frame has nothing special about it.
fn is_usual(spec: &Spec, layers: &Layers) -> bool {
    let plain_header = if spec.is_v4() {
        spec.ip_options.is_empty()
    } else {
        spec.extensions.is_empty()
    };
    plain_header
        && matches!(spec.tags[..], [] | [(0x8100, _)])
        && spec.ttl > 1
        && matches!(layers.key.proto, IpProto::TCP | IpProto::UDP)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_is_usual_is_plain_and_what_is_plain_is_as_the_judge_says(spec in spec()) {
        let (frame, rx) = spec.received();
        let plain = agree(&frame, rx)?;
        let layers = parse_with(&frame, rx).unwrap();
        prop_assert_eq!(plain, is_usual(&spec, &layers));
    }

    #[test]
    fn a_damaged_frame_is_plain_only_if_the_judge_takes_it(
        spec in spec(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        shorten in prop::bool::weighted(0.2),
        verified in any::<bool>(),
    ) {
        let (mut frame, mut rx) = spec.received();
        for (at, octet) in damage {
            let at = at.index(frame.len());
            frame[at] = octet;
        }
        if shorten {
            frame.truncate(cut.index(frame.len()));
        }
        if verified {
            (rx.ip_checksum, rx.l4_checksum) = (RxChecksum::Good, RxChecksum::Good);
        }
        agree(&frame, rx)?;
    }

    #[test]
    fn any_octets_are_survived(frame in prop::collection::vec(any::<u8>(), 0..120), kind in 0..3u8) {
        let mut frame = frame;
        if let Some(ethertype) = frame.get_mut(12..16) {
            ethertype.copy_from_slice(match kind {
                0 => &[0x08, 0x00, 0x45, 0x00],
                1 => &[0x86, 0xdd, 0x60, 0x00],
                _ => &[0x81, 0x00, 0x00, 0x64],
            });
        }
        agree(&frame, RxMeta::default())?;
    }

    #[test]
    fn a_plain_rewrite_is_the_rewrite_of_the_long_way(
        (from, to, spec) in (any::<(bool, bool)>()).prop_flat_map(|(v4, tcp)| {
            let proto = if tcp { IpProto::TCP } else { IpProto::UDP };
            (key(v4, proto), key(v4, proto))
        }).prop_flat_map(|(from, to)| (Just(from), Just(to), spec_of(from))),
    ) {
        let (mut frame, rx) = spec.received();
        if let Some(plain) = look(&frame, rx) {
            let deltas = net::Deltas::between(&from, &to);
            let layers = parse_with(&frame, rx).unwrap();
            let mut expected = frame.clone();
            let len = expected.len();
            let mut packet = Packet::new(&mut expected, 0, len, rx);
            Rewrite::new(&from, &to).apply(&mut packet, &layers).unwrap();
            rewrite(&plain, &mut frame, &to, deltas);
            prop_assert_eq!(&frame, &expected);
            // And back, by the differences the other way round, but for the hop.
            rewrite(&plain, &mut frame, &from, deltas.inverted());
            let back = Spec { ttl: spec.ttl.wrapping_sub(2), ..spec };
            if back.ttl < 254 {
                prop_assert_eq!(frame, back.received().0);
            }
        }
    }
}
