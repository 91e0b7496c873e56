//! What is written down, limited, asked back, mapped, quoted in errors or cut.

use std::sync::Arc;
use std::time::Duration;

use dataplane::journal::Journal;

use super::bench::{Bench, lines};

/// Clients' packets may be longer than members', so that they are cut; there is a way out of the cluster, and
/// virtual servers with limits and the like.
const MORE: &[&str] = &[
    "F5SPKVlan external tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24 \
     selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64 mtu=1600",
    "F5SPKVlan internal tag=200 interfaces=[\"1.2\"] internal=true selfip_v4s=[\"198.51.100.1\"] \
     prefixlen_v4=24",
    "Service web 80/TCP 53/UDP 54/UDP 38412/SCTP",
    "EndpointSlice web:54 UDP 198.51.100.11:5354 198.51.100.12:5354",
    "EndpointSlice web:38412 SCTP 198.51.100.11:38412",
    "F5SPKSnatpool out addressList=[\"192.0.2.50\"]",
    "F5SPKSnatpool in addressList=[\"198.51.100.50\"]",
    "F5SPKEgress out egressSnatpool=out natMapping=ENDPOINT_INDEPENDENT \
     natFiltering=ENDPOINT_INDEPENDENT maxMappingsPerClient=150",
    "F5SPKIngressTCP pooled service=web:80 destinationAddress=203.0.113.20 destinationPort=80 \
     snat=SRC_TRANS_SNATPOOL snatpool=in idleTimeout=20 resetOnTimeout=true",
    "F5SPKIngressTCP limited service=web:80 destinationAddress=203.0.113.21 destinationPort=80 \
     connectionLimit=250 clientConnectionLimit=50",
    "F5SPKIngressTCP guarded service=web:80 destinationAddress=203.0.113.22 destinationPort=80 \
     synProtectionThreshold=1",
    "F5SPKIngressUDP plain service=web:54 destinationAddress=203.0.113.23 destinationPort=54",
    "F5SPKIngressUDP each service=web:54 destinationAddress=203.0.113.24 destinationPort=54 \
     datagramLoadBalancing=true",
    "F5SPKIngressNGAP amf service=web:38412 destinationAddress=203.0.113.25 snat=SRC_TRANS_AUTOMAP",
];

/// With a journal that has room for all there is, and with one that is full at once.
fn benches() -> impl Iterator<Item = (Bench, Arc<Journal>)> {
    [16_384, 8].into_iter().map(|room| {
        let mut bench = Bench::with(MORE);
        let journal = Arc::new(Journal::with_room(room, Duration::from_secs(10)));
        bench.worker.keep_journal(Arc::clone(&journal));
        for line in [
            "1.1 100 gw>all arp who-has 192.0.2.1 tell 192.0.2.77",
            "1.1 100 client>all arp who-has 192.0.2.1 tell 192.0.2.7",
        ] {
            bench.send(line);
        }
        bench.settle();
        (bench, journal)
    })
}

/// The second time costs nothing: `round` is the first port of the clients.
fn twice(bench: &mut Bench, sent: usize, round: impl Fn(u16) -> Vec<String>) {
    bench.turns(&round(20_000));
    let lines = round(21_000);
    assert_eq!(bench.turns(&lines), (0, sent), "{}", lines[0]);
    bench.settle();
}

#[test]
fn flows_in_a_journal_cost_no_allocation_from_beginning_to_end() {
    for (mut bench, journal) in benches() {
        let there = |port: u16, what: &str| {
            format!("1.1 100 client>tmm1 tcp 192.0.2.7:{port}>203.0.113.20:80 {what}")
        };
        let back = |port: u16, what: &str| {
            let member = 11 + port % 2;
            format!("1.2 200 b1>tmm2 tcp 198.51.100.{member}:8080>198.51.100.50:{port} {what}")
        };
        let of = |first: u16, line: &dyn Fn(u16, &str) -> String, what: &str| {
            lines(100, |n| line(first + n, what))
        };
        for first in [20_000, 21_000] {
            let is_second = first == 21_000;
            let mut calls = Vec::new();
            calls.push(bench.turns(&of(first, &there, "S seq=1")));
            calls.push(bench.turns(&of(first, &back, "S. seq=9 ack=2")));
            calls.push(bench.turns(&of(first, &there, ". seq=2 ack=10")));
            // They last, and are told of.
            for _ in 0..12 {
                bench.now = bench.now + Duration::from_secs(1);
                calls.push(bench.turns(&[]));
            }
            calls.push(bench.turns(&of(first, &there, "P. seq=2 ack=10 len=100")));
            // Half of them are reset, the others end for their silence, both sides being told.
            let resets = of(first, &there, "R. seq=102 ack=10");
            calls.push(bench.turns(&resets[..50]));
            let mut told = 0;
            for _ in 0..40 {
                bench.now = bench.now + Duration::from_secs(1);
                let (calls_now, sent) = bench.turns(&[]);
                calls.push((calls_now, 0));
                told += sent;
            }
            if is_second {
                let all: u64 = calls.iter().map(|(calls, _)| calls).sum();
                assert_eq!(all, 0, "{calls:?}");
                assert_eq!(calls[0].1, 100);
                assert_eq!(told, 100, "a reset to either end of fifty");
            }
            bench.settle();
        }
        assert_eq!(bench.counter("flows"), 0);
        // 200 began and ended; half of them were told of in between.
        assert_eq!(journal.lost() > 0, journal_is_small(&journal));
    }
}

fn journal_is_small(journal: &Journal) -> bool {
    std::iter::from_fn(|| journal.pop()).count() <= 8
}

#[test]
fn limits_cost_no_allocation_whether_they_are_reached_or_not() {
    for (mut bench, _) in benches() {
        let syn = |address: u8, client: u16, port: u16| {
            format!(
                "1.1 100 client>tmm1 tcp 192.0.2.{client}:{port}>203.0.113.{address}:80 S seq=1"
            )
        };
        // 50 of each client's; the rest is refused.
        twice(&mut bench, 100, |first| {
            let client = 10 + first / 1000;
            lines(100, |n| syn(21, client, first + n))
        });
        assert_eq!(bench.counter("answer.reset_client_limit"), 100);
        // Beyond a second's worth everybody is asked back, and proves itself.
        twice(&mut bench, 100, |first| {
            let client = 30 + first / 1000;
            lines(100, |n| syn(22, client, first + n))
        });
        let proofs = |port: u16| {
            format!("1.1 100 client>tmm1 tcp 192.0.2.51:{port}>203.0.113.22:80 R seq=1")
        };
        let (calls, _) = bench.turns(&lines(100, |n| proofs(21_000 + n)));
        assert_eq!(calls, 0);
    }
}

#[test]
fn ways_out_of_the_cluster_cost_no_allocation_with_mappings_and_without_room_for_more() {
    for (mut bench, _) in benches() {
        let out = |kind: &str, port: u16, to: &str, what: &str| {
            format!("1.2 200 b1>tmm2 {kind} 198.51.100.11:{port}>{to} {what}")
        };
        // Two flows of each mapping, by TCP and by UDP.
        for (kind, what) in [("udp", "len=9"), ("tcp", "S seq=1")] {
            bench.turns(&lines(20, |n| out(kind, 20_000 + n, "192.0.2.77:53", what)));
            let many = |to: &str| lines(20, |n| out(kind, 21_000 + n, to, what));
            assert_eq!(bench.turns(&many("192.0.2.77:53")), (0, 20), "{kind}");
            assert_eq!(bench.turns(&many("192.0.2.77:54")), (0, 20), "{kind}");
        }
        let echo = |id: u16| format!("1.2 200 b1>tmm2 echo 198.51.100.11>192.0.2.77 id={id}");
        bench.turns(&lines(20, |n| echo(20_000 + n)));
        assert_eq!(bench.turns(&lines(20, |n| echo(21_000 + n))), (0, 20));
        // Strangers come in by them.
        let stranger = |n: u16| {
            let to = 21_000 + n % 20;
            format!(
                "1.1 100 gw>tmm1 udp 192.0.2.77:{}>192.0.2.50:{to} len=3",
                2000 + n
            )
        };
        bench.turns(&lines(20, stranger));
        let (calls, _) = bench.turns(&lines(40, |n| stranger(100 + n)));
        assert_eq!(calls, 0);
        assert_eq!(bench.worker.pipeline().mappings(), 120);
        // No more than 150 of a client.
        let more = lines(100, |n| out("udp", 30_000 + n, "192.0.2.77:53", "len=9"));
        assert_eq!(bench.turns(&more), (0, 30));
        assert_eq!(bench.counter("drop.nat_mappings"), 70);
        // And the end of all.
        for _ in 0..16 {
            bench.now = bench.now + Duration::from_mins(10);
            let (calls, _) = bench.turns(&[]);
            assert_eq!(calls, 0);
        }
        bench.settle();
        assert_eq!(bench.worker.pipeline().mappings(), 0);
    }
}

#[test]
fn errors_cost_no_allocation_of_our_own_and_of_others() {
    for (mut bench, _) in benches() {
        let there = |port: u16, what: &str| {
            format!("1.1 100 client>tmm1 udp 192.0.2.7:{port}>203.0.113.23:54 {what}")
        };
        twice(&mut bench, 100, |first| {
            lines(100, |n| there(first + n, "len=9"))
        });
        // Of a member, about a packet of a flow.
        twice(&mut bench, 100, |first| {
            lines(100, |n| {
                let (member, port) = (11 + (first + n) % 2, first + n);
                format!(
                    "1.2 200 b1>tmm2 icmp 198.51.100.{member}>192.0.2.7 type=3 code=3 quotes \
                     udp 192.0.2.7:{port}>198.51.100.{member}:5354 len=9 ttl=63"
                )
            })
        });
        // Of no flow.
        twice(&mut bench, 0, |first| {
            lines(100, |n| {
                let port = first + 5000 + n;
                format!(
                    "1.2 200 b1>tmm2 icmp 198.51.100.11>192.0.2.7 type=3 code=3 quotes \
                     udp 192.0.2.7:{port}>198.51.100.11:5354 len=9 ttl=63"
                )
            })
        });
        // Our own: out of hops, too long, and too many of them.
        for what in ["len=9 ttl=1", "len=1540"] {
            bench.turns(&lines(10, |n| there(20_000 + n, what)));
            let (calls, sent) = bench.turns(&lines(400, |n| there(21_000 + n % 100, what)));
            assert_eq!(calls, 0, "{what}");
            bench.settle();
            let counters = bench.control.counters();
            let told: Vec<_> = counters.iter().filter(|(_, count)| **count > 0).collect();
            assert!((1..400).contains(&sent), "{what}: {sent}, {told:?}");
            bench.now = bench.now + Duration::from_secs(30);
            bench.settle();
        }
    }
}

#[test]
fn fragments_that_are_made_and_fragments_of_flows_cost_no_allocation() {
    for (mut bench, _) in benches() {
        let udp = |port: u16, what: &str| {
            format!("1.1 100 client>tmm1 udp 192.0.2.7:{port}>203.0.113.23:54 {what}")
        };
        // One that is too long and may be cut leaves in two.
        twice(&mut bench, 200, |first| {
            lines(100, |n| {
                udp(first + n, &format!("len=1540 nodf fid={}", n + 1))
            })
        });
        // Those of clients, the second ones first.
        twice(&mut bench, 100, |first| {
            let part = |n: u16| {
                if n.is_multiple_of(2) {
                    "504+504"
                } else {
                    "0+504"
                }
            };
            lines(100, |n| {
                let (port, fid) = (first + 100 + n / 2, 1000 + n / 2);
                udp(port, &format!("len=1000 frag={} fid={fid}", part(n)))
            })
        });
    }
}

#[test]
fn associations_and_datagrams_by_themselves_cost_no_allocation() {
    for (mut bench, _) in benches() {
        twice(&mut bench, 100, |first| {
            lines(100, |n| {
                let port = first + n;
                format!("1.1 100 client>tmm1 udp 192.0.2.7:{port}>203.0.113.24:54 len=9")
            })
        });
        for what in ["tag=0 INIT:init=7", "tag=0 INIT:init=7", "tag=3 ABORT"] {
            let (sent, calls) = {
                let line = |first: u16, n: u16| {
                    let port = first + n;
                    format!("1.1 100 client>tmm1 sctp 192.0.2.7:{port}>203.0.113.25:38412 {what}")
                };
                bench.turns(&lines(50, |n| line(20_000, n)));
                let (calls, sent) = bench.turns(&lines(50, |n| line(21_000, n)));
                (sent, calls)
            };
            assert_eq!(calls, 0, "{what}");
            assert!(what.contains("ABORT") || sent == 50, "{what}: {sent}");
        }
    }
}
