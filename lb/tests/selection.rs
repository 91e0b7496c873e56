//! How members are chosen: fairness, balance, and how little a change moves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation
)]

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb::select::SCAN_LIMIT;
use lb::{Member, MemberId, MemberState, Method, Pool, Pools, Registry, Selector};
use net::{Addr, L4Port};
use proptest::prelude::*;

fn member(registry: &mut Registry, pool: &str, n: u32, state: MemberState) -> Member {
    let addr = IpAddr::from((0x0a00_0000u32 + n).to_be_bytes());
    let port = L4Port(8080);
    let pool = registry.pool(pool);
    Member {
        id: registry.member(pool, addr, port),
        addr,
        port,
        state,
    }
}

fn pool_of(registry: &mut Registry, members: &[(u32, MemberState)]) -> Pool {
    let members = members
        .iter()
        .map(|(n, state)| member(registry, "web", *n, *state))
        .collect();
    Pool::new(registry.pool("web"), "web", members)
}

fn all_up(registry: &mut Registry, count: u32) -> Pool {
    let members: Vec<_> = (0..count).map(|n| (n, MemberState::Up)).collect();
    pool_of(registry, &members)
}

fn client(n: u64) -> Addr {
    // Clients of one neighbourhood: consecutive addresses, the hard case for a hash.
    Addr::from_v4((0xc633_6400 + n as u32).to_be_bytes())
}

fn pools(pool: &Pool) -> Pools {
    Pools::new(vec![pool.clone()])
}

const METHODS: [Method; 3] = [
    Method::RoundRobin,
    Method::LeastConnections,
    Method::SourceAddressHash,
];

#[test]
fn only_members_that_are_up_are_chosen() {
    use MemberState::{Down, Draining, Up};
    let mut registry = Registry::new();
    let members = [(1, Down), (2, Up), (3, Draining), (4, Up), (5, Down)];
    let plain = pool_of(&mut registry, &members);
    for pool in [plain.clone(), plain.with_maglev()] {
        let mut selector = Selector::new(0, 7);
        selector.refresh(&pools(&pool));
        for method in METHODS {
            let mut seen = [0; 5];
            for n in 0..100 {
                let chosen = selector.select(&pool, method, &client(n)).unwrap();
                assert_eq!(chosen.state, Up);
                seen[chosen.id.to_u32() as usize] += 1;
            }
            assert!(seen[1] > 20 && seen[3] > 20, "{method:?} {seen:?}");
        }
    }
}

// case KAT-003: an empty pool gives nobody
#[test]
fn a_pool_without_a_member_that_is_up_gives_none() {
    let mut registry = Registry::new();
    let empty = Pool::new(registry.pool("web"), "web", Vec::new());
    let down = pool_of(&mut registry, &[(1, MemberState::Down)]);
    for pool in [
        empty.clone(),
        empty.with_maglev(),
        down.clone(),
        down.with_maglev(),
    ] {
        let mut selector = Selector::new(3, 7);
        selector.refresh(&pools(&pool));
        for method in METHODS {
            assert!(selector.select(&pool, method, &client(1)).is_none());
        }
    }
}

#[test]
fn round_robin_gives_each_member_its_turn() {
    let mut registry = Registry::new();
    let pool = all_up(&mut registry, 3);
    let mut selector = Selector::new(0, 7);
    selector.refresh(&pools(&pool));
    let order: Vec<u32> = (0..7)
        .map(|n| selector.select(&pool, Method::RoundRobin, &client(n)))
        .map(|m| m.unwrap().id.to_u32())
        .collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2, 0]);
}

#[test]
fn workers_begin_their_rounds_at_different_members() {
    let mut registry = Registry::new();
    let pool = all_up(&mut registry, 4);
    let firsts: Vec<u32> = (0..6)
        .map(|worker| {
            let mut selector = Selector::new(worker, 7);
            selector.refresh(&pools(&pool));
            let chosen = selector.select(&pool, Method::RoundRobin, &client(0));
            chosen.unwrap().id.to_u32()
        })
        .collect();
    assert_eq!(firsts, [0, 1, 2, 3, 0, 1]);
}

#[test]
fn a_round_goes_on_behind_a_member_that_is_gone() {
    let mut registry = Registry::new();
    let before = all_up(&mut registry, 4);
    let mut selector = Selector::new(0, 7);
    selector.refresh(&pools(&before));
    for _ in 0..2 {
        selector.select(&before, Method::RoundRobin, &client(0));
    }
    // Member 1, chosen last, goes; a new one comes. 2 is next all the same.
    let up = MemberState::Up;
    let after = pool_of(&mut registry, &[(9, up), (3, up), (2, up), (0, up)]);
    selector.refresh(&pools(&after));
    let order: Vec<u32> = (0..4)
        .map(|n| selector.select(&after, Method::RoundRobin, &client(n)))
        .map(|m| m.unwrap().id.to_u32())
        .collect();
    assert_eq!(order, [2, 3, 4, 0]);
}

#[test]
fn a_selector_that_has_not_seen_a_pool_still_chooses() {
    let mut registry = Registry::new();
    let pool = all_up(&mut registry, 3).with_maglev();
    let mut selector = Selector::new(2, 7);
    for method in METHODS {
        assert!(selector.select(&pool, method, &client(1)).is_some());
    }
    // An unknown member's connections are not counted, rather than counted wrongly.
    selector.opened(pool.members()[0].id);
    assert_eq!(selector.connections(pool.members()[0].id), 0);
}

#[test]
fn connections_are_counted_over_generations_and_without_their_pool() {
    let mut registry = Registry::new();
    let pool = all_up(&mut registry, 2);
    let id = pool.members()[1].id;
    let mut selector = Selector::new(0, 7);
    selector.refresh(&pools(&pool));
    selector.opened(id);
    selector.opened(id);
    selector.refresh(&Pools::default());
    assert_eq!(selector.connections(id), 2);
    selector.closed(id);
    assert_eq!(selector.connections(id), 1);
    selector.closed(id);
    selector.closed(id);
    assert_eq!(selector.connections(id), 0);
}

// case HAP-001: least connections
#[test]
fn least_connections_evens_out_what_ended_unevenly() {
    let mut registry = Registry::new();
    let pool = all_up(&mut registry, 4);
    let mut selector = Selector::new(0, 7);
    selector.refresh(&pools(&pool));
    let ids: Vec<MemberId> = pool.members().iter().map(|m| m.id).collect();
    for (id, count) in ids.iter().zip([5, 0, 3, 5]) {
        (0..count).for_each(|_| selector.opened(*id));
    }
    for n in 0..11 {
        let chosen = selector.select(&pool, Method::LeastConnections, &client(n));
        let id = chosen.unwrap().id;
        selector.opened(id);
    }
    let counts: Vec<u32> = ids.iter().map(|id| selector.connections(*id)).collect();
    assert_eq!(counts, [6, 6, 6, 6]);
}

#[test]
fn members_with_equally_few_connections_take_turns() {
    let mut registry = Registry::new();
    let pool = all_up(&mut registry, 3);
    let mut selector = Selector::new(0, 7);
    selector.refresh(&pools(&pool));
    // Each flow ends before the next begins.
    let order: Vec<u32> = (0..6)
        .map(|n| selector.select(&pool, Method::LeastConnections, &client(n)))
        .map(|m| m.unwrap().id.to_u32())
        .collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn the_fewer_of_two_choices_keep_a_large_pool_even() {
    let mut registry = Registry::new();
    let count = 100;
    assert!(count as usize > SCAN_LIMIT);
    let pool = all_up(&mut registry, count);
    let mut selector = Selector::new(0, 0x5eed);
    selector.refresh(&pools(&pool));
    for n in 0..u64::from(count) * 100 {
        let chosen = selector.select(&pool, Method::LeastConnections, &client(n));
        let id = chosen.unwrap().id;
        selector.opened(id);
    }
    // One random choice would reach about 130; two stay within log log n of the mean of 100.
    let counts = pool.members().iter().map(|m| selector.connections(m.id));
    assert!(counts.clone().max().unwrap() <= 106, "{counts:?}");
    assert!(counts.clone().min().unwrap() >= 90, "{counts:?}");
}

/// How many of `clients` each member gets by hash.
fn shares(pool: &Pool, clients: u64) -> BTreeMap<IpAddr, u64> {
    let mut selector = Selector::new(0, 7);
    let mut shares = BTreeMap::new();
    for n in 0..clients {
        let chosen = selector.select(pool, Method::SourceAddressHash, &client(n));
        *shares.entry(chosen.unwrap().addr).or_default() += 1;
    }
    shares
}

#[test]
fn maglev_gives_each_member_its_share_within_a_tenth() {
    for count in [2, 3, 10, 11, 80, 200] {
        let pool = all_up(&mut Registry::new(), count).with_maglev();
        let clients = u64::from(count) * 20_000;
        let shares = shares(&pool, clients);
        assert_eq!(shares.len(), count as usize);
        let worst = *shares.values().max().unwrap() as f64 / 20_000.0;
        assert!(worst <= 1.1, "{count} members: {worst}");
    }
}

// case GLB-001: only the clients that must move do
#[test]
fn maglev_moves_few_clients_of_the_members_that_stay() {
    for (count, bound) in [(3, 0.05), (10, 0.05), (50, 0.05), (200, 0.05)] {
        let mut registry = Registry::new();
        let whole = all_up(&mut registry, count).with_maglev();
        let without: Vec<_> = (0..count)
            .map(|n| {
                (
                    n,
                    if n == 1 {
                        MemberState::Down
                    } else {
                        MemberState::Up
                    },
                )
            })
            .collect();
        let without = pool_of(&mut registry, &without).with_maglev();
        let removed: Vec<_> = (0..count)
            .filter(|n| *n != 1)
            .map(|n| (n, MemberState::Up))
            .collect();
        let removed = pool_of(&mut registry, &removed).with_maglev();
        let mut selector = Selector::new(0, 7);
        let mut pick = |pool: &Pool, n| {
            let chosen = selector.select(pool, Method::SourceAddressHash, &client(n));
            chosen.unwrap().id
        };
        let gone = whole.members()[1].id;
        let (mut stayed, mut moved) = (0, 0);
        for n in 0..100_000 {
            let (before, after) = (pick(&whole, n), pick(&without, n));
            assert_eq!(after, pick(&removed, n), "down or gone must be the same");
            if before != gone {
                stayed += 1;
                moved += u32::from(before != after);
            }
        }
        let share = f64::from(moved) / f64::from(stayed);
        assert!(share <= bound, "{count} members: {share}");
    }
}

// case KAT-003: nor on their order, and it is the same each time
#[test]
fn the_hash_does_not_depend_on_the_order_of_the_members() {
    let forth: Vec<_> = (0..20).map(|n| (n, MemberState::Up)).collect();
    let back: Vec<_> = forth.iter().rev().copied().collect();
    let one = pool_of(&mut Registry::new(), &forth);
    let other = pool_of(&mut Registry::new(), &back);
    assert_eq!(shares(&one, 1000), shares(&other, 1000));
    assert_eq!(
        shares(&one.with_maglev(), 1000),
        shares(&other.with_maglev(), 1000)
    );
}

#[test]
fn the_hash_is_the_same_in_every_release() {
    // Changing these means that an upgrade moves every client: it must be worth a line in the
    // changelog.
    let pool = all_up(&mut Registry::new(), 5).with_maglev();
    let mut selector = Selector::new(0, 7);
    let mut pick = |addr: IpAddr| {
        let addr = Addr::from(addr);
        let chosen = selector.select(&pool, Method::SourceAddressHash, &addr);
        chosen.unwrap().id.to_u32()
    };
    let v4: Vec<u32> = (0..10)
        .map(|n| pick(IpAddr::from([198, 51, 100, n])))
        .collect();
    let v6: Vec<u32> = (0..10)
        .map(|n| pick(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])))
        .collect();
    assert_eq!(v4, [0, 3, 0, 2, 3, 1, 0, 0, 4, 4]);
    assert_eq!(v6, [4, 2, 1, 1, 0, 3, 4, 2, 2, 2]);
}

#[test]
fn pools_and_members_are_found_by_id() {
    let mut registry = Registry::new();
    let up = MemberState::Up;
    let (a, b) = (
        member(&mut registry, "a", 1, up),
        member(&mut registry, "b", 1, up),
    );
    let (pa, pb) = (registry.pool("a"), registry.pool("b"));
    let pools = Pools::new(vec![
        Pool::new(pb, "b", vec![b]),
        Pool::new(pa, "a", vec![a]),
    ]);
    assert_eq!(pools.get(pa).unwrap().name(), "a");
    let (pool, found) = pools.member(b.id).unwrap();
    assert_eq!((pool.id(), found), (pb, &b));
    let stranger = member(&mut registry, "c", 1, up);
    assert!(pools.member(stranger.id).is_none());
    assert!(pools.get(registry.pool("c")).is_none());
    assert_eq!(pools.iter().count(), 2);
}

proptest! {
    #[test]
    fn round_robin_is_fair_however_often_a_generation_is_taken_up(
        count in 1u32..20,
        worker in 0u16..8,
        refreshes in prop::collection::vec(any::<bool>(), 1..100),
    ) {
        let mut registry = Registry::new();
        let pool = all_up(&mut registry, count);
        let mut selector = Selector::new(worker, 7);
        selector.refresh(&pools(&pool));
        let mut chosen = Vec::new();
        for refresh in refreshes {
            if refresh {
                selector.refresh(&pools(&pool));
            }
            let member = selector.select(&pool, Method::RoundRobin, &client(0));
            chosen.push(member.unwrap().id);
        }
        for window in chosen.windows(count as usize) {
            let mut ids = window.to_vec();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), count as usize);
        }
    }

    #[test]
    fn round_robin_stays_fair_while_members_come_and_go(
        // Which of eight members are up, and how many flows come before the next change.
        generations in prop::collection::vec((1u8.., 0usize..20), 1..20),
        worker in 0u16..8,
    ) {
        let mut registry = Registry::new();
        all_up(&mut registry, 8);
        let mut selector = Selector::new(worker, 7);
        let mut last: Option<u32> = None;
        for (mask, flows) in generations {
            let up: Vec<u32> = (0..8).filter(|n| mask >> n & 1 == 1).collect();
            let states: Vec<_> = up.iter().rev().map(|n| (*n, MemberState::Up)).collect();
            let pool = pool_of(&mut registry, &states);
            selector.refresh(&pools(&pool));
            for _ in 0..flows {
                let chosen = selector.select(&pool, Method::RoundRobin, &client(0));
                let chosen = chosen.unwrap().id.to_u32();
                // Always the next one up behind the last, round the whole circle.
                let expected = match last {
                    Some(last) => *up.iter().find(|n| **n > last).unwrap_or(&up[0]),
                    None => up[usize::from(worker) % up.len()],
                };
                prop_assert_eq!(chosen, expected);
                last = Some(chosen);
            }
        }
    }
}
