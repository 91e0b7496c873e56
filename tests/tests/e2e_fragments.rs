//! Fragments between real stacks: what one kernel cuts, tmm translates, and the other kernel puts together.

use std::time::Duration;

use serde_json::{Value, json};
use tests::lab::resources::{self, CLIENT, ECHO, EXTERNAL_SELF, VIP};
use tests::lab::{Driver, Lab, Options, Result, ensure, eventually};

fn target(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]:{ECHO}")
    } else {
        format!("{address}:{ECHO}")
    }
}

fn all_answered(report: &Value) -> Result {
    ensure(report["asked"] == report["answered"], || {
        format!("the echoes: {report}")
    })
}

/// Ports that have nothing of the kernel's packet sockets.
fn taps() -> Options {
    Options {
        driver: Driver::Tap,
        ..Options::default()
    }
}

/// A lab whose hosts cut what is longer than 1500 octets, as they do not know that the switch would take it.
fn lab(options: &Options, snat: &str) -> Result<Lab> {
    let lab = Lab::with_everything(options, snat)?;
    for host in lab.backends.iter().chain([&lab.client]) {
        host.ip(&["link", "set", "eth0", "mtu", "1500"])?;
    }
    Ok(lab)
}

/// Datagrams of several fragments there and back; a kernel cuts them and a kernel puts them together.
fn large_echoes(snat: &str, options: &Options) -> Result {
    let lab = lab(options, snat)?;
    for address in VIP {
        for size in ["1600", "8192", "30000"] {
            let report =
                lab.lab_client(&["udp", &target(address), "--count=20", "--size", size])?;
            all_answered(&report)?;
        }
    }
    lab.finish()
}

// case OVS-027: NAT of flows in fragments, between real stacks, in both directions and families.
#[test]
fn datagrams_of_several_fragments_are_echoed_with_automap() -> Result {
    large_echoes("SRC_TRANS_AUTOMAP", &taps())
}

#[test]
fn datagrams_of_several_fragments_are_echoed_with_the_clients_own_address() -> Result {
    large_echoes("SRC_TRANS_NONE", &taps())
}

#[test]
fn datagrams_of_several_fragments_are_echoed_by_two_workers() -> Result {
    let options = Options {
        tmm: vec!["--workers=2".to_owned()],
        ..taps()
    };
    large_echoes("SRC_TRANS_AUTOMAP", &options)
}

/// The driver would have the kernel put IPv4 datagrams together, and cut off those beyond 2 KiB.
#[test]
fn datagrams_of_several_fragments_go_through_packet_sockets() -> Result {
    for workers in ["--workers=1", "--workers=2"] {
        let options = Options {
            driver: Driver::AfPacket,
            tmm: vec![workers.to_owned()],
            ..Options::default()
        };
        large_echoes("SRC_TRANS_AUTOMAP", &options)?;
    }
    Ok(())
}

// case OVS-001: pings of 1600 and 3200 octets with one tag and with two, IPv4 and IPv6.
// case OVS-022: fragments with a tag and with two.
#[test]
fn large_pings_to_our_addresses_are_answered() -> Result {
    for outer in [None, Some(300)] {
        let options = Options { outer, ..taps() };
        let lab = lab(&options, "SRC_TRANS_AUTOMAP")?;
        // A TAP device takes no more than one tag beside 1500 octets.
        lab.client.ip(&["link", "set", "eth0", "mtu", "1400"])?;
        for address in EXTERNAL_SELF.iter().chain(&VIP) {
            for size in ["56", "1600", "3200"] {
                let ping = ["-c", "3", "-i", "0.1", "-W", "2", "-s", size, address];
                let said = lab.client.run("ping", &ping)?.text();
                ensure(said.contains(" 0% packet loss"), || said)?;
            }
        }
        lab.finish()?;
    }
    Ok(())
}

/// What scapy, in the client's namespace, sends by hand and hears. `CASE` says what.
const TRAINS: &str = r#"
import sys
from scapy.all import (IP, IPv6, UDP, Ether, Raw, IPv6ExtHdrFragment, IPv6ExtHdrDestOpt, PadN,
                       fragment, srp1, sendp, conf, get_if_hwaddr, AsyncSniffer, defragment, defragment6)
import time

client, vip, mac, case, family = sys.argv[1:6]
conf.verb = 0
payload = bytes(i % 251 for i in range(2992))
v6 = family == "6"
if v6:
    whole = IPv6(src=client, dst=vip) / UDP(sport=6000, dport=7) / Raw(payload)
    data = bytes(whole)[40:]
    def cut(start, end, body=None):
        body = data if body is None else body
        return (IPv6(src=client, dst=vip)
                / IPv6ExtHdrFragment(nh=17, offset=start // 8, m=int(end < len(data)), id=4711)
                / Raw(body[start:end]))
else:
    whole = IP(src=client, dst=vip, id=4711) / UDP(sport=6000, dport=7) / Raw(payload)
    data = bytes(whole)[20:]
    def cut(start, end, body=None):
        body = data if body is None else body
        return (IP(src=client, dst=vip, id=4711, proto=17, frag=start // 8,
                   flags="MF" if end < len(data) else 0) / Raw(body[start:end]))

train = [cut(0, 1000), cut(1000, 2000), cut(2000, len(data))]
evil = bytes(len(data))
if case == "reversed":
    train.reverse()
elif case == "duplicates":
    train = [train[1], train[1], train[0], train[0], train[2]]
elif case == "overlapping":
    train = [train[0], cut(992, 2000, evil), train[1], train[2]]
elif case == "overlapping-late":
    train = [train[2], cut(1000, 2008, evil), train[1], train[0]]
elif case == "hole":
    train = [train[0], train[2]]
sniffer = AsyncSniffer(iface="eth0", lfilter=lambda p: (IPv6 if v6 else IP) in p and p[IPv6 if v6 else IP].src == vip)
sniffer.start()
time.sleep(0.5)
for piece in train:
    sendp(Ether(dst=mac) / piece, iface="eth0")
time.sleep(1.5)
heard = sniffer.stop()
if v6:
    got = defragment6(heard) if heard else None
    bodies = [bytes(got[UDP].payload)] if got is not None and UDP in got else []
else:
    bodies = [bytes(p[UDP].payload) for p in defragment(heard) if UDP in p and p[IP].frag == 0 and not p[IP].flags.MF]
good = sum(len(b) >= len(payload) and b.endswith(payload[-1000:]) for b in bodies)
print(f"heard {len(heard)} whole {good}")
"#;

// case OVS-024: hand-made fragments, in order and reversed, yield the one datagram.
// case OVS-025: overlapping ones yield none.
// case VPPI-011: reversed, duplicated, overlapping in both ways, against a real stack.
#[test]
fn hand_made_trains_reach_a_real_server_whole_or_not_at_all() -> Result {
    let lab = lab(&taps(), "SRC_TRANS_AUTOMAP")?;
    let script = lab.directory().join("trains.py");
    std::fs::write(&script, TRAINS)?;
    let script = script.display().to_string();
    // Whoever asks by hand must not have its kernel say that nobody listens.
    let said = lab
        .client
        .run("ip", &["neigh", "show", "192.0.2.1"])?
        .text();
    let mac = said
        .split_whitespace()
        .skip_while(|word| *word != "lladdr")
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    ensure(mac.len() == 17, || format!("no neighbour in: {said}"))?;
    for (family, name) in [(0, "4"), (1, "6")] {
        for (case, whole) in [
            ("in-order", true),
            ("reversed", true),
            ("duplicates", true),
            ("overlapping", false),
            ("overlapping-late", false),
            ("hole", false),
        ] {
            let args = [
                script.as_str(),
                CLIENT[family],
                VIP[family],
                &mac,
                case,
                name,
            ];
            let out = lab
                .client
                .try_run("/usr/bin/python3", &args, Duration::from_mins(1))?
                .ok()?;
            let out = out.text();
            let good = if whole {
                out.contains("whole 1")
            } else {
                out.contains("heard 0 whole 0")
            };
            ensure(good, || format!("IPv{name}, {case}: {out}"))?;
        }
    }
    let drops = lab.tmm.show("drops")?;
    let overlaps = drops
        .iter()
        .find(|row| row["reason"] == "fragment_overlap")
        .and_then(|row| row["packets"].as_u64());
    ensure(overlaps.is_some_and(|n| n >= 4), || format!("{drops:?}"))?;
    lab.finish()
}

/// The client's VLAN has an MTU of 9000 and the backends' one of 1500: datagrams that may be cut are.
#[test]
fn what_is_too_long_for_the_backends_vlan_is_cut_and_put_together_there() -> Result {
    let options = Options {
        tmm: vec!["--port-mtu=4000".to_owned()],
        ..Options::default()
    };
    let lab = lab(&options, "SRC_TRANS_AUTOMAP")?;
    let [mut external, internal] = resources::vlans(false, None);
    external["spec"]["mtu"] = json!(4000);
    lab.tmm.apply(&[external, internal])?;
    // The client may send that much at once, and does not ask for the way's MTU.
    lab.client.ip(&["link", "set", "eth0", "mtu", "4000"])?;
    lab.client
        .run("sysctl", &["-q", "-w", "net.ipv4.ip_no_pmtu_disc=1"])?;
    let answered = || {
        let args = ["udp", &target(VIP[0]), "--count=5", "--size=3000"];
        all_answered(&lab.lab_client(&args)?)
    };
    eventually(Duration::from_secs(10), answered)?;
    let cut = lab.tmm.total("workers", "cutPackets")?;
    ensure(cut >= 5, || format!("{cut} packets were cut"))?;
    lab.finish()
}
