//! The parser against etherparse and smoltcp, on random and on mutated frames.

use net::{IpProto, Layers};
use proptest::prelude::*;

use crate::build::{Spec, parse, spec};
use crate::opinions::{checked, compare};

/// One change to a frame.
#[derive(Debug, Clone)]
enum Mutation {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Extend(Vec<u8>),
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
}

impl Mutation {
    fn apply(&self, frame: &mut Vec<u8>) {
        if frame.is_empty() {
            return;
        }
        // Mostly in the headers: payload is dull.
        let len = frame.len().min(100);
        match self {
            Self::Set(at, value) => frame[at.index(len)] = *value,
            Self::Flip(at, bit) => frame[at.index(len)] ^= 1 << (bit & 7),
            Self::Cut(at) => frame.truncate(at.index(frame.len())),
            Self::Extend(octets) => frame.extend(octets),
            Self::Remove(at, count) => {
                let at = at.index(len);
                let end = (at + count).min(frame.len());
                frame.drain(at..end);
            }
            Self::Insert(at, octets) => {
                let at = at.index(len);
                frame.splice(at..at, octets.iter().copied());
            }
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<prop::sample::Index>;
    // Values that mean something somewhere: protocols, versions, lengths, TPIDs.
    let value = prop_oneof![
        any::<u8>(),
        prop::sample::select(vec![
            0, 1, 2, 4, 5, 6, 8, 17, 20, 41, 43, 44, 50, 51, 58, 59, 60, 0x45, 0x60, 0x81, 0x86,
            0x88, 0xa8, 0xdd, 132, 135, 139, 255,
        ]),
    ];
    let octets = prop::collection::vec(any::<u8>(), 1..16);
    prop_oneof![
        6 => (at(), value).prop_map(|(at, v)| Mutation::Set(at, v)),
        3 => (at(), any::<u8>()).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        1 => at().prop_map(Mutation::Cut),
        1 => octets.clone().prop_map(Mutation::Extend),
        1 => (at(), 1usize..9).prop_map(|(at, n)| Mutation::Remove(at, n)),
        1 => (at(), octets).prop_map(|(at, o)| Mutation::Insert(at, o)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 20_000,
        max_shrink_iters: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn mutated_frames_are_read_as_the_others_read_them(
        spec in spec(),
        mutations in prop::collection::vec(mutation(), 0..6),
    ) {
        let mut frame = spec.whole_frame();
        for mutation in &mutations {
            mutation.apply(&mut frame);
        }
        compare(&frame);
    }

    #[test]
    fn random_octets_behind_an_ethernet_header_are_read_as_the_others_read_them(
        kind in prop::sample::select(vec![0x0800u16, 0x86dd, 0x0806, 0x8100, 0x88a8]),
        mut octets in prop::collection::vec(any::<u8>(), 0..120),
        plausible: bool,
    ) {
        if let (true, Some(first)) = (plausible, octets.first_mut()) {
            *first = if kind == 0x86dd { 0x60 } else { 0x45 };
        }
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        frame.extend(kind.to_be_bytes());
        frame.extend(octets);
        compare(&frame);
    }

    #[test]
    fn random_octets_never_panic(
        mut octets in prop::collection::vec(any::<u8>(), 0..200),
        start in 0usize..220,
        len in 0usize..220,
        tci in prop::option::of(any::<u16>()),
    ) {
        let rx = net::RxMeta { stripped_tci: tci, ..checked() };
        let packet = net::Packet::new(&mut octets, start, len, rx);
        let _ = Layers::parse(&packet);
    }
}

#[test]
fn well_formed_frames_with_every_encapsulation_agree() {
    for key in [
        crate::build::key4(IpProto::TCP),
        crate::build::key6(IpProto::UDP),
    ] {
        for tags in [vec![], vec![(0x8100, 5)], vec![(0x88a8, 7), (0x8100, 5)]] {
            let spec = Spec {
                tags,
                ..Spec::new(key, b"payload")
            };
            let frame = spec.whole_frame();
            assert!(parse(&frame).is_ok());
            compare(&frame);
        }
    }
}
