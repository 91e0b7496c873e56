//! `tmmctl feed`.
#![allow(clippy::unwrap_used, clippy::format_push_string)]

mod common;

use common::{Tmm, VLAN, WAITING};
use insta::assert_snapshot;
use std::io::{Read, Write};

fn event(word: &str, object: &str) -> String {
    format!("{{\"type\":\"{word}\",\"object\":{object}}}\n")
}

/// As `kubectl --watch -o json` prints it.
fn pretty(text: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    format!(
        "{}\n",
        serde_json::to_string_pretty(&value)
            .unwrap()
            .replace("  ", "    ")
    )
}

#[test]
fn events_are_fed_and_answered_in_whatever_way_they_are_printed() {
    let tmm = Tmm::start();
    let events = [
        event("ADDED", VLAN),
        event("MODIFIED", WAITING),
        event("DELETED", VLAN),
    ];
    let compact = tmm.ctl(&["feed"], &events.concat());
    let indented: String = events.iter().map(|text| pretty(text)).collect();
    let spread = tmm.ctl(&["feed"], &indented);
    for ran in [&compact, &spread] {
        assert_eq!(ran.code, 0, "{ran}");
        let answers: Vec<&str> = ran
            .out
            .lines()
            .filter(|line| !line.contains(": "))
            .collect();
        assert_eq!(
            answers,
            [
                "f5spkvlan/default/external accepted",
                "f5spkingresstcp/shop/web accepted",
                "f5spkvlan/default/external deleted"
            ],
            "{ran}"
        );
        assert!(
            ran.out
                .contains("f5spkingresstcp/shop/web: Pending: Service"),
            "{ran}"
        );
    }
    assert_eq!(tmm.ctl(&["feed", "-q"], &events.concat()).out, "");
}

#[test]
fn a_list_is_as_many_events_as_it_has_items() {
    let tmm = Tmm::start();
    let list = format!("{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{VLAN},{WAITING}]}}");
    for input in [list.clone(), event("ADDED", &list)] {
        let ran = tmm.ctl(
            &["feed", "--wait=0"],
            &format!("{input}\n{}", event("DELETED", VLAN)),
        );
        assert_eq!(ran.code, 0, "{ran}");
        assert!(ran.out.contains("external deleted"), "{ran}");
    }
}

#[test]
fn a_list_larger_than_one_request_is_fed_and_one_that_is_refused_removes_nothing() {
    let tmm = Tmm::start();
    let list = |count: usize, padding: usize| {
        let padding = "x".repeat(padding);
        let items: Vec<String> = (0..count)
            .map(|n| {
                format!(
                    "{{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{{\"name\":\"s{n}\",\"annotations\":{{\"x\":\"{padding}\"}}}},\"spec\":{{\"ports\":[{{\"port\":80}}]}}}}"
                )
            })
            .collect();
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{}]}}",
            items.join(",")
        )
    };
    // Twelve MiB, of which tmm takes at most eight in one piece.
    let ran = tmm.ctl(&["feed", "--complete"], &list(120, 100_000));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    for args in [["feed", "--complete"], ["feed", "--list-first"]] {
        let ran = tmm.ctl(&args, &list(20_001, 0));
        assert!(ran.code == 1 && ran.err.contains("20001 items"), "{ran}");
    }
    let kept = tmm.ctl(&["get", "-A", "-o", "name"], "").out;
    assert_eq!(kept.lines().count(), 120);
}

#[test]
fn what_is_wrong_is_told_by_the_line_of_the_input_and_the_rest_goes_on() {
    let tmm = Tmm::start();
    let wrong = VLAN.replace("100", "5000");
    let input = format!(
        "Unable to connect to the server\n{}{{\"type\":\"SHOW\",\"table\":\"ports\"}}\n{}{}{{\"half\":",
        event("ADDED", &wrong),
        event("ADDED", VLAN),
        event(
            "ERROR",
            "{\"kind\":\"Status\",\"message\":\"too old resource version\"}"
        ),
    );
    assert_snapshot!(tmm.ctl(&["feed"], &input));
}

#[test]
fn a_complete_list_removes_what_it_lacks_and_a_broken_one_removes_nothing() {
    let tmm = Tmm::start();
    let names = || tmm.ctl(&["get", "-A", "-o", "name"], "").out;
    let both = [event("ADDED", VLAN), event("ADDED", WAITING)].concat();
    assert_eq!(tmm.ctl(&["feed"], &both).code, 0);
    assert_eq!(names().lines().count(), 2);
    let failed = event("ERROR", "{\"kind\":\"Status\",\"message\":\"gone\"}");
    for broken in [
        "",
        "{\"type\":\"ADDED\",\"obj",
        "error: no cluster\n",
        &failed,
    ] {
        let ran = tmm.ctl(&["feed", "--complete"], broken);
        assert_eq!(ran.code, 1, "{broken:?} {ran}");
        assert!(ran.err.contains("nothing removed"), "{ran}");
        assert_eq!(names().lines().count(), 2, "{broken:?}");
    }
    // Without the flag nothing is removed, and another feeder's objects are not touched.
    assert_eq!(tmm.ctl(&["feed"], &event("ADDED", VLAN)).code, 0);
    let other = ["feed", "--complete", "--feeder", "other"];
    assert_eq!(
        tmm.ctl(
            &other,
            "{\"kind\":\"List\",\"apiVersion\":\"v1\",\"items\":[]}"
        )
        .code,
        0
    );
    assert_eq!(names().lines().count(), 2);
    let ran = tmm.ctl(&["feed", "--complete"], &event("ADDED", VLAN));
    assert!(
        ran.code == 0 && ran.out.contains("1 object of earlier sessions removed"),
        "{ran}"
    );
    assert_eq!(names(), "f5spkvlan/default/external\n");
}

#[test]
fn a_list_that_comes_first_removes_what_it_lacks_before_the_watch_goes_on() {
    let tmm = Tmm::start();
    let names = || tmm.ctl(&["get", "-A", "-o", "name"], "").out;
    assert_eq!(tmm.ctl(&["feed"], &event("ADDED", WAITING)).code, 0);
    let list = |items: &str| {
        pretty(&format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{items}]}}"
        ))
    };
    // A watch without its list, and a list that is cut off, remove nothing.
    let cut = list(VLAN);
    for input in [event("ADDED", VLAN), cut.get(..50).unwrap().to_owned()] {
        let ran = tmm.ctl(&["feed", "--list-first"], &input);
        assert!(
            ran.code == 1 && ran.err.contains("nothing removed"),
            "{ran}"
        );
        assert!(names().contains("shop/web"));
    }
    let input = list(VLAN) + &event("MODIFIED", VLAN);
    let ran = tmm.ctl(&["feed", "--list-first"], &input);
    assert_eq!(ran.code, 0, "{ran}");
    let removed = ran
        .out
        .find("1 object of earlier sessions removed")
        .unwrap();
    let last = ran.out.rfind("external accepted").unwrap();
    assert!(removed < last, "{ran}");
    assert_eq!(names(), "f5spkvlan/default/external\n");
    // The cluster has none left.
    assert_eq!(tmm.ctl(&["feed", "--list-first"], &list("")).code, 0);
    assert_eq!(names(), "");
}

#[test]
fn when_tmm_goes_away_the_feeder_ends_at_once_although_its_input_does_not() {
    let tmm = Tmm::serving(|mut stream| {
        let _ = stream.read(&mut [0; 100]);
        let _ = stream.write_all(b"{\"type\":\"HELLO\",\"feeder\":\"kubectl\",\"session\":1}\n");
        std::thread::sleep(std::time::Duration::from_millis(50));
    });
    let (reader, writer) = std::io::pipe().unwrap();
    let socket = tmm.socket.display().to_string();
    let args = ["tmmctl", "--socket", &socket, "feed"];
    let ran = common::run(args, Box::new(reader), cli::Terminal::default());
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.err.contains("has closed the connection"), "{ran}");
    drop(writer);
}

#[test]
fn events_are_told_as_they_come_and_not_at_the_end() {
    let tmm = Tmm::start();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let socket = tmm.socket.clone();
    let feeder = std::thread::spawn(move || {
        let socket = socket.display().to_string();
        let args = ["tmmctl", "--socket", &socket, "feed"];
        common::run(args, Box::new(reader), cli::Terminal::default())
    });
    writer.write_all(event("ADDED", VLAN).as_bytes()).unwrap();
    let kept = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        tmm.ctl(&["get", "-A", "-o", "name"], "")
            .out
            .contains("external")
    });
    assert!(kept, "the event waits for the end of the input");
    drop(writer);
    assert_eq!(feeder.join().unwrap().code, 0);
}

#[test]
fn a_file_can_be_fed_and_one_that_is_not_there_is_told() {
    let tmm = Tmm::start();
    let file = tmm.file("events.json", &event("ADDED", VLAN));
    assert_eq!(tmm.ctl(&["feed", &file], "").code, 0);
    let ran = tmm.ctl(&["feed", "/nonexistent/events"], "");
    assert!(
        ran.code == 1 && ran.err.contains("cannot read /nonexistent/events"),
        "{ran}"
    );
}
