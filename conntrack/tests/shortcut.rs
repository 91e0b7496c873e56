//! The shortcut for packets that change no state - [`Flow::passes`](conntrack::Flow::passes) and
//! [`Flow::pass`](conntrack::Flow::pass) - leads where [`Table::observe`](conntrack::Table::observe) leads.
#![allow(clippy::unwrap_used)]

mod common;

use common::{new_flow, secs, segment, table};
use conntrack::Direction::{Original, Reply};
use conntrack::{Direction, Flow, FlowId, Observed, State, Table};
use net::IpProto;
use proptest::prelude::*;

fn opened(table: &mut Table<u32>) -> FlowId {
    let new = new_flow(IpProto::TCP, 1);
    table.insert(new, secs(1)).unwrap()
}

/// A segment, told by how far it is from what went before.
#[derive(Debug, Clone)]
struct Act {
    direction: Direction,
    flags: &'static str,
    /// Octets away from the number that is next, and from what the other side sent last.
    seq: i32,
    ack: i32,
    payload: u32,
}

fn act() -> impl Strategy<Value = Act> {
    let near = prop_oneof![
        12 => Just(0),
        2 => -3000..3000_i32,
        1 => -200_000..200_000_i32,
    ];
    let flags = prop_oneof![
        12 => Just("A"),
        2 => Just("FA"),
        1 => Just("S"),
        1 => Just("SA"),
        1 => Just("RA"),
    ];
    let direction = prop_oneof![Just(Original), Just(Reply)];
    let payload = prop_oneof![2 => Just(0), 2 => 1..1460_u32];
    (direction, flags, near.clone(), near, payload).prop_map(
        |(direction, flags, seq, ack, payload)| Act {
            direction,
            flags,
            seq,
            ack,
            payload,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_packet_that_takes_the_shortcut_leaves_a_flow_as_the_long_way_does(
        acts in prop::collection::vec(act(), 1..60),
        shakes in prop::bool::weighted(0.9),
    ) {
        let (mut long, mut short) = (table(4), table(4));
        let (id, same) = (opened(&mut long), opened(&mut short));
        prop_assert_eq!(id, same);
        let mut now = secs(1);
        // What each side sends next.
        let mut next = [1000_u32, 9000];
        if shakes {
            for (direction, flags, seq, ack) in [
                (Original, "S", 1000, 0),
                (Reply, "SA", 9000, 1001),
                (Original, "A", 1001, 9001),
            ] {
                for table in [&mut long, &mut short] {
                    let _ = table.observe(id, direction, &segment(flags, seq, ack, 0), now);
                }
            }
            next = [1001, 9001];
        }
        for act in acts {
            now = now + std::time::Duration::from_millis(1);
            let (from, to) = (act.direction as usize, 1 - act.direction as usize);
            let seq = next[from].wrapping_add_signed(act.seq);
            let ack = next[to].wrapping_add_signed(act.ack);
            let segment = segment(act.flags, seq, ack, act.payload);
            let observed = long.observe(id, act.direction, &segment, now);
            let flow = short.get_mut(id).unwrap();
            if flow.passes(act.direction, segment.tcp.as_ref()) {
                prop_assert_eq!(observed, Observed::Accept { new_state: None });
                flow.pass(act.direction, segment.tcp.as_ref(), segment.bytes, now);
            } else {
                prop_assert_eq!(short.observe(id, act.direction, &segment, now), observed);
            }
            let shown = |flow: &Flow<u32>| format!("{flow:?}");
            let (a, b) = (long.get(id).unwrap(), short.get(id).unwrap());
            prop_assert_eq!(shown(&a), shown(&b), "after {:?}", act);
            if act.seq == 0 && matches!(observed, Observed::Accept { .. }) {
                let control = u32::from(act.flags != "A" && act.flags != "RA");
                next[from] = seq.wrapping_add(act.payload + control);
            }
        }
    }
}

#[test]
fn a_connection_that_one_side_has_closed_goes_on_by_the_shortcut() {
    for (closer, other) in [(Original, Reply), (Reply, Original)] {
        let mut table = table(4);
        let id = opened(&mut table);
        let mut seen = |direction, flags, seq, ack, payload| {
            let segment = segment(flags, seq, ack, payload);
            let flow = table.get(id).unwrap();
            let passes = flow.passes(direction, segment.tcp.as_ref());
            let now = secs(2);
            let observed = table.observe(id, direction, &segment, now);
            (passes, observed, table.get(id).unwrap().state())
        };
        let (mine, theirs) = if closer == Original {
            (1001, 9001)
        } else {
            (9001, 1001)
        };
        let _ = seen(Original, "S", 1000, 0, 0);
        let _ = seen(Reply, "SA", 9000, 1001, 0);
        let _ = seen(Original, "A", 1001, 9001, 0);
        let (passes, _, state) = seen(closer, "FA", mine, theirs, 0);
        assert_eq!((passes, state), (false, State::FinWait));
        // The acknowledgement of the FIN changes the state.
        let (passes, _, state) = seen(other, "A", theirs, mine + 1, 0);
        assert_eq!((passes, state), (false, State::CloseWait));
        for n in 0..3 {
            let (passes, observed, state) = seen(other, "A", theirs + n * 100, mine + 1, 100);
            assert_eq!((passes, state), (true, State::CloseWait));
            assert_eq!(observed, Observed::Accept { new_state: None });
            let (passes, ..) = seen(closer, "A", mine + 1, theirs + n * 100 + 100, 0);
            assert!(passes);
        }
        // Nothing comes behind a FIN, and the other FIN is for the long way.
        let (passes, ..) = seen(closer, "A", mine + 1, theirs + 300, 1);
        assert!(!passes);
        let (passes, _, state) = seen(other, "FA", theirs + 300, mine + 1, 0);
        assert_eq!((passes, state), (false, State::LastAck));
    }
}
