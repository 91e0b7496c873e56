//! Every flow ends once, never early, at most a tick late, whatever the clock does.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::{TICK, TURN, establish, expire, new_flow, secs, segment, table};
use conntrack::Direction::{Original, Reply};
use conntrack::{EndReason, NewFlow, Observed, Segment, State, Timeouts};
use net::{IpProto, Timestamp};

fn nanos(n: u64) -> Timestamp {
    Timestamp::from_nanos(n)
}

/// A cheap generator of repeatable numbers (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

// case OVS-030, VPPI-018: each flow has a timeout of its own, beyond any round of the timers too.
#[test]
fn every_flow_ends_once_and_at_most_a_tick_late() {
    // 1970 or any other year is no different.
    for epoch in [0, 1, TURN - 1, 1_780_000_000_000_000_000] {
        let mut numbers = Numbers(epoch + 1);
        let mut table = table(20_000);
        let mut deadlines = HashMap::new();
        let mut now = epoch;
        let mut n = 0;
        while n < 20_000 || !table.is_empty() {
            for _ in 0..numbers.below(60) {
                if n == 20_000 {
                    break;
                }
                // from a second to half an hour
                let timeout = Duration::from_secs(1 + numbers.below(1700));
                let flow = NewFlow {
                    timeouts: Timeouts::udp().with_opening(timeout),
                    ..new_flow(IpProto::UDP, n)
                };
                table.insert(flow, nanos(now)).unwrap();
                deadlines.insert(n, nanos(now) + timeout);
                n += 1;
            }
            now += 1 + numbers.below(TICK / 4);
            for (n, reason) in expire(&mut table, nanos(now)) {
                let deadline = deadlines.remove(&n).expect("ends once").as_nanos();
                assert_eq!(reason, EndReason::Unanswered);
                assert!(deadline <= now, "early by {}", deadline - now);
                let late = now - deadline;
                assert!(late <= TICK + TICK / 4, "late by {late}"); // we look every 1/4 tick
            }
            assert!(now < epoch + secs(2000).as_nanos());
        }
        assert!(deadlines.is_empty());
    }
}

#[test]
fn packets_postpone_the_end() {
    let mut table = table(4);
    let idle = Timeouts::udp().with_idle(Duration::from_secs(20));
    let flow = NewFlow {
        timeouts: idle,
        ..new_flow(IpProto::UDP, 1)
    };
    let id = table.insert(flow, secs(0)).unwrap();
    for s in 1..2000 {
        let _ = table.observe(id, Reply, &Segment::datagram(1), secs(s * 10));
        assert_eq!(expire(&mut table, secs(s * 10 + 9)), []);
    }
    assert_eq!(table.get(id).unwrap().deadline(), secs(20_010));
    assert_eq!(expire(&mut table, secs(20_009)), []);
    let late = secs(20_010) + Duration::from_nanos(TICK);
    assert_eq!(expire(&mut table, late), [(1, EndReason::Idle)]);
    assert!(table.get(id).is_none());
}

#[test]
fn a_state_with_a_shorter_timeout_ends_the_flow_sooner() {
    let mut table = table(4);
    let id = table.insert(new_flow(IpProto::TCP, 1), secs(0)).unwrap();
    establish(&mut table, id, secs(1));
    assert_eq!(expire(&mut table, secs(200)), []); // armed for 301 s by now
    for (direction, flags, seq, ack) in [
        (Original, "FA", 1001, 9001),
        (Reply, "FA", 9001, 1002),
        (Original, "A", 1002, 9002),
    ] {
        let seen = table.observe(id, direction, &segment(flags, seq, ack, 0), secs(200));
        assert!(matches!(seen, Observed::Accept { new_state: Some(_) }));
    }
    assert_eq!(table.get(id).unwrap().state(), State::TimeWait);
    assert_eq!(expire(&mut table, nanos(secs(210).as_nanos() - 1)), []);
    let late = secs(210) + Duration::from_nanos(TICK);
    assert_eq!(expire(&mut table, late), [(1, EndReason::Closed)]);
}

#[test]
fn only_a_fin_sent_again_prolongs_time_wait() {
    for (flags, seq, end) in [("A", 1002, 20), ("FA", 1001, 25)] {
        let mut table = table(4);
        let id = table.insert(new_flow(IpProto::TCP, 1), secs(10)).unwrap();
        establish(&mut table, id, secs(10));
        for (direction, flags, seq, ack) in [
            (Original, "FA", 1001, 9001),
            (Reply, "FA", 9001, 1002),
            (Original, "A", 1002, 9002),
        ] {
            let _ = table.observe(id, direction, &segment(flags, seq, ack, 0), secs(10));
        }
        let again = segment(flags, seq, 9002, 0);
        let seen = table.observe(id, Original, &again, secs(15));
        assert_eq!(seen, Observed::Accept { new_state: None });
        assert_eq!(table.get(id).unwrap().deadline(), secs(end));
    }
}

#[test]
fn the_reason_tells_the_state_the_flow_was_in() {
    let mut table = table(8);
    let at = secs(1);
    let ids: Vec<_> = (0..5)
        .map(|n| table.insert(new_flow(IpProto::TCP, n), at).unwrap())
        .collect();
    for id in &ids[1..] {
        establish(&mut table, *id, at);
    }
    let mut send = |n: usize, direction, flags, seq, ack| {
        let _ = table.observe(ids[n], direction, &segment(flags, seq, ack, 0), at);
    };
    send(2, Original, "FA", 1001, 9001); // half-closed
    send(3, Original, "R", 1001, 0);
    send(4, Original, "FA", 1001, 9001);
    send(4, Reply, "FA", 9001, 1002);
    send(4, Original, "A", 1002, 9002);
    let mut ended = expire(&mut table, secs(1000));
    ended.sort_unstable_by_key(|(n, _)| *n);
    assert_eq!(
        ended,
        [
            (0, EndReason::Unanswered),
            (1, EndReason::Idle),
            (2, EndReason::Idle),
            (3, EndReason::Reset),
            (4, EndReason::Closed),
        ]
    );
    assert_eq!(table.stats().expiries(), 5);
    for state in State::ALL {
        assert_eq!(table.stats().in_state(state), 0);
    }
}

// case VPPI-018: a deadline that lies further ahead than any timer is kept.
#[test]
fn never_is_never() {
    let mut table = table(4);
    let forever = Timeouts::udp().with_idle(Duration::MAX);
    let flow = NewFlow {
        timeouts: forever,
        ..new_flow(IpProto::UDP, 1)
    };
    let id = table.insert(flow, secs(0)).unwrap();
    let _ = table.observe(id, Reply, &Segment::datagram(1), secs(1));
    for year in 1..100 {
        assert_eq!(expire(&mut table, secs(year * 365 * 86_400)), []);
    }
    assert_eq!(table.len(), 1);
}

#[test]
fn the_end_of_time_is_survived() {
    let mut table = table(4);
    let end = nanos(u64::MAX);
    let id = table.insert(new_flow(IpProto::UDP, 1), end).unwrap();
    let _ = table.observe(id, Reply, &Segment::datagram(1), end);
    // There is no later time at which it could be due.
    assert_eq!(expire(&mut table, end), [(1, EndReason::Idle)]);
    table.insert(new_flow(IpProto::UDP, 2), secs(0)).unwrap();
    assert_eq!(expire(&mut table, secs(29)), []);
    assert_eq!(expire(&mut table, secs(31)), [(2, EndReason::Unanswered)]);
    expire(&mut table, nanos(TURN));
    let rest = expire(&mut table, nanos(2 * TURN));
    assert!(table.is_empty(), "{rest:?}");
}

#[test]
fn a_leap_forward_ends_what_is_due_and_nothing_else() {
    let mut table = table(1000);
    for n in 0..1000 {
        let minutes = Duration::from_secs(60 * u64::from(n + 1));
        let flow = NewFlow {
            timeouts: Timeouts::udp().with_opening(minutes),
            ..new_flow(IpProto::UDP, n)
        };
        table.insert(flow, secs(0)).unwrap();
    }
    let mut ended: Vec<_> = expire(&mut table, secs(60 * 500 + 1))
        .into_iter()
        .map(|(n, _)| n)
        .collect();
    ended.sort_unstable();
    assert_eq!(ended, (0..500).collect::<Vec<_>>());
    assert_eq!(expire(&mut table, secs(60 * 500 + 1)), []);
    let rest = expire(&mut table, secs(60 * 1000 + 1));
    assert_eq!(rest.len(), 500);
}

#[test]
fn after_a_step_back_flows_still_end_and_none_early() {
    for step in [TICK / 2, 3 * TICK, TURN / 2, 5 * TURN] {
        let start = 10 * TURN;
        let mut table = table(1000);
        for n in 0..500 {
            table
                .insert(new_flow(IpProto::UDP, n), nanos(start))
                .unwrap();
        }
        assert_eq!(expire(&mut table, nanos(start + TICK)), []);
        // The clock goes back; other flows begin.
        let back = start - step;
        for n in 500..1000 {
            table
                .insert(new_flow(IpProto::UDP, n), nanos(back))
                .unwrap();
        }
        let timeout = secs(30).as_nanos();
        let mut now = back;
        while !table.is_empty() {
            for (n, _) in expire(&mut table, nanos(now)) {
                assert!(now >= back + timeout, "flow {n} early, step {step}");
                if n >= 500 {
                    assert!(
                        now <= back + timeout + 2 * TICK,
                        "flow {n} late, step {step}"
                    );
                }
            }
            now += TICK / 2;
            assert!(
                now <= back + TURN + timeout + 2 * TICK,
                "left over, step {step}"
            );
        }
    }
}

#[test]
fn a_clock_that_trembles_does_no_harm() {
    let mut table = table(4);
    let mut now = secs(1000).as_nanos();
    table.insert(new_flow(IpProto::UDP, 1), nanos(now)).unwrap();
    let end = now + secs(30).as_nanos();
    let mut numbers = Numbers(9);
    loop {
        let seen = (now + numbers.below(8 * TICK)).saturating_sub(4 * TICK);
        if !expire(&mut table, nanos(seen)).is_empty() {
            // what counts is the earliest time the clock ever showed after the last packet
            assert!(seen + 4 * TICK >= end && now <= end + 9 * TICK);
            break;
        }
        now += TICK / 3;
    }
}

#[test]
fn the_budget_bounds_the_work_and_loses_nothing() {
    let mut table = table(10_000);
    for n in 0..10_000 {
        table.insert(new_flow(IpProto::UDP, n), secs(0)).unwrap();
    }
    let mut ended = 0;
    let mut calls = 0;
    while !table.is_empty() {
        let n = table.expire(secs(100), 64, &mut |_, _| {});
        assert!(n <= 64);
        ended += n;
        calls += 1;
    }
    assert_eq!((ended, calls), (10_000, 157));
    assert_eq!(table.expire(secs(100), 0, &mut |_, _| {}), 0);
}

// case LNX-011: the time it takes to insert a flow is bounded, however many there are.
#[test]
fn a_million_flows_come_and_go_cheaply() {
    let flows = 1_000_000;
    let mut table = table(flows as usize);
    let begin = Instant::now();
    for round in 0..3 {
        let start = secs(round * 1000);
        for n in 0..flows {
            let now = start + Duration::from_micros(u64::from(n));
            table.insert(new_flow(IpProto::UDP, n), now).unwrap();
        }
        assert_eq!(table.len(), flows as usize);
        let mut ended = 0;
        for tick in 0..=1000 {
            ended += table.expire(
                start + Duration::from_millis(tick * 100),
                100_000,
                &mut |_, _| {},
            );
        }
        assert_eq!(ended, flows as usize);
        assert!(table.is_empty());
    }
    // Half a microsecond each is usual; the bound only catches what is not constant per flow.
    let per_flow = begin.elapsed() / (3 * flows);
    assert!(
        per_flow < Duration::from_micros(20),
        "{per_flow:?} per flow"
    );
}
