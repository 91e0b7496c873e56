//! Answers made in place, as smoltcp reads them.

use net::emit::{self, echo_reply_in_place, reset_in_place};
use net::{IpProto, Layers, Packet, RxMeta};
use proptest::prelude::*;
use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpAddress, Ipv4Packet, Ipv6Packet,
    TcpPacket,
};

use crate::build::{ACK, FIN, RST, SYN, Spec, key, key4, key6, parse, spec_of};

/// The frame after `answer`, in a buffer with a little room behind it.
fn answered(
    spec: &Spec,
    answer: impl FnOnce(&mut Packet<'_>, &Layers) -> Result<(), net::NoRoom>,
) -> Vec<u8> {
    let (frame, rx) = spec.received();
    let len = frame.len();
    let mut buf = frame;
    let mut packet = Packet::new(&mut buf, 0, len, rx);
    let layers = Layers::parse(&packet).unwrap();
    answer(&mut packet, &layers).unwrap();
    packet.data().to_vec()
}

/// The IP payload of a frame without tags, which smoltcp has checked.
fn checked(frame: &[u8], from: &Spec) -> (Vec<u8>, IpAddress, IpAddress) {
    let (payload, src, dst);
    if from.is_v4() {
        let ip = Ipv4Packet::new_checked(&frame[14..]).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!(ip.hop_limit(), emit::DEFAULT_TTL);
        (src, dst) = (ip.src_addr().into(), ip.dst_addr().into());
        payload = ip.payload().to_vec();
    } else {
        let ip = Ipv6Packet::new_checked(&frame[14..]).unwrap();
        assert_eq!(ip.hop_limit(), emit::DEFAULT_TTL);
        (src, dst) = (ip.src_addr().into(), ip.dst_addr().into());
        payload = ip.payload().to_vec();
    }
    let ip = |a: net::Addr| IpAddress::from(a.ip());
    assert_eq!((src, dst), (ip(from.key.dst), ip(from.key.src)));
    (payload, src, dst)
}

/// (sequence, acknowledgement if there is one) of the reset for a segment.
fn reset(spec: &Spec) -> (u32, Option<u32>) {
    let frame = answered(spec, reset_in_place);
    let ip_len = if spec.is_v4() { 20 } else { 40 };
    assert_eq!(frame.len(), 14 + ip_len + 20, "headers only");
    assert!(parse(&frame).is_ok());
    let (segment, src, dst) = checked(&frame, spec);
    let tcp = TcpPacket::new_checked(&segment[..]).unwrap();
    assert!(tcp.verify_checksum(&src, &dst));
    assert!(tcp.rst() && !tcp.syn() && !tcp.fin());
    assert_eq!(tcp.src_port(), spec.key.dport().0);
    assert_eq!(tcp.dst_port(), spec.key.sport().0);
    assert_eq!(tcp.header_len(), 20);
    assert_eq!(tcp.window_len(), 0);
    let ack = tcp.ack().then(|| tcp.ack_number().0 as u32);
    if ack.is_none() {
        assert_eq!(tcp.ack_number().0, 0);
    }
    (tcp.seq_number().0 as u32, ack)
}

#[test]
fn a_reset_is_the_one_of_rfc_9293() {
    for key in [key4(IpProto::TCP), key6(IpProto::TCP)] {
        let case = |flags, seq, ack, payload: &[u8]| {
            reset(&Spec {
                flags,
                seq,
                ack,
                ..Spec::new(key, payload)
            })
        };
        // With ACK: <SEQ=SEG.ACK><CTL=RST>.
        assert_eq!(case(ACK, 100, 900, b""), (900, None));
        assert_eq!(case(ACK | FIN, 100, 900, b"data"), (900, None));
        assert_eq!(case(ACK | SYN, 100, 900, b""), (900, None));
        // Without: <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>; SYN and FIN count as one each.
        assert_eq!(case(SYN, 100, 900, b""), (0, Some(101)));
        assert_eq!(case(SYN, 100, 0, b"fast open"), (0, Some(110)));
        assert_eq!(case(FIN, 100, 0, b"abc"), (0, Some(104)));
        assert_eq!(case(SYN | FIN, 100, 0, b""), (0, Some(102)));
        assert_eq!(case(0, 100, 0, b"abc"), (0, Some(103)));
        assert_eq!(case(0, 100, 0, b""), (0, Some(100)));
        // Sequence numbers wrap.
        assert_eq!(case(SYN, u32::MAX, 0, b""), (0, Some(0)));
        assert_eq!(case(FIN, u32::MAX - 1, 0, b"abcd"), (0, Some(3)));
    }
}

#[test]
fn a_reset_counts_neither_options_nor_padding() {
    let mut spec = Spec::new(key4(IpProto::TCP), b"abc");
    spec.flags = SYN;
    spec.ip_options = vec![1; 8];
    spec.tcp_options = vec![1; 12];
    spec.padding = 5;
    assert_eq!(reset(&spec), (0, Some(1004)));
    let mut spec = Spec::new(key6(IpProto::TCP), b"abc");
    spec.flags = SYN;
    spec.extensions = vec![(60, vec![0, 1, 4, 0, 0, 0, 0])];
    assert_eq!(reset(&spec), (0, Some(1004)));
}

#[test]
fn an_echo_is_answered_with_what_it_carried() {
    for key in [key4(IpProto::ICMP), key6(IpProto::ICMPV6)] {
        for payload in [&b""[..], b"x", b"abcdefgh", &[0xff; 1001]] {
            echo(&Spec::new(key, payload));
        }
    }
}

fn echo(spec: &Spec) {
    let frame = answered(spec, echo_reply_in_place);
    // Options stay, so smoltcp is asked about the packet as parsed here.
    let layers = parse(&frame).unwrap();
    assert_eq!(layers.key.src, spec.key.dst);
    assert_eq!(layers.key.dst, spec.key.src);
    assert_eq!(layers.ttl, emit::DEFAULT_TTL);
    let message = &frame[layers.l4..layers.end];
    if spec.is_v4() {
        let icmp = Icmpv4Packet::new_checked(message).unwrap();
        assert!(icmp.verify_checksum());
        assert_eq!(icmp.msg_type(), Icmpv4Message::EchoReply);
        assert_eq!(icmp.echo_ident(), spec.key.sport().0);
        assert_eq!(icmp.echo_seq_no(), 1);
        assert_eq!(icmp.data(), &spec.payload[..]);
    } else {
        let icmp = Icmpv6Packet::new_checked(message).unwrap();
        let v6 = |a: net::Addr| std::net::Ipv6Addr::from(*a.octets());
        assert!(icmp.verify_checksum(&v6(spec.key.dst), &v6(spec.key.src)));
        assert_eq!(icmp.msg_type(), Icmpv6Message::EchoReply);
        assert_eq!(icmp.echo_ident(), spec.key.sport().0);
        assert_eq!(icmp.echo_seq_no(), 1);
        assert_eq!(icmp.payload(), &spec.payload[..]);
    }
}

#[test]
fn a_reply_of_nothing_but_zeros_has_a_right_checksum() {
    for key in [key4(IpProto::ICMP), key6(IpProto::ICMPV6)] {
        for len in [0, 1, 8] {
            let (kind, ethertype) = if key.src.is_v4() {
                (8, 0x0800)
            } else {
                (128, 0x86dd)
            };
            let l3 = emit::icmp(&key, 64, kind, 0, [0; 4], &vec![0; len]);
            let mac = net::MacAddr([2; 6]);
            let mut frame = emit::ethernet(mac, mac, net::Encap::UNTAGGED, ethertype, &l3);
            let whole = frame.len();
            let mut packet = Packet::new(&mut frame, 0, whole, RxMeta::default());
            let layers = Layers::parse(&packet).unwrap();
            echo_reply_in_place(&mut packet, &layers).unwrap();
            assert!(parse(&frame).is_ok(), "{frame:02x?}");
        }
    }
}

#[test]
fn only_ip_is_answered() {
    let mut arp = vec![0xff; 6];
    arp.extend([2, 0, 0, 0, 0, 1, 0x08, 0x06]);
    arp.resize(60, 0);
    let before = arp.clone();
    let mut packet = Packet::new(&mut arp, 0, 60, RxMeta::default());
    let layers = Layers::parse(&packet).unwrap();
    assert!(echo_reply_in_place(&mut packet, &layers).is_err());
    assert_eq!(packet.data(), before);
}

proptest! {
    #[test]
    fn any_segment_is_reset(
        spec in any::<bool>().prop_flat_map(|v4| key(v4, IpProto::TCP)).prop_flat_map(spec_of),
    ) {
        let spec = Spec { flags: spec.flags & !RST, tags: Vec::new(), ..spec };
        let (seq, ack) = reset(&spec);
        if spec.flags & ACK != 0 {
            prop_assert_eq!((seq, ack), (spec.ack, None));
        } else {
            let len = spec.payload.len() as u32
                + u32::from(spec.flags & SYN != 0)
                + u32::from(spec.flags & FIN != 0);
            prop_assert_eq!((seq, ack), (0, Some(spec.seq.wrapping_add(len))));
        }
    }

    #[test]
    fn any_echo_is_answered(
        spec in any::<bool>()
            .prop_flat_map(|v4| key(v4, if v4 { IpProto::ICMP } else { IpProto::ICMPV6 }))
            .prop_flat_map(spec_of),
    ) {
        echo(&Spec { tags: Vec::new(), ..spec });
    }
}
