//! The probe, a broadcast that other stations make nothing of; and who asks for whom.

use std::hash::{DefaultHasher, Hash, Hasher};

use net::header::{Arp, ethertype, view};
use net::{Addr, Encap, IpProto, Layers, MacAddr, Network, Packet, PortId, Timestamp, emit};

use super::HOLDS;
use crate::event::Event;
use crate::frame::{ARP_REQUEST, Body, PROBE_MAGIC, SOLICITATION};
use crate::resolver::Emit;
use crate::table::Vlan;

/// The ethertype of probes: the first of two that IEEE 802 leaves to local experiments.
pub const PROBE_ETHERTYPE: u16 = 0x88b5;

/// How long the numbers hold before others take their place.
const EPOCH: u64 = HOLDS.as_secs();

/// The epoch of a time.
pub(super) const fn epoch(now: Timestamp) -> u64 {
    now.as_nanos() / 1_000_000_000 / EPOCH
}

/// What the numbers in the probes of a VLAN are made of, in an epoch. A number of another VLAN or of long
/// ago, which others may have heard, is none.
pub(super) fn key(seed: u64, encap: Encap, epoch: u64) -> u64 {
    hash((seed, "segment", encap, epoch))
}

/// The number in the probes of the port with the MAC address `ours`. Who hears some of them cannot
/// work out the others, nor the key.
pub(crate) fn nonce(key: u64, ours: MacAddr) -> u64 {
    hash((key, ours.0))
}

fn hash(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// The probe of a VLAN, for each of its ports.
pub(super) fn emit(vlan: &Vlan, seed: u64, now: Timestamp) -> Emit {
    let key = key(seed, vlan.encap, epoch(now));
    Emit::new(vlan, Body::Probe { key }, MacAddr::BROADCAST, None)
}

/// What a frame with the ethertype of a probe that came in at `port` tells; `None` if it is somebody
/// else's.
pub fn hear(packet: &Packet<'_>, layers: &Layers, vlan: &Vlan, port: PortId) -> Option<Event> {
    if vlan.macs.is_empty() || layers.network != Network::Other(PROBE_ETHERTYPE) {
        return None;
    }
    let frame = packet.data();
    let (from, _) = emit::macs(frame);
    let (magic, rest) = frame.get(layers.l3..)?.split_first_chunk::<4>()?;
    let nonce = u64::from_be_bytes(*rest.first_chunk()?);
    (*magic == PROBE_MAGIC && vlan.is_ours(from)).then_some(Event::Probed {
        vlan: vlan.index,
        at: port,
        from,
        nonce,
    })
}

/// Who asks for whom in an ARP request or a neighbour solicitation.
pub fn question(packet: &Packet<'_>, layers: &Layers) -> Option<(Addr, Addr)> {
    let frame = packet.data();
    match layers.network {
        Network::Arp => {
            let arp: &Arp = view(frame, layers.l3)?;
            let asks = arp.oper.get() == ARP_REQUEST && arp.ptype.get() == ethertype::IPV4;
            asks.then(|| (Addr::from_v4(arp.spa), Addr::from_v4(arp.tpa)))
        }
        Network::Ipv6
            if layers.key.proto == IpProto::ICMPV6 && layers.icmp_type == SOLICITATION =>
        {
            let target = frame.get(layers.l4 + 8..)?.first_chunk::<16>()?;
            Some((layers.key.src, Addr::from_v6(*target)))
        }
        _ => None,
    }
}
