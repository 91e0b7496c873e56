//! What each packet does to the state of its flow, as tables: who sends, flags, sequence number,
//! acknowledgement, payload, and what must come of it.
#![allow(clippy::unwrap_used)]

mod anew;
#[path = "../common/mod.rs"]
mod common;
mod strangers;

use common::{new_flow, secs, segment, table};
use conntrack::Direction::{Original, Reply};
use conntrack::State::{
    CloseWait, Closed, Established, FinWait, LastAck, SynReceived, SynSent, TimeWait,
};
use conntrack::{Direction, Invalid, Observed, Segment, State, TcpSegment};
use net::{IpProto, Timestamp};

/// What must come of a segment.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// Accepted, and this is the state afterwards.
    Go(State),
    /// A new connection may begin.
    Reopen,
    /// Refused, and nothing changed.
    Bad(Invalid),
}
use Then::{Bad, Go, Reopen};

type Step = (Direction, &'static str, u32, u32, u32, Then);

const HANDSHAKE: [Step; 3] = [
    (Original, "S", 1000, 0, 0, Go(SynSent)),
    (Reply, "SA", 9000, 1001, 0, Go(SynReceived)),
    (Original, "A", 1001, 9001, 0, Go(Established)),
];

/// Both sides close in turn, the client first.
const CLOSE: [Step; 4] = [
    (Original, "FA", 1001, 9001, 0, Go(FinWait)),
    (Reply, "A", 9001, 1002, 0, Go(CloseWait)),
    (Reply, "FA", 9001, 1002, 0, Go(LastAck)),
    (Original, "A", 1002, 9002, 0, Go(TimeWait)),
];

/// Runs the steps on a new flow, with every sequence number moved by `shift` so that the
/// arithmetic wraps at each place once.
fn run_shifted(steps: &[Step], shift: u32) {
    let mut table = table(4);
    let id = table
        .insert(new_flow(IpProto::TCP, 7), Timestamp::ZERO)
        .unwrap();
    let mut packets = [0; 2];
    for (n, &(direction, flags, seq, ack, payload, then)) in steps.iter().enumerate() {
        let ack = if flags.contains('A') {
            ack.wrapping_add(shift)
        } else {
            ack
        };
        let packet = segment(flags, seq.wrapping_add(shift), ack, payload);
        let before = **table.get(id).as_ref().unwrap();
        let seen = table.observe(id, direction, &packet, secs(1 + n as u64));
        let after = table.get(id).unwrap();
        let at = format!("step {n}, {direction:?} {flags} {seq} {ack}, shift {shift}");
        match then {
            Go(state) => {
                let new_state = (state != before.state()).then_some(state);
                assert_eq!(seen, Observed::Accept { new_state }, "{at}");
                assert_eq!(after.state(), state, "{at}");
                packets[direction as usize] += 1;
            }
            Reopen => assert_eq!(seen, Observed::Reopen, "{at}"),
            Bad(reason) => {
                assert_eq!(seen, Observed::Invalid(reason), "{at}");
                assert_eq!(after.state(), before.state(), "{at}");
                assert_eq!(after.last_seen(), before.last_seen(), "{at}");
            }
        }
        for direction in [Original, Reply] {
            assert_eq!(
                after.packets(direction),
                packets[direction as usize],
                "{at}"
            );
        }
        for state in State::ALL {
            let there = u32::from(state == after.state());
            assert_eq!(table.stats().in_state(state), there, "{at}");
        }
    }
}

fn run(steps: &[Step]) {
    for shift in [
        0,
        1 << 31,
        u32::MAX - 999,
        u32::MAX - 1000,
        u32::MAX - 1001,
        u32::MAX - 8999,
        u32::MAX - 9000,
        u32::MAX - 9001,
    ] {
        run_shifted(steps, shift);
    }
}

fn run_after(prefix: &[&[Step]], steps: &[Step]) {
    run(&[&prefix.concat(), steps].concat());
}

#[test]
fn a_connection_opens_transfers_and_closes() {
    run_after(
        &[&HANDSHAKE],
        &[
            (Original, "PA", 1001, 9001, 100, Go(Established)),
            (Reply, "A", 9001, 1101, 1460, Go(Established)),
            (Reply, "FA", 10461, 1101, 40, Go(FinWait)),
            (Original, "A", 1101, 10502, 0, Go(CloseWait)),
            (Original, "PA", 1101, 10502, 9, Go(CloseWait)), // half-closed: still sending
            (Reply, "A", 10502, 1110, 0, Go(CloseWait)),
            (Original, "FA", 1110, 10502, 0, Go(LastAck)),
            (Reply, "A", 10502, 1111, 0, Go(TimeWait)),
        ],
    );
}

#[test]
fn a_fin_that_acknowledges_a_fin_leaves_only_the_last_ack() {
    run_after(
        &[&HANDSHAKE],
        &[
            (Original, "FA", 1001, 9001, 0, Go(FinWait)),
            (Reply, "FA", 9001, 1002, 0, Go(LastAck)),
            (Original, "A", 1002, 9002, 0, Go(TimeWait)),
        ],
    );
}

#[test]
fn both_sides_may_open_at_once() {
    run(&[
        (Original, "S", 1000, 0, 0, Go(SynSent)),
        (Reply, "S", 9000, 0, 0, Go(SynReceived)),
        (Original, "SA", 1000, 9001, 0, Go(SynReceived)),
        (Reply, "SA", 9000, 1001, 0, Go(Established)),
        (Original, "A", 1001, 9001, 0, Go(Established)),
    ]);
}

#[test]
fn both_sides_may_close_at_once() {
    run_after(
        &[&HANDSHAKE],
        &[
            (Original, "FA", 1001, 9001, 0, Go(FinWait)),
            (Reply, "FA", 9001, 1001, 0, Go(LastAck)),
            (Original, "A", 1002, 9002, 0, Go(LastAck)),
            (Reply, "A", 9002, 1002, 0, Go(TimeWait)),
        ],
    );
}

#[test]
fn what_is_sent_again_changes_nothing() {
    run(&[
        (Original, "S", 1000, 0, 0, Go(SynSent)),
        (Original, "S", 1000, 0, 0, Go(SynSent)),
        (Reply, "SA", 9000, 1001, 0, Go(SynReceived)),
        (Original, "S", 1000, 0, 0, Go(SynReceived)),
        (Reply, "SA", 9000, 1001, 0, Go(SynReceived)),
        (Original, "PA", 1001, 9001, 10, Go(Established)),
        (Reply, "SA", 9000, 1001, 0, Go(Established)),
        (Original, "PA", 1001, 9001, 10, Go(Established)),
        (Reply, "FA", 9001, 1011, 0, Go(FinWait)),
        (Reply, "FA", 9001, 1011, 0, Go(FinWait)),
        (Original, "A", 1011, 9002, 0, Go(CloseWait)),
        (Reply, "FA", 9001, 1011, 0, Go(CloseWait)),
        (Original, "FA", 1011, 9002, 0, Go(LastAck)),
        (Original, "FA", 1011, 9002, 0, Go(LastAck)),
        (Reply, "A", 9002, 1012, 0, Go(TimeWait)),
        (Original, "FA", 1011, 9002, 0, Go(TimeWait)),
        (Reply, "A", 9002, 1012, 0, Go(TimeWait)),
    ]);
}

#[test]
fn an_acknowledgement_overtaken_by_data_does_not_close() {
    run_after(
        &[&HANDSHAKE],
        &[
            (Original, "PA", 1001, 9001, 100, Go(Established)),
            (Original, "FA", 1101, 9001, 0, Go(FinWait)),
            (Reply, "A", 9001, 1101, 0, Go(FinWait)), // of the data, not of the FIN
            (Original, "A", 1001, 9001, 100, Go(FinWait)), // the data again
            (Reply, "A", 9001, 1102, 0, Go(CloseWait)),
            (Reply, "A", 9001, 1101, 0, Go(CloseWait)), // late
        ],
    );
}

#[test]
fn data_in_the_syn_may_be_acknowledged_or_not() {
    for ack in [1001, 1101] {
        run(&[
            (Original, "S", 1000, 0, 100, Go(SynSent)),
            (Reply, "SA", 9000, ack, 0, Go(SynReceived)),
            (Original, "A", 1101, 9001, 0, Go(Established)),
        ]);
    }
}

#[test]
fn the_first_segment_must_be_a_syn() {
    run(&[
        (Original, "A", 1001, 9001, 0, Bad(Invalid::NotOpen)),
        (Original, "FA", 1001, 9001, 0, Bad(Invalid::NotOpen)),
        (Original, "SA", 1001, 9001, 0, Bad(Invalid::NotOpen)),
        (Original, "R", 1001, 0, 0, Bad(Invalid::BadReset)),
        (Reply, "S", 9000, 0, 0, Bad(Invalid::NotOpen)),
        (Reply, "SA", 9000, 1001, 0, Bad(Invalid::NotOpen)),
        (Reply, "A", 9000, 1001, 0, Bad(Invalid::NotOpen)),
        (Reply, "RA", 0, 1001, 0, Bad(Invalid::BadReset)),
        (Original, "S", 1000, 0, 0, Go(SynSent)),
    ]);
}

#[test]
fn a_syn_ack_must_acknowledge_the_syn() {
    run(&[
        (Original, "S", 1000, 0, 0, Go(SynSent)),
        // the client resets what answers an older SYN
        (Reply, "SA", 9000, 1000, 0, Go(SynSent)),
        (Original, "R", 1000, 0, 0, Go(SynSent)),
        (Reply, "SA", 9000, 1002, 0, Go(SynSent)),
        (Original, "R", 1002, 0, 0, Go(SynSent)),
        (Reply, "SA", 9000, 1001, 0, Go(SynReceived)),
        // and the handshake is complete only with the right answer to it
        (Original, "A", 1001, 9000, 0, Go(SynReceived)),
        (Original, "A", 1001, 9002, 0, Go(SynReceived)),
        (Original, "A", 1001, 9001, 0, Go(Established)),
    ]);
}

#[test]
fn a_refused_connection_is_closed_and_may_be_tried_again() {
    run(&[
        (Original, "S", 1000, 0, 0, Go(SynSent)),
        (Reply, "RA", 0, 999, 0, Bad(Invalid::BadReset)),
        (Reply, "R", 1001, 0, 0, Bad(Invalid::BadReset)),
        (Reply, "RA", 0, 1001, 0, Go(Closed)),
        (Original, "A", 1001, 0, 0, Go(Closed)),
        (Original, "S", 500, 0, 0, Reopen),
    ]);
}

#[test]
fn a_client_may_abort_while_opening() {
    run(&[
        (Original, "S", 1000, 0, 0, Go(SynSent)),
        (Original, "R", 1002, 0, 0, Bad(Invalid::BadReset)),
        (Original, "R", 1001, 0, 0, Go(Closed)),
    ]);
    run(&[
        (Original, "S", 1000, 0, 0, Go(SynSent)),
        (Reply, "SA", 9000, 1001, 0, Go(SynReceived)),
        (Original, "R", 1001, 0, 0, Go(Closed)),
    ]);
}

#[test]
fn whoever_has_probed_a_closed_window_goes_on_behind_the_probe() {
    let mut table = table(4);
    let id = table.insert(new_flow(IpProto::TCP, 1), secs(0)).unwrap();
    common::establish(&mut table, id, secs(1));
    let window = |packet: Segment, window| {
        let tcp = packet.tcp.map(|tcp| TcpSegment { window, ..tcp });
        Segment { tcp, ..packet }
    };
    // The client fills the window of the server, which closes it.
    let edge = 1001 + u32::from(u16::MAX);
    for (direction, packet) in [
        (Original, segment("PA", 1001, 9001, u32::from(u16::MAX))),
        (Reply, window(segment("A", 9001, edge, 0), 0)),
        // A probe of one octet (RFC 9293 section 3.8.6.1), refused, and acknowledgements behind it.
        (Original, segment("A", edge, 9001, 1)),
        (Reply, window(segment("A", 9001, edge, 0), 0)),
        (Original, segment("A", edge + 1, 9001, 0)),
        (Reply, window(segment("PA", 9001, edge, 10), 0)),
        (Original, segment("A", edge + 1, 9011, 0)),
    ] {
        let seen = table.observe(id, direction, &packet, secs(9));
        assert_eq!(seen, Observed::Accept { new_state: None }, "{packet:?}");
    }
    let beyond = segment("A", edge + 2, 9011, 0);
    let seen = table.observe(id, Original, &beyond, secs(9));
    assert_eq!(seen, Observed::Invalid(Invalid::OutOfWindow));
}

#[test]
fn a_segment_overtaken_by_others_moves_nothing_back() {
    run_after(
        &[&HANDSHAKE],
        &[
            (Original, "PA", 1011, 9001, 90, Go(Established)),
            (Original, "PA", 1001, 9001, 10, Go(Established)),
            (Reply, "A", 9001, 1101, 0, Go(Established)),
            (Reply, "A", 9001, 1011, 0, Go(Established)),
            (Original, "R", 1011, 0, 0, Bad(Invalid::OutOfWindow)),
            (Original, "R", 1101, 0, 0, Go(Closed)),
        ],
    );
}

#[test]
fn a_segment_in_fragments_may_be_acknowledged_as_far_as_it_goes() {
    let mut table = table(4);
    let id = table.insert(new_flow(IpProto::TCP, 1), secs(0)).unwrap();
    common::establish(&mut table, id, secs(1));
    let mut first = segment("PA", 1001, 9001, 1000);
    if let Some(tcp) = &mut first.tcp {
        tcp.cut = true;
    }
    // 3,000 octets in three fragments, of which the first alone has a header.
    for (direction, packet) in [
        (Original, first),
        (Reply, segment("A", 9001, 4001, 0)),
        (Original, segment("PA", 4001, 9001, 10)),
        (Original, segment("FA", 4011, 9001, 0)),
        (Reply, segment("FA", 9001, 4012, 0)),
        (Original, segment("A", 4012, 9002, 0)),
    ] {
        let seen = table.observe(id, direction, &packet, secs(2));
        assert!(matches!(seen, Observed::Accept { .. }), "{packet:?}");
    }
    assert_eq!(table.get(id).unwrap().state(), TimeWait);
}
