//! What gives way when the table is full, and what never does.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{establish, expire, new_flow, secs, segment, table};
use conntrack::Direction::{Original, Reply};
use conntrack::{Cursor, EndReason, FlowId, InsertError, NewFlow, Segment, State, Timeouts};
use net::IpProto;

type Table = conntrack::Table<u32>;

fn insert(table: &mut Table, proto: IpProto, n: u32) -> Result<FlowId, InsertError> {
    table.insert(new_flow(proto, n), secs(1))
}

#[test]
fn established_flows_survive_a_flood_of_syns() {
    let mut table = table(1000);
    let mut kept = Vec::new();
    for n in 0..600 {
        let id = insert(&mut table, IpProto::TCP, n).unwrap();
        establish(&mut table, id, secs(1));
        kept.push(id);
    }
    let dns = insert(&mut table, IpProto::UDP, 600).unwrap();
    let _ = table.observe(dns, Reply, &Segment::datagram(1), secs(1));
    kept.push(dns);
    let mut ended = 0;
    let mut real = 0;
    for n in 0..100_000 {
        let id = insert(&mut table, IpProto::TCP, 10_000 + n).unwrap();
        let _ = table.observe(id, Original, &segment("S", 1, 0, 0), secs(1));
        assert!(table.len() <= 1000);
        // Amid the flood clients who finish their handshake in time get through.
        if n % 10_000 == 0 {
            let id = insert(&mut table, IpProto::TCP, 5000 + n).unwrap();
            establish(&mut table, id, secs(1));
            kept.push(id);
            real += 1;
        }
        if n % 200 == 0 {
            ended += expire(&mut table, secs(1)).len();
        }
    }
    ended += expire(&mut table, secs(1)).len();
    assert_eq!(table.len(), 1000);
    assert_eq!(ended, 601 + 100_000 + real - 1000);
    assert_eq!(table.stats().evictions(), ended as u64);
    assert_eq!(table.stats().refused, 0);
    for id in kept {
        assert!(table.get(id).unwrap().state().is_established());
    }
}

#[test]
fn the_oldest_goes_first_and_half_closed_flows_go_last() {
    let mut table = table(4);
    let half_closed = insert(&mut table, IpProto::TCP, 0).unwrap();
    establish(&mut table, half_closed, secs(1));
    let _ = table.observe(
        half_closed,
        Original,
        &segment("FA", 1001, 9001, 0),
        secs(1),
    );
    let established = insert(&mut table, IpProto::TCP, 1).unwrap();
    establish(&mut table, established, secs(1));
    insert(&mut table, IpProto::UDP, 2).unwrap();
    insert(&mut table, IpProto::TCP, 3).unwrap();

    for (n, gone) in [(4, 2), (5, 3), (6, 4)] {
        insert(&mut table, IpProto::UDP, n).unwrap();
        assert_eq!(expire(&mut table, secs(1)), [(gone, EndReason::Evicted)]);
    }
    // Only when the others are established is the half-closed one the next.
    for n in [5, 6] {
        let (id, _) = table.lookup(&common::key(IpProto::UDP, n)).unwrap();
        let _ = table.observe(id, Reply, &Segment::datagram(1), secs(1));
    }
    insert(&mut table, IpProto::UDP, 7).unwrap();
    assert_eq!(expire(&mut table, secs(1)), [(0, EndReason::Evicted)]);
    assert!(table.get(half_closed).is_none());
    assert!(table.get(established).is_some());
}

#[test]
fn a_table_of_established_flows_refuses_new_ones() {
    let mut table = table(10);
    for n in 0..10 {
        let id = insert(&mut table, IpProto::TCP, n).unwrap();
        establish(&mut table, id, secs(1));
    }
    assert_eq!(insert(&mut table, IpProto::TCP, 10), Err(InsertError::Full));
    assert_eq!((table.len(), table.stats().refused), (10, 1));
    assert!(!table.contains(&common::key(IpProto::TCP, 10)));
    // One connection over, and there is room.
    let (id, _) = table.lookup(&common::key(IpProto::TCP, 3)).unwrap();
    let _ = table.observe(id, Original, &segment("R", 1001, 0, 0), secs(2));
    insert(&mut table, IpProto::TCP, 10).unwrap();
    assert_eq!(expire(&mut table, secs(2)), [(3, EndReason::Evicted)]);
}

#[test]
fn what_is_due_goes_before_anything_is_evicted() {
    let mut table = table(2);
    let id = insert(&mut table, IpProto::TCP, 0).unwrap();
    establish(&mut table, id, secs(1));
    let late = NewFlow {
        timeouts: Timeouts::udp().with_opening(Duration::from_secs(1000)),
        ..new_flow(IpProto::UDP, 1)
    };
    let young = table.insert(late, secs(1)).unwrap();
    table
        .insert(new_flow(IpProto::UDP, 2), secs(400))
        .expect("the idle connection is due");
    assert!(table.get(id).is_none() && table.get(young).is_some());
    assert_eq!(expire(&mut table, secs(400)), [(0, EndReason::Idle)]);
    assert_eq!(table.stats().evictions(), 0);
}

#[test]
fn a_refusal_costs_little_when_all_timers_came_up_but_the_flows_live() {
    let flows = 60_000;
    let mut table = table(flows as usize);
    for n in 0..flows {
        let id = insert(&mut table, IpProto::UDP, n).unwrap();
        let _ = table.observe(id, Reply, &Segment::datagram(1), secs(1));
    }
    for n in 0..flows {
        let (id, _) = table.lookup(&common::key(IpProto::UDP, n)).unwrap();
        let _ = table.observe(id, Original, &Segment::datagram(1), secs(25));
    }
    let begin = Instant::now();
    let late = table.insert(new_flow(IpProto::UDP, flows), secs(40));
    assert_eq!(late, Err(InsertError::Full));
    // Microseconds are usual; to look at all of them took seconds.
    assert!(begin.elapsed() < Duration::from_millis(100));
    assert_eq!(expire(&mut table, secs(86)).len(), flows as usize);
}

#[test]
fn every_eviction_is_reported_and_a_caller_who_never_listens_is_refused() {
    let mut table = table(10);
    let mut entered = 0;
    for n in 0..100_000 {
        match insert(&mut table, IpProto::UDP, n) {
            Ok(_) => entered += 1,
            Err(error) => assert_eq!(error, InsertError::Full),
        }
    }
    assert_eq!(entered, 10 + 4096);
    // Not all at once: a burst is not to wait for that.
    let mut ended = Vec::new();
    for _ in 0..16 {
        assert_eq!(table.next_expiry(secs(1)), Some(secs(1)));
        let some = expire(&mut table, secs(1));
        assert_eq!(some.len(), 256);
        ended.extend(some);
    }
    assert_eq!(ended.len(), 4096);
    assert_eq!(expire(&mut table, secs(1)), []);
    assert!(ended.iter().map(|(n, _)| *n).eq(0..4096));
    assert!(insert(&mut table, IpProto::UDP, 200_000).is_ok());
    assert_eq!(table.len(), 10);
}

#[test]
fn a_stale_identifier_never_reaches_another_flow() {
    let mut table = table(1);
    let mut stale = Vec::new();
    for n in 0..1000 {
        let id = insert(&mut table, IpProto::UDP, n).unwrap();
        assert_eq!(table.get(id).unwrap().data(), &n);
        for old in &stale {
            assert!(table.get(*old).is_none() && table.get_mut(*old).is_none());
        }
        stale.push(id);
        if n % 3 == 0 {
            expire(&mut table, secs(1));
        }
    }
    let old = stale[17];
    let seen = table.observe(old, Original, &Segment::datagram(1), secs(1));
    assert_eq!(
        seen,
        conntrack::Observed::Invalid(conntrack::Invalid::NoFlow)
    );
    assert!(table.remove(old, EndReason::Removed).is_none());
    assert_eq!(table.len(), 1);
}

#[test]
fn a_dump_in_pieces_shows_every_flow_once() {
    let mut table = table(1000);
    let ids: Vec<_> = (0..1000)
        .map(|n| insert(&mut table, IpProto::UDP, n).unwrap())
        .collect();
    for id in ids.iter().step_by(3) {
        table.remove(*id, EndReason::Removed).unwrap();
    }
    let mut shown = Vec::new();
    let mut cursor = Some(Cursor::default());
    while let Some(at) = cursor {
        let (flows, next) = table.iter_from(at, 64);
        let before = shown.len();
        for (id, flow) in flows {
            assert_eq!(table.get(id).unwrap().data(), flow.data());
            shown.push(*flow.data());
        }
        assert!(shown.len() - before <= 64);
        cursor = next;
    }
    shown.sort_unstable();
    let left: Vec<u32> = (0..1000).filter(|n| n % 3 != 0).collect();
    assert_eq!(shown, left);
    let empty = common::table(5);
    let (mut flows, next) = empty.iter_from(Cursor::default(), 10);
    assert!(flows.next().is_none() && next.is_none());
}

#[test]
fn a_capacity_out_of_range_is_brought_inside() {
    assert_eq!(table(0).capacity(), 1);
    let mut one = table(0);
    insert(&mut one, IpProto::UDP, 1).unwrap();
    insert(&mut one, IpProto::UDP, 2).unwrap();
    assert_eq!(one.len(), 1);
    assert_eq!(one.stats().in_state(State::Unreplied), 1);
}
