//! Random histories against a model that does everything the slow and obvious way.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::time::Duration;

use common::{TICK, key, segment, translated};
use conntrack::{
    Direction, EndReason, FlowId, InsertError, NewFlow, Observed, Segment, State, Table,
    TableConfig, Timeouts,
};
use net::{FlowKey, IpProto, Timestamp};
use proptest::prelude::*;

/// What happens next. Flows and keys are named by small numbers, so that they meet.
#[derive(Debug, Clone)]
enum Act {
    Insert {
        client: u32,
        /// Translated to this port, if any.
        port: Option<u16>,
        tcp: bool,
        /// Seconds of every timeout, times 1, 2, 3 and so on by state.
        timeout: u64,
    },
    Observe {
        flow: usize,
        direction: Direction,
        flags: &'static str,
        seq: u32,
        ack: u32,
    },
    /// A whole handshake, which random segments seldom make.
    Open {
        flow: usize,
        then_half_close: bool,
    },
    Remove {
        flow: usize,
    },
    Stale {
        flow: usize,
    },
    Expire {
        after: u64,
        budget: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let direction = prop_oneof![Just(Direction::Original), Just(Direction::Reply)];
    prop_oneof![
        4 => (0..12_u32, prop::option::of(5000..5006_u16), any::<bool>(), 1..200_u64).prop_map(
            |(client, port, tcp, timeout)| Act::Insert { client, port, tcp, timeout }
        ),
        8 => (
            any::<usize>(),
            direction,
            prop::sample::select(vec!["S", "SA", "A", "FA", "R", "RA", "F"]),
            100..104_u32,
            100..104_u32,
        )
            .prop_map(|(flow, direction, flags, seq, ack)| Act::Observe {
                flow, direction, flags, seq, ack
            }),
        2 => (any::<usize>(), any::<bool>())
            .prop_map(|(flow, then_half_close)| Act::Open { flow, then_half_close }),
        1 => any::<usize>().prop_map(|flow| Act::Remove { flow }),
        1 => any::<usize>().prop_map(|flow| Act::Stale { flow }),
        3 => (
            prop_oneof![0..TICK, 0..TICK * 60, 0..TICK * 10_000],
            prop_oneof![Just(usize::MAX), 0..4_usize],
        )
            .prop_map(|(after, budget)| Act::Expire { after, budget }),
    ]
}

/// A flow as the model has it.
#[derive(Debug, Clone)]
struct Entry {
    id: FlowId,
    original: FlowKey,
    reply: FlowKey,
    timeout: u64,
    state: State,
    last_seen: Timestamp,
}

/// The order in which flows give way; `None` never does.
fn class(state: State) -> Option<u8> {
    match state {
        State::Established | State::Replied => None,
        State::FinWait | State::CloseWait | State::LastAck => Some(1),
        _ => Some(0),
    }
}

fn seconds(state: State, timeout: u64) -> Duration {
    Duration::from_secs(match state {
        State::SynSent
        | State::SynReceived
        | State::Unreplied
        | State::CookieWait
        | State::CookieEchoed => timeout,
        State::Established | State::Replied | State::Datagrams => 2 * timeout,
        State::LastAck | State::ShutdownSent | State::ShutdownReceived | State::ShutdownAckSent => {
            3 * timeout
        }
        State::FinWait | State::CloseWait => 4 * timeout,
        State::TimeWait | State::ShutdownComplete => timeout / 2 + 1,
        State::Closed => timeout / 4 + 1,
    })
}

fn timeouts(t: u64) -> Timeouts {
    Timeouts::tcp()
        .with_opening(seconds(State::SynSent, t))
        .with_idle(seconds(State::Established, t))
        .with_half_closed(seconds(State::FinWait, t))
        .with_closing(seconds(State::LastAck, t))
        .with_time_wait(seconds(State::TimeWait, t))
        .with_closed(seconds(State::Closed, t))
}

impl Entry {
    fn deadline(&self) -> Timestamp {
        self.last_seen + seconds(self.state, self.timeout)
    }

    fn expiry(&self) -> EndReason {
        match self.state {
            State::SynSent | State::SynReceived | State::Unreplied => EndReason::Unanswered,
            State::TimeWait => EndReason::Closed,
            State::Closed => EndReason::Reset,
            _ => EndReason::Idle,
        }
    }
}

/// The table beside its model.
struct Pair {
    table: Table<u32>,
    model: HashMap<u32, Entry>,
    ended: Vec<FlowId>,
    capacity: usize,
    now: Timestamp,
    inserted: u32,
    reasons: HashMap<EndReason, u64>,
}

impl Pair {
    fn new(capacity: usize, seed: u64, now: Timestamp) -> Self {
        Self {
            table: Table::new(TableConfig {
                capacity,
                seed,
                hugetlb: false,
            }),
            model: HashMap::new(),
            ended: Vec::new(),
            capacity,
            now,
            inserted: 0,
            reasons: HashMap::new(),
        }
    }

    /// The `n`-th flow, counted round.
    fn pick(&self, n: usize) -> Option<u32> {
        let mut names: Vec<_> = self.model.keys().copied().collect();
        names.sort_unstable();
        (!names.is_empty()).then(|| names[n % names.len()])
    }

    /// A flow ends once.
    fn end(&mut self, name: u32, reason: EndReason) -> Entry {
        let entry = self.model.remove(&name).unwrap();
        *self.reasons.entry(reason).or_default() += 1;
        self.ended.push(entry.id);
        entry
    }

    fn insert(&mut self, client: u32, port: Option<u16>, tcp: bool, timeout: u64) {
        let proto = if tcp { IpProto::TCP } else { IpProto::UDP };
        let original = key(proto, client);
        let reply = port.map_or(original.inverted(), |port| translated(&original, port));
        let name = self.inserted;
        let taken = self.model.values().any(|e| {
            [e.original, e.reply]
                .iter()
                .any(|k| [original, reply].contains(k))
        });
        let full = self.model.len() == self.capacity;
        let new = NewFlow {
            original,
            reply,
            timeouts: timeouts(timeout),
            data: name,
        };
        let result = self.table.insert(new, self.now);
        let mut made_room = Vec::new();
        self.table.expire(self.now, 0, &mut |flow, reason| {
            made_room.push((*flow.data(), reason));
        });
        if taken {
            assert_eq!(result, Err(InsertError::Collision));
            assert_eq!(made_room, []);
            return;
        }
        if full {
            let first = self.model.values().filter_map(|e| class(e.state)).min();
            let due_long = |e: &&Entry| e.deadline() + Duration::from_nanos(TICK) <= self.now;
            match made_room[..] {
                [] => {
                    assert_eq!(result, Err(InsertError::Full));
                    assert!(first.is_none() && self.model.values().find(due_long).is_none());
                    return;
                }
                [(name, EndReason::Evicted)] => {
                    assert!(
                        self.model.values().find(due_long).is_none(),
                        "due goes first"
                    );
                    let entry = self.end(name, EndReason::Evicted);
                    assert_eq!(class(entry.state), first, "the half-closed go last");
                }
                [(name, reason)] => {
                    let entry = self.end(name, reason);
                    assert!(entry.deadline() <= self.now && reason == entry.expiry());
                }
                _ => unreachable!("more than one flow gave way"),
            }
        } else {
            assert_eq!(made_room, []);
        }
        let id = result.unwrap();
        self.inserted += 1;
        let entry = Entry {
            id,
            original,
            reply,
            timeout,
            state: if tcp {
                State::SynSent
            } else {
                State::Unreplied
            },
            last_seen: self.now,
        };
        self.model.insert(name, entry);
    }

    fn observe(&mut self, flow: usize, direction: Direction, packet: Segment) {
        let Some(name) = self.pick(flow) else {
            return;
        };
        let entry = self.model.get_mut(&name).unwrap();
        let seen = self.table.observe(entry.id, direction, &packet, self.now);
        let after = self.table.get(entry.id).unwrap();
        match seen {
            Observed::Accept { new_state } => {
                let state = new_state.unwrap_or(entry.state);
                assert_ne!(new_state, Some(entry.state), "only a change is reported");
                entry.state = state;
                // Strays may pass without being a sign of life.
                assert!([entry.last_seen, self.now].contains(&after.last_seen()));
                assert!(new_state.is_none() || after.last_seen() == self.now);
                entry.last_seen = after.last_seen();
            }
            Observed::Reopen => {
                assert!(matches!(entry.state, State::TimeWait | State::Closed));
            }
            Observed::Invalid(_) => assert_eq!(after.last_seen(), entry.last_seen),
        }
    }

    fn expire(&mut self, after: u64, budget: usize) {
        self.now = self.now + Duration::from_nanos(after);
        let mut ended = Vec::new();
        self.table.expire(self.now, budget, &mut |flow, reason| {
            ended.push((*flow.data(), reason));
        });
        assert!(ended.len() <= budget);
        for (name, reason) in ended {
            let entry = self.end(name, reason);
            assert!(entry.deadline() <= self.now, "early");
            assert_eq!(reason, entry.expiry());
        }
        if budget == usize::MAX {
            for entry in self.model.values() {
                let due = entry.deadline() + Duration::from_nanos(TICK);
                assert!(due > self.now, "late: {entry:?}");
            }
        }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Insert {
                client,
                port,
                tcp,
                timeout,
            } => self.insert(client, port, tcp, timeout),
            Act::Observe {
                flow,
                direction,
                flags,
                seq,
                ack,
            } => self.observe(flow, direction, segment(flags, seq, ack, 0)),
            Act::Open {
                flow,
                then_half_close,
            } => {
                let (client, server) = (Direction::Original, Direction::Reply);
                self.observe(flow, client, segment("S", 100, 0, 0));
                self.observe(flow, server, segment("SA", 100, 101, 0));
                self.observe(flow, client, segment("A", 101, 101, 0));
                if then_half_close {
                    self.observe(flow, server, segment("FA", 101, 101, 0));
                }
            }
            Act::Remove { flow } => {
                if let Some(name) = self.pick(flow) {
                    let entry = self.end(name, EndReason::Removed);
                    let flow = self.table.remove(entry.id, EndReason::Removed).unwrap();
                    assert_eq!(flow, name);
                }
            }
            Act::Stale { flow } => {
                if !self.ended.is_empty() {
                    let id = self.ended[flow % self.ended.len()];
                    assert!(self.table.get(id).is_none());
                    assert!(self.table.remove(id, EndReason::Removed).is_none());
                }
            }
            Act::Expire { after, budget } => self.expire(after, budget),
        }
    }

    /// Everything the two have in common.
    fn agree(&self) {
        assert_eq!(self.table.len(), self.model.len());
        assert!(self.table.len() <= self.capacity);
        for (name, entry) in &self.model {
            let flow = self.table.get(entry.id).unwrap();
            assert_eq!(flow.data(), name);
            assert_eq!(
                (flow.original(), flow.reply()),
                (entry.original, entry.reply)
            );
            assert_eq!(
                (flow.state(), flow.deadline()),
                (entry.state, entry.deadline())
            );
        }
        // Every key there may be, in the table or not.
        for proto in [IpProto::TCP, IpProto::UDP] {
            for client in 0..12 {
                let original = key(proto, client);
                let replies = (5000..5006).map(|port| translated(&original, port));
                for key in [original, original.inverted()].into_iter().chain(replies) {
                    let expected = self.model.values().find_map(|e| {
                        let side = |k: &FlowKey, d| (*k == key).then_some((e.id, d));
                        side(&e.original, Direction::Original)
                            .or_else(|| side(&e.reply, Direction::Reply))
                    });
                    assert_eq!(self.table.lookup(&key), expected, "{key}");
                }
            }
        }
        let stats = self.table.stats();
        for state in State::ALL {
            let there = self.model.values().filter(|e| e.state == state).count();
            assert_eq!(stats.in_state(state) as usize, there);
        }
        for reason in EndReason::ALL {
            let there = self.reasons.get(&reason).copied().unwrap_or(0);
            assert_eq!(stats.ended(reason), there, "{reason}");
        }
        assert_eq!(stats.inserts, u64::from(self.inserted));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_table_does_what_the_model_does(
        capacity in 1..10_usize,
        seed: u64,
        start in prop_oneof![Just(0), 0..u64::MAX / 4],
        acts in prop::collection::vec(act(), 1..200),
    ) {
        let mut pair = Pair::new(capacity, seed, Timestamp::from_nanos(start));
        for act in acts {
            pair.act(&act);
            pair.agree();
        }
    }
}
