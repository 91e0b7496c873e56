//! What the integration tests share.
#![allow(dead_code)] // each test uses a part
#![allow(clippy::unwrap_used, clippy::panic, clippy::many_single_char_names)]

use conntrack::{
    Direction, EndReason, FlowId, FlowRef, NewFlow, Observed, Segment, State, Table, TableConfig,
    TcpSegment, Timeouts,
};
use net::header::tcp_flags::{ACK, FIN, RST, SYN};
use net::{Addr, FlowKey, IpProto, L4Port, Timestamp};

/// One tick of the timers, in nanoseconds: how late a flow may end.
pub const TICK: u64 = 1 << 28;

/// One turn of the timers.
pub const TURN: u64 = TICK << 12;

/// A key from a client that `n` chooses to one service.
pub fn key(proto: IpProto, n: u32) -> FlowKey {
    let [a, b, c, d] = n.to_be_bytes();
    FlowKey::new(
        Addr::from_v4([10, a, b, c]),
        Addr::from_v4([203, 0, 113, 10]),
        L4Port(1024 + u16::from(d)),
        L4Port(80),
        proto,
    )
}

/// The reply tuple of `original` when it is translated to `port` of a translation address.
pub fn translated(original: &FlowKey, port: u16) -> FlowKey {
    FlowKey::new(
        Addr::from_v4([192, 0, 2, 20]),
        Addr::from_v4([192, 0, 2, 1]),
        L4Port(8080),
        L4Port(port),
        original.proto,
    )
}

/// A flow that is not translated, with `n` as its data.
pub fn new_flow(proto: IpProto, n: u32) -> NewFlow<u32> {
    let original = key(proto, n);
    NewFlow {
        original,
        reply: original.inverted(),
        timeouts: match proto {
            IpProto::TCP => Timeouts::tcp(),
            _ => Timeouts::udp(),
        },
        data: n,
    }
}

pub fn table(capacity: usize) -> Table<u32> {
    Table::new(TableConfig {
        capacity,
        seed: 1,
        hugetlb: false,
    })
}

pub fn secs(n: u64) -> Timestamp {
    Timestamp::from_secs(n)
}

/// Runs `expire` without a bound and collects what ended.
pub fn expire(table: &mut Table<u32>, now: Timestamp) -> Vec<(u32, EndReason)> {
    let mut ended = Vec::new();
    let n = table.expire(now, usize::MAX, &mut |flow: FlowRef<'_, u32>, reason| {
        ended.push((*flow.data(), reason));
    });
    assert_eq!(n, ended.len());
    ended
}

/// A segment as a table of states writes it: who, flags, sequence and acknowledgement number,
/// payload. Client numbers begin at 1000, server numbers at 9000 where the tests follow a handshake.
pub fn segment(flags: &str, seq: u32, ack: u32, payload_len: u32) -> Segment {
    let flags = flags.chars().fold(0, |all, c| {
        all | match c {
            'S' => SYN,
            'A' => ACK,
            'F' => FIN,
            'R' => RST,
            'P' => 0x08,
            '-' => 0,
            other => panic!("flag {other}"),
        }
    });
    let tcp = TcpSegment {
        seq,
        ack,
        payload_len,
        cut: false,
        window: 65535,
        flags,
        scale: None,
    };
    Segment::tcp(tcp, 40 + payload_len)
}

/// Brings a TCP flow to the state ESTABLISHED, with 1001 and 9001 as the next numbers.
pub fn establish(table: &mut Table<u32>, id: FlowId, now: Timestamp) {
    use Direction::{Original, Reply};
    for (direction, flags, seq, ack, state) in [
        (Original, "S", 1000, 0, State::SynSent),
        (Reply, "SA", 9000, 1001, State::SynReceived),
        (Original, "A", 1001, 9001, State::Established),
    ] {
        let seen = table.observe(id, direction, &segment(flags, seq, ack, 0), now);
        assert!(matches!(seen, Observed::Accept { .. }), "{seen:?}");
        assert_eq!(table.get(id).unwrap().state(), state);
    }
}
