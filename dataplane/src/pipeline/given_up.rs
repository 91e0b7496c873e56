//! Packets that waited for their next hop in vain: their senders are told, as RFC 4861 section 7.2.2 and RFC
//! 1812 section 5.2.7.1 want it. That goes for the first of a flow as well, for the flow stays with the member
//! it was opened to.

use conntrack::Direction;
use net::icmp::Error;
use net::{Layers, Packet, Rewrite, Timestamp};

use super::{Arrival, Pipeline, State};
use crate::tables::Tables;
use crate::verdict::{DropReason, Verdict, Whose};

impl Pipeline {
    /// Decides about a packet that waited in vain, in a frame that was ready but for the address of the next
    /// hop: it is dropped for `reason`, or becomes the error that tells its sender.
    #[cold]
    pub fn give_up(
        &mut self,
        now: Timestamp,
        packet: &mut Packet<'_>,
        whose: Option<Whose>,
        reason: DropReason,
    ) -> Verdict {
        let Self { tables, state, .. } = self;
        whose
            .filter(|_| reason == DropReason::NeighborUnreachable)
            .and_then(|whose| state.tell_given_up(tables, now, packet, whose))
            .unwrap_or(Verdict::Drop(reason))
    }
}

impl State {
    /// `None`: nobody is told.
    fn tell_given_up(
        &mut self,
        tables: &Tables,
        now: Timestamp,
        packet: &mut Packet<'_>,
        whose: Whose,
    ) -> Option<Verdict> {
        let (id, direction) = whose.flow;
        let flow = self.flows.get(id)?;
        let (data, key, to) = (
            *flow.data(),
            flow.key(direction),
            flow.translated(direction),
        );
        let sent = Layers::parse(packet).ok()?;
        // After very many others an identifier is a new flow's.
        if (sent.key.src, sent.key.dst) != (to.src, to.dst) {
            return None;
        }
        let layers = Layers {
            key,
            ttl: sent.ttl.saturating_add(1),
            ..sent
        };
        let (deltas, back) = match direction {
            Direction::Original => (data.deltas, data.reply),
            Direction::Reply => (data.deltas.inverted(), data.original),
        };
        Rewrite::with_deltas(to, deltas)
            .undo(packet, &layers)
            .ok()?;
        let arrival = Arrival {
            now,
            port: whose.came.1,
            vlan: tables.vlans.get(whose.came.0)?,
            source_mac: whose.from,
            hash: 0,
            // Its sender is told by the way that it came.
            round: back.is_round(),
        };
        let reason = DropReason::NeighborUnreachable;
        let error = Error::HostUnreachable;
        Some(self.icmp_error(tables, &arrival, packet, &layers, error, reason))
    }
}
