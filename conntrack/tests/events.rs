//! What becomes of each kind of segment, in each state, from each side, at each place of the window.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fmt::Write as _;

use common::{new_flow, secs, segment, table};
use conntrack::Direction::{Original, Reply};
use conntrack::State::{
    CloseWait, Closed, Established, FinWait, LastAck, SynReceived, SynSent, TimeWait,
};
use conntrack::{Direction, FlowId, Invalid, NewFlow, Observed, State, Table};
use net::{Addr, FlowKey, IpProto, L4Port};

/// Flags, in the order of the columns.
const EVENTS: [&str; 8] = ["S", "SA", "SF", "A", "F", "FA", "R", "RA"];

/// How a connection comes to each state: who sends what.
const LIFE: [(Direction, &str, u32, u32); 7] = [
    (Original, "S", 1000, 0),
    (Reply, "SA", 9000, 1001),
    (Original, "A", 1001, 9001),
    (Original, "FA", 1001, 9001),
    (Reply, "A", 9001, 1002),
    (Reply, "FA", 9001, 1002),
    (Original, "A", 1002, 9002),
];

/// The states and how many steps of [`LIFE`] lead there; the client's SND.UNA and SND.NXT, and the
/// server's. Windows are 65,535 octets from SND.UNA on.
const STATES: [(State, usize, [u32; 2], [u32; 2]); 8] = [
    (SynSent, 1, [1000, 1001], [9000, 9000]),
    (SynReceived, 2, [1001, 1001], [9000, 9001]),
    (Established, 3, [1001, 1001], [9001, 9001]),
    (FinWait, 4, [1001, 1002], [9001, 9001]),
    (CloseWait, 5, [1002, 1002], [9001, 9001]),
    (LastAck, 6, [1002, 1002], [9001, 9002]),
    (TimeWait, 7, [1002, 1002], [9002, 9002]),
    (Closed, 3, [1001, 1001], [9001, 9001]),
];

/// One row for each state and sender, one group for each of [`EVENTS`], and in each group five places:
/// in the window, but not what is expected next; its left edge; its right edge; left of it; right
/// of it. `.` passes and changes nothing, `w` is dropped as out of window, `f` for its flags, `n` as
/// belonging to no handshake, `r` as a reset that answers nothing; `*` opens a new connection; capitals
/// are the state it goes to: Recv, Estab, Fin_wait, clOse_wait, Last_ack, Time_wait, Closed.
const TABLE: &str = "
SYN_SENT     client ..... nnnnn fffff nnnnn fffff nnnnn rCrrr rCrrr
SYN_SENT     server RRRRR RRRRR fffff ..... fffff ..... rrrrr CCCCC
SYN_RECV     client ..... ..... fffff EEE.. fffff FFF.. .C.ww .C.ww
SYN_RECV     server ..... ..... fffff ..... fffff ..... .C.ww .C.ww
ESTABLISHED  client ..... ..... fffff ....w fffff FFF.w .C.ww .C.ww
ESTABLISHED  server ..... ..... fffff ....w fffff FFF.w .C.ww .C.ww
FIN_WAIT     client ..... ..... fffff ....w fffff ....w CCCww CCCww
FIN_WAIT     server ..... ..... fffff OOO.w fffff LLL.w CCCww CCCww
CLOSE_WAIT   client ..... ..... fffff ....w fffff ....w CCCww CCCww
CLOSE_WAIT   server ..... ..... fffff ....w fffff LLL.w CCCww CCCww
LAST_ACK     client ..... ..... fffff TTT.w fffff TTT.w CCCww CCCww
LAST_ACK     server ..... ..... fffff ....w fffff ....w CCCww CCCww
TIME_WAIT    client ***.* ..... fffff ..... fffff ..... ..... .....
TIME_WAIT    server ***.* ..... fffff ..... fffff ..... ..... .....
CLOSED       client ***** ..... fffff ..... fffff ..... ..... .....
CLOSED       server ***** ..... fffff ..... fffff ..... ..... .....
";

fn flow(v6: bool) -> NewFlow<u32> {
    if !v6 {
        return new_flow(IpProto::TCP, 1);
    }
    let addr = |last: u8| {
        let mut octets = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        octets[15] = last;
        Addr::from_v6(octets)
    };
    let original = FlowKey::new(addr(1), addr(2), L4Port(40_000), L4Port(80), IpProto::TCP);
    NewFlow {
        original,
        reply: original.inverted(),
        ..new_flow(IpProto::TCP, 1)
    }
}

fn brought_to(state: State, steps: usize, v6: bool) -> (Table<u32>, FlowId) {
    let mut table = table(4);
    let id = table.insert(flow(v6), secs(0)).unwrap();
    let reset = (Original, "R", 1001, 0);
    let end = (state == Closed).then_some(reset);
    for (direction, flags, seq, ack) in LIFE.into_iter().take(steps).chain(end) {
        let _ = table.observe(id, direction, &segment(flags, seq, ack, 0), secs(1));
    }
    assert_eq!(table.get(id).unwrap().state(), state);
    (table, id)
}

fn outcome(before: State, seen: Observed) -> char {
    match seen {
        Observed::Accept { new_state: None } => '.',
        Observed::Accept { new_state: Some(s) } => match s {
            SynReceived => 'R',
            Established => 'E',
            FinWait => 'F',
            CloseWait => 'O',
            LastAck => 'L',
            TimeWait => 'T',
            Closed => 'C',
            other => panic!("{before} to {other}"),
        },
        Observed::Reopen => '*',
        Observed::Invalid(Invalid::OutOfWindow) => 'w',
        Observed::Invalid(Invalid::Flags) => 'f',
        Observed::Invalid(Invalid::NotOpen) => 'n',
        Observed::Invalid(Invalid::BadReset) => 'r',
        Observed::Invalid(other) => panic!("{other}"),
    }
}

fn happened(v6: bool) -> String {
    let mut text = "\n".to_owned();
    for (state, steps, client, server) in STATES {
        for (who, [una, next], [_, ack]) in [(Original, client, server), (Reply, server, client)] {
            let name = if who == Original { "client" } else { "server" };
            write!(text, "{:<12} {name}", state.name()).unwrap();
            let edge = una + 65_535;
            for flags in EVENTS {
                text.push(' ');
                for seq in [next + 100, una, edge, una.wrapping_sub(70_000), edge + 1] {
                    let (mut table, id) = brought_to(state, steps, v6);
                    let ack = if flags.contains('A') { ack } else { 0 };
                    let seen = table.observe(id, who, &segment(flags, seq, ack, 0), secs(2));
                    text.push(outcome(state, seen));
                    // What is dropped or only passes leaves no trace: the connection goes on.
                    let after = table.get(id).unwrap();
                    if !matches!(seen, Observed::Accept { .. }) {
                        assert_eq!((after.state(), after.last_seen()), (state, secs(1)));
                    }
                }
            }
            text.push('\n');
        }
    }
    text
}

// case BSD-001: every state, event and place, from both sides, in IPv4 and IPv6.
#[test]
fn every_segment_in_every_state_at_every_place_of_the_window() {
    for v6 in [false, true] {
        let happened = happened(v6);
        assert!(happened == TABLE, "expected{TABLE}happened{happened}");
    }
}
