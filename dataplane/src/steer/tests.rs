#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use lb::{Listen, Method, PortStripe, Profile, Registry};
use proptest::prelude::*;

use super::*;

fn v4(a: u8, b: u8) -> Addr {
    Addr::from_v4([10, 0, a, b])
}

fn tcp(src: Addr, sport: u16, dst: Addr, dport: u16) -> FlowKey {
    FlowKey::new(src, dst, L4Port(sport), L4Port(dport), IpProto::TCP)
}

fn server(destination: &str, snat: Snat) -> VirtualServer {
    let mut ids = Registry::default();
    VirtualServer {
        id: ids.virtual_server("a"),
        name: "a".to_owned(),
        proto: IpProto::TCP,
        destination: destination.parse().unwrap(),
        port: L4Port(0),
        listen: Listen::All,
        pool: ids.pool("a"),
        method: Method::RoundRobin,
        snat,
        profile: Profile::default(),
    }
}

const BOTH: Spread = Spread {
    by_vlan: Vec::new(),
    untranslated: true,
    translated: true,
    mapped: false,
    hashes: Hashes {
        tuple: true,
        source: false,
        destination: false,
    },
};

#[test]
fn one_worker_hands_nothing_over() {
    let steering = Steering::alone();
    let key = tcp(v4(0, 1), 1234, v4(1, 1), 80);
    let question = Question {
        key: &key,
        cmp_hash: SpreadHash::Default,
        server: None,
        to_self_ip: false,
    };
    assert_eq!(steering.elsewhere(&BOTH, &question, 0, Asked::NOBODY), None);
}

#[test]
fn every_number_of_workers_has_a_key_that_reaches_them_all() {
    for workers in [2, 3, 5, 8, 16, 33, 64] {
        for seed in 0..2 {
            assert!(
                Steering::new(workers, seed).reaches_all(),
                "{workers} {seed}"
            );
        }
    }
    assert_eq!(Steering::new(0, 1).workers(), 1);
    assert_eq!(Steering::new(1000, 1).workers(), MAX_WORKERS);
}

#[test]
fn a_packet_to_a_subnet_asks_for_a_reply_flow_before_it_opens_one() {
    let steering = Steering::new(8, 3);
    let spread = Spread {
        translated: false,
        ..BOTH
    };
    let wildcard = server("0.0.0.0/0", Snat::None);
    // A source and a destination of different workers.
    let key = (1..=255)
        .map(|b| tcp(v4(0, 1), 1234, v4(1, b), 80))
        .find(|key| steering.of_address(&key.src) != steering.of_address(&key.dst))
        .unwrap();
    let mut question = Question {
        key: &key,
        cmp_hash: SpreadHash::Default,
        server: Some(&wildcard),
        to_self_ip: false,
    };
    let (by_src, by_dst) = (steering.of_address(&key.src), steering.of_address(&key.dst));
    let way = steering.itinerary(&spread, &question);
    assert_eq!(way.as_slice(), [by_dst, by_src]);
    let first = steering.elsewhere(&spread, &question, by_src, Asked::NOBODY);
    assert_eq!(first, Some(by_dst), "who opens it asks the other first");
    let asked = Asked::NOBODY.and(by_src);
    let second = steering.elsewhere(&spread, &question, by_dst, asked);
    assert_eq!(second, Some(by_src), "and gets it back");
    let asked = asked.and(by_dst);
    assert_eq!(steering.elsewhere(&spread, &question, by_src, asked), None);
    // A virtual server with an address of its own takes no replies.
    let host = server("10.0.1.1/32", Snat::None);
    question.server = Some(&host);
    assert_eq!(steering.itinerary(&spread, &question).last(), Some(&by_src));
    // Its translation may have been changed: what is left of an older flow is ended where it is.
    let way = steering.itinerary(&BOTH, &question);
    assert_eq!(way.as_slice(), [steering.of_tuple(&key), by_src]);
}

#[test]
fn flows_of_a_mapping_are_asked_for_where_it_was_though_nothing_maps_ports_now() {
    let steering = Steering::new(8, 3);
    let spread = Spread {
        mapped: true,
        ..BOTH
    };
    let wildcard = server("0.0.0.0/0", Snat::Automap);
    let key = tcp(v4(0, 1), 40_003, v4(1, 1), 443);
    let question = Question {
        key: &key,
        cmp_hash: SpreadHash::Default,
        server: Some(&wildcard),
        to_self_ip: false,
    };
    let way = steering.itinerary(&spread, &question);
    assert!(way.contains(&steering.of_port(key.sport())), "{way:?}");
    assert_eq!(way.last(), Some(&steering.of_tuple(&key)));
}

#[test]
fn cmp_hash_chooses_the_address_where_the_clients_is_translated() {
    let steering = Steering::new(16, 5);
    let host = server("10.0.1.1/32", Snat::Automap);
    let key = tcp(v4(0, 1), 1234, v4(1, 1), 80);
    let with = |cmp_hash| {
        let question = Question {
            key: &key,
            cmp_hash,
            server: Some(&host),
            to_self_ip: false,
        };
        steering.itinerary(&BOTH, &question)
    };
    assert_eq!(
        with(SpreadHash::Default).last(),
        Some(&steering.of_tuple(&key))
    );
    assert_eq!(
        with(SpreadHash::SrcAddr).last(),
        Some(&steering.of_address(&key.src))
    );
    assert_eq!(
        with(SpreadHash::DstAddr).last(),
        Some(&steering.of_address(&key.dst))
    );
}

#[test]
fn what_no_flow_can_be_about_stays_where_it_is() {
    let steering = Steering::new(4, 5);
    let key = tcp(v4(0, 1), 1234, v4(1, 1), 443);
    let mut question = Question {
        key: &key,
        cmp_hash: SpreadHash::Default,
        server: None,
        to_self_ip: true,
    };
    assert!(
        steering.itinerary(&BOTH, &question).is_empty(),
        "a service's port"
    );
    question.to_self_ip = false;
    let only_translated = Spread {
        untranslated: false,
        ..BOTH
    };
    assert!(steering.itinerary(&only_translated, &question).is_empty());
}

#[test]
fn every_worker_has_enough_source_ports_towards_every_member() {
    for workers in [2u16, 3, 7, 64] {
        let steering = Steering::new(workers, 11);
        let stripe = PortStripe::whole();
        for worker in 0..workers {
            let reply = tcp(v4(2, worker as u8), 8080, v4(3, 1), 0);
            let fits = steering.ports_to(worker, &reply);
            let ports: Vec<L4Port> = stripe.candidates_that(L4Port(40_000), 77, fits).collect();
            assert!(ports.len() >= 32, "{workers} {worker}: {}", ports.len());
        }
    }
}

/// Keys take a while to be found, so properties share a few.
fn keyed(workers: u16, seed: u64) -> Arc<Steering> {
    static KEYED: Mutex<BTreeMap<(u16, u64), Arc<Steering>>> = Mutex::new(BTreeMap::new());
    let mut keyed = KEYED.lock().unwrap();
    let steering = keyed.entry((workers, seed));
    Arc::clone(steering.or_insert_with(|| Arc::new(Steering::new(workers, seed))))
}

proptest! {
    #[test]
    fn replies_to_a_chosen_port_come_back_to_the_worker_that_chose_it(
        workers in prop::sample::select(vec![1u16, 2, 3, 4, 7, 16, 64]),
        seed in 0..3u64,
        me: u16,
        member: [u8; 16],
        own: [u8; 16],
        is_v4: bool,
        port: u16,
        preferred: u16,
        start: u32,
    ) {
        let steering = keyed(workers, seed);
        let me = me % workers;
        let addr = |a: [u8; 16]| if is_v4 {
            Addr::from_v4([a[0], a[1], a[2], a[3]])
        } else {
            Addr::from_v6(a)
        };
        let reply = |to| tcp(addr(member), port, addr(own), to);
        let stripe = PortStripe::whole();
        let fits = steering.ports_to(me, &reply(0));
        let mut found = 0;
        for chosen in stripe.candidates_that(L4Port(preferred), start, fits) {
            prop_assert_eq!(steering.of_tuple(&reply(chosen.0)), me);
            found += 1;
        }
        prop_assert!(found > 0);
    }

    /// However the configurations of the workers differ, and whoever gets the packet first, it is
    /// dealt with after few steps; where they agree, by the same worker whoever got it.
    #[test]
    fn a_packet_never_goes_round(
        workers in prop::sample::select(vec![2u16, 3, 4, 7, 16, 64]),
        src: [u8; 4],
        dst: [u8; 4],
        ports: (u16, u16),
        host: bool,
        translated: bool,
        has_server: bool,
        to_self_ip: bool,
        mapped: bool,
        changes: Vec<(u8, bool)>,
        first: u16,
    ) {
        let steering = keyed(workers, 1);
        let key = tcp(Addr::from_v4(src), ports.0, Addr::from_v4(dst), ports.1);
        let destination = if host { "10.0.0.1/32" } else { "0.0.0.0/0" };
        let snat = |automap| if automap { Snat::Automap } else { Snat::None };
        let servers = [server(destination, snat(translated)), server(destination, snat(!translated))];
        let spread = Spread { mapped, ..BOTH };
        let ends = |first: u16, changes: &[(u8, bool)]| {
            let (mut me, mut asked, mut hops) = (first % workers, Asked::NOBODY, 0usize);
            loop {
                let change = changes.get(hops).copied();
                let question = Question {
                    key: &key,
                    cmp_hash: match change.map_or(0, |(hash, _)| hash % 3) {
                        0 => SpreadHash::Default,
                        1 => SpreadHash::SrcAddr,
                        _ => SpreadHash::DstAddr,
                    },
                    server: has_server
                        .then(|| &servers[usize::from(change.is_some_and(|(_, other)| other))]),
                    to_self_ip,
                };
                let Some(next) = steering.elsewhere(&spread, &question, me, asked) else {
                    return (me, hops);
                };
                asked = asked.and(me);
                (me, hops) = (next, hops + 1);
                assert!(hops <= usize::from(workers), "{hops} steps");
            }
        };
        let (end, hops) = ends(first, &[]);
        // Hairpin: its sender's worker first and last, and who would have it as a reply between.
        let hairpin = has_server && to_self_ip && !host;
        let (usual, more) = if hairpin { (5, 2) } else { (3, 1) };
        prop_assert!(hops <= usual + more * usize::from(mapped));
        let decided = ends(0, &[]).0;
        if has_server {
            prop_assert_eq!(end, decided);
        }
        ends(first, &changes);
    }
}
