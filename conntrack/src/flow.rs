//! One entry of the table.

use net::{FlowKey, IpProto, Timestamp};

use crate::event::EndReason;
use crate::state::{Invalid, Observed, Segment, State};
use crate::tcp::{Connection, Step};
use crate::timeouts::Timeouts;

/// Which way a packet of a flow goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// As the packet that began the flow: from the client.
    Original = 0,
    /// The other way: from the server.
    Reply = 1,
}

impl Direction {
    /// The other way.
    #[inline]
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// Names a flow for as long as it lives. The identifier of a flow that ended never names another
/// one, even when the slot is used again (until 2^32 flows have used that one slot).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// A flow: both tuples, what was seen of it, and the caller's data.
#[derive(Debug, Clone, Copy)]
#[repr(C)] // what a lookup compares first, then what every packet writes, then the rest
pub struct Flow<D> {
    original: FlowKey,
    reply: FlowKey,
    last_seen: Timestamp,
    packets: [u64; 2],
    bytes: [u64; 2],
    tcp: Connection,
    state: State,
    /// `None` while the flow is alive.
    pub(crate) ended: Option<EndReason>,
    pub(crate) generation: u32,
    data: D,
    timeouts: Timeouts,
    created: Timestamp,
}

impl<D: Copy> Flow<D> {
    pub(crate) fn new(
        original: FlowKey,
        reply: FlowKey,
        timeouts: Timeouts,
        data: D,
        generation: u32,
        now: Timestamp,
    ) -> Self {
        Self {
            original,
            reply,
            last_seen: now,
            packets: [0; 2],
            bytes: [0; 2],
            tcp: Connection::default(),
            state: State::initial(original.proto),
            ended: None,
            generation,
            data,
            timeouts,
            created: now,
        }
    }

    /// The key of packets in the original direction, as they arrive.
    #[inline]
    pub const fn original(&self) -> &FlowKey {
        &self.original
    }

    /// The key of packets in the reply direction, as they arrive.
    #[inline]
    pub const fn reply(&self) -> &FlowKey {
        &self.reply
    }

    /// The key of packets in `direction`, as they arrive.
    #[inline]
    pub const fn key(&self, direction: Direction) -> &FlowKey {
        match direction {
            Direction::Original => &self.original,
            Direction::Reply => &self.reply,
        }
    }

    /// The key that packets in `direction` leave with.
    #[inline]
    pub const fn translated(&self, direction: Direction) -> FlowKey {
        self.key(direction.opposite()).inverted()
    }

    /// Whether packets leave with another key than they arrive with.
    pub fn is_translated(&self) -> bool {
        self.translated(Direction::Original) != self.original
    }

    /// The state.
    #[inline]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The caller's data.
    #[inline]
    pub const fn data(&self) -> &D {
        &self.data
    }

    /// The caller's data, to change it.
    #[inline]
    pub const fn data_mut(&mut self) -> &mut D {
        &mut self.data
    }

    /// When the flow was inserted.
    #[inline]
    pub const fn created(&self) -> Timestamp {
        self.created
    }

    /// When the last packet passed that counts as a sign of life; strays of a connection that is
    /// over do not.
    #[inline]
    pub const fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    /// Packets accepted in `direction`.
    #[inline]
    pub const fn packets(&self, direction: Direction) -> u64 {
        self.packets[direction as usize]
    }

    /// Octets accepted in `direction`, as counted by [`Segment::bytes`].
    #[inline]
    pub const fn bytes(&self, direction: Direction) -> u64 {
        self.bytes[direction as usize]
    }

    /// The timeouts the flow was inserted with.
    #[inline]
    pub const fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// When the flow ends if it stays silent.
    #[inline]
    pub fn deadline(&self) -> Timestamp {
        self.last_seen + self.timeouts.of(self.state)
    }

    /// Starts the silence anew after the clock went back behind the last packet.
    pub(crate) fn rebase(&mut self, now: Timestamp) {
        self.last_seen = self.last_seen.min(now);
    }

    /// What [`Table::observe`](crate::Table::observe) does to the entry itself.
    #[inline]
    pub(crate) fn observe(
        &mut self,
        direction: Direction,
        segment: &Segment,
        now: Timestamp,
    ) -> Observed {
        let step = match &segment.tcp {
            Some(tcp) if self.original.proto == IpProto::TCP => {
                self.tcp.observe(self.state, direction, tcp)
            }
            _ if self.original.proto == IpProto::TCP => Step::Invalid(Invalid::Flags),
            _ => match direction {
                Direction::Original => Step::Live(self.state),
                Direction::Reply => Step::Live(State::Replied),
            },
        };
        let new_state = match step {
            Step::Live(state) => {
                self.last_seen = now;
                (state != self.state).then_some(state)
            }
            Step::Pass => None,
            Step::Reopen => return Observed::Reopen,
            Step::Invalid(reason) => return Observed::Invalid(reason),
        };
        let at = direction as usize;
        self.packets[at] += 1;
        self.bytes[at] += u64::from(segment.bytes);
        if let Some(state) = new_state {
            self.state = state;
        }
        Observed::Accept { new_state }
    }
}
