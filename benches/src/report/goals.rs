//! The goals, and whether they were met.

use std::fmt::Write as _;

use super::{Results, number};

/// A figure and the bound it should keep.
struct Goal {
    name: &'static str,
    unit: &'static str,
    bound: f64,
    at_least: bool,
    value: Option<f64>,
}

pub(super) fn write(results: &Results, out: &mut String) {
    let median = |section: &str, case: &str, size: u64| {
        results
            .get(section, case, size)
            .map(|summary| summary.median)
    };
    let net = |case: &str, size| median("pipeline", &format!("{case}/net"), size);
    let quotient = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    let (small, million, ten) = (1_000, 1_000_000, 10_000_000);
    let tcp4 = "established/tcp4";
    let at_most = |name, unit, bound, value| Goal {
        name,
        unit,
        bound,
        at_least: false,
        value,
    };
    let at_least = |name, unit, bound, value| Goal {
        name,
        unit,
        bound,
        at_least: true,
        value,
    };
    // Of the median in quiet, whatever the disturbance does to the median.
    let quiet = median("tail", "steady/p50", million);
    let tail = |case: &str| quotient(median("tail", &format!("{case}/p99.9"), million), quiet);
    let goals = [
        at_most("established, 1k flows", "ns", 35.0, net(tcp4, small)),
        at_most("established, 1M flows", "ns", 75.0, net(tcp4, million)),
        at_most("established, 10M flows", "ns", 130.0, net(tcp4, ten)),
        at_most(
            "growth from 1k to 10M flows",
            "×",
            3.5,
            quotient(net(tcp4, ten), net(tcp4, small)),
        ),
        at_most(
            "without huge pages, 1M flows, of with",
            "×",
            1.6,
            quotient(
                net("established/tcp4-small-pages", million),
                net(tcp4, million),
            ),
        ),
        at_most(
            "without huge pages, 10M flows, of with",
            "×",
            1.6,
            quotient(net("established/tcp4-small-pages", ten), net(tcp4, ten)),
        ),
        at_most(
            "new flow among 1M",
            "ns",
            300.0,
            net("new-flow/tcp4", million),
        ),
        at_most(
            "end of a flow among 1M",
            "ns",
            50.0,
            median("pipeline", "expiry/established/all-in-all", million),
        ),
        at_most(
            "IPv6 of IPv4, 1M flows",
            "×",
            1.3,
            quotient(net("established/tcp6", million), net(tcp4, million)),
        ),
        at_most(
            "p99.9 of a burst, of the median in quiet",
            "×",
            5.0,
            tail("steady"),
        ),
        at_most("… while flows come and go", "×", 5.0, tail("churn")),
        at_most(
            "… while the configuration is swapped",
            "×",
            5.0,
            tail("swap"),
        ),
        at_most("… while both", "×", 5.0, tail("churn+swap")),
        at_most(
            "memory per IPv4 connection, 10M",
            "octets",
            160.0,
            median("pipeline", "memory/tcp4", ten),
        ),
        at_least(
            "through DPDK, of testpmd's rate",
            "%",
            60.0,
            median("dpdk", "rate-of-testpmd", 1024),
        ),
        at_least(
            "two workers of one, 1k flows each",
            "×",
            1.9,
            median("workers", "two-of-one", small),
        ),
        at_least(
            "two workers of one, 1M flows each",
            "×",
            1.9,
            median("workers", "two-of-one", million),
        ),
    ];
    if goals.iter().all(|goal| goal.value.is_none()) {
        return;
    }
    out.push_str("## Goals\n\n| goal | bound | measured | |\n|---|---:|---:|---|\n");
    for goal in &goals {
        let Some(value) = goal.value else {
            continue;
        };
        let met = if goal.at_least {
            value >= goal.bound
        } else {
            value <= goal.bound
        };
        let _ = writeln!(
            out,
            "| {} | {} {} {} | {} {} | {} |",
            goal.name,
            if goal.at_least { "≥" } else { "≤" },
            number(goal.bound),
            goal.unit,
            number(value),
            goal.unit,
            if met { "met" } else { "**not met**" },
        );
    }
    out.push('\n');
}
