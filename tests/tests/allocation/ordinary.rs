//! What passes every day.

use std::time::Duration;

use super::bench::{Bench, lines, syns};

#[test]
fn new_flows_cost_no_allocation_however_they_are_balanced_and_translated() {
    let mut bench = Bench::new();
    for address in 10..=13 {
        // Members' connections of this virtual server are counted for the first time.
        let port = 20_000 + u16::from(address) * 1000;
        bench.turns(&syns(address, port)[..4]);
        assert_eq!(
            bench.turns(&syns(address, port + 10)),
            (0, 100),
            "{address}"
        );
    }
    assert_eq!(bench.counter("flows"), 4 * 104);
}

#[test]
fn established_flows_cost_no_allocation() {
    let mut bench = Bench::new();
    bench.turns(&syns(10, 40_000));
    let back = |n: u16, flags: &str| {
        let port = 40_000 + n;
        let member = 11 + n % 2;
        format!("1.2 200 b1>tmm2 tcp 198.51.100.{member}:8080>192.0.2.7:{port} {flags}")
    };
    let forth = |n: u16, flags: &str| {
        let port = 40_000 + n;
        format!("1.1 100 client>tmm1 tcp 192.0.2.7:{port}>203.0.113.10:80 {flags}")
    };
    bench.turns(&lines(100, |n| back(n, "S. seq=9 ack=2")));
    bench.turns(&lines(100, |n| forth(n, ". seq=2 ack=10")));
    assert_eq!(
        bench.turns(&lines(100, |n| forth(n, "P. seq=2 ack=10 len=900"))),
        (0, 100)
    );
    assert_eq!(
        bench.turns(&lines(100, |n| back(n, "P. seq=10 ack=902 len=900"))),
        (0, 100)
    );
    // And their end.
    assert_eq!(
        bench.turns(&lines(100, |n| forth(n, "R. seq=902 ack=910"))),
        (0, 100)
    );
    bench.now = bench.now + Duration::from_secs(10);
    assert_eq!(bench.turns(&[]), (0, 0));
    assert_eq!(bench.counter("flows"), 0, "all have ended in those turns");
}

#[test]
fn a_full_table_costs_no_allocation() {
    let mut bench = Bench::new();
    for first in (10_000..20_000).step_by(100) {
        bench.turns(&syns(10, first));
    }
    assert_eq!(bench.counter("flows"), 1024);
    assert_eq!(bench.turns(&syns(11, 40_000)).0, 0);
    assert_eq!(bench.counter("flows"), 1024);
}

#[test]
fn drops_and_answers_cost_no_allocation() {
    let mut bench = Bench::new();
    for (line, answered) in [
        (
            "1.1 101 client>tmm1 tcp 192.0.2.7:1>203.0.113.10:80 S",
            false,
        ),
        (
            "1.1 100 client>tmm1 tcp 192.0.2.7:1>203.0.113.10:80 S badsum",
            false,
        ),
        (
            "1.1 100 client>tmm1 tcp 192.0.2.7:1>203.0.113.10:81 S",
            false,
        ),
        (
            "1.1 100 client>tmm1 udp 192.0.2.7:1>203.0.113.10:53 frag=0+7",
            false,
        ),
        (
            "1.1 100 client>tmm1 tcp 192.0.2.7:1>203.0.113.10:80 . seq=1 ack=2",
            true,
        ),
        (
            "1.1 100 client>all arp who-has 192.0.2.1 tell 192.0.2.7",
            true,
        ),
        (
            "1.1 100 client>33:33:ff:00:00:01 ns 2001:db8:1::1 from 2001:db8:1::7 to ff02::1:ff00:1",
            true,
        ),
        ("1.1 100 client>tmm1 echo 192.0.2.7>192.0.2.1 len=56", true),
        (
            "1.1 100 client>all arp 192.0.2.1 is-at client tell 192.0.2.1",
            false,
        ),
    ] {
        let many = lines(100, |_| line.to_owned());
        let sent = if answered { 100 } else { 0 };
        assert_eq!(bench.turns(&many), (0, sent), "{line}");
        bench.settle();
    }
}

#[test]
fn fragments_cost_no_allocation_whether_they_wait_or_not() {
    let mut bench = Bench::new();
    let part = |n: u16, part: &str| {
        let client = format!("192.0.2.{}:5000", 50 + n % 100);
        let fid = n / 100;
        format!("1.1 100 client>tmm1 udp {client}>203.0.113.10:53 len=1000 frag={part} fid={fid}")
    };
    // A member that is known has these.
    let parts = ["504+504", "0+504"];
    bench.turns(&lines(100, |n| part(n, parts[1])));
    bench.settle();
    for round in 1..4u16 {
        for which in parts {
            let (calls, _) = bench.turns(&lines(100, |n| part(round * 100 + n, which)));
            assert_eq!(calls, 0, "{which}");
        }
    }
    assert_eq!(bench.counter("fragments_waited_packets"), 300);
    // Given up.
    let alone = lines(400, |n| part(n, parts[0]).replace("fid=", "fid=9"));
    assert_eq!(bench.turns(&alone), (0, 0));
    bench.now = bench.now + Duration::from_mins(1);
    let (calls, _) = bench.turns(&[]);
    assert_eq!(calls, 0);
}

#[test]
fn frames_that_wait_for_a_neighbor_cost_no_allocation() {
    let mut bench = Bench::new();
    let line = |n: u16| format!("1.1 100 client>tmm1 udp 192.0.2.7:{n}>203.0.113.10:53 len=9");
    assert_eq!(bench.turns(&lines(100, |n| line(1000 + n))), (0, 0));
    assert_eq!(bench.counter("held_packets"), 16);
    bench.settle();
    bench.send("1.2 200 b2>tmm2 arp 198.51.100.99 is-at b2 tell 198.51.100.1");
    bench.worker.turn(bench.now);
    bench.control.poll(bench.now);
    assert_eq!(bench.turns(&[]), (0, 16), "they leave when it is known");
}
