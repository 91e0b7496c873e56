//! The life of an object as an API server tells it, in the order things really come in.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::feeder::{Feeder, hub, names, publish};
use common::vlan;
use config::Encap;
use config::watch::Hub;
use serde_json::{Value, json};

/// A version of the object `v`, with this uid and generation.
fn version(uid: &str, generation: u64, tag: u16) -> Value {
    let mut object = vlan("v", &format!("interfaces: ['1.1'], tag: {tag}"));
    object["metadata"]["uid"] = uid.into();
    object["metadata"]["generation"] = generation.into();
    object["metadata"]["resourceVersion"] = format!("{generation}00").into();
    object
}

const fn tag_of(encap: Encap) -> u16 {
    match encap {
        Encap::Tagged(vid) => vid.get(),
        Encap::Untagged | Encap::Double { .. } => 0,
    }
}

fn told(hub: &mut Hub, feeder: &mut Feeder, event: &str, object: &Value) {
    feeder.event(hub, event, object);
    feeder.all_accepted();
}

// case K8S-001: added, changed, only its status changed, marked for deletion, deleted, there again, list too old.
#[test]
fn an_object_is_followed_from_its_first_version_to_the_next_of_its_name() {
    let mut hub = hub();
    let mut feeder = Feeder::named(&mut hub, "f");
    let tag = |hub: &Hub| {
        let (config, _) = config::resolve(hub.store(), 0);
        config.vlans.first().map(|vlan| tag_of(vlan.encap))
    };
    told(&mut hub, &mut feeder, "ADDED", &version("a", 1, 10));
    feeder.end_of_list(&mut hub, None);
    feeder.all_accepted();
    assert_eq!(tag(&hub), Some(10));
    publish(&mut hub);
    told(&mut hub, &mut feeder, "MODIFIED", &version("a", 2, 20));
    assert_eq!((tag(&hub), hub.dirty()), (Some(20), true));
    publish(&mut hub);
    // Only the status: the configuration is what it was.
    let before = config::resolve(hub.store(), 0).0;
    let mut status = version("a", 2, 20);
    status["metadata"]["resourceVersion"] = "201".into();
    status["status"] = json!({"conditions": [{"type": "Programmed", "status": "True"}]});
    told(&mut hub, &mut feeder, "MODIFIED", &status);
    assert_eq!(config::resolve(hub.store(), 0).0, before);
    // A bookmark without the end of the list.
    let progress = json!({"kind": "F5SPKVlan", "metadata": {"resourceVersion": "300"}});
    told(&mut hub, &mut feeder, "BOOKMARK", &progress);
    assert_eq!(names(&hub), ["v"]);
    // Somebody's finalizer holds it: it serves until it is gone.
    let mut going = version("a", 3, 20);
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    going["metadata"]["finalizers"] = json!(["example.org/wait"]);
    told(&mut hub, &mut feeder, "MODIFIED", &going);
    assert_eq!(tag(&hub), Some(20));
    told(&mut hub, &mut feeder, "DELETED", &going);
    assert_eq!(tag(&hub), None);
    // Of the same name, but another object, whose generations begin anew.
    told(&mut hub, &mut feeder, "ADDED", &version("b", 1, 30));
    assert_eq!(tag(&hub), Some(30));
    // The watch is too old: the list is read again, and nothing goes before it is complete.
    let gone = json!({"kind": "Status", "apiVersion": "v1", "message": "too old", "code": 410});
    feeder.event(&mut hub, "ERROR", &gone);
    feeder.out.clear();
    assert_eq!(tag(&hub), Some(30));
}

// case CIL-006: a deletion before the addition was taken up, and one of what never came; the same name with another uid.
#[test]
fn what_is_deleted_before_it_was_taken_up_was_never_there() {
    let mut hub = hub();
    let mut feeder = Feeder::named(&mut hub, "f");
    told(&mut hub, &mut feeder, "DELETED", &version("a", 1, 10));
    assert_eq!(names(&hub), Vec::<String>::new());
    told(&mut hub, &mut feeder, "ADDED", &version("a", 1, 10));
    told(&mut hub, &mut feeder, "DELETED", &version("a", 1, 10));
    assert_eq!(publish(&mut hub), []);
    assert_eq!(names(&hub), Vec::<String>::new());
    // Deleted and there again, all before it was taken up: it counts as what it is now.
    told(&mut hub, &mut feeder, "ADDED", &version("a", 4, 10));
    publish(&mut hub);
    told(&mut hub, &mut feeder, "DELETED", &version("a", 4, 10));
    told(&mut hub, &mut feeder, "ADDED", &version("b", 1, 40));
    let states = publish(&mut hub);
    assert_eq!(states.len(), 1);
    let state: Value = serde_json::from_str(&states[0].1).unwrap();
    assert!(states[0].1.contains("\"generation\":1"), "{state}");
    let (config, _) = config::resolve(hub.store(), 0);
    assert_eq!(tag_of(config.vlans[0].encap), 40);
}
