//! What an operator's tool asks.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::feeder::{Feeder, hub, publish};
use common::{service, vlan};
use config::client::Response;
use config::watch::Output;
use serde_json::json;

#[test]
fn get_lists_what_is_kept_in_pages() {
    let mut hub = hub();
    let mut feeder = Feeder::open(&mut hub);
    for i in 0..5 {
        let mut object = service(&format!("s{i}"));
        object["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
        feeder.event(&mut hub, "ADDED", &object);
    }
    feeder.event(&mut hub, "ADDED", &vlan("v", "interfaces: ['1.1']"));
    publish(&mut hub);
    feeder.out.clear();

    let mut seen = Vec::new();
    let mut request = json!({"type": "GET", "kind": "Service", "limit": 2});
    let mut pages = 0;
    loop {
        feeder.say(&mut hub, &request);
        let mut lines = feeder.lines();
        let Some(Response::End { count, more }) = lines.pop() else {
            panic!()
        };
        assert_eq!(count, lines.len());
        for line in lines {
            let Response::Object(line) = line else {
                panic!()
            };
            assert_eq!(line.state, Some(config::State::Programmed));
            assert!(line.object["metadata"].get("managedFields").is_none());
            seen.push(line.object["metadata"]["name"].as_str().unwrap().to_owned());
        }
        pages += 1;
        match more {
            Some(token) => request["continue"] = token.into(),
            None => break,
        }
    }
    assert_eq!((pages, seen.len()), (3, 5));

    feeder.say(&mut hub, &json!({"type": "GET", "name": "v"}));
    assert_eq!(feeder.lines().len(), 2);
    feeder.say(&mut hub, &json!({"type": "GET", "namespace": "none"}));
    assert_eq!(
        feeder.lines(),
        [Response::End {
            count: 0,
            more: None
        }]
    );
    feeder.say(
        &mut hub,
        &json!({"type": "GET", "kind": "Pod", "continue": "x"}),
    );
    feeder.say(&mut hub, &json!({"type": "GET", "continue": "x"}));
    feeder.say(&mut hub, &json!({"type": "GET", "limit": 0}));
    let errors = feeder.errors();
    assert!(errors[0].starts_with("kind: unknown kind \"Pod\""));
    assert_eq!(errors[1], "continue: is not a token of an earlier answer");
    assert_eq!(errors[2], "limit: line 14: 0 is not in 1-1000");
}

#[test]
fn show_is_handed_to_the_caller_in_its_place() {
    let mut hub = hub();
    let mut feeder = Feeder::open(&mut hub);
    feeder.event(&mut hub, "ADDED", &service("s"));
    feeder.say(&mut hub, &json!({"type": "SHOW", "table": "connections", "filter": {"client": "10.0.0.1"}, "limit": 10}));
    feeder.event(&mut hub, "ADDED", &service("t"));
    let Output::Show(show) = feeder.out.remove(1) else {
        panic!("{:?}", feeder.out)
    };
    assert_eq!((show.table.as_str(), show.limit), ("connections", Some(10)));
    assert_eq!(show.filter["client"], "10.0.0.1");
    feeder.all_accepted();
    feeder.say(&mut hub, &json!({"type": "SHOW", "filter": []}));
    assert_eq!(feeder.errors(), ["table: line 4: is required"]);
}

#[test]
fn what_a_client_writes_is_what_the_server_reads() {
    use config::client::{Get, Request, Show};
    let object = json!({"kind": "Service", "metadata": {"name": "x"}});
    let mut filter = serde_json::Map::new();
    filter.insert("vlan".to_owned(), "external".into());
    let requests = [
        Request::Hello {
            feeder: "x".to_owned(),
        },
        Request::Added {
            object: object.clone(),
        },
        Request::Modified {
            object: object.clone(),
        },
        Request::Deleted {
            object: object.clone(),
        },
        Request::Bookmark {
            object: object.clone(),
        },
        Request::Error {
            object: object.clone(),
        },
        Request::Validate { object },
        Request::Get(Get {
            kind: Some("Service".to_owned()),
            limit: Some(5),
            ..Get::default()
        }),
        Request::Get(Get::default()),
        Request::Show(Show {
            table: "ports".to_owned(),
            filter,
            limit: None,
        }),
    ];
    for request in requests {
        let value = serde_json::to_value(&request).unwrap();
        assert_eq!(value["type"], request.name());
        assert_eq!(Request::from_value(value).unwrap(), request);
    }
}

#[test]
fn validate_answers_and_keeps_nothing() {
    let mut hub = hub();
    let mut feeder = Feeder::open(&mut hub);
    feeder.event(&mut hub, "VALIDATE", &vlan("a", "interfaces: ['1.1']"));
    feeder.event(
        &mut hub,
        "VALIDATE",
        &vlan("a", "interfaces: ['1.1'], tag: 0"),
    );
    assert_eq!(feeder.errors(), ["", "spec.tag: 0 is not in 1-4094"]);
    assert!(hub.store().is_empty() && !hub.dirty());
}
