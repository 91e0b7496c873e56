//! SCTP: what opens an association, and what is said to packets that have none.

use net::sctp::{self, Chunks, chunk};
use net::{Fragment, IpProto, Layers, Packet};

use super::{Arrival, State};
use crate::tables::Tables;
use crate::verdict::{Answer, DropReason, Verdict};

/// What is in an SCTP packet; of a first fragment, as far as it goes.
pub(super) fn chunks(packet: &Packet<'_>, layers: &Layers) -> Option<Chunks> {
    if layers.key.proto != IpProto::SCTP || layers.fragment == Fragment::Later {
        return None;
    }
    let segment = packet.data().get(layers.l4..layers.end)?;
    match layers.fragment {
        Fragment::Whole => Chunks::parse(segment).ok(),
        _ => Chunks::parse_first_fragment(segment).ok(),
    }
}

/// Whether a packet asks for a new association.
pub(super) fn opens(packet: &Packet<'_>, layers: &Layers) -> bool {
    chunks(packet, layers).is_some_and(|chunks| chunks.has(chunk::INIT))
}

impl State {
    /// Answers an SCTP packet that belongs to no association, so that its sender begins anew instead of
    /// waiting; not every one may be answered.
    pub(super) fn abort(
        &self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        answer: Answer,
    ) -> Verdict {
        let chunks = chunks(packet, layers);
        let refusal = chunks.and_then(|chunks| Some((chunks, sctp::refusal(&chunks)?)));
        let Some((chunks, refusal)) = refusal else {
            return Verdict::Drop(DropReason::SctpNoAssociation);
        };
        if sctp::refuse_in_place(packet, layers, &chunks, refusal).is_err() {
            return Verdict::Drop(DropReason::NoRoom);
        }
        self.answer_back(tables, arrival, packet, layers, answer)
    }
}
