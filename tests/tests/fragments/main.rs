//! Datagrams cut into fragments at random, through tmm, and put together behind it by somebody else: what
//! comes out is the translated datagram, or not all of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod pieces;
mod site;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use dataplane::trains::{CAPACITY, PLACES};
use net::emit;
use net::{Addr, FlowKey, IpProto, L4Port};
use pieces::{Headers, assemble, cuts, fragment, parts, read, shuffle, whole, whole_ones};
use proptest::prelude::*;
use site::{NOW, Site, key};
use tests::scenario::pattern;

const RIGS: [&str; 3] = [
    "rig workers=1",
    "rig workers=4 nic=turns",
    "rig workers=3 nic=one-queue",
];
const SNAT: [&str; 2] = ["SRC_TRANS_NONE", "SRC_TRANS_AUTOMAP"];
const NEXT: [&[u8]; 4] = [&[], &[60], &[60, 60], &[43, 60]];
const FIRST: [&[u8]; 4] = [&[], &[0], &[0, 60], &[0, 60, 43]];

#[derive(Debug, Clone)]
struct Cutting {
    v6: bool,
    len: usize,
    at: Vec<u16>,
    order: Vec<u32>,
    burst: usize,
    headers: Headers,
}

fn cutting() -> impl Strategy<Value = Cutting> {
    (
        any::<bool>(),
        20usize..6000,
        prop::collection::vec(4u16..750, 1..20),
        prop::collection::vec(any::<u32>(), 1..24),
        1usize..40,
        0usize..16,
    )
        .prop_map(|(v6, len, mut at, order, burst, headers)| Cutting {
            v6,
            len,
            at: {
                // What is too long for its way is cut again if it is IPv4, and may not be if it is IPv6.
                at.extend((1..).map(|n| n * 175).take(if v6 { 5 } else { 0 }));
                at
            },
            order,
            burst,
            headers: Headers {
                before: FIRST[headers % 4],
                behind: NEXT[headers / 4],
            },
        })
}

impl Cutting {
    /// A datagram with this key, in fragments, in some order.
    fn fragments(&self, key: &FlowKey, ident: u32) -> Vec<Vec<u8>> {
        let parts = parts(&emit::udp(key, &pattern(self.len)), self.headers);
        let pieces: Vec<_> = cuts(parts.1.len(), &self.at)
            .into_iter()
            .map(|place| fragment(&parts, place, ident))
            .collect();
        shuffle(&pieces, &self.order)
    }
}

fn config() -> ProptestConfig {
    ProptestConfig {
        // The seed of a failure is printed.
        failure_persistence: None,
        ..ProptestConfig::with_cases(60)
    }
}

proptest! {
    #![proptest_config(config())]

    /// There and back, in any order.
    // case LNX-017: random fragment order, in both families.
    // case GVI-001: trains in any order, cut anywhere: whole at the other end, or nothing.
    #[test]
    fn a_datagram_in_any_fragments_in_any_order_comes_out_translated(
        there in cutting(),
        back in cutting(),
        rig in 0..RIGS.len(),
        snat in 0..SNAT.len(),
        extra in any::<bool>(),
    ) {
        let mut site = Site::new(RIGS[rig], SNAT[snat]);
        let key = key(there.v6, 7);
        let mut sent = there.fragments(&key, 77);
        if sent.len() == 1 {
            return Ok(());
        }
        if extra {
            // A duplicate before the rest has come.
            sent.insert(1, sent[0].clone());
        }
        let out = site.through(0, &sent, there.burst);
        // A duplicate that another worker took up may come after the rest: it begins a datagram that never
        // becomes whole.
        let all = if extra { whole_ones(&out) } else { whole(&out) };
        prop_assert_eq!(all.len(), 1);
        let (to, payload) = &all[0];
        prop_assert_eq!(payload, &pattern(there.len));
        prop_assert_eq!(to.dport(), L4Port(5353));
        prop_assert_eq!(to.src == key.src, snat == 0);

        prop_assume!(back.v6 == there.v6);
        let reply = back.fragments(&to.inverted(), 78);
        if reply.len() == 1 {
            return Ok(());
        }
        let all = whole(&site.through(1, &reply, back.burst));
        prop_assert_eq!(all, [(key.inverted(), pattern(back.len))]);
        prop_assert_eq!(site.counter("flows"), 1);
        let rig = site.rig();
        prop_assert!(rig.workers().iter().all(|worker| worker.pipeline().trains().len() <= 2));
    }

    /// Whoever adds something that overlaps gets nothing through but what is right.
    // case OVS-025: an overlap in or out of order condemns the datagram, and leaves nothing behind.
    #[test]
    fn what_overlaps_never_makes_a_datagram(
        cutting in cutting(),
        at in 0u16..700,
        len in 1usize..900,
        place in 0usize..20,
        rig in 0..RIGS.len(),
    ) {
        let mut site = Site::new(RIGS[rig], SNAT[1]);
        let key = key(cutting.v6, 7);
        let parts = parts(&emit::udp(&key, &pattern(cutting.len)), cutting.headers);
        let start = (usize::from(at) * 8 % parts.1.len()) & !7;
        let end = (start + len).min(parts.1.len());
        let end = if end < parts.1.len() { (end & !7).max(start + 8) } else { end };
        prop_assume!(end <= parts.1.len());
        let mut forged = parts.clone();
        for octet in &mut forged.1 {
            *octet ^= 0xff;
        }
        let mut sent = cutting.fragments(&key, 77);
        prop_assume!(sent.len() > 1);
        let place = place % sent.len();
        let same = cuts(parts.1.len(), &cutting.at).contains(&(start, end));
        sent.insert(place, fragment(&forged, (start, end), 77));
        let out = site.through(0, &sent, cutting.burst);
        let assembler = assemble(&out);
        // Whose place is exactly that of another is the duplicate or has one: whichever came first counts,
        // as everywhere, and the checksum tells.
        // Of several workers, another may take it up when the datagram is whole already; and what is forged of
        // its beginning may be no packet at all, which is dropped before it is anybody's part.
        if !same && rig == 0 && start > 0 {
            prop_assert!(assembler.done.is_empty());
        } else if !same {
            for done in &assembler.done {
                prop_assert_eq!(read(done).1, pattern(cutting.len));
            }
        }
        // Time ends it all.
        site.rig().advance(NOW + Duration::from_secs(100));
        for worker in site.rig().workers() {
            prop_assert!(worker.pipeline().trains().is_empty());
        }
    }
}

// case OVS-026: fragment header behind hop-by-hop, routing and destination options, in and out of order.
#[test]
fn fragments_behind_several_extension_headers_follow_their_first() {
    let variants: [&[u8]; 4] = [&[0], &[0, 60], &[0, 60, 43], &[0, 43, 60]];
    for before in variants {
        for reversed in [false, true] {
            let mut site = Site::new(RIGS[0], SNAT[1]);
            let key = key(true, 7);
            let headers = Headers {
                before,
                behind: &[60],
            };
            let parts = parts(&emit::udp(&key, &pattern(3000)), headers);
            let mut sent: Vec<_> = cuts(parts.1.len(), &[100, 200])
                .into_iter()
                .map(|place| fragment(&parts, place, 5))
                .collect();
            if reversed {
                sent.reverse();
            }
            let all = whole(&site.through(0, &sent, 1));
            assert_eq!(all.len(), 1, "{before:?}");
            assert_eq!(all[0].1, pattern(3000));
            assert_eq!(all[0].0.dport(), L4Port(5353));
        }
    }
}

#[test]
fn datagrams_of_many_clients_behind_one_address_are_not_mixed_up() {
    for rig in RIGS {
        let mut site = Site::new(rig, SNAT[1]);
        let mut sent: [Vec<Vec<u8>>; 2] = Default::default();
        for client in 10..210 {
            let key = key(false, client);
            let parts = parts(&emit::udp(&key, &[client; 1000]), Headers::default());
            for (half, place) in sent.iter_mut().zip(cuts(1008, &[63])) {
                half.push(fragment(&parts, place, 7));
            }
        }
        let out = site.through(0, &sent.concat(), 32);
        let idents: HashSet<_> = out.iter().map(|l3| [l3[4], l3[5]]).collect();
        assert_eq!(idents.len(), 200, "one identification each");
        let all = whole(&out);
        assert_eq!(all.len(), 200);
        for (_, payload) in all {
            assert_eq!(payload, [payload[0]; 1000]);
        }
    }
}

/// A flood of fragments of datagrams that never become whole, from sources that do not exist.
// case VPPI-013: the table of datagrams is limited, and the oldest give way.
// case VPPI-011: duplicates and fragments without end take no more memory than there is.
#[test]
fn a_flood_of_fragments_is_bounded_and_touches_no_established_flow() {
    let mut site = Site::new("rig flows=1000", SNAT[0]);
    let lines = [
        "> 1.1 100 client>tmm1 tcp 192.0.2.7:40001>203.0.113.10:80 S seq=1000",
        "> 1.2 200 b1>tmm2 tcp 198.51.100.11:8080>192.0.2.7:40001 S. seq=9000 ack=1001",
        "> 1.1 100 client>tmm1 tcp 192.0.2.7:40001>203.0.113.10:80 . seq=1001 ack=9001",
    ];
    for line in lines {
        site.stage.run(line).unwrap();
    }
    let flood = |number: u32, place: (usize, usize)| {
        let [_, a, b, c] = number.to_be_bytes();
        let key = FlowKey::new(
            Addr::from_v4([100 + a, b, c, 1]),
            Addr::from_v4([203, 0, 113, 10]),
            L4Port(1000),
            L4Port(53),
            IpProto::UDP,
        );
        let parts = parts(&emit::udp(&key, &[0; 100]), Headers::default());
        fragment(&parts, place, number & 0xffff)
    };
    let mut times = Vec::new();
    for round in 0..3000u32 {
        // First fragments open flows, as any packet does; later ones wait.
        let packets: Vec<_> = (0..32)
            .map(|n| {
                let place = if n % 2 == 0 { (0, 56) } else { (56, 108) };
                flood(round * 32 + n, place)
            })
            .collect();
        let begun = Instant::now();
        let out = site.through(0, &packets, 32);
        times.push(begun.elapsed());
        assert_eq!(out.len(), 16);
        let trains = site.rig().worker().pipeline().trains();
        assert!(trains.len() <= CAPACITY);
    }
    // Full or not, it takes the same time; generous, as others use the machine.
    let median = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort_unstable();
        times[times.len() / 2]
    };
    let (empty, full) = (median(&times[..100]), median(&times[2900..]));
    println!(
        "a burst of 32, half of which wait: {empty:?} with tables empty, {full:?} with tables full"
    );
    assert!(
        full < empty * 5 + Duration::from_millis(1),
        "{empty:?} {full:?}"
    );
    let counted = site.counter("drop.fragments_full");
    let waited = site.counter("fragments_waited_packets");
    assert_eq!(waited, 3000 * 16);
    assert_eq!(
        counted,
        waited - PLACES as u64,
        "all but those that wait now"
    );
    // The connection is there, and goes on.
    let data =
        "> 1.1 100 client>tmm1 tcp 192.0.2.7:40001>203.0.113.10:80 P. seq=1001 ack=9001 len=10";
    let lines = site.stage.run(data).unwrap();
    assert!(lines[0].contains("forwarded original"), "{lines:?}");
    // And a datagram in fragments gets through, in order.
    let key = key(false, 7);
    let parts = parts(&emit::udp(&key, &pattern(2000)), Headers::default());
    let sent: Vec<_> = cuts(2008, &[100])
        .into_iter()
        .map(|place| fragment(&parts, place, 3))
        .collect();
    assert_eq!(whole(&site.through(0, &sent, 1)).len(), 1);
    // After a while nothing is left of it.
    site.rig().advance(NOW + Duration::from_secs(100));
    let trains = site.rig().worker().pipeline().trains();
    assert!(trains.is_empty());
}

// case VPPI-011: a long chain of small fragments, as long as a datagram can be, is whole behind tmm.
#[test]
fn the_longest_datagram_passes_in_fragments_of_the_usual_size() {
    for v6 in [false, true] {
        let mut site = Site::new(RIGS[1], SNAT[1]);
        let payload = if v6 { 65_000 } else { 65_507 };
        let parts = parts(
            &emit::udp(&key(v6, 7), &pattern(payload)),
            Headers::default(),
        );
        let each = if v6 { 154 } else { 185 };
        let places: Vec<u16> = (1..=60).map(|n| n * each).collect();
        let mut sent: Vec<_> = cuts(parts.1.len(), &places)
            .into_iter()
            .map(|place| fragment(&parts, place, 3))
            .collect();
        for _ in 0..2 {
            let out = site.through(0, &sent, 7);
            assert_eq!(out.len(), sent.len());
            assert_eq!(whole(&out)[0].1, pattern(payload));
            sent.reverse();
        }
    }
}
