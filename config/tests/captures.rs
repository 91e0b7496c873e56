//! Published parser cases and recorded watch streams, where they are beside the project.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use config::client::{Answer, Response};
use config::watch::{Hub, Output};
use config::{Limits, document};

fn captures(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/captures")
        .join(name);
    if !path.is_dir() {
        println!("skipped: no {name} captures beside the project");
        return None;
    }
    Some(path)
}

fn answers(bytes: &[u8]) -> Vec<Answer> {
    let mut hub = Hub::new(Limits::default());
    let mut session = hub.open();
    let mut out = Vec::new();
    session.feed(&mut hub, bytes, &mut out);
    session.finish(&mut hub, &mut out);
    assert!(hub.store().is_empty());
    let answer = |output| match output {
        Output::Line(line) => match serde_json::from_str(&line).unwrap() {
            Response::Answer(answer) => answer,
            other => panic!("{other:?}"),
        },
        other @ (Output::Show(_) | Output::Flush(_)) => panic!("{other:?}"),
    };
    out.into_iter().map(answer).collect()
}

/// A document is read or refused as its name says, within an object, by itself and as a file.
fn is_as_its_name_says(name: &str, bytes: &[u8]) {
    // Inside an object, so that what the case is about is the JSON and not the framing.
    let mut framed = b"{\"type\":\"ADDED\",\"object\":{\"x\":".to_vec();
    framed.extend(bytes);
    framed.extend(b"}}");
    let framed = answers(&framed);
    let text: Vec<String> = framed
        .iter()
        .flat_map(|a| &a.errors)
        .map(ToString::to_string)
        .collect();
    assert!(!text.is_empty(), "{name}");
    let read = text == ["kind: is required", "apiVersion: is required"];
    if name.starts_with("y_") {
        assert!(read, "{name}: {text:?}");
    } else if name.starts_with("n_") {
        assert!(!read, "{name}: {text:?}");
    }
    for answer in answers(bytes) {
        assert!(!answer.accepted, "{name}");
    }
    if let Ok(documents) = document::read_from(name, bytes) {
        document::load(&documents, Limits::default());
    }
}

// case JSON-001: what must be taken is, what must be refused is, and nothing crashes or hangs; documents of our own.
#[test]
fn what_is_json_is_read_and_what_is_not_is_refused() {
    let good = [
        "[]",
        " [ 1 , -0 , 1e5, 0.25E-3 ] ",
        r#"{"":{"a":[null,true,false]}}"#,
        r#""\u0041\ud834\udd1e\\\/\b\f\n\r\t""#,
        "\"\u{10ffff}\"",
        "123456789012345678901234567890",
    ];
    let bad = [
        "[1,]",
        "[,1]",
        "[1 2]",
        "[",
        "]",
        "[1}",
        "{\"a\":}",
        "{\"a\" 1}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "'a'",
        "nul",
        "True",
        "NaN",
        "-Infinity",
        "+1",
        "01",
        "1.",
        ".5",
        "1e",
        "0x1",
        "--1",
        "\"a",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\t\"",
        "\"\u{0}\"",
        "/**/1",
        "[1]#",
        "",
    ];
    for text in good {
        is_as_its_name_says(&format!("y_{text}"), text.as_bytes());
    }
    for text in bad {
        is_as_its_name_says(&format!("n_{text}"), text.as_bytes());
    }
    // No UTF-8, half a pair, a mark of the order of octets; far too deep.
    for octets in [&b"\"\xff\""[..], b"\"\xed\xa0\x80\""] {
        is_as_its_name_says("n_octets", octets);
    }
    for octets in [&br#""\ud800""#[..], b"\xef\xbb\xbf1", b"1e999"] {
        is_as_its_name_says("i_octets", octets);
    }
    for deep in ["[", "{\"a\":"] {
        is_as_its_name_says("n_deep", deep.repeat(100_000).as_bytes());
    }
}

// case JSON-001: the suite itself, where it is to be had.
#[test]
fn every_case_of_the_json_suite_is_answered_as_its_name_says() {
    let Some(dir) = captures("json") else { return };
    let mut cases = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&path).unwrap();
        if path.extension().is_none_or(|ext| ext != "json") {
            continue;
        }
        cases += 1;
        is_as_its_name_says(&name, &bytes);
    }
    assert!(cases > 100, "{cases}");
}

// case K8S-001: streams of a real API server, line by line.
#[test]
fn recorded_watch_streams_are_answered_event_by_event() {
    let Some(dir) = captures("k8s/watch-samples") else {
        return;
    };
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let events = answers(&bytes);
        if path.extension().is_some_and(|ext| ext == "jsonl") {
            let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
            assert_eq!(events.len(), lines.count(), "{}", path.display());
        }
        for answer in events {
            let event = answer.event.as_deref().unwrap_or_default();
            let kept = matches!(event, "ADDED" | "MODIFIED" | "DELETED");
            assert_eq!(answer.accepted, !kept, "{} {answer:?}", path.display());
            if kept {
                assert!(
                    answer.errors[0].message.contains("unknown kind"),
                    "{answer:?}"
                );
            }
        }
    }
}

#[test]
fn manifests_of_other_projects_are_read_and_refused_by_kind() {
    for name in [
        "k8s/gateway-api-conformance",
        "k8s/gateway-api-crd/standard",
    ] {
        let Some(dir) = captures(name) else { return };
        let documents = document::read_path(&dir).unwrap();
        assert!(!documents.is_empty());
        let (_, problems) = document::load(&documents, Limits::default());
        for problem in problems {
            let text = problem.to_string();
            assert!(text.contains(": kind: unknown kind \""), "{text}");
        }
    }
}
