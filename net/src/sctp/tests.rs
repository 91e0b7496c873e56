use proptest::prelude::*;

use super::*;
use crate::emit;
use crate::flow::{Addr, FlowKey, IpProto};
use crate::rewrite::Rewrite;
use crate::{Encap, Fragment, L4Port, MacAddr, RxMeta};

/// An SCTP packet from its common header on, with the right checksum.
fn packet(vtag: u32, chunks: &[&[u8]]) -> Vec<u8> {
    let mut segment = vec![0x96, 0x0c, 0x96, 0x0c];
    segment.extend(vtag.to_be_bytes());
    segment.extend([0; 4]);
    for chunk in chunks {
        segment.extend(*chunk);
        segment.resize(segment.len().next_multiple_of(4), 0);
    }
    let sum = crc32c::of(&segment).unwrap();
    segment[8..12].copy_from_slice(&sum);
    segment
}

const INIT: &[u8] = &[
    1, 0, 0, 20, 0, 0, 0, 7, 0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1,
];
const INIT_ACK: &[u8] = &[
    2, 0, 0, 20, 0, 0, 0, 9, 0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1,
];
const DATA: &[u8] = &[0, 3, 0, 19, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 60, 1, 2, 3];
const COOKIE_ECHO: &[u8] = &[10, 0, 0, 6, 5, 5];
const COOKIE_ACK: &[u8] = &[11, 0, 0, 4];
const SHUTDOWN_ACK: &[u8] = &[8, 0, 0, 4];
const SHUTDOWN_COMPLETE: &[u8] = &[14, 1, 0, 4];
const ABORT: &[u8] = &[6, 0, 0, 4];

#[test]
fn what_is_in_a_packet_is_found() {
    let init = Chunks::parse(&packet(0, &[INIT])).unwrap();
    assert!(init.has(chunk::INIT) && init.init_tag == 7 && init.vtag == 0);
    let echo = Chunks::parse(&packet(9, &[COOKIE_ECHO, DATA])).unwrap();
    assert!(echo.has(chunk::COOKIE_ECHO) && !echo.has(chunk::COOKIE_ACK));
    assert_eq!((echo.vtag, echo.init_tag, echo.first), (9, 0, 10));
    let done = Chunks::parse(&packet(9, &[SHUTDOWN_COMPLETE])).unwrap();
    assert!(done.reflected && done.has(chunk::SHUTDOWN_COMPLETE));
}

// case ETS-001: of the invalid messages, those that are wrong by form: tags, lengths, company
#[test]
fn a_packet_of_wrong_form_is_refused() {
    let no_tag = &[
        1, 0, 0, 20, 0, 0, 0, 0, 0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1,
    ];
    let short_init = &[1, 0, 0, 12, 0, 0, 0, 7, 0, 1, 0, 0];
    for (what, vtag, chunks) in [
        ("no chunk", 9, vec![]),
        ("INIT with a verification tag", 9, vec![INIT]),
        ("INIT with an initiate tag of zero", 0, vec![&no_tag[..]]),
        ("INIT too short for its fields", 0, vec![&short_init[..]]),
        ("INIT in company", 0, vec![INIT, DATA]),
        ("INIT behind another chunk", 0, vec![DATA, INIT]),
        ("INIT ACK in company", 7, vec![INIT_ACK, COOKIE_ACK]),
        ("INIT ACK without a verification tag", 0, vec![INIT_ACK]),
        (
            "SHUTDOWN COMPLETE in company",
            7,
            vec![SHUTDOWN_COMPLETE, DATA],
        ),
        ("DATA without a verification tag", 0, vec![DATA]),
        ("ABORT without a verification tag", 0, vec![ABORT]),
        ("COOKIE ECHO behind DATA", 9, vec![DATA, COOKIE_ECHO]),
        ("COOKIE ACK behind DATA", 9, vec![DATA, COOKIE_ACK]),
        ("a chunk of length 0", 9, vec![&[3, 0, 0, 0][..]]),
        ("a chunk of length 3", 9, vec![&[3, 0, 0, 3][..]]),
        ("a chunk longer than the packet", 9, vec![&[3, 0, 0, 9][..]]),
        (
            "a second chunk that is too long",
            9,
            vec![DATA, &[3, 0, 1, 0]],
        ),
    ] {
        let refused = Chunks::parse(&packet(vtag, &chunks));
        assert_eq!(refused, Err(ParseError::BadTransportHeader), "{what}");
    }
    let mut cut = packet(9, &[DATA, SHUTDOWN_ACK]);
    cut.truncate(cut.len() - 2);
    assert_eq!(Chunks::parse(&cut), Err(ParseError::BadTransportHeader));
    assert_eq!(
        Chunks::parse(&cut[..11]),
        Err(ParseError::TruncatedTransport)
    );
    // In a first fragment the rest is elsewhere.
    assert!(Chunks::parse_first_fragment(&cut).is_ok());
}

#[test]
fn a_checksum_of_zero_is_none_but_not_for_packets_that_open() {
    let without = |chunks: &[&[u8]], vtag| {
        let mut segment = packet(vtag, chunks);
        segment[8..12].fill(0);
        check(&segment)
    };
    assert_eq!(without(&[DATA], 9), Ok(()));
    let wrong = Err(ParseError::BadTransportChecksum);
    assert_eq!(without(&[INIT], 0), wrong);
    assert_eq!(without(&[COOKIE_ECHO, DATA], 9), wrong);
    let mut spoiled = packet(9, &[DATA]);
    assert_eq!(check(&spoiled), Ok(()));
    spoiled[9] ^= 1;
    assert_eq!(check(&spoiled), wrong);
}

fn key(v4: bool) -> FlowKey {
    let addr = |low| {
        if v4 {
            Addr::from_v4([192, 0, 2, low])
        } else {
            Addr::from_v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, low])
        }
    };
    let port = L4Port(38412);
    FlowKey::new(addr(1), addr(2), port, port, IpProto::SCTP)
}

fn frame(v4: bool, segment: &[u8]) -> Vec<u8> {
    let kind = if v4 { 0x0800 } else { 0x86dd };
    let (a, b) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let l3 = emit::ip(&key(v4), 64, segment);
    emit::ethernet(a, b, Encap::UNTAGGED, kind, &l3)
}

fn whole(octets: &mut [u8]) -> Packet<'_> {
    let len = octets.len();
    Packet::new(octets, 0, len, RxMeta::default())
}

#[test]
fn other_ports_keep_the_checksum_right_and_none_stays_none() {
    for v4 in [true, false] {
        for zero in [false, true] {
            let mut segment = packet(9, &[DATA, DATA]);
            if zero {
                segment[8..12].fill(0);
            }
            let mut octets = frame(v4, &segment);
            let mut packet = whole(&mut octets);
            let layers = Layers::parse(&packet).unwrap();
            let from = layers.key;
            let to = FlowKey::new(from.dst, from.src, L4Port(1024), L4Port(3868), from.proto);
            Rewrite::new(&from, &to)
                .apply(&mut packet, &layers)
                .unwrap();
            let after = Layers::parse(&packet).unwrap();
            assert_eq!((after.key, after.ttl), (to, 63));
            let segment = &packet.data()[after.l4..after.end];
            assert_eq!(crc32c::is_right(segment), !zero);
            assert_eq!(segment[8..12] == [0; 4], zero);
        }
    }
}

#[test]
fn a_first_fragment_keeps_its_ports_or_is_refused() {
    let mut octets = frame(true, &packet(9, &[DATA]));
    let mut packet = whole(&mut octets);
    let mut layers = Layers::parse(&packet).unwrap();
    layers.fragment = Fragment::First;
    let from = layers.key;
    let to = FlowKey::new(from.src, from.dst, L4Port(1), from.dport(), from.proto);
    let refused = Rewrite::new(&from, &to).apply(&mut packet, &layers);
    assert_eq!(refused, Err(crate::RewriteError::Fragment));
    let to = FlowKey::new(from.dst, from.src, from.sport(), from.dport(), from.proto);
    assert_eq!(Rewrite::new(&from, &to).apply(&mut packet, &layers), Ok(()));
}

#[test]
fn a_packet_out_of_the_blue_is_answered_as_rfc_9260_says() {
    for (chunks, vtag, said) in [
        (vec![DATA], 9, Some((chunk::ABORT, 1, 9))),
        (vec![COOKIE_ECHO], 9, Some((chunk::ABORT, 1, 9))),
        (vec![INIT_ACK], 5, Some((chunk::ABORT, 1, 5))),
        (vec![INIT], 0, Some((chunk::ABORT, 0, 7))),
        (
            vec![SHUTDOWN_ACK],
            9,
            Some((chunk::SHUTDOWN_COMPLETE, 1, 9)),
        ),
        (vec![SHUTDOWN_COMPLETE], 9, None),
        (vec![DATA, ABORT], 9, None),
        (vec![COOKIE_ACK], 9, None),
        (vec![&[9, 0, 0, 8, 0, 3, 0, 4][..]], 9, None),
        (vec![&[4, 0, 0, 8, 0, 1, 0, 4][..]], 9, None),
    ] {
        for v4 in [true, false] {
            let segment = packet(vtag, &chunks);
            let read = Chunks::parse(&segment).unwrap();
            assert_eq!(refusal(&read).is_some(), said.is_some(), "{chunks:?}");
            let (Some(refusal), Some(said)) = (refusal(&read), said) else {
                continue;
            };
            // A frame has room for more than a lone chunk, or not.
            let mut octets = frame(v4, &segment);
            let mut packet = whole(&mut octets);
            let layers = Layers::parse(&packet).unwrap();
            refuse_in_place(&mut packet, &layers, &read, refusal).unwrap();
            let after = Layers::parse(&packet).unwrap();
            assert_eq!((after.key, after.ttl), (layers.key.inverted(), 64));
            let segment = &packet.data()[after.l4..after.end];
            assert!(crc32c::is_right(segment));
            let vtag = Chunks::parse(segment).unwrap().vtag;
            assert_eq!((segment[12], segment[13], vtag), said);
            assert_eq!(segment[14..], [0, 4]);
        }
    }
}

proptest! {
    #[test]
    fn no_octets_make_it_stumble(segment in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (Chunks::parse(&segment), Chunks::parse_first_fragment(&segment), check(&segment));
    }

    #[test]
    fn no_lengths_of_chunks_make_it_stumble(
        lengths in proptest::collection::vec((0u8..20, any::<u8>(), 0u16..40), 1..12),
        cut in 0usize..200,
    ) {
        let mut segment = packet(9, &[]);
        for (kind, flags, len) in lengths {
            segment.extend([kind, flags]);
            segment.extend(len.to_be_bytes());
            segment.resize(segment.len() + usize::from(len).saturating_sub(4), 1);
        }
        segment.truncate(segment.len().saturating_sub(cut));
        if let Ok(chunks) = Chunks::parse(&segment) {
            let alone = chunks.has(chunk::INIT_ACK);
            prop_assert!(!alone || chunks.init_tag != 0);
        }
    }
}
