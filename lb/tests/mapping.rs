//! Mappings against a model that is as plain as can be.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::collections::HashMap;

use lb::mapping::{Endpoint, Mappings, Refused};
use net::{Addr, IpProto, L4Port};
use proptest::prelude::*;

fn end(host: u8, port: u16) -> Endpoint {
    Endpoint {
        addr: Addr::from_v4([10, 0, 0, host]),
        port: L4Port(port),
        proto: IpProto::UDP,
    }
}

fn peer(n: u8) -> Addr {
    Addr::from_v4([9, 9, 9, n])
}

#[test]
fn a_mapping_lives_as_long_as_a_flow_that_its_client_opened() {
    let mut all: Mappings<u8> = Mappings::new(4, 1);
    let (inside, outside) = (end(1, 5), end(200, 5000));
    let id = all.insert(inside, outside, 0).unwrap();
    all.open(id, &peer(1), 7);
    assert_eq!(all.of_internal(&inside, |_| true), Some(id));
    assert_eq!(all.of_external(&outside), Some(id));
    assert_eq!(all.get(id).unwrap().data, 7);
    assert!(all.knows(id, &peer(1)) && !all.knows(id, &peer(2)));
    all.admit(id);
    all.close(&outside, &peer(1));
    assert!(!all.knows(id, &peer(1)));
    assert_eq!(
        (
            all.of_internal(&inside, |_| true),
            all.of_external(&outside)
        ),
        (None, None)
    );
    assert!(
        !all.is_free(&outside),
        "what others opened still uses the port"
    );
    // The same client's end gets another external one, and the old one ends by itself.
    let other = all.insert(inside, end(200, 5001), 0).unwrap();
    all.open(other, &peer(1), 0);
    all.dismiss(&outside);
    assert!(all.is_free(&outside));
    assert_eq!(all.of_internal(&inside, |_| true), Some(other));
    all.close(&end(200, 5001), &peer(1));
    assert!(all.is_empty());
}

#[test]
fn a_client_that_goes_two_ways_has_a_mapping_for_each() {
    let mut all: Mappings<()> = Mappings::new(4, 1);
    let (inside, one, other) = (end(1, 5), end(200, 5), end(201, 5));
    let first = all.insert(inside, one, ()).unwrap();
    all.open(first, &peer(1), ());
    assert_eq!(all.of_internal(&inside, |end| *end == other), None);
    let second = all.insert(inside, other, ()).unwrap();
    all.open(second, &peer(1), ());
    assert_eq!(all.of_internal(&inside, |end| *end == one), Some(first));
    assert_eq!(all.of_internal(&inside, |end| *end == other), Some(second));
    assert_eq!(all.of_client(&inside.addr), 2);
    all.close(&one, &peer(1));
    assert_eq!(all.of_internal(&inside, |end| *end == one), None);
    assert_eq!(all.of_internal(&inside, |end| *end == other), Some(second));
    all.close(&other, &peer(1));
    assert!(all.is_empty() && all.of_client(&inside.addr) == 0);
}

#[test]
fn a_client_has_no_more_than_it_may_and_the_table_no_more_than_it_can() {
    let mut all: Mappings<()> = Mappings::new(3, 1);
    for port in 0..2 {
        assert_eq!(all.may_insert(&end(1, port), 2), Ok(()));
        let id = all.insert(end(1, port), end(200, port), ()).unwrap();
        all.open(id, &peer(1), ());
    }
    assert_eq!(all.may_insert(&end(1, 9), 2), Err(Refused::Client));
    assert_eq!(all.may_insert(&end(2, 9), 2), Ok(()));
    let id = all.insert(end(2, 9), end(200, 9), ()).unwrap();
    all.open(id, &peer(1), ());
    assert_eq!(all.may_insert(&end(3, 9), 2), Err(Refused::Full));
    all.close(&end(200, 0), &peer(1));
    assert_eq!(all.of_client(&end(1, 0).addr), 1);
    assert_eq!(all.may_insert(&end(1, 9), 2), Ok(()));
}

proptest! {
    #[test]
    fn mappings_do_what_a_plain_map_of_flows_does(
        steps in prop::collection::vec((0..3u8, 0..4u8, 0..4u16, 0..3u8), 0..300),
    ) {
        let capacity = 8;
        let mut all: Mappings<()> = Mappings::new(capacity, 7);
        // (inside, outside) and how often each peer was sent to.
        let mut model: HashMap<Endpoint, (Endpoint, HashMap<Addr, u32>)> = HashMap::new();
        // Two peers for each mapping are known; of more, some are not, and nobody is who should not be.
        let mut all_are_known = true;
        for (step, host, port, to) in steps {
            let inside = end(host, port);
            let outside = end(200 + host, port + 1000);
            if step < 2 {
                let known = model.contains_key(&inside);
                let id = if known {
                    all.of_internal(&inside, |_| true)
                } else if all.may_insert(&inside, 3).is_ok() {
                    all.insert(inside, outside, ())
                } else {
                    let own = model.keys().filter(|e| e.addr == inside.addr).count();
                    prop_assert!(own >= 3 || model.len() == capacity);
                    None
                };
                if let Some(id) = id {
                    all.open(id, &peer(to), ());
                    let entry = model.entry(inside).or_insert((outside, HashMap::new()));
                    *entry.1.entry(peer(to)).or_default() += 1;
                }
            } else if let Some((_, peers)) = model.get_mut(&inside)
                && let Some(count) = peers.get_mut(&peer(to))
            {
                all.close(&outside, &peer(to));
                *count -= 1;
                if *count == 0 {
                    peers.remove(&peer(to));
                }
                if peers.is_empty() {
                    model.remove(&inside);
                }
            }
            prop_assert_eq!(all.len(), model.len());
            let peers: usize = model.values().map(|(_, peers)| peers.len()).sum();
            all_are_known &= peers <= 2 * capacity;
            for host in 0..4 {
                for port in 0..4 {
                    let (inside, outside) = (end(host, port), end(200 + host, port + 1000));
                    let id = all.of_internal(&inside, |_| true);
                    prop_assert_eq!(id.is_some(), model.contains_key(&inside));
                    prop_assert_eq!(all.of_external(&outside), id);
                    prop_assert_eq!(all.is_free(&outside), id.is_none());
                    if let Some(id) = id {
                        for to in 0..3 {
                            let known = model[&inside].1.contains_key(&peer(to));
                            let knows = all.knows(id, &peer(to));
                            prop_assert!(knows == known || known && !all_are_known);
                        }
                    }
                }
                let own = model.keys().filter(|e| e.addr == end(host, 0).addr).count();
                prop_assert_eq!(all.of_client(&end(host, 0).addr) as usize, own);
            }
        }
    }
}
