//! Answers for neighbours: a capture can not answer what tmm asks during a replay.

use std::collections::HashMap;

use net::emit::{ethernet, icmp, macs};
use net::header::{Arp, ethertype, view, view_mut};
use net::{Addr, Encap, FlowKey, IpProto, L4Port, MacAddr, Network, PortId};

use super::parse;

/// The most senders remembered: a capture of a scan has more.
const MAX_SENDERS: usize = 262_144;
/// Neighbour discovery is sent with this hop limit (RFC 4861 section 7.1).
const ND_HOP_LIMIT: u8 = 255;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// Who answers when tmm asks for the MAC address of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum NeighborMode {
    /// Every neighbour, at once: with the MAC address that it has in the captures, or else with one
    /// made from its address.
    #[default]
    Synthetic,
    /// Only neighbours that send a frame in the captures.
    Capture,
    /// Only frames of the captures.
    None,
}

/// Which MAC addresses senders have in the captures.
#[derive(Debug, Default)]
pub(super) struct Directory(HashMap<(PortId, Encap, Addr), MacAddr>);

impl Directory {
    /// Learns from one frame; the first one of a sender counts.
    pub(super) fn learn(&mut self, port: PortId, frame: &[u8], scratch: &mut Vec<u8>) {
        let Ok(layers) = parse(frame, scratch) else {
            return;
        };
        let addr = match layers.network {
            Network::Arp => match view::<Arp>(frame, layers.l3) {
                Some(arp) if arp.ptype.get() == ethertype::IPV4 && arp.spa != [0; 4] => {
                    Addr::from_v4(arp.spa)
                }
                _ => return,
            },
            Network::Ipv4 | Network::Ipv6 => layers.key.src,
            Network::Other(_) => return,
        };
        let (source, _) = macs(frame);
        if self.0.len() < MAX_SENDERS {
            self.0.entry((port, layers.encap, addr)).or_insert(source);
        }
    }

    /// The MAC address of a sender.
    pub(super) fn get(&self, port: PortId, encap: Encap, addr: &Addr) -> Option<MacAddr> {
        self.0.get(&(port, encap, *addr)).copied()
    }
}

/// A question that tmm asks: an ARP request or a neighbour solicitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    /// The tags it was sent with.
    pub encap: Encap,
    /// Whose MAC address is wanted.
    pub target: Addr,
    asker: Addr,
    asker_mac: MacAddr,
}

/// The question in a frame that tmm sent, if it is one. Announcements and probes ask nobody.
pub(super) fn question(frame: &[u8], scratch: &mut Vec<u8>) -> Option<Question> {
    let layers = parse(frame, scratch).ok()?;
    let (asker_mac, _) = macs(frame);
    let (asker, target) = match layers.network {
        Network::Arp => {
            let arp: &Arp = view(frame, layers.l3)?;
            if arp.oper.get() != 1 {
                return None;
            }
            if arp.spa == [0; 4] {
                return None;
            }
            (Addr::from_v4(arp.spa), Addr::from_v4(arp.tpa))
        }
        Network::Ipv6 if layers.key.proto == IpProto::ICMPV6 => {
            if layers.icmp_type != SOLICITATION || layers.key.src == Addr::default() {
                return None;
            }
            let target = frame.get(layers.l4 + 8..)?.first_chunk::<16>()?;
            (layers.key.src, Addr::from_v6(*target))
        }
        _ => return None,
    };
    (asker != target).then_some(Question {
        encap: layers.encap,
        target,
        asker,
        asker_mac,
    })
}

/// The frame that answers.
pub(super) fn answer(question: &Question, mac: MacAddr) -> Vec<u8> {
    let (kind, packet) = if question.target.is_v4() {
        let mut packet = vec![0; size_of::<Arp>()];
        let arp = Arp {
            htype: 1.into(),
            ptype: ethertype::IPV4.into(),
            hlen: 6,
            plen: 4,
            oper: 2.into(),
            sha: mac.0,
            spa: question.target.v4_octets(),
            tha: question.asker_mac.0,
            tpa: question.asker.v4_octets(),
        };
        if let Some(place) = view_mut(&mut packet, 0) {
            *place = arp;
        }
        (ethertype::ARP, packet)
    } else {
        let key = FlowKey::new(
            question.target,
            question.asker,
            L4Port(0),
            L4Port(0),
            IpProto::ICMPV6,
        );
        let mut body = question.target.octets().to_vec();
        // The target's link-layer address: type 2, one unit of eight octets.
        body.extend_from_slice(&[2, 1]);
        body.extend_from_slice(&mac.0);
        // Solicited, and overriding what was known.
        let flags = [0x60, 0, 0, 0];
        (
            ethertype::IPV6,
            icmp(&key, ND_HOP_LIMIT, ADVERTISEMENT, 0, flags, &body),
        )
    };
    ethernet(question.asker_mac, mac, question.encap, kind, &packet)
}

/// The MAC address that a neighbour has if the captures do not tell: locally administered, and made
/// from the last octets of its address, so that a reader recognises it.
pub(super) fn mac(addr: &Addr) -> MacAddr {
    let [.., a, b, c, d] = *addr.octets();
    let family = if addr.is_v4() { 0x04 } else { 0x06 };
    MacAddr([0x02, family, a, b, c, d])
}
