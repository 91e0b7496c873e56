//! What holds for any input.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::{SITE, created, ingress, objects, route, service, slice, store, vlan};
use config::watch::{Hub, Item, Output, Splitter};
use config::{Config, Limits, ObjectState, State, resource};
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use serde_json::Value;

/// Any JSON, biased to what the resources are made of.
fn json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "",
        "a",
        "1.1",
        "10.0.0.1",
        "fd00::1",
        "0.0.0.0/0",
        "::/0",
        "10.0.0.0/24",
        "SRC_ADDR",
        "gateway",
        "IPv4",
        "IPv6",
        "TCP",
        "ROUND_ROBIN",
        "SRC_TRANS_AUTOMAP",
        "default",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..300i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        let names = prop::sample::select(vec![
            "name",
            "namespace",
            "labels",
            "tag",
            "outerTag",
            "interfaces",
            "selfip_v4s",
            "prefixlen_v4",
            "destination",
            "prefixLen",
            "gateway",
            "type",
            "port",
            "ports",
            "endpoints",
            "addresses",
            "conditions",
            "ready",
            "vlans",
            "vlanList",
            "category",
            "tcp",
            "interval",
            "timeout",
            "destinationAddress",
            "destinationPort",
            "items",
            "annotations",
            "creationTimestamp",
            "object",
            "feeder",
            "table",
            "x",
        ]);
        let key = prop_oneof![4 => names.prop_map(str::to_owned), 1 => ".{0,6}"];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            hash_map(key, inner, 0..8).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// An object with a true envelope and anything inside.
fn enveloped() -> impl Strategy<Value = Value> {
    let kinds = prop::sample::select(config::Kind::ALL.to_vec());
    (kinds, json(), json(), json()).prop_map(|(kind, spec, service, rest)| {
        let mut object = serde_json::json!({
            "kind": kind.name(), "apiVersion": kind.api_version(),
            "metadata": {"name": "x"}, "spec": spec, "service": service,
        });
        if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), rest) {
            object.extend(rest);
        }
        object
    })
}

/// A site with one field replaced by anything.
fn mutated() -> impl Strategy<Value = Vec<Value>> {
    let site = objects(SITE);
    (0..site.len(), any::<prop::sample::Index>(), json()).prop_map(move |(at, index, new)| {
        let mut site = site.clone();
        let mut paths = Vec::new();
        pointers(&site[at], String::new(), &mut paths);
        let path = index.get(&paths);
        if let Some(place) = site[at].pointer_mut(path) {
            *place = new;
        }
        site
    })
}

fn pointers(value: &Value, path: String, all: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| {
            let name = name.replace('~', "~0").replace('/', "~1");
            pointers(value, format!("{path}/{name}"), all);
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, value)| pointers(value, format!("{path}/{i}"), all)),
        _ => {}
    }
    all.push(path);
}

/// What must hold of every configuration.
fn check(config: &Config, states: &[ObjectState], objects: usize) {
    assert_eq!(states.len(), objects);
    for state in states {
        assert_eq!(
            state.state == State::Programmed,
            state.reasons.is_empty(),
            "{state:?}"
        );
    }
    let names: Vec<&str> = config.vlans.iter().map(|vlan| vlan.name.as_str()).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    for route in &config.routes {
        assert!(config.vlan(&route.vlan).is_some());
        assert_eq!(route.gateway.is_ipv4(), route.destination.addr().is_ipv4());
    }
    for (i, server) in config.virtual_servers.iter().enumerate() {
        assert!(server.profile.idle_timeout.as_secs() >= 1);
        let members = &server.pool.members;
        assert!(members.is_sorted_by(|a, b| (a.addr, a.port) < (b.addr, b.port)));
        for member in members.iter() {
            assert_eq!(member.addr.is_ipv4(), server.destination.addr().is_ipv4());
            assert!(member.port.0 != 0 && !(member.ready && member.draining));
        }
        if let config::ListenScope::Vlans(names) = &server.listen {
            assert!(names.iter().all(|name| config.vlan(name).is_some()));
        }
        for other in &config.virtual_servers[..i] {
            let same = (server.protocol, server.destination, server.port)
                == (other.protocol, other.destination, other.port);
            assert!(
                !same || !server.listen.overlaps(&other.listen),
                "{server:?} {other:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn any_json_is_validated_without_a_panic(value in json()) {
        let _ = resource::parse(&value);
    }

    #[test]
    fn errors_are_never_empty_and_always_one_line(value in enveloped()) {
        if let Err(errors) = resource::parse(&value) {
            prop_assert!(!errors.is_empty() && errors.len() <= 51);
            for error in errors {
                prop_assert!(!error.message.is_empty());
                prop_assert_eq!(error.to_string().lines().count(), 1, "{}", error);
            }
        }
    }

    #[test]
    fn a_site_with_any_change_resolves(site in mutated(), replica in 0..4usize) {
        let mut store = config::Store::new(Limits::default());
        let owner = config::Owner::fixed("test");
        for object in &site {
            let _ = store.apply(object, &owner);
        }
        let (config, states) = config::resolve(&store, replica);
        check(&config, &states, store.len());
    }

    #[test]
    fn what_was_given_can_be_given_again(site in mutated()) {
        let owner = config::Owner::fixed("test");
        for object in &site {
            let mut store = config::Store::new(Limits::default());
            if let Ok((key, _)) = store.apply(object, &owner) {
                let text: Value = serde_json::from_str(&store.get(&key).unwrap().text).unwrap();
                let (_, change) = store.apply(&text, &owner).unwrap();
                prop_assert_eq!(change, config::Change::Unchanged);
            }
        }
    }

    #[test]
    fn the_order_of_arrival_does_not_matter(
        (order, replica) in (Just((0..rivals().len()).collect::<Vec<_>>()).prop_shuffle(), 0..3usize)
    ) {
        let all = rivals();
        let shuffled: Vec<Value> = order.iter().map(|i| all[*i].clone()).collect();
        let expected = config::resolve(&store(&all), replica);
        check(&expected.0, &expected.1, all.len());
        prop_assert_eq!(config::resolve(&store(&shuffled), replica), expected);
    }

    #[test]
    fn any_bytes_are_survived_and_a_good_line_after_them_is_taken(bytes in vec(any::<u8>(), 0..300)) {
        survive(&bytes);
    }

    #[test]
    fn bytes_that_look_like_json_are_survived(text in "[\\[\\]{}\":, \\\\\na0x-]{0,200}") {
        survive(text.as_bytes());
    }

    #[test]
    fn values_come_out_of_the_splitter_as_they_went_in(
        values in vec(json().prop_filter("objects", Value::is_object), 0..6),
        pretty in any::<bool>(),
        size in 1..64usize,
    ) {
        let mut text = String::new();
        for value in &values {
            let value = if pretty { format!("{value:#}") } else { value.to_string() };
            text.push_str(&value);
            text.push('\n');
        }
        let mut splitter = Splitter::new(1 << 20);
        let mut out = Vec::new();
        let mut take = |item: Item<'_>| match item {
            Item::Value { bytes, .. } => {
                out.push(serde_json::from_slice::<Value>(bytes).unwrap());
                true
            }
            Item::Garbage { .. } => panic!("{item:?}"),
        };
        for piece in text.as_bytes().chunks(size) {
            splitter.push(piece, &mut take);
        }
        splitter.finish(&mut take);
        // Numbers may lose their last digit on the way; texts do not.
        let texts = |values: &[Value]| values.iter().map(Value::to_string).collect::<Vec<_>>();
        let again: Vec<Value> = values.iter().map(|v| serde_json::from_str(&v.to_string()).unwrap()).collect();
        prop_assert_eq!(texts(&out), texts(&again));
    }

    #[test]
    fn any_text_is_read_as_documents_without_a_panic(text in "[\\-a-c:\\[\\]{}\n #&*!\"'|>,0-9]{0,120}") {
        let documents = config::document::read_text("f", &text);
        let _ = config::document::load(&documents, Limits::default());
    }
}

/// Feeds the bytes, then a good line: every answer is a JSON line, and the good line is taken.
fn survive(bytes: &[u8]) {
    let mut hub = Hub::new(Limits::default());
    let mut session = hub.open();
    let mut out = Vec::new();
    session.feed(&mut hub, bytes, &mut out);
    let good = serde_json::json!({"type": "ADDED", "object": service("s")});
    session.feed(&mut hub, format!("\n{good}\n").as_bytes(), &mut out);
    for output in &out {
        if let Output::Line(line) = output {
            serde_json::from_str::<config::client::Response>(line).unwrap();
        }
    }
    assert_eq!(
        hub.store().len(),
        1,
        "{:?} {out:?}",
        String::from_utf8_lossy(bytes)
    );
    assert!(out.len() <= bytes.len() + 2);
}

/// Objects that claim the same things, refer to each other, and dangle.
fn rivals() -> Vec<Value> {
    let mut all = vec![
        vlan(
            "a",
            "interfaces: ['1.1'], selfip_v4s: [10.0.0.1, 10.0.0.2], prefixlen_v4: 24",
        ),
        vlan("b", "interfaces: ['1.1'], category: x"),
        created(
            vlan("c", "interfaces: ['1.1', '1.2'], category: x"),
            "2026-01-01T00:00:00Z",
        ),
        vlan(
            "d",
            "interfaces: ['1.2'], selfip_v4s: [10.0.0.2], prefixlen_v4: 24, tag: 5",
        ),
        route("r", "destination: 0.0.0.0, prefixLen: 0, gateway: 10.0.0.9"),
        route("q", "destination: 0.0.0.0, prefixLen: 0, gateway: 10.0.0.8"),
        route(
            "p",
            "destination: 10.0.0.0, prefixLen: 8, gateway: 10.0.0.8, interface: b",
        ),
        ingress("w", "s", "destinationAddress: 10.0.0.80"),
        created(
            ingress(
                "x",
                "s",
                "destinationAddress: 10.0.0.80, vlans: {category: x}",
            ),
            "2026-01-02T00:00:00Z",
        ),
        created(
            ingress(
                "y",
                "t",
                "destinationAddress: 10.0.0.80, vlans: {vlanList: [d]}",
            ),
            "2026-01-02T00:00:00Z",
        ),
        ingress("z", "t", "ipv6destinationAddress: '::/0'"),
        service("s"),
        slice(
            "s1",
            "s",
            "IPv4",
            "{addresses: [10.2.0.1]}, {addresses: [10.2.0.2], conditions: {ready: false}}",
        ),
        slice(
            "s2",
            "s",
            "IPv4",
            "{addresses: [10.2.0.2]}, {addresses: [10.2.0.3]}",
        ),
        slice("s3", "s", "IPv6", "{addresses: ['fd00::1']}"),
    ];
    all.extend(objects(SITE));
    all
}
