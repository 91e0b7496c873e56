//! ICMP errors between real hosts: the path's MTU is learned where VLANs differ in it, a closed port is told, and
//! what is said about flows that do not exist reaches nobody.

use std::time::Duration;

use serde_json::{Value, json};
use tests::lab::resources::{CLIENT, EXTERNAL_SELF, VIP, backend};
use tests::lab::{
    Failure, Lab, Namespace, Options, Result, ensure, eventually, pattern, resources, url,
};

/// Debian's own: it has scapy.
const PYTHON: &str = "/usr/bin/python3";
/// A UDP port that no backend listens on.
const CLOSED: u16 = 9;
/// More than the MTU of the narrower VLAN takes in one segment, many times over.
const TRANSFER: usize = 3 << 20;

/// A lab whose VLANs have these MTUs and whose hosts have larger ones.
fn lab(external: u16, internal: u16, snat: &str) -> Result<Lab> {
    let options = Options {
        mtu: 9000,
        tmm: vec!["--port-mtu=9000".to_owned()],
        ..Options::default()
    };
    let lab = Lab::start(&options)?;
    let mut objects = resources::everything(false, None, snat);
    objects[0]["spec"]["mtu"] = external.into();
    objects[1]["spec"]["mtu"] = internal.into();
    lab.tmm.apply(&objects)?;
    lab.tmm.apply(&closed_port(snat))?;
    // Pages small enough for any path.
    lab.await_virtual_servers(VIP)?;
    Ok(lab)
}

/// A Service whose endpoints refuse, behind a virtual server for every UDP port of the addresses that has no other.
fn closed_port(snat: &str) -> Vec<Value> {
    let slice = |family: usize, address_type: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("closed-{}", address_type.to_ascii_lowercase()),
                "labels": {"kubernetes.io/service-name": "closed"},
            },
            "addressType": address_type,
            "ports": [{"name": "none", "protocol": "UDP", "port": CLOSED}],
            "endpoints": [{"addresses": [backend(1)[family]], "conditions": {"ready": true}}],
        })
    };
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "closed"},
        "spec": {
            "ipFamilyPolicy": "RequireDualStack",
            "ipFamilies": ["IPv4", "IPv6"],
            "ports": [{"name": "none", "protocol": "UDP", "port": CLOSED, "targetPort": CLOSED}],
        },
    });
    let server = json!({
        "apiVersion": "ingressudp.k8s.f5net.com/v1",
        "kind": "F5SPKIngressUDP",
        "metadata": {"name": "closed"},
        "service": {"name": "closed", "port": CLOSED},
        "spec": {
            "destinationAddress": VIP[0],
            "ipv6destinationAddress": VIP[1],
            "destinationPort": 0,
            "snat": snat,
            "idleTimeout": 20,
            "vlans": {"vlanList": ["external"]},
        },
    });
    vec![service, slice(0, "IPv4"), slice(1, "IPv6"), server]
}

/// What tmm has counted of a drop, answer or step.
fn counted(lab: &Lab, reason: &str) -> Result<u64> {
    let rows = lab.tmm.show("drops")?;
    let row = rows.iter().find(|row| row["reason"] == reason);
    let packets = row.and_then(|row| row["packets"].as_u64());
    packets.ok_or_else(|| Failure::new(format!("tmmctl show drops has no {reason}")))
}

/// Runs a script with Debian's Python; what it prints.
fn python(station: &Namespace, script: &str) -> Result<String> {
    let finished = station.try_run(PYTHON, &["-c", script], Duration::from_secs(30))?;
    Ok(finished.ok()?.text())
}

fn upload(lab: &Lab, address: &str) -> Result {
    let file = lab.directory().join("upload");
    let mut bytes = vec![0; TRANSFER];
    pattern::fill(0, &mut bytes);
    std::fs::write(&file, &bytes)?;
    let file = file.display().to_string();
    let got = lab.curl(&["--max-time", "60", "-T", &file, &url(address, "/upload")])?;
    ensure(got == pattern::sha256(TRANSFER as u64), || {
        format!("{TRANSFER} bytes arrived as {got}")
    })
}

fn download(lab: &Lab, address: &str) -> Result {
    let page = url(address, &format!("/bytes/{TRANSFER}"));
    let got = lab.shell(&format!("curl -gsSf --max-time 60 {page} | sha256sum"))?;
    ensure(got.starts_with(&pattern::sha256(TRANSFER as u64)), || {
        format!("{TRANSFER} bytes arrived as {got}")
    })
}

/// The MTU that a station knows of the path to an address.
fn learned(station: &Namespace, address: &str) -> Result<String> {
    let route = station.run("ip", &["route", "get", address])?.text();
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu");
    Ok(words.nth(1).unwrap_or("none").to_owned())
}

/// Both transfers over VLANs of which the one behind tmm, seen from `sender`, is narrower.
fn transfers(lab: &Lab, snat: &str, is_upload: bool) -> Result {
    for (family, address) in VIP.into_iter().enumerate() {
        let before = counted(lab, "packet_too_big")?;
        if is_upload {
            upload(lab, address)?;
            ensure(learned(&lab.client, address)? == "1500", || {
                format!("the client did not learn the MTU to {address}")
            })?;
        } else {
            download(lab, address)?;
            let towards = if snat == "SRC_TRANS_NONE" {
                CLIENT[family]
            } else {
                resources::INTERNAL_SELF[family]
            };
            let knows = |station: &Namespace| Ok(learned(station, towards)? == "1500");
            let all: Result<Vec<bool>> = lab.backends.iter().map(knows).collect();
            ensure(all?.contains(&true), || {
                format!("no backend learned the MTU to {towards}")
            })?;
        }
        ensure(counted(lab, "packet_too_big")? > before, || {
            "nobody had to be told".to_owned()
        })?;
    }
    Ok(())
}

// case LNX-018: the client learns the MTU from an error of tmm's self IP, and its transfer goes on.
#[test]
fn a_client_with_jumbo_frames_learns_the_mtu_of_the_members_vlan() -> Result {
    for snat in ["SRC_TRANS_NONE", "SRC_TRANS_AUTOMAP"] {
        let lab = lab(9000, 1500, snat)?;
        transfers(&lab, snat, true)?;
        // Large ones to tmm itself need nobody's help.
        let large = ["-c", "1", "-W", "2", "-M", "do", "-s", "8000"];
        for address in EXTERNAL_SELF {
            lab.client.run("ping", &[&large[..], &[address]].concat())?;
        }
        lab.finish()?;
    }
    Ok(())
}

// case LNX-015: path MTU discovery of an established flow, translated or not, with its data intact both ways.
#[test]
fn a_member_with_jumbo_frames_learns_the_mtu_of_the_clients_vlan() -> Result {
    for snat in ["SRC_TRANS_NONE", "SRC_TRANS_AUTOMAP"] {
        let lab = lab(1500, 9000, snat)?;
        transfers(&lab, snat, false)?;
        lab.finish()?;
    }
    Ok(())
}

#[test]
fn tracepath_sees_tmm_as_a_hop_learns_the_mtu_and_reaches_the_member() -> Result {
    for snat in ["SRC_TRANS_NONE", "SRC_TRANS_AUTOMAP"] {
        let lab = lab(9000, 1500, snat)?;
        for (family, option) in ["-4", "-6"].into_iter().enumerate() {
            let args = ["-n", option, "-m", "5", VIP[family]];
            let traced = lab
                .client
                .try_run("tracepath", &args, Duration::from_mins(1))?;
            let said = traced.ok()?.text();
            let hop = said
                .lines()
                .any(|line| line.contains(EXTERNAL_SELF[family]));
            let (mtu, end) = (said.contains("pmtu 1500"), said.contains("reached"));
            ensure(hop && mtu && end, || format!("tracepath says\n{said}"))?;
            ensure(said.contains(VIP[family]), || {
                format!("the member does not speak as the virtual address:\n{said}")
            })?;
        }
        lab.finish()?;
    }
    Ok(())
}

#[test]
fn a_closed_port_is_told_to_a_udp_client() -> Result {
    let refused = |address: &str, port: u16| {
        let family = if address.contains(':') { "6" } else { "" };
        format!(
            "import socket\n\
             s = socket.socket(socket.AF_INET{family}, socket.SOCK_DGRAM)\n\
             s.settimeout(5)\n\
             s.connect(('{address}', {port}))\n\
             s.send(b'hello')\n\
             try:\n    print(s.recv(100))\n\
             except ConnectionRefusedError:\n    print('refused')\n"
        )
    };
    for snat in ["SRC_TRANS_NONE", "SRC_TRANS_AUTOMAP"] {
        let lab = Lab::with_everything(&Options::default(), snat)?;
        lab.tmm.apply(&closed_port(snat))?;
        // By the member, and by tmm itself for its own address.
        for address in VIP.into_iter().chain(EXTERNAL_SELF) {
            eventually(Duration::from_secs(5), || {
                let said = python(&lab.client, &refused(address, 4000))?;
                ensure(said == "refused", || format!("{address}: {said}"))
            })?;
        }
        lab.finish()?;
    }
    Ok(())
}

/// How many ICMP errors a station has taken in.
fn errors_taken(station: &Namespace) -> Result<u64> {
    let mut sum = 0;
    for (file, name) in [("snmp", "InDestUnreachs"), ("snmp6", "Icmp6InDestUnreachs")] {
        let text = station.run("cat", &[&format!("/proc/net/{file}")])?.text();
        let value = if file == "snmp6" {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1))
        } else {
            let mut lines = text.lines().filter(|line| line.starts_with("Icmp:"));
            let (names, values) = (lines.next(), lines.next());
            let (names, values) = names.zip(values).unwrap_or_default();
            let mut pairs = names.split(' ').zip(values.split(' '));
            pairs.find(|(n, _)| *n == name).map(|(_, value)| value)
        };
        let value = value.and_then(|value| value.parse::<u64>().ok());
        sum += value.ok_or_else(|| Failure::new(format!("/proc/net/{file} has no {name}")))?;
    }
    Ok(sum)
}

#[test]
fn errors_about_flows_that_do_not_exist_reach_nobody() -> Result {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_NONE")?;
    let [v4, v6] = backend(1);
    let before = errors_taken(&lab.client)?;
    let script = format!(
        "from scapy.all import *\n\
         conf.verb = 0\n\
         for port in range(2000, 2020):\n\
         \x20   q = IP(src='{c4}', dst='{v4}')/UDP(sport=port, dport={echo})/b'12345678'\n\
         \x20   send(IP(src='{v4}', dst='{c4}')/ICMP(type=3, code=3)/q)\n\
         \x20   q = IP(src='{c4}', dst='{v4}')/TCP(sport=port, dport={http}, seq=1)\n\
         \x20   send(IP(src='{v4}', dst='{c4}')/ICMP(type=3, code=4, nexthopmtu=600)/q)\n\
         \x20   q = IPv6(src='{c6}', dst='{v6}')/UDP(sport=port, dport={echo})/b'12345678'\n\
         \x20   send(IPv6(src='{v6}', dst='{c6}')/ICMPv6DestUnreach(code=4)/q)\n",
        c4 = CLIENT[0],
        c6 = CLIENT[1],
        echo = resources::BACKEND_ECHO,
        http = resources::BACKEND_HTTP,
    );
    python(&lab.backends[0], &script)?;
    eventually(Duration::from_secs(5), || {
        let unmatched = counted(&lab, "icmp_unmatched")?;
        ensure(unmatched == 60, || {
            format!("{unmatched} of 60 were refused")
        })
    })?;
    ensure(errors_taken(&lab.client)? == before, || {
        "the client has taken in an error that concerns none of its flows".to_owned()
    })?;
    // Whatever was said, the virtual servers go on.
    lab.get(&url(VIP[0], "/"))?;
    lab.finish()
}
