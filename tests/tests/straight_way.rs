//! The straight way is a shortcut: random histories are played twice, once with it closed, and every
//! frame, counter and flow must be the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::{Duration, Instant};

use tests::scenario::Stage;

/// Histories played at least, and for how long more may follow (`TMM_STRAIGHT_WAY_SECONDS`).
const HISTORIES: u64 = 150;
const STEPS: usize = 120;

const CLIENT: [&str; 2] = ["192.0.2.7", "[2001:db8:1::7]"];
const VIRTUAL: [&str; 2] = ["203.0.113.10", "[2001:db8:f::10]"];
const MEMBER: [&str; 2] = ["198.51.100.11", "[2001:db8:2::11]"];
const STRANGER: [&str; 2] = ["198.51.100.12", "[2001:db8:2::12]"];
const SELF_IP: [&str; 2] = ["198.51.100.1", "[2001:db8:2::1]"];

const EXTERNAL: &str = r#"apply F5SPKVlan external tag=100 interfaces=["1.1"] selfip_v4s=["192.0.2.1"] prefixlen_v4=24 selfip_v6s=["2001:db8:1::1"] prefixlen_v6=64"#;
const INTERNAL: &str = r#"apply F5SPKVlan internal tag=200 internal=true selfip_v4s=["198.51.100.1"] prefixlen_v4=24 selfip_v6s=["2001:db8:2::1"] prefixlen_v6=64"#;

/// `SplitMix64`: a seed names a history.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// 1 to `n`.
    fn upto(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap() + 1
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.upto(all.len()) - 1]
    }

    fn family(&mut self) -> usize {
        usize::from(self.one_in(3))
    }
}

fn site(dice: &mut Dice) -> Vec<String> {
    let flows = dice.of(&["4", "64", "3"]);
    let snat = dice.of(&["SRC_TRANS_NONE", "SRC_TRANS_AUTOMAP"]);
    let last_hop = dice.of(&[
        "",
        " auto_lasthop=AUTO_LASTHOP_DISABLED",
        " auto_lasthop=AUTO_LASTHOP_ENABLED",
    ]);
    let address = "destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10";
    let mut lines = vec![
        format!("rig ports=3 flows={flows}"),
        format!("{EXTERNAL}{last_hop}"),
        format!("{INTERNAL} interfaces={}", links(dice)),
        "apply Service web 80/TCP 53/UDP".to_owned(),
    ];
    for member in MEMBER {
        lines.push(format!("apply EndpointSlice web TCP {member}:8080"));
        lines.push(format!("apply EndpointSlice web:53 UDP {member}:5353"));
    }
    lines.extend([
        format!(
            "apply F5SPKIngressTCP web service=web:80 {address} destinationPort=80 snat={snat}"
        ),
        format!(
            "apply F5SPKIngressUDP dns service=web:53 {address} destinationPort=53 snat={snat}"
        ),
        "wait 3s".to_owned(),
        "station b1 1.2 200 198.51.100.11 2001:db8:2::11".to_owned(),
        "station b2 1.2 200 198.51.100.12 2001:db8:2::12".to_owned(),
        "station client 1.1 100 192.0.2.7 2001:db8:1::7".to_owned(),
        "> 1.2 200 b1>all arp who-has 198.51.100.1 tell 198.51.100.11".to_owned(),
        "> 1.2 200 b1>tmm2 ns 2001:db8:2::1 from 2001:db8:2::11 to 2001:db8:2::1".to_owned(),
    ]);
    lines
}

fn links(dice: &mut Dice) -> &'static str {
    dice.of(&[r#"["1.2"]"#, r#"["1.2","1.3"]"#])
}

fn client_port(dice: &mut Dice) -> u64 {
    40_000 + dice.below(3)
}

/// A connection, as far as both directions being established.
fn opening(dice: &mut Dice) -> Vec<String> {
    let (family, port) = (dice.family(), client_port(dice));
    let (client, server, member) = (CLIENT[family], VIRTUAL[family], MEMBER[family]);
    let to_server = format!("> 1.1 100 client>tmm1 tcp {client}:{port}>{server}:80");
    let mut lines = vec![format!("{to_server} S seq=1000")];
    // Translated or not: one of the two is the reply.
    for to in [client, SELF_IP[family]] {
        lines.push(format!(
            "> 1.2 200 b1>tmm2 tcp {member}:8080>{to}:{port} S. seq=9000 ack=1001"
        ));
    }
    lines.push(format!("{to_server} . seq=1001 ack=9001"));
    lines
}

/// A frame that mostly belongs to a flow and mostly has something odd about it.
fn frame(dice: &mut Dice) -> String {
    let (family, port) = (dice.family(), client_port(dice));
    let odd = [
        "udp 127.0.0.1:40000>203.0.113.10:53",
        "udp [::ffff:192.0.2.7]:40000>[2001:db8:f::10]:53",
        "tcp [::]:40001>[2001:db8:f::10]:80 S seq=1",
        "tcp 192.0.2.7:40002>224.0.0.1:80 S seq=1",
        "tcp 192.0.2.7:40000>192.0.2.1:80 S seq=1",
        "udp 192.0.2.7:40000>192.0.2.1:53",
    ];
    if dice.one_in(6) {
        let tags = dice.of(&["100", "100", "s100", "s7.100", "0"]);
        let to = dice.of(&["tmm1", "tmm1", "tmm1", "all"]);
        return format!("1.1 {tags} client>{to} {}", dice.of(&odd));
    }
    let (udp, reply) = (dice.one_in(2), dice.one_in(2));
    let extra = dice.of(&[
        "",
        "",
        "",
        "",
        "",
        "",
        " ttl=1",
        " ttl=2",
        " badsum",
        " device=good",
        " device=bad",
        " len=1400",
        " len=1900",
        " len=3",
        " pad=100",
        " len=1",
        " len=131",
        " cut=50",
        " badsum device=good",
        " badipsum",
        " len=1460",
        " len=1459",
        " len=1440",
        " len=1472",
    ]);
    let segment = if udp {
        String::new()
    } else {
        segment(dice, reply)
    };
    let proto = if udp { "udp" } else { "tcp" };
    let (service, listens) = if udp { (53, 5353) } else { (80, 8080) };
    if reply {
        let side = dice.of(&["1.2 200", "1.2 200", "1.3 200", "1.2 ~200", "1.1 100"]);
        let station = dice.of(&["b1", "b1", "b1", "b2"]);
        let to = if side.starts_with("1.1") {
            "tmm1"
        } else {
            "tmm2"
        };
        let from = if dice.one_in(5) {
            STRANGER[family]
        } else {
            MEMBER[family]
        };
        let receiver = dice.of(&[CLIENT[family], SELF_IP[family]]);
        format!("{side} {station}>{to} {proto} {from}:{listens}>{receiver}:{port}{segment}{extra}")
    } else {
        let side = dice.of(&[
            "1.1 100", "1.1 100", "1.1 100", "1.1 ~100", "1.2 200", "1.1 -",
        ]);
        let station = dice.of(&["client", "client", "client", "client2"]);
        let to = match side {
            _ if dice.one_in(20) => "tmm3",
            "1.2 200" => "tmm2",
            _ => "tmm1",
        };
        let (from, receiver) = (CLIENT[family], VIRTUAL[family]);
        format!("{side} {station}>{to} {proto} {from}:{port}>{receiver}:{service}{segment}{extra}")
    }
}

fn segment(dice: &mut Dice, reply: bool) -> String {
    let (flags, seq, ack) = match dice.below(12) {
        0 | 1 if !reply => ("S", 1000, 0),
        0 | 1 | 5 => ("S.", 9000, 1001),
        2 => ("F.", 1001, 9001),
        3 => ("R", 1001, 0),
        4 => ("P", 1001, 9001),
        6 => (".", 777_777_777, 9001),
        _ => (".", 1001 + dice.below(4) * 100, 9001 + dice.below(3) * 50),
    };
    let (seq, ack) = if reply && flags != "S." {
        (seq + 8000, ack.saturating_sub(8000))
    } else {
        (seq, ack)
    };
    format!(" {flags} seq={seq} ack={ack}")
}

/// What happens around the flows.
fn event(dice: &mut Dice) -> String {
    match dice.below(15) {
        0 => format!("wait {}s", dice.below(70)),
        1 => format!("wait 0.{}s", dice.below(9) + 1),
        2 => "apply EndpointSlice web:80/2 TCP 198.51.100.12:8080".to_owned(),
        3 => "delete EndpointSlice web:80/2 TCP 198.51.100.12:8080".to_owned(),
        4 => "delete EndpointSlice web TCP 198.51.100.11:8080".to_owned(),
        5 => "apply EndpointSlice web TCP 198.51.100.11:8080".to_owned(),
        6 => "gone b1".to_owned(),
        7 => "station b1 1.2 200 198.51.100.11 2001:db8:2::11".to_owned(),
        8 => format!(
            "link {} {}",
            dice.of(&["1.1", "1.2", "1.3"]),
            dice.of(&["up", "up", "down"])
        ),
        9 => {
            let mtu = dice.of(&["1500", "1400", "1280"]);
            format!("{INTERNAL} interfaces={} mtu={mtu}", links(dice))
        }
        10 => EXTERNAL.to_owned(),
        11 => format!("{EXTERNAL} auto_lasthop=AUTO_LASTHOP_DISABLED"),
        12 => format!(
            "> 1.2 200 {}>all arp who-has 198.51.100.1 tell 198.51.100.11",
            dice.of(&["b1", "b2"])
        ),
        13 => "flows".to_owned(),
        _ => "neighbors".to_owned(),
    }
}

fn history(seed: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    let mut lines = site(&mut dice);
    for _ in 0..STEPS {
        match dice.below(10) {
            0 => lines.push(event(&mut dice)),
            1 => lines.extend(opening(&mut dice)),
            // A burst of many, in which one may change what the next finds.
            2..=4 => {
                for _ in 0..dice.below(12) {
                    lines.push(format!(">> {}", frame(&mut dice)));
                }
                lines.push(format!("> {}", frame(&mut dice)));
            }
            // The same again: the first opens or renews what the next ones use.
            _ => {
                let line = format!("> {}", frame(&mut dice));
                lines.extend(std::iter::repeat_n(line, dice.upto(3)));
            }
        }
    }
    lines.extend(["wait 1s".to_owned(), "flows".to_owned()]);
    lines
}

#[test]
fn the_straight_way_leads_where_the_long_one_leads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let seconds = std::env::var("TMM_STRAIGHT_WAY_SECONDS");
    let longer = Duration::from_secs(seconds.map_or(0, |text| text.parse().unwrap()));
    let begun = Instant::now();
    let (mut seed, mut forwarded) = (0, 0);
    while seed < HISTORIES || begun.elapsed() < longer {
        seed += 1;
        let lines = history(seed);
        let mut straight = Stage::new(&folder);
        let mut long = Stage::new(&folder);
        long.run("rig straight=no").unwrap();
        for (at, line) in lines.iter().enumerate() {
            let (one, other) = (straight.run(line), long.run(line));
            assert_eq!(one, other, "history {seed}:\n{}", lines[..=at].join("\n"));
            let shown = one.unwrap_or_else(|error| panic!("{line}: {error}"));
            forwarded += shown
                .iter()
                .filter(|line| {
                    let line = line.trim_start();
                    line.starts_with("= forwarded original")
                        || line.starts_with("= forwarded reply")
                })
                .count();
        }
    }
    println!("{seed} histories, {forwarded} packets of flows");
    assert!(
        forwarded > 1_000,
        "only {forwarded} packets belonged to flows"
    );
}
