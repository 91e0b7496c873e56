use super::*;

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

#[test]
fn a_station_is_sent_to_by_the_link_it_was_heard_on() {
    let (links, stations) = (Links::new(2), Stations::default());
    let (vlan, ports) = (VlanIndex(3), [PortId(0), PortId(1)]);
    let egress = Egress::new(&ports, false, TrunkHash::default()).unwrap();
    let to = |n| egress.port(vlan, mac(n), || 0, &Own::default(), (&links, &stations));
    assert_eq!(to(1), Some(PortId(0)), "unknown: the first link");
    stations.heard(vlan, mac(1), PortId(1));
    assert_eq!(to(1), Some(PortId(1)));
    stations.heard(VlanIndex(4), mac(1), PortId(0));
    assert_eq!(to(1), Some(PortId(1)), "another VLAN is another station");
    stations.heard(vlan, mac(1), PortId(0));
    assert_eq!(to(1), Some(PortId(0)), "it moved");
    links.set(PortId(0), false);
    assert_eq!(to(1), Some(PortId(1)), "its link is down");
    assert_eq!(egress.flood(&links, None), [PortId(1)]);
    links.set(PortId(1), false);
    assert_eq!(to(1), None);
}

/// Four ports, of which the first and third are in one segment.
fn grouped() -> Segments {
    let segments = Segments::new(&[0, 1, 2, 3].map(PortId));
    segments.set(&[0b0101, 0b0010, 0b0101, 0b1000]);
    segments
}

#[test]
fn of_ports_in_one_segment_a_worker_takes_its_own_and_of_several_one_for_each_flow() {
    let (links, segments) = (Links::new(4), grouped());
    let pick = |own: &[bool], flow: u64| {
        let own = Own::new(own.iter().copied());
        segments.pick(2, &own, &links, || flow).unwrap()
    };
    assert_eq!(pick(&[true, true, false, true], 7), PortId(0));
    assert_eq!(pick(&[false, false, true, false], 7), PortId(2));
    for own in [&[][..], &[false; 4]] {
        let mut met: Vec<PortId> = (0..8).map(|flow| pick(own, flow)).collect();
        assert_eq!(pick(own, 5), pick(own, 5));
        met.sort();
        met.dedup();
        assert_eq!(met, [PortId(0), PortId(2)], "{own:?}");
    }
    links.set(PortId(2), false);
    assert_eq!(
        pick(&[false, false, true, false], 7),
        PortId(0),
        "its own is down"
    );
}

#[test]
fn a_question_has_one_answerer_in_a_segment_and_everybody_agrees_on_it() {
    let (links, segments) = (Links::new(4), grouped());
    for spread in (0..64).map(|n: u64| n << 32) {
        let chosen = segments.answerer(PortId(0), spread, &links);
        assert_eq!(segments.answerer(PortId(2), spread, &links), chosen);
        assert_eq!(segments.answerer(PortId(1), spread, &links), PortId(1));
        let egress = Egress::Segments(grouped());
        let mut all = vec![chosen, PortId(1), PortId(3)];
        all.sort();
        assert_eq!(
            egress.flood(&links, Some(spread)),
            all,
            "announced by the same"
        );
    }
    links.set(PortId(0), false);
    assert_eq!(segments.answerer(PortId(2), 0, &links), PortId(2));
    assert_eq!(segments.answerer(PortId(2), 1 << 32, &links), PortId(2));
}

#[test]
fn a_segment_is_one_place_and_what_it_floods_is_taken_once() {
    let (links, segments) = (Links::new(4), grouped());
    assert_eq!(
        [0, 1, 2, 3].map(|at| segments.place(PortId(at)).0),
        [0, 1, 0, 3]
    );
    assert_eq!(
        segments.list(),
        [vec![PortId(0), PortId(2)], vec![PortId(1)], vec![PortId(3)]]
    );
    let doubles = |at, other| segments.doubles(PortId(at), PortId(other), &links);
    assert!(doubles(0, 2) && doubles(2, 0));
    assert!(!doubles(0, 0) && !doubles(0, 1) && !doubles(1, 3));
    links.set(PortId(2), false);
    assert!(
        !segments.doubles(PortId(0), PortId(2), &links),
        "it does not hear it itself"
    );
    let own = Own::new([false, true, true, true]);
    assert_eq!(
        segments.back(PortId(0), &own, &links),
        PortId(0),
        "nobody else is up"
    );
    links.set(PortId(2), true);
    assert_eq!(segments.back(PortId(0), &own, &links), PortId(2));
    assert_eq!(segments.back(PortId(1), &own, &links), PortId(1));
}

#[test]
fn more_ports_than_are_grouped_are_each_alone() {
    let ports: Vec<PortId> = (0..70).map(PortId).collect();
    let (links, stations) = (Links::new(70), Stations::default());
    let egress = Egress::new(&ports, false, TrunkHash::default()).unwrap();
    stations.heard(VlanIndex(1), mac(1), PortId(66));
    let to = |n| {
        egress.port(
            VlanIndex(1),
            mac(n),
            || 0,
            &Own::default(),
            (&links, &stations),
        )
    };
    assert_eq!(to(1), Some(PortId(66)));
    links.set(PortId(66), false);
    assert_eq!(to(1), Some(PortId(0)));
    assert_eq!(egress.flood(&links, Some(9)).len(), 69);
}

#[test]
fn a_lag_spreads_flows_over_the_links_that_are_up() {
    let (links, stations) = (Links::new(3), Stations::default());
    let ports = [PortId(0), PortId(1), PortId(2)];
    let egress = Egress::new(&ports, true, TrunkHash::SrcDstIpport).unwrap();
    let to = |hash| {
        egress
            .port(
                VlanIndex(0),
                mac(1),
                || hash,
                &Own::default(),
                (&links, &stations),
            )
            .unwrap()
    };
    let mut seen: Vec<PortId> = (0..30).map(to).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ports);
    assert_eq!(to(7), to(7), "a flow stays on its link");
    assert_eq!(egress.flood(&links, None).len(), 1, "a LAG is one link");
    links.set(PortId(1), false);
    assert!((0..30).map(to).all(|port| port != PortId(1)));
}

#[test]
fn by_mac_address_all_flows_to_a_station_share_a_link() {
    let (links, stations) = (Links::new(2), Stations::default());
    let egress = Egress::new(&[PortId(0), PortId(1)], true, TrunkHash::DstMac).unwrap();
    let to = |n, hash| {
        egress
            .port(
                VlanIndex(0),
                mac(n),
                || hash,
                &Own::default(),
                (&links, &stations),
            )
            .unwrap()
    };
    assert!((0..20).all(|hash| to(1, hash) == to(1, 0)));
    assert!((0..20).any(|n| to(n, 0) != to(1, 0)));
}

#[test]
fn more_stations_than_slots_are_forgotten_and_never_mixed_up() {
    let stations = Stations::default();
    let station = |n: u32| {
        let [a, b, c, d] = n.to_be_bytes();
        (MacAddr([2, 1, a, b, c, d]), PortId(d & 1))
    };
    for n in 0..20_000 {
        let (mac, port) = station(n);
        stations.heard(VlanIndex(0), mac, port);
    }
    let known = (0..20_000)
        .map(station)
        .filter(|(mac, port)| match stations.port(VlanIndex(0), *mac) {
            Some(found) => {
                assert_eq!(found, *port);
                true
            }
            None => false,
        })
        .count();
    assert!(known > 3_000, "{known}");
}
