//! The generator's judgement: whatever is changed in a frame on its way, one side or the other says so, and
//! says what.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)] // its helpers are part of the tests

mod pktgen_support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use benches::pktgen::check::Kind;
use benches::pktgen::client::Job;
use benches::pktgen::engine::Engine;
use benches::pktgen::flows::Proto;
use benches::pktgen::link::{Burst, Link};
use benches::pktgen::mix::Mix;
use benches::pktgen::setup::Setup;
use net::{MacAddr, Timestamp};
use pktgen_support::{CLIENT, setup};
use proptest::prelude::*;

/// Frames in a vector: what a link sent, or is to receive.
#[derive(Clone, Default)]
struct Store(Rc<RefCell<Vec<Vec<u8>>>>);

/// A link whose wire is two vectors.
struct Tap {
    to: Store,
    from: Store,
}

impl Link for Tap {
    type Frame = Vec<u8>;

    fn receive(&mut self, into: &mut Burst<Vec<u8>>) {
        let mut waiting = self.to.0.borrow_mut();
        let count = waiting.len().min(into.remaining_capacity());
        into.extend(waiting.drain(..count));
    }

    fn allocate(&mut self, into: &mut Burst<Vec<u8>>, count: usize) {
        into.extend((0..count).map(|_| Vec::new()));
    }

    fn transmit(&mut self, frames: &mut Burst<Vec<u8>>) {
        self.from.0.borrow_mut().extend(frames.drain(..));
    }
}

const GATEWAY: MacAddr = MacAddr([2, 0x74, 0x6d, 0x6d, 0, 1]);
const INSIDE: MacAddr = MacAddr([2, 0x74, 0x6d, 0x6d, 0, 2]);

/// The generator, and a translator that does nothing wrong.
struct Bench {
    engine: Engine<Tap>,
    client: [Store; 2],
    server: [Store; 2],
    setup: Setup,
    now: Timestamp,
}

/// Where things are in a tagged frame.
fn l4(frame: &[u8]) -> usize {
    if frame[16..18] == [0x08, 0x00] {
        38
    } else {
        58
    }
}

fn ones(data: &[u8]) -> u64 {
    data.chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
        .sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Writes both checksums anew.
fn repair(frame: &mut [u8]) {
    let l4 = l4(frame);
    let v4 = l4 == 38;
    let (end, proto, addresses) = if v4 {
        frame[28..30].fill(0);
        let sum = !fold(ones(&frame[18..38]));
        frame[28..30].copy_from_slice(&sum.to_be_bytes());
        let total = usize::from(u16::from_be_bytes([frame[20], frame[21]]));
        (18 + total, frame[27], 30..38)
    } else {
        let len = usize::from(u16::from_be_bytes([frame[22], frame[23]]));
        (58 + len, frame[24], 26..58)
    };
    let field = l4 + if proto == 6 { 16 } else { 6 };
    frame[field..field + 2].fill(0);
    let pseudo = ones(&frame[addresses]) + u64::from(proto) + (end - l4) as u64;
    let sum = match !fold(pseudo + ones(&frame[l4..end])) {
        0 => 0xffff,
        sum => sum,
    };
    frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

impl Bench {
    fn new(proto: Proto, v4: bool, size: u16) -> Self {
        let mut setup = setup(proto, "SRC_TRANS_AUTOMAP", 10, Mix::fixed(size));
        setup.virtual_servers.retain(|s| s.is_ipv4() == v4);
        setup.client.gateway_mac = Some(GATEWAY);
        setup.server.gateway_mac = Some(INSIDE);
        setup.handshake = false;
        let (client, server) = (<[Store; 2]>::default(), <[Store; 2]>::default());
        let tap = |stores: &[Store; 2]| Tap {
            to: stores[0].clone(),
            from: stores[1].clone(),
        };
        let mut engine = setup.engine(tap(&client), Some(tap(&server))).unwrap();
        engine.client_mut().declare(true);
        Self {
            engine,
            client,
            server,
            setup,
            now: Timestamp::from_secs(100),
        }
    }

    fn turn(&mut self) {
        self.now = self.now + Duration::from_micros(10);
        let now = self.now;
        self.engine.turn(|| now);
    }

    /// One request as the clients sent it.
    fn request(&mut self) -> Vec<u8> {
        self.engine
            .client_mut()
            .begin(Job::Data, Some(100_000.0), self.now);
        self.turn();
        self.engine
            .client_mut()
            .begin(Job::Idle, Some(1.0), self.now);
        self.client[1].0.borrow_mut().pop().unwrap()
    }

    /// What a translator makes of a request: member 1 for the virtual server, the self IP and
    /// the same port for the client.
    fn forward(&self, frame: &mut [u8]) {
        let l4 = l4(frame);
        frame[..6].copy_from_slice(&self.setup.server.mac.0);
        frame[6..12].copy_from_slice(&INSIDE.0);
        frame[15] = 200;
        let member = &self.setup.members[usize::from(l4 == 58)];
        if l4 == 38 {
            frame[26] -= 1;
            frame[30..34].copy_from_slice(&[198, 51, 100, 1]);
            frame[34..38].copy_from_slice(&[198, 51, 100, 11]);
        } else {
            frame[25] -= 1;
            let own: std::net::Ipv6Addr = "2001:db8:200::1".parse().unwrap();
            let target: std::net::Ipv6Addr = "2001:db8:200::11".parse().unwrap();
            frame[26..42].copy_from_slice(&own.octets());
            frame[42..58].copy_from_slice(&target.octets());
        }
        frame[l4 + 2..l4 + 4].copy_from_slice(&member.port().to_be_bytes());
        repair(frame);
    }

    /// What it makes of the reply to `request`.
    fn back(frame: &mut [u8], request: &[u8]) {
        let l4 = l4(frame);
        frame[..6].copy_from_slice(&CLIENT.0);
        frame[6..12].copy_from_slice(&GATEWAY.0);
        frame[15] = 100;
        if l4 == 38 {
            frame[26] -= 1;
            frame[30..34].copy_from_slice(&request[34..38]);
            frame[34..38].copy_from_slice(&request[30..34]);
        } else {
            frame[25] -= 1;
            frame[26..42].copy_from_slice(&request[42..58]);
            frame[42..58].copy_from_slice(&request[26..42]);
        }
        frame[l4..l4 + 2].copy_from_slice(&request[l4 + 2..l4 + 4]);
        frame[l4 + 2..l4 + 4].copy_from_slice(&request[l4..l4 + 2]);
        repair(frame);
    }

    /// Hands a frame to one side and says what it found wrong, and whether it took it for a frame of
    /// the test that is as it should be.
    fn judge(&mut self, at_server: bool, frame: Vec<u8>) -> (Vec<Kind>, bool) {
        let before = self.engine.counters();
        let stores = if at_server {
            &self.server
        } else {
            &self.client
        };
        stores[0].0.borrow_mut().push(frame);
        self.turn();
        let after = self.engine.counters();
        let (client, server) = (after.0.since(&before.0), after.1.since(&before.1));
        let counters = if at_server { server } else { client };
        let kinds: Vec<Kind> = counters.mismatches.iter().map(|(kind, _)| kind).collect();
        assert_eq!(counters.faulty, u64::from(!kinds.is_empty()));
        (kinds.clone(), counters.received == 1 && kinds.is_empty())
    }

    /// A request and its reply, both as they should arrive.
    fn exchange(&mut self) -> (Vec<u8>, Vec<u8>) {
        let request = self.request();
        let mut there = request.clone();
        self.forward(&mut there);
        assert_eq!(self.judge(true, there.clone()), (vec![], true));
        let mut reply = self.server[1].0.borrow_mut().pop().unwrap();
        // The reply of a server has right checksums before they are written anew.
        let own = reply.clone();
        repair(&mut reply);
        assert_eq!(own, reply);
        Self::back(&mut reply, &request);
        (there, reply)
    }
}

/// All cases: protocol, family, size.
fn cases() -> Vec<(Proto, bool, u16)> {
    let mut all = Vec::new();
    for proto in [Proto::Udp, Proto::Tcp] {
        for v4 in [true, false] {
            for size in [64, 100, 200] {
                all.push((proto, v4, size));
            }
        }
    }
    all
}

#[test]
fn what_is_right_is_called_right() {
    for (proto, v4, size) in cases() {
        let mut bench = Bench::new(proto, v4, size);
        for _ in 0..20 {
            let (_, reply) = bench.exchange();
            assert_eq!(
                bench.judge(false, reply),
                (vec![], true),
                "{proto} {v4} {size}: {:#?}",
                bench.engine.client().samples()
            );
        }
    }
}

/// A field, where it is, and what is wrong when it is changed and the checksums are not.
fn fields(frame: &[u8], at_server: bool) -> Vec<(&'static str, usize, Kind)> {
    let l4 = l4(frame);
    let (ttl, src, dst) = if l4 == 38 { (26, 33, 37) } else { (25, 41, 57) };
    let class = 19;
    let mut all = vec![
        ("destination station", 5, Kind::DestinationMac),
        ("source station", 11, Kind::SourceMac),
        ("tag", 15, Kind::Vlan),
        ("hop limit", ttl, Kind::Ttl),
        ("class", class, Kind::Class),
        ("source", src, Kind::Source),
        ("destination", dst, Kind::Destination),
        ("destination port", l4 + 3, Kind::DestinationPort),
        ("source port", l4 + 1, Kind::SourcePort),
    ];
    if at_server {
        // Sources are translated to any port, but not to two.
        all.pop();
        all.push(("source port", l4 + 1, Kind::Moved));
    }
    all
}

#[test]
fn every_field_that_a_translator_may_get_wrong_is_named() {
    for (proto, v4, size) in cases() {
        for at_server in [true, false] {
            let count = fields(&[0x08; 90], at_server).len();
            for index in 0..count {
                let mut bench = Bench::new(proto, v4, size);
                // Every flow is known, so that one that moves shows.
                while bench.engine.counters().1.received < 100 {
                    bench.exchange();
                }
                let (there, reply) = bench.exchange();
                let mut frame = if at_server { there } else { reply };
                let (name, at, kind) = fields(&frame, at_server)[index];
                frame[at] ^= 0x20;
                repair(&mut frame);
                let (kinds, good) = bench.judge(at_server, frame);
                let what = format!("{proto} {v4} {size} {name}, server {at_server}: {kinds:?}");
                // The least of stamps names no flow: at the servers, one that changes its
                // port cannot be told.
                let bare = proto == Proto::Tcp && v4 && size == 64;
                if bare && kind == Kind::Moved {
                    continue;
                }
                // Nor can a client tell of which flow what is not for it was.
                if bare && !at_server && matches!(kind, Kind::Destination | Kind::DestinationPort) {
                    assert!(
                        kinds.contains(&Kind::Flow) || kinds.contains(&kind),
                        "{what}"
                    );
                } else {
                    assert!(kinds.contains(&kind), "{what}");
                }
                assert!(!good, "{what}");
            }
        }
    }
}

#[test]
fn wrong_checksums_payloads_and_lengths_are_named() {
    for (proto, v4, size) in cases() {
        let mut bench = Bench::new(proto, v4, size);
        let checksum = if proto == Proto::Udp { 6 } else { 16 };
        let mut check = |change: &dyn Fn(&mut Vec<u8>), kind: Kind| {
            for at_server in [true, false] {
                let (there, reply) = bench.exchange();
                let mut frame = if at_server { there } else { reply };
                change(&mut frame);
                let (kinds, _) = bench.judge(at_server, frame);
                assert!(
                    kinds.contains(&kind),
                    "{proto} {v4} {size}, server {at_server}: {kinds:?}, not {kind}"
                );
            }
        };
        check(
            &|frame| {
                let at = l4(frame) + checksum;
                frame[at] ^= 1;
            },
            Kind::L4Checksum,
        );
        if v4 {
            check(&|frame| frame[28] ^= 1, Kind::IpChecksum);
        }
        // In a smaller frame the last octets are the stamp's: the number or the time would change.
        if size < 200 {
            continue;
        }
        check(
            &|frame| {
                // The last octet of the payload, with a right checksum; padding is not ours.
                let end = if frame[16..18] == [0x08, 0x00] {
                    18 + usize::from(u16::from_be_bytes([frame[20], frame[21]]))
                } else {
                    frame.len()
                };
                frame[end - 1] ^= 1;
                repair(frame);
            },
            Kind::Payload,
        );
    }
}

#[test]
fn frames_cut_short_are_malformed() {
    for (proto, v4, size) in cases() {
        let mut bench = Bench::new(proto, v4, size);
        let (_, mut reply) = bench.exchange();
        reply.truncate(l4(&reply) + 8);
        assert_eq!(bench.judge(false, reply), (vec![Kind::Malformed], false));
    }
}

#[test]
fn duplicates_reordering_and_old_frames_are_told_apart() {
    let mut bench = Bench::new(Proto::Udp, true, 128);
    // Ten flows take turns, so every eleventh exchange is of the same flow.
    let mut replies: Vec<Vec<u8>> = (0..30).map(|_| bench.exchange().1).collect();
    let before = bench.engine.counters().0;
    replies.swap(0, 10);
    let again = replies[5].clone();
    replies.push(again);
    for reply in replies {
        assert_eq!(bench.judge(false, reply).0, vec![]);
    }
    let counted = bench.engine.counters().0.since(&before);
    assert_eq!(counted.received, 30);
    assert_eq!(counted.duplicates, 1);
    // Orders are at random, so the swapped ones need not be of one flow.
    assert!(counted.reordered <= 1);
    let (_, late) = bench.exchange();
    let now = bench.now + Duration::from_micros(10);
    bench.engine.client_mut().begin_trial(now);
    assert_eq!(bench.judge(false, late), (vec![], false));
    assert_eq!(bench.engine.counters().0.late, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_changed_octet_goes_unnoticed(
        case in 0usize..12, at_server in any::<bool>(), place in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let (proto, v4, size) = cases()[case];
        let mut bench = Bench::new(proto, v4, size);
        let (there, reply) = bench.exchange();
        let mut frame = if at_server { there } else { reply };
        let end = if v4 {
            18 + usize::from(u16::from_be_bytes([frame[20], frame[21]]))
        } else {
            frame.len()
        };
        let at = place.index(end);
        // The priority in the tag is nobody's promise.
        prop_assume!(at != 14 || flip & 0x0f != 0);
        frame[at] ^= flip;
        let (kinds, good) = bench.judge(at_server, frame);
        prop_assert!(!good, "octet {} ^ {:#x}: {:?}", at, flip, kinds);
    }
}
