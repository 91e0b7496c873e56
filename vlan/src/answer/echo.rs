//! Echo requests (RFC 792, RFC 4443 section 4.1) to addresses we own.

use net::header::{Ethernet, Ipv4, Ipv6, view, view_mut};
use net::{Encap, Fragment, IpProto, Layers, MacAddr, Network, Packet, emit};

use super::{Ignored, Outcome};
use crate::frame::pad;
use crate::owned::Owned;
use crate::table::{Vlan, is_unicast};

/// Answers an echo request, whole, to an address we own. The reply goes back to the station that
/// the request came from, from our MAC address `ours`, without the IP options and extension headers of the request.
///
/// Not answered: what came as a broadcast (RFC 1122 section 3.2.2.6), from no single station's
/// address, or with a routing header that has hops left (RFC 5095).
pub fn handle_echo(
    packet: &mut Packet<'_>,
    layers: &Layers,
    vlan: &Vlan,
    ours: MacAddr,
    owned: &Owned,
) -> Outcome {
    let request = matches!(
        (layers.network, layers.key.proto, layers.icmp_type),
        (Network::Ipv4, IpProto::ICMP, 8) | (Network::Ipv6, IpProto::ICMPV6, 128)
    );
    if !request || layers.fragment == Fragment::Later {
        return Outcome::Ignore(Ignored::OtherKind);
    }
    if owned.get(vlan.index, &layers.key.dst).is_none() {
        return Outcome::Ignore(Ignored::NotOurs);
    }
    if layers.fragment == Fragment::First {
        return Outcome::Ignore(Ignored::Fragment);
    }
    let frame = packet.data();
    let station = match asker(frame, layers, vlan, owned) {
        Ok(station) => station,
        Err(ignored) => return Outcome::Ignore(ignored),
    };
    if frame.get(layers.l4 + 1) != Some(&0) || has_hops_left(frame, layers) {
        return Outcome::Ignore(Ignored::Malformed);
    }
    reply(packet, layers, station, ours, vlan.encap)
        .map_or(Outcome::Ignore(Ignored::NoRoom), |()| Outcome::Reply)
}

/// The station that asks, if it may be answered: one host, and none of ours.
fn asker(frame: &[u8], layers: &Layers, vlan: &Vlan, owned: &Owned) -> Result<MacAddr, Ignored> {
    let eth = view::<Ethernet>(frame, 0).ok_or(Ignored::Malformed)?;
    let (station, src) = (MacAddr(eth.src), layers.key.src);
    if !is_unicast(src.ip()) || MacAddr(eth.dst).is_group() {
        return Err(Ignored::BadSource);
    }
    if vlan.is_ours(station) || owned.get(vlan.index, &src).is_some() {
        return Err(Ignored::Own);
    }
    Ok(station)
}

/// Answers one fragment of an echo request to an address we own, by itself: the first becomes the first
/// of the reply, a later one, which the caller knows to belong to one that was answered, a later one. What
/// the sender puts together is the reply to what it sent, so nothing has to be put together here. The
/// checksum of the whole is not known to be right, but is right in the reply if it was in the request.
///
/// Not answered: what [`handle_echo`] does not answer, and IPv6 with other extension headers than
/// the fragment header.
pub fn handle_echo_fragment(
    packet: &mut Packet<'_>,
    layers: &Layers,
    vlan: &Vlan,
    ours: MacAddr,
    owned: &Owned,
) -> Outcome {
    if owned.get(vlan.index, &layers.key.dst).is_none() {
        return Outcome::Ignore(Ignored::NotOurs);
    }
    let frame = packet.data();
    let station = match asker(frame, layers, vlan, owned) {
        Ok(station) => station,
        Err(ignored) => return Outcome::Ignore(ignored),
    };
    let first = layers.fragment == Fragment::First;
    let other_headers = layers.network == Network::Ipv6 && layers.l4 - layers.l3 != 48;
    if other_headers || (first && frame.get(layers.l4 + 1) != Some(&0)) {
        return Outcome::Ignore(Ignored::Malformed);
    }
    reply_to_fragment(packet, layers, station, ours, vlan.encap)
        .map_or(Outcome::Ignore(Ignored::NoRoom), |()| Outcome::Reply)
}

fn reply_to_fragment(
    packet: &mut Packet<'_>,
    layers: &Layers,
    to: MacAddr,
    ours: MacAddr,
    encap: Encap,
) -> Option<()> {
    packet.set_len(layers.end).ok()?;
    let bare = if layers.network == Network::Ipv4 {
        without_options(packet, layers)?
    } else {
        *layers
    };
    emit::echo_fragment_in_place(packet, &bare).ok()?;
    let kind = emit::ethertype_of(bare.network);
    packet
        .set_ethernet(bare.l3, to, ours, encap, kind, false)
        .ok()?;
    pad(packet);
    Some(())
}

fn reply(
    packet: &mut Packet<'_>,
    layers: &Layers,
    to: MacAddr,
    ours: MacAddr,
    encap: Encap,
) -> Option<()> {
    packet.set_len(layers.end).ok()?;
    let bare = without_options(packet, layers)?;
    emit::echo_reply_in_place(packet, &bare).ok()?;
    let kind = emit::ethertype_of(bare.network);
    packet
        .set_ethernet(bare.l3, to, ours, encap, kind, false)
        .ok()?;
    pad(packet);
    Some(())
}

/// Moves the IP header up to the transport header, over options or extension headers.
fn without_options(packet: &mut Packet<'_>, layers: &Layers) -> Option<Layers> {
    let fixed = if layers.network == Network::Ipv4 {
        20
    } else {
        40
    };
    let mut bare = *layers;
    bare.l3 = layers.l4.checked_sub(fixed)?;
    if bare.l3 == layers.l3 {
        return Some(bare);
    }
    let len = u16::try_from(layers.end - layers.l4).ok()?;
    let frame = packet.data_mut();
    frame.copy_within(layers.l3..layers.l3 + fixed, bare.l3);
    if layers.network == Network::Ipv4 {
        let ip: &mut Ipv4 = view_mut(frame, bare.l3)?;
        ip.version_ihl = 0x45;
        ip.total_len = (len + 20).into();
    } else {
        let ip: &mut Ipv6 = view_mut(frame, bare.l3)?;
        ip.next = IpProto::ICMPV6.0;
        ip.payload_len = len.into();
    }
    Some(bare)
}

/// Whether an IPv6 routing header says that we are not the last station on the way. The parser has
/// checked that the headers lie within the packet.
fn has_hops_left(frame: &[u8], layers: &Layers) -> bool {
    const ROUTING: u8 = 43;
    const AUTHENTICATION: u8 = 51;
    if layers.network != Network::Ipv6 {
        return false;
    }
    let Some(ip) = view::<Ipv6>(frame, layers.l3) else {
        return true;
    };
    let (mut next, mut at) = (ip.next, layers.l3 + 40);
    while at < layers.l4 {
        let Some(&[following, len, _, left]) = frame.get(at..).and_then(|h| h.first_chunk()) else {
            return true;
        };
        if next == ROUTING && left != 0 {
            return true;
        }
        at += match next {
            AUTHENTICATION => (usize::from(len) + 2) * 4,
            44 => 8,
            _ => (usize::from(len) + 1) * 8,
        };
        next = following;
    }
    false
}
