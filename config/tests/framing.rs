//! Bytes into values: pieces, half lines, garbage, floods.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::feeder::{Feeder, hub, names};
use common::{SITE, objects, service};
use config::watch::MAX_VALUE;
use serde_json::json;

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
                "type: line 1: \"REPLACED\" is not one of ADDED, MODIFIED, DELETED, BOOKMARK, ERROR, HELLO, VALIDATE, GET, SHOW, FLUSH",
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
    let mut deep = vec![b'['; 100_000];
    deep.extend(vec![b']'; 100_000]);
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
fn a_value_of_too_many_elements_is_refused_before_it_is_parsed() {
    for size in [1 << 12, 1 << 24] {
        let mut hub = hub();
        let mut feeder = Feeder::open(&mut hub);
        let flood = format!("[{}0]\n", "[],".repeat(300_000));
        for piece in flood.as_bytes().chunks(size) {
            feeder.bytes(&mut hub, piece);
        }
        feeder.event(&mut hub, "ADDED", &service("s"));
        assert_eq!(feeder.errors(), ["line 1: more than 500000 elements", ""]);
    }
}

#[test]
fn a_list_of_too_many_objects_is_one_error() {
    let mut hub = hub();
    let mut feeder = Feeder::open(&mut hub);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": vec![json!({}); 20_001]});
    feeder.event(&mut hub, "ADDED", &list);
    assert_eq!(feeder.errors(), ["items: 20001 items are more than 20000"]);
}
