//! What clients send to each other's translated addresses.

use std::time::Duration;

use super::bench::{Bench, lines};

const MORE: &[&str] = &[
    "F5SPKVlan internal tag=200 interfaces=[\"1.2\"] internal=true selfip_v4s=[\"198.51.100.1\"] \
     prefixlen_v4=24",
    "F5SPKSnatpool out addressList=[\"192.0.2.50\"]",
    "F5SPKEgress out egressSnatpool=out natMapping=ENDPOINT_INDEPENDENT \
     natFiltering=ENDPOINT_INDEPENDENT",
];

#[test]
fn hairpin_costs_no_allocation_whatever_comes_round() {
    let mut bench = Bench::with(MORE);
    bench.send("1.1 100 gw>all arp who-has 192.0.2.1 tell 192.0.2.77");
    bench.settle();
    let out = |kind: &str, from: &str, to: &str, what: &str| {
        format!("1.2 200 b1>tmm2 {kind} {from}>{to} {what}")
    };
    for (kind, what) in [("udp", "len=9"), ("tcp", "S seq=1")] {
        let mut spent = Vec::new();
        for first in [20_000, 21_000] {
            bench.now = bench.now + Duration::from_secs(1);
            let mut take = |line: &dyn Fn(u16) -> String, sent: usize| {
                let (calls, left) = bench.turns(&lines(20, |n| line(first + n)));
                assert_eq!(left, sent, "{}", line(first));
                spent.push((first, calls));
            };
            let [inner, outer] = ["198.51.100.11", "192.0.2.50"];
            let (a, b) = (
                |n: u16| format!("{inner}:{n}"),
                |n: u16| format!("198.51.100.12:{}", n + 5000),
            );
            let (a_out, b_out) = (
                |n: u16| format!("{outer}:{n}"),
                |n: u16| format!("{outer}:{}", n + 5000),
            );
            take(&|n| out(kind, &a(n), "192.0.2.77:53", what), 20);
            take(&|n| out(kind, &b(n), &a_out(n), what), 20);
            let answer = if kind == "tcp" {
                "S. seq=9 ack=2"
            } else {
                "len=9"
            };
            take(&|n| out(kind, &a(n), &b_out(n), answer), 20);
            // A router behind the receiver speaks of what came round; nobody has that port; no hop is left.
            take(
                &|n| {
                    let (from, to) = (b_out(n), a(n));
                    let quoted = if kind == "tcp" { "S seq=1" } else { what };
                    format!(
                        "1.2 200 b1>tmm2 icmp {inner}>{outer} type=3 code=3 quotes {kind} {from}>{to} {quoted} ttl=62"
                    )
                },
                20,
            );
            take(
                &|n| out(kind, &b(n), &format!("{outer}:{}", n + 20_000), what),
                0,
            );
            if kind == "udp" {
                // So many errors are for one address at once.
                take(&|n| out(kind, &b(n), &a_out(n), "len=9 ttl=2"), 16);
                let piece = |n: u16, place: &str| {
                    out(
                        kind,
                        &b(n),
                        &a_out(n),
                        &format!("len=2000 frag={place} fid={n}"),
                    )
                };
                take(&|n| piece(n, "1208+800"), 0);
                take(&|n| piece(n, "0+1208"), 40);
            }
        }
        let second = spent.iter().filter(|(first, _)| *first == 21_000);
        assert_eq!(
            second.map(|(_, calls)| calls).sum::<u64>(),
            0,
            "{kind} {spent:?}"
        );
    }
    assert!(bench.counter("hairpin_packets") > 300);
}
