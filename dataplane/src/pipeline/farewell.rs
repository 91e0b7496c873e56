//! Resets to both ends of a connection that was silent for too long, where its virtual server asks for
//! it (`resetOnTimeout`): both learn now what they would learn with the next segment they send, which
//! may be never.
//!
//! Flows end a few at a time, so a few resets are made per turn, whatever the number of flows that are due
//! together. Flows that end to make room in a full table may be more; what does not fit here is counted
//! as `no_buffer`, as any frame of our own that there was no room for.

use std::collections::VecDeque;

use arrayvec::ArrayVec;
use conntrack::{Direction, EndReason, FlowRef, State as FlowState};
use net::{FlowKey, Layers, MacAddr, Packet};

use super::{FlowData, Leg, Pipeline, State};
use crate::counters::WorkerCounters;
use crate::tables::Tables;
use crate::verdict::{DropReason, FlowStep, Verdict};

/// Resets that wait to be sent, at most: 64 KiB.
const WAITING: usize = 1024;

/// A reset to one end of a connection that is over.
#[derive(Debug, Clone, Copy)]
pub struct Farewell {
    /// As it leaves: from the end that the receiver speaks to.
    key: FlowKey,
    seq: u32,
    ack: u32,
    leg: Leg,
    direction: Direction,
}

impl Farewell {
    /// The frame: an IP packet behind room for an Ethernet header.
    pub fn octets(&self) -> ArrayVec<u8, 96> {
        let packet = net::emit::reset(&self.key, self.seq, self.ack);
        let kind = if self.key.src.is_v4() { 0x0800 } else { 0x86dd };
        let mut octets = ArrayVec::new();
        // A source that is a station's, for the judge of form.
        let header = net::emit::untagged_header(MacAddr::ZERO, MacAddr([2, 0, 0, 0, 0, 1]), kind);
        let _ = octets.try_extend_from_slice(&header);
        let _ = octets.try_extend_from_slice(packet.as_slice());
        octets
    }
}

/// Resets that wait to be sent; never grows.
pub(super) struct Farewells(VecDeque<Farewell>);

impl Farewells {
    pub(super) fn new() -> Self {
        Self(VecDeque::with_capacity(WAITING))
    }

    /// Takes note of a flow that ended.
    pub(super) fn note(
        &mut self,
        tables: &Tables,
        counters: &WorkerCounters,
        flow: &FlowRef<'_, FlowData>,
        reason: EndReason,
    ) {
        let data = flow.data();
        let open = matches!(
            flow.state(),
            FlowState::Established | FlowState::FinWait | FlowState::CloseWait
        );
        if reason != EndReason::Idle || !open {
            return;
        }
        let server = tables.virtual_servers.get(data.virtual_server);
        if !server.is_some_and(|server| server.profile.tcp.reset_on_timeout) {
            return;
        }
        let both = [
            (Direction::Reply, data.reply),
            (Direction::Original, data.original),
        ];
        for (direction, leg) in both {
            let Some((seq, ack)) = flow.farewell(direction) else {
                return;
            };
            if self.0.len() == WAITING {
                counters.count_drop(DropReason::NoBuffer);
                continue;
            }
            self.0.push_back(Farewell {
                key: flow.translated(direction),
                seq,
                ack,
                leg,
                direction,
            });
        }
    }
}

impl Pipeline {
    /// The next reset to be sent to an end of a connection that was silent for too long.
    pub fn next_farewell(&mut self) -> Option<Farewell> {
        self.state.farewells.0.pop_front()
    }

    /// Whether resets wait to be sent.
    pub fn has_farewells(&self) -> bool {
        !self.state.farewells.0.is_empty()
    }

    /// Addresses a reset, whose octets `packet` holds.
    pub fn send_farewell(&mut self, farewell: &Farewell, packet: &mut Packet<'_>) -> Verdict {
        let Self { tables, state, .. } = self;
        let layers = match Layers::parse(packet) {
            Ok(layers) => layers,
            Err(error) => return Verdict::Drop(error.into()),
        };
        state.address_farewell(tables, farewell, packet, &layers)
    }
}

impl State {
    fn address_farewell(
        &mut self,
        tables: &Tables,
        farewell: &Farewell,
        packet: &mut Packet<'_>,
        layers: &Layers,
    ) -> Verdict {
        let step = match farewell.direction {
            Direction::Original => FlowStep::Original,
            Direction::Reply => FlowStep::Reply,
        };
        let to = farewell.key.into();
        self.send(tables, packet, layers, farewell.leg, &to, step).0
    }
}
