//! Tests of the harness: what it times is what it says.

use super::*;

#[test]
fn every_frame_of_every_kind_of_traffic_is_forwarded_in_both_directions() {
    for (name, traffic) in Traffic::ALL {
        let mut bench = Bench::with_flows(traffic, 100, 64).unwrap();
        for mix in [Mix::Both, Mix::Requests, Mix::Replies] {
            bench
                .time_established(mix, Work::Process, 10)
                .unwrap_or_else(|error| panic!("{name} {mix:?}: {error}"));
        }
        assert_eq!(bench.len(), 100, "{name}");
        bench.time_opening(Work::Process, 2).unwrap();
        assert_eq!(bench.len(), 164, "{name}");
    }
}

#[test]
fn without_work_nothing_is_forwarded_and_no_flow_opened() {
    let mut bench = Bench::with_flows(Traffic::TCP4, 100, 64).unwrap();
    assert_eq!(bench.established(Mix::Both, Work::Blank), 0);
    assert_eq!(bench.opening(Work::Blank), 0);
    assert_eq!(bench.len(), 100);
}

#[test]
fn a_timed_turn_opens_what_it_is_told_to_and_forwards_the_rest() {
    let mut bench = Bench::with_flows(Traffic::TCP4, 100, 64).unwrap();
    let mut opens = 5;
    // One turn belongs to the servers, one to the clients.
    for _ in 0..2 {
        let now = bench.now();
        bench.timed_turn(now, &mut opens, None).unwrap();
    }
    assert_eq!((opens, bench.len()), (0, 105));
}

#[test]
fn stray_frames_are_dropped() {
    let mut bench = Bench::new(Layout::for_flows(Traffic::TCP4, 1), 1).unwrap();
    assert_eq!(bench.stray(Work::Process), 0);
}
