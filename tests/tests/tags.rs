//! Every way for a packet to change its tags.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use tests::scenario::Stage;

/// How frames of a VLAN are tagged, as a scenario writes it, and what its object says.
const TAGS: [(&str, &str); 4] = [
    ("-", ""),
    ("100", "tag=100"),
    ("s300.100", "tag=100 outerTag=300"),
    ("s301.7", "tag=7 outerTag=301"),
];

// case VPPI-014: tags are pushed, popped and translated in every combination of none, one and two.
#[test]
fn a_packet_leaves_with_the_tags_of_its_next_hop_whatever_it_came_with() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    for (clients, client_tags) in TAGS {
        for (servers, server_tags) in TAGS {
            // Once as the frame has them, once with those that a device took out of it.
            for stripped in [false, true] {
                let mut stage = Stage::new(&folder);
                let came = |tags: &str| match tags.strip_prefix('s') {
                    _ if !stripped || tags == "-" => tags.to_owned(),
                    Some(two) => format!("~{two}"),
                    None => format!("~{tags}"),
                };
                let (from_client, from_server) = (came(clients), came(servers));
                for line in [
                    format!(
                        "apply F5SPKVlan a {client_tags} interfaces=[\"1.1\"] \
                         selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24"
                    ),
                    format!(
                        "apply F5SPKVlan b {server_tags} interfaces=[\"1.2\"] internal=true \
                         selfip_v4s=[\"198.51.100.1\"] prefixlen_v4=24"
                    ),
                    "apply Service web 80/TCP".to_owned(),
                    "apply EndpointSlice web TCP 198.51.100.11:8080".to_owned(),
                    "apply F5SPKIngressTCP web service=web:80 destinationAddress=203.0.113.10 \
                     destinationPort=80"
                        .to_owned(),
                    "wait 3s".to_owned(),
                    format!(
                        "> 1.2 {from_server} b1>all arp who-has 198.51.100.1 tell 198.51.100.11"
                    ),
                ] {
                    stage.run(&line).unwrap_or_else(|e| panic!("{line}: {e}"));
                }
                let there = "tcp 192.0.2.7:4000>203.0.113.10:80 S seq=1";
                let left = stage
                    .run(&format!("> 1.1 {from_client} client>tmm1 {there}"))
                    .unwrap();
                let expected = format!(
                    "  1.2 {servers} tmm2>b1 tcp 192.0.2.7:4000>198.51.100.11:8080 S seq=1 ttl=63"
                );
                assert!(
                    left.contains(&expected),
                    "{clients} to {servers}: {left:#?}"
                );
                let back = "tcp 198.51.100.11:8080>192.0.2.7:4000 S. seq=9 ack=2";
                let left = stage
                    .run(&format!("> 1.2 {from_server} b1>tmm2 {back}"))
                    .unwrap();
                let expected = format!(
                    "  1.1 {clients} tmm1>client tcp 203.0.113.10:80>192.0.2.7:4000 S. seq=9 ack=2 ttl=63"
                );
                assert!(
                    left.contains(&expected),
                    "{servers} to {clients}: {left:#?}"
                );
                // The straight way.
                let there = "tcp 192.0.2.7:4000>203.0.113.10:80 P. seq=2 ack=10 len=1";
                stage
                    .run("> 1.1 - client>all arp who-has 1.2.3.4 tell 192.0.2.9")
                    .unwrap();
                let left = stage
                    .run(&format!("> 1.1 {from_client} client>tmm1 {there}"))
                    .unwrap();
                let by = format!("  1.2 {servers} tmm2>b1 ");
                assert!(left.iter().any(|line| line.starts_with(&by)), "{left:#?}");
            }
        }
    }
}
