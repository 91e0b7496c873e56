//! Objects in files.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::fmt::Write as _;
use std::fs;

use common::{SITE, objects};
use config::Limits;
use config::document::{self, Document, ReadError};

/// Where each document is, and whether it could be read.
fn places(text: &str) -> Vec<String> {
    document::read_text("f", text)
        .iter()
        .map(|document| match &document.content {
            Ok(value) => format!("{} {value}", document.source),
            Err(message) => format!("{} ! {message}", document.source),
        })
        .collect()
}

#[test]
fn documents_are_numbered_and_found_by_line() {
    assert_eq!(
        places("# nothing\n---\na: 1\n---\n# only a comment\n---\n\n# b\nb: 2\n--- {c: 3}\n...\n"),
        [
            "f:3 (document 1) {\"a\":1}",
            "f:9 (document 2) {\"b\":2}",
            "f:10 (document 3) {\"c\":3}",
        ]
    );
}

#[test]
fn an_empty_text_has_no_documents() {
    for text in ["", "\n\n", "---\n---\n", "# x", "null\n", "\u{feff}"] {
        assert_eq!(places(text), [] as [&str; 0], "{text:?}");
    }
}

#[test]
fn a_bad_document_does_not_hide_the_others() {
    let found = places("a: 1\n---\nb: [1,\nc: 2\n---\nd: 4\n");
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0], "f:1 (document 1) {\"a\":1}");
    assert!(
        found[1].starts_with("f:3 (document 2) ! line 3 column 4: not YAML: unclosed bracket"),
        "{found:?}"
    );
    assert_eq!(found[2], "f:6 (document 3) {\"d\":4}");
}

#[test]
fn a_key_that_is_there_twice_is_an_error() {
    let found = places("spec:\n  tag: 1\n  tag: 2\n");
    assert!(
        found[0].contains("! line 3 column 3: not YAML: "),
        "{found:?}"
    );
}

#[test]
fn json_values_may_follow_each_other() {
    assert_eq!(
        places("{\"a\":1}\n{\n  \"b\": 2\n}{\"c\":3}\n"),
        [
            "f:1 (document 1) {\"a\":1}",
            "f:2 (document 2) {\"b\":2}",
            "f:4 (document 3) {\"c\":3}",
        ]
    );
}

#[test]
fn yaml_that_begins_like_json_is_yaml() {
    assert_eq!(
        places("{a: 1, b: [x]}\n"),
        ["f:1 (document 1) {\"a\":1,\"b\":[\"x\"]}"]
    );
    assert_eq!(
        places("{a: 1}\n---\n{\"b\": 2}\n"),
        ["f:1 (document 1) {\"a\":1}", "f:3 (document 2) {\"b\":2}"]
    );
}

#[test]
fn lists_are_taken_apart() {
    assert_eq!(
        places("kind: List\nitems:\n- {kind: A}\n- {kind: B}\n---\nkind: List\n"),
        [
            "f:1 (document 1, item 0) {\"kind\":\"A\"}",
            "f:1 (document 1, item 1) {\"kind\":\"B\"}",
            "f:6 (document 2) ! items: is not a list of objects",
        ]
    );
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let refs = vec![format!("*a{}", i - 1); 10].join(", ");
        writeln!(text, "a{i}: &a{i} [{refs}]").unwrap();
    }
    let found = document::read_text("f", &text);
    assert!(matches!(
        &found[..],
        [Document {
            content: Err(_),
            ..
        }]
    ));
}

#[test]
fn problems_name_place_object_and_field() {
    let text = "\
apiVersion: k8s.f5net.com/v1
kind: F5SPKVlan
metadata: {name: a}
spec: {name: a, interfaces: ['1.1'], tag: 5000, selfip_v4s: [10.0.0.300]}
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {}
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {}
---
a: [
---
kind: F5SPKDnscache
apiVersion: k8s.f5net.com/v3
metadata: {name: e, namespace: ns}
";
    let (store, problems) =
        document::load(&document::read_text("site.yaml", text), Limits::default());
    assert_eq!(store.len(), 1);
    let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_directory_is_read_by_name_of_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("20.yml"), "b: 1\n").unwrap();
    fs::write(path("10.yaml"), "a: 1\n---\nc: 1\n").unwrap();
    fs::write(path("30.json"), "{\"d\":1}").unwrap();
    fs::write(path("README.md"), "no").unwrap();
    fs::create_dir(path("more.yaml")).unwrap();
    let found = document::read_path(dir.path()).unwrap();
    let values: Vec<String> = found
        .iter()
        .map(|d| d.content.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(values, ["{\"a\":1}", "{\"c\":1}", "{\"b\":1}", "{\"d\":1}"]);
    assert!(found[0].source.name.ends_with("10.yaml"));

    let empty = path("more.yaml");
    assert!(matches!(
        document::read_path(&empty),
        Err(ReadError::EmptyDirectory { .. })
    ));
    let none = document::read_path(&path("none")).unwrap_err().to_string();
    assert!(
        none.starts_with("cannot read ") && none.contains("none: No such file"),
        "{none}"
    );
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let error = document::read_from("-", &b"a: \xff\n"[..]).unwrap_err();
    assert_eq!(error.to_string(), "- is not UTF-8 (byte 3)");
    let error = document::read_from("-", std::io::repeat(b'#')).unwrap_err();
    assert_eq!(error.to_string(), "- is larger than 64 MiB");
}

#[test]
fn a_document_beyond_a_bound_is_told_the_bound_in_words() {
    let deep = format!("a: {}{}\n", "[".repeat(80), "]".repeat(80));
    let many = "- 1\n".repeat(250_001);
    let aliases = format!("- &a 1\n{}", "- *a\n".repeat(200));
    for (text, words) in [
        (
            deep,
            "too many levels of nesting; 64 is the most a document may have",
        ),
        (
            many,
            "too many values and keys; 250000 is the most a document may have",
        ),
        (
            aliases,
            "10 aliases for each anchor is the most a document may have",
        ),
    ] {
        let found = document::read_text("f", &format!("ok: 1\n---\n{text}"));
        assert!(found[0].content.is_ok());
        let message = found[1].content.as_ref().unwrap_err();
        assert!(message.ends_with(words), "{message}");
        assert!(!message.contains(['{', '}']), "{message}");
    }
}

#[test]
fn a_whole_site_loads_without_a_problem() {
    let (store, problems) = document::load(&document::read_text("site", SITE), Limits::default());
    assert_eq!(problems, []);
    assert_eq!(store.len(), objects(SITE).len());
}
