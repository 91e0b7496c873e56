//! A client that has forgotten its connection calls again from the same port, while the table, and
//! perhaps the server, still hold the old one. Whatever the numbers, what is lost, repeated or overtaken,
//! the ends must find together by themselves, long before the old flow would have been silent for too
//! long (RFC 9293 section 3.5.1, RFC 5961).
#![allow(clippy::unwrap_used)]

mod common;

use common::{new_flow, table};
use conntrack::{Direction, EndReason, FlowId, Observed, Segment, State, Table, TcpSegment};
use net::header::tcp_flags::{ACK, RST, SYN};
use net::{IpProto, Timestamp};
use proptest::prelude::*;

/// What an end knows of its own connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Only of a server: it waits for a SYN.
    Listen,
    /// Only of a server: nobody listens.
    Refuses,
    SynSent,
    SynReceived,
    Open,
}

/// One end, as RFC 9293 section 3.10.7 has it. Nobody closes here.
#[derive(Debug, Clone, Copy)]
struct Peer {
    phase: Phase,
    /// The next number to send, the first not acknowledged, and the next expected.
    next: u32,
    una: u32,
    expects: u32,
    /// What its SYN offers.
    window: u16,
    scale: u8,
    /// Of a server that has to listen: the number it answers with.
    isn: u32,
}

impl Peer {
    fn segment(&self, flags: u8, seq: u32, ack: u32, payload_len: u32) -> TcpSegment {
        TcpSegment {
            seq,
            ack,
            payload_len,
            cut: false,
            window: self.window,
            flags,
            scale: (flags & SYN != 0).then_some(self.scale),
        }
    }

    fn ack(&self) -> TcpSegment {
        self.segment(ACK, self.next, self.expects, 0)
    }

    /// What it sends when nothing has come for a while.
    fn again(&self) -> Option<TcpSegment> {
        match self.phase {
            Phase::SynSent => Some(self.segment(SYN, self.una, 0, 0)),
            Phase::SynReceived => Some(self.segment(SYN | ACK, self.una, self.expects, 0)),
            Phase::Open if self.una != self.next => {
                let len = self.next.wrapping_sub(self.una);
                Some(self.segment(ACK, self.una, self.expects, len))
            }
            Phase::Open | Phase::Listen | Phase::Refuses => None,
        }
    }

    /// What it answers.
    fn hears(&mut self, s: &TcpSegment) -> Option<TcpSegment> {
        let (syn, ack, rst) = (s.flags & SYN != 0, s.flags & ACK != 0, s.flags & RST != 0);
        let end = s.seq.wrapping_add(s.payload_len);
        let acks_news = s.ack.wrapping_sub(self.una).wrapping_sub(1)
            < self.next.wrapping_sub(self.una).max(1)
            && self.next != self.una;
        match self.phase {
            Phase::Listen | Phase::Refuses if rst => None,
            Phase::Listen | Phase::Refuses if ack => Some(self.segment(RST, s.ack, 0, 0)),
            Phase::Refuses if syn => Some(self.segment(RST | ACK, 0, s.seq.wrapping_add(1), 0)),
            Phase::Listen if syn => {
                self.phase = Phase::SynReceived;
                self.una = self.isn;
                self.next = self.isn.wrapping_add(1);
                self.expects = s.seq.wrapping_add(1);
                self.again()
            }
            Phase::SynSent if ack && !acks_news => (!rst).then(|| self.segment(RST, s.ack, 0, 0)),
            Phase::SynSent if rst => {
                if ack {
                    self.phase = Phase::Refuses;
                }
                None
            }
            Phase::SynSent if syn && ack => {
                self.phase = Phase::Open;
                self.una = s.ack;
                self.expects = s.seq.wrapping_add(1);
                Some(self.ack())
            }
            Phase::Listen | Phase::Refuses | Phase::SynSent => None,
            _ if rst => {
                let inside = s.seq.wrapping_sub(self.expects) < 0xffff;
                if s.seq == self.expects {
                    self.phase = Phase::Listen;
                    return None;
                }
                inside.then(|| self.ack())
            }
            Phase::SynReceived if syn && s.seq.wrapping_add(1) == self.expects => self.again(),
            // A challenge (RFC 5961 section 4).
            _ if syn => Some(self.ack()),
            Phase::SynReceived if ack && s.ack == self.next && s.seq == self.expects => {
                self.phase = Phase::Open;
                self.una = s.ack;
                self.expects = end;
                (s.payload_len > 0).then(|| self.ack())
            }
            Phase::SynReceived => {
                Some(self.segment(RST, s.ack, 0, 0)).filter(|_| s.ack != self.next)
            }
            Phase::Open => {
                if ack && acks_news {
                    self.una = s.ack;
                }
                let news = s.seq == self.expects && s.payload_len > 0;
                if news {
                    self.expects = end;
                }
                (s.payload_len > 0 || s.seq != self.expects).then(|| self.ack())
            }
        }
    }
}

/// What the server still knows when the client calls again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    HasIt,
    LostIt,
    IsGone,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    /// Numbers of the old connection, and what was moved in it.
    old: [u32; 2],
    moved: [u32; 2],
    /// The first numbers of the new one.
    new: [u32; 2],
    /// And what the client tries after that, if it gives up meanwhile.
    then: Option<u32>,
    server: Server,
    scales: [u8; 4],
    /// In thousandths.
    lost: u64,
    twice: u64,
    seed: u64,
}

struct Line {
    table: Table<u32>,
    id: Option<FlowId>,
    numbers: u64,
    case: Case,
    now: u64,
}

impl Line {
    fn random(&mut self) -> u64 {
        self.numbers = self
            .numbers
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.numbers >> 33
    }

    /// How many copies go on.
    fn copies(&mut self) -> usize {
        let (lost, twice) = (self.case.lost, self.case.twice);
        match self.random() % 1000 {
            n if n < lost => 0,
            n if n < lost + twice => 2,
            _ => 1,
        }
    }

    /// Whether the table lets it pass.
    fn pass(&mut self, direction: Direction, s: &TcpSegment) -> bool {
        self.now += 1;
        let now = Timestamp::from_millis(self.now);
        for _ in 0..2 {
            let opens = direction == Direction::Original && s.flags == SYN;
            if self.id.is_none() && opens {
                let flow = new_flow(IpProto::TCP, 1);
                self.id = Some(self.table.insert(flow, now).unwrap());
            }
            let Some(id) = self.id else {
                return false;
            };
            let segment = Segment::tcp(*s, 40 + s.payload_len);
            match self.table.observe(id, direction, &segment, now) {
                Observed::Accept { .. } => return true,
                Observed::Invalid(_) => return false,
                Observed::Reopen => {
                    self.table.remove(id, EndReason::Reopened);
                    self.id = None;
                }
            }
        }
        false
    }

    fn state(&self) -> Option<State> {
        Some(self.table.get(self.id?)?.state())
    }
}

/// The old connection, seen by the table from its SYN on: both ends have said all they had to.
fn old(case: &Case) -> (Line, [Peer; 2]) {
    let mut line = Line {
        table: table(4),
        id: None,
        numbers: case.seed,
        case: *case,
        now: 0,
    };
    let peer = |at: usize, phase| Peer {
        phase,
        next: case.old[at].wrapping_add(1),
        una: case.old[at],
        expects: 0,
        window: 60_000,
        scale: case.scales[at],
        isn: case.old[at],
    };
    let mut peers = [peer(0, Phase::SynSent), peer(1, Phase::Listen)];
    let ways = [Direction::Original, Direction::Reply];
    let mut say = peers[0].again();
    let mut from = 0;
    while let Some(segment) = say {
        assert!(line.pass(ways[from], &segment));
        from = 1 - from;
        say = peers[from].hears(&segment);
    }
    for at in [0, 1] {
        let mut left = case.moved[at];
        while left > 0 {
            let len = left.min(1400);
            peers[at].next = peers[at].next.wrapping_add(len);
            let data = peers[at].again().unwrap();
            assert!(line.pass(ways[at], &data));
            let ack = peers[1 - at].hears(&data).unwrap();
            assert!(line.pass(ways[1 - at], &ack));
            assert!(peers[at].hears(&ack).is_none());
            left -= len;
        }
    }
    assert_eq!(line.state(), Some(State::Established));
    (line, peers)
}

/// Whether the ends come to what they must come to; what the table thinks of it then.
fn run(case: Case) -> Result<Option<State>, String> {
    let (mut line, [_, mut server]) = old(&case);
    let call = |isn: u32| Peer {
        phase: Phase::SynSent,
        next: isn.wrapping_add(1),
        una: isn,
        expects: 0,
        window: 60_000,
        scale: case.scales[2],
        isn,
    };
    let mut client = call(case.new[0]);
    let listen = match case.server {
        Server::HasIt => server.phase,
        Server::LostIt => Phase::Listen,
        Server::IsGone => Phase::Refuses,
    };
    server = Peer {
        phase: listen,
        isn: case.new[1],
        scale: case.scales[3],
        ..server
    };
    let mut flying: Vec<(Direction, TcpSegment)> = Vec::new();
    let (mut timeouts, mut said) = (0, false);
    // Ten tries: a client that doubles its waits would be at it for minutes, and gives up.
    while timeouts < 40 {
        if flying.is_empty() {
            timeouts += 1;
            line.now += 1000;
            // A port is used again with another number.
            if timeouts == 2
                && client.phase == Phase::SynSent
                && let Some(isn) = case.then
            {
                client = call(isn);
            }
            let both = client.phase == Phase::Open && server.phase == Phase::Open;
            if both && !said {
                said = true;
                for peer in [&mut client, &mut server] {
                    peer.next = peer.next.wrapping_add(1000);
                }
            }
            let quiet = [client, server].iter().all(|peer| peer.una == peer.next);
            if (said && quiet) || client.phase == Phase::Refuses {
                break;
            }
            // Where the handshake's last segment is lost, the server asks again.
            flying.extend(client.again().map(|s| (Direction::Original, s)));
            flying.extend(server.again().map(|s| (Direction::Reply, s)));
            if flying.is_empty() && client.phase == Phase::Open && server.phase != Phase::Open {
                // It has something to say, as a client does.
                client.next = client.next.wrapping_add(10);
            }
            continue;
        }
        let at = usize::try_from(line.random()).unwrap() % flying.len().min(2);
        let (direction, segment) = flying.remove(at);
        for _ in 0..line.copies() {
            if !line.pass(direction, &segment) {
                continue;
            }
            for _ in 0..line.copies() {
                let (hearer, way) = match direction {
                    Direction::Original => (&mut server, Direction::Reply),
                    Direction::Reply => (&mut client, Direction::Original),
                };
                let answer = hearer.hears(&segment);
                flying.extend(answer.map(|s| (way, s)));
            }
        }
    }
    let done = match case.server {
        Server::IsGone => client.phase == Phase::Refuses,
        _ => said && client.una == client.next && server.una == server.next,
    };
    if done {
        return Ok(line.state());
    }
    Err(format!("{client:?} {server:?} {:?}", line.state()))
}

fn cases() -> impl Strategy<Value = Case> {
    let near = || -100_000..100_000_i32;
    let number = || prop_oneof![3 => near().prop_map(Ok), 1 => any::<u32>().prop_map(Err)];
    (
        prop::array::uniform2(any::<u32>()),
        prop::array::uniform2(0..100_000_u32),
        prop::array::uniform3(number()),
        any::<bool>(),
        prop_oneof![
            Just(Server::HasIt),
            Just(Server::LostIt),
            Just(Server::IsGone)
        ],
        prop::array::uniform4(0..10_u8),
        (0..150_u64, 0..100_u64, any::<u64>()),
    )
        .prop_map(
            |(old, moved, new, changes, server, scales, (lost, twice, seed))| {
                let close = |at: usize, number: Result<i32, u32>| match number {
                    Ok(by) => old[at]
                        .wrapping_add(moved[at])
                        .wrapping_add(by.cast_unsigned()),
                    Err(any) => any,
                };
                Case {
                    old,
                    moved,
                    new: [close(0, new[0]), close(1, new[1])],
                    then: changes.then(|| close(0, new[2])),
                    server,
                    scales,
                    lost,
                    twice,
                    seed,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    // case LNX-006: a stale flow, a client that calls anew, and a server that knows the old connection or not.
    #[test]
    fn a_client_that_calls_anew_is_through_before_the_old_flow_is_silent_for_too_long(case in cases()) {
        // The one number with which no client gets past a server that has the connection: what the server
        // says then is an answer to that SYN, and none that begins anything.
        let expected = case.old[0].wrapping_add(case.moved[0]);
        prop_assume!(![case.new[0], case.then.unwrap_or_default()].contains(&expected));
        // The same connection, as far as anybody can tell.
        prop_assume!(![case.new[0], case.then.unwrap_or_default()].contains(&case.old[0]));
        let state = run(case);
        prop_assert!(state.is_ok(), "{}", state.unwrap_err());
        if case.server != Server::IsGone {
            prop_assert_eq!(state.unwrap(), Some(State::Established));
        }
    }
}
