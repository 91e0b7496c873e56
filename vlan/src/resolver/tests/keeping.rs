//! Ageing, checking, moving and forgetting.

use super::*;

#[test]
fn a_neighbor_in_use_is_checked_and_stays_usable_meanwhile() {
    for (who, question) in [(V4, ARP_ONE), (V6, ND_ONE)] {
        let mut bench = Bench::new();
        bench.resolve(who);
        let resolved = bench.now;
        bench.send_to(who);
        bench.now = bench.resolver.next_deadline().unwrap();
        let after = bench.now.since(resolved).as_secs_f64();
        assert!(
            (15.0..=45.0).contains(&after),
            "0.5 to 1.5 of 30 s: {after}"
        );
        assert_eq!(
            bench.sent(),
            [question],
            "its station is asked, not everybody"
        );
        assert_eq!(bench.state(who), Some(NeighborState::Probing));
        assert_eq!(bench.send_to(who), Some(Resolution::Reachable(PEER)));
    }
}

#[test]
fn checks_are_spread_over_half_to_one_and_a_half_of_the_reachable_time() {
    let mut bench = Bench::new();
    let everybody: Vec<_> = (2..=201).map(|n| format!("192.0.2.{n}")).collect();
    for who in &everybody {
        bench.resolve(who);
    }
    for who in &everybody {
        bench.send_to(who);
    }
    let mut first_checks: Vec<u64> = vec![];
    let mut seen = std::collections::HashSet::new();
    for (at, question) in bench.pass(60.0) {
        if question.starts_with(&PEER.to_string()) && seen.insert(question) {
            first_checks.push(at);
        }
    }
    let (first, last) = (first_checks[0], first_checks[everybody.len() - 1]);
    assert!((15_000..20_000).contains(&first), "{first} ms");
    assert!((40_000..45_000).contains(&last), "{last} ms");
}

#[test]
fn a_checked_neighbor_that_answers_is_good_for_another_round() {
    let mut bench = Bench::new();
    bench.resolve(V4);
    for _ in 0..10 {
        bench.send_to(V4);
        let due = bench.resolver.next_deadline().unwrap();
        bench.now = due;
        assert_eq!(bench.sent(), [ARP_ONE]);
        assert_eq!(bench.state(V4), Some(NeighborState::Probing));
        bench.answer(V4, PEER);
        assert_eq!(bench.state(V4), Some(NeighborState::Reachable));
    }
    assert_eq!(bench.resolver.counters().moved, 0);
}

// case VPPI-005: three probes to the station, three to all, then it is gone.
#[test]
fn a_neighbor_gone_is_asked_thrice_then_looked_for_thrice_then_failed() {
    for (who, one, all) in [(V4, ARP_ONE, ARP_ALL), (V6, ND_ONE, ND_ALL)] {
        let mut bench = Bench::new();
        bench.resolve(who);
        bench.send_to(who);
        bench.now = bench.resolver.next_deadline().unwrap();
        let expected = [one, one, one, all, all, all];
        let asked = bench.pass(5.9);
        assert_eq!(
            asked,
            std::iter::zip(
                [0, 1000, 2000, 3000, 4000, 5000],
                expected.map(str::to_owned)
            )
            .collect::<Vec<_>>()
        );
        assert_eq!(bench.send_to(who), Some(Resolution::Reachable(PEER)));
        bench.pass(0.2);
        assert_eq!(bench.send_to(who), Some(Resolution::Failed));
        assert_eq!(bench.info(who).unwrap().mac, None);
    }
}

#[test]
fn a_neighbor_that_nobody_sends_to_is_not_checked_and_forgotten() {
    let mut bench = Bench::new();
    bench.resolve(V4);
    let neighbor = bench.lookup(V4).unwrap();
    assert_eq!(bench.pass(46.0), []);
    assert_eq!(bench.state(V4), Some(NeighborState::Stale));
    assert_eq!(bench.pass(65.0), []);
    assert_eq!(bench.state(V4), None);
    assert_eq!(bench.resolver.neighbors().mac(neighbor), Resolution::Stale);
    assert_eq!(bench.resolver.next_deadline(), None, "nothing left to do");
}

#[test]
fn a_stale_neighbor_that_is_used_again_is_checked_within_the_delay() {
    let mut bench = Bench::new();
    bench.resolve(V4);
    bench.pass(46.0);
    assert_eq!(bench.state(V4), Some(NeighborState::Stale));
    assert_eq!(bench.send_to(V4), Some(Resolution::Reachable(PEER)));
    let asked = bench.pass(5.0);
    assert_eq!(asked[0].1, ARP_ONE);
}

#[test]
fn acknowledged_traffic_spares_the_check() {
    let mut bench = Bench::new();
    bench.resolve(V4);
    for _ in 0..20 {
        bench.send_to(V4);
        assert_eq!(bench.pass(10.0), []);
        bench.event(Event::Confirmed {
            vlan: EXTERNAL,
            addr: addr(V4),
        });
    }
    assert_eq!(bench.state(V4), Some(NeighborState::Reachable));
}

#[test]
fn a_confirmation_of_what_is_not_known_changes_nothing() {
    let mut bench = Bench::new();
    bench.event(Event::Confirmed {
        vlan: EXTERNAL,
        addr: addr(V4),
    });
    assert_eq!(bench.state(V4), None);
    bench.need(V4);
    bench.event(Event::Confirmed {
        vlan: EXTERNAL,
        addr: addr(V4),
    });
    assert_eq!(bench.send_to(V4), Some(Resolution::Pending));
}

#[test]
fn an_announced_move_is_followed_at_once_and_checked() {
    for (who, how) in [
        (V4, How::ArpUnsolicited),
        (
            V6,
            How::Advertisement {
                solicited: false,
                overrides: true,
            },
        ),
    ] {
        let mut bench = Bench::new();
        bench.resolve(who);
        let neighbor = bench.lookup(who).unwrap();
        bench.pass(2.0);
        bench.learn(who, OTHER, how);
        assert_eq!(
            bench.resolver.neighbors().mac(neighbor),
            Resolution::Reachable(OTHER),
            "flows follow without a new lookup"
        );
        assert_eq!(bench.state(who), Some(NeighborState::Stale));
        assert_eq!(bench.resolver.counters().moved, 1);
        let asked = bench.pass(5.0);
        assert!(asked[0].1.starts_with("02:00:00:00:00:55"), "{asked:?}");
    }
}

#[test]
fn a_move_within_a_second_of_the_answer_is_refused() {
    let mut bench = Bench::new();
    bench.resolve(V4);
    bench.learn(V4, OTHER, How::ArpUnsolicited);
    bench.learn(V4, OTHER, How::ArpReply);
    assert_eq!(bench.send_to(V4), Some(Resolution::Reachable(PEER)));
    assert_eq!(bench.resolver.counters().refused, 2);
}

// case VPPI-004: two stations that both answer do not make the neighbour flap.
#[test]
fn an_advertisement_without_override_only_raises_doubt() {
    let mut bench = Bench::new();
    bench.resolve(V6);
    bench.pass(2.0);
    bench.learn(
        V6,
        OTHER,
        How::Advertisement {
            solicited: true,
            overrides: false,
        },
    );
    assert_eq!(bench.state(V6), Some(NeighborState::Stale));
    assert_eq!(bench.send_to(V6), Some(Resolution::Reachable(PEER)));
}

#[test]
fn an_answer_that_was_not_asked_for_does_not_confirm() {
    let mut bench = Bench::new();
    bench.resolve(V6);
    bench.pass(46.0);
    assert_eq!(bench.state(V6), Some(NeighborState::Stale));
    bench.answer(V6, PEER);
    assert_eq!(bench.state(V6), Some(NeighborState::Stale));
}

#[test]
fn a_move_during_a_check_restarts_it_with_the_new_station() {
    let mut bench = Bench::new();
    bench.resolve(V4);
    bench.send_to(V4);
    bench.now = bench.resolver.next_deadline().unwrap();
    assert_eq!(bench.sent(), [ARP_ONE]);
    bench.learn(V4, OTHER, How::ArpUnsolicited);
    assert_eq!(
        bench.sent(),
        ["02:00:00:00:00:55 arp who has 192.0.2.99 tell 192.0.2.1"]
    );
    bench.answer(V4, OTHER);
    assert_eq!(bench.state(V4), Some(NeighborState::Reachable));
}

#[test]
fn who_asks_for_us_is_known_before_it_is_needed() {
    for (who, how) in [(V4, How::ArpRequest), (V6, How::Solicitation)] {
        let mut bench = Bench::new();
        bench.learn(who, PEER, how);
        assert_eq!(bench.state(who), Some(NeighborState::Stale));
        assert_eq!(bench.send_to(who), Some(Resolution::Reachable(PEER)));
        bench.need(who);
        assert_eq!(bench.state(who), Some(NeighborState::Probing));
        assert_eq!(bench.sent().len(), 1);
    }
}

#[test]
fn a_question_from_a_neighbor_being_asked_for_answers_ours() {
    let mut bench = Bench::new();
    bench.need(V4);
    bench.sent();
    bench.learn(V4, PEER, How::ArpRequest);
    assert_eq!(bench.send_to(V4), Some(Resolution::Reachable(PEER)));
    assert_eq!(
        bench.state(V4),
        Some(NeighborState::Stale),
        "known, not confirmed"
    );
}

#[test]
fn neighbors_are_listed_by_vlan_and_address() {
    let mut bench = Bench::new();
    for who in ["192.0.2.30", V6, "192.0.2.4", "fe80::1"] {
        bench.need(who);
    }
    let listed: Vec<_> = bench
        .resolver
        .snapshot()
        .iter()
        .map(|i| i.addr.to_string())
        .collect();
    assert_eq!(listed, ["192.0.2.4", "192.0.2.30", V6, "fe80::1"]);
    assert_eq!(bench.state(V6).unwrap().name(), "pending");
}
