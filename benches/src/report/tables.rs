//! The figures as tables.

use std::fmt::Write as _;

use super::{Results, spread};
use crate::row::size_name;

pub(super) fn write(results: &Results, out: &mut String) {
    pipeline(results, out);
    flow_tables(results, out);
    dpdk(results, out);
    tail(results, out);
    latency(results, out);
    scale(results, out);
    workers(results, out);
}

/// A table with a line for each case and a column for each size; figures that were not taken are
/// left empty, cases without any are left out.
fn grid(
    results: &Results,
    out: &mut String,
    section: &str,
    cases: &[(&str, String)],
    header: &str,
    sizes: &[u64],
) {
    let _ = write!(out, "| {header} |");
    for size in sizes {
        let _ = write!(out, " {} |", size_name(*size));
    }
    out.push_str("\n|---|");
    out.push_str(&"---:|".repeat(sizes.len()));
    out.push('\n');
    for (name, case) in cases {
        let cells: Vec<String> = sizes
            .iter()
            .map(|size| {
                results
                    .get(section, case, *size)
                    .map_or_else(String::new, spread)
            })
            .collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
        }
    }
    out.push('\n');
}

fn pipeline(results: &Results, out: &mut String) {
    if !results.has("pipeline") {
        return;
    }
    out.push_str(
        "## The packet path\n\n\
         Established flows, full translation (both addresses, both ports, tag), bursts of 32 frames in \
         random order, both directions in turn. Net of making the frames; ns per packet.\n\n",
    );
    let net = |case: &str| format!("{case}/net");
    let established = [
        ("TCP over IPv4", net("established/tcp4")),
        ("— to the server", net("established/tcp4/to-server")),
        ("— to the client", net("established/tcp4/to-client")),
        ("— pages of 4 KiB", net("established/tcp4-small-pages")),
        (
            "— with making the frames",
            "established/tcp4/gross".to_owned(),
        ),
        (
            "— making the frames alone",
            "established/tcp4/blank".to_owned(),
        ),
        ("UDP over IPv4", net("established/udp4")),
        ("— to the server", net("established/udp4/to-server")),
        ("— to the client", net("established/udp4/to-client")),
        ("TCP over IPv6", net("established/tcp6")),
        ("— to the server", net("established/tcp6/to-server")),
        ("— to the client", net("established/tcp6/to-client")),
        ("UDP over IPv6", net("established/udp6")),
        ("— to the server", net("established/udp6/to-server")),
        ("— to the client", net("established/udp6/to-client")),
    ];
    let sizes = results.sizes("pipeline", "established/tcp4/net");
    grid(results, out, "pipeline", &established, "flows", &sizes);

    let sizes = results.sizes("pipeline", "new-flow/tcp4/net");
    out.push_str(
        "New flows while that many are established: virtual server, member, source port, insertion; \
         ns per packet.\n\n",
    );
    let new = [
        ("TCP over IPv4", net("new-flow/tcp4")),
        ("UDP over IPv4", net("new-flow/udp4")),
        ("TCP over IPv6", net("new-flow/tcp6")),
        ("UDP over IPv6", net("new-flow/udp6")),
    ];
    grid(results, out, "pipeline", &new, "flows", &sizes);

    let mut others = Vec::new();
    for row in results.rows.iter().filter(|row| row.section == "pipeline") {
        let kind = row.case.split('/').next().unwrap_or("");
        if matches!(kind, "expiry" | "memory" | "memory-huge")
            || row.case == "drop/unknown-vlan/net"
            || kind == "flood" && row.case.ends_with("/net")
        {
            others.push(row);
        }
    }
    out.push_str("| other | flows | |\n|---|---:|---:|\n");
    for row in others {
        let name = row.case.replace("/net", "").replace('/', ", ");
        let _ = writeln!(
            out,
            "| {name} | {} | {} {} |",
            size_name(row.size),
            spread(row.summary),
            row.unit
        );
    }
    out.push('\n');
}

fn flow_tables(results: &Results, out: &mut String) {
    if !results.has("table") {
        return;
    }
    out.push_str(
        "## Flow tables by themselves\n\n\
         Each holds every flow under both of its tuples. Look-ups come in batches of 32 and end at \
         the flow's entry; ns per key. Entering and taking out, one by one; ns per flow.\n\n",
    );
    let sizes = results.sizes("table", "tmm/hit");
    for (kind, title) in [
        ("hit", "Look-up, found"),
        ("miss", "Look-up, not found"),
        ("insert", "Entering"),
        ("remove", "Taking out"),
        ("memory", "Octets per flow"),
    ] {
        let cases = ["tmm", "hashbrown", "rte_hash-40", "rte_hash-16"]
            .map(|table| (table, format!("{table}/{kind}")));
        grid(results, out, "table", &cases, title, &sizes);
    }
    out.push_str(
        "`rte_hash-40` has the same keys of 40 octets as the others; `rte_hash-16` has keys of 16 \
         octets, for IPv4 alone. Only tmm's keeps timers and the state of connections.\n\n",
    );
}

fn dpdk(results: &Results, out: &mut String) {
    if !results.has("dpdk") {
        return;
    }
    out.push_str(
        "## Through DPDK\n\n\
         1,024 flows, both directions, the same frames from the same kind of port (net_pcap, \
         infinite_rx), in turn; ns of CPU per packet, the driver included.\n\n",
    );
    out.push_str("| | |\n|---|---:|\n");
    for row in results.rows.iter().filter(|row| row.section == "dpdk") {
        let _ = writeln!(
            out,
            "| {} | {} {} |",
            row.case,
            spread(row.summary),
            row.unit
        );
    }
    out.push('\n');
}

fn tail(results: &Results, out: &mut String) {
    if !results.has("tail") {
        return;
    }
    out.push_str(
        "## The slowest bursts\n\n\
         Turns of 32 frames, ns of CPU: tables taken, packets decided, flows ended. `churn`: 100,000 \
         flows are opened and as many end in a second; `swap`: ten new configurations a second, each \
         of which every flow is checked against. `storm`: flows that were never answered are all due \
         at once. `floor`: arithmetic alone, for what the machine itself does. Left out: bursts while or just after another process had the core.\n\n\
         | case | flows | p50 | p99 | p99.9 | max | p99.9 ÷ p50 | left out, % |\n|---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for case in ["floor", "steady", "swap", "churn", "churn+swap", "storm"] {
        for size in results.sizes("tail", &format!("{case}/p50")) {
            let cell = |what: &str| {
                results
                    .get("tail", &format!("{case}/{what}"), size)
                    .map_or_else(String::new, spread)
            };
            let _ = writeln!(
                out,
                "| {case} | {} | {} | {} | {} | {} | {} | {} |",
                size_name(size),
                cell("p50"),
                cell("p99"),
                cell("p99.9"),
                cell("max"),
                cell("p99.9-of-median"),
                cell("left-out"),
            );
        }
    }
    out.push('\n');
    for size in results.sizes("tail", "storm/ended") {
        if let Some(ended) = results.get("tail", "storm/ended", size) {
            let _ = writeln!(
                out,
                "In the storm beside {} flows, {} flows ended.\n",
                size_name(size),
                spread(ended),
            );
        }
    }
}

fn latency(results: &Results, out: &mut String) {
    if !results.has("latency") {
        return;
    }
    out.push_str("## Latency under load\n\n| case | sent per second | |\n|---|---:|---:|\n");
    for row in results.rows.iter().filter(|row| row.section == "latency") {
        let rate = if row.size == 0 {
            String::new()
        } else {
            row.size.to_string()
        };
        let _ = writeln!(
            out,
            "| {} | {rate} | {} {} |",
            row.case,
            spread(row.summary),
            row.unit
        );
    }
    out.push('\n');
}

fn scale(results: &Results, out: &mut String) {
    for (what, title) in [
        ("virtual-servers", "Virtual servers"),
        ("members", "Members of a pool"),
    ] {
        let sizes = results.sizes("scale", &format!("{what}/load"));
        if sizes.is_empty() {
            continue;
        }
        let _ = writeln!(
            out,
            "## {title}\n\n64k flows (16k with two members); packets in ns, the configuration in ms: to \
             load it, and to carry out one change.\n"
        );
        let cases = [
            ("established, ns", format!("{what}/established/net")),
            ("new flow, ns", format!("{what}/new-flow/net")),
            ("load, ms", format!("{what}/load")),
            ("change, ms", format!("{what}/change")),
        ];
        grid(results, out, "scale", &cases, "", &sizes);
    }
}

fn workers(results: &Results, out: &mut String) {
    if !results.has("workers") {
        return;
    }
    out.push_str(
        "## Two workers\n\n\
         One worker alone, two of one tmm, and two that share nothing but the machine, in turn; \
         ns of CPU per packet, making the frames included.\n\n",
    );
    let sizes = results.sizes("workers", "two-of-one");
    let cases = [
        ("one worker", "one-worker".to_owned()),
        ("two workers", "two-workers".to_owned()),
        ("two apart", "two-apart".to_owned()),
        (
            "packets per CPU second, two of one",
            "two-of-one".to_owned(),
        ),
    ];
    grid(results, out, "workers", &cases, "flows of each", &sizes);
}
