use super::*;
use crate::event::Event;
use crate::testing::{EXTERNAL, vlan, with_packet};

const MACS: [MacAddr; 4] = [
    MacAddr([2, 0, 0, 0, 0, 1]),
    MacAddr([2, 0, 0, 0, 0, 2]),
    MacAddr([2, 0, 0, 0, 0, 3]),
    MacAddr([2, 0, 0, 0, 0, 4]),
];

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_secs(100) + Duration::from_secs_f64(seconds)
}

/// A VLAN on so many ports, each with its own MAC address.
fn table(ports: u8) -> Table {
    let mut vlan = vlan(EXTERNAL.0, 100);
    vlan.ports = (0..ports).map(PortId).collect();
    vlan.macs = MACS[..usize::from(ports)].to_vec();
    vlan.mac = MACS[0];
    Table::new(vec![vlan]).unwrap()
}

fn segments(ports: u8) -> (Segments, Table) {
    let (mut segments, table) = (Segments::new(7), table(ports));
    segments.set_vlans(&table, at(0.0));
    (segments, table)
}

/// Has port `to` hear the probe of port `from`.
fn carry(
    segments: &mut Segments,
    table: &Table,
    emit: &Emit,
    from: u8,
    to: u8,
    now: Timestamp,
) -> bool {
    let frame = emit.frame(MACS[usize::from(from)]).unwrap();
    let vlan = table.get(EXTERNAL).unwrap();
    let event = with_packet(&frame, |packet| {
        let layers = net::Layers::parse(packet).unwrap();
        hear(packet, &layers, vlan, PortId(to))
    });
    let Some(Event::Probed {
        vlan,
        at,
        from,
        nonce,
    }) = event.0
    else {
        panic!("{event:?}");
    };
    segments.heard(vlan, at, from, nonce, now)
}

fn masks(segments: &Segments) -> Vec<u64> {
    segments.together(EXTERNAL).unwrap()
}

#[test]
fn probes_are_sent_quickly_at_first_and_now_and_then_later() {
    let (mut segments, _) = segments(2);
    let mut sent = Vec::new();
    while let Some(due) = segments.next_deadline().filter(|due| *due < at(40.0)) {
        while segments.poll(due).is_some() {
            sent.push(due.since(at(0.0)).as_secs());
        }
    }
    assert_eq!(sent, [0, 1, 2, 3, 13, 23, 33]);
}

#[test]
fn a_vlan_with_one_station_sends_none() {
    let mut segments = Segments::new(1);
    segments.set_vlans(&Table::new(vec![vlan(EXTERNAL.0, 100)]).unwrap(), at(0.0));
    assert_eq!(segments.next_deadline(), None);
    assert_eq!(segments.poll(at(9.0)), None);
    assert_eq!(segments.together(EXTERNAL), None);
}

#[test]
fn ports_that_hear_each_other_are_together_by_way_of_others_too() {
    let (mut segments, table) = segments(4);
    assert_eq!(masks(&segments), [1, 2, 4, 8]);
    let emit = segments.poll(at(0.0)).unwrap();
    assert!(carry(&mut segments, &table, &emit, 3, 1, at(0.0)));
    assert!(
        !carry(&mut segments, &table, &emit, 3, 1, at(0.1)),
        "no news"
    );
    assert_eq!(masks(&segments), [1, 0b1010, 4, 0b1010]);
    assert!(carry(&mut segments, &table, &emit, 0, 3, at(0.2)));
    assert_eq!(masks(&segments), [0b1011, 0b1011, 4, 0b1011]);
    assert!(
        !carry(&mut segments, &table, &emit, 2, 2, at(0.2)),
        "a loop"
    );
    assert_eq!(masks(&segments)[2], 4);
}

#[test]
fn what_is_not_heard_again_is_forgotten_and_so_is_what_a_link_was_part_of() {
    let (mut segments, table) = segments(3);
    let emit = segments.poll(at(0.0)).unwrap();
    carry(&mut segments, &table, &emit, 0, 1, at(0.0));
    carry(&mut segments, &table, &emit, 1, 2, at(20.0));
    assert_eq!(masks(&segments), [7, 7, 7]);
    assert!(segments.expire(at(34.9)).is_empty());
    assert_eq!(segments.expire(at(35.0)), [EXTERNAL]);
    assert_eq!(masks(&segments), [1, 6, 6]);
    // The configuration changes nothing about it as long as the ports stay.
    segments.set_vlans(&table, at(36.0));
    assert_eq!(masks(&segments), [1, 6, 6]);
    assert!(segments.link_changed(PortId(9), at(37.0)).is_empty());
    assert_eq!(segments.link_changed(PortId(2), at(37.0)), [EXTERNAL]);
    assert_eq!(masks(&segments), [1, 2, 4]);
    assert!(segments.poll(at(37.0)).is_some(), "asked again at once");
    carry(&mut segments, &table, &emit, 1, 2, at(38.0));
    segments.set_vlans(&self::table(2), at(39.0));
    assert_eq!(masks(&segments), [1, 2]);
}

#[test]
fn nobody_makes_us_believe_what_is_not_so() {
    let (mut segments, table) = segments(2);
    let emit = segments.poll(at(0.0)).unwrap();
    let vlan = table.get(EXTERNAL).unwrap();
    let honest = emit.frame(MACS[0]).unwrap();
    // The number of one port does not do for another; nor does one of another start.
    let mut forged = honest.clone();
    forged[6..12].copy_from_slice(&MACS[1].0);
    let other = {
        let mut other = Segments::new(8);
        other.set_vlans(&table, at(0.0));
        other.poll(at(0.0)).unwrap()
    };
    assert_ne!(other.frame(MACS[0]), emit.frame(MACS[0]));
    let read = |frame: &[u8], port| {
        with_packet(frame, |packet| {
            let layers = net::Layers::parse(packet).unwrap();
            hear(packet, &layers, vlan, PortId(port))
        })
        .0
    };
    let Some(Event::Probed {
        at: port,
        from,
        nonce,
        ..
    }) = read(&forged, 0)
    else {
        panic!("read as a probe");
    };
    assert!(!segments.heard(EXTERNAL, port, from, nonce, at(1.0)));
    assert_eq!(masks(&segments), [1, 2]);
    // Cut off, of a stranger, of another kind: no probe.
    let mut stranger = honest.clone();
    stranger[11] = 99;
    let mut magic = honest.clone();
    magic[18] ^= 1;
    for frame in [&honest[..25], &stranger, &magic] {
        assert_eq!(read(frame, 1), None);
    }
    assert!(read(&honest, 1).is_some());
}

#[test]
fn a_number_of_another_vlan_or_of_long_ago_counts_for_nothing() {
    let (mut segments, table) = segments(2);
    let emit = segments.poll(at(0.0)).unwrap();
    let mut elsewhere = vlan(EXTERNAL.0, 200);
    elsewhere.ports = vec![PortId(0), PortId(1)];
    elsewhere.macs = MACS[..2].to_vec();
    let moved = Table::new(vec![elsewhere]).unwrap();
    segments.set_vlans(&moved, at(1.0));
    assert!(!carry(&mut segments, &moved, &emit, 0, 1, at(1.0)));
    segments.set_vlans(&table, at(2.0));
    // However late in its epoch it was sent, a number is taken for some time.
    for sent in 0..40u32 {
        let sent = at(100.0 + f64::from(sent));
        let emit = probe::emit(table.get(EXTERNAL).unwrap(), 7, sent);
        segments.link_changed(PortId(0), sent);
        assert!(carry(
            &mut segments,
            &table,
            &emit,
            0,
            1,
            sent + Duration::from_secs(1)
        ));
        segments.link_changed(PortId(0), sent);
        let late = sent + 2 * HOLDS;
        assert!(!carry(&mut segments, &table, &emit, 0, 1, late));
    }
}

#[test]
fn askers_and_targets_are_spread_evenly_and_always_the_same_way() {
    for count in [2usize, 3, 8] {
        let mut met = vec![0usize; count];
        for asker in 0..60u8 {
            for target in 0..60u8 {
                let pair = [[192, 0, 2, asker], [203, 0, 113, target]].map(Addr::from_v4);
                let spread = spread(&pair[0], &pair[1]);
                assert_eq!(
                    choose(spread, count),
                    choose(self::spread(&pair[0], &pair[1]), count)
                );
                met[choose(spread, count).unwrap()] += 1;
            }
        }
        let fair = 3600 / count;
        assert!(met.iter().all(|n| n.abs_diff(fair) < fair / 4), "{met:?}");
    }
    assert_eq!(choose(9, 0), None);
}
