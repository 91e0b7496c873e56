//! What a worker writes down of its flows, for whoever exports it: when they open, when they end and why, how
//! far those have come that last long, and which could not be opened.
//!
//! Each worker has a ring of entries of one size. It never waits: an entry that finds the ring full is lost and
//! counted. Without a journal nothing is written, and the packet path asks one pointer per flow that opens or ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use conntrack::{Cursor, Direction, EndReason, FlowRef, State, Table};
use crossbeam::queue::ArrayQueue;
use lb::VirtualServerId;
use net::{FlowKey, Timestamp, VlanIndex};

use crate::counters::Counter;
use crate::pipeline::FlowData;
use crate::verdict::DropReason;

/// Entries that may wait in each worker's ring: as a rule those of some hundredths of a second.
pub const RING: usize = 16_384;
/// Flows looked at together for those that last long.
const STRIDE: usize = 128;
/// Refusals for one reason are told at most this often.
const REFUSALS_APART: Duration = Duration::from_secs(1);

/// What happened to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was opened.
    Opened,
    /// It goes on.
    Lasts,
    /// It ended.
    Ended(EndReason),
    /// It was not opened. Of many refusals for one reason, one is told per second.
    Refused(DropReason),
}

/// One line of the journal.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// What happened.
    pub kind: Kind,
    /// When.
    pub at: Timestamp,
    /// The client's packets as they arrive.
    pub original: FlowKey,
    /// The server's packets as they arrive; of a flow that was refused, the same turned round.
    pub reply: FlowKey,
    /// The state of the flow, the last one if it ended.
    pub state: Option<State>,
    /// When it was opened.
    pub created: Timestamp,
    /// When its last packet passed.
    pub last_seen: Timestamp,
    /// Packets, by direction.
    pub packets: [u64; 2],
    /// Octets of IP packets, headers included, by direction.
    pub octets: [u64; 2],
    /// Its virtual server.
    pub virtual_server: VirtualServerId,
    /// The VLANs it is sent by: towards the server and towards the client.
    pub vlans: Option<[VlanIndex; 2]>,
}

impl Entry {
    /// What is known of a flow.
    pub fn of(flow: &FlowRef<'_, FlowData>, kind: Kind, at: Timestamp) -> Self {
        let both = [Direction::Original, Direction::Reply];
        let data = flow.data();
        Self {
            kind,
            at,
            original: flow.original(),
            reply: flow.reply(),
            state: Some(flow.state()),
            created: flow.created(),
            last_seen: flow.last_seen(),
            packets: both.map(|direction| flow.packets(direction)),
            octets: both.map(|direction| flow.bytes(direction)),
            virtual_server: data.virtual_server,
            vlans: Some([data.original.vlan(), data.reply.vlan()]),
        }
    }

    /// Whether the server sees other addresses or ports than the client does.
    pub fn is_translated(&self) -> bool {
        self.reply != self.original.inverted()
    }
}

/// What a worker and the exporter share.
#[derive(Debug)]
pub struct Journal {
    ring: ArrayQueue<Entry>,
    /// How often flows that last long are told of; zero for never.
    active_timeout: Duration,
    /// Entries that found the ring full.
    lost: Counter,
}

impl Journal {
    /// An empty one, all of whose memory is taken.
    pub fn new(active_timeout: Duration) -> Self {
        Self::with_room(RING, active_timeout)
    }

    /// One of so many entries.
    pub fn with_room(entries: usize, active_timeout: Duration) -> Self {
        Self {
            ring: ArrayQueue::new(entries),
            active_timeout,
            lost: Counter::default(),
        }
    }

    /// The oldest entry.
    pub fn pop(&self) -> Option<Entry> {
        self.ring.pop()
    }

    /// Whether more than half of the ring is taken.
    pub fn is_busy(&self) -> bool {
        self.ring.len() > self.ring.capacity() / 2
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Entries that were lost because nobody took them in time.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Memory of one, octets.
    pub const fn octets() -> usize {
        RING * (size_of::<Entry>() + size_of::<usize>())
    }
}

/// The worker's end of a journal.
#[derive(Debug)]
pub struct Scribe {
    journal: Arc<Journal>,
    now: Timestamp,
    /// How far the look at flows that last long has come, and when it goes on.
    cursor: Cursor,
    next: Timestamp,
    /// When this round began.
    round: Timestamp,
    /// When a refusal was told last, by its reason.
    refused: [Option<Timestamp>; DropReason::ALL.len()],
}

impl Scribe {
    /// Writes into `journal`.
    pub fn new(journal: Arc<Journal>) -> Self {
        Self {
            journal,
            now: Timestamp::ZERO,
            cursor: Cursor::default(),
            next: Timestamp::ZERO,
            round: Timestamp::ZERO,
            refused: [None; DropReason::ALL.len()],
        }
    }

    /// Says what time it is.
    #[inline]
    pub const fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Writes down what happened to a flow.
    #[cold]
    pub fn note(&self, flow: &FlowRef<'_, FlowData>, kind: Kind) {
        self.push(Entry::of(flow, kind, self.now));
    }

    /// Writes down that a flow was not opened, unless that was done within the last second.
    #[cold]
    pub fn refuse(&mut self, key: &FlowKey, virtual_server: VirtualServerId, reason: DropReason) {
        let Some(last) = self.refused.get_mut(reason.index()) else {
            return;
        };
        if last.is_some_and(|at| self.now.since(at) < REFUSALS_APART && self.now >= at) {
            return;
        }
        *last = Some(self.now);
        self.push(Entry {
            kind: Kind::Refused(reason),
            at: self.now,
            original: *key,
            reply: key.inverted(),
            state: None,
            created: self.now,
            last_seen: self.now,
            packets: [0; 2],
            octets: [0; 2],
            virtual_server,
            vlans: None,
        });
    }

    fn push(&self, entry: Entry) {
        if self.journal.ring.push(entry).is_err() {
            self.journal.lost.add(1);
        }
    }

    /// Looks at some more flows for those that last long. It gets round once in the active timeout,
    /// whatever the size of the table, if it is called when [`next_look`](Self::next_look) says.
    pub fn look(&mut self, flows: &Table<FlowData>, now: Timestamp) {
        let timeout = self.journal.active_timeout;
        if timeout.is_zero() || now < self.next {
            return;
        }
        self.now = now;
        let (some, next) = flows.iter_from(self.cursor, STRIDE);
        for (_, flow) in some {
            let is_old = now.since(flow.created()) >= timeout;
            // Who was silent since it was told of last has nothing to add.
            if is_old && now.since(flow.last_seen()) < timeout {
                self.note(&flow, Kind::Lasts);
            }
        }
        let pieces = flows.capacity().div_ceil(STRIDE).max(1);
        let pause = timeout / u32::try_from(pieces).unwrap_or(u32::MAX);
        self.next = now + pause;
        if next.is_none() {
            // Most of the table may never have been used: the round is over, but not its time.
            self.next = self.next.max(self.round + timeout);
            self.round = self.next;
        }
        self.cursor = next.unwrap_or_default();
    }

    /// When [`look`](Self::look) has something to do, if ever.
    pub fn next_look(&self, flows: &Table<FlowData>) -> Option<Timestamp> {
        let looks = !(self.journal.active_timeout.is_zero() || flows.is_empty());
        looks.then_some(self.next)
    }

    /// Writes down that all flows end, since the worker does; waits for the reader, but not for long.
    pub fn close(&self, flows: &Table<FlowData>, patience: Duration) {
        let until = Instant::now() + patience;
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            while self.journal.is_busy() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            let (some, next) = flows.iter_from(at, STRIDE);
            for (_, flow) in some {
                self.note(&flow, Kind::Ended(EndReason::Removed));
            }
            cursor = next;
        }
    }
}
