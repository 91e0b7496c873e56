//! ARP (RFC 826) and neighbour discovery (RFC 4861) as far as a station needs them that has many
//! addresses and one gateway.

use std::net::{IpAddr, Ipv6Addr};

use net::MacAddr;
use net::checksum::pseudo_header;

use super::addresses::AddressRange;
use super::frame::{Ethernet, fold, sum};

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Hop limit that says a message comes from the link itself.
const ON_LINK: u8 = 255;

/// One station: answers for its addresses and learns its gateway's.
#[derive(Debug, Clone)]
pub struct Station {
    link: Ethernet,
    addresses: Vec<AddressRange>,
    gateways: Vec<IpAddr>,
    learned: Option<MacAddr>,
}

/// A question or an answer.
struct Message {
    /// Asks rather than answers.
    question: bool,
    /// Who speaks.
    sender: IpAddr,
    sender_mac: MacAddr,
    /// Who is spoken of.
    target: IpAddr,
}

impl Station {
    /// A station with these addresses that may have to ask for `gateways`.
    pub fn new(link: Ethernet, addresses: Vec<AddressRange>, gateways: Vec<IpAddr>) -> Self {
        Self {
            link,
            addresses,
            gateways,
            learned: None,
        }
    }

    /// The station of the first gateway that answered.
    pub const fn learned(&self) -> Option<MacAddr> {
        self.learned
    }

    /// Looks at a frame of ARP or neighbour discovery; gives the answer to it, if one is due.
    pub fn handle(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let l3 = self.link.header_len();
        let vid = self.link.vlan.map_or(0, net::VlanId::get);
        let kind = frame.get(l3 - 2..l3)?;
        if vid != 0 {
            let tag = frame.get(12..16)?;
            let tci = u16::from_be_bytes([tag[2], tag[3]]);
            if tag[..2] != [0x81, 0] || tci & 0x0fff != vid {
                return None;
            }
        }
        let message = match u16::from_be_bytes([kind[0], kind[1]]) {
            ARP => read_arp(frame.get(l3..)?)?,
            IPV6 => read_nd(frame.get(l3..)?)?,
            _ => return None,
        };
        if self.gateways.contains(&message.sender) && message.sender_mac.is_station() {
            self.learned.get_or_insert(message.sender_mac);
        }
        let ours = |addr| self.addresses.iter().any(|r| r.position(addr).is_some());
        if !message.question || !ours(message.target) || message.sender_mac == self.link.own {
            return None;
        }
        // Whoever only makes sure that an address is free gets no answer: nothing here is checked for.
        if message.sender.is_unspecified() {
            return None;
        }
        Some(match (message.target, message.sender) {
            (IpAddr::V4(own), IpAddr::V4(asker)) => {
                self.arp(2, own.octets(), message.sender_mac, asker.octets())
            }
            (IpAddr::V6(own), IpAddr::V6(asker)) => {
                self.nd(ADVERTISEMENT, own, message.sender_mac, asker, own)
            }
            _ => return None,
        })
    }

    /// Asks for a gateway from one of the station's own addresses.
    pub fn question(&self, gateway: IpAddr) -> Option<Vec<u8>> {
        let own = self
            .addresses
            .iter()
            .find(|range| range.is_v4() == gateway.is_ipv4())?
            .first();
        Some(match (gateway, own) {
            (IpAddr::V4(gateway), IpAddr::V4(own)) => {
                let mut frame = self.arp(1, own.octets(), MacAddr([0xff; 6]), gateway.octets());
                let l3 = self.link.header_len();
                // The one that is asked for is not known yet.
                frame[l3 + 18..l3 + 24].fill(0);
                frame
            }
            (IpAddr::V6(gateway), IpAddr::V6(own)) => {
                let mut group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).octets();
                group[13..].copy_from_slice(&gateway.octets()[13..]);
                let group = Ipv6Addr::from(group);
                let mac = MacAddr::ipv6_multicast(group);
                self.nd(SOLICITATION, own, mac, group, gateway)
            }
            _ => return None,
        })
    }

    /// All questions that are still open: none once a gateway is known.
    pub fn questions(&self) -> Vec<Vec<u8>> {
        if self.learned.is_some() {
            return Vec::new();
        }
        self.gateways
            .iter()
            .filter_map(|gateway| self.question(*gateway))
            .collect()
    }

    fn ethernet(&self, dst: MacAddr, kind: u16) -> Vec<u8> {
        let link = Ethernet {
            peer: dst,
            ..self.link
        };
        link.header(kind)
    }

    fn arp(&self, operation: u8, own: [u8; 4], dst: MacAddr, target: [u8; 4]) -> Vec<u8> {
        let mut out = self.ethernet(dst, ARP);
        out.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
        out.extend_from_slice(&self.link.own.0);
        out.extend_from_slice(&own);
        out.extend_from_slice(&dst.0);
        out.extend_from_slice(&target);
        out.resize(out.len().max(60), 0);
        out
    }

    fn nd(
        &self,
        kind: u8,
        own: Ipv6Addr,
        mac: MacAddr,
        dst: Ipv6Addr,
        target: Ipv6Addr,
    ) -> Vec<u8> {
        let mut out = self.ethernet(mac, IPV6);
        out.extend_from_slice(&[0x60, 0, 0, 0, 0, 32, 58, ON_LINK]);
        out.extend_from_slice(&own.octets());
        out.extend_from_slice(&dst.octets());
        let solicited_and_override = if kind == ADVERTISEMENT { 0x60 } else { 0 };
        let mut message = vec![kind, 0, 0, 0, solicited_and_override, 0, 0, 0];
        message.extend_from_slice(&target.octets());
        // The address of the speaker, as source or target link-layer option.
        message.extend_from_slice(&[if kind == ADVERTISEMENT { 2 } else { 1 }, 1]);
        message.extend_from_slice(&self.link.own.0);
        let pseudo = pseudo_header(own.into(), dst.into(), 58, 32).fold();
        let checksum = !fold(u64::from(pseudo) + sum(&message));
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        out.extend_from_slice(&message);
        out
    }
}

fn v4(octets: &[u8]) -> Option<IpAddr> {
    octets.first_chunk::<4>().map(|a| IpAddr::from(*a))
}

fn read_arp(packet: &[u8]) -> Option<Message> {
    let packet = packet.first_chunk::<28>()?;
    if packet[..6] != [0, 1, 8, 0, 6, 4] || packet[6] != 0 || !matches!(packet[7], 1 | 2) {
        return None;
    }
    Some(Message {
        question: packet[7] == 1,
        sender: v4(&packet[14..])?,
        sender_mac: MacAddr(*packet[8..].first_chunk::<6>()?),
        target: v4(&packet[24..])?,
    })
}

fn read_nd(packet: &[u8]) -> Option<Message> {
    let header = packet.first_chunk::<40>()?;
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let message = packet.get(40..40 + len)?;
    let kind = *message.first()?;
    if header[7] != ON_LINK || !matches!(kind, SOLICITATION | ADVERTISEMENT) {
        return None;
    }
    let v6 = |octets: &[u8]| octets.first_chunk::<16>().map(|a| IpAddr::from(*a));
    let target = v6(message.get(8..)?)?;
    let wanted = if kind == SOLICITATION { 1 } else { 2 };
    let mut options = message.get(24..)?;
    let mut mac = None;
    while let [option, units, ..] = *options {
        let size = usize::from(units) * 8;
        if size == 0 {
            return None;
        }
        if option == wanted {
            mac = options.get(2..8)?.first_chunk::<6>().copied();
        }
        options = options.get(size..)?;
    }
    Some(Message {
        question: kind == SOLICITATION,
        sender: if kind == SOLICITATION {
            v6(&header[8..])?
        } else {
            target
        },
        sender_mac: MacAddr(mac?),
        target,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::VlanId;

    fn station(last: u8, tag: bool) -> Station {
        let link = Ethernet {
            own: MacAddr([2, 0, 0, 0, 0, last]),
            peer: MacAddr::ZERO,
            vlan: VlanId::new(100).filter(|_| tag),
        };
        let ranges = vec![
            format!("192.0.2.{last}").parse().unwrap(),
            format!("2001:db8::{last}").parse().unwrap(),
        ];
        let other = 3 - last;
        let gateways = vec![
            format!("192.0.2.{other}").parse().unwrap(),
            format!("2001:db8::{other}").parse().unwrap(),
        ];
        Station::new(link, ranges, gateways)
    }

    #[test]
    fn two_stations_learn_each_other_by_one_question() {
        for tag in [false, true] {
            for family in [0, 1] {
                let (mut asker, mut gateway) = (station(1, tag), station(2, tag));
                let question = asker.questions().remove(family);
                let answer = gateway.handle(&question).unwrap();
                assert_eq!(gateway.learned(), Some(MacAddr([2, 0, 0, 0, 0, 1])));
                assert_eq!(asker.handle(&answer), None);
                assert_eq!(asker.learned(), Some(MacAddr([2, 0, 0, 0, 0, 2])));
                assert!(asker.questions().is_empty());
            }
        }
    }

    #[test]
    fn the_frames_are_ones_that_others_accept() {
        for question in station(1, true).questions() {
            let mut copy = question.clone();
            let len = copy.len();
            let packet = net::Packet::new(&mut copy, 0, len, net::RxMeta::default());
            net::Layers::parse(&packet).unwrap();
        }
    }

    #[test]
    fn questions_for_others_and_on_other_vlans_are_not_answered() {
        let question = station(1, true).questions().remove(0);
        let mut third = station(2, true);
        third.addresses = vec!["192.0.2.9".parse().unwrap()];
        assert_eq!(third.handle(&question), None);
        assert_eq!(station(2, false).handle(&question), None);
        assert_eq!(station(2, true).handle(&question[..30]), None);
        assert_eq!(station(2, true).handle(&[]), None);
    }
}
