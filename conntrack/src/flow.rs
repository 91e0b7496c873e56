//! One entry of the table.

use std::ops::Deref;

use crate::sctp::Association;
use crate::shared::Shared;
use crate::state::{Invalid, Observed, Segment, State};
use crate::tcp::{Connection, Step, TcpSegment};
use crate::timeouts::{Timeouts, TimeoutsId};
use crate::traffic::Traffic;
use net::tuple::{swap_ports, swap_v4};
use net::{FlowKey, IpProto, Timestamp, Tuple};

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
/// one, even when the slot is used again, until 2^16 flows have used that one slot. The slot given back last is
/// used next, so a flood of flows that end at once may do that within a second: an identifier is for the
/// moment, and whoever keeps one for seconds (fragments, packets that wait for a neighbour) compares addresses as
/// well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowId {
    pub(crate) slot: u32,
    pub(crate) generation: u16,
}

/// Set in both values of IPv6, alive and ended.
const V6_BIT: u8 = 2;

/// Which family a flow is of, and whether it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Family {
    V4 = 4,
    V6 = 6,
    /// As [`V4`](Self::V4), but the flow has ended.
    EndedV4 = 5,
    /// As [`V6`](Self::V6), but the flow has ended.
    EndedV6 = 7,
}

/// A flow: what every packet of it reads or writes. With 32 octets of caller's data it takes two cache
/// lines next to each other, which memory delivers nearly as fast as one.
///
/// What hardly any packet needs is kept apart, and joined by [`FlowRef`].
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Flow<D> {
    /// IPv4 addresses of packets as they arrive, by direction; of IPv6 the client's, see [`Shared`].
    addrs: [u64; 2],
    ports: [u32; 2],
    proto: IpProto,
    family: Family,
    state: State,
    /// The other addresses of IPv6: a number of 24 bits.
    shared_high: u8,
    shared_low: u16,
    pub(crate) generation: u16,
    data: D,
    last_seen: Timestamp,
    traffic: [Traffic; 2],
    tcp: Connection,
}

/// What hardly any packet needs.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Cold {
    /// When the flow was inserted: 48 bits of microseconds (of 1,024 ns).
    created: [u16; 3],
    /// Which of the table's timeouts are its.
    pub(crate) timeouts: TimeoutsId,
    /// See [`Connection::observe`]; of a flow in DATAGRAMS, what tells it from others with its tuple.
    pub(crate) renewed: u32,
}

impl Cold {
    #[expect(clippy::cast_possible_truncation, reason = "48 bits, taken apart")]
    pub(crate) const fn new(now: Timestamp, timeouts: TimeoutsId) -> Self {
        let micros = now.as_nanos() >> 10;
        Self {
            created: [micros as u16, (micros >> 16) as u16, (micros >> 32) as u16],
            timeouts,
            renewed: 0,
        }
    }

    /// The last time with these 48 bits, which repeat after nine years, that is not a hundred days
    /// behind `later`: so far the clock may have gone back since.
    const fn created(&self, later: Timestamp) -> Timestamp {
        const BACK: u64 = 1 << 43;
        let [a, b, c] = self.created;
        let low = a as u64 | (b as u64) << 16 | (c as u64) << 32;
        let later = (later.as_nanos() >> 10) + BACK;
        let passed = later.wrapping_sub(low) & ((1 << 48) - 1);
        Timestamp::from_nanos(later.saturating_sub(passed) << 10)
    }
}

impl<D: Copy> Flow<D> {
    /// A flow with these tuples, which are of one family; `shared` names the addresses of IPv6.
    pub(crate) fn new(
        original: &Tuple,
        reply: &Tuple,
        shared: u32,
        data: D,
        generation: u16,
        now: Timestamp,
    ) -> Self {
        let (family, addrs) = match (original, reply) {
            (Tuple::V4 { addrs: a, .. }, Tuple::V4 { addrs: b, .. }) => (Family::V4, [*a, *b]),
            (Tuple::V6 { addrs: a, .. }, _) | (_, Tuple::V6 { addrs: a, .. }) => {
                (Family::V6, [a[0], a[1]])
            }
        };
        let [_, high, low @ ..] = shared.to_be_bytes();
        Self {
            addrs,
            ports: [original.ports(), reply.ports()],
            proto: original.proto(),
            family,
            state: State::initial(original.proto()),
            shared_high: high,
            shared_low: u16::from_be_bytes(low),
            generation,
            data,
            last_seen: now,
            traffic: [Traffic::default(); 2],
            tcp: Connection::default(),
        }
    }

    /// Which addresses of IPv6 it has besides the client's.
    #[inline]
    pub(crate) const fn shared(&self) -> u32 {
        (self.shared_high as u32) << 16 | self.shared_low as u32
    }

    /// No packet is this flow's any more, nor does its identifier name it.
    pub(crate) fn end(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.family = if self.is_v6() {
            Family::EndedV6
        } else {
            Family::EndedV4
        };
    }

    /// The state.
    #[inline]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The protocol.
    #[inline]
    pub const fn proto(&self) -> IpProto {
        self.proto
    }

    /// Whether the flow's addresses are IPv6.
    #[inline]
    pub const fn is_v6(&self) -> bool {
        self.family as u8 & V6_BIT != 0
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

    /// When the last packet passed that counts as a sign of life; strays of a connection that is
    /// over do not.
    #[inline]
    pub const fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    /// Packets accepted in `direction`.
    #[inline]
    pub const fn packets(&self, direction: Direction) -> u64 {
        self.traffic[direction as usize].packets()
    }

    /// Octets accepted in `direction`, as counted by [`Segment::bytes`].
    #[inline]
    pub const fn bytes(&self, direction: Direction) -> u64 {
        self.traffic[direction as usize].bytes()
    }

    /// Whether IPv4 packets with these addresses, ports and protocol are this flow's, in `direction`.
    #[inline]
    pub(crate) fn is_v4(&self, direction: Direction, addrs: u64, ports: u32, proto: u8) -> bool {
        let at = direction as usize;
        self.addrs[at] == addrs
            && self.ports[at] == ports
            && self.proto.0 == proto
            && self.family == Family::V4
    }

    /// As [`is_v4`](Self::is_v4), for IPv6 but for the addresses.
    #[inline]
    pub(crate) fn may_be_v6(&self, direction: Direction, ports: u32, proto: u8) -> bool {
        self.ports[direction as usize] == ports
            && self.proto.0 == proto
            && self.family == Family::V6
    }

    /// IPv6 addresses of packets in `direction`, as they arrive.
    #[inline]
    pub(crate) const fn addrs_v6(&self, direction: Direction, shared: &Shared) -> [u64; 4] {
        shared.tuple(self.addrs, direction)
    }

    /// IPv4 addresses that packets in `direction` leave with, in wire order.
    #[inline]
    pub const fn translated_v4(&self, direction: Direction) -> u64 {
        swap_v4(self.addrs[direction.opposite() as usize])
    }

    /// Ports that packets in `direction` leave with, in wire order.
    #[inline]
    pub const fn translated_ports(&self, direction: Direction) -> u32 {
        swap_ports(self.ports[direction.opposite() as usize])
    }

    pub(crate) fn tuple(&self, direction: Direction, shared: &Shared) -> Tuple {
        let at = direction as usize;
        let (ports, proto) = (self.ports[at], self.proto);
        if self.is_v6() {
            let addrs = self.addrs_v6(direction, shared);
            Tuple::V6 {
                addrs,
                ports,
                proto,
            }
        } else {
            let addrs = self.addrs[at];
            Tuple::V4 {
                addrs,
                ports,
                proto,
            }
        }
    }

    /// Whether a packet changes nothing but what is known of the transfer, as nearly all do: of
    /// a TCP connection that is open both ways or one way a segment that moves data or acknowledges it, of another
    /// flow any but its first reply. If so, [`pass`](Self::pass) is to follow; if not,
    /// [`Table::observe`](crate::Table::observe) is to be asked.
    #[inline(always)]
    pub const fn passes(&self, direction: Direction, tcp: Option<&TcpSegment>) -> bool {
        match (self.state, tcp) {
            (State::Established, Some(tcp)) => self.tcp.transfers(direction, tcp),
            (State::CloseWait, Some(tcp)) => self.tcp.transfers_half_closed(direction, tcp),
            (State::Replied, None) => true,
            (State::Unreplied, None) => matches!(direction, Direction::Original),
            _ => false,
        }
    }

    /// Counts a packet that [`passes`](Self::passes).
    #[inline(always)]
    pub fn pass(
        &mut self,
        direction: Direction,
        tcp: Option<&TcpSegment>,
        bytes: u32,
        now: Timestamp,
    ) {
        if let Some(tcp) = tcp {
            self.tcp.transferred(direction, tcp);
        }
        self.last_seen = now;
        self.traffic[direction as usize].count(bytes);
    }

    /// Whether a TCP segment that began at `seq` can have been sent in `direction` and not been acknowledged
    /// yet; see RFC 5927 section 4.1.
    pub const fn may_have_sent(&self, direction: Direction, seq: u32) -> bool {
        self.tcp.may_have_sent(direction, seq)
    }

    /// Counts a packet that says nothing of the flow's state: a later fragment. `end`: for TCP, the sequence
    /// number behind the data in it, which the other side may acknowledge from now on.
    pub fn carried(&mut self, direction: Direction, end: Option<u32>, bytes: u32) {
        if let Some(end) = end.filter(|_| self.proto == IpProto::TCP) {
            self.tcp.sent_as_far_as(direction, end);
        }
        self.traffic[direction as usize].count(bytes);
    }

    /// See [`Table::enter_beside`](crate::Table::enter_beside).
    pub(crate) const fn set_beside(&mut self) {
        self.state = State::Datagrams;
    }

    /// Something in the second cache line, to be asked for ahead of time.
    #[inline]
    pub(crate) const fn second_line(&self) -> &Timestamp {
        &self.last_seen
    }

    /// Starts the silence anew after the clock went back behind the last packet.
    pub(crate) fn rebase(&mut self, now: Timestamp) {
        self.last_seen = self.last_seen.min(now);
    }

    /// What [`Table::pick_up`](crate::Table::pick_up) does to the entry itself.
    pub(crate) const fn pick_up(&mut self, segment: &TcpSegment) {
        self.tcp.pick_up(segment);
    }

    /// Sequence and acknowledgement number of a RST that ends this TCP connection for the receiver of packets
    /// in `direction`: exactly what it expects next (RFC 5961 section 3.2), by its own account, and what
    /// it has sent itself. `None` for other protocols.
    pub fn farewell(&self, direction: Direction) -> Option<(u32, u32)> {
        (self.proto == IpProto::TCP).then(|| self.tcp.farewell(direction))
    }

    /// What [`Table::observe`](crate::Table::observe) does to the entry itself.
    pub(crate) fn observe(
        &mut self,
        direction: Direction,
        segment: &Segment,
        now: Timestamp,
        renewed: &mut u32,
    ) -> Observed {
        let step = match &segment.tcp {
            Some(tcp) if self.proto == IpProto::TCP => {
                self.tcp.observe(self.state, direction, tcp, renewed)
            }
            _ if self.proto == IpProto::TCP => Step::Invalid(Invalid::Flags),
            _ if self.proto == IpProto::SCTP => {
                let Some(chunks) = &segment.sctp else {
                    return Observed::Invalid(Invalid::NotOpen);
                };
                let mut association = Association::load(&self.tcp);
                let step = association.observe(self.state, direction, chunks);
                association.store(&mut self.tcp);
                step
            }
            _ if self.state == State::Datagrams => Step::Live(self.state),
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
        self.traffic[direction as usize].count(segment.bytes);
        if let Some(state) = new_state {
            self.state = state;
        }
        Observed::Accept { new_state }
    }
}

/// A flow with all that the table knows of it.
#[derive(Debug, Clone, Copy)]
pub struct FlowRef<'t, D> {
    pub(crate) flow: &'t Flow<D>,
    pub(crate) shared: &'t Shared,
    pub(crate) cold: &'t Cold,
    pub(crate) timeouts: &'t Timeouts,
}

impl<D> Deref for FlowRef<'_, D> {
    type Target = Flow<D>;

    fn deref(&self) -> &Flow<D> {
        self.flow
    }
}

impl<D: Copy> FlowRef<'_, D> {
    /// The key of packets in the original direction, as they arrive.
    pub fn original(&self) -> FlowKey {
        self.key(Direction::Original)
    }

    /// The key of packets in the reply direction, as they arrive.
    pub fn reply(&self) -> FlowKey {
        self.key(Direction::Reply)
    }

    /// The key of packets in `direction`, as they arrive.
    pub fn key(&self, direction: Direction) -> FlowKey {
        self.flow.tuple(direction, self.shared).into()
    }

    /// The key that packets in `direction` leave with.
    pub fn translated(&self, direction: Direction) -> FlowKey {
        self.key(direction.opposite()).inverted()
    }

    /// Whether packets leave with another key than they arrive with.
    pub fn is_translated(&self) -> bool {
        self.translated(Direction::Original) != self.original()
    }

    /// When the flow was inserted, to a microsecond.
    pub fn created(&self) -> Timestamp {
        self.cold.created(self.flow.last_seen)
    }

    /// The timeouts the flow was inserted with.
    pub fn timeouts(&self) -> &Timeouts {
        self.timeouts
    }

    /// When the flow ends if it stays silent.
    pub fn deadline(&self) -> Timestamp {
        self.flow.last_seen + self.timeouts.of(self.flow.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_with_the_usual_data_is_two_cache_lines() {
        assert_eq!(size_of::<Flow<[u32; 8]>>(), 128);
        assert_eq!(size_of::<Cold>(), 12);
    }

    #[test]
    fn the_time_of_birth_is_known_to_a_microsecond_after_years() {
        for (birth, later) in [
            (0, 0),
            (1, 5),
            (1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
            (1_700_000_000_123_456_789, 1_860_000_000_000_000_000),
            (300_000_000_000_000_000, 310_000_000_000_000_000),
            // The clock went back.
            (5_000_000_000, 4_000_000_000),
            (1_700_000_000_123_456_789, 1_699_990_000_000_000_000),
        ] {
            let cold = Cold::new(Timestamp::from_nanos(birth), TimeoutsId::TCP);
            let told = cold.created(Timestamp::from_nanos(later)).as_nanos();
            assert!(told <= birth && birth - told < 1024, "{birth} {told}");
        }
    }
}
