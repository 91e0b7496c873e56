//! ICMP errors of others about packets of a flow: matched by the packet that they quote, translated without and
//! within, and sent to whoever sent that packet (RFC 5508 section 4). They change nothing about the flow.

use conntrack::Direction;
use net::icmp::{Quote, QuoteError};
use net::{Fragment, Layers, Packet, RewriteError};

use super::{Arrival, State};
use crate::tables::Tables;
use crate::verdict::{DropReason, FlowStep, Verdict};

impl State {
    #[cold]
    pub(super) fn related(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
    ) -> Verdict {
        if layers.fragment != Fragment::Whole {
            return Verdict::Drop(DropReason::Fragment);
        }
        let quote = match Quote::find(packet, layers) {
            Ok(quote) => quote,
            Err(QuoteError::Malformed) => return Verdict::Drop(DropReason::IcmpInvalid),
            Err(QuoteError::Fragment | QuoteError::Icmp) => {
                return Verdict::Drop(DropReason::IcmpUnmatched);
            }
        };
        // It quotes a packet as it left here, and goes to where that seemed to come from.
        if layers.key.dst != quote.key.src {
            return Verdict::Drop(DropReason::IcmpInvalid);
        }
        let back = quote.key.inverted();
        let Some((id, direction)) = self.flows.lookup(&back) else {
            return self.of_no_flow(tables, arrival, &back);
        };
        if !self.still_stands(tables, id) {
            return Verdict::Drop(DropReason::FlowGone);
        }
        let Some(flow) = self.flows.get(id) else {
            return Verdict::Drop(DropReason::FlowGone);
        };
        let quoted = direction.opposite();
        // Whoever guesses the ports must guess what is in flight as well (RFC 5927 section 4.1).
        if quote
            .sequence
            .is_some_and(|seq| !flow.may_have_sent(quoted, seq))
        {
            return Verdict::Drop(DropReason::IcmpInvalid);
        }
        let (as_sent, to) = (flow.key(quoted), flow.translated(direction));
        // A router on the way speaks for itself; the flow's other end as the flow has it.
        let source = if layers.key.src == back.src {
            to.src
        } else {
            layers.key.src
        };
        let leg = match direction {
            Direction::Original => flow.data().original,
            Direction::Reply => flow.data().reply,
        };
        let translated = quote.translate(packet, layers, &as_sent, (&source, &to.dst));
        if let Err(error) = translated {
            return Verdict::Drop(match error {
                RewriteError::TtlExceeded => DropReason::TtlExceeded,
                _ => DropReason::IcmpInvalid,
            });
        }
        let step = FlowStep::Related;
        let (verdict, found) = self.send(tables, packet, layers, leg, &to.into(), step);
        if found != leg
            && let Some(flow) = self.flows.get_mut(id)
        {
            let data = flow.data_mut();
            match direction {
                Direction::Original => data.original = found,
                Direction::Reply => data.reply = found,
            }
            data.stamp_with(tables);
        }
        verdict
    }

    /// An error about a packet whose answers would have the key `back`, of no flow of this worker.
    fn of_no_flow(&self, tables: &Tables, arrival: &Arrival<'_>, back: &net::FlowKey) -> Verdict {
        let vlan = arrival.vlan.index;
        let owner = tables.owned.get(vlan, &back.dst);
        let listening = Self::listening(tables, arrival, back, owner);
        self.elsewhere(tables, arrival, back, owner, listening)
            .map_or(Verdict::Drop(DropReason::IcmpUnmatched), Verdict::Handoff)
    }
}
