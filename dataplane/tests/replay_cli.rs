//! `tmm replay` and `tmm check` as commands: files, output, exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn tmm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tmm"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden/tcp-automap")
        .join(file)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// `tmm replay` of the kept captures, with these arguments besides; the ports in this order.
fn replay(out: &Path, ports: [u8; 2], more: &[&str]) -> Output {
    let config = golden("config.json");
    let ports = ports.map(|n| format!("1.{n}={}", text(&golden(&format!("in-1.{n}.pcap")))));
    let mut args = vec!["replay", "--config", text(&config), "--out", text(out)];
    for port in &ports {
        args.extend(["--port", port]);
    }
    args.extend(more);
    tmm(&args)
}

#[test]
fn a_replay_writes_what_is_kept_whatever_the_order_of_ports() {
    let folder = tempfile::tempdir().unwrap();
    let mut summaries = Vec::new();
    for (name, ports) in [("there", [1, 2]), ("back", [2, 1])] {
        let out = folder.path().join(name).join("deeper");
        let output = replay(&out, ports, &["--explain"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        for port in ["1.1", "1.2"] {
            let kept = fs::read(golden(&format!("out-{port}.pcap"))).unwrap();
            let now = fs::read(out.join(format!("{port}.pcap"))).unwrap();
            assert_eq!(now, kept, "{name} {port}");
        }
        let explained = fs::read_to_string(golden("explain.txt")).unwrap();
        assert!(
            stdout(&output).starts_with(&explained),
            "{}",
            stdout(&output)
        );
        assert!(
            stdout(&output).contains("20 frames replayed"),
            "{}",
            stdout(&output)
        );
        summaries.push(fs::read(out.join("summary.json")).unwrap());
    }
    assert_eq!(summaries[0], summaries[1]);
}

#[test]
fn json_output_is_a_line_for_each_frame_and_the_summary() {
    let folder = tempfile::tempdir().unwrap();
    let output = replay(folder.path(), [1, 2], &["--explain", "--json"]);
    let lines: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (summary, steps) = lines.split_last().unwrap();
    assert_eq!(summary["frames"], 20);
    let numbers: Vec<u64> = steps
        .iter()
        .filter_map(|step| step["frame"].as_u64())
        .collect();
    assert_eq!(numbers, (1..=20).collect::<Vec<u64>>());
    let syn = steps.iter().find(|step| step["frame"] == 1).unwrap();
    assert_eq!(syn["decision"], "opened");
    assert_eq!(syn["vlan"], "external");
    assert_eq!(syn["member"], "198.51.100.11:8080");
    assert_eq!(syn["snat"], "198.51.100.1:40000");
    let written = fs::read_to_string(folder.path().join("summary.json")).unwrap();
    assert_eq!(&serde_json::from_str::<Value>(&written).unwrap(), summary);
}

#[test]
fn a_truncated_capture_is_replayed_as_far_as_it_goes_and_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short.pcap");
    let whole = fs::read(golden("in-1.1.pcap")).unwrap();
    fs::write(&short, &whole[..whole.len() - 3]).unwrap();
    let config = golden("config.json");
    let port = format!("1.1={}", text(&short));
    let out = folder.path().join("out");
    let output = tmm(&[
        "replay",
        "--config",
        text(&config),
        "--port",
        &port,
        "--out",
        text(&out),
    ]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("ends 3 octets too early"),
        "{}",
        stderr(&output)
    );
    assert!(
        stdout(&output).contains("11 frames replayed"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn what_can_not_be_replayed_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (config, capture) = (golden("config.json"), golden("in-1.1.pcap"));
    let broken = folder.path().join("broken.yaml");
    fs::write(
        &broken,
        "kind: F5SPKVlan\napiVersion: k8s.f5net.com/v1\nmetadata: {name: x}\nspec: {tag: 9999}\n",
    )
    .unwrap();
    let given = format!("1.1={}", text(&capture));
    let absent = format!("1.1={}", text(&folder.path().join("absent.pcap")));
    let no_capture = format!("1.2={}", text(&config));
    for (config, ports, code, words) in [
        (&broken, vec![given.as_str()], 1, "spec.tag"),
        (
            &config,
            vec![absent.as_str()],
            1,
            "absent.pcap: No such file",
        ),
        (
            &config,
            vec![no_capture.as_str()],
            1,
            "neither a pcap nor a pcapng file",
        ),
        (
            &config,
            vec![given.as_str(), given.as_str()],
            1,
            "1.1 is given twice",
        ),
        (&config, vec!["1.0=x"], 2, "is no port"),
        (&config, vec!["1.01=x"], 2, "is no port"),
        (&config, vec!["1.256=x"], 2, "is no port"),
        (&config, vec!["1.1"], 2, "expected PORT=FILE"),
        (&config, vec!["1.1="], 2, "no file for port 1.1"),
    ] {
        let mut args = vec!["replay", "--config", text(config), "--out", text(&out)];
        for port in &ports {
            args.extend(["--port", port]);
        }
        let output = tmm(&args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{ports:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(words),
            "{words}: {}",
            stderr(&output)
        );
        assert!(!out.exists(), "{words}");
    }
}

#[test]
fn a_capture_is_not_overwritten_by_what_it_is_replayed_to() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("1.2.pcap");
    fs::copy(golden("in-1.1.pcap"), &capture).unwrap();
    let before = fs::read(&capture).unwrap();
    let config = golden("config.json");
    let port = format!("1.1={}", text(&capture));
    let output = tmm(&[
        "replay",
        "--config",
        text(&config),
        "--port",
        &port,
        "--out",
        text(folder.path()),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("both read and written"),
        "{}",
        stderr(&output)
    );
    assert_eq!(fs::read(&capture).unwrap(), before);
}

/// Replays a capture whose every frame was changed, without and with `--rewrite-mac`.
fn replay_changed(change: impl Fn(&mut [u8])) -> [String; 2] {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("foreign.pcap");
    let mut octets = fs::read(golden("in-1.1.pcap")).unwrap();
    // Each record begins with a header of 16 octets.
    let mut at = 24;
    while at < octets.len() {
        let len = u32::from_le_bytes(octets[at + 8..at + 12].try_into().unwrap());
        let end = at + 16 + usize::try_from(len).unwrap();
        change(&mut octets[at + 16..end]);
        at = end;
    }
    fs::write(&capture, octets).unwrap();
    let config = golden("config.json");
    let port = format!("1.1={}", text(&capture));
    let out = folder.path().join("out");
    let args = [
        "replay",
        "--config",
        text(&config),
        "--port",
        &port,
        "--out",
        text(&out),
    ];
    let rewritten = [&args[..], &["--rewrite-mac"]].concat();
    [stdout(&tmm(&args)), stdout(&tmm(&rewritten))]
}

#[test]
fn frames_made_for_other_mac_addresses_or_vlans_are_hinted_at() {
    let [plain, rewritten] = replay_changed(|frame| frame[5] = 0x77);
    assert!(plain.contains("frames are for a MAC address"), "{plain}");
    assert!(plain.contains("--rewrite-mac"), "{plain}");
    assert!(!rewritten.contains("hint:"), "{rewritten}");
    assert!(rewritten.contains("opened"), "{rewritten}");

    // As loopback devices have them.
    let [plain, rewritten] = replay_changed(|frame| frame[..12].fill(0));
    assert!(plain.contains("frames are from a MAC address"), "{plain}");
    assert!(plain.contains("--rewrite-mac"), "{plain}");
    assert!(!rewritten.contains("hint:"), "{rewritten}");

    // A tag in place of the EtherType, or another tag in place of the one there is.
    let retagged = replay_changed(|frame| frame[12..16].copy_from_slice(&[0x81, 0, 0x0a, 0xbc]));
    for output in retagged {
        assert!(output.contains("compare the VLAN tags"), "{output}");
    }
    let [unchanged, _] = replay_changed(|_| ());
    assert!(!unchanged.contains("hint:"), "{unchanged}");
}

const DANGLING: &str = "\
apiVersion: ingresstcp.k8s.f5net.com/v1
kind: F5SPKIngressTCP
metadata: {name: web}
service: {name: nowhere, port: 80}
spec: {destinationAddress: 203.0.113.10, destinationPort: 80}
";

const TWO_WRONG: &str = "\
apiVersion: k8s.f5net.com/v1
kind: F5SPKVlan
metadata: {name: a}
spec: {name: a, tag: 5000, interfaces: ['1.1'], mtu: 100}
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: [{port: 80}]}
---
kind: [
";

const CONFLICT: &str = "\
apiVersion: k8s.f5net.com/v1
kind: F5SPKVlan
metadata: {name: a}
spec: {name: a, tag: 5, interfaces: ['1.1'], selfip_v4s: [192.0.2.1], prefixlen_v4: 24}
---
apiVersion: k8s.f5net.com/v1
kind: F5SPKVlan
metadata: {name: b}
spec: {name: b, tag: 5, interfaces: ['1.1'], selfip_v4s: [198.51.100.1], prefixlen_v4: 24}
";

#[test]
fn a_check_tells_everything_with_its_place_and_its_exit_code_says_whether_it_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let dangling = file("dangling.yaml", DANGLING);
    let wrong = file("wrong.yaml", TWO_WRONG);
    let conflict = file("conflict.yaml", CONFLICT);
    let config = golden("config.json");
    for (args, code, words) in [
        (
            vec![text(&config)],
            0,
            "F5SPKIngressTCP default/tcp-80: Programmed",
        ),
        (
            vec![text(&dangling)],
            0,
            "Pending: Service \"default/nowhere\" not found",
        ),
        (vec!["--strict", text(&dangling)], 1, "Pending"),
        (
            vec![text(&wrong)],
            1,
            "wrong.yaml:1 (document 1) F5SPKVlan default/a: spec.tag:",
        ),
        (vec![text(&wrong)], 1, "spec.mtu:"),
        (vec![text(&wrong)], 1, "wrong.yaml:11 (document 3)"),
        (vec![text(&wrong)], 1, "Service default/s: Programmed"),
        (vec![text(&conflict)], 1, "F5SPKVlan default/b: Error"),
        (
            vec!["--ports", "1", text(&config)],
            0,
            "F5SPKVlan default/internal: Pending",
        ),
        (
            vec![text(&folder.path().join("absent.yaml"))],
            1,
            "cannot read",
        ),
        (vec![], 2, ""),
    ] {
        let output = tmm(&[&["check"], &args[..]].concat());
        let all = stdout(&output);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {all}{}",
            stderr(&output)
        );
        assert!(all.contains(words), "{args:?}: {words}\n{all}");
    }
}

#[test]
fn a_file_that_can_not_be_read_does_not_hide_what_is_wrong_with_the_others() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), b"a: \xff\n").unwrap();
    fs::write(folder.path().join("b.yaml"), TWO_WRONG).unwrap();
    let output = tmm(&["check", text(folder.path())]);
    assert_eq!(output.status.code(), Some(1));
    let all = stdout(&output);
    for words in [
        "a.yaml is not UTF-8 (byte 3)",
        "spec.tag:",
        "spec.mtu:",
        "b.yaml:11 (document 3)",
        "3 documents: 1 programmed, 0 pending, 0 in conflict, 4 errors\n",
    ] {
        assert!(all.contains(words), "{words}\n{all}");
    }
    fs::remove_file(folder.path().join("b.yaml")).unwrap();
    fs::write(folder.path().join("c.yaml"), DANGLING).unwrap();
    let output = tmm(&["check", text(folder.path())]);
    assert_eq!(output.status.code(), Some(1));
    let all = stdout(&output);
    let words = "1 document: 0 programmed, 1 pending, 0 in conflict, 1 error\n";
    assert!(all.ends_with(words), "{all}");
}

#[test]
fn a_check_in_json_is_one_object() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.yaml");
    fs::write(&path, TWO_WRONG).unwrap();
    let output = tmm(&["check", "--json", text(&path)]);
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        (&found["valid"], &found["documents"]),
        (&Value::Bool(false), &Value::from(3))
    );
    let fields: Vec<&str> = found["problems"][0]["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["spec.tag", "spec.mtu"]);
    assert_eq!(found["states"][0]["state"], "Programmed");
}

#[test]
fn a_reader_that_stops_reading_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let config = golden("config.json");
    let port = format!("1.1={}", text(&golden("in-1.1.pcap")));
    let mut child = Command::new(env!("CARGO_BIN_EXE_tmm"))
        .args([
            "replay",
            "--config",
            text(&config),
            "--port",
            &port,
            "--explain",
        ])
        .args(["--out", text(folder.path())])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}
