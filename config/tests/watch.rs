//! The protocol of the config socket: what is answered, and what is kept.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::{SITE, ingress, objects, service, slice, vlan};
use config::client::{Answer, Response};
use config::watch::{Changes, Hub, MAX_VALUE, Output, Session};
use config::{Limits, ObjectKey};
use serde_json::{Value, json};

/// A connection to a hub, with what it was answered.
struct Feeder {
    session: Session,
    out: Vec<Output>,
}

impl Feeder {
    fn open(hub: &mut Hub) -> Self {
        Self {
            session: hub.open(),
            out: Vec::new(),
        }
    }

    fn named(hub: &mut Hub, name: &str) -> Self {
        let mut feeder = Self::open(hub);
        feeder.say(hub, &json!({"type": "HELLO", "feeder": name}));
        feeder.out.clear();
        feeder
    }

    fn bytes(&mut self, hub: &mut Hub, bytes: impl AsRef<[u8]>) {
        self.session.feed(hub, bytes.as_ref(), &mut self.out);
    }

    fn say(&mut self, hub: &mut Hub, line: &Value) {
        self.bytes(hub, format!("{line}\n"));
    }

    fn event(&mut self, hub: &mut Hub, event: &str, object: &Value) {
        self.say(hub, &json!({"type": event, "object": object}));
    }

    fn end_of_list(&mut self, hub: &mut Hub, kind: Option<&str>) {
        let mut object =
            json!({"metadata": {"annotations": {"k8s.io/initial-events-end": "true"}}});
        if let Some(kind) = kind {
            object["kind"] = kind.into();
        }
        self.event(hub, "BOOKMARK", &object);
    }

    /// Everything answered since the last call.
    fn lines(&mut self) -> Vec<Response> {
        self.out
            .drain(..)
            .map(|output| match output {
                Output::Line(line) => {
                    assert!(
                        line.ends_with('\n') && line.trim_end().lines().count() == 1,
                        "{line:?}"
                    );
                    serde_json::from_str(&line).unwrap()
                }
                Output::Show(show) => panic!("{show:?}"),
            })
            .collect()
    }

    fn answers(&mut self) -> Vec<Answer> {
        let answer = |line| match line {
            Response::Answer(answer) => answer,
            other => panic!("{other:?}"),
        };
        self.lines().into_iter().map(answer).collect()
    }

    /// The messages of all answers; an empty one for an acceptance.
    fn errors(&mut self) -> Vec<String> {
        let text = |answer: Answer| {
            assert_eq!(answer.accepted, answer.errors.is_empty());
            let all: Vec<String> = answer.errors.iter().map(ToString::to_string).collect();
            all.join("; ")
        };
        self.answers().into_iter().map(text).collect()
    }

    fn all_accepted(&mut self) {
        for answer in self.answers() {
            assert!(answer.accepted, "{answer:?}");
        }
    }
}

fn hub() -> Hub {
    Hub::new(Limits::default())
}

fn names(hub: &Hub) -> Vec<String> {
    hub.store()
        .iter()
        .map(|(key, _)| key.name.clone())
        .collect()
}

fn publish(hub: &mut Hub) -> Vec<(u64, String)> {
    hub.take_changes();
    let (_, states) = config::resolve(hub.store(), 0);
    hub.publish(states)
}

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
            Output::Show(_) => String::new(),
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
fn lists_bare_objects_and_indented_json_are_taken_too() {
    let mut hub = hub();
    let mut feeder = Feeder::open(&mut hub);
    let site = objects(SITE);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": &site[..4], "metadata": {}});
    feeder.bytes(&mut hub, format!("{list:#}\n"));
    feeder.bytes(
        &mut hub,
        format!("{:#}\n{:#}\n{}", site[4], site[5], site[6]),
    );
    feeder.bytes(
        &mut hub,
        format!("{:#}\n", json!({"type": "ADDED", "object": site[7]})),
    );
    let mut typed = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList", "items": &site[8..]});
    for item in typed["items"].as_array_mut().unwrap() {
        item.as_object_mut().unwrap().remove("kind");
        item.as_object_mut().unwrap().remove("apiVersion");
    }
    feeder.event(&mut hub, "ADDED", &typed);
    let answers = feeder.answers();
    assert_eq!(answers.len(), site.len());
    assert!(answers.iter().all(|answer| answer.accepted), "{answers:?}");
    assert_eq!(hub.store().len(), site.len());
}

#[test]
fn how_the_stream_is_cut_into_pieces_does_not_matter() {
    let mut text = Vec::new();
    for object in objects(SITE) {
        text.extend(format!("{:#}\n", json!({"type": "ADDED", "object": object})).bytes());
        text.extend(b"{\"half\n\n  \"of\": \"it\n\x00\xff\xfe\n");
    }
    let feed = |size: usize| {
        let mut hub = hub();
        let mut feeder = Feeder::open(&mut hub);
        for piece in text.chunks(size) {
            feeder.bytes(&mut hub, piece);
        }
        feeder.session.finish(&mut hub, &mut feeder.out);
        (feeder.out, hub.store().len())
    };
    let whole = feed(text.len());
    assert_eq!(whole.1, objects(SITE).len());
    for size in [1, 2, 3, 7, 64, 1000] {
        assert_eq!(feed(size), whole, "pieces of {size}");
    }
}

#[test]
fn bad_input_is_answered_and_reading_goes_on_at_the_next_line() {
    let good = json!({"type": "ADDED", "object": service("s")});
    let cases: [(&[u8], &[&str]); 16] = [
        (b"hello\n", &["line 1: expected a JSON object"]),
        (b"\n \r\n\t\n", &[]),
        (
            b"123 {\"type\":\"GET\"}\n",
            &["line 1: expected a JSON object"],
        ),
        (b"\x00\xff\xfe\x80\n", &["line 1: expected a JSON object"]),
        (
            b"{\"a\":\"\xff\"}\n",
            &["line 1 column 7: not JSON: invalid unicode code point"],
        ),
        (b"[1,2]\n", &["line 1: a list is not an object"]),
        (
            b"{\"a\":1]\n",
            &["line 1 column 7: not JSON: expected `,` or `}`"],
        ),
        (
            b"{}}\n",
            &[
                "type: line 1: is required",
                "line 1: expected a JSON object",
            ],
        ),
        (
            b"{\"type\":\"ADDED\",\"object\":{\n",
            &["line 1: the object does not end"],
        ),
        (
            b"{\"type\":\"ADD\n",
            &["line 1: the line ends inside a string"],
        ),
        (
            b"{\"type\":\"ADD\\\n",
            &["line 1: the line ends inside a string"],
        ),
        (
            b"{\n  \"type\": \"ADDED\",\n  \"object\": {\n    \"a\": 1,\n  }\n}\n",
            &["line 5 column 3: not JSON: trailing comma"],
        ),
        (b"{\"type\":\"ADDED\"}\n", &["object: line 1: is required"]),
        (
            b"{\"type\":\"ADDED\",\"object\":[]}\n",
            &["object: line 1: a list is not an object"],
        ),
        (
            b"{\"type\":\"REPLACED\",\"object\":{}}\n",
            &[
                "type: line 1: \"REPLACED\" is not one of ADDED, MODIFIED, DELETED, BOOKMARK, ERROR, HELLO, VALIDATE, GET, SHOW",
            ],
        ),
        (
            b"{\"kind\":\"Service\"}\n",
            &["apiVersion: is required; metadata: is required; spec: is required"],
        ),
    ];
    for (input, errors) in cases {
        let mut hub = hub();
        let mut feeder = Feeder::open(&mut hub);
        feeder.bytes(&mut hub, input);
        feeder.say(&mut hub, &good);
        let mut expected: Vec<&str> = errors.to_vec();
        expected.push("");
        assert_eq!(
            feeder.errors(),
            expected,
            "{}",
            String::from_utf8_lossy(input)
        );
        assert_eq!(names(&hub), ["s"], "{}", String::from_utf8_lossy(input));
    }
}

#[test]
fn the_rest_of_a_broken_indented_object_is_one_error_not_many() {
    let mut hub = hub();
    let mut feeder = Feeder::open(&mut hub);
    let text = format!("{:#}\n", json!({"type": "ADDED", "object": service("s")}));
    // A bracket too many in the middle: the value ends early, and what is left is not one.
    let broken = text.replacen("\"spec\": {", "}}, \"spec\": {", 1);
    feeder.bytes(&mut hub, &broken);
    feeder.bytes(&mut hub, &text);
    let errors = feeder.errors();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("not JSON"), "{errors:?}");
    assert_eq!(errors[1], "");
}

#[test]
fn a_value_that_is_too_long_is_refused_without_being_held() {
    let mut hub = hub();
    let mut feeder = Feeder::open(&mut hub);
    feeder.bytes(&mut hub, b"{\"type\":\"");
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        feeder.bytes(&mut hub, &piece);
    }
    feeder.bytes(&mut hub, b"\"}\n");
    feeder.event(&mut hub, "ADDED", &service("s"));
    // In one piece, too.
    let mut long = vec![b' '; MAX_VALUE];
    long[0] = b'{';
    long.extend(b"}\n");
    feeder.bytes(&mut hub, &long);
    feeder.event(&mut hub, "ADDED", &service("s"));
    assert_eq!(
        feeder.errors(),
        [
            "line 1: longer than 8388608 bytes",
            "",
            "line 3: longer than 8388608 bytes",
            ""
        ]
    );
}

#[test]
fn deep_nesting_is_refused() {
    let mut hub = hub();
    let mut feeder = Feeder::open(&mut hub);
    let mut deep = vec![b'['; 1_000_000];
    deep.extend(vec![b']'; 1_000_000]);
    deep.push(b'\n');
    feeder.bytes(&mut hub, &deep);
    feeder.event(&mut hub, "ADDED", &service("s"));
    let errors = feeder.errors();
    assert_eq!(
        errors,
        ["line 1 column 128: not JSON: recursion limit exceeded", ""]
    );
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
