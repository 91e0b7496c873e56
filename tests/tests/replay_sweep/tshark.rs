//! What tshark thinks of what was sent.

use std::path::Path;
use std::process::Command;

/// tshark finds neither malformed headers nor wrong checksums. What applications say
/// to each other, and packets inside packets, are theirs: only the outer headers are ours.
pub fn tshark_agrees(file: &Path, headers: &[&str]) {
    let statuses: Vec<String> = ["ip"]
        .iter()
        .chain(&TRANSPORTS)
        .map(|protocol| format!("{protocol}.checksum.status"))
        .collect();
    let wrong: Vec<String> = statuses
        .iter()
        .map(|status| format!("{status} == 0"))
        .collect();
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(file);
    for option in [
        "ip.check_checksum",
        "tcp.check_checksum",
        "udp.check_checksum",
    ] {
        command.args(["-o", &format!("{option}:TRUE")]);
    }
    // Captures follow one another in this file, so neither streams nor fragments belong together.
    for whole in [
        "tcp.desegment_tcp_streams",
        "ip.defragment",
        "ipv6.defragment",
    ] {
        command.args(["-o", &format!("{whole}:FALSE")]);
    }
    command.args(["-Y", &format!("_ws.malformed || {}", wrong.join(" || "))]);
    command.args([
        "-T",
        "fields",
        "-E",
        "occurrence=f",
        "-e",
        "frame.number",
        "-e",
        "frame.protocols",
    ]);
    for status in &statuses {
        command.args(["-e", status]);
    }
    let output = command.output().unwrap_or_else(|error| {
        panic!("tshark: {error}; scripts/setup.sh test installs it");
    });
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let ours = |line: &&str| {
        let mut fields = line.split('\t').skip(1);
        let protocols = fields.next().unwrap_or_default();
        let last = protocols.split(':').rfind(|name| *name != "_ws.malformed");
        let tunnelled = protocols
            .split(':')
            .filter(|name| matches!(*name, "ip" | "ipv6"))
            .count()
            > 1;
        let in_headers = !tunnelled && last.is_some_and(|last| headers.contains(&last));
        // The first IP header, and what is directly behind it.
        let outer = protocols
            .split(':')
            .find_map(|name| TRANSPORTS.iter().position(|transport| *transport == name));
        let statuses: Vec<&str> = fields.collect();
        let bad = |at: usize| statuses.get(at) == Some(&"0");
        in_headers || bad(0) || outer.is_some_and(|at| bad(at + 1))
    };
    let faults: Vec<&str> = text.lines().filter(ours).collect();
    assert!(
        faults.is_empty(),
        "tshark finds fault with\n{}",
        faults.join("\n")
    );
}

/// Protocols whose checksums tmm sets.
const TRANSPORTS: [&str; 4] = ["tcp", "udp", "icmp", "icmpv6"];

/// Protocols that tmm reads or writes.
pub const HEADERS: [&str; 11] = [
    "eth",
    "ethertype",
    "vlan",
    "ieee8021ad",
    "arp",
    "ip",
    "ipv6",
    "tcp",
    "udp",
    "icmp",
    "icmpv6",
];
