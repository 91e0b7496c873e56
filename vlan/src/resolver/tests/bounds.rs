//! What must not be learned, and what happens when there is no room.

use proptest::prelude::*;

use super::*;

/// The n-th address of the IPv6 subnet.
fn nth(n: u16) -> String {
    format!("2001:db8::1:{n:x}")
}

// case LNX-019: an announcement from a foreign subnet teaches nothing.
#[test]
fn only_stations_on_the_link_are_asked_for_or_learned() {
    let mut bench = Bench::new();
    let own = vlan(1, 100).link_local().to_string();
    let impossible = [
        "198.51.100.1",
        "192.0.2.0",
        "192.0.2.255",
        "192.0.2.1",
        "224.0.0.1",
        "0.0.0.0",
        "2001:db8:1::1",
        "2001:db8::1",
        "ff02::1",
        "::",
        own.as_str(),
    ];
    for who in impossible {
        bench.need(who);
        bench.learn(who, PEER, How::ArpRequest);
        bench.learn(who, PEER, How::Solicitation);
    }
    for mac in [
        MacAddr::BROADCAST,
        MacAddr::ZERO,
        OURS,
        MacAddr([1, 0, 0x5e, 0, 0, 1]),
    ] {
        bench.learn(V4, mac, How::ArpRequest);
    }
    bench.event(Event::Needed {
        vlan: VlanIndex(9),
        addr: addr(V4),
    });
    assert_eq!(bench.resolver.snapshot(), []);
    assert_eq!(bench.sent(), [""; 0]);
    let refused = u64::try_from(impossible.len()).unwrap() * 3 + 4 + 1;
    assert_eq!(bench.resolver.counters().refused, refused);
}

// case VPPI-002: an announcement changes who is known, and makes nobody known.
#[test]
fn nobody_is_learned_unasked_and_without_asking_us() {
    for how in [
        How::ArpReply,
        How::ArpUnsolicited,
        How::Advertisement {
            solicited: true,
            overrides: true,
        },
    ] {
        let mut bench = Bench::new();
        bench.learn(V4, PEER, how);
        bench.learn(V6, PEER, how);
        assert_eq!(bench.resolver.snapshot(), []);
    }
}

#[test]
fn a_scan_does_not_push_out_neighbors_that_answer() {
    let config = ResolverConfig {
        max_neighbors: 128,
        max_unresolved: 32,
        ..ResolverConfig::default()
    };
    let mut bench = Bench::with(config);
    for n in 0..64 {
        bench.resolve(&nth(n));
    }
    for n in 1000..1600 {
        bench.need(&nth(n));
        for known in 0..64 {
            let who = nth(known);
            assert_eq!(bench.send_to(&who), Some(Resolution::Reachable(PEER)));
            if bench.state(&who) == Some(NeighborState::Probing) {
                bench.answer(&who, PEER);
            }
        }
        bench.pass(0.05);
        let known = bench.resolver.snapshot();
        assert!(known.iter().filter(|i| i.mac.is_none()).count() <= 32);
    }
    let counters = bench.resolver.counters();
    assert!(counters.no_room > 0 && counters.evicted > 0, "{counters:?}");
}

// case VPPI-005: at its limit, the table gives the place of a neighbour that is not in use to another.
#[test]
fn a_full_table_makes_room_by_forgetting_who_is_not_in_use() {
    let mut bench = Bench::with(ResolverConfig {
        max_neighbors: 8,
        ..ResolverConfig::default()
    });
    for n in 0..8 {
        bench.learn(&nth(n), PEER, How::Solicitation);
        bench.pass(0.01);
    }
    bench.send_to(&nth(0));
    bench.need(V4);
    assert_eq!(bench.send_to(V4), Some(Resolution::Pending));
    assert!(bench.state(&nth(0)).is_some(), "the oldest, but in use");
    assert!(bench.state(&nth(1)).is_none(), "the oldest not in use");
    assert_eq!(bench.resolver.counters().evicted, 1);
    assert_eq!(bench.resolver.snapshot().len(), 8);
}

#[test]
fn a_full_table_of_reachable_neighbors_refuses_more() {
    let mut bench = Bench::with(ResolverConfig {
        max_neighbors: 8,
        ..ResolverConfig::default()
    });
    for n in 0..8 {
        bench.resolve(&nth(n));
    }
    bench.need(V4);
    assert_eq!(bench.lookup(V4), None);
    assert_eq!(bench.resolver.counters().no_room, 1);
}

#[test]
fn a_configuration_of_zeros_comes_to_an_end() {
    let zero = Duration::ZERO;
    let mut bench = Bench::with(ResolverConfig {
        max_neighbors: 4,
        max_unresolved: 4,
        attempts: 1,
        retry: zero,
        reachable: zero,
        delay: zero,
        hold_down: zero,
        forget: zero,
        settle: zero,
        announcements: 0,
        announce_interval: zero,
        announce_rate: 0,
        announce_burst: 0,
        defend_interval: zero,
        seed: 0,
    });
    bench.need(V4);
    bench.learn(V6, PEER, How::Solicitation);
    assert!(bench.sent().len() < 10);
    bench.pass(1.0);
    assert_eq!(bench.resolver.snapshot(), []);
}

fn events() -> impl Strategy<Value = Vec<(Event, u16)>> {
    let addr = (0u16..12).prop_map(|n| match n {
        0 => addr("192.0.2.1"),
        1 => addr("192.0.2.255"),
        2 => addr("198.51.100.9"),
        3..=7 => Addr::from_v4([192, 0, 2, n.to_be_bytes()[1] + 10]),
        _ => addr(&nth(n)),
    });
    let mac = (0u8..4).prop_map(|n| {
        if n == 0 {
            OURS
        } else {
            MacAddr([2, 0, 0, 0, 0, n])
        }
    });
    let how = prop_oneof![
        Just(How::ArpReply),
        Just(How::ArpRequest),
        Just(How::ArpUnsolicited),
        Just(How::Solicitation),
        any::<(bool, bool)>().prop_map(|(solicited, overrides)| How::Advertisement {
            solicited,
            overrides
        }),
    ];
    let vlan = prop_oneof![9 => Just(EXTERNAL), 1 => Just(VlanIndex(5))];
    let event =
        (vlan, addr, mac, how, 0u8..5).prop_map(|(vlan, addr, mac, how, kind)| match kind {
            0 | 1 => Event::Needed { vlan, addr },
            2 => Event::Confirmed { vlan, addr },
            3 => Event::Conflict { vlan, addr, mac },
            _ => Event::Learned {
                vlan,
                addr,
                mac,
                how,
            },
        });
    proptest::collection::vec((event, 0u16..4000), 1..200)
}

proptest! {
    #[test]
    fn any_history_keeps_the_books_straight(history in events()) {
        let mut bench = Bench::with(ResolverConfig {
            max_neighbors: 6,
            max_unresolved: 3,
            ..ResolverConfig::default()
        });
        let mut frames = 0;
        for (event, wait) in history {
            bench.event(event);
            frames += bench.pass(f64::from(wait) / 1000.0).len();
            let known = bench.resolver.snapshot();
            prop_assert!(known.len() <= 6);
            prop_assert!(known.iter().filter(|i| i.mac.is_none()).count() <= 3 + 3);
            for info in &known {
                let seen = bench.lookup(&info.addr.to_string());
                prop_assert!(seen.is_some(), "workers find {info:?}");
                let expected = match (info.state, info.mac) {
                    (NeighborState::Pending, None) => Resolution::Pending,
                    (NeighborState::Failed, None) => Resolution::Failed,
                    (_, Some(mac)) => Resolution::Reachable(mac),
                    _ => return Err(TestCaseError::fail(format!("{info:?}"))),
                };
                let found = bench.resolver.neighbors().mac(seen.unwrap());
                prop_assert_eq!(found, expected);
            }
            prop_assert!(bench.resolver.next_deadline().is_none_or(|due| due > bench.now));
        }
        let counters = bench.resolver.counters();
        prop_assert!(counters.solicitations + counters.announcements >= u64::try_from(frames).unwrap());
        // Left alone, everything is forgotten and nothing is left to do.
        bench.pass(400.0);
        prop_assert_eq!(bench.resolver.snapshot(), vec![]);
        prop_assert_eq!(bench.resolver.next_deadline(), None);
    }
}
