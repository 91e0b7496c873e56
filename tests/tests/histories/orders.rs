//! The order in which objects arrive is of no consequence.

use std::collections::BTreeMap;
use std::time::Duration;

use dataplane::rig::{Rig, RigConfig};
use net::Timestamp;
use proptest::prelude::*;
use tests::scenario::object;

/// Objects that contradict and need each other; `#n`, `#m` and `#k` are small numbers.
const OBJECTS: [&str; 9] = [
    "F5SPKVlan v#n tag=10#m interfaces=[\"1.#k\"] selfip_v4s=[\"10.#m.0.#k\"] prefixlen_v4=24",
    "F5SPKVlan v#n interfaces=[\"1.#k\",\"1.4\"] selfip_v4s=[\"10.#n.0.#m\"] prefixlen_v4=16",
    "F5SPKVlan v#n tag=10#m outerTag=10#k interfaces=[\"1.#m\"] selfip_v6s=[\"2001:db8:#m::#k\"] \
     prefixlen_v6=64 internal=true",
    "Service s#n 80/TCP 53/UDP",
    "EndpointSlice s#n TCP 10.#m.0.1#k:8080",
    "EndpointSlice s#n:53 UDP 10.#m.0.1#k:53",
    "F5SPKStaticRoute r#n destination=10.9.#m.0 prefixLen=24 type=gateway gateway=10.#k.0.9",
    "F5SPKIngressTCP i#n service=s#m:80 destinationAddress=203.0.113.#k destinationPort=80 \
     snat=SRC_TRANS_AUTOMAP vlans={\"vlanList\":[\"v#m\"]}",
    "F5SPKIngressUDP i#n service=s#m:53 destinationAddress=203.0.112.0/2#k destinationPort=0",
];

fn objects() -> impl Strategy<Value = BTreeMap<(usize, u8), String>> {
    let object = (0..OBJECTS.len(), 1..4u8, 1..4u8, 1..4u8);
    prop::collection::vec(object, 0..20).prop_map(|chosen| {
        let line = |(kind, n, m, k): (usize, u8, u8, u8)| {
            let mut line = OBJECTS[kind].to_owned();
            for (mark, number) in [("#n", n), ("#m", m), ("#k", k)] {
                line = line.replace(mark, &number.to_string());
            }
            // The first three kinds and the two of slices are each one kind with one name.
            let group = [0, 0, 0, 1, 2, 3, 4, 5, 6][kind];
            ((group, n), line)
        };
        chosen.into_iter().map(line).collect()
    })
}

/// How far each object comes when they arrive in this order, all at once or one after the other.
fn outcome<'l>(
    lines: impl Iterator<Item = &'l String>,
    one_by_one: bool,
) -> BTreeMap<String, String> {
    let mut rig = Rig::new(&RigConfig::default());
    let mut now = Timestamp::from_secs(1);
    for line in lines {
        rig.apply(&[object(line).unwrap()]).unwrap();
        if one_by_one {
            now = now + Duration::from_millis(10);
            rig.advance(now);
        }
    }
    rig.advance(now);
    let states = rig.states().iter();
    states
        .map(|state| {
            (
                state.key.to_string(),
                format!("{} {}", state.reason(), state.message()),
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_objects_in_any_order_come_as_far_as_in_any_other(lines in objects()) {
        let forth = outcome(lines.values(), false);
        prop_assert_eq!(forth.len(), lines.len());
        prop_assert_eq!(&outcome(lines.values().rev(), false), &forth);
        prop_assert_eq!(&outcome(lines.values().rev(), true), &forth);
    }
}
