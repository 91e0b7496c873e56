//! Hairpin: a client sends to the address and port that another client, or it itself, is translated to (RFC 4787
//! REQ-9, RFC 5382 REQ-8, RFC 5508 REQ-7).
//!
//! Nothing is special about it but the turn. What the client sends is translated as if its destination were anybody's,
//! and is then taken again as if it had come in from outside by the VLAN that it would have left by: from the
//! translated address and port of its sender, which filtering is asked about as about everybody's. So one
//! conversation has two flows, one for each client, each on the worker that the client's port belongs to:
//!
//! ```text
//! A > P:b ─▶ flow of A: P:a > P:b ─▶ round ─▶ flow of B: P:a > B ─▶ sent
//! A ◀ P:b ◀─ flow of A: P:b > P:a ◀─ round ◀─ flow of B: B > P:a ◀─ what B answers
//! ```
//!
//! A packet takes a hop off for either flow, and comes round once; what is said about it by ICMP may come round again.

use lb::{Snat, VirtualServer};
use net::{Encap, FlowKey, IpProto, Layers, Packet, PortId, Timestamp};
use vlan::Owner;

use super::{Arrival, State};
use crate::tables::Tables;
use crate::verdict::{DropReason, FlowStep, Round, Verdict};

/// The lowest port that clients' ports are translated to.
const FIRST_PORT: u16 = 1024;

/// Whether a packet that `egress` would take if it were not for an address of ours may be meant for a client
/// that is translated to that address. `owner`: whose the address is on the VLAN that the packet came in by.
pub(super) fn may_be_for_a_client(
    tables: &Tables,
    egress: &VirtualServer,
    key: &FlowKey,
    owner: Option<Owner>,
) -> bool {
    let servers = &tables.virtual_servers;
    let has_ports = matches!(key.proto, IpProto::TCP | IpProto::UDP);
    egress.profile.routed
        && egress.snat != Snat::None
        && has_ports
        && key.dport().0 >= FIRST_PORT
        // What its own VLAN calls by that address are we.
        && owner != Some(Owner::SelfIp)
        // Services of ours are for the VLANs that they listen on.
        && !servers
            .lookup_silent(key.proto, &key.dst, key.dport())
            .is_some_and(|server| server.destination.is_host())
}

impl State {
    /// Decides about a packet that came round.
    #[cold]
    pub(super) fn come_round(
        &mut self,
        tables: &Tables,
        (now, port): (Timestamp, PortId),
        round: Round,
        packet: &mut Packet<'_>,
        layers: &Layers,
        hash: u64,
    ) -> Verdict {
        let Some(vlan) = tables.vlans.get(round.vlan) else {
            return Verdict::Drop(DropReason::UnknownVlan);
        };
        if !layers.is_ip() {
            return Verdict::Drop(DropReason::UnknownEthertype);
        }
        let arrival = Arrival {
            now,
            port,
            vlan,
            source_mac: vlan.mac,
            hash,
            round: true,
        };
        self.decide_ip(tables, &arrival, packet, layers, hash)
    }
}

/// Sends an answer round to whoever sent what came round. It counts as sent when it leaves.
pub(super) fn back(
    arrival: &Arrival<'_>,
    packet: &mut Packet<'_>,
    (kind, l3): (u16, usize),
) -> Verdict {
    let (vlan, ours) = (arrival.vlan.index, arrival.vlan.mac);
    match packet.set_ethernet(l3, ours, ours, Encap::UNTAGGED, kind, false) {
        Ok(_) => Verdict::Hairpin(vlan, FlowStep::Related),
        Err(_) => Verdict::Drop(DropReason::NoRoom),
    }
}
