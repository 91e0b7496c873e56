//! What is said when there is no tmm, or something else in its place; and help.
#![allow(clippy::unwrap_used, clippy::format_push_string)]

mod common;

use std::io::{Cursor, Read, Write};
use std::path::Path;

use cli::Terminal;
use common::{Tmm, VLAN, ctl, run};
use insta::assert_snapshot;

#[test]
fn a_missing_socket_asks_whether_tmm_runs() {
    assert_snapshot!(ctl(Path::new("/nonexistent/config.sock"), &["show", "ports"], ""), @r"
    --- stderr
    tmmctl: there is no socket /nonexistent/config.sock; is tmm running? (--socket or TMM_CONFIG_SOCKET says where its config socket is)
    --- exit code 1
    ");
}

#[test]
fn a_socket_that_was_left_behind_and_a_plain_file_are_told_as_such() {
    let directory = tempfile::TempDir::new().unwrap();
    let socket = directory.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [socket, file] {
        let ran = ctl(&path, &["get"], "");
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("nothing listens on"), "{ran}");
    }
}

#[test]
fn a_silent_tmm_is_given_up_after_the_timeout() {
    let tmm = Tmm::serving(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    for args in [
        &["show", "ports"][..],
        &["get"],
        &["apply", "-f", "-"],
        &["delete", "vlan", "x"],
        &["validate", "-f", "-"],
        &["feed"],
    ] {
        let args: Vec<&str> = args.iter().copied().chain(["--timeout", "50ms"]).collect();
        let ran = tmm.ctl(&args, VLAN);
        assert_eq!(ran.code, 1, "{ran}");
        assert!(
            ran.err.contains("has not answered") && ran.err.contains("50ms"),
            "{ran}"
        );
    }
}

#[test]
fn a_tmm_that_goes_away_is_missed() {
    let tmm = Tmm::serving(|mut stream| {
        let _ = stream.read(&mut [0; 100]);
        let _ = stream.write_all(b"{\"type\":\"HELLO\",\"feeder\":\"tmmctl\",\"session\":1}\n");
    });
    let ran = tmm.ctl(&["apply", "-f", "-"], VLAN);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.err.contains("has closed the connection"), "{ran}");
}

#[test]
fn what_does_not_speak_the_protocol_is_not_taken_for_tmm() {
    for text in [
        "HTTP/1.1 400 Bad Request\n",
        "{}\n",
        "\u{0}\u{1}\n",
        "{\"type\":\"STATE\"}\n",
    ] {
        let tmm = Tmm::serving(move |mut stream| {
            let _ = stream.write_all(text.as_bytes());
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let ran = tmm.ctl(&["show", "ports"], "");
        assert_eq!(ran.code, 1, "{ran}");
        assert!(ran.err.contains("does not speak tmm's protocol"), "{ran}");
    }
}

#[test]
fn a_line_without_end_is_given_up() {
    let tmm = Tmm::serving(|mut stream| {
        let zeros = vec![b' '; 1 << 20];
        while stream.write_all(&zeros).is_ok() {}
    });
    let ran = tmm.ctl(&["get"], "");
    assert!(
        ran.code == 1 && ran.err.contains("a line without end"),
        "{ran}"
    );
}

#[test]
fn a_tmm_with_too_many_clients_says_so() {
    let tmm = Tmm::serving(|mut stream| {
        let line = r#"{"type":"ANSWER","kind":null,"namespace":null,"name":null,"generation":null,"accepted":false,"errors":[{"field":"","message":"too many clients: 64 at once"}]}"#;
        let _ = stream.write_all(format!("{line}\n").as_bytes());
    });
    for args in [
        &["show", "ports"][..],
        &["get"],
        &["apply", "-f", "-"],
        &["validate", "-f", "-"],
        &["feed"],
    ] {
        let ran = tmm.ctl(args, VLAN);
        assert_eq!(
            (ran.code, ran.err.as_str()),
            (1, "tmmctl: too many clients: 64 at once\n"),
            "{args:?}"
        );
    }
}

#[test]
fn help_says_what_there_is() {
    let mut all = String::new();
    for command in [
        "",
        "apply",
        "delete",
        "get",
        "validate",
        "feed",
        "show",
        "completions",
    ] {
        let args = ["tmmctl", command, "--help"];
        let args = args.into_iter().filter(|arg| !arg.is_empty());
        let ran = run(args, Box::new(Cursor::new("")), Terminal::default());
        assert_eq!(ran.code, 0);
        all.push_str(&format!("# tmmctl {command} --help\n{}\n", ran.out));
    }
    assert_snapshot!(all);
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for args in [
        &["tmmctl"][..],
        &["tmmctl", "frobnicate"],
        &["tmmctl", "apply"],
        &["tmmctl", "delete"],
        &["tmmctl", "delete", "-f", "x", "vlan", "y"],
        &["tmmctl", "get", "-A", "-n", "x"],
        &["tmmctl", "get", "-o", "toml"],
        &["tmmctl", "show", "ports", "--limit", "0"],
        &["tmmctl", "show", "ports", "--filter", "nothing"],
        &["tmmctl", "show", "ports", "--watch", "0"],
        &["tmmctl", "--timeout", "soon", "get"],
    ] {
        let ran = run(
            args.iter().copied(),
            Box::new(Cursor::new("")),
            Terminal::default(),
        );
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}: {ran}");
        assert!(!ran.err.is_empty());
    }
}

#[test]
fn completions_are_generated_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let args = ["tmmctl", "completions", shell];
        let ran = run(args, Box::new(Cursor::new("")), Terminal::default());
        assert!(
            ran.code == 0 && ran.out.contains("virtual-server"),
            "{shell}"
        );
    }
}
