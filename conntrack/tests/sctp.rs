//! Associations of SCTP, packet by packet (RFC 9260).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{expire, new_flow, secs, table};
use conntrack::Direction::{self, Original, Reply};
use conntrack::State::{
    Closed, CookieEchoed, CookieWait, Established, ShutdownAckSent, ShutdownComplete,
    ShutdownReceived, ShutdownSent,
};
use conntrack::{EndReason, FlowId, Invalid, NewFlow, Observed, Segment, State, Table, Timeouts};
use net::IpProto;
use net::sctp::Chunks;
use proptest::prelude::*;

/// What is expected of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// It passes, and then the association is in this state.
    To(State),
    /// It opens another association.
    Reopen,
    /// It is dropped.
    Not(Invalid),
}
use Says::{Not, Reopen, To};

/// The octets of a chunk that a word means: `INIT=7`, `ABORT:T`, `DATA`.
fn chunk(word: &str) -> Vec<u8> {
    let (word, flags) = word.strip_suffix(":T").map_or((word, 0), |word| (word, 1));
    let (name, tag) = word.split_once('=').unwrap_or((word, ""));
    let kind = match name {
        "DATA" => 0,
        "INIT" => 1,
        "INIT-ACK" => 2,
        "SACK" => 3,
        "HEARTBEAT" => 4,
        "ABORT" => 6,
        "SHUTDOWN" => 7,
        "SHUTDOWN-ACK" => 8,
        "ERROR" => 9,
        "COOKIE-ECHO" => 10,
        "COOKIE-ACK" => 11,
        "SHUTDOWN-COMPLETE" => 14,
        other => panic!("{other}"),
    };
    let mut body = Vec::new();
    if let Ok(tag) = tag.parse::<u32>() {
        body.extend(tag.to_be_bytes());
        body.extend([0; 12]);
    }
    let mut octets = vec![kind, flags, 0, u8::try_from(4 + body.len()).unwrap()];
    octets.extend(body);
    octets
}

fn packet(vtag: u32, chunks: &str) -> Segment {
    let mut octets = vec![0; 4];
    octets.extend(vtag.to_be_bytes());
    octets.extend([0; 4]);
    for word in chunks.split_whitespace() {
        octets.extend(chunk(word));
    }
    Segment::sctp(Chunks::parse(&octets).unwrap(), 100)
}

type Packet = (Direction, u32, &'static str, Says);

struct Lab {
    table: Table<u32>,
    id: FlowId,
    now: u64,
}

impl Lab {
    fn new() -> Self {
        let mut table = table(4);
        let flow = NewFlow {
            timeouts: Timeouts::sctp(),
            ..new_flow(IpProto::SCTP, 1)
        };
        let id = table.insert(flow, secs(0)).unwrap();
        assert_eq!(table.get(id).unwrap().state(), CookieWait);
        Self { table, id, now: 0 }
    }

    fn state(&self) -> State {
        self.table.get(self.id).unwrap().state()
    }

    fn send(&mut self, direction: Direction, vtag: u32, chunks: &str) -> Says {
        self.now += 1;
        let now = secs(self.now);
        match self
            .table
            .observe(self.id, direction, &packet(vtag, chunks), now)
        {
            Observed::Accept { .. } => To(self.state()),
            Observed::Reopen => Reopen,
            Observed::Invalid(reason) => Not(reason),
        }
    }

    fn run(&mut self, what: &str, packets: &[Packet]) -> &mut Self {
        for (at, (direction, vtag, chunks, says)) in packets.iter().enumerate() {
            let before = self.state();
            let seen = self.send(*direction, *vtag, chunks);
            assert_eq!(seen, *says, "{what}, packet {at}: {chunks} tag {vtag}");
            if matches!(says, Reopen | Not(_)) {
                assert_eq!(self.state(), before);
            }
        }
        self
    }
}

/// The client's tag is 7: packets to it carry it. The server's is 9.
const OPEN: [Packet; 4] = [
    (Original, 0, "INIT=7", To(CookieWait)),
    (Reply, 7, "INIT-ACK=9", To(CookieWait)),
    (Original, 9, "COOKIE-ECHO DATA", To(CookieEchoed)),
    (Reply, 7, "COOKIE-ACK SACK", To(Established)),
];

const DATA: [Packet; 2] = [
    (Original, 9, "DATA", To(Established)),
    (Reply, 7, "SACK DATA", To(Established)),
];

fn open() -> Lab {
    let mut lab = Lab::new();
    lab.run("open", &OPEN).run("data", &DATA);
    lab
}

const TAG: Says = Not(Invalid::BadTag);

// case ETS-001: association setup: lost, repeated, reordered and foreign packets of the handshake
#[test]
fn an_association_opens_whatever_is_lost_or_sent_again() {
    open();
    Lab::new()
        .run(
            "INIT and its answer again; the client takes the first answer",
            &[
                (Original, 0, "INIT=7", To(CookieWait)),
                (Original, 0, "INIT=7", To(CookieWait)),
                (Reply, 7, "INIT-ACK=9", To(CookieWait)),
                (Reply, 7, "INIT-ACK=10", To(CookieWait)),
                (Original, 9, "COOKIE-ECHO", To(CookieEchoed)),
                (Original, 9, "COOKIE-ECHO", To(CookieEchoed)),
                (Reply, 7, "COOKIE-ACK", To(Established)),
                (Reply, 7, "COOKIE-ACK", To(Established)),
            ],
        )
        .run("then", &DATA);
    Lab::new()
        .run(
            "a late answer to INIT changes nothing of what is agreed on",
            &OPEN[..3],
        )
        .run(
            "late",
            &[
                (Reply, 7, "INIT-ACK=11", To(CookieEchoed)),
                (Reply, 7, "COOKIE-ACK", To(Established)),
            ],
        )
        .run("then", &DATA);
    Lab::new()
        .run(
            "the client begins anew with another tag",
            &[
                (Original, 0, "INIT=6", To(CookieWait)),
                (Original, 0, "INIT=7", To(CookieWait)),
                (Reply, 7, "INIT-ACK=9", To(CookieWait)),
                (Original, 9, "COOKIE-ECHO", To(CookieEchoed)),
                (Reply, 7, "COOKIE-ACK", To(Established)),
            ],
        )
        .run("then", &DATA);
    Lab::new()
        .run(
            "data overtakes COOKIE ACK",
            &[
                OPEN[0],
                OPEN[1],
                OPEN[2],
                (Reply, 7, "DATA", To(CookieEchoed)),
                OPEN[3],
            ],
        )
        .run("then", &DATA);
    Lab::new().run(
        "a stale cookie",
        &[
            OPEN[0],
            OPEN[1],
            OPEN[2],
            (Reply, 7, "ERROR", To(CookieEchoed)),
            (Original, 0, "INIT=7", To(CookieEchoed)),
            (Reply, 7, "INIT-ACK=12", To(CookieEchoed)),
            (Original, 12, "COOKIE-ECHO", To(CookieEchoed)),
            (Reply, 7, "COOKIE-ACK", To(Established)),
            (Original, 12, "DATA", To(Established)),
            (Original, 9, "DATA", TAG),
        ],
    );
}

// case ETS-001: invalid messages: tags that are not the association's
#[test]
fn who_does_not_know_the_tags_gets_nothing() {
    Lab::new().run(
        "before INIT ACK",
        &[
            OPEN[0],
            (Reply, 8, "INIT-ACK=9", TAG),
            (Reply, 0x700, "ABORT", TAG),
            (Original, 9, "COOKIE-ECHO", TAG),
            (Original, 9, "DATA", TAG),
            (Reply, 7, "COOKIE-ACK", Not(Invalid::NotOpen)),
            (Reply, 7, "DATA", Not(Invalid::NotOpen)),
            (Reply, 7, "HEARTBEAT", Not(Invalid::NotOpen)),
        ],
    );
    Lab::new().run(
        "before COOKIE ECHO",
        &[
            OPEN[0],
            OPEN[1],
            (Original, 8, "COOKIE-ECHO", TAG),
            (Original, 7, "COOKIE-ECHO", TAG),
            (Reply, 7, "COOKIE-ACK", Not(Invalid::NotOpen)),
            (Reply, 9, "COOKIE-ACK", TAG),
        ],
    );
    open()
        .run(
            "established",
            &[
                (Original, 8, "DATA", TAG),
                (Original, 7, "DATA", TAG),
                (Reply, 9, "SACK", TAG),
                (Original, 8, "ABORT", TAG),
                (Original, 7, "ABORT", TAG),
                (Original, 9, "ABORT:T", TAG),
                (Original, 8, "SHUTDOWN", TAG),
                (Reply, 8, "SHUTDOWN-ACK", TAG),
                (Original, 8, "SHUTDOWN-COMPLETE:T", TAG),
                (Original, 8, "COOKIE-ECHO", TAG),
                (Reply, 8, "INIT-ACK=66", TAG),
                (Reply, 8, "COOKIE-ACK", TAG),
            ],
        )
        .run("and it lives", &DATA);
}

#[test]
fn made_up_handshakes_neither_end_an_association_nor_change_its_tags() {
    // Whoever guesses addresses and ports can send INIT; the answer goes to the real client.
    open()
        .run(
            "blind",
            &[
                (Original, 0, "INIT=66", To(Established)),
                (Reply, 66, "COOKIE-ACK", To(Established)),
                (Reply, 66, "ABORT", To(Established)),
                (Reply, 66, "SHUTDOWN-COMPLETE", To(Established)),
                (Reply, 66, "DATA", To(Established)),
                (Original, 0, "INIT=67", To(Established)),
                (Original, 0, "INIT=68", To(Established)),
                (Reply, 0, "INIT=69", To(Established)),
                (Original, 69, "ABORT", To(Established)),
                (Original, 69, "COOKIE-ACK", To(Established)),
            ],
        )
        .run("and it lives", &DATA)
        .run("and ends", &[(Original, 9, "ABORT", To(Closed))]);
}

#[test]
fn who_made_up_an_init_cannot_end_the_handshake_of_another() {
    // With the tag that it offered itself, as the server or as the client, with the T bit or without.
    for abort in [
        (Original, 66, "ABORT:T", To(CookieWait)),
        (Reply, 66, "ABORT", To(CookieWait)),
    ] {
        Lab::new()
            .run("before INIT ACK", &[OPEN[0]])
            .run(
                "made up",
                &[(Original, 0, "INIT=66", To(CookieWait)), abort],
            )
            .run("then", &OPEN[1..]);
        Lab::new()
            .run("before COOKIE ECHO", &OPEN[..2])
            .run(
                "made up",
                &[(Original, 0, "INIT=66", To(CookieWait)), abort],
            )
            .run("then", &OPEN[2..])
            .run("then", &DATA);
    }
    Lab::new()
        .run("before COOKIE ACK", &OPEN[..3])
        .run(
            "made up",
            &[
                (Original, 0, "INIT=66", To(CookieEchoed)),
                (Original, 0, "INIT=67", To(CookieEchoed)),
                (Original, 67, "ABORT:T", To(CookieEchoed)),
                (Reply, 67, "ABORT", To(CookieEchoed)),
                (Original, 0x700, "ABORT:T", TAG),
            ],
        )
        .run("then", &OPEN[3..])
        .run("then", &DATA);
    // First comes who makes it up.
    Lab::new().run(
        "made up first",
        &[
            (Original, 0, "INIT=66", To(CookieWait)),
            (Original, 66, "ABORT:T", To(CookieWait)),
            (Original, 0, "INIT=7", To(CookieWait)),
            (Original, 66, "ABORT:T", To(CookieWait)),
            OPEN[1],
            OPEN[2],
            OPEN[3],
        ],
    );
    // Who is really there ends it: the client that knows the tag which it answered with a cookie.
    Lab::new().run("given up", &OPEN[..3]).run(
        "given up",
        &[
            (Reply, 7, "INIT-ACK=12", To(CookieEchoed)),
            (Original, 9, "ABORT", To(Closed)),
        ],
    );
}

#[test]
fn an_association_that_one_end_has_lost_is_opened_anew_beside_it() {
    let mut lab = open();
    lab.run(
        "restart",
        &[
            (Original, 0, "INIT=70", To(Established)),
            (Reply, 70, "INIT-ACK=90", To(Established)),
            DATA[1],
            (Original, 90, "COOKIE-ECHO DATA", To(Established)),
            (Reply, 70, "COOKIE-ACK", To(Established)),
            (Original, 90, "DATA", To(Established)),
            (Reply, 70, "DATA", To(Established)),
            (Original, 9, "DATA", TAG),
            (Reply, 7, "ABORT", TAG),
        ],
    );
    open().run(
        "restart by the server",
        &[
            (Reply, 0, "INIT=90", To(Established)),
            (Original, 90, "INIT-ACK=70", To(Established)),
            (Reply, 70, "COOKIE-ECHO", To(Established)),
            (Original, 90, "COOKIE-ACK", To(Established)),
            (Original, 90, "DATA", To(Established)),
            (Reply, 70, "DATA", To(Established)),
        ],
    );
    open().run(
        "while it is shut down",
        &[
            (Original, 9, "SHUTDOWN", To(ShutdownSent)),
            (Original, 0, "INIT=70", To(ShutdownSent)),
            (Reply, 70, "INIT-ACK=90", To(ShutdownSent)),
            (Original, 90, "COOKIE-ECHO", To(ShutdownSent)),
            (Reply, 70, "COOKIE-ACK", To(Established)),
            (Original, 90, "DATA", To(Established)),
        ],
    );
}

// case LNX-008: both sides call at once; an INIT ACK that comes late must not change the tags agreed on
#[test]
fn both_ends_may_call_at_once() {
    for late in [9, 11] {
        Lab::new()
            .run(
                "collision",
                &[
                    (Original, 0, "INIT=7", To(CookieWait)),
                    (Reply, 0, "INIT=9", To(CookieWait)),
                    (Original, 9, "INIT-ACK=7", To(CookieWait)),
                    (Reply, 7, "COOKIE-ECHO", To(CookieEchoed)),
                    (Original, 9, "COOKIE-ACK", To(Established)),
                ],
            )
            .run(
                "late",
                &[(
                    Reply,
                    7,
                    if late == 9 {
                        "INIT-ACK=9"
                    } else {
                        "INIT-ACK=11"
                    },
                    To(Established),
                )],
            )
            .run("then", &DATA);
    }
    Lab::new()
        .run(
            "both go all the way",
            &[
                (Original, 0, "INIT=7", To(CookieWait)),
                (Reply, 0, "INIT=9", To(CookieWait)),
                (Reply, 7, "INIT-ACK=9", To(CookieWait)),
                (Original, 9, "INIT-ACK=7", To(CookieWait)),
                (Original, 9, "COOKIE-ECHO", To(CookieEchoed)),
                (Reply, 7, "COOKIE-ECHO", To(CookieEchoed)),
                (Reply, 7, "COOKIE-ACK", To(Established)),
                (Original, 9, "COOKIE-ACK", To(Established)),
            ],
        )
        .run("then", &DATA);
}

// case ETS-001: termination: by SHUTDOWN from either side or both, by ABORT, with the T bit
#[test]
fn an_association_ends_as_its_ends_say() {
    open().run(
        "the client shuts down",
        &[
            (Original, 9, "SHUTDOWN", To(ShutdownSent)),
            (Reply, 7, "DATA", To(ShutdownSent)),
            (Original, 9, "SHUTDOWN SACK", To(ShutdownSent)),
            (Reply, 7, "SHUTDOWN-ACK", To(ShutdownAckSent)),
            (Reply, 7, "SHUTDOWN-ACK", To(ShutdownAckSent)),
            (Original, 9, "SHUTDOWN-COMPLETE", To(ShutdownComplete)),
            (Reply, 7, "SHUTDOWN-ACK", To(ShutdownComplete)),
            (Original, 9, "SHUTDOWN-COMPLETE", To(ShutdownComplete)),
            (Original, 8, "DATA", TAG),
            (Original, 0, "INIT=70", Reopen),
        ],
    );
    open().run(
        "the server shuts down; the client has forgotten",
        &[
            (Reply, 7, "SHUTDOWN", To(ShutdownReceived)),
            (Original, 9, "SHUTDOWN-ACK", To(ShutdownAckSent)),
            (Reply, 9, "SHUTDOWN-COMPLETE:T", To(ShutdownComplete)),
        ],
    );
    open().run(
        "both at once",
        &[
            (Original, 9, "SHUTDOWN", To(ShutdownSent)),
            (Reply, 7, "SHUTDOWN", To(ShutdownSent)),
            (Original, 9, "SHUTDOWN-ACK", To(ShutdownAckSent)),
            (Reply, 7, "SHUTDOWN-ACK", To(ShutdownAckSent)),
            (Reply, 7, "SHUTDOWN-COMPLETE", To(ShutdownComplete)),
        ],
    );
    open().run(
        "aborted",
        &[
            (Reply, 7, "DATA ABORT", To(Closed)),
            (Original, 0, "INIT=70", Reopen),
        ],
    );
    open().run(
        "by one who knows no association",
        &[(Reply, 9, "ABORT:T", To(Closed))],
    );
    Lab::new().run("refused", &[OPEN[0], (Reply, 7, "ABORT", To(Closed))]);
    Lab::new().run(
        "given up",
        &[OPEN[0], OPEN[1], (Original, 9, "ABORT", To(Closed))],
    );
    Lab::new().run(
        "the server still shuts an older one down",
        &[
            OPEN[0],
            (Reply, 1234, "SHUTDOWN-ACK", To(CookieWait)),
            (Original, 1234, "SHUTDOWN-COMPLETE:T", To(CookieWait)),
            OPEN[1],
        ],
    );
    open().run(
        "SHUTDOWN COMPLETE that nobody waits for",
        &[(Original, 9, "SHUTDOWN-COMPLETE", To(Established))],
    );
}

// case ETS-001: timers: each state has its own time
#[test]
fn each_state_lasts_as_long_as_its_timeout() {
    let shut: [Packet; 3] = [
        (Original, 9, "SHUTDOWN", To(ShutdownSent)),
        (Reply, 7, "SHUTDOWN-ACK", To(ShutdownAckSent)),
        (Original, 9, "SHUTDOWN-COMPLETE", To(ShutdownComplete)),
    ];
    let timeouts = Timeouts::sctp();
    for (packets, state, reason) in [
        (OPEN[..1].to_vec(), CookieWait, EndReason::Unanswered),
        (OPEN[..3].to_vec(), CookieEchoed, EndReason::Unanswered),
        (OPEN.to_vec(), Established, EndReason::Idle),
        (
            [&OPEN[..], &shut[..1]].concat(),
            ShutdownSent,
            EndReason::Idle,
        ),
        (
            [&OPEN[..], &shut[..2]].concat(),
            ShutdownAckSent,
            EndReason::Idle,
        ),
        (
            [&OPEN[..], &shut[..]].concat(),
            ShutdownComplete,
            EndReason::Closed,
        ),
        (
            [&OPEN[..], &[(Reply, 7, "ABORT", To(Closed))]].concat(),
            Closed,
            EndReason::Reset,
        ),
    ] {
        let mut lab = Lab::new();
        lab.run("towards", &packets);
        assert_eq!(lab.state(), state);
        let last = lab.now + timeouts.of(state).as_secs();
        assert_eq!(expire(&mut lab.table, secs(last - 1)), [], "{state}");
        assert_eq!(
            expire(&mut lab.table, secs(last + 1)),
            [(1, reason)],
            "{state}"
        );
    }
    // INIT that is sent again and never answered does not keep the flow.
    let mut lab = Lab::new();
    for _ in 0..29 {
        assert_eq!(lab.send(Original, 0, "INIT=7"), To(CookieWait));
    }
    assert_eq!(
        expire(&mut lab.table, secs(32)),
        [(1, EndReason::Unanswered)]
    );
}

#[test]
fn an_established_association_does_not_give_way_and_one_that_opens_does() {
    let mut table = table(2);
    let flow = |n| NewFlow {
        timeouts: Timeouts::sctp(),
        ..new_flow(IpProto::SCTP, n)
    };
    let first = table.insert(flow(1), secs(0)).unwrap();
    for (direction, vtag, chunks, _) in OPEN {
        let _ = table.observe(first, direction, &packet(vtag, chunks), secs(0));
    }
    for n in 2..10 {
        let id = table.insert(flow(n), secs(1)).unwrap();
        let _ = table.observe(id, Original, &packet(0, "INIT=5"), secs(1));
        expire(&mut table, secs(1));
    }
    assert_eq!(table.get(first).unwrap().state(), Established);
    assert_eq!(table.stats().evictions(), 7);
}

#[test]
fn a_packet_without_chunks_that_can_be_read_is_refused() {
    let mut lab = open();
    let seen = lab
        .table
        .observe(lab.id, Original, &Segment::datagram(1), secs(20));
    assert_eq!(seen, Observed::Invalid(Invalid::NotOpen));
    assert_eq!(lab.state(), Established);
}

const ANY: [&str; 13] = [
    "DATA",
    "INIT=66",
    "INIT=67",
    "INIT-ACK=66",
    "INIT-ACK=67",
    "SACK",
    "ABORT",
    "ABORT:T",
    "SHUTDOWN",
    "SHUTDOWN-ACK",
    "COOKIE-ECHO",
    "COOKIE-ACK",
    "SHUTDOWN-COMPLETE:T",
];

proptest! {
    #[test]
    fn nobody_who_does_not_know_the_tags_can_harm_an_association(
        packets in proptest::collection::vec(
            (any::<bool>(), 0..ANY.len(), prop::sample::select(vec![1u32, 66, 67])), 0..40)
    ) {
        // The answers of the real ends to what is made up are not seen by who makes it up.
        let mut lab = open();
        for (original, word, tag) in packets {
            let word = ANY[word];
            let tag = if word.starts_with("INIT=") { 0 } else { tag };
            let direction = if original { Original } else { Reply };
            // Only who has seen the INIT ACK knows its tag; one made up is dropped, unless it answers
            // an INIT that was made up: then both tags are known, and the ends know none of it.
            if word.starts_with("INIT-ACK") || word == "COOKIE-ECHO" {
                continue;
            }
            lab.send(direction, tag, word);
            prop_assert_eq!(lab.state(), Established);
        }
        lab.run("and it lives", &DATA);
    }
}
