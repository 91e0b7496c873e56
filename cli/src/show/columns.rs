//! How the columns of the tables are put to people. What is not listed here is shown all the same,
//! as its name suggests: tmm may know more than this release of the tool.

use serde_json::{Map, Value};

use crate::ui::Tone;
use crate::units;

/// What a number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Text, or a number that is a name, such as a port.
    Plain,
    /// A number of things.
    Count,
    /// Octets.
    Bytes,
    /// Seconds.
    Seconds,
    /// Millions of bits per second.
    Megabits,
}

/// A column as it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name in a row.
    pub key: &'static str,
    /// Above it.
    pub title: &'static str,
    /// What its numbers mean.
    pub unit: Unit,
    /// When it is there.
    pub when: When,
}

/// When a column is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In every table.
    Always,
    /// In wide tables.
    Wide,
    /// In wide tables, and where a row has something to tell in it: trouble is never hidden.
    Eventful,
}

impl Column {
    /// Whether it is shown for these rows.
    pub fn is_shown(&self, rows: &[Map<String, Value>], wide: bool) -> bool {
        let mut values = rows.iter().filter_map(|row| row.get(self.key));
        match self.when {
            When::Eventful if !wide => values.any(|value| match value {
                Value::Number(number) => number.as_u64() != Some(0),
                Value::Null => false,
                _ => true,
            }),
            When::Wide if !wide => false,
            _ => values.next().is_some(),
        }
    }
}

/// A table and what it shows.
#[derive(Debug)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Its columns, in order.
    pub columns: &'static [Column],
}

const fn text(key: &'static str, title: &'static str) -> Column {
    column(key, title, Unit::Plain)
}

const fn count(key: &'static str, title: &'static str) -> Column {
    column(key, title, Unit::Count)
}

const fn bytes(key: &'static str, title: &'static str) -> Column {
    column(key, title, Unit::Bytes)
}

const fn seconds(key: &'static str, title: &'static str) -> Column {
    column(key, title, Unit::Seconds)
}

const fn column(key: &'static str, title: &'static str, unit: Unit) -> Column {
    Column {
        key,
        title,
        unit,
        when: When::Always,
    }
}

const fn wide(column: Column) -> Column {
    Column {
        when: When::Wide,
        ..column
    }
}

const fn eventful(column: Column) -> Column {
    Column {
        when: When::Eventful,
        ..column
    }
}

/// The tables this release knows.
pub const TABLES: &[Known] = &[
    Known {
        name: "ports",
        about: "driver, link, MAC address and traffic of each port",
        columns: &[
            text("port", "PORT"),
            text("device", "DEVICE"),
            text("driver", "DRIVER"),
            text("link", "LINK"),
            column("speedMbps", "SPEED", Unit::Megabits),
            text("mac", "MAC"),
            wide(text("mtu", "MTU")),
            wide(text("together", "TOGETHER")),
            wide(text("offloads", "OFFLOADS")),
            count("rxPackets", "RX-PACKETS"),
            bytes("rxBytes", "RX-BYTES"),
            count("txPackets", "TX-PACKETS"),
            bytes("txBytes", "TX-BYTES"),
            eventful(count("rxMissed", "RX-MISSED")),
            eventful(count("rxErrors", "RX-ERRORS")),
            eventful(count("txErrors", "TX-ERRORS")),
            eventful(count("rxNoBuffer", "RX-NO-BUFFER")),
            eventful(count("resets", "RESETS")),
        ],
    },
    Known {
        name: "vlans",
        about: "tags, ports, addresses and MTU of each VLAN",
        columns: &[
            text("vlan", "VLAN"),
            text("tag", "TAG"),
            text("ports", "PORTS"),
            text("selfIps", "SELF-IPS"),
            text("mac", "MAC"),
            text("mtu", "MTU"),
            text("internal", "INTERNAL"),
            wide(text("segments", "SEGMENTS")),
            wide(text("autoLasthop", "AUTO-LASTHOP")),
        ],
    },
    Known {
        name: "self-ips",
        about: "addresses that tmm answers for, and conflicts about them",
        columns: &[
            text("address", "ADDRESS"),
            text("kind", "KIND"),
            text("vlan", "VLAN"),
            eventful(text("conflict", "CONFLICT")),
            eventful(seconds("conflictSinceSeconds", "CONFLICT-SINCE")),
        ],
    },
    Known {
        name: "neighbors",
        about: "MAC addresses of neighbours, and how well they are known",
        columns: &[
            text("address", "ADDRESS"),
            text("vlan", "VLAN"),
            text("mac", "MAC"),
            text("state", "STATE"),
            seconds("confirmedSecondsAgo", "CONFIRMED"),
        ],
    },
    Known {
        name: "routes",
        about: "on-link prefixes and static routes",
        columns: &[
            text("destination", "DESTINATION"),
            text("gateway", "GATEWAY"),
            text("vlan", "VLAN"),
            text("kind", "KIND"),
        ],
    },
    Known {
        name: "virtual-servers",
        about: "what listens, its members and its traffic",
        columns: &[
            text("virtualServer", "VIRTUAL-SERVER"),
            text("protocol", "PROTO"),
            text("destination", "DESTINATION"),
            text("port", "PORT"),
            text("state", "STATE"),
            count("membersUp", "UP"),
            count("members", "MEMBERS"),
            text("snat", "SNAT"),
            text("vlans", "VLANS"),
            count("connections", "CONNS"),
            count("connectionsTotal", "TOTAL"),
            bytes("originalBytes", "BYTES-IN"),
            bytes("replyBytes", "BYTES-OUT"),
            wide(count("originalPackets", "PACKETS-IN")),
            wide(count("replyPackets", "PACKETS-OUT")),
            wide(count("endedClosed", "CLOSED")),
            wide(count("endedReset", "RESET")),
            wide(count("endedIdle", "IDLE")),
            wide(count("endedUnanswered", "UNANSWERED")),
            wide(count("endedEvicted", "EVICTED")),
            wide(count("endedReopened", "REOPENED")),
            wide(count("endedRemoved", "REMOVED")),
        ],
    },
    Known {
        name: "pools",
        about: "state, connections and traffic of each pool member",
        columns: &[
            text("pool", "POOL"),
            text("member", "MEMBER"),
            text("port", "PORT"),
            text("state", "STATE"),
            count("connections", "CONNS"),
            count("connectionsTotal", "TOTAL"),
            bytes("originalBytes", "BYTES-IN"),
            bytes("replyBytes", "BYTES-OUT"),
            wide(count("originalPackets", "PACKETS-IN")),
            wide(count("replyPackets", "PACKETS-OUT")),
            wide(count("endedClosed", "CLOSED")),
            wide(count("endedReset", "RESET")),
            wide(count("endedIdle", "IDLE")),
            wide(count("endedUnanswered", "UNANSWERED")),
            wide(count("endedEvicted", "EVICTED")),
            wide(count("endedReopened", "REOPENED")),
            wide(count("endedRemoved", "REMOVED")),
        ],
    },
    Known {
        name: "snat-pools",
        about: "addresses of each SNAT pool, connections by it, and how often it ran out of ports",
        columns: &[
            text("snatPool", "POOL"),
            text("addresses", "ADDRESSES"),
            count("connections", "CONNS"),
            eventful(count("exhausted", "EXHAUSTED")),
            eventful(count("mappingsRefused", "MAPPINGS-REFUSED")),
        ],
    },
    Known {
        name: "connections",
        about: "tracked flows; filters: --client, --member, --virtual-server, --state, …",
        columns: &[
            text("protocol", "PROTO"),
            text("client", "CLIENT"),
            text("destination", "DESTINATION"),
            text("source", "SOURCE"),
            text("member", "MEMBER"),
            text("state", "STATE"),
            wide(text("virtualServer", "VIRTUAL-SERVER")),
            wide(text("clientVlan", "CLIENT-VLAN")),
            wide(text("memberVlan", "MEMBER-VLAN")),
            seconds("ageSeconds", "AGE"),
            seconds("idleSeconds", "IDLE"),
            wide(count("originalPackets", "PACKETS-IN")),
            bytes("originalBytes", "BYTES-IN"),
            wide(count("replyPackets", "PACKETS-OUT")),
            bytes("replyBytes", "BYTES-OUT"),
            wide(text("worker", "WORKER")),
        ],
    },
    Known {
        name: "drops",
        about: "dropped frames by reason; also answers and forwarded frames (--all: zeros too)",
        columns: &[
            text("kind", "KIND"),
            text("reason", "REASON"),
            count("packets", "PACKETS"),
            text("meaning", "MEANING"),
        ],
    },
    Known {
        name: "workers",
        about: "CPU, queues, load, packets, handoffs and flows of each worker",
        columns: &[
            text("worker", "WORKER"),
            text("cpu", "CPU"),
            wide(text("numa", "NUMA")),
            text("queues", "QUEUES"),
            count("loadPercent", "LOAD%"),
            count("rxPackets", "PACKETS-IN"),
            count("txPackets", "PACKETS-OUT"),
            count("handoffsIn", "HANDED-IN"),
            count("handoffsOut", "HANDED-OUT"),
            wide(text("generation", "GENERATION")),
            count("flows", "FLOWS"),
            count("flowsOpened", "OPENED"),
            count("flowsEnded", "ENDED"),
            eventful(count("flowsEvicted", "EVICTED")),
            eventful(count("heldPackets", "HELD")),
            eventful(count("fragmentsWaited", "FRAGMENTS-WAITED")),
            eventful(count("cutPackets", "CUT")),
            eventful(count("eventsLost", "EVENTS-LOST")),
            wide(count("turns", "TURNS")),
            wide(count("idleTurns", "IDLE-TURNS")),
            wide(count("originatedPackets", "ORIGINATED")),
        ],
    },
    Known {
        name: "resolver",
        about: "what was done to find neighbours and to announce addresses",
        columns: &[
            text("counter", "COUNTER"),
            count("count", "COUNT"),
            text("meaning", "MEANING"),
        ],
    },
    Known {
        name: "export",
        about: "records of flows that were sent to a collector, and lost",
        columns: &[
            text("collector", "COLLECTOR"),
            text("counter", "COUNTER"),
            count("count", "COUNT"),
            text("meaning", "MEANING"),
        ],
    },
    Known {
        name: "config",
        about: "objects, and how far each has come",
        columns: &[
            text("kind", "KIND"),
            text("namespace", "NAMESPACE"),
            text("name", "NAME"),
            wide(text("generation", "GENERATION")),
            text("state", "STATE"),
            text("reason", "REASON"),
            text("message", "MESSAGE"),
        ],
    },
    Known {
        name: "health",
        about: "whether workers turn (live) and this replica forwards (ready)",
        columns: &[
            text("probe", "PROBE"),
            text("check", "CHECK"),
            text("ok", "OK"),
            text("reason", "REASON"),
            text("message", "MESSAGE"),
        ],
    },
];

/// The table of that name, if this release knows it.
pub fn find(name: &str) -> Option<&'static Known> {
    TABLES.iter().find(|known| known.name == name)
}

/// What the name of an unknown column says of its unit.
pub fn unit_of(key: &str) -> Unit {
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| key.ends_with(suffix));
    if ends(&["Mbps"]) {
        Unit::Megabits
    } else if ends(&["Bytes", "bytes"]) {
        Unit::Bytes
    } else if ends(&["Seconds", "seconds", "SecondsAgo"]) {
        Unit::Seconds
    } else if ends(&[
        "Packets", "packets", "Total", "total", "Errors", "errors", "Missed", "missed",
    ]) {
        Unit::Count
    } else {
        Unit::Plain
    }
}

/// `rxMissedPackets` becomes `RX-MISSED-PACKETS`.
pub fn title_of(key: &str) -> String {
    let mut title = String::with_capacity(key.len() + 4);
    let mut small = false;
    for c in key.chars() {
        if c.is_ascii_uppercase() && small {
            title.push('-');
        }
        small = c.is_ascii_lowercase() || c.is_ascii_digit();
        title.push(if c == '_' {
            '-'
        } else {
            c.to_ascii_uppercase()
        });
    }
    title
}

/// A value in its cell.
pub fn cell(value: Option<&Value>, unit: Unit) -> String {
    let nothing = || "-".to_owned();
    match value {
        None | Some(Value::Null) => nothing(),
        Some(Value::String(text)) if text.is_empty() => nothing(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::Number(number)) => match (number.as_u64(), unit) {
            (Some(number), Unit::Count) => units::count(number),
            (Some(number), Unit::Bytes) => units::bytes(number),
            (Some(number), Unit::Seconds) => units::seconds(number),
            (Some(number), Unit::Megabits) => units::megabits(number),
            _ => number.to_string(),
        },
        Some(Value::Array(values)) if values.is_empty() => nothing(),
        Some(Value::Array(values)) => {
            let all: Vec<String> = values.iter().map(|v| cell(Some(v), unit)).collect();
            all.join(",")
        }
        Some(Value::Object(fields)) => {
            let all = fields
                .iter()
                .map(|(name, value)| format!("{name}={}", cell(Some(value), unit_of(name))));
            all.collect::<Vec<_>>().join(",")
        }
    }
}

/// Whether a row tells of trouble.
pub fn tone(row: &Map<String, Value>) -> Tone {
    if row.get("conflict").is_some_and(Value::is_string)
        || row.get("link") == Some(&Value::Bool(false))
        || row.get("ok") == Some(&Value::Bool(false))
    {
        return Tone::Bad;
    }
    let word = |key| row.get(key).and_then(Value::as_str).unwrap_or_default();
    let tone = |word: &str| match word.to_ascii_lowercase().as_str() {
        "down" | "error" | "failed" | "unreachable" => Tone::Bad,
        "pending" | "draining" | "standby" | "no vlan" | "incomplete" => Tone::Warn,
        _ => Tone::Plain,
    };
    match tone(word("state")) {
        Tone::Plain => tone(word("link")),
        tone => tone,
    }
}
