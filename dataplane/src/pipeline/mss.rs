//! The MSS of connections lowered to what a VLAN's MTU holds, where the VLAN asks for it (`mss_clamp`).

use net::header::tcp_flags::SYN;
use net::{Layers, Network, Packet, VlanIndex};

use crate::tables::Tables;

/// IP and TCP header without options (RFC 9293 section 3.7.1, RFC 6691).
const HEADERS_V4: usize = 40;
const HEADERS_V6: usize = 60;

/// Lowers the MSS that a SYN or SYN-ACK announces, so that segments both ways fit the MTUs of those of
/// its two VLANs that ask for it.
#[inline]
pub(super) fn clamp(
    tables: &Tables,
    vlans: [VlanIndex; 2],
    packet: &mut Packet<'_>,
    layers: &Layers,
) {
    if tables.clamps_mss && layers.tcp_flags & SYN != 0 {
        clamp_syn(tables, vlans, packet, layers);
    }
}

#[cold]
fn clamp_syn(tables: &Tables, vlans: [VlanIndex; 2], packet: &mut Packet<'_>, layers: &Layers) {
    let headers = match layers.network {
        Network::Ipv4 => HEADERS_V4,
        Network::Ipv6 => HEADERS_V6,
        Network::Arp | Network::Other(_) => return,
    };
    let asked = vlans.into_iter().filter_map(|vlan| tables.vlans.get(vlan));
    let mtu = asked
        .filter(|vlan| vlan.mss_clamp)
        .map(|vlan| usize::from(vlan.mtu))
        .min();
    if let Some(limit) = mtu.and_then(|mtu| u16::try_from(mtu.saturating_sub(headers)).ok()) {
        net::tcp_options::clamp_mss(packet, layers, limit);
    }
}
