//! What does not belong, or may not: made-up segments, resets, strays.

use conntrack::Direction::{Original, Reply};
use conntrack::State::{CloseWait, Closed, Established, FinWait, LastAck};
use conntrack::{Direction, EndReason, Invalid, Observed, Segment};
use net::{IpProto, Timestamp};

use crate::Then::{Bad, Go};
use crate::common::{expire, new_flow, secs, segment, table};
use crate::{CLOSE, HANDSHAKE, Step, run_after};

#[test]
fn nothing_comes_behind_a_fin() {
    run_after(
        &[&HANDSHAKE],
        &[
            (Original, "FA", 1001, 9001, 0, Go(FinWait)),
            (Original, "PA", 1002, 9001, 50, Go(FinWait)),
            (Reply, "A", 9001, 1002, 0, Go(CloseWait)),
        ],
    );
}

#[test]
fn flags_that_no_state_calls_for_are_refused_in_every_state() {
    let junk = |steps: &[&[Step]]| {
        let junk: Vec<Step> = ["-", "F", "SF", "SFA", "SR", "FR", "FRA", "SFRA", "P"]
            .into_iter()
            .flat_map(|flags| {
                [Original, Reply].map(|d| (d, flags, 1001, 1001, 0, Bad(Invalid::Flags)))
            })
            .collect();
        run_after(steps, &junk);
    };
    junk(&[]);
    let life = [&HANDSHAKE[..], &CLOSE].concat();
    for n in 1..=life.len() {
        junk(&[&life[..n]]);
    }
}

#[test]
fn a_blind_reset_does_not_close() {
    run_after(
        &[&HANDSHAKE],
        &[
            (Original, "PA", 1001, 9001, 100, Go(Established)),
            (Reply, "A", 9001, 1101, 0, Go(Established)),
            (Original, "R", 1100, 0, 0, Bad(Invalid::OutOfWindow)), // acknowledged long ago
            (Original, "R", 1101 + 65536, 0, 0, Bad(Invalid::OutOfWindow)),
            (
                Original,
                "R",
                1101 + (1 << 31),
                0,
                0,
                Bad(Invalid::OutOfWindow),
            ),
            (Reply, "R", 9000, 0, 0, Bad(Invalid::OutOfWindow)),
            // within the window, but not what is expected: its receiver asks back
            (Original, "R", 1102, 0, 0, Go(Established)),
            (Original, "R", 1101, 0, 0, Go(Closed)),
        ],
    );
}

#[test]
fn blind_segments_shift_nothing() {
    run_after(
        &[&HANDSHAKE],
        &[
            // neither number right, or only one of them
            (
                Original,
                "PA",
                1001 + (1 << 30),
                5,
                10,
                Bad(Invalid::OutOfWindow),
            ),
            (
                Original,
                "PA",
                1001 + (1 << 30),
                9001,
                10,
                Bad(Invalid::OutOfWindow),
            ),
            (Original, "FA", 1001, 9002, 0, Bad(Invalid::OutOfWindow)),
            (
                Original,
                "FA",
                1001,
                9001_u32.wrapping_sub(1 << 27),
                0,
                Bad(Invalid::OutOfWindow),
            ),
            (
                Original,
                "R",
                1001 + (1 << 29),
                0,
                0,
                Bad(Invalid::OutOfWindow),
            ),
            // as if nothing had been
            (Original, "PA", 1001, 9001, 10, Go(Established)),
            (Reply, "A", 9001, 1011, 0, Go(Established)),
            (Original, "FA", 1011, 9001, 0, Go(FinWait)),
            (Reply, "A", 9001, 1012, 0, Go(CloseWait)),
        ],
    );
}

#[test]
fn blind_segments_do_not_keep_a_flow() {
    let mut table = table(4);
    let id = table.insert(new_flow(IpProto::TCP, 1), secs(0)).unwrap();
    crate::common::establish(&mut table, id, secs(1));
    for packet in [
        segment("A", 1001 + (1 << 30), 9001, 0),
        segment("A", 1001, 9001 + (1 << 30), 0),
    ] {
        let seen = table.observe(id, Original, &packet, secs(9));
        assert_eq!(seen, Observed::Invalid(Invalid::OutOfWindow), "{packet:?}");
        assert_eq!(table.get(id).unwrap().last_seen(), secs(1), "{packet:?}");
    }
    for (packet, seen_at) in [
        // acknowledged long ago: the acknowledgement is sent again
        (segment("A", 1001_u32.wrapping_sub(1 << 30), 9001, 10), 1),
        (segment("S", 77, 0, 0), 1),
        (segment("R", 1002, 0, 0), 1),
        (segment("A", 1000, 9001, 0), 9), // a keep-alive probe (RFC 9293 section 3.8.4)
    ] {
        let seen = table.observe(id, Original, &packet, secs(9));
        assert_eq!(seen, Observed::Accept { new_state: None }, "{packet:?}");
        assert_eq!(
            table.get(id).unwrap().last_seen(),
            secs(seen_at),
            "{packet:?}"
        );
    }
}

#[test]
fn strays_do_not_keep_a_closed_connection() {
    let mut table = table(4);
    let id = table.insert(new_flow(IpProto::TCP, 1), secs(0)).unwrap();
    crate::common::establish(&mut table, id, secs(1));
    let _ = table.observe(id, Reply, &segment("R", 9001, 0, 0), secs(2));
    for n in 0..40 {
        let now = Timestamp::from_millis(2000 + n * 100);
        let seen = table.observe(id, Original, &segment("PA", 1001, 9001, 10), now);
        assert_eq!(seen, Observed::Accept { new_state: None });
        assert_eq!(expire(&mut table, now), []);
    }
    assert_eq!(expire(&mut table, secs(8)), [(1, EndReason::Reset)]);
}

#[test]
fn a_tcp_flow_takes_no_packet_without_a_tcp_header() {
    let mut table = table(4);
    let id = table.insert(new_flow(IpProto::TCP, 1), secs(0)).unwrap();
    let seen = table.observe(id, Original, &Segment::datagram(100), secs(1));
    assert_eq!(seen, Observed::Invalid(Invalid::Flags));
    assert_eq!(table.stats().invalid, 1);
}

#[test]
fn a_fin_from_the_past_does_not_close() {
    run_after(
        &[&HANDSHAKE],
        &[
            (Original, "PA", 1001, 9001, 100, Go(Established)),
            (Original, "FA", 1050, 9001, 0, Go(Established)),
            (Original, "FA", 900, 9001, 100, Go(Established)),
            (Original, "FA", 1001, 9001, 100, Go(FinWait)),
        ],
    );
}

#[test]
fn a_reset_may_come_from_either_side_in_every_state() {
    let life = [&HANDSHAKE[..], &CLOSE[..3]].concat();
    for n in 2..=life.len() {
        let so_far = &life[..n];
        let next = |who: Direction| {
            let sent = so_far.iter().filter(|s| s.0 == who);
            sent.map(|s| s.2 + u32::from(s.1.contains(['S', 'F'])))
                .max()
                .unwrap()
        };
        for who in [Original, Reply] {
            run_after(&[so_far], &[(who, "R", next(who), 0, 0, Go(Closed))]);
        }
    }
}

#[test]
fn a_late_reset_of_a_socket_that_is_gone_passes_and_closes_nothing() {
    run_after(
        &[&HANDSHAKE],
        &[
            (Original, "FA", 1001, 9001, 0, Go(FinWait)),
            (Reply, "FA", 9001, 1002, 0, Go(LastAck)),
            (Original, "R", 1001, 0, 0, Go(LastAck)),
            (Original, "R", 1002, 0, 0, Go(Closed)),
        ],
    );
}
