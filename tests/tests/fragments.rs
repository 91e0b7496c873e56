//! Datagrams cut into fragments at random, through tmm, and put together behind it by somebody else: what
//! comes out is the translated datagram, or not all of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use dataplane::memory::MemoryFrame;
use dataplane::rig::{Rig, port_mac};
use dataplane::trains::{CAPACITY, PLACES};
use net::emit::{self, ethernet};
use net::{
    Addr, Encap, FlowKey, IpProto, L4Port, Layers, MacAddr, Packet, PortId, RxMeta, Timestamp,
    VlanId,
};
use proptest::prelude::*;
use tests::scenario::{Stage, pattern};

const NOW: Timestamp = Timestamp::from_secs(5);
const CLIENT: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const MEMBER: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);

/// The two VLANs of `base.scn` around a tmm.
struct Site<'a> {
    stage: Stage<'a>,
}

impl Site<'_> {
    fn new(rig: &str, snat: &str) -> Self {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios"));
        let mut stage = Stage::new(folder);
        for line in [
            rig,
            "use base",
            &format!(
                "apply F5SPKIngressUDP dns service=web:53 destinationAddress=203.0.113.10 \
                 ipv6destinationAddress=2001:db8:f::10 destinationPort=53 snat={snat}"
            ),
            "publish",
        ] {
            stage.run(line).unwrap();
        }
        Self { stage }
    }

    fn rig(&mut self) -> &mut Rig {
        self.stage.rig()
    }

    fn counter(&mut self, name: &str) -> u64 {
        self.rig().control().counters()[name]
    }

    /// Sends packets by a port, `burst` at a time, and gives those that leave by the other.
    fn through(&mut self, port: u8, packets: &[Vec<u8>], burst: usize) -> Vec<Vec<u8>> {
        let (vid, station) = if port == 0 {
            (100, CLIENT)
        } else {
            (200, MEMBER)
        };
        let encap = Encap::tagged(VlanId::new(vid).unwrap());
        let mut left = Vec::new();
        let rig = self.rig();
        for some in packets.chunks(burst) {
            for l3 in some {
                let kind = if l3[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
                let frame = ethernet(port_mac(PortId(port)), station, encap, kind, l3);
                rig.send(PortId(port), MemoryFrame::new(&frame));
            }
            rig.advance(NOW);
            while let Some(frame) = rig.receive(PortId(1 - port)) {
                left.push(frame.octets()[18..].to_vec());
            }
        }
        left
    }
}

fn key(v6: bool, client: u8) -> FlowKey {
    let (src, dst) = if v6 {
        let addr = |text: &str| {
            let addr: std::net::Ipv6Addr = text.parse().unwrap();
            Addr::from_v6(addr.octets())
        };
        (
            addr(&format!("2001:db8:1::{client}")),
            addr("2001:db8:f::10"),
        )
    } else {
        (
            Addr::from_v4([192, 0, 2, client]),
            Addr::from_v4([203, 0, 113, 10]),
        )
    };
    FlowKey::new(src, dst, L4Port(5000), L4Port(53), IpProto::UDP)
}

/// Extension headers of eight octets each: those before the fragment header, and those behind it.
#[derive(Debug, Clone, Copy, Default)]
struct Headers {
    before: &'static [u8],
    behind: &'static [u8],
}

/// What stands before the fragment header, what is cut into fragments, and the kind of its first header.
fn parts(whole: &[u8], headers: Headers) -> (Vec<u8>, Vec<u8>, u8) {
    let v4 = whole[0] >> 4 == 4;
    if v4 {
        return (whole[..20].to_vec(), whole[20..].to_vec(), 0);
    }
    let mut before = whole[..40].to_vec();
    let chain = |kinds: &[u8], last: u8| -> (u8, Vec<u8>) {
        let mut octets = Vec::new();
        for (at, _) in kinds.iter().enumerate() {
            let next = kinds.get(at + 1).copied().unwrap_or(last);
            // Routing headers with no segments left; options are padding.
            octets.extend(if kinds[at] == 43 {
                [next, 0, 0, 0, 0, 0, 0, 0]
            } else {
                [next, 0, 1, 4, 0, 0, 0, 0]
            });
        }
        (kinds.first().copied().unwrap_or(last), octets)
    };
    let (first, octets) = chain(headers.behind, 17);
    let payload = [octets, whole[40..].to_vec()].concat();
    let (next, octets) = chain(headers.before, 44);
    before[6] = next;
    before.extend(octets);
    (before, payload, first)
}

/// The fragment of `payload` from `start` to `end`.
fn fragment(
    (before, payload, first): &(Vec<u8>, Vec<u8>, u8),
    (start, end): (usize, usize),
    ident: u32,
) -> Vec<u8> {
    let more = end < payload.len();
    let mut l3 = before.clone();
    let place = u16::try_from(start / 8).unwrap();
    if l3[0] >> 4 == 4 {
        l3.extend(&payload[start..end]);
        let len = u16::try_from(l3.len()).unwrap();
        l3[2..4].copy_from_slice(&len.to_be_bytes());
        l3[4..6].copy_from_slice(&u16::try_from(ident).unwrap().to_be_bytes());
        l3[6..8].copy_from_slice(&(place | u16::from(more) << 13).to_be_bytes());
        l3[10..12].fill(0);
        let sum = net::checksum::of(&l3[..20]);
        l3[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        let [a, b] = (place << 3 | u16::from(more)).to_be_bytes();
        l3.extend([*first, 0, a, b]);
        l3.extend(ident.to_be_bytes());
        l3.extend(&payload[start..end]);
        let len = u16::try_from(l3.len() - 40).unwrap();
        l3[4..6].copy_from_slice(&len.to_be_bytes());
    }
    l3
}

type Parts = (Vec<u8>, Vec<Option<u8>>, Option<usize>);

/// One who puts datagrams together: knows nothing but what is in the fragments.
#[derive(Default)]
struct Assembler {
    /// By what names a datagram: its header, its octets as far as they have come, and its length.
    open: BTreeMap<(Vec<u8>, u32), Parts>,
    done: Vec<Vec<u8>>,
}

impl Assembler {
    fn take(&mut self, l3: &[u8]) {
        let v4 = l3[0] >> 4 == 4;
        let (header, ident, place, more, next) = if v4 {
            let field = u16::from_be_bytes([l3[6], l3[7]]);
            assert_eq!(net::checksum::of(&l3[..20]), 0, "wrong header checksum");
            let ident = u32::from(u16::from_be_bytes([l3[4], l3[5]]));
            (
                20,
                ident,
                usize::from(field & 0x1fff) * 8,
                field & 0x2000 != 0,
                None,
            )
        } else {
            let (mut kind, mut at) = (l3[6], 40);
            while kind != 44 {
                kind = l3[at];
                at += 8;
            }
            let field = u16::from_be_bytes([l3[at + 2], l3[at + 3]]);
            let ident = u32::from_be_bytes(l3[at + 4..at + 8].try_into().unwrap());
            (
                at + 8,
                ident,
                usize::from(field & !7),
                field & 1 != 0,
                Some(l3[at]),
            )
        };
        let end = if v4 {
            usize::from(u16::from_be_bytes([l3[2], l3[3]]))
        } else {
            40 + usize::from(u16::from_be_bytes([l3[4], l3[5]]))
        };
        let payload = &l3[header..end];
        let name = (l3[if v4 { 12..20 } else { 8..40 }].to_vec(), ident);
        let entry = self.open.entry(name.clone()).or_default();
        if place == 0 {
            entry.0 = l3[..header].to_vec();
        }
        let octets = &mut entry.1;
        octets.resize(octets.len().max(place + payload.len()), None);
        for (room, octet) in octets[place..].iter_mut().zip(payload) {
            assert!(room.is_none(), "fragments that left overlap");
            *room = Some(*octet);
        }
        if !more {
            entry.2 = Some(place + payload.len());
        }
        let complete = entry.2 == Some(entry.1.len()) && entry.1.iter().all(Option::is_some);
        if complete {
            let (mut header, octets, _) = self.open.remove(&name).unwrap();
            let octets: Vec<u8> = octets.into_iter().flatten().collect();
            if v4 {
                header[6..8].fill(0);
                let len = u16::try_from(20 + octets.len()).unwrap();
                header[2..4].copy_from_slice(&len.to_be_bytes());
                header[10..12].fill(0);
                let sum = net::checksum::of(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
            } else {
                header.truncate(40);
                header[6] = next.unwrap();
                let len = u16::try_from(octets.len()).unwrap();
                header[4..6].copy_from_slice(&len.to_be_bytes());
            }
            self.done.push([header, octets].concat());
        }
    }
}

/// Reads a whole packet; its checksums must be right.
fn read(l3: &[u8]) -> (FlowKey, Vec<u8>) {
    let kind = if l3[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    let mut frame = ethernet(CLIENT, MEMBER, Encap::UNTAGGED, kind, l3);
    let len = frame.len();
    let packet = Packet::new(&mut frame, 0, len, RxMeta::default());
    let layers = Layers::parse(&packet).expect("what is put together is well formed");
    (
        layers.key,
        packet.data()[layers.payload..layers.end].to_vec(),
    )
}

/// Where to cut, in eights.
fn cuts(total: usize, at: &[u16]) -> Vec<(usize, usize)> {
    let mut places: Vec<usize> = at
        .iter()
        .map(|at| usize::from(*at) * 8)
        .filter(|at| *at > 0 && *at < total)
        .collect();
    places.extend([0, total]);
    places.sort_unstable();
    places.dedup();
    places.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

/// Orders by random numbers.
fn shuffle<T: Clone>(all: &[T], order: &[u32]) -> Vec<T> {
    let mut tagged: Vec<(u32, usize)> = all
        .iter()
        .enumerate()
        .map(|(at, _)| {
            (
                order[at % order.len()].rotate_left(u32::try_from(at % 32).unwrap()),
                at,
            )
        })
        .collect();
    tagged.sort_unstable();
    tagged.iter().map(|(_, at)| all[*at].clone()).collect()
}

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

fn assemble(pieces: &[Vec<u8>]) -> Assembler {
    let mut assembler = Assembler::default();
    for piece in pieces {
        assembler.take(piece);
    }
    assembler
}

/// The datagrams that fragments amount to, of which none may be left.
fn whole(pieces: &[Vec<u8>]) -> Vec<(FlowKey, Vec<u8>)> {
    let assembler = assemble(pieces);
    assert!(assembler.open.is_empty(), "not all of it came out");
    assembler.done.iter().map(|whole| read(whole)).collect()
}

fn whole_ones(pieces: &[Vec<u8>]) -> Vec<(FlowKey, Vec<u8>)> {
    let done = assemble(pieces).done;
    done.iter().map(|whole| read(whole)).collect()
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
