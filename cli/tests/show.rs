//! `tmmctl show`.
#![allow(clippy::unwrap_used, clippy::format_push_string)]

mod common;

use std::io::{Cursor, Write};

use cli::{Io, Terminal};
use common::{Tmm, run};
use insta::assert_snapshot;

#[test]
fn every_table_is_rendered_for_people() {
    let tmm = Tmm::start();
    let mut all = String::new();
    for table in [
        "ports",
        "vlans",
        "self-ips",
        "neighbors",
        "routes",
        "virtual-servers",
        "pools",
        "connections",
        "drops",
        "workers",
        "config",
        "health",
        "tunnels",
    ] {
        all.push_str(&format!(
            "# show {table}\n{}\n\n",
            tmm.ctl(&["show", table], "")
        ));
    }
    assert_snapshot!(all);
}

#[test]
fn wide_tables_have_every_column() {
    let tmm = Tmm::start();
    let mut all = String::new();
    for table in ["ports", "connections", "virtual-servers", "workers"] {
        let shown = tmm.ctl(&["show", table, "--wide"], "");
        all.push_str(&format!("# show {table} --wide\n{shown}\n\n"));
    }
    assert_snapshot!(all);
}

#[test]
fn json_is_one_array_of_rows_as_tmm_gives_them() {
    let tmm = Tmm::start();
    for (table, rows) in [
        ("connections", 3),
        ("drops", 3),
        ("routes", 2),
        ("empty", 0),
    ] {
        let shown = tmm.ctl(&["show", table, "--json"], "");
        assert_eq!((shown.code, shown.err.as_str()), (0, ""));
        let value: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
        assert_eq!(value.as_array().unwrap().len(), rows, "{shown}");
    }
    let shown = tmm.ctl(&["show", "routes", "--json"], "");
    assert!(shown.out.contains(r#""gateway":null"#), "{shown}");
}

#[test]
fn filters_limits_and_counts_select_rows() {
    let tmm = Tmm::start();
    let rows = |args: &[&str]| tmm.ctl(args, "").out.lines().count();
    assert_eq!(rows(&["show", "connections", "--protocol", "udp"]), 2);
    assert_eq!(
        rows(&["show", "connections", "--filter", "client=192.0.2.10:40001"]),
        2
    );
    assert_eq!(rows(&["show", "drops", "--all"]), 4);
    assert_eq!(rows(&["show", "drops"]), 3);
    assert_eq!(rows(&["show", "drops", "--limit", "1"]), 2);
    assert_eq!(tmm.ctl(&["show", "connections", "--count"], "").out, "3\n");
    let counted = tmm.ctl(
        &[
            "show",
            "connections",
            "--count",
            "--state",
            "CLOSED",
            "--json",
        ],
        "",
    );
    assert_eq!(counted.out, "{\"count\":0}\n");
    let limited = tmm.ctl(&["show", "connections", "--limit", "2"], "");
    assert_eq!((limited.out.lines().count(), limited.err.as_str()), (3, ""));
}

#[test]
fn nothing_to_show_is_said_on_standard_error_and_is_no_failure() {
    let tmm = Tmm::start();
    assert_snapshot!(tmm.ctl(&["show", "empty"], ""), @r"
    --- stderr
    no empty
    --- exit code 0
    ");
    assert_snapshot!(tmm.ctl(&["show", "connections", "--state", "CLOSED"], ""), @r"
    --- stderr
    no connections that match
    --- exit code 0
    ");
}

#[test]
fn an_unknown_table_is_refused_with_those_there_are() {
    let tmm = Tmm::start();
    assert_snapshot!(tmm.ctl(&["show", "conections"], ""), @r#"
    --- stderr
    tmmctl: table: no table "conections"; there are ports, drops
    --- exit code 1
    "#);
}

#[test]
fn without_a_table_the_tables_are_listed_and_no_tmm_is_needed() {
    let listed = common::ctl(std::path::Path::new("/nonexistent"), &["show"], "");
    assert_eq!(listed.code, 0);
    assert!(listed.out.contains("virtual-servers"), "{listed}");
}

#[test]
fn trouble_is_red_on_a_terminal_only_and_never_with_no_color() {
    let tmm = Tmm::start();
    let socket = tmm.socket.display().to_string();
    let shown = |terminal, more: &[&str]| {
        let args = ["tmmctl", "--socket", &socket, "show", "neighbors"];
        let args = args.into_iter().chain(more.iter().copied());
        run(args, Box::new(Cursor::new("")), terminal).out
    };
    let terminal = Terminal {
        stdout: true,
        stderr: true,
        no_color: false,
    };
    let colored = shown(terminal, &[]);
    let lines: Vec<&str> = colored.lines().collect();
    assert!(lines[0].starts_with("\u{1b}[1m"), "{colored:?}");
    assert!(!lines[1].contains('\u{1b}'), "{colored:?}");
    assert!(
        lines[2].starts_with("\u{1b}[31m") && lines[2].ends_with("\u{1b}[0m"),
        "{colored:?}"
    );
    assert!(lines[3].starts_with("\u{1b}[33m"), "{colored:?}");
    let no_color = Terminal {
        no_color: true,
        ..terminal
    };
    assert!(!shown(no_color, &[]).contains('\u{1b}'));
    assert!(!shown(Terminal::default(), &[]).contains('\u{1b}'));
    assert!(!shown(terminal, &["--color", "never"]).contains('\u{1b}'));
    assert!(shown(Terminal::default(), &["--color", "always"]).contains('\u{1b}'));
}

/// Takes so many octets and is then closed, as `head` is.
struct Pipe(usize);

impl Write for Pipe {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        if self.0 < octets.len() {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        self.0 -= octets.len();
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_ends_a_table_and_a_watch_without_a_word() {
    let tmm = Tmm::start();
    let socket = tmm.socket.display().to_string();
    for args in [
        &["--watch", "1ms"][..],
        &["--json"],
        &["--watch=1ms", "--json"],
    ] {
        let mut err = Vec::new();
        let all = ["tmmctl", "--socket", &socket, "show", "connections"];
        let io = Io {
            stdin: Box::new(Cursor::new("")),
            stdout: &mut Pipe(if args.len() == 1 { 10 } else { 2000 }),
            stderr: &mut err,
            terminal: Terminal::default(),
        };
        let code = cli::run(all.into_iter().chain(args.iter().copied()), io);
        assert_eq!(
            (code, String::from_utf8(err).unwrap().as_str()),
            (0, ""),
            "{args:?}"
        );
    }
}
