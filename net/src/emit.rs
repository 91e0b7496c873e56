//! Frames written from nothing, and answers made in place.

use crate::addr::MacAddr;
use crate::checksum::{Sum, of};
use crate::flow::{FlowKey, IpProto};
use crate::header::{Ethernet, Icmp, Ipv4, Ipv6, Tcp, ethertype, tcp_flags, view, view_mut};
use crate::layers::{Fragment, Layers, Network};
use crate::packet::{NoRoom, Packet};
use crate::tag::{Encap, TPID_8021AD, TPID_8021Q};

/// Hop limit of packets that originate here.
pub const DEFAULT_TTL: u8 = 64;

/// A whole frame: Ethernet header with tags, then `l3`.
pub fn ethernet(dst: MacAddr, src: MacAddr, encap: Encap, kind: u16, l3: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(encap.header_len() + l3.len());
    frame.extend_from_slice(&dst.0);
    frame.extend_from_slice(&src.0);
    if encap.service_vid() != 0 {
        frame.extend_from_slice(&TPID_8021AD.to_be_bytes());
        frame.extend_from_slice(&encap.service_vid().to_be_bytes());
    }
    if encap.vid() != 0 {
        frame.extend_from_slice(&TPID_8021Q.to_be_bytes());
        frame.extend_from_slice(&encap.vid().to_be_bytes());
    }
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(l3);
    frame
}

/// An IP packet around `segment`, whose checksum field must be right already. Longer than 65,535
/// octets is cut.
pub fn ip(key: &FlowKey, ttl: u8, segment: &[u8]) -> Vec<u8> {
    let clip = |len: usize| u16::try_from(len).unwrap_or(u16::MAX);
    let room = usize::from(u16::MAX) - if key.src.is_v4() { 20 } else { 0 };
    let segment = segment.get(..room).unwrap_or(segment);
    let mut out;
    if key.src.is_v4() {
        let mut header = Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_len: clip(20 + segment.len()).into(),
            ident: 0.into(),
            flags_fragment: 0x4000.into(),
            ttl,
            proto: key.proto.0,
            checksum: 0.into(),
            src: key.src.v4_octets(),
            dst: key.dst.v4_octets(),
        };
        header.checksum = of(zerocopy::IntoBytes::as_bytes(&header)).into();
        out = zerocopy::IntoBytes::as_bytes(&header).to_vec();
    } else {
        let header = Ipv6 {
            version_class_flow: 0x6000_0000.into(),
            payload_len: clip(segment.len()).into(),
            next: key.proto.0,
            hop_limit: ttl,
            src: *key.src.octets(),
            dst: *key.dst.octets(),
        };
        out = zerocopy::IntoBytes::as_bytes(&header).to_vec();
    }
    out.extend_from_slice(segment);
    out
}

/// The transport checksum over `segment`, whose checksum field must be zero.
pub fn transport_checksum(key: &FlowKey, segment: &[u8]) -> u16 {
    let len = u16::try_from(segment.len()).unwrap_or(u16::MAX);
    let sum = if key.proto == IpProto::ICMP {
        Sum::ZERO
    } else {
        crate::checksum::pseudo_header(key.src.ip(), key.dst.ip(), key.proto.0, len)
    };
    match sum.add(segment).checksum() {
        0 if key.proto == IpProto::UDP => 0xffff,
        sum => sum,
    }
}

/// The fields of a TCP segment besides its ports.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpFields {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags, see [`tcp_flags`].
    pub flags: u8,
    /// Receive window, unscaled.
    pub window: u16,
}

/// An IP packet with a TCP segment.
pub fn tcp(key: &FlowKey, fields: TcpFields, payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0; 20];
    if let Some(tcp) = view_mut::<Tcp>(&mut segment, 0) {
        tcp.sport = key.sport().0.into();
        tcp.dport = key.dport().0.into();
        tcp.seq = fields.seq.into();
        tcp.ack = fields.ack.into();
        tcp.offset = 5 << 4;
        tcp.flags = fields.flags;
        tcp.window = fields.window.into();
    }
    segment.extend_from_slice(payload);
    let sum = transport_checksum(key, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ip(key, DEFAULT_TTL, &segment)
}

/// An IP packet with a UDP datagram.
pub fn udp(key: &FlowKey, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let mut segment = Vec::with_capacity(8 + payload.len());
    for word in [key.sport().0, key.dport().0, len, 0] {
        segment.extend_from_slice(&word.to_be_bytes());
    }
    segment.extend_from_slice(payload);
    let sum = transport_checksum(key, &segment);
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    ip(key, DEFAULT_TTL, &segment)
}

/// An IP packet with an ICMP or ICMPv6 message (`key.proto` says which); `rest` is the four
/// octets behind the checksum, `body` what follows.
pub fn icmp(key: &FlowKey, ttl: u8, kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut segment = vec![kind, code, 0, 0];
    segment.extend_from_slice(&rest);
    segment.extend_from_slice(body);
    let sum = transport_checksum(key, &segment);
    segment[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(key, ttl, &segment)
}

/// Turns an ICMP or ICMPv6 echo request into its reply, in place: addresses swapped, type
/// changed, TTL renewed. The Ethernet header is left to the caller.
pub fn echo_reply_in_place(packet: &mut Packet<'_>, layers: &Layers) -> Result<(), NoRoom> {
    let frame = packet.data_mut();
    let sum = turn_echo(frame, layers, true)?;
    if sum == 0 && layers.network == Network::Ipv4 {
        // A difference cannot tell the two zeros of one's complement apart; a reply of nothing but
        // zeros (identifier, sequence number and data) needs the other one.
        let sum = of(frame.get(layers.l4..layers.end).ok_or(NoRoom)?);
        let icmp: &mut Icmp = view_mut(frame, layers.l4).ok_or(NoRoom)?;
        icmp.checksum = sum.into();
    }
    Ok(())
}

/// As [`echo_reply_in_place`] for a fragment of an echo request.
pub fn echo_fragment_in_place(packet: &mut Packet<'_>, layers: &Layers) -> Result<(), NoRoom> {
    let first = layers.fragment == Fragment::First;
    let frame = packet.data_mut();
    let sum = turn_echo(frame, layers, first)?;
    if first && sum == 0 {
        // The rest is not here, so which of the two zeros it must be cannot be known: this one is right
        // whatever it is added to.
        let icmp: &mut Icmp = view_mut(frame, layers.l4).ok_or(NoRoom)?;
        icmp.checksum = 0xffff.into();
    }
    Ok(())
}

/// Sends an echo request back, as a reply if `header` says that its header is in it; gives the new
/// checksum.
fn turn_echo(frame: &mut [u8], layers: &Layers, header: bool) -> Result<u16, NoRoom> {
    let (reply, request) = match layers.network {
        Network::Ipv4 => {
            let ip: &mut Ipv4 = view_mut(frame, layers.l3).ok_or(NoRoom)?;
            (ip.src, ip.dst) = (ip.dst, ip.src);
            ip.ttl = DEFAULT_TTL;
            ip.checksum = 0.into();
            let header = frame.get(layers.l3..layers.l4).ok_or(NoRoom)?;
            let sum = of(header);
            let ip: &mut Ipv4 = view_mut(frame, layers.l3).ok_or(NoRoom)?;
            ip.checksum = sum.into();
            (0u8, 8u8)
        }
        Network::Ipv6 => {
            let ip: &mut Ipv6 = view_mut(frame, layers.l3).ok_or(NoRoom)?;
            (ip.src, ip.dst) = (ip.dst, ip.src);
            ip.hop_limit = DEFAULT_TTL;
            (129, 128)
        }
        _ => return Err(NoRoom),
    };
    if !header {
        return Ok(0);
    }
    let icmp: &mut Icmp = view_mut(frame, layers.l4).ok_or(NoRoom)?;
    icmp.kind = reply;
    let delta = Sum::ZERO
        .add_u16(u16::from(reply) << 8)
        .sub_u16(u16::from(request) << 8);
    let sum = crate::checksum::adjust(icmp.checksum.get(), delta);
    icmp.checksum = sum.into();
    Ok(sum)
}

/// Turns a TCP segment into the reset that answers it (RFC 9293 section 3.10.7.1), in place: the
/// packet is cut to headers without options. The Ethernet header is left to the caller. The segment
/// must not be a reset itself.
pub fn reset_in_place(packet: &mut Packet<'_>, layers: &Layers) -> Result<(), NoRoom> {
    let tcp: &Tcp = view(packet.data(), layers.l4).ok_or(NoRoom)?;
    let syn_fin =
        u32::from(tcp.flags & tcp_flags::SYN != 0) + u32::from(tcp.flags & tcp_flags::FIN != 0);
    let len = u32::try_from(layers.payload_len()).map_err(|_| NoRoom)?;
    let fields = if tcp.flags & tcp_flags::ACK != 0 {
        TcpFields {
            seq: tcp.ack.get(),
            ack: 0,
            flags: tcp_flags::RST,
            window: 0,
        }
    } else {
        let ack = tcp.seq.get().wrapping_add(len).wrapping_add(syn_fin);
        TcpFields {
            seq: 0,
            ack,
            flags: tcp_flags::RST | tcp_flags::ACK,
            window: 0,
        }
    };
    let key = layers.key.inverted();
    let reset = ip_tcp_header(&key, fields);
    let bytes = reset.as_slice();
    packet.set_len(layers.l3 + bytes.len())?;
    packet
        .data_mut()
        .get_mut(layers.l3..)
        .ok_or(NoRoom)?
        .copy_from_slice(bytes);
    Ok(())
}

/// A reset with `key` that acknowledges `ack` (RFC 9293 section 3.5.2).
pub fn reset(key: &FlowKey, seq: u32, ack: u32) -> ShortPacket {
    let flags = tcp_flags::RST | tcp_flags::ACK;
    let window = 0;
    ip_tcp_header(
        key,
        TcpFields {
            seq,
            ack,
            flags,
            window,
        },
    )
}

/// An Ethernet header without tags.
pub fn untagged_header(dst: MacAddr, src: MacAddr, kind: u16) -> [u8; 14] {
    let mut header = [0; 14];
    header[..6].copy_from_slice(&dst.0);
    header[6..12].copy_from_slice(&src.0);
    header[12..].copy_from_slice(&kind.to_be_bytes());
    header
}

/// Turns a SYN into a SYN-ACK that acknowledges another number than its own, in place: the packet is cut to headers
/// without options, the Ethernet header is left to the caller. Who gets it answers with a reset that has `ack` as
/// its sequence number (RFC 9293 section 3.10.7.3), if `ack` does not acknowledge what it sent.
pub fn challenge_in_place(
    packet: &mut Packet<'_>,
    layers: &Layers,
    seq: u32,
    ack: u32,
) -> Result<(), NoRoom> {
    let fields = TcpFields {
        seq,
        ack,
        flags: tcp_flags::SYN | tcp_flags::ACK,
        window: 0,
    };
    let answer = ip_tcp_header(&layers.key.inverted(), fields);
    let bytes = answer.as_slice();
    packet.set_len(layers.l3 + bytes.len())?;
    packet
        .data_mut()
        .get_mut(layers.l3..)
        .ok_or(NoRoom)?
        .copy_from_slice(bytes);
    Ok(())
}

/// An IP packet of at most 60 octets that lives on the stack: nothing is allocated for an answer.
#[derive(Debug)]
pub struct ShortPacket {
    bytes: [u8; 60],
    len: usize,
}

impl ShortPacket {
    /// Its octets.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

fn ip_tcp_header(key: &FlowKey, fields: TcpFields) -> ShortPacket {
    let mut out = ShortPacket {
        bytes: [0; 60],
        len: 0,
    };
    let l4 = if key.src.is_v4() { 20 } else { 40 };
    out.len = l4 + 20;
    if let Some(tcp) = view_mut::<Tcp>(&mut out.bytes, l4) {
        tcp.sport = key.sport().0.into();
        tcp.dport = key.dport().0.into();
        tcp.seq = fields.seq.into();
        tcp.ack = fields.ack.into();
        tcp.offset = 5 << 4;
        tcp.flags = fields.flags;
        tcp.window = fields.window.into();
    }
    let sum = transport_checksum(key, &out.bytes[l4..l4 + 20]);
    out.bytes[l4 + 16..l4 + 18].copy_from_slice(&sum.to_be_bytes());
    if key.src.is_v4() {
        if let Some(ip) = view_mut::<Ipv4>(&mut out.bytes, 0) {
            ip.version_ihl = 0x45;
            ip.total_len = 40.into();
            ip.flags_fragment = 0x4000.into();
            ip.ttl = DEFAULT_TTL;
            ip.proto = key.proto.0;
            ip.src = key.src.v4_octets();
            ip.dst = key.dst.v4_octets();
        }
        let sum = of(&out.bytes[..20]);
        out.bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    } else if let Some(ip) = view_mut::<Ipv6>(&mut out.bytes, 0) {
        ip.version_class_flow = 0x6000_0000.into();
        ip.payload_len = 20.into();
        ip.next = key.proto.0;
        ip.hop_limit = DEFAULT_TTL;
        ip.src = *key.src.octets();
        ip.dst = *key.dst.octets();
    }
    out
}

/// The source and destination MAC of a frame; zero if it is too short.
#[inline]
pub fn macs(frame: &[u8]) -> (MacAddr, MacAddr) {
    view::<Ethernet>(frame, 0).map_or((MacAddr::ZERO, MacAddr::ZERO), |eth| {
        (MacAddr(eth.src), MacAddr(eth.dst))
    })
}

/// The ethertype a network layer goes out with.
#[inline]
pub const fn ethertype_of(network: Network) -> u16 {
    match network {
        Network::Arp => ethertype::ARP,
        Network::Ipv4 => ethertype::IPV4,
        Network::Ipv6 => ethertype::IPV6,
        Network::Other(kind) => kind,
    }
}
