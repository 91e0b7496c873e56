//! The protocol of the config socket: what is answered, and what is kept.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::feeder::{Feeder, hub, names, publish};
use common::{ingress, service, slice, vlan};
use config::client::Response;
use config::watch::{Changes, Hub, Output};
use config::{Limits, ObjectKey};
use serde_json::json;

#[test]
fn each_event_is_answered_with_one_line() {
    let mut hub = hub();
    let mut feeder = Feeder::open(&mut hub);
    let mut good = vlan("a", "interfaces: ['1.1'], tag: 5");
    good["metadata"]["generation"] = 7.into();
    feeder.event(&mut hub, "ADDED", &good);
    good["spec"]["tag"] = 5000.into();
    good["metadata"]["generation"] = 8.into();
    feeder.event(&mut hub, "MODIFIED", &good);
    feeder.event(&mut hub, "DELETED", &good);
    feeder.event(&mut hub, "DELETED", &good);
    let lines: Vec<String> = feeder
        .out
        .iter()
        .map(|output| match output {
            Output::Line(line) => line.clone(),
            Output::Show(_) | Output::Flush(_) => String::new(),
        })
        .collect();
    insta::assert_snapshot!(lines.concat());
}

#[test]
fn a_wrong_version_is_refused_and_the_last_good_one_stays() {
    let mut hub = hub();
    let mut feeder = Feeder::open(&mut hub);
    feeder.event(&mut hub, "ADDED", &vlan("a", "interfaces: ['1.1'], tag: 5"));
    assert_eq!(
        hub.take_changes(),
        Changes {
            objects: true,
            audience: false
        }
    );
    feeder.event(
        &mut hub,
        "MODIFIED",
        &vlan("a", "interfaces: ['1.1'], tag: 5000"),
    );
    assert_eq!(feeder.errors(), ["", "spec.tag: 5000 is not in 1-4094"]);
    assert!(!hub.dirty());
    let (config, _) = config::resolve(hub.store(), 0);
    assert_eq!(config.vlans[0].encap.to_string(), "tag 5");
}

#[test]
fn the_same_object_again_changes_nothing_but_who_is_told() {
    let mut hub = hub();
    let mut feeder = Feeder::open(&mut hub);
    let object = vlan("a", "interfaces: ['1.1']");
    feeder.event(&mut hub, "ADDED", &object);
    hub.take_changes();
    feeder.event(&mut hub, "ADDED", &object);
    assert_eq!(
        hub.take_changes(),
        Changes {
            objects: false,
            audience: true
        }
    );
}

#[test]
fn what_the_new_list_lacks_is_removed_at_its_end_and_not_before() {
    let mut hub = hub();
    let mut first = Feeder::open(&mut hub);
    for name in ["a", "b", "c"] {
        first.event(&mut hub, "ADDED", &service(name));
    }
    first.end_of_list(&mut hub, None);
    hub.close(&first.session);
    assert_eq!(names(&hub), ["a", "b", "c"]);

    let mut second = Feeder::open(&mut hub);
    second.event(&mut hub, "ADDED", &service("b"));
    second.event(&mut hub, "ADDED", &service("d"));
    assert_eq!(names(&hub), ["a", "b", "c", "d"]);
    second.end_of_list(&mut hub, None);
    assert_eq!(names(&hub), ["b", "d"]);
    let note = second.answers().pop().unwrap().note;
    assert_eq!(
        note.as_deref(),
        Some("end of the list; 2 objects of earlier sessions removed")
    );
    hub.close(&second.session);

    let mut third = Feeder::open(&mut hub);
    third.event(&mut hub, "ADDED", &service("b"));
    third.end_of_list(&mut hub, None);
    let note = third.answers().pop().unwrap().note;
    assert_eq!(
        note.as_deref(),
        Some("end of the list; 1 object of earlier sessions removed")
    );
}

#[test]
fn a_feeder_that_dies_in_its_list_loses_nothing() {
    let mut hub = hub();
    let mut first = Feeder::open(&mut hub);
    for name in ["a", "b", "c"] {
        first.event(&mut hub, "ADDED", &service(name));
    }
    hub.close(&first.session);
    for _ in 0..3 {
        let mut next = Feeder::open(&mut hub);
        next.event(&mut hub, "ADDED", &service("b"));
        next.bytes(&mut hub, "{\"type\":\"ADDED\",\"object\":{\"ki");
        next.session.finish(&mut hub, &mut next.out);
        assert_eq!(next.errors(), ["", "line 2: the object does not end"]);
        hub.close(&next.session);
    }
    assert_eq!(names(&hub), ["a", "b", "c"]);
}

#[test]
fn an_object_whose_new_version_is_refused_is_still_in_the_list() {
    let mut hub = hub();
    let mut first = Feeder::open(&mut hub);
    first.event(&mut hub, "ADDED", &vlan("a", "interfaces: ['1.1']"));
    first.event(&mut hub, "ADDED", &vlan("b", "interfaces: ['1.2']"));
    let mut second = Feeder::open(&mut hub);
    second.event(&mut hub, "ADDED", &vlan("a", "interfaces: []"));
    second.end_of_list(&mut hub, None);
    assert_eq!(names(&hub), ["a"]);
}

#[test]
fn a_bookmark_of_one_kind_removes_that_kind_only() {
    let mut hub = hub();
    let mut first = Feeder::open(&mut hub);
    first.event(&mut hub, "ADDED", &service("s"));
    first.event(&mut hub, "ADDED", &vlan("v", "interfaces: ['1.1']"));
    let mut second = Feeder::open(&mut hub);
    second.end_of_list(&mut hub, Some("Service"));
    assert_eq!(names(&hub), ["v"]);
    second.end_of_list(&mut hub, Some("TCPRoute"));
    assert_eq!(names(&hub), ["v"]);
    second.end_of_list(&mut hub, Some("F5SPKVlan"));
    assert!(hub.store().is_empty());
}

#[test]
fn a_bookmark_without_the_annotation_removes_nothing() {
    let mut hub = hub();
    let mut first = Feeder::open(&mut hub);
    first.event(&mut hub, "ADDED", &service("s"));
    let mut second = Feeder::open(&mut hub);
    for annotations in [
        json!({}),
        json!({"k8s.io/initial-events-end": "false"}),
        json!({"k8s.io/initial-events-end": true}),
    ] {
        let object = json!({"kind": "Service", "metadata": {"annotations": annotations}});
        second.event(&mut hub, "BOOKMARK", &object);
    }
    second.all_accepted();
    assert_eq!(names(&hub), ["s"]);
}

#[test]
fn feeders_do_not_remove_each_others_objects() {
    let mut hub = hub();
    let mut operator = Feeder::named(&mut hub, "tmmctl");
    operator.event(&mut hub, "ADDED", &service("by-hand"));
    let mut feeder = Feeder::named(&mut hub, "cluster");
    feeder.event(&mut hub, "ADDED", &service("s"));
    let mut again = Feeder::named(&mut hub, "cluster");
    again.end_of_list(&mut hub, None);
    assert_eq!(names(&hub), ["by-hand"]);
}

#[test]
fn an_object_belongs_to_the_feeder_that_gave_it_last() {
    let mut hub = hub();
    let mut feeder = Feeder::named(&mut hub, "cluster");
    feeder.event(&mut hub, "ADDED", &service("s"));
    let mut operator = Feeder::named(&mut hub, "tmmctl");
    operator.event(&mut hub, "ADDED", &service("s"));
    let mut again = Feeder::named(&mut hub, "cluster");
    again.end_of_list(&mut hub, None);
    assert_eq!(names(&hub), ["s"]);
    operator.event(&mut hub, "DELETED", &service("s"));
    assert!(hub.store().is_empty());
}

#[test]
fn hello_must_come_first_and_have_a_name() {
    let mut hub = hub();
    let mut feeder = Feeder::open(&mut hub);
    feeder.say(&mut hub, &json!({"type": "HELLO", "feeder": "k8s"}));
    assert_eq!(
        feeder.lines(),
        [Response::Hello {
            feeder: "k8s".to_owned(),
            session: 1
        }]
    );
    assert_eq!(feeder.session.feeder(), "k8s");
    feeder.say(&mut hub, &json!({"type": "HELLO", "feeder": "other"}));
    feeder.say(&mut hub, &json!({"type": "HELLO", "feeder": "a b"}));
    feeder.say(&mut hub, &json!({"type": "HELLO"}));
    assert_eq!(
        feeder.errors(),
        [
            "type: HELLO must be the first line of a session",
            "feeder: line 3: \"a b\" is not a feeder name (1-253 printable ASCII characters)",
            "feeder: line 4: is required",
        ]
    );
}

#[test]
fn a_failed_watch_removes_nothing() {
    let mut hub = hub();
    let mut feeder = Feeder::open(&mut hub);
    feeder.event(&mut hub, "ADDED", &service("s"));
    feeder.out.clear();
    let status = json!({"kind": "Status", "apiVersion": "v1", "message": "too old resource version: 1 (41)", "code": 410});
    feeder.event(&mut hub, "ERROR", &status);
    let note = feeder.answers().pop().unwrap().note.unwrap();
    assert_eq!(
        note,
        "nothing removed; the feeder's watch reported: too old resource version: 1 (41)"
    );
    assert_eq!(names(&hub), ["s"]);
}

#[test]
fn a_full_store_refuses_new_objects_and_takes_new_versions() {
    let limits = Limits {
        objects: 2,
        ..Limits::default()
    };
    let mut hub = Hub::new(limits);
    let mut feeder = Feeder::open(&mut hub);
    for name in ["a", "b", "c"] {
        feeder.event(&mut hub, "ADDED", &vlan(name, "interfaces: ['1.1']"));
    }
    feeder.event(&mut hub, "MODIFIED", &vlan("a", "interfaces: ['1.2']"));
    assert_eq!(
        feeder.errors(),
        [
            "",
            "",
            "the store is full: 2 objects is the most it keeps",
            ""
        ]
    );

    let mut hub = Hub::new(Limits {
        objects: 10,
        bytes: 300,
    });
    let mut feeder = Feeder::open(&mut hub);
    for name in ["a", "b", "c"] {
        feeder.event(&mut hub, "ADDED", &vlan(name, "interfaces: ['1.1']"));
    }
    assert!(feeder.errors()[2].starts_with("the store is full: 300 bytes"));
    feeder.event(&mut hub, "DELETED", &vlan("a", ""));
    feeder.event(&mut hub, "ADDED", &vlan("c", "interfaces: ['1.1']"));
    feeder.all_accepted();
    assert!(hub.store().bytes() <= 300);
}

#[test]
fn states_go_to_the_session_that_fed_the_object_once_each() {
    let mut hub = hub();
    let mut feeder = Feeder::named(&mut hub, "cluster");
    let mut other = Feeder::named(&mut hub, "other");
    let web = ingress("web", "web", "destinationAddress: 10.0.0.80");
    feeder.event(&mut hub, "ADDED", &web);
    let told = publish(&mut hub);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, feeder.session.id());
    insta::assert_snapshot!(told[0].1, @r#"{"type":"STATE","kind":"F5SPKIngressTCP","namespace":"default","name":"web","generation":0,"state":"Pending","reason":"ServiceNotFound","message":"Service \"default/web\" not found"}"#);
    assert_eq!(publish(&mut hub), []);

    other.event(&mut hub, "ADDED", &service("web"));
    other.event(
        &mut hub,
        "ADDED",
        &slice("web-1", "web", "IPv4", "{addresses: [10.2.0.1]}"),
    );
    let told = publish(&mut hub);
    let to: Vec<u64> = told.iter().map(|(to, _)| *to).collect();
    assert_eq!(
        to,
        [feeder.session.id(), other.session.id(), other.session.id()]
    );
    assert!(
        told[0]
            .1
            .contains("\"state\":\"Programmed\",\"reason\":\"Programmed\",\"message\":\"\"")
    );

    // A new session that lists the object again is told its state again, without a recompile.
    hub.close(&feeder.session);
    let mut again = Feeder::named(&mut hub, "cluster");
    again.event(&mut hub, "ADDED", &web);
    assert_eq!(
        hub.take_changes(),
        Changes {
            objects: false,
            audience: true
        }
    );
    let told = hub.republish();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, again.session.id());
    assert_eq!(hub.republish(), []);
}

// case GWA-001: a new generation is observed even if nothing else changes.
#[test]
fn a_new_generation_is_told_even_if_its_state_is_the_same() {
    let mut hub = hub();
    let mut feeder = Feeder::open(&mut hub);
    let mut object = vlan("a", "interfaces: ['1.1']");
    for generation in [1, 2] {
        object["metadata"]["generation"] = generation.into();
        feeder.event(&mut hub, "MODIFIED", &object);
        let told = publish(&mut hub);
        assert!(told[0].1.contains(&format!(
            "\"generation\":{generation},\"state\":\"Programmed\""
        )));
    }
}

#[test]
fn a_flood_of_feeders_keeps_only_what_was_accepted() {
    let mut hub = hub();
    let mut feeders: Vec<Feeder> = (0..200)
        .map(|i| Feeder::named(&mut hub, &format!("f{i}")))
        .collect();
    for round in 0..5 {
        for (i, feeder) in feeders.iter_mut().enumerate() {
            feeder.event(&mut hub, "ADDED", &service(&format!("s-{i}-{round}")));
            feeder.bytes(&mut hub, "garbage\n");
        }
    }
    assert_eq!(hub.store().len(), 1000);
    for feeder in &mut feeders {
        assert_eq!(
            feeder
                .errors()
                .iter()
                .filter(|error| error.is_empty())
                .count(),
            5
        );
        hub.close(&feeder.session);
    }
    assert!(publish(&mut hub).is_empty());
    let key = ObjectKey {
        kind: config::Kind::Service,
        namespace: "default".to_owned(),
        name: "s-0-0".to_owned(),
    };
    assert_eq!(&*hub.store().get(&key).unwrap().owner.feeder, "f0");
}
