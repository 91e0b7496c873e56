//! `tmmctl apply`, `delete`, `get` and `validate`.
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::format_collect
)]

mod common;

use common::{Tmm, VLAN, WAITING};
use insta::assert_snapshot;

const WRONG: &str = r"
apiVersion: k8s.f5net.com/v1
kind: F5SPKVlan
metadata:
  name: wrong
spec:
  name: wrong
  tag: 5000
  interfaces: ['1.1']
  colour: red
---
kind: [
";

#[test]
fn applied_objects_are_told_with_their_states() {
    let tmm = Tmm::start();
    let input = format!("{VLAN}\n{WAITING}\n");
    assert_snapshot!(tmm.ctl(&["apply", "-f", "-"], &input), @r#"
    f5spkvlan/default/external accepted: Programmed
    f5spkingresstcp/shop/web accepted: Pending: Service "shop/web" not found
    --- exit code 0
    "#);
    // Once more: nothing changes, and the states are told all the same.
    assert_snapshot!(tmm.ctl(&["apply", "-f", "-"], VLAN), @r"
    f5spkvlan/default/external accepted: Programmed
    --- exit code 0
    ");
    assert_snapshot!(tmm.ctl(&["apply", "-f", "-", "--wait=0"], VLAN), @r"
    f5spkvlan/default/external accepted
    --- exit code 0
    ");
}

#[test]
fn a_wrong_object_is_refused_by_place_and_field_and_the_others_are_applied() {
    let tmm = Tmm::start();
    let wrong = tmm.file("site/wrong.yaml", WRONG);
    let good = tmm.file("site/good.json", VLAN);
    let ran = tmm.ctl(&["apply", "-f", &wrong, "-f", &good], "");
    assert_snapshot!(ran.without(tmm.directory.path()));
    assert_eq!(
        tmm.ctl(&["get", "vlan", "-o", "name"], "").out,
        "f5spkvlan/default/external\n"
    );
}

#[test]
fn directories_are_read_by_name_and_with_r_to_the_bottom() {
    let tmm = Tmm::start();
    tmm.file("all/readme.txt", "not a manifest");
    tmm.file("all/b/web.yaml", WAITING);
    tmm.file("all/a/vlan.yml", VLAN);
    let all = tmm.directory.path().join("all").display().to_string();
    let flat = tmm.ctl(&["apply", "-f", &all], "");
    assert_snapshot!(flat.without(tmm.directory.path()), @r"
    --- stderr
    tmmctl: DIR/all has no .yaml, .yml or .json file
    --- exit code 1
    ");
    let deep = tmm.ctl(&["apply", "-R", "-f", &all, "--wait=0"], "");
    assert_eq!(
        deep.out,
        "f5spkvlan/default/external accepted\nf5spkingresstcp/shop/web accepted\n"
    );
}

#[test]
fn a_file_that_is_not_there_stops_everything_before_anything_is_applied() {
    let tmm = Tmm::start();
    let good = tmm.file("good.json", VLAN);
    let missing = tmm
        .directory
        .path()
        .join("missing.yaml")
        .display()
        .to_string();
    let ran = tmm.ctl(&["apply", "-f", &good, "-f", &missing], "");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("missing.yaml"), "{ran}");
    assert_eq!(tmm.ctl(&["get", "-A", "-o", "name"], "").out, "");
}

#[test]
fn an_input_without_objects_is_an_error_and_not_a_success() {
    let tmm = Tmm::start();
    for input in ["", "# nothing\n---\n", "   "] {
        let ran = tmm.ctl(&["apply", "-f", "-"], input);
        assert_eq!(
            (ran.code, ran.err.as_str()),
            (1, "tmmctl: no object in -\n"),
            "{input:?}"
        );
    }
}

#[test]
fn objects_are_deleted_by_file_by_name_and_by_the_name_that_is_printed() {
    let tmm = Tmm::start();
    let both = format!("{VLAN}\n---\n{WAITING}");
    let again = || assert_eq!(tmm.ctl(&["apply", "--wait=0", "-f", "-"], &both).code, 0);
    again();
    assert_eq!(
        tmm.ctl(&["delete", "-f", "-"], &both).out,
        "f5spkvlan/default/external deleted\nf5spkingresstcp/shop/web deleted\n"
    );
    again();
    assert_eq!(tmm.ctl(&["delete", "vlans", "external"], "").code, 0);
    assert_eq!(tmm.ctl(&["delete", "tcp", "web", "-n", "shop"], "").code, 0);
    again();
    let named = tmm.ctl(
        &[
            "delete",
            "f5spkvlan/default/external",
            "f5spkingresstcp/shop/web",
        ],
        "",
    );
    assert_eq!(named.code, 0, "{named}");
    assert_snapshot!(tmm.ctl(&["delete", "vlan", "external"], ""), @r"
    --- stderr
    f5spkvlan/default/external not found
    1 of 1 object not deleted
    --- exit code 1
    ");
    assert_eq!(
        tmm.ctl(&["delete", "vlan", "external", "--ignore-not-found"], "")
            .code,
        0
    );
    assert_snapshot!(tmm.ctl(&["delete", "vlan"], ""), @r"
    --- stderr
    tmmctl: which F5SPKVlan? tmmctl delete KIND NAME… (tmmctl get vlan -A lists them)
    --- exit code 1
    ");
    assert_snapshot!(tmm.ctl(&["delete", "gateway", "x"], ""));
}

#[test]
fn kept_objects_are_listed_in_every_form() {
    let tmm = Tmm::start();
    tmm.ctl(&["apply", "-f", "-"], &format!("{VLAN}\n{WAITING}"));
    let mut all = String::new();
    for args in [
        &["get", "-A"][..],
        &["get"],
        &["get", "-n", "shop", "-o", "name"],
        &["get", "vlans", "-o", "yaml"],
        &["get", "vlan", "external", "-o", "json"],
        &["get", "routes", "-o", "json"],
        &["get", "routes"],
        &["get", "vlan", "internal"],
        &["get", "pods"],
        &["get", "f5spkingresstcp/shop/web", "-o", "name"],
        &["get", "a/b/c/d"],
    ] {
        all.push_str(&format!("# {}\n{}\n\n", args.join(" "), tmm.ctl(args, "")));
    }
    assert_snapshot!(all);
}

#[test]
fn more_objects_than_one_page_are_all_listed() {
    let tmm = Tmm::start();
    let many: String = (0..1203)
        .map(|n| {
            format!(
                "{{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{{\"name\":\"s{n}\"}},\
                 \"spec\":{{\"ports\":[{{\"port\":80}}]}}}}\n"
            )
        })
        .collect();
    let ran = tmm.ctl(&["apply", "-f", "-", "--wait=0"], &many);
    assert_eq!(
        (ran.code, ran.out.lines().count()),
        (0, 1203),
        "{}",
        ran.err
    );
    assert_eq!(
        tmm.ctl(&["get", "svc", "-o", "name"], "")
            .out
            .lines()
            .count(),
        1203
    );
}

#[test]
fn yaml_that_was_printed_is_accepted_again() {
    let tmm = Tmm::start();
    tmm.ctl(&["apply", "-f", "-"], &format!("{VLAN}\n{WAITING}"));
    let printed = tmm.ctl(&["get", "-A", "-o", "yaml"], "").out;
    let ran = tmm.ctl(&["apply", "-f", "-", "--wait=0"], &printed);
    assert_eq!((ran.code, ran.out.lines().count()), (0, 2), "{ran}");
}

#[test]
fn validation_says_the_same_with_and_without_tmm_and_keeps_nothing() {
    let tmm = Tmm::start();
    let wrong = tmm.file("wrong.yaml", WRONG);
    let good = tmm.file("good.yaml", VLAN);
    let online = tmm.ctl(&["validate", "-f", &wrong, "-f", &good], "");
    assert_snapshot!(online.without(tmm.directory.path()));
    let nowhere = std::path::Path::new("/nonexistent/tmm.sock");
    let args = ["validate", "--offline", "-f", &wrong, "-f", &good];
    let offline = common::ctl(nowhere, &args, "");
    assert_snapshot!(offline.without(tmm.directory.path()));
    let quiet = common::ctl(nowhere, &["validate", "--offline", "-q", "-f", &good], "");
    assert_eq!(
        (quiet.code, quiet.out.as_str(), quiet.err.as_str()),
        (0, "", "")
    );
    assert_eq!(tmm.ctl(&["get", "-A", "-o", "name"], "").out, "");
}
