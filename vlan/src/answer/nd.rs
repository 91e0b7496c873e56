//! Neighbour solicitations and advertisements (RFC 4861 sections 7.1 and 7.2), duplicate address
//! detection by others included (RFC 4862 section 5.4).

use std::net::Ipv6Addr;

use net::header::{Ethernet, view};
use net::{Addr, Fragment, IpProto, Layers, MacAddr, Network, Packet, emit};

use super::{Ignored, Outcome};
use crate::event::{Event, How};
use crate::frame::{
    ADVERTISEMENT, ALL_NODES, Body, LISTENER_QUERY, ND_HOP_LIMIT, ND_OPTIONS, NdFields, OVERRIDE,
    ROUTER, SOLICITATION, SOLICITED, SOURCE_LINK_LAYER, TARGET_LINK_LAYER, solicited_node,
};
use crate::owned::Owned;
use crate::table::{Vlan, is_unicast};

/// Answers a neighbour solicitation for an address we own, and learns from solicitations for us
/// and from advertisements. Takes ICMPv6 types 133–137, and 130, the multicast listener query, which
/// decides whether switches let solicitations through to us. The parser has verified the checksum.
/// `ours` is the MAC address of the port that the answer leaves by.
pub fn handle_icmpv6_nd(
    packet: &mut Packet<'_>,
    layers: &Layers,
    vlan: &Vlan,
    ours: MacAddr,
    owned: &Owned,
) -> Outcome {
    if layers.network != Network::Ipv6
        || layers.key.proto != IpProto::ICMPV6
        || layers.fragment == Fragment::Later
        || !matches!(layers.icmp_type, LISTENER_QUERY | 133..=137)
    {
        return Outcome::Ignore(Ignored::OtherKind);
    }
    if layers.icmp_type == LISTENER_QUERY {
        return query(packet.data(), layers, vlan);
    }
    if layers.ttl != ND_HOP_LIMIT
        || layers.fragment != Fragment::Whole
        || layers.l4 != layers.l3 + 40
    {
        return Outcome::Ignore(Ignored::OffLink);
    }
    if !matches!(layers.icmp_type, SOLICITATION | ADVERTISEMENT) {
        return Outcome::Ignore(Ignored::RouterDiscovery);
    }
    let Some(message) = Message::parse(packet.data(), layers) else {
        return Outcome::Ignore(Ignored::Malformed);
    };
    if vlan.is_ours(message.station) {
        return Outcome::Ignore(Ignored::Own);
    }
    if layers.icmp_type == SOLICITATION {
        solicitation(packet, layers, &message, vlan, ours, owned)
    } else {
        advertisement(&message, vlan, owned)
    }
}

/// A solicitation or advertisement, checked.
struct Message {
    /// Who put it on the wire.
    station: MacAddr,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    target: Ipv6Addr,
    flags: u32,
    /// The source or target link-layer option, whichever belongs to the kind.
    mac: Option<MacAddr>,
}

impl Message {
    fn parse(frame: &[u8], layers: &Layers) -> Option<Self> {
        let eth: &Ethernet = view(frame, 0)?;
        let message = frame.get(layers.l4..layers.end)?;
        let (fixed, options) = message.split_at_checked(ND_OPTIONS)?;
        let target: [u8; 16] = fixed.get(8..24)?.try_into().ok()?;
        let wanted = if layers.icmp_type == SOLICITATION {
            SOURCE_LINK_LAYER
        } else {
            TARGET_LINK_LAYER
        };
        let parsed = Self {
            station: MacAddr(eth.src),
            src: (*layers.key.src.octets()).into(),
            dst: (*layers.key.dst.octets()).into(),
            target: target.into(),
            flags: u32::from_be_bytes(fixed.get(4..8)?.try_into().ok()?),
            mac: link_layer_option(options, wanted).ok()?,
        };
        // Code 0; a target is one station.
        (fixed[1] == 0 && is_unicast(parsed.target.into())).then_some(parsed)
    }
}

/// The link-layer option of kind `wanted`, if there is one; all options must be well formed.
fn link_layer_option(mut options: &[u8], wanted: u8) -> Result<Option<MacAddr>, Ignored> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let (option, rest) = options
            .split_at_checked(usize::from(units) * 8)
            .filter(|(option, _)| !option.is_empty())
            .ok_or(Ignored::Malformed)?;
        if kind == wanted {
            // Ethernet's is eight octets long (RFC 2464 section 6).
            let mac = option
                .get(2..)
                .and_then(|octets| octets.try_into().ok())
                .map(MacAddr)
                .filter(|mac| mac.is_station())
                .ok_or(Ignored::Malformed)?;
            found.get_or_insert(mac);
        }
        options = rest;
    }
    if options.is_empty() {
        Ok(found)
    } else {
        Err(Ignored::Malformed)
    }
}

fn solicitation(
    packet: &mut Packet<'_>,
    layers: &Layers,
    message: &Message,
    vlan: &Vlan,
    ours: MacAddr,
    owned: &Owned,
) -> Outcome {
    let index = vlan.index;
    let probe = message.src.is_unspecified();
    // Duplicate address detection has no source to give a MAC address for, and asks the group
    // (RFC 4861 section 7.1.1).
    let to_group = message.dst == solicited_node(message.target);
    if probe && (message.mac.is_some() || !to_group) {
        return Outcome::Ignore(Ignored::Malformed);
    }
    let addr = Addr::from_v6(message.src.octets());
    if owned.get(index, &addr).is_some() {
        return Outcome::Event(Event::Conflict {
            vlan: index,
            addr,
            mac: message.station,
        });
    }
    let target = Addr::from_v6(message.target.octets());
    if owned.get(index, &target).is_none() {
        return Outcome::Ignore(Ignored::NotOurs);
    }
    let (to, dst, flags) = if probe {
        (MacAddr::ipv6_multicast(ALL_NODES), ALL_NODES, 0)
    } else {
        let mac = message.mac.unwrap_or(message.station);
        (mac, message.src, SOLICITED)
    };
    let reply = Body::Nd(NdFields {
        kind: ADVERTISEMENT,
        flags: flags | ROUTER | OVERRIDE,
        src: message.target,
        dst,
        target: message.target,
        option: TARGET_LINK_LAYER,
    });
    let replaced = reply.replace(packet, layers.l3, to, ours, vlan.encap);
    if replaced.is_none() {
        return Outcome::Ignore(Ignored::NoRoom);
    }
    match message.mac {
        Some(mac) if vlan.can_be_neighbor(message.src.into()) => {
            Outcome::ReplyAndEvent(Event::Learned {
                vlan: index,
                addr,
                mac,
                how: How::Solicitation,
            })
        }
        _ => Outcome::Reply,
    }
}

/// A multicast listener query, of either version (RFC 2710 section 3, RFC 3810 section 5.1).
fn query(frame: &[u8], layers: &Layers, vlan: &Vlan) -> Outcome {
    let from_router = Ipv6Addr::from(*layers.key.src.octets()).is_unicast_link_local();
    if layers.ttl != 1 || layers.fragment != Fragment::Whole || !from_router {
        return Outcome::Ignore(Ignored::OffLink);
    }
    if vlan.is_ours(emit::macs(frame).0) {
        return Outcome::Ignore(Ignored::Own);
    }
    let group = frame
        .get(layers.l4..layers.end)
        .and_then(|message| message.get(8..24)?.first_chunk::<16>())
        .map(|octets| Ipv6Addr::from(*octets))
        .filter(|group| group.is_unspecified() || group.is_multicast());
    match group {
        None => Outcome::Ignore(Ignored::Malformed),
        Some(group) => Outcome::Event(Event::Queried {
            vlan: vlan.index,
            group: (!group.is_unspecified()).then(|| Addr::from_v6(group.octets())),
        }),
    }
}

fn advertisement(message: &Message, vlan: &Vlan, owned: &Owned) -> Outcome {
    let index = vlan.index;
    let solicited = message.flags & SOLICITED != 0;
    // RFC 4861 section 7.1.2: nobody solicits on behalf of a group.
    if solicited && message.dst.is_multicast() {
        return Outcome::Ignore(Ignored::Malformed);
    }
    let addr = Addr::from_v6(message.target.octets());
    if owned.get(index, &addr).is_some() {
        let mac = message.mac.unwrap_or(message.station);
        if vlan.is_ours(mac) {
            return Outcome::Ignore(Ignored::Own);
        }
        return Outcome::Event(Event::Conflict {
            vlan: index,
            addr,
            mac,
        });
    }
    if !vlan.can_be_neighbor(message.target.into()) {
        return Outcome::Ignore(Ignored::NotOurs);
    }
    match message.mac {
        Some(mac) => Outcome::Event(Event::Learned {
            vlan: index,
            addr,
            mac,
            how: How::Advertisement {
                solicited,
                overrides: message.flags & OVERRIDE != 0,
            },
        }),
        // The answer to a unicast probe may leave the MAC address out (RFC 4861 section 7.2.4).
        None if solicited => Outcome::Event(Event::Confirmed { vlan: index, addr }),
        None => Outcome::Ignore(Ignored::NothingNew),
    }
}
