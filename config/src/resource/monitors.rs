//! `monitors` of the Ingress kinds: lists of health checks by what they speak.

use std::time::Duration;

use net::L4Port;
use serde_json::Value;

use crate::reader::{Fields, Node};
use crate::types::{Monitor, MonitorKind};

/// Longest interval or timeout in seconds: one day.
const MAX_SECONDS: u32 = 86_400;

/// Defaults in seconds: three checks and one second without an answer.
pub(crate) const INTERVAL: u32 = 5;
pub(crate) const TIMEOUT: u32 = 16;

/// Most monitors of one kind.
const MAX_MONITORS: usize = 16;

pub(super) fn read(node: &Node<'_>) -> Option<Vec<Monitor>> {
    let f = node.object()?;
    let mut monitors = Vec::new();
    let mut read = |name, kind| {
        if let Some(list) = f.take(name, |node| read_list(node, kind)) {
            monitors.extend(list);
        }
    };
    read("tcp", MonitorKind::Tcp);
    read("icmp", MonitorKind::Icmp);
    read("http", MonitorKind::Http);
    read("udp", MonitorKind::Udp);
    f.deny_unknown();
    Some(monitors)
}

fn read_list(node: &Node<'_>, kind: MonitorKind) -> Option<Vec<Monitor>> {
    if let Some((interval, timeout)) = split_over_items(node) {
        return node.error(format!(
            "one monitor is split over several list items; write it as one item: \
             - {{interval: {interval}, timeout: {timeout}}}"
        ));
    }
    node.list(MAX_MONITORS, |item| read_one(&item, kind))
}

/// Interval and timeout of a list in which one item has only the first and another only the
/// second: `- interval: 3`, `- timeout: 10`.
fn split_over_items<'a>(node: &Node<'a>) -> Option<(&'a Value, &'a Value)> {
    let lone = |has: &str, lacks: &str| {
        let mut items = node.value().as_array()?.iter();
        let given = |item: &&Value, name: &str| item.get(name).is_some_and(|v| !v.is_null());
        let item = items.find(|item| given(item, has) && !given(item, lacks))?;
        item.get(has)
    };
    lone("interval", "timeout").zip(lone("timeout", "interval"))
}

fn read_one(item: &Node<'_>, kind: MonitorKind) -> Option<Monitor> {
    let f = item.object()?;
    let seconds = |node: &Node<'_>| node.integer(1..=MAX_SECONDS);
    let interval = f.take("interval", seconds).unwrap_or(INTERVAL);
    let timeout = f.take("timeout", seconds).unwrap_or(TIMEOUT);
    if timeout < interval {
        let given = if f.has("timeout") {
            ""
        } else {
            " (the default)"
        };
        f.error_at(
            "timeout",
            format!("{timeout}{given} is shorter than the interval of {interval} seconds"),
        );
    }
    let (send, receive, port) = if kind == MonitorKind::Http {
        read_http(&f)
    } else {
        (None, None, None)
    };
    f.deny_unknown();
    Some(Monitor {
        kind,
        interval: Duration::from_secs(interval.into()),
        timeout: Duration::from_secs(timeout.into()),
        send,
        receive,
        port,
    })
}

fn read_http(f: &Fields<'_>) -> (Option<String>, Option<String>, Option<L4Port>) {
    let text = |node: &Node<'_>| node.string().map(str::to_owned);
    (
        f.take("sendString", text),
        f.take("receiveString", text),
        f.take("port", |node| node.integer(1..=u16::MAX))
            .map(L4Port),
    )
}
