//! What the replay tests share.

#![allow(dead_code)]

pub mod scene;
pub mod scenes;

use net::{Encap, Layers, Packet, ParseError, RxMeta};
use smoltcp::wire::{
    ArpPacket, EthernetFrame, Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet,
    TcpPacket, UdpPacket,
};

/// The headers of a frame.
pub fn layers_of(octets: &[u8]) -> Result<Layers, ParseError> {
    let mut copy = octets.to_vec();
    let len = copy.len();
    Layers::parse(&Packet::new(&mut copy, 0, len, RxMeta::default()))
}

/// Whether a frame that tmm sent is well formed, in the eyes of our own parser and of smoltcp.
pub fn check_frame(octets: &[u8]) -> Result<(), String> {
    let layers = layers_of(octets).map_err(|error| format!("our parser: {error}"))?;
    let frame = EthernetFrame::new_checked(octets).map_err(|error| format!("Ethernet: {error}"))?;
    if !frame.dst_addr().is_unicast()
        && !frame.dst_addr().is_multicast()
        && !frame.dst_addr().is_broadcast()
        || frame.dst_addr().0 == [0; 6]
    {
        return Err(format!("destination MAC {}", frame.dst_addr()));
    }
    let tags = layers.encap.header_len() - Encap::UNTAGGED.header_len();
    let packet = octets.get(14 + tags..).ok_or("no room for tags")?;
    match layers.network {
        net::Network::Arp => {
            let packet = ArpPacket::new_checked(packet).map_err(|error| format!("ARP: {error}"))?;
            smoltcp::wire::ArpRepr::parse(&packet).map_err(|error| format!("ARP: {error}"))?;
            Ok(())
        }
        net::Network::Ipv4 => ipv4(packet),
        net::Network::Ipv6 => ipv6(packet, &layers),
        net::Network::Other(kind) => Err(format!("ethertype 0x{kind:04x}")),
    }
}

fn ipv4(packet: &[u8]) -> Result<(), String> {
    let packet = Ipv4Packet::new_checked(packet).map_err(|error| format!("IPv4: {error}"))?;
    if !packet.verify_checksum() {
        return Err("IPv4 header checksum".to_owned());
    }
    if packet.hop_limit() == 0 {
        return Err("TTL 0".to_owned());
    }
    // The transport checksum is that of the whole datagram.
    if packet.more_frags() || packet.frag_offset() != 0 {
        return Ok(());
    }
    let (src, dst) = (packet.src_addr().into(), packet.dst_addr().into());
    if packet.next_header() == IpProtocol::Icmp {
        let icmp = Icmpv4Packet::new_checked(packet.payload())
            .map_err(|error| format!("ICMP: {error}"))?;
        return if icmp.verify_checksum() {
            Ok(())
        } else {
            Err("ICMP checksum".to_owned())
        };
    }
    transport(packet.next_header(), packet.payload(), src, dst)
}

fn ipv6(packet: &[u8], layers: &Layers) -> Result<(), String> {
    let ip = Ipv6Packet::new_checked(packet).map_err(|error| format!("IPv6: {error}"))?;
    if ip.hop_limit() == 0 {
        return Err("hop limit 0".to_owned());
    }
    if layers.fragment != net::Fragment::Whole {
        return Ok(());
    }
    let (src, dst) = (ip.src_addr(), ip.dst_addr());
    // Extension headers lie between the two.
    let segment = packet
        .get(layers.l4 - layers.l3..layers.end - layers.l3)
        .ok_or("IPv6 payload")?;
    if layers.key.proto == net::IpProto::ICMPV6 {
        let icmp =
            Icmpv6Packet::new_checked(segment).map_err(|error| format!("ICMPv6: {error}"))?;
        return if icmp.verify_checksum(&src, &dst) {
            Ok(())
        } else {
            Err("ICMPv6 checksum".to_owned())
        };
    }
    transport(layers.key.proto.0.into(), segment, src.into(), dst.into())
}

fn transport(
    proto: IpProtocol,
    segment: &[u8],
    src: smoltcp::wire::IpAddress,
    dst: smoltcp::wire::IpAddress,
) -> Result<(), String> {
    let right = match proto {
        IpProtocol::Tcp => TcpPacket::new_checked(segment)
            .map_err(|error| format!("TCP: {error}"))?
            .verify_checksum(&src, &dst),
        IpProtocol::Udp => UdpPacket::new_checked(segment)
            .map_err(|error| format!("UDP: {error}"))?
            .verify_checksum(&src, &dst),
        other => return Err(format!("sent protocol {other}")),
    };
    if right {
        Ok(())
    } else {
        Err(format!("{proto} checksum"))
    }
}
