//! Tuples, translation and flows without TCP.
#![allow(clippy::unwrap_used)]

mod common;

use common::{expire, key, new_flow, secs, table, translated};
use conntrack::Direction::{Original, Reply};
use conntrack::State::{Replied, Unreplied};
use conntrack::{EndReason, NewFlow, Observed, Segment, State, Timeouts};
use net::{FlowKey, IpProto, L4Port, Tuple};

#[test]
fn other_protocols_are_unreplied_until_a_reply_comes() {
    for proto in [IpProto::UDP, IpProto::ICMP, IpProto::ICMPV6, IpProto(253)] {
        let mut table = table(4);
        let id = table.insert(new_flow(proto, 1), secs(0)).unwrap();
        let mut packet = |direction, state| {
            let seen = table.observe(id, direction, &Segment::datagram(100), secs(1));
            assert_eq!(seen, Observed::Accept { new_state: state });
            table.get(id).unwrap().state()
        };
        assert_eq!(packet(Original, None), Unreplied);
        assert_eq!(packet(Original, None), Unreplied);
        assert_eq!(packet(Reply, Some(Replied)), Replied);
        assert_eq!(packet(Original, None), Replied);
        let flow = table.get(id).unwrap();
        assert_eq!((flow.packets(Original), flow.bytes(Original)), (3, 300));
        assert_eq!((flow.packets(Reply), flow.bytes(Reply)), (1, 100));
    }
}

// case OVS-015: a protocol that has no ports, or that nobody here knows, is tracked by both addresses and its number
#[test]
fn a_protocol_without_ports_is_tracked_by_its_addresses() {
    let of = |proto, n| {
        let key = key(IpProto(proto), n);
        FlowKey::new(key.src, key.dst, L4Port(0), L4Port(0), key.proto)
    };
    let mut table = table(8);
    let keys = [of(253, 0x100), of(253, 0x200), of(47, 0x100)];
    for original in keys {
        let flow = NewFlow {
            original,
            reply: original.inverted(),
            timeouts: Timeouts::other(),
            data: 1,
        };
        let id = table.insert(flow, secs(0)).unwrap();
        let seen = table.observe(id, Original, &Segment::datagram(60), secs(0));
        assert_eq!(seen, Observed::Accept { new_state: None });
        // A second packet of the same addresses and protocol is of the same flow.
        assert_eq!(table.lookup(&original), Some((id, Original)));
        assert_eq!(
            table.insert(flow, secs(0)),
            Err(conntrack::InsertError::Collision)
        );
        assert_eq!(table.lookup(&original.inverted()), Some((id, Reply)));
        let seen = table.observe(id, Reply, &Segment::datagram(60), secs(1));
        assert!(matches!(
            seen,
            Observed::Accept {
                new_state: Some(Replied)
            }
        ));
    }
    assert_eq!(table.len(), 3);
    assert_eq!(table.lookup(&of(47, 0x200)), None);
}

#[test]
fn flows_beside_each_other_share_a_client_and_are_found_by_their_replies() {
    let mut table = table(4);
    let original = key(IpProto::UDP, 1);
    let tuple = Tuple::from(&original);
    let reply = |port| translated(&original, port);
    let mut ids = Vec::new();
    for salt in 0..3_u32 {
        let beside = table.hashed_beside(tuple, salt);
        assert_eq!(table.lookup_beside(&beside), None);
        let back = table.hashed(Tuple::from(&reply(5000 + u16::try_from(salt).unwrap())));
        let (now, lasts) = (secs(0), table.timeouts_id(&Timeouts::udp()));
        let id = table.enter_beside(beside, salt, back, lasts, salt, now);
        ids.push(id.unwrap());
    }
    assert_eq!(table.stats().in_state(State::Datagrams), 3);
    // Whose a datagram of the client is, the caller decides.
    assert_eq!(table.lookup(&original), None);
    for (salt, id) in (0..).zip(&ids) {
        assert_eq!(
            table.lookup_beside(&table.hashed_beside(tuple, salt)),
            Some(*id)
        );
        let port = 5000 + u16::try_from(salt).unwrap();
        assert_eq!(table.lookup(&reply(port)), Some((*id, Reply)));
        let flow = table.get(*id).unwrap();
        assert_eq!(
            (flow.original(), flow.translated(Reply)),
            (original, original.inverted())
        );
        for direction in [Original, Reply, Original] {
            let seen = table.observe(*id, direction, &Segment::datagram(10), secs(1));
            assert_eq!(seen, Observed::Accept { new_state: None });
        }
        assert_eq!(table.get(*id).unwrap().state(), State::Datagrams);
    }
    // One ends: its tuple is free, the others stay. One flow that is none of them may be entered, too.
    assert_eq!(table.remove(ids[1], EndReason::Removed), Some(1));
    assert_eq!(table.lookup_beside(&table.hashed_beside(tuple, 1)), None);
    assert!(!table.contains(&reply(5001)));
    assert!(
        table
            .lookup_beside(&table.hashed_beside(tuple, 2))
            .is_some()
    );
    let usual = NewFlow {
        original,
        reply: reply(5001),
        timeouts: Timeouts::udp(),
        data: 9,
    };
    let usual = table.insert(usual, secs(1)).unwrap();
    assert_eq!(table.lookup(&original), Some((usual, Original)));
    // They last as long as idle flows, and give way in a full table.
    let lasts = Timeouts::udp().of(Replied).as_secs();
    assert_eq!(
        expire(&mut table, secs(lasts)),
        [(9, EndReason::Unanswered)]
    );
    let mut ended = expire(&mut table, secs(lasts + 2));
    ended.sort_unstable_by_key(|(data, _)| *data);
    assert_eq!(ended, [(0, EndReason::Idle), (2, EndReason::Idle)]);
    assert!(table.is_empty());
}

#[test]
fn reply_of_a_snat_flow_returns_to_the_client() {
    let mut table = table(4);
    let original = key(IpProto::TCP, 1);
    let reply = translated(&original, 5000);
    let flow = NewFlow {
        original,
        reply,
        timeouts: Timeouts::tcp(),
        data: 1,
    };
    assert!(!table.contains(&reply));
    let id = table.insert(flow, secs(0)).unwrap();
    assert_eq!(table.lookup(&original), Some((id, Original)));
    assert_eq!(table.lookup(&reply), Some((id, Reply)));
    assert!(!table.contains(&original.inverted()) && !table.contains(&reply.inverted()));
    let entry = table.get(id).unwrap();
    assert!(entry.is_translated());
    assert_eq!(entry.translated(Original), reply.inverted());
    assert_eq!(entry.translated(Reply), original.inverted());

    // The port is leased until the flow is gone, whatever the client.
    let other = NewFlow {
        original: key(IpProto::TCP, 2),
        ..flow
    };
    assert_eq!(
        table.insert(other, secs(0)),
        Err(conntrack::InsertError::Collision)
    );
    assert!(!table.contains(&other.original));
    let removed = table.remove(id, EndReason::Removed).unwrap();
    assert_eq!(removed, 1);
    assert!(!table.contains(&reply) && !table.contains(&original));
    assert!(table.insert(other, secs(0)).is_ok());
}

#[test]
fn a_flow_must_not_be_its_own_reply() {
    let mut table = table(4);
    let flow = new_flow(IpProto::TCP, 1);
    let own = NewFlow {
        reply: flow.original,
        ..flow
    };
    assert_eq!(
        table.insert(own, secs(0)),
        Err(conntrack::InsertError::Collision)
    );
    assert!(table.insert(flow, secs(0)).is_ok());
    assert_eq!(
        table.insert(flow, secs(0)),
        Err(conntrack::InsertError::Collision)
    );
    assert_eq!(table.stats().collisions, 2);
    assert_eq!(table.len(), 1);
}

#[test]
fn names_are_the_ones_operators_know() {
    let names: Vec<_> = State::ALL.iter().map(State::to_string).collect();
    assert_eq!(
        names.join(" "),
        "SYN_SENT SYN_RECV ESTABLISHED FIN_WAIT CLOSE_WAIT LAST_ACK TIME_WAIT CLOSED \
         UNREPLIED REPLIED COOKIE_WAIT COOKIE_ECHOED SHUTDOWN_SENT SHUTDOWN_RECD \
         SHUTDOWN_ACK_SENT SHUTDOWN_COMPLETE DATAGRAMS"
    );
}
