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

// case JSON-001: what must be taken is, what must be refused is, and nothing crashes or hangs.
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
        // Inside an object, so that what the case is about is the JSON and not the framing.
        let mut framed = b"{\"type\":\"ADDED\",\"object\":{\"x\":".to_vec();
        framed.extend(&bytes);
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
        for answer in answers(&bytes) {
            assert!(!answer.accepted, "{name}");
        }
        if let Ok(documents) = document::read_from(&name, &bytes[..]) {
            document::load(&documents, Limits::default());
        }
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
