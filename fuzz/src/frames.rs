//! One frame: read as others read it, and whatever is made of it is well formed.

use net::emit::{echo_reply_in_place, reset_in_place};
use net::header::tcp_flags::RST;
use net::icmp::Quote;
use net::{
    Addr, Encap, FlowKey, Fragment, IpProto, L4Port, Layers, MacAddr, Network, Packet, Rewrite,
    RxMeta, VlanId,
};

use crate::opinions::{checked, compare, parse_with};

/// The input is a frame.
pub fn check(frame: &[u8]) {
    compare(frame);
    let Ok(layers) = parse_with(frame, RxMeta::default()) else {
        return;
    };
    rewritten(frame, &layers);
    requoted(frame, &layers);
    retagged(frame, &layers);
    answered(frame, &layers);
}

fn rewritten(frame: &[u8], layers: &Layers) {
    let from = layers.key;
    let (src, dst) = match layers.network {
        Network::Ipv4 => (
            Addr::from_v4([10, 0, 0, 1]),
            Addr::from_v4([10, 255, 255, 254]),
        ),
        _ => (Addr::from_v6([0x20; 16]), Addr::from_v6([0x3f; 16])),
    };
    // One identifier stands for both ports of an echo.
    let dport = match from.proto {
        IpProto::ICMP | IpProto::ICMPV6 => 1,
        _ => 0xffff,
    };
    let to = FlowKey::new(src, dst, L4Port(1), L4Port(dport), from.proto);
    let mut buf = frame.to_vec();
    let len = buf.len();
    let mut packet = Packet::new(&mut buf, 0, len, RxMeta::default());
    if Rewrite::new(&from, &to).apply(&mut packet, layers).is_err() {
        assert_eq!(packet.data(), frame, "a refused packet was changed");
        return;
    }
    let after = Layers::parse(&packet).expect("a rewritten packet is well formed");
    assert_eq!(after.key, to);
    assert_eq!(after.ttl, layers.ttl - 1);
    assert_eq!(packet.data().len(), frame.len());
    assert_eq!(
        packet.data()[after.payload..after.end],
        frame[layers.payload..layers.end]
    );
}

/// An ICMP error, and the packet it quotes, get other addresses.
fn requoted(frame: &[u8], layers: &Layers) {
    let is_error = match layers.key.proto {
        IpProto::ICMP => matches!(layers.icmp_type, 3 | 11 | 12),
        IpProto::ICMPV6 => matches!(layers.icmp_type, 1..=4),
        _ => false,
    };
    if !is_error || layers.fragment != Fragment::Whole || layers.ttl <= 1 {
        return;
    }
    let mut buf = frame.to_vec();
    let len = buf.len();
    let mut packet = Packet::new(&mut buf, 0, len, RxMeta::default());
    let Ok(quote) = Quote::find(&packet, layers) else {
        return;
    };
    let (a, b) = if layers.network == Network::Ipv4 {
        (Addr::from_v4([10, 0, 0, 1]), Addr::from_v4([10, 0, 0, 2]))
    } else {
        (Addr::from_v6([0x20; 16]), Addr::from_v6([0x3f; 16]))
    };
    let to = FlowKey::new(a, b, L4Port(5), L4Port(6), quote.key.proto);
    if quote.translate(&mut packet, layers, &to, (&b, &a)).is_err() {
        assert_eq!(packet.data(), frame, "a refused error was changed");
        return;
    }
    let after = Layers::parse(&packet).expect("a translated error is well formed");
    assert_eq!((after.key.src, after.key.dst), (b, a));
    let again = Quote::find(&packet, &after).expect("what it quotes still names a flow");
    assert_eq!((again.key.src, again.key.dst), (a, b));
}

fn retagged(frame: &[u8], layers: &Layers) {
    let mut buf = vec![0; 32];
    buf.extend_from_slice(frame);
    let mut packet = Packet::new(&mut buf, 32, frame.len(), RxMeta::default());
    let vid = VlanId::new(4094).expect("a VLAN id");
    let kind = net::emit::ethertype_of(layers.network);
    let (here, there) = (MacAddr([2; 6]), MacAddr([4; 6]));
    packet
        .set_ethernet(
            layers.l3,
            there,
            here,
            Encap::stacked(vid, vid),
            kind,
            false,
        )
        .expect("there is room");
    let after = Layers::parse(&packet).expect("a tagged packet is well formed");
    assert_eq!(after.encap, Encap::stacked(vid, vid));
    assert_eq!(after.key, layers.key);
    assert_eq!(packet.data()[after.l3..], frame[layers.l3..]);
}

fn answered(frame: &[u8], layers: &Layers) {
    if layers.fragment != Fragment::Whole {
        return;
    }
    let mut buf = frame.to_vec();
    let len = buf.len();
    let mut packet = Packet::new(&mut buf, 0, len, RxMeta::default());
    let answer = match (layers.key.proto, layers.icmp_type) {
        (IpProto::TCP, _) if layers.tcp_flags & RST == 0 => reset_in_place(&mut packet, layers),
        (IpProto::ICMP, 8) | (IpProto::ICMPV6, 128) => echo_reply_in_place(&mut packet, layers),
        _ => return,
    };
    answer.expect("an answer is no longer than what it answers");
    // Its source may be an address that only a destination can be: multicast, broadcast.
    let mut mended = packet.data().to_vec();
    if parse_with(&mended, checked()).is_ok() {
        let after = parse_with(&mended, RxMeta::default()).expect("an answer is well formed");
        assert_eq!(after.key, layers.key.inverted());
        mended[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        compare(&mended);
    }
}
