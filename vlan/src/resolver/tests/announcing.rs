//! Announcing, defending and configuration changes.

use super::*;

const ARP_HERE: &str = "ff:ff:ff:ff:ff:ff arp who has 192.0.2.10 tell 192.0.2.10";
const ND_HERE: &str = "33:33:00:00:00:01 ff02::1 nd 2001:db8::10 is here, says 2001:db8::10";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The report that we listen to the group of an address that ends in `last`.
fn listening(kind: &str, last: &str) -> String {
    format!("33:33:00:00:00:16 ff02::16 mld {kind} ff02::1:ff00:{last}")
}

#[test]
fn a_newly_owned_address_is_announced_thrice_a_second_apart() {
    // IPv6: the groups first, its own and the one of the link-local address.
    let joined = ["10", "101"].map(|last| listening("ChangeToExclude", last));
    for (virtual_address, groups, frame) in [
        ("192.0.2.10", &joined[..0], ARP_HERE),
        ("2001:db8::10", &joined, ND_HERE),
    ] {
        let mut bench = Bench::new();
        bench
            .owned
            .insert(EXTERNAL, ip(virtual_address), Owner::Virtual);
        bench.configure();
        let round = |at| {
            let frames = groups.iter().cloned().chain([frame.to_owned()]);
            frames.map(move |frame| (at, frame))
        };
        let expected: Vec<_> = [0, 1000, 2000].into_iter().flat_map(round).collect();
        assert_eq!(bench.pass(30.0), expected);
        bench.configure();
        assert_eq!(bench.pass(30.0), [], "no news, no announcement");
    }
}

#[test]
fn a_query_is_answered_for_the_groups_we_listen_to() {
    let mut bench = Bench::new();
    let all = ["1", "101"].map(|last| listening("ModeIsExclude", last));
    let query = |group: Option<&str>| Event::Queried {
        vlan: EXTERNAL,
        group: group.map(addr),
    };
    bench.event(query(None));
    assert_eq!(bench.sent(), all);
    bench.event(query(None));
    assert_eq!(bench.pass(2.0), [], "a flood of queries is answered once");
    bench.event(query(Some("ff02::1:ff00:1")));
    assert_eq!(bench.sent(), all[..1]);
    bench.pass(2.0);
    bench.event(query(Some("ff02::fb")));
    assert_eq!(bench.sent(), [""; 0]);
    assert_eq!(bench.resolver.counters().reports, 2 * 3 + 3);
}

#[test]
fn a_vlan_without_ipv6_says_nothing_in_ipv6() {
    let mut quiet = vlan(EXTERNAL.0, 100);
    quiet.self_ips.retain(|ip| ip.addr.is_ipv4());
    let mut bench = Bench::new();
    bench.table = Table::new(vec![quiet]).unwrap();
    bench.owned = Owned::of_table(&bench.table);
    bench.resolver = Resolver::new(ResolverConfig::default());
    bench.configure();
    bench.event(Event::Queried {
        vlan: EXTERNAL,
        group: None,
    });
    let said = bench.pass(10.0);
    assert_eq!(said.len(), 3);
    assert!(said.iter().all(|(_, frame)| frame.contains(" arp ")));
}

#[test]
fn self_ips_are_announced_at_the_start_and_link_local_addresses_never() {
    let mut bench = Bench::new();
    let mut fresh = Resolver::new(ResolverConfig::default());
    fresh.set_vlans(&bench.table, &bench.owned, bench.now);
    bench.resolver = fresh;
    assert_eq!(
        bench.sent(),
        [
            &listening("ChangeToExclude", "1"),
            &listening("ChangeToExclude", "101"),
            "ff:ff:ff:ff:ff:ff arp who has 192.0.2.1 tell 192.0.2.1",
            "33:33:00:00:00:01 ff02::1 nd 2001:db8::1 is here, says 2001:db8::1",
        ]
    );
}

#[test]
fn an_address_given_up_is_not_announced_any_more() {
    let mut bench = Bench::new();
    let before = bench.owned.clone();
    bench
        .owned
        .insert(EXTERNAL, ip("192.0.2.10"), Owner::Virtual);
    bench.configure();
    assert_eq!(bench.sent(), [ARP_HERE]);
    bench.owned = before;
    bench.configure();
    assert_eq!(bench.pass(10.0), []);
    bench
        .owned
        .insert(EXTERNAL, ip("192.0.2.10"), Owner::Virtual);
    bench.configure();
    assert_eq!(bench.pass(10.0).len(), 3, "taken again, announced again");
}

#[test]
fn a_new_mac_address_is_announced_for_all_and_forgets_the_neighbors() {
    let mut bench = Bench::new();
    bench.resolve(V4);
    let mut moved = vlan(EXTERNAL.0, 100);
    moved.ports.reverse();
    bench.table = Table::new(vec![moved]).unwrap();
    bench.configure();
    assert_eq!(bench.pass(10.0).len(), 4 * 3);
    assert_eq!(bench.state(V4), None);
}

#[test]
fn a_link_that_comes_up_is_told_again() {
    let mut bench = Bench::new();
    bench.resolver.announce(EXTERNAL, bench.now);
    assert_eq!(bench.pass(10.0).len(), 4 * 3);
    bench.resolver.announce(VlanIndex(77), bench.now);
    assert_eq!(bench.pass(10.0), []);
}

#[test]
fn a_configuration_change_keeps_the_neighbors_that_are_still_on_link() {
    let mut bench = Bench::new();
    bench.resolve(V4);
    bench.resolve(V6);
    bench.resolve("192.0.2.50");
    let neighbor = bench.lookup(V4).unwrap();
    let mut changed = vlan(EXTERNAL.0, 100);
    changed.self_ips.retain(|ip| ip.addr.is_ipv4());
    changed.mtu = 9000;
    bench.table = Table::new(vec![changed]).unwrap();
    bench.owned = Owned::of_table(&bench.table);
    bench
        .owned
        .insert(EXTERNAL, ip("192.0.2.50"), Owner::Virtual);
    bench.configure();
    assert_eq!(
        bench.resolver.neighbors().mac(neighbor),
        Resolution::Reachable(PEER)
    );
    assert_eq!(bench.state(V6), None, "off-link now");
    assert_eq!(bench.state("192.0.2.50"), None, "ours now");
    bench.table = Table::new(vec![]).unwrap();
    bench.owned = Owned::new();
    bench.configure();
    assert_eq!(bench.resolver.neighbors().mac(neighbor), Resolution::Stale);
    assert_eq!(bench.resolver.next_deadline(), None);
}

#[test]
fn an_index_that_names_another_vlan_forgets_its_neighbors() {
    let mut bench = Bench::new();
    bench.resolve(V4);
    let mut other = vlan(EXTERNAL.0, 100);
    other.name = "another".into();
    bench.table = Table::new(vec![other]).unwrap();
    bench.configure();
    assert_eq!(bench.state(V4), None);
}

#[test]
fn a_conflict_is_recorded_and_the_address_defended_once_per_ten_seconds() {
    let mut bench = Bench::new();
    bench
        .owned
        .insert(EXTERNAL, ip("192.0.2.10"), Owner::Virtual);
    bench.configure();
    bench.pass(10.0);
    let first_seen = bench.now;
    let conflict = |mac| Event::Conflict {
        vlan: EXTERNAL,
        addr: addr("192.0.2.10"),
        mac,
    };
    let mut defended = vec![];
    for _ in 0..30 {
        bench.event(conflict(PEER));
        defended.extend(bench.pass(1.0));
    }
    assert_eq!(defended, vec![(0, ARP_HERE.to_owned()); 3]);
    bench.event(conflict(OTHER));
    assert_eq!(
        bench.resolver.conflicts(),
        [Conflict {
            vlan: EXTERNAL,
            addr: addr("192.0.2.10"),
            mac: OTHER,
            count: 31,
            first_seen,
            last_seen: bench.now,
        }]
    );
    bench.owned = Owned::of_table(&bench.table);
    bench.configure();
    assert_eq!(bench.resolver.conflicts(), [], "no longer ours");
    bench.event(conflict(PEER));
    assert_eq!(bench.resolver.conflicts(), []);
}

#[test]
fn a_conflict_is_told_first_and_with_each_defence_and_forgotten_after_ten_minutes_of_silence() {
    let mut bench = Bench::new();
    let conflict = |last: u8| Event::Conflict {
        vlan: EXTERNAL,
        addr: Addr::from_v4([192, 0, 2, last]),
        mac: PEER,
    };
    for last in [1, 7] {
        bench
            .owned
            .insert(EXTERNAL, IpAddr::from([192, 0, 2, last]), Owner::Virtual);
    }
    bench.configure();
    bench.pass(10.0);
    let start = bench.now;
    assert_eq!(
        bench.resolver.on_event(conflict(7), start).map(|c| c.count),
        Some(1)
    );
    let mut told = vec![];
    for _ in 0..25 {
        let now = bench.now;
        told.extend(bench.resolver.on_event(conflict(1), now));
        bench.pass(1.0);
    }
    let counts: Vec<u64> = told.iter().map(|conflict| conflict.count).collect();
    assert_eq!(counts, [1, 11, 21]);
    assert!(told.iter().all(|conflict| conflict.first_seen == start));
    let known = |bench: &mut Bench, after: f64| {
        bench.now = start + Duration::from_secs_f64(after);
        bench.sent();
        bench.resolver.conflicts().len()
    };
    assert_eq!(known(&mut bench, 599.9), 2);
    assert_eq!(known(&mut bench, 600.0), 1, "the one not heard again");
    assert_eq!(known(&mut bench, 623.9), 1);
    assert_eq!(known(&mut bench, 624.0), 0);
    let now = bench.now;
    let again = bench.resolver.on_event(conflict(1), now);
    assert_eq!(again.map(|conflict| conflict.first_seen), Some(now));
}

#[test]
fn a_virtual_address_is_announced_only_where_it_is_on_link_and_once_it_is() {
    let mut bench = Bench::new();
    for off_link in ["203.0.113.10", "2001:db8:f::10"] {
        bench.owned.insert(EXTERNAL, ip(off_link), Owner::Virtual);
    }
    bench.configure();
    assert_eq!(bench.pass(10.0), []);
    bench.resolver.announce(EXTERNAL, bench.now);
    assert_eq!(bench.pass(10.0).len(), 4 * 3, "the self IPs alone");
    // A self IP whose subnet holds it comes; its own address is announced as well.
    let mut nearer = vlan(EXTERNAL.0, 100);
    nearer
        .self_ips
        .push(crate::testing::self_ip("203.0.113.1", 24));
    bench.table = Table::new(vec![nearer]).unwrap();
    bench
        .owned
        .insert(EXTERNAL, ip("203.0.113.1"), Owner::SelfIp);
    bench.configure();
    let here =
        |last| format!("ff:ff:ff:ff:ff:ff arp who has 203.0.113.{last} tell 203.0.113.{last}");
    assert_eq!(bench.sent(), [here(1), here(10)]);
}

#[test]
fn many_addresses_are_announced_at_a_pace_in_turn_and_all_of_them() {
    let mut bench = Bench::with(ResolverConfig {
        announce_rate: 100,
        announce_burst: 10,
        ..ResolverConfig::default()
    });
    for last in 2..=201 {
        bench
            .owned
            .insert(EXTERNAL, IpAddr::from([192, 0, 2, last]), Owner::Virtual);
    }
    bench.configure();
    assert_eq!(bench.sent().len(), 10);
    assert_eq!(bench.sent().len(), 0);
    let said = bench.pass(30.0);
    assert_eq!(said.len(), 200 * 3 - 10);
    let within = |from: u64| {
        said.iter()
            .filter(|(at, _)| (from..from + 1000).contains(at))
            .count()
    };
    assert!((0..8000).step_by(50).all(|from| within(from) <= 101));
    // Done as soon as the pace allows, the first time for all before the second for any.
    assert!(said.last().unwrap().0 <= 6000, "{:?}", said.last());
    let first: std::collections::BTreeSet<&String> =
        said.iter().take(190).map(|(_, frame)| frame).collect();
    assert_eq!(first.len(), 190);
    // A question is not held up by them.
    bench.resolver.announce(EXTERNAL, bench.now);
    bench.sent();
    bench.need("192.0.2.250");
    assert_eq!(bench.sent().len(), 1);
}
