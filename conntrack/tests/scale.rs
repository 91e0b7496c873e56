//! Very many flows in one table: what they take, how they are found, how they end.
//!
//! A million here; with `TMM_FLOWS=10000000` in the environment ten (`make test-flood`).
#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]

mod common;

use std::time::{Duration, Instant};

use common::{secs, segment};
use conntrack::Direction::{Original, Reply};
use conntrack::{NewFlow, Table, TableConfig, Timeouts};
use net::{Addr, FlowKey, IpProto, L4Port};

fn count() -> u32 {
    std::env::var("TMM_FLOWS").map_or(1_000_000, |count| count.parse().unwrap())
}

/// With as much data as a dataplane keeps.
type Usual = Table<[u32; 8]>;

fn table(capacity: u32) -> Usual {
    Table::new(TableConfig {
        capacity: capacity as usize,
        seed: 1,
        hugetlb: false,
    })
}

/// Octets of memory that this process has.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Flow `n`: every other one IPv6; to one of 100 virtual servers and 1,000 members, from a self IP.
fn flow(n: u32) -> NewFlow<[u32; 8]> {
    let client = (n / 16).to_be_bytes();
    let (sport, server, member) = ((n % 16) as u16 + 1024, (n % 100) as u8, (n % 1000) as u16);
    let [high, low] = member.to_be_bytes();
    let lease = L4Port((n / 1000 % 60_000) as u16 + 1024);
    let v6 = |tail: [u8; 4], net: u8| {
        let mut octets = [0; 16];
        octets[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        octets[4] = net;
        octets[12..].copy_from_slice(&tail);
        Addr::from_v6(octets)
    };
    let (client, to, from, own) = if n.is_multiple_of(2) {
        (
            Addr::from_v4([10 + client[0], client[1], client[2], client[3]]),
            Addr::from_v4([203, 0, 113, server]),
            Addr::from_v4([198, 18, high, low]),
            Addr::from_v4([198, 51, 100, 1]),
        )
    } else {
        (
            v6(client, 1),
            v6([0, 0, 0, server], 2),
            v6([0, 0, high, low], 3),
            v6([0, 0, 0, 1], 4),
        )
    };
    let tcp = IpProto::TCP;
    NewFlow {
        original: FlowKey::new(client, to, L4Port(sport), L4Port(80), tcp),
        reply: FlowKey::new(from, own, L4Port(8080), lease, tcp),
        timeouts: Timeouts::tcp(),
        data: [n; 8],
    }
}

// case LNX-011: an insertion costs the same however many flows there are.
#[test]
fn flows_of_both_families_take_160_octets_and_all_are_found() {
    let count = count();
    let before = resident();
    let mut table = table(count);
    let empty = resident() - before;
    // Start-up touches none of it.
    assert!(empty < 2 << 20, "{empty} octets before the first flow");
    let begun = Instant::now();
    for n in 0..count {
        table.insert(flow(n), secs(1)).unwrap();
    }
    let inserted = begun.elapsed();
    let grown = (resident() - before) as f64 / f64::from(count);
    let begun = Instant::now();
    for n in 0..count {
        let new = flow(n);
        for (key, direction) in [(&new.original, Original), (&new.reply, Reply)] {
            let (id, found) = table.lookup(key).unwrap();
            assert_eq!((found, table.get(id).unwrap().data()[0]), (direction, n));
        }
    }
    let found = begun.elapsed();
    let sets = table.address_sets();
    println!(
        "{count} flows: {grown:.2} octets resident each, {sets} sets of IPv6 addresses, {:?} per insertion, {:?} per look-up",
        inserted / count,
        found / (2 * count)
    );
    assert_eq!(table.len(), count as usize);
    assert_eq!(sets, 500);
    // Where memory comes in huge pages, the last of each array is not full; a table holds 4,096 flows more
    // than it says for those that wait to be reported.
    let slack = f64::from(12 << 20) / f64::from(count);
    assert!(grown <= 160.0 + slack, "{grown:.1} octets per flow");
}

/// Between two bursts a worker ends at most so many flows.
const BUDGET: usize = 16;

#[test]
fn a_million_flows_that_expire_in_the_same_second_hold_up_no_turn() {
    let count = count().min(1_000_000);
    let mut table = table(count);
    for n in 0..count {
        let id = table.insert(flow(n), secs(1)).unwrap();
        // Half of them established, so that they are due later than their timer said at first.
        if n % 2 == 0 {
            for (direction, flags, seq, ack) in [
                (Original, "S", 1000, 0),
                (Reply, "SA", 9000, 1001),
                (Original, "A", 1001, 9001),
            ] {
                let _ = table.observe(id, direction, &segment(flags, seq, ack, 0), secs(1));
            }
        }
    }
    let (mut ended, mut turns) = (0, Vec::with_capacity(200_000));
    for due in [secs(32), secs(302)] {
        let mut now = due;
        loop {
            let begun = Instant::now();
            let some = table.expire(now, BUDGET, &mut |_, _| {});
            turns.push(begun.elapsed());
            assert!(some <= BUDGET);
            ended += some;
            now = now + Duration::from_micros(5);
            if table.next_expiry(now).is_none_or(|next| next > now) {
                break;
            }
        }
    }
    assert_eq!(ended, count as usize);
    turns.sort_unstable();
    let at = |permille: usize| turns[(turns.len() - 1) * permille / 1000];
    println!(
        "{count} flows ended in {} turns: p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}",
        turns.len(),
        at(500),
        at(990),
        at(999),
        at(1000)
    );
    // What a busy machine does to a thread is in the last thousandth.
    assert!(at(990) < Duration::from_micros(100), "{:?}", at(990));
}

#[test]
fn flows_that_live_cost_next_to_nothing_however_many_they_are() {
    let count = count();
    let mut table = table(count);
    for n in 0..count {
        table.insert(flow(n), secs(1)).unwrap();
    }
    // One second: four ticks, and as many calls as it takes to get round.
    let sweep = |table: &mut Usual, second: u64| {
        let (mut calls, mut took) = (0_u32, Duration::ZERO);
        for quarter in 0..4 {
            let now = secs(second) + Duration::from_millis(268 * quarter);
            let begun = Instant::now();
            loop {
                calls += 1;
                let ended = table.expire(now, BUDGET, &mut |_, _| {});
                assert_eq!(ended, 0);
                if table.next_expiry(now).is_none_or(|next| next > now) {
                    break;
                }
            }
            took += begun.elapsed();
        }
        (calls, took)
    };
    let _ = sweep(&mut table, 2);
    let mut best = Duration::MAX;
    for second in 4..14 {
        let (calls, took) = sweep(&mut table, second);
        // Each reads 4,096 words, of which there are one per 4,096 flows.
        assert!(calls <= 8 + count / 4_000_000, "{calls} calls");
        best = best.min(took);
    }
    println!("{count} flows that live: {best:?} per second");
    assert!(best < Duration::from_millis(2), "{best:?} per second");
}
